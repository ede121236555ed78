//! Compares the calendar with one that goes minute by minute, as Debian's cron does.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, Timelike, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use proptest::prelude::*;

use super::{Cron, Schedule};
use crate::task::Interval;

/// A field as crontab's manual describes it, read anew for each value.
fn field_matches(field: &str, value: u32, low: u32, high: u32) -> bool {
    field.split(',').any(|term| {
        let (base, step) = term
            .split_once('/')
            .map_or((term, None), |(base, step)| (base, Some(step)));
        let (from, to) = match base.split_once('-') {
            _ if base == "*" => (low, high),
            Some((from, to)) => (from.parse().unwrap(), to.parse().unwrap()),
            None if step.is_some() => (base.parse().unwrap(), high),
            None => (base.parse().unwrap(), base.parse().unwrap()),
        };
        let step: u32 = step.map_or(1, |step| step.parse().unwrap());
        (from..=to).contains(&value) && (value - from).is_multiple_of(step)
    })
}

struct Reference {
    minute: Vec<bool>,
    hour: Vec<bool>,
    day: Vec<bool>,
    month: Vec<bool>,
    weekday: Vec<bool>,
    both_days: bool,
    wildcard: bool,
}

impl Reference {
    fn new(expression: &str) -> Self {
        let [minute, hour, day, month, weekday] = expression.split(' ').collect::<Vec<_>>()[..]
        else {
            panic!("{expression}")
        };
        let table = |field, low, high| {
            (0..=high)
                .map(|value| field_matches(field, value, low, high))
                .collect()
        };
        Self {
            minute: table(minute, 0, 59),
            hour: table(hour, 0, 23),
            day: table(day, 1, 31),
            month: table(month, 1, 12),
            weekday: table(weekday, 0, 7),
            both_days: day.starts_with('*') || weekday.starts_with('*'),
            wildcard: minute.starts_with('*') || hour.starts_with('*'),
        }
    }

    fn matches(&self, wall: NaiveDateTime) -> bool {
        let of = |table: &[bool], value: u32| table[usize::try_from(value).unwrap()];
        let day = of(&self.day, wall.day());
        let weekday = wall.weekday().num_days_from_sunday();
        let weekday = of(&self.weekday, weekday) || (weekday == 0 && of(&self.weekday, 7));
        let date = if self.both_days {
            day && weekday
        } else {
            day || weekday
        };
        of(&self.minute, wall.minute())
            && of(&self.hour, wall.hour())
            && of(&self.month, wall.month())
            && date
    }

    /// The firings after `from` until `to`, which are whole minutes.
    fn fires(&self, zone: Tz, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        let minute = TimeDelta::minutes(1);
        let wall = |at: DateTime<Utc>| at.with_timezone(&zone).naive_local();
        let mut at = from - TimeDelta::days(2);
        // All that lies before has been run.
        let mut done = wall(at);
        let mut fires = Vec::new();
        while at < to {
            at += minute;
            let mut due = self.wildcard && self.matches(wall(at));
            while done < wall(at) {
                done += minute;
                due |= !self.wildcard && self.matches(done);
            }
            if due && at > from {
                fires.push(at);
            }
        }
        fires
    }
}

/// When a zone's clocks change, to within a day.
fn changes(zone: Tz, from: i32, to: i32) -> Vec<DateTime<Utc>> {
    let start = |year| {
        NaiveDate::from_ymd_opt(year, 1, 1)
            .unwrap()
            .and_hms_opt(0, 0, 0)
            .unwrap()
            .and_utc()
    };
    let offset = |at: &DateTime<Utc>| at.with_timezone(&zone).naive_local() - at.naive_utc();
    let days = (start(to) - start(from)).num_days();
    let days: Vec<_> = (0..days)
        .map(|day| start(from) + TimeDelta::days(day))
        .collect();
    days.windows(2)
        .filter(|days| offset(&days[0]) != offset(&days[1]))
        .map(|days| days[0])
        .collect()
}

