//! The record of a run in memory, which each log of a run keeps.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock::Timestamp;
use crate::journal::RunTables;
use crate::journal::{NewRun, RunRecord, RunSummary, Transition};

/// The record of a run, in memory.
#[derive(Debug)]
pub(super) struct Mirror(Mutex<Tables>);

#[derive(Debug)]
enum Tables {
    Live(Box<RunTables>),
    Final(RunRecord),
}

impl Mirror {
    pub(super) fn new(run: NewRun) -> Self {
        Self::of(RunTables::new(Arc::new(run)))
    }

    pub(super) fn of(tables: RunTables) -> Self {
        Self(Mutex::new(Tables::Live(Box::new(tables))))
    }

    /// Applies a transition, after passing it to `also`. Transitions that add nothing are skipped:
    /// those after the end of the run, and those that a resumed run has recorded before.
    ///
    /// The lock is held across `also`: it pushes to the writer's queue, and the order there must be
    /// the order in which the transitions were applied.
    pub(super) fn record(&self, transition: Transition, also: impl FnOnce(&Transition)) {
        let mut tables = self.0.lock();
        let Tables::Live(live) = &mut *tables else {
            return;
        };
        if live.knows(&transition) {
            return;
        }
        also(&transition);
        let last = matches!(transition, Transition::RunFinished(_));
        live.apply(transition);
        if last {
            let record = RunRecord::from(live.take());
            *tables = Tables::Final(record);
        }
    }

    /// Returns the record of a final run.
    pub(super) fn of_final(&self) -> Option<RunRecord> {
        match &*self.0.lock() {
            Tables::Live(_) => None,
            Tables::Final(record) => Some(record.clone()),
        }
    }

    pub(super) fn snapshot(&self) -> RunRecord {
        match &*self.0.lock() {
            Tables::Live(live) => RunRecord::from((**live).clone()),
            Tables::Final(record) => record.clone(),
        }
    }

    /// Returns the run without its tasks.
    pub(super) fn summary(&self) -> RunSummary {
        match &*self.0.lock() {
            Tables::Live(live) => live.summary(),
            Tables::Final(record) => record.summary(),
        }
    }

    pub(super) fn is_pruned(&self) -> bool {
        matches!(&*self.0.lock(), Tables::Final(record) if record.is_pruned())
    }

    /// Drops the tasks of a run that was final before a time. Returns `true` if it did.
    pub(super) fn prune(&self, before: Timestamp) -> bool {
        let mut tables = self.0.lock();
        let pruned = match &*tables {
            Tables::Final(record) => record.without_tasks(before),
            Tables::Live(_) => None,
        };
        match pruned {
            Some(pruned) => {
                *tables = Tables::Final(pruned);
                true
            }
            None => false,
        }
    }
}
