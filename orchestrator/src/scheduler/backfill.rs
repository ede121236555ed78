use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::clock::kept;
use crate::error::{Error, RerunError};
use crate::executor::{Host, StartedRun};
use crate::flow::{Flow, FlowCall, Request};
use crate::id::RunId;
use crate::journal::{RunFilter, RunSummary};
use crate::panic::catch;
use crate::runtime::{Acceptance, Purpose};
use crate::schedule::{IntoSchedule, Schedule, ScheduleError};
use crate::state::{Rerun, RunKind, RunState};
use crate::value::{Data, json_text};

/// The number of runs of a backfill that are active at once, unless it or the flow sets another:
/// Airflow's default.
const AT_ONCE: u32 = 10;

/// The maximum number of ticks in a backfill: all of them are planned before the first one runs.
const MOST_TICKS: usize = 1_000_000;

impl<T: Data> Flow<T> {
    /// Creates a backfill: one run for each tick of a schedule in a range of past dates, each
    /// created at most once. Both ends are included, and days are those of the schedule's time
    /// zone. A backfill has at most a million ticks.
    ///
    /// # Examples
    ///
    /// ```
    /// use chrono::{DateTime, NaiveDate, Utc};
    /// use orchestrator::prelude::*;
    ///
    /// #[task]
    /// async fn load(day: DateTime<Utc>) -> String { day.date_naive().to_string() }
    ///
    /// #[flow]
    /// fn daily_load(#[context] context: &Context) -> Node<String> { load(context.logical_date()) }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let runtime = Runtime::in_memory();
    /// let (from, to): (NaiveDate, NaiveDate) = ("1997-01-01".parse()?, "1997-01-31".parse()?);
    /// let backfill = daily_load().on(&runtime).backfill("0 6 * * *", from..=to).max_active_runs(4);
    /// assert_eq!(backfill.clone().run().await?.created(), 31);
    /// assert_eq!(backfill.run().await?.skipped(), 31);
    /// # Ok(())
    /// # }
    /// ```
    pub fn backfill(
        self,
        schedule: impl IntoSchedule,
        dates: RangeInclusive<NaiveDate>,
    ) -> Backfill {
        let call = Arc::clone(&self.call);
        Backfill {
            host: self.given_host(),
            of_one_run: self.request.of_one_run(),
            refresh_cache: self.request.refresh_cache,
            ..Backfill::new(call, schedule.into_schedule(), dates)
        }
    }
}

/// A backfill over a range of past dates. [`run`](Self::run) creates its runs,
/// [`dry_run`](Self::dry_run) shows them.
///
/// A tick that already has a run, scheduled or of a backfill, keeps it;
/// [`reprocess`](Self::reprocess) selects runs to re-run. To continue an interrupted backfill,
/// start it again: finished ticks are skipped, and runs that no living process executes are
/// resumed. Other processes may [cancel](crate::Runtime::cancel) its runs while it is running.
#[derive(Clone)]
#[must_use = "a backfill does nothing until it is run"]
pub struct Backfill {
    host: Option<Arc<Host>>,
    call: Arc<FlowCall>,
    schedule: Result<Schedule, ScheduleError>,
    /// An option of the flow that applies to a single run only, if one was set.
    of_one_run: Option<&'static str>,
    dates: RangeInclusive<NaiveDate>,
    reprocess: Reprocess,
    at_once: Option<u32>,
    newest_first: bool,
    refresh_cache: bool,
    progress: Option<ProgressCallback>,
}

/// The callback for progress.
type ProgressCallback = Arc<dyn Fn(&Backfilled) + Send + Sync>;

/// Which existing runs a backfill re-runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reprocess {
    /// No runs.
    #[default]
    None,
    /// Failed and cancelled runs: their failed tasks and everything downstream of them.
    ///
    /// A re-run keeps the parameters of the run. If the backfill has other parameters, it is
    /// refused.
    Failed,
    /// All finished runs, as a whole. The same holds for their parameters.
    All,
}

/// The action of a backfill for a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TickAction {
    /// Creates the run.
    Create,
    /// Resumes the run, which no living process executes.
    Resume,
    /// Re-runs the finished run.
    Rerun,
    /// Does nothing.
    Skip,
}

