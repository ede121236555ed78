//! Finds the firings of a crontab expression in a time zone, across clock changes.
//!
//! Everything is based on one total function, the local time of an instant. The reverse, which has
//! zero, one or two results, is never needed. As in Debian's cron, there are two kinds of jobs:
//!
//! - A job with a wildcard fires at each instant whose local time matches. It fires in both
//!   occurrences of a repeated hour, and not at all in a skipped one.
//! - A job at fixed times fires at the first instant at which the wall clock shows one of its times
//!   *or a later one*. So a skipped time fires at the end of the gap, a repeated one at its first
//!   occurrence, and several times in one gap are a single firing. (Debian treats changes of more
//!   than three hours as corrections, and does not make up for them. This module does: the job of
//!   the day that Samoa skipped runs when the next day begins.)
//!
//! Both are implemented once for each direction. Wall times are local times, in seconds since
//! 1970-01-01T00:00:00 local time.

#[cfg(feature = "cli")]
use chrono::NaiveTime;
use chrono::{DateTime, Datelike, NaiveDate, Offset, TimeZone, Utc};
use chrono_tz::Tz;

use super::{Cron, CronField};

const DAY: i64 = 24 * 3600;

/// 1970-01-01 as a day number of chrono.
const EPOCH: i64 = 719_163;

/// Longer than the difference of any two offsets (-15:56 in Manila and +15:13 in Metlakatla, in
/// local mean time), and shorter than the time between any two clock changes of a zone (167 hours,
/// in Brazil in 2000 and in Gaza). Within it the clocks therefore change at most once, and no
/// change reaches further.
const REACH: i64 = 36 * 3600;

/// Returns the first firing after an instant, or `None` at the end of chrono's calendar.
pub(crate) fn next_after(cron: &Cron, zone: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let clock = ZoneClock(zone);
    let after = after.timestamp();
    let fire = match cron.is_fixed() {
        true => clock.first_showing(next_wall(cron, clock.high_water(after) + 1)?),
        false => next_match(cron, clock, after + 1)?,
    };
    DateTime::from_timestamp(fire, 0)
}

/// Returns the last firing before an instant, or `None` at the beginning of chrono's calendar.
pub(crate) fn previous_before(
    cron: &Cron,
    zone: Tz,
    before: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let clock = ZoneClock(zone);
    let last = match before.timestamp_subsec_nanos() {
        0 => before.timestamp() - 1,
        _ => before.timestamp(),
    };
    let fire = match cron.is_fixed() {
        true => clock.first_showing(previous_wall(cron, clock.high_water(last))?),
        false => previous_match(cron, clock, last)?,
    };
    DateTime::from_timestamp(fire, 0)
}

/// Returns the local date.
pub(crate) fn date_of(zone: Tz, at: DateTime<Utc>) -> NaiveDate {
    let offset = zone.offset_from_utc_datetime(&at.naive_utc()).fix();
    at.naive_utc()
        .checked_add_offset(offset)
        .unwrap_or(at.naive_utc())
        .date()
}

/// Returns the first instant of a date, and the one after its last. A change may go back over
/// midnight, so instants in between may have another date.
pub(crate) fn span_of(zone: Tz, date: NaiveDate) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let clock = ZoneClock(zone);
    let midnight = days_since_epoch(date) * DAY;
    let (first, end) = (clock.first_showing(midnight), clock.past(midnight + DAY));
    Some((
        DateTime::from_timestamp(first, 0)?,
        DateTime::from_timestamp(end, 0)?,
    ))
}

/// The effect of a clock change on the time of a firing.
#[cfg(feature = "cli")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClockChange {
    /// The time is skipped that day: the firing comes right after the gap.
    LeftOut(NaiveTime),
    /// The time occurs twice, and the firing is at the first occurrence.
    First(NaiveTime),
    /// The time occurs twice, and the firing is at the second occurrence.
    Second(NaiveTime),
}

