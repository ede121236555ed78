//! Stores of runs, logs and cached results.
//!
//! The interface consists of transitions, not of tables: a run is created before its body starts,
//! and from then on its [`RunLog`] records each transition. Work that depends on a transition
//! starts after its commit.
//!
//! A run's log has one writer: the process that executes the run. A process that lost its run to
//! another is refused. The record of a run is the sum of its transitions
//! ([`RunTables`](crate::journal::RunTables)), in every store.

mod backlog;
mod cached;
mod entry;
mod memory;
mod mirror;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(not(feature = "sqlite"))]
#[path = "no_sqlite.rs"]
mod sqlite;
#[cfg(test)]
pub(crate) mod suite;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;

pub(crate) use backlog::Backlog;
pub(crate) use cached::{Accept, Claim, Lookup, Wanted};
pub use entry::{CacheEntry, CacheFilter, StoreCheck};
pub(crate) use memory::{MemoryStore, unrecorded};

use crate::clock::Timestamp;
use crate::error::{Error, StoreError, without_secrets};
use crate::id::RunId;
use crate::journal::{
    AttemptRecord, CacheKey, EncodedResult, History, NewRun, RunFilter, RunRecord, RunSummary,
    Transition,
};
use crate::log::LogLine;
use crate::state::Rerun;
use crate::value::{EncodingError, Value};

/// A store of runs, their logs, cached results, and the state of schedules.
#[async_trait]
pub(crate) trait Store: fmt::Debug + Send + Sync {
    /// Returns `true` if runs outlive the process.
    fn is_durable(&self) -> bool;

    /// Returns why this process can no longer write to the store, or `None` while it can. Its runs
    /// must be stopped then, since their progress cannot be recorded.
    fn failure(&self) -> Option<StoreError> {
        None
    }

    /// Inserts a pending run owned by this process, unless its key or its tick already has one.
    /// Manual runs have no tick.
    async fn create_run(&self, run: NewRun) -> Result<Created, StoreError>;

    /// Inserts a pending run like [`create_run`](Self::create_run), but without an owner: a serving
    /// process executes it. Returns the run that already has its key or tick, if there is one.
    async fn submit_run(&self, run: NewRun) -> Result<Option<RunRecord>, StoreError>;

    /// Returns all runs of a flow, in the order in which they were accepted.
    async fn runs(&self, flow: &str) -> Result<Vec<RunRecord>, StoreError>;

    /// Returns the run with an id.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::UnreadableRun`] if its record cannot be read.
    async fn run(&self, id: RunId) -> Result<Option<RunRecord>, StoreError>;

    /// Returns the runs that match a filter, without their tasks.
    async fn summaries(&self, filter: &RunFilter) -> Result<Vec<RunSummary>, StoreError>;

    /// Returns the unfinished runs that no living process executes, in the order in which they were
    /// accepted.
    async fn abandoned(&self) -> Result<Vec<Abandoned>, StoreError>;

    /// Makes this process the owner of an abandoned run. Returns `None` if another process took it
    /// over first.
    async fn take_over(&self, id: RunId) -> Result<Option<TakenOver>, StoreError>;

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
    async fn leave_turn(&self, id: RunId) -> Result<(), StoreError>;

    /// Requests the cancellation of a run. Returns `false` if there is no such unfinished run.
    async fn request_cancel(&self, id: RunId) -> Result<bool, StoreError>;

    /// Returns the runs of this process whose cancellation was requested.
    async fn cancelling(&self) -> Result<Vec<RunId>, StoreError>;

    /// Returns the abandoned runs and the paused flows. Serving processes poll this.
    async fn look(&self) -> Result<Look, StoreError>;

    /// Returns, for each schedule, the instant up to which its ticks are decided. New schedules are
    /// recorded as decided up to `now`.
    async fn decided(
        &self,
        schedules: &[ScheduleKey],
        now: Timestamp,
    ) -> Result<Vec<Timestamp>, StoreError>;

    /// Records that the ticks of a schedule are decided up to an instant. Does not wait for the
    /// commit.
    fn decide(&self, schedule: &ScheduleKey, up_to: Timestamp);

    /// Records that the clock was set back to an instant: no later tick is decided.
    fn set_back(&self, schedules: &[ScheduleKey], to: Timestamp);

