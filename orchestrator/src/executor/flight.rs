//! Flights: each result that is to be cached is computed once, however many instances in this
//! process wait for it.

use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::journal::{ByHash, CacheKey};
use crate::plan::Instance;
use crate::store::Store;

/// The flights of this process, each with the instances that wait for it.
///
/// Lock order: the plan of a run first, then the flights. A flight must be ended with neither lock
/// held, since that locks the plans of all waiting runs.
#[derive(Debug)]
pub(crate) struct Flights {
    store: Arc<dyn Store>,
    waiting: Mutex<ByHash<CacheKey, Vec<FlightWaiter>>>,
}

/// A run whose instances wait for flights.
pub(crate) trait FlightClient: fmt::Debug + Send + Sync {
    /// Makes an instance ready again, since its flight has ended.
    fn wake(self: Arc<Self>, at: Instance);

    /// Returns `true` if the run is being cancelled.
    fn is_cancelled(&self) -> bool;
}

#[derive(Debug)]
struct FlightWaiter {
    run: Arc<dyn FlightClient>,
    at: Instance,
}

/// The right, and the obligation, to compute a result. Dropping it wakes the instances that wait.
#[derive(Debug)]
pub(crate) struct Flight {
    flights: Arc<Flights>,
    key: CacheKey,
    /// Whether the flight is also claimed in the store.
    pub(crate) claimed: bool,
}

impl Flights {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            waiting: Mutex::default(),
        }
    }

    /// Begins the flight of a key. If it is under way, lets the instance wait for it and returns
    /// `None`: one step, so that the flight cannot end in between, and forget the instance.
    pub(crate) fn join(
        self: &Arc<Self>,
        key: CacheKey,
        run: &Arc<impl FlightClient + 'static>,
        at: Instance,
    ) -> Option<Flight> {
        match self.waiting.lock().entry(key) {
            Entry::Occupied(mut waiting) => {
                let run: Arc<dyn FlightClient> = Arc::clone(run) as _;
                waiting.get_mut().push(FlightWaiter { run, at });
                None
            }
            Entry::Vacant(free) => {
                free.insert(Vec::new());
                Some(Flight {
                    flights: Arc::clone(self),
                    key,
                    claimed: false,
                })
            }
        }
    }

    /// Lets an instance wait for a flight that is under way. The caller holds the flight.
    pub(crate) fn add_waiter(
        &self,
        key: CacheKey,
        run: &Arc<impl FlightClient + 'static>,
        at: Instance,
    ) {
        if let Some(waiting) = self.waiting.lock().get_mut(&key) {
            let run: Arc<dyn FlightClient> = Arc::clone(run) as _;
            waiting.push(FlightWaiter { run, at });
        }
    }
}

impl Flight {
    pub(crate) fn key(&self) -> CacheKey {
        self.key
    }

    /// Returns `true` if all runs that wait are being cancelled.
    pub(crate) fn is_given_up(&self) -> bool {
        let waiting = self.flights.waiting.lock();
        let is_given_up =
            |waiters: &Vec<FlightWaiter>| waiters.iter().all(|waiter| waiter.run.is_cancelled());
        waiting.get(&self.key).is_none_or(is_given_up)
    }

    /// Ends flights with a single call to the store.
    pub(crate) fn end_all(flights: &mut Vec<Self>) {
        let Some(first) = flights.first() else { return };
        let store = Arc::clone(&first.flights.store);
        let claimed = flights
            .iter_mut()
            .filter_map(|flight| std::mem::take(&mut flight.claimed).then_some(flight.key));
        let claimed: Vec<CacheKey> = claimed.collect();
        if !claimed.is_empty() {
            store.end_flights(claimed);
        }
        flights.clear();
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.claimed {
            self.flights.store.end_flights(vec![self.key]);
        }
        // unlocked before the runs are: the plan of a run is locked first
        let waiters = self.flights.waiting.lock().remove(&self.key);
        for FlightWaiter { run, at } in waiters.unwrap_or_default() {
            run.wake(at);
        }
    }
}
