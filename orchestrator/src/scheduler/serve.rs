use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::server;
use crate::deployment::name_fault;
use crate::duration::IntoDuration;
use crate::error::Error;
use crate::flow::{Flow, FlowCall, FlowDef, Missed, Overlap};
use crate::runtime::{Halted, Runtime, Stopped};
use crate::schedule::{IntoSchedule, Schedule};
use crate::value::Data;

impl<T: Data> Flow<T> {
    /// Serves the flow by a schedule: when awaited, creates a run for each tick until the process
    /// is asked to stop.
    ///
    /// To serve several flows, use [`Runtime::serve`].
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

    /// Serves the flow by the schedule in its attribute: `#[flow(schedule = "0 6 * * *")]`.
    pub fn scheduled(self) -> Serve {
        let definition = self.call.definition;
        let mut serve = Serve::new(&self);
        match Schedule::of_flow(definition) {
            Some(schedule) => serve.schedule(schedule),
            None => {
                serve.fail(Error::Schedule {
                    flow: definition.name.to_owned(),
                    problem: "there is none: write `#[flow(schedule = \"0 6 * * *\")]`, or `.serve(\"0 6 * * *\")`"
                        .to_owned(),
                });
                serve
            }
        }
    }
}

/// A flow and its schedules, ready to be served. Await it, or pass it to [`Runtime::serve`] along
/// with others.
///
/// **Deployments.** All unnamed schedules of a flow are its default deployment: its ticks are their
/// union, and the interval of a run goes from one tick of the union to the next, so that nothing is
/// processed twice and nothing is missed. [`named`](Self::named) makes a deployment of its own, with
/// intervals and parameters of its own. The store has on record which schedules of each deployment
/// are in force. A deployment that is served with other schedules or parameters than those on record
/// first settles the ticks that these missed until now; the new schedules are in force from now on.
/// In force is what the process serves that began to serve last. Other processes create no runs of
/// that deployment any more, and log that once.
///
/// **While serving.** First, unfinished runs that no living process executes are resumed. Then each
/// tick of each deployment gets a run whose logical date is the tick. A tick has at most one run,
/// regardless of the number of processes that serve the flow; a backfill's run for a tick counts as
/// that run.
///
/// **Missed ticks.** The store knows which ticks came while no process was serving. The latest of
/// them gets a run; with [`catchup`](Self::catchup) all of them do, or those of the
/// [last days](Self::catchup_within) or [a number](Self::catchup_at_most) of them; with
/// [`Missed::None`] none does. Dropped ticks are logged. A new deployment has not missed any ticks. A
/// tick that is noticed within a minute is on time.
///
/// **Limits.** `#[flow(max_active_runs = …)]` counts the runs of all processes except those of
/// backfills. [`overlap`](Self::overlap) decides what happens to a run beyond the limit; the runs of
/// missed ticks wait for a slot whatever it says.
///
/// **The past.** With `#[flow(depends_on_past)]`, the run of a tick waits until that of the previous
/// tick of its deployment has succeeded, and holds no slot meanwhile. If that one failed, it waits
/// until that one is re-run.
///
/// **Errors.** If the run of a tick cannot start, it is recorded as failed, with the error. If the
/// store fails, the tick is retried with growing delays.
///
/// **Shutdown.** On SIGTERM or SIGINT, the runtime is [stopped](Runtime::stop). If the future is
/// dropped instead, no more runs are created; the bodies of its runs have the grace period to end,
/// and unfinished runs are left to be resumed later. A store in memory keeps nothing for later: there,
/// unfinished runs are cancelled, with that reason.
#[must_use = "a flow is served where this is awaited, or given to `Runtime::serve`"]
pub struct Serve {
    /// The runtime that the flow was bound to with `.on(…)`.
    pub(super) host: Option<Runtime>,
    pub(super) call: Arc<FlowCall>,
    /// The name of the deployment; `None` for the default one.
    pub(super) name: Option<Arc<str>>,
    pub(super) schedules: Vec<Schedule>,
    pub(super) missed: Missed,
    pub(super) overlap: Overlap,
    /// The first invalid setting.
    pub(super) problem: Option<Error>,
}

impl Serve {
    fn new<T: Data>(flow: &Flow<T>) -> Self {
        let FlowDef {
            missed, overlap, ..
        } = *flow.call.definition;
        let mut serve = Self {
            host: flow.given_host().map(|host| Runtime { host }),
            call: Arc::clone(&flow.call),
            name: None,
            schedules: Vec::new(),
            missed,
            overlap,
            problem: None,
        };
        if let Some(option) = flow.request.of_one_run() {
            serve.fail(Error::Options(format!(
                "flow `{}`: `.{option}(…)` applies to a single run, but each tick has its own",
                flow.name()
            )));
        }
        if flow.request.deployment.is_some() {
            serve.fail(Error::Options(format!(
                "flow `{}`: `.deployment(…)` chooses the deployment of a run; to serve a deployment with a name, write \
                 `.serve(…).named(…)`",
                flow.name()
            )));
        }
        serve
    }

    /// Serves a flow by its definition alone, with the schedule in its attribute.
    #[cfg(feature = "cli")]
    pub(crate) fn of(call: Arc<FlowCall>) -> Option<Self> {
        let FlowDef {
            missed, overlap, ..
        } = *call.definition;
        let schedule = Schedule::of_flow(call.definition)?;
        let serve = Self {
            host: None,
            call,
            name: None,
            schedules: Vec::new(),
            missed,
            overlap,
            problem: None,
        };
        Some(serve.schedule(schedule))
    }

    /// Returns the flow with the parameters that it is served with.
    #[cfg(feature = "cli")]
    pub(crate) fn call(&self) -> &Arc<FlowCall> {
        &self.call
    }

