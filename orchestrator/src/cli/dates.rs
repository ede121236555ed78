//! Days and instants, as they are typed.

use chrono::{DateTime, Days, MappedLocalTime, NaiveDate, NaiveDateTime, TimeZone as _, Utc};
use chrono_tz::Tz;

use super::exit::Failure;
use super::output::instant;
use crate::schedule::Schedule;
use crate::task::Interval;

/// A day, or an instant of which the zone may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Typed {
    Day(NaiveDate),
    Local(NaiveDateTime),
    Instant(DateTime<Utc>),
}

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date {
    pub(super) logical_date: DateTime<Utc>,
    pub(super) interval: Option<Interval>,
}

/// What a run is for, by the flow's schedules: of a day, its one tick; without a schedule, the day itself.
pub(super) fn of_run(schedules: &[Schedule], typed: &str) -> Result<Date, Failure> {
    let zone = schedules.first().map_or(Tz::UTC, Schedule::zone);
    let at = match read(typed)? {
        Typed::Day(day) if schedules.is_empty() => {
            let (start, end) = (midnight(day), midnight(day + Days::new(1)));
            return Ok(Date { logical_date: start, interval: Some(Interval { start, end }) });
        }
        Typed::Day(day) => {
            let mut fires: Vec<DateTime<Utc>> =
                schedules.iter().flat_map(|schedule| schedule.date_fires(day)).collect();
            fires.sort_unstable();
            fires.dedup();
            match fires.as_slice() {
                [fire] => *fire,
                [] => return Err(no_tick(schedules, day)),
                fires => return Err(several(fires, day, zone)),
            }
        }
        Typed::Local(local) => in_zone(local, zone)?,
        Typed::Instant(at) => at,
    };
    let of = schedules.iter().find(|schedule| schedule.date_fires(local_date(schedule, at)).any(|fire| fire == at));
    let interval = match of {
        Some(schedule) => Some(schedule.interval_of(at)),
        None => schedules.first().and_then(|schedule| schedule.last_complete_interval(at)),
    };
    Ok(Date { logical_date: at, interval: interval.map(|(start, end)| Interval { start, end }) })
}

/// The bound of a list: from the beginning of a day on, or to its end, in UTC.
pub(super) fn bound(typed: &str, to_the_end: bool) -> Result<DateTime<Utc>, Failure> {
    match read(typed)? {
        Typed::Day(day) if to_the_end => Ok(midnight(day + Days::new(1)) - chrono::TimeDelta::microseconds(1)),
        Typed::Day(day) => Ok(midnight(day)),
        Typed::Local(local) => Ok(local.and_utc()),
        Typed::Instant(at) => Ok(at),
    }
}

/// The bound of a list, where what is typed without a zone is in that of a flow: as `--date` has it.
pub(super) fn bound_in(zone: Tz, typed: &str, to_the_end: bool) -> Result<DateTime<Utc>, Failure> {
    // where the clocks go forward over midnight, a day begins later
    let begin = |day: NaiveDate| {
        let times = (0..48).map(|half| day.and_time(chrono::NaiveTime::MIN) + chrono::TimeDelta::minutes(30 * half));
        times
            .into_iter()
            .find_map(|time| zone.from_local_datetime(&time).earliest())
            .map_or(midnight(day), |at| at.to_utc())
    };
    match read(typed)? {
        Typed::Day(day) if to_the_end => Ok(begin(day + Days::new(1)) - chrono::TimeDelta::microseconds(1)),
        Typed::Day(day) => Ok(begin(day)),
        Typed::Local(local) => in_zone(local, zone),
        Typed::Instant(at) => Ok(at),
    }
}

fn read(typed: &str) -> Result<Typed, Failure> {
    let local = |format| NaiveDateTime::parse_from_str(typed, format).ok();
    if let Ok(day) = typed.parse() {
        return Ok(Typed::Day(day));
    }
    if let Ok(at) = DateTime::parse_from_rfc3339(typed) {
        return Ok(Typed::Instant(at.to_utc()));
    }
    let formats = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"];
    formats.into_iter().find_map(local).map(Typed::Local).ok_or_else(|| {
        Failure::usage(format!("expected a day or an instant, got `{typed}`"))
            .hint("write `2026-01-31`, `2026-01-31T05:00`, or `2026-01-31T05:00:00+01:00`")
    })
}

fn local_date(schedule: &Schedule, at: DateTime<Utc>) -> NaiveDate {
    at.with_timezone(&schedule.zone()).date_naive()
}

fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(chrono::NaiveTime::MIN).and_utc()
}

