use std::fmt;
use std::marker::PhantomData;

use super::{Data, encoding, json};

/// Converts the bytes of a value to JSON, or returns the reason why that is not possible.
pub type JsonFn = fn(&[u8]) -> Result<serde_json::Value, String>;

/// Selects the conversion of values of a type to JSON. For data, its inherent constant is resolved.
/// Other types are reported elsewhere, once.
pub struct Shown<T>(PhantomData<T>);

impl<T: Data> Shown<T> {
    /// Converts to the JSON of the type.
    pub const JSON: Option<JsonFn> = Some(|bytes| {
        let value = encoding::decode::<T>(bytes).map_err(|error| error.to_string())?;
        json::shown(&value)
    });
}

/// Provides the constant if `Shown` has no inherent one.
pub trait NotShown {
    /// Not at all.
    const JSON: Option<JsonFn> = None;
}

impl<T> NotShown for Shown<T> {}

impl<T> fmt::Debug for Shown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}
