use std::sync::{Arc, OnceLock};

use chrono::{DateTime, Utc};

/// The maximum number of times.
pub(super) const MOST: u32 = 100_000;

/// A limit on the number of firings.
#[derive(Clone, Debug)]
pub(super) struct Times {
    pub(super) count: u32,
    /// When the schedule came in force, once that is known. Firings after it count, if the schedule
    /// has no start.
    pub(super) since: Option<DateTime<Utc>>,
    /// The last firing, which is looked for once and shared by clones: there may be a hundred
    /// thousand before it.
    last: Arc<OnceLock<Option<DateTime<Utc>>>>,
}

impl Times {
    pub(super) fn new(count: u32, since: Option<DateTime<Utc>>) -> Self {
        Self {
            count,
            since,
            last: Arc::default(),
        }
    }

    /// Returns the last firing, which is counted by `find` the first time.
    pub(super) fn last(
        &self,
        find: impl FnOnce() -> Option<DateTime<Utc>>,
    ) -> Option<DateTime<Utc>> {
        *self.last.get_or_init(find)
    }
}

impl PartialEq for Times {
    fn eq(&self, other: &Self) -> bool {
        (self.count, self.since) == (other.count, other.since)
    }
}
