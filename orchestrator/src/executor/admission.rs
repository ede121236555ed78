//! Admission: which runs and which bodies may execute now.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::flight::Flights;
use super::hold::Count;
use super::slots::Limits;
use crate::store::Store;

/// What decides which runs and which bodies may execute, across the runs of a runtime.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    /// The slots of bodies.
    pub(crate) limits: Limits,
    /// The results that are being computed.
    pub(crate) flights: Arc<Flights>,
    /// The trials of suspects.
    pub(crate) trials: Trials,
    /// The slots of flows with `max_active_runs`, by the flow's name.
    turns: Arc<Mutex<HashMap<&'static str, Arc<Semaphore>>>>,
}

impl Admission {
    pub(crate) fn new(limits: Limits, store: Arc<dyn Store>) -> Self {
        Self {
            limits,
            flights: Arc::new(Flights::new(store)),
            trials: Trials::default(),
            turns: Arc::default(),
        }
    }

    /// Returns the slots of a flow with `max_active_runs`.
    pub(crate) fn turn(&self, flow: &'static str, runs: u32) -> Arc<Semaphore> {
        let mut turns = self.turns.lock();
        Arc::clone(turns.entry(flow).or_insert_with(|| {
            Arc::new(Semaphore::new((runs as usize).min(Semaphore::MAX_PERMITS)))
        }))
    }
}

/// The state that keeps the suspects of a runtime's runs apart.
#[derive(Clone, Debug)]
pub(crate) struct Trials {
    /// Held while a suspect is tried: one at a time.
    permit: Arc<Semaphore>,
    /// Suspects that still run after their trials.
    pub(crate) company: Count,
}

impl Default for Trials {
    fn default() -> Self {
        Self {
            permit: Arc::new(Semaphore::new(1)),
            company: Count::default(),
        }
    }
}

impl Trials {
    /// Waits until no other suspect is being tried.
    pub(crate) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permit).acquire_owned().await.ok()
    }
}
