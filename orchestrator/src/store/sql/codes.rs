//! The codes of states and kinds in the tables, and named conditions on them.
//!
//! Statements refer to conditions on states by name ([`sql`]) and do not contain codes, except those
//! of migrations. A new state gets its code here; the tests of each store show which conditions it
//! belongs to.

use crate::entry::EntryKind;
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
    EntryKind: Connection 0, Variable 1, Secret 2;
    LogLevel: Trace 0, Debug 1, Info 2, Warn 3, Error 4;
}

/// Builds the text of a statement from literals and names of conditions: `sql!("SELECT owner FROM
/// runs WHERE id = ?1 AND ", RUN_OPEN)`.
///
/// The conditions have the wording of the partial indexes, which are used only if the statement
/// contains their condition.
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
    use std::path::{Path, PathBuf};

    use super::*;

    /// Returns the sources below a folder that are not compiled for tests alone.
    fn sources(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let sources = paths.flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => vec![path],
        });
        let is_meant = |path: &PathBuf| {
            path.extension().is_some_and(|extension| extension == "rs")
                && !["damage.rs", "tests.rs"].contains(&path.file_name().unwrap().to_str().unwrap())
        };
        sources.filter(is_meant).collect()
    }

    /// Returns the comparisons of coded columns with numbers in a text.
    fn literals(text: &str) -> Vec<&str> {
        let columns = ["state", "kind", "leaving", "level"];
        let found = columns.iter().flat_map(|column| text.match_indices(column));
        let rests = found.map(|(at, column)| (at, &text[at + column.len()..]));
        let compared = rests.filter(|(_, rest)| {
            let rest = rest.trim_start();
            let operand = ["<=", ">=", "<>", "!=", "=", "<", ">", "IN (", "BETWEEN "]
                .iter()
                .find_map(|operator| rest.strip_prefix(operator));
            operand.is_some_and(|operand| {
                operand
                    .trim_start()
                    .starts_with(|c: char| c.is_ascii_digit())
            })
        });
        compared
            .map(|(at, _)| text[at..].lines().next().unwrap_or_default())
            .collect()
    }

    #[test]
    fn statements_have_no_codes_but_those_of_this_file() {
        assert_eq!(
            literals("state IN (3, 4) AND kind <> 0 AND level = ?1").len(),
            2
        );
        let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
        let all = [sources(&store.join("sql")), sources(&store.join("sqlite"))].concat();
        assert!(all.len() > 20, "are the sources still read? {all:?}");
        for path in all {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let mut found = literals(code);
            if path.ends_with("sql/codes.rs") {
                assert_eq!(found.len(), 6, "{found:?}");
                found.clear();
            }
            assert_eq!(found, [""; 0], "in {}", path.display());
        }
    }

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
