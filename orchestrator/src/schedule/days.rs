//! Days on which a schedule does not fire.

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;

use super::calendar;

/// Ranges of days, both ends inclusive: in order, with at least a day between any two.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct DayRanges(Vec<(NaiveDate, NaiveDate)>);

impl DayRanges {
    pub(super) fn add(&mut self, mut first: NaiveDate, mut last: NaiveDate) {
        let touches = |(from, to): &(NaiveDate, NaiveDate)| {
            let day = Days::new(1);
            *from <= last.checked_add_days(day).unwrap_or(last)
                && first <= to.checked_add_days(day).unwrap_or(*to)
        };
        let start = self.0.iter().position(touches);
        let Some(start) = start else {
            let place = self.0.partition_point(|(from, _)| *from < first);
            self.0.insert(place, (first, last));
            return;
        };
        let count = self.0[start..]
            .iter()
            .take_while(|range| touches(range))
            .count();
        for (from, to) in self.0.drain(start..start + count) {
            (first, last) = (first.min(from), last.max(to));
        }
        self.0.insert(start, (first, last));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (NaiveDate, NaiveDate)> + '_ {
        self.0.iter().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the stretch of time that contains an instant and that shows these days alone, if
    /// there is one: its first instant, and the first one after it.
    pub(super) fn stretch(
        &self,
        zone: Tz,
        at: DateTime<Utc>,
    ) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        let date = calendar::date_of(zone, at);
        let place = self.0.partition_point(|(_, last)| *last < date);
        let (first, last) = *self.0.get(place).filter(|(first, _)| *first <= date)?;
        stretch(zone, first, last, at)
    }
}

/// Returns the stretch of time that shows the days of a range alone and contains `at`, which shows
/// one of them: its first instant, and the first one after it.
///
/// A clock that is set back over midnight shows the day before for a while, right after the range
/// has begun, or the last day once more, right after the range has ended. So there are up to three
/// stretches.
fn stretch(
    zone: Tz,
    first: NaiveDate,
    last: NaiveDate,
    at: DateTime<Utc>,
) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let (begin, _) = calendar::span_of(zone, first)?;
    let (_, past_begin) = calendar::span_of(zone, first.pred_opt()?)?;
    let (end, _) = calendar::span_of(zone, last.succ_opt()?)?;
    let (_, past_end) = calendar::span_of(zone, last)?;
    let is_inside = |at| (first..=last).contains(&calendar::date_of(zone, at));
    let before_past = past_begin - TimeDelta::seconds(1);
    let begins_twice = !is_inside(before_past);
    if at < past_begin && begins_twice {
        return Some((begin, edge(at, before_past, is_inside)));
    }
    if at >= end {
        return Some((edge(end, at, is_inside), past_end));
    }
    Some((if begins_twice { past_begin } else { begin }, end))
}

