//! Parses days and instants.

use chrono::{
    DateTime, Datelike as _, Days, MappedLocalTime, NaiveDate, NaiveDateTime, Offset as _,
    SecondsFormat, TimeZone as _, Utc,
};
use chrono_tz::Tz;

use super::exit::CommandFailure;
use crate::schedule::{Schedule, ScheduleUnion};
use crate::task::Interval;

/// A day, or an instant with or without a time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DateArgument {
    Day(NaiveDate),
    Local(NaiveDateTime),
    Instant(DateTime<Utc>),
}

/// The logical date and the interval of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunDate {
    pub(super) logical_date: DateTime<Utc>,
    pub(super) interval: Option<Interval>,
}

/// The maximum number of ticks of a day that are considered.
const TICKS: usize = 10_000;

/// Resolves `--date` by the schedules of a deployment: for a day, its only tick, or the day itself
/// if there are no schedules.
pub(super) fn of_run(union: &ScheduleUnion, typed: &str) -> Result<RunDate, CommandFailure> {
    let schedules = union.schedules();
    let at = match read(typed)? {
        DateArgument::Day(day) if schedules.is_empty() => {
            let (start, end) = (midnight(day), midnight(day + Days::new(1)));
            return Ok(RunDate {
                logical_date: start,
                interval: Some(Interval { start, end }),
            });
        }
        DateArgument::Day(day) => {
            let ticks: Vec<DateTime<Utc>> =
                union.fires_between(day..=day).take(TICKS + 1).collect();
            match ticks.as_slice() {
                [tick] => *tick,
                [] => return Err(no_tick(union, day)),
                ticks => return Err(several(ticks, day, union)),
            }
        }
        DateArgument::Local(local) => match one_zone(schedules) {
            Some(zone) => in_zone(local, zone)?,
            None => return Err(no_zone(schedules, typed)),
        },
        DateArgument::Instant(at) => at,
    };
    Ok(RunDate {
        logical_date: at,
        interval: union.last_complete_interval(at),
    })
}

/// Formats an instant in local time, with its offset, and with a fraction of a second if it has
/// one. Uses UTC if local time is outside the range of the calendar.
pub(super) fn local(at: DateTime<Utc>, zone: Tz) -> String {
    let offset = zone.offset_from_utc_datetime(&at.naive_utc()).fix();
    let offset = at
        .naive_utc()
        .checked_add_offset(offset)
        .map_or(Utc.fix(), |_| offset);
    at.with_timezone(&offset)
        .to_rfc3339_opts(SecondsFormat::AutoSi, false)
}

/// Returns the bound of a list: the beginning or the end of a day, in UTC.
pub(super) fn bound(typed: &str, to_the_end: bool) -> Result<DateTime<Utc>, CommandFailure> {
    match read(typed)? {
        DateArgument::Day(day) if to_the_end => {
            Ok(midnight(day + Days::new(1)) - chrono::TimeDelta::microseconds(1))
        }
        DateArgument::Day(day) => Ok(midnight(day)),
        DateArgument::Local(local) => Ok(local.and_utc()),
        DateArgument::Instant(at) => Ok(at),
    }
}

/// Returns the bound of a list. A time without a zone is in that of the flow, as with `--date`.
pub(super) fn bound_in(
    zone: Tz,
    typed: &str,
    to_the_end: bool,
) -> Result<DateTime<Utc>, CommandFailure> {
    // if the clocks go forward at midnight, the day begins later
    let begin = |day: NaiveDate| {
        let times = (0..48).map(|half| {
            day.and_time(chrono::NaiveTime::MIN) + chrono::TimeDelta::minutes(30 * half)
        });
        times
            .into_iter()
            .find_map(|time| zone.from_local_datetime(&time).earliest())
            .map_or(midnight(day), |at| at.to_utc())
    };
    match read(typed)? {
        DateArgument::Day(day) if to_the_end => {
            Ok(begin(day + Days::new(1)) - chrono::TimeDelta::microseconds(1))
        }
        DateArgument::Day(day) => Ok(begin(day)),
        DateArgument::Local(local) => in_zone(local, zone),
        DateArgument::Instant(at) => Ok(at),
    }
}

