//! The turn of a run whose flow has `max_active_runs`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::super::active::STORE_POLL;
use super::Conductor;
use crate::error::StoreError;

/// The delay before the store is asked again for a slot of the flow, while other processes hold all
/// of them; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

impl Conductor {
    /// Waits for one of the flow's `max_active_runs` slots, or until the run is cancelled or
    /// stopped.
    pub(crate) async fn wait_for_turn(
        &mut self,
        flow: &'static str,
        turns: u32,
    ) -> Option<OwnedSemaphorePermit> {
        let (run, began) = (Arc::clone(&self.run), self.began.is_some());
        let asked = Instant::now();
        let turn = async {
            let (store, id) = (&run.host.services.store, run.facts.id);
            // the store may recover: until then, the run stays with this process
            let failed = |error: StoreError| {
                tracing::error!(run = %id, flow, "cannot claim a run slot, retrying: {error}");
                tokio::time::sleep(STORE_POLL)
            };
            while let (true, Err(error)) = (began, store.release_turn(id).await) {
                failed(error).await;
            }
            // first a slot of this process, in order of arrival; then one across processes, by
            // polling. In the opposite order, waiting runs of this process would all poll the store
            let permit = run
                .host
                .admission
                .turn(flow, turns)
                .acquire_owned()
                .await
                .ok();
            let mut pause = FIRST_PAUSE;
            loop {
                match store
                    .claim_turn(id, flow, turns, run.host.services.clock.timestamp())
                    .await
                {
                    Ok(true) => return permit,
                    Ok(false) => tokio::time::sleep(pause).await,
                    Err(error) => failed(error).await,
                }
                pause = STORE_POLL.min(pause * 2);
            }
        };
        let turn = tokio::select! {
            biased;
            () = run.given_up() => None,
            turn = turn => turn,
        };
        if began {
            self.waited = asked.elapsed();
        }
        turn
    }
}
