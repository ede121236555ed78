//! Schedules on record as text, as earlier versions kept them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::Schedule;
use super::convert::IntoSchedule;

/// Reads the text of a schedule, and its parameters: `0 6 * * * in Europe/Zurich`, `every 15m from
/// 2026-01-01T00:00:00Z {"region":"EU"}`.
///
/// # Errors
///
/// Returns the problem if the text is not that of a schedule.
pub(crate) fn read_legacy(text: &str) -> Result<(Schedule, Map<String, Value>), String> {
    let refused = |problem: String| format!("`{text}` is not a schedule: {problem}");
    let (schedule, parameters) = match text.split_once(" {") {
        Some((schedule, _)) => (schedule, &text[schedule.len() + 1..]),
        None => (text, "{}"),
    };
    let parameters =
        serde_json::from_str(parameters).map_err(|error| refused(error.to_string()))?;
    let schedule = read(schedule).map_err(refused)?;
    Ok((schedule, parameters))
}

fn read(text: &str) -> Result<Schedule, String> {
    let words: Vec<&str> = text.split(' ').collect();
    let options = words
        .iter()
        .position(|word| ["anchored", "in", "from", "until"].contains(word))
        .unwrap_or(words.len());
    let (rule, options) = words.split_at(options);
    let mut schedule = match rule {
        ["every", length] => Schedule::every(period(length)?).map_err(|error| error.to_string())?,
        ["once", "at", at] => Schedule::once(instant(at)?),
        fields => Schedule::cron(&fields.join(" ")).map_err(|error| error.to_string())?,
    };
    let mut rest = options;
    while !rest.is_empty() {
        (schedule, rest) = match rest {
            ["anchored", "at", at, rest @ ..] => (schedule.anchor(instant(at)?), rest),
            ["in", zone, rest @ ..] => {
                let zone = zone
                    .parse()
                    .map_err(|_| format!("there is no time zone `{zone}`"))?;
                (schedule.timezone(zone), rest)
            }
            ["from", at, rest @ ..] => (schedule.start(instant(at)?), rest),
            ["until", at, rest @ ..] => (schedule.end(instant(at)?), rest),
            others => return Err(format!("unknown option `{}`", others.join(" "))),
        };
    }
    schedule.into_schedule().map_err(|error| error.to_string())
}

fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    text.parse()
        .map_err(|error| format!("expected an instant, got `{text}`: {error}"))
}

/// Reads a period: `1h30m`, or with less than a millisecond as `Debug` writes it: `1.5µs`. It may
/// be longer than one that is read from users.
fn period(text: &str) -> Result<Duration, String> {
    let refused = || format!("expected a period, got `{text}`");
    let mut nanoseconds = 0_u128;
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(refused)?;
        let (number, tail) = rest.split_at(number);
        let unit = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, after) = tail.split_at(unit);
        let length: u128 = match unit {
            "d" => 86_400_000_000_000,
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "µs" => 1_000,
            "ns" => 1,
            _ => return Err(refused()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits: u128 = format!("{whole}{fraction}")
            .parse()
            .map_err(|_| refused())?;
        let parts = u32::try_from(fraction.len())
            .ok()
            .and_then(|digits| 10_u128.checked_pow(digits))
            .ok_or_else(refused)?;
        nanoseconds = digits
            .checked_mul(length)
            .filter(|product| product.is_multiple_of(parts))
            .and_then(|product| nanoseconds.checked_add(product / parts))
            .ok_or_else(refused)?;
        rest = after;
    }
    let seconds = u64::try_from(nanoseconds / 1_000_000_000).map_err(|_| refused())?;
    let nanoseconds = u32::try_from(nanoseconds % 1_000_000_000).map_err(|_| refused())?;
    Ok(Duration::new(seconds, nanoseconds))
}
