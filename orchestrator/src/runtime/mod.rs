//! The runtime, which executes runs.
//!
//! The life of a run, in files: [`launch`] accepts it. [`conduct`] polls the bodies of its flows
//! ([`body`]) and handles deadlines, cancellation and the end. [`plan`](crate::plan) decides what
//! may run next. [`lane`] takes ready work and runs it, each attempt in the steps of [`attempt`].
//! At most one thread at a time holds a run's plan, and never across an await.

mod ambient;
mod attempt;
mod awaiting;
mod body;
mod builder;
mod cached;
mod conduct;
mod control;
mod grace;
mod handle;
mod hold;
mod join;
mod lane;
mod launch;
mod limits;
mod live;
mod mock;
mod pulse;
mod queue;
mod rerun;
mod resume;
mod simulated;
mod stop;
mod task_job;
mod trace;
mod trial;
mod upkeep;
mod watch;
mod watchdog;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch as latest};

use attempt::Environment;
pub use builder::RuntimeBuilder;
#[cfg(feature = "cli")]
pub(crate) use builder::default_store;
use cached::Flights;
pub use handle::{Run, RunHandle};
#[cfg(feature = "cli")]
pub(crate) use join::{Awaited, wait};
pub(crate) use launch::{Accepted, StartedRun};
use limits::Limits;
pub use mock::{MockFn, MockReturn, TaskFn};
pub use rerun::RerunHandle;
pub(crate) use resume::Purpose;
pub(crate) use stop::Halted;
pub use stop::Stopped;
use stop::{StopSignal, UnderWay};
use trial::Trials;
pub(crate) use watch::Watch;

use crate::capture::LogSink;
use crate::clock::Clock;
use crate::error::Error;
use crate::event::{EventSink, Events};
use crate::id::{IdSource, RunId};
use crate::journal::RunRecord;
use crate::log::LogLine;
use crate::store::{Pruned, Store};
use crate::task::TaskOptions;

/// An executor of runs: a store, a clock, limits and resources. Cheap to clone; all clones are the
/// same runtime.
///
/// A flow runs on the runtime given to [`Flow::on`](crate::Flow::on), or else on the [default
/// runtime](Self::default_runtime), which is created on first use.
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

/// The state shared by the clones of a runtime.
#[derive(Clone, Debug)]
pub(crate) struct Inner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Clock,
    ids: Arc<IdSource>,
    limits: Limits,
    pub(crate) environment: Environment,
    defaults: TaskOptions,
    events: Arc<EventSink>,
    /// `None` if log lines are not stored.
    logs: Option<Arc<LogSink>>,
    keep: Duration,
    cache_bytes: u64,
    /// Whether each result is encoded and decoded before it is passed on ([`Runtime::simulated`]).
    simulated: bool,
    flights: Arc<Flights>,
    pub(crate) stop: StopSignal,
    /// Notifies serving loops of requests made in this process.
    pub(crate) control: Arc<latest::Sender<()>>,
    under_way: UnderWay,
    trials: Trials,
    /// The slots of flows with `max_active_runs`, by the flow's name.
    active: Arc<Mutex<HashMap<&'static str, Arc<Semaphore>>>>,
}

/// The maximum number of log lines per page.
const LINES: usize = 10_000;

