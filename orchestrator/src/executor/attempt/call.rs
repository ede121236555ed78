//! Calls the body of an attempt.

use std::task::{Context as Cx, Poll};

use tokio::time::Instant;

use super::super::slots::Slots;
use super::{Attempt, AttemptOutcome, RunningAttempt, Site, Started};
use crate::error::TaskError;
use crate::panic;
use crate::task::{Args, BlockingBody, Call, PreparedRequirements, TaskBody};

impl Attempt {
    /// Calls the body, or its mock, and polls it once. This runs user code beyond the body:
    /// projections of inputs, and their `Clone` and `Drop`.
    pub(super) fn call(
        &self,
        args: Args,
        prepared: PreparedRequirements,
        slots: Option<Slots>,
        site: &Site<'_>,
        cx: &mut Cx<'_>,
    ) -> Started {
        let _entered = self.span.enter();
        let called = panic::catch(|| {
            let environment = site.environment;
            let mut call = Call::new(args, prepared, &environment.resources, self.context.clone());
            let mut body = match (environment.mock_of(self.task), &self.task.body) {
                (Some(mock), _) => mock.body(&mut call),
                (None, TaskBody::Async(body)) => body(&mut call),
                (None, TaskBody::Blocking(body)) => {
                    return Started::Running(self.spawn(body(&mut call), slots, site));
                }
            };
            match body.as_mut().poll(cx) {
                Poll::Pending => Started::Running(RunningAttempt::Body(body, slots)),
                Poll::Ready(result) => {
                    drop(body);
                    Started::Ended(AttemptOutcome::Returned(result))
                }
            }
        });
        called.unwrap_or_else(|panicked| {
            Started::Ended(AttemptOutcome::failed(TaskError::panicked(&panicked)))
        })
    }

    /// Calls a blocking body on a blocking thread. From now on the thread, rather than the lane,
    /// holds the slots, since it may outlive the attempt.
    fn spawn(
        &self,
        body: BlockingBody,
        mut slots: Option<Slots>,
        site: &Site<'_>,
    ) -> RunningAttempt {
        if let Some(slots) = &mut slots {
            slots.pass_to(&site.pulse.of_thread(self.task));
        }
        let span = self.span.clone();
        let (body, guard) = (site.on_thread)(body);
        RunningAttempt::Thread(tokio::task::spawn_blocking(move || {
            let result = span.in_scope(|| panic::catch(body));
            let returned = Instant::now();
            // released by the thread that used them, since the attempt may have ended long ago; the
            // guard last: it may release the run to other processes, outside of users' code
            drop(slots);
            drop(guard);
            let result = result.unwrap_or_else(|panicked| Err(TaskError::panicked(&panicked)));
            (result, returned)
        }))
    }
}