/// Returns the effect of a clock change on the time of a firing, of an expression or otherwise.
#[cfg(feature = "cli")]
pub(crate) fn change_at(cron: Option<&Cron>, zone: Tz, fire: DateTime<Utc>) -> Option<ClockChange> {
    let (clock, at) = (ZoneClock(zone), fire.timestamp());
    let wall = at + clock.offset(at);
    let time = |wall: i64| {
        NaiveTime::from_num_seconds_from_midnight_opt(u32::try_from(wall.rem_euclid(DAY)).ok()?, 0)
    };
    let due = cron
        .filter(|cron| cron.is_fixed())
        .and_then(|cron| next_wall(cron, at + clock.offset(at - 1)));
    if let Some(due) = due.filter(|due| *due < wall) {
        return time(due).map(ClockChange::LeftOut);
    }
    let (from, to) = around(wall);
    let other = [from, to].map(|side| wall - clock.offset(side));
    let other = other
        .into_iter()
        .find(|other| *other != at && *other + clock.offset(*other) == wall)?;
    time(wall).map(if other > at {
        ClockChange::First
    } else {
        ClockChange::Second
    })
}

/// Returns the first instant from `at` on whose local time matches.
fn next_match(cron: &Cron, clock: ZoneClock, mut at: i64) -> Option<i64> {
    loop {
        let wall = at + clock.offset(at);
        let wait = next_wall(cron, wall)? - wall;
        match clock.change(at, at + wait.min(REACH)) {
            Some(change) => at = change,
            None if wait <= REACH => return Some(at + wait),
            // Whatever the clocks do from here on, no local time matches until shortly
            // before it is due.
            None => at += REACH.max(wait - REACH),
        }
    }
}

/// Returns the last instant up to `at` whose local time matches.
fn previous_match(cron: &Cron, clock: ZoneClock, mut at: i64) -> Option<i64> {
    loop {
        let wall = at + clock.offset(at);
        let back = wall - previous_wall(cron, wall)?;
        match clock.change(at - back.min(REACH), at) {
            Some(change) => at = change - 1,
            None if back <= REACH => return Some(at - back),
            None => at -= REACH.max(back - REACH),
        }
    }
}

/// The clock of a time zone, in seconds.
#[derive(Clone, Copy)]
struct ZoneClock(Tz);

impl ZoneClock {
    /// Returns the offset from UTC. Outside chrono's calendar, returns that at its ends.
    fn offset(self, at: i64) -> i64 {
        let end = if at < 0 {
            DateTime::<Utc>::MIN_UTC
        } else {
            DateTime::<Utc>::MAX_UTC
        };
        let utc = DateTime::from_timestamp(at, 0).unwrap_or(end).naive_utc();
        self.0
            .offset_from_utc_datetime(&utc)
            .fix()
            .local_minus_utc()
            .into()
    }

    /// Returns the instant after `from` and up to `to` at which the clock changes. The two must be
    /// within `REACH` of each other.
    fn change(self, from: i64, to: i64) -> Option<i64> {
        let before = self.offset(from);
        if before == self.offset(to) {
            return None;
        }
        let (mut unchanged, mut changed) = (from, to);
        while changed - unchanged > 1 {
            let middle = unchanged + (changed - unchanged) / 2;
            match self.offset(middle) == before {
                true => unchanged = middle,
                false => changed = middle,
            }
        }
        Some(changed)
    }

    /// Returns the latest local time that the clock has shown up to `at`.
    fn high_water(self, at: i64) -> i64 {
        let wall = at + self.offset(at);
        match self.change(at - REACH, at) {
            Some(change) => wall.max(change - 1 + self.offset(change - 1)),
            None => wall,
        }
    }

    /// Returns the first instant at which the clock shows a local time or a later one.
    fn first_showing(self, wall: i64) -> i64 {
        let (from, to) = around(wall);
        match self.change(from, to) {
            Some(change) if wall - self.offset(from) >= change => {
                change.max(wall - self.offset(to))
            }
            _ => wall - self.offset(from),
        }
    }

    /// Returns an instant from which on the clock never shows an earlier local time.
    fn past(self, wall: i64) -> i64 {
        let (from, to) = around(wall);
        wall - self.offset(from).min(self.offset(to))
    }
}

/// Returns an instant at which any clock is before a local time, and one at which any clock is
/// after it: no clock is this far from UTC.
fn around(wall: i64) -> (i64, i64) {
    (wall - REACH / 2, wall + REACH / 2)
}

