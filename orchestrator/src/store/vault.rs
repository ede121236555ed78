//! Stored connections, variables and secrets.
//!
//! Connections and secrets are sealed before they get here: a store has neither their texts nor the
//! keys. Variables are plain text.
//!
//! Values that were replaced or removed are not wiped: their bytes may stay readable in the file of
//! a store until their space is used again. For sealed values these are ciphertexts; old values of
//! variables are readable.

use std::fmt;

use async_trait::async_trait;

use super::entry::hex;
use crate::clock::Timestamp;
use crate::entry::EntryKind;
use crate::error::StoreError;

/// Stores connections, variables and secrets by kind and name.
#[async_trait]
pub(crate) trait VaultStore: fmt::Debug + Send + Sync {
    /// Inserts an entry, or replaces the one of that kind and name. The version is one more than
    /// the last, also if the entry was removed in between.
    async fn put_entry(&self, entry: NewEntry, now: Timestamp) -> Result<(), StoreError>;

    /// Returns the entry of a kind and name.
    async fn find_entry(
        &self,
        kind: EntryKind,
        name: &str,
    ) -> Result<Option<StoredEntry>, StoreError>;

    /// Returns the entries, of a kind or of all kinds, by kind and name.
    async fn list_entries(&self, kind: Option<EntryKind>) -> Result<Vec<StoredEntry>, StoreError>;

    /// Removes an entry. Returns `false` if it is not there.
    async fn remove_entry(&self, kind: EntryKind, name: &str) -> Result<bool, StoreError>;

    /// Replaces the contents of entries by others that stand for the same values, in one
    /// transaction. Entries that were set or removed since they were read keep what they have.
    /// Returns the number of replaced ones.
    async fn reseal_entries(&self, entries: Vec<StoredEntry>) -> Result<usize, StoreError>;
}

/// An entry that is about to be stored. Only variables can be plain text.
#[derive(Debug)]
pub(crate) struct NewEntry {
    pub(super) kind: EntryKind,
    pub(super) name: String,
    pub(super) content: EntryContent,
}

impl NewEntry {
    /// Creates a variable.
    pub(crate) fn variable(name: &str, text: &str) -> Self {
        Self {
            kind: EntryKind::Variable,
            name: name.to_owned(),
            content: EntryContent::Plain(text.to_owned()),
        }
    }

    /// Creates an entry of a text that is sealed for this kind and name.
    #[cfg_attr(
        not(feature = "vault"),
        allow(dead_code, reason = "used only where texts can be sealed")
    )]
    pub(crate) fn sealed(kind: EntryKind, name: &str, text: SealedText) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            content: EntryContent::Sealed(text),
        }
    }
}

/// An entry as a store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredEntry {
    pub(crate) kind: EntryKind,
    pub(crate) name: String,
    pub(crate) content: EntryContent,
    /// Grows with each value of this kind and name: two values never have the same version. It stays
    /// when the same value is sealed anew.
    pub(crate) version: i64,
    /// When the value was set.
    pub(crate) set_at: Timestamp,
}

/// The text of an entry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum EntryContent {
    Plain(String),
    Sealed(SealedText),
}

/// A text that was sealed with a key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SealedText {
    /// Tells with which key it was sealed.
    pub(crate) key: KeyId,
    pub(crate) bytes: Vec<u8>,
}

impl fmt::Debug for EntryContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => write!(f, "Plain({} bytes)", text.len()),
            Self::Sealed(text) => text.fmt(f),
        }
    }
}

impl fmt::Debug for SealedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, bytes } = self;
        write!(f, "Sealed({} bytes, key {key})", bytes.len())
    }
}

/// The id of a key: a hash, from which the key cannot be found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyId(pub(crate) [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
