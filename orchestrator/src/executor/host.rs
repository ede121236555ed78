//! What all runs of a runtime share, grouped by its users.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch as latest;

use super::active::{ActiveRuns, StopSignal};
use super::admission::Admission;
use super::attempt::Environment;
use crate::capture::LogSink;
use crate::clock::Clock;
use crate::deployment::DeploymentSpec;
use crate::event::EventSink;
use crate::id::IdSource;
use crate::store::Store;
use crate::task::TaskOptions;

/// What all runs of a runtime share.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) services: Services,
    /// What attempts need.
    pub(crate) environment: Environment,
    /// Which runs and bodies may execute.
    pub(crate) admission: Admission,
    /// The runtime's options for tasks that do not set their own.
    pub(crate) defaults: TaskOptions,
    /// Whether each result is encoded and decoded before it is passed on
    /// ([`Runtime::simulated`](crate::Runtime::simulated)).
    pub(crate) simulated: bool,
    pub(crate) active: ActiveRuns,
    pub(crate) stop: StopSignal,
    /// What [`Runtime::prune`](crate::Runtime::prune) keeps.
    pub(crate) retention: Retention,
    /// Notifies serving loops of requests made in this process.
    pub(crate) control: Arc<latest::Sender<()>>,
    /// What the program serves, also before it is on record. Only the command line knows it.
    pub(crate) served: Arc<[DeploymentSpec]>,
}

/// The services that a run uses from its start to its end.
#[derive(Clone, Debug)]
pub(crate) struct Services {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Clock,
    pub(crate) ids: Arc<IdSource>,
    pub(crate) events: Arc<EventSink>,
    /// `None` if log lines are not stored.
    pub(crate) logs: Option<Arc<LogSink>>,
}

/// How long, and how much, the store keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    /// The time that the task data of a run is kept after its end.
    pub(crate) keep: Duration,
    /// The limit for the total size of cached results, in bytes.
    pub(crate) cache_bytes: u64,
}

impl Services {
    /// Waits until all captured log lines are stored.
    pub(crate) async fn flush_logs(&self) {
        if let Some(logs) = &self.logs {
            logs.flush().await;
        }
    }
}

impl Host {
    /// Returns the same host with a stop signal of its own, which stops nothing else.
    pub(crate) fn with_own_stop(&self) -> Self {
        Self {
            stop: self.stop.child(),
            ..self.clone()
        }
    }

    /// Returns `true` if runs of the other host take the same slots.
    pub(crate) fn shares_slots_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.admission.flights, &other.admission.flights)
    }

    /// Returns the store through which other processes request cancellations. `None` if the clock
    /// is tokio's: a timer each second would advance paused time.
    pub(crate) fn heard(&self) -> Option<&Arc<dyn Store>> {
        let Services { store, clock, .. } = &self.services;
        (store.is_durable() && clock.is_system()).then_some(store)
    }
}
