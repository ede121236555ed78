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

/// The same for crontab's extensions. Both libraries read `L`, `5L` (croniter writes it `L5`) and
/// `5#2`; only croniter reads `15W`, and only cronsim `LW`. Not here, because the two disagree:
/// `5#2` beside a restricted day-of-month, of which croniter requires both. Nor `31W` in a month of
/// 30 days, for which croniter takes the 30th.
const EXTENSIONS: &str = include_str!("../../tests/fixtures/cron_extensions.csv");

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

/// The numbers of answers that are the same, and of those that differ by a rule.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    chains: usize,
    held: usize,
    doubled: usize,
    left_out: usize,
}

fn compare(vectors: &str) -> Tally {
    let mut tally = Tally::default();
    for line in vectors.lines().skip(1) {
        let [zone, expression, chain] = line.split(';').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let (zone, cron): (Tz, Cron) = (zone.parse().unwrap(), expression.parse().unwrap());
        let schedule = Schedule::from(cron).timezone(zone);
        let chain: Vec<_> = chain.split(' ').map(instant).collect();
        tally.chains += 1;
        for step in chain.windows(2) {
            let (ours, theirs) = (schedule.next(step[0]).unwrap(), step[1]);
            if ours == theirs {
                tally.held += 1;
            } else if cron.is_fixed() && comes_again(zone, theirs) && ours > theirs {
                // At fixed times, what comes twice runs once. With seconds in front cronsim drops
                // this rule.
                tally.doubled += 1;
            } else if !cron.is_fixed()
                && cron.values(CronField::Hour) & (1 << wall(zone, theirs).hour()) == 0
            {
                // With a wildcard, what is left out does not run. Both move a missing midnight to
                // an hour that the expression does not have.
                tally.left_out += 1;
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
    tally
}

#[test]
fn agrees_with_croniter_and_cronsim_where_these_agree() {
    let expected = Tally {
        chains: 2_946,
        held: 9_999,
        doubled: 2,
        left_out: 1,
    };
    assert_eq!(compare(AGREED), expected);
}

#[test]
fn agrees_with_croniter_and_cronsim_on_extensions() {
    let expected = Tally {
        chains: 380,
        held: 1_041,
        ..Tally::default()
    };
    assert_eq!(compare(EXTENSIONS), expected);
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
