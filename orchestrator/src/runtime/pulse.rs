//! Pulses: the activity of lanes and flow bodies, observed by the [watchdog](super::watchdog).
//!
//! A pulse costs its lane a few stores to memory per body, and no reading of a clock.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tracing::Span;

use super::limits::GateKey;
use super::live::RunCore;
use super::queue::SlotQueue;
use super::watchdog;
use crate::flow::FlowDef;
use crate::index::{FrameId, NodeId};
use crate::plan::Instance;
use crate::scope::NodeKind;
use crate::task::TaskDef;

/// The longest wait for a plan that is in use, to read the name of a task.
const PATIENCE: Duration = Duration::from_millis(100);

/// The activity of a lane or of a flow's body.
#[derive(Debug)]
pub(crate) struct Pulse {
    place: usize,
    pub(super) run: Weak<RunCore>,
    pub(super) flow: &'static str,
    /// The flow whose body it is; `None` for a lane.
    pub(super) body: Option<&'static FlowDef>,
    /// The task of a blocking body, which may outlive its run.
    task: OnceLock<&'static TaskDef>,
    /// The queues of the lane's slots.
    pub(super) queues: [Option<Arc<SlotQueue>>; 2],
    /// The number of bodies that hold slots taken by the lane.
    holds: AtomicU32,
    /// The number of bodies that the lane has begun. The fields after it locate the last of them in
    /// the plan.
    pub(super) bodies: AtomicU64,
    frame: AtomicU32,
    node: AtomicU32,
    index: AtomicU32,
    /// The number of beginnings and ends of polls: odd while a body occupies the thread.
    pub(super) polls: AtomicU64,
}

impl Pulse {
    /// Creates the pulse of a lane.
    pub(super) fn of_lane(run: &Arc<RunCore>, gate: &GateKey) -> Arc<Self> {
        let queues = run.runtime.limits.queues(gate, run.nested);
        Self::new(Arc::downgrade(run), run.facts.flow, None, queues)
    }

    /// Creates the pulse of the blocking body that began last, with its own count of slots. The
    /// lane may leave that body behind.
    pub(super) fn of_thread(&self, task: &'static TaskDef) -> Arc<Self> {
        let pulse = Self::new(Weak::clone(&self.run), self.flow, None, self.queues.clone());
        let _ = pulse.task.set(task);
        pulse.begin(self.last());
        pulse
    }

    /// Creates the pulse of a flow's body.
    pub(super) fn of_flow(run: &Arc<RunCore>, flow: &'static FlowDef) -> Arc<Self> {
        Self::new(Arc::downgrade(run), flow.name, Some(flow), [None, None])
    }

    pub(super) fn new(
        run: Weak<RunCore>,
        flow: &'static str,
        body: Option<&'static FlowDef>,
        queues: [Option<Arc<SlotQueue>>; 2],
    ) -> Arc<Self> {
        let pulse = Arc::new_cyclic(|pulse| Self {
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
        });
        watchdog::wake();
        pulse
    }

    pub(super) fn queues(&self) -> [Option<&Arc<SlotQueue>>; 2] {
        [self.queues[0].as_ref(), self.queues[1].as_ref()]
    }

    /// Notes that a body begins.
    pub(super) fn begin(&self, at: Instance) {
        // a reader that sees a part of the new location also sees the new count, and discards the
        // location
        advance(&self.bodies);
        fence(Ordering::Release);
        self.frame.store(at.frame.get(), Ordering::Relaxed);
        self.node.store(at.node.get(), Ordering::Relaxed);
        self.index.store(at.index, Ordering::Relaxed);
    }

    /// Polls a body, and counts the beginning and the end of the poll.
    pub(super) fn poll<T>(&self, poll: impl FnOnce() -> T) -> T {
        advance(&self.polls);
        let polled = poll();
        advance(&self.polls);
        polled
    }

    pub(super) fn take_slots(&self) {
        self.holds.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn release_slots(&self) {
        self.holds.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn has_slots(&self) -> bool {
        self.holds.load(Ordering::Relaxed) > 0
    }

    /// Returns the run and the location of the last body in its plan, unless another body has begun
    /// since.
    fn at(&self, bodies: u64) -> Option<(Arc<RunCore>, Instance)> {
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
    pub(super) fn task(&self, bodies: u64) -> Option<&'static TaskDef> {
        let Some((run, at)) = self.at(bodies) else {
            return self.task.get().copied();
        };
        let plan = &run.live.try_lock_for(PATIENCE)?.plan;
        match plan.wiring.nodes.get(at.node)?.kind {
            NodeKind::Task(task) => Some(task),
            NodeKind::Flow(_) | NodeKind::Mapping(_) | NodeKind::Gather(_) => None,
        }
    }

    /// Calls `say` in the span of the attempt or flow, with the subscriber of the run: the calling
    /// thread may have another.
    pub(super) fn say(&self, bodies: u64, say: impl FnOnce()) {
        let Some(run) = self.run.upgrade() else {
            return say();
        };
        let in_span = || {
            let span = match self.at(bodies).filter(|_| self.body.is_none()) {
                Some((run, at)) => {
                    let attempts = run
                        .live
                        .try_lock_for(PATIENCE)
                        .map(|live| live.plan.attempts(at));
                    attempts.map_or_else(Span::none, |attempts| run.span(at, attempts))
                }
                None => run.trace.run.clone(),
            };
            span.in_scope(say);
        };
        match run
            .trace
            .run
            .with_subscriber(|(_, dispatch)| dispatch.clone())
        {
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
pub(super) fn all() -> Vec<Arc<Pulse>> {
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
