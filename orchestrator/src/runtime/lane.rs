//! Lanes: tokio tasks that take ready work of a run and run it, one piece after the other.
//!
//! A lane runs bodies in place: a chain of tasks that never wait needs one lane and spawns nothing. A lane whose body
//! waits stays with that body; another lane is spawned for what else is ready. So there are as many lanes as there are
//! bodies waiting, and at most one more for each thread. What a body's end makes ready is taken by the same lane, or by
//! others if there is more.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as Cx, Poll};

use super::attempt::{self, Attempt, Started, Waiting};
use super::cached::{self, Flight};
use super::limits::{GateKey, Slots};
use super::live::{Live, RunCore};
use super::plan::{End, Job, Work};
use super::{Inner, panic};
use crate::error::{Cause, TaskError};
use crate::failpoint;
use crate::store::Commit;
use crate::task::{Arg, Elements};
use crate::value::Value;

tokio::task_local! {
    /// Where the body is running: what it awaits runs on the same runtime.
    pub(super) static AMBIENT: Ambient;
}

/// Where a body is running.
#[derive(Clone, Debug)]
pub(super) struct Ambient {
    pub(super) runtime: Arc<Inner>,
    /// The pools of which the body, and those that wait for it, have slots.
    pub(super) held: Vec<&'static str>,
    /// The flows of the runs that the body, and those that wait for it, are part of.
    pub(super) flows: Vec<&'static str>,
    /// Whether it is the body of a task, with a slot, rather than of a flow.
    pub(super) in_task: bool,
}

impl Ambient {
    pub(super) fn of(run: &RunCore, gate: &GateKey) -> Self {
        let mut held = run.held.clone();
        held.extend(gate.pool.map(|(name, _)| name));
        Self {
            runtime: Arc::clone(&run.runtime),
            held,
            flows: run.flows.clone(),
            in_task: true,
        }
    }
}

/// How long a lane works before it lets others have the thread: so many microseconds, and so many pieces of work where
/// the clock stands still. A yield costs several microseconds, as much as ten tasks that do nothing.
const TURN_MICROS: i64 = 500;
const TURN_PIECES: u32 = 1024;

/// How much a lane lets end before it commits that: so many tasks, or what ends in so many microseconds. A chain of tasks
/// commits one by one, since nothing else is ready.
const ENDED_AT_ONCE: usize = 256;
const ENDED_MICROS: i64 = 300;

/// How many elements a gather takes at a time.
const GATHERED_AT_ONCE: u32 = 256;

/// Runs a lane of one gate, until there is nothing more for it to do.
pub(super) async fn run(run: Arc<RunCore>, gate: u32) {
    let key = Arc::clone(&run.live.lock().gates[gate as usize].key);
    let alarm = Alarm(Arc::clone(&run));
    let ambient = Ambient::of(&run, &key);
    AMBIENT.scope(ambient, work(run, gate, key)).await;
    drop(alarm);
}

/// A lane that panics must not leave its run waiting for ever. Users' code is caught elsewhere: this is for our own, and
/// for values whose `Drop` panics.
struct Alarm(Arc<RunCore>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broken.store(true, Ordering::Release);
            self.0.wake.notify_one();
        }
    }
}

async fn work(run: Arc<RunCore>, gate: u32, key: Arc<GateKey>) {
    let plain = *key == GateKey::PLAIN;
    let mut lane = Lane::new(gate, plain);
    let mut slots = if key.cached {
        Slots::NONE
    } else {
        run.runtime.limits.acquire(&key, run.nested).await
    };
    let (mut job, helped) = lane.begin(&run);
    if helped {
        let_others_help().await;
    }
    lane.now = run.runtime.clock.micros();
    lane.turn_began = lane.now;
    if key.cached {
        if let Some(job) = job {
            cached::see_to(&run, &mut lane, job, &key).await;
            lane.settle(&run).await;
        }
        return lane.wait(&run);
    }
    if !plain {
        // these slots are for one body: others may be waiting for them
        let mut slots = Some(slots);
        if job.is_some() {
            let started = poll_fn(|cx| {
                Poll::Ready(
                    job.take()
                        .map(|job| attempt::start(&run, &mut lane, job, slots.take(), cx)),
                )
            });
            if let Some(Started::Waits(waiting)) = started.await {
                waiting.end(&run, &mut lane).await;
            }
            lane.settle(&run).await;
        }
        return lane.wait(&run);
    }
    loop {
        match poll_fn(|cx| Poll::Ready(lane.turn(&run, &mut job, cx))).await {
            Turn::Idle => break,
            Turn::Over => {
                lane.settle(&run).await;
                slots = lane.take_turns(&run, slots).await;
            }
            Turn::Commits(commit) => {
                run.check(commit.wait().await);
                job = lane.tell(&run);
            }
            Turn::Waits(waiting) => job = waiting.end(&run, &mut lane).await,
        }
    }
    lane.wait(&run);
}

