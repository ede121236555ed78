//! Lanes: tokio tasks that take ready work of a run and run it, one piece after the other.
//!
//! A lane runs bodies in place: a chain of tasks that never wait needs one lane and spawns nothing.
//! A lane whose body waits stays with that body, and another lane is spawned for other ready work.
//! There are thus as many lanes as bodies that wait, plus at most one for each thread. Work that
//! becomes ready when a body ends is taken by the same lane, or by others if there is more of it.

mod cached;
mod job;
mod simulated;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as Cx, Poll};
use std::time::Duration;

use cached::MissingJob;
use job::{PendingTask, Progress};

use super::ambient::AMBIENT;
use super::flight::Flight;
use super::hold::Hold;
use super::live::Live;
use super::run::ActiveRun;
use super::slots::pulse::Pulse;
use super::slots::{GateKey, Slots};
use crate::clock::Timestamp;
use crate::error::{Cause, TaskError};
use crate::failpoint;
use crate::index::GateId;
use crate::panic;
use crate::plan::{End, Instance, Job, Work};
use crate::store::Commit;
use crate::task::{Arg, Elements};
use crate::value::Value;

/// The length of a lane's turn, after which it yields its thread: in microseconds, and in pieces of
/// work in case the clock stands still. A yield costs several microseconds, as much as ten tasks
/// that do nothing.
const TURN_MICROS: i64 = 500;
const TURN_PIECES: u32 = 1024;

/// The number of ended tasks, and the microseconds since the first of them, after which a lane
/// commits before it runs anything else. A chain of tasks commits one by one, since nothing else is
/// ready.
const ENDED_AT_ONCE: usize = 256;
const ENDED_MICROS: i64 = 300;

/// The same limits for batches: longer transactions write fewer pages of the table of cached
/// results.
const BATCH_AT_ONCE: usize = 512;
const BATCH_MICROS: i64 = 2_000;

/// The number of elements that a gather takes under one lock.
const GATHERED_AT_ONCE: u32 = 256;

impl ActiveRun {
    /// Spawns a lane for a gate if there is work for another one. One lane at a time is starting;
    /// it calls this function when it begins, so that lanes are added for as long as there is work.
    pub(crate) fn staff(self: &Arc<Self>, live: &mut Live, gate: GateId) {
        let wanted = live.plan.has_ready(gate) && !live.draining;
        let state = &mut live.gates[gate];
        if !wanted || state.starting || state.active >= self.workers {
            return;
        }
        let Some(hold) = &live.hold else { return };
        state.starting = true;
        self.tokio
            .spawn(run(Arc::clone(self), gate, Arc::clone(hold)));
    }
}

/// Runs a lane of a gate until there is nothing left for it to do.
async fn run(run: Arc<ActiveRun>, gate: GateId, hold: Arc<Hold>) {
    let key = Arc::clone(&run.live.lock().gates[gate].key);
    let alarm = Alarm(Arc::clone(&run));
    let ambient = run.ambient(&key, hold);
    AMBIENT.scope(ambient, work(run, gate, key)).await;
    drop(alarm);
}

/// Runs a lane that takes over the rest of another lane's batch.
async fn take_over(run: Arc<ActiveRun>, gate: GateId, hold: Arc<Hold>, rest: Vec<MissingJob>) {
    let key = Arc::clone(&run.live.lock().gates[gate].key);
    let alarm = Alarm(Arc::clone(&run));
    let ambient = run.ambient(&key, hold);
    let work = async {
        let mut lane = Lane::new(gate, Takes::Batches, run.lane_pulse(&key));
        lane.activate(&mut run.live.lock());
        lane.begin_turn(&run);
        cached::compute(&run, &mut lane, rest, None, &key.uncached()).await;
        cached::work(&run, &mut lane, Vec::new(), &key).await;
        lane.deactivate(&run);
    };
    AMBIENT.scope(ambient, work).await;
    drop(alarm);
}

