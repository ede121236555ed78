//! When runs are due: crontab expressions, periods and single instants, in any time zone.
//!
//! This module is pure: the caller passes every instant. [`Cron`] parses expressions, `calendar`
//! finds their firings across the clock changes of a zone, and a flow is served with a
//! [`Schedule`].

mod calendar;
#[cfg(test)]
mod reference;
mod rule;
#[cfg(test)]
mod vectors;
#[cfg(test)]
mod zones;

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use chrono::{DateTime, Datelike as _, NaiveDate, SecondsFormat, TimeDelta, Utc};
use chrono_tz::Tz;
#[doc(inline)]
pub use orchestrator_grammar::cron::{Cron, CronError, CronField};
use serde_json::{Map, Value};

#[cfg(feature = "cli")]
pub(crate) use calendar::ClockChange;
pub use rule::{Fires, PastFires};
use rule::{Rule, Timing};

use crate::flow::{FlowDef, ScheduleDef};
use crate::task::Interval;

/// The schedule of a flow: a crontab expression, equal periods, or a single instant.
///
/// A schedule is plain data: its methods take and return instants, and do not read a clock.
///
/// **Time zone.** UTC, unless [`timezone`](Self::timezone) sets another one. Jobs at fixed times
/// run once a day, also when the clocks change: a time that is skipped in spring fires at the first
/// instant after the gap, and one that occurs twice in autumn at its first occurrence. Expressions
/// whose hour or minute begins with `*`, and periods, follow elapsed time.
///
/// **Intervals.** The run of a firing is for the interval `[previous firing, this one)`: a daily
/// run at six has the day that ended then. See [`interval_of`](Self::interval_of).
///
/// # Examples
///
/// ```
/// # use orchestrator::Schedule;
/// use chrono::{DateTime, Utc};
///
/// let schedule = Schedule::cron("0 6 * * MON-FRI")?.timezone(chrono_tz::Europe::Zurich);
/// let friday: DateTime<Utc> = "2026-03-27T12:00:00Z".parse()?;
/// let next: Vec<String> = schedule.after(friday).take(2).map(|fire| fire.to_rfc3339()).collect();
/// assert_eq!(next, ["2026-03-30T04:00:00+00:00", "2026-03-31T04:00:00+00:00"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    rule: Rule,
    zone: Tz,
    start: Option<DateTime<Utc>>,
    end: Option<DateTime<Utc>>,
    parameters: Option<Arc<Map<String, Value>>>,
}

/// An error in a schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The text is not a crontab expression.
    #[error(transparent)]
    Cron(#[from] CronError),
    /// There is no time zone with this name.
    #[error("expected the IANA name of a time zone, such as `Europe/Zurich`, got `{name}`")]
    Zone {
        /// The name.
        name: String,
    },
    /// The period of [`Schedule::every`] is zero.
    #[error(
        "expected a period greater than zero, got `0s`: for a single run, use `Schedule::once(…)`"
    )]
    NoPeriod,
}

impl Schedule {
    /// Creates a schedule from a crontab expression: five fields, or six with seconds first. See
    /// [`Cron`].
    ///
    /// Use [`cron!`](crate::cron!) for an expression in source code, to check it at compile time.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is not a crontab expression, or if it can never fire.
    pub fn cron(expression: &str) -> Result<Self, CronError> {
        Cron::parse(expression).map(Self::from)
    }

    /// Creates a schedule that fires in equal periods of elapsed time.
    ///
    /// The firings do not depend on when the process started: one of them is the Unix epoch, or the
    /// [`anchor`](Self::anchor). So `every` hour is on the hour in UTC. A day is 24 hours here: for
    /// the same time of each day in a zone whose clocks change, use [`cron`](Self::cron).
    ///
    /// # Errors
    ///
    /// Returns [`ScheduleError::NoPeriod`] if the period is zero.
    pub fn every(period: Duration) -> Result<Self, ScheduleError> {
        match period.is_zero() {
            true => Err(ScheduleError::NoPeriod),
            false => Ok(Self::new(Rule::Every {
                period,
                anchor: DateTime::UNIX_EPOCH,
            })),
        }
    }