/// How a lane's turn ends.
enum Turn {
    /// There is nothing to do.
    Idle,
    /// Others are to have the thread for a while.
    Over,
    /// A body waits for something.
    Waits(Box<Waiting>),
    /// What ended is being committed by another.
    Commits(Commit),
}

/// One lane.
#[derive(Debug)]
pub(super) struct Lane {
    gate: u32,
    /// Whether its slots are for more than one body.
    plain: bool,
    /// Whether the run counts it among the lanes that are at work.
    active: bool,
    /// The time at which it last looked, in microseconds since 1970.
    pub(super) now: i64,
    pieces: u32,
    turn_began: i64,
    /// Values to be dropped when the plan is not held.
    garbage: Vec<Value>,
    /// Flights that are over, and whose end is told when the plan is not held.
    pub(super) landed: Vec<Flight>,
    /// Attempts that are over and recorded: the plan is told after their commit.
    ended: Vec<(Attempt, End)>,
    first_ended: i64,
}

impl Lane {
    fn new(gate: u32, plain: bool) -> Self {
        Self {
            gate,
            plain,
            active: false,
            now: 0,
            pieces: 0,
            turn_began: 0,
            garbage: Vec::new(),
            landed: Vec::new(),
            ended: Vec::new(),
            first_ended: 0,
        }
    }

    /// Takes the first piece of work. Says whether another lane was called for the rest.
    fn begin(&mut self, run: &Arc<RunCore>) -> (Option<Job>, bool) {
        let live = &mut *run.live.lock();
        let gate = &mut live.gates[self.gate as usize];
        gate.starting = false;
        gate.active += 1;
        self.active = true;
        let job = if live.draining {
            None
        } else {
            live.plan.next(self.gate)
        };
        run.flush(live);
        let helped = live.gates[self.gate as usize].starting;
        if job.is_none() {
            self.rest(live);
        }
        (job, helped)
    }

    /// Takes the next piece of work, with the plan in hand.
    pub(super) fn take(&mut self, run: &Arc<RunCore>, live: &mut Live) -> Option<Job> {
        // after a wait there may be more lanes at work than are worth having
        let others = live.gates[self.gate as usize].active > run.workers;
        let job = if others || !self.plain || live.draining {
            None
        } else {
            live.plan.next(self.gate)
        };
        if job.is_none() {
            self.rest(live);
        }
        run.flush(live);
        std::mem::swap(&mut self.garbage, &mut live.plan.garbage);
        job
    }

    /// Takes an attempt that is over and recorded. Gives the next piece of work, where it can be done before the commit.
    pub(super) fn ended(
        &mut self,
        run: &Arc<RunCore>,
        live: &mut Live,
        attempt: Attempt,
        end: End,
    ) -> Option<Job> {
        if self.ended.is_empty() {
            self.first_ended = self.now;
        }
        self.ended.push((attempt, end));
        let full = self.ended.len() >= ENDED_AT_ONCE || self.now - self.first_ended >= ENDED_MICROS;
        if full || !self.plain || live.draining {
            return None;
        }
        let job = live.plan.next(self.gate);
        run.flush(live);
        job
    }

    /// Commits what ended, and tells the plan.
    pub(super) async fn settle(&mut self, run: &Arc<RunCore>) {
        if !self.ended.is_empty() {
            run.check(run.log.commit().wait().await);
            let live = &mut *run.live.lock();
            self.tell_plan(run, live);
            run.flush(live);
        }
        self.landed.clear();
    }

    /// Tells the plan what ended and is committed, and takes the next piece of work.
    pub(super) fn tell(&mut self, run: &Arc<RunCore>) -> Option<Job> {
        let live = &mut *run.live.lock();
        self.tell_plan(run, live);
        self.resume(live);
        self.take(run, live)
    }

