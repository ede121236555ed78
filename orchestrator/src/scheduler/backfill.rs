use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::clock::kept;
use crate::error::{Error, RerunError};
use crate::excerpt::Excerpt;
use crate::executor::{Host, StartedRun};
use crate::flow::{Flow, FlowCall, Overlap, Request};
use crate::id::RunId;
use crate::journal::{RunFilter, RunSummary};
use crate::panic::catch;
use crate::runtime::{Acceptance, Purpose};
use crate::schedule::{IntoSchedule, Schedule, ScheduleError, ScheduleUnion, span};
use crate::state::{Rerun, RunKind, RunState};
use crate::task::Interval;
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
            deployment: self.request.deployment.clone(),
            of_one_run: self.request.of_one_run(),
            refresh_cache: self.request.refresh_cache,
            ..Backfill::new(call, Vec::new(), dates)
        }
        .schedule(schedule)
    }
}

/// A backfill over a range of past dates. [`run`](Self::run) creates its runs,
/// [`dry_run`](Self::dry_run) shows them.
///
/// A backfill belongs to a deployment of the flow: the one given by [`Flow::deployment`], or the
/// default one, or else the only one on record. A tick that already has a run in that deployment,
/// scheduled or of a backfill, keeps it; [`reprocess`](Self::reprocess) selects runs to re-run. A
/// run with another interval or other parameters is another run: its tick is listed with what
/// differs, and never counted as done ([`Backfilled::different`]).
///
/// If the flow has `depends_on_past`, each run waits until that of the tick before has succeeded,
/// which may lie before the range. After a run that failed, the backfill waits until it is re-run.
///
/// To continue an interrupted backfill, start it again: finished ticks are skipped, and runs that no
/// living process executes are resumed. Other processes may [cancel](crate::Runtime::cancel) its
/// runs while it is running.
#[derive(Clone)]
#[must_use = "a backfill does nothing until it is run"]
pub struct Backfill {
    host: Option<Arc<Host>>,
    call: Arc<FlowCall>,
    deployment: Option<Arc<str>>,
    schedules: Vec<Result<Schedule, ScheduleError>>,
    /// An option of the flow that applies to a single run only, if one was set.
    of_one_run: Option<&'static str>,
    dates: RangeInclusive<NaiveDate>,
    reprocess: Reprocess,
    adopt_manual: bool,
    at_once: Option<u32>,
    overlap: Overlap,
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
    /// Does nothing: the tick has another run, with another interval or other parameters.
    Different,
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
    /// What differs, if the tick has another run.
    pub difference: Option<String>,
    /// The run of the tick, if it has one.
    pub run: Option<RunId>,
    /// The state of that run.
    pub state: Option<RunState>,
    /// A manual run for the same date that succeeded, if the tick has no run of its own.
    pub manual: Option<RunId>,
}

