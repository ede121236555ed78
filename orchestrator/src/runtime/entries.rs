//! Connections, variables and secrets as lists show them, and as they are set in the store.

use std::collections::BTreeMap;

use super::Runtime;
use crate::connection::Connection;
use crate::entry::EntryKind;
use crate::error::{Error, StoreError};
use crate::executor::Host;
use crate::executor::clients::Entry;
use crate::flow::registry;
use crate::secret::Secret;
use crate::store::{EntryContent, NewEntry};
use crate::task::TaskEntry;
use crate::vault::{Family, KeyError, KeyRing, Place, Places, StoredEntries};

/// What is known of a connection, a variable or a secret: where it comes from, and what needs it.
/// Returned by [`Runtime::entries`].
#[derive(Debug)]
#[non_exhaustive]
pub struct EntryInfo {
    /// The kind.
    pub kind: EntryKind,
    /// The name. One that is known from an environment variable alone is in lower case.
    pub name: String,
    /// The places that have it, in words. The first one counts; none if it is missing.
    pub places: Vec<String>,
    /// The tasks that take it, and the flows that declare it.
    pub needed_by: Vec<String>,
    /// Why it cannot be used: its text is invalid, or a place cannot be asked.
    pub problem: Option<String>,
    /// Why a secret of it is not masked in logs and errors, if one is not.
    pub weakness: Option<String>,
    /// What the first place has.
    pub(crate) entry: Option<Entry>,
}

impl EntryInfo {
    /// Returns the connection, without its secrets in `Debug`. `None` if it is missing, invalid, or of
    /// another kind.
    pub fn connection(&self) -> Option<&Connection> {
        let parsed = self.entry.as_ref()?.connection.as_ref()?;
        parsed.as_deref().ok()
    }

    /// Returns the value of a variable. `None` if it is missing, of another kind, or in a file that
    /// nothing in this binary takes as a variable: it may be a secret.
    pub fn value(&self) -> Option<&str> {
        let entry = self
            .entry
            .as_ref()
            .filter(|_| self.kind == EntryKind::Variable)?;
        let is_file = matches!(entry.found.place, Place::File(_));
        if is_file && self.needed_by.is_empty() {
            return None;
        }
        Some(entry.found.text.expose())
    }

    /// Returns the place that counts.
    fn place(&self) -> Option<&Place> {
        self.entry.as_ref().map(|entry| &entry.found.place)
    }
}

