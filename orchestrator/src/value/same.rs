use std::fmt;
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::{Data, Value};

/// Returns `true` if two values of a type are equal.
pub type SameFn = fn(&Value, &Value) -> bool;

/// The comparison of a task's results, set by its first node. In the definition, the type would be
/// named again, and a mistake in it reported twice.
#[derive(Debug, Default)]
pub struct ResultComparison(OnceLock<SameFn>);

impl ResultComparison {
    /// Not known.
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    pub(crate) fn set(&self, same: SameFn) {
        self.0.get_or_init(|| same);
    }

    pub(crate) fn get(&self) -> Option<SameFn> {
        self.0.get().copied()
    }
}

/// Selects the comparison for values of a type. For a type with `==`, its inherent constant is
/// resolved.
pub struct Comparable<T>(PhantomData<T>);

impl<T: Data + PartialEq> Comparable<T> {
    /// By `==`.
    pub const SAME: Option<SameFn> = Some(|one, other| one.get::<T>() == other.get::<T>());
}

/// Provides the constant if `Comparable` has no inherent one.
pub trait NotComparable {
    /// Not at all.
    const SAME: Option<SameFn> = None;
}

impl<T> NotComparable for Comparable<T> {}

impl<T> fmt::Debug for Comparable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Comparable")
    }
}