    fn tell_plan(&mut self, run: &Arc<RunCore>, live: &mut Live) {
        failpoint::hit("end-committed");
        for (attempt, end) in self.ended.drain(..) {
            self.landed.extend(attempt.finish(run, live, end));
        }
        failpoint::hit("plan-told");
    }

    /// Drops what nobody needs any more. A `Drop` that panics harms nobody else.
    fn tidy(&mut self) {
        for value in self.garbage.drain(..) {
            if let Err(panicked) = panic::catch(|| drop(value)) {
                tracing::error!(
                    "the `Drop` of a task's result panicked: {}",
                    panicked.message
                );
            }
        }
    }

    /// Others may work: this lane does not.
    fn rest(&mut self, live: &mut Live) {
        if std::mem::take(&mut self.active) {
            live.gates[self.gate as usize].active -= 1;
        }
    }

    /// This lane waits, or ends.
    pub(super) fn wait(&mut self, run: &Arc<RunCore>) {
        let live = &mut *run.live.lock();
        self.rest(live);
        run.staff(live, self.gate);
    }

    /// The body in hand has ended its wait.
    pub(super) fn resume(&mut self, live: &mut Live) {
        if !std::mem::replace(&mut self.active, true) {
            live.gates[self.gate as usize].active += 1;
        }
    }

    /// Works for as long as nothing waits and nobody else's turn has come.
    fn turn(&mut self, run: &Arc<RunCore>, job: &mut Option<Job>, cx: &mut Cx<'_>) -> Turn {
        loop {
            while let Some(piece) = job.take() {
                *job = if matches!(piece.work, Work::Task { .. }) {
                    match attempt::start(run, self, piece, None, cx) {
                        Started::Over(next) => next,
                        Started::Waits(waiting) => return Turn::Waits(waiting),
                    }
                } else {
                    machinery(run, piece);
                    self.take(run, &mut run.live.lock())
                };
                self.tidy();
                if self.had_its_turn() && job.is_some() {
                    return Turn::Over;
                }
            }
            if self.ended.is_empty() {
                return Turn::Idle;
            }
            // nothing else is ready; what has ended may make more so
            match run.log.commit() {
                Commit::Done(committed) => {
                    run.check(committed);
                    *job = self.tell(run);
                    self.tidy();
                }
                waiting @ Commit::Waiting(_) => return Turn::Commits(waiting),
            }
        }
    }

    fn had_its_turn(&mut self) -> bool {
        self.pieces += 1;
        self.pieces >= TURN_PIECES || self.now - self.turn_began >= TURN_MICROS
    }

    /// Lets others have the thread, and the slot if somebody waits for one.
    async fn take_turns(&mut self, run: &RunCore, slots: Slots) -> Slots {
        tokio::task::yield_now().await;
        self.pieces = 0;
        self.turn_began = self.now;
        if !run.runtime.limits.is_full() {
            return slots;
        }
        drop(slots);
        run.runtime
            .limits
            .acquire(&GateKey::PLAIN, run.nested)
            .await
    }
}

/// Opens a mapping, or collects its results.
fn machinery(run: &Arc<RunCore>, job: Job) {
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
            // with the plan still in hand: who finds it done must find all of it recorded
            run.flush(&mut live);
        }
        Work::Gather(gathering) => {
            let collected = panic::catch(|| {
                let mut elements = Collected {
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

/// The elements of a gather, taken a few at a time.
struct Collected<'a> {
    run: &'a RunCore,
    gathering: &'a super::plan::Gathering,
    next: u32,
    taken: Option<smallvec::IntoIter<[crate::task::Resolved; 64]>>,
}

impl Iterator for Collected<'_> {
    type Item = crate::task::Resolved;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(resolved) = self.taken.as_mut().and_then(Iterator::next) {
                return Some(self.gathering.project(resolved));
            }
            if self.next >= self.gathering.len {
                return None;
            }
            let end = (self.next + GATHERED_AT_ONCE).min(self.gathering.len);
            let taken = self
                .run
                .live
                .lock()
                .plan
                .take_elements(self.gathering, self.next..end);
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

/// Goes to the back of this thread's queue, from where other threads take it, and lets one know. A task that was just
/// spawned stands where no other thread may take it, until this one lets go of the thread.
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
