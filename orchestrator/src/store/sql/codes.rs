//! The codes of states and kinds in the tables, and named conditions on them.
//!
//! Statements refer to conditions on states by name ([`sql`]) and do not contain codes. A new state
//! gets its code here, and the tests here show which conditions it belongs to.

use crate::log::LogLevel;
use crate::state::{RunKind, RunState, TaskState};

macro_rules! codes {
    ($($type:ty: $($state:ident $code:literal),+;)+) => {$(
        impl Code for $type {
            fn code(self) -> i64 {
                match self {
                    $(Self::$state => $code,)+
                }
            }

            fn of(code: i64) -> Option<Self> {
                match code {
                    $($code => Some(Self::$state),)+
                    _ => None,
                }
            }

            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$state),+];
        }
    )+};
}

/// A value that is stored as a code. Codes never change: new versions read the rows of old ones.
pub(crate) trait Code: Sized + 'static {
    fn code(self) -> i64;
    fn of(code: i64) -> Option<Self>;

    #[cfg(test)]
    const ALL: &[Self];
}

/// Whether the process that owns a run was asked to stop: its end is then not counted as a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    No,
    Draining,
    /// Bodies of the run do not return.
    WithBodies,
}

codes! {
    TaskState: Pending 0, Running 1, Retrying 2, Success 3, Failed 4, Skipped 5, UpstreamFailed 6,
        Cancelled 7;
    RunState: Pending 0, Running 1, Success 2, Failed 3, Cancelled 4;
    RunKind: Manual 0, Scheduled 1, Backfill 2;
    Leaving: No 0, Draining 1, WithBodies 2;
    LogLevel: Trace 0, Debug 1, Info 2, Warn 3, Error 4;
}

/// Builds the text of a statement from literals and names of conditions: `sql!("SELECT owner FROM
/// runs WHERE id = ?1 AND ", RUN_OPEN)`.
///
/// The conditions have the wording of the partial indexes: SQLite uses such an index only if the
/// statement contains its condition.
macro_rules! sql {
    // the run is not final
    (@part RUN_OPEN) => { "state < 2" };
    // the run is final
    (@part RUN_FINAL) => { "state >= 2" };
    // the run belongs to a tick
    (@part RUN_HAS_TICK) => { "kind <> 0" };
    // the run's process was not asked to stop
    (@part RUN_NOT_LEFT) => { "leaving = 0" };
    // the run's process ends while bodies of the run do not return
    (@part RUN_LEFT_WITH_BODIES) => { "leaving = 2" };
    // the attempt succeeded: its body is a result
    (@part ATTEMPT_SUCCEEDED) => { "state = 3" };
    (@part $text:literal) => { $text };
    ($($part:tt),+ $(,)?) => { concat!($($crate::store::sql::codes::sql!(@part $part)),+) };
}
pub(crate) use sql;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_a_code_of_its_own() {
        fn check<T: Code + Copy + PartialEq + std::fmt::Debug>() {
            for state in T::ALL {
                assert_eq!(T::of(state.code()), Some(*state));
            }
        }
        check::<TaskState>();
        check::<RunState>();
        check::<RunKind>();
        check::<Leaving>();
        check::<LogLevel>();
    }
}
