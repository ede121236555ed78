//! The runtime: executes runs.
//!
//! The life of a run, in files: [`launch`] accepts it; [`conduct`] polls the bodies of its flows ([`body`]), and sees to
//! time, cancelling and the end; [`plan`] knows what may run next; [`lane`] takes ready work and runs it, each attempt in the
//! steps of [`attempt`]. One thread at a time holds a run's plan, and never across an await.

mod attempt;
mod awaiting;
mod body;
mod builder;
mod cached;
mod conduct;
mod control;
mod handle;
mod join;
mod lane;
mod launch;
mod limits;
mod live;
mod mock;
mod panic;
mod plan;
mod rerun;
mod resume;
mod simulated;
mod stop;
mod trace;
mod upkeep;
mod watch;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch as latest};

pub use builder::RuntimeBuilder;
#[cfg(feature = "cli")]
pub(crate) use builder::default_store;
use cached::Flights;
pub use handle::{Run, RunHandle};
#[cfg(feature = "cli")]
pub(crate) use join::{Awaited, wait};
pub(crate) use launch::{Accepted, StartedRun};
use limits::Limits;
use mock::Mock;
pub use mock::{MockFn, MockReturn, TaskFn};
pub use rerun::RerunHandle;
pub(crate) use resume::Purpose;
pub use stop::Stopped;
use stop::{StopSignal, UnderWay};
pub(crate) use watch::Watch;

use crate::capture::LogSink;
use crate::clock::Clock;
use crate::error::Error;
use crate::event::{EventSink, Events};
use crate::id::{IdSource, RunId};
use crate::log::LogLine;
use crate::store::{Pruned, RunRecord, Store};
use crate::task::{Resources, TaskOptions};

/// Executes runs: a store, a clock, limits and resources together. Cheap to clone; clones are the same runtime.
///
/// A flow goes to the runtime it is put [`on`](crate::Flow::on), and otherwise to the default one, which is made on
/// first use.
///
/// # Examples
///
/// ```
/// use orchestrator::prelude::*;
///
/// struct Database { url: String }
///
/// #[task(pool = "database")]
/// async fn count(table: &str, #[resource] database: &Database) -> u64 {
///     format!("{}/{table}", database.url).len() as u64
/// }
///
/// #[flow]
/// fn report() -> Node<u64> { count("orders") }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// let runtime = Runtime::builder()
///     .store("memory")
///     .pool("database", 4)
///     .resource(Database { url: "db".into() })
///     .build()
///     .await?;
/// assert_eq!(report().on(&runtime).await?, 9);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Runtime(pub(crate) Arc<Inner>);

/// What clones of a runtime share.
#[derive(Clone, Debug)]
pub(crate) struct Inner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Clock,
    ids: Arc<IdSource>,
    limits: Limits,
    resources: Resources,
    grace: Duration,
    defaults: TaskOptions,
    mocks: HashMap<usize, Mock>,
    events: Arc<EventSink>,
    /// None where lines of logs are not stored.
    logs: Option<Arc<LogSink>>,
    keep: Duration,
    cache_bytes: u64,
    /// Whether results are passed through their encoding.
    simulated: bool,
    flights: Arc<Flights>,
    pub(crate) stop: StopSignal,
    /// Tells those who serve that something was asked of them.
    pub(crate) control: Arc<latest::Sender<()>>,
    under_way: UnderWay,
    /// The slots of flows that say how many of their runs may be under way.
    active: Arc<Mutex<HashMap<&'static str, Arc<Semaphore>>>>,
}

/// How many lines of a log are read at once.
const LINES: usize = 10_000;

