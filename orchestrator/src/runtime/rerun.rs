//! Re-runs of finished runs, in part or as a whole.
//!
//! The store sets rows, and with them the run, back to pending in one transaction. From there on
//! the run is resumed: its body is called, the records of its other nodes stay, and pending nodes
//! run.

use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::runtime::Handle as Tokio;
use tokio_util::sync::CancellationToken;

use super::Runtime;
use crate::error::{Error, RerunError};
use crate::executor::Host;
use crate::executor::StartedRun;
use crate::executor::start;
use crate::failpoint;
use crate::flow::registry;
use crate::id::RunId;
use crate::journal::{AttemptRecord, RunRecord};
use crate::state::Rerun;

impl Runtime {
    /// Re-runs a finished run, in part or as a whole, and waits for its end.
    ///
    /// The run stays the same: its id, key, logical date and parameters do not change. Re-run tasks
    /// make new attempts, with continued numbers; old attempts are kept
    /// ([`attempts`](Self::attempts)). Retries and their delays are counted anew. All other tasks
    /// keep their results. A re-run task does not read its result from the cache, but writes the
    /// new one to it.
    ///
    /// In an `async fn` flow, nodes that the body planned after awaiting a re-run task count as
    /// downstream of that task. Nodes that the body no longer plans are no longer part of the run.
    /// A mapping over a recomputed list may have other elements; elements whose index existed
    /// before continue their numbering of attempts.
    ///
    /// # Errors
    ///
    /// Returns an error if the run does not exist or is not finished (of several concurrent
    /// re-runs, one succeeds); if its flow is not in this binary, or needs something that this
    /// runtime lacks; if the run has no task with the given key, or no failed task; or if results
    /// of its other tasks are gone or were never stored, as in memory: then only [`Rerun::All`] is
    /// possible. The run is unchanged in all of these cases.
    ///
    /// # Cancellation
    ///
    /// Dropping the future cancels the run, like [`RerunHandle::cancel`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::atomic::{AtomicBool, Ordering};
    ///
    /// use orchestrator::prelude::*;
    /// use orchestrator::Rerun;
    ///
    /// static IS_UP: AtomicBool = AtomicBool::new(false);
    ///
    /// #[task]
    /// async fn load() -> Result<u32> {
    ///     if IS_UP.load(Ordering::Relaxed) { Ok(3) } else { Err("the database is down".into()) }
    /// }
    ///
    /// #[flow]
    /// fn nightly_load() -> Node<u32> { load() }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let runtime = Runtime::in_memory();
    /// let run = nightly_load().on(&runtime).run().await?;
    /// assert_eq!(run.state(), RunState::Failed);
    /// IS_UP.store(true, Ordering::Relaxed);
    /// let run = runtime.rerun(run.id(), Rerun::All).await?;
    /// assert_eq!(run.state(), RunState::Success);
    /// assert_eq!(runtime.attempts(run.id()).await?.len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn rerun(&self, run: RunId, what: Rerun) -> Result<RunRecord, Error> {
        let cancel = CancellationToken::new();
        let guard = cancel.clone().drop_guard();
        let record = self.host.start_rerun(run, what, cancel).await?.end().await;
        guard.disarm();
        record
    }

    /// Starts a re-run of a finished run and returns a handle to it.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`rerun`](Self::rerun).
    pub async fn start_rerun(&self, run: RunId, what: Rerun) -> Result<RerunHandle, Error> {
        self.host
            .start_rerun(run, what, CancellationToken::new())
            .await
            .map(RerunHandle)
    }

    /// Returns every attempt of a run's tasks, ordered by start. This includes attempts before a
    /// re-run and attempts of tasks that are no longer part of the run. A pruned run has no
    /// attempts.
    ///
    /// # Errors
    ///
    /// Returns [`Error::UnknownRun`] if there is no such run, and an error if the store fails.
    pub async fn attempts(&self, run: RunId) -> Result<Vec<AttemptRecord>, Error> {
        self.host
            .services
            .store
            .read_attempts(run)
            .await?
            .ok_or(Error::UnknownRun { run })
    }
}

impl Host {
    /// Starts a re-run of a finished run; `cancel` cancels it.
    pub(crate) async fn start_rerun(
        self: &Arc<Self>,
        run: RunId,
        what: Rerun,
        cancel: CancellationToken,
    ) -> Result<StartedRun, Error> {
        let tokio = Tokio::try_current().map_err(|_| Error::NoTokio)?;
        // on a tokio task of its own: if the caller is dropped after the store reopened the run,
        // the run must still be started, so that it can be cancelled
        let begun = tokio.spawn(reopen(Arc::clone(self), tokio.clone(), run, what, cancel));
        begun.await.map_err(|_| Error::NoTokio)?
    }
}

async fn reopen(
    host: Arc<Host>,
    tokio: Tokio,
    run: RunId,
    what: Rerun,
    cancel: CancellationToken,
) -> Result<StartedRun, Error> {
    let _taking = host.active.taking();
    loop {
        if host.stop.soft.is_cancelled() {
            return Err(Error::Closed);
        }
        let record = host
            .services
            .store
            .find_run(run)
            .await?
            .ok_or(Error::UnknownRun { run })?;
        let (flow, state) = (record.flow().to_owned(), record.state());
        if !state.is_final() {
            return Err(RerunError::NotFinal { run, state }.into());
        }
        let Some(definition) = registry::find(&flow) else {
            return Err(RerunError::UnknownFlow {
                run,
                flow,
                known: registry::names(),
            }
            .into());
        };
        let recalled = start::recall(&host, definition, &record).await;
        if let Err(problem) = recalled.call {
            return Err(RerunError::Parameters { run, flow, problem }.into());
        }
        if let Some(lacks) = recalled.lacks {
            return Err(lacks);
        }
        // if another process was faster, the next round reads the changed record
        if let Some(taken) = host
            .services
            .store
            .reopen_run(run, &what, host.services.clock.timestamp())
            .await?
        {
            failpoint::hit("rerun-begins");
            return Ok(start::resume(
                &host, &tokio, definition, recalled, taken, cancel,
            ));
        }
    }
}

/// A handle to a re-run. Awaiting it returns the run's record at its end; dropping it does not
/// cancel the run.
pub struct RerunHandle(StartedRun);

impl RerunHandle {
    /// Returns the run's id.
    pub fn id(&self) -> RunId {
        self.0.id
    }

    /// Requests the cancellation of the run, like [`RunHandle::cancel`](crate::RunHandle::cancel).
    pub fn cancel(&self) {
        self.0.cancel.cancel();
    }
}

impl IntoFuture for RerunHandle {
    type Output = Result<RunRecord, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.0.end())
    }
}

impl fmt::Debug for RerunHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RerunHandle")
            .field("id", &self.0.id)
            .finish_non_exhaustive()
    }
}
