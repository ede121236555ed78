//! Runs that were final, run again: in part or whole.
//!
//! The store makes rows pending again and the run with them, in one transaction. From there it is a run that goes on: its
//! body is called, what is recorded of its nodes stays, and what is pending runs.

use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::runtime::Handle as Tokio;
use tokio_util::sync::CancellationToken;

use super::launch::StartedRun;
use super::{Inner, Runtime, resume};
use crate::error::{Error, RerunError};
use crate::failpoint;
use crate::flow::registry;
use crate::id::RunId;
use crate::state::Rerun;
use crate::store::{AttemptRecord, RunRecord};

impl Runtime {
    /// Runs a finished run again, in part or whole, and waits for its end.
    ///
    /// It stays the same run: its id, its key, its logical date and its parameters. Its tasks that are to run again do
    /// so as new attempts, whose numbers go on; the old ones are kept ([`attempts`](Self::attempts)). Retries and their
    /// delays are counted from the start. The other tasks keep the results that they have. What ran again is not taken
    /// from the cache, and goes into it.
    ///
    /// Where a flow decides as it goes (`async fn`), what its body planned after it awaited a task that is to run again
    /// hangs on that task. What it does not ask for any more is no part of the run then. A mapping whose list comes anew
    /// may have other elements, of which those with an index as before go on with their attempts.
    ///
    /// # Errors
    ///
    /// Where there is no such run, or it is not final: of several who run it again at once, one does. Where its flow is
    /// not in this binary, or needs what this runtime does not have. Where it has no task of that key, or nothing of it
    /// failed. Where the results of its other tasks are not kept any more, or never were, as in memory: then
    /// [`Rerun::All`] is what is left. The run stays as it is then.
    ///
    /// # Cancellation
    ///
    /// Dropping the future asks for the run's end, as [`RerunHandle::cancel`] does.
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
        let record = self.0.start_rerun(run, what, cancel).await?.end().await;
        guard.disarm();
        record
    }

    /// Starts running a finished run again, and gives a handle on it.
    ///
    /// # Errors
    ///
    /// As for [`rerun`](Self::rerun).
    pub async fn start_rerun(&self, run: RunId, what: Rerun) -> Result<RerunHandle, Error> {
        self.0
            .start_rerun(run, what, CancellationToken::new())
            .await
            .map(RerunHandle)
    }

    /// Every attempt of a run's tasks, in the order of their starts: those before a re-run, too, and of tasks that are no
    /// part of the run any more. Of a run whose tasks were pruned there are none.
    ///
    /// # Errors
    ///
    /// Where there is no such run, and where the store fails.
    pub async fn attempts(&self, run: RunId) -> Result<Vec<AttemptRecord>, Error> {
        self.0
            .store
            .attempts(run)
            .await?
            .ok_or(Error::UnknownRun { run })
    }
}

impl Inner {
    /// Starts running a finished run again; `cancel` asks for its end.
    pub(crate) async fn start_rerun(
        self: &Arc<Self>,
        run: RunId,
        what: Rerun,
        cancel: CancellationToken,
    ) -> Result<StartedRun, Error> {
        let tokio = Tokio::try_current().map_err(|_| Error::NoTokio)?;
        // on its own: who asks may be gone before the run is there to be cancelled
        let begun = tokio.spawn(reopen(Arc::clone(self), tokio.clone(), run, what, cancel));
        begun.await.map_err(|_| Error::NoTokio)?
    }
}

async fn reopen(
    runtime: Arc<Inner>,
    tokio: Tokio,
    run: RunId,
    what: Rerun,
    cancel: CancellationToken,
) -> Result<StartedRun, Error> {
    let _taking = runtime.under_way.taking();
    loop {
        if runtime.stop.soft.is_cancelled() {
            return Err(Error::Closed);
        }
        let record = runtime
            .store
            .run(run)
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
        let recalled = resume::recall(&runtime, definition, &record);
        if let Err(problem) = recalled.call {
            return Err(RerunError::Parameters { run, flow, problem }.into());
        }
        if let Some(lacks) = recalled.lacks {
            return Err(lacks);
        }
        // where somebody was faster, there is another record now
        if let Some(taken) = runtime
            .store
            .reopen(run, &what, runtime.clock.micros())
            .await?
        {
            failpoint::hit("rerun-begins");
            return Ok(resume::conduct(
                &runtime, &tokio, definition, recalled, taken, cancel,
            ));
        }
    }
}

/// A finished run that is run again. Awaiting it gives the run's record at its end; dropping it lets the run go on.
pub struct RerunHandle(StartedRun);

impl RerunHandle {
    /// The run's id.
    pub fn id(&self) -> RunId {
        self.0.id
    }

    /// Asks for the run's end, as [`RunHandle::cancel`](crate::RunHandle::cancel) does.
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
