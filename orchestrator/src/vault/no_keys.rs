//! Replaces the keys if the feature `vault` is off: nothing can be sealed or opened.

use crate::entry::EntryKind;
use crate::secret::Secret;
use crate::store::{NewEntry, StoredEntry};

/// Keys, of which this build has none.
#[derive(Debug)]
pub(crate) enum KeyRing {}

impl KeyRing {
    /// Returns why there are no keys.
    pub(crate) fn lack() -> Option<&'static str> {
        Some("built without the feature `vault`")
    }

    /// Returns the error that keys need the feature. Call this only when a key is needed.
    pub(crate) fn from_environment() -> Result<Option<Self>, KeyError> {
        Err(KeyError)
    }

    /// Returns the error that keys need the feature.
    #[cfg_attr(
        not(feature = "cli"),
        allow(dead_code, reason = "keys are made on the command line")
    )]
    pub(crate) fn new_key() -> Result<Secret, KeyError> {
        Err(KeyError)
    }

    pub(crate) fn seal(&self, _: EntryKind, _: &str, _: &str) -> Result<NewEntry, KeyError> {
        match *self {}
    }

    pub(crate) fn open(&self, _: &StoredEntry) -> Result<Secret, KeyError> {
        match *self {}
    }

    pub(crate) fn reseal(&self, _: &StoredEntry) -> Result<Option<StoredEntry>, KeyError> {
        match *self {}
    }
}

/// The reason why there are no keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("built without the feature `vault`: add it to the features of `orchestrator`")]
pub(crate) struct KeyError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_feature() {
        let told = "built without the feature `vault`: add it to the features of `orchestrator`";
        let keys = KeyRing::from_environment().unwrap_err();
        assert_eq!(keys.to_string(), told);
        let key = KeyRing::new_key().unwrap_err();
        assert_eq!(key.to_string(), told);
    }
}
