use std::ops::RangeInclusive;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;

use super::convert::IntoSchedule;
use super::days::DayRanges;
use super::error::ScheduleError;
use super::{Schedule, span};

/// The days and instants that a schedule leaves out. See [`Schedule::except`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exceptions {
    pub(super) days: DayRanges,
    pub(super) schedules: Vec<ExceptedSchedule>,
}

/// A schedule whose firings are left out of another one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ExceptedSchedule {
    pub(super) schedule: Schedule,
    /// Whether it has no time zone of its own, and follows that of the other one.
    pub(super) follows_zone: bool,
}

/// Why a firing is left out.
pub(super) enum Exception {
    /// By its day: the first instant of the stretch of such days, and the first one after it.
    Days(DateTime<Utc>, DateTime<Utc>),
    /// By another schedule that fires at the same instant.
    Schedule,
}

impl Exceptions {
    fn of_days(
        days: impl IntoIterator<Item = (NaiveDate, NaiveDate)>,
    ) -> Result<Self, ScheduleError> {
        let mut exceptions = Self::default();
        for (first, last) in days {
            if first > last || !span::contains_day(first) || !span::contains_day(last) {
                return Err(ScheduleError::Dates { first, last });
            }
            exceptions.days.add(first, last);
        }
        Ok(exceptions)
    }

    fn of_schedule(schedule: &Schedule) -> Self {
        let excepted = ExceptedSchedule {
            follows_zone: schedule.timing.has_no_zone(),
            schedule: Schedule::of_timing(schedule.timing.clone()),
        };
        Self {
            days: DayRanges::default(),
            schedules: vec![excepted],
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.days.is_empty() && self.schedules.is_empty()
    }

    /// Adds others.
    pub(super) fn extend(&mut self, others: Self) {
        for (first, last) in others.days.iter() {
            self.days.add(first, last);
        }
        for schedule in others.schedules {
            if !self.schedules.contains(&schedule) {
                self.schedules.push(schedule);
            }
        }
    }

    /// Sets the zone of the schedules that have none of their own.
    pub(super) fn follow(&mut self, zone: Tz) {
        for excepted in &mut self.schedules {
            if excepted.follows_zone {
                excepted.schedule = excepted.schedule.clone().timezone(zone);
            }
        }
    }

    /// Returns the reason for which a firing is left out, if it is.
    pub(super) fn exception(&self, zone: Tz, fire: DateTime<Utc>) -> Option<Exception> {
        if let Some((first, end)) = self.days.stretch(zone, fire) {
            return Some(Exception::Days(first, end));
        }
        let fires = |excepted: &ExceptedSchedule| excepted.schedule.timing.has(fire);
        self.schedules
            .iter()
            .any(fires)
            .then_some(Exception::Schedule)
    }

    /// Returns the problem of a timetable, which has ended the schedule.
    pub(super) fn fault(&self) -> Option<&str> {
        self.schedules
            .iter()
            .find_map(|excepted| excepted.schedule.timing.fault())
    }
}

/// A type that names what a schedule leaves out, for [`Schedule::except`]: days (a [`NaiveDate`],
/// lists and ranges of them), or another schedule.
///
/// Errors are reported when the flow is served.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not name exceptions of a schedule",
    label = "expected dates, or a schedule",
    note = "write a `NaiveDate`, a list or a `first..=last` of them, a crontab expression such as `\"* * 25 12 *\"`, or a `Schedule`"
)]
pub trait IntoExceptions {
    /// Converts to exceptions.
    ///
    /// # Errors
    ///
    /// Returns an error if the days are in the wrong order or beyond the year 9999, or if a text is
    /// not a crontab expression.
    fn into_exceptions(self) -> Result<Exceptions, ScheduleError>;
}

impl IntoExceptions for Exceptions {
    fn into_exceptions(self) -> Result<Exceptions, ScheduleError> {
        Ok(self)
    }
}

impl IntoExceptions for NaiveDate {
    fn into_exceptions(self) -> Result<Exceptions, ScheduleError> {
        [self].into_exceptions()
    }
}

impl IntoExceptions for RangeInclusive<NaiveDate> {
    fn into_exceptions(self) -> Result<Exceptions, ScheduleError> {
        Exceptions::of_days([self.into_inner()])
    }
}

impl IntoExceptions for &[NaiveDate] {
    fn into_exceptions(self) -> Result<Exceptions, ScheduleError> {
        Exceptions::of_days(self.iter().map(|day| (*day, *day)))
    }
}

impl<const N: usize> IntoExceptions for [NaiveDate; N] {
    fn into_exceptions(self) -> Result<Exceptions, ScheduleError> {
        self.as_slice().into_exceptions()
    }
}

impl<const N: usize> IntoExceptions for &[NaiveDate; N] {
    fn into_exceptions(self) -> Result<Exceptions, ScheduleError> {
        self.as_slice().into_exceptions()
    }
}

impl IntoExceptions for Vec<NaiveDate> {
    fn into_exceptions(self) -> Result<Exceptions, ScheduleError> {
        self.as_slice().into_exceptions()
    }
}

impl IntoExceptions for &Vec<NaiveDate> {
    fn into_exceptions(self) -> Result<Exceptions, ScheduleError> {
        self.as_slice().into_exceptions()
    }
}

impl<S: IntoSchedule> IntoExceptions for S {
    fn into_exceptions(self) -> Result<Exceptions, ScheduleError> {
        Ok(Exceptions::of_schedule(&self.into_schedule()?))
    }
}
