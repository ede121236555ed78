//! When runs are due: crontab expressions, periods, single instants and timetables of the user, in
//! any time zone.
//!
//! This module is pure: the caller passes every instant. [`Cron`] parses expressions, `calendar`
//! finds their firings across the clock changes of a zone, and a flow is served with a
//! [`Schedule`]. `timing` decides when a schedule fires, with its bounds and exceptions, and
//! `union` joins the schedules of a deployment.

mod builder;
mod calendar;
mod convert;
#[cfg(feature = "cron")]
mod cron_crate;
mod custom;
mod days;
mod error;
mod exceptions;
mod fires;
mod legacy;
#[cfg(test)]
mod random;
mod record;
#[cfg(test)]
mod reference;
mod rule;
pub(crate) mod span;
#[cfg(test)]
mod tests;
mod text;
mod times;
mod timing;
mod union;
#[cfg(test)]
mod vectors;
#[cfg(test)]
mod zones;

use std::ops::RangeInclusive;
use std::slice;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, Utc};
use chrono_tz::Tz;
#[doc(inline)]
pub use orchestrator_grammar::cron::{Cron, CronError, CronField};
use serde_json::{Map, Value};

#[cfg(feature = "cli")]
pub(crate) use calendar::ClockChange;
pub use convert::IntoSchedule;
use custom::Custom;
pub use custom::Timetable;
pub use error::ScheduleError;
pub use exceptions::{Exceptions, IntoExceptions};
pub use fires::{Fires, PastFires};
pub(crate) use legacy::read_legacy;
pub(crate) use record::ScheduleRecord;
use rule::Rule;
use span::{EARLIEST, LATEST};
use timing::Timing;
pub(crate) use union::ScheduleUnion;

use crate::duration::{self, IntoDuration};
use crate::flow::{FlowDef, ScheduleDef};
use crate::task::Interval;