    /// Pauses or resumes the schedules of a flow. Returns `false` if they were in that state
    /// already.
    async fn set_paused(
        &self,
        flow: &str,
        paused: bool,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Returns the flows whose schedules are paused, and since when.
    async fn paused(&self) -> Result<Vec<(String, Timestamp)>, StoreError>;

    /// Makes a final run pending again, in part or completely, and this process its owner. Returns
    /// `None` if the run changed in the meantime.
    async fn reopen(
        &self,
        id: RunId,
        what: &Rerun,
        at: Timestamp,
    ) -> Result<Option<TakenOver>, Error>;

    /// Returns every attempt of a run's tasks, by start. Returns `None` if there is no such run.
    async fn attempts(&self, id: RunId) -> Result<Option<Vec<AttemptRecord>>, StoreError>;

    /// Commits everything recorded so far, including writes without a waiter.
    async fn flush(&self) -> Result<(), StoreError>;

    /// Looks up cached results, and claims the flights of at most `claims` missing ones, in order.
    /// A flight that another living process has is not claimed.
    ///
    /// Look-up and claim are atomic: no result can be inserted between the two, which would be
    /// computed twice.
    async fn look_up(
        &self,
        wanted: Arc<[Wanted]>,
        claims: usize,
        now: Timestamp,
    ) -> Result<Vec<Lookup>, StoreError>;

    /// Ends flights of this process, which no longer computes these results.
    fn end_flights(&self, keys: Vec<CacheKey>);

    /// Appends lines to their runs' logs and numbers them there, in order. Lines of unknown or
    /// pruned runs are dropped.
    ///
    /// Does not depend on tokio, since bodies may occupy all of its threads. Returns `true` once
    /// the lines are committed and removed from `lines`. Returns `false` if they cannot be written
    /// now: another process is writing, or the call would block and `may_block` is `false`.
    fn append_logs(&self, lines: &mut Vec<LogLine>, may_block: bool) -> Result<bool, StoreError>;

    /// Returns at most `at_most` lines of a run after a number, in order. Unknown and pruned runs
    /// have no lines.
    async fn logs(
        &self,
        run: RunId,
        after: u64,
        at_most: usize,
    ) -> Result<Vec<LogLine>, StoreError>;

    /// Deletes the task records of runs that ended before `before`, the cached results that have
    /// expired at `now`, and the oldest cached results beyond `cache_bytes`.
    async fn prune(
        &self,
        before: Timestamp,
        now: Timestamp,
        cache_bytes: u64,
    ) -> Result<Pruned, StoreError>;

    /// Lists cached results by task and age, without their values.
    async fn cached(
        &self,
        filter: &CacheFilter,
        now: Timestamp,
    ) -> Result<Vec<CacheEntry>, StoreError>;

    /// Deletes the cached results that match a filter. Returns their number.
    async fn forget_cached(&self, filter: &CacheFilter, now: Timestamp) -> Result<u64, StoreError>;

    /// Returns the ids of runs from `first` to `last`, both included, in ascending order.
    async fn ids(&self, first: RunId, last: RunId) -> Result<Vec<RunId>, StoreError>;

    /// Returns the ids of runs that end with these hexadecimal digits, in ascending order. Scans
    /// all ids.
    async fn ids_ending(&self, digits: &str) -> Result<Vec<RunId>, StoreError>;

    /// Checks the whole store.
    async fn check(&self) -> Result<StoreCheck, StoreError>;
}

/// The URLs of the stores in this build, for error messages.
const KNOWN_STORES: &str = if cfg!(feature = "sqlite") {
    "`memory`, `sqlite:PATH`"
} else {
    "`memory`"
};

/// Opens the store at a URL. Large results go to `blobs`; without one, the store chooses a place.
pub(crate) fn open(
    url: &str,
    blobs: Option<&str>,
    now: Timestamp,
) -> Result<Arc<dyn Store>, StoreError> {
    match url.split(':').next() {
        Some("memory") if url == "memory" => Ok(Arc::new(MemoryStore::default())),
        Some("sqlite") => sqlite::open(url, blobs, now),
        _ => Err(unknown(url)),
    }
}

/// Returns `true` if opening the store at a URL creates nothing: its file exists, or the store has
/// no file.
#[cfg(feature = "cli")]
pub(crate) fn exists(url: &str) -> bool {
    !url.starts_with("sqlite:") || sqlite::exists(url)
}

fn unknown(url: &str) -> StoreError {
    StoreError::UnknownUrl {
        url: without_secrets(url),
        known: KNOWN_STORES,
    }
}

/// The outcome of a request for a run.
#[derive(Debug)]
pub(crate) enum Created {
    New(Arc<dyn RunLog>),
    /// Its key or its tick already has this run.
    Taken(RunRecord),
    /// The run is scheduled, and its flow is paused.
    Paused,
}

/// A schedule of a served flow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ScheduleKey {
    pub(crate) flow: &'static str,
    /// The schedule in readable form.
    pub(crate) schedule: String,
}

/// Abandoned runs and paused flows, as a serving process polls them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    pub(crate) abandoned: Vec<Abandoned>,
    /// The flows whose schedules are paused.
    pub(crate) paused: Vec<String>,
}

/// An unfinished run that no living process executes.
#[derive(Clone, Debug)]
pub(crate) struct Abandoned {
    pub(crate) id: RunId,
    pub(crate) flow: String,
}

/// A run that this process resumes.
#[derive(Debug)]
pub(crate) struct TakenOver {
    pub(crate) log: Arc<dyn RunLog>,
    pub(crate) history: History,
}

/// The result of a prune: how much was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// The number of runs whose task records were deleted.
    pub runs: u64,
    /// The number of deleted cached results: they had expired, or exceeded the size limit.
    pub cached: u64,
}

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
