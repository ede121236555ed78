use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::server;
use crate::error::Error;
use crate::flow::{Flow, FlowCall, FlowDef, Missed, Overlap};
use crate::runtime::{Runtime, Stopped};
use crate::schedule::{IntoSchedule, Schedule};
use crate::value::Data;

impl<T: Data> Flow<T> {
    /// Serves the flow by a schedule: awaited, it makes a run for each tick, until the process is told to stop.
    ///
    /// Several flows are served by [`Runtime::serve`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use orchestrator::prelude::*;
    ///
    /// #[task]
    /// async fn count() -> u64 { 1 }
    ///
    /// #[flow]
    /// fn nightly_count() -> Node<u64> { count() }
    ///
    /// #[tokio::main]
    /// async fn main() -> Result<()> {
    ///     nightly_count().serve("0 6 * * *").await?;
    ///     Ok(())
    /// }
    /// ```
    pub fn serve(self, schedule: impl IntoSchedule) -> Serve {
        Serve::new(&self).schedule(schedule)
    }

    /// Serves the flow by the schedule of its attribute: `#[flow(schedule = "0 6 * * *")]`.
    pub fn scheduled(self) -> Serve {
        let definition = self.call.definition;
        let mut serve = Serve::new(&self);
        match Schedule::of_flow(definition) {
            Some(schedule) => serve.schedule(schedule),
            None => {
                serve.fail(Error::Schedule {
                    flow: definition.name.to_owned(),
                    problem: "it has none: write `#[flow(schedule = \"0 6 * * *\")]`, or `.serve(\"0 6 * * *\")`"
                        .to_owned(),
                });
                serve
            }
        }
    }
}

/// A flow with its schedules, to be served: awaited, or given to [`Runtime::serve`] with others.
///
/// **While it is served.** First, runs go on that no living process executes. Then each tick of each schedule gets a run,
/// whose logical date is the tick. However many processes serve a flow, a tick has at most one run, and a backfill's run
/// of a tick is that tick's. Two schedules of a flow with a tick at the same instant have one run for both.
///
/// **Ticks that came while nobody served** are known by the store. The latest gets its run; with
/// [`catchup`](Self::catchup) all of them do; with [`Missed::None`] none does. What is dropped stands in the log. A
/// schedule that is new has missed nothing. A tick that is noticed within a minute is on time.
///
/// **Limits.** `#[flow(max_active_runs = …)]` counts the runs of all processes, other than those of backfills, and
/// [`overlap`](Self::overlap) says what becomes of a run that is one too many.
///
/// **Errors.** A tick whose run could not start has a run that failed, and says why. While the store fails, a tick is
/// tried again, with more and more time in between.
///
/// **The end.** On SIGTERM or SIGINT the runtime is [stopped](Runtime::stop). Where the future is dropped instead, no more
/// runs are made; what its runs are doing may end within the grace period; the rest is left, to go on later.
#[must_use = "a flow is served where this is awaited, or given to `Runtime::serve`"]
pub struct Serve {
    /// The runtime that the flow was put on.
    pub(super) host: Option<Runtime>,
    pub(super) call: Arc<FlowCall>,
    pub(super) schedules: Vec<Schedule>,
    pub(super) missed: Missed,
    pub(super) overlap: Overlap,
    /// The first mistake that was made in saying what is served.
    pub(super) problem: Option<Error>,
}

impl Serve {
    fn new<T: Data>(flow: &Flow<T>) -> Self {
        let FlowDef {
            missed, overlap, ..
        } = *flow.call.definition;
        let mut serve = Self {
            host: flow.given_host().map(Runtime),
            call: Arc::clone(&flow.call),
            schedules: Vec::new(),
            missed,
            overlap,
            problem: None,
        };
        if let Some(option) = flow.request.of_one_run() {
            serve.fail(Error::Options(format!(
                "flow `{}`: `.{option}(…)` is for one run, and each tick has its own",
                flow.name()
            )));
        }
        serve
    }

    /// Serves a flow that is known by its definition alone, by the schedule of its attribute.
    #[cfg(feature = "cli")]
    pub(crate) fn of(call: Arc<FlowCall>) -> Option<Self> {
        let FlowDef {
            missed, overlap, ..
        } = *call.definition;
        let schedule = Schedule::of_flow(call.definition)?;
        let serve = Self {
            host: None,
            call,
            schedules: Vec::new(),
            missed,
            overlap,
            problem: None,
        };
        Some(serve.schedule(schedule))
    }

    /// The flow with the parameters that it is served with.
    #[cfg(feature = "cli")]
    pub(crate) fn call(&self) -> &Arc<FlowCall> {
        &self.call
    }

    /// The runtime that the flow was put on.
    #[cfg(feature = "cli")]
    pub(crate) fn host(&self) -> Option<&Runtime> {
        self.host.as_ref()
    }

