//! Builds runtimes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::runtime::Handle as Tokio;

use super::Runtime;
use crate::bounds;
use crate::capture::LogSink;
use crate::clock::{Clock, Timestamp};
use crate::connection::Connection;
use crate::entry::EntryKind;
use crate::error::{Error, SecretUrl, StoreError, without_secrets};
use crate::executor::active::{ActiveRuns, StopSignal};
use crate::executor::clients::Clients;
use crate::executor::{Admission, Environment, Host, Limits, Retention, Services};
use crate::id::IdSource;
use crate::secret::Secret;
use crate::store::{self, Store};
use crate::task::{Resources, TaskOptions};
use crate::vault::{AnyVault, Places, Vault};

/// Builds a [`Runtime`] with custom settings. Created by [`Runtime::builder`].
#[derive(Debug)]
pub struct RuntimeBuilder {
    /// The store's URL; `None` for [`default_store`].
    store: Option<SecretUrl>,
    blobs: Option<SecretUrl>,
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
    given: HashMap<(EntryKind, String), Secret>,
    vaults: Vec<Arc<dyn AnyVault>>,
    /// The first mistake in what was given.
    fault: Option<String>,
}

/// The environment variable that names the default store.
const STORE_VARIABLE: &str = "ORCHESTRATOR_STORE";

/// The store if neither the builder nor [`STORE_VARIABLE`] names one.
const DEFAULT_STORE: &str = if cfg!(feature = "sqlite") {
    "sqlite:.orchestrator/state.db"
} else {
    "memory"
};

/// Returns the URL of the store for a runtime whose builder names none.
pub(crate) fn default_store() -> Result<String, StoreError> {
    let Some(named) = std::env::var_os(STORE_VARIABLE).filter(|named| !named.is_empty()) else {
        return Ok(DEFAULT_STORE.to_owned());
    };
    named.into_string().map_err(|named| StoreError::Location {
        url: without_secrets(&named.to_string_lossy()),
        problem: format!("expected the variable {STORE_VARIABLE} to be text"),
    })
}

/// The default limit for the total size of cached results, in bytes.
const CACHE_BYTES: u64 = 1 << 30;