/// Wakes the conductor if a lane panics: otherwise, the run would wait forever for its work. Panics
/// of user code are caught elsewhere; this is for bugs of the runtime.
struct Alarm(Arc<ActiveRun>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broken.store(true, Ordering::Release);
            self.0.wake.notify_one();
        }
    }
}

async fn work(run: Arc<ActiveRun>, gate: GateId, key: Arc<GateKey>) {
    let takes = match &*key {
        key if *key == GateKey::PLAIN => Takes::Pieces,
        key if key.cached => Takes::Batches,
        _ => Takes::One,
    };
    let mut lane = Lane::new(gate, takes, run.lane_pulse(&key));
    let mut slots = if key.cached {
        Slots::NONE
    } else {
        lane.slots(&run, &key).await
    };
    let (mut job, helped) = lane.begin(&run);
    if helped {
        let_others_help().await;
    }
    lane.begin_turn(&run);
    if takes == Takes::Batches {
        if let Some(job) = job {
            cached::work(&run, &mut lane, vec![job], &key).await;
        }
        return lane.deactivate(&run);
    }
    if takes == Takes::One {
        // these slots are for one body: they must not be kept for the next one, since others may be
        // waiting
        let mut slots = Some(slots);
        if job.is_some() {
            let started = poll_fn(|cx| {
                Poll::Ready(
                    job.take()
                        .map(|job| job::start(&run, &mut lane, job, slots.take(), None, cx)),
                )
            });
            if let Some(Progress::Waits(waiting)) = started.await {
                waiting.end(&run, &mut lane).await;
            }
            lane.settle(&run).await;
        }
        return lane.deactivate(&run);
    }
    loop {
        match poll_fn(|cx| Poll::Ready(lane.step(&run, &mut job, cx))).await {
            LaneStep::Idle => break,
            LaneStep::Over => {
                lane.settle(&run).await;
                slots = lane.take_turns(&run, slots).await;
            }
            LaneStep::Commits(commit) => {
                run.check(commit.wait().await);
                job = lane.tell(&run);
            }
            LaneStep::Waits(waiting) => job = waiting.end(&run, &mut lane).await,
        }
    }
    lane.deactivate(&run);
}

/// The way in which a lane's turn ends.
enum LaneStep {
    /// There is nothing left to do.
    Idle,
    /// Others should have the thread for a while.
    Over,
    /// A body waits for something.
    Waits(Box<PendingTask>),
    /// The ended tasks are being committed by another writer.
    Commits(Commit),
}

/// The amount of work that a lane takes from the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    /// One piece of work after another, with one slot.
    Pieces,
    /// One piece: its slots are for one body.
    One,
    /// Many pieces at once, whose results are looked up together.
    Batches,
}

/// A task whose end is recorded. The plan is updated after the commit: if downstream tasks ran
/// before it, a crash could leave their effects without the end that they depend on.
#[derive(Debug)]
pub(super) struct EndedTask {
    pub(super) at: Instance,
    pub(super) attempts: u16,
    pub(super) took: Duration,
    pub(super) end: End,
    /// The flight of its result, which ends with it.
    pub(super) flight: Option<Flight>,
}

impl EndedTask {
    /// Emits the end and updates the plan. The flight goes to `ended_flights` first: it must not be
    /// dropped while the plan is locked, not even by a panic.
    pub(super) fn tell(self, run: &ActiveRun, live: &mut Live, ended_flights: &mut Vec<Flight>) {
        let Self {
            at,
            attempts,
            took,
            end,
            flight,
        } = self;
        ended_flights.extend(flight);
        if !run.released.load(Ordering::Acquire) {
            if run.host.services.events.is_heard() {
                run.emit_task_end(live, at, end.state(), attempts, took, end.error());
            }
            live.plan.finish(at, end);
        }
    }
}

