use std::time::Duration;

use super::Trigger;
use crate::error::TaskError;

/// Options of a task. What is `None` is decided by the next in line: the call, `#[task(…)]`, the flow's
/// `defaults(…)`, [`RuntimeBuilder::defaults`](crate::RuntimeBuilder::defaults).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskOptions {
    /// How many attempts may follow the first. 0 by default; at most 100.
    pub retries: Option<u32>,
    /// How long to wait before the second attempt, or a list of waits. None by default.
    pub retry_delay: Option<Delay>,
    /// The factor by which the delay grows from attempt to attempt. 1 by default; above 1 there is jitter, too.
    pub backoff: Option<f64>,
    /// The delay's upper bound. 24 hours by default.
    pub max_retry_delay: Option<Duration>,
    /// Which errors are worth another attempt. All by default.
    pub retry_if: Option<fn(&TaskError) -> bool>,
    /// How long one attempt may take. No limit by default.
    pub timeout: Option<Duration>,
    /// When the task runs. [`Trigger::AllSuccess`] by default.
    pub trigger: Option<Trigger>,
    /// The pool whose slots bodies of this task take while they run. None by default.
    pub pool: Option<Pool>,
}

/// The delay between attempts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Delay {
    /// One delay, which grows by `backoff`.
    Fixed(Duration),
    /// A delay for each retry; the last repeats.
    List(&'static [Duration]),
}

/// Slots of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The pool's name.
    pub name: &'static str,
    /// How many of its slots one body takes.
    pub slots: u32,
}

impl TaskOptions {
    /// No option is set.
    pub const NONE: Self = Self {
        retries: None,
        retry_delay: None,
        backoff: None,
        max_retry_delay: None,
        retry_if: None,
        timeout: None,
        trigger: None,
        pool: None,
    };

    /// These options where they are set, else those of `next`.
    #[must_use]
    pub fn or(self, next: &Self) -> Self {
        Self {
            retries: self.retries.or(next.retries),
            retry_delay: self.retry_delay.or(next.retry_delay),
            backoff: self.backoff.or(next.backoff),
            max_retry_delay: self.max_retry_delay.or(next.max_retry_delay),
            retry_if: self.retry_if.or(next.retry_if),
            timeout: self.timeout.or(next.timeout),
            trigger: self.trigger.or(next.trigger),
            pool: self.pool.or_else(|| next.pool.clone()),
        }
    }

    /// The first thing that is wrong with the options, if any: what was expected, and what came.
    pub(crate) fn problem(&self) -> Option<String> {
        if let Some(retries) = self.retries.filter(|retries| *retries > MAX_RETRIES) {
            return Some(format!(
                "expected `retries` to be at most {MAX_RETRIES}, got {retries}"
            ));
        }
        if let Some(backoff) = self
            .backoff
            .filter(|backoff| !(backoff.is_finite() && *backoff >= 1.0))
        {
            return Some(format!(
                "expected `backoff` to be a factor of at least 1, got {backoff}"
            ));
        }
        if self.timeout == Some(Duration::ZERO) {
            return Some("expected `timeout` to be longer than nothing, got 0s".to_owned());
        }
        if self.retry_delay == Some(Delay::List(&[])) {
            return Some("expected `retry_delay` to list at least one delay, got none".to_owned());
        }
        if let Some(pool) = self.pool.as_ref().filter(|pool| pool.slots == 0) {
            return Some(format!(
                "expected a task to take at least 1 slot of the pool `{}`, got 0",
                pool.name
            ));
        }
        None
    }
}

/// The most retries that a task may have.
pub(crate) const MAX_RETRIES: u32 = 100;

impl Default for TaskOptions {
    fn default() -> Self {
        Self::NONE
    }
}
