//! Where runs are kept.
//!
//! The interface speaks of transitions, not of tables: a run is created before its body starts, and from then on its
//! [`RunLog`] is told what becomes of it. What depends on a transition starts after its commit. Who writes: a run's log
//! is written by the one process that executes the run, and by nobody else; a process that lost its run to another is
//! refused. What is recorded of a run is what its transitions add up to ([`RunTables`]), in every store.

mod attempts;
mod cached;
mod clearing;
mod entry;
mod memory;
mod mirror;
mod record;
mod reruns;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(not(feature = "sqlite"))]
#[path = "no_sqlite.rs"]
mod sqlite;
#[cfg(test)]
pub(crate) mod suite;
mod summary;
mod tables;
mod told;
mod transition;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;

pub use attempts::AttemptRecord;
pub use cached::CacheMiss;
pub(crate) use cached::{CacheHit, CacheKey, CacheNote, CacheQuery, Lookup, NewEntry};
pub use entry::{CacheEntry, CacheFilter, StoreCheck};
pub(crate) use memory::{MemoryStore, unrecorded};
pub use record::{RunRecord, TaskRun, Tasks};
pub use reruns::RerunRecord;
pub use summary::{RunFilter, RunSummary};
pub(crate) use tables::{Row, RunTables};
pub(crate) use told::{Numbers, Told};
pub(crate) use transition::{
    Cleared, Encoded, FrameMeta, Kept, NewRun, RunEnd, TaskEnd, Transition,
};

use crate::error::{Error, StoreError};
use crate::id::RunId;
use crate::log::LogLine;
use crate::state::Rerun;
use crate::value::{EncodingError, Value};

/// Keeps runs, and what is cached. Times are in microseconds since 1970.
#[async_trait]
pub(crate) trait Store: fmt::Debug + Send + Sync {
    /// Whether runs outlive the process.
    fn is_durable(&self) -> bool;

    /// Accepts a run, in the state pending, unless there is one with its key, or one of its tick: a run by hand has none.
    async fn create_run(&self, run: NewRun) -> Result<Created, StoreError>;

    /// Accepts a run as [`create_run`](Self::create_run) does, and leaves it to whoever serves the store. Gives the run
    /// that is in its place, if there is one.
    async fn submit_run(&self, run: NewRun) -> Result<Option<RunRecord>, StoreError>;

    /// All runs of a flow, in the order in which they were accepted.
    async fn runs(&self, flow: &str) -> Result<Vec<RunRecord>, StoreError>;

    /// One run.
    async fn run(&self, id: RunId) -> Result<Option<RunRecord>, StoreError>;

    /// Runs without their tasks.
    async fn summaries(&self, filter: &RunFilter) -> Result<Vec<RunSummary>, StoreError>;

    /// The runs that are not final and that no living process executes, in the order in which they were accepted.
    async fn abandoned(&self) -> Result<Vec<Abandoned>, StoreError>;

    /// Makes this process the one that executes an abandoned run. `None` where another was faster.
    async fn take_over(&self, id: RunId) -> Result<Option<TakenOver>, StoreError>;

    /// Lets a run of a flow start, unless as many others are under way as may be, those of backfills not counted: also
    /// in other processes, as long as these live. What starts so is running at `now`.
    async fn claim_turn(
        &self,
        id: RunId,
        flow: &str,
        runs: u32,
        now: i64,
    ) -> Result<bool, StoreError>;

    /// Takes from a run the turn that it had in an earlier life: it waits for its turn anew, and no other waits for it.
    async fn leave_turn(&self, id: RunId) -> Result<(), StoreError>;

    /// Records that a run's cancellation was asked for. Says whether there is such a run that is not final.
    async fn request_cancel(&self, id: RunId) -> Result<bool, StoreError>;

    /// The runs of this process whose cancellation was asked for.
    async fn cancelling(&self) -> Result<Vec<RunId>, StoreError>;

    /// What dead processes left, and what others ask of those that serve.
    async fn look(&self) -> Result<Look, StoreError>;

    /// Up to which instant the ticks of schedules are decided. New ones are so up to `now`.
    async fn decided(&self, schedules: &[ScheduleKey], now: i64) -> Result<Vec<i64>, StoreError>;

    /// Records that the ticks of a schedule up to an instant are decided.
    fn decide(&self, schedule: &ScheduleKey, up_to: i64);

    /// Records that the clock was set back to an instant: no tick after it is decided.
    fn set_back(&self, schedules: &[ScheduleKey], to: i64);

    /// Pauses the schedules of a flow, or lets them go on. Says whether that is a change.
    async fn set_paused(&self, flow: &str, paused: bool, now: i64) -> Result<bool, StoreError>;

    /// The flows whose schedules are paused, and since when.
    async fn paused(&self) -> Result<Vec<(String, i64)>, StoreError>;

    /// Makes a final run pending again, in part or whole, and this process the one that executes it. `None` where
    /// somebody was faster, so that the run is not what it was.
    async fn reopen(&self, id: RunId, what: &Rerun, at: i64) -> Result<Option<TakenOver>, Error>;

    /// Every attempt of a run's tasks, in the order of their starts. `None` where there is no such run.
    async fn attempts(&self, id: RunId) -> Result<Option<Vec<AttemptRecord>>, StoreError>;

    /// Waits until all that was told so far is there for good, also what nobody waits for.
    async fn flush(&self) -> Result<(), StoreError>;

    /// Looks for a cached result.
    async fn look_up(&self, query: &CacheQuery, now: i64) -> Result<Lookup, StoreError>;

