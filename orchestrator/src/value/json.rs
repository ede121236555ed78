//! Encoded values as JSON, for people to read.

use std::fmt;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

#[cfg(feature = "cli")]
use super::EncodingError;
use super::encoding::{decode, encode};

/// The JSON of bytes that [`encode`](super::encode) made: what JSON has no word for is told in its nearest one, a key of
/// a map that is no text as the text of it, bytes as numbers, NaN as null.
#[cfg(feature = "cli")]
pub(crate) fn to_json(bytes: &[u8]) -> Result<Value, EncodingError> {
    decode::<Json<false>>(bytes).map(|json| json.0)
}

/// Why JSON cannot keep a value, where it would lose something without a word: a number that is NaN or infinite.
pub(crate) fn lost_in_json<T: Serialize>(value: &T) -> Option<String> {
    // what cannot be encoded is somebody else's to refuse
    decode::<Json<true>>(&encode(value).ok()?)
        .err()
        .map(|error| error.to_string())
}

/// A value as JSON; `STRICT`, only where JSON has a word for it.
struct Json<const STRICT: bool>(Value);

impl<'de, const STRICT: bool> Deserialize<'de> for Json<STRICT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue::<STRICT>).map(Json)
    }
}

struct AnyValue<const STRICT: bool>;

impl<const STRICT: bool> AnyValue<STRICT> {
    fn number<E: Error>(number: Option<Number>, shown: impl fmt::Display) -> Result<Value, E> {
        match number {
            None if STRICT => Err(E::custom(format_args!("JSON has no number {shown}"))),
            number => Ok(number.map_or(Value::Null, Value::Number)),
        }
    }
}

impl<'de, const STRICT: bool> Visitor<'de> for AnyValue<STRICT> {
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

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Self::number(Number::from_f64(value), value)
    }

    fn visit_f32<E: Error>(self, value: f32) -> Result<Value, E> {
        // the shortest text that comes back to it, not that of the nearest f64
        Self::number(value.to_string().parse().ok(), value)
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

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Json::<STRICT>(element)) = elements.next_element()? {
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((Json::<false>(key), Json::<STRICT>(value))) = entries.next_entry()? {
            let key = match key {
                Value::String(text) => text,
                other => other.to_string(),
            };
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(all(test, feature = "cli"))]
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
        let row = Row {
            name: "a",
            share: 0.1,
            by_day: [(28, Some(true)), (29, None)].into(),
            pair: (-1, f64::NAN),
        };
        let json = to_json(&encode(&row).unwrap()).unwrap();
        assert_eq!(
            json.to_string(),
            r#"{"by_day":{"28":true,"29":null},"name":"a","pair":[-1,null],"share":0.1}"#
        );
        assert_eq!(
            to_json(&encode(&()).unwrap()).unwrap(),
            serde_json::Value::Null
        );
        assert!(to_json(&[0xc1]).is_err());
    }
}