/// Returns the first matching local time from `from` on.
fn next_wall(cron: &Cron, from: i64) -> Option<i64> {
    let (day, second) = (from.div_euclid(DAY), from.rem_euclid(DAY));
    let today = date_at(day)?;
    if has_day(cron, today)
        && let Some(time) = next_time(cron, u32::try_from(second).ok()?)
    {
        return Some(day * DAY + time);
    }
    let date = next_date(cron, today.succ_opt()?)?;
    Some(days_since_epoch(date) * DAY + next_time(cron, 0)?)
}

/// Returns the last matching local time up to `to`.
fn previous_wall(cron: &Cron, to: i64) -> Option<i64> {
    let (day, second) = (to.div_euclid(DAY), to.rem_euclid(DAY));
    let today = date_at(day)?;
    if has_day(cron, today)
        && let Some(time) = previous_time(cron, u32::try_from(second).ok()?)
    {
        return Some(day * DAY + time);
    }
    let date = previous_date(cron, today.pred_opt()?)?;
    Some(days_since_epoch(date) * DAY + previous_time(cron, 24 * 3600 - 1)?)
}

fn date_at(days_since_epoch: i64) -> Option<NaiveDate> {
    NaiveDate::from_num_days_from_ce_opt(i32::try_from(days_since_epoch + EPOCH).ok()?)
}

fn days_since_epoch(date: NaiveDate) -> i64 {
    i64::from(date.num_days_from_ce()) - EPOCH
}

/// Returns the first matching time of the day from `from` on, in seconds.
fn next_time(cron: &Cron, from: u32) -> Option<i64> {
    let [hours, minutes, seconds] = times(cron);
    let (hour, minute, second) = (from / 3600, from / 60 % 60, from % 60);
    if contains(hours, hour) {
        if contains(minutes, minute)
            && let Some(second) = lowest(seconds, second)
        {
            return Some(time(hour, minute, second));
        }
        if let Some(minute) = lowest(minutes, minute + 1) {
            return Some(time(hour, minute, lowest(seconds, 0)?));
        }
    }
    Some(time(
        lowest(hours, hour + 1)?,
        lowest(minutes, 0)?,
        lowest(seconds, 0)?,
    ))
}

/// Returns the last matching time of the day up to `to`, in seconds.
fn previous_time(cron: &Cron, to: u32) -> Option<i64> {
    let [hours, minutes, seconds] = times(cron);
    let (hour, minute, second) = (to / 3600, to / 60 % 60, to % 60);
    if contains(hours, hour) {
        if contains(minutes, minute)
            && let Some(second) = highest(seconds, second)
        {
            return Some(time(hour, minute, second));
        }
        if let Some(minute) = minute
            .checked_sub(1)
            .and_then(|minute| highest(minutes, minute))
        {
            return Some(time(hour, minute, highest(seconds, 59)?));
        }
    }
    Some(time(
        highest(hours, hour.checked_sub(1)?)?,
        highest(minutes, 59)?,
        highest(seconds, 59)?,
    ))
}

fn times(cron: &Cron) -> [u64; 3] {
    [CronField::Hour, CronField::Minute, CronField::Second].map(|field| cron.values(field))
}

fn time(hour: u32, minute: u32, second: u32) -> i64 {
    i64::from(hour * 3600 + minute * 60 + second)
}

/// Returns the first matching date from `from` on. Proceeds by months.
fn next_date(cron: &Cron, from: NaiveDate) -> Option<NaiveDate> {
    let months = cron.values(CronField::Month);
    let (mut year, mut month, mut day) = (from.year(), from.month(), from.day());
    if months == 0 {
        return None;
    }
    loop {
        match lowest(months, month) {
            None => (year, month, day) = (year + 1, 1, 1),
            Some(later) => {
                if later > month {
                    (month, day) = (later, 1);
                }
                if let Some(day) = lowest(days_of(cron, year, month)?, day) {
                    return NaiveDate::from_ymd_opt(year, month, day);
                }
                (month, day) = (month + 1, 1);
            }
        }
    }
}