fn read(typed: &str) -> Result<DateArgument, CommandFailure> {
    let failure = |what: &str| {
        CommandFailure::usage(format!("expected {what}, got `{typed}`"))
            .hint("write `2026-01-31`, `2026-01-31T05:00`, or `2026-01-31T05:00:00+01:00`")
    };
    let instant = |format: &str| {
        let at = DateTime::parse_from_str(typed, &format!("{format}%#z"))
            .map(|at| DateArgument::Instant(at.to_utc()));
        at.or_else(|_| NaiveDateTime::parse_from_str(typed, format).map(DateArgument::Local))
            .ok()
    };
    let formats = [
        "%Y-%m-%dT%H:%M",
        "%Y-%m-%dT%H:%M:%S%.f",
        "%Y-%m-%d %H:%M",
        "%Y-%m-%d %H:%M:%S%.f",
    ];
    let read = typed
        .parse()
        .ok()
        .map(DateArgument::Day)
        .or_else(|| formats.into_iter().find_map(instant));
    let read = read.ok_or_else(|| failure("a day or an instant"))?;
    let year = match read {
        DateArgument::Day(day) => day.year(),
        DateArgument::Local(local) => local.year(),
        DateArgument::Instant(at) => at.year(),
    };
    // RFC 3339 ends here, and chrono's calendar a little further on
    if (0..=9999).contains(&year) {
        Ok(read)
    } else {
        Err(failure("a year from 0 to 9999"))
    }
}

/// Returns the time zone that all schedules share, if they do.
fn one_zone(schedules: &[Schedule]) -> Option<Tz> {
    let zone = schedules.first().map_or(Tz::UTC, Schedule::zone);
    schedules
        .iter()
        .all(|schedule| schedule.zone() == zone)
        .then_some(zone)
}

fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(chrono::NaiveTime::MIN).and_utc()
}

/// Returns the first of an ambiguous local time's two instants, as schedules do.
fn in_zone(local: NaiveDateTime, zone: Tz) -> Result<DateTime<Utc>, CommandFailure> {
    match zone.from_local_datetime(&local) {
        MappedLocalTime::Single(at) | MappedLocalTime::Ambiguous(at, _) => Ok(at.to_utc()),
        MappedLocalTime::None => Err(CommandFailure::usage(format!(
            "there is no `{local}` in {zone}"
        ))
        .why("the clocks were set forward over it")
        .hint("give the instant with an offset, such as `2026-03-29T01:00:00Z`")),
    }
}

fn no_tick(union: &ScheduleUnion, day: NaiveDate) -> CommandFailure {
    let schedules = union.schedules();
    let next = union
        .fires_between(day + Days::new(1)..=NaiveDate::MAX)
        .next();
    CommandFailure::usage(format!("the flow has no tick on {day}"))
        .why(match schedules.len() {
            1 => format!("its schedule is {}", written(schedules)),
            _ => format!("its schedules are {}", written(schedules)),
        })
        .or_hint(next.map(|tick| {
            format!(
                "the next tick after it is {}",
                local(tick, zone_of(union, tick))
            )
        }))
}

/// Returns the time zone of the first schedule that has a tick.
pub(super) fn zone_of(union: &ScheduleUnion, tick: DateTime<Utc>) -> Tz {
    let has = |schedule: &&Schedule| schedule.up_to(tick).next() == Some(tick);
    let with_tick = union.schedules().iter().find(has);
    with_tick.map_or_else(|| union.zone(), Schedule::zone)
}

fn no_zone(schedules: &[Schedule], typed: &str) -> CommandFailure {
    CommandFailure::usage(format!("expected an instant with an offset, got `{typed}`"))
        .why(format!(
            "the flow's schedules are in different zones: {}",
            written(schedules)
        ))
        .hint("give an offset, as in `2026-01-31T05:00+01:00`")
}