/// A tick of a backfill.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct BackfillTick {
    /// The instant of the tick.
    pub logical_date: DateTime<Utc>,
    /// The action for the tick.
    pub action: TickAction,
    /// The reason for the action.
    pub reason: &'static str,
    /// The run of the tick, if it has one.
    pub run: Option<RunId>,
    /// The state of that run.
    pub state: Option<RunState>,
}

/// The plan of a backfill. Its `Display` is a table.
#[derive(Clone, Debug)]
pub struct BackfillPlan {
    flow: &'static str,
    schedule: Schedule,
    ticks: Vec<BackfillTick>,
}

/// The progress or result of a backfill.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Backfilled {
    total: usize,
    created: usize,
    resumed: usize,
    reran: usize,
    skipped: usize,
    /// The number of skipped ticks for each reason.
    skipped_because: BTreeMap<&'static str, usize>,
    running: usize,
    succeeded: usize,
    /// The ticks whose runs ended without success.
    unsuccessful: Vec<BackfillTick>,
}

impl Backfill {
    /// Creates the backfill of a flow by its definition alone.
    #[cfg(feature = "cli")]
    pub(crate) fn of(
        runtime: &crate::runtime::Runtime,
        call: Arc<FlowCall>,
        schedule: Schedule,
        dates: RangeInclusive<NaiveDate>,
    ) -> Self {
        Self {
            host: Some(Arc::clone(&runtime.host)),
            ..Self::new(call, Ok(schedule), dates)
        }
    }

    fn new(
        call: Arc<FlowCall>,
        schedule: Result<Schedule, ScheduleError>,
        dates: RangeInclusive<NaiveDate>,
    ) -> Self {
        Self {
            host: None,
            call,
            schedule,
            of_one_run: None,
            dates,
            reprocess: Reprocess::None,
            at_once: None,
            newest_first: false,
            refresh_cache: false,
            progress: None,
        }
    }

    /// Sets which existing runs are re-run. Defaults to none.
    pub fn reprocess(mut self, reprocess: Reprocess) -> Self {
        self.reprocess = reprocess;
        self
    }

    /// Sets the number of runs that are active at once. Defaults to the flow's `max_active_runs`,
    /// or to 10. Runs of backfills do not count towards the flow's own limit.
    pub fn max_active_runs(mut self, runs: u32) -> Self {
        self.at_once = Some(runs);
        self
    }

    /// Sets whether the newest ticks run first. Defaults to the oldest first.
    pub fn newest_first(mut self, newest_first: bool) -> Self {
        self.newest_first = newest_first;
        self
    }

    /// Sets a callback that is called with the progress whenever a run starts or ends.
    pub fn on_progress(mut self, progress: impl Fn(&Backfilled) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }

    /// Returns the action for each tick, and the reason for it, without running anything.
    ///
    /// # Errors
    ///
    /// Returns an error if the schedule, the dates or the flow's parameters are invalid, or if the
    /// store fails.
    pub async fn dry_run(&self) -> Result<BackfillPlan, Error> {
        let (host, call, schedule) = self.checked()?;
        let ticks = self.plan(&host, &call, &schedule).await?;
        Ok(BackfillPlan {
            flow: call.definition.name,
            schedule,
            ticks,
        })
    }

    /// Creates the runs and waits for their ends. A failed run does not keep others from being
    /// created; the result lists it.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`dry_run`](Self::dry_run), an error if the flow cannot run here, and
    /// an error if the runtime is stopped meanwhile.
    ///
    /// # Cancellation
    ///
    /// Dropping the future cancels the active runs and creates no more.
    pub async fn run(self) -> Result<Backfilled, Error> {
        let (host, call, schedule) = self.checked()?;
        let ticks = self.plan(&host, &call, &schedule).await?;
        let first = ticks.iter().find(|tick| tick.action != TickAction::Skip);
        host.check_call(&call, first.map(|tick| tick.logical_date))?;
        let at_once = self
            .at_once
            .or(call.definition.max_active_runs)
            .unwrap_or(AT_ONCE) as usize;
        let mut done = Backfilled {
            total: ticks.len(),
            ..Backfilled::default()
        };
        let mut ticks = ticks.into_iter();
        let (mut under_way, mut failed) = (FuturesUnordered::new(), None);
        loop {
            while under_way.len() < at_once && failed.is_none() {
                let Some(tick) = ticks.next() else { break };
                if tick.action == TickAction::Skip {
                    done.skip(tick.reason);
                    continue;
                }
                match self.start(&host, &call, &schedule, &tick).await {
                    Ok(Some(started)) => {
                        done.started(tick.action);
                        under_way.push(wait_for_end(tick, started));
                        self.tell(&done);
                    }
                    // another process was faster
                    Ok(None)
                    | Err(Error::Rerun(
                        RerunError::NotFinal { .. } | RerunError::NothingFailed { .. },
                    )) => {
                        done.skip("another process handled it");
                    }
                    Err(Error::Rerun(problem)) => done.cannot_run_again(&tick, &problem),
                    Err(error) => failed = Some(error),
                }
            }
            let Some((tick, ended)) = under_way.next().await else {
                break;
            };
            done.running -= 1;
            match ended {
                Ok(state) => done.ended(&tick, state),
                Err(error) => drop(failed.get_or_insert(error)),
            }
            self.tell(&done);
        }
        self.tell(&done);
        failed.map_or(Ok(done), Err)
    }

