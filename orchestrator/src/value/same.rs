use std::fmt;
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::{Data, Value};

/// Whether two values of a type are equal.
pub type SameFn = fn(&Value, &Value) -> bool;

/// How the results of a task are compared, as its first node says: in the definition, the type would be named once more,
/// and a mistake in it told once more.
#[derive(Debug, Default)]
pub struct Same(OnceLock<SameFn>);

impl Same {
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

/// Says how values of a type are compared. For a type with `==` its own constant is the one that is found.
pub struct Comparable<T>(PhantomData<T>);

impl<T: Data + PartialEq> Comparable<T> {
    /// By `==`.
    pub const SAME: Option<SameFn> = Some(|one, other| one.get::<T>() == other.get::<T>());
}

/// Found where `Comparable` has no constant of its own.
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
