//! The rules of a single schedule.

use std::fmt;

use chrono::TimeDelta;
use chrono_tz::America::New_York;

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
    let counts =
        ["2011-12-29", "2011-12-30", "2011-12-31"].map(|day| apia.date_fires(date(day)).count());
    assert_eq!(counts, [1, 0, 2]);
    // At 00:01 the clocks went back to 23:01 of the day before.
    let half = Schedule::cron("*/30 * * * *")
        .unwrap()
        .timezone(chrono_tz::America::St_Johns);
    let counts =
        ["2010-11-06", "2010-11-07", "2010-11-08"].map(|day| half.date_fires(date(day)).count());
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
fn times_are_counted_from_the_start() {
    let days = |schedule: &Schedule| -> Vec<u32> {
        let fires = schedule.after(utc("2026-01-01T00:00:00Z")).take(9);
        fires.map(|at| chrono::Datelike::day(&at)).collect()
    };
    let start = utc("2026-01-03T06:00:00Z");
    for (schedule, expected) in [
        (six().start(start).times(3), &[3, 4, 5][..]),
        (six().times(3).start(start), &[3, 4, 5]),
        (six().times(9).times(1).start(start), &[3]),
        (
            six().start(start).times(3).end(utc("2026-01-04T12:00:00Z")),
            &[3, 4],
        ),
        // what is left out does not count
        (
            six().start(start).times(3).except(date("2026-01-04")),
            &[3, 5, 6],
        ),
        (six().start(start).times(2).except("* * 3,4 * *"), &[5, 6]),
        // without a start, it is not yet in force
        (six().times(2), &[1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ] {
        assert_eq!(days(&schedule), expected, "{schedule}");
    }
    let three = six().start(start).times(3);
    let last = utc("2026-01-05T06:00:00Z");
    assert_eq!(three.previous(utc("2030-01-01T00:00:00Z")), Some(last));
    assert_eq!(three.up_to(last).count(), 3);
    assert!(three.timing.has(last) && !three.timing.has(last + TimeDelta::days(1)));
    assert_eq!(
        three.last_complete_interval(utc("2030-01-01T00:00:00Z")),
        Some(interval(last - TimeDelta::days(1), last))
    );
    // a changed copy is counted anew
    assert_eq!(days(&three.clone().timezone(New_York)), [3, 4, 5]);
    let later = three.start(utc("2026-01-06T00:00:00Z"));
    assert_eq!(days(&later), [6, 7, 8]);
    let never = six().end(start).start(start + TimeDelta::days(1)).times(2);
    assert_eq!((never.next(start), never.previous(start)), (None, None));
}

#[test]
fn years_end_with_9999() {
    let last = utc("9999-12-31T23:59:59.999999999Z");
    let beyond = last + TimeDelta::nanoseconds(1);
    let first = utc("0001-01-01T00:00:00Z");
    let before = first - TimeDelta::nanoseconds(1);
    for schedule in [six(), quarter(), Schedule::custom(random::Shifts)] {
        assert_eq!(schedule.next(last), None, "{schedule}");
        assert_eq!(schedule.next(DateTime::<Utc>::MAX_UTC), None);
        assert_eq!(schedule.previous(first), None, "{schedule}");
        assert_eq!(schedule.previous(DateTime::<Utc>::MIN_UTC), None);
        let latest = schedule.previous(DateTime::<Utc>::MAX_UTC).unwrap();
        assert!(latest > last - TimeDelta::days(2), "{schedule}: {latest}");
        let earliest = schedule.next(DateTime::<Utc>::MIN_UTC).unwrap();
        assert!(
            earliest < first + TimeDelta::days(2),
            "{schedule}: {earliest}"
        );
        for zone in [Tz::UTC, New_York, Tz::Pacific__Kiritimati] {
            let schedule = schedule.clone().timezone(zone);
            let days = date("9999-12-30")..=NaiveDate::MAX;
            let fires: Vec<_> = schedule.fires_between(days).collect();
            assert!(!fires.is_empty() && fires.iter().all(|at| *at <= last));
            let days = date("+10000-01-02")..=NaiveDate::MAX;
            assert_eq!(schedule.fires_between(days).count(), 0);
            let days = NaiveDate::MIN..=date("-0002-01-01");
            assert_eq!(schedule.fires_between(days).count(), 0);
        }
    }
    for at in [first, last] {
        let served = Schedule::once(at).start(at).end(at).into_schedule();
        assert_eq!(served.map(|once| once.up_to(last).count()), Ok(1));
        assert!(quarter().anchor(at).into_schedule().is_ok());
    }
    for at in [before, beyond] {
        for schedule in [
            Schedule::once(at),
            six().start(at),
            six().end(at),
            quarter().anchor(at),
        ] {
            let error = schedule.into_schedule().unwrap_err();
            assert!(
                error.to_string().contains("in the years 1 to 9999"),
                "{error}"
            );
        }
    }
    assert_eq!(
        six().start(beyond).into_schedule().unwrap_err().to_string(),
        "expected the start of a schedule to be in the years 1 to 9999, got `+10000-01-01T00:00:00Z`"
    );
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
            "every 1500ns",
        ),
        (
            quarter().anchor(at),
            "every 15m anchored at 2026-01-01T00:00:00Z",
        ),
        (Schedule::once(at), "once at 2026-01-01T00:00:00Z"),
        (
            Schedule::once(at + TimeDelta::microseconds(1_500)),
            "once at 2026-01-01T00:00:00.001500Z",
        ),
        (
            six().start(at).times(3).jitter("5m"),
            "0 6 * * * from 2026-01-01T00:00:00Z, 3 times with up to 5m jitter",
        ),
        (six().times(1), "0 6 * * *, 1 time"),
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
    let text = |schedule: Schedule| schedule.into_schedule().unwrap_err().to_string();
    for (schedule, problem) in [
        (
            six().times(0),
            "expected `times` to be 1 to 100000, got `0`",
        ),
        (
            six().times(100_001),
            "expected `times` to be 1 to 100000, got `100001`",
        ),
        (
            six().jitter("25h"),
            "expected `jitter` to be at most `1d`, got `1d1h`",
        ),
        (
            six().jitter("5"),
            "expected `jitter` to be a duration, got `\"5\"`: a number has no unit, write \
             `\"5s\"` for seconds",
        ),
        // the first problem is reported, also by what is built on it
        (
            six().times(0).jitter("5").timezone(New_York),
            "expected `times` to be 1 to 100000, got `0`",
        ),
    ] {
        assert_eq!(text(schedule), problem);
    }
    assert_eq!(
        Schedule::every("5").unwrap_err().to_string(),
        "expected the period of a schedule to be a duration, got `\"5\"`: a number has no unit, \
         write `\"5s\"` for seconds"
    );
    assert_eq!(
        Ok::<_, ScheduleError>(six().times(0)).into_schedule(),
        Err(ScheduleError::Times { times: 0 })
    );
    assert_eq!(
        (&six().times(0)).into_schedule(),
        Err(ScheduleError::Times { times: 0 })
    );
    assert!(six().jitter("1d").times(100_000).into_schedule().is_ok());
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
