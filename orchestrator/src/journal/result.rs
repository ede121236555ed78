use crate::value::{EncodingError, OutputType, Value};

/// A result: a value, or the bytes of one.
#[derive(Clone, Debug)]
pub(crate) enum ResultValue {
    Live(Value),
    Encoded(EncodedResult),
}

impl ResultValue {
    /// Returns the value, which must be of the type `output`.
    pub(crate) fn value(&self, output: &OutputType) -> Result<Value, EncodingError> {
        match self {
            Self::Live(value) => output.check(value).map(|()| value.clone()),
            Self::Encoded(encoded) => output.decode(&encoded.0),
        }
    }
}

/// The bytes of a result.
#[derive(Clone, Debug)]
pub(crate) struct EncodedResult(pub(crate) std::sync::Arc<Vec<u8>>);

// the vector is shared as it came: copying a large result would double its memory
impl From<Vec<u8>> for EncodedResult {
    fn from(bytes: Vec<u8>) -> Self {
        Self(std::sync::Arc::new(bytes))
    }
}