/// A lane, which takes work of one gate and runs it.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) gate: GateId,
    pub(super) pulse: Arc<Pulse>,
    takes: Takes,
    /// Whether the gate counts it among its active lanes.
    active: bool,
    /// The time at which it last read the clock.
    pub(super) now: Timestamp,
    pieces: u32,
    turn_began: Timestamp,
    /// Values to be dropped after the lock is released, since their `Drop` is user code.
    garbage: Vec<Value>,
    /// Flights to be ended after the lock is released: ending one locks the runs that wait for it.
    pub(super) ended_flights: Vec<Flight>,
    /// Ended tasks that are not committed yet.
    ended: Vec<EndedTask>,
    first_ended: Timestamp,
}

impl Lane {
    fn new(gate: GateId, takes: Takes, pulse: Arc<Pulse>) -> Self {
        Self {
            gate,
            pulse,
            takes,
            active: false,
            now: Timestamp::EPOCH,
            pieces: 0,
            turn_began: Timestamp::EPOCH,
            garbage: Vec::new(),
            ended_flights: Vec::new(),
            ended: Vec::new(),
            first_ended: Timestamp::EPOCH,
        }
    }

    /// Takes the first piece of work. Returns `true` with it if another lane was spawned for the
    /// rest.
    fn begin(&mut self, run: &Arc<ActiveRun>) -> (Option<Job>, bool) {
        let live = &mut *run.live.lock();
        let gate = &mut live.gates[self.gate];
        gate.starting = false;
        gate.active += 1;
        self.active = true;
        let job = if live.draining {
            None
        } else {
            live.plan.next(self.gate)
        };
        run.flush(live);
        let helped = live.gates[self.gate].starting;
        if job.is_none() {
            self.step_aside(live);
        }
        (job, helped)
    }

    /// Takes the next piece of work, under the lock.
    pub(super) fn take(&mut self, run: &Arc<ActiveRun>, live: &mut Live) -> Option<Job> {
        let job = match self.takes {
            Takes::Pieces if !self.is_superfluous(run, live) => live.plan.next(self.gate),
            _ => None,
        };
        // a lane that takes batches stays active until its whole batch has ended
        if job.is_none() && self.takes != Takes::Batches {
            self.step_aside(live);
        }
        run.flush(live);
        std::mem::swap(&mut self.garbage, &mut live.plan.garbage);
        job
    }

    /// Takes a batch of at most as many pieces of work as the gate allows. Takes nothing if other
    /// lanes handle the rest.
    pub(super) fn take_batch(&mut self, run: &Arc<ActiveRun>, batch: &mut Vec<Job>) {
        {
            let live = &mut *run.live.lock();
            let at_most = live.gates[self.gate].batch;
            if !batch.is_empty() || !self.is_superfluous(run, live) {
                while batch.len() < at_most
                    && let Some(job) = live.plan.next(self.gate)
                {
                    batch.push(job);
                }
            }
            if batch.is_empty() {
                self.step_aside(live);
            }
            run.flush(live);
            std::mem::swap(&mut self.garbage, &mut live.plan.garbage);
        }
        self.garbage.clear();
    }

    /// Returns `true` if this lane should take no more work: after a wait, more lanes may be active
    /// than are worth having.
    fn is_superfluous(&self, run: &ActiveRun, live: &Live) -> bool {
        live.draining || live.gates[self.gate].active > run.workers
    }

    /// Takes a task whose end is recorded. Returns the next piece of work if it can run before the
    /// commit.
    pub(super) fn ended(
        &mut self,
        run: &Arc<ActiveRun>,
        live: &mut Live,
        ended: EndedTask,
    ) -> Option<Job> {
        if self.ended.is_empty() {
            self.first_ended = self.now;
        }
        self.ended.push(ended);
        if self.is_to_settle() || self.takes != Takes::Pieces || live.draining {
            return None;
        }
        let job = live.plan.next(self.gate);
        run.flush(live);
        job
    }

    /// Returns `true` if the ended tasks should be committed before anything else runs.
    pub(super) fn is_to_settle(&self) -> bool {
        let (at_once, micros) = match self.takes {
            Takes::Batches => (BATCH_AT_ONCE, BATCH_MICROS),
            Takes::Pieces | Takes::One => (ENDED_AT_ONCE, ENDED_MICROS),
        };
        self.ended.len() >= at_once
            || (!self.ended.is_empty() && self.now.micros_since(self.first_ended) >= micros)
    }

