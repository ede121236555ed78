//! What other schedulers answered, and where this one differs by rule.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;

use super::{Cron, CronField, Schedule};
use crate::task::Interval;

/// Each line is a chain: an instant, the firing after it, the one after that, and so on, where
/// croniter 7.0.0 and cronsim 2.8 (with IANA's 2025b) agree. Expressions with names, lists, steps,
/// 7 and starred lists, some with seconds, in thirty zones; three of four begin shortly before a
/// clock change. None can be altered by a zone's future.
const AGREED: &str = include_str!("../../tests/fixtures/cron_agreed.csv");

/// What Airflow 3's timetables answered.
const AIRFLOW: &str = include_str!("../../tests/fixtures/cron_vectors.csv");

fn instant(text: &str) -> DateTime<Utc> {
    let seconds = if text.len() == "2026-01-01T00:00".len() {
        ":00"
    } else {
        ""
    };
    NaiveDateTime::parse_from_str(&format!("{text}{seconds}"), "%Y-%m-%dT%H:%M:%S")
        .unwrap()
        .and_utc()
}

fn wall(zone: Tz, at: DateTime<Utc>) -> NaiveDateTime {
    at.with_timezone(&zone).naive_local()
}

/// Whether the wall clock has shown what it shows before.
fn comes_again(zone: Tz, at: DateTime<Utc>) -> bool {
    (1..=24 * 60).any(|minutes| wall(zone, at - TimeDelta::minutes(minutes)) >= wall(zone, at))
}

#[test]
fn agrees_with_croniter_and_cronsim_where_these_agree() {
    let (mut held, mut doubled, mut left_out) = (0, 0, 0);
    for line in AGREED.lines().skip(1) {
        let [zone, expression, chain] = line.split(';').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let (zone, cron): (Tz, Cron) = (zone.parse().unwrap(), expression.parse().unwrap());
        let schedule = Schedule::from(cron).timezone(zone);
        let chain: Vec<_> = chain.split(' ').map(instant).collect();
        for step in chain.windows(2) {
            let (ours, theirs) = (schedule.next(step[0]).unwrap(), step[1]);
            if ours == theirs {
                held += 1;
            } else if cron.is_fixed() && comes_again(zone, theirs) && ours > theirs {
                // At fixed times, what comes twice runs once. With seconds in front cronsim drops
                // this rule.
                doubled += 1;
            } else if !cron.is_fixed()
                && cron.values(CronField::Hour) & (1 << wall(zone, theirs).hour()) == 0
            {
                // With a wildcard, what is left out does not run. Both move a missing midnight to
                // an hour that the expression does not have.
                left_out += 1;
            } else {
                panic!(
                    "`{expression}` in {zone} after {}: expected {theirs}, got {ours}",
                    step[0]
                );
            }
            let back = schedule.previous(ours).unwrap();
            assert!(
                back <= step[0],
                "`{expression}` in {zone}: {back} lies between {} and {ours}",
                step[0]
            );
        }
    }
    assert_eq!((held, doubled, left_out), (9_999, 2, 1));
}

/// Where Airflow's answer is not ours: timetable, expression, when its run is due, and when ours
/// is.
const DIFFERENT: [(&str, &str, &str, Option<&str>); 9] = [
    // A missing time runs at the first instant after the gap. Airflow moves it by the gap's width.
    (
        "CronTriggerTimetable",
        "30 2 * * *",
        "2026-03-08T07:30",
        Some("2026-03-08T07:00"),
    ),
    (
        "CronDataIntervalTimetable",
        "30 2 * * *",
        "2026-03-08T07:30",
        Some("2026-03-08T07:00"),
    ),
    // So the next interval begins earlier.
    (
        "CronDataIntervalTimetable",
        "30 2 * * *",
        "2026-03-09T06:30",
        Some("2026-03-09T06:30"),
    ),
    // A time that comes twice runs at its first occurrence. Airflow takes the second one.
    (
        "CronTriggerTimetable",
        "30 1 * * *",
        "2026-11-01T06:30",
        Some("2026-11-01T05:30"),
    ),
    (
        "CronDataIntervalTimetable",
        "30 1 * * *",
        "2026-11-01T06:30",
        Some("2026-11-01T05:30"),
    ),
    // So the next interval begins earlier.
    (
        "CronDataIntervalTimetable",
        "30 1 * * *",
        "2026-11-02T06:30",
        Some("2026-11-02T06:30"),
    ),
    // With a wildcard, a missing time does not run. Airflow moves it.
    (
        "CronTriggerTimetable",
        "*/30 1-2 * * *",
        "2026-03-08T07:00",
        None,
    ),
    (
        "CronDataIntervalTimetable",
        "*/30 1-2 * * *",
        "2026-03-08T07:00",
        None,
    ),
    // So the next interval begins earlier.
    (
        "CronDataIntervalTimetable",
        "*/30 1-2 * * *",
        "2026-03-09T05:00",
        Some("2026-03-09T05:00"),
    ),
];

#[test]
fn agrees_with_airflow_except_at_clock_changes() {
    let (mut held, mut different) = (0, 0);
    for line in AIRFLOW.lines().skip(1) {
        // No field of these expressions is a list: there is no other comma.
        let [timetable, cron, zone, _, _, due, _, logical, start, end] =
            line.split(',').collect::<Vec<_>>()[..]
        else {
            panic!("{line}")
        };
        let [due, logical, start, end] = [due, logical, start, end]
            .map(|text| DateTime::parse_from_rfc3339(text).unwrap().to_utc());
        let schedule = Schedule::cron(cron)
            .unwrap()
            .timezone(zone.parse::<Tz>().unwrap());
        let fires = |at| schedule.up_to(at).next() == Some(at);
        // A trigger has no interval; an interval is run when it ends, and is named after its start.
        let is_interval = timetable == "CronDataIntervalTimetable";
        assert_eq!((logical, due), (start, end));
        let holds =
            fires(due) && (!is_interval || schedule.interval_of(due) == Interval { start, end });
        let entry = DIFFERENT
            .iter()
            .find(|entry| (entry.0, entry.1, instant(entry.2)) == (timetable, cron, due));
        assert_eq!(holds, entry.is_none(), "{line}");
        match entry {
            None => held += 1,
            Some((.., ours)) => {
                different += 1;
                assert!(ours.is_none_or(|ours| fires(instant(ours))), "{line}");
                assert!(ours.is_some() || !fires(due), "{line}");
            }
        }
    }
    assert_eq!((held, different), (75, DIFFERENT.len()));
}
