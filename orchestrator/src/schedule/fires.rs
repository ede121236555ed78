use std::iter::FusedIterator;

use chrono::{DateTime, Utc};

use super::timing::Timing;

/// An iterator over the firings of a schedule from an instant on. See
/// [`Schedule::after`](super::Schedule::after).
#[derive(Clone, Debug)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct Fires {
    pub(super) timing: Timing,
    /// What was given last, or where it begins.
    pub(super) last: Option<DateTime<Utc>>,
}

impl Iterator for Fires {
    type Item = DateTime<Utc>;

    fn next(&mut self) -> Option<DateTime<Utc>> {
        self.last = self.timing.next(self.last?);
        self.last
    }
}

impl FusedIterator for Fires {}

/// An iterator over the firings of a schedule from an instant back. See
/// [`Schedule::before`](super::Schedule::before) and [`Schedule::up_to`](super::Schedule::up_to).
#[derive(Clone, Debug)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct PastFires {
    pub(super) timing: Timing,
    /// What was given last, or where it begins.
    pub(super) last: Option<DateTime<Utc>>,
}

impl Iterator for PastFires {
    type Item = DateTime<Utc>;

    fn next(&mut self) -> Option<DateTime<Utc>> {
        self.last = self.timing.previous(self.last?);
        self.last
    }
}

impl FusedIterator for PastFires {}
