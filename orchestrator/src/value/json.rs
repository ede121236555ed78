//! Values as JSON: parameters, which are read again, and JSON for display.
//!
//! A [`Value`] cannot hold integers beyond 64 bits. (It could with serde_json's feature
//! `arbitrary_precision`, but that applies to the whole program, and makes floats under `tag`,
//! `untagged` and `flatten` unreadable.) A `Value` therefore represents such an integer as an
//! object with the single key [`WIDE`] and its digits as text. In JSON text for users, it is a
//! number.

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::guard::{Guard, Observations, TooDeep, WireFormat};

/// The key of the object that represents an integer beyond 64 bits.
pub(crate) const WIDE: &str = "$orchestrator::integer";

/// The maximum nesting of arrays and objects in a parameter. The object that contains the
/// parameters adds a level, and serde_json reads 128.
pub(super) const LEVELS: u16 = 64;

/// Converts a parameter to JSON.
///
/// # Errors
///
/// Returns the reason if it cannot be stored as JSON: it would be read back as another value, or
/// not at all.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<Value, String> {
    let json = write(value, WireFormat::Json)?;
    check_depth(&json).map(|()| json)
}

/// Converts a value to the JSON of its type, for display.
pub(super) fn shown<T: Serialize>(value: &T) -> Result<Value, String> {
    write(value, WireFormat::Shown)
}

fn write<T: Serialize>(value: &T, format: WireFormat) -> Result<Value, String> {
    let watch = Observations::new(format);
    value
        .serialize(Guard::new(serde_json::value::Serializer, &watch))
        .map_err(|error| error.to_string())
}

/// Reads the value of a parameter.
///
/// # Errors
///
/// Returns the reason if the type does not accept it.
pub(crate) fn from_json<T: DeserializeOwned>(json: &Value) -> Result<T, String> {
    check_depth(json)?;
    let read = match has_wide(json) {
        false => T::deserialize(json),
        true => serde_json::from_str(&json_text(json)),
    };
    read.map_err(|error| error.to_string())
}

/// Checks that JSON is not too deep to be read from a store again.
///
/// # Errors
///
/// Returns an error that names the maximum depth.
pub(crate) fn check_depth(json: &Value) -> Result<(), String> {
    fn fits(json: &Value, levels: u16) -> bool {
        let is_leaf = !matches!(json, Value::Array(_) | Value::Object(_));
        is_leaf || (levels > 0 && parts(json).all(|part| fits(part, levels - 1)))
    }
    fits(json, LEVELS)
        .then_some(())
        .ok_or_else(|| TooDeep(LEVELS).to_string())
}

fn parts(json: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match json {
        Value::Array(elements) => Box::new(elements.iter()),
        Value::Object(entries) => Box::new(entries.values()),
        _ => Box::new(std::iter::empty()),
    }
}

fn has_wide(json: &Value) -> bool {
    matches!(json, Value::Object(entries) if entries.len() == 1 && entries.contains_key(WIDE))
        || parts(json).any(has_wide)
}

/// Formats JSON for users, on one line.
pub(crate) fn json_text(json: &impl Serialize) -> String {
    let text = serde_json::to_string(json).unwrap_or_default();
    match with_digits(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(text) => text,
    }
}