/// Of a time that comes twice, the first: as schedules have it.
fn in_zone(local: NaiveDateTime, zone: Tz) -> Result<DateTime<Utc>, Failure> {
    match zone.from_local_datetime(&local) {
        MappedLocalTime::Single(at) | MappedLocalTime::Ambiguous(at, _) => Ok(at.to_utc()),
        MappedLocalTime::None => Err(Failure::usage(format!("there is no `{local}` in {zone}"))
            .why("the clocks were put forward over it")
            .hint("give the instant with an offset, as `2026-03-29T01:00:00Z`")),
    }
}

fn no_tick(schedules: &[Schedule], day: NaiveDate) -> Failure {
    let written: Vec<String> = schedules.iter().map(|schedule| format!("`{schedule}`")).collect();
    let next = schedules.iter().filter_map(|schedule| schedule.next(midnight(day))).min();
    Failure::usage(format!("the flow has no tick on {day}"))
        .why(format!("its schedule is {}", written.join(", ")))
        .or_hint(next.map(|next| format!("the next after it is {}", instant(next))))
}

fn several(fires: &[DateTime<Utc>], day: NaiveDate, zone: Tz) -> Failure {
    const LISTED: usize = 24;
    let local = |fire: &DateTime<Utc>| fire.with_timezone(&zone).format("%Y-%m-%dT%H:%M").to_string();
    let mut list = fires.iter().take(LISTED).map(local).collect::<Vec<_>>().join(", ");
    if fires.len() > LISTED {
        list.push_str(&format!(" and {} more", fires.len() - LISTED));
    }
    Failure::usage(format!("the flow has {} ticks on {day}", fires.len()))
        .why(list)
        .hint(format!("give one of them: `--date {}`", fires.first().map(local).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn zurich(cron: &str) -> Vec<Schedule> {
        vec![Schedule::cron(cron).unwrap().timezone(Tz::Europe__Zurich)]
    }

    #[test]
    fn a_day_is_its_tick_or_itself() {
        let of = |schedules: &[Schedule], typed: &str| {
            let date = of_run(schedules, typed).map_err(|failure| failure.what).unwrap();
            let interval = date.interval.unwrap();
            [date.logical_date, interval.start, interval.end].map(instant)
        };
        let six = zurich("0 6 * * *");
        let expected = ["2026-01-31T05:00:00Z", "2026-01-30T05:00:00Z", "2026-01-31T05:00:00Z"];
        for typed in ["2026-01-31", "2026-01-31T06:00", "2026-01-31 06:00:00", "2026-01-31T05:00:00Z"] {
            assert_eq!(of(&six, typed), expected, "{typed}");
        }
        let between = ["2026-01-31T06:00:00Z", "2026-01-30T05:00:00Z", "2026-01-31T05:00:00Z"];
        assert_eq!(of(&six, "2026-01-31T07:00"), between);
        let whole = ["2026-01-31T00:00:00Z", "2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z"];
        assert_eq!(of(&[], "2026-01-31"), whole);
        assert_eq!(of_run(&[], "2026-01-31T07:00").unwrap().logical_date, utc("2026-01-31T07:00:00Z"));
    }

    #[test]
    fn what_is_not_one_instant_is_said() {
        let what = |schedules: &[Schedule], typed: &str| of_run(schedules, typed).unwrap_err().what;
        assert_eq!(what(&zurich("0 6,18 * * *"), "2026-01-31"), "the flow has 2 ticks on 2026-01-31");
        assert_eq!(what(&zurich("0 6 * * MON"), "2026-01-31"), "the flow has no tick on 2026-01-31");
        assert_eq!(what(&[], "yesterday"), "expected a day or an instant, got `yesterday`");
        assert!(what(&zurich("0 6 * * *"), "2026-03-29T02:30").starts_with("there is no `2026-03-29 02:30"));
    }

    #[test]
    fn days_end_and_begin_in_the_zone_of_the_flow() {
        let of = |zone: Tz, typed: &str| {
            let bounds = [bound_in(zone, typed, false), bound_in(zone, typed, true)];
            bounds.map(|bound| bound.map_or_else(|failure| failure.what, |at| at.to_string()))
        };
        let zurich = Tz::Europe__Zurich;
        assert_eq!(of(zurich, "2026-03-29"), ["2026-03-28 23:00:00 UTC", "2026-03-29 21:59:59.999999 UTC"]);
        assert_eq!(of(zurich, "2026-01-31T06:00"), ["2026-01-31 05:00:00 UTC"; 2]);
        assert_eq!(of(zurich, "2026-01-31T06:00:00Z"), ["2026-01-31 06:00:00 UTC"; 2]);
        assert_eq!(of(zurich, "2026-03-29T02:30"), ["there is no `2026-03-29 02:30:00` in Europe/Zurich"; 2]);
        // that day begins at one
        let santiago = Tz::America__Santiago;
        assert_eq!(of(santiago, "2026-09-06"), ["2026-09-06 04:00:00 UTC", "2026-09-07 02:59:59.999999 UTC"]);
    }
}
