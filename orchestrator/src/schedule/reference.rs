//! Compares the calendar with one that goes minute by minute, as Debian's cron does.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, Timelike, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use proptest::prelude::*;

use super::{Cron, Schedule};
use crate::task::Interval;

/// The date that a day becomes if it moves to the nearest day from Monday to Friday.
fn nearest_workday(date: NaiveDate) -> NaiveDate {
    let is_workday = |date: &NaiveDate| date.weekday().num_days_from_monday() < 5;
    [0, -1, 1, -2, 2]
        .into_iter()
        .map(|days| date + TimeDelta::days(days))
        .find(|near| near.month() == date.month() && is_workday(near))
        .unwrap()
}

/// An extension of a day field, as the documentation describes it. `None` for a plain term.
fn extension_matches(term: &str, date: NaiveDate) -> Option<bool> {
    let ends_month = |date: NaiveDate| (date + TimeDelta::days(1)).month() != date.month();
    let weekday = |text: &str| text.parse::<u32>().unwrap() % 7;
    let is_weekday = |text: &str| date.weekday().num_days_from_sunday() == weekday(text);
    if term == "L" {
        return Some(ends_month(date));
    }
    if term == "LW" {
        let last = date.iter_days().find(|date| ends_month(*date)).unwrap();
        return Some(date == nearest_workday(last));
    }
    if let Some(days) = term.strip_prefix("L-") {
        let later = date + TimeDelta::days(days.parse().unwrap());
        return Some(later.month() == date.month() && ends_month(later));
    }
    if let Some(day) = term.strip_suffix('W') {
        let day = date.with_day(day.parse().unwrap());
        return Some(day.is_some_and(|day| nearest_workday(day) == date));
    }
    if let Some((day, nth)) = term.split_once('#') {
        return Some(is_weekday(day) && date.day().div_ceil(7) == nth.parse::<u32>().unwrap());
    }
    let day = term.strip_suffix('L')?;
    Some(is_weekday(day) && (date + TimeDelta::days(7)).month() != date.month())
}