/// The schedule of a flow: a crontab expression, equal periods, a single instant, or a rule of your
/// own.
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
    timing: Timing,
    jitter: Duration,
    parameters: Option<Arc<Map<String, Value>>>,
    /// The first problem of its options, which is reported when the flow is served.
    problem: Option<Arc<ScheduleError>>,
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
    /// Returns [`ScheduleError::NoPeriod`] if the period is zero, and [`ScheduleError::Duration`] if
    /// a text is not a duration.
    ///
    /// # Examples
    ///
    /// ```
    /// # use orchestrator::Schedule;
    /// let schedule = Schedule::every("15m")?;
    /// let next = schedule.next("2026-01-01T06:07:00Z".parse()?);
    /// assert_eq!(next, Some("2026-01-01T06:15:00Z".parse()?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn every(period: impl IntoDuration) -> Result<Self, ScheduleError> {
        let period = period
            .into_duration()
            .map_err(|problem| ScheduleError::Duration {
                option: "the period of a schedule",
                problem,
            })?;
        match period.is_zero() {
            true => Err(ScheduleError::NoPeriod),
            false => Ok(Self::new(Rule::Every {
                period,
                anchor: DateTime::UNIX_EPOCH,
            })),
        }
    }

    /// Creates a schedule that fires once.
    ///
    /// It is an error when the flow is served if the instant is not in the years 1 to 9999.
    pub fn once(at: DateTime<Utc>) -> Self {
        let mut once = Self::new(Rule::Once(at));
        once.check_year("the instant of a schedule", at);
        once
    }

    /// Creates a schedule from a rule of your own. See [`Timetable`].
    pub fn custom(timetable: impl Timetable) -> Self {
        Self::new(Rule::Custom(Custom::new(timetable)))
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
        Self::of_timing(Timing::new(rule))
    }

    const fn of_timing(timing: Timing) -> Self {
        Self {
            timing,
            jitter: Duration::ZERO,
            parameters: None,
            problem: None,
        }
    }

    /// Creates the schedule of [`cron!`](crate::cron), also in constants.
    pub(crate) const fn of(cron: Cron) -> Self {
        Self::new(Rule::Cron(cron))
    }

    /// Returns the time zone.
    pub fn zone(&self) -> Tz {
        self.timing.zone()
    }

    /// Returns the problem of its timetable, or of one in its exceptions: the schedule has ended.
    pub(crate) fn fault(&self) -> Option<String> {
        self.timing.fault().map(str::to_owned)
    }

    /// Returns the parameters of its runs.
    pub fn given_parameters(&self) -> &Map<String, Value> {
        static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
        self.parameters.as_deref().unwrap_or(&NONE)
    }

    /// Returns the rule by which it fires, without zone, bounds and other options: `0 6 * * *`,
    /// `every 15m`, `once at 2026-03-01T06:00:00Z`, or the identity of a [`Timetable`].
    pub fn name(&self) -> String {
        match &self.timing.rule {
            Rule::Cron(cron) => cron.to_string(),
            Rule::Every { period, .. } => format!("every {}", duration::text(*period)),
            Rule::Once(at) => format!("once at {}", span::text(*at)),
            Rule::Custom(custom) => custom.identity().to_owned(),
        }
    }

    /// Returns the crontab expression, if it has one.
    #[cfg(feature = "cli")]
    pub(crate) fn expression(&self) -> Option<&Cron> {
        match &self.timing.rule {
            Rule::Cron(cron) => Some(cron),
            Rule::Every { .. } | Rule::Once(_) | Rule::Custom(_) => None,
        }
    }

    /// Returns the effect of a clock change on one of its firings, if there is any.
    #[cfg(feature = "cli")]
    pub(crate) fn clock_change(&self, fire: DateTime<Utc>) -> Option<ClockChange> {
        calendar::change_at(self.expression(), self.zone(), fire)
    }

    /// Returns the firings after an instant, the earliest first, excluding the instant itself.
    pub fn after(&self, instant: DateTime<Utc>) -> Fires {
        Fires {
            timing: self.timing.clone(),
            last: Some(instant),
        }
    }

    /// Returns the firings before an instant, the latest first, excluding the instant itself.
    pub fn before(&self, instant: DateTime<Utc>) -> PastFires {
        PastFires {
            timing: self.timing.clone(),
            last: Some(instant),
        }
    }

    /// Returns the firings up to an instant, the latest first, including the instant itself.
    pub fn up_to(&self, instant: DateTime<Utc>) -> PastFires {
        self.before(span::just_after(instant))
    }

    /// Returns the first firing after an instant.
    pub fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.timing.next(after)
    }

    /// Returns the last firing before an instant.
    pub fn previous(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.timing.previous(before)
    }

    /// Returns the firings on the days from the first to the last, both inclusive, in the
    /// schedule's time zone. A backfill of these days creates runs for them.
    ///
    /// A firing belongs to its local date, even if a clock change moved it there.
    pub fn fires_between(
        &self,
        dates: RangeInclusive<NaiveDate>,
    ) -> impl Iterator<Item = DateTime<Utc>> + use<> {
        let zone = self.zone();
        let (first, last) = dates.clone().into_inner();
        // no clock is a day away from UTC
        let day = Days::new(1);
        let earliest = EARLIEST.date_naive() - day;
        let latest = LATEST.date_naive() + day;
        let from = calendar::span_of(zone, first.clamp(earliest, latest));
        let until = calendar::span_of(zone, last.clamp(earliest, latest));
        let from = from.map_or(EARLIEST, |(from, _)| from);
        let until = until.map_or(LATEST, |(_, until)| until);
        let fires = self.after(span::just_before(from));
        let fires = fires.take_while(move |fire| *fire < until);
        fires.filter(move |fire| dates.contains(&calendar::date_of(zone, *fire)))
    }

    /// Returns the firings on a day in the schedule's time zone:
    /// [`fires_between`](Self::fires_between) for one day.
    pub fn date_fires(&self, date: NaiveDate) -> impl Iterator<Item = DateTime<Utc>> + use<> {
        self.fires_between(date..=date)
    }

    /// Returns the interval of a firing: from the previous firing to this one.
    ///
    /// The first firing of a schedule has a whole interval like any other: it begins at the firing
    /// that would have come before without [`start`](Self::start), [`end`](Self::end) and
    /// [`times`](Self::times). The interval of [`once`](Self::once) is empty, like that of Airflow's
    /// `@once`. For an instant that is not a firing, it begins at the last firing.
    pub fn interval_of(&self, fire: DateTime<Utc>) -> Interval {
        union::interval_of(slice::from_ref(&self.timing), fire)
    }

    /// Returns the last interval that has ended by now, which is that of a manual run: the interval
    /// of the last firing. Returns `None` for [`once`](Self::once) before its time.
    ///
    /// Before the first firing, it is that of the last firing which the schedule would have without
    /// [`start`](Self::start), [`end`](Self::end) and [`times`](Self::times).
    pub fn last_complete_interval(&self, now: DateTime<Utc>) -> Option<Interval> {
        union::last_complete_interval(slice::from_ref(&self.timing), now)
    }
}

impl From<Cron> for Schedule {
    fn from(cron: Cron) -> Self {
        Self::of(cron)
    }
}
