use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::missed::{COUNTED, DroppedTicks, TickDecision, decide};
use super::ticker::DueTicks;
use crate::clock::kept;
use crate::error::{Error, StoreError};
use crate::executor::Host;
use crate::flow::{FlowCall, FlowDef, Missed, Overlap, Request};
use crate::journal::RunFilter;
use crate::runtime::Acceptance;
use crate::schedule::Schedule;
use crate::state::RunKind;
use crate::store::ScheduleKey;

/// The number of missed ticks whose runs may be active at once if the flow has no limit of its own:
/// Airflow's default of `max_active_runs`.
const MADE_UP_AT_ONCE: u32 = 16;

/// The delay before a run that the store did not accept is tried again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A served flow. Its due ticks are processed in order, and independently of other flows.
#[derive(Debug)]
pub(super) struct ServedFlow {
    pub(super) definition: &'static FlowDef,
    pub(super) schedules: Vec<ServedSchedule>,
    pub(super) missed: Missed,
    pub(super) overlap: Overlap,
    queue: Mutex<TickQueue>,
    /// Whether ticks got no run because the flow is paused. They count as missed once it is
    /// unpaused.
    held: AtomicBool,
    making_up: Arc<Semaphore>,
}

#[derive(Debug)]
pub(super) struct ServedSchedule {
    pub(super) schedule: Schedule,
    pub(super) key: ScheduleKey,
    /// The flow with the schedule's parameters.
    pub(super) call: Arc<FlowCall>,
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
    /// The flow is paused.
    Held,
    /// The process stops.
    Stopped,
}