    /// Creates a schedule that fires once.
    pub fn once(at: DateTime<Utc>) -> Self {
        Self::new(Rule::Once(at))
    }

    /// Creates the schedule of a flow's attribute.
    ///
    /// # Errors
    ///
    /// Returns an error only if the build uses another version of the list of time zones, which
    /// lacks the zone: the attribute was checked at compile time.
    pub(crate) fn of_flow(definition: &FlowDef) -> Option<Result<Self, ScheduleError>> {
        let ScheduleDef { cron, timezone } = definition.schedule?;
        Some(
            Self::cron(cron)
                .map_err(ScheduleError::from)
                .and_then(|schedule| {
                    let zone = timezone.parse().map_err(|_| ScheduleError::Zone {
                        name: timezone.to_owned(),
                    })?;
                    Ok(schedule.timezone(zone))
                }),
        )
    }

    const fn new(rule: Rule) -> Self {
        Self {
            rule,
            zone: Tz::UTC,
            start: None,
            end: None,
            parameters: None,
        }
    }

    /// Creates the schedule of [`cron!`](crate::cron), also in constants.
    pub(crate) const fn of(cron: Cron) -> Self {
        Self::new(Rule::Cron(cron))
    }

    /// Moves the firings of [`every`](Self::every) so that one of them, past or future, is at this
    /// instant. The default is the Unix epoch. Does nothing for other schedules.
    #[must_use]
    pub fn anchor(mut self, at: DateTime<Utc>) -> Self {
        if let Rule::Every { anchor, .. } = &mut self.rule {
            *anchor = at;
        }
        self
    }

    /// Sets the time zone of a crontab expression and of the dates of
    /// [`fires_between`](Self::fires_between). The default is UTC.
    #[must_use]
    pub fn timezone(mut self, zone: Tz) -> Self {
        self.zone = zone;
        self
    }

    /// Sets the first instant at which it may fire, inclusive. It has no start by default.
    ///
    /// The interval of the first firing still begins at the firing that would have come before:
    /// `start` limits when runs are created, not their intervals.
    #[must_use]
    pub fn start(mut self, at: DateTime<Utc>) -> Self {
        self.start = Some(at);
        self
    }

    /// Sets the last instant at which it may fire, inclusive. It has no end by default. A schedule
    /// that ends before it starts never fires.
    ///
    /// The end limits which runs exist, not when they are created: firings up to it that were
    /// missed, because no process served the schedule or the flow was paused, get their runs
    /// afterwards, according to the policy for [missed runs](crate::Missed). A schedule with a
    /// changed end is a new one, which has no missed ticks.
    #[must_use]
    pub fn end(mut self, at: DateTime<Utc>) -> Self {
        self.end = Some(at);
        self
    }

    /// Sets parameters of the flow for the runs of this schedule, by name. They are checked when
    /// the flow is served.
    #[must_use]
    pub fn parameters(mut self, parameters: Map<String, Value>) -> Self {
        self.parameters = (!parameters.is_empty()).then(|| Arc::new(parameters));
        self
    }

    /// Returns the time zone.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// Returns the parameters of its runs.
    pub fn given_parameters(&self) -> &Map<String, Value> {
        static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
        self.parameters.as_deref().unwrap_or(&NONE)
    }

    /// Returns the rule by which it fires, without zone, bounds and parameters: `0 6 * * *`,
    /// `every 15m`, `once at 2026-03-01T06:00:00Z`.
    pub fn name(&self) -> String {
        match self.rule {
            Rule::Cron(cron) => cron.to_string(),
            Rule::Every { period, .. } => format!("every {}", in_units(period)),
            Rule::Once(at) => format!("once at {}", instant(at)),
        }
    }

    /// Returns the crontab expression, if it has one.
    #[cfg(feature = "cli")]
    pub(crate) fn expression(&self) -> Option<&Cron> {
        match &self.rule {
            Rule::Cron(cron) => Some(cron),
            Rule::Every { .. } | Rule::Once(_) => None,
        }
    }

