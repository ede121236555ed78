//! Stored results of tasks whose results are cached.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{CacheEntry, CacheFilter};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::id::RunId;
use crate::journal::{CacheHit, CacheKey, CacheMiss, CacheQuery};

/// Stores cached results, and which process computes a missing one.
///
/// A result is inserted with the end of the attempt that computed it, by the log of its run.
#[async_trait]
pub(crate) trait CacheStore: fmt::Debug + Send + Sync {
    /// Looks up cached results, and claims the flights of at most `claims` missing ones, in order.
    /// A flight that another living process has is not claimed.
    ///
    /// Look-up and claim are atomic: no result can be inserted between the two, which would be
    /// computed twice.
    async fn look_up_cached(
        &self,
        wanted: Arc<[CacheRequest]>,
        claims: usize,
        now: Timestamp,
    ) -> Result<Vec<Lookup>, StoreError>;

    /// Ends flights of this process, which no longer computes these results.
    fn end_flights(&self, keys: Vec<CacheKey>);

    /// Lists cached results by task and age, without their values.
    async fn list_cached(
        &self,
        filter: &CacheFilter,
        now: Timestamp,
    ) -> Result<Vec<CacheEntry>, StoreError>;

    /// Deletes the cached results that match a filter. Returns their number.
    async fn forget_cached(&self, filter: &CacheFilter, now: Timestamp) -> Result<u64, StoreError>;
}

/// A cache look-up: the query, and which entries it accepts.
#[derive(Clone, Debug)]
pub(crate) struct CacheRequest {
    pub(crate) query: CacheQuery,
    pub(crate) accept: Accept,
}

/// The condition on an entry of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accept {
    Any,
    /// Only an entry that this run computed after that time.
    MadeBy(RunId, Timestamp),
    Nothing,
}

impl Accept {
    pub(crate) fn accepts(self, run: RunId, created: Timestamp) -> bool {
        match self {
            Self::Any => true,
            Self::MadeBy(by, after) => run == by && created > after,
            Self::Nothing => false,
        }
    }
}

/// The outcome of a cache look-up.
#[derive(Debug)]
pub(crate) enum Lookup {
    Hit(CacheHit),
    Miss(CacheMiss, Claim),
}

/// Which process computes a missing result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// This process, from now on.
    Own,
    /// Another process, which is alive.
    Other,
    /// No claim was made: the look-up had reached its limit of claims.
    NotMade,
}

/// Returns `true` if a result computed at `created` has expired at `now`.
pub(crate) fn has_expired(created: Timestamp, expiry: Option<Duration>, now: Timestamp) -> bool {
    expiry.is_some_and(|expiry| now.since(created) >= expiry)
}
