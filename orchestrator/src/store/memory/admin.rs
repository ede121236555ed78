//! Pruning, checks and ids.

use std::sync::Arc;

use async_trait::async_trait;

use super::MemoryStore;
use super::run_log::MemoryRun;
use super::vault;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::id::RunId;
use crate::journal::NewCacheEntry;
use crate::store::cache::has_expired;
use crate::store::entry::hex;
use crate::store::{AdminStore, Pruned, StoreCheck};

impl MemoryStore {
    fn find_ids_where(&self, is_meant: impl Fn(&RunId) -> bool) -> Vec<RunId> {
        let mut ids: Vec<RunId> = self.runs.lock().by_id.keys().copied().collect();
        ids.retain(is_meant);
        ids.sort_unstable();
        ids
    }
}

#[async_trait]
impl AdminStore for MemoryStore {
    async fn prune_store(
        &self,
        before: Timestamp,
        now: Timestamp,
        cache_bytes: u64,
    ) -> Result<Pruned, StoreError> {
        let runs: Vec<Arc<MemoryRun>> = self.runs.lock().by_id.values().cloned().collect();
        let pruned: Vec<_> = runs.iter().filter(|run| run.mirror.prune(before)).collect();
        pruned.iter().for_each(|run| run.drop_lines());
        // the sizes of values in memory are unknown: a limit has an effect only if it is zero
        let is_kept = |entry: &NewCacheEntry| {
            cache_bytes > 0 && !has_expired(entry.hit.created, entry.query.expiry, now)
        };
        let cached = self.cache.lock().retain(is_kept);
        Ok(Pruned {
            runs: pruned.len() as u64,
            cached,
        })
    }

    async fn check_store(&self) -> Result<StoreCheck, StoreError> {
        let runs = self.runs.lock().all.clone();
        let unfinished = runs
            .iter()
            .filter(|run| !run.mirror.summary().state.is_final())
            .count();
        let counts = [
            ("runs", runs.len()),
            ("unfinished_runs", unfinished),
            ("cached_results", self.cache.lock().entries.len()),
            ("paused_flows", self.schedules.lock().paused.len()),
            ("vault_entries", vault::count(&self.vault.lock())),
        ];
        Ok(StoreCheck {
            store: "memory".to_owned(),
            counts: counts
                .into_iter()
                .map(|(what, count)| (what, count as u64))
                .collect(),
            ..StoreCheck::default()
        })
    }

    async fn find_ids(&self, first: RunId, last: RunId) -> Result<Vec<RunId>, StoreError> {
        Ok(self.find_ids_where(|id| (first..=last).contains(id)))
    }

    async fn find_ids_ending(&self, digits: &str) -> Result<Vec<RunId>, StoreError> {
        let digits = digits.to_ascii_lowercase();
        Ok(self.find_ids_where(|id| hex(id.as_bytes()).ends_with(&digits)))
    }
}