    fn tell(&self, done: &Backfilled) {
        let Some(progress) = &self.progress else {
            return;
        };
        if let Err(panicked) = catch(|| progress(done)) {
            tracing::error!(error = %panicked, "the `on_progress` callback of a backfill panicked");
        }
    }

    fn checked(&self) -> Result<(Arc<Host>, Arc<FlowCall>, Schedule), Error> {
        let flow = self.call.definition.name;
        let refused = |error: &ScheduleError| Error::Schedule {
            flow: flow.to_owned(),
            problem: error.to_string(),
        };
        let schedule = self.schedule.as_ref().map_err(refused)?.clone();
        let (from, to) = (self.dates.start(), self.dates.end());
        let problem = match (self.of_one_run, self.at_once) {
            (Some(option), _) => Some(format!(
                "`.{option}(…)` applies to a single run, but each tick has its own"
            )),
            (_, Some(0)) => Some("expected `max_active_runs` to be at least 1, got 0".to_owned()),
            _ if from > to => Some(format!(
                "expected the first date not to be after the last, got {from} and {to}"
            )),
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(Error::Options(format!("backfill of `{flow}`: {problem}")));
        }
        let call = self.call.with(schedule.given_parameters());
        let call = call.map_err(|problem| Error::Parameters {
            flow: flow.to_owned(),
            problem,
        })?;
        let host = match &self.host {
            Some(host) => Arc::clone(host),
            None => Host::of_here()?,
        };
        Ok((host, call, schedule))
    }

    async fn plan(
        &self,
        host: &Arc<Host>,
        call: &Arc<FlowCall>,
        schedule: &Schedule,
    ) -> Result<Vec<BackfillTick>, Error> {
        let mut ticks: Vec<DateTime<Utc>> = schedule
            .fires_between(self.dates.clone())
            .map(kept)
            .take(MOST_TICKS + 1)
            .collect();
        if ticks.len() > MOST_TICKS {
            let (flow, from, to) = (call.definition.name, self.dates.start(), self.dates.end());
            let problem = format!(
                "expected at most {MOST_TICKS} ticks, got more of `{schedule}` from {from} to {to}"
            );
            return Err(Error::Options(format!("backfill of `{flow}`: {problem}")));
        }
        let (Some(first), Some(last)) = (ticks.first(), ticks.last()) else {
            return Ok(Vec::new());
        };
        let filter = RunFilter::new()
            .flow(call.definition.name)
            .kind(RunKind::Scheduled)
            .kind(RunKind::Backfill);
        let runs = host
            .services
            .store
            .find_runs(&filter.since(*first).until(*last))
            .await?;
        let unreadable: HashSet<RunId> = runs
            .iter()
            .filter(|run| run.unreadable.is_some())
            .map(|run| run.id)
            .collect();
        let others = runs.iter().find(|run| {
            run.unreadable.is_none()
                && self.of_run(run.state).0 == TickAction::Rerun
                && !call.has(&run.parameters)
        });
        if let Some(other) = others {
            return Err(other_parameters(call, other));
        }
        let runs: HashMap<DateTime<Utc>, (RunId, RunState)> = runs
            .into_iter()
            .map(|run| (run.logical_date, (run.id, run.state)))
            .collect();
        let unfinished = runs.values().any(|(_, state)| !state.is_final());
        let abandoned = if unfinished {
            host.services.store.find_abandoned().await?
        } else {
            Vec::new()
        };
        let abandoned: HashSet<RunId> = abandoned.into_iter().map(|run| run.id).collect();
        if self.newest_first {
            ticks.reverse();
        }
        let now = host.services.clock.now();
        let planned = |logical_date: DateTime<Utc>| {
            let run = runs.get(&logical_date).copied();
            let (action, reason) = match run {
                None if logical_date > now => (TickAction::Skip, "it is not due yet"),
                None => (TickAction::Create, "it has no run"),
                Some((id, _)) if unreadable.contains(&id) => {
                    (TickAction::Skip, "its run cannot be read")
                }
                Some((id, RunState::Pending | RunState::Running)) if abandoned.contains(&id) => (
                    TickAction::Resume,
                    "its run was left by a process that ended",
                ),
                Some((_, state)) => self.of_run(state),
            };
            BackfillTick {
                logical_date,
                action,
                reason,
                run: run.map(|run| run.0),
                state: run.map(|run| run.1),
            }
        };
        Ok(ticks.into_iter().map(planned).collect())
    }

