//! The parser of expressions.

use core::ops::Range;

use super::display::list;
use super::error::Fault;
use super::field::{FIELDS, MONTHS, WEEKDAYS, every};
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

/// A part of the expression, with its start.
#[derive(Clone, Copy)]
struct Part<'a> {
    text: &'a str,
    start: usize,
}

impl<'a> Part<'a> {
    /// Splits the part at separators, each of which is one byte.
    fn split(self, is_separator: fn(char) -> bool) -> impl Iterator<Item = Self> {
        let mut start = self.start;
        self.text.split(is_separator).map(move |text| {
            let part = Self { text, start };
            start += text.len() + 1;
            part
        })
    }

    fn cut(self, separator: char) -> (Self, Option<Self>) {
        match self.text.split_once(separator) {
            None => (self, None),
            Some((before, after)) => {
                let start = self.start + before.len() + separator.len_utf8();
                (
                    Self {
                        text: before,
                        start: self.start,
                    },
                    Some(Self { text: after, start }),
                )
            }
        }
    }

    fn span(self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }

    /// Returns the error for an unexpected part.
    fn wrong(self, field: CronField, expected: &str, remedy: impl Into<String>) -> Fault {
        let problem = format!("{field}: expected {expected}, got `{}`", self.text);
        Fault {
            field: Some(field),
            span: self.span(),
            problem,
            remedy: remedy.into(),
        }
    }
}

pub(super) fn read(text: &str) -> Result<Cron, Fault> {
    let parts = Part { text, start: 0 }.split(|c| c.is_ascii_whitespace());
    let words: Vec<Part<'_>> = parts.filter(|part| !part.text.is_empty()).collect();
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
        _ => {
            let number = words.len();
            let problem = format!(
                "expected 5 fields (minute hour day-of-month month day-of-week), or 6 with seconds first, got {number}"
            );
            let remedy = if number > 6 {
                "; crontab has no year"
            } else {
                ""
            }
            .to_owned();
            return Err(Fault {
                field: None,
                span: 0..text.len(),
                problem,
                remedy,
            });
        }
    };
    let mut cron = Cron {
        sets: [0; 6],
        stars: 0,
    };
    for (field, word) in FIELDS.into_iter().zip(words) {
        cron.set(field, values(field, word)?, word.text.starts_with('*'));
    }
    if cron.settle_days() {
        return Ok(cron);
    }
    let [_, _, _, day, month, _] = words;
    let expected = format!("1 to {} with month `{}`", cron.longest_month(), month.text);
    Err(day.wrong(CronField::DayOfMonth, &expected, ": it would never fire"))
}

fn nickname(word: Part<'_>) -> Result<Cron, Fault> {
    let name = word.text.to_ascii_lowercase();
    if let Some((_, fields)) = NICKNAMES.iter().find(|(nickname, _)| *nickname == name) {
        return read(fields);
    }
    let remedy = match name.split_ascii_whitespace().next() {
        Some("@reboot") => {
            ": a schedule depends on the clock; to run once at startup, call `.run()` there"
                .to_owned()
        }
        Some("@every") => ": write `Schedule::every(…)`".to_owned(),
        _ => match meant(
            &format!("@{}", name.trim_start_matches('@')),
            &NICKNAMES.map(|(nickname, _)| nickname),
        ) {
            Some(nickname) => format!("; did you mean `{nickname}`?"),
            None => String::new(),
        },
    };
    let known = NICKNAMES.map(|(nickname, _)| nickname).join(", ");
    let problem = format!("expected 5 fields, or one of {known}, got `{}`", word.text);
    Err(Fault {
        field: None,
        span: word.span(),
        problem,
        remedy,
    })
}

/// Parses the values of a whole field.
fn values(field: CronField, word: Part<'_>) -> Result<u64, Fault> {
    let mut set = 0;
    for term in word.split(|c| c == ',') {
        if term.text.is_empty() {
            return Err(word.wrong(field, "a value on both sides of a comma", ""));
        }
        set |= term_values(field, term)?;
    }
    if field == CronField::DayOfWeek && set & (1 << 7) != 0 {
        set = (set & field.full()) | 1;
    }
    Ok(set)
}

