//! The grace period of clean-up tasks after a cancellation, and how these tasks are planned again
//! if the process died meanwhile.

use std::sync::Arc;

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::Instant;

use super::{Conductor, EarlyEnd};
use crate::clock::in_time;
use crate::index::ScopeId;

/// The grace period of clean-up tasks after a cancellation: of all flows of the run, or of some of
/// them.
pub(crate) struct Grace {
    pub(crate) scopes: Option<Vec<ScopeId>>,
    /// The end of the period, which begins when all other bodies have ended.
    pub(crate) ends: Option<Instant>,
}

impl Conductor {
    /// Resumes a run that was being cancelled when its process died. Its bodies are called and get
    /// the same answers as before; of its tasks, only clean-up tasks run.
    pub(crate) fn begin_catching_up(&mut self) {
        self.catching_up = true;
        self.graces.push(Grace {
            scopes: None,
            ends: None,
        });
        self.run.live.lock().plan.catch_up();
    }

    /// Polls the bodies up to the point that they had reached, then cancels the nodes that they
    /// have planned.
    pub(crate) fn catch_up(&mut self) {
        while let Some(Some(ended)) = self.bodies.next().now_or_never() {
            self.body_ended(ended);
            if !self.catching_up {
                return;
            }
            self.start_flows();
        }
        let run = Arc::clone(&self.run);
        let goes_on = {
            let live = &mut *run.live.lock();
            let is_open = !live.flows.is_empty() || live.plan.is_winding_down(None);
            live.lacks.take().is_none()
                && (is_open || live.plan.gates().any(|gate| live.plan.has_ready(gate)))
        };
        if !goes_on {
            self.end_early(EarlyEnd::Asked);
        }
    }

    /// Starts the grace periods whose other bodies have ended. Returns the end of the next period.
    pub(crate) fn begin_graces(&mut self) -> Option<Instant> {
        if self.graces.is_empty() {
            return None;
        }
        let live = &mut *self.run.live.lock();
        for Grace { scopes, ends } in &mut self.graces {
            let waits = match scopes {
                Some(scopes) => scopes
                    .iter()
                    .any(|scope| live.plan.is_winding_down(Some(*scope))),
                None => live.plan.is_winding_down(None),
            };
            if ends.is_none() && !waits {
                *ends = Some(in_time(self.run.host.environment.grace));
            }
        }
        // while catching up, the conductor must be woken at each step of the bodies
        live.winding_down =
            self.catching_up || self.graces.iter().any(|grace| grace.ends.is_none());
        self.graces.iter().filter_map(|grace| grace.ends).min()
    }

    /// Ends the clean-up tasks whose grace period is over.
    pub(crate) fn end_graces(&mut self) {
        if self.catching_up {
            self.end_early(EarlyEnd::Asked);
        }
        let (run, now) = (Arc::clone(&self.run), Instant::now());
        let live = &mut *run.live.lock();
        for Grace { scopes, .. } in self
            .graces
            .extract_if(.., |grace| grace.ends.is_some_and(|ends| ends <= now))
        {
            live.end_grace(scopes.as_deref());
        }
        run.flush(live);
    }
}
