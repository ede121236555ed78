//! The instants that schedules have: those of the years 1 to 9999, whose texts every part of a
//! system reads.

use chrono::{DateTime, Datelike as _, NaiveDate, SecondsFormat, TimeDelta, Utc};

/// The first instant of a schedule.
pub(super) const EARLIEST: DateTime<Utc> = utc(-62_135_596_800, 0);

/// The last instant of a schedule.
pub(super) const LATEST: DateTime<Utc> = utc(253_402_300_799, 999_999_999);

const fn utc(seconds: i64, nanoseconds: u32) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, nanoseconds).expect("the calendar has it")
}

/// Returns `true` if a schedule can have this instant.
pub(crate) fn contains(at: DateTime<Utc>) -> bool {
    (EARLIEST..=LATEST).contains(&at)
}

/// Returns the instant one nanosecond earlier, or the same one at the beginning of the calendar.
pub(super) fn just_before(at: DateTime<Utc>) -> DateTime<Utc> {
    at.checked_sub_signed(TimeDelta::nanoseconds(1))
        .unwrap_or(at)
}

/// Returns the instant one nanosecond later, or the same one at the end of the calendar.
pub(super) fn just_after(at: DateTime<Utc>) -> DateTime<Utc> {
    at.checked_add_signed(TimeDelta::nanoseconds(1))
        .unwrap_or(at)
}

/// Formats an instant, with fractions of a second only if it has some.
pub(super) fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Returns `true` if a schedule can have this day.
pub(crate) fn contains_day(day: NaiveDate) -> bool {
    (1..=9999).contains(&day.year())
}
