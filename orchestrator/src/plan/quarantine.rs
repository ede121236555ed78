//! Suspects: if several processes in a row died with a run, the nodes that were running at the time
//! are tried one at a time.
//!
//! A crash is attributed to a suspect only if the suspect was alone when its process died; nodes
//! that ran beside others are not blamed. The suspects of a run come before all of its other work,
//! which is held until each of them has been tried. A permit of the runtime, which the conductor
//! holds during a trial, keeps the suspects of different runs apart.
//!
//! A trial ends with the attempt, or after some time: a suspect may run for days, or wait for
//! another task that is held. Trials get longer with the number of processes that died in a row
//! with the run, so that a task that crashes each process only after an hour is found, too. A
//! suspect that is still running after its trial is *company*: no other suspect is charged while it
//! runs.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::frame::Phase;
use super::{Instance, Plan};

/// The maximum length of a trial when two processes in a row have died with the run. It doubles
/// with each further process, up to most of a day.
const TRIAL: Duration = Duration::from_secs(5);
const DOUBLINGS: u32 = 14;

/// The suspects of a run, and the work that waits for them.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    /// Suspects that have yet to be tried, with the number of crashes charged to each.
    suspects: HashMap<Instance, u8>,
    /// The suspects whose upstreams allow them to run: the least charged first, so that innocent
    /// ones end early.
    ready: BTreeSet<(u8, Instance)>,
    /// Other ready work.
    held: Vec<Instance>,
    on_trial: Option<Instance>,
    /// Whether no suspect can be tried now, since each of them waits for other work.
    lifted: bool,
}

impl Quarantine {
    /// Returns `true` if an instance that is about to run has to wait.
    fn holds(&mut self, at: Instance) -> bool {
        if self.on_trial == Some(at) {
            return false;
        }
        if let Some(charges) = self.suspects.get(&at) {
            self.ready.insert((*charges, at));
            return true;
        }
        let holds = self.on_trial.is_some() || !self.ready.is_empty() || !self.lifted;
        if holds {
            self.held.push(at);
        }
        holds
    }

    fn forget(&mut self, at: Instance) {
        if let Some(charges) = self.suspects.remove(&at) {
            self.ready.remove(&(charges, at));
        }
    }
}

impl Plan {
    /// Marks an instance to be tried alone before anything else runs.
    pub(super) fn suspect(&mut self, at: Instance, charges: u8) {
        self.quarantine
            .get_or_insert_default()
            .suspects
            .insert(at, charges);
    }

    /// Returns the number of suspects that have yet to be tried.
    pub(crate) fn suspects(&self) -> usize {
        self.quarantine
            .as_ref()
            .map_or(0, |quarantine| quarantine.suspects.len())
    }

    /// Returns `true` if an instance has to wait for suspects, or for its own trial.
    pub(super) fn is_held(&mut self, at: Instance) -> bool {
        self.quarantine
            .as_mut()
            .is_some_and(|quarantine| quarantine.holds(at))
    }

    /// Returns the suspect that is being tried.
    pub(crate) fn on_trial(&self) -> Option<Instance> {
        self.quarantine.as_ref()?.on_trial
    }

    /// Returns `true` if a suspect can be tried as soon as no other is being tried.
    pub(crate) fn wants_trial(&self) -> bool {
        self.quarantine
            .as_ref()
            .is_some_and(|quarantine| quarantine.on_trial.is_none() && !quarantine.ready.is_empty())
    }

    /// Starts the trial of the next suspect, if there is one. Returns the maximum length of the
    /// trial.
    pub(crate) fn begin_trial(&mut self) -> Option<Duration> {
        let quarantine = self
            .quarantine
            .as_mut()
            .filter(|quarantine| quarantine.on_trial.is_none())?;
        let (_, at) = quarantine.ready.pop_first()?;
        quarantine.on_trial = Some(at);
        self.push(at);
        let takeovers = self.takeovers();
        Some(TRIAL.saturating_mul(1 << takeovers.saturating_sub(2).min(DOUBLINGS)))
    }

    /// Ends a trial that takes too long, if the suspect is running. It continues beside other work.
    pub(crate) fn acquit(&mut self) -> Option<Instance> {
        let at = self.on_trial().filter(|at| self.is_under_way(*at))?;
        self.end_trial(at, false);
        Some(at)
    }

    /// Returns `true` if an attempt of an instance is running.
    pub(crate) fn is_under_way(&self, at: Instance) -> bool {
        self.cell(at).phase == Phase::Running
    }

    /// Returns `true` if other work is held although no suspect can be tried before that work is
    /// done.
    pub(crate) fn is_held_up(&self) -> bool {
        let nothing_ready = || {
            self.ready
                .iter()
                .all(std::collections::BinaryHeap::is_empty)
        };
        self.quarantine.as_ref().is_some_and(|quarantine| {
            quarantine.on_trial.is_none()
                && quarantine.ready.is_empty()
                && !quarantine.held.is_empty()
        }) && nothing_ready()
    }

    /// Releases the held work, until a suspect can be tried.
    pub(crate) fn lift_quarantine(&mut self) {
        let Some(quarantine) = &mut self.quarantine else {
            return;
        };
        quarantine.lifted = true;
        for at in std::mem::take(&mut quarantine.held) {
            self.push(at);
        }
    }

    /// Ends the trial of a suspect whose attempt is over while its process lives. After the last
    /// suspect, the quarantine is removed. A suspect that was put off (`is_put_off`) has yet to be
    /// tried.
    pub(super) fn end_trial(&mut self, at: Instance, is_put_off: bool) {
        let Some(quarantine) = &mut self.quarantine else {
            return;
        };
        quarantine.on_trial.take_if(|on_trial| *on_trial == at);
        if !is_put_off {
            quarantine.forget(at);
        }
        if quarantine.suspects.is_empty() {
            self.lift_quarantine();
            self.quarantine = None;
        }
    }

    /// Removes cancelled instances from the held work, but keeps clean-up tasks.
    pub(super) fn cancel_held(&mut self) {
        if let Some(quarantine) = &mut self.quarantine {
            quarantine
                .held
                .retain(|at| self.wiring.nodes[at.node].policy.run_on_cancel);
        }
    }
}
