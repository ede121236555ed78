use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::record::RunTables;
use super::{Commit, NewRun, RunLog, RunRecord, Store, Transition};
use crate::error::StoreError;

/// Keeps runs in memory: gone with the process. Results are not kept, only the runs' outputs.
#[derive(Debug, Default)]
pub(crate) struct MemoryStore {
    runs: Mutex<HashMap<String, Vec<Arc<MemoryRun>>>>,
}

/// The log of a run that no store keeps.
pub(crate) fn unrecorded(run: NewRun) -> Arc<dyn RunLog> {
    Arc::new(MemoryRun(Mutex::new(Tables::Live(RunTables::new(run)))))
}

#[derive(Debug)]
struct MemoryRun(Mutex<Tables>);

#[derive(Debug)]
enum Tables {
    Live(RunTables),
    Final(RunRecord),
}

#[async_trait]
impl Store for MemoryStore {
    async fn create_run(&self, run: NewRun) -> Result<Arc<dyn RunLog>, StoreError> {
        let flow = run.facts.flow.to_owned();
        let log = Arc::new(MemoryRun(Mutex::new(Tables::Live(RunTables::new(run)))));
        self.runs.lock().entry(flow).or_default().push(Arc::clone(&log));
        Ok(log)
    }

    async fn runs(&self, flow: &str) -> Result<Vec<RunRecord>, StoreError> {
        let runs = self.runs.lock().get(flow).cloned().unwrap_or_default();
        Ok(runs.iter().map(|run| run.snapshot()).collect())
    }
}

impl RunLog for MemoryRun {
    fn record(&self, transition: Transition) -> Commit {
        let mut tables = self.0.lock();
        if let Tables::Live(live) = &mut *tables {
            let last = matches!(transition, Transition::RunFinished(_));
            live.apply(transition);
            if last {
                let record = RunRecord::from(std::mem::replace(live, RunTables::empty()));
                *tables = Tables::Final(record);
            }
        }
        Commit::Done(Ok(()))
    }

    fn snapshot(&self) -> RunRecord {
        match &*self.0.lock() {
            Tables::Live(live) => RunRecord::from(live.clone()),
            Tables::Final(record) => record.clone(),
        }
    }
}
