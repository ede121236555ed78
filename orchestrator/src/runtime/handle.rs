//! Handles to runs, and finished runs as their callers get them.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;

use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::{Error, TaskError};
use crate::executor::FinishedRun;
use crate::executor::ambient::unless_left;
use crate::id::RunId;
use crate::journal::RunRecord;
use crate::panic::catch;
use crate::value::Data;

/// A finished run: its record and the flow's output.
///
/// Dereferences to the run's [`RunRecord`].
pub struct Run<T> {
    finished: FinishedRun,
    output: PhantomData<fn() -> T>,
}

impl<T: Data> Run<T> {
    pub(super) fn new(finished: FinishedRun) -> Self {
        Self {
            finished,
            output: PhantomData,
        }
    }

    /// Returns the flow's output, or `None` if the run failed, was cancelled, or skipped the node
    /// that it returns.
    pub fn output(&self) -> Option<&T> {
        match &self.finished.returned {
            Some(Ok(value)) => Some(value.get()),
            Some(Err(_)) | None => None,
        }
    }

    /// Returns the run's record.
    pub fn record(&self) -> &RunRecord {
        &self.finished.record
    }

    /// Returns the flow's output if the run succeeded.
    pub(super) fn into_result(self) -> Result<T, TaskError> {
        let value = self.finished.into_value()?;
        catch(|| value.get::<T>().clone()).map_err(|panicked| TaskError::panicked(&panicked))
    }
}

impl<T> Deref for Run<T> {
    type Target = RunRecord;

    fn deref(&self) -> &RunRecord {
        &self.finished.record
    }
}

impl<T> fmt::Debug for Run<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Run").field(&self.finished.record).finish()
    }
}

/// A handle to a started run. Awaiting it returns the finished [`Run`]; dropping it does not cancel
/// the run.
pub struct RunHandle<T> {
    id: RunId,
    cancel: CancellationToken,
    conductor: JoinHandle<Result<FinishedRun, Error>>,
    /// Whether the run was started by an earlier request.
    joined: bool,
    output: PhantomData<fn() -> T>,
}

impl<T> RunHandle<T> {
    pub(super) fn new(
        id: RunId,
        cancel: CancellationToken,
        conductor: JoinHandle<Result<FinishedRun, Error>>,
    ) -> Self {
        Self {
            id,
            cancel,
            conductor,
            joined: false,
            output: PhantomData,
        }
    }

    /// Creates a handle to a run that was started by an earlier request.
    pub(super) fn joined(
        id: RunId,
        cancel: CancellationToken,
        waiter: JoinHandle<Result<FinishedRun, Error>>,
    ) -> Self {
        Self {
            joined: true,
            ..Self::new(id, cancel, waiter)
        }
    }

    /// Returns the run's id.
    pub fn id(&self) -> RunId {
        self.id
    }

    /// Requests the cancellation of the run. Tasks that have not started, or would be retried, are
    /// cancelled. A body that is awaiting is dropped, unless it uses its cancellation token: such a
    /// body, like a blocking one, has the grace period to return. After that, the tasks that clean
    /// up ([`run_on_cancel`](macro@crate::task#cleaning-up)) run.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Returns a guard that cancels the run when it is dropped, or `None` if the run belongs to an
    /// earlier request.
    pub(super) fn guard(&self) -> Option<DropGuard> {
        (!self.joined).then(|| self.cancel.clone().drop_guard())
    }
}

impl<T: Data> IntoFuture for RunHandle<T> {
    type Output = Result<Run<T>, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(unless_left(Finish(self.conductor, PhantomData)))
    }
}

struct Finish<T>(
    JoinHandle<Result<FinishedRun, Error>>,
    PhantomData<fn() -> T>,
);

impl<T: Data> Future for Finish<T> {
    type Output = Result<Run<T>, Error>;

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|joined| match joined {
            Ok(finished) => finished.map(Run::new),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // the tokio runtime is shutting down
                Err(_) => Err(Error::NoTokio),
            },
        })
    }
}

impl<T> fmt::Debug for RunHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunHandle")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
