//! Values that travel between tasks.

mod canonical;
mod encoding;
mod json;
mod same;

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use canonical::{CanonicalError, feed};
pub(crate) use encoding::{EncodingError, OutputType, encode};
pub(crate) use json::lost_in_json;
#[cfg(feature = "cli")]
pub(crate) use json::to_json;
pub use same::{Comparable, NotComparable, Same, SameFn};

/// What travels between tasks: any type that is `Clone + Serialize + DeserializeOwned + Send + Sync + 'static`.
///
/// It is implemented for all of them; derive what is missing:
///
/// ```
/// #[derive(Clone, serde::Serialize, serde::Deserialize)]
/// struct Customer {
///     id: u32,
/// }
/// ```
///
/// In memory nothing is encoded: a value stays what it is, behind an [`Arc`]. The bounds are there because a run may
/// have to be continued by another process.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel between tasks",
    label = "not `Clone + Serialize + Deserialize + Send + Sync + 'static`",
    note = "derive what is missing: `#[derive(Clone, serde::Serialize, serde::Deserialize)]`",
    note = "what is no data is marked: `#[resource]` what the runtime is given once, `#[context]` the context"
)]
pub trait Data: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Clone + Serialize + DeserializeOwned + Send + Sync + 'static> Data for T {}

/// A value of some [`Data`] type, shared.
#[derive(Clone)]
pub struct Value(Arc<dyn Stored>);

/// What can be done with a value without knowing its type.
trait Stored: Any + Send + Sync {
    fn encode(&self) -> Result<Vec<u8>, EncodingError>;
    fn feed(&self, hasher: &mut blake3::Hasher, unordered: bool) -> Result<(), CanonicalError>;
}

impl<T: Data> Stored for T {
    fn encode(&self) -> Result<Vec<u8>, EncodingError> {
        encode(self)
    }

    fn feed(&self, hasher: &mut blake3::Hasher, unordered: bool) -> Result<(), CanonicalError> {
        feed(hasher, self, unordered)
    }
}

impl Value {
    /// Wraps a value.
    pub fn new<T: Data>(value: T) -> Self {
        Self(Arc::new(value))
    }

    /// Whether the value is of a type.
    pub(crate) fn is<T: Data>(&self) -> bool {
        let any: &dyn Any = &*self.0;
        any.is::<T>()
    }

    /// Borrows the value.
    ///
    /// # Panics
    ///
    /// Where the value is of another type: the types along an edge are checked by the compiler, so this is a bug.
    #[track_caller]
    pub fn get<T: Data>(&self) -> &T {
        let any: &dyn Any = &*self.0;
        match any.downcast_ref() {
            Some(value) => value,
            None => mistyped::<T>(),
        }
    }

    /// The value itself: moved where nobody else holds it, cloned otherwise.
    #[track_caller]
    pub(crate) fn take<T: Data>(self) -> T {
        Arc::unwrap_or_clone(self.share())
    }

    /// The value as a store keeps it.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, EncodingError> {
        self.0.encode()
    }

    /// Feeds the value to a hasher: in the order of their encodings, where its elements are in none of their own.
    pub(crate) fn feed(
        &self,
        hasher: &mut blake3::Hasher,
        unordered: bool,
    ) -> Result<(), CanonicalError> {
        self.0.feed(hasher, unordered)
    }

    #[track_caller]
    pub(crate) fn share<T: Data>(self) -> Arc<T> {
        let any: Arc<dyn Any + Send + Sync> = self.0;
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