/// The default retention of task data.
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
            given: HashMap::new(),
            vaults: Vec::new(),
            fault: None,
        }
    }

    /// Sets the store. Defaults to the value of the environment variable `ORCHESTRATOR_STORE`, or
    /// to `sqlite:.orchestrator/state.db` if that is unset or empty.
    ///
    /// - `sqlite:PATH`: a file, created along with its folder if it does not exist. Committed data
    ///   survives a killed process. A power loss may lose the last commits, whose tasks then run
    ///   again; `sqlite:PATH?synchronous=full` prevents that at the cost of one fsync per commit.
    ///   Several processes may open the same file. A new file, and the folders beside it, are
    ///   accessible to their owner only; permissions that are widened later are kept.
    /// - `memory`: lost when the process ends, and growing with each run until then.
    ///
    /// While the disk is full, runs wait; they continue when there is room again. If a write fails
    /// with [`StoreError::Io`](crate::StoreError::Io), the process writes nothing more: its runs
    /// and `serve` return the error. The runs stay unfinished and resume when the program is
    /// started again.
    #[must_use]
    pub fn store(mut self, url: impl Into<String>) -> Self {
        self.store = Some(SecretUrl(url.into()));
        self
    }

    /// Sets the location of results larger than 1 MiB: a folder or, with the feature
    /// `object-store`, the URL of a bucket such as `s3://bucket/prefix`. Defaults to a folder
    /// beside the store's file.
    #[must_use]
    pub fn blobs(mut self, url: impl Into<String>) -> Self {
        self.blobs = Some(SecretUrl(url.into()));
        self
    }

    /// Sets how long the task data of a run (attempts, results, logs) is kept after its end.
    /// Defaults to 30 days. [`Runtime::prune`] deletes older data. The run itself is kept forever.
    #[must_use]
    pub fn keep(mut self, time: Duration) -> Self {
        self.keep = time;
        self
    }

    /// Sets the limit for the total size of cached results, in bytes. Defaults to 1 GiB.
    /// [`Runtime::prune`] deletes the oldest results beyond it.
    #[must_use]
    pub fn cache_size(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Sets the clock. Defaults to the system's clock.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Sets the seed of all randomness: the ids of runs and, through them, the jitter of retries.
    /// Defaults to a random seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets the number of async bodies that may run at once. Defaults to 256. A body holds its slot
    /// from its start to its end, including while it awaits.
    ///
    /// A flow that holds at least three quarters of these slots gets no more while bodies of other
    /// flows wait. Slots that it took beyond three quarters while it was alone do not reduce the
    /// share of the others: they may exceed the limit by the same number, which is at most a
    /// quarter of it. Bodies that never return therefore block their own flow, and no other. A
    /// limit below four, and that of a [pool](Self::pool), is never exceeded and not shared in this
    /// way. Tasks that have held slots for over a minute while others wait are named in a warning
    /// every ten minutes.
    #[must_use]
    pub fn max_running(mut self, bodies: usize) -> Self {
        self.running = bodies;
        self
    }

    /// Sets the number of blocking bodies (`fn` tasks) that may run at once. Defaults to 64. Each
    /// occupies a thread. Flows share these slots like those of [`max_running`](Self::max_running).
    #[must_use]
    pub fn max_blocking(mut self, bodies: usize) -> Self {
        self.blocking = bodies;
        self
    }

    /// Adds a pool: a named number of slots that tasks with `pool = "…"` share across all flows.
    #[must_use]
    pub fn pool(mut self, name: impl Into<String>, slots: u32) -> Self {
        self.pools.insert(name.into(), slots);
        self
    }

    /// Adds a resource, which tasks take as `#[resource] name: &T`. There is one resource per type;
    /// a second one replaces the first.
    #[must_use]
    pub fn resource<T: Send + Sync + 'static>(mut self, resource: T) -> Self {
        self.resources.insert(resource);
        self
    }

    /// Gives a connection, which tasks take as `#[connection("id")] name: &T`: a URI or a JSON object
    /// ([`Connection::parse`](crate::Connection::parse)). What is given here comes before the
    /// environment, the store and vaults: see [connections, variables and
    /// secrets](crate#connections-variables-and-secrets).
    #[must_use]
    pub fn connection(mut self, id: &str, text: impl Into<Secret>) -> Self {
        let text = text.into();
        if let Err(problem) = Connection::parse(id, text.expose()) {
            self.fail(format!("connection `{id}`: {problem}"));
        }
        self.give(EntryKind::Connection, id, text)
    }

    /// Gives a variable, which tasks take as `#[variable("name")] name: T`. A text is kept as it is;
    /// another value as its JSON.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl Serialize) -> Self {
        match serde_json::to_value(&value) {
            Ok(serde_json::Value::String(text)) => {
                self.give(EntryKind::Variable, name, text.into())
            }
            Ok(json) => self.give(EntryKind::Variable, name, json.to_string().into()),
            Err(problem) => {
                self.fail(format!(
                    "variable `{name}`: expected a value with a JSON form: {problem}"
                ));
                self
            }
        }
    }

    /// Gives a secret, which tasks take as `#[secret("name")] name: &Secret`.
    #[must_use]
    pub fn secret(self, name: &str, text: impl Into<Secret>) -> Self {
        self.give(EntryKind::Secret, name, text.into())
    }

    /// Adds a vault, in which names are looked up that are found nowhere else. Several are asked in the
    /// order in which they were added.
    #[must_use]
    pub fn vault(mut self, vault: impl Vault) -> Self {
        self.vaults.push(Arc::new(vault));
        self
    }

    fn give(mut self, kind: EntryKind, name: &str, text: Secret) -> Self {
        if let Some(problem) = orchestrator_grammar::names::fault(name) {
            self.fail(format!("{kind} {problem}"));
        }
        self.given.insert((kind, name.to_owned()), text);
        self
    }

    fn fail(&mut self, problem: String) {
        self.fault.get_or_insert(problem);
    }

    /// Sets the grace period of cancelled bodies: the time that blocking bodies, and async bodies
    /// that handle cancellation themselves, have to return. Defaults to 30 seconds. Once all other
    /// bodies have ended, the tasks that clean up after a cancelled run
    /// ([`run_on_cancel`](macro@crate::task#cleaning-up)) share another period of the same length.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets default task options: those that apply if neither the call nor the task nor the flow
    /// sets them.
    #[must_use]
    pub fn defaults(mut self, options: TaskOptions) -> Self {
        self.defaults = options;
        self
    }

    /// Sets whether captured logs of tasks are stored (see [`Runtime::logs`]). Defaults to `true`.
    /// The console shows them in any case.
    ///
    /// Lines reach the store within a second, even while a body blocks its thread. Logging never
    /// waits for the store: at most 64 MiB of lines are buffered. Of each attempt, the buffer holds
    /// at most its first 1,000 lines, 9,000 later lines, and 9,000 later warnings and errors; once
    /// half of the memory is used, 1,000 and 1,000. A task that logs faster than the store writes
    /// loses lines after the first ones, but never its last 1,000. A line in their place counts
    /// them in the field `dropped`, and the warnings and errors among them in `dropped_warnings`.
    /// When all of the memory is used, the oldest buffered lines are dropped, warnings and errors
    /// last.
    #[must_use]
    pub fn store_logs(mut self, store: bool) -> Self {
        self.stores_logs = store;
        self
    }

    /// Creates the runtime.
    ///
    /// # Errors
    ///
    /// Returns an error if the store's URL is invalid, if the store cannot be opened, if a limit is
    /// zero, if the name of a pool is too long, if a connection, a variable or a secret is invalid, or if
    /// a default option is.
    pub async fn build(self) -> Result<Runtime, Error> {
        let empty = self.pools.iter().find(|(_, slots)| **slots == 0);
        let long = self
            .pools
            .keys()
            .find_map(|name| bounds::fault(name, bounds::NAME));
        let problem = match (self.running, self.blocking, empty) {
            (0, _, _) => Some("expected `max_running` to be at least 1, got 0".to_owned()),
            (_, 0, _) => Some("expected `max_blocking` to be at least 1, got 0".to_owned()),
            _ if long.is_some() => {
                long.map(|problem| format!("the name of a pool is too long: {problem}"))
            }
            (_, _, Some((name, _))) => Some(format!(
                "expected the pool `{name}` to have at least 1 slot, got 0"
            )),
            _ if self.fault.is_some() => self.fault.clone(),
            _ => self
                .defaults
                .problem()
                .map(|problem| format!("defaults: {problem}")),
        };
        match problem {
            Some(problem) => Err(Error::Options(problem)),
            None => {
                let store = self.open().await?;
                Ok(self.runtime(store))
            }
        }
    }

    /// Opens the store on a blocking thread if there is a tokio runtime, since opening may take a
    /// while.
    async fn open(&self) -> Result<Arc<dyn Store>, Error> {
        let (url, blobs, now) = (self.url()?, self.blobs.clone(), self.now());
        let open = move || store::open(&url, blobs.as_ref().map(|url| url.0.as_str()), now);
        match Tokio::try_current() {
            Ok(tokio) => Ok(tokio
                .spawn_blocking(open)
                .await
                .map_err(|_| Error::NoTokio)??),
            Err(_) => Ok(open()?),
        }
    }

    /// Creates a runtime synchronously.
    pub(super) fn build_now(self) -> Result<Runtime, Error> {
        let store = store::open(
            &self.url()?,
            self.blobs.as_ref().map(|url| url.0.as_str()),
            self.now(),
        )?;
        Ok(self.runtime(store))
    }

    /// Returns the store's URL.
    fn url(&self) -> Result<String, StoreError> {
        self.store
            .clone()
            .map_or_else(default_store, |url| Ok(url.0))
    }

    fn now(&self) -> Timestamp {
        self.clock
            .as_ref()
            .map_or_else(|| Clock::system().timestamp(), Clock::timestamp)
    }

    pub(super) fn runtime(self, store: Arc<dyn Store>) -> Runtime {
        let clock = self.clock.unwrap_or_else(Clock::system);
        let places = Places::new(self.given, Arc::clone(&store), self.vaults);
        let clients = Arc::new(Clients::new(places, clock.clone()));
        let logs = self.stores_logs.then(|| log_sink(&store));
        let limits = Limits::new(self.running, self.blocking, &self.pools);
        let ids = self
            .seed
            .map_or_else(IdSource::from_entropy, IdSource::from_seed);
        let host = Host {
            admission: Admission::new(limits, Arc::clone(&store)),
            services: Services {
                store,
                clock,
                ids: Arc::new(ids),
                events: Arc::default(),
                logs,
            },
            environment: Environment {
                resources: self.resources,
                clients,
                mocks: HashMap::new(),
                grace: self.grace,
            },
            defaults: self.defaults,
            simulated: false,
            active: ActiveRuns::default(),
            stop: StopSignal::default(),
            retention: Retention {
                keep: self.keep,
                cache_bytes: self.cache_bytes,
            },
            control: Arc::default(),
            served: Arc::default(),
        };
        Runtime {
            host: Arc::new(host),
        }
    }
}

