//! Values as a store keeps them: MessagePack, with the names of fields.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Data, Value};

/// A value cannot be written down, or not be read back.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{problem}")]
pub(crate) struct EncodingError {
    problem: String,
}

impl EncodingError {
    fn new(problem: &impl std::fmt::Display) -> Self {
        Self {
            problem: problem.to_string(),
        }
    }
}

/// The type of a node's results, for those who have only their bytes.
#[derive(Debug)]
pub(crate) struct OutputType {
    name: fn() -> &'static str,
    decode: fn(&[u8]) -> Result<Value, EncodingError>,
    is: fn(&Value) -> bool,
}

/// A generic function cannot have a static of its type; a generic struct can have a constant.
struct Decoded<T>(PhantomData<T>);

impl<T: Data> Decoded<T> {
    const TYPE: OutputType = OutputType {
        name: std::any::type_name::<T>,
        decode: |bytes| decode::<T>(bytes).map(Value::new),
        is: Value::is::<T>,
    };
}

impl OutputType {
    pub(crate) const fn of<T: Data>() -> &'static Self {
        &Decoded::<T>::TYPE
    }

    /// The type's name, without the modules that it is in.
    pub(crate) fn name(&self) -> String {
        let full = (self.name)();
        let mut name = String::with_capacity(full.len());
        let mut start = 0;
        for (at, character) in full.char_indices() {
            // a type in a function is in `module::function::{{closure}}`
            if !(character.is_alphanumeric() || "_:{}".contains(character)) {
                name.push_str(last_segment(&full[start..at]));
                name.push(character);
                start = at + character.len_utf8();
            }
        }
        name.push_str(last_segment(&full[start..]));
        name
    }

    /// Refuses a value of another type.
    pub(crate) fn check(&self, value: &Value) -> Result<(), EncodingError> {
        match (self.is)(value) {
            true => Ok(()),
            false => Err(EncodingError::new(&format_args!(
                "it is not `{}`",
                self.name()
            ))),
        }
    }

    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<Value, EncodingError> {
        (self.decode)(bytes)
    }
}

fn last_segment(path: &str) -> &str {
    path.rsplit("::").next().unwrap_or(path)
}

/// The bytes of a value.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, EncodingError> {
    rmp_serde::to_vec_named(value).map_err(|error| EncodingError::new(&error))
}

/// The value of bytes that [`encode`] made.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, EncodingError> {
    let mut rest = bytes;
    let value = rmp_serde::from_read(&mut rest).map_err(|error| EncodingError::new(&error))?;
    match rest.len() {
        0 => Ok(value),
        left => Err(EncodingError::new(&format_args!(
            "{left} byte(s) are left over"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_types_name_is_told_without_its_modules() {
        let name = OutputType::name;
        assert_eq!(name(OutputType::of::<Vec<String>>()), "Vec<String>");
        assert_eq!(
            name(OutputType::of::<(u32, Option<std::time::Duration>)>()),
            "(u32, Option<Duration>)"
        );
        assert_eq!(name(OutputType::of::<()>()), "()");
    }

    #[test]
    fn bytes_of_another_type_are_refused() {
        let bytes = encode(&("a", 1)).unwrap();
        assert_eq!(
            decode::<(String, u32)>(&bytes).unwrap(),
            ("a".to_owned(), 1)
        );
        assert!(decode::<u32>(&bytes).is_err());
        assert!(decode::<u32>(&[1, 0xff]).is_err());
    }
}
