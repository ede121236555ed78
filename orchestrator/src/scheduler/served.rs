use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::missed::{COUNTED, Decision, Dropped, decide};
use super::ticker::Due;
use crate::clock::kept;
use crate::error::{Error, StoreError};
use crate::flow::{FlowCall, FlowDef, Missed, Overlap, Request};
use crate::runtime::{Accepted, Inner};
use crate::schedule::Schedule;
use crate::state::RunKind;
use crate::store::{RunFilter, ScheduleKey};

/// How many runs that are made up for may be under way, where the flow has no limit of its own: Airflow's default of
/// `max_active_runs`.
const MADE_UP_AT_ONCE: u32 = 16;

/// How long it takes until a run is tried again that the store did not accept: twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A flow that is served. What is due of its schedules is seen to in order, and apart from other flows.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) definition: &'static FlowDef,
    pub(super) schedules: Vec<ServedSchedule>,
    pub(super) missed: Missed,
    pub(super) overlap: Overlap,
    lane: Mutex<Lane>,
    /// Ticks got no run since the flow was paused: when it is not any more, they were missed.
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

/// What is due. Somebody sees to it as long as `busy` is set.
#[derive(Debug, Default)]
struct Lane {
    due: VecDeque<Due>,
    busy: bool,
}

/// What became of a tick.
enum Tick {
    Decided,
    /// The flow is paused.
    Held,
    /// The process stops.
    Stopped,
}

