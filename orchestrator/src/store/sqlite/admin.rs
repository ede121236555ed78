//! Pruning, checks and ids.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::Connection;

use super::SqliteStore;
use super::statements::prune::Slice;
use super::statements::{cache, prune, upkeep};
use crate::blob::BlobRef;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::id::RunId;
use crate::store::{AdminStore, Pruned, StoreCheck};

#[async_trait]
impl AdminStore for SqliteStore {
    async fn prune_store(
        &self,
        before: Timestamp,
        now: Timestamp,
        cache_bytes: u64,
    ) -> Result<Pruned, StoreError> {
        let bytes = i64::try_from(cache_bytes).unwrap_or(i64::MAX);
        let mut pruned = Pruned::default();
        let runs = move |connection: &Connection, slice: &mut Slice| {
            prune::prune_runs(connection, before, slice)
        };
        let count = |(runs, more)| {
            pruned.runs += runs;
            more
        };
        self.file.in_slices(runs, count).await?;
        let doomed = self
            .file
            .read(move |connection| Ok(cache::choose_evictions(connection, now, bytes)?))
            .await?;
        pruned.cached = self.delete_cached(doomed).await?;
        loop {
            let garbage: Arc<[BlobRef]> = self
                .file
                .read(|connection| Ok(prune::find_garbage(connection)?))
                .await?
                .into();
            if garbage.is_empty() {
                break;
            }
            // removed before their rows are deleted: after a crash in between they are removed
            // again. In the other order the crash would leave blobs that nothing refers to
            for blob in &*garbage {
                self.file.blobs.remove(blob).await?;
            }
            self.file
                .each_in_slices(
                    garbage,
                    |connection, blobs, slice| {
                        Ok(((), prune::forget_garbage(connection, blobs, slice)?))
                    },
                    drop,
                )
                .await?;
        }
        let dead = self.file.find_dead().await?;
        let gone = dead.clone();
        self.file
            .call(move |connection| cache::end_flights_of_dead(connection, &gone))
            .await?;
        self.file.forget_processes(&dead).await;
        Ok(pruned)
    }

    async fn check_store(&self) -> Result<StoreCheck, StoreError> {
        let path = self.file.location.path.clone();
        self.file
            .read(move |connection| Ok(upkeep::check_store(connection, &path)))
            .await
    }

    async fn find_ids(&self, first: RunId, last: RunId) -> Result<Vec<RunId>, StoreError> {
        self.file
            .read(move |connection| upkeep::find_ids(connection, first, last))
            .await
    }

    async fn find_ids_ending(&self, digits: &str) -> Result<Vec<RunId>, StoreError> {
        let digits = digits.to_owned();
        self.file
            .read(move |connection| upkeep::find_ids_ending(connection, &digits))
            .await
    }
}
