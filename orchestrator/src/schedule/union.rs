use std::fmt;
use std::iter;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;

use super::Schedule;
use super::span;
use super::timing::Timing;
use crate::task::Interval;

/// The schedules of a deployment: their ticks are those of all of them, each once, and an interval
/// goes from one tick to the next, whichever schedules have them.
///
/// It is cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ScheduleUnion(Arc<Members>);

#[derive(Debug)]
struct Members {
    schedules: Vec<Schedule>,
    /// When each schedule fires, in the same order, with its times counted.
    timings: Vec<Timing>,
}

impl ScheduleUnion {
    /// Creates the union of schedules that are in force since an instant: the limits of those
    /// without a start count ticks after it, and they have no ticks before.
    pub(crate) fn new(schedules: Vec<Schedule>, since: DateTime<Utc>) -> Self {
        let in_force = |schedule: &Schedule| schedule.timing.in_force(since);
        let timings = schedules.iter().map(in_force).collect();
        Self(Arc::new(Members { schedules, timings }))
    }

    /// Returns the schedules as they were given.
    pub(crate) fn schedules(&self) -> &[Schedule] {
        &self.0.schedules
    }

    /// Returns the first tick after an instant.
    pub(crate) fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let next = self
            .0
            .timings
            .iter()
            .filter_map(|timing| timing.next(after));
        next.min()
    }

    /// Returns the last tick before an instant.
    pub(crate) fn previous(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        previous(&self.0.timings, before)
    }

    /// Returns the last tick up to an instant, including the instant itself.
    pub(crate) fn up_to(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.previous(span::just_after(instant))
    }

    /// Returns the ticks after an instant up to another one, which is included: each once, in
    /// order.
    pub(crate) fn ticks(
        &self,
        after: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> impl Iterator<Item = DateTime<Utc>> + use<'_> {
        let each = self.0.timings.iter().map(move |timing| {
            let ticks = iter::successors(timing.next(after), |tick| timing.next(*tick));
            ticks.take_while(move |tick| *tick <= until)
        });
        merged(each.collect())
    }

    /// Returns `true` if there is a tick at an instant.
    pub(crate) fn has(&self, tick: DateTime<Utc>) -> bool {
        self.0.timings.iter().any(|timing| timing.has(tick))
    }

    /// Returns the interval of a tick: from the tick before to this one.
    ///
    /// The first tick has a whole interval, too, by the schedules without their starts, ends and
    /// limits. The tick of a lone [`once`](Schedule::once) has an empty one.
    pub(crate) fn interval_of(&self, tick: DateTime<Utc>) -> Interval {
        interval_of(&self.0.timings, tick)
    }

    /// Returns the interval of the last tick up to now; before the first tick, that of the last
    /// tick of the schedules without their starts, ends and limits.
    pub(crate) fn last_complete_interval(&self, now: DateTime<Utc>) -> Option<Interval> {
        last_complete_interval(&self.0.timings, now)
    }

    /// Returns the ticks on the days from the first to the last, both inclusive, each schedule's in
    /// its own time zone: each once, in order.
    pub(crate) fn fires_between(
        &self,
        dates: RangeInclusive<NaiveDate>,
    ) -> impl Iterator<Item = DateTime<Utc>> + use<> {
        let of_timing = |timing: &Timing| Schedule::of_timing(timing.clone());
        let each = self.0.timings.iter().map(of_timing);
        let each = each.map(|schedule| schedule.fires_between(dates.clone()));
        merged(each.collect())
    }

    /// Returns the time zone of the schedules, or UTC if they have different ones.
    pub(crate) fn zone(&self) -> Tz {
        let mut zones = self.schedules().iter().map(Schedule::zone);
        let first = zones.next().unwrap_or(Tz::UTC);
        match zones.all(|zone| zone == first) {
            true => first,
            false => Tz::UTC,
        }
    }

    /// Returns the maximum delay of a tick's run: the smallest one of the schedules that have this
    /// tick, so that none of their runs is later than it may be. It is zero for other instants.
    pub(crate) fn jitter(&self, tick: DateTime<Utc>) -> Duration {
        let with_tick = iter::zip(self.schedules(), &self.0.timings)
            .filter(|(_, timing)| timing.has(tick))
            .map(|(schedule, _)| schedule.jitter);
        with_tick.min().unwrap_or_default()
    }

    /// Returns the largest delay of any of the runs.
    pub(crate) fn longest_jitter(&self) -> Duration {
        let jitters = self.schedules().iter().map(|schedule| schedule.jitter);
        jitters.max().unwrap_or_default()
    }

    /// Returns the problem of the first timetable that has failed. Its schedule has no further
    /// ticks; the others do.
    pub(crate) fn fault(&self) -> Option<String> {
        self.schedules().iter().find_map(Schedule::fault)
    }
}

impl fmt::Display for ScheduleUnion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, schedule) in self.schedules().iter().enumerate() {
            let separator = if place > 0 { " and " } else { "" };
            write!(f, "{separator}{schedule}")?;
        }
        Ok(())
    }
}

fn previous(timings: &[Timing], before: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let previous = timings.iter().filter_map(|timing| timing.previous(before));
    previous.max()
}

/// Returns the interval of a tick of schedules. See [`ScheduleUnion::interval_of`].
pub(super) fn interval_of(timings: &[Timing], tick: DateTime<Utc>) -> Interval {
    let start = previous(timings, tick).or_else(|| previous(&unbounded(timings), tick));
    Interval {
        start: start.unwrap_or(tick),
        end: tick,
    }
}

/// Returns the last interval of schedules that has ended. See
/// [`ScheduleUnion::last_complete_interval`].
pub(super) fn last_complete_interval(timings: &[Timing], now: DateTime<Utc>) -> Option<Interval> {
    let before = span::just_after(now);
    let tick = previous(timings, before).or_else(|| previous(&unbounded(timings), before))?;
    Some(interval_of(timings, tick))
}

fn unbounded(timings: &[Timing]) -> Vec<Timing> {
    timings.iter().map(Timing::unbounded).collect()
}

/// Merges sequences, each in order, into one in order, in which nothing occurs twice.
fn merged<I: Iterator<Item = DateTime<Utc>>>(
    sequences: Vec<I>,
) -> impl Iterator<Item = DateTime<Utc>> {
    let mut sequences: Vec<_> = sequences.into_iter().map(Iterator::peekable).collect();
    iter::from_fn(move || {
        let heads = sequences
            .iter_mut()
            .filter_map(|ticks| ticks.peek().copied());
        let first = heads.min()?;
        for ticks in &mut sequences {
            while ticks.next_if_eq(&first).is_some() {}
        }
        Some(first)
    })
}