fn field(low: u32, high: u32) -> impl Strategy<Value = String> {
    let value = move || (low..=high).prop_map(|value| value.to_string());
    let range =
        move || (low..=high, low..=high).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b)));
    prop_oneof![
        4 => Just("*".to_owned()),
        4 => value(),
        2 => (1..=high + 1).prop_map(|step| format!("*/{step}")),
        2 => range(),
        1 => (range(), 1..=high).prop_map(|(range, step)| format!("{range}/{step}")),
        1 => (value(), 1..=high).prop_map(|(from, step)| format!("{from}/{step}")),
        2 => prop::collection::vec(prop_oneof![value(), range()], 2..5).prop_map(|terms| terms.join(",")),
        1 => (1..=high, value()).prop_map(|(step, value)| format!("*/{step},{value}")),
        1 => value().prop_map(|value| format!("*,{value}")),
    ]
}

fn fields() -> impl Strategy<Value = [String; 5]> {
    (
        field(0, 59),
        field(0, 23),
        field(1, 31),
        field(1, 12),
        field(0, 7),
    )
        .prop_map(|fields| fields.into())
}

/// Expressions that fire, mostly by night, when clocks change, and on most days.
fn expression() -> impl Strategy<Value = String> {
    let hour = prop_oneof![
        field(0, 23),
        field(0, 3),
        Just("0-4".to_owned()),
        Just("23,0".to_owned())
    ];
    let rare = prop::bool::weighted(0.3);
    (fields(), hour, rare)
        .prop_map(
            |([minute, _, day, month, weekday], hour, rare)| match rare {
                true => format!("{minute} {hour} {day} {month} {weekday}"),
                false => format!("{minute} {hour} * * *"),
            },
        )
        .prop_filter("never fires", |text| text.parse::<Cron>().is_ok())
}

fn zone() -> impl Strategy<Value = Tz> {
    (0..TZ_VARIANTS.len()).prop_map(|index| TZ_VARIANTS[index])
}

fn instant() -> impl Strategy<Value = DateTime<Utc>> {
    let year = |year| {
        NaiveDate::from_ymd_opt(year, 1, 1)
            .unwrap()
            .and_hms_opt(0, 0, 0)
            .unwrap()
            .and_utc()
            .timestamp()
    };
    (year(2015)..year(2035), 0..3_u32)
        .prop_map(|(second, nanosecond)| DateTime::from_timestamp(second, nanosecond).unwrap())
}