impl Served {
    pub(super) fn new(
        definition: &'static FlowDef,
        schedules: Vec<ServedSchedule>,
        missed: Missed,
        overlap: Overlap,
    ) -> Arc<Self> {
        let at_once = definition.max_active_runs.unwrap_or(MADE_UP_AT_ONCE);
        let making_up = Arc::new(Semaphore::new(at_once as usize));
        let (lane, held) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Self {
            definition,
            schedules,
            missed,
            overlap,
            lane,
            held,
            making_up,
        })
    }

    /// Whether ticks were held back by a pause.
    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// Holds no ticks back any more: those that were are about to be handed out again.
    pub(super) fn release(&self) {
        self.lane.lock().due.clear();
        self.held.store(false, Ordering::Release);
    }

    /// Sees to what is due, some time soon. `due.schedule` counts the flow's own schedules.
    pub(super) fn push(self: &Arc<Self>, host: &Arc<Inner>, due: Due) {
        let mut lane = self.lane.lock();
        lane.due.push_back(due);
        if !std::mem::replace(&mut lane.busy, true) {
            tokio::spawn(Arc::clone(self).see_to_all(Arc::clone(host)));
        }
    }

    async fn see_to_all(self: Arc<Self>, host: Arc<Inner>) {
        loop {
            let Some(due) = self.next_due() else { return };
            let tick = match self.is_held() {
                // a later tick that was decided before them would say that those before it are decided, too
                true => Tick::Held,
                false => {
                    let decision =
                        decide(&self.schedules[due.schedule].schedule, &due, self.missed);
                    self.see_to(&host, &due, &decision).await
                }
            };
            match tick {
                Tick::Decided => {}
                Tick::Held => {
                    self.lane.lock().due.clear();
                    self.held.store(true, Ordering::Release);
                    host.control.send_replace(());
                }
                Tick::Stopped => return,
            }
        }
    }

    fn next_due(&self) -> Option<Due> {
        let mut lane = self.lane.lock();
        let due = lane.due.pop_front();
        lane.busy = due.is_some();
        due
    }

    async fn see_to(&self, host: &Arc<Inner>, due: &Due, decision: &Decision) -> Tick {
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
                    () = host.stop.soft.cancelled() => return Tick::Stopped,
                },
                false => None,
            };
            match self.make_run(host, served, tick, made_up).await {
                Tick::Decided => Self::decided(host, served, tick),
                other => return other,
            }
        }
        Self::decided(host, served, decision.until);
        Tick::Decided
    }

    /// Records how far a schedule has come; not where the clock was set back since, since what comes again counts.
    fn decided(host: &Inner, served: &ServedSchedule, up_to: DateTime<Utc>) {
        if up_to <= host.clock.now() {
            host.store.decide(&served.key, up_to.timestamp_micros());
        }
    }

    fn log_dropped(&self, served: &ServedSchedule, dropped: &Dropped) {
        let ticks = match dropped.ticks {
            COUNTED => format!("more than {COUNTED}"),
            ticks => ticks.to_string(),
        };
        let instant = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let kept = match self.missed {
            Missed::Latest => {
                "only the latest missed tick gets one: `catchup(true)` gives one to each"
            }
            _ => "no missed tick gets one",
        };
        tracing::warn!(
            flow = self.definition.name,
            schedule = %served.schedule,
            "{ticks} tick(s) from {} to {} were missed and get no run; {kept}",
            instant(dropped.first),
            instant(dropped.last),
        );
    }

    /// Makes the run of a tick, and tries again for as long as the store fails.
    async fn make_run(
        &self,
        host: &Arc<Inner>,
        served: &ServedSchedule,
        tick: DateTime<Utc>,
        made_up: Option<OwnedSemaphorePermit>,
    ) -> Tick {
        let mut pause = FIRST_PAUSE;
        loop {
            let problem = match self.try_run(host, served, tick).await {
                Ok(Some(Accepted::Started(started))) => {
                    tokio::spawn(async move {
                        started.attend().await;
                        drop(made_up);
                    });
                    return Tick::Decided;
                }
                Ok(Some(Accepted::Taken(run))) => {
                    if *run.parameters() != served.call.parameters {
                        tracing::warn!(
                            flow = self.definition.name, schedule = %served.schedule, %tick,
                            "a tick has no run with the parameters of its schedule: run {} of the same instant has \
                             others, and an instant has one run", run.id()
                        );
                    }
                    return Tick::Decided;
                }
                Ok(None) => return Tick::Held,
                Err(Skipped::Overlap { active }) => {
                    tracing::warn!(
                        flow = self.definition.name, schedule = %served.schedule, %tick,
                        "a tick gets no run: {active} run(s) of its flow are under way, and its `overlap` is skip"
                    );
                    return Tick::Decided;
                }
                Err(Skipped::Error(Error::Closed)) => return Tick::Stopped,
                Err(Skipped::Error(error)) => error,
            };
            if !matches!(problem, Error::Store(_)) {
                tracing::error!(flow = self.definition.name, %tick, "a tick gets no run: {problem}");
                return Tick::Decided;
            }
            tracing::error!(flow = self.definition.name, %tick, "a run was not accepted, next try in {pause:?}: {problem}");
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = LONGEST_PAUSE.min(pause * 2),
                () = host.stop.soft.cancelled() => return Tick::Stopped,
            }
        }
    }

    /// None where the flow is paused.
    async fn try_run(
        &self,
        host: &Arc<Inner>,
        served: &ServedSchedule,
        tick: DateTime<Utc>,
    ) -> Result<Option<Accepted>, Skipped> {
        if let (Some(most), Overlap::Skip | Overlap::CancelRunning) =
            (self.definition.max_active_runs, self.overlap)
        {
            let of_tick = RunFilter::new()
                .flow(self.definition.name)
                .since(kept(tick))
                .until(kept(tick))
                .limit(1);
            let has_run = !host
                .store
                .summaries(&of_tick.kind(RunKind::Scheduled).kind(RunKind::Backfill))
                .await?
                .is_empty();
            // neither where the tick has its run, nor where it gets none, there is anything to make room for
            if !has_run {
                if host
                    .store
                    .paused()
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

    /// Sees to it that one more run of the flow may be under way, by what its `overlap` says.
    async fn make_room(
        &self,
        host: &Arc<Inner>,
        tick: DateTime<Utc>,
        most: u32,
    ) -> Result<(), Skipped> {
        let filter = RunFilter::new()
            .flow(self.definition.name)
            .unfinished()
            .oldest_first();
        let filter = filter.kind(RunKind::Manual).kind(RunKind::Scheduled);
        let mut active = host.store.summaries(&filter).await?;
        // another process may have made the run of the tick meanwhile: it is not to make room for itself
        active.retain(|run| run.kind == RunKind::Manual || run.logical_date != tick);
        let too_many = (active.len() + 1).saturating_sub(most as usize);
        match self.overlap {
            Overlap::Skip if too_many > 0 => {
                return Err(Skipped::Overlap {
                    active: active.len(),
                });
            }
            Overlap::CancelRunning => {
                for run in &active[..too_many.min(active.len())] {
                    tracing::warn!(
                        flow = self.definition.name, run = %run.id, %tick,
                        "a run is cancelled for the next one: its flow's `overlap` is cancel_running"
                    );
                    host.request_cancel(run.id).await?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Why a tick has no run, or not yet.
enum Skipped {
    /// So many runs are under way.
    Overlap {
        active: usize,
    },
    Error(Error),
}

impl From<Error> for Skipped {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<StoreError> for Skipped {
    fn from(error: StoreError) -> Self {
        Self::Error(error.into())
    }
}
