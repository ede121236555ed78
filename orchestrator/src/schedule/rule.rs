use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use orchestrator_grammar::cron::Cron;

use super::calendar;
use super::custom::Custom;
use super::span;

/// The rule by which a schedule fires.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rule {
    Cron(Cron),
    Every {
        period: Duration,
        anchor: DateTime<Utc>,
    },
    Once(DateTime<Utc>),
    Custom(Custom),
}

impl Rule {
    /// Returns the first firing after an instant, also one that no schedule can have.
    pub(super) fn next(&self, zone: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Cron(cron) => calendar::next_after(cron, zone, after),
            Self::Every { period, anchor } => tick(
                *period,
                *anchor,
                ticks(*period, *anchor, after)?.checked_add(1)?,
            ),
            Self::Once(at) => Some(*at).filter(|at| *at > after),
            Self::Custom(custom) => custom.next(after),
        }
    }

    /// Returns the last firing before an instant, also one that no schedule can have.
    pub(super) fn previous(&self, zone: Tz, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Cron(cron) => calendar::previous_before(cron, zone, before),
            Self::Every { period, anchor } => {
                let last = span::just_before(before);
                tick(*period, *anchor, ticks(*period, *anchor, last)?)
            }
            Self::Once(at) => Some(*at).filter(|at| *at < before),
            Self::Custom(custom) => custom.previous(before),
        }
    }

    /// Returns the problem of a timetable, which has ended it.
    pub(super) fn fault(&self) -> Option<&str> {
        match self {
            Self::Custom(custom) => custom.fault(),
            Self::Cron(_) | Self::Every { .. } | Self::Once(_) => None,
        }
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