    /// Returns the effect of a clock change on one of its firings, if there is any.
    #[cfg(feature = "cli")]
    pub(crate) fn clock_change(&self, fire: DateTime<Utc>) -> Option<ClockChange> {
        calendar::change_at(self.expression(), self.zone, fire)
    }

    /// Returns the firings after an instant, the earliest first, excluding the instant itself.
    pub fn after(&self, instant: DateTime<Utc>) -> Fires {
        Fires {
            timing: self.timing(),
            last: Some(instant),
        }
    }

    /// Returns the firings before an instant, the latest first, excluding the instant itself.
    pub fn before(&self, instant: DateTime<Utc>) -> PastFires {
        PastFires {
            timing: self.timing(),
            last: Some(instant),
        }
    }

    /// Returns the firings up to an instant, the latest first, including the instant itself.
    pub fn up_to(&self, instant: DateTime<Utc>) -> PastFires {
        match instant.checked_add_signed(TimeDelta::nanoseconds(1)) {
            Some(next) => self.before(next),
            None => self.before(instant),
        }
    }

    /// Returns the first firing after an instant.
    pub fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.after(after).next()
    }

    /// Returns the last firing before an instant.
    pub fn previous(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.before(before).next()
    }

    /// Returns the firings on the days from the first to the last, both inclusive, in the
    /// schedule's time zone. A backfill of these days creates runs for them.
    ///
    /// A firing belongs to its local date, even if a clock change moved it there.
    pub fn fires_between(
        &self,
        dates: RangeInclusive<NaiveDate>,
    ) -> impl Iterator<Item = DateTime<Utc>> + use<> {
        let zone = self.zone;
        let (first, last) = dates.clone().into_inner();
        // a day at an end of the calendar may reach beyond it; the other end is far away, and all
        // firings are in between
        let (earliest, latest) = (DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC);
        let is_late = |date: NaiveDate| date.year() > 0;
        let from = calendar::span_of(zone, first).map(|(from, _)| from);
        let from = from.unwrap_or(if is_late(first) {
            latest - TimeDelta::days(2)
        } else {
            earliest
        });
        let until = calendar::span_of(zone, last).map(|(_, until)| until);
        let until = until.unwrap_or(if is_late(last) {
            latest
        } else {
            earliest + TimeDelta::days(2)
        });
        let before = from
            .checked_sub_signed(TimeDelta::nanoseconds(1))
            .unwrap_or(from);
        let fires = self.after(before).take_while(move |fire| *fire < until);
        fires.filter(move |fire| dates.contains(&calendar::date_of(zone, *fire)))
    }

    /// Returns the firings on a day in the schedule's time zone:
    /// [`fires_between`](Self::fires_between) for one day.
    pub fn date_fires(&self, date: NaiveDate) -> impl Iterator<Item = DateTime<Utc>> + use<> {
        self.fires_between(date..=date)
    }

    /// Returns the interval of a firing: from the previous firing to this one.
    ///
    /// [`start`](Self::start) and [`end`](Self::end) do not shorten it: the first firing of a
    /// schedule has a whole interval like any other. The interval of [`once`](Self::once) is empty,
    /// like that of Airflow's `@once`. For an instant that is not a firing, it begins at the last
    /// firing.
    pub fn interval_of(&self, fire: DateTime<Utc>) -> Interval {
        let previous = match self.rule {
            Rule::Once(_) => None,
            Rule::Cron(_) | Rule::Every { .. } => self.unbounded().previous(fire),
        };
        Interval {
            start: previous.unwrap_or(fire),
            end: fire,
        }
    }

    /// Returns the last interval that has ended by now, which is that of a manual run. Returns
    /// `None` for [`once`](Self::once) before its time.
    ///
    /// Like all intervals, it does not depend on [`start`](Self::start) and [`end`](Self::end).
    pub fn last_complete_interval(&self, now: DateTime<Utc>) -> Option<Interval> {
        let now = now
            .checked_add_signed(TimeDelta::nanoseconds(1))
            .unwrap_or(now);
        self.unbounded()
            .previous(now)
            .map(|fire| self.interval_of(fire))
    }

    fn timing(&self) -> Timing {
        Timing {
            rule: self.rule,
            zone: self.zone,
            start: self.start,
            end: self.end,
        }
    }

    fn unbounded(&self) -> Timing {
        Timing {
            start: None,
            end: None,
            ..self.timing()
        }
    }
}