/// The plan of a backfill. Its `Display` is a table.
#[derive(Clone, Debug)]
pub struct BackfillPlan {
    flow: &'static str,
    schedules: ScheduleUnion,
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
    /// The ticks that have another run.
    different: Vec<BackfillTick>,
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
        deployment: Option<Arc<str>>,
        schedules: Vec<Schedule>,
        dates: RangeInclusive<NaiveDate>,
    ) -> Self {
        Self {
            host: Some(Arc::clone(&runtime.host)),
            deployment,
            ..Self::new(call, schedules.into_iter().map(Ok).collect(), dates)
        }
    }

    fn new(
        call: Arc<FlowCall>,
        schedules: Vec<Result<Schedule, ScheduleError>>,
        dates: RangeInclusive<NaiveDate>,
    ) -> Self {
        Self {
            host: None,
            call,
            deployment: None,
            schedules,
            of_one_run: None,
            dates,
            reprocess: Reprocess::None,
            adopt_manual: false,
            at_once: None,
            overlap: Overlap::Queue,
            newest_first: false,
            refresh_cache: false,
            progress: None,
        }
    }

    /// Adds a schedule of the deployment: the ticks are those of all schedules, and an interval goes
    /// from one of them to the next.
    pub fn schedule(mut self, schedule: impl IntoSchedule) -> Self {
        self.schedules.push(schedule.into_schedule());
        self
    }

    /// Sets the deployment that the runs belong to, like [`Flow::deployment`].
    pub fn deployment(mut self, name: impl Into<String>) -> Self {
        self.deployment = Some(name.into().into());
        self
    }

    /// Sets whether a tick counts as done if a manual run for the same date, with the same interval
    /// and parameters, succeeded. Defaults to `false`: the plan names such a run
    /// ([`BackfillTick::manual`]), and the tick gets a run of its own.
    pub fn adopt_manual(mut self, adopt: bool) -> Self {
        self.adopt_manual = adopt;
        self
    }

    /// Sets what happens to a tick while [`max_active_runs`](Self::max_active_runs) runs of the
    /// backfill are active. Defaults to [`Overlap::Queue`]: it waits until one of them has ended.
    /// The ticks of a backfill are all due at once. So [`Overlap::Skip`] creates only as many runs as
    /// may be active at first, [`Overlap::Latest`] these and the last one, and
    /// [`Overlap::CancelRunning`] cancels all but the last ones.
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
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

    /// Sets whether the newest ticks run first. Defaults to the oldest first. Refused if the flow has
    /// `depends_on_past`, whose runs wait for those of earlier ticks.
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
        let asked = self.checked().await?;
        let ticks = self.plan(&asked).await?;
        Ok(BackfillPlan {
            flow: asked.call.definition.name,
            schedules: asked.schedules,
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
        let asked = self.checked().await?;
        let ticks = self.plan(&asked).await?;
        let first = ticks.iter().find(|tick| tick.action.is_taken());
        let first = first.map(|tick| asked.request(tick.logical_date));
        asked
            .host
            .check_call(&asked.call, &first.unwrap_or_default())?;
        let at_once = self
            .at_once
            .or(asked.call.definition.max_active_runs)
            .unwrap_or(AT_ONCE) as usize;
        let mut done = Backfilled {
            total: ticks.len(),
            ..Backfilled::default()
        };
        let mut ticks = VecDeque::from(ticks);
        let (mut under_way, mut failed) = (FuturesUnordered::new(), None);
        // the active runs, the oldest first
        let mut active: VecDeque<(RunId, CancellationToken)> = VecDeque::new();
        loop {
            while failed.is_none()
                && let Some(tick) = ticks.front()
            {
                if tick.action.is_taken() && active.len() >= at_once {
                    match self.overlap {
                        Overlap::Queue => break,
                        Overlap::Latest if ticks.len() == 1 => break,
                        Overlap::Skip | Overlap::Latest => {
                            ticks.pop_front();
                            done.skip("others were active");
                            continue;
                        }
                        Overlap::CancelRunning => {
                            if let Some((_, oldest)) = active.pop_front() {
                                oldest.cancel();
                            }
                        }
                    }
                }
                let Some(tick) = ticks.pop_front() else { break };
                match tick.action {
                    TickAction::Skip => {
                        done.skip(tick.reason);
                        continue;
                    }
                    TickAction::Different => {
                        done.different.push(tick);
                        continue;
                    }
                    TickAction::Create | TickAction::Resume | TickAction::Rerun => {}
                }
                match self.start(&asked, &tick).await {
                    Ok(Some(started)) => {
                        done.started(tick.action);
                        active.push_back((started.id, started.cancel.clone()));
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
            active.retain(|(run, _)| Some(*run) != tick.run);
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

    async fn checked(&self) -> Result<AskedBackfill, Error> {
        let definition = self.call.definition;
        let flow = definition.name;
        let refused = |problem: String| Error::Schedule {
            flow: flow.to_owned(),
            problem,
        };
        let schedules = self
            .schedules
            .iter()
            .cloned()
            .collect::<Result<Vec<_>, _>>();
        let schedules = schedules.map_err(|error| refused(error.to_string()))?;
        let (from, to) = (self.dates.start(), self.dates.end());
        let problem = match (self.of_one_run, self.at_once) {
            (Some(option), _) => Some(format!(
                "`.{option}(…)` applies to a single run, but each tick has its own"
            )),
            (_, Some(0)) => Some("expected `max_active_runs` to be at least 1, got 0".to_owned()),
            _ if self.newest_first && definition.depends_on_past => Some(
                "`.newest_first(true)` cannot be combined with `depends_on_past` of the flow: the run of each tick \
                 waits until that of the tick before has succeeded; leave one of them out"
                    .to_owned(),
            ),
            _ if from > to => Some(format!(
                "expected the first date not to be after the last, got {from} and {to}"
            )),
            _ if !span::contains_day(*from) || !span::contains_day(*to) => Some(format!(
                "expected dates in the years 1 to 9999, got {from} to {to}"
            )),
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(Error::Options(format!("backfill of `{flow}`: {problem}")));
        }
        let mut call = Arc::clone(&self.call);
        for schedule in &schedules {
            let with_parameters = call.with(schedule.given_parameters());
            call = with_parameters.map_err(|problem| Error::Parameters {
                flow: flow.to_owned(),
                problem,
            })?;
        }
        let host = match &self.host {
            Some(host) => Arc::clone(host),
            None => Host::of_here()?,
        };
        let record = host
            .deployment_of(definition, self.deployment.as_deref())
            .await;
        let deployment = match record {
            Ok(record) => record.and_then(|record| record.key.name),
            Err(error) => return Err(error),
        };
        Ok(AskedBackfill {
            host,
            call,
            deployment,
            // the dates say which ticks there are, whenever the schedules came into force
            schedules: ScheduleUnion::uncounted(schedules),
        })
    }

    async fn plan(&self, asked: &AskedBackfill) -> Result<Vec<BackfillTick>, Error> {
        let AskedBackfill {
            host,
            call,
            schedules,
            ..
        } = asked;
        let definition = call.definition;
        let (from, to) = (self.dates.start(), self.dates.end());
        let refused = |problem: String| {
            Error::Options(format!("backfill of `{}`: {problem}", definition.name))
        };
        let mut ticks: Vec<DateTime<Utc>> = schedules
            .fires_between(self.dates.clone())
            .map(kept)
            .take(MOST_TICKS + 1)
            .collect();
        if ticks.len() > MOST_TICKS {
            return Err(refused(format!(
                "expected at most {MOST_TICKS} ticks, got more of `{schedules}` from {from} to {to}"
            )));
        }
        if let Some(start) = schedules.start().filter(|start| start.date_naive() > *from) {
            return Err(refused(format!(
                "expected dates from the start of the schedule on, which is {}, got {from}",
                start.to_rfc3339_opts(SecondsFormat::AutoSi, true)
            )));
        }
        let (Some(first), Some(last)) = (ticks.first(), ticks.last()) else {
            return Err(refused(format!(
                "`{schedules}` has no tick from {from} to {to}"
            )));
        };
        let filter = RunFilter::new()
            .flow(definition.name)
            .of_deployment(asked.deployment.as_deref())
            .since(*first)
            .until(*last);
        let of_ticks = filter
            .clone()
            .kind(RunKind::Scheduled)
            .kind(RunKind::Backfill);
        let runs = host.services.store.find_runs(&of_ticks).await?;
        let runs: HashMap<DateTime<Utc>, RunSummary> = runs
            .into_iter()
            .map(|run| (run.logical_date, run))
            .collect();
        let manual = filter.kind(RunKind::Manual).state(RunState::Success);
        let manual = host.services.store.find_runs(&manual).await?.into_iter();
        let manual: HashMap<DateTime<Utc>, RunId> = manual
            .filter(|run| run.unreadable.is_none() && asked.difference(run).is_none())
            .map(|run| (run.logical_date, run.id))
            .collect();
        let unfinished = runs.values().any(|run| !run.state.is_final());
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
        let mut planned = Vec::with_capacity(ticks.len());
        for logical_date in ticks {
            let run = runs.get(&logical_date);
            let manual = manual.get(&logical_date).copied().filter(|_| run.is_none());
            let difference = run.and_then(|run| asked.difference(run));
            let (action, reason) = match run {
                None if logical_date > now => (TickAction::Skip, "it is not due yet"),
                None if manual.is_some() && self.adopt_manual => {
                    (TickAction::Skip, "a manual run succeeded")
                }
                None => (TickAction::Create, "it has no run"),
                Some(run) => self.of_run(run, abandoned.contains(&run.id)),
            };
            let (action, reason) = match (action, run, &difference) {
                (TickAction::Rerun, Some(run), Some(difference)) => {
                    return Err(asked.cannot_rerun(run, difference));
                }
                (_, _, Some(_)) => (TickAction::Different, "it has another run"),
                (..) => (action, reason),
            };
            planned.push(BackfillTick {
                logical_date,
                action,
                reason,
                difference,
                run: run.map(|run| run.id),
                state: run.map(|run| run.state),
                manual,
            });
        }
        Ok(planned)
    }

    /// Returns the action for a tick that has a run, and the reason for it.
    fn of_run(&self, run: &RunSummary, is_abandoned: bool) -> (TickAction, &'static str) {
        match run.state {
            _ if run.unreadable.is_some() => (TickAction::Skip, "its run cannot be read"),
            RunState::Pending | RunState::Running if is_abandoned => (
                TickAction::Resume,
                "its run was left by a process that ended",
            ),
            state => self.of_state(state),
        }
    }

    /// Returns the action for a tick whose run is in the given state, and the reason for it.
    fn of_state(&self, state: RunState) -> (TickAction, &'static str) {
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
        asked: &AskedBackfill,
        tick: &BackfillTick,
    ) -> Result<Option<StartedRun>, Error> {
        let host = &asked.host;
        match (tick.action, tick.run) {
            (TickAction::Create, _) => {
                let request = Request {
                    refresh_cache: self.refresh_cache,
                    ..asked.request(tick.logical_date)
                };
                match host.accept_here(&asked.call, &request).await? {
                    Acceptance::Started(started) => Ok(Some(started)),
                    Acceptance::Taken(_) => Ok(None),
                }
            }
            (TickAction::Resume, Some(run)) => {
                host.go_on(asked.call.definition, run, Purpose::Run).await
            }
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
            (
                TickAction::Resume | TickAction::Rerun | TickAction::Skip | TickAction::Different,
                _,
            ) => Ok(None),
        }
    }
}

/// What a backfill asks for, checked.
struct AskedBackfill {
    host: Arc<Host>,
    /// The flow with the parameters of the runs.
    call: Arc<FlowCall>,
    deployment: Option<Arc<str>>,
    schedules: ScheduleUnion,
}

impl AskedBackfill {
    /// Returns the request for the run of a tick.
    fn request(&self, tick: DateTime<Utc>) -> Request {
        Request::of_tick(
            RunKind::Backfill,
            self.deployment.clone(),
            self.schedules.interval_of(tick),
        )
    }

    /// Returns what differs if the run of a tick is another run than the one that is asked for.
    fn difference(&self, run: &RunSummary) -> Option<String> {
        if run.unreadable.is_some() {
            return None;
        }
        let Interval { start, end } = self.schedules.interval_of(run.logical_date);
        let interval = Interval {
            start: kept(start),
            end: kept(end),
        };
        let mut differences = Vec::new();
        if run.interval != interval {
            differences.push(format!(
                "its run has the interval {}, not {interval}",
                run.interval
            ));
        }
        if !self.call.has(&run.parameters) {
            let (recorded, asked) = differing(&run.parameters, &self.call.parameters);
            differences.push(format!("its run has {recorded}, not {asked}"));
        }
        (!differences.is_empty()).then(|| differences.join("; "))
    }

    /// Returns the error for a re-run of another run. A re-run keeps the interval and the parameters
    /// of its run, so its result would not be the requested one.
    fn cannot_rerun(&self, run: &RunSummary, difference: &str) -> Error {
        let (flow, id, at) = (self.call.definition.name, run.id, run.logical_date);
        Error::Options(format!(
            "backfill of `{flow}`: run {id} of {at} is another run and cannot be re-run for this one: {difference}; \
             use the same schedule and parameters, or leave its date out"
        ))
    }
}

/// Returns the parameters that differ, recorded and asked for, such as `region = "EU"`.
fn differing(recorded: &Map<String, Value>, asked: &Map<String, Value>) -> (String, String) {
    let names: BTreeSet<&String> = recorded.keys().chain(asked.keys()).collect();
    let names: Vec<&String> = names
        .into_iter()
        .filter(|name| recorded.get(*name) != asked.get(*name))
        .collect();
    let write = |parameters: &Map<String, Value>| {
        let parameter = |name: &&String| match parameters.get(*name) {
            Some(value) => format!("{name} = {}", Excerpt::of(json_text(value), 200, 0)),
            None => format!("no {name}"),
        };
        names.iter().map(parameter).collect::<Vec<_>>().join(", ")
    };
    (write(recorded), write(asked))
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
            .filter(|tick| tick.action.is_taken())
            .count();
        let (flow, schedules, ticks) = (self.flow, &self.schedules, self.ticks.len());
        writeln!(
            f,
            "backfill of {flow} by {schedules}: {acted} of {ticks} ticks to process"
        )?;
        writeln!(
            f,
            "{:<25} {:<9} {:<42} run",
            "logical date", "action", "reason"
        )?;
        for tick in &self.ticks {
            let date = tick.logical_date.with_timezone(&self.schedules.zone());
            let date = date.to_rfc3339_opts(SecondsFormat::AutoSi, true);
            write!(f, "{date:<25} {:<9} ", tick.action)?;
            match (tick.run, tick.manual) {
                (Some(run), _) => write!(f, "{:<42} {run}", tick.reason)?,
                (None, Some(run)) => write!(f, "{:<42} made by hand: {run}", tick.reason)?,
                (None, None) => write!(f, "{}", tick.reason)?,
            }
            match &tick.difference {
                Some(difference) => writeln!(f, ": {difference}")?,
                None => writeln!(f)?,
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
            Self::Different => "different",
        }
    }

    /// Returns `true` if a run is created, resumed or re-run.
    fn is_taken(self) -> bool {
        match self {
            Self::Create | Self::Resume | Self::Rerun => true,
            Self::Skip | Self::Different => false,
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

    /// Returns the number of ticks that have another run: one with another interval or other
    /// parameters.
    pub fn different(&self) -> usize {
        self.different.len()
    }

    /// Returns the ticks that have another run, with what differs.
    pub fn different_ticks(&self) -> &[BackfillTick] {
        &self.different
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
            TickAction::Skip | TickAction::Different => {}
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
            .field("deployment", &self.deployment)
            .field("schedules", &self.schedules)
            .field("dates", &self.dates)
            .field("reprocess", &self.reprocess)
            .finish_non_exhaustive()
    }
}
