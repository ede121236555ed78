//! Crontab expressions: their grammar, and the times that they match.
//!
//! The same parser checks an expression in an attribute and reads one at run time.

mod display;
mod error;
mod extension;
mod field;
mod foreign;
mod month;
mod parse;
mod part;
mod special;

use core::hash::{Hash, Hasher};
use core::str::FromStr;

pub use error::CronError;
pub use field::CronField;
use field::every;
use month::Month;
use special::SpecialDays;

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
/// **Extensions.** The two day fields have terms whose days depend on the month, as in Quartz. They
/// stand alone or in a list (`15,L`, `MON#1,5L`), without a range or a step.
///
/// | field | term | days |
/// | --- | --- | --- |
/// | day-of-month | `L` | the last day of the month |
/// | day-of-month | `L-3` | the third day before the last day, such as the 28th of a month of 31 days; up to `L-30` |
/// | day-of-month | `LW` | the last day from Monday to Friday |
/// | day-of-month | `15W` | the day from Monday to Friday that is nearest to the 15th |
/// | day-of-week | `5#2`, `FRI#2` | the second Friday; up to `5#5`, which not every month has |
/// | day-of-week | `5L`, `FRIL` | the last Friday |
///
/// `W` does not leave the month: if the 1st is a Saturday, `1W` is Monday the 3rd. A month that
/// lacks the day has no firing: `31W` does not fire in April, and `LW` does. The numbers of the days
/// of the week are those of the table above, with Sunday as 0: Quartz counts from Sunday as 1, so
/// its `6L` is `5L` here. Quartz's `L` alone in day-of-week, which means Saturday, is refused.
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
///
/// // The last day from Monday to Friday of each month, and its first Monday and last Friday.
/// let cron: Cron = "0 18 LW * *".parse()?;
/// assert_eq!(cron.to_string(), "0 18 LW * *");
/// let cron: Cron = "0 9 * * mon#1,fril".parse()?;
/// assert_eq!(cron.to_string(), "0 9 * * 1#1,5L");
///
/// let error = "0 25 * * *".parse::<Cron>().unwrap_err();
/// assert_eq!(error.to_string(), "hour: expected 0 to 23, got `25` in `0 25 * * *`");
/// # Ok::<(), CronError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Cron {
    /// The values of each field as bits, by the field's index. Sunday is bit 0 only.
    sets: [u64; 6],
    /// The terms of the two day fields whose days depend on the month.
    special: SpecialDays,
    /// The fields that begin with `*`, as bits. For seconds and months this only affects the
    /// notation; for minute and hour it determines the effect of clock changes, and for the two day
    /// fields how they are combined.
    stars: u8,
}

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
    pub const fn from_parts(parts: [u64; 8], stars: u8) -> Self {
        let [second, minute, hour, day, month, weekday, dates, weekdays] = parts;
        Self {
            sets: [second, minute, hour, day, month, weekday],
            special: SpecialDays { dates, weekdays },
            stars,
        }
    }

    /// Returns the parts of the expression.
    #[doc(hidden)]
    pub const fn to_parts(self) -> ([u64; 8], u8) {
        let [second, minute, hour, day, month, weekday] = self.sets;
        let SpecialDays { dates, weekdays } = self.special;
        let parts = [second, minute, hour, day, month, weekday, dates, weekdays];
        (parts, self.stars)
    }

    /// Returns the values that a field matches, as bits: bit 9 of the hours is nine o'clock. Sunday
    /// is bit 0. For the two day fields, these are the plain values only.
    #[doc(hidden)]
    pub const fn values(&self, field: CronField) -> u64 {
        self.sets[field.place()]
    }

    /// Returns the days of a month that match, as bits, for the length of the month and the day of
    /// the week on which it begins, 0 for Sunday. Ignores the months of the expression.
    #[doc(hidden)]
    pub fn days_of_month(&self, first_weekday: u32, length: u32) -> u64 {
        self.days_in(Month {
            first_weekday,
            length,
        })
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

    /// Returns `true` if a day matches when either day field does; otherwise both must match.
    const fn either_day_matches(&self) -> bool {
        self.stars & (CronField::DayOfMonth.star() | CronField::DayOfWeek.star()) == 0
    }

    fn times(&self) -> [u64; 3] {
        let [second, minute, hour, ..] = self.sets;
        [second, minute, hour]
    }

    fn dates_in(&self, month: Month) -> u64 {
        self.values(CronField::DayOfMonth) & month.days() | self.special.dates_in(month)
    }

    fn weekdays_in(&self, month: Month) -> u64 {
        month.on_weekdays(self.values(CronField::DayOfWeek)) | self.special.weekdays_in(month)
    }

    fn days_in(&self, month: Month) -> u64 {
        let (dates, weekdays) = (self.dates_in(month), self.weekdays_in(month));
        match self.either_day_matches() {
            true => dates | weekdays,
            false => dates & weekdays,
        }
    }

    /// Returns the numbers of its months.
    fn months(&self) -> impl Iterator<Item = u32> {
        let months = self.values(CronField::Month);
        (1..=12).filter(move |month| months & (1 << month) != 0)
    }

    /// Returns the forms that its months have over the years.
    fn month_forms(&self) -> impl Iterator<Item = Month> {
        self.months().flat_map(Month::forms)
    }

    /// Returns the last day that any of its months can have.
    fn longest_month(&self) -> u32 {
        let lengths = self.month_forms().map(|month| month.length);
        lengths.max().unwrap_or(0)
    }

    /// Returns the days on which it fires, for each form that a month of a year can have. This
    /// determines the days in all years, however they are written.
    fn firing_days(&self) -> impl Iterator<Item = u64> {
        let months = self.values(CronField::Month);
        (1..=12).flat_map(move |number| {
            Month::forms(number).map(move |month| match months & (1 << number) {
                0 => 0,
                _ => self.days_in(month),
            })
        })
    }

    fn set(&mut self, field: CronField, values: u64, starred: bool) {
        self.sets[field.place()] = values;
        match starred {
            true => self.stars |= field.star(),
            false => self.stars &= !field.star(),
        }
    }

    /// Normalizes the day fields of an expression that can fire.
    fn settle_days(&mut self) {
        let longest = self.longest_month();
        self.sets[CronField::DayOfMonth.place()] &= every(1, longest, 1);
        self.special.shorten(longest);
        let every_date = self
            .month_forms()
            .all(|month| self.dates_in(month) == month.days());
        let every_weekday = self
            .month_forms()
            .all(|month| self.weekdays_in(month) == month.days());
        let no_date = self.month_forms().all(|month| self.dates_in(month) == 0);
        let either = self.either_day_matches();
        if every_date || (either && (every_weekday || no_date)) {
            self.set(CronField::DayOfMonth, CronField::DayOfMonth.full(), true);
            self.special.dates = 0;
        }
        if every_weekday || (either && every_date) {
            self.set(CronField::DayOfWeek, CronField::DayOfWeek.full(), true);
            self.special.weekdays = 0;
        }
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
        self.times() == other.times()
            && self.is_fixed() == other.is_fixed()
            && self.firing_days().eq(other.firing_days())
    }
}