fn written(schedules: &[Schedule]) -> String {
    schedules
        .iter()
        .map(|schedule| format!("`{schedule}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Lists ticks in the form that `--date` accepts: in the zone of all schedules, if they share one
/// and it tells the ticks apart.
fn several(ticks: &[DateTime<Utc>], day: NaiveDate, union: &ScheduleUnion) -> CommandFailure {
    const LISTED: usize = 24;
    let zone = one_zone(union.schedules());
    let to_the_minute = ticks
        .iter()
        .all(|tick| tick.timestamp_subsec_nanos() == 0 && tick.timestamp() % 60 == 0);
    let format = if to_the_minute {
        "%Y-%m-%dT%H:%M"
    } else {
        "%Y-%m-%dT%H:%M:%S%.f"
    };
    let typed = |tick: &DateTime<Utc>| {
        let local = tick.with_timezone(&zone.unwrap_or_else(|| zone_of(union, *tick)));
        let is_clear = zone
            .is_some_and(|zone| in_zone(local.naive_local(), zone).is_ok_and(|read| read == *tick));
        local
            .format(&format!("{format}{}", if is_clear { "" } else { "%:z" }))
            .to_string()
    };
    let mut list = ticks
        .iter()
        .take(LISTED)
        .map(typed)
        .collect::<Vec<_>>()
        .join(", ");
    if ticks.len() > LISTED {
        list.push_str(&format!(" and {} more", ticks.len() - LISTED));
    }
    let count = if ticks.len() > TICKS {
        format!("more than {TICKS}")
    } else {
        ticks.len().to_string()
    };
    CommandFailure::usage(format!("the flow has {count} ticks on {day}"))
        .why(list)
        .hint(format!(
            "choose one: `--date {}`",
            ticks.first().map(typed).unwrap_or_default()
        ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::instant;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn zurich(cron: &str) -> Vec<Schedule> {
        vec![Schedule::cron(cron).unwrap().timezone(Tz::Europe__Zurich)]
    }

    fn of_run(schedules: &[Schedule], typed: &str) -> Result<RunDate, CommandFailure> {
        let union = ScheduleUnion::new(schedules.to_vec(), DateTime::UNIX_EPOCH);
        super::of_run(&union, typed)
    }

    #[test]
    fn a_day_is_its_tick_or_itself() {
        let of = |schedules: &[Schedule], typed: &str| {
            let date = of_run(schedules, typed)
                .map_err(|failure| failure.what)
                .unwrap();
            let interval = date.interval.unwrap();
            [date.logical_date, interval.start, interval.end].map(instant)
        };
        let six = zurich("0 6 * * *");
        let expected = [
            "2026-01-31T05:00:00Z",
            "2026-01-30T05:00:00Z",
            "2026-01-31T05:00:00Z",
        ];
        for typed in [
            "2026-01-31",
            "2026-01-31T06:00",
            "2026-01-31 06:00:00",
            "2026-01-31T05:00:00Z",
        ] {
            assert_eq!(of(&six, typed), expected, "{typed}");
        }
        let between = [
            "2026-01-31T06:00:00Z",
            "2026-01-30T05:00:00Z",
            "2026-01-31T05:00:00Z",
        ];
        assert_eq!(of(&six, "2026-01-31T07:00"), between);
        let whole = [
            "2026-01-31T00:00:00Z",
            "2026-01-31T00:00:00Z",
            "2026-02-01T00:00:00Z",
        ];
        assert_eq!(of(&[], "2026-01-31"), whole);
        assert_eq!(
            of_run(&[], "2026-01-31T07:00").unwrap().logical_date,
            utc("2026-01-31T07:00:00Z")
        );
    }

    #[test]
    fn an_instant_may_go_without_seconds() {
        let read = |typed| read(typed).map_err(|failure| failure.what);
        for (typed, at) in [
            ("2026-01-28T00:00Z", "2026-01-28T00:00:00Z"),
            ("2026-01-28T00:00+01:00", "2026-01-27T23:00:00Z"),
            ("2026-01-28 00:00:30.5-0500", "2026-01-28T05:00:30.5Z"),
        ] {
            assert_eq!(read(typed), Ok(DateArgument::Instant(utc(at))), "{typed}");
        }
    }

    #[test]
    fn the_calendar_has_an_end() {
        for typed in [
            "+262142-12-31",
            "-262143-01-01",
            "+262142-12-31T23:59",
            "+10000-01-01T00:00Z",
        ] {
            let expected = format!("expected a year from 0 to 9999, got `{typed}`");
            assert_eq!(of_run(&[], typed).unwrap_err().what, expected, "{typed}");
            assert_eq!(
                of_run(&zurich("0 6 * * *"), typed).unwrap_err().what,
                expected,
                "{typed}"
            );
            assert_eq!(bound(typed, true).unwrap_err().what, expected, "{typed}");
        }
        assert_eq!(
            bound("9999-12-31", true).unwrap(),
            utc("9999-12-31T23:59:59.999999Z")
        );
        assert!(of_run(&zurich("0 6 * * *"), "9999-12-31").is_ok());
    }

    #[test]
    fn the_next_tick_is_after_the_day_and_in_the_zone() {
        let friday = vec![
            Schedule::cron("0 22 * * FRI")
                .unwrap()
                .timezone(Tz::America__New_York),
        ];
        let failure = of_run(&friday, "2026-01-31").unwrap_err();
        assert_eq!(
            failure.hint.unwrap(),
            "the next tick after it is 2026-02-06T22:00:00-05:00"
        );
    }

    #[test]
    fn a_local_time_is_refused_where_zones_differ() {
        let mut both = zurich("0 6 * * *");
        both.extend([Schedule::cron("0 6 * * *")
            .unwrap()
            .timezone(Tz::America__New_York)]);
        let failure = of_run(&both, "2026-01-31T06:00").unwrap_err();
        assert_eq!(
            failure.what,
            "expected an instant with an offset, got `2026-01-31T06:00`"
        );
        assert!(
            failure
                .why
                .unwrap()
                .contains("`0 6 * * * in Europe/Zurich`, `0 6 * * * in America/New_York`")
        );
        let failure = of_run(&both, "2026-01-31").unwrap_err();
        assert_eq!(
            failure.why.unwrap(),
            "2026-01-31T06:00+01:00, 2026-01-31T06:00-05:00"
        );
        let at = of_run(&both, "2026-01-31T06:00-05:00").unwrap();
        assert_eq!(
            (at.logical_date, at.interval.unwrap().start),
            (utc("2026-01-31T11:00:00Z"), utc("2026-01-31T05:00:00Z")),
            "the interval begins at the tick before, whichever schedule has it"
        );
    }

    #[test]
    fn ticks_are_listed_so_that_each_can_be_typed() {
        let why =
            |schedules: &[Schedule], day: &str| of_run(schedules, day).unwrap_err().why.unwrap();
        assert_eq!(
            why(&zurich("0,30 0 6 * * *"), "2026-01-31"),
            "2026-01-31T06:00:00, 2026-01-31T06:00:30"
        );
        let twice = "2026-10-25T02:00, 2026-10-25T02:00+01:00, 2026-10-25T03:00";
        assert!(why(&zurich("0 * * * *"), "2026-10-25").contains(twice));
        let failure = of_run(
            &[Schedule::every(std::time::Duration::from_nanos(1_500)).unwrap()],
            "2026-01-31",
        );
        let failure = failure.unwrap_err();
        assert_eq!(
            failure.what,
            "the flow has more than 10000 ticks on 2026-01-31"
        );
        assert!(
            failure
                .why
                .unwrap()
                .contains(", 2026-01-31T00:00:00.000001500, ")
        );
    }

    #[test]
    fn ambiguous_times_are_refused_with_the_reason() {
        let what = |schedules: &[Schedule], typed: &str| of_run(schedules, typed).unwrap_err().what;
        assert_eq!(
            what(&zurich("0 6,18 * * *"), "2026-01-31"),
            "the flow has 2 ticks on 2026-01-31"
        );
        assert_eq!(
            what(&zurich("0 6 * * MON"), "2026-01-31"),
            "the flow has no tick on 2026-01-31"
        );
        assert_eq!(
            what(&[], "yesterday"),
            "expected a day or an instant, got `yesterday`"
        );
        assert!(
            what(&zurich("0 6 * * *"), "2026-03-29T02:30")
                .starts_with("there is no `2026-03-29 02:30")
        );
    }

    #[test]
    fn days_end_and_begin_in_the_zone_of_the_flow() {
        let of = |zone: Tz, typed: &str| {
            let bounds = [bound_in(zone, typed, false), bound_in(zone, typed, true)];
            bounds.map(|bound| bound.map_or_else(|failure| failure.what, |at| at.to_string()))
        };
        let zurich = Tz::Europe__Zurich;
        assert_eq!(
            of(zurich, "2026-03-29"),
            ["2026-03-28 23:00:00 UTC", "2026-03-29 21:59:59.999999 UTC"]
        );
        assert_eq!(
            of(zurich, "2026-01-31T06:00"),
            ["2026-01-31 05:00:00 UTC"; 2]
        );
        assert_eq!(
            of(zurich, "2026-01-31T06:00:00Z"),
            ["2026-01-31 06:00:00 UTC"; 2]
        );
        assert_eq!(
            of(zurich, "2026-03-29T02:30"),
            ["there is no `2026-03-29 02:30:00` in Europe/Zurich"; 2]
        );
        // that day begins at one
        let santiago = Tz::America__Santiago;
        assert_eq!(
            of(santiago, "2026-09-06"),
            ["2026-09-06 04:00:00 UTC", "2026-09-07 02:59:59.999999 UTC"]
        );
    }
}
