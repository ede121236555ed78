//! The limits on running bodies: a body needs a slot of the runtime, and slots of its pool.
//!
//! Slots are held only by running bodies. [`queue`] has their order, among flows and within one.
//! Lanes show in a [`pulse`] what they do, and the [`watchdog`] warns of bodies that keep others
//! waiting.

pub(crate) mod pulse;
mod queue;
mod watchdog;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use pulse::{Pulse, Watched};
use queue::{Slot, SlotQueue};

use crate::bounds;
use crate::error::Error;
use crate::flow::FlowDef;
use crate::task::Pool;

/// Creates the pulse of a lane, which takes its slots from `queues`, or of a flow's body, and has
/// the watchdog look at it.
pub(crate) fn watch(
    run: Weak<dyn Watched>,
    flow: &'static str,
    body: Option<&'static FlowDef>,
    queues: [Option<Arc<SlotQueue>>; 2],
) -> Arc<Pulse> {
    let pulse = Pulse::new(run, flow, body, queues);
    // after the pulse is there: the watchdog parks itself again if it finds none
    watchdog::wake();
    pulse
}

/// The slots of a runtime for each kind of body.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    running: Arc<SlotQueue>,
    blocking: Arc<SlotQueue>,
    pools: HashMap<String, Arc<SlotQueue>>,
}

/// The slots that a body takes. Bodies that take the same slots go through one gate of their run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GateKey {
    pub(crate) blocking: bool,
    pub(crate) pool: Option<(&'static str, u32)>,
    /// Whether results are cached. If so, slots are taken only when there is no cached result.
    pub(crate) cached: bool,
}

impl GateKey {
    pub(crate) const PLAIN: Self = Self {
        blocking: false,
        pool: None,
        cached: false,
    };

    pub(crate) fn new(blocking: bool, pool: Option<&Pool>, cached: bool) -> Self {
        Self {
            blocking,
            pool: pool.map(|pool| (pool.name, pool.slots)),
            cached,
        }
    }

    /// Returns the key of the slots that bodies of the gate take once a look-up found no result.
    pub(crate) fn uncached(&self) -> Self {
        Self {
            cached: false,
            ..self.clone()
        }
    }
}

/// The slots of a body, released when dropped.
#[derive(Debug)]
pub(crate) struct Slots {
    _pool: Option<Slot>,
    _class: Option<Slot>,
    /// The pulse of the lane or thread that uses the slots.
    holder: Option<Arc<Pulse>>,
}

impl Slots {
    pub(crate) const NONE: Self = Self {
        _pool: None,
        _class: None,
        holder: None,
    };

    fn new(pool: Option<Slot>, class: Option<Slot>, holder: &Arc<Pulse>) -> Self {
        holder.take_slots();
        Self {
            _pool: pool,
            _class: class,
            holder: Some(Arc::clone(holder)),
        }
    }

    /// Passes the slots on to another user.
    pub(crate) fn pass_to(&mut self, holder: &Arc<Pulse>) {
        holder.take_slots();
        self.holder
            .replace(Arc::clone(holder))
            .inspect(|former| former.release_slots());
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        self.holder
            .as_ref()
            .inspect(|holder| holder.release_slots());
    }
}

impl Limits {
    pub(crate) fn new(running: usize, blocking: usize, pools: &HashMap<String, u32>) -> Self {
        let shared =
            |what, slots| SlotQueue::shared(what, u32::try_from(slots).unwrap_or(u32::MAX));
        let pool = |(name, slots): (&String, &u32)| {
            (
                name.clone(),
                SlotQueue::ordered(&format!("pool `{name}`"), *slots),
            )
        };
        Self {
            running: shared("async bodies", running),
            blocking: shared("blocking bodies", blocking),
            pools: pools.iter().map(pool).collect(),
        }
    }

    /// Checks that a pool exists, and that it has enough slots.
    pub(crate) fn check(&self, task: &str, pool: &Pool) -> Result<(), Error> {
        if let Some(problem) = bounds::fault(pool.name, bounds::NAME) {
            return Err(Error::Options(format!(
                "task `{task}`: the name of the pool is too long: {problem}"
            )));
        }
        let problem = match self.pools.get(pool.name) {
            Some(queue) if pool.slots <= queue.slots() => return Ok(()),
            Some(queue) => format!(
                "which has {}: ask for fewer, or give the pool more",
                queue.slots()
            ),
            None => format!(
                "and the runtime has no such pool (it has {}): give it one with `Runtime::builder().pool(\"{}\", …)`",
                self.known(),
                pool.name
            ),
        };
        Err(Error::Pool {
            task: task.to_owned(),
            pool: pool.name.to_owned(),
            slots: pool.slots,
            problem,
        })
    }

    /// Returns the number of slots of a pool, or `None` if there is no pool of this name.
    pub(crate) fn pool_size(&self, pool: &str) -> Option<u32> {
        self.pools.get(pool).map(|queue| queue.slots())
    }

    fn known(&self) -> String {
        let mut names: Vec<String> = self.pools.keys().map(|name| format!("`{name}`")).collect();
        names.sort_unstable();
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    }

    /// Returns the queues of a gate's slots: its pool's, and the runtime's. Bodies of a nested run
    /// take no slot of the runtime: they would wait for the body that waits for them.
    pub(crate) fn queues(&self, gate: &GateKey, nested: bool) -> [Option<Arc<SlotQueue>>; 2] {
        let pool = gate
            .pool
            .and_then(|(name, _)| self.pools.get(name))
            .cloned();
        let class = if gate.blocking {
            &self.blocking
        } else {
            &self.running
        };
        [pool, (!nested).then(|| Arc::clone(class))]
    }

    /// Waits for the slots of a gate. The pool's come first, since they are scarcer: in the
    /// opposite order, bodies that wait for the pool would hold slots of the runtime.
    pub(crate) async fn acquire(
        &self,
        gate: &GateKey,
        flow: &'static str,
        holder: &Arc<Pulse>,
    ) -> Slots {
        let [pool, class] = holder.queues();
        let pool = match (pool, gate.pool) {
            (Some(pool), Some((_, slots))) => Some(pool.acquire(flow, slots).await),
            _ => None,
        };
        let class = match class {
            Some(class) => Some(class.acquire(flow, 1).await),
            None => None,
        };
        Slots::new(pool, class, holder)
    }

    /// Acquires the slots for a body of a gate if they are free.
    pub(crate) fn try_acquire(
        &self,
        gate: &GateKey,
        flow: &'static str,
        holder: &Arc<Pulse>,
    ) -> Option<Slots> {
        let [pool, class] = holder.queues();
        let pool = match (pool, gate.pool) {
            (Some(pool), Some((_, slots))) => Some(pool.try_acquire(flow, slots)?),
            _ => None,
        };
        let class = match class {
            Some(class) => Some(class.try_acquire(flow, 1)?),
            None => None,
        };
        Some(Slots::new(pool, class, holder))
    }

    /// Returns `true` if a body waits for a slot of the kind that a plain body holds.
    pub(crate) fn has_waiters(&self) -> bool {
        self.running.has_waiters()
    }
}
