//! Watches the store for requests of other processes, and for runs that they left when they died.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Inner;
use super::resume::Recovery;
use super::stop::UnderWay;
use crate::error::Error;
use crate::store::{Look, Store};

/// The interval of looking at the store for changes by other processes; also that of waiting for
/// their runs.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// Cancels the runs of a runtime for which other processes have requested it. Cancels all of them
/// if the store refuses all writes of this process, since other processes may be executing them by
/// then. Looks once a second.
pub(super) async fn hear_cancels(store: Arc<dyn Store>, under_way: UnderWay) {
    let mut sight = Sight::of("cancel requests of other processes");
    loop {
        tokio::time::sleep(LOOK).await;
        let cancelling = sight.now(store.cancelling().await).unwrap_or_default();
        if store.failure().is_some() {
            return under_way.cancel();
        }
        for (cancel, _) in cancelling.into_iter().filter_map(|run| under_way.of(run)) {
            cancel.cancel();
        }
    }
}

impl Inner {
    /// Returns the store through which other processes request cancellations. `None` if the clock
    /// is tokio's: a timer each second would advance paused time.
    pub(super) fn heard(&self) -> Option<&Arc<dyn Store>> {
        (self.store.is_durable() && self.clock.is_system()).then_some(&self.store)
    }
}

/// A watch on the store; every serving runtime has one.
pub(crate) struct Watch {
    runtime: Arc<Inner>,
    recovery: Recovery,
}

impl Watch {
    pub(crate) fn new(runtime: Arc<Inner>) -> Self {
        Self {
            runtime,
            recovery: Recovery::default(),
        }
    }

    /// Looks once: resumes the runs that no process executes, and returns the paused flows.
    pub(crate) async fn look(&mut self) -> Result<Vec<String>, Error> {
        let Look { abandoned, paused } = self.runtime.store.look().await?;
        // the recovery logs why a run cannot be resumed
        let (under_way, _) = self.recovery.recover(&self.runtime, abandoned).await?;
        under_way
            .into_iter()
            .for_each(|run| drop(tokio::spawn(run.attend())));
        Ok(paused)
    }

    /// Looks once a second if other processes may write to the store, and whenever this process
    /// makes a request. Passes the paused flows to `paused`. Returns an error if the store refuses
    /// all writes of this process.
    pub(crate) async fn run(mut self, mut paused: impl FnMut(Vec<String>)) -> Result<(), Error> {
        let mut asked = self.runtime.control.subscribe();
        let is_shared = self.runtime.store.is_durable();
        let mut sight = Sight::of("requests of other processes");
        loop {
            let looked = self.look().await;
            if let Err(Error::Closed) = looked {
                return Ok(());
            }
            if let Some(error) = self.runtime.store.failure() {
                return Err(error.into());
            }
            sight.now(looked).into_iter().for_each(&mut paused);
            tokio::select! {
                () = tokio::time::sleep(LOOK), if is_shared => {}
                changed = asked.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }
}

/// A repeated observation. Its failure is logged once, and so is its recovery.
struct Sight {
    what: &'static str,
    failing: bool,
}

impl Sight {
    fn of(what: &'static str) -> Self {
        Self {
            what,
            failing: false,
        }
    }

    fn now<T, E: fmt::Display>(&mut self, looked: Result<T, E>) -> Option<T> {
        let was_failing = std::mem::replace(&mut self.failing, looked.is_err());
        match &looked {
            Err(error) if !was_failing => tracing::error!("cannot read {}: {error}", self.what),
            Ok(_) if was_failing => tracing::info!("can read {} again", self.what),
            _ => {}
        }
        looked.ok()
    }
}
