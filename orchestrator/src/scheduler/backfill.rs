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
use crate::flow::{Flow, FlowCall, Request};
use crate::id::RunId;
use crate::runtime::{Accepted, Inner, Purpose, StartedRun};
use crate::schedule::{IntoSchedule, Schedule, ScheduleError};
use crate::state::{Rerun, RunKind, RunState};
use crate::store::{RunFilter, RunSummary};
use crate::value::Data;

/// How many runs of a backfill are under way at once, where neither it nor the flow says so: Airflow's default.
const AT_ONCE: u32 = 10;

/// How many ticks a backfill may have: all of them are planned before the first of them runs.
const MOST_TICKS: usize = 1_000_000;

impl<T: Data> Flow<T> {
    /// The runs of a past range of dates, each made at most once: one for each tick of the schedule on these days, both
    /// ends included, as the schedule's zone has them. There may be a million of them at most.
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

/// The runs of a past range of dates: made by [`run`](Self::run), or shown by [`dry_run`](Self::dry_run).
///
/// A tick that has a run, scheduled or of a backfill, keeps it; [`reprocess`](Self::reprocess) says which of them run
/// again. A backfill that was left in the middle is gone on with by asking for it again: what is done is skipped, and
/// runs that no living process executes go on. While it runs, its runs may be [cancelled](crate::Runtime::cancel) by other
/// processes as well.
#[derive(Clone)]
#[must_use = "a backfill does nothing until it is run"]
pub struct Backfill {
    host: Option<Arc<Inner>>,
    call: Arc<FlowCall>,
    schedule: Result<Schedule, ScheduleError>,
    /// An option that was set, and is for one run alone.
    of_one_run: Option<&'static str>,
    dates: RangeInclusive<NaiveDate>,
    reprocess: Reprocess,
    at_once: Option<u32>,
    newest_first: bool,
    refresh_cache: bool,
    progress: Option<Progress>,
}

/// Who is told how far a backfill is.
type Progress = Arc<dyn Fn(&Backfilled) + Send + Sync>;

/// Which ticks of a backfill that have a run already run again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reprocess {
    /// None.
    #[default]
    None,
    /// Those whose run failed or was cancelled: the tasks that failed, and what hangs on them.
    ///
    /// A run that runs again keeps its parameters: where the backfill was asked for with others, it is refused.
    Failed,
    /// All whose run is final: the whole of it. Of parameters, the same holds.
    All,
}

/// What a backfill does about a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TickAction {
    /// Its run is made.
    Create,
    /// Its run goes on, which no living process executes.
    Resume,
    /// Its run runs again.
    Rerun,
    /// Nothing.
    Skip,
}

/// A tick of a backfill.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct BackfillTick {
    /// The tick.
    pub logical_date: DateTime<Utc>,
    /// What is done about it.
    pub action: TickAction,
    /// Why.
    pub reason: &'static str,
    /// The run that it has.
    pub run: Option<RunId>,
    /// That run's state.
    pub state: Option<RunState>,
}

/// What a backfill would do: shown, it is a table.
#[derive(Clone, Debug)]
pub struct BackfillPlan {
    flow: &'static str,
    schedule: Schedule,
    ticks: Vec<BackfillTick>,
}

/// What a backfill has done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Backfilled {
    total: usize,
    created: usize,
    resumed: usize,
    reran: usize,
    skipped: usize,
    /// How many for which reason.
    skipped_because: BTreeMap<&'static str, usize>,
    running: usize,
    succeeded: usize,
    /// The ticks whose runs are no success.
    unsuccessful: Vec<BackfillTick>,
}

