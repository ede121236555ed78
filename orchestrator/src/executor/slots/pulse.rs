//! Pulses: the activity of lanes and flow bodies, observed by the [watchdog](super::watchdog).
//!
//! A pulse costs its lane a few stores to memory per body, and no reading of a clock.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use tracing::Span;

use super::queue::SlotQueue;
use crate::flow::FlowDef;
use crate::index::{FrameId, NodeId};
use crate::plan::Instance;
use crate::task::TaskDef;

/// A run, as far as the watchdog asks about its bodies. The answers may take the lock of the run's
/// plan, but not wait for it for long.
pub(crate) trait Watched: fmt::Debug + Send + Sync {
    /// Returns the task at a location in the plan of the run.
    fn task_at(&self, at: Instance) -> Option<&'static TaskDef>;

    /// Returns the span of the attempt at a location in the plan of the run.
    fn span_at(&self, at: Instance) -> Span;

    /// Returns the span of the run.
    fn span(&self) -> &Span;
}

/// The activity of a lane or of a flow's body.
#[derive(Debug)]
pub(crate) struct Pulse {
    place: usize,
    pub(crate) run: Weak<dyn Watched>,
    pub(crate) flow: &'static str,
    /// The flow whose body it is; `None` for a lane.
    pub(crate) body: Option<&'static FlowDef>,
    /// The task of a blocking body, which may outlive its run.
    task: OnceLock<&'static TaskDef>,
    /// The queues of the lane's slots.
    pub(crate) queues: [Option<Arc<SlotQueue>>; 2],
    /// The number of bodies that hold slots taken by the lane.
    holds: AtomicU32,
    /// The number of bodies that the lane has begun. The fields after it locate the last of them in
    /// the plan.
    pub(crate) bodies: AtomicU64,
    frame: AtomicU32,
    node: AtomicU32,
    index: AtomicU32,
    /// The number of beginnings and ends of polls: odd while a body occupies the thread.
    pub(crate) polls: AtomicU64,
}

impl Pulse {
    /// Creates the pulse of a body that belongs to no run.
    #[cfg(test)]
    pub(crate) fn without_run(
        flow: &'static str,
        queues: [Option<Arc<SlotQueue>>; 2],
    ) -> Arc<Self> {
        Self::new(Weak::<NoRun>::new(), flow, None, queues)
    }

    /// Creates the pulse of the blocking body that began last, with its own count of slots. The
    /// lane may leave that body behind.
    pub(crate) fn of_thread(&self, task: &'static TaskDef) -> Arc<Self> {
        let pulse = Self::new(Weak::clone(&self.run), self.flow, None, self.queues.clone());
        // the watchdog is awake: the pulse of the lane is there
        let _ = pulse.task.set(task);
        pulse.begin(self.last());
        pulse
    }

    /// Creates the pulse of a lane, which takes its slots from `queues`, or of a flow's body.
    pub(crate) fn new(
        run: Weak<dyn Watched>,
        flow: &'static str,
        body: Option<&'static FlowDef>,
        queues: [Option<Arc<SlotQueue>>; 2],
    ) -> Arc<Self> {
        Arc::new_cyclic(|pulse| Self {
            place: PULSES.lock().enter(Weak::clone(pulse)),
            run,
            flow,
            body,
            task: OnceLock::new(),
            queues,
            holds: AtomicU32::new(0),
            bodies: AtomicU64::new(0),
            frame: AtomicU32::new(0),
            node: AtomicU32::new(0),
            index: AtomicU32::new(0),
            polls: AtomicU64::new(0),
        })
    }

    pub(crate) fn queues(&self) -> [Option<&Arc<SlotQueue>>; 2] {
        [self.queues[0].as_ref(), self.queues[1].as_ref()]
    }

    /// Notes that a body begins.
    pub(crate) fn begin(&self, at: Instance) {
        // a reader that sees a part of the new location also sees the new count, and discards the
        // location
        advance(&self.bodies);
        fence(Ordering::Release);
        self.frame.store(at.frame.get(), Ordering::Relaxed);
        self.node.store(at.node.get(), Ordering::Relaxed);
        self.index.store(at.index, Ordering::Relaxed);
    }