    /// Says that this process computes what is to be cached under a key, unless a living one does already.
    async fn claim_flight(&self, key: CacheKey) -> Result<bool, StoreError>;

    /// Says that it does not any more.
    fn end_flight(&self, key: CacheKey);

    /// Puts lines at the ends of their runs' logs, numbered anew, in their order. Those of runs that are not there, or were
    /// pruned, are dropped. What is given back says when they are there for good; nobody has to wait.
    fn append_logs(&self, lines: Vec<LogLine>) -> Commit;

    /// The lines of a run after a number, in order, at most so many.
    async fn logs(
        &self,
        run: RunId,
        after: u64,
        at_most: usize,
    ) -> Result<Vec<LogLine>, StoreError>;

    /// Deletes what was kept of the tasks of runs that were final before `before`, cached results that have expired at
    /// `now`, and the oldest cached results beyond `cache_bytes`.
    async fn prune(&self, before: i64, now: i64, cache_bytes: u64) -> Result<Pruned, StoreError>;

    /// Cached results, without the results, by task and age.
    async fn cached(&self, filter: &CacheFilter, now: i64) -> Result<Vec<CacheEntry>, StoreError>;

    /// Deletes cached results, and says how many.
    async fn forget_cached(&self, filter: &CacheFilter, now: i64) -> Result<u64, StoreError>;

    /// The ids of runs within bounds, both included, in their own order.
    async fn ids(&self, first: RunId, last: RunId) -> Result<Vec<RunId>, StoreError>;

    /// The ids of runs that end so, in hexadecimal digits, in their own order. It looks at all ids.
    async fn ids_ending(&self, digits: &str) -> Result<Vec<RunId>, StoreError>;

    /// Looks at the whole of the store.
    async fn check(&self) -> Result<StoreCheck, StoreError>;
}

/// The stores that this build knows, for error messages.
const KNOWN_STORES: &str = if cfg!(feature = "sqlite") {
    "`memory`, `sqlite:PATH`"
} else {
    "`memory`"
};

/// Opens the store that a URL names. Large results go to `blobs`, where the store does not know a better place. `now` is
/// in microseconds since 1970.
pub(crate) fn open(url: &str, blobs: Option<&str>, now: i64) -> Result<Arc<dyn Store>, StoreError> {
    match url.split(':').next() {
        Some("memory") if url == "memory" => Ok(Arc::new(MemoryStore::default())),
        Some("sqlite") => sqlite::open(url, blobs, now),
        _ => Err(unknown(url)),
    }
}

/// Whether to open the store that a URL names makes nothing: its file is there, or it is none that is in a file.
#[cfg(feature = "cli")]
pub(crate) fn exists(url: &str) -> bool {
    !url.starts_with("sqlite:") || sqlite::exists(url)
}

fn unknown(url: &str) -> StoreError {
    StoreError::UnknownUrl {
        url: url.to_owned(),
        known: KNOWN_STORES,
    }
}

/// A run that was asked for.
#[derive(Debug)]
pub(crate) enum Created {
    New(Arc<dyn RunLog>),
    /// There is a run with its key, or of its tick.
    Taken(RunRecord),
    /// It is a scheduled one, and its flow is paused.
    Paused,
}

/// A schedule of a served flow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ScheduleKey {
    pub(crate) flow: &'static str,
    /// As people read it.
    pub(crate) schedule: String,
}

/// What dead processes left, and what others ask of those that serve.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    pub(crate) abandoned: Vec<Abandoned>,
    /// The flows whose schedules are paused.
    pub(crate) paused: Vec<String>,
}

/// A run that no living process executes.
#[derive(Clone, Debug)]
pub(crate) struct Abandoned {
    pub(crate) id: RunId,
    pub(crate) flow: String,
}

/// A run that this process goes on with.
#[derive(Debug)]
pub(crate) struct TakenOver {
    pub(crate) log: Arc<dyn RunLog>,
    pub(crate) history: History,
}

/// What is recorded of a run that goes on.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) tables: RunTables,
    /// The results of nodes and elements, by frame and cell.
    pub(crate) results: HashMap<(u32, u32), Encoded>,
    /// The nodes whose ends were told to the bodies that await them.
    pub(crate) told: Told,
    /// How many processes in a row died with the run before any of its nodes came to an end.
    pub(crate) takeovers: u32,
    /// Somebody asked for the run's end.
    pub(crate) cancelling: bool,
}

/// What was pruned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// Runs of whose tasks nothing is kept any more.
    pub runs: u64,
    /// Cached results that had expired, or were beyond the bound on their size.
    pub cached: u64,
}

/// What becomes of one run.
pub(crate) trait RunLog: fmt::Debug + Send + Sync {
    /// A result as the log keeps it; `None` where it keeps none.
    fn encode(&self, value: &Value) -> Result<Option<Encoded>, EncodingError>;

    /// Records a transition, after all that was recorded before. It is there for good after the next [`commit`].
    ///
    /// [`commit`]: Self::commit
    fn record(&self, transition: Transition);

    /// Whether what depends on a transition has to wait for a commit.
    fn needs_commits(&self) -> bool;

    /// Commits what was recorded.
    fn commit(&self) -> Commit;

    /// Sees to it that what was recorded is committed soon, without anybody waiting for it.
    fn commit_soon(&self);

    /// The run as it is recorded now.
    fn snapshot(&self) -> RunRecord;
}

/// A commit: there already, or to be waited for.
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