/// Returns the first instant at which the answer is that for `to`, if it changes once between the
/// two, at a whole second.
fn edge(
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    answer: impl Fn(DateTime<Utc>) -> bool,
) -> DateTime<Utc> {
    let instant = |second| DateTime::from_timestamp(second, 0).unwrap_or(to);
    let is_changed = answer(to);
    let (mut unchanged, mut changed) = (from.timestamp(), to.timestamp());
    while changed - unchanged > 1 {
        let middle = unchanged + (changed - unchanged) / 2;
        match answer(instant(middle)) == is_changed {
            true => changed = middle,
            false => unchanged = middle,
        }
    }
    instant(changed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::random::{ZONES, days, instant};
    use super::*;

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_are_merged_and_in_order() {
        let of = |days: &[(&str, &str)]| {
            let mut ranges = DayRanges::default();
            for (first, last) in days {
                ranges.add(date(first), date(last));
            }
            let shown = ranges.iter().map(|(first, last)| format!("{first} {last}"));
            shown.collect::<Vec<_>>()
        };
        for (days, expected) in [
            (
                &[("2026-01-05", "2026-01-06"), ("2026-01-01", "2026-01-03")][..],
                &["2026-01-01 2026-01-03", "2026-01-05 2026-01-06"][..],
            ),
            (
                &[("2026-01-05", "2026-01-06"), ("2026-01-01", "2026-01-04")],
                &["2026-01-01 2026-01-06"],
            ),
            (
                &[
                    ("2026-01-01", "2026-01-01"),
                    ("2026-01-03", "2026-01-03"),
                    ("2026-01-05", "2026-01-05"),
                    ("2026-01-02", "2026-01-04"),
                ],
                &["2026-01-01 2026-01-05"],
            ),
            (
                &[("2026-01-01", "2026-01-09"), ("2026-01-02", "2026-01-03")],
                &["2026-01-01 2026-01-09"],
            ),
            (
                &[("2026-01-01", "2026-01-01"), ("2026-01-01", "2026-01-01")],
                &["2026-01-01 2026-01-01"],
            ),
        ] {
            assert_eq!(of(days), expected);
        }
    }

    #[test]
    fn day_shown_twice_has_two_stretches() {
        // At midnight the clocks went back to 23:00.
        let zone = chrono_tz::America::Sao_Paulo;
        let mut ranges = DayRanges::default();
        ranges.add(date("2018-02-17"), date("2018-02-17"));
        // In UTC that was 02:00, and midnight came again at 03:00.
        let utc = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let whole = (utc("2018-02-17T02:00:00Z"), utc("2018-02-18T03:00:00Z"));
        assert_eq!(
            ranges.stretch(zone, utc("2018-02-18T01:00:00Z")),
            Some(whole)
        );
        // One minute after midnight, they went back to 23:01.
        let zone = chrono_tz::America::St_Johns;
        let mut ranges = DayRanges::default();
        ranges.add(date("2010-11-06"), date("2010-11-06"));
        let first = (utc("2010-11-06T02:30:00Z"), utc("2010-11-07T02:30:00Z"));
        let again = (utc("2010-11-07T02:31:00Z"), utc("2010-11-07T03:30:00Z"));
        for (at, expected) in [
            ("2010-11-06T12:00:00Z", Some(first)),
            ("2010-11-07T02:30:30Z", None),
            ("2010-11-07T03:00:00Z", Some(again)),
            ("2010-11-07T03:30:00Z", None),
        ] {
            assert_eq!(ranges.stretch(zone, utc(at)), expected, "{at}");
        }
    }

    fn case() -> impl Strategy<Value = (Tz, DateTime<Utc>, Vec<(NaiveDate, NaiveDate)>)> {
        prop::sample::select(ZONES.to_vec()).prop_flat_map(|(zone, day)| {
            let ranges = prop::collection::vec(days(day), 1..6);
            (Just(zone), instant(day), ranges)
        })
    }

    proptest! {
        #[test]
        fn stretch_is_as_long_as_it_shows_these_days((zone, at, days) in case()) {
            let mut ranges = DayRanges::default();
            for (first, last) in &days {
                ranges.add(*first, *last);
            }
            let shows = |at| {
                let date = calendar::date_of(zone, at);
                days.iter().any(|(first, last)| (*first..=*last).contains(&date))
            };
            let Some((first, end)) = ranges.stretch(zone, at) else {
                prop_assert!(!shows(at));
                return Ok(());
            };
            prop_assert!(first <= at && at < end, "{first} {at} {end}");
            let nanosecond = TimeDelta::nanoseconds(1);
            prop_assert!(!shows(first - nanosecond) && shows(first), "{first}");
            prop_assert!(shows(end - nanosecond) && !shows(end), "{end}");
            let mut minute = first;
            while minute < end {
                prop_assert!(shows(minute), "{minute}");
                minute += TimeDelta::minutes(10);
            }
        }
    }
}
