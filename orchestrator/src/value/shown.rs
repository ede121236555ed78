use std::fmt;
use std::marker::PhantomData;

use super::{Data, encoding, json};

/// Converts the bytes of a value to JSON, or returns the reason why that is not possible.
pub type JsonFn = fn(&[u8]) -> Result<serde_json::Value, String>;

/// Selects the conversion of values of a type to JSON. For data, its inherent constant is resolved.
/// Other types are reported elsewhere, once.
pub struct JsonConversion<T>(PhantomData<T>);

impl<T: Data> JsonConversion<T> {
    /// Converts to the JSON of the type.
    pub const JSON: Option<JsonFn> = Some(|bytes| {
        let value = encoding::decode::<T>(bytes).map_err(|error| error.to_string())?;
        json::shown(&value)
    });
}

/// Provides the constant if `JsonConversion` has no inherent one.
pub trait NoJsonConversion {
    /// Not at all.
    const JSON: Option<JsonFn> = None;
}

impl<T> NoJsonConversion for JsonConversion<T> {}

impl<T> fmt::Debug for JsonConversion<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JsonConversion")
    }
}