impl Eq for Cron {}

impl Hash for Cron {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.times(), self.is_fixed()).hash(state);
        self.firing_days().for_each(|days| days.hash(state));
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

    use super::*;

    fn hash(cron: Cron) -> u64 {
        BuildHasherDefault::<DefaultHasher>::default().hash_one(cron)
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
            ("0 0 31 1,2 *", "0 0 31 1 *", true),
            ("0 0 31 * *", "0 0 31 1,3,5,7,8,10,12 *", true),
            ("0 0 L 4 *", "0 0 30 4 *", true),
            ("0 0 L * *", "0 0 L-1 * *", false),
            ("0 0 L 2 *", "0 0 28 2 *", false),
            ("0 0 L 2 *", "0 0 29,L 2 *", true),
            ("0 0 LW * *", "0 0 L * *", false),
            ("0 0 LW 1,3 *", "0 0 31W 1,3 *", true),
            ("0 0 LW * *", "0 0 31W * *", false),
            ("0 0 1W * *", "0 0 1 * *", false),
            ("0 0 * * 5L", "0 0 * * FRIL", true),
            ("0 0 * * 0L", "0 0 * * 7L", true),
            ("0 0 * * 5L", "0 0 * * 5#4", false),
            ("0 0 * * 1#1,1#2,1#3,1#4,1L", "0 0 * * MON", true),
            ("0 0 * * 1#1,1#2,1#3,1#4", "0 0 * * MON", false),
            // The first seven days, which must be Mondays, too.
            ("0 0 */40,2-7 * 1", "0 0 * * 1#1", true),
            ("0 0 1-7 * 1", "0 0 * * 1#1", false),
        ] {
            let (one, other) = (Cron::parse(left).unwrap(), Cron::parse(right).unwrap());
            assert_eq!(one == other, equal, "{left} and {right}");
            assert_eq!(hash(one) == hash(other), equal, "{left} and {right}");
        }
    }

    /// Checks the days of a month of 30 days that begins on a Saturday.
    #[test]
    fn extensions_depend_on_the_month() {
        for (text, expected) in [
            ("0 0 L * *", vec![30]),
            ("0 0 L-3,15 * *", vec![15, 27]),
            ("0 0 L-30,L-29 * *", vec![1]),
            ("0 0 LW * *", vec![28]),
            ("0 0 30W * *", vec![28]),
            ("0 0 1W * *", vec![3]),
            ("0 0 1W,2W,3W * *", vec![3]),
            ("0 0 31W,14W * *", vec![14]),
            ("0 0 15W * *", vec![14]),
            ("0 0 16W * *", vec![17]),
            ("0 0 * * 5#1", vec![7]),
            ("0 0 * * SAT#1", vec![1]),
            ("0 0 * * 5#5", vec![]),
            ("0 0 * * 6#5", vec![29]),
            ("0 0 * * 7#5", vec![30]),
            ("0 0 * * 5L", vec![28]),
            ("0 0 * * 7L,1L", vec![24, 30]),
            ("0 0 * * 1#1,5L", vec![3, 28]),
            ("0 0 15,L * 1#1", vec![3, 15, 30]),
            ("0 0 */2 * 6L", vec![29]),
            ("0 0 */2,L * 0,5L", vec![9, 23, 30]),
        ] {
            let cron = Cron::parse(text).unwrap();
            let days = cron.days_of_month(6, 30);
            let days: Vec<u32> = (0..64).filter(|day| days & (1 << day) != 0).collect();
            assert_eq!(days, expected, "{text}");
            let (parts, stars) = cron.to_parts();
            assert_eq!(Cron::from_parts(parts, stars), cron, "{text}");
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