fn term_values(field: CronField, term: Part<'_>) -> Result<u64, Fault> {
    if let Some(remedy) = foreign(field, term.text) {
        return Err(term.wrong(field, field.allowed(), remedy));
    }
    let (base, step) = term.cut('/');
    let (from, to) = base.cut('-');
    let (low, high) = match (from.text, to) {
        ("*", None) => (field.low(), field.high()),
        (low, Some(high)) if low == "*" || low.is_empty() || high.text.is_empty() => {
            return Err(base.wrong(field, field.allowed(), "; a range is written `low-high`"));
        }
        (_, Some(to)) => range(field, base, value(field, from)?, value(field, to)?)?,
        (_, None) => {
            let low = value(field, from)?;
            (low, if step.is_some() { field.high() } else { low })
        }
    };
    let step = match step {
        None => 1,
        Some(step) => match step.text.chars().all(|c| c.is_ascii_digit())
            && step.text.contains(|c| c != '0')
        {
            // A step with too many digits to parse is larger than any range.
            true => step.text.parse().unwrap_or(u32::MAX),
            false => return Err(term.wrong(field, "a step of 1 or more", "")),
        },
    };
    Ok(every(low, high, step))
}

fn range(field: CronField, whole: Part<'_>, low: u32, high: u32) -> Result<(u32, u32), Fault> {
    if low <= high {
        return Ok((low, high));
    }
    if field == CronField::DayOfWeek && high == 0 {
        return Ok((low, 7));
    }
    let (upper, lower) = (every(low, field.last(), 1), every(field.low(), high, 1));
    let remedy = format!(": write `{},{}`", list(upper), list(lower));
    Err(whole.wrong(field, "a range from low to high", remedy))
}

/// Returns the intended name, for a text such as `JANUARY` or one that is nearly `JAN`.
fn meant<'a>(text: &str, names: &[&'a str]) -> Option<&'a str> {
    let names = names.iter().copied();
    names
        .clone()
        .find(|name| text.starts_with(name))
        .or_else(|| nearest(text, names))
}

fn value(field: CronField, part: Part<'_>) -> Result<u32, Fault> {
    let text = part.text;
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
        let value = text
            .parse()
            .ok()
            .filter(|value| (field.low()..=field.high()).contains(value));
        return value.ok_or_else(|| part.wrong(field, field.allowed(), ""));
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

/// Returns the advice for syntax of other schedulers that crontab does not have.
fn foreign(field: CronField, term: &str) -> Option<String> {
    let upper = term.to_ascii_uppercase();
    let is_number = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    let around = |letter: char| {
        upper
            .strip_prefix(letter)
            .or(upper.strip_suffix(letter))
            .is_some_and(is_number)
    };
    let (owner, remedy) = match field {
        _ if upper == "?" => ("Quartz", "write `*`"),
        CronField::DayOfWeek if upper.contains('#') => (
            "Quartz",
            "run on that weekday, and let the task `skip(…)` in the other weeks",
        ),
        CronField::DayOfWeek if around('L') => (
            "Quartz",
            "run on that weekday, and let the task `skip(…)` in all but the last week",
        ),
        CronField::DayOfMonth if around('W') || upper == "LW" => (
            "Quartz",
            "run on `MON-FRI`, and let the task `skip(…)` on the other days",
        ),
        CronField::DayOfMonth if around('L') || upper.starts_with("L-") => (
            "Quartz",
            "run on day `1`, whose interval ends with the last day of the month",
        ),
        _ if upper == "H" || upper.starts_with("H/") || upper.starts_with("H(") => {
            ("Jenkins", "choose a number")
        }
        _ => return None,
    };
    Some(format!(
        "; `{term}` is a term of {owner}, not of crontab: {remedy}"
    ))
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
                "0 0 L * *",
                "run on day `1`, whose interval ends with the last day",
                "L",
            ),
            (
                "0 0 15W * *",
                "run on `MON-FRI`, and let the task `skip(…)`",
                "15W",
            ),
            ("0 0 LW * *", "run on `MON-FRI`", "LW"),
            (
                "0 0 * * 5L",
                "run on that weekday, and let the task `skip(…)`",
                "5L",
            ),
            (
                "0 0 * * MON#2",
                "; `MON#2` is a term of Quartz, not of crontab: run on that weekday",
                "MON#2",
            ),
            (
                "H * * * *",
                "; `H` is a term of Jenkins, not of crontab: choose a number",
                "H",
            ),
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
                "got 7; crontab has no year",
                "0 0 0 1 1 * 2026",
            ),
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
