//! Gets ready what a task requires from outside, before its body is called: names are looked up, and
//! clients are made. That is a part of the attempt, with its timeout and its span.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use futures_util::future::BoxFuture;

use super::super::slots::Slots;
use super::{Attempt, AttemptOutcome, CancelSignal, RunningAttempt, Site, Started};
use crate::clock::{Deadline, passed};
use crate::error::TaskError;
use crate::panic::{self, Fragile};
use crate::task::{Args, PreparedRequirements, TakenClient};

/// A body that waits for what it requires.
pub(crate) struct Preparation {
    future: Fragile<BoxFuture<'static, PreparationResult>>,
    args: Args,
    slots: Option<Slots>,
}

type PreparationResult = Result<(PreparedRequirements, Vec<TakenClient>), TaskError>;

impl Attempt {
    /// Returns what the task requires, if it is at hand.
    pub(super) fn prepared(
        &mut self,
        site: &Site<'_>,
    ) -> Option<Result<PreparedRequirements, TaskError>> {
        let requirements = self.task.requirements;
        if requirements.is_empty() || site.environment.mock_of(self.task).is_some() {
            return Some(Ok(PreparedRequirements::new()));
        }
        self.taken.clear();
        let clients = &site.environment.clients;
        clients.at_hand(requirements, &self.variables, &mut self.taken)
    }

    /// Begins to get ready what the task requires.
    pub(super) fn prepare(
        &self,
        args: Args,
        slots: Option<Slots>,
        site: &Site<'_>,
    ) -> RunningAttempt {
        let (task, variables) = (self.task, Arc::clone(&self.variables));
        let clients = Arc::clone(&site.environment.clients);
        let future: BoxFuture<'static, _> =
            Box::pin(async move { clients.prepare(task.requirements, &variables).await });
        RunningAttempt::Preparing(Box::new(Preparation {
            future: Fragile::new(future),
            args,
            slots,
        }))
    }

    /// Waits until the requirements are ready, the timeout or the cancellation, whichever comes first,
    /// and calls the body.
    pub(super) async fn call_prepared(
        &mut self,
        preparation: Preparation,
        site: &Site<'_>,
        deadline: Deadline,
        cancelling: &CancelSignal,
    ) -> Started {
        let Preparation {
            mut future,
            args,
            slots,
        } = preparation;
        let prepared = tokio::select! {
            biased;
            prepared = poll_fn(|cx| site.pulse.poll(|| {
                let _entered = self.span.enter();
                match panic::catch(|| future.as_mut().poll(cx)) {
                    Ok(poll) => poll,
                    Err(panicked) => Poll::Ready(Err(TaskError::panicked(&panicked))),
                }
            })) => prepared,
            () = cancelling.token.cancelled() => return Started::Ended(AttemptOutcome::Cancelled),
            timeout = passed(deadline) => Err(TaskError::timed_out(timeout)),
        };
        drop(future);
        match prepared {
            Ok((prepared, taken)) => {
                self.taken = taken;
                let mut given = Some((args, prepared, slots));
                poll_fn(|cx| {
                    let given = given.take();
                    let called = given.map(|(args, prepared, slots)| {
                        site.pulse
                            .poll(|| self.call(args, prepared, slots, site, cx))
                    });
                    Poll::Ready(called.unwrap_or(Started::Ended(AttemptOutcome::Cancelled)))
                })
                .await
            }
            Err(error) => Started::Ended(AttemptOutcome::failed(error)),
        }
    }
}
