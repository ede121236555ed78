//! Crontab expressions: their grammar, and the times that they match.
//!
//! The same parser checks an expression in an attribute and reads one at run time.

use core::fmt;
use core::hash::{Hash, Hasher};
use core::ops::Range;
use core::str::FromStr;

use crate::similar::nearest;

/// A crontab expression: the seconds, minutes, hours, days and months that it matches.
///
/// | field | values | names |
/// | --- | --- | --- |
/// | second (only with six fields; otherwise 0) | 0-59 | |
/// | minute | 0-59 | |
/// | hour | 0-23 | |
/// | day-of-month | 1-31 | |
/// | month | 1-12 | JAN-DEC |
/// | day-of-week | 0-7, Sunday is 0 and 7 | SUN-SAT |
///
/// A field is `*`, a value, a range `9-17`, one of these with a step (`*/15`, `9-17/2`; `1/2` goes
/// from 1 to the end of the field, which is 7 for the day of the week), or a list of them. Names
/// are not case-sensitive, and are allowed wherever a value is. `@yearly` (`@annually`),
/// `@monthly`, `@weekly`, `@daily` (`@midnight`) and `@hourly` stand for the five fields.
///
/// **Days.** If both day fields are restricted, a day matches if *either* does: `0 0 13 * 5` is
/// each 13th and each Friday. A field that begins with `*` counts as unrestricted, as in Vixie's
/// cron and its descendants, so that with `*/2` *both* must match: `0 0 */2 * 1` is the Mondays on
/// odd days. (Of Python's libraries cronsim does the same; croniter, and with it Airflow, takes
/// every odd day and every Monday.)
///
/// **Ranges** go from low to high; Sunday at the end of one is 7, so that `FRI-SUN` is Friday to
/// Sunday. Vixie's cron accepts `22-2` and then never runs it; here it is refused. A step that is
/// larger than its range matches only the first value: `*/90` is minute 0 of each hour, not every
/// ninety minutes.
///
/// **Clock changes.** A job whose hour or minute begins with `*` follows elapsed time: it fires
/// whenever the wall clock matches, so twice in a repeated hour, and not at all in a skipped one.
/// Any other job runs at fixed times, once each: a skipped time fires at the first instant after
/// the gap (several of them, including seconds, are a single firing), and a repeated time at its
/// first occurrence. This is Debian's rule, except that Debian does not apply it to changes of more
/// than three hours.
///
/// Two expressions are equal if they match the same instants in every zone; the output of
/// [`Display`](fmt::Display) parses to an equal one.
///
/// # Examples
///
/// ```
/// # use orchestrator_grammar::cron::{Cron, CronError};
/// let cron: Cron = "*/15 9-17 * * mon-fri".parse()?;
/// assert_eq!(cron.to_string(), "*/15 9-17 * * 1-5");
/// assert_eq!("@daily".parse::<Cron>()?, "0 0 * * *".parse()?);
/// let error = "0 25 * * *".parse::<Cron>().unwrap_err();
/// assert_eq!(error.to_string(), "hour: expected 0 to 23, got `25` in `0 25 * * *`");
/// # Ok::<(), CronError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Cron {
    /// The values of each field as bits, by the field's index. Sunday is bit 0 only.
    sets: [u64; 6],
    /// The fields that begin with `*`, as bits. For seconds and months this only affects the
    /// notation; for minute and hour it determines the effect of clock changes, and for the two day
    /// fields how they are combined.
    stars: u8,
}

/// A field of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CronField {
    /// The second, 0 to 59.
    Second,
    /// The minute, 0 to 59.
    Minute,
    /// The hour, 0 to 23.
    Hour,
    /// The day of the month, 1 to 31.
    DayOfMonth,
    /// The month, 1 to 12.
    Month,
    /// The day of the week, 0 to 7, from Sunday to Sunday.
    DayOfWeek,
}

const FIELDS: [CronField; 6] = [
    CronField::Second,
    CronField::Minute,
    CronField::Hour,
    CronField::DayOfMonth,
    CronField::Month,
    CronField::DayOfWeek,
];

const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

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

/// The maximum number of days of each month, from January.
const LONGEST: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

impl CronField {
    const fn place(self) -> usize {
        match self {
            Self::Second => 0,
            Self::Minute => 1,
            Self::Hour => 2,
            Self::DayOfMonth => 3,
            Self::Month => 4,
            Self::DayOfWeek => 5,
        }
    }

    const fn low(self) -> u32 {
        match self {
            Self::DayOfMonth | Self::Month => 1,
            Self::Second | Self::Minute | Self::Hour | Self::DayOfWeek => 0,
        }
    }

