use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::transition::Kept;
use crate::id::RunId;

/// What a result is cached under: a hash of the task, its code and its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CacheKey(pub(crate) [u8; 32]);

/// What is looked for in the cache.
#[derive(Clone, Debug)]
pub(crate) struct CacheQuery {
    pub(crate) key: CacheKey,
    /// The task, as `crate::module::name`.
    pub(crate) task: String,
    /// The hash of its inputs alone: tells what was changed where nothing is found.
    pub(crate) inputs: [u8; 32],
    /// How long an entry may be used.
    pub(crate) expiry: Option<Duration>,
}

/// What the cache has.
#[derive(Debug)]
pub(crate) enum Lookup {
    Hit(CacheHit),
    Miss(CacheMiss),
}

/// An entry that may be used.
#[derive(Clone, Debug)]
pub(crate) struct CacheHit {
    pub(crate) run: RunId,
    pub(crate) created: i64,
    pub(crate) result: Kept,
}

/// A result to be cached.
#[derive(Clone, Debug)]
pub(crate) struct NewEntry {
    pub(crate) query: CacheQuery,
    pub(crate) hit: CacheHit,
}

/// What the cache had to do with a result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum CacheNote {
    /// It is the result of another run, computed then.
    Hit { run: RunId, created: i64 },
    /// It was computed, for this reason.
    Missed(CacheMiss),
}

/// Why a result was computed, and not taken from the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CacheMiss {
    /// No result of the task was cached.
    Empty,
    /// Results for other inputs were cached.
    NewInputs,
    /// The result for these inputs was computed by other code: the task's own was changed, or its `version`.
    ChangedCode,
    /// The cached result was too old, at this time.
    Expired {
        /// When it was computed.
        created: DateTime<Utc>,
    },
    /// The run refused what was cached.
    Refreshed,
    /// The cached bytes are no value of the task's type any more.
    Unreadable,
}

impl fmt::Display for CacheMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("nothing was cached"),
            Self::NewInputs => f.write_str("the inputs are new"),
            Self::ChangedCode => f.write_str("the task's code was changed"),
            Self::Expired { created } => {
                write!(f, "the result of {} had expired", created.format("%F %T"))
            }
            Self::Refreshed => f.write_str("the run refreshes the cache"),
            Self::Unreadable => f.write_str("what was cached is of another type"),
        }
    }
}

/// Whether something computed at `created` is too old at `now`, in microseconds since 1970.
pub(crate) fn has_expired(created: i64, expiry: Option<Duration>, now: i64) -> bool {
    let age = crate::clock::micros_between(created, now);
    expiry.is_some_and(|expiry| age >= expiry)
}