impl ServedFlow {
    pub(super) fn new(
        definition: &'static FlowDef,
        schedules: Vec<ServedSchedule>,
        missed: Missed,
        overlap: Overlap,
    ) -> Arc<Self> {
        let at_once = definition.max_active_runs.unwrap_or(MADE_UP_AT_ONCE);
        let making_up = Arc::new(Semaphore::new(at_once as usize));
        let (queue, held) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Self {
            definition,
            schedules,
            missed,
            overlap,
            queue,
            held,
            making_up,
        })
    }

    /// Returns `true` if ticks were held back by a pause.
    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// Ends the holding back of ticks. The queue is cleared first, since the ticks held back are
    /// about to be handed out again.
    pub(super) fn release(&self) {
        self.queue.lock().due.clear();
        self.held.store(false, Ordering::Release);
    }

    /// Queues due ticks, and spawns a task that works on the queue unless one is running.
    /// `due.schedule` is an index into the flow's own schedules.
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
        loop {
            let Some(due) = self.next_due() else { return };
            let tick = match self.is_held() {
                // deciding a later tick would record all ticks before it as decided, including
                // those held back
                true => TickOutcome::Held,
                false => {
                    let decision =
                        decide(&self.schedules[due.schedule].schedule, &due, self.missed);
                    self.process(&host, &due, &decision).await
                }
            };
            match tick {
                TickOutcome::Decided => {}
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

    async fn process(
        &self,
        host: &Arc<Host>,
        due: &DueTicks,
        decision: &TickDecision,
    ) -> TickOutcome {
        let served = &self.schedules[due.schedule];
        if let Some(dropped) = &decision.dropped {
            self.log_dropped(served, dropped);
        }
        for tick in served
            .schedule
            .after(decision.after)
            .take_while(|tick| *tick <= decision.until)
        {
            let made_up = match self.missed == Missed::All && tick < due.on_time {
                true => tokio::select! {
                    permit = Arc::clone(&self.making_up).acquire_owned() => permit.ok(),
                    () = host.stop.soft.cancelled() => return TickOutcome::Stopped,
                },
                false => None,
            };
            match self.make_run(host, served, tick, made_up).await {
                // recorded after the run was created: a process that dies in between tries the
                // tick again, which is harmless since a tick has at most one run; in the other
                // order, the tick would be lost
                TickOutcome::Decided => Self::decided(host, served, tick),
                other => return other,
            }
        }
        Self::decided(host, served, decision.until);
        TickOutcome::Decided
    }

    /// Records the progress of a schedule. Not if the clock was set back since: the ticks up to
    /// there come again, and count then.
    fn decided(host: &Host, served: &ServedSchedule, up_to: DateTime<Utc>) {
        if up_to <= host.services.clock.now() {
            host.services
                .store
                .record_progress(&served.key, up_to.into());
        }
    }

    fn log_dropped(&self, served: &ServedSchedule, dropped: &DroppedTicks) {
        let ticks = match dropped.ticks {
            COUNTED => format!("more than {COUNTED}"),
            ticks => ticks.to_string(),
        };
        let instant = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let why = match self.missed {
            Missed::Latest => {
                "only the latest missed tick gets a run; `catchup(true)` runs all of them"
            }
            _ => "missed ticks get no run",
        };
        tracing::warn!(
            flow = self.definition.name,
            schedule = %served.schedule,
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
        served: &ServedSchedule,
        tick: DateTime<Utc>,
        made_up: Option<OwnedSemaphorePermit>,
    ) -> TickOutcome {
        let mut pause = FIRST_PAUSE;
        loop {
            let problem = match self.try_run(host, served, tick).await {
                Ok(Some(Acceptance::Started(started))) => {
                    // the permit is kept until the run has ended, so that catching up does not
                    // have more active runs than the limit
                    tokio::spawn(async move {
                        started.attend().await;
                        drop(made_up);
                    });
                    return TickOutcome::Decided;
                }
                Ok(Some(Acceptance::Taken(run))) => {
                    if *run.parameters() != served.call.parameters {
                        tracing::warn!(
                            flow = self.definition.name,
                            schedule = %served.schedule,
                            %tick,
                            run = %run.id(),
                            "tick skipped: it already has a run, with other parameters"
                        );
                    }
                    return TickOutcome::Decided;
                }
                Ok(None) => return TickOutcome::Held,
                Err(SkipReason::Overlap { active }) => {
                    tracing::warn!(
                        flow = self.definition.name, schedule = %served.schedule, %tick,
                        "tick skipped: {active} run(s) active and `overlap = \"skip\"`"
                    );
                    return TickOutcome::Decided;
                }
                Err(SkipReason::Error(Error::Closed)) => return TickOutcome::Stopped,
                Err(SkipReason::Error(error)) => error,
            };
            if !matches!(problem, Error::Store(_)) {
                tracing::error!(
                    flow = self.definition.name,
                    schedule = %served.schedule,
                    %tick,
                    error = %problem,
                    "tick skipped"
                );
                return TickOutcome::Decided;
            }
            tracing::error!(
                flow = self.definition.name,
                schedule = %served.schedule,
                %tick,
                error = %problem,
                retry_in = ?pause,
                "cannot create the run of a tick, retrying"
            );
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = LONGEST_PAUSE.min(pause * 2),
                () = host.stop.soft.cancelled() => return TickOutcome::Stopped,
            }
        }
    }

    /// Tries to create the run of a tick. Returns `None` if the flow is paused.
    async fn try_run(
        &self,
        host: &Arc<Host>,
        served: &ServedSchedule,
        tick: DateTime<Utc>,
    ) -> Result<Option<Acceptance>, SkipReason> {
        if let (Some(most), Overlap::Skip | Overlap::CancelRunning) =
            (self.definition.max_active_runs, self.overlap)
        {
            let of_tick = RunFilter::new()
                .flow(self.definition.name)
                .since(kept(tick))
                .until(kept(tick))
                .limit(1);
            let has_run = !host
                .services
                .store
                .find_runs(&of_tick.kind(RunKind::Scheduled).kind(RunKind::Backfill))
                .await?
                .is_empty();
            // if the tick has a run already or gets none, room must not be made for it: that would
            // cancel another run for nothing
            if !has_run {
                if host
                    .services
                    .store
                    .list_paused()
                    .await?
                    .iter()
                    .any(|(flow, _)| flow == self.definition.name)
                {
                    return Ok(None);
                }
                self.make_room(host, kept(tick), most).await?;
            }
        }
        let request = Request::of_tick(RunKind::Scheduled, &served.schedule, tick);
        Ok(host.accept_tick(&served.call, &request).await?)
    }

    /// Applies the flow's `overlap` to the active runs, so that one more run may start.
    async fn make_room(
        &self,
        host: &Arc<Host>,
        tick: DateTime<Utc>,
        most: u32,
    ) -> Result<(), SkipReason> {
        let filter = RunFilter::new()
            .flow(self.definition.name)
            .unfinished()
            .oldest_first();
        let filter = filter.kind(RunKind::Manual).kind(RunKind::Scheduled);
        let mut active = host.services.store.find_runs(&filter).await?;
        // another process may have created the run of this tick meanwhile: without this, it would
        // be cancelled to make room for itself
        active.retain(|run| run.kind == RunKind::Manual || run.logical_date != tick);
        let too_many = (active.len() + 1).saturating_sub(most as usize);
        match self.overlap {
            Overlap::Skip if too_many > 0 => {
                return Err(SkipReason::Overlap {
                    active: active.len(),
                });
            }
            Overlap::CancelRunning => {
                for run in &active[..too_many.min(active.len())] {
                    tracing::warn!(
                        flow = self.definition.name, run = %run.id, %tick,
                        "run cancelled for the next tick: `overlap = \"cancel_running\"`"
                    );
                    host.request_cancel(run.id).await?;
                }
            }
            _ => {}
        }
        Ok(())
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
