//! The forms of a month: its length, and the day of the week on which it begins.

use super::field::every;

const SUNDAY: u64 = 1;
const SATURDAY: u64 = 1 << 6;

/// A month of some year. Its days are bits: day 31 is bit 31.
#[derive(Clone, Copy, Debug)]
pub(super) struct Month {
    /// The day of the week of the first day, 0 for Sunday.
    pub(super) first_weekday: u32,
    pub(super) length: u32,
}

impl Month {
    /// Returns the forms that a month, from 1 for January, has over the years. Each year begins on
    /// any day of the week, leap years included, so each length occurs with each first weekday.
    pub(super) fn forms(number: u32) -> impl Iterator<Item = Self> {
        let lengths = match number {
            2 => 28..=29,
            4 | 6 | 9 | 11 => 30..=30,
            _ => 31..=31,
        };
        lengths.flat_map(|length| {
            (0..7).map(move |first_weekday| Self {
                first_weekday,
                length,
            })
        })
    }

    pub(super) fn days(self) -> u64 {
        every(1, self.length, 1)
    }

    /// Returns the days that fall on days of the week. Sunday is bit 0.
    pub(super) fn on_weekdays(self, weekdays: u64) -> u64 {
        // The weekdays, shifted to that of the first day, repeated for each week.
        let week = (weekdays >> self.first_weekday | weekdays << (7 - self.first_weekday)) & 0x7f;
        let weeks = week | week << 7 | week << 14 | week << 21 | week << 28;
        (weeks << 1) & self.days()
    }

    /// Returns the days that are this number of days before the last day, by bits: bit 0 is the
    /// last day itself.
    pub(super) fn before_last(self, distances: u64) -> u64 {
        (distances.reverse_bits() >> (63 - self.length)) & self.days()
    }

    /// Returns for each day the nearest one from Monday to Friday. Like Quartz, it does not leave
    /// the month: a Saturday at its beginning becomes the 3rd, a Sunday at its end the Friday.
    pub(super) fn nearest_workdays(self, days: u64) -> u64 {
        let days = days & self.days();
        let (first, last) = (1 << 1, 1 << self.length);
        let saturdays = days & self.on_weekdays(SATURDAY);
        let sundays = days & self.on_weekdays(SUNDAY);
        days & !saturdays & !sundays
            | (saturdays & !first) >> 1
            | (saturdays & first) << 2
            | (sundays & !last) << 1
            | (sundays & last) >> 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_workday_stays_in_the_month() {
        const SATURDAY: u32 = 6;
        for (first_weekday, length, day, nearest) in [
            (SATURDAY, 31, 1, 3),
            (SATURDAY, 31, 2, 3),
            (SATURDAY, 31, 8, 7),
            (SATURDAY, 31, 9, 10),
            (SATURDAY, 31, 10, 10),
            (SATURDAY, 30, 30, 28),
            (SATURDAY, 28, 28, 28),
            (0, 31, 1, 2),
            (0, 28, 28, 27),
            (0, 29, 29, 27),
            (1, 28, 28, 26),
        ] {
            let month = Month {
                first_weekday,
                length,
            };
            assert_eq!(
                month.nearest_workdays(1 << day),
                1 << nearest,
                "day {day} of {month:?}"
            );
        }
    }

    #[test]
    fn day_that_a_month_does_not_have_is_not_in_it() {
        let month = Month {
            first_weekday: 0,
            length: 28,
        };
        assert_eq!(month.nearest_workdays(every(29, 31, 1)), 0);
        assert_eq!(month.before_last(every(28, 31, 1)), 0);
        assert_eq!(month.before_last(every(0, 27, 1)), month.days());
        assert_eq!(month.on_weekdays(0x7f), month.days());
    }
}
