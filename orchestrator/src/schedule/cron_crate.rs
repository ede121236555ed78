//! Schedules of the crate `cron`, by that crate's own rules.

use ::cron::{Schedule as CronSchedule, TimeUnitSpec};
use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Utc};

use super::convert::IntoSchedule;
use super::custom::Timetable;
use super::error::ScheduleError;
use super::{Schedule, span};

/// A schedule of the crate `cron`, of any version from 0.15 to 0.17, with the feature `cron`.
///
/// It fires by that crate's rules, which differ from crontab's: Sunday is 1, a day has to match both
/// fields for days, and the years are 1970 to 2100. It is in UTC: [`Schedule::timezone`] applies to
/// the dates of [`Schedule::except`] and [`Schedule::fires_between`] alone.
impl Timetable for CronSchedule {
    fn identity(&self) -> String {
        format!("cron crate: {self}")
    }

    fn after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.after(&instant).next()
    }

    fn before(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // The crate looks for a month up to that of the instant in the first year that it has, even
        // if this is an earlier year than the instant's: so it is asked at the end of that year.
        let asked = u32::try_from(span::just_before(instant).year()).ok()?;
        let year = self.years().iter().filter(|year| *year <= asked).max()?;
        let end_of_year = NaiveDate::from_ymd_opt(i32::try_from(year).ok()? + 1, 1, 1)?;
        let end_of_year = end_of_year.and_time(NaiveTime::MIN).and_utc();
        self.after(&instant.min(end_of_year)).next_back()
    }
}

impl IntoSchedule for CronSchedule {
    fn into_schedule(self) -> Result<Schedule, ScheduleError> {
        Ok(Schedule::custom(self))
    }
}

impl IntoSchedule for &CronSchedule {
    fn into_schedule(self) -> Result<Schedule, ScheduleError> {
        self.clone().into_schedule()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn schedule(expression: &str) -> Schedule {
        let parsed: CronSchedule = expression.parse().expect(expression);
        parsed.into_schedule().unwrap()
    }

    #[test]
    fn schedule_of_the_crate_fires_by_its_rules() {
        // Sunday is 1, and both fields for days hold
        let sundays = schedule("0 0 6 1-7 * 1");
        let first = utc("2026-02-01T06:00:00Z");
        assert_eq!(sundays.next(utc("2026-01-05T00:00:00Z")), Some(first));
        let interval = sundays.interval_of(first);
        assert_eq!(interval.start, utc("2026-01-04T06:00:00Z"));
        assert_eq!(sundays.to_string(), "cron crate: 0 0 6 1-7 * 1");
        assert_eq!(sundays, schedule("0 0 6 1-7 * 1"));
        assert_ne!(sundays, schedule("0 0 6 1-7 * 2"));
    }

    #[test]
    fn years_of_the_crate_have_an_end() {
        let new_year = schedule("0 0 0 1 1 *");
        assert_eq!(new_year.next(utc("2100-01-01T00:00:00Z")), None);
        assert_eq!(new_year.previous(utc("1970-01-01T00:00:00Z")), None);
        assert_eq!(
            new_year.previous(utc("9999-01-01T00:00:00Z")),
            Some(utc("2100-01-01T00:00:00Z"))
        );
        assert_eq!(
            new_year.next(span::EARLIEST),
            Some(utc("1970-01-01T00:00:00Z"))
        );
    }

    #[test]
    fn year_before_the_asked_one_is_searched_to_its_end() {
        let of_2020 = schedule("0 0 0 1 * * 2020");
        assert_eq!(
            of_2020.previous(utc("2026-03-05T00:00:00Z")),
            Some(utc("2020-12-01T00:00:00Z"))
        );
    }

    const EXPRESSIONS: [&str; 12] = [
        "0 0 6 * * *",
        "0 */7 * * * *",
        "*/13 * * * * *",
        "0 30 9-17 * * Mon-Fri",
        "0 30 * * * Mon",
        "0 0 12 31 * *",
        "0 0 0 29 2 *",
        "0 0 12 13 * Fri",
        "0 15 3 * 2,7 Tue 2024-2026",
        "0 0 0 1 * * 2020",
        "59 59 23 31 12 *",
        "0 0 0 30 * Sun 2021,2025",
    ];

    proptest! {
        #[test]
        fn both_directions_agree(
            expression in prop::sample::select(EXPRESSIONS.to_vec()),
            second in 1_577_836_800_i64..1_830_297_600,
            nanosecond in prop::sample::select(vec![0, 1, 500_000_000]),
        ) {
            let schedule = schedule(expression);
            let at = DateTime::from_timestamp(second, nanosecond).unwrap();
            if let Some(next) = schedule.next(at) {
                let last = schedule.previous(next);
                prop_assert!(last.is_none_or(|last| last <= at), "{expression} {at}: {next} {last:?}");
            }
            if let Some(last) = schedule.previous(at) {
                let next = schedule.next(last);
                prop_assert!(next.is_none_or(|next| next >= at), "{expression} {at}: {last} {next:?}");
            }
            prop_assert_eq!(schedule.fault(), None);
        }
    }
}
