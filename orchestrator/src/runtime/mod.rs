//! What people call: a runtime is built, accepts requests for runs, resumes them, and is stopped.
//!
//! [`launch`] accepts runs, and the [`executor`](crate::executor) executes them. Public methods are
//! here by their subject: `Runtime`'s own in this file, its builder in [`builder`], requests from
//! outside of the program's flow in [`control`], deployments on record in [`deployments`], resumed runs in [`resume`] and [`join`], re-runs in
//! [`rerun`], shutdown in [`shutdown`], the store's upkeep in [`upkeep`], simulated time in
//! [`simulated`], mocks in [`mock`]; those of `Flow` in [`launch`], of `Node` in [`awaiting`], of
//! `Run` and `RunHandle` in [`handle`].

mod awaiting;
mod builder;
mod control;
mod deployments;
pub(crate) mod entries;
mod handle;
mod join;
mod launch;
mod mock;
mod rerun;
mod resume;
mod shutdown;
mod simulated;
mod upkeep;
mod watch;

use std::fmt;
use std::sync::{Arc, OnceLock};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

pub use builder::RuntimeBuilder;
#[cfg(feature = "cli")]
pub(crate) use builder::default_store;
pub use control::{RunTrigger, Unpause};
pub use deployments::Deployment;
#[cfg(feature = "cli")]
pub(crate) use deployments::{UnclearDeployment, choose, in_force, names, with_served};
pub use entries::{EntryInfo, Resealed};
pub use handle::{Run, RunHandle};
#[cfg(feature = "cli")]
pub(crate) use join::{JoinOutcome, wait};
pub(crate) use launch::{Acceptance, TickAcceptance};
pub use mock::{MockFn, MockReturn, TaskFn};
pub use rerun::RerunHandle;
pub(crate) use resume::Purpose;
pub(crate) use shutdown::Halted;
pub use shutdown::Stopped;
pub(crate) use watch::Watch;

use crate::clock::Clock;
use crate::error::Error;
use crate::event::Events;
use crate::executor::Host;
use crate::id::RunId;
use crate::journal::RunRecord;
use crate::log::LogLine;
use crate::store::Pruned;

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
pub struct Runtime {
    pub(crate) host: Arc<Host>,
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
        builder.runtime(Arc::new(crate::store::MemoryStore::default()))
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
            RuntimeBuilder::new().runtime(Arc::new(crate::store::MemoryStore::default()))
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
            let host = Arc::make_mut(&mut self.host);
            host.environment.mock(definition, mock);
        }
        self
    }

    /// Subscribes to the events of this runtime, from now on.
    pub fn events(&self) -> Events {
        self.host.services.events.subscribe()
    }

    /// Returns the current time of the runtime's clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.host.services.clock.now()
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
        Ok(self.host.services.store.list_runs(flow).await?)
    }

    /// Returns a run with all of its tasks, or `None` if there is no such run.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::UnreadableRun`](crate::StoreError::UnreadableRun) if the record of the
    /// run cannot be read, and an error if the store fails.
    pub async fn find_run(&self, id: RunId) -> Result<Option<RunRecord>, Error> {
        Ok(self.host.services.store.find_run(id).await?)
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
        self.host.services.flush_logs().await;
        Ok(self
            .host
            .services
            .store
            .read_logs(run, after.unwrap_or(0), LINES)
            .await?)
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
        self.prune_older(self.host.retention.keep).await
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("store", &self.host.services.store)
            .field("clock", &self.host.services.clock)
            .field("limits", &self.host.admission.limits)
            .finish_non_exhaustive()
    }
}
