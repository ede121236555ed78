//! Inspection and maintenance of a store as a whole.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use serde::Serialize;

use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::id::RunId;

/// Prunes and checks a store, and finds ids in it.
#[async_trait]
pub(crate) trait AdminStore: fmt::Debug + Send + Sync {
    /// Deletes the task records of runs that ended before `before`, the cached results that have
    /// expired at `now`, and the oldest cached results beyond `cache_bytes`.
    async fn prune_store(
        &self,
        before: Timestamp,
        now: Timestamp,
        cache_bytes: u64,
    ) -> Result<Pruned, StoreError>;

    /// Checks the whole store.
    async fn check_store(&self) -> Result<StoreCheck, StoreError>;

    /// Returns the ids of runs from `first` to `last`, both included, in ascending order.
    async fn find_ids(&self, first: RunId, last: RunId) -> Result<Vec<RunId>, StoreError>;

    /// Returns the ids of runs that end with these hexadecimal digits, in ascending order. Scans
    /// all ids.
    async fn find_ids_ending(&self, digits: &str) -> Result<Vec<RunId>, StoreError>;
}

/// The result of a prune: how much was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// The number of runs whose task records were deleted.
    pub runs: u64,
    /// The number of deleted cached results: they had expired, or exceeded the size limit.
    pub cached: u64,
}

/// The result of a check of a whole store.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct StoreCheck {
    /// The store: `memory`, or the path of a file.
    pub store: String,
    /// The number of its schema, if it has one.
    pub schema: Option<u32>,
    /// The size of its file in bytes, if it has one.
    pub size: Option<u64>,
    /// The number of items by kind: runs, attempts, cached results and so on.
    pub counts: BTreeMap<&'static str, u64>,
    /// The problems of the store as a whole; empty for a sound one.
    pub problems: Vec<String>,
    /// The unreadable runs, each with its reason. All others can be read.
    pub unreadable_runs: Vec<String>,
}

impl StoreCheck {
    /// Creates the report on a store so damaged that nothing else can be checked.
    pub(crate) fn damaged(place: String, problem: String) -> Self {
        Self {
            store: place,
            problems: vec![problem],
            ..Self::default()
        }
    }
}