/// The reason why an entry was not set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetEntryError {
    #[error("{0}")]
    Invalid(String),
    #[error(
        "{0} has it, and comes before the store: processes with it would not see the new value"
    )]
    Shadowed(Place),
    #[error("the store keeps no {0}s: {1}")]
    Off(EntryKind, String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The result of [`Runtime::reseal_entries`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resealed {
    /// The number of connections and secrets that were encrypted anew.
    pub anew: usize,
    /// The number of all that are encrypted.
    pub sealed: usize,
}

impl Runtime {
    /// Returns the connections, variables or secrets: those that this binary needs, and those whose names
    /// the places tell. They are sorted by name.
    pub async fn entries(&self, kind: EntryKind) -> Vec<EntryInfo> {
        self.host.entries(kind).await.0
    }

    /// Sets a connection, a variable or a secret in the store, for all processes that use it. A process
    /// that has the name in an earlier place, such as its environment, does not see it.
    ///
    /// # Errors
    ///
    /// Returns an error if the name or the text is invalid, if it is not a variable and there is no key
    /// (see [connections, variables and secrets](crate#connections-variables-and-secrets)), or if the
    /// store fails.
    pub async fn set_entry(
        &self,
        kind: EntryKind,
        name: &str,
        text: impl Into<Secret>,
    ) -> Result<(), Error> {
        let set = self.host.set_entry(kind, name, &text.into(), true).await;
        set.map_err(|error| match error {
            SetEntryError::Store(error) => error.into(),
            error => Error::Options(format!("{kind} `{name}` is not set: {error}")),
        })
    }

    /// Removes a connection, a variable or a secret from the store. Returns `false` if it is not there.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails.
    pub async fn remove_entry(&self, kind: EntryKind, name: &str) -> Result<bool, Error> {
        Ok(self.host.services.store.remove_entry(kind, name).await?)
    }

    /// Encrypts the connections and secrets of the store anew, with the first key of `ORCHESTRATOR_KEY`.
    ///
    /// # Errors
    ///
    /// Returns an error, and changes nothing, if there is no key, if one of them cannot be decrypted with
    /// any key, or if the store fails.
    pub async fn reseal_entries(&self) -> Result<Resealed, Error> {
        let resealed = self.host.reseal_entries().await;
        resealed.map_err(|error| match error {
            SetEntryError::Store(error) => error.into(),
            error => Error::Options(format!("nothing is encrypted anew: {error}")),
        })
    }
}

impl Host {
    fn places(&self) -> &Places {
        &self.environment.clients.places
    }

    /// Returns all names of a kind: those in the places, and those that this binary needs. Also returns
    /// which places could not be asked.
    pub(crate) async fn entries(&self, kind: EntryKind) -> (Vec<EntryInfo>, Vec<String>) {
        let mut needed = needed(kind);
        let (mut names, problems) = self.places().names(kind).await;
        // a variable of the environment does not tell how the name is written
        let variable = |name: &str| Family::Own.variable(kind, name);
        let of_needed: Vec<_> = needed.keys().map(|name| variable(name)).collect();
        let mut infos = Vec::new();
        names.retain(|name| !needed.contains_key(name.as_str()));
        for name in names {
            let info = self.info(kind, &name, Vec::new()).await;
            let is_variable = matches!(info.place(), Some(Place::Variable(_)));
            if !(is_variable && of_needed.contains(&variable(&name))) {
                infos.push(info);
            }
        }
        while let Some((name, needed_by)) = needed.pop_first() {
            infos.push(self.info(kind, name, needed_by).await);
        }
        infos.sort_by(|one, other| one.name.cmp(&other.name));
        (infos, problems)
    }

    /// Returns what is known of a name.
    pub(crate) async fn entry(&self, kind: EntryKind, name: &str) -> EntryInfo {
        let needed_by = needed(kind).remove(name).unwrap_or_default();
        self.info(kind, name, needed_by).await
    }

    async fn info(&self, kind: EntryKind, name: &str, needed_by: Vec<String>) -> EntryInfo {
        let (mut places, mut problem, mut entry) = (Vec::new(), None, None);
        for found in self.places().find_all(kind, name).await {
            match found {
                Ok(found) => {
                    places.push(found.place.to_string());
                    entry.get_or_insert_with(|| Entry::read(kind, name, found));
                }
                Err(error) => drop(problem.get_or_insert(error.to_string())),
            }
        }
        let connection = entry.as_ref().and_then(|entry| entry.connection.as_ref());
        if let Some(Err(invalid)) = connection {
            problem = Some(invalid.clone());
        }
        let weakness = entry.as_ref().and_then(|entry| entry.weakness(kind));
        EntryInfo {
            kind,
            name: name.to_owned(),
            places,
            needed_by,
            problem,
            weakness: weakness.map(|weakness| weakness.to_string()),
            entry,
        }
    }

    /// Sets an entry of the store. If the environment of this process has the name, it is set only if
    /// asked for `anyway`.
    pub(crate) async fn set_entry(
        &self,
        kind: EntryKind,
        name: &str,
        text: &Secret,
        anyway: bool,
    ) -> Result<(), SetEntryError> {
        if let Some(problem) = orchestrator_grammar::names::fault(name) {
            return Err(SetEntryError::Invalid(problem));
        }
        if kind == EntryKind::Connection {
            let parsed = Connection::parse(name, text.expose());
            parsed.map_err(|error| SetEntryError::Invalid(error.to_string()))?;
        }
        if let Some(lack) = StoredEntries::lack(kind) {
            return Err(SetEntryError::Off(kind, lack.to_owned()));
        }
        let info = self.entry(kind, name).await;
        let shadow = info.place().filter(|place| place.shadows_the_store());
        if let Some(place) = shadow.filter(|_| !anyway) {
            return Err(SetEntryError::Shadowed(place.clone()));
        }
        let entry = match kind {
            EntryKind::Variable => NewEntry::variable(name, text.expose()),
            EntryKind::Connection | EntryKind::Secret => {
                let off = |error: KeyError| SetEntryError::Off(kind, error.to_string());
                let keys = KeyRing::from_environment().map_err(off)?;
                let Some(keys) = keys else {
                    return Err(SetEntryError::Off(kind, "there is no key".to_owned()));
                };
                keys.seal(kind, name, text.expose()).map_err(off)?
            }
        };
        let Self { services, .. } = self;
        services
            .store
            .put_entry(entry, services.clock.timestamp())
            .await?;
        Ok(())
    }

    /// Seals all entries of the store with the first key.
    ///
    /// # Errors
    ///
    /// Returns an error, and changes nothing, if there are no keys or if an entry cannot be opened.
    pub(crate) async fn reseal_entries(&self) -> Result<Resealed, SetEntryError> {
        let invalid = |error: KeyError| SetEntryError::Invalid(error.to_string());
        let Some(keys) = KeyRing::from_environment().map_err(invalid)? else {
            let lack = KeyRing::lack().unwrap_or_default().to_owned();
            return Err(SetEntryError::Off(EntryKind::Secret, lack));
        };
        let entries = self.services.store.list_entries(None).await?;
        let sealed = entries
            .iter()
            .filter(|entry| matches!(entry.content, EntryContent::Sealed(_)))
            .count();
        let mut anew = Vec::new();
        for entry in &entries {
            anew.extend(keys.reseal(entry).map_err(invalid)?);
        }
        let anew = self.services.store.reseal_entries(anew).await?;
        Ok(Resealed { anew, sealed })
    }
}

/// Returns the names of a kind that this binary needs, each with the tasks and flows that need it.
fn needed(kind: EntryKind) -> BTreeMap<&'static str, Vec<String>> {
    let mut needed = BTreeMap::<&'static str, Vec<String>>::new();
    for TaskEntry(task) in inventory::iter::<TaskEntry> {
        for requirement in task.requirements {
            if requirement.kind.entry() == kind {
                let by = needed.entry(requirement.name).or_default();
                by.push(task.name.to_owned());
            }
        }
    }
    for flow in registry::flows() {
        for (declared, name) in flow.requirements {
            if *declared == kind {
                let by = needed.entry(name).or_default();
                by.push(format!("flow {}", flow.name));
            }
        }
    }
    for by in needed.values_mut() {
        by.sort();
        by.dedup();
    }
    needed
}
