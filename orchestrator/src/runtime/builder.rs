use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::limits::Limits;
use super::{Inner, Runtime};
use crate::clock::Clock;
use crate::error::{Error, StoreError};
use crate::id::IdSource;
use crate::store::{MemoryStore, Store};
use crate::task::{Resources, TaskOptions};

/// Describes a [`Runtime`].
#[derive(Debug)]
pub struct RuntimeBuilder {
    store: String,
    clock: Option<Clock>,
    seed: Option<u64>,
    running: usize,
    blocking: usize,
    pools: HashMap<String, u32>,
    resources: Resources,
    grace: Duration,
    defaults: TaskOptions,
}

/// The stores that this build knows, for error messages.
const KNOWN_STORES: &str = "`memory`";

impl RuntimeBuilder {
    pub(super) fn new() -> Self {
        Self {
            store: "memory".to_owned(),
            clock: None,
            seed: None,
            running: 256,
            blocking: 64,
            pools: HashMap::new(),
            resources: Resources::default(),
            grace: Duration::from_secs(30),
            defaults: TaskOptions::NONE,
        }
    }

    /// Sets where runs are kept: `memory`, which is gone with the process, and grows with each run until then.
    #[must_use]
    pub fn store(mut self, url: impl Into<String>) -> Self {
        self.store = url.into();
        self
    }

    /// Sets the clock: the system's by default.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Sets the seed of all randomness: the ids of runs, and so the jitter of retries. By default it differs from
    /// process to process.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets how many async bodies run at once: 256 by default. A body counts from its start to its end, also while it
    /// awaits.
    #[must_use]
    pub fn max_running(mut self, bodies: usize) -> Self {
        self.running = bodies;
        self
    }

    /// Sets how many blocking bodies (`fn` tasks) run at once: 64 by default. Each takes a thread.
    #[must_use]
    pub fn max_blocking(mut self, bodies: usize) -> Self {
        self.blocking = bodies;
        self
    }

    /// Adds a pool: a named number of slots, which tasks with `pool = "…"` share, in all flows.
    #[must_use]
    pub fn pool(mut self, name: impl Into<String>, slots: u32) -> Self {
        self.pools.insert(name.into(), slots);
        self
    }

    /// Gives a resource: what tasks take as `#[resource] name: &T`. There is one for each type; a second replaces it.
    #[must_use]
    pub fn resource<T: Send + Sync + 'static>(mut self, resource: T) -> Self {
        self.resources.insert(resource);
        self
    }

    /// Sets how long bodies that see to their own end, and blocking ones, may take for it when they are cancelled: 30
    /// seconds by default.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets options of tasks that neither the call nor the task nor the flow sets.
    #[must_use]
    pub fn defaults(mut self, options: TaskOptions) -> Self {
        self.defaults = options;
        self
    }

    /// Makes the runtime.
    ///
    /// # Errors
    ///
    /// Where the store is none or cannot be opened, and where a limit is 0.
    pub async fn build(self) -> Result<Runtime, Error> {
        let empty = self.pools.iter().find(|(_, slots)| **slots == 0);
        let problem = match (self.running, self.blocking, empty) {
            (0, _, _) => Some("expected `max_running` to be at least 1, got 0".to_owned()),
            (_, 0, _) => Some("expected `max_blocking` to be at least 1, got 0".to_owned()),
            (_, _, Some((name, _))) => Some(format!("expected the pool `{name}` to have at least 1 slot, got 0")),
            _ => self.defaults.problem().map(|problem| format!("defaults: {problem}")),
        };
        match problem {
            Some(problem) => Err(Error::Options(problem)),
            None => {
                let store = store(&self.store)?;
                Ok(Runtime(Arc::new(self.inner(store))))
            }
        }
    }

    pub(super) fn inner(self, store: Arc<dyn Store>) -> Inner {
        Inner {
            store,
            clock: self.clock.unwrap_or_else(Clock::system),
            ids: Arc::new(self.seed.map_or_else(IdSource::from_entropy, IdSource::from_seed)),
            limits: Limits::new(self.running, self.blocking, &self.pools),
            resources: self.resources,
            grace: self.grace,
            defaults: self.defaults,
            mocks: HashMap::new(),
            events: Arc::default(),
            active: Arc::default(),
        }
    }
}

/// Opens a store by its URL.
pub(super) fn store(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    match url {
        "memory" => Ok(Arc::new(MemoryStore::default())),
        _ => Err(StoreError::UnknownUrl { url: url.to_owned(), known: KNOWN_STORES }),
    }
}
