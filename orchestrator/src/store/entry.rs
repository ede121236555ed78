//! Cached results as lists show them, and filters for them.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::clock::Timestamp;
use crate::id::RunId;
use crate::journal::{CacheKey, NewCacheEntry};

/// A cached result without its value, as lists of the cache show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CacheEntry {
    /// The hash of its task, the task's code and its inputs: 64 hexadecimal digits.
    pub key: String,
    /// The task, as `crate::module::name`.
    pub task: String,
    /// The hash of its inputs alone: 64 hexadecimal digits.
    pub inputs: String,
    /// The run that computed it.
    pub run: RunId,
    /// When it was computed.
    pub created_at: DateTime<Utc>,
    /// When it expires; `None` if it never does.
    pub expires_at: Option<DateTime<Utc>>,
    /// The size in bytes; `None` if it is unknown, as in memory.
    pub size: Option<u64>,
}

/// A filter for cached results. It matches all of them unless something is set.
///
/// # Examples
///
/// ```
/// use orchestrator::CacheFilter;
///
/// let filter = CacheFilter::new().task("score").expired();
/// # let _ = filter;
/// ```
#[derive(Clone, Debug, Default)]
pub struct CacheFilter {
    task: Option<String>,
    key: Option<String>,
    expired: bool,
}

impl CacheFilter {
    /// Creates a filter that matches all cached results.
    pub fn new() -> Self {
        Self::default()
    }

    /// Selects the results of a task, by its name alone or by its full path.
    #[must_use]
    pub fn task(mut self, name: impl Into<String>) -> Self {
        self.task = Some(name.into());
        self
    }

    /// Selects the results whose key starts with these hexadecimal digits.
    #[must_use]
    pub fn key(mut self, prefix: impl Into<String>) -> Self {
        self.key = Some(prefix.into().to_ascii_lowercase());
        self
    }

    /// Selects the results that have expired.
    #[must_use]
    pub fn expired(mut self) -> Self {
        self.expired = true;
        self
    }

    /// Returns `true` if an entry matches at a time.
    pub(crate) fn matches(&self, entry: &CacheEntry, now: Timestamp) -> bool {
        let of_task = |name: &String| {
            entry
                .task
                .strip_suffix(name.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with("::"))
        };
        self.task.as_ref().is_none_or(of_task)
            && self
                .key
                .as_ref()
                .is_none_or(|prefix| entry.key.starts_with(prefix))
            && (!self.expired
                || entry
                    .expires_at
                    .is_some_and(|at| Timestamp::from(at) <= now))
    }
}

impl CacheKey {
    /// Returns the key in hexadecimal digits, as users see it.
    pub(crate) fn hex(&self) -> String {
        hex(&self.0)
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

impl NewCacheEntry {
    /// Returns the list entry of a result in memory.
    pub(super) fn listed(&self) -> CacheEntry {
        let Self { query, hit } = self;
        let instant = |at: Timestamp| at.to_datetime().unwrap_or_default();
        let expires = query
            .expiry
            .and_then(|expiry| i64::try_from(expiry.as_micros()).ok());
        CacheEntry {
            key: query.key.hex(),
            task: query.task.to_string(),
            inputs: hex(&query.inputs),
            run: hit.run,
            created_at: instant(hit.created),
            expires_at: expires.map(|expiry| instant(hit.created.shifted(expiry))),
            size: None,
        }
    }
}