impl Backfill {
    /// The backfill of a flow that is known by its definition alone.
    #[cfg(feature = "cli")]
    pub(crate) fn of(
        runtime: &crate::runtime::Runtime,
        call: Arc<FlowCall>,
        schedule: Schedule,
        dates: RangeInclusive<NaiveDate>,
    ) -> Self {
        Self {
            host: Some(Arc::clone(&runtime.0)),
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

    /// Sets which ticks that have a run already run again: none by default.
    pub fn reprocess(mut self, reprocess: Reprocess) -> Self {
        self.reprocess = reprocess;
        self
    }

    /// Sets how many of its runs are under way at once. By default as many as the flow's `max_active_runs`, or 10. Runs of
    /// backfills are not counted for the flow's own limit.
    pub fn max_active_runs(mut self, runs: u32) -> Self {
        self.at_once = Some(runs);
        self
    }

    /// Sets whether the newest ticks come first. By default the oldest do.
    pub fn newest_first(mut self, newest_first: bool) -> Self {
        self.newest_first = newest_first;
        self
    }

    /// Tells `progress` how far the backfill is, whenever a run starts or ends.
    pub fn on_progress(mut self, progress: impl Fn(&Backfilled) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }

    /// Says what would be done about each tick, and why, and does nothing.
    ///
    /// # Errors
    ///
    /// Where the schedule, the dates or the flow's parameters are refused, and where the store fails.
    pub async fn dry_run(&self) -> Result<BackfillPlan, Error> {
        let (host, call, schedule) = self.checked()?;
        let ticks = self.plan(&host, &call, &schedule).await?;
        Ok(BackfillPlan {
            flow: call.definition.name,
            schedule,
            ticks,
        })
    }

    /// Makes the runs, and waits for their ends. Runs that fail keep no other from being made: the result tells.
    ///
    /// # Errors
    ///
    /// As for [`dry_run`](Self::dry_run), where the flow cannot run here, and where the runtime is stopped meanwhile.
    ///
    /// # Cancellation
    ///
    /// Dropping the future cancels the runs that are under way, and makes no more.
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
                        under_way.push(see_through(tick, started));
                        self.tell(&done);
                    }
                    // another process was faster
                    Ok(None)
                    | Err(Error::Rerun(
                        RerunError::NotFinal { .. } | RerunError::NothingFailed { .. },
                    )) => {
                        done.skip("another process saw to it");
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
        if let Some(progress) = &self.progress {
            progress(done);
        }
    }

    fn checked(&self) -> Result<(Arc<Inner>, Arc<FlowCall>, Schedule), Error> {
        let flow = self.call.definition.name;
        let refused = |error: &ScheduleError| Error::Schedule {
            flow: flow.to_owned(),
            problem: error.to_string(),
        };
        let schedule = self.schedule.as_ref().map_err(refused)?.clone();
        let (from, to) = (self.dates.start(), self.dates.end());
        let problem = match (self.of_one_run, self.at_once) {
            (Some(option), _) => Some(format!(
                "`.{option}(…)` is for one run, and each tick has its own"
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
            None => Inner::of_here()?,
        };
        Ok((host, call, schedule))
    }

    async fn plan(
        &self,
        host: &Arc<Inner>,
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
            .store
            .summaries(&filter.since(*first).until(*last))
            .await?;
        let others = runs.iter().find(|run| {
            self.of_run(run.state).0 == TickAction::Rerun && !call.has(&run.parameters)
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
            host.store.abandoned().await?
        } else {
            Vec::new()
        };
        let abandoned: HashSet<RunId> = abandoned.into_iter().map(|run| run.id).collect();
        if self.newest_first {
            ticks.reverse();
        }
        let now = host.clock.now();
        let planned = |logical_date: DateTime<Utc>| {
            let run = runs.get(&logical_date).copied();
            let (action, reason) = match run {
                None if logical_date > now => (TickAction::Skip, "it is not due yet"),
                None => (TickAction::Create, "it has no run"),
                Some((id, RunState::Pending | RunState::Running)) if abandoned.contains(&id) => (
                    TickAction::Resume,
                    "its run was left by a process that is gone",
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

    /// What is done about a tick whose run is in a state, and why.
    fn of_run(&self, state: RunState) -> (TickAction, &'static str) {
        match (state, self.reprocess) {
            (RunState::Pending | RunState::Running, _) => {
                (TickAction::Skip, "its run is under way")
            }
            (_, Reprocess::All) => (TickAction::Rerun, "all are asked for again"),
            (RunState::Success, _) => (TickAction::Skip, "its run is a success"),
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
        host: &Arc<Inner>,
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
                    Accepted::Started(started) => Ok(Some(started)),
                    Accepted::Taken(_) => Ok(None),
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
                // it is asked for by a task of its own, which goes on where this is dropped
                let guard = cancel.clone().drop_guard();
                let started = host.start_rerun(run, what, cancel).await.map(Some);
                guard.disarm();
                started
            }
            (TickAction::Resume | TickAction::Rerun | TickAction::Skip, _) => Ok(None),
        }
    }
}

/// A run keeps its parameters when it runs again: where others were asked for, that is not what would come of it.
fn other_parameters(call: &FlowCall, run: &RunSummary) -> Error {
    let json = |parameters: &serde_json::Map<_, _>| {
        serde_json::Value::Object(parameters.clone()).to_string()
    };
    let (flow, id, at) = (call.definition.name, run.id, run.logical_date);
    let (recorded, asked) = (json(&run.parameters), json(&call.parameters));
    Error::Options(format!(
        "backfill of `{flow}`: run {id} of {at} would run again with the parameters that it was made with, {recorded}, and \
         {asked} was asked for; give those, or leave its date out"
    ))
}

/// Waits for the end of a run, and cancels it where nobody waits any more.
fn see_through(
    mut tick: BackfillTick,
    started: StartedRun,
) -> impl Future<Output = (BackfillTick, Result<RunState, Error>)> + Send {
    tick.run = Some(started.id);
    // from here on, also where this is dropped before it was polled
    let guard = started.cancel.clone().drop_guard();
    async move {
        let ended = started.end().await;
        guard.disarm();
        (tick, ended.map(|record| record.state()))
    }
}

impl BackfillPlan {
    /// The ticks, in the order in which they are seen to.
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
            "backfill of {flow} by {schedule}: something is to be done about {acted} of {ticks} ticks"
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
    /// The name, as `create`.
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
    /// How many ticks there are in the range.
    pub fn total(&self) -> usize {
        self.total
    }

    /// How many runs were made.
    pub fn created(&self) -> usize {
        self.created
    }

    /// How many runs went on, which no living process executed.
    pub fn resumed(&self) -> usize {
        self.resumed
    }

    /// How many runs ran again.
    pub fn reran(&self) -> usize {
        self.reran
    }

    /// About how many ticks nothing was done.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// For which reasons nothing was done, and about how many ticks each time.
    pub fn skipped_because(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.skipped_because
            .iter()
            .map(|(reason, ticks)| (*reason, *ticks))
    }

    /// How many of the runs are under way.
    pub fn running(&self) -> usize {
        self.running
    }

    /// How many of the runs are a success.
    pub fn succeeded(&self) -> usize {
        self.succeeded
    }

    /// The ticks whose runs are final and no success.
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

    /// A run stays what it is, which keeps no other from running again.
    fn cannot_run_again(&mut self, tick: &BackfillTick, problem: &RerunError) {
        tracing::warn!(tick = %tick.logical_date, "a run of a backfill does not run again: {problem}");
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
