//! The parser of expressions.

use super::display::list;
use super::error::Fault;
use super::extension::special_day;
use super::field::{FIELDS, MONTHS, WEEKDAYS, every};
use super::foreign::{self, NO_YEAR};
use super::part::Part;
use super::special::SpecialDays;
use super::{Cron, CronField};
use crate::similar::nearest;

/// The expressions of the nicknames.
const NICKNAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

pub(super) fn read(text: &str) -> Result<Cron, Fault> {
    let parts = Part { text, start: 0 }.split(|c| c.is_ascii_whitespace());
    let words: Vec<Part<'_>> = parts.filter(|part| !part.text.is_empty()).collect();
    if let Some(fault) = words.first().and_then(|word| foreign::zone(*word)) {
        return Err(fault);
    }
    let words = match words[..] {
        [word] if word.text.chars().all(|c| c.is_ascii_alphabetic()) => return nickname(word),
        [word, ..] if word.text.starts_with('@') => {
            return nickname(Part {
                text: text.trim_ascii(),
                start: word.start,
            });
        }
        [minute, hour, day, month, weekday] => [
            Part {
                text: "0",
                start: 0,
            },
            minute,
            hour,
            day,
            month,
            weekday,
        ],
        [second, minute, hour, day, month, weekday] => [second, minute, hour, day, month, weekday],
        _ => return Err(wrong_number(text, words.len())),
    };
    let mut cron = Cron {
        sets: [0; 6],
        special: SpecialDays::default(),
        stars: 0,
    };
    for (field, word) in FIELDS.into_iter().zip(words) {
        read_field(&mut cron, field, word)?;
    }
    let [_, _, _, day, month, weekday] = words;
    if cron.month_forms().all(|month| cron.dates_in(month) == 0) && !cron.either_day_matches() {
        let expected = format!("1 to {} with month `{}`", cron.longest_month(), month.text);
        return Err(day.wrong(CronField::DayOfMonth, &expected, NEVER));
    }
    if cron.month_forms().all(|month| cron.days_in(month) == 0) {
        let expected = format!("a day that can fall on day-of-month `{}`", day.text);
        return Err(weekday.wrong(CronField::DayOfWeek, &expected, NEVER));
    }
    cron.settle_days();
    Ok(cron)
}

const NEVER: &str = ": it would never fire";

fn wrong_number(text: &str, number: usize) -> Fault {
    let problem = format!(
        "expected 5 fields (minute hour day-of-month month day-of-week), or 6 with seconds first, got {number}"
    );
    let remedy = if number == 7 { NO_YEAR } else { "" };
    Fault {
        field: None,
        span: 0..text.len(),
        problem,
        remedy: remedy.to_owned(),
    }
}

fn nickname(word: Part<'_>) -> Result<Cron, Fault> {
    let name = word.text.to_ascii_lowercase();
    if let Some((_, fields)) = NICKNAMES.iter().find(|(nickname, _)| *nickname == name) {
        return read(fields);
    }
    let names = NICKNAMES.map(|(nickname, _)| nickname);
    let remedy = match foreign::nickname(&name) {
        Some(remedy) => remedy.to_owned(),
        None => match meant(&format!("@{}", name.trim_start_matches('@')), &names) {
            Some(nickname) => format!("; did you mean `{nickname}`?"),
            None => String::new(),
        },
    };
    let known = names.join(", ");
    let problem = format!("expected 5 fields, or one of {known}, got `{}`", word.text);
    Err(Fault {
        field: None,
        span: word.span(),
        problem,
        remedy,
    })
}

fn read_field(cron: &mut Cron, field: CronField, word: Part<'_>) -> Result<(), Fault> {
    let mut set = 0;
    for term in word.split(|c| c == ',') {
        if term.text.is_empty() {
            return Err(word.wrong(field, "a value on both sides of a comma", ""));
        }
        if let Some(remedy) = foreign::term(term.text) {
            return Err(term.wrong(field, field.allowed(), remedy));
        }
        match special_day(field, term)? {
            Some(day) => cron.special.insert(day),
            None => set |= values(field, term)?,
        }
    }
    if field == CronField::DayOfWeek && set & (1 << 7) != 0 {
        set = (set & field.full()) | 1;
    }
    cron.set(field, set, word.text.starts_with('*'));
    Ok(())
}

