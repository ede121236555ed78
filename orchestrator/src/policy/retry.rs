//! Decides whether and when a task is retried.

use std::time::Duration;

use crate::error::{Cause, PanicReport, TaskError};
use crate::id::RunId;
use crate::panic::catch;
use crate::task::{Delay, Pool, TaskOptions, Trigger};

/// The default upper bound of a delay, the same as Airflow's.
const MAX_DELAY: Duration = Duration::from_secs(24 * 3600);

/// Options with all defaults applied.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) retries: u32,
    pub(crate) delay: Delay,
    pub(crate) backoff: f64,
    pub(crate) max_delay: Duration,
    pub(crate) retry_if: Option<fn(&TaskError) -> bool>,
    pub(crate) timeout: Option<Duration>,
    /// `None` if no rule was set: an `Outcome` parameter then accepts any final state.
    pub(crate) trigger: Option<Trigger>,
    pub(crate) pool: Option<Pool>,
    /// Whether it cleans up, that is, runs when its run is cancelled.
    pub(crate) run_on_cancel: bool,
}

impl From<TaskOptions> for Policy {
    fn from(options: TaskOptions) -> Self {
        // without `..`: an option that nothing reads is found by the compiler
        let TaskOptions {
            retries,
            retry_delay,
            backoff,
            max_retry_delay,
            retry_if,
            timeout,
            trigger,
            pool,
            run_on_cancel,
        } = options;
        Self {
            retries: retries.unwrap_or(0),
            delay: retry_delay.unwrap_or(Delay::Fixed(Duration::ZERO)),
            backoff: backoff.unwrap_or(1.0),
            max_delay: max_retry_delay.unwrap_or(MAX_DELAY),
            retry_if,
            timeout,
            trigger,
            pool,
            run_on_cancel: run_on_cancel.unwrap_or(false),
        }
    }
}

impl Policy {
    /// Returns the delay before the next attempt, or `None` if there must not be another. Returns
    /// an error if `retry_if` panicked.
    ///
    /// `failed` is the number of the attempt that failed, from 1. The delay before attempt n + 1 is
    /// `min(delay · backoff^(n-1), max_delay)`. If `backoff` is above 1, jitter selects a point in
    /// the upper half of that, which is the same for the same run, key and attempt. (This is
    /// Airflow's `next_retry_datetime`. The jitter prevents tasks that failed together from being
    /// retried together.)
    pub(crate) fn next_delay(
        &self,
        error: &TaskError,
        failed: u32,
        run: RunId,
        key: &str,
    ) -> Result<Option<Duration>, PanicReport> {
        if failed > self.retries {
            return Ok(None);
        }
        match error.cause() {
            Cause::Fatal
            | Cause::Skipped
            | Cause::Cancelled
            | Cause::UpstreamFailed
            | Cause::Crashed => {
                return Ok(None);
            }
            Cause::Failed
            | Cause::TimedOut(_)
            | Cause::Panicked
            | Cause::RetryAfter(_)
            | Cause::Reconnect => {}
        }
        let worth_it = self
            .retry_if
            .map_or(Ok(true), |worth_it| catch(|| worth_it(error)))?;
        Ok(worth_it.then(|| match error.cause() {
            Cause::RetryAfter(delay) => *delay,
            _ => self.delay_after(failed, || jitter(run, key, failed)),
        }))
    }

    fn delay_after(&self, failed: u32, jitter: impl FnOnce() -> f64) -> Duration {
        let first = match self.delay {
            Delay::Fixed(delay) => delay,
            Delay::List(delays) => {
                let at = (failed as usize - 1).min(delays.len().saturating_sub(1));
                return delays.get(at).copied().unwrap_or_default();
            }
        };
        // zero times an infinite factor would be NaN
        if first.is_zero() {
            return first;
        }
        let exponent = i32::try_from(failed - 1).unwrap_or(i32::MAX);
        let grown = first.as_secs_f64() * self.backoff.powi(exponent);
        let capped = grown.min(self.max_delay.as_secs_f64());
        let delay = match self.backoff > 1.0 {
            true => capped / 2.0 * (1.0 + jitter()),
            false => capped,
        };
        Duration::try_from_secs_f64(delay).unwrap_or(self.max_delay)
    }
}