/// A field as crontab's manual describes it, read anew for each value.
fn field_matches(field: &str, value: u32, low: u32, high: u32) -> bool {
    let is_plain = |term: &&str| !term.contains(['L', 'W', '#']);
    field.split(',').filter(is_plain).any(|term| {
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
    dates: String,
    weekdays: String,
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
            dates: day.to_owned(),
            weekdays: weekday.to_owned(),
            both_days: day.starts_with('*') || weekday.starts_with('*'),
            wildcard: minute.starts_with('*') || hour.starts_with('*'),
        }
    }

    fn matches(&self, wall: NaiveDateTime) -> bool {
        let of = |table: &[bool], value: u32| table[usize::try_from(value).unwrap()];
        let special = |field: &str| {
            let mut terms = field.split(',');
            terms.any(|term| extension_matches(term, wall.date()).unwrap_or(false))
        };
        let weekday = wall.weekday().num_days_from_sunday();
        let day = || of(&self.day, wall.day()) || special(&self.dates);
        let weekday = || {
            of(&self.weekday, weekday)
                || (weekday == 0 && of(&self.weekday, 7))
                || special(&self.weekdays)
        };
        of(&self.minute, wall.minute())
            && of(&self.hour, wall.hour())
            && of(&self.month, wall.month())
            && match self.both_days {
                true => day() && weekday(),
                false => day() || weekday(),
            }
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

/// A day field, half of the time with extensions.
fn day_field(
    low: u32,
    high: u32,
    extension: BoxedStrategy<String>,
) -> impl Strategy<Value = String> {
    let term = prop_oneof![
        3 => extension,
        1 => (low..=high).prop_map(|value| value.to_string()),
        1 => (1..=high + 1).prop_map(|step| format!("*/{step}")),
    ];
    let terms = prop::collection::vec(term, 1..4).prop_map(|terms| terms.join(","));
    prop_oneof![field(low, high), terms]
}

fn date_field() -> impl Strategy<Value = String> {
    let extension = prop_oneof![
        Just("L".to_owned()),
        Just("LW".to_owned()),
        (1..=30_u32).prop_map(|days| format!("L-{days}")),
        (1..=31_u32).prop_map(|day| format!("{day}W")),
    ];
    day_field(1, 31, extension.boxed())
}

fn weekday_field() -> impl Strategy<Value = String> {
    let extension = prop_oneof![
        (0..=7_u32).prop_map(|weekday| format!("{weekday}L")),
        (0..=7_u32, 1..=5_u32).prop_map(|(weekday, nth)| format!("{weekday}#{nth}")),
    ];
    day_field(0, 7, extension.boxed())
}

fn fields() -> impl Strategy<Value = [String; 5]> {
    (
        field(0, 59),
        field(0, 23),
        date_field(),
        field(1, 12),
        weekday_field(),
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

/// The calendar repeats itself after 28 years, unless a year divisible by 100 comes between.
const CYCLE: (NaiveDate, NaiveDate) = (
    NaiveDate::from_ymd_opt(2001, 1, 1).unwrap(),
    NaiveDate::from_ymd_opt(2028, 12, 31).unwrap(),
);

/// Terms of which some lists are the same days in some months.
const SIMILAR_DATES: [&str; 12] = [
    "28", "29", "30", "31", "L", "L-1", "L-2", "L-27", "LW", "1", "30W", "31W",
];

/// The days on which an expression fires at midnight.
fn days_of(
    text: &str,
    first: NaiveDate,
    last: NaiveDate,
) -> impl Iterator<Item = NaiveDate> + use<> {
    let reference = Reference::new(text);
    let days = first.iter_days().take_while(move |date| *date <= last);
    days.filter(move |date| reference.matches(date.and_hms_opt(0, 0, 0).unwrap()))
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
    fn days_are_those_of_the_documentation(
        date in date_field(), month in field(1, 12), weekday in weekday_field(), year in 2001..2026,
    ) {
        let text = format!("0 0 {date} {month} {weekday}");
        let Ok(cron) = text.parse::<Cron>() else {
            prop_assert_eq!(days_of(&text, CYCLE.0, CYCLE.1).next(), None, "`{}`", text);
            return Ok(());
        };
        let first = NaiveDate::from_ymd_opt(year, 1, 1).unwrap();
        let last = NaiveDate::from_ymd_opt(year + 3, 12, 31).unwrap();
        let schedule = Schedule::from(cron);
        let fires: Vec<_> = schedule.fires_between(first..=last).map(|fire| fire.date_naive()).collect();
        let expected: Vec<_> = days_of(&text, first, last).collect();
        let differ = |day: &&NaiveDate| fires.contains(day) != expected.contains(day);
        let wrong = if fires == expected { None } else { fires.iter().chain(&expected).filter(differ).min() };
        prop_assert_eq!(wrong, None, "`{}`", text);
        let end = last.and_hms_opt(23, 59, 59).unwrap().and_utc();
        let back: Vec<_> = schedule.up_to(end).take(fires.len()).map(|fire| fire.date_naive()).collect();
        prop_assert!(fires.iter().eq(back.iter().rev()), "`{}`", text);
    }

    #[test]
    fn expressions_of_the_same_days_are_equal(
        days in prop::sample::subsequence(&SIMILAR_DATES, 1..4),
        more in prop::sample::subsequence(&SIMILAR_DATES, 1..3),
        month in prop::sample::select(&["*", "2", "4", "1,2", "9,11"]),
    ) {
        let other_days = [&days[..], &more].concat();
        let texts = [days, other_days].map(|days| format!("0 0 {} {month} *", days.join(",")));
        let [Ok(one), Ok(other)] = texts.each_ref().map(|text| text.parse::<Cron>()) else { return Ok(()) };
        let [days, other_days] = texts.each_ref().map(|text| days_of(text, CYCLE.0, CYCLE.1));
        let same = days.eq(other_days);
        prop_assert_eq!(one == other, same, "`{}` and `{}`", texts[0], texts[1]);
        prop_assert!(!same || hash(one) == hash(other), "`{}` and `{}`", texts[0], texts[1]);
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
        let (parts, stars) = cron.to_parts();
        prop_assert_eq!(Cron::from_parts(parts, stars), cron);
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
