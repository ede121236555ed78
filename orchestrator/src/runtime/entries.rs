//! Connections, variables and secrets as the command line lists, sets and removes them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::connection::Connection;
use crate::entry::EntryKind;
use crate::error::{Error, StoreError};
use crate::executor::Host;
use crate::executor::clients::Clients;
use crate::flow::registry;
use crate::secret::Secret;
use crate::store::{EntryContent, NewEntry};
use crate::task::{ClientDef, RequirementKind, TaskEntry};
use crate::vault::{Family, KeyError, KeyRing, Place, Places, StoredEntries};

/// How long a connection may take to be tested.
const TEST_TIME: Duration = Duration::from_secs(30);

/// What is known of a name.
#[derive(Debug)]
pub(crate) struct EntryInfo {
    pub(crate) name: String,
    /// The places that have it, the winner first.
    pub(crate) places: Vec<Place>,
    /// Places that could not be asked.
    pub(crate) problems: Vec<String>,
    /// The text in the first place.
    pub(crate) text: Option<Secret>,
    /// The connection in the first place, or what is wrong with its text.
    pub(crate) connection: Option<Result<Connection, String>>,
    /// The tasks that take it, and the flows that declare it.
    pub(crate) needed_by: Vec<String>,
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

/// The numbers of entries that a change of keys has sealed anew, and of all that are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resealed {
    pub(crate) anew: usize,
    pub(crate) sealed: usize,
}

/// The result of a test of a connection.
#[derive(Debug)]
pub(crate) enum ConnectionTest {
    Works,
    /// No client is known that could be made of it.
    NoClient,
}

impl Host {
    fn places(&self) -> &Places {
        &self.environment.clients.places
    }

    /// Returns all names of a kind: those in the places, and those that this binary needs. Also returns
    /// which places could not be asked.
    pub(crate) async fn entries(&self, kind: EntryKind) -> (Vec<EntryInfo>, Vec<String>) {
        let needed = needed(kind);
        let (mut names, problems) = self.places().names(kind).await;
        // a variable of the environment does not tell how the name is written
        let variable = |name: &str| Family::Own.variable(kind, name);
        let of_needed: Vec<_> = needed.keys().map(|name| variable(name)).collect();
        let mut infos = Vec::new();
        names.retain(|name| !needed.contains_key(name.as_str()));
        for name in names {
            let info = self.entry(kind, &name).await;
            let is_variable = matches!(info.places.first(), Some(Place::Variable(_)));
            if !(is_variable && of_needed.contains(&variable(&name))) {
                infos.push(info);
            }
        }
        for name in needed.keys() {
            infos.push(self.entry(kind, name).await);
        }
        infos.sort_by(|one, other| one.name.cmp(&other.name));
        (infos, problems)
    }

    /// Returns what is known of a name.
    pub(crate) async fn entry(&self, kind: EntryKind, name: &str) -> EntryInfo {
        let (mut places, mut problems, mut text) = (Vec::new(), Vec::new(), None);
        for found in self.places().find_all(kind, name).await {
            match found {
                Ok(found) => {
                    text.get_or_insert(found.text);
                    places.push(found.place);
                }
                Err(error) => problems.push(error.to_string()),
            }
        }
        let connection = text.as_ref().filter(|_| kind == EntryKind::Connection);
        let connection = connection
            .map(|text| Connection::parse(name, text.expose()).map_err(|error| error.to_string()));
        let needed = needed(kind).remove(name);
        EntryInfo {
            name: name.to_owned(),
            places,
            problems,
            text,
            connection,
            needed_by: needed.unwrap_or_default(),
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
        let mut places = self.entry(kind, name).await.places.into_iter();
        let shadow = places.find(Place::shadows_the_store);
        if let Some(place) = shadow.filter(|_| !anyway) {
            return Err(SetEntryError::Shadowed(place));
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

    /// Removes an entry from the store. Returns `false` if it is not there.
    pub(crate) async fn remove_entry(&self, kind: EntryKind, name: &str) -> Result<bool, Error> {
        Ok(self.services.store.remove_entry(kind, name).await?)
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

    /// Makes a client of a connection, and checks it. The client is that of a task that takes the
    /// connection, or else the library's own for its kind (`of_library`).
    pub(crate) async fn test_connection(
        &self,
        id: &str,
        of_library: fn(&str) -> Option<ClientDef>,
    ) -> Result<ConnectionTest, String> {
        let clients = &self.environment.clients;
        let entry = clients.look_up(EntryKind::Connection, id).await;
        let entry = entry.map_err(|error| error.to_string())?;
        let connection = Clients::connection_of(id, &entry, None)?;
        let Some(def) = client_of(id).or_else(|| of_library(connection.kind())) else {
            return Ok(ConnectionTest::NoClient);
        };
        let connection = Clients::connection_of(id, &entry, Some(&def))?;
        let test = async {
            let client = (def.connect)(Arc::clone(connection)).await?;
            (def.check)(client).await
        };
        match tokio::time::timeout(TEST_TIME, test).await {
            Ok(Ok(())) => Ok(ConnectionTest::Works),
            Ok(Err(error)) => Err(crate::error::error_text(&*error)),
            Err(_) => Err(format!("no answer within {} seconds", TEST_TIME.as_secs())),
        }
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

/// Returns the client that a task of this binary makes of a connection, if it is not the connection
/// itself.
fn client_of(id: &str) -> Option<ClientDef> {
    let itself = (ClientDef::of::<Connection>().id)();
    let tasks = inventory::iter::<TaskEntry>.into_iter();
    tasks
        .flat_map(|TaskEntry(task)| task.requirements)
        .find_map(|requirement| match requirement.kind {
            RequirementKind::Connection(def) if requirement.name == id && (def.id)() != itself => {
                Some(def)
            }
            _ => None,
        })
}
