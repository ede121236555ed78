//! The store in an SQLite file.
//!
//! Any number of processes may have the file open; SQLite orders their commits. A run has one
//! writer, the process whose number is in its `owner` column: [`owner`] describes how a process is
//! known to be alive. Errors about locks never leave this folder: a caller that finds the file busy
//! waits for its turn.
//!
//! A transition of a run becomes a row ([`rows`](super::sql::rows)), goes to the writer's queue
//! ([`run_log`]) and is committed together with everything else that is queued ([`writer`]). Reads
//! apply the rows again ([`history`](statements::history)), on connections of their own.
//!
//! | files | what is there |
//! | --- | --- |
//! | [`runs`], [`schedules`], [`cache`], [`logs`], [`vault`], [`admin`] | the traits of stores |
//! | [`statements`], [`columns`] | statements by subject; what rusqlite makes of columns |
//! | [`file`](mod@file), [`writer`], [`run_log`], [`claim`] | reads; group commit; what goes into it |
//! | [`location`], [`connection`], [`creation`], [`schema`] | opening, creating and migrating the file |
//! | [`owner`], [`presence`] | which processes are alive; whether the file is still there |
//! | [`failure`], [`length`] | what SQLite's errors mean; the length of its write-ahead log |

mod admin;
mod cache;
#[cfg(test)]
mod child;
mod claim;
mod columns;
mod connection;
mod creation;
#[cfg(test)]
mod damage;
mod failure;
mod file;
mod length;
mod location;
mod logs;
mod owner;
mod presence;
mod run_log;
mod runs;
mod schedules;
mod schema;
mod statements;
mod vault;
mod writer;

use std::sync::Arc;

use file::File;

use super::Store;
use crate::clock::Timestamp;
use crate::error::StoreError;

/// A store in an SQLite file.
#[derive(Debug)]
struct SqliteStore {
    file: Arc<File>,
}

/// Opens the file at a URL, and creates it if it does not exist. Large results go to `blobs`, or to
/// a folder beside the file.
pub(super) fn open(
    url: &str,
    blobs: Option<&str>,
    now: Timestamp,
) -> Result<Arc<dyn Store>, StoreError> {
    SqliteStore::open(url, blobs, now).map(|store| Arc::new(store) as _)
}

/// Returns `true` if the file at a URL exists, or if the URL is invalid: opening it then reports
/// the error.
#[cfg(feature = "cli")]
pub(super) fn exists(url: &str) -> bool {
    location::Location::parse(url).map_or(true, |location| location.path.exists())
}

impl SqliteStore {
    fn open(url: &str, blobs: Option<&str>, now: Timestamp) -> Result<Self, StoreError> {
        let file = Arc::new(File::open(url, blobs, now)?);
        Ok(Self { file })
    }
}

impl Store for SqliteStore {
    fn is_durable(&self) -> bool {
        true
    }

    fn failure(&self) -> Option<StoreError> {
        self.file.writer.failure()
    }
}