impl From<Cron> for Schedule {
    fn from(cron: Cron) -> Self {
        Self::of(cron)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        if let Rule::Every { anchor, .. } = self.rule
            && anchor != DateTime::UNIX_EPOCH
        {
            write!(f, " anchored at {}", instant(anchor))?;
        }
        if self.zone != Tz::UTC {
            write!(f, " in {}", self.zone)?;
        }
        if let Some(start) = self.start {
            write!(f, " from {}", instant(start))?;
        }
        if let Some(end) = self.end {
            write!(f, " until {}", instant(end))?;
        }
        Ok(())
    }
}

fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Formats a period like in attributes: `1h30m`.
fn in_units(period: Duration) -> String {
    if !period.subsec_nanos().is_multiple_of(1_000_000) {
        return format!("{period:?}");
    }
    let mut rest = period.as_millis();
    let mut written = String::new();
    for (unit, length) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ] {
        if rest >= length {
            written.push_str(&format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    written
}

/// A type that a flow can be served with: a [`Schedule`], a crontab expression, or the result of a
/// constructor.
///
/// Errors are reported when the flow is served.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a schedule",
    label = "expected a `Schedule` or a crontab expression",
    note = "write for example `\"0 6 * * *\"`, `cron!(\"0 6 * * *\")` or `Schedule::every(Duration::from_secs(60))`"
)]
pub trait IntoSchedule {
    /// Converts to a schedule, or returns the error.
    fn into_schedule(self) -> Result<Schedule, ScheduleError>;
}

impl IntoSchedule for Schedule {
    fn into_schedule(self) -> Result<Schedule, ScheduleError> {
        Ok(self)
    }
}

impl IntoSchedule for &Schedule {
    fn into_schedule(self) -> Result<Schedule, ScheduleError> {
        Ok(self.clone())
    }
}

impl IntoSchedule for Cron {
    fn into_schedule(self) -> Result<Schedule, ScheduleError> {
        Ok(self.into())
    }
}

impl IntoSchedule for &str {
    fn into_schedule(self) -> Result<Schedule, ScheduleError> {
        Ok(Schedule::cron(self)?)
    }
}

impl IntoSchedule for &String {
    fn into_schedule(self) -> Result<Schedule, ScheduleError> {
        self.as_str().into_schedule()
    }
}

impl IntoSchedule for String {
    fn into_schedule(self) -> Result<Schedule, ScheduleError> {
        self.as_str().into_schedule()
    }
}