/// Parses a term that is the same in each month.
fn values(field: CronField, term: Part<'_>) -> Result<u64, Fault> {
    let (base, step) = term.cut('/');
    let step = match step {
        None => None,
        // A step with too many digits to parse is larger than any range.
        Some(step) if step.is_number() && step.text.contains(|c| c != '0') => {
            Some(step.text.parse().unwrap_or(u32::MAX))
        }
        Some(_) => return Err(term.wrong(field, "a step of 1 or more", "")),
    };
    let (from, to) = base.cut('-');
    let (low, high) = match (from.text, to) {
        ("*", None) => (field.low(), field.high()),
        (low, Some(high)) if low == "*" || low.is_empty() || high.text.is_empty() => {
            return Err(base.wrong(field, field.allowed(), "; a range is written `low-high`"));
        }
        (_, Some(to)) => {
            let (low, high) = (value(field, from)?, value(field, to)?);
            if low <= high {
                (low, high)
            } else if field == CronField::DayOfWeek && high == 0 {
                (low, 7)
            } else {
                let values = wrapped(field, low, high, step.unwrap_or(1));
                let remedy = format!(": write `{values}`");
                return Err(term.wrong(field, "a range from low to high", remedy));
            }
        }
        (_, None) => {
            let low = value(field, from)?;
            (low, if step.is_some() { field.high() } else { low })
        }
    };
    Ok(every(low, high, step.unwrap_or(1)))
}

/// Returns the list of the values that a range from high to low means.
fn wrapped(field: CronField, low: u32, high: u32, step: u32) -> String {
    let number = field.last() - field.low() + 1;
    let low = if low > field.last() { field.low() } else { low };
    let (mut upper, mut lower) = (0, 0);
    let mut distance = 0;
    while distance <= (high + number - low) % number {
        match low + distance {
            value if value > field.last() => lower |= 1 << (value - number),
            value => upper |= 1 << value,
        }
        distance = distance.saturating_add(step);
    }
    match lower {
        0 => list(upper),
        _ => format!("{},{}", list(upper), list(lower)),
    }
}

/// Returns the intended name, for a text such as `JANUARY` or one that is nearly `JAN`.
fn meant<'a>(text: &str, names: &[&'a str]) -> Option<&'a str> {
    let names = names.iter().copied();
    names
        .clone()
        .find(|name| text.starts_with(name))
        .or_else(|| nearest(text, names))
}

/// Parses a number or a name.
pub(super) fn value(field: CronField, part: Part<'_>) -> Result<u32, Fault> {
    let text = part.text;
    if part.is_number() {
        let value = text.parse().ok();
        let is_allowed = |value: &u32| (field.low()..=field.high()).contains(value);
        let is_year = field == CronField::DayOfWeek && text.len() == 4;
        let remedy = if is_year { NO_YEAR } else { "" };
        return value
            .filter(is_allowed)
            .ok_or_else(|| part.wrong(field, field.allowed(), remedy));
    }
    let named = (field.low()..)
        .zip(field.names())
        .find(|(_, name)| name.eq_ignore_ascii_case(text));
    if let Some((value, _)) = named {
        return Ok(value);
    }
    let is_a = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(text));
    let remedy = match meant(&text.to_ascii_uppercase(), field.names()) {
        _ if is_a(&MONTHS) => ": the month is the last field but one".to_owned(),
        _ if is_a(&WEEKDAYS) => ": the day of the week is the last field".to_owned(),
        Some(name) => format!("; did you mean `{name}`?"),
        None => String::new(),
    };
    Err(part.wrong(field, field.allowed(), remedy))
}

#[cfg(test)]
mod tests {
    use crate::cron::Cron;

