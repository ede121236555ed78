//! What the store keeps: variables as they are, connections and secrets sealed with keys of the
//! environment.

use std::sync::Arc;

use super::{KeyRing, VaultEntry};
use crate::entry::EntryKind;
use crate::secret::Secret;
use crate::store::{EntryContent, Store, StoredEntry};

/// The entries of a store.
#[derive(Clone, Debug)]
pub(crate) struct StoredEntries {
    store: Arc<dyn Store>,
}

impl StoredEntries {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Returns why entries of a kind can be neither set nor found, or `None` if they can.
    pub(crate) fn lack(kind: EntryKind) -> Option<&'static str> {
        match kind {
            EntryKind::Variable => None,
            EntryKind::Connection | EntryKind::Secret => KeyRing::lack(),
        }
    }

    pub(super) async fn find(
        &self,
        kind: EntryKind,
        name: &str,
    ) -> Result<Option<VaultEntry>, String> {
        if Self::lack(kind).is_some() {
            return Ok(None);
        }
        let entry = self.store.find_entry(kind, name).await;
        let Some(entry) = entry.map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        let text = open(&entry)?;
        Ok(Some(
            VaultEntry::new(text).with_version(entry.version.to_string()),
        ))
    }

    pub(super) fn in_words(&self, kind: EntryKind) -> String {
        match Self::lack(kind) {
            None => "the store".to_owned(),
            Some(lack) => format!("the store (off: {lack})"),
        }
    }

    pub(super) async fn names(&self, kind: EntryKind) -> Result<Vec<String>, String> {
        let entries = self.store.list_entries(Some(kind)).await;
        let entries = entries.map_err(|error| format!("the store: {error}"))?;
        Ok(entries.into_iter().map(|entry| entry.name).collect())
    }
}

/// Returns the text of an entry.
fn open(entry: &StoredEntry) -> Result<Secret, String> {
    if let EntryContent::Plain(text) = &entry.content {
        return Ok(text.as_str().into());
    }
    match KeyRing::from_environment() {
        Ok(Some(keys)) => keys.open(entry).map_err(|error| error.to_string()),
        Ok(None) => Err("it is sealed, and there is no key".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
