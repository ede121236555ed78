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

    /// Creates the union of schedules of which it does not matter since when they are in force: the
    /// limits of those without a start do not apply.
    pub(crate) fn uncounted(schedules: Vec<Schedule>) -> Self {
        let timings = schedules.iter().map(|schedule| schedule.timing.clone());
        let timings = timings.collect();
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

    /// Returns the first day on which one of the schedules may fire, each in its own time zone, and
    /// the instant at which that one starts, if each of them has a start.
    pub(crate) fn start(&self) -> Option<(NaiveDate, DateTime<Utc>)> {
        let start = |timing: &Timing| {
            let start = timing.start?;
            Some((start.with_timezone(&timing.zone()).date_naive(), start))
        };
        self.0.timings.iter().map(start).min().flatten()
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

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use chrono_tz::Europe::Zurich;
    use proptest::prelude::*;

    use super::super::random::{self, ZONES, instant};
    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn day(day: u32, hour: u32) -> DateTime<Utc> {
        let date = NaiveDate::from_ymd_opt(2026, 1, day).unwrap();
        date.and_hms_opt(hour, 0, 0).unwrap().and_utc()
    }

    fn daily(hour: u32) -> Schedule {
        Schedule::cron(&format!("0 {hour} * * *")).unwrap()
    }

    fn union(schedules: impl IntoIterator<Item = Schedule>) -> ScheduleUnion {
        ScheduleUnion::new(schedules.into_iter().collect(), day(1, 0))
    }

    fn interval(start: DateTime<Utc>, end: DateTime<Utc>) -> Interval {
        Interval { start, end }
    }

    #[test]
    fn ticks_are_those_of_all_schedules_each_once() {
        let union = union([
            daily(6),
            daily(18),
            Schedule::cron("0 6,12 * * *").unwrap().end(day(1, 12)),
            Schedule::once(day(2, 6)),
        ]);
        let ticks: Vec<_> = union.ticks(day(1, 0), day(2, 18)).collect();
        let expected = [day(1, 6), day(1, 12), day(1, 18), day(2, 6), day(2, 18)];
        assert_eq!(ticks, expected);
        assert_eq!(union.ticks(day(1, 6), day(1, 6)).count(), 0);
        assert_eq!(union.ticks(day(1, 5), day(1, 6)).count(), 1);
        assert_eq!(union.next(day(1, 6)), Some(day(1, 12)));
        assert_eq!(union.previous(day(2, 6)), Some(day(1, 18)));
        assert_eq!(union.up_to(day(2, 6)), Some(day(2, 6)));
        assert_eq!(union.up_to(day(1, 12)), Some(day(1, 12)));
        assert_ne!(union.up_to(day(2, 12)), Some(day(2, 12)));
    }

    #[test]
    fn interval_goes_from_tick_to_tick_of_the_union() {
        let both = union([
            daily(6).start(day(2, 6)),
            daily(18).start(day(3, 0)).end(day(4, 0)),
        ]);
        for (tick, since) in [
            // the first tick has a whole interval, by the schedules without their bounds
            (day(2, 6), day(1, 18)),
            (day(3, 6), day(2, 6)),
            (day(3, 18), day(3, 6)),
            (day(4, 6), day(3, 18)),
            (day(5, 6), day(4, 6)),
        ] {
            assert_eq!(both.interval_of(tick), interval(since, tick));
        }
        // an instant that is not a tick
        assert_eq!(
            both.interval_of(day(3, 12)),
            interval(day(3, 6), day(3, 12))
        );
        // once has an empty interval only if there is nothing before
        let at = day(2, 0);
        let once = Schedule::once(at);
        assert_eq!(union([once.clone()]).interval_of(at), interval(at, at));
        assert_eq!(
            union([once, daily(6)]).interval_of(at),
            interval(day(1, 6), at)
        );
    }

    #[test]
    fn last_complete_interval_is_that_of_the_last_tick() {
        let ended = union([
            daily(6).start(day(2, 6)).end(day(4, 0)),
            daily(18).end(day(3, 0)),
        ]);
        let latest = |now| ended.last_complete_interval(now);
        assert_eq!(latest(day(20, 0)), Some(interval(day(2, 18), day(3, 6))));
        assert_eq!(latest(day(2, 18)), Some(interval(day(2, 6), day(2, 18))));
        // before the first tick: the bounds have no effect
        let later = union([daily(6).start(day(20, 0))]);
        assert_eq!(
            later.last_complete_interval(day(3, 12)),
            Some(interval(day(2, 6), day(3, 6)))
        );
        assert_eq!(union([]).last_complete_interval(day(3, 0)), None);
        assert_eq!(
            union([Schedule::once(day(3, 0))]).last_complete_interval(day(2, 0)),
            None
        );
    }

    #[test]
    fn times_without_a_start_are_counted_from_when_the_union_is_in_force() {
        let schedule = daily(6).times(2);
        let union = ScheduleUnion::new(vec![schedule.clone()], day(10, 6));
        let ticks: Vec<_> = union.ticks(day(1, 0), day(31, 0)).collect();
        assert_eq!(ticks, [day(11, 6), day(12, 6)]);
        assert_eq!(
            union.interval_of(day(11, 6)),
            interval(day(10, 6), day(11, 6))
        );
        assert_eq!(
            union.last_complete_interval(day(31, 0)),
            Some(interval(day(11, 6), day(12, 6)))
        );
        let started = schedule.clone().start(day(20, 6));
        let union = ScheduleUnion::new(vec![started], day(10, 6));
        let ticks: Vec<_> = union.ticks(day(1, 0), day(31, 0)).collect();
        assert_eq!(ticks, [day(20, 6), day(21, 6)]);
        // on its own, it is not yet in force
        assert_eq!(schedule.after(day(1, 0)).take(9).count(), 9);
    }

    #[test]
    fn dates_are_those_of_each_schedule_and_the_zone_is_the_common_one() {
        let late = Schedule::cron("30 23 * * *").unwrap();
        let both = union([late.clone(), late.clone().timezone(Zurich)]);
        let date = NaiveDate::from_ymd_opt(2026, 1, 5).unwrap();
        let fires: Vec<_> = both.fires_between(date..=date).collect();
        let expected = ["2026-01-05T22:30:00Z", "2026-01-05T23:30:00Z"].map(utc);
        assert_eq!(fires, expected);
        assert_eq!(both.zone(), Tz::UTC);
        let zurich = late.timezone(Zurich);
        assert_eq!(union([zurich.clone(), zurich]).zone(), Zurich);
        assert_eq!(
            both.to_string(),
            "30 23 * * * and 30 23 * * * in Europe/Zurich"
        );
    }

    #[test]
    fn jitter_of_a_tick_is_the_smallest_of_its_schedules() {
        let union = union([
            daily(6).jitter("5m"),
            Schedule::cron("0 */6 * * *").unwrap().jitter("1m"),
            daily(18),
            daily(7).jitter("1h"),
        ]);
        let minutes = |tick| union.jitter(tick).as_secs() / 60;
        let hours = [6, 7, 12, 18, 19].map(|hour| minutes(day(3, hour)));
        assert_eq!(hours, [1, 60, 1, 0, 0]);
        assert_eq!(union.longest_jitter(), Duration::from_secs(3600));
        assert_eq!(self::union([]).longest_jitter(), Duration::ZERO);
    }

    fn case() -> impl Strategy<Value = (Vec<Schedule>, DateTime<Utc>, DateTime<Utc>)> {
        (0..ZONES.len()).prop_flat_map(|place| {
            let schedules = prop::collection::vec(random::schedule(place), 1..4);
            let (_, day) = ZONES[place];
            (schedules, instant(day), instant(day))
        })
    }

    proptest! {
        #[test]
        fn intervals_have_no_gaps_and_do_not_overlap((schedules, since, from) in case()) {
            let union = ScheduleUnion::new(schedules.clone(), since);
            let until = from + TimeDelta::days(6);
            let ticks: Vec<_> = union.ticks(from, until).collect();
            prop_assert!(ticks.is_sorted_by(|one, other| one < other), "{ticks:?}");
            let mut each: Vec<_> = schedules
                .iter()
                .map(|schedule| ScheduleUnion::new(vec![schedule.clone()], since))
                .flat_map(|alone| alone.ticks(from, until).collect::<Vec<_>>())
                .collect();
            each.sort_unstable();
            each.dedup();
            prop_assert_eq!(&ticks, &each);
            let mut last = union.up_to(from);
            for tick in ticks {
                let interval = union.interval_of(tick);
                if let Some(last) = last {
                    prop_assert_eq!((interval.start, interval.end), (last, tick));
                }
                prop_assert!(interval.start <= tick, "{tick}");
                prop_assert_eq!(union.up_to(tick), Some(tick));
                prop_assert_eq!(union.up_to(tick), Some(tick));
                prop_assert_eq!(union.previous(tick), last);
                prop_assert_eq!(union.next(span::just_before(tick)), Some(tick));
                prop_assert_eq!(union.last_complete_interval(tick), Some(interval));
                last = Some(tick);
            }
            prop_assert_eq!(union.up_to(until), last);
        }
    }
}