    /// Puts the flow on another runtime, where it is on this one.
    #[cfg(feature = "cli")]
    pub(crate) fn move_to(&mut self, from: &Runtime, to: &Runtime) {
        self.host = self.host.take().map(|host| {
            if Arc::ptr_eq(&host.0, &from.0) {
                to.clone()
            } else {
                host
            }
        });
    }

    /// What is wrong with what was said of it.
    #[cfg(feature = "cli")]
    pub(crate) fn problem(&self) -> Option<&Error> {
        self.problem.as_ref()
    }

    /// The flow's name.
    pub fn flow(&self) -> &'static str {
        self.call.definition.name
    }

    /// The schedules, in the order in which they were given.
    pub fn schedules(&self) -> &[Schedule] {
        &self.schedules
    }

    /// Adds a schedule. [`Schedule::parameters`] gives its runs parameters of their own.
    pub fn schedule(mut self, schedule: impl IntoSchedule) -> Self {
        match schedule.into_schedule() {
            Ok(schedule) => self.schedules.push(schedule),
            Err(error) => self.fail(Error::Schedule {
                flow: self.flow().to_owned(),
                problem: error.to_string(),
            }),
        }
        self
    }

    fn fail(&mut self, error: Error) {
        self.problem.get_or_insert(error);
    }

    /// Sets whether all ticks that came while nobody served get their run, the oldest first, or only the latest: the
    /// default, unless the flow's attribute says otherwise. The same as [`missed`](Self::missed).
    ///
    /// What is made up for does not all run at once: as many as `max_active_runs` says do, or 16. Ticks that come
    /// meanwhile have their runs after it.
    pub fn catchup(self, all: bool) -> Self {
        self.missed(if all { Missed::All } else { Missed::Latest })
    }

    /// Sets what becomes of the ticks that came while nobody served. By default the latest gets its run.
    pub fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// Sets what becomes of a run where `max_active_runs` others are under way. By default it waits for its turn. Where the
    /// flow has no `max_active_runs`, nothing else is accepted.
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }
}

impl fmt::Debug for Serve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("call", &self.call)
            .field("schedules", &self.schedules)
            .field("missed", &self.missed)
            .field("overlap", &self.overlap)
            .finish_non_exhaustive()
    }
}

/// Serves the one flow.
impl IntoFuture for Serve {
    type Output = Result<Stopped, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let runtime = match &self.host {
                Some(runtime) => runtime.clone(),
                None => Runtime::default_runtime()?,
            };
            runtime.serve([self]).await
        })
    }
}

impl Runtime {
    /// Serves flows: first goes on with the runs that were left by other processes, then makes the runs of each tick,
    /// until SIGTERM or SIGINT, or until the runtime is [stopped](Self::stop). Says how it stopped.
    ///
    /// While it serves, it also looks once a second for what other processes ask: runs that they
    /// [triggered](Flow::trigger) or [cancelled](Self::cancel), flows that they [paused](Self::pause), runs that they
    /// left when they died. And once an hour it [prunes](Self::prune) what is too old to be kept.
    ///
    /// Where the process has no subscriber of `tracing` yet, and the store is not in memory, it gets that of
    /// [`init_logs`](crate::init_logs): lines on the console, and the logs of tasks in the store.
    ///
    /// # Errors
    ///
    /// Where a schedule is refused, a flow cannot run here, or a flow was put on another runtime; and where the store
    /// fails before the first tick.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use orchestrator::prelude::*;
    /// use std::time::Duration;
    ///
    /// #[task]
    /// async fn count(table: &str) -> u64 { table.len() as u64 }
    ///
    /// #[flow(max_active_runs = 1)]
    /// fn refresh(table: String) -> Node<u64> { count(table) }
    ///
    /// #[tokio::main]
    /// async fn main() -> Result<()> {
    ///     let runtime = Runtime::builder().store("sqlite:runs.db").build().await?;
    ///     runtime
    ///         .serve([
    ///             refresh("orders".into()).serve(cron!("10 6 * * *")).catchup(true),
    ///             refresh("stock".into()).serve(Schedule::every(Duration::from_secs(900))),
    ///         ])
    ///         .await?;
    ///     Ok(())
    /// }
    /// ```
    pub async fn serve(&self, flows: impl IntoIterator<Item = Serve>) -> Result<Stopped, Error> {
        server::serve(self, flows.into_iter().collect()).await
    }
}

/// Serves flows on the default runtime: see [`Runtime::serve`].
///
/// # Errors
///
/// As for [`Runtime::serve`], and where the default runtime cannot be made.
pub async fn serve(flows: impl IntoIterator<Item = Serve>) -> Result<Stopped, Error> {
    Runtime::default_runtime()?.serve(flows).await
}
