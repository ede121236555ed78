//! Random schedules, for the tests of this module.

use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use chrono_tz::{America, Europe, Pacific, Tz};
use proptest::option;
use proptest::prelude::*;

use super::{Schedule, Timetable};

/// Zones, most of which set their clocks back over midnight, with the day on which they do.
pub(super) const ZONES: [(Tz, &str); 7] = [
    (Tz::UTC, "2026-03-01"),
    (Europe::Zurich, "2026-10-25"),
    (America::Sao_Paulo, "2018-02-18"),
    (America::Santiago, "2026-04-05"),
    (America::St_Johns, "2010-11-07"),
    (Pacific::Apia, "2011-12-30"),
    (Pacific::Kwajalein, "1969-09-30"),
];

const EXPRESSIONS: [&str; 8] = [
    "0 6 * * *",
    "*/30 * * * *",
    "15 */5 * * *",
    "30 23 * * *",
    "0 0 * * MON-FRI",
    "0 0,12 1-7 * *",
    "59 59 23 * * *",
    "@hourly",
];

/// Every 36 hours from the beginning of 2000.
#[derive(Debug)]
pub(super) struct Shifts;

impl Shifts {
    const LENGTH: i64 = 36 * 3600;

    fn shift(number: i64) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp(946_684_800 + number * Self::LENGTH, 0)
    }

    fn number(at: DateTime<Utc>) -> i64 {
        (at.timestamp() - 946_684_800).div_euclid(Self::LENGTH)
    }
}

impl Timetable for Shifts {
    fn identity(&self) -> String {
        "shifts of 36 hours".to_owned()
    }

    fn after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Self::shift(Self::number(instant) + 1)
    }

    fn before(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Self::shift(Self::number(instant - TimeDelta::nanoseconds(1)))
    }
}

/// Instants within twenty days of a day, most of them whole hours.
pub(super) fn instant(day: &str) -> impl Strategy<Value = DateTime<Utc>> + use<> {
    let midnight = day.parse::<NaiveDate>().unwrap().and_hms_opt(0, 0, 0);
    let midnight = midnight.unwrap().and_utc();
    let fraction = prop::sample::select(vec![0, 0, 0, 1, 1_800_500_000_000]);
    (-480..480_i64, fraction).prop_map(move |(hours, fraction)| {
        midnight + TimeDelta::hours(hours) + TimeDelta::nanoseconds(fraction)
    })
}

/// Ranges of days within twenty days of a day.
pub(super) fn days(day: &str) -> impl Strategy<Value = (NaiveDate, NaiveDate)> + use<> {
    let day: NaiveDate = day.parse().unwrap();
    let from = day - Days::new(20);
    (0..40_u64, 0..4_u64).prop_map(move |(first, length)| {
        let first = from + Days::new(first);
        (first, first + Days::new(length))
    })
}

fn rule(day: &str) -> impl Strategy<Value = Schedule> + use<> {
    let cron = prop::sample::select(EXPRESSIONS.to_vec());
    let minutes = prop::sample::select(vec![20, 90, 24 * 60, 1_000]);
    let every = (minutes, 0..2_u32, instant(day)).prop_map(|(minutes, nanoseconds, anchor)| {
        let period = Duration::new(minutes * 60, nanoseconds);
        Schedule::every(period).unwrap().anchor(anchor)
    });
    prop_oneof![
        4 => cron.prop_map(|expression| Schedule::cron(expression).unwrap()),
        2 => every,
        1 => instant(day).prop_map(Schedule::once),
        1 => Just(()).prop_map(|()| Schedule::custom(Shifts)),
    ]
}

/// A schedule around a day, with random options except for exceptions by other schedules.
pub(super) fn plain(zone: Tz, day: &'static str) -> impl Strategy<Value = Schedule> {
    let bounds = (option::of(instant(day)), option::of(instant(day)));
    let times = option::of(1..40_u32);
    let days = prop::collection::vec(days(day), 0..3);
    let zone = option::of(Just(zone));
    let options = (zone, bounds, times, days, 0..3_u32);
    (rule(day), options).prop_map(
        |(mut schedule, (zone, (start, end), times, days, jitter))| {
            if let Some(start) = start {
                schedule = schedule.start(start);
            }
            if let Some(end) = end {
                schedule = schedule.end(end);
            }
            for (first, last) in days {
                schedule = schedule.except(first..=last);
            }
            if let Some(times) = times {
                schedule = schedule.times(times);
            }
            if let Some(zone) = zone {
                schedule = schedule.timezone(zone);
            }
            schedule.jitter(Duration::from_millis(u64::from(jitter) * 1_500))
        },
    )
}

/// A schedule with random options around a day on which its zone may set its clocks.
pub(super) fn schedule(place: usize) -> impl Strategy<Value = Schedule> {
    let (zone, day) = ZONES[place % ZONES.len()];
    // with bounds, since questions to a schedule without any firings left take long
    let bounds = (instant(day), instant(day));
    let other = (plain(Tz::UTC, day), bounds);
    let other = other.prop_map(|(other, (start, end))| other.start(start).end(end));
    (plain(zone, day), option::of(other)).prop_map(|(schedule, other)| match other {
        Some(other) => schedule.except(other),
        None => schedule,
    })
}