impl<E: Into<ScheduleError>> IntoSchedule for Result<Schedule, E> {
    fn into_schedule(self) -> Result<Schedule, ScheduleError> {
        self.map_err(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::America::New_York;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn six() -> Schedule {
        Schedule::cron("0 6 * * *").unwrap()
    }

    fn quarter() -> Schedule {
        Schedule::every(Duration::from_secs(900)).unwrap()
    }

    fn interval(start: DateTime<Utc>, end: DateTime<Utc>) -> Interval {
        Interval { start, end }
    }

    #[test]
    fn a_bound_is_part_of_the_schedule() {
        let schedule = six()
            .start(utc("2026-01-02T06:00:00Z"))
            .end(utc("2026-01-04T06:00:00Z"));
        let expected = [
            "2026-01-02T06:00:00Z",
            "2026-01-03T06:00:00Z",
            "2026-01-04T06:00:00Z",
        ]
        .map(utc);
        assert_eq!(
            schedule
                .after(utc("2020-01-01T00:00:00Z"))
                .collect::<Vec<_>>(),
            expected
        );
        assert_eq!(
            schedule.after(expected[0]).collect::<Vec<_>>(),
            expected[1..]
        );
        let back: Vec<_> = schedule.before(utc("2030-01-01T00:00:00Z")).collect();
        assert_eq!(back, expected.iter().rev().copied().collect::<Vec<_>>());
        assert_eq!(schedule.before(expected[2]).count(), 2);
        assert_eq!(schedule.up_to(expected[2]).count(), 3);
        assert_eq!(
            schedule
                .clone()
                .end(utc("2026-01-01T00:00:00Z"))
                .after(utc("2020-01-01T00:00:00Z"))
                .next(),
            None
        );
        assert_eq!(
            schedule
                .fires_between(date("2025-12-01")..=date("2026-12-01"))
                .count(),
            3
        );
    }

    #[test]
    fn an_interval_is_whole_whatever_the_bounds() {
        let start = utc("2026-01-02T06:00:00Z");
        for (schedule, fire, since) in [
            (
                six().start(start),
                "2026-01-02T06:00:00Z",
                "2026-01-01T06:00:00Z",
            ),
            (
                six().end(start),
                "2026-01-03T06:00:00Z",
                "2026-01-02T06:00:00Z",
            ),
            (
                six().timezone(New_York),
                "2026-03-08T10:00:00Z",
                "2026-03-07T11:00:00Z",
            ),
            (six(), "2026-01-02T07:30:00Z", "2026-01-02T06:00:00Z"),
            (
                quarter().start(start),
                "2026-01-02T06:00:00Z",
                "2026-01-02T05:45:00Z",
            ),
            (
                Schedule::once(start),
                "2026-01-02T06:00:00Z",
                "2026-01-02T06:00:00Z",
            ),
        ] {
            assert_eq!(
                schedule.interval_of(utc(fire)),
                interval(utc(since), utc(fire)),
                "{schedule}"
            );
        }
    }

    #[test]
    fn the_last_complete_interval_ends_by_now() {
        let now = utc("2026-01-02T06:00:00Z");
        let just_before = now - TimeDelta::nanoseconds(1);
        let yesterday = utc("2026-01-01T06:00:00Z");
        assert_eq!(
            six().last_complete_interval(now),
            Some(interval(yesterday, now))
        );
        assert_eq!(
            six()
                .last_complete_interval(just_before)
                .map(|interval| interval.end),
            Some(yesterday)
        );
        assert_eq!(
            six()
                .start(now + TimeDelta::days(9))
                .last_complete_interval(now),
            Some(interval(yesterday, now))
        );
        assert_eq!(
            Schedule::once(now).last_complete_interval(just_before),
            None
        );
        assert_eq!(
            Schedule::once(now).last_complete_interval(now),
            Some(interval(now, now))
        );
    }

    #[test]
    fn the_firings_of_dates_are_those_of_the_zone() {
        let nightly = Schedule::cron("30 23 * * *").unwrap().timezone(New_York);
        let fires: Vec<_> = nightly
            .fires_between(date("2026-03-07")..=date("2026-03-08"))
            .collect();
        assert_eq!(
            fires,
            ["2026-03-08T04:30:00Z", "2026-03-09T03:30:00Z"].map(utc)
        );
        let hourly = Schedule::cron("@hourly").unwrap().timezone(New_York);
        assert_eq!(hourly.date_fires(date("2026-03-08")).count(), 23);
        assert_eq!(hourly.date_fires(date("2026-11-01")).count(), 25);
        assert_eq!(
            six()
                .fires_between(date("2025-12-25")..=date("2026-01-03"))
                .count(),
            10
        );
        assert_eq!(
            six()
                .fires_between(date("2026-01-03")..=date("2025-12-25"))
                .count(),
            0
        );
        assert_eq!(
            six()
                .fires_between(NaiveDate::MIN..=NaiveDate::MAX)
                .take(9)
                .count(),
            9
        );
    }

    #[test]
    fn a_date_that_is_left_or_comes_twice_has_its_own_firings() {
        let apia = six().timezone(chrono_tz::Pacific::Apia);
        let counts = ["2011-12-29", "2011-12-30", "2011-12-31"]
            .map(|day| apia.date_fires(date(day)).count());
        assert_eq!(counts, [1, 0, 2]);
        // At 00:01 the clocks went back to 23:01 of the day before.
        let half = Schedule::cron("*/30 * * * *")
            .unwrap()
            .timezone(chrono_tz::America::St_Johns);
        let counts = ["2010-11-06", "2010-11-07", "2010-11-08"]
            .map(|day| half.date_fires(date(day)).count());
        assert_eq!(counts, [49, 49, 48]);
    }

    #[test]
    fn periods_do_not_depend_on_the_start() {
        let after = utc("2026-01-01T00:07:11.5Z");
        assert_eq!(quarter().next(after), Some(utc("2026-01-01T00:15:00Z")));
        assert_eq!(
            quarter().anchor(utc("2030-01-01T00:01:00Z")).next(after),
            Some(utc("2026-01-01T00:16:00Z"))
        );
        assert_eq!(quarter().next(DateTime::<Utc>::MAX_UTC), None);
        let age = Schedule::every(Duration::MAX).unwrap();
        assert_eq!(
            (age.next(after), age.previous(after)),
            (None, Some(DateTime::UNIX_EPOCH))
        );
        assert_eq!(
            Schedule::every(Duration::ZERO),
            Err(ScheduleError::NoPeriod)
        );
    }

    #[test]
    fn once_schedule_fires_once() {
        let at = utc("2026-01-01T00:00:00Z");
        let once = Schedule::once(at);
        assert_eq!(
            once.after(at - TimeDelta::nanoseconds(1))
                .collect::<Vec<_>>(),
            [at]
        );
        assert_eq!(once.after(at).next(), None);
        assert_eq!(once.before(at).next(), None);
        assert_eq!(once.up_to(at).collect::<Vec<_>>(), [at]);
        assert_eq!(once.date_fires(date("2026-01-01")).count(), 1);
    }

    #[test]
    fn schedule_is_displayed_in_words() {
        let at = utc("2026-01-01T00:00:00Z");
        for (schedule, text) in [
            (six(), "0 6 * * *"),
            (six().timezone(New_York), "0 6 * * * in America/New_York"),
            (
                quarter().start(at).end(at),
                "every 15m from 2026-01-01T00:00:00Z until 2026-01-01T00:00:00Z",
            ),
            (
                Schedule::every(Duration::from_millis(90_061_001)).unwrap(),
                "every 1d1h1m1s1ms",
            ),
            (
                Schedule::every(Duration::from_nanos(1_500)).unwrap(),
                "every 1.5µs",
            ),
            (
                quarter().anchor(at),
                "every 15m anchored at 2026-01-01T00:00:00Z",
            ),
            (Schedule::once(at), "once at 2026-01-01T00:00:00Z"),
        ] {
            assert_eq!(schedule.to_string(), text);
        }
        assert_eq!(six().timezone(New_York).name(), "0 6 * * *");
    }

    #[test]
    fn parameters_are_carried_along() {
        assert!(six().given_parameters().is_empty());
        assert_eq!(six().parameters(Map::new()), six());
        let parameters = Map::from_iter([("region".to_owned(), Value::from("EU"))]);
        let schedule = six().parameters(parameters.clone());
        assert_eq!(schedule.given_parameters(), &parameters);
        assert_ne!(schedule, six());
    }

    #[test]
    fn invalid_schedules_are_refused_when_served() {
        let expected = || Ok(six());
        assert_eq!("0 6 * * *".into_schedule(), expected());
        assert_eq!("0 6 * * *".to_owned().into_schedule(), expected());
        assert_eq!(six().into_schedule(), expected());
        assert_eq!((&six()).into_schedule(), expected());
        assert_eq!(Schedule::cron("0 6 * * *").into_schedule(), expected());
        assert_eq!(
            Cron::parse("0 6 * * *").map(Schedule::from).into_schedule(),
            expected()
        );
        assert_eq!(
            Schedule::every(Duration::ZERO).into_schedule(),
            Err(ScheduleError::NoPeriod)
        );
        let error = "0 25 * * *".into_schedule().unwrap_err();
        assert_eq!(
            error.to_string(),
            "hour: expected 0 to 23, got `25` in `0 25 * * *`"
        );
    }

    #[test]
    fn schedules_travel_between_threads() {
        fn travels<T: Send + Sync + Clone + fmt::Debug + 'static>() {}
        travels::<Schedule>();
        travels::<Fires>();
        travels::<PastFires>();
    }
}
