use std::collections::BTreeMap;

use serde::Serialize;

use super::plan::{BackfillTick, TickAction};
use crate::error::RerunError;
use crate::state::RunState;

/// The progress or result of a backfill.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Backfilled {
    pub(super) total: usize,
    pub(super) created: usize,
    pub(super) resumed: usize,
    pub(super) reran: usize,
    pub(super) skipped: usize,
    /// The number of skipped ticks for each reason.
    pub(super) skipped_because: BTreeMap<&'static str, usize>,
    /// The ticks that have another run.
    pub(super) different: Vec<BackfillTick>,
    pub(super) running: usize,
    pub(super) succeeded: usize,
    /// The ticks whose runs ended without success.
    pub(super) unsuccessful: Vec<BackfillTick>,
}

impl Backfilled {
    /// Returns the number of ticks in the range.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Returns the number of created runs.
    pub fn created(&self) -> usize {
        self.created
    }

    /// Returns the number of resumed runs, which no living process had executed.
    pub fn resumed(&self) -> usize {
        self.resumed
    }

    /// Returns the number of re-run runs.
    pub fn reran(&self) -> usize {
        self.reran
    }

    /// Returns the number of skipped ticks.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// Returns the reasons for skipping ticks, each with the number of its ticks.
    pub fn skipped_because(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.skipped_because
            .iter()
            .map(|(reason, ticks)| (*reason, *ticks))
    }

    /// Returns the number of ticks that have another run: one with another interval or other
    /// parameters.
    pub fn different(&self) -> usize {
        self.different.len()
    }

    /// Returns the ticks that have another run, with what differs.
    pub fn different_ticks(&self) -> &[BackfillTick] {
        &self.different
    }

    /// Returns the number of active runs.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Returns the number of runs that succeeded.
    pub fn succeeded(&self) -> usize {
        self.succeeded
    }

    /// Returns the ticks whose runs ended without success.
    pub fn unsuccessful(&self) -> &[BackfillTick] {
        &self.unsuccessful
    }

    pub(super) fn skip(&mut self, reason: &'static str) {
        self.skipped += 1;
        *self.skipped_because.entry(reason).or_default() += 1;
    }

    pub(super) fn started(&mut self, action: TickAction) {
        self.running += 1;
        match action {
            TickAction::Create => self.created += 1,
            TickAction::Resume => self.resumed += 1,
            TickAction::Rerun => self.reran += 1,
            TickAction::Skip | TickAction::Different => {}
        }
    }

    /// Counts a run that cannot be re-run. It keeps its state, and other runs are still re-run.
    pub(super) fn cannot_run_again(&mut self, tick: &BackfillTick, problem: &RerunError) {
        tracing::warn!(tick = %tick.logical_date, run = tick.run.map(tracing::field::display), error = %problem, "run not re-run by the backfill");
        match tick.state {
            Some(RunState::Failed | RunState::Cancelled) => {
                let (action, reason) = (TickAction::Skip, "its run cannot run again");
                self.unsuccessful.push(BackfillTick {
                    action,
                    reason,
                    ..tick.clone()
                });
            }
            _ => self.skip("its run cannot run again"),
        }
    }

    pub(super) fn ended(&mut self, tick: &BackfillTick, state: RunState) {
        match state {
            RunState::Success => self.succeeded += 1,
            _ => self.unsuccessful.push(BackfillTick {
                state: Some(state),
                ..tick.clone()
            }),
        }
    }
}