impl Runtime {
    /// Starts describing a runtime.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::new()
    }

    /// A runtime for tests: its store is in memory and gone with it, and its clock goes on with tokio's, so that paused
    /// time moves it.
    pub fn in_memory() -> Self {
        let builder = RuntimeBuilder::new().clock(Clock::tokio_from_now());
        Self(Arc::new(
            builder.inner(Arc::new(crate::store::MemoryStore::default())),
        ))
    }

    /// The default runtime, on the store that the environment variable `ORCHESTRATOR_STORE` names
    /// (`sqlite:.orchestrator/state.db` unless it is set). It is made on first use.
    ///
    /// # Errors
    ///
    /// Where the variable names no store, and where the store cannot be opened.
    pub fn default_runtime() -> Result<Self, Error> {
        static DEFAULT: OnceLock<Runtime> = OnceLock::new();
        if let Some(runtime) = DEFAULT.get() {
            return Ok(runtime.clone());
        }
        // two that come first at once must not open two stores
        static MAKING: Mutex<()> = Mutex::new(());
        let _making = MAKING.lock();
        if let Some(runtime) = DEFAULT.get() {
            return Ok(runtime.clone());
        }
        let made = RuntimeBuilder::new().build_now()?;
        Ok(DEFAULT.get_or_init(|| made).clone())
    }

    /// What runs tasks that are awaited outside of any flow: nothing of them is stored, so that no store is opened.
    pub(crate) fn of_loose_tasks() -> &'static Self {
        static LOOSE: OnceLock<Runtime> = OnceLock::new();
        LOOSE.get_or_init(|| {
            Self(Arc::new(
                RuntimeBuilder::new().inner(Arc::new(crate::store::MemoryStore::default())),
            ))
        })
    }

    /// This runtime, with a task replaced by a closure: for tests. Retries and timeouts apply as to the task.
    ///
    /// The closure takes the task's parameters by value: a `String` for a `&str`, a `Vec<T>` for a `&[T]`. It needs its
    /// parameters' types written out. It returns what the task returns, or a `Result` of it.
    ///
    /// Other clones of the runtime keep the task; the store and the limits stay shared.
    ///
    /// # Examples
    ///
    /// ```
    /// use orchestrator::prelude::*;
    ///
    /// #[task]
    /// async fn fetch(url: &str) -> Result<u32> { Err(format!("no network to reach {url}").into()) }
    ///
    /// #[flow]
    /// fn pipeline() -> Node<u32> { fetch("https://example.com") }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let runtime = Runtime::in_memory().mock(fetch, |_url: String| 42);
    /// assert_eq!(pipeline().on(&runtime).await?, 42);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn mock<Args, Task, Closure>(mut self, task: Task, closure: Closure) -> Self
    where
        Task: TaskFn<Args>,
        Closure: MockFn<Args, Task::Output>,
    {
        if let Some((definition, mock)) = mock::prepare(task, closure) {
            Arc::make_mut(&mut self.0)
                .mocks
                .insert(std::ptr::from_ref(definition).addr(), mock);
        }
        self
    }

    /// A reader of what happens in this runtime from now on.
    pub fn events(&self) -> Events {
        self.0.events.subscribe()
    }

    /// The runtime's time.
    pub fn now(&self) -> DateTime<Utc> {
        self.0.clock.now()
    }

    /// All runs of a flow with all of their tasks, in the order in which they were asked for. Of many,
    /// [`find_runs`](Self::find_runs) gives what lists show, in far less memory.
    ///
    /// # Errors
    ///
    /// Where the store fails.
    pub async fn runs(&self, flow: &str) -> Result<Vec<RunRecord>, Error> {
        Ok(self.0.store.runs(flow).await?)
    }

    /// One run.
    ///
    /// # Errors
    ///
    /// Where the store fails.
    pub async fn find_run(&self, id: RunId) -> Result<Option<RunRecord>, Error> {
        Ok(self.0.store.run(id).await?)
    }

    /// What a run and its tasks logged, in the order in which it was stored: the first 10,000 lines after the one with
    /// the number `after`, or from the beginning. Whoever wants the rest, or what comes later, asks again with the number
    /// of the last line that he got. Nothing is found of a run that is not there, or whose tasks were
    /// [pruned](Self::prune).
    ///
    /// Lines are captured where [`init_logs`](crate::init_logs) was called, or where [`log_layer`](crate::log_layer) is
    /// part of the program's subscriber. Other processes find them within a second; this one finds all there are. A store
    /// in memory keeps the last 10,000 lines of a run.
    ///
    /// # Errors
    ///
    /// Where the store fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use orchestrator::prelude::*;
    ///
    /// #[task]
    /// async fn load(rows: u32) -> u32 {
    ///     tracing::info!(rows, "loaded");
    ///     rows
    /// }
    ///
    /// #[flow]
    /// fn loading() -> Node<u32> { load(7) }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// orchestrator::init_logs();
    /// let runtime = Runtime::in_memory();
    /// let run = loading().on(&runtime).run().await?;
    /// let lines = runtime.logs(run.id(), None).await?;
    /// let said: Vec<_> = lines.iter().filter(|line| line.task.as_deref() == Some("load")).collect();
    /// assert_eq!((said[0].message.as_str(), &said[0].fields["rows"]), ("loaded", &7.into()));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn logs(&self, run: RunId, after: Option<u64>) -> Result<Vec<LogLine>, Error> {
        self.0.flush_logs().await;
        Ok(self.0.store.logs(run, after.unwrap_or(0), LINES).await?)
    }

    /// Deletes what is not to be kept any longer: what is known of the tasks of runs that ended long ago, and what they
    /// logged ([`RuntimeBuilder::keep`]), cached results that have expired, and the oldest of those beyond
    /// [`RuntimeBuilder::cache_size`]. Runs themselves are kept for ever, and so are their keys and dates.
    ///
    /// It goes in small steps, so that runs under way hardly notice.
    ///
    /// # Errors
    ///
    /// Where the store fails.
    pub async fn prune(&self) -> Result<Pruned, Error> {
        self.prune_older(self.0.keep).await
    }
}

impl Inner {
    /// Waits until what was logged is stored.
    async fn flush_logs(&self) {
        if let Some(logs) = &self.logs {
            logs.flush().await;
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("store", &self.0.store)
            .field("clock", &self.0.clock)
            .field("limits", &self.0.limits)
            .finish_non_exhaustive()
    }
}
