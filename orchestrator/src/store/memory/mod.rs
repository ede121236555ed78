//! The store in memory, lost with the process.

mod admin;
mod cache;
mod logs;
mod run_log;
mod runs;
mod schedules;
mod vault;

use std::sync::Arc;

use parking_lot::Mutex;

use super::{RunLog, Store};
use crate::journal::NewRun;
use cache::MemoryCache;
use run_log::MemoryRun;
use runs::RunIndex;
use schedules::Schedules;
use vault::MemoryVault;

/// A store in memory, lost with the process. It keeps the outputs of runs and cached results, but
/// not the results of tasks.
#[derive(Debug, Default)]
pub(crate) struct MemoryStore {
    runs: Mutex<RunIndex>,
    cache: Arc<Mutex<MemoryCache>>,
    schedules: Mutex<Schedules>,
    vault: Mutex<MemoryVault>,
}

/// Creates the log of a run that no store keeps.
pub(crate) fn unrecorded(run: NewRun) -> Arc<dyn RunLog> {
    Arc::new(MemoryRun::new(run, Arc::default()))
}

impl Store for MemoryStore {
    fn is_durable(&self) -> bool {
        false
    }
}
