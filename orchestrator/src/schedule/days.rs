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
