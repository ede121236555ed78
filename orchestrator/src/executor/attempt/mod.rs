//! One attempt of one task: the body is called, its timeout and cancellation are watched, and the
//! outcome is returned.
//!
//! ```text
//!                                   start
//!   Attempt ── call, first poll ──────┬──► Started::Ended(AttemptOutcome)
//!                                     │                     ▲
//!                                     └──► Started::Running(RunningAttempt)
//!                                            │              │
//!                                            └── end ───────┘
//!                                                makes clients that the body needs, and calls it;
//!                                                polls the body, or waits for its thread;
//!                                                watches the timeout and the cancelling
//! ```
//!
//! An attempt knows its task, its number, its span and its times, but no plan, store or run. Its
//! caller provides the inputs, the slots, a [`Site`] to run at and the means to cancel it, and
//! decides what follows from the [`AttemptOutcome`]: a retry, a state, a record. In this process,
//! the caller is [a job of a lane](super::lane).

mod call;
mod environment;
mod mock;
mod prepare;
mod watch;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::task::Context as Cx;
use std::time::Duration;

pub(crate) use environment::{Environment, Site, ThreadGuard};
pub(crate) use mock::Mock;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::Span;
pub(crate) use watch::{CancelSignal, RunningAttempt, Started};

use super::slots::Slots;
use crate::clock::Timestamp;
use crate::error::TaskError;
use crate::secret::Secret;
use crate::task::{Args, Context, TakenClient, TaskDef};
use crate::value::Value;

/// One attempt of one task.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) task: &'static TaskDef,
    /// Its number, from 1.
    pub(crate) number: u16,
    /// The time that the body may take, counted from the start of the attempt.
    pub(crate) timeout: Option<Duration>,
    /// The context of the body, if it uses it.
    pub(crate) context: Option<Arc<Context>>,
    /// The texts of the task's variables, if they are known already: those in its cache key.
    pub(crate) variables: Arc<[Secret]>,
    /// The clients that the body takes.
    pub(crate) taken: Vec<TakenClient>,
    /// The span in which the body runs.
    pub(crate) span: Span,
    pub(crate) started: Timestamp,
    /// The time of its end; of its start while it is running.
    pub(crate) finished: Timestamp,
}

/// The outcome of an attempt.
#[derive(Debug)]
pub(crate) enum AttemptOutcome {
    /// The body returned, panicked, or ran out of time.
    Returned(Result<Value, TaskError>),
    /// Blocking work timed out and could not be stopped. The next attempt must wait until the
    /// handle reports that it has returned.
    Abandoned(TaskError, JoinHandle<()>),
    Cancelled,
}

impl Attempt {
    /// Calls the body with its inputs and polls it once. A body that never waits has ended by then,
    /// and needs no future of the runtime's.
    pub(crate) fn start(
        &mut self,
        args: Args,
        slots: Option<Slots>,
        site: &Site<'_>,
        cx: &mut Cx<'_>,
    ) -> Started {
        let prepared = match self.prepared(site) {
            Some(Ok(prepared)) => prepared,
            Some(Err(error)) => {
                self.finished = site.clock.timestamp();
                return Started::Ended(AttemptOutcome::failed(error));
            }
            None => {
                let preparation = Box::new(self.prepare(args, slots, site));
                return Started::Running(RunningAttempt::Preparing(preparation));
            }
        };
        let started = site
            .pulse
            .poll(|| self.call(args, prepared, slots, site, cx));
        let Started::Ended(outcome) = started else {
            return started;
        };
        self.finished = site.clock.timestamp();
        Started::Ended(self.unless_late(outcome))
    }

    /// Lets the clients that the body took be made anew for later attempts.
    pub(crate) fn discard_clients(&self, environment: &Environment) {
        environment.clients.discard(&self.taken);
        if let Some(context) = &self.context {
            environment.clients.discard(&context.taken());
        }
    }

    /// Returns the outcome of a body that returned at its first poll, unless it was too late.
    fn unless_late(&self, outcome: AttemptOutcome) -> AttemptOutcome {
        match self.timeout {
            Some(timeout) if self.finished.since(self.started) > timeout => {
                AttemptOutcome::failed(TaskError::timed_out(timeout))
            }
            _ => outcome,
        }
    }
}

impl AttemptOutcome {
    /// Returns the outcome of an attempt that ends with an error.
    pub(crate) fn failed(error: TaskError) -> Self {
        Self::Returned(Err(error))
    }
}

/// The result of a blocking body, and the time at which it returned: its lane may notice later.
type ThreadReturn = (Result<Value, TaskError>, Instant);
