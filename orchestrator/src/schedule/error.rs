use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use orchestrator_grammar::cron::CronError;

use super::span;
use crate::duration::{self, DurationError};

/// An error in a schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The text is not a crontab expression.
    #[error(transparent)]
    Cron(#[from] CronError),
    /// There is no time zone with this name.
    #[error("expected the IANA name of a time zone, such as `Europe/Zurich`, got `{name}`")]
    Zone {
        /// The name.
        name: String,
    },
    /// The period of [`Schedule::every`](super::Schedule::every) is zero.
    #[error(
        "expected a period greater than zero, got `0s`: for a single run, use `Schedule::once(…)`"
    )]
    NoPeriod,
    /// A text of an option is not a duration.
    #[error("expected {option} to be a duration, {}", problem.problem())]
    Duration {
        /// The option.
        option: &'static str,
        /// The problem of the text.
        #[source]
        problem: DurationError,
    },
    /// An instant is not in the years that schedules have.
    #[error("expected {option} to be in the years 1 to 9999, got `{}`", span::text(*at))]
    Year {
        /// The option.
        option: &'static str,
        /// The instant.
        at: DateTime<Utc>,
    },
    /// The days of an exception end before they begin, or are not in the years that schedules have.
    #[error(
        "expected the days of an exception to be in order and in the years 1 to 9999, got `{first}` to `{last}`"
    )]
    Dates {
        /// The first day.
        first: NaiveDate,
        /// The last day.
        last: NaiveDate,
    },
    /// The number of [`Schedule::times`](super::Schedule::times) is zero, or too large.
    #[error("expected `times` to be 1 to 100000, got `{times}`")]
    Times {
        /// The number.
        times: u32,
    },
    /// The duration of [`Schedule::jitter`](super::Schedule::jitter) is longer than a day.
    #[error("expected `jitter` to be at most `1d`, got `{}`", duration::text(*jitter))]
    Jitter {
        /// The duration.
        jitter: Duration,
    },
}
