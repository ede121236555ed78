use std::sync::Arc;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::exceptions::{Exception, Exceptions};
use super::rule::Rule;
use super::span::{self, EARLIEST, LATEST};
use super::times::Times;

/// The maximum number of firings in a row that exceptions by schedules leave out. A schedule whose
/// firings are all left out ends there.
const MOST_EXCEPTED: u32 = 100_000;

/// The maximum number of firings that are left out while the firings of [`Times`] are counted.
const MOST_EXCEPTED_OF_TIMES: u32 = 10 * MOST_EXCEPTED;

/// The parts of a schedule that determine when it fires.
#[derive(Clone, Debug)]
pub(super) struct Timing {
    pub(super) rule: Rule,
    /// Its time zone; without one of its own, it is in UTC, or in that of the schedule of which it
    /// is an exception.
    zone: Option<Tz>,
    pub(super) start: Option<DateTime<Utc>>,
    pub(super) end: Option<DateTime<Utc>>,
    exceptions: Option<Arc<Exceptions>>,
    times: Option<Times>,
}

impl Timing {
    pub(super) const fn new(rule: Rule) -> Self {
        Self {
            rule,
            zone: None,
            start: None,
            end: None,
            exceptions: None,
            times: None,
        }
    }

    pub(super) fn zone(&self) -> Tz {
        self.zone.unwrap_or(Tz::UTC)
    }

    pub(super) fn has_no_zone(&self) -> bool {
        self.zone.is_none()
    }

    pub(super) fn set_zone(&mut self, zone: Tz) {
        self.zone = Some(zone);
        if let Some(exceptions) = &mut self.exceptions {
            Arc::make_mut(exceptions).follow(zone);
        }
    }

    pub(super) fn exceptions(&self) -> Option<&Exceptions> {
        self.exceptions.as_deref()
    }

    pub(super) fn add_exceptions(&mut self, mut added: Exceptions) {
        added.follow(self.zone());
        if !added.is_empty() {
            Arc::make_mut(self.exceptions.get_or_insert_default()).extend(added);
        }
    }

    /// Returns the maximum number of firings.
    pub(super) fn times(&self) -> Option<u32> {
        self.times.as_ref().map(|times| times.count)
    }

    pub(super) fn set_times(&mut self, count: u32) {
        self.times = Some(Times::new(count, None));
    }

    /// Forgets which firing is the last one, after something else was changed.
    pub(super) fn recount(&mut self) {
        if let Some(Times { count, since, .. }) = self.times {
            self.times = Some(Times::new(count, since));
        }
    }

    /// Returns this schedule as it is in force since an instant: its times are counted from there,
    /// if it has no start.
    pub(super) fn in_force(&self, since: DateTime<Utc>) -> Self {
        let mut timing = self.clone();
        if let (Some(times), None) = (&self.times, self.start) {
            timing.times = Some(Times::new(times.count, Some(since)));
        }
        timing
    }

    pub(super) fn unbounded(&self) -> Self {
        Self {
            start: None,
            end: None,
            times: None,
            ..self.clone()
        }
    }

    /// Returns the problem of a timetable, which has ended it.
    pub(super) fn fault(&self) -> Option<&str> {
        self.rule.fault().or_else(|| self.fault_of_exceptions())
    }

    /// Returns the problem of a timetable by which firings are left out. It is not known any more
    /// which ones these are, so the schedule ends.
    fn fault_of_exceptions(&self) -> Option<&str> {
        self.exceptions()?.fault()
    }

    pub(super) fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let (begin, last) = self.bounds()?;
        self.find_next(after.max(begin), last, &mut { MOST_EXCEPTED })
    }

    pub(super) fn previous(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let (begin, last) = self.bounds()?;
        let mut before = before.min(span::just_after(last));
        let mut left = MOST_EXCEPTED;
        while before > begin {
            let fire = self.rule.previous(self.zone(), before)?;
            if fire <= begin {
                return None;
            }
            before = match self.exception(fire) {
                None if self.fault_of_exceptions().is_some() => return None,
                None => return Some(fire),
                Some(Exception::Days(first, _)) => first,
                Some(Exception::Schedule) => {
                    left = left.checked_sub(1)?;
                    fire
                }
            };
        }
        None
    }

    /// Returns `true` if it fires at an instant.
    pub(super) fn has(&self, at: DateTime<Utc>) -> bool {
        let is_between = |(begin, last)| begin < at && at <= last;
        self.bounds().is_some_and(is_between)
            && self.rule.next(self.zone(), span::just_before(at)) == Some(at)
            && self.exception(at).is_none()
            && self.fault_of_exceptions().is_none()
    }

    fn exception(&self, fire: DateTime<Utc>) -> Option<Exception> {
        self.exceptions()?.exception(self.zone(), fire)
    }

    /// Returns the instant after which it may fire, and the last one at which it may, or `None` if
    /// it never fires.
    fn bounds(&self) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        let (begin, last) = self.uncounted_bounds();
        match &self.times {
            Some(times) if self.start.is_some() || times.since.is_some() => {
                let nth = times.last(|| self.nth(times.count, begin, last))?;
                Some((begin, nth))
            }
            _ => Some((begin, last)),
        }
    }

    fn uncounted_bounds(&self) -> (DateTime<Utc>, DateTime<Utc>) {
        let start = self.start.map(span::just_before);
        let since = || self.times.as_ref().and_then(|times| times.since);
        let begin = start.or_else(since).unwrap_or(DateTime::<Utc>::MIN_UTC);
        let last = self.end.unwrap_or(LATEST);
        (begin.max(span::just_before(EARLIEST)), last.min(LATEST))
    }

    /// Returns the last one of the first firings after an instant, as many as are counted.
    fn nth(&self, count: u32, begin: DateTime<Utc>, last: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut left = MOST_EXCEPTED_OF_TIMES;
        let mut nth = None;
        for _ in 0..count {
            match self.find_next(nth.unwrap_or(begin), last, &mut left) {
                Some(fire) => nth = Some(fire),
                None => break,
            }
        }
        nth
    }

    /// Returns the first firing after an instant up to the last one. Of the firings that other
    /// schedules leave out, it skips at most those `left`.
    fn find_next(
        &self,
        mut after: DateTime<Utc>,
        last: DateTime<Utc>,
        left: &mut u32,
    ) -> Option<DateTime<Utc>> {
        while after < last {
            let fire = self.rule.next(self.zone(), after)?;
            if fire > last {
                return None;
            }
            after = match self.exception(fire) {
                None if self.fault_of_exceptions().is_some() => return None,
                None => return Some(fire),
                Some(Exception::Days(_, end)) => span::just_before(end),
                Some(Exception::Schedule) => {
                    *left = left.checked_sub(1)?;
                    fire
                }
            };
        }
        None
    }
}

/// Without a time zone is equal to UTC.
impl PartialEq for Timing {
    fn eq(&self, other: &Self) -> bool {
        (&self.rule, self.zone(), self.start, self.end)
            == (&other.rule, other.zone(), other.start, other.end)
            && (&self.exceptions, &self.times) == (&other.exceptions, &other.times)
    }
}
