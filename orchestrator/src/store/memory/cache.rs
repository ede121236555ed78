//! Cached results, and why one is missing.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use async_trait::async_trait;

use super::MemoryStore;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::journal::{
    ByHash, CacheHit, CacheKey, CacheMiss, CacheQuery, InputsHash, NewCacheEntry,
};
use crate::store::cache::has_expired;
use crate::store::{Accept, CacheEntry, CacheFilter, CacheRequest, CacheStore, Claim, Lookup};

/// The cached results. The counts by task tell why a result is missing without a scan.
#[derive(Debug, Default)]
pub(super) struct MemoryCache {
    pub(super) entries: ByHash<CacheKey, Box<NewCacheEntry>>,
    /// The number of entries of each task, by the hash of their inputs.
    by_task: HashMap<Arc<str>, ByHash<InputsHash, u32>>,
}

impl MemoryCache {
    pub(super) fn insert(&mut self, entry: Box<NewCacheEntry>) {
        let CacheQuery {
            key, task, inputs, ..
        } = &entry.query;
        let (key, inputs) = (*key, InputsHash(*inputs));
        let by_inputs = match self.by_task.get_mut(task) {
            Some(by_inputs) => by_inputs,
            None => self.by_task.entry(Arc::clone(task)).or_default(),
        };
        *by_inputs.entry(inputs).or_default() += 1;
        if let Some(replaced) = self.entries.insert(key, entry) {
            self.uncount(&replaced);
        }
    }

    /// Removes the entries for which `is_kept` returns `false`. Returns their number.
    pub(super) fn retain(&mut self, mut is_kept: impl FnMut(&NewCacheEntry) -> bool) -> u64 {
        let forgotten: Vec<Box<NewCacheEntry>> = self
            .entries
            .extract_if(|_, entry| !is_kept(entry))
            .map(|(_, entry)| entry)
            .collect();
        forgotten.iter().for_each(|entry| self.uncount(entry));
        forgotten.len() as u64
    }

    fn uncount(&mut self, entry: &NewCacheEntry) {
        let CacheQuery { task, inputs, .. } = &entry.query;
        let Some(by_inputs) = self.by_task.get_mut(task) else {
            return;
        };
        if let Entry::Occupied(mut count) = by_inputs.entry(InputsHash(*inputs)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        if by_inputs.is_empty() {
            self.by_task.remove(task);
        }
    }

    fn look_up(
        &self,
        CacheRequest { query, accept }: &CacheRequest,
        now: Timestamp,
    ) -> Result<CacheHit, CacheMiss> {
        match self.entries.get(&query.key) {
            Some(entry) => match &entry.hit {
                hit if !accept.accepts(hit.run, hit.created) => Err(CacheMiss::Refreshed),
                hit if has_expired(hit.created, query.expiry, now) => Err(CacheMiss::Expired {
                    created: hit.created.to_datetime().unwrap_or_default(),
                }),
                hit => Ok(hit.clone()),
            },
            None if *accept != Accept::Any => Err(CacheMiss::Refreshed),
            None => Err(match self.by_task.get(&query.task) {
                None => CacheMiss::Empty,
                Some(by_inputs) if by_inputs.contains_key(&InputsHash(query.inputs)) => {
                    CacheMiss::ChangedCode
                }
                Some(_) => CacheMiss::NewInputs,
            }),
        }
    }
}

#[async_trait]
impl CacheStore for MemoryStore {
    async fn look_up_cached(
        &self,
        wanted: Arc<[CacheRequest]>,
        mut claims: usize,
        now: Timestamp,
    ) -> Result<Vec<Lookup>, StoreError> {
        let cache = self.cache.lock();
        let mut claim = || match claims.checked_sub(1) {
            Some(left) => {
                claims = left;
                Claim::Own
            }
            None => Claim::NotMade,
        };
        let look_up = |wanted| match cache.look_up(wanted, now) {
            Ok(hit) => Lookup::Hit(hit),
            Err(miss) => Lookup::Miss(miss, claim()),
        };
        Ok(wanted.iter().map(look_up).collect())
    }

    fn end_flights(&self, _: Vec<CacheKey>) {}

    async fn list_cached(
        &self,
        filter: &CacheFilter,
        now: Timestamp,
    ) -> Result<Vec<CacheEntry>, StoreError> {
        let mut entries: Vec<CacheEntry> = self
            .cache
            .lock()
            .entries
            .values()
            .map(|entry| entry.listed())
            .collect();
        entries.retain(|entry| filter.matches(entry, now));
        entries.sort_by(|a, b| (&a.task, a.created_at).cmp(&(&b.task, b.created_at)));
        Ok(entries)
    }

    async fn forget_cached(&self, filter: &CacheFilter, now: Timestamp) -> Result<u64, StoreError> {
        Ok(self
            .cache
            .lock()
            .retain(|entry| !filter.matches(&entry.listed(), now)))
    }
}
