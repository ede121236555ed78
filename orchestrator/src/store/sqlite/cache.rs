//! Cached results, with large ones from their blobs.

use std::sync::Arc;

use async_trait::async_trait;

use super::SqliteStore;
use super::statements::cache::{Eviction, LookupRow};
use super::statements::{cache, upkeep};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::journal::{CacheHit, CacheKey, CacheMiss, ResultValue};
use crate::store::{CacheEntry, CacheFilter, CacheRequest, CacheStore, Claim, Lookup};

#[async_trait]
impl CacheStore for SqliteStore {
    async fn look_up_cached(
        &self,
        wanted: Arc<[CacheRequest]>,
        claims: usize,
        now: Timestamp,
    ) -> Result<Vec<Lookup>, StoreError> {
        // the claims made so far stay valid, so an error from here on is only logged: returning it
        // would leave the claimed flights without a process that computes them
        let unknown = |error: &StoreError| {
            tracing::warn!(
                "cannot tell whether the processes that compute the results are alive: {error}"
            );
        };
        let mut found = self
            .look_up_once(Arc::clone(&wanted), claims, Vec::new(), now)
            .await?;
        let is_taken = |found: &LookupRow| matches!(found, LookupRow::Miss(_, Claim::Other));
        if found.iter().any(is_taken) {
            // the process that holds the flight may be dead
            let dead = self
                .file
                .find_dead()
                .await
                .inspect_err(unknown)
                .unwrap_or_default();
            let claimed = found
                .iter()
                .filter(|found| matches!(found, LookupRow::Miss(_, Claim::Own)))
                .count();
            let left = claims - claimed;
            if !dead.is_empty() && left > 0 {
                let taken = found
                    .iter_mut()
                    .zip(&*wanted)
                    .filter(|(found, _)| is_taken(found));
                let (taken, again): (Vec<_>, Vec<CacheRequest>) =
                    taken.map(|(found, wanted)| (found, wanted.clone())).unzip();
                let again = self
                    .look_up_once(again.into(), left, dead, now)
                    .await
                    .inspect_err(unknown)
                    .unwrap_or_default();
                taken
                    .into_iter()
                    .zip(again)
                    .for_each(|(found, again)| *found = again);
            }
        }
        let mut looked_up = Vec::with_capacity(found.len());
        for found in found {
            looked_up.push(match found {
                LookupRow::Miss(miss, claim) => Lookup::Miss(miss, claim),
                LookupRow::Hit { run, created, body } => match self.file.read_result(&body).await {
                    Ok(encoded) => Lookup::Hit(CacheHit {
                        run,
                        created,
                        result: ResultValue::Encoded(encoded),
                    }),
                    // a cached result can be computed again
                    Err(error) => {
                        tracing::warn!("cached result unreadable, computing it again: {error}");
                        Lookup::Miss(CacheMiss::Unreadable, Claim::NotMade)
                    }
                },
            });
        }
        Ok(looked_up)
    }

    fn end_flights(&self, keys: Vec<CacheKey>) {
        let own = self.file.owner.number();
        self.file
            .writer
            .note(move |connection| cache::end_flights(connection, &keys, own));
    }

    async fn list_cached(
        &self,
        filter: &CacheFilter,
        now: Timestamp,
    ) -> Result<Vec<CacheEntry>, StoreError> {
        let filter = filter.clone();
        self.file
            .read(move |connection| upkeep::list_cached(connection, &filter, now))
            .await
    }

    async fn forget_cached(&self, filter: &CacheFilter, now: Timestamp) -> Result<u64, StoreError> {
        let filter = filter.clone();
        let doomed = self
            .file
            .read(move |connection| upkeep::find_matching(connection, &filter, now))
            .await?;
        self.delete_cached(doomed).await
    }
}

impl SqliteStore {
    /// Deletes cached results in short transactions. Returns their number.
    pub(super) async fn delete_cached(&self, doomed: Vec<Eviction>) -> Result<u64, StoreError> {
        let mut deleted = 0;
        self.file
            .each_in_slices(doomed.into(), cache::delete_results, |count: u64| {
                deleted += count
            })
            .await?;
        Ok(deleted)
    }

    /// Looks up cached results, and claims flights: those of the `dead`, too.
    async fn look_up_once(
        &self,
        wanted: Arc<[CacheRequest]>,
        claims: usize,
        dead: Vec<i64>,
        now: Timestamp,
    ) -> Result<Vec<LookupRow>, StoreError> {
        let own = self.file.owner.number();
        self.file
            .call(move |connection| {
                cache::look_up_results(connection, &wanted, claims, own, &dead, now)
            })
            .await
    }
}
