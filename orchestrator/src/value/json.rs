//! Encoded values as JSON, for people to read.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::EncodingError;
use super::encoding::decode;

/// The JSON of bytes that [`encode`](super::encode) made: what JSON has no word for is told in its nearest one, a key of
/// a map that is no text as the text of it, bytes as numbers, NaN as null.
pub(crate) fn to_json(bytes: &[u8]) -> Result<Value, EncodingError> {
    decode::<Json>(bytes).map(|json| json.0)
}

struct Json(Value);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Json)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_f32<E>(self, value: f32) -> Result<Value, E> {
        // the shortest text that comes back to it, not that of the nearest f64
        Ok(value.to_string().parse::<Number>().map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Json(element)) = elements.next_element()? {
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((Json(key), Json(value))) = entries.next_entry()? {
            let key = match key {
                Value::String(text) => text,
                other => other.to_string(),
            };
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::to_json;
    use crate::value::encode;

    #[derive(serde::Serialize)]
    struct Row {
        name: &'static str,
        share: f32,
        by_day: BTreeMap<u32, Option<bool>>,
        pair: (i8, f64),
    }

    #[test]
    fn what_was_encoded_is_shown() {
        let row = Row { name: "a", share: 0.1, by_day: [(28, Some(true)), (29, None)].into(), pair: (-1, f64::NAN) };
        let json = to_json(&encode(&row).unwrap()).unwrap();
        assert_eq!(json.to_string(), r#"{"by_day":{"28":true,"29":null},"name":"a","pair":[-1,null],"share":0.1}"#);
        assert_eq!(to_json(&encode(&()).unwrap()).unwrap(), serde_json::Value::Null);
        assert!(to_json(&[0xc1]).is_err());
    }
}
