//! Crontab expressions: their grammar, and the times that they match.
//!
//! The same parser checks an expression in an attribute and reads one at run time.

mod display;
mod error;
mod field;
mod parse;

use core::hash::{Hash, Hasher};
use core::str::FromStr;

pub use error::CronError;
pub use field::CronField;
use field::every;

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
/// [`Display`](core::fmt::Display) parses to an equal one.
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

/// The maximum number of days of each month, from January.
const LONGEST: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

impl Cron {
    /// Parses an expression.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is not a crontab expression, or if it can never fire (such as
    /// on the 30th of February).
    pub fn parse(text: &str) -> Result<Self, CronError> {
        parse::read(text).map_err(|fault| CronError::new(fault, text))
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
