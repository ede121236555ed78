use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::kept;
use crate::deployment::{
    COUNTED, DeploymentRecord, DeploymentSpec, DeploymentVersion, DroppedTicks, DueTicks, ON_TIME,
    Timeline, TimelineSegment, decide,
};
use crate::error::{Error, StoreError};
use crate::executor::Host;
use crate::flow::{Missed, Overlap, Request};
use crate::id::RunId;
use crate::journal::{RunFilter, RunSummary};
use crate::runtime::{Acceptance, TickAcceptance};
use crate::state::{RunKind, RunState};

/// The number of missed ticks whose runs may be active at once if the flow has no limit of its own:
/// Airflow's default of `max_active_runs`.
const MADE_UP_AT_ONCE: u32 = 16;

/// The delay before a run that the store did not accept is tried again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A served deployment. Its due ticks are processed in order, and independently of other
/// deployments.
#[derive(Debug)]
pub(super) struct ServedDeployment {
    pub(super) spec: DeploymentSpec,
    pub(super) missed: Missed,
    pub(super) overlap: Overlap,
    in_force: Mutex<InForce>,
    queue: Mutex<TickQueue>,
    /// Whether ticks got no run because the flow is paused, or because they are to be handed out
    /// again by what is on record. They count as missed once it is unpaused.
    held: AtomicBool,
    /// The active runs that this process created for ticks on time.
    on_time: Arc<Mutex<HashSet<RunId>>>,
    making_up: Arc<Semaphore>,
}

/// What is in force, as far as this process knows.
#[derive(Clone, Debug)]
struct InForce {
    /// The version under which this process creates runs.
    version: DeploymentVersion,
    timeline: Timeline,
    decided: DateTime<Utc>,
    /// The version that other schedules than those of this process have, if they are in force.
    superseded: Option<DeploymentVersion>,
}

/// The queue of due ticks. While `busy` is set, a tokio task works on it.
#[derive(Debug, Default)]
struct TickQueue {
    due: VecDeque<DueTicks>,
    busy: bool,
}

/// The result for a tick.
enum TickOutcome {
    Decided,
    /// The flow is paused, or its ticks are to be handed out again.
    Held,
    /// Another version of the deployment is in force.
    Superseded,
    /// The process stops.
    Stopped,
}

/// A tick that is to get its run.
struct Tick<'a> {
    segment: &'a TimelineSegment,
    at: DateTime<Utc>,
    /// Whether it was missed.
    is_past: bool,
    version: DeploymentVersion,
}

impl InForce {
    fn new(record: &DeploymentRecord, spec: &DeploymentSpec) -> Self {
        let (timeline, problems) = Timeline::new(record, spec);
        for problem in problems {
            tracing::error!(
                flow = %spec.key.flow,
                deployment = spec.key.name.as_deref(),
                "record of the deployment not used as it is: {problem}"
            );
        }
        Self {
            version: record.version,
            timeline,
            decided: record.decided,
            superseded: None,
        }
    }
}

impl ServedDeployment {
    pub(super) fn new(
        spec: DeploymentSpec,
        missed: Missed,
        overlap: Overlap,
        record: &DeploymentRecord,
    ) -> Arc<Self> {
        let at_once = spec
            .call
            .definition
            .max_active_runs
            .unwrap_or(MADE_UP_AT_ONCE);
        Arc::new(Self {
            in_force: Mutex::new(InForce::new(record, &spec)),
            spec,
            missed,
            overlap,
            queue: Mutex::default(),
            held: AtomicBool::new(false),
            on_time: Arc::default(),
            making_up: Arc::new(Semaphore::new(at_once as usize)),
        })
    }

    /// Returns the ticks of the deployment, and the instant up to which they are decided.
    pub(super) fn timeline(&self) -> (Timeline, DateTime<Utc>) {
        let in_force = self.in_force.lock();
        (in_force.timeline.clone(), in_force.decided)
    }

    /// Returns the version under which this process creates runs.
    pub(super) fn version(&self) -> DeploymentVersion {
        self.in_force.lock().version
    }

    /// Returns `true` if ticks were held back by a pause.
    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// Takes back what is known of the time after an instant, to which the clock was set back.
    pub(super) fn set_back(&self, to: DateTime<Utc>) {
        let mut in_force = self.in_force.lock();
        in_force.timeline.rewind(to);
        in_force.decided = in_force.decided.min(to);
    }

    /// Ends the holding back of ticks, which are about to be handed out again from `record` on. The
    /// queue is cleared first.
    pub(super) fn release(&self, record: &DeploymentRecord) {
        self.adopt(record);
        self.let_go();
    }

    /// Ends the holding back of ticks of a deployment that is no longer on record.
    pub(super) fn let_go(&self) {
        self.queue.lock().due.clear();
        self.held.store(false, Ordering::Release);
    }