    /// Returns the action for a tick whose run is in the given state, and the reason for it.
    fn of_run(&self, state: RunState) -> (TickAction, &'static str) {
        match (state, self.reprocess) {
            (RunState::Pending | RunState::Running, _) => (TickAction::Skip, "its run is active"),
            (_, Reprocess::All) => (TickAction::Rerun, "all runs are re-run"),
            (RunState::Success, _) => (TickAction::Skip, "its run succeeded"),
            (RunState::Failed, Reprocess::Failed) => (TickAction::Rerun, "its run failed"),
            (RunState::Cancelled, Reprocess::Failed) => {
                (TickAction::Rerun, "its run was cancelled")
            }
            (RunState::Failed, Reprocess::None) => (TickAction::Skip, "it has a run, which failed"),
            (RunState::Cancelled, Reprocess::None) => {
                (TickAction::Skip, "it has a run, which was cancelled")
            }
        }
    }

    async fn start(
        &self,
        host: &Arc<Host>,
        call: &Arc<FlowCall>,
        schedule: &Schedule,
        tick: &BackfillTick,
    ) -> Result<Option<StartedRun>, Error> {
        match (tick.action, tick.run) {
            (TickAction::Create, _) => {
                let request = Request {
                    refresh_cache: self.refresh_cache,
                    ..Request::of_tick(RunKind::Backfill, schedule, tick.logical_date)
                };
                match host.accept_here(call, &request).await? {
                    Acceptance::Started(started) => Ok(Some(started)),
                    Acceptance::Taken(_) => Ok(None),
                }
            }
            (TickAction::Resume, Some(run)) => host.go_on(call.definition, run, Purpose::Run).await,
            (TickAction::Rerun, Some(run)) => {
                let what = if self.reprocess == Reprocess::All {
                    Rerun::All
                } else {
                    Rerun::Failed
                };
                let cancel = CancellationToken::new();
                // the re-run is requested by a tokio task of its own, which continues if this
                // future is dropped: without the guard, the run would not be cancelled then
                let guard = cancel.clone().drop_guard();
                let started = host.start_rerun(run, what, cancel).await.map(Some);
                guard.disarm();
                started
            }
            (TickAction::Resume | TickAction::Rerun | TickAction::Skip, _) => Ok(None),
        }
    }
}

/// Returns the error for a re-run with other parameters. A re-run keeps the parameters of its run,
/// so its result would not be the requested one.
fn other_parameters(call: &FlowCall, run: &RunSummary) -> Error {
    let (flow, id, at) = (call.definition.name, run.id, run.logical_date);
    let (recorded, asked) = (json_text(&run.parameters), json_text(&call.parameters));
    Error::Options(format!(
        "backfill of `{flow}`: run {id} of {at} would be re-run with its own parameters {recorded}, but the backfill has {asked}; use the same parameters, or leave its date out"
    ))
}

