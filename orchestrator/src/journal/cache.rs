//! Cached results: keys, queries, entries, and the notes that a run keeps.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::result::ResultValue;
use crate::clock::Timestamp;
use crate::id::RunId;

/// The key of a cached result: a hash of the task, its code and its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheKey(pub(crate) [u8; 32]);

/// A hash of the inputs of a task alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InputsHash(pub(crate) [u8; 32]);

/// A map whose keys are BLAKE3 hashes themselves. Hashing them again would be wasted work: the
/// first eight bytes of a key serve as its hash.
pub(crate) type ByHash<K, V> = HashMap<K, V, BuildHasherDefault<PrefixHasher>>;

/// A hasher for keys that are hashes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PrefixHasher(u64);

impl Hasher for PrefixHasher {
    fn write(&mut self, bytes: &[u8]) {
        let beginning = bytes.first_chunk().copied().map_or(0, u64::from_le_bytes);
        self.0 ^= beginning;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Hash for CacheKey {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write(&self.0);
    }
}

impl Hash for InputsHash {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write(&self.0);
    }
}

/// A query for a cached result.
#[derive(Clone, Debug)]
pub(crate) struct CacheQuery {
    pub(crate) key: CacheKey,
    /// The path of the task: `crate::module::name`.
    pub(crate) task: Arc<str>,
    /// The hash of the inputs alone. On a miss it tells changed code from new inputs.
    pub(crate) inputs: [u8; 32],
    /// The maximum age of an entry.
    pub(crate) expiry: Option<Duration>,
}

/// A cached result that may be used.
#[derive(Clone, Debug)]
pub(crate) struct CacheHit {
    pub(crate) run: RunId,
    pub(crate) created: Timestamp,
    pub(crate) result: ResultValue,
}

/// A result to be inserted into the cache.
#[derive(Clone, Debug)]
pub(crate) struct NewCacheEntry {
    pub(crate) query: CacheQuery,
    pub(crate) hit: CacheHit,
}

/// How the cache took part in a result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum CacheNote {
    /// It was computed by another run, at that time.
    Hit { run: RunId, created: Timestamp },
    /// It was computed, for this reason.
    Missed(CacheMiss),
}

/// The reason why a result was computed and not taken from the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CacheMiss {
    /// No result of the task was cached.
    Empty,
    /// Results for other inputs were cached.
    NewInputs,
    /// The result for these inputs was computed by other code: the task's body or its `version`
    /// changed.
    ChangedCode,
    /// The cached result had expired.
    Expired {
        /// When the cached result was computed.
        created: DateTime<Utc>,
    },
    /// The run refreshes the cache: it uses no earlier results.
    Refreshed,
    /// The cached bytes do not decode to the task's output type any more.
    Unreadable,
}

impl fmt::Display for CacheMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("nothing was cached"),
            Self::NewInputs => f.write_str("the inputs are new"),
            Self::ChangedCode => f.write_str("the task's code changed"),
            Self::Expired { created } => {
                write!(f, "the result of {} had expired", created.format("%F %T"))
            }
            Self::Refreshed => f.write_str("the run refreshes the cache"),
            Self::Unreadable => f.write_str("the cached result is of another type"),
        }
    }
}
