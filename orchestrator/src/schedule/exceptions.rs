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

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use chrono_tz::{America, Europe};
    use proptest::prelude::*;

    use super::super::random::{self, ZONES, days, instant};
    use super::super::{Cron, calendar};
    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn six() -> Schedule {
        Schedule::cron("0 6 * * *").unwrap()
    }

    /// The days of the firings from 2026-12-23 to 2026-12-28.
    fn left(schedule: &Schedule) -> Vec<u32> {
        let fires = schedule.fires_between(date("2026-12-23")..=date("2026-12-28"));
        let day = |at| chrono::Datelike::day(&calendar::date_of(schedule.zone(), at));
        fires.map(day).collect()
    }

    #[test]
    fn excepted_days_and_instants_are_left_out() {
        let christmas = date("2026-12-25");
        let day_after = date("2026-12-26");
        let by_rule = Schedule::cron("* * 25 12 *").unwrap();
        let (both, one) = ([christmas, day_after], vec![christmas]);
        for (schedule, expected) in [
            (six(), &[23, 24, 25, 26, 27, 28][..]),
            (six().except(christmas), &[23, 24, 26, 27, 28]),
            (six().except(both), &[23, 24, 27, 28]),
            (six().except(&both[..]), &[23, 24, 27, 28]),
            (six().except(one.clone()), &[23, 24, 26, 27, 28]),
            (six().except(&one), &[23, 24, 26, 27, 28]),
            (six().except(christmas..=date("2027-12-31")), &[23, 24]),
            (six().except(christmas).except(day_after), &[23, 24, 27, 28]),
            (six().except("* * 25 12 *"), &[23, 24, 26, 27, 28]),
            (six().except("* * 25,26 12 *".to_owned()), &[23, 24, 27, 28]),
            (
                six().except(Cron::parse("* * 25 12 *").unwrap()),
                &[23, 24, 26, 27, 28],
            ),
            (six().except(&by_rule), &[23, 24, 26, 27, 28]),
            // only instants at which it fires, too
            (six().except("0 7 25 12 *"), &[23, 24, 25, 26, 27, 28]),
            (
                six().except(Schedule::cron("@hourly").unwrap().except(christmas)),
                &[25],
            ),
            (six().except("0 6 * * *"), &[]),
            (six().except([]), &[23, 24, 25, 26, 27, 28]),
        ] {
            assert_eq!(left(&schedule), expected, "{schedule}");
        }
        assert_eq!(six().except([]), six());
    }

    #[test]
    fn interval_goes_over_what_is_left_out() {
        let schedule = six().except(date("2026-12-25")..=date("2026-12-26"));
        let tick = utc("2026-12-27T06:00:00Z");
        let since = utc("2026-12-24T06:00:00Z");
        assert_eq!(schedule.interval_of(tick).start, since);
        assert_eq!(schedule.next(since), Some(tick));
        assert_eq!(schedule.previous(tick), Some(since));
        let by_rule = six().except("* * 25,26 12 *");
        assert_eq!(by_rule.interval_of(tick).start, since);
        // also that of the first tick, and the last complete one
        let first = by_rule.start(tick);
        assert_eq!(first.interval_of(tick).start, since);
        let complete = first.last_complete_interval(utc("2026-12-26T12:00:00Z"));
        assert_eq!(complete.unwrap().end, since);
    }

    #[test]
    fn days_and_schedules_without_a_zone_follow_that_of_the_schedule() {
        // 23:30 in New York is the next day in UTC
        let late = Schedule::cron("30 23 * * *").unwrap();
        let (zone, christmas) = (America::New_York, date("2026-12-25"));
        let by_rule = || Schedule::cron("* * 25 12 *").unwrap();
        for (schedule, expected) in [
            (late.clone().timezone(zone).except(christmas), 25),
            (late.clone().except(christmas).timezone(zone), 25),
            (late.clone().timezone(zone).except("* * 25 12 *"), 25),
            (late.clone().except("* * 25 12 *").timezone(zone), 25),
            (
                late.clone().except(by_rule().timezone(zone)).timezone(zone),
                25,
            ),
            (
                late.clone()
                    .timezone(zone)
                    .except(by_rule().timezone(chrono_tz::UTC)),
                24,
            ),
            // in an exception of an exception
            (
                late.except(
                    Schedule::cron("30 23 25,26 12 *")
                        .unwrap()
                        .except(date("2026-12-26")),
                )
                .timezone(zone),
                25,
            ),
        ] {
            let mut days = vec![23, 24, 25, 26, 27, 28];
            days.retain(|day| *day != expected);
            assert_eq!(left(&schedule), days, "{schedule}");
        }
    }

    #[test]
    fn exceptions_are_displayed() {
        let day = |day| NaiveDate::from_ymd_opt(2026, 12, day).unwrap();
        let nightly = Schedule::cron("0 3 * * *").unwrap();
        for (schedule, expected) in [
            (six().except(day(25)), "0 6 * * * except 2026-12-25"),
            (
                six().except([day(31), day(25), day(26)]),
                "0 6 * * * except 2026-12-25 to 2026-12-26, 2026-12-31",
            ),
            (
                six().timezone(Europe::Zurich).except(&nightly),
                "0 6 * * * in Europe/Zurich except when 0 3 * * * fires",
            ),
            (
                six()
                    .except(nightly.clone().timezone(chrono_tz::UTC).except(day(1)))
                    .except(nightly.timezone(Europe::Zurich).jitter("5m"))
                    .except(day(25))
                    .times(3),
                "0 6 * * * except 2026-12-25, when 0 3 * * * in UTC except 2026-12-01 fires, \
                 when 0 3 * * * in Europe/Zurich fires, 3 times",
            ),
        ] {
            assert_eq!(schedule.to_string(), expected);
        }
    }

    #[test]
    fn invalid_exceptions_are_refused_when_served() {
        let (first, last) = (date("2026-01-02"), date("2026-01-01"));
        assert_eq!(
            six().except(first..=last).into_schedule(),
            Err(ScheduleError::Dates { first, last })
        );
        let far = NaiveDate::MAX;
        assert_eq!(
            six().except(far).except("nonsense").into_schedule(),
            Err(ScheduleError::Dates {
                first: far,
                last: far
            })
        );
        let error = six().except("0 25 * * *").into_schedule().unwrap_err();
        assert!(error.to_string().starts_with("hour: expected 0 to 23"));
        let inner = Schedule::cron("@daily").unwrap().times(0);
        assert_eq!(
            six().except(inner).into_schedule(),
            Err(ScheduleError::Times { times: 0 })
        );
    }

    #[test]
    fn schedule_ends_if_too_many_firings_in_a_row_are_left_out() {
        let at = utc("2026-01-01T00:00:00Z");
        let seconds = || Schedule::every("1s").unwrap();
        let none = seconds().except(seconds());
        assert_eq!((none.next(at), none.previous(at)), (None, None));
        assert!(!none.timing.has(at));
        // whole days are jumped over, also those of a schedule that fires each nanosecond
        let fine = Schedule::every("1ns").unwrap();
        let fine = fine.except(date("2026-01-01")..=date("9999-12-30"));
        assert_eq!(fine.next(at), Some(utc("9999-12-31T00:00:00Z")));
        let last = at - TimeDelta::nanoseconds(1);
        assert_eq!(fine.previous(utc("9999-12-31T00:00:00Z")), Some(last));
    }

    fn case() -> impl Strategy<
        Value = (
            Schedule,
            Vec<(NaiveDate, NaiveDate)>,
            Schedule,
            DateTime<Utc>,
        ),
    > {
        prop::sample::select(ZONES.to_vec()).prop_flat_map(|(zone, day)| {
            let plain =
                || random::plain(zone, day).prop_map(move |schedule| schedule.timezone(zone));
            let days = prop::collection::vec(days(day), 0..3);
            // what is left out would not count
            let uncounted =
                plain().prop_filter("it counts", |schedule| schedule.timing.times().is_none());
            (uncounted, days, plain(), instant(day))
        })
    }

    proptest! {
        #[test]
        fn firings_are_those_that_are_not_left_out((schedule, days, other, from) in case()) {
            let until = from + TimeDelta::days(5);
            let zone = schedule.zone();
            let is_left = |at: &DateTime<Utc>| {
                let date = calendar::date_of(zone, *at);
                let is_excepted = days.iter().any(|(first, last)| (*first..=*last).contains(&date));
                !is_excepted && other.next(span::just_before(*at)) != Some(*at)
            };
            let of = |schedule: &Schedule| -> Vec<_> {
                schedule.after(from).take_while(|fire| *fire <= until).collect()
            };
            let expected: Vec<_> = of(&schedule).into_iter().filter(is_left).collect();
            // later firings need not be looked for
            let end = other.timing.end.unwrap_or(until);
            let mut with = schedule.except(other.end(end));
            for (first, last) in &days {
                with = with.except(*first..=*last);
            }
            let fires = of(&with);
            prop_assert_eq!(&fires, &expected, "{}", with);
            let back = with.up_to(until).take_while(|fire| *fire > from);
            let mut back: Vec<_> = back.collect();
            back.reverse();
            prop_assert_eq!(&fires, &back, "{}", with);
        }
    }
}