    /// Queues due ticks, and spawns a task that works on the queue unless one is running.
    pub(super) fn push(self: &Arc<Self>, host: &Arc<Host>, due: DueTicks) {
        // `busy` changes only under the lock that guards the queue: a task that is about to end
        // either sees this entry or has cleared `busy`, so no entry is left without a task
        let mut queue = self.queue.lock();
        queue.due.push_back(due);
        if !std::mem::replace(&mut queue.busy, true) {
            tokio::spawn(Arc::clone(self).work_off(Arc::clone(host)));
        }
    }

    async fn work_off(self: Arc<Self>, host: Arc<Host>) {
        while let Some(due) = self.next_due() {
            let outcome = match self.is_held() {
                // deciding a later tick would record all ticks before it as decided, including
                // those held back
                true => TickOutcome::Held,
                false => self.process(&host, &due).await,
            };
            match outcome {
                TickOutcome::Decided | TickOutcome::Superseded => {}
                TickOutcome::Held => {
                    // before the watch is woken: it would otherwise not report this flow if the
                    // pause has ended meanwhile, and its ticks would stay held back
                    self.queue.lock().due.clear();
                    self.held.store(true, Ordering::Release);
                    host.control.send_replace(());
                }
                TickOutcome::Stopped => return,
            }
        }
    }

    fn next_due(&self) -> Option<DueTicks> {
        let mut queue = self.queue.lock();
        let due = queue.due.pop_front();
        queue.busy = due.is_some();
        due
    }

    /// Processes due ticks under the version that is in force, if that has the schedules of this
    /// process.
    async fn process(&self, host: &Arc<Host>, due: &DueTicks) -> TickOutcome {
        let known = self.in_force.lock().clone();
        if known.superseded.is_none() {
            match self.process_under(host, due, &known).await {
                TickOutcome::Superseded => {}
                other => return other,
            }
        }
        match self.look(host).await {
            // its schedules are in force under another version. These ticks are not all that are
            // undecided under it: deciding them would record those before them as decided, too, so
            // that they were lost if the process dies that is about to make up for them
            Ok(true) => TickOutcome::Held,
            Ok(false) => TickOutcome::Superseded,
            Err(outcome) => outcome,
        }
    }

    async fn process_under(
        &self,
        host: &Arc<Host>,
        due: &DueTicks,
        known: &InForce,
    ) -> TickOutcome {
        let decision = decide(&known.timeline, due, self.missed);
        if let Some(dropped) = &decision.dropped {
            self.log_dropped(dropped);
        }
        for (after, until) in &decision.kept {
            for (segment, after, until) in known.timeline.parts(*after, *until) {
                for at in segment.schedules.ticks(after, until) {
                    let is_past = at < due.on_time;
                    let version = known.version;
                    let tick = Tick {
                        segment,
                        at,
                        is_past,
                        version,
                    };
                    match self.process_tick(host, &tick).await {
                        // recorded after the run was created: a process that dies in between tries
                        // the tick again, which is harmless since a tick has at most one run; in
                        // the other order, the tick would be lost
                        TickOutcome::Decided => self.decided(host, version, at),
                        other => return other,
                    }
                }
            }
        }
        self.decided(host, known.version, due.until);
        TickOutcome::Decided
    }

    async fn process_tick(&self, host: &Arc<Host>, tick: &Tick<'_>) -> TickOutcome {
        let policy = tick.segment.missed.unwrap_or(self.missed);
        let made_up = match tick.is_past && policy != Missed::Latest {
            true => tokio::select! {
                permit = Arc::clone(&self.making_up).acquire_owned() => permit.ok(),
                () = host.stop.soft.cancelled() => return TickOutcome::Stopped,
            },
            false => None,
        };
        self.make_run(host, tick, made_up).await
    }

    /// Records the progress of the deployment. Not if the clock was set back since: the ticks up to
    /// there come again, and count then.
    fn decided(&self, host: &Host, version: DeploymentVersion, up_to: DateTime<Utc>) {
        if up_to <= host.services.clock.now() {
            host.services
                .store
                .record_progress(&self.spec.key, version, up_to.into());
        }
    }

