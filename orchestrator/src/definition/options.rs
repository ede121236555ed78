use std::time::Duration;

use orchestrator_grammar::options::MAX_RETRIES;

use super::Trigger;
use crate::bounds;
use crate::error::TaskError;

// The kinds of values in the table of options, besides `Delay`, `Duration`, `Pool` and `Trigger`.
pub(crate) type Count = u32;
pub(crate) type Factor = f64;
pub(crate) type Predicate = fn(&TaskError) -> bool;
pub(crate) type Switch = bool;

/// Defines [`TaskOptions`] from the table of options.
macro_rules! define {
    ($($(#[$doc:meta])* $option:ident: $kind:ident = $example:literal;)+) => {
        /// Options of a task. The first of these that sets an option wins: the call, `#[task(…)]`,
        /// the flow's `defaults(…)`, [`RuntimeBuilder::defaults`](crate::RuntimeBuilder::defaults).
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub struct TaskOptions {
            $($(#[$doc])* pub $option: Option<$kind>,)+
        }

        impl TaskOptions {
            /// Options of which none is set.
            pub const NONE: Self = Self { $($option: None,)+ };

            /// Returns these options, with those of `next` for the ones that are not set.
            #[must_use]
            pub fn or(self, next: &Self) -> Self {
                let next = next.clone();
                Self { $($option: self.$option.or(next.$option),)+ }
            }
        }
    };
}

orchestrator_grammar::task_options!(define);

/// The delay between attempts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Delay {
    /// One delay, which grows by `backoff`.
    Fixed(Duration),
    /// A delay for each retry; the last repeats.
    List(&'static [Duration]),
}

/// Slots of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The pool's name.
    pub name: &'static str,
    /// The number of slots that one body takes.
    pub slots: u32,
}

impl TaskOptions {
    /// Returns the first problem of the options, if any: the expected and the actual value.
    pub(crate) fn problem(&self) -> Option<String> {
        if let Some(retries) = self.retries.filter(|retries| *retries > MAX_RETRIES) {
            return Some(format!(
                "expected `retries` to be at most {MAX_RETRIES}, got {retries}"
            ));
        }
        if let Some(backoff) = self
            .backoff
            .filter(|backoff| !(backoff.is_finite() && *backoff >= 1.0))
        {
            return Some(format!(
                "expected `backoff` to be a factor of at least 1, got {backoff}"
            ));
        }
        if self.timeout == Some(Duration::ZERO) {
            return Some("expected `timeout` to be greater than zero, got 0s".to_owned());
        }
        if self.retry_delay == Some(Delay::List(&[])) {
            return Some("expected `retry_delay` to list at least one delay, got none".to_owned());
        }
        if let Some(problem) = self
            .pool
            .as_ref()
            .and_then(|pool| bounds::fault(pool.name, bounds::NAME))
        {
            return Some(format!("the name of the pool is too long: {problem}"));
        }
        if let Some(pool) = self.pool.as_ref().filter(|pool| pool.slots == 0) {
            return Some(format!(
                "expected a task to take at least 1 slot of the pool `{}`, got 0",
                pool.name
            ));
        }
        None
    }
}

/// Defines the methods with which a use of a task sets one option each, from the table of options.
macro_rules! option_setters {
    ($($(#[$doc:meta])* $option:ident: $kind:ident = $example:literal;)+) => {
        $(option_setter! { $kind $option $(#[$doc])* })+
    };
}
pub(crate) use option_setters;

/// Defines the method that sets an option, according to the kind of its value.
macro_rules! option_setter {
    // set by `#[task(…)]` and `options(…)` only
    (Predicate $option:ident $($doc:tt)*) => {};
    (Delay $option:ident $($doc:tt)*) => {
        option_setter! { @ $option [$option: Duration] Delay::Fixed($option); $($doc)* }
    };
    (Pool $option:ident $($doc:tt)*) => {
        option_setter! { @ $option [name: &'static str] Pool { name, slots: 1 }; $($doc)* }
    };
    (Switch $option:ident $($doc:tt)*) => {
        option_setter! { @ $option [] true; $($doc)* }
    };
    ($kind:ident $option:ident $($doc:tt)*) => {
        option_setter! { @ $option [$option: $kind] $option; $($doc)* }
    };
    (@ $option:ident [$($parameter:tt)*] $value:expr; $($doc:tt)*) => {
        #[doc = concat!("Sets [`", stringify!($option), "`](TaskOptions::", stringify!($option), ").")]
        ///
        $($doc)*
        pub fn $option(self, $($parameter)*) -> Self {
            self.describe(stringify!($option), |spec| spec.more().options.$option = Some($value))
        }
    };
}
pub(crate) use option_setter;

impl Default for TaskOptions {
    fn default() -> Self {
        Self::NONE
    }
}