impl Runtime {
    /// Returns a builder for a runtime with custom settings.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::new()
    }

    /// Creates a runtime for tests. Its store is in memory and is dropped with it; its clock
    /// advances with tokio's, including under paused time.
    pub fn in_memory() -> Self {
        let builder = RuntimeBuilder::new().clock(Clock::tokio_from_now());
        Self(Arc::new(
            builder.inner(Arc::new(crate::store::MemoryStore::default())),
        ))
    }

    /// Returns the default runtime, which is created on first use. Its store is the one that the
    /// environment variable `ORCHESTRATOR_STORE` names, or `sqlite:.orchestrator/state.db` if that
    /// is unset.
    ///
    /// # Errors
    ///
    /// Returns an error if the variable does not hold a valid store URL, or if the store cannot be
    /// opened.
    pub fn default_runtime() -> Result<Self, Error> {
        static DEFAULT: OnceLock<Runtime> = OnceLock::new();
        if let Some(runtime) = DEFAULT.get() {
            return Ok(runtime.clone());
        }
        // without this lock, two concurrent first calls would both open the store
        static MAKING: Mutex<()> = Mutex::new(());
        let _making = MAKING.lock();
        if let Some(runtime) = DEFAULT.get() {
            return Ok(runtime.clone());
        }
        let made = RuntimeBuilder::new().build_now()?;
        Ok(DEFAULT.get_or_init(|| made).clone())
    }

    /// Returns the runtime of tasks that are awaited outside of any flow. It records nothing, so no
    /// store is opened.
    pub(crate) fn of_loose_tasks() -> &'static Self {
        static LOOSE: OnceLock<Runtime> = OnceLock::new();
        LOOSE.get_or_init(|| {
            Self(Arc::new(
                RuntimeBuilder::new().inner(Arc::new(crate::store::MemoryStore::default())),
            ))
        })
    }

    /// Returns this runtime with a task replaced by a closure, for tests. The task's retries and
    /// timeouts still apply.
    ///
    /// The closure takes the task's parameters by value: a `String` for a `&str`, a `Vec<T>` for a
    /// `&[T]`. The types of its parameters must be written out. It returns the task's output, or a
    /// `Result` of it.
    ///
    /// Other clones of the runtime keep the original task; the store and the limits stay shared.
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
            let inner = Arc::make_mut(&mut self.0);
            inner.environment.mock(definition, mock);
        }
        self
    }

    /// Subscribes to the events of this runtime, from now on.
    pub fn events(&self) -> Events {
        self.0.events.subscribe()
    }

    /// Returns the current time of the runtime's clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.0.clock.now()
    }

    /// Returns all runs of a flow with all of their tasks, in the order in which they were
    /// requested. For many runs, [`find_runs`](Self::find_runs) returns summaries in far less
    /// memory. A run that cannot be read is returned without its tasks, and [says
    /// why](RunRecord::unreadable).
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails.
    pub async fn runs(&self, flow: &str) -> Result<Vec<RunRecord>, Error> {
        Ok(self.0.store.runs(flow).await?)
    }

    /// Returns a run with all of its tasks, or `None` if there is no such run.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::UnreadableRun`](crate::StoreError::UnreadableRun) if the record of the
    /// run cannot be read, and an error if the store fails.
    pub async fn find_run(&self, id: RunId) -> Result<Option<RunRecord>, Error> {
        Ok(self.0.store.run(id).await?)
    }

    /// Returns the log lines of a run and its tasks in the order in which they were stored: the
    /// first 10,000 after line number `after`, or from the beginning. Pass the number of the last
    /// line to read the next page. Unknown and [pruned](Self::prune) runs have no lines.
    ///
    /// Lines are captured if [`init_logs`](crate::init_logs) was called, or if
    /// [`log_layer`](crate::log_layer) is part of the program's subscriber. Lines of other
    /// processes become visible within a second, those of this process at once. If a task logs too
    /// fast, lines from the middle are dropped ([`RuntimeBuilder::store_logs`]). A store in memory
    /// keeps 8 MiB of lines per run, within the same bounds.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails.
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

    /// Deletes expired data: the task data and logs of runs that ended longer ago than
    /// [`RuntimeBuilder::keep`], cached results that have expired, and the oldest cached results
    /// beyond [`RuntimeBuilder::cache_size`]. Runs themselves are kept forever, including their
    /// keys and logical dates.
    ///
    /// Deletes in small steps, so that active runs are hardly delayed.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails.
    pub async fn prune(&self) -> Result<Pruned, Error> {
        self.prune_older(self.0.keep).await
    }
}

impl Inner {
    /// Waits until all captured log lines are stored.
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
