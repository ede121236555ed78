//! Stores of runs, logs, cached results and what tasks look up by name.
//!
//! The interface consists of transitions, not of tables: a run is created before its body starts,
//! and from then on its [`RunLog`] records each transition. Work that depends on a transition
//! starts after its commit.
//!
//! A run's log has one writer: the process that executes the run. A process that lost its run to
//! another is refused. The record of a run is the sum of its transitions
//! ([`RunTables`](crate::journal::RunTables)), in every store.
//!
//! A [`Store`] is a trait for each consumer: [`RunStore`], [`ScheduleStore`], [`CacheStore`],
//! [`LogStore`], [`VaultStore`] and [`AdminStore`]. A store has a file of the same name for each of
//! them.
//!
//! | files | what is there |
//! | --- | --- |
//! | [`runs`], [`schedules`], [`cache`], [`logs`], [`vault`], [`admin`] | the traits of a store |
//! | [`run_log`] | the trait of the log of one run, and its commits |
//! | [`entry`] | cached results as lists show them, and filters for them |
//! | [`mirror`] | the record of a run in memory, which each log keeps |
//! | [`backlog`] | log lines that wait for the store, bounded |
//! | [`memory`] | the store in memory |
//! | `sql/`, `sqlite/` | what stores in SQL databases share; the store in an SQLite file |
//! | `no_sqlite.rs` | replaces `sqlite/` if the feature is off |
//! | `suite/` | the tests that run on every store |

mod admin;
mod backlog;
mod cache;
mod entry;
mod logs;
mod memory;
mod mirror;
mod run_log;
mod runs;
mod schedules;
#[cfg(feature = "sqlite")]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(not(feature = "sqlite"))]
#[path = "no_sqlite.rs"]
mod sqlite;
#[cfg(test)]
pub(crate) mod suite;
pub(crate) mod vault;

use std::sync::Arc;

pub(crate) use admin::AdminStore;
pub use admin::{Pruned, StoreCheck};
pub(crate) use backlog::Backlog;
pub(crate) use cache::{Accept, CacheRequest, CacheStore, Claim, Lookup};
pub use entry::{CacheEntry, CacheFilter};
pub(crate) use logs::LogStore;
pub(crate) use memory::{MemoryStore, unrecorded};
pub(crate) use run_log::{Commit, RunLog};
pub(crate) use runs::{AbandonedRun, PreviousRun, RunCreation, RunStore, Takeover};
pub(crate) use schedules::{ScheduleStore, ServingState};
pub(crate) use vault::{EntryContent, NewEntry, StoredEntry, VaultStore};

use crate::clock::Timestamp;
use crate::error::{StoreError, without_secrets};

/// A store of runs, their logs, cached results, the state of schedules, and what tasks look up by
/// name.
///
/// A consumer that needs a part of it takes the trait of that part.
pub(crate) trait Store:
    RunStore + ScheduleStore + CacheStore + LogStore + VaultStore + AdminStore
{
    /// Returns `true` if runs outlive the process.
    fn is_durable(&self) -> bool;

    /// Returns why this process can no longer write to the store, or `None` while it can. Its runs
    /// must be stopped then, since their progress cannot be recorded.
    fn failure(&self) -> Option<StoreError> {
        None
    }
}

/// The URLs of the stores in this build, for error messages.
const KNOWN_STORES: &str = if cfg!(feature = "sqlite") {
    "`memory`, `sqlite:PATH`"
} else {
    "`memory`"
};

/// Opens the store at a URL. Large results go to `blobs`; without one, the store chooses a place.
pub(crate) fn open(
    url: &str,
    blobs: Option<&str>,
    now: Timestamp,
) -> Result<Arc<dyn Store>, StoreError> {
    match url.split(':').next() {
        Some("memory") if url == "memory" => Ok(Arc::new(MemoryStore::default())),
        Some("sqlite") => sqlite::open(url, blobs, now),
        _ => Err(unknown(url)),
    }
}

/// Returns `true` if opening the store at a URL creates nothing: its file exists, or the store has
/// no file.
#[cfg(feature = "cli")]
pub(crate) fn exists(url: &str) -> bool {
    !url.starts_with("sqlite:") || sqlite::exists(url)
}

fn unknown(url: &str) -> StoreError {
    StoreError::UnknownUrl {
        url: without_secrets(url),
        known: KNOWN_STORES,
    }
}
