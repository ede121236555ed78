//! Trials: the suspects of a run are tried one at a time, and no suspect of another run meanwhile.
//!
//! The plan decides which suspect is next ([`quarantine`](crate::plan)). The conductor holds the
//! runtime's permit for as long as the suspect is tried.

use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::Conductor;
use crate::journal::{TaskEnd, Transition};
use crate::state::TaskState;

/// The time after which a suspect that had not started by the end of its trial is looked at again.
const TRIAL_AGAIN: Duration = Duration::from_secs(5);

impl Conductor {
    /// Logs that tasks of the run are suspects, if any are.
    pub(crate) fn announce_suspects(&self) {
        let run = &self.run;
        let suspects = run.live.lock().plan.suspects();
        if suspects > 0 {
            tracing::warn!(
                parent: &run.trace.run,
                suspects,
                "processes died with this run before any of its tasks ended: those that were running are tried one at a time"
            );
        }
    }

    /// Returns `true` if a suspect should be tried as soon as no other run tries one. Returns the
    /// permit of a trial that is over. Lifts the quarantine if no suspect can be tried before the
    /// work that is held back.
    pub(crate) fn wants_trial(&mut self) -> bool {
        let live = &mut *self.run.live.lock();
        if live.plan.on_trial().is_none() {
            self.trial = None;
        }
        self.company.retain(|(at, _)| live.plan.is_under_way(*at));
        live.on_trial = self.trial.is_some() || !self.company.is_empty();
        if live.plan.is_held_up() {
            live.plan.lift_quarantine();
            self.run.flush(live);
        }
        live.plan.wants_trial()
    }

    /// Starts the trial of the next suspect.
    pub(crate) fn begin_trial(&mut self, permit: Option<OwnedSemaphorePermit>) {
        let live = &mut *self.run.live.lock();
        let longest = live.plan.begin_trial();
        self.trial = permit.map(|permit| (permit, longest.map(|longest| Instant::now() + longest)));
        live.on_trial = true;
        self.run.flush(live);
    }

    /// Ends a trial that takes too long, so that other work may run. From now on, a crash is no
    /// longer attributed to its suspect.
    pub(crate) fn acquit(&mut self) {
        self.break_off_trial();
        let live = &mut *self.run.live.lock();
        match live.plan.acquit() {
            Some(at) => self
                .company
                .push((at, self.run.host.admission.trials.company.enter())),
            // the suspect waits for a slot, or for another process that computes its result: its
            // time starts anew
            None => {
                if let Some((_, ends)) = &mut self.trial {
                    *ends = Some(Instant::now() + TRIAL_AGAIN);
                }
            }
        }
        self.run.flush(live);
    }

    /// Withdraws the record that a suspect started alone, since the end of this process is not its
    /// fault.
    pub(crate) fn break_off_trial(&self) {
        let run = &self.run;
        // locked until the transition is recorded: otherwise an attempt that ends meanwhile could
        // record its end first, and this transition would undo it
        let live = run.live.lock();
        let Some(at) = live.plan.on_trial() else {
            return;
        };
        let (place, attempt) = (live.plan.row_of(at), live.plan.attempts(at));
        let recorded = run.log.snapshot();
        let row = place.and_then(|place| Some((place, recorded.tables().row(place)?)));
        if let Some((place, row)) =
            row.filter(|(_, row)| (row.task_state(), row.attempts) == (TaskState::Running, attempt))
        {
            run.record(Transition::Task(TaskEnd::new(place, row.state(), attempt)));
        }
    }
}
