//! Durations as text, in attributes and in calls: `"90s"`, `"1h30m"`.

use std::time::Duration;

/// The units, from large to small, with their nanoseconds.
///
/// Errors do not list `ns`: it exists so that every duration that [`format()`] writes can be read
/// back.
const UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("ns", 1),
];

/// The maximum duration that is read: a hundred years, well within the range of clocks and dates.
const LONGEST_DAYS: u64 = 36_500;

/// Formats a duration as [`parse`] reads it: `1h30m`, or `0s`.
pub fn format(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut written = String::new();
    for (unit, length) in UNITS {
        let length = u128::from(length);
        if rest >= length {
            written.push_str(&format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    written
}

/// Reads whole numbers with units, each unit at most once, the larger first.
///
/// # Errors
///
/// Returns the problem: it completes a sentence that tells what was expected.
pub fn parse(text: &str) -> Result<Duration, String> {
    if text.is_empty() {
        return Err(
            "got an empty string: write a number with a unit, such as `\"60s\"`".to_owned(),
        );
    }
    if text.starts_with('-') {
        return Err(format!("got `\"{text}\"`: a duration cannot be negative"));
    }
    if text.contains(char::is_whitespace) {
        let joined: String = text.split_whitespace().collect();
        parse(&joined).map_err(|error| error.replacen(&joined, text, 1))?;
        return Err(format!(
            "got `\"{text}\"`: write it without spaces, `\"{joined}\"`"
        ));
    }
    let mut nanoseconds = 0_u64;
    let mut smallest: Option<usize> = None;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, unit, after) = part(rest, text)?;
        let index = UNITS
            .iter()
            .position(|(name, _)| *name == unit)
            .ok_or_else(|| unknown_unit(unit, text))?;
        match smallest {
            Some(before) if before == index => {
                return Err(format!("got `\"{text}\"`: the unit `{unit}` occurs twice"));
            }
            Some(before) if before > index => {
                return Err(format!(
                    "got `\"{text}\"`: `{unit}` comes before `{}`, units go from large to small as in `\"1h30m\"`",
                    UNITS[before].0
                ));
            }
            _ => smallest = Some(index),
        }
        nanoseconds = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(UNITS[index].1))
            .and_then(|part| nanoseconds.checked_add(part))
            .filter(|sum| *sum <= LONGEST_DAYS * UNITS[0].1)
            .ok_or_else(|| {
                format!("got `\"{text}\"`: at most `\"{LONGEST_DAYS}d\"`, a hundred years")
            })?;
        rest = after;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Splits `1h30m` into `1`, `h` and `30m`.
fn part<'a>(rest: &'a str, text: &str) -> Result<(&'a str, &'a str, &'a str), String> {
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (number, tail) = rest.split_at(digits);
    let letters = tail
        .find(|c: char| c.is_ascii_digit())
        .unwrap_or(tail.len());
    let (unit, after) = tail.split_at(letters);
    if unit.starts_with(['.', ',']) {
        return Err(format!(
            "got `\"{text}\"`: numbers are whole, use a smaller unit for the fraction as in `\"1h30m\"`"
        ));
    }
    if number.is_empty() {
        return Err(format!(
            "got `\"{text}\"`: a number comes before its unit, as in `\"60s\"`"
        ));
    }
    if unit.is_empty() {
        return Err(match number == text {
            true => {
                format!("got `\"{text}\"`: a number has no unit, write `\"{text}s\"` for seconds")
            }
            false => {
                format!(
                    "got `\"{text}\"`: `{number}` has no unit, append one of `ms`, `s`, `m`, `h` and `d`"
                )
            }
        });
    }
    Ok((number, unit, after))
}

fn unknown_unit(unit: &str, text: &str) -> String {
    let remedy = match unit.to_ascii_lowercase().as_str() {
        "sec" | "secs" | "second" | "seconds" => "; write `s` for seconds",
        "min" | "mins" | "minute" | "minutes" => "; write `m` for minutes",
        "hr" | "hrs" | "hour" | "hours" => "; write `h` for hours",
        "day" | "days" => "; write `d` for days",
        "w" | "week" | "weeks" => "; write `7d` for a week",
        "msec" | "millis" | "milliseconds" => "; write `ms` for milliseconds",
        _ => "",
    };
    format!(
        "got `\"{text}\"`: unknown unit `{unit}`, the units are `ms`, `s`, `m`, `h` and `d`{remedy}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_add_up() {
        for (text, milliseconds) in [
            ("0s", 0),
            ("10ms", 10),
            ("60s", 60_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("36500d", 36_500 * 86_400_000),
        ] {
            assert_eq!(
                parse(text).map(|duration| duration.as_millis()),
                Ok(milliseconds),
                "{text}"
            );
        }
    }

    #[test]
    fn formatted_duration_is_read_back() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (1_500, "1500ns"),
            (1_001_500, "1ms1500ns"),
            (90_061_001_000_000, "1d1h1m1s1ms"),
            (36_500 * 86_400_000_000_000, "36500d"),
        ] {
            let duration = Duration::from_nanos(nanoseconds);
            assert_eq!(format(duration), text);
            assert_eq!(parse(text), Ok(duration));
        }
        assert_eq!(format(Duration::MAX), "213503982334601d7h15s999ms999999ns");
    }

    #[test]
    fn invalid_duration_says_what_was_expected() {
        for (text, remedy) in [
            ("", "such as `\"60s\"`"),
            ("60", "write `\"60s\"` for seconds"),
            ("1h30", "`30` has no unit"),
            ("-5s", "cannot be negative"),
            ("1h 30m", "`\"1h30m\"`"),
            ("1.5h", "numbers are whole"),
            ("s", "a number comes before its unit"),
            ("5 parsecs", "unknown unit"),
            (
                "5parsecs",
                "unknown unit `parsecs`, the units are `ms`, `s`, `m`, `h` and `d`",
            ),
            ("10min", "write `m` for minutes"),
            ("5M", "unknown unit `M`"),
            ("1m1m", "the unit `m` occurs twice"),
            ("30m1h", "`h` comes before `m`"),
            ("36501d", "at most `\"36500d\"`"),
            ("99999999999999999999s", "at most"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(remedy), "{text}: {error}");
        }
    }
}
