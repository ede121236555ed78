//! What a body needs before it may run: a slot of the runtime, and slots of its pool.
//!
//! Slots are held only by running bodies. Who waits for one waits in the semaphores' queues, first come first served.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;
use crate::task::Pool;

/// How many bodies of each sort a runtime runs at once.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    running: Arc<Semaphore>,
    blocking: Arc<Semaphore>,
    pools: HashMap<String, (Arc<Semaphore>, u32)>,
}

/// Which slots a body takes. Bodies that take the same go through one gate of their run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GateKey {
    pub(crate) blocking: bool,
    pub(crate) pool: Option<(&'static str, u32)>,
    /// Its results are cached: slots are taken when there is nothing cached, and not before.
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
}

/// Slots, given back when they are dropped.
#[derive(Debug)]
pub(crate) struct Slots {
    _pool: Option<OwnedSemaphorePermit>,
    _class: Option<OwnedSemaphorePermit>,
}

impl Slots {
    pub(crate) const NONE: Self = Self {
        _pool: None,
        _class: None,
    };
}

impl Limits {
    pub(crate) fn new(running: usize, blocking: usize, pools: &HashMap<String, u32>) -> Self {
        let semaphore = |slots: usize| Arc::new(Semaphore::new(slots));
        Self {
            running: semaphore(running),
            blocking: semaphore(blocking),
            pools: pools
                .iter()
                .map(|(name, slots)| (name.clone(), (semaphore(*slots as usize), *slots)))
                .collect(),
        }
    }

    /// Refuses a pool that there is not, and more slots than it has.
    pub(crate) fn check(&self, task: &str, pool: &Pool) -> Result<(), Error> {
        let problem = match self.pools.get(pool.name) {
            Some((_, size)) if pool.slots <= *size => return Ok(()),
            Some((_, size)) => format!("which has {size}: ask for fewer, or give the pool more"),
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

    /// How many slots a pool has, where there is one of this name.
    pub(crate) fn pool_size(&self, pool: &str) -> Option<u32> {
        self.pools.get(pool).map(|(_, slots)| *slots)
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

    /// Waits for the slots of a gate: the pool's first, since they are the scarcer ones. A nested run's bodies take no
    /// slot of the runtime: they would wait for the body that waits for them.
    pub(crate) async fn acquire(&self, gate: &GateKey, nested: bool) -> Slots {
        let pool = match gate
            .pool
            .and_then(|(name, slots)| Some((self.pools.get(name)?, slots)))
        {
            Some(((pool, _), slots)) => Some(acquire(pool, slots).await),
            None => None,
        };
        let class = if gate.blocking {
            &self.blocking
        } else {
            &self.running
        };
        let class = if nested {
            None
        } else {
            Some(acquire(class, 1).await)
        };
        Slots {
            _pool: pool,
            _class: class,
        }
    }

    /// Whether somebody may be waiting for a slot that a plain body holds.
    pub(crate) fn is_full(&self) -> bool {
        self.running.available_permits() == 0
    }
}

async fn acquire(semaphore: &Arc<Semaphore>, slots: u32) -> OwnedSemaphorePermit {
    match Arc::clone(semaphore).acquire_many_owned(slots).await {
        Ok(permit) => permit,
        Err(_) => unreachable!("the semaphores are never closed"),
    }
}