    /// Returns the runtime that the flow was bound to with `.on(…)`.
    #[cfg(feature = "cli")]
    pub(crate) fn host(&self) -> Option<&Runtime> {
        self.host.as_ref()
    }

    /// Rebinds the flow to the runtime `to` if it is bound to `from`.
    #[cfg(feature = "cli")]
    pub(crate) fn move_to(&mut self, from: &Runtime, to: &Runtime) {
        self.host = self.host.take().map(|host| {
            if Arc::ptr_eq(&host.host, &from.host) {
                to.clone()
            } else {
                host
            }
        });
    }

    /// Returns the flow's name.
    pub fn flow(&self) -> &'static str {
        self.call.definition.name
    }

    /// Returns the schedules in the order in which they were added.
    pub fn schedules(&self) -> &[Schedule] {
        &self.schedules
    }

    /// Makes this a deployment of its own, with a name: its intervals go from one of its own ticks to
    /// the next, and it may have other parameters than other deployments of the flow.
    ///
    /// The name has at most 250 bytes. [`Context::deployment`](crate::Context::deployment) and
    /// [`RunRecord::deployment`](crate::RunRecord::deployment) return it.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use orchestrator::prelude::*;
    ///
    /// #[task]
    /// async fn count(region: &str) -> u64 { region.len() as u64 }
    ///
    /// #[flow]
    /// fn regional(region: String) -> Node<u64> { count(region) }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<()> {
    /// orchestrator::serve([
    ///     regional("EU".into()).serve("0 6 * * *").named("eu"),
    ///     regional("US".into()).serve("0 6 * * *").named("us"), // two runs at six o'clock
    /// ])
    /// .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn named(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        if let Some(problem) = name_fault(&name) {
            self.fail(Error::Options(format!("flow `{}`: {problem}", self.flow())));
        }
        self.name = Some(name.into());
        self
    }

    /// Returns the name of the deployment, or `None` for the default one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Adds a schedule. All schedules of a deployment have the same parameters:
    /// [`Schedule::parameters`] must be the same for each of them.
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

    /// Sets whether all missed ticks get a run, the oldest first, or only the latest of them.
    /// Defaults to the setting in the flow's attribute, or else to the latest. A shorthand for
    /// [`missed`](Self::missed).
    ///
    /// Missed ticks do not all run at once: at most `max_active_runs` of them, or 16, are active.
    /// Ticks that come meanwhile get their runs afterwards.
    pub fn catchup(self, all: bool) -> Self {
        self.missed(if all { Missed::All } else { Missed::Latest })
    }

    /// Runs the missed ticks of the last stretch of time, such as `"7d"`, the oldest first. Earlier
    /// ones are dropped. A shorthand for [`missed`](Self::missed) with [`Missed::Within`].
    pub fn catchup_within(mut self, span: impl IntoDuration) -> Self {
        match span.into_duration() {
            Ok(span) => self.missed(Missed::Within(span)),
            Err(problem) => {
                self.fail(Error::Options(format!(
                    "flow `{}`: expected `catchup_within` to be a duration, {problem}",
                    self.flow()
                )));
                self
            }
        }
    }

    /// Runs at most this many missed ticks, the latest ones, the oldest of them first. A shorthand
    /// for [`missed`](Self::missed) with [`Missed::AtMost`].
    pub fn catchup_at_most(self, runs: u32) -> Self {
        self.missed(Missed::AtMost(runs))
    }

    /// Sets which missed ticks get a run. Defaults to the latest.
    pub fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// Sets what happens to a tick while `max_active_runs` other runs are active. By default its
    /// run waits for a slot. Any other value requires the flow to have `max_active_runs`.
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }
}

impl fmt::Debug for Serve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("call", &self.call)
            .field("name", &self.name)
            .field("schedules", &self.schedules)
            .field("missed", &self.missed)
            .field("overlap", &self.overlap)
            .finish_non_exhaustive()
    }
}

/// Serves this flow alone.
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
    /// Serves flows: first resumes the runs that other processes left, then creates the runs of
    /// each tick, until SIGTERM or SIGINT, or until the runtime is [stopped](Self::stop). Returns
    /// the outcome of the shutdown. If it was caused by a signal and a body has not returned in
    /// time, this function ends the process, like [`until_signal`](Self::until_signal).
    ///
    /// While serving, it looks once a second for requests of other processes: runs that they
    /// [triggered](Flow::trigger) or [cancelled](Self::cancel), flows that they
    /// [paused](Self::pause), and runs that they left when they died. Once an hour, it
    /// [prunes](Self::prune) expired data.
    ///
    /// If the process has no `tracing` subscriber yet and the store is not in memory, it installs
    /// the one of [`init_logs`](crate::init_logs): lines go to the console, and the logs of tasks
    /// to the store.
    ///
    /// # Errors
    ///
    /// Returns an error if a schedule is invalid, if a flow cannot run here or was bound to another
    /// runtime, or if the store fails before the first tick.
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
        self.serve_until_halt(flows).await.map(Halted::end)
    }

    /// Does the same as [`serve`](Self::serve), but leaves ending the process to the caller.
    pub(crate) async fn serve_until_halt(
        &self,
        flows: impl IntoIterator<Item = Serve>,
    ) -> Result<Halted, Error> {
        server::serve(self, flows.into_iter().collect()).await
    }
}

/// Serves flows on the default runtime. See [`Runtime::serve`].
///
/// # Errors
///
/// Returns the errors of [`Runtime::serve`], and an error if the default runtime cannot be created.
pub async fn serve(flows: impl IntoIterator<Item = Serve>) -> Result<Stopped, Error> {
    Runtime::default_runtime()?.serve(flows).await
}