fn hash(cron: Cron) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(cron)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fires_as_debians_cron_does(text in expression(), zone in zone(), change: prop::sample::Index, hours in 1..60_i64) {
        let changes = changes(zone, 2015, 2035);
        let some_day = NaiveDate::from_ymd_opt(2024, 2, 27).unwrap().and_hms_opt(0, 0, 0).unwrap().and_utc();
        let near = if changes.is_empty() { some_day } else { changes[change.index(changes.len())] };
        let from = near - TimeDelta::hours(hours);
        let to = from + TimeDelta::days(4);
        let schedule = Schedule::cron(&text).unwrap().timezone(zone).end(to);
        let fires: Vec<_> = schedule.after(from).collect();
        let expected = Reference::new(&text).fires(zone, from, to);
        let back: Vec<_> = schedule.up_to(to).take(fires.len()).collect();
        prop_assert!(fires.iter().eq(back.iter().rev()), "`{}` in {} until {}", text, zone, to);
        let differ = |at: &&DateTime<Utc>| fires.contains(at) != expected.contains(at);
        let first = if fires == expected { None } else { fires.iter().chain(&expected).filter(differ).min() };
        prop_assert_eq!(first, None, "`{}` in {} after {}", text, zone, from);
        for minutes in (0..4 * 24 * 60).step_by(7) {
            let at = from + TimeDelta::minutes(minutes);
            let (done, due) = fires.split_at(fires.partition_point(|fire| *fire <= at));
            prop_assert_eq!(schedule.next(at), due.first().copied(), "`{}` in {} after {}", text, zone, at);
            if let Some(last) = done.last() {
                prop_assert_eq!(schedule.up_to(at).next(), Some(*last), "`{}` in {} until {}", text, zone, at);
            }
        }
    }

    #[test]
    fn a_daily_job_runs_once_for_each_day(hour in 0..24_u32, minute in 0..60_u32, zone in zone(), year in 2015..2031) {
        let schedule = Schedule::cron(&format!("{minute} {hour} * * *")).unwrap().timezone(zone);
        let first = NaiveDate::from_ymd_opt(year, 1, 15).unwrap();
        let last = NaiveDate::from_ymd_opt(year + 4, 1, 15).unwrap();
        let fires: Vec<_> = schedule.fires_between(first..=last).collect();
        prop_assert_eq!(i64::try_from(fires.len()).unwrap(), (last - first).num_days() + 1);
        for two in fires.windows(2) {
            prop_assert!((20..=28).contains(&(two[1] - two[0]).num_hours()), "{:?}", two);
            prop_assert_eq!(schedule.interval_of(two[1]), Interval { start: two[0], end: two[1] });
        }
    }

    #[test]
    fn the_firing_before_the_next_one_is_not_later(fields in fields(), zone in zone(), at in instant()) {
        let Ok(cron) = fields.join(" ").parse::<Cron>() else { return Ok(()) };
        let schedule = Schedule::from(cron).timezone(zone);
        let next = schedule.next(at).unwrap();
        let back = schedule.previous(next).unwrap();
        prop_assert!(back <= at && at < next);
        prop_assert_eq!(schedule.next(back), Some(next));
        prop_assert_eq!(schedule.up_to(at).next(), Some(back));
        prop_assert_eq!(schedule.last_complete_interval(at).map(|interval| interval.end), Some(back));
        prop_assert_eq!(schedule.previous(schedule.next(next).unwrap()), Some(next));
    }

    #[test]
    fn an_expression_parses_from_what_it_prints(fields in fields(), second in field(0, 59), with_seconds: bool) {
        let text = if with_seconds { format!("{second} {}", fields.join(" ")) } else { fields.join("  ") };
        let Ok(cron) = text.parse::<Cron>() else { return Ok(()) };
        let again: Cron = cron.to_string().parse().unwrap();
        prop_assert_eq!(cron, again, "{}", text);
        prop_assert_eq!(hash(cron), hash(again));
        prop_assert_eq!(cron.to_string(), again.to_string());
        let (sets, stars) = cron.to_parts();
        prop_assert_eq!(Cron::from_parts(sets, stars), cron);
    }

    #[test]
    fn parser_does_not_panic_on_any_text(text in "\\PC*", near in "[-0-9*,/@?#LWHa-z ü]{0,30}", day in "[-0-9*/,LWSUN#]{0,6}") {
        for text in [text, near, format!("0 0 {day} {day} {day}")] {
            if let Err(error) = text.parse::<Cron>() {
                prop_assert!(text.get(error.span()).is_some(), "{}", error);
                prop_assert!(error.to_string().contains(&text));
            }
        }
    }

    #[test]
    fn periods_are_counted_from_the_anchor(nanoseconds in 1..u64::MAX, anchor in instant(), at in instant()) {
        let schedule = Schedule::every(std::time::Duration::from_nanos(nanoseconds)).unwrap().anchor(anchor);
        let (next, back) = (schedule.next(at).unwrap(), schedule.up_to(at).next().unwrap());
        prop_assert!(back <= at && at < next);
        let period = TimeDelta::nanoseconds(i64::try_from(nanoseconds / 2).unwrap()) * 2
            + TimeDelta::nanoseconds(i64::try_from(nanoseconds % 2).unwrap());
        prop_assert_eq!(next - back, period);
        prop_assert_eq!(schedule.interval_of(next), Interval { start: back, end: next });
        let anchored = schedule.up_to(anchor).next();
        prop_assert_eq!(anchored, Some(anchor));
    }
}
