use std::time::Duration;

use crate::clock::Timestamp;
use crate::id::RunId;
use crate::journal::{CacheHit, CacheMiss, CacheQuery};

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