/// Replaces the objects for wide integers in a JSON text by numbers.
pub(crate) fn with_digits(text: &str) -> Cow<'_, str> {
    let key = format!("\"{WIDE}\"");
    if !text.contains(&key) {
        return text.into();
    }
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once(&key) {
        match (
            before.trim_end().strip_suffix('{'),
            digits_before_end(after),
        ) {
            (Some(before), Some((digits, after))) => {
                out.extend([before, digits]);
                rest = after;
            }
            _ => {
                out.extend([before, &key]);
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out.into()
}

/// Returns the digits of `: "digits"}`, and the rest of the text.
fn digits_before_end(text: &str) -> Option<(&str, &str)> {
    let (digits, rest) = text
        .trim_start()
        .strip_prefix(':')?
        .trim_start()
        .strip_prefix('"')?
        .split_once('"')?;
    let rest = rest.trim_start().strip_prefix('}')?;
    let is_integer = digits.parse::<u128>().is_ok() || digits.parse::<i128>().is_ok();
    is_integer.then_some((digits, rest))
}

#[cfg(feature = "cli")]
pub(crate) use typed::{TypedJson, of_bytes, parse};

/// JSON for the command line: input of users, and results of unknown types.
#[cfg(feature = "cli")]
mod typed {
    use std::fmt;

    use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
    use serde_json::{Map, Number, Value};

    use super::{LEVELS, TooDeep, WIDE, check_depth};
    use crate::value::EncodingError;
    use crate::value::encoding::decode;

    /// The result of parsing a text as JSON.
    #[derive(Debug)]
    pub(crate) enum TypedJson {
        Json(Value),
        /// The text is not JSON.
        None,
        /// The text may be JSON, but exceeds the maximum depth of a parameter, which the message
        /// names.
        TooDeep(String),
    }

    /// Parses a text as JSON, with all digits of its integers.
    pub(crate) fn parse(text: &str) -> TypedJson {
        match serde_json::from_str(&with_wide(text)) {
            Ok(json) => match check_depth(&json) {
                Ok(()) => TypedJson::Json(json),
                Err(why) => TypedJson::TooDeep(why),
            },
            // serde_json reports this only by the text of its error
            Err(error) if error.to_string().starts_with("recursion limit") => {
                TypedJson::TooDeep(TooDeep(LEVELS).to_string())
            }
            Err(_) => TypedJson::None,
        }
    }

    /// JSON in which integers beyond 64 bits are represented by objects.
    fn with_wide(text: &str) -> String {
        let (mut out, mut rest, mut in_text) = (String::with_capacity(text.len()), text, false);
        while let Some(character) = rest.chars().next() {
            let is_number = !in_text && (character == '-' || character.is_ascii_digit());
            let len = match character {
                '\\' if in_text => rest.char_indices().nth(2).map_or(rest.len(), |(at, _)| at),
                _ if is_number => rest
                    .find(|c: char| !(c.is_ascii_digit() || "+-.eE".contains(c)))
                    .unwrap_or(rest.len()),
                _ => character.len_utf8(),
            };
            let (token, after) = rest.split_at(len);
            match is_number && is_wide(token) {
                true => out.push_str(&format!("{{\"{WIDE}\":\"{token}\"}}")),
                false => out.push_str(token),
            }
            in_text ^= character == '"';
            rest = after;
        }
        out
    }

    /// Returns `true` if a number is an integer that needs 128 bits.
    fn is_wide(number: &str) -> bool {
        let digits = number.strip_prefix('-').unwrap_or(number);
        let is_number = digits.starts_with(|c: char| ('1'..='9').contains(&c));
        let is_narrow = number.parse::<u64>().is_ok() || number.parse::<i64>().is_ok();
        is_number
            && !is_narrow
            && (number.parse::<u128>().is_ok() || number.parse::<i128>().is_ok())
    }

    /// Converts encoded bytes of an unknown type to JSON, similar to that of the type. Values
    /// without a JSON form use the nearest one: a map key other than text becomes text, bytes
    /// become numbers, NaN becomes null.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Result<Value, EncodingError> {
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
            Ok(value.into())
        }

        fn visit_f32<E>(self, value: f32) -> Result<Value, E> {
            // the shortest text that parses to the same value, not that of the nearest `f64`
            Ok(value
                .to_string()
                .parse::<Number>()
                .map_or(Value::Null, Value::Number))
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
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{LEVELS, WIDE, check_depth, from_json, json_text, to_json, with_digits};

    #[test]
    fn wide_integers_come_back_and_are_numbers_in_texts() {
        let value = (vec![u128::MAX, 7], i128::MIN, "a".to_owned());
        let json = to_json(&value).unwrap();
        assert_eq!(json[0][0], json!({ WIDE: u128::MAX.to_string() }));
        assert_eq!(json[0][1], 7);
        assert_eq!(
            json_text(&json),
            r#"[[340282366920938463463374607431768211455,7],-170141183460469231731687303715884105728,"a"]"#
        );
        assert_eq!(from_json::<(Vec<u128>, i128, String)>(&json), Ok(value));
        assert!(from_json::<(Vec<u64>, i128, String)>(&json).is_err());
        // as keys they are texts
        let by_number = std::collections::BTreeMap::from([(u128::MAX, 1)]);
        let json = to_json(&by_number).unwrap();
        assert_eq!(json, json!({ u128::MAX.to_string(): 1 }));
        assert_eq!(from_json(&json), Ok(by_number));
    }

    #[test]
    fn text_that_resembles_a_wide_integer_is_unchanged() {
        for json in [
            json!({ "a": WIDE }),
            json!({ WIDE: "a" }),
            json!({ WIDE: "1", "b": 1 }),
            json!(json!({ WIDE: "1" }).to_string()),
        ] {
            assert_eq!(with_digits(&json.to_string()), json.to_string());
        }
    }

    #[test]
    fn parameters_have_one_limit_of_depth_both_ways() {
        let nested = |levels| (0..levels).fold(json!(1), |inner, _| json!([inner]));
        assert_eq!(check_depth(&nested(LEVELS)), Ok(()));
        assert_eq!(to_json(&nested(LEVELS)), Ok(nested(LEVELS)));
        assert_eq!(from_json::<Value>(&nested(LEVELS)), Ok(nested(LEVELS)));
        let error = "expected at most 64 levels of nesting, got more".to_owned();
        assert_eq!(to_json(&nested(LEVELS + 1)), Err(error.clone()));
        assert_eq!(from_json::<Value>(&nested(LEVELS + 1)), Err(error.clone()));
        assert_eq!(check_depth(&nested(127)), Err(error));
    }

    #[test]
    fn values_that_json_cannot_tell_apart_are_refused() {
        #[derive(serde::Serialize)]
        struct Unit;
        #[derive(serde::Serialize)]
        struct Newtype(Option<u8>);
        assert_eq!(
            to_json(&f64::NAN),
            Err("JSON cannot represent NaN".to_owned())
        );
        let refused = |name: &str| {
            Err(format!(
                "`Some({name})` would be read back as `None`: use an enum instead of the `Option`"
            ))
        };
        assert_eq!(to_json(&Some(None::<u8>)), refused("None"));
        assert_eq!(to_json(&vec![Some(())]), refused("()"));
        assert_eq!(to_json(&Some(Unit)), refused("Unit"));
        assert_eq!(to_json(&Some(Newtype(None))), refused("None"));
        assert_eq!(to_json(&Some(Value::Null)), refused("()"));
        assert_eq!(
            to_json(&(Some(Some(1)), None::<Option<u8>>, Some(Newtype(Some(1))))),
            Ok(json!([1, null, 1]))
        );
    }

    #[cfg(feature = "cli")]
    mod typed {
        use std::collections::BTreeMap;

        use serde_json::{Value, json};

        use super::super::{TypedJson, WIDE, of_bytes, parse};
        use crate::value::encode;

        #[derive(serde::Serialize)]
        struct SampleRecord {
            name: &'static str,
            share: f32,
            by_day: BTreeMap<u32, Option<bool>>,
            pair: (i8, f64),
        }

        #[test]
        fn encoded_value_is_shown() {
            let row = SampleRecord {
                name: "a",
                share: 0.1,
                by_day: [(28, Some(true)), (29, None)].into(),
                pair: (-1, f64::NAN),
            };
            let json = of_bytes(&encode(&row).unwrap()).unwrap();
            assert_eq!(
                json.to_string(),
                r#"{"by_day":{"28":true,"29":null},"name":"a","pair":[-1,null],"share":0.1}"#
            );
            assert_eq!(of_bytes(&encode(&()).unwrap()).unwrap(), Value::Null);
            assert!(of_bytes(&[0xc1]).is_err());
        }

        #[test]
        fn typed_integers_keep_all_their_digits() {
            let wide = json!({ WIDE: "18446744073709551616" });
            for (text, expected) in [
                ("18446744073709551615", json!(u64::MAX)),
                ("18446744073709551616", wide.clone()),
                (
                    "-18446744073709551616",
                    json!({ WIDE: "-18446744073709551616" }),
                ),
                ("[1, 18446744073709551616 ]", json!([1, wide])),
                (r#"{"a\"":18446744073709551616}"#, json!({ "a\"": wide })),
                (
                    r#"["18446744073709551616", "\\", "ä\"18446744073709551616"]"#,
                    json!(["18446744073709551616", "\\", "ä\"18446744073709551616"]),
                ),
                (
                    "18446744073709551616.0",
                    json!(18_446_744_073_709_552_000.0),
                ),
                ("1e30", json!(1e30)),
                // beyond 128 bits, only a float holds it
                ("1000000000000000000000000000000000000000", json!(1e39)),
            ] {
                match parse(text) {
                    TypedJson::Json(json) => assert_eq!(json, expected, "{text}"),
                    other => panic!("{text}: {other:?}"),
                }
            }
            for none in ["a", "2026-01-31", "018446744073709551616", "\\", "\"\\"] {
                assert!(matches!(parse(none), TypedJson::None), "{none}");
            }
            for levels in [65, 127, 128, 5_000] {
                let text = "[".repeat(levels) + &"]".repeat(levels);
                assert!(matches!(parse(&text), TypedJson::TooDeep(_)), "{levels}");
            }
        }
    }
}
