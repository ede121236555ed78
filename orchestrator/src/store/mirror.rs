use std::sync::Arc;

use parking_lot::Mutex;

use super::tables::RunTables;
use super::{NewRun, RunRecord, RunSummary, Transition};

/// What is recorded of a run, in memory.
#[derive(Debug)]
pub(super) struct Mirror(Mutex<Tables>);

#[derive(Debug)]
enum Tables {
    Live(RunTables),
    Final(RunRecord),
}

impl Mirror {
    pub(super) fn new(run: NewRun) -> Self {
        Self::of(RunTables::new(Arc::new(run)))
    }

    pub(super) fn of(tables: RunTables) -> Self {
        Self(Mutex::new(Tables::Live(tables)))
    }

    /// Records what is new in a transition, after `also` has seen it. Nothing is new once the run is final, nor where a
    /// run that goes on comes to a recorded state again.
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

    /// What is recorded of a run that is final.
    pub(super) fn of_final(&self) -> Option<RunRecord> {
        match &*self.0.lock() {
            Tables::Live(_) => None,
            Tables::Final(record) => Some(record.clone()),
        }
    }

    pub(super) fn snapshot(&self) -> RunRecord {
        match &*self.0.lock() {
            Tables::Live(live) => RunRecord::from(live.clone()),
            Tables::Final(record) => record.clone(),
        }
    }

    /// The run without its tasks.
    pub(super) fn summary(&self) -> RunSummary {
        match &*self.0.lock() {
            Tables::Live(live) => live.summary(),
            Tables::Final(record) => record.summary(),
        }
    }

    pub(super) fn is_pruned(&self) -> bool {
        matches!(&*self.0.lock(), Tables::Final(record) if record.is_pruned())
    }

    /// Forgets the tasks of a run that was final before a time. Says whether it did.
    pub(super) fn prune(&self, before: i64) -> bool {
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