    /// Polls a body, and counts the beginning and the end of the poll.
    pub(crate) fn poll<T>(&self, poll: impl FnOnce() -> T) -> T {
        advance(&self.polls);
        let polled = poll();
        advance(&self.polls);
        polled
    }

    pub(crate) fn take_slots(&self) {
        self.holds.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn release_slots(&self) {
        self.holds.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn has_slots(&self) -> bool {
        self.holds.load(Ordering::Relaxed) > 0
    }

    /// Returns the run and the location of the last body in its plan, unless another body has begun
    /// since.
    fn at(&self, bodies: u64) -> Option<(Arc<dyn Watched>, Instance)> {
        let last = self.last();
        fence(Ordering::Acquire);
        let is_last = self.bodies.load(Ordering::Relaxed) == bodies;
        self.run
            .upgrade()
            .filter(|_| is_last)
            .map(|run| (run, last))
    }

    /// Returns the location of the last body in the plan of its run.
    fn last(&self) -> Instance {
        let [frame, node, index] =
            [&self.frame, &self.node, &self.index].map(|place| place.load(Ordering::Relaxed));
        let (frame, node) = (FrameId::new(frame), NodeId::new(node));
        Instance { frame, node, index }
    }

    /// Returns the task whose body is running.
    pub(crate) fn task(&self, bodies: u64) -> Option<&'static TaskDef> {
        let Some((run, at)) = self.at(bodies) else {
            return self.task.get().copied();
        };
        run.task_at(at)
    }

    /// Calls `say` in the span of the attempt or flow, with the subscriber of the run: the calling
    /// thread may have another.
    pub(crate) fn say(&self, bodies: u64, say: impl FnOnce()) {
        let Some(run) = self.run.upgrade() else {
            return say();
        };
        let in_span = || {
            let span = match self.at(bodies).filter(|_| self.body.is_none()) {
                Some((run, at)) => run.span_at(at),
                None => run.span().clone(),
            };
            span.in_scope(say);
        };
        match run.span().with_subscriber(|(_, dispatch)| dispatch.clone()) {
            Some(dispatch) => tracing::dispatcher::with_default(&dispatch, in_span),
            None => in_span(),
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        PULSES.lock().leave(self.place);
    }
}

/// Adds one. Only one thread at a time writes a counter, so a load and a store suffice; an atomic
/// addition would cost more.
fn advance(counter: &AtomicU64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(1),
        Ordering::Relaxed,
    );
}

/// The pulses of this process.
static PULSES: Mutex<Pulses> = Mutex::new(Pulses {
    taken: Vec::new(),
    free: Vec::new(),
});

/// Pulses by place, and the free places.
struct Pulses {
    taken: Vec<Option<Weak<Pulse>>>,
    free: Vec<usize>,
}

impl Pulses {
    fn enter(&mut self, pulse: Weak<Pulse>) -> usize {
        if let Some(place) = self.free.pop() {
            self.taken[place] = Some(pulse);
            return place;
        }
        self.taken.push(Some(pulse));
        self.taken.len() - 1
    }

    fn leave(&mut self, place: usize) {
        self.taken[place] = None;
        self.free.push(place);
    }
}

/// Returns the pulses of this process.
pub(crate) fn all() -> Vec<Arc<Pulse>> {
    // the upgraded pulses are dropped by the caller: dropping one takes this lock again, and would
    // deadlock
    PULSES
        .lock()
        .taken
        .iter()
        .flatten()
        .filter_map(Weak::upgrade)
        .collect()
}

#[cfg(test)]
#[derive(Debug)]
enum NoRun {}

#[cfg(test)]
impl Watched for NoRun {
    fn task_at(&self, _: Instance) -> Option<&'static TaskDef> {
        match *self {}
    }

    fn span_at(&self, _: Instance) -> Span {
        match *self {}
    }

    fn span(&self) -> &Span {
        match *self {}
    }
}
