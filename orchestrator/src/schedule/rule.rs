use std::iter::FusedIterator;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::Cron;
use super::calendar;

/// The rule by which a schedule fires.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rule {
    Cron(Cron),
    Every {
        period: Duration,
        anchor: DateTime<Utc>,
    },
    Once(DateTime<Utc>),
}

/// The parts of a schedule that determine when it fires.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) rule: Rule,
    pub(crate) zone: Tz,
    pub(crate) start: Option<DateTime<Utc>>,
    pub(crate) end: Option<DateTime<Utc>>,
}

impl Timing {
    pub(crate) fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let before_start = self
            .start
            .and_then(|start| start.checked_sub_signed(TimeDelta::nanoseconds(1)));
        let after = before_start.map_or(after, |start| after.max(start));
        let fire = match self.rule {
            Rule::Cron(cron) => calendar::next_after(&cron, self.zone, after)?,
            Rule::Every { period, anchor } => tick(
                period,
                anchor,
                ticks(period, anchor, after)?.checked_add(1)?,
            )?,
            Rule::Once(at) => Some(at).filter(|at| *at > after)?,
        };
        Some(fire).filter(|fire| self.end.is_none_or(|end| *fire <= end))
    }

    pub(crate) fn previous(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let after_end = self
            .end
            .and_then(|end| end.checked_add_signed(TimeDelta::nanoseconds(1)));
        let before = after_end.map_or(before, |end| before.min(end));
        let last = before.checked_sub_signed(TimeDelta::nanoseconds(1))?;
        let fire = match self.rule {
            Rule::Cron(cron) => calendar::previous_before(&cron, self.zone, before)?,
            Rule::Every { period, anchor } => tick(period, anchor, ticks(period, anchor, last)?)?,
            Rule::Once(at) => Some(at).filter(|at| *at < before)?,
        };
        Some(fire).filter(|fire| self.start.is_none_or(|start| *fire >= start))
    }
}

/// Returns the number of whole periods between the anchor and an instant, negative before the
/// anchor.
fn ticks(period: Duration, anchor: DateTime<Utc>, at: DateTime<Utc>) -> Option<i128> {
    (nanoseconds(at) - nanoseconds(anchor))
        .checked_div_euclid(i128::try_from(period.as_nanos()).ok()?)
}

fn tick(period: Duration, anchor: DateTime<Utc>, number: i128) -> Option<DateTime<Utc>> {
    let since_anchor = number.checked_mul(i128::try_from(period.as_nanos()).ok()?)?;
    let at = since_anchor.checked_add(nanoseconds(anchor))?;
    let (seconds, rest) = (at.div_euclid(1_000_000_000), at.rem_euclid(1_000_000_000));
    DateTime::from_timestamp(i64::try_from(seconds).ok()?, u32::try_from(rest).ok()?)
}

fn nanoseconds(at: DateTime<Utc>) -> i128 {
    i128::from(at.timestamp()) * 1_000_000_000 + i128::from(at.timestamp_subsec_nanos())
}

/// An iterator over the firings of a schedule from an instant on. See
/// [`Schedule::after`](super::Schedule::after).
#[derive(Clone, Debug)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct Fires {
    pub(crate) timing: Timing,
    /// What was given last, or where it begins.
    pub(crate) last: Option<DateTime<Utc>>,
}

impl Iterator for Fires {
    type Item = DateTime<Utc>;

    fn next(&mut self) -> Option<DateTime<Utc>> {
        self.last = self.timing.next(self.last?);
        self.last
    }
}

impl FusedIterator for Fires {}

/// An iterator over the firings of a schedule from an instant back. See
/// [`Schedule::before`](super::Schedule::before) and [`Schedule::up_to`](super::Schedule::up_to).
#[derive(Clone, Debug)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct PastFires {
    pub(crate) timing: Timing,
    /// What was given last, or where it begins.
    pub(crate) last: Option<DateTime<Utc>>,
}

impl Iterator for PastFires {
    type Item = DateTime<Utc>;

    fn next(&mut self) -> Option<DateTime<Utc>> {
        self.last = self.timing.previous(self.last?);
        self.last
    }
}

impl FusedIterator for PastFires {}
