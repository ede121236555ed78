//! Connections, variables and secrets.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::MemoryStore;
use crate::clock::Timestamp;
use crate::entry::EntryKind;
use crate::error::StoreError;
use crate::store::{NewEntry, StoredEntry, VaultStore};

/// The entries by kind and name.
pub(super) type MemoryVault = BTreeMap<(EntryKind, String), MemoryEntry>;

/// What is known of a kind and name.
#[derive(Debug, Default)]
pub(super) struct MemoryEntry {
    /// The last version, also if that entry was removed.
    version: i64,
    entry: Option<StoredEntry>,
}

/// Returns the number of entries.
pub(super) fn count(vault: &MemoryVault) -> usize {
    let entries = vault.values().filter(|place| place.entry.is_some());
    entries.count()
}

#[async_trait]
impl VaultStore for MemoryStore {
    async fn put_entry(&self, entry: NewEntry, now: Timestamp) -> Result<(), StoreError> {
        let mut vault = self.vault.lock();
        let place = vault.entry((entry.kind, entry.name.clone())).or_default();
        place.version += 1;
        place.entry = Some(StoredEntry {
            kind: entry.kind,
            name: entry.name,
            content: entry.content,
            version: place.version,
            set_at: now,
        });
        Ok(())
    }

    async fn find_entry(
        &self,
        kind: EntryKind,
        name: &str,
    ) -> Result<Option<StoredEntry>, StoreError> {
        let vault = self.vault.lock();
        let place = vault.get(&(kind, name.to_owned()));
        Ok(place.and_then(|place| place.entry.clone()))
    }

    async fn list_entries(&self, kind: Option<EntryKind>) -> Result<Vec<StoredEntry>, StoreError> {
        let vault = self.vault.lock();
        let entries = vault.values().filter_map(|place| place.entry.as_ref());
        Ok(entries
            .filter(|entry| kind.is_none_or(|kind| entry.kind == kind))
            .cloned()
            .collect())
    }

    async fn remove_entry(&self, kind: EntryKind, name: &str) -> Result<bool, StoreError> {
        let mut vault = self.vault.lock();
        let place = vault.get_mut(&(kind, name.to_owned()));
        Ok(place.and_then(|place| place.entry.take()).is_some())
    }

    async fn reseal_entries(&self, entries: Vec<StoredEntry>) -> Result<usize, StoreError> {
        let mut vault = self.vault.lock();
        let mut replaced = 0;
        for resealed in entries {
            let place = vault.get_mut(&(resealed.kind, resealed.name));
            let entry = place.and_then(|place| place.entry.as_mut());
            if let Some(entry) = entry.filter(|entry| entry.version == resealed.version) {
                entry.content = resealed.content;
                replaced += 1;
            }
        }
        Ok(replaced)
    }
}
