//! The parser of crontab's extensions: `L`, `L-3`, `LW` and `15W`, `5#2` and `5L`.

use super::CronField;
use super::error::Fault;
use super::field::WEEKDAYS;
use super::parse::value;
use super::part::{Part, is_number};
use super::special::{MOST_BEFORE_LAST, MOST_WEEKS, SpecialDay};

const DATES: &str = "1 to 31, `L`, `L-3`, `LW` or `15W`";
const WEEKDAY_TERMS: &str = "0 to 7 or SUN to SAT, `5#2` or `5L`";

/// Parses a term whose day depends on the month. Returns `None` for any other one.
///
/// # Errors
///
/// Returns an error if it is nearly such a term, such as a range of them.
pub(super) fn special_day(field: CronField, term: Part<'_>) -> Result<Option<SpecialDay>, Fault> {
    match field {
        CronField::DayOfMonth => special_date(term),
        CronField::DayOfWeek => special_weekday(term),
        CronField::Second | CronField::Minute | CronField::Hour | CronField::Month => Ok(None),
    }
}

fn special_date(term: Part<'_>) -> Result<Option<SpecialDay>, Fault> {
    const FIELD: CronField = CronField::DayOfMonth;
    let text = term.text.to_ascii_uppercase();
    if text == "L" {
        return Ok(Some(SpecialDay::BeforeLast(0)));
    }
    if text == "LW" {
        return Ok(Some(SpecialDay::LastWorkday));
    }
    if let Some(day) = text.strip_suffix('W').filter(|day| is_number(day)) {
        let day = value(FIELD, term.head(day.len()))?;
        return Ok(Some(SpecialDay::NearestWorkday(day)));
    }
    if let Some(days) = text.strip_prefix("L-").filter(|days| is_number(days)) {
        let days = days
            .parse()
            .ok()
            .filter(|days| (1..=MOST_BEFORE_LAST).contains(days));
        return match days {
            Some(days) => Ok(Some(SpecialDay::BeforeLast(days))),
            None => {
                let expected = format!("`L-1` to `L-{MOST_BEFORE_LAST}`");
                Err(term.wrong(FIELD, &expected, ""))
            }
        };
    }
    let remedy = if text == "WL" {
        ": write `LW`".to_owned()
    } else if let Some(day) = text.strip_prefix('W').filter(|day| is_number(day)) {
        format!(": write `{day}W`")
    } else if let Some(low) = text.strip_suffix("-L").filter(|low| is_number(low)) {
        format!(": write `{low}-31`")
    } else if text.contains('#') || pieces(&text).any(is_last_weekday) {
        format!(": `{text}` belongs in day-of-week")
    } else if pieces(&text).any(is_special_date) {
        "; `L` and `W` take no range and no step".to_owned()
    } else {
        return Ok(None);
    };
    Err(term.wrong(FIELD, DATES, remedy))
}

fn special_weekday(term: Part<'_>) -> Result<Option<SpecialDay>, Fault> {
    const FIELD: CronField = CronField::DayOfWeek;
    let text = term.text.to_ascii_uppercase();
    if is_last_weekday(&text) {
        let weekday = value(FIELD, term.head(text.len() - 1))?;
        return Ok(Some(SpecialDay::LastWeekday(weekday % 7)));
    }
    if let (day, Some(nth)) = term.cut('#')
        && is_weekday(&day.text.to_ascii_uppercase())
        && nth.is_number()
    {
        let weekday = value(FIELD, day)? % 7;
        let nth = nth.text.parse().ok();
        return match nth.filter(|nth| (1..=MOST_WEEKS).contains(nth)) {
            Some(nth) => Ok(Some(SpecialDay::Nth { weekday, nth })),
            None => {
                let expected = format!("`#1` to `#{MOST_WEEKS}`");
                let remedy = format!(": write `{}L` for the last one of the month", day.text);
                Err(term.wrong(FIELD, &expected, remedy))
            }
        };
    }
    let remedy = if text == "L" {
        ": write `6` for Saturday, or `6L` for the last one of the month".to_owned()
    } else if let Some(day) = text.strip_suffix("#L").filter(|day| is_weekday(day)) {
        format!(": write `{day}L`")
    } else if let Some(day) = text.strip_prefix('L').filter(|day| is_weekday(day)) {
        format!(": write `{day}L`")
    } else if text.contains('#') || pieces(&text).any(is_last_weekday) {
        "; `#` and `L` take one day of the week, no range and no step".to_owned()
    } else if pieces(&text).any(is_special_date) {
        format!(": `{text}` belongs in day-of-month")
    } else {
        return Ok(None);
    };
    Err(term.wrong(FIELD, WEEKDAY_TERMS, remedy))
}

/// Returns the parts of a range with a step.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split(['-', '/'])
}

fn is_special_date(text: &str) -> bool {
    matches!(text, "L" | "LW" | "WL")
        || (text.strip_suffix('W').or(text.strip_prefix('W'))).is_some_and(is_number)
}

fn is_last_weekday(text: &str) -> bool {
    text.strip_suffix('L').is_some_and(is_weekday)
}

fn is_weekday(text: &str) -> bool {
    is_number(text) || WEEKDAYS.contains(&text)
}