/// Returns the last matching date up to `to`. Proceeds by months.
fn previous_date(cron: &Cron, to: NaiveDate) -> Option<NaiveDate> {
    let months = cron.values(CronField::Month);
    let (mut year, mut month, mut day) = (to.year(), to.month(), to.day());
    if months == 0 {
        return None;
    }
    loop {
        match highest(months, month) {
            None => (year, month, day) = (year - 1, 12, 31),
            Some(earlier) => {
                if earlier < month {
                    (month, day) = (earlier, 31);
                }
                if let Some(day) = highest(days_of(cron, year, month)?, day) {
                    return NaiveDate::from_ymd_opt(year, month, day);
                }
                (month, day) = (month - 1, 31);
            }
        }
    }
}

fn has_day(cron: &Cron, date: NaiveDate) -> bool {
    contains(cron.values(CronField::Month), date.month())
        && days_of(cron, date.year(), date.month()).is_some_and(|days| contains(days, date.day()))
}

/// Returns the matching days of a month, or `None` outside chrono's calendar.
fn days_of(cron: &Cron, year: i32, month: u32) -> Option<u64> {
    let first = NaiveDate::from_ymd_opt(year, month, 1)?;
    let length = match month {
        2 if first.leap_year() => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    Some(cron.days_of_month(first.weekday().num_days_from_sunday(), length))
}

fn contains(set: u64, value: u32) -> bool {
    set & (1 << value) != 0
}

/// Returns the lowest value of a set from `from` on.
fn lowest(set: u64, from: u32) -> Option<u32> {
    let rest = set & (u64::MAX << from);
    (rest != 0).then(|| rest.trailing_zeros())
}

/// Returns the highest value of a set up to `to`.
fn highest(set: u64, to: u32) -> Option<u32> {
    let rest = set & (u64::MAX >> (63 - to));
    (rest != 0).then(|| 63 - rest.leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::{Africa, America, Asia, Australia, Europe, Pacific};

    fn instant(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    /// The firings after an instant, as the wall shows them.
    fn fires(cron: &str, zone: Tz, after: &str, number: usize) -> Vec<String> {
        let cron: Cron = cron.parse().unwrap();
        let mut at = instant(after);
        let mut fires = Vec::new();
        for _ in 0..number {
            let next = next_after(&cron, zone, at).unwrap();
            assert!(next > at, "{cron} {zone}: {next} after {at}");
            let back = previous_before(&cron, zone, next).unwrap();
            assert!(
                back <= at,
                "{cron} {zone}: {back} lies between {at} and {next}"
            );
            assert_eq!(
                previous_before(&cron, zone, next + chrono::TimeDelta::nanoseconds(1)),
                Some(next),
                "{cron} {zone}"
            );
            fires.push(
                next.with_timezone(&zone)
                    .format("%m-%d %H:%M:%S %z")
                    .to_string()
                    .replace(":00 ", " "),
            );
            at = next;
        }
        fires
    }

    #[test]
    fn a_missing_time_is_made_up_for_at_the_end_of_the_gap() {
        let newyork = America::New_York;
        for (cron, zone, after, expected) in [
            (
                "30 2 * * *",
                newyork,
                "2026-03-07T12:00:00Z",
                ["03-08 03:00 -0400", "03-09 02:30 -0400"],
            ),
            (
                "0,30 2 * * *",
                newyork,
                "2026-03-07T12:00:00Z",
                ["03-08 03:00 -0400", "03-09 02:00 -0400"],
            ),
            (
                "0 2,3 * * *",
                newyork,
                "2026-03-07T12:00:00Z",
                ["03-08 03:00 -0400", "03-09 02:00 -0400"],
            ),
            (
                "30 2,3 * * *",
                newyork,
                "2026-03-07T12:00:00Z",
                ["03-08 03:00 -0400", "03-08 03:30 -0400"],
            ),
            (
                "*/5 30 2 * * *",
                newyork,
                "2026-03-07T12:00:00Z",
                ["03-08 03:00 -0400", "03-09 02:30 -0400"],
            ),
            (
                "0 0 * * *",
                America::Sao_Paulo,
                "2018-11-03T12:00:00Z",
                ["11-04 01:00 -0200", "11-05 00:00 -0200"],
            ),
            (
                "@daily",
                Africa::Cairo,
                "2023-04-27T12:00:00Z",
                ["04-28 01:00 +0300", "04-29 00:00 +0300"],
            ),
            (
                "30 0 * * *",
                Asia::Beirut,
                "2022-03-26T12:00:00Z",
                ["03-27 01:00 +0300", "03-28 00:30 +0300"],
            ),
            (
                "15 2 * * *",
                Australia::Lord_Howe,
                "2026-10-03T00:00:00Z",
                ["10-04 02:30 +1100", "10-05 02:15 +1100"],
            ),
            (
                "30 1 * * *",
                Europe::Dublin,
                "2026-03-28T12:00:00Z",
                ["03-29 02:00 +0100", "03-30 01:30 +0100"],
            ),
            (
                "0 6 * * *",
                Pacific::Apia,
                "2011-12-29T20:00:00Z",
                ["12-31 00:00 +1400", "12-31 06:00 +1400"],
            ),
            // The second Sunday of March, the last Sunday of March, and the last Friday, which is
            // left out as a whole.
            (
                "30 2 * * SUN#2",
                newyork,
                "2026-03-07T12:00:00Z",
                ["03-08 03:00 -0400", "04-12 02:30 -0400"],
            ),
            (
                "30 1 * * SUNL",
                Europe::Dublin,
                "2026-03-28T12:00:00Z",
                ["03-29 02:00 +0100", "04-26 01:30 +0100"],
            ),
            (
                "0 6 * * FRIL",
                Pacific::Apia,
                "2011-12-29T20:00:00Z",
                ["12-31 00:00 +1400", "01-27 06:00 +1400"],
            ),
            (
                "0 6 LW * *",
                Pacific::Apia,
                "2011-12-29T20:00:00Z",
                ["12-31 00:00 +1400", "01-31 06:00 +1400"],
            ),
            (
                "30 2 L-2 3 *",
                Europe::Zurich,
                "2026-03-28T12:00:00Z",
                ["03-29 03:00 +0200", "03-29 02:30 +0200"],
            ),
        ] {
            assert_eq!(fires(cron, zone, after, 2), expected, "{cron} in {zone}");
        }
    }

    #[test]
    fn a_doubled_time_fires_at_its_first_occurrence() {
        for (cron, zone, after, expected) in [
            (
                "30 1 * * *",
                America::New_York,
                "2026-10-31T12:00:00Z",
                ["11-01 01:30 -0400", "11-02 01:30 -0500"],
            ),
            (
                "59 1 * * *",
                America::New_York,
                "2026-11-01T05:59:30Z",
                ["11-02 01:59 -0500", "11-03 01:59 -0500"],
            ),
            (
                "0 2 * * *",
                America::New_York,
                "2026-10-31T12:00:00Z",
                ["11-01 02:00 -0500", "11-02 02:00 -0500"],
            ),
            (
                "30 1 * * *",
                America::New_York,
                "2026-11-01T06:15:00Z",
                ["11-02 01:30 -0500", "11-03 01:30 -0500"],
            ),
            (
                "30 1 * * SUN#1",
                America::New_York,
                "2026-10-31T12:00:00Z",
                ["11-01 01:30 -0400", "12-06 01:30 -0500"],
            ),
            (
                "30 2 * * SUNL",
                Europe::Zurich,
                "2026-10-24T12:00:00Z",
                ["10-25 02:30 +0200", "11-29 02:30 +0100"],
            ),
            (
                "30 0 L * *",
                Asia::Amman,
                "2014-10-30T12:00:00Z",
                ["10-31 00:30 +0300", "11-30 00:30 +0200"],
            ),
            (
                "45 1 * * *",
                Australia::Lord_Howe,
                "2026-04-04T00:00:00Z",
                ["04-05 01:45 +1100", "04-06 01:45 +1030"],
            ),
            (
                "30 1 * * *",
                Europe::Dublin,
                "2026-10-24T12:00:00Z",
                ["10-25 01:30 +0100", "10-26 01:30 +0000"],
            ),
            (
                "30 23 * * *",
                America::Sao_Paulo,
                "2018-02-17T12:00:00Z",
                ["02-17 23:30 -0200", "02-18 23:30 -0300"],
            ),
            (
                "0 12 * * *",
                Pacific::Kwajalein,
                "1969-09-30T00:00:00Z",
                ["09-30 12:00 +1100", "10-01 12:00 -1200"],
            ),
        ] {
            assert_eq!(fires(cron, zone, after, 2), expected, "{cron} in {zone}");
        }
    }

    #[test]
    fn a_wildcard_follows_elapsed_time() {
        for (cron, zone, after, expected) in [
            (
                "*/30 1 1W,31W * SUN#1",
                America::New_York,
                "2026-11-01T04:30:00Z",
                [
                    "11-01 01:00 -0400",
                    "11-01 01:30 -0400",
                    "11-01 01:00 -0500",
                ],
            ),
            (
                "0 * * * *",
                America::New_York,
                "2026-11-01T04:30:00Z",
                [
                    "11-01 01:00 -0400",
                    "11-01 01:00 -0500",
                    "11-01 02:00 -0500",
                ],
            ),
            (
                "@hourly",
                America::New_York,
                "2026-03-08T05:30:00Z",
                [
                    "03-08 01:00 -0500",
                    "03-08 03:00 -0400",
                    "03-08 04:00 -0400",
                ],
            ),
            (
                "*/30 1-2 * * *",
                America::New_York,
                "2026-03-08T05:59:00Z",
                [
                    "03-08 01:00 -0500",
                    "03-08 01:30 -0500",
                    "03-09 01:00 -0400",
                ],
            ),
            (
                "30 */2 * * *",
                America::New_York,
                "2026-03-08T05:00:00Z",
                [
                    "03-08 00:30 -0500",
                    "03-08 04:30 -0400",
                    "03-08 06:30 -0400",
                ],
            ),
            (
                "15 * * * *",
                Australia::Lord_Howe,
                "2026-10-03T14:30:00Z",
                [
                    "10-04 01:15 +1030",
                    "10-04 03:15 +1100",
                    "10-04 04:15 +1100",
                ],
            ),
            (
                "45 * * * *",
                Australia::Lord_Howe,
                "2026-04-04T14:30:00Z",
                [
                    "04-05 01:45 +1100",
                    "04-05 01:45 +1030",
                    "04-05 02:45 +1030",
                ],
            ),
            (
                "0 */12 * * *",
                Pacific::Apia,
                "2011-12-29T12:00:00Z",
                [
                    "12-29 12:00 -1000",
                    "12-31 00:00 +1400",
                    "12-31 12:00 +1400",
                ],
            ),
        ] {
            assert_eq!(fires(cron, zone, after, 3), expected, "{cron} in {zone}");
        }
    }

    #[cfg(feature = "cli")]
    #[test]
    fn clock_change_at_a_firing_is_reported() {
        let time = |text: &str| -> NaiveTime { text.parse().unwrap() };
        let (left_out, first, second) = (
            ClockChange::LeftOut,
            ClockChange::First,
            ClockChange::Second,
        );
        let (newyork, lord_howe) = (America::New_York, Australia::Lord_Howe);
        for (cron, zone, fire, expected) in [
            (
                "30 2 * * *",
                newyork,
                "2026-03-08T07:00:00Z",
                Some(left_out(time("02:30:00"))),
            ),
            (
                "15,30 2 * * *",
                newyork,
                "2026-03-08T07:00:00Z",
                Some(left_out(time("02:15:00"))),
            ),
            (
                "0 2,3 * * *",
                newyork,
                "2026-03-08T07:00:00Z",
                Some(left_out(time("02:00:00"))),
            ),
            ("0 3 * * *", newyork, "2026-03-08T07:00:00Z", None),
            ("0 * * * *", newyork, "2026-03-08T07:00:00Z", None),
            ("30 2 * * *", newyork, "2026-03-09T06:30:00Z", None),
            (
                "0 6 * * *",
                Pacific::Apia,
                "2011-12-30T10:00:00Z",
                Some(left_out(time("06:00:00"))),
            ),
            (
                "30 1 * * *",
                newyork,
                "2026-11-01T05:30:00Z",
                Some(first(time("01:30:00"))),
            ),
            (
                "30 * * * *",
                newyork,
                "2026-11-01T06:30:00Z",
                Some(second(time("01:30:00"))),
            ),
            ("0 2 * * *", newyork, "2026-11-01T07:00:00Z", None),
            (
                "0 1 * * *",
                newyork,
                "2026-11-01T05:00:00Z",
                Some(first(time("01:00:00"))),
            ),
            (
                "45 1 * * *",
                lord_howe,
                "2026-04-04T14:45:00Z",
                Some(first(time("01:45:00"))),
            ),
            ("15 1 * * *", lord_howe, "2026-04-04T14:15:00Z", None),
        ] {
            let cron: Cron = cron.parse().unwrap();
            assert_eq!(
                change_at(Some(&cron), zone, instant(fire)),
                expected,
                "{cron} in {zone} at {fire}"
            );
        }
        let change = |fire: &str| change_at(None, newyork, instant(fire));
        assert_eq!(
            change("2026-11-01T06:15:00Z"),
            Some(second(time("01:15:00")))
        );
        assert_eq!(change("2026-03-08T07:00:00Z"), None);
        assert_eq!(
            change_at(None, Pacific::Apia, DateTime::<Utc>::MAX_UTC),
            None
        );
    }

    #[test]
    fn sparse_expressions_are_found_far_away() {
        for (cron, after, expected) in [
            ("0 0 29 2 *", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z"),
            (
                "0 0 29 2 */5",
                "2026-01-01T00:00:00Z",
                "2032-02-29T00:00:00Z",
            ),
            (
                "0 0 */29 2 1",
                "2026-01-01T00:00:00Z",
                "2027-02-01T00:00:00Z",
            ),
            ("0 0 31 * *", "2026-01-31T00:00:00Z", "2026-03-31T00:00:00Z"),
            ("0 0 L * *", "2028-01-31T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 L * *", "2026-12-31T00:00:00Z", "2027-01-31T00:00:00Z"),
            (
                "0 0 L-28 2 *",
                "2096-03-01T00:00:00Z",
                "2104-02-01T00:00:00Z",
            ),
            (
                "0 0 29W 2 *",
                "2096-03-01T00:00:00Z",
                "2104-02-29T00:00:00Z",
            ),
            (
                "0 0 * 2 1#5",
                "2072-03-01T00:00:00Z",
                "2112-02-29T00:00:00Z",
            ),
            (
                "0 0 */31 5 SUN#1",
                "2023-01-01T00:00:00Z",
                "2033-05-01T00:00:00Z",
            ),
            (
                "0 0 31W * *",
                "2026-08-31T00:00:00Z",
                "2026-10-30T00:00:00Z",
            ),
            ("0 0 1W * *", "2026-07-31T00:00:00Z", "2026-08-03T00:00:00Z"),
        ] {
            let cron: Cron = cron.parse().unwrap();
            assert_eq!(
                next_after(&cron, Tz::UTC, instant(after)),
                Some(instant(expected)),
                "{cron}"
            );
            assert!(
                previous_before(&cron, Tz::UTC, instant(expected)).unwrap() <= instant(after),
                "{cron}"
            );
        }
    }

    #[test]
    fn the_calendar_has_an_end() {
        for cron in ["* * * * *", "0 6 * * *", "0 0 29 2 *"] {
            let cron: Cron = cron.parse().unwrap();
            for zone in [Tz::UTC, America::New_York, Pacific::Apia] {
                let (first, last) = (DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC);
                let days = chrono::TimeDelta::days(2);
                let beyond = (
                    next_after(&cron, zone, last),
                    previous_before(&cron, zone, first),
                );
                assert_eq!(beyond, (None, None), "{cron} {zone}");
                let before_last = previous_before(&cron, zone, last - days);
                assert!(before_last.is_some(), "{cron} {zone}");
                let after_first = next_after(&cron, zone, first + days);
                assert!(after_first.is_some(), "{cron} {zone}");
            }
        }
    }

    /// What the two directions rest on.
    #[test]
    fn no_clock_changes_twice_within_reach() {
        for zone in chrono_tz::TZ_VARIANTS.into_iter().step_by(31) {
            let (clock, mut last) = (ZoneClock(zone), i64::MIN / 2);
            let mut at = instant("1840-01-01T00:00:00Z").timestamp();
            let mut offset = clock.offset(at);
            while at < instant("2100-01-01T00:00:00Z").timestamp() {
                let next = at + 18 * 3600;
                let offset_next = clock.offset(next);
                assert!((offset_next - offset).abs() < REACH, "{zone} at {at}");
                if offset_next != offset {
                    assert!(at - last > 2 * REACH, "{zone} at {at}");
                    last = next;
                }
                (at, offset) = (next, offset_next);
            }
        }
    }
}
