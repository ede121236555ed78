//! The log of one run, to which its process records transitions.

use std::fmt;

use futures_util::future::BoxFuture;

use crate::error::StoreError;
use crate::journal::{EncodedResult, RunRecord, Transition};
use crate::value::{EncodingError, Value};

/// The log of one run: records its transitions.
pub(crate) trait RunLog: fmt::Debug + Send + Sync {
    /// Encodes a result as the log stores it. Returns `None` if the log stores no results.
    fn encode(&self, value: &Value) -> Result<Option<EncodedResult>, EncodingError>;

    /// Appends a transition. It is durable after the next [`commit`].
    ///
    /// [`commit`]: Self::commit
    fn record(&self, transition: Transition);

    /// Returns `true` if dependent work must wait for a commit.
    fn needs_commits(&self) -> bool;

    /// Commits everything recorded so far.
    ///
    /// Await the returned [`Commit`] to be sure; dropping it does not undo anything.
    fn commit(&self) -> Commit;

    /// Schedules a commit of everything recorded so far, without waiting for it.
    fn commit_soon(&self);

    /// Returns the run as it is recorded now.
    fn snapshot(&self) -> RunRecord;
}

/// A commit that is done, or that can be awaited.
pub(crate) enum Commit {
    Done(Result<(), StoreError>),
    Waiting(BoxFuture<'static, Result<(), StoreError>>),
}

impl Commit {
    pub(crate) async fn wait(self) -> Result<(), StoreError> {
        match self {
            Self::Done(result) => result,
            Self::Waiting(commit) => commit.await,
        }
    }
}