    /// Returns the highest value in the notation.
    const fn high(self) -> u32 {
        match self {
            Self::Second | Self::Minute => 59,
            Self::Hour => 23,
            Self::DayOfMonth => 31,
            Self::Month => 12,
            Self::DayOfWeek => 7,
        }
    }

    /// Returns the highest stored value: Sunday is 0.
    const fn last(self) -> u32 {
        match self {
            Self::DayOfWeek => 6,
            other => other.high(),
        }
    }

    const fn full(self) -> u64 {
        every(self.low(), self.last(), 1)
    }

    /// Returns its bit in [`Cron::stars`].
    const fn star(self) -> u8 {
        1 << self.place()
    }

    /// Returns the names of its values, from the lowest.
    const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Month => &MONTHS,
            Self::DayOfWeek => &WEEKDAYS,
            Self::Second | Self::Minute | Self::Hour | Self::DayOfMonth => &[],
        }
    }

    /// Returns the accepted values, for messages.
    const fn allowed(self) -> &'static str {
        match self {
            Self::Second | Self::Minute => "0 to 59",
            Self::Hour => "0 to 23",
            Self::DayOfMonth => "1 to 31",
            Self::Month => "1 to 12 or JAN to DEC",
            Self::DayOfWeek => "0 to 7 or SUN to SAT",
        }
    }
}

impl fmt::Display for CronField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day-of-month",
            Self::Month => "month",
            Self::DayOfWeek => "day-of-week",
        })
    }
}

/// Returns the bits `low`, `low + step`, … up to `high`.
const fn every(low: u32, high: u32, step: u32) -> u64 {
    let (mut set, mut value) = (0, low);
    while value <= high {
        set |= 1 << value;
        value = value.saturating_add(step);
    }
    set
}

impl Cron {
    /// Parses an expression.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is not a crontab expression, or if it can never fire (such as
    /// on the 30th of February).
    pub fn parse(text: &str) -> Result<Self, CronError> {
        read(text).map_err(|fault| CronError {
            fault,
            text: text.to_owned(),
        })
    }

    /// Creates an expression from the result of [`to_parts`](Self::to_parts), for the expansions of
    /// macros.
    #[doc(hidden)]
    pub const fn from_parts(sets: [u64; 6], stars: u8) -> Self {
        Self { sets, stars }
    }

    /// Returns the parts of the expression.
    #[doc(hidden)]
    pub const fn to_parts(self) -> ([u64; 6], u8) {
        (self.sets, self.stars)
    }

    /// Returns the values that a field matches, as bits: bit 9 of the hours is nine o'clock. Sunday
    /// is bit 0.
    #[doc(hidden)]
    pub const fn values(&self, field: CronField) -> u64 {
        self.sets[field.place()]
    }

    /// Returns `true` if a day matches when either [`CronField::DayOfMonth`] or
    /// [`CronField::DayOfWeek`] does; otherwise both must match.
    #[doc(hidden)]
    pub const fn either_day_matches(&self) -> bool {
        self.stars & (CronField::DayOfMonth.star() | CronField::DayOfWeek.star()) == 0
    }

    /// Returns `true` if the hour begins with `*`.
    #[doc(hidden)]
    pub const fn has_wildcard_hour(&self) -> bool {
        self.stars & CronField::Hour.star() != 0
    }

    /// Returns `true` if the minute begins with `*`.
    #[doc(hidden)]
    pub const fn has_wildcard_minute(&self) -> bool {
        self.stars & CronField::Minute.star() != 0
    }

    /// Returns `true` if it fires at fixed times of the day: neither hour nor minute begins with
    /// `*`.
    #[doc(hidden)]
    pub const fn is_fixed(&self) -> bool {
        !self.has_wildcard_hour() && !self.has_wildcard_minute()
    }

    fn set(&mut self, field: CronField, values: u64, starred: bool) {
        self.sets[field.place()] = values;
        match starred {
            true => self.stars |= field.star(),
            false => self.stars &= !field.star(),
        }
    }

    /// Returns the last day that any of its months can have.
    fn longest_month(&self) -> u32 {
        let months = self.values(CronField::Month);
        (1..)
            .zip(LONGEST)
            .filter(|(month, _)| months & (1 << month) != 0)
            .map(|(_, days)| days)
            .max()
            .unwrap_or(0)
    }