    /// Checks the text, the message before the text, and the part at fault.
    #[test]
    fn invalid_expression_says_what_was_expected() {
        for (text, problem, part) in [
            ("0 25 * * *", "hour: expected 0 to 23, got `25`", "25"),
            ("60 0 * * *", "minute: expected 0 to 59, got `60`", "60"),
            ("99 0 0 * * *", "second: expected 0 to 59, got `99`", "99"),
            ("0 0 0 * *", "day-of-month: expected 1 to 31, got `0`", "0"),
            (
                "0 0 * 13 *",
                "month: expected 1 to 12 or JAN to DEC, got `13`",
                "13",
            ),
            (
                "0 0 * * 8",
                "day-of-week: expected 0 to 7 or SUN to SAT, got `8`",
                "8",
            ),
            (
                "0 0 * * 1-8",
                "day-of-week: expected 0 to 7 or SUN to SAT, got `8`",
                "8",
            ),
            ("0 0 * * MUN", "got `MUN`; did you mean `MON`?", "MUN"),
            (
                "0 0 * * tuesday",
                "got `tuesday`; did you mean `TUE`?",
                "tuesday",
            ),
            ("0 0 * Sept *", "got `Sept`; did you mean `SEP`?", "Sept"),
            (
                "0 0 * MON *",
                "got `MON`: the day of the week is the last field",
                "MON",
            ),
            (
                "0 0 * * JAN",
                "got `JAN`: the month is the last field but one",
                "JAN",
            ),
            ("0 noon * * *", "hour: expected 0 to 23, got `noon`", "noon"),
            (
                "99999999999999999999 * * * *",
                "minute: expected 0 to 59, got",
                "99999999999999999999",
            ),
            (
                "0 22-2 * * *",
                "expected a range from low to high, got `22-2`: write `22,23,0-2`",
                "22-2",
            ),
            ("0 0 * * SAT-MON", "got `SAT-MON`: write `6,0,1`", "SAT-MON"),
            (
                "-5 * * * *",
                "minute: expected 0 to 59, got `-5`; a range is written `low-high`",
                "-5",
            ),
            ("5- * * * *", "got `5-`; a range is written", "5-"),
            ("*-5 * * * *", "got `*-5`; a range is written", "*-5"),
            ("1-2-3 * * * *", "got `2-3`", "2-3"),
            (
                "*/0 * * * *",
                "minute: expected a step of 1 or more, got `*/0`",
                "*/0",
            ),
            ("*/ * * * *", "expected a step of 1 or more, got `*/`", "*/"),
            (
                "*/5/2 * * * *",
                "expected a step of 1 or more, got `*/5/2`",
                "*/5/2",
            ),
            (
                "1,,2 * * * *",
                "minute: expected a value on both sides of a comma, got `1,,2`",
                "1,,2",
            ),
            (
                "0 0 ? * *",
                "day-of-month: expected 1 to 31, got `?`; `?` is a term of Quartz, not of crontab: write `*`",
                "?",
            ),
            (
                "0 ? * * *",
                "; `?` is a term of Quartz, not of crontab: write `*`",
                "?",
            ),
            (
                "H * * * *",
                "minute: expected 0 to 59, got `H`; `H` is a term of Jenkins, not of crontab: choose a value; to spread the \
                 runs, add `.jitter(\"5m\")` to the schedule",
                "H",
            ),
            ("H/15 * * * *", "not of crontab: write `*/15`; to", "H/15"),
            (
                "0 h(0-7) * * *",
                "not of crontab: choose a value;",
                "h(0-7)",
            ),
            (
                "TZ=Europe/Zurich 0 6 * * *",
                "expected a field, got `TZ=Europe/Zurich`: set the time zone by `.timezone(…)`, or by \
                 `timezone = \"Europe/Zurich\"` in the attribute",
                "TZ=Europe/Zurich",
            ),
            (" cron_tz=UTC @daily", "by `.timezone(…)`", "cron_tz=UTC"),
            ("0 0 * * 7-1", "got `7-1`: write `0,1`", "7-1"),
            ("0 0 * * 7-3", "got `7-3`: write `0-3`", "7-3"),
            (
                "0 0 * * FRI-MON",
                "got `FRI-MON`: write `5,6,0,1`",
                "FRI-MON",
            ),
            ("0 0 * NOV-FEB *", "write `11,12,1,2`", "NOV-FEB"),
            ("0 22-2/2 * * *", "write `22,0,2`", "22-2/2"),
            ("0 22-2/9 * * *", "write `22`", "22-2/9"),
            (
                "0 0 L/2 * *",
                "day-of-month: expected 1 to 31, `L`, `L-3`, `LW` or `15W`, got `L/2`; `L` and `W` take no range and no step",
                "L/2",
            ),
            ("0 0 1-L * *", "got `1-L`: write `1-31`", "1-L"),
            ("0 0 L-5-L-1 * *", "take no range", "L-5-L-1"),
            ("0 0 5,15W-20 * *", "take no range", "15W-20"),
            ("0 0 1-15W * *", "take no range", "1-15W"),
            ("0 0 L-3W * *", "take no range", "L-3W"),
            ("0 0 LW/2 * *", "take no range", "LW/2"),
            ("0 0 W15 * *", "got `W15`: write `15W`", "W15"),
            ("0 0 wl * *", "got `wl`: write `LW`", "wl"),
            ("0 0 5L * *", "got `5L`: `5L` belongs in day-of-week", "5L"),
            ("0 0 fri#2 * *", ": `FRI#2` belongs in day-of-week", "fri#2"),
            (
                "0 0 L-31 * *",
                "expected `L-1` to `L-30`, got `L-31`",
                "L-31",
            ),
            ("0 0 L-0 * *", "expected `L-1` to `L-30`, got `L-0`", "L-0"),
            (
                "0 0 32W * *",
                "day-of-month: expected 1 to 31, got `32`",
                "32",
            ),
            ("0 0 0W * *", "day-of-month: expected 1 to 31, got `0`", "0"),
            (
                "0 0 * * L",
                "day-of-week: expected 0 to 7 or SUN to SAT, `5#2` or `5L`, got `L`: write `6` for Saturday, or `6L` for the \
                 last one of the month",
                "L",
            ),
            (
                "0 0 * 2 5#6",
                "day-of-week: expected `#1` to `#5`, got `5#6`: write `5L` for the last one of the month",
                "5#6",
            ),
            ("0 0 * * FRI#0", "expected `#1` to `#5`", "FRI#0"),
            ("0 0 * * 8#1", "expected 0 to 7 or SUN to SAT, got `8`", "8"),
            ("0 0 * * 8L", "expected 0 to 7 or SUN to SAT, got `8`", "8"),
            ("0 0 * * L5", "got `L5`: write `5L`", "L5"),
            ("0 0 * * fri#l", "got `fri#l`: write `FRIL`", "fri#l"),
            ("0 0 * * FRI#", "take one day of the week", "FRI#"),
            ("0 0 * * #2", "take one day of the week", "#2"),
            ("0 0 * * MON-FRI#2", "take one day of the week", "MON-FRI#2"),
            ("0 0 * * 5#1-3", "take one day of the week", "5#1-3"),
            ("0 0 * * 5#1/2", "take one day of the week", "5#1/2"),
            ("0 0 * * *#2", "take one day of the week", "*#2"),
            ("0 0 * * 1-5L", "take one day of the week", "1-5L"),
            ("0 0 * * 5L/2", "take one day of the week", "5L/2"),
            ("0 0 * * 15W", ": `15W` belongs in day-of-month", "15W"),
            ("0 0 * * LW", ": `LW` belongs in day-of-month", "LW"),
            ("0 0 1 L *", "expected 1 to 12 or JAN to DEC, got `L`", "L"),
            (
                "0 0 30W 2 *",
                "day-of-month: expected 1 to 29 with month `2`, got `30W`: it would never fire",
                "30W",
            ),
            ("0 0 31W 4,6 *", "it would never fire", "31W"),
            ("0 0 L-29 2 *", "it would never fire", "L-29"),
            (
                "0 0 */31 * 5#2",
                "day-of-week: expected a day that can fall on day-of-month `*/31`, got `5#2`: it would never fire",
                "5#2",
            ),
            ("0 0 */31 * 1L", "it would never fire", "1L"),
            (
                "0 0 30 2 *",
                "day-of-month: expected 1 to 29 with month `2`, got `30`: it would never fire",
                "30",
            ),
            (
                "0 0 31 4,6,SEP *",
                "expected 1 to 30 with month `4,6,SEP`, got `31`",
                "31",
            ),
            ("0 0 30-31 2 */2", "it would never fire", "30-31"),
            ("0 6 * *", "or 6 with seconds first, got 4", "0 6 * *"),
            (
                "",
                "expected 5 fields (minute hour day-of-month month day-of-week), or 6 with seconds first, got 0",
                "",
            ),
            (
                "0 0 0 1 1 * 2026",
                "got 7; crontab has no year: leave it out, and limit the schedule by `.start(…)` and `.end(…)`",
                "0 0 0 1 1 * 2026",
            ),
            ("0 0 0 1 1 * 2026 UTC", "got 8", "0 0 0 1 1 * 2026 UTC"),
            ("0 0 1 1 * 2026", "got `2026`; crontab has no year", "2026"),
            ("@reboot", "a schedule depends on the clock", "@reboot"),
            ("@dayly", "got `@dayly`; did you mean `@daily`?", "@dayly"),
            ("daily", "did you mean `@daily`?", "daily"),
            (" @every 5m", "write `Schedule::every(…)`", "@every 5m"),
            (
                "@daily UTC",
                "got `@daily UTC`; did you mean `@daily`?",
                "@daily UTC",
            ),
            ("0 0 * * ünï", "got `ünï`", "ünï"),
        ] {
            let error = Cron::parse(text).expect_err(text);
            assert!(error.problem().contains(problem), "{text}: {error}");
            assert_eq!(&text[error.span()], part, "{text}: {error}");
        }
    }
}
