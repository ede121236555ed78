//! The wait of a run for the run of the previous tick: `#[flow(depends_on_past)]`.
//!
//! A waiting run holds neither a slot of the flow nor one of the runtime. The end of a run that this
//! process executes wakes the run that waits for it, and only that one: in a long line of waiting
//! runs, an end costs one look at the store. A run whose previous one is not executed here looks
//! once a second, since another process may end that one.

use super::super::active::{LoggedPoll, RunEnds, STORE_POLL};
use super::super::run::ActiveRun;
use crate::deployment::DeploymentKey;
use crate::state::RunState;
use crate::store::PreviousRun;

impl ActiveRun {
    /// Waits until the run of the previous tick has succeeded, or until this run is cancelled or
    /// stopped. A run without a previous one does not wait.
    ///
    /// The previous run is looked up anew each time, since a backfill may have created a later one
    /// in the meantime.
    pub(crate) async fn wait_for_past(&self) {
        let host = &self.host;
        let deployment = DeploymentKey {
            flow: self.facts.flow.into(),
            name: self.facts.deployment.clone(),
        };
        let before = self.facts.logical_date.into();
        let may_change_elsewhere = host.services.store.is_durable();
        let succeeded = async {
            let mut sight = LoggedPoll::of("the run of the previous tick");
            let mut ends: Option<RunEnds> = None;
            let mut told = None;
            loop {
                let looked = host.services.store.find_previous(&deployment, before).await;
                let previous = match sight.now(looked) {
                    Some(Some(previous)) if previous.state != RunState::Success => previous,
                    Some(_) => return,
                    // the store may recover: until then, the run stays with this process
                    None => {
                        tokio::time::sleep(STORE_POLL).await;
                        continue;
                    }
                };
                let ends = match &mut ends {
                    Some(ends) if ends.run == previous.id => ends,
                    _ => {
                        // looked up again after this: the run may have ended before its ends were
                        // listened to
                        ends = Some(host.active.ends_of(previous.id));
                        continue;
                    }
                };
                if told.replace(previous) != Some(previous) && previous.state.is_final() {
                    self.tell_of_unsuccessful(previous);
                }
                let is_here = host.active.of(previous.id).is_some();
                tokio::select! {
                    () = ends.next() => {}
                    () = tokio::time::sleep(STORE_POLL), if may_change_elsewhere && !is_here => {}
                }
            }
        };
        tokio::select! {
            biased;
            () = self.given_up() => {}
            () = succeeded => {}
        }
    }

    /// Logs that the run waits until the previous one is re-run.
    fn tell_of_unsuccessful(&self, previous: PreviousRun) {
        let how = match previous.state {
            RunState::Cancelled => "was cancelled",
            _ => "failed",
        };
        tracing::warn!(
            parent: &self.trace.run,
            previous = %previous.id,
            "run waits: that of the previous tick {how}; it starts when that one is re-run with success"
        );
    }
}
