use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;

use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::conduct::Finished;
use crate::error::{Error, TaskError};
use crate::id::RunId;
use crate::store::RunRecord;
use crate::value::Data;

/// A run that is done: its record, and what the flow returned.
///
/// Everything that is recorded of the run ([`RunRecord`]) can be asked of it directly.
pub struct Run<T> {
    finished: Finished,
    output: PhantomData<fn() -> T>,
}

impl<T: Data> Run<T> {
    pub(super) fn new(finished: Finished) -> Self {
        Self {
            finished,
            output: PhantomData,
        }
    }

    /// What the flow returned; none where it failed, was cancelled, or skipped what it was to return.
    pub fn output(&self) -> Option<&T> {
        self.finished.output.as_ref().map(|value| value.get())
    }

    /// The run's record.
    pub fn record(&self) -> &RunRecord {
        &self.finished.record
    }

    /// What the flow returned, where the run is green.
    pub(super) fn into_result(self) -> Result<T, TaskError> {
        self.finished
            .into_value()
            .map(|value| value.get::<T>().clone())
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

/// A run that was started. Awaiting it gives the [`Run`]; dropping it lets the run go on.
pub struct RunHandle<T> {
    id: RunId,
    cancel: CancellationToken,
    conductor: JoinHandle<Result<Finished, Error>>,
    /// Somebody else asked for the run first.
    joined: bool,
    output: PhantomData<fn() -> T>,
}

impl<T> RunHandle<T> {
    pub(super) fn new(
        id: RunId,
        cancel: CancellationToken,
        conductor: JoinHandle<Result<Finished, Error>>,
    ) -> Self {
        Self {
            id,
            cancel,
            conductor,
            joined: false,
            output: PhantomData,
        }
    }

    /// The handle on a run that somebody else asked for.
    pub(super) fn joined(
        id: RunId,
        cancel: CancellationToken,
        waiter: JoinHandle<Result<Finished, Error>>,
    ) -> Self {
        Self {
            joined: true,
            ..Self::new(id, cancel, waiter)
        }
    }

    /// The run's id.
    pub fn id(&self) -> RunId {
        self.id
    }

    /// Asks for the run's end. What has not started is cancelled; a body that is awaiting something is dropped, unless
    /// it asked for its own cancellation: then, as a blocking one, it is given the grace period.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Cancels the run when it is dropped; none where the run is another's.
    pub(super) fn guard(&self) -> Option<DropGuard> {
        (!self.joined).then(|| self.cancel.clone().drop_guard())
    }
}

impl<T: Data> IntoFuture for RunHandle<T> {
    type Output = Result<Run<T>, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(Finish(self.conductor, PhantomData))
    }
}

struct Finish<T>(JoinHandle<Result<Finished, Error>>, PhantomData<fn() -> T>);

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