/// Waits for the end of a run, and cancels the run if the future is dropped.
fn wait_for_end(
    mut tick: BackfillTick,
    started: StartedRun,
) -> impl Future<Output = (BackfillTick, Result<RunState, Error>)> + Send {
    tick.run = Some(started.id);
    // created outside of the future, so that it also cancels the run if the future is dropped
    // before its first poll
    let guard = started.cancel.clone().drop_guard();
    async move {
        let ended = started.end().await;
        guard.disarm();
        (tick, ended.map(|record| record.state()))
    }
}

impl BackfillPlan {
    /// Returns the ticks in the order in which they are processed.
    pub fn ticks(&self) -> &[BackfillTick] {
        &self.ticks
    }
}

impl fmt::Display for BackfillPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let acted = self
            .ticks
            .iter()
            .filter(|tick| tick.action != TickAction::Skip)
            .count();
        let (flow, schedule, ticks) = (self.flow, &self.schedule, self.ticks.len());
        writeln!(
            f,
            "backfill of {flow} by {schedule}: {acted} of {ticks} ticks to process"
        )?;
        writeln!(
            f,
            "{:<25} {:<7} {:<42} run",
            "logical date", "action", "reason"
        )?;
        for tick in &self.ticks {
            let date = tick.logical_date.with_timezone(&self.schedule.zone());
            let date = date.to_rfc3339_opts(SecondsFormat::Secs, true);
            write!(f, "{date:<25} {:<7} ", tick.action)?;
            match tick.run {
                Some(run) => writeln!(f, "{:<42} {run}", tick.reason)?,
                None => writeln!(f, "{}", tick.reason)?,
            }
        }
        Ok(())
    }
}

impl TickAction {
    /// Returns the name of the action, such as `create`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Resume => "resume",
            Self::Rerun => "rerun",
            Self::Skip => "skip",
        }
    }
}

impl fmt::Display for TickAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Backfilled {
    /// Returns the number of ticks in the range.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Returns the number of created runs.
    pub fn created(&self) -> usize {
        self.created
    }

    /// Returns the number of resumed runs, which no living process had executed.
    pub fn resumed(&self) -> usize {
        self.resumed
    }

    /// Returns the number of re-run runs.
    pub fn reran(&self) -> usize {
        self.reran
    }

    /// Returns the number of skipped ticks.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// Returns the reasons for skipping ticks, each with the number of its ticks.
    pub fn skipped_because(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.skipped_because
            .iter()
            .map(|(reason, ticks)| (*reason, *ticks))
    }

    /// Returns the number of active runs.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Returns the number of runs that succeeded.
    pub fn succeeded(&self) -> usize {
        self.succeeded
    }

    /// Returns the ticks whose runs ended without success.
    pub fn unsuccessful(&self) -> &[BackfillTick] {
        &self.unsuccessful
    }

    fn skip(&mut self, reason: &'static str) {
        self.skipped += 1;
        *self.skipped_because.entry(reason).or_default() += 1;
    }

    fn started(&mut self, action: TickAction) {
        self.running += 1;
        match action {
            TickAction::Create => self.created += 1,
            TickAction::Resume => self.resumed += 1,
            TickAction::Rerun => self.reran += 1,
            TickAction::Skip => {}
        }
    }

    /// Counts a run that cannot be re-run. It keeps its state, and other runs are still re-run.
    fn cannot_run_again(&mut self, tick: &BackfillTick, problem: &RerunError) {
        tracing::warn!(tick = %tick.logical_date, run = tick.run.map(tracing::field::display), error = %problem, "run not re-run by the backfill");
        match tick.state {
            Some(RunState::Failed | RunState::Cancelled) => {
                let (action, reason) = (TickAction::Skip, "its run cannot run again");
                self.unsuccessful.push(BackfillTick {
                    action,
                    reason,
                    ..tick.clone()
                });
            }
            _ => self.skip("its run cannot run again"),
        }
    }

    fn ended(&mut self, tick: &BackfillTick, state: RunState) {
        match state {
            RunState::Success => self.succeeded += 1,
            _ => self.unsuccessful.push(BackfillTick {
                state: Some(state),
                ..tick.clone()
            }),
        }
    }
}

impl fmt::Debug for Backfill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backfill")
            .field("call", &self.call)
            .field("schedule", &self.schedule)
            .field("dates", &self.dates)
            .field("reprocess", &self.reprocess)
            .finish_non_exhaustive()
    }
}