    /// Looks up what is in force. Returns `true` if that is what this process serves.
    async fn look(&self, host: &Host) -> Result<bool, TickOutcome> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.read_record(host).await {
                Ok(Some(record)) => return Ok(self.adopt(&record)),
                Ok(None) => {
                    self.supersede(
                        DeploymentVersion::REMOVED,
                        "it was removed from the record, and is on record again when a process begins to serve it",
                    );
                    return Ok(false);
                }
                Err(error) => tracing::error!(
                    flow = %self.spec.key.flow,
                    deployment = self.spec.key.name.as_deref(),
                    %error,
                    retry_in = ?pause,
                    "cannot read what is in force, retrying"
                ),
            }
            self.wait(host, &mut pause).await?;
        }
    }

    pub(super) async fn read_record(
        &self,
        host: &Host,
    ) -> Result<Option<DeploymentRecord>, StoreError> {
        let key = &self.spec.key;
        let records = host
            .services
            .store
            .list_deployments(Some(&key.flow))
            .await?;
        Ok(records.into_iter().find(|record| record.key == *key))
    }

    /// Takes over what is in force, if that is what this process serves. Otherwise logs once that it
    /// is not, and returns `false`.
    fn adopt(&self, record: &DeploymentRecord) -> bool {
        if self.spec.is_in_force(record) {
            *self.in_force.lock() = InForce::new(record, &self.spec);
            return true;
        }
        self.supersede(
            record.version,
            "another process began to serve it with other schedules or parameters",
        );
        false
    }

    /// Creates no more runs while this version is in force, and logs that once.
    fn supersede(&self, version: DeploymentVersion, why: &str) {
        if self.in_force.lock().superseded.replace(version) != Some(version) {
            tracing::warn!(
                flow = %self.spec.key.flow,
                deployment = self.spec.key.name.as_deref(),
                "deployment superseded, this process creates no runs for its ticks: {why}"
            );
        }
    }

    async fn wait(&self, host: &Host, pause: &mut Duration) -> Result<(), TickOutcome> {
        tokio::select! {
            () = tokio::time::sleep(*pause) => {
                *pause = LONGEST_PAUSE.min(*pause * 2);
                Ok(())
            }
            () = host.stop.soft.cancelled() => Err(TickOutcome::Stopped),
        }
    }

    fn log_dropped(&self, dropped: &DroppedTicks) {
        let ticks = match dropped.ticks {
            COUNTED => format!("more than {COUNTED}"),
            ticks => ticks.to_string(),
        };
        let instant = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        let why = match dropped.policy {
            Missed::Latest => {
                "only the latest missed tick gets a run; `catchup(true)` runs all of them"
                    .to_owned()
            }
            Missed::Within(span) => format!(
                "only missed ticks of the last {} get a run",
                humantime::format_duration(span)
            ),
            Missed::AtMost(runs) => format!("at most {runs} missed ticks get a run"),
            Missed::None | Missed::All => "missed ticks get no run".to_owned(),
        };
        tracing::warn!(
            flow = %self.spec.key.flow,
            deployment = self.spec.key.name.as_deref(),
            %ticks,
            first = %instant(dropped.first),
            last = %instant(dropped.last),
            "missed ticks skipped: {why}",
        );
    }

    /// Creates the run of a tick. Retries for as long as the store fails.
    async fn make_run(
        &self,
        host: &Arc<Host>,
        tick: &Tick<'_>,
        made_up: Option<OwnedSemaphorePermit>,
    ) -> TickOutcome {
        let (flow, deployment) = (&self.spec.key.flow, self.spec.key.name.as_deref());
        let at = tick.at;
        let mut pause = FIRST_PAUSE;
        loop {
            let problem = match self.try_run(host, tick).await {
                Ok(TickAcceptance::Accepted(Acceptance::Started(started))) => {
                    let (run, on_time) = (started.id, Arc::clone(&self.on_time));
                    if !tick.is_past {
                        on_time.lock().insert(run);
                    }
                    // the permit is kept until the run has ended, so that catching up does not
                    // have more active runs than the limit
                    tokio::spawn(async move {
                        started.attend().await;
                        on_time.lock().remove(&run);
                        drop(made_up);
                    });
                    return TickOutcome::Decided;
                }
                Ok(TickAcceptance::Accepted(Acceptance::Taken(run))) => {
                    if !tick.segment.call.has(run.parameters()) {
                        tracing::warn!(
                            %flow,
                            deployment,
                            tick = %at,
                            run = %run.id(),
                            "tick skipped: it already has a run, with other parameters"
                        );
                    }
                    return TickOutcome::Decided;
                }
                Ok(TickAcceptance::Paused) => return TickOutcome::Held,
                Ok(TickAcceptance::Superseded) => return TickOutcome::Superseded,
                Err(SkipReason::Overlap { active }) => {
                    tracing::warn!(
                        %flow, deployment, tick = %at,
                        "tick skipped: {active} run(s) active and `overlap = \"skip\"`"
                    );
                    return TickOutcome::Decided;
                }
                Err(SkipReason::Error(Error::Closed)) => return TickOutcome::Stopped,
                Err(SkipReason::Error(error)) => error,
            };
            if !matches!(problem, Error::Store(_)) {
                tracing::error!(%flow, deployment, tick = %at, error = %problem, "tick skipped");
                return TickOutcome::Decided;
            }
            tracing::error!(
                %flow,
                deployment,
                tick = %at,
                error = %problem,
                retry_in = ?pause,
                "cannot create the run of a tick, retrying"
            );
            if let Err(outcome) = self.wait(host, &mut pause).await {
                return outcome;
            }
        }
    }

    /// Tries to create the run of a tick.
    async fn try_run(
        &self,
        host: &Arc<Host>,
        tick: &Tick<'_>,
    ) -> Result<TickAcceptance, SkipReason> {
        let call = &tick.segment.call;
        // the run of a missed tick waits for its turn: skipped, it would be lost for ever
        if let (Some(most), false) = (call.definition.max_active_runs, tick.is_past)
            && self.overlap != Overlap::Queue
            && !self.has_run(host, tick.at).await?
        {
            // if the tick gets no run, room must not be made for it: that would cancel another run
            // for nothing
            let store = &host.services.store;
            let mut paused = store.list_paused().await?.into_iter();
            if paused.any(|(flow, _)| flow == self.spec.key.flow) {
                return Ok(TickAcceptance::Paused);
            }
            let record = self.read_record(host).await?;
            if record.is_none_or(|record| record.version != tick.version) {
                return Ok(TickAcceptance::Superseded);
            }
            self.make_room(host, kept(tick.at), most).await?;
        }
        let request = Request::of_tick(
            RunKind::Scheduled,
            self.spec.key.name.clone(),
            tick.segment.schedules.interval_of(tick.at),
        );
        Ok(host.accept_tick(call, &request, tick.version).await?)
    }

    async fn has_run(&self, host: &Host, tick: DateTime<Utc>) -> Result<bool, SkipReason> {
        let of_tick = RunFilter::new()
            .flow(self.spec.key.flow.clone())
            .of_deployment(self.spec.key.name.as_deref())
            .since(kept(tick))
            .until(kept(tick))
            .limit(1)
            .kind(RunKind::Scheduled)
            .kind(RunKind::Backfill);
        Ok(!host.services.store.find_runs(&of_tick).await?.is_empty())
    }

    /// Applies the flow's `overlap` to the active runs, so that one more run may start.
    async fn make_room(
        &self,
        host: &Arc<Host>,
        tick: DateTime<Utc>,
        most: u32,
    ) -> Result<(), SkipReason> {
        let (flow, deployment) = (&self.spec.key.flow, self.spec.key.name.as_deref());
        let filter = RunFilter::new()
            .flow(flow.clone())
            .unfinished()
            .oldest_first();
        let filter = filter.kind(RunKind::Manual).kind(RunKind::Scheduled);
        let mut active = host.services.store.find_runs(&filter).await?;
        // another process may have created the run of this tick meanwhile: without this, it would
        // be cancelled to make room for itself
        active.retain(|run| {
            run.kind == RunKind::Manual
                || run.logical_date != tick
                || run.deployment.as_deref() != deployment
        });
        let too_many = (active.len() + 1).saturating_sub(most as usize);
        let cancelled: Vec<&RunSummary> = match self.overlap {
            Overlap::Queue => return Ok(()),
            Overlap::Skip if too_many > 0 => {
                return Err(SkipReason::Overlap {
                    active: active.len(),
                });
            }
            Overlap::Skip => return Ok(()),
            Overlap::CancelRunning => active.iter().take(too_many).collect(),
            Overlap::Latest if too_many == 0 => return Ok(()),
            Overlap::Latest => active
                .iter()
                .filter(|run| self.is_replaceable(run))
                .collect(),
        };
        let policy = match self.overlap {
            Overlap::Latest => "latest",
            _ => "cancel_running",
        };
        for run in cancelled {
            tracing::warn!(
                %flow, deployment, run = %run.id, %tick,
                "run cancelled for the next tick: `overlap = \"{policy}\"`"
            );
            host.request_cancel(run.id).await?;
        }
        Ok(())
    }

    /// Returns `true` if a later tick may take the place of a run: it waits for its turn, by the
    /// clock, and not to make up for a missed tick. Of the runs of other processes, those that were
    /// created late are taken to make up for one.
    fn is_replaceable(&self, run: &RunSummary) -> bool {
        let jitter = self.in_force.lock().timeline.longest_jitter();
        run.state == RunState::Pending
            && run.kind == RunKind::Scheduled
            && run.deployment.as_deref() == self.spec.key.name.as_deref()
            && (run.created_at - run.logical_date <= ON_TIME + jitter
                // created late, because it waited for missed ticks before it
                || self.on_time.lock().contains(&run.id))
    }
}

/// The reason why a tick has no run, or has none yet.
enum SkipReason {
    /// The number of active runs reaches the limit.
    Overlap {
        active: usize,
    },
    Error(Error),
}

impl From<Error> for SkipReason {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<StoreError> for SkipReason {
    fn from(error: StoreError) -> Self {
        Self::Error(error.into())
    }
}
