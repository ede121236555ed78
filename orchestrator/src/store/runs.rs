//! Stored runs: created, found, owned by one process at a time.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::RunLog;
use crate::clock::Timestamp;
use crate::deployment::{DeploymentKey, DeploymentVersion};
use crate::error::{Error, StoreError};
use crate::id::RunId;
use crate::journal::{AttemptRecord, History, NewRun, RunFilter, RunRecord, RunSummary};
use crate::state::{Rerun, RunState};

/// Stores runs, and which process executes each of them.
#[async_trait]
pub(crate) trait RunStore: fmt::Debug + Send + Sync {
    /// Inserts a pending run owned by this process, unless its key or its tick already has one.
    /// Manual runs have no tick. The run of a tick is inserted only while a version of its
    /// deployment is in force.
    async fn create_run(
        &self,
        run: NewRun,
        in_force: Option<DeploymentVersion>,
    ) -> Result<RunCreation, StoreError>;

    /// Inserts a pending run like [`create_run`](Self::create_run), but without an owner: a serving
    /// process executes it. Returns the run that already has its key or tick, if there is one.
    async fn submit_run(&self, run: NewRun) -> Result<Option<RunRecord>, StoreError>;

    /// Returns the run with an id.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::UnreadableRun`] if its record cannot be read.
    async fn find_run(&self, id: RunId) -> Result<Option<RunRecord>, StoreError>;

    /// Returns the runs that match a filter, without their tasks.
    async fn find_runs(&self, filter: &RunFilter) -> Result<Vec<RunSummary>, StoreError>;

    /// Returns the run of the previous tick of a deployment, scheduled or of a backfill: the one with
    /// the latest logical date before an instant. Ticks without a run do not count.
    async fn find_previous(
        &self,
        deployment: &DeploymentKey,
        before: Timestamp,
    ) -> Result<Option<PreviousRun>, StoreError>;

    /// Returns all runs of a flow, in the order in which they were accepted.
    async fn list_runs(&self, flow: &str) -> Result<Vec<RunRecord>, StoreError>;

    /// Returns every attempt of a run's tasks, by start. Returns `None` if there is no such run.
    async fn read_attempts(&self, id: RunId) -> Result<Option<Vec<AttemptRecord>>, StoreError>;

    /// Returns the unfinished runs that no living process executes, in the order in which they were
    /// accepted.
    async fn find_abandoned(&self) -> Result<Vec<AbandonedRun>, StoreError>;

    /// Makes this process the owner of an abandoned run. Returns `None` if another process took it
    /// over first.
    async fn take_over_run(&self, id: RunId) -> Result<Option<Takeover>, StoreError>;

    /// Makes a final run pending again, in part or completely, and this process its owner. Returns
    /// `None` if the run changed in the meantime.
    async fn reopen_run(
        &self,
        id: RunId,
        what: &Rerun,
        at: Timestamp,
    ) -> Result<Option<Takeover>, Error>;

    /// Claims one of the flow's `max_active_runs` slots across all live processes, and marks the
    /// run as running at `now`. Backfill runs do not count. Returns `false` if no slot is free.
    async fn claim_turn(
        &self,
        id: RunId,
        flow: &str,
        runs: u32,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Releases the slot held by a previous execution of the run. The run then waits for a slot
    /// like any other; without this, two resumed runs could wait for each other.
    async fn release_turn(&self, id: RunId) -> Result<(), StoreError>;

    /// Requests the cancellation of a run. Returns `false` if there is no such unfinished run.
    async fn request_cancel(&self, id: RunId) -> Result<bool, StoreError>;

    /// Returns the runs of this process whose cancellation was requested.
    async fn find_cancel_requests(&self) -> Result<Vec<RunId>, StoreError>;

    /// Commits everything recorded so far, including writes without a waiter.
    async fn flush_writes(&self) -> Result<(), StoreError>;
}

/// The outcome of a request for a run.
#[derive(Debug)]
pub(crate) enum RunCreation {
    New(Arc<dyn RunLog>),
    /// Its key or its tick already has this run.
    Taken(RunRecord),
    /// The run is scheduled, and its flow is paused.
    Paused,
    /// Another version of its deployment is in force.
    Superseded,
}

/// The run of the previous tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PreviousRun {
    pub(crate) id: RunId,
    pub(crate) state: RunState,
}

/// An unfinished run that no living process executes.
#[derive(Clone, Debug)]
pub(crate) struct AbandonedRun {
    pub(crate) id: RunId,
    pub(crate) flow: String,
}

/// A run that this process resumes.
#[derive(Debug)]
pub(crate) struct Takeover {
    pub(crate) log: Arc<dyn RunLog>,
    pub(crate) history: History,
}