    /// Commits the ended tasks and updates the plan.
    pub(super) async fn settle(&mut self, run: &Arc<ActiveRun>) {
        if !self.ended.is_empty() {
            run.check(run.log.commit().wait().await);
            let live = &mut *run.live.lock();
            self.tell_plan(run, live);
            run.flush(live);
        }
        self.drop_leftovers();
    }

    /// Drops values and ends flights. Must not be called under the lock.
    pub(super) fn drop_leftovers(&mut self) {
        self.garbage.clear();
        Flight::end_all(&mut self.ended_flights);
    }

    /// Updates the plan with the ended tasks, which are committed, and takes the next piece of
    /// work.
    pub(super) fn tell(&mut self, run: &Arc<ActiveRun>) -> Option<Job> {
        let live = &mut *run.live.lock();
        self.tell_plan(run, live);
        self.activate(live);
        self.take(run, live)
    }

    fn tell_plan(&mut self, run: &Arc<ActiveRun>, live: &mut Live) {
        failpoint::hit("end-committed");
        let flights = self
            .ended
            .iter_mut()
            .filter_map(|ended| ended.flight.take());
        self.ended_flights.extend(flights);
        for ended in self.ended.drain(..) {
            ended.tell(run, live, &mut self.ended_flights);
        }
        failpoint::hit("plan-told");
    }

    /// Marks the lane as inactive, so that another one may be spawned.
    fn step_aside(&mut self, live: &mut Live) {
        if std::mem::take(&mut self.active) {
            live.gates[self.gate].active -= 1;
        }
    }

    /// Marks the lane as inactive before it waits or ends, and spawns another one if there is work.
    pub(super) fn deactivate(&mut self, run: &Arc<ActiveRun>) {
        let live = &mut *run.live.lock();
        self.step_aside(live);
        run.staff(live, self.gate);
    }

    /// Marks the lane as active again after its body's wait.
    pub(super) fn activate(&mut self, live: &mut Live) {
        if !std::mem::replace(&mut self.active, true) {
            live.gates[self.gate].active += 1;
        }
    }

    /// Works until something waits or the turn is over.
    fn step(&mut self, run: &Arc<ActiveRun>, job: &mut Option<Job>, cx: &mut Cx<'_>) -> LaneStep {
        loop {
            while let Some(piece) = job.take() {
                *job = if matches!(piece.work, Work::Task { .. }) {
                    match job::start(run, self, piece, None, None, cx) {
                        Progress::Ended(next) => next,
                        Progress::Waits(waiting) => return LaneStep::Waits(waiting),
                    }
                } else {
                    machinery(run, piece);
                    self.take(run, &mut run.live.lock())
                };
                self.garbage.clear();
                if self.had_its_turn() && job.is_some() {
                    return LaneStep::Over;
                }
            }
            if self.ended.is_empty() {
                return LaneStep::Idle;
            }
            // nothing else is ready, but the ended tasks may make more work ready
            match run.log.commit() {
                Commit::Done(committed) => {
                    run.check(committed);
                    *job = self.tell(run);
                    self.garbage.clear();
                }
                waiting @ Commit::Waiting(_) => return LaneStep::Commits(waiting),
            }
        }
    }

    fn begin_turn(&mut self, run: &ActiveRun) {
        self.now = run.clock.timestamp();
        (self.pieces, self.turn_began) = (0, self.now);
    }

    pub(super) fn had_its_turn(&mut self) -> bool {
        self.pieces += 1;
        self.pieces >= TURN_PIECES || self.now.micros_since(self.turn_began) >= TURN_MICROS
    }

    /// Yields the thread.
    pub(super) async fn yield_turn(&mut self) {
        tokio::task::yield_now().await;
        self.pieces = 0;
        self.turn_began = self.now;
    }

