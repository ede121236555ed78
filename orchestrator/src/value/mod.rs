//! Values that are passed between tasks.

mod canonical;
mod encoding;
mod form;
mod guard;
mod json;
mod same;
mod shown;

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::panic::{Fragile, catch};

pub(crate) use canonical::{CanonicalError, feed};
pub(crate) use encoding::{EncodingError, OutputType, encode};
#[cfg(feature = "cli")]
pub(crate) use json::{TypedJson, of_bytes, parse, with_digits};
pub(crate) use json::{check_depth, from_json, json_text, to_json};
pub use same::{Comparable, NotComparable, ResultComparison, SameFn};
pub use shown::{JsonConversion, JsonFn, NoJsonConversion};

/// A type that can be passed between tasks: any type that is
/// `Clone + Serialize + DeserializeOwned + Send + Sync + 'static`.
///
/// It is implemented for all such types; derive the missing traits:
///
/// ```
/// #[derive(Clone, serde::Serialize, serde::Deserialize)]
/// struct Customer {
///     id: u32,
/// }
/// ```
///
/// In memory, values are not encoded but shared behind an [`Arc`]. The bounds are required because
/// another process may have to resume the run.
///
/// # What is kept
///
/// A durable store keeps results as MessagePack, with the names of fields, and in the
/// human-readable form of types that have one. A task whose result could not be decoded again
/// fails, with an error that names the type and the reason:
///
/// - `Some(None)` and `Some(())`, which would be read back as `None`;
/// - numbers of 128 bits inside of `#[serde(tag = "…")]`, `untagged` and `flatten`, which serde
///   cannot read there;
/// - more than 256 values inside each other (lists, maps, structs, variants, `Some`s);
/// - a type whose `Deserialize` fails for the output of its `Serialize`, or returns another value.
///   Results of more than 64 bytes are checked if something in their form is new for the type, and
///   otherwise the 1st, 2nd, 4th, 8th … of them.
///
/// Parameters of flows are kept as JSON. Refused are `Some` of nothing, as above and of unit
/// structs, numbers that are NaN or infinite, and more than 64 arrays and objects inside each
/// other. Integers of 128 bits keep all their digits: one beyond 64 bits, for which a
/// [`serde_json::Value`] has no place, stands in it as
/// `{"$orchestrator::integer": "18446744073709551616"}`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be passed between tasks",
    label = "not `Clone + Serialize + Deserialize + Send + Sync + 'static`",
    note = "derive the missing traits: `#[derive(Clone, serde::Serialize, serde::Deserialize)]`",
    note = "mark a parameter that is not data: `#[resource]` for a shared object of the runtime, `#[context]` for the context, `#[connection(\"…\")]` for a client, `#[secret(\"…\")]` for a secret"
)]
pub trait Data: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Clone + Serialize + DeserializeOwned + Send + Sync + 'static> Data for T {}

/// A value of some [`Data`] type, shared.
#[derive(Clone)]
pub struct Value(Fragile<Arc<dyn Stored>>);

/// The operations on a value of unknown type.
trait Stored: Any + Send + Sync {
    fn encode(&self) -> Result<Vec<u8>, EncodingError>;
    fn keep(&self) -> Result<Vec<u8>, EncodingError>;
    fn feed(&self, hasher: &mut blake3::Hasher, unordered: bool) -> Result<(), CanonicalError>;
}

impl<T: Data> Stored for T {
    fn encode(&self) -> Result<Vec<u8>, EncodingError> {
        encode(self)
    }

    fn keep(&self) -> Result<Vec<u8>, EncodingError> {
        encoding::keep(self)
    }

    fn feed(&self, hasher: &mut blake3::Hasher, unordered: bool) -> Result<(), CanonicalError> {
        feed(hasher, self, unordered)
    }
}

impl Value {
    /// Wraps a value.
    pub fn new<T: Data>(value: T) -> Self {
        Self(Fragile::new(Arc::new(value)))
    }

    /// Returns `true` if the value is of type `T`.
    pub(crate) fn is<T: Data>(&self) -> bool {
        let any: &dyn Any = &**self.0;
        any.is::<T>()
    }

    /// Borrows the value.
    ///
    /// # Panics
    ///
    /// Panics if the value is of another type. The compiler checks the types along an edge, so this
    /// is a bug.
    #[track_caller]
    pub fn get<T: Data>(&self) -> &T {
        let any: &dyn Any = &**self.0;
        match any.downcast_ref() {
            Some(value) => value,
            None => mistyped::<T>(),
        }
    }

    /// Returns the value itself: moved if there is no other owner, cloned otherwise.
    #[track_caller]
    pub(crate) fn take<T: Data>(self) -> T {
        Arc::unwrap_or_clone(self.share())
    }

    /// Encodes the value for a store, and checks that it can be decoded again. A panic of its
    /// `Serialize`, which is user code, is returned as an error.
    pub(crate) fn keep(&self) -> Result<Vec<u8>, EncodingError> {
        catch(|| self.0.keep())
            .unwrap_or_else(|panicked| Err(EncodingError::panicked("Serialize", &panicked)))
    }

    /// Encodes the value as for a store, without the check.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, EncodingError> {
        catch(|| self.0.encode())
            .unwrap_or_else(|panicked| Err(EncodingError::panicked("Serialize", &panicked)))
    }

    /// Feeds the value to a hasher. The elements of an unordered value are sorted by their
    /// encodings. A panic of its `Serialize`, which is user code, is returned as an error.
    pub(crate) fn feed(
        &self,
        hasher: &mut blake3::Hasher,
        unordered: bool,
    ) -> Result<(), CanonicalError> {
        catch(|| self.0.feed(hasher, unordered))
            .unwrap_or_else(|panicked| Err(CanonicalError::panicked(&panicked)))
    }

    #[track_caller]
    pub(crate) fn share<T: Data>(self) -> Arc<T> {
        let any: Arc<dyn Any + Send + Sync> = self.0.into_inner();
        match any.downcast() {
            Ok(value) => value,
            Err(_) => mistyped::<T>(),
        }
    }
}

#[cold]
#[track_caller]
fn mistyped<T>() -> ! {
    unreachable!(
        "a value is not the `{}` that the compiler checked",
        std::any::type_name::<T>()
    )
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(..)")
    }
}
