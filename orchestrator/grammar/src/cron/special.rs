//! Crontab's extensions: the days that are not the same in each month.

use core::fmt;

use super::field::every;
use super::month::Month;

/// The number of times that a day of the week can occur in a month.
pub(super) const MOST_WEEKS: u32 = 5;

/// The longest distance from the last day of a month.
pub(super) const MOST_BEFORE_LAST: u32 = 30;

const WEEK: u64 = 0x7f;

/// A term of a day field whose day depends on the month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpecialDay {
    /// A number of days before the last one: `L` for 0, `L-3`.
    BeforeLast(u32),
    /// The last day from Monday to Friday: `LW`.
    LastWorkday,
    /// The day from Monday to Friday that is nearest to a day: `15W`.
    NearestWorkday(u32),
    /// An occurrence of a day of the week: `5#2` is the second Friday.
    Nth { weekday: u32, nth: u32 },
    /// The last occurrence of a day of the week: `5L`.
    LastWeekday(u32),
}

impl fmt::Display for SpecialDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeforeLast(0) => f.write_str("L"),
            Self::BeforeLast(days) => write!(f, "L-{days}"),
            Self::LastWorkday => f.write_str("LW"),
            Self::NearestWorkday(day) => write!(f, "{day}W"),
            Self::Nth { weekday, nth } => write!(f, "{weekday}#{nth}"),
            Self::LastWeekday(weekday) => write!(f, "{weekday}L"),
        }
    }
}

/// The special days of an expression, as bits.
#[derive(Clone, Copy, Default)]
pub(super) struct SpecialDays {
    /// Of [`SpecialDay::BeforeLast`], bits 0 to 30; of [`SpecialDay::LastWorkday`], bit 32; of
    /// [`SpecialDay::NearestWorkday`], bits 33 to 63.
    pub(super) dates: u64,
    /// Of [`SpecialDay::Nth`], a group of seven bits for each number; of
    /// [`SpecialDay::LastWeekday`], the group after these.
    pub(super) weekdays: u64,
}

const WORKDAYS: u32 = 32;
const LAST_WEEK: u32 = 7 * MOST_WEEKS;

impl SpecialDays {
    pub(super) fn insert(&mut self, day: SpecialDay) {
        match day {
            SpecialDay::BeforeLast(days) => self.dates |= 1 << days,
            SpecialDay::LastWorkday => self.dates |= 1 << WORKDAYS,
            SpecialDay::NearestWorkday(day) => self.dates |= 1 << (WORKDAYS + day),
            SpecialDay::Nth { weekday, nth } => self.weekdays |= 1 << (7 * (nth - 1) + weekday),
            SpecialDay::LastWeekday(weekday) => self.weekdays |= 1 << (LAST_WEEK + weekday),
        }
    }

    /// Removes the days that no month of this length or a shorter one has.
    pub(super) fn shorten(&mut self, longest: u32) {
        self.dates &= every(0, longest - 1, 1) | every(0, longest, 1) << WORKDAYS;
    }

    pub(super) fn dates(self) -> impl Iterator<Item = SpecialDay> {
        bits(self.dates).map(|bit| match bit {
            WORKDAYS => SpecialDay::LastWorkday,
            _ if bit > WORKDAYS => SpecialDay::NearestWorkday(bit - WORKDAYS),
            days => SpecialDay::BeforeLast(days),
        })
    }

    pub(super) fn weekdays(self) -> impl Iterator<Item = SpecialDay> {
        bits(self.weekdays).map(|bit| match bit % 7 {
            weekday if bit >= LAST_WEEK => SpecialDay::LastWeekday(weekday),
            weekday => SpecialDay::Nth {
                weekday,
                nth: bit / 7 + 1,
            },
        })
    }

    /// Returns the days of the day-of-month field.
    pub(super) fn dates_in(self, month: Month) -> u64 {
        let workdays = self.dates >> WORKDAYS;
        let last_workday = (workdays & 1) << month.length;
        let before_last = self.dates & every(0, MOST_BEFORE_LAST, 1);
        month.before_last(before_last) | month.nearest_workdays(workdays & !1 | last_workday)
    }

    /// Returns the days of the day-of-week field.
    pub(super) fn weekdays_in(self, month: Month) -> u64 {
        if self.weekdays == 0 {
            return 0;
        }
        let group = |start: u32| month.on_weekdays(self.weekdays >> start & WEEK);
        let last_week = group(LAST_WEEK) & every(month.length - 6, month.length, 1);
        (0..MOST_WEEKS)
            .map(|week| group(7 * week) & every(7 * week + 1, 7 * week + 7, 1))
            .fold(last_week, |days, week| days | week)
    }
}

fn bits(set: u64) -> impl Iterator<Item = u32> {
    (0..u64::BITS).filter(move |bit| set & (1 << bit) != 0)
}