/// Creates the sink of the log lines that a store keeps.
fn log_sink(store: &Arc<dyn Store>) -> Arc<LogSink> {
    LogSink::new(Arc::clone(store) as _, store.is_durable())
}

#[cfg(feature = "cli")]
impl Runtime {
    /// Returns a runtime with the same limits, resources and clock on another store. It shares
    /// nothing that belongs to the runs of this one.
    pub(crate) async fn on_store(&self, url: &str) -> Result<Self, Error> {
        let Services {
            clock, ids, logs, ..
        } = &self.host.services;
        let store = RuntimeBuilder::new()
            .store(url)
            .clock(clock.clone())
            .open()
            .await?;
        let logs = logs.as_ref().map(|_| log_sink(&store));
        let limits = self.host.admission.limits.clone();
        let places = self
            .host
            .environment
            .clients
            .places
            .with_store(Arc::clone(&store));
        let clients = Clients::new(places, clock.clone());
        let host = Host {
            admission: Admission::new(limits, Arc::clone(&store)),
            services: Services {
                store,
                clock: clock.clone(),
                ids: Arc::clone(ids),
                events: Arc::default(),
                logs,
            },
            active: ActiveRuns::default(),
            stop: StopSignal::default(),
            control: Arc::default(),
            environment: Environment {
                clients: Arc::new(clients),
                ..self.host.environment.clone()
            },
            ..(*self.host).clone()
        };
        Ok(Self {
            host: Arc::new(host),
        })
    }
}
