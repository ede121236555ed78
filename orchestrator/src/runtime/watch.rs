//! Watches the store for requests of other processes, and for runs that they left when they died.

use std::sync::Arc;

use super::resume::Recovery;
use crate::error::Error;
use crate::executor::Host;
use crate::executor::active::{LoggedPoll, STORE_POLL};
use crate::store::ServingState;

/// A watch on the store; every serving runtime has one.
pub(crate) struct Watch {
    host: Arc<Host>,
    recovery: Recovery,
}

impl Watch {
    pub(crate) fn new(host: Arc<Host>) -> Self {
        Self {
            host,
            recovery: Recovery::default(),
        }
    }

    /// Looks once: resumes the runs that no process executes, and returns the paused flows.
    pub(crate) async fn look(&mut self) -> Result<Vec<String>, Error> {
        let ServingState { abandoned, paused } =
            self.host.services.store.read_serving_state().await?;
        // the recovery logs why a run cannot be resumed
        let (under_way, _) = self.recovery.recover(&self.host, abandoned).await?;
        under_way
            .into_iter()
            .for_each(|run| drop(tokio::spawn(run.attend())));
        Ok(paused)
    }

    /// Looks once a second if other processes may write to the store, and whenever this process
    /// makes a request. Passes the paused flows to `paused`. Returns an error if the store refuses
    /// all writes of this process.
    pub(crate) async fn run(mut self, mut paused: impl FnMut(Vec<String>)) -> Result<(), Error> {
        let mut asked = self.host.control.subscribe();
        let is_shared = self.host.services.store.is_durable();
        let mut sight = LoggedPoll::of("requests of other processes");
        loop {
            let looked = self.look().await;
            if let Err(Error::Closed) = looked {
                return Ok(());
            }
            if let Some(error) = self.host.services.store.failure() {
                return Err(error.into());
            }
            sight.now(looked).into_iter().for_each(&mut paused);
            tokio::select! {
                () = tokio::time::sleep(STORE_POLL), if is_shared => {}
                changed = asked.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }
}