/// Returns a number in [0, 1) that depends only on the arguments.
fn jitter(run: RunId, key: &str, attempt: u32) -> f64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(run.as_bytes());
    hasher.update(key.as_bytes());
    hasher.update(&attempt.to_le_bytes());
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..4]);
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{fatal, retry_after, skip};

    fn run() -> RunId {
        "01936f5e-8c00-7000-8000-000000000000".parse().unwrap()
    }

    fn policy(options: TaskOptions) -> Policy {
        Policy::from(options)
    }

    fn delay_of(
        policy: &Policy,
        error: &TaskError,
        failed: u32,
        run: RunId,
        key: &str,
    ) -> Option<Duration> {
        policy.next_delay(error, failed, run, key).unwrap()
    }

    fn failure() -> TaskError {
        TaskError::new(Cause::Failed, "down")
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_fixed_delay_has_no_jitter() {
        let policy = policy(TaskOptions {
            retries: Some(2),
            retry_delay: Some(Delay::Fixed(seconds(300))),
            ..TaskOptions::NONE
        });
        let delays = [1, 2, 3].map(|failed| delay_of(&policy, &failure(), failed, run(), "a"));
        assert_eq!(delays, [Some(seconds(300)), Some(seconds(300)), None]);
    }

    #[test]
    fn a_list_repeats_its_last() {
        const DELAYS: &[Duration] = &[Duration::from_secs(1), Duration::from_secs(5)];
        let delays = Delay::List(DELAYS);
        let policy = policy(TaskOptions {
            retries: Some(9),
            retry_delay: Some(delays),
            ..TaskOptions::NONE
        });
        let delays =
            [1, 2, 3].map(|failed| delay_of(&policy, &failure(), failed, run(), "a").unwrap());
        assert_eq!(delays, [seconds(1), seconds(5), seconds(5)]);
    }

    /// Airflow's own delays have jitter in [d, 2d), are whole seconds and at least one: what must
    /// agree is the size of the step, so each of its delays lies within a factor of four of ours,
    /// or a second, and its cap is ours.
    #[test]
    fn backoff_grows_as_airflows_does() {
        let table = include_str!("../../tests/fixtures/backoff_vectors.csv");
        let mut checked = 0;
        for line in table.lines().skip(1) {
            let cells: Vec<&str> = line.split(',').collect();
            let multiplier: f64 = cells[1].parse().unwrap();
            let policy = policy(TaskOptions {
                retries: Some(100),
                retry_delay: Some(Delay::Fixed(Duration::from_secs_f64(
                    cells[0].parse().unwrap(),
                ))),
                backoff: (multiplier > 0.0).then_some(multiplier),
                max_retry_delay: cells[2].parse().ok().map(Duration::from_secs_f64),
                ..TaskOptions::NONE
            });
            let expected: f64 = cells[7].parse().unwrap();
            let delay = delay_of(
                &policy,
                &failure(),
                cells[3].parse().unwrap(),
                run(),
                cells[5],
            )
            .unwrap();
            let (ratio, apart) = (
                expected / delay.as_secs_f64(),
                expected - delay.as_secs_f64(),
            );
            assert!(
                (0.9..=4.1).contains(&ratio) || apart.abs() <= 1.0,
                "{line}: {delay:?}"
            );
            checked += 1;
        }
        assert_eq!(checked, 56);
    }

    #[test]
    fn jitter_stays_in_the_upper_half_and_differs_among_siblings() {
        let policy = policy(TaskOptions {
            retries: Some(100),
            retry_delay: Some(Delay::Fixed(seconds(100))),
            backoff: Some(2.0),
            max_retry_delay: Some(seconds(300)),
            ..TaskOptions::NONE
        });
        let mut different = std::collections::HashSet::new();
        for element in 0..100 {
            let delay =
                delay_of(&policy, &failure(), 2, run(), &format!("task[{element}]")).unwrap();
            assert!((seconds(100)..=seconds(200)).contains(&delay), "{delay:?}");
            different.insert(delay);
        }
        assert!(different.len() > 90);
        let again = || delay_of(&policy, &failure(), 40, run(), "task");
        assert_eq!(again(), again());
        assert!(again().unwrap() <= seconds(300));
    }

    #[test]
    fn signals_override_the_options() {
        fn never(_: &TaskError) -> bool {
            false
        }
        let options = TaskOptions {
            retries: Some(5),
            ..TaskOptions::NONE
        };
        let open = policy(options.clone());
        let picky = policy(TaskOptions {
            retry_if: Some(never),
            ..options
        });
        assert_eq!(delay_of(&open, &fatal("no"), 1, run(), "a"), None);
        assert_eq!(delay_of(&open, &skip("no"), 1, run(), "a"), None);
        assert_eq!(
            delay_of(&open, &retry_after(seconds(7), "busy"), 1, run(), "a"),
            Some(seconds(7))
        );
        assert_eq!(
            delay_of(&open, &failure(), 1, run(), "a"),
            Some(Duration::ZERO)
        );
        assert_eq!(delay_of(&picky, &failure(), 1, run(), "a"), None);
    }

    #[test]
    fn panicking_predicate_is_reported() {
        fn panics(_: &TaskError) -> bool {
            panic!("no idea")
        }
        let policy = policy(TaskOptions {
            retries: Some(1),
            retry_if: Some(panics),
            ..TaskOptions::NONE
        });
        let panicked = policy.next_delay(&failure(), 1, run(), "a").unwrap_err();
        assert!(
            panicked.to_string().contains("retry.rs") && panicked.to_string().ends_with("no idea"),
            "{panicked}"
        );
    }

    #[test]
    fn numbers_at_their_ends_make_a_delay() {
        for (delay, backoff, max, failed, expected) in [
            (Duration::MAX, 1.0, None, 1, seconds(24 * 3600)),
            (Duration::MAX, 1.0, Some(Duration::MAX), 1, Duration::MAX),
            (seconds(1), f64::MAX, Some(seconds(7)), 1, seconds(1)),
            (
                Duration::ZERO,
                f64::MAX,
                Some(Duration::MAX),
                100,
                Duration::ZERO,
            ),
        ] {
            let policy = policy(TaskOptions {
                retries: Some(100),
                retry_delay: Some(Delay::Fixed(delay)),
                backoff: Some(backoff),
                max_retry_delay: max,
                ..TaskOptions::NONE
            });
            let given = delay_of(&policy, &failure(), failed, run(), "a").unwrap();
            let at_least = if backoff > 1.0 {
                expected / 2
            } else {
                expected
            };
            assert!(
                (at_least..=expected).contains(&given),
                "{delay:?} {backoff} {max:?}: {given:?}"
            );
        }
    }
}
