use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{CacheKey, NewEntry};
use crate::id::RunId;

/// A cached result, without the result itself: what lists of the cache show.
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
    /// From when on it is not used any more; none where it is kept for ever.
    pub expires_at: Option<DateTime<Utc>>,
    /// How many bytes it takes; none where that is not known, as in memory.
    pub size: Option<u64>,
}

/// Which cached results are asked for: all of them, unless something is set.
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
    /// All cached results.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only those of a task: its name, alone or with the modules that it is in.
    #[must_use]
    pub fn task(mut self, name: impl Into<String>) -> Self {
        self.task = Some(name.into());
        self
    }

    /// Only those whose key begins so, in hexadecimal digits.
    #[must_use]
    pub fn key(mut self, prefix: impl Into<String>) -> Self {
        self.key = Some(prefix.into().to_ascii_lowercase());
        self
    }

    /// Only those that have expired.
    #[must_use]
    pub fn expired(mut self) -> Self {
        self.expired = true;
        self
    }

    /// Whether an entry is asked for, at a time in microseconds since 1970.
    pub(crate) fn matches(&self, entry: &CacheEntry, now: i64) -> bool {
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
                    .is_some_and(|at| at.timestamp_micros() <= now))
    }
}

impl CacheKey {
    /// As people see it.
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

impl NewEntry {
    /// The entry, as lists of those in memory show it.
    pub(super) fn listed(&self) -> CacheEntry {
        let Self { query, hit } = self;
        let instant = |micros| DateTime::from_timestamp_micros(micros).unwrap_or_default();
        let expires = query
            .expiry
            .and_then(|expiry| i64::try_from(expiry.as_micros()).ok());
        CacheEntry {
            key: query.key.hex(),
            task: query.task.clone(),
            inputs: hex(&query.inputs),
            run: hit.run,
            created_at: instant(hit.created),
            expires_at: expires.map(|expiry| instant(hit.created.saturating_add(expiry))),
            size: None,
        }
    }
}

/// What a look at the whole of a store found.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct StoreCheck {
    /// What it is: `memory`, or the path of a file.
    pub store: String,
    /// The number of its schema, where it has one.
    pub schema: Option<u32>,
    /// Its size in bytes, where it is a file.
    pub size: Option<u64>,
    /// How many of what there are.
    pub counts: BTreeMap<&'static str, u64>,
    /// What is wrong with it: nothing, where it is sound.
    pub problems: Vec<String>,
}

impl StoreCheck {
    /// Of a file so damaged that there is nothing more to be said of it.
    pub(crate) fn damaged(path: &Path, problem: String) -> Self {
        Self {
            store: path.display().to_string(),
            problems: vec![problem],
            ..Self::default()
        }
    }
}