    /// Normalizes the expression. Returns `false` if no day can match.
    fn settle_days(&mut self) -> bool {
        let reachable = every(1, self.longest_month(), 1);
        let days = self.values(CronField::DayOfMonth) & reachable;
        let every_day = days == reachable;
        let every_weekday = self.values(CronField::DayOfWeek) == CronField::DayOfWeek.full();
        let either = self.either_day_matches();
        if days == 0 && !either {
            return false;
        }
        self.sets[CronField::DayOfMonth.place()] = days;
        if every_day || (either && (every_weekday || days == 0)) {
            self.set(CronField::DayOfMonth, CronField::DayOfMonth.full(), true);
        }
        if every_weekday || (either && every_day) {
            self.set(CronField::DayOfWeek, CronField::DayOfWeek.full(), true);
        }
        true
    }
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        Self::parse(text)
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.sets == other.sets
            && self.is_fixed() == other.is_fixed()
            && self.either_day_matches() == other.either_day_matches()
    }
}

impl Eq for Cron {}

impl Hash for Cron {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.sets, self.is_fixed(), self.either_day_matches()).hash(state);
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({self})")
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = match self.values(CronField::Second) {
            1 => &FIELDS[1..],
            _ => &FIELDS[..],
        };
        let written: Vec<String> = fields.iter().map(|field| self.written(*field)).collect();
        f.pad(&written.join(" "))
    }
}

impl Cron {
    fn written(&self, field: CronField) -> String {
        let set = self.values(field);
        let starred = self.stars & field.star() != 0;
        if set == field.full() && starred {
            return "*".to_owned();
        }
        let last = match field {
            CronField::DayOfMonth => self.longest_month(),
            other => other.last(),
        };
        let step = (2..=field.high() + 1).find(|step| every(field.low(), last, *step) & !set == 0);
        match step {
            Some(step) if starred => {
                let rest = set & !every(field.low(), last, step);
                let comma = if rest == 0 { "" } else { "," };
                format!("*/{step}{comma}{}", list(rest))
            }
            _ => list(set),
        }
    }
}

/// Formats a set as a list of values and ranges, or as one range with a step.
fn list(set: u64) -> String {
    let values: Vec<u32> = (0..64).filter(|value| set & (1 << value) != 0).collect();
    if let [first, second, .., last] = values[..]
        && second - first > 1
        && values.len() > 2
        && set == every(first, last, second - first)
    {
        return format!("{first}-{last}/{}", second - first);
    }
    let runs = values.chunk_by(|value, next| next - value == 1);
    let runs = runs.flat_map(|run| match *run {
        [first, _, .., last] if run.len() > 2 => vec![format!("{first}-{last}")],
        _ => run.iter().map(u32::to_string).collect(),
    });
    runs.collect::<Vec<_>>().join(",")
}

/// The error of a text that is not a crontab expression, with the field at fault, the expected and
/// the actual text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronError {
    fault: Fault,
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    field: Option<CronField>,
    span: Range<usize>,
    /// The expected and the actual text.
    problem: String,
    /// The advice, including its leading punctuation, or an empty text.
    remedy: String,
}

impl CronError {
    /// Returns the field at fault, or `None` if it is the whole expression.
    pub fn field(&self) -> Option<CronField> {
        self.fault.field
    }

    /// Returns the position of the mistake in the text, in bytes.
    pub fn span(&self) -> Range<usize> {
        self.fault.span.clone()
    }

    /// Returns the message without the expression, for places where the expression is visible.
    pub fn problem(&self) -> String {
        format!("{}{}", self.fault.problem, self.fault.remedy)
    }
}

impl fmt::Display for CronError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault {
            problem, remedy, ..
        } = &self.fault;
        let whole = format!("`{}`", self.text);
        match problem.ends_with(&whole) {
            true => write!(f, "{problem}{remedy}"),
            false => write!(f, "{problem} in {whole}{remedy}"),
        }
    }
}

impl core::error::Error for CronError {}

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

