//! Connections, variables and secrets.

use async_trait::async_trait;

use super::SqliteStore;
use super::statements::vault;
use crate::clock::Timestamp;
use crate::entry::EntryKind;
use crate::error::StoreError;
use crate::store::{NewEntry, StoredEntry, VaultStore};

#[async_trait]
impl VaultStore for SqliteStore {
    async fn put_entry(&self, entry: NewEntry, now: Timestamp) -> Result<(), StoreError> {
        self.file
            .call(move |connection| vault::put_entry(connection, &entry, now))
            .await
    }

    async fn find_entry(
        &self,
        kind: EntryKind,
        name: &str,
    ) -> Result<Option<StoredEntry>, StoreError> {
        let name = name.to_owned();
        self.file
            .read(move |connection| vault::find_entry(connection, kind, &name))
            .await
    }

    async fn list_entries(&self, kind: Option<EntryKind>) -> Result<Vec<StoredEntry>, StoreError> {
        self.file
            .read(move |connection| vault::list_entries(connection, kind))
            .await
    }

    async fn remove_entry(&self, kind: EntryKind, name: &str) -> Result<bool, StoreError> {
        let name = name.to_owned();
        self.file
            .call(move |connection| vault::remove_entry(connection, kind, &name))
            .await
    }

    async fn reseal_entries(&self, entries: Vec<StoredEntry>) -> Result<usize, StoreError> {
        self.file
            .call(move |connection| vault::reseal_entries(connection, &entries))
            .await
    }
}