    /// Yields the thread, and also the slot if a body waits for one.
    async fn take_turns(&mut self, run: &ActiveRun, slots: Slots) -> Slots {
        self.yield_turn().await;
        if !run.host.admission.limits.has_waiters() {
            return slots;
        }
        drop(slots);
        self.slots(run, &GateKey::PLAIN).await
    }

    /// Waits for the slots of a gate.
    pub(super) async fn slots(&self, run: &ActiveRun, gate: &GateKey) -> Slots {
        run.host
            .admission
            .limits
            .acquire(gate, run.facts.flow, &self.pulse)
            .await
    }

    /// Takes the slots of a gate if they are free.
    pub(super) fn try_slots(&self, run: &ActiveRun, gate: &GateKey) -> Option<Slots> {
        run.host
            .admission
            .limits
            .try_acquire(gate, run.facts.flow, &self.pulse)
    }
}

/// Opens a mapping, or collects its results.
fn machinery(run: &Arc<ActiveRun>, job: Job) {
    match job.work {
        Work::Open { spec, lists } => {
            let worked_out = panic::catch(|| {
                let lists = lists.into_iter().map(Arg::into_value).collect();
                let elements = Elements { lists, spec };
                let len = (elements.spec.length)(&elements.lists);
                (elements, len)
            });
            let mut live = run.live.lock();
            match worked_out {
                Ok((elements, Ok(len))) => match u32::try_from(len) {
                    Ok(len) => live.plan.list_came(job.at, Arc::new(elements), len),
                    Err(_) => live.plan.fail(
                        job.at,
                        failed(format!("a list of {len} elements is too long")),
                    ),
                },
                Ok((_, Err(problem))) => live.plan.fail(job.at, failed(problem)),
                Err(panicked) => {
                    live.plan
                        .fail(job.at, End::Failed(TaskError::panicked(&panicked)));
                }
            }
            // under the same lock as the change: otherwise another thread could find the plan done
            // while this part of it is not recorded
            run.flush(&mut live);
        }
        Work::Gather(gathering) => {
            let collected = panic::catch(|| {
                let mut elements = GatheredElements {
                    run,
                    gathering: &gathering,
                    next: 0,
                    taken: None,
                };
                (gathering.collect)(&mut elements)
            });
            let mut live = run.live.lock();
            match collected {
                Ok(value) => live.plan.gathered(job.at, &gathering, value),
                Err(panicked) => {
                    live.plan
                        .fail(job.at, End::Failed(TaskError::panicked(&panicked)));
                }
            }
            run.flush(&mut live);
        }
        Work::Task { .. } => unreachable!("a task is no machinery"),
    }
}

fn failed(problem: String) -> End {
    End::Failed(TaskError::new(Cause::Failed, problem))
}

/// The elements of a gather, taken in portions.
struct GatheredElements<'a> {
    run: &'a ActiveRun,
    gathering: &'a crate::plan::Gathering,
    next: u32,
    taken: Option<smallvec::IntoIter<[crate::task::NodeOutcome; 64]>>,
}

impl Iterator for GatheredElements<'_> {
    type Item = crate::task::NodeOutcome;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(resolved) = self.taken.as_mut().and_then(Iterator::next) {
                return Some(self.gathering.project(resolved));
            }
            if self.next >= self.gathering.len {
                return None;
            }
            let end = (self.next + GATHERED_AT_ONCE).min(self.gathering.len);
            // cloning the elements of a list is user code, which must not run under the lock
            let taken = match self.gathering.elements(self.next..end) {
                Some(elements) => elements,
                None => self
                    .run
                    .live
                    .lock()
                    .plan
                    .take_elements(self.gathering, self.next..end),
            };
            self.taken = Some(taken.into_iter());
            self.next = end;
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let taken = self.taken.as_ref().map_or(0, ExactSizeIterator::len);
        let left = (self.gathering.len - self.next) as usize + taken;
        (left, Some(left))
    }
}

/// Moves this task to the back of the thread's queue, from where other threads can take it, and
/// wakes one of them. A task that was just spawned is in a place that other threads cannot take
/// from until the current task yields.
async fn let_others_help() {
    let mut asked = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