fn read(text: &str) -> Result<Cron, Fault> {
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
    use super::*;

    #[test]
    fn an_expression_has_a_normal_form() {
        for (text, normal) in [
            ("0 6 * * *", "0 6 * * *"),
            ("  5\t4 *  * *\n", "5 4 * * *"),
            ("*/15 9-17 * * MON-FRI", "*/15 9-17 * * 1-5"),
            ("0 9-17/2 * jan,Jul,DEC *", "0 9-17/2 * 1,7,12 *"),
            ("1/20 * * * *", "1-41/20 * * * *"),
            ("30/40 * * * *", "30 * * * *"),
            ("05 007 * * *", "5 7 * * *"),
            ("*/90 * * * *", "*/60 * * * *"),
            ("*,5 *,7 * * *", "* * * * *"),
            ("*/20,5 * * * *", "*/20,5 * * * *"),
            ("0-59 * * * *", "0-59 * * * *"),
            ("0 0 * * 7", "0 0 * * 0"),
            ("0 0 * * 0-7", "0 0 * * *"),
            ("0 0 * * 5-7", "0 0 * * 0,5,6"),
            ("0 0 * * FRI-SUN", "0 0 * * 0,5,6"),
            ("0 0 * * SAT-SUN", "0 0 * * 0,6"),
            ("0 0 * * sun-tue", "0 0 * * 0-2"),
            ("0 0 * * 1/2", "0 0 * * 0,1,3,5"),
            ("0 0 * * */2", "0 0 * * */2"),
            ("0 0 13 * 5", "0 0 13 * 5"),
            ("0 0 */2 * 1", "0 0 */2 * 1"),
            ("0 0 1-31 * 1", "0 0 * * *"),
            ("0 0 1-29 2 *", "0 0 * 2 *"),
            ("0 0 30 2 1", "0 0 * 2 1"),
            ("0 0 29 2 *", "0 0 29 2 *"),
            ("0 0 * */3 *", "0 0 * */3 *"),
            ("0 0 6 * * *", "0 6 * * *"),
            ("*/10 0 6 * * *", "*/10 0 6 * * *"),
            ("* * * * * *", "* * * * * *"),
            ("@Daily", "0 0 * * *"),
            ("@midnight", "0 0 * * *"),
            ("@hourly", "0 * * * *"),
            ("@weekly", "0 0 * * 0"),
            ("@monthly", "0 0 1 * *"),
            ("@yearly", "0 0 1 1 *"),
            ("@annually", "0 0 1 1 *"),
        ] {
            let cron = Cron::parse(text).unwrap();
            assert_eq!(cron.to_string(), normal, "{text}");
            assert_eq!(Cron::parse(normal), Ok(cron), "{text}");
        }
    }

    #[test]
    fn expressions_with_the_same_firings_are_equal() {
        for (left, right, equal) in [
            ("0 0 * * 7", "@weekly", true),
            ("0 0,12 * * *", "0 0-12/12 * * *", true),
            ("*/15 * * * *", "0,15,30,45 * * * *", true),
            ("0 0 1-31 * *", "0 0 * * 0-6", true),
            // The one follows elapsed time, the other runs at fixed times.
            ("0 * * * *", "0 0-23 * * *", false),
            // The one needs both days, the other either.
            ("0 0 */2 * 1", "0 0 1-31/2 * 1", false),
            ("0 0 */2 * *", "0 0 1-31/2 * *", true),
        ] {
            assert_eq!(
                Cron::parse(left) == Cron::parse(right),
                equal,
                "{left} and {right}"
            );
        }
    }

    #[test]
    fn a_wildcard_is_a_field_that_begins_with_a_star() {
        for (text, hour, minute, either) in [
            ("0 6 1 * 1", false, false, true),
            ("0 */2 * * 1", true, false, false),
            ("*/5 6 1 * *", false, true, false),
            ("5,* 0-23,* 1,* * 1", false, false, false),
            ("0 6 1-2,* * 1", false, false, false),
            ("0 6 *,3 * 1", false, false, false),
            ("@hourly", true, false, false),
            ("@daily", false, false, false),
        ] {
            let cron = Cron::parse(text).unwrap();
            let found = (
                cron.has_wildcard_hour(),
                cron.has_wildcard_minute(),
                cron.either_day_matches(),
            );
            assert_eq!(found, (hour, minute, either), "{text}");
            assert_eq!(cron.is_fixed(), !hour && !minute, "{text}");
        }
    }

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

    #[test]
    fn error_shows_the_expression_once() {
        for (text, message) in [
            (
                "0 25 * * *",
                "hour: expected 0 to 23, got `25` in `0 25 * * *`",
            ),
            (
                "0 0 * * MUN",
                "day-of-week: expected 0 to 7 or SUN to SAT, got `MUN` in `0 0 * * MUN`; did you mean `MON`?",
            ),
            (
                "0 6 * *",
                "expected 5 fields (minute hour day-of-month month day-of-week), or 6 with seconds first, \
                 got 4 in `0 6 * *`",
            ),
            (
                "@dayly",
                "expected 5 fields, or one of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly, \
                 got `@dayly`; did you mean `@daily`?",
            ),
        ] {
            let error = Cron::parse(text).expect_err(text);
            assert_eq!(error.to_string(), message, "{text}");
        }
        assert_eq!(
            Cron::parse("0 25 * * *").expect_err("").field(),
            Some(CronField::Hour)
        );
    }
}
