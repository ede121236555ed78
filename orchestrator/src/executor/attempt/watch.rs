//! Watches a body that did not end at its first poll: its end, its timeout and its cancellation.

use std::future::poll_fn;
use std::task::{Context as Cx, Poll};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::super::slots::Slots;
use super::super::slots::pulse::Pulse;
use super::prepare::Preparation;
use super::{Attempt, AttemptOutcome, Site, ThreadReturn};
use crate::clock::{Clock, Deadline, in_time, passed};
use crate::error::TaskError;
use crate::panic;
use crate::task::BodyFuture;
use crate::value::Value;

/// A body that was called.
pub(crate) enum Started {
    Ended(AttemptOutcome),
    Running(RunningAttempt),
}

/// A body that did not end at its first poll.
pub(crate) enum RunningAttempt {
    /// A body that is called when what it requires is ready.
    Preparing(Box<Preparation>),
    /// An async body that waits, and its slots.
    Body(BodyFuture, Option<Slots>),
    /// A blocking body on its thread.
    Thread(JoinHandle<ThreadReturn>),
}

/// The cancellation of an attempt.
#[derive(Debug)]
pub(crate) struct CancelSignal {
    pub(crate) token: CancellationToken,
    /// The time that a body that checks for its cancellation may take to end.
    pub(crate) grace: Duration,
}

impl RunningAttempt {
    /// Waits for the end of the body, its timeout or its cancellation, whichever comes first.
    pub(crate) async fn end(
        self,
        attempt: &mut Attempt,
        site: &Site<'_>,
        cancelling: CancelSignal,
    ) -> AttemptOutcome {
        let deadline = attempt.deadline(site.clock);
        let running = match self {
            Self::Preparing(preparation) => {
                match attempt
                    .call_prepared(*preparation, site, deadline, &cancelling)
                    .await
                {
                    Started::Ended(outcome) => {
                        attempt.finished = site.clock.timestamp();
                        return attempt.unless_late(outcome);
                    }
                    Started::Running(running) => running,
                }
            }
            running => running,
        };
        let outcome = match running {
            // the body is called once
            Self::Preparing(_) => AttemptOutcome::Cancelled,
            Self::Body(mut body, slots) => {
                let outcome = attempt
                    .watch_body(&mut body, site.pulse, deadline, cancelling)
                    .await;
                // the slots are released after the body's `Drop`, which may use them, and may panic
                let dropped = panic::catch(|| drop(body));
                drop(slots);
                match dropped {
                    Ok(()) => outcome,
                    Err(panicked) => AttemptOutcome::failed(TaskError::panicked(&panicked)),
                }
            }
            Self::Thread(handle) => attempt.watch_thread(handle, deadline, cancelling).await,
        };
        attempt.finished = site.clock.timestamp();
        outcome
    }
}

impl Attempt {
    /// Waits until the requirements are ready, the timeout or the cancellation, whichever comes first,
    /// and calls the body.
    async fn call_prepared(
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
            () = cancelling.token.cancelled() => Err(TaskError::cancelled()),
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
            Err(error) if error.is_cancelled() && cancelling.token.is_cancelled() => {
                Started::Ended(AttemptOutcome::Cancelled)
            }
            Err(error) => Started::Ended(AttemptOutcome::failed(error)),
        }
    }

    /// Waits for an async body. On cancellation, a body that has checked for it gets the grace
    /// period to end by itself; any other body is dropped at once.
    async fn watch_body(
        &self,
        body: &mut BodyFuture,
        pulse: &Pulse,
        deadline: Deadline,
        cancelling: CancelSignal,
    ) -> AttemptOutcome {
        let mut polled = poll_fn(|cx| pulse.poll(|| self.poll(body, cx)));
        // biased: if the body has ended, that counts, whatever else has happened meanwhile
        tokio::select! {
            biased;
            result = &mut polled => {
                return AttemptOutcome::Returned(unless_late(result, Instant::now(), deadline));
            }
            () = cancelling.token.cancelled() => {}
            timeout = passed(deadline) => return AttemptOutcome::failed(TaskError::timed_out(timeout)),
        }
        let has_asked = self
            .context
            .as_ref()
            .is_some_and(|context| context.has_asked());
        if !has_asked {
            return AttemptOutcome::Cancelled;
        }
        match timeout(cancelling.grace, polled).await {
            Ok(Ok(value)) => AttemptOutcome::Returned(Ok(value)),
            Ok(Err(_)) | Err(_) => AttemptOutcome::Cancelled,
        }
    }

    fn poll(&self, body: &mut BodyFuture, cx: &mut Cx<'_>) -> Poll<Result<Value, TaskError>> {
        let _entered = self.span.enter();
        match panic::catch(|| body.as_mut().poll(cx)) {
            Ok(poll) => poll,
            Err(panicked) => Poll::Ready(Err(TaskError::panicked(&panicked))),
        }
    }

    /// Waits for a blocking body. It cannot be stopped: on cancellation or timeout it is notified,
    /// and left on its thread when its time or its grace period is over.
    async fn watch_thread(
        &self,
        mut handle: JoinHandle<ThreadReturn>,
        deadline: Deadline,
        cancelling: CancelSignal,
    ) -> AttemptOutcome {
        let timed_out = tokio::select! {
            biased;
            joined = &mut handle => match joined {
                Ok((result, returned)) => {
                    return AttemptOutcome::Returned(unless_late(result, returned, deadline));
                }
                // the tokio runtime is shutting down and drops this future: the run has not ended
                Err(_) => std::future::pending().await,
            },
            () = cancelling.token.cancelled() => None,
            timeout = passed(deadline) => Some(timeout),
        };
        if let Some(context) = &self.context {
            context.cancel();
        }
        if let Some(timeout) = timed_out {
            let returned = tokio::spawn(async move { drop(handle.await) });
            return AttemptOutcome::Abandoned(TaskError::timed_out(timeout), returned);
        }
        match timeout(cancelling.grace, &mut handle).await {
            Ok(Ok((Ok(value), _))) => AttemptOutcome::Returned(Ok(value)),
            _ => AttemptOutcome::Cancelled,
        }
    }

    /// Returns the deadline of the attempt. The time of its first poll counts.
    fn deadline(&self, clock: &Clock) -> Deadline {
        let timeout = self.timeout?;
        let spent = clock.timestamp().since(self.started);
        Some((timeout, in_time(timeout.saturating_sub(spent))))
    }
}

/// Returns the result of a body, or the timeout if the deadline had passed when it returned: a body
/// that blocks its thread returns before its lane can check the time.
fn unless_late(
    result: Result<Value, TaskError>,
    returned: Instant,
    deadline: Deadline,
) -> Result<Value, TaskError> {
    match deadline {
        Some((timeout, at)) if at < returned => Err(TaskError::timed_out(timeout)),
        _ => result,
    }
}
