use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle as Tokio;

use super::limits::Limits;
use super::stop::{StopSignal, UnderWay};
use super::{Inner, Runtime};
use crate::capture::LogSink;
use crate::clock::Clock;
use crate::error::{Error, StoreError};
use crate::id::IdSource;
use crate::store::{self, Store};
use crate::task::{Resources, TaskOptions};

/// Describes a [`Runtime`].
#[derive(Debug)]
pub struct RuntimeBuilder {
    /// None where it is the one that the environment names, or the usual one.
    store: Option<String>,
    blobs: Option<String>,
    keep: Duration,
    cache_bytes: u64,
    clock: Option<Clock>,
    seed: Option<u64>,
    running: usize,
    blocking: usize,
    pools: HashMap<String, u32>,
    resources: Resources,
    grace: Duration,
    defaults: TaskOptions,
    stores_logs: bool,
}

/// The environment variable that names the store of a runtime that is not given one.
const STORE_VARIABLE: &str = "ORCHESTRATOR_STORE";

/// The store of a runtime where nothing names one.
const DEFAULT_STORE: &str = if cfg!(feature = "sqlite") {
    "sqlite:.orchestrator/state.db"
} else {
    "memory"
};

/// The URL of the store of a runtime that is not given one.
pub(crate) fn default_store() -> Result<String, StoreError> {
    let Some(named) = std::env::var_os(STORE_VARIABLE).filter(|named| !named.is_empty()) else {
        return Ok(DEFAULT_STORE.to_owned());
    };
    named.into_string().map_err(|named| StoreError::Location {
        url: named.to_string_lossy().into_owned(),
        problem: format!("expected the variable {STORE_VARIABLE} to be text"),
    })
}

/// How much cached results may take together, in bytes.
const CACHE_BYTES: u64 = 1 << 30;

/// How long what is known of the tasks of runs is kept.
const KEEP: Duration = Duration::from_secs(30 * 24 * 3600);

impl RuntimeBuilder {
    pub(super) fn new() -> Self {
        Self {
            store: None,
            blobs: None,
            keep: KEEP,
            cache_bytes: CACHE_BYTES,
            clock: None,
            seed: None,
            running: 256,
            blocking: 64,
            pools: HashMap::new(),
            resources: Resources::default(),
            grace: Duration::from_secs(30),
            defaults: TaskOptions::NONE,
            stores_logs: true,
        }
    }

    /// Sets where runs are kept. By default it is what the environment variable `ORCHESTRATOR_STORE` names, and
    /// `sqlite:.orchestrator/state.db` where that is not set, or empty.
    ///
    /// - `sqlite:PATH`: a file, made where it is not there, with its folder. What was committed survives a killed process.
    ///   A loss of power may lose the last commits, whose tasks run again then; `sqlite:PATH?synchronous=full` closes that,
    ///   at one fsync a commit. Several processes may have it open.
    /// - `memory`: gone with the process, and growing with each run until then.
    #[must_use]
    pub fn store(mut self, url: impl Into<String>) -> Self {
        self.store = Some(url.into());
        self
    }

    /// Sets where results above 1 MiB are kept: a folder; with the feature `object-store`, also the URL of a bucket, as
    /// `s3://bucket/prefix`. By default a folder beside the store's file.
    #[must_use]
    pub fn blobs(mut self, url: impl Into<String>) -> Self {
        self.blobs = Some(url.into());
        self
    }

    /// Sets how long what is known of the tasks of a run (attempts, results, logs) is kept after its end: 30 days by default.
    /// The run itself is kept for ever. [`Runtime::prune`] deletes what is older.
    #[must_use]
    pub fn keep(mut self, time: Duration) -> Self {
        self.keep = time;
        self
    }

    /// Sets how much cached results may take together, in bytes: 1 GiB by default. [`Runtime::prune`] deletes the oldest
    /// beyond it.
    #[must_use]
    pub fn cache_size(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
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

    /// Sets whether what tasks log is stored, where it is captured (see [`Runtime::logs`]): it is by default. The console
    /// shows it in any case.
    #[must_use]
    pub fn store_logs(mut self, store: bool) -> Self {
        self.stores_logs = store;
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
            (_, _, Some((name, _))) => Some(format!(
                "expected the pool `{name}` to have at least 1 slot, got 0"
            )),
            _ => self
                .defaults
                .problem()
                .map(|problem| format!("defaults: {problem}")),
        };
        match problem {
            Some(problem) => Err(Error::Options(problem)),
            None => {
                let store = self.open().await?;
                Ok(Runtime(Arc::new(self.inner(store))))
            }
        }
    }

    /// Opens the store, where that may take a while.
    async fn open(&self) -> Result<Arc<dyn Store>, Error> {
        let (url, blobs, now) = (self.url()?, self.blobs.clone(), self.now());
        let open = move || store::open(&url, blobs.as_deref(), now);
        match Tokio::try_current() {
            Ok(tokio) => Ok(tokio
                .spawn_blocking(open)
                .await
                .map_err(|_| Error::NoTokio)??),
            Err(_) => Ok(open()?),
        }
    }

    /// Makes a runtime where nothing can be waited for.
    pub(super) fn build_now(self) -> Result<Runtime, Error> {
        let store = store::open(&self.url()?, self.blobs.as_deref(), self.now())?;
        Ok(Runtime(Arc::new(self.inner(store))))
    }

    /// The store's URL.
    fn url(&self) -> Result<String, StoreError> {
        self.store.clone().map_or_else(default_store, Ok)
    }

    fn now(&self) -> i64 {
        self.clock
            .as_ref()
            .map_or_else(|| Clock::system().micros(), Clock::micros)
    }

    pub(super) fn inner(self, store: Arc<dyn Store>) -> Inner {
        let clock = self.clock.unwrap_or_else(Clock::system);
        let logs = self
            .stores_logs
            .then(|| LogSink::new(Arc::clone(&store), clock.clone()));
        Inner {
            store,
            logs,
            keep: self.keep,
            cache_bytes: self.cache_bytes,
            simulated: false,
            clock,
            ids: Arc::new(
                self.seed
                    .map_or_else(IdSource::from_entropy, IdSource::from_seed),
            ),
            limits: Limits::new(self.running, self.blocking, &self.pools),
            resources: self.resources,
            grace: self.grace,
            defaults: self.defaults,
            mocks: HashMap::new(),
            events: Arc::default(),
            flights: Arc::default(),
            stop: StopSignal::default(),
            control: Arc::default(),
            under_way: UnderWay::default(),
            active: Arc::default(),
        }
    }
}

#[cfg(feature = "cli")]
impl Runtime {
    /// The same limits, resources and time, with another store: nothing that belongs to the runs of the first.
    pub(crate) async fn on_store(&self, url: &str) -> Result<Self, Error> {
        let store = RuntimeBuilder::new()
            .store(url)
            .clock(self.0.clock.clone())
            .open()
            .await?;
        let logs = self
            .0
            .logs
            .as_ref()
            .map(|_| LogSink::new(Arc::clone(&store), self.0.clock.clone()));
        Ok(Self(Arc::new(Inner {
            store,
            logs,
            events: Arc::default(),
            flights: Arc::default(),
            stop: StopSignal::default(),
            control: Arc::default(),
            under_way: UnderWay::default(),
            active: Arc::default(),
            ..(*self.0).clone()
        })))
    }
}
