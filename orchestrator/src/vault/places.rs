//! The places in which a runtime looks names up, in their order.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::environment::{self, Family};
use super::stored::StoredEntries;
use super::{AnyVault, VaultEntry, folder};
use crate::entry::EntryKind;
use crate::error::error_text;
use crate::secret::Secret;
use crate::store::Store;

/// The places in which a runtime looks names up.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// What was given to the runtime.
    given: HashMap<(EntryKind, String), Secret>,
    pub(crate) stored: StoredEntries,
    vaults: Vec<Arc<dyn AnyVault>>,
}

/// One of the places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Given,
    Variable(String),
    File(PathBuf),
    Store,
    Vault(String),
}

impl Place {
    /// Returns `true` for variables and files.
    pub(crate) fn is_of_the_environment(&self) -> bool {
        matches!(self, Self::Variable(_) | Self::File(_))
    }

    /// Returns `true` for the environment of this process, which comes before the store.
    pub(crate) fn shadows_the_store(&self) -> bool {
        matches!(self, Self::Given) || self.is_of_the_environment()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given => f.write_str("the runtime"),
            Self::Variable(name) => f.write_str(name),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Store => f.write_str("the store"),
            Self::Vault(name) => write!(f, "vault `{name}`"),
        }
    }
}

/// What a place has under a name.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) place: Place,
    pub(crate) text: Secret,
    pub(crate) version: Option<String>,
    pub(crate) expires_at: Option<DateTime<Utc>>,
}

/// The reason why a place could not be asked. Trying again may help.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{kind} `{name}` cannot be looked up in {place}: {problem}")]
pub(crate) struct LookupError {
    kind: EntryKind,
    name: String,
    pub(crate) place: Place,
    problem: String,
}

/// A place to look in, in the order of the look-up.
enum Source<'a> {
    Given,
    Environment(Family),
    Folder,
    Store,
    Vault(&'a dyn AnyVault),
}

impl Places {
    pub(crate) fn new(
        given: HashMap<(EntryKind, String), Secret>,
        store: Arc<dyn Store>,
        vaults: Vec<Arc<dyn AnyVault>>,
    ) -> Self {
        Self {
            given,
            stored: StoredEntries::new(store),
            vaults,
        }
    }

    /// Returns the same places with another store.
    #[cfg(feature = "cli")]
    pub(crate) fn with_store(&self, store: Arc<dyn Store>) -> Self {
        Self {
            stored: StoredEntries::new(store),
            ..self.clone()
        }
    }

    fn sources(&self) -> impl Iterator<Item = Source<'_>> {
        [
            Source::Given,
            Source::Environment(Family::Own),
            Source::Environment(Family::Airflow),
            Source::Folder,
            Source::Store,
        ]
        .into_iter()
        .chain(self.vaults.iter().map(|vault| Source::Vault(&**vault)))
    }

    /// Looks a name up; the first place that has it wins.
    ///
    /// # Errors
    ///
    /// Returns an error if a place cannot be asked: a later one must not win because of that.
    pub(crate) async fn find(
        &self,
        kind: EntryKind,
        name: &str,
    ) -> Result<Option<Found>, LookupError> {
        for source in self.sources() {
            if let Some(found) = self.find_in(&source, kind, name).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Returns what each place has under a name, the winner first.
    pub(crate) async fn find_all(
        &self,
        kind: EntryKind,
        name: &str,
    ) -> Vec<Result<Found, LookupError>> {
        let mut all = Vec::new();
        for source in self.sources() {
            all.extend(self.find_in(&source, kind, name).await.transpose());
        }
        all
    }

    async fn find_in(
        &self,
        source: &Source<'_>,
        kind: EntryKind,
        name: &str,
    ) -> Result<Option<Found>, LookupError> {
        let failed = |place: Place| {
            move |problem: String| LookupError {
                kind,
                name: name.to_owned(),
                place,
                problem,
            }
        };
        let found = |place: Place, entry: VaultEntry| Found {
            place,
            text: entry.text,
            version: entry.version,
            expires_at: entry.expires_at,
        };
        let plain = |place: Place, text: Secret| found(place, VaultEntry::new(text));
        Ok(match source {
            Source::Given => {
                let given = self.given.get(&(kind, name.to_owned()));
                given.map(|text| plain(Place::Given, text.clone()))
            }
            Source::Environment(family) => {
                let Some(variable) = family.variable(kind, name) else {
                    return Ok(None);
                };
                let text = environment::read(kind, &variable)
                    .map_err(failed(Place::Variable(variable.clone())))?;
                text.map(|text| plain(Place::Variable(variable), text))
            }
            Source::Folder => {
                let Some(file) = folder::path().map(|folder| folder.join(name)) else {
                    return Ok(None);
                };
                let read = {
                    let file = file.clone();
                    blocking(move || folder::read(&file)).await
                };
                read.map_err(failed(Place::File(file.clone())))?
                    .map(|text| plain(Place::File(file), text))
            }
            Source::Store => {
                let entry = self.stored.find(kind, name).await;
                entry
                    .map_err(failed(Place::Store))?
                    .map(|entry| found(Place::Store, entry))
            }
            Source::Vault(vault) => {
                let place = Place::Vault(vault.name());
                let entry = vault.find(kind, name).await;
                entry
                    .map_err(|error| failed(place.clone())(error_text(&*error)))?
                    .map(|entry| found(place, entry))
            }
        })
    }

    /// Returns `true` if a vault still has the version of an entry that was found in it, and no earlier
    /// place has the name by now.
    ///
    /// # Errors
    ///
    /// Returns an error if one of them cannot be asked.
    pub(crate) async fn is_unchanged(
        &self,
        kind: EntryKind,
        name: &str,
        found: &Found,
    ) -> Result<bool, LookupError> {
        let (Place::Vault(place), Some(version)) = (&found.place, &found.version) else {
            return Ok(false);
        };
        let mut its = None;
        for source in self.sources() {
            match source {
                Source::Vault(vault) if vault.name() == *place => {
                    its = Some(vault);
                    break;
                }
                earlier => {
                    if self.find_in(&earlier, kind, name).await?.is_some() {
                        return Ok(false);
                    }
                }
            }
        }
        let Some(vault) = its else {
            return Ok(false);
        };
        let now = vault
            .version(kind, name)
            .await
            .map_err(|error| LookupError {
                kind,
                name: name.to_owned(),
                place: found.place.clone(),
                problem: error_text(&*error),
            })?;
        Ok(now.as_ref() == Some(version))
    }

    /// Returns the places in which a name is looked up, in their order and in words.
    pub(crate) fn in_words(&self, kind: EntryKind, name: &str) -> Vec<String> {
        let place = |source: Source<'_>| {
            Some(match source {
                Source::Given => Place::Given.to_string(),
                Source::Environment(family) => family.variable(kind, name)?,
                Source::Folder => Place::File(folder::path()?.join(name)).to_string(),
                Source::Store => self.stored.in_words(kind),
                Source::Vault(vault) => Place::Vault(vault.name()).to_string(),
            })
        };
        self.sources().filter_map(place).collect()
    }

    /// Returns the names of all entries of a kind that the places tell, sorted. Names from the
    /// environment are in lower case. Also returns what could not be asked.
    pub(crate) async fn names(&self, kind: EntryKind) -> (Vec<String>, Vec<String>) {
        let (mut names, mut problems) = (Vec::new(), Vec::new());
        for source in self.sources() {
            let found = match source {
                Source::Given => {
                    let given = self.given.keys().filter(|(of, _)| *of == kind);
                    Ok(given.map(|(_, name)| name.clone()).collect())
                }
                Source::Environment(family) => Ok(family.names(kind)),
                // a file may be of any kind: only the task that takes it knows
                Source::Folder => Ok(Vec::new()),
                Source::Store => self.stored.names(kind).await,
                Source::Vault(vault) => vault
                    .names(kind)
                    .await
                    .map_err(|error| format!("vault `{}`: {}", vault.name(), error_text(&*error))),
            };
            match found {
                Ok(found) => names.extend(found),
                Err(problem) => problems.push(problem),
            }
        }
        names.sort();
        names.dedup();
        (names, problems)
    }
}

/// Reads a file on a blocking thread if there is a tokio runtime.
async fn blocking<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::runtime::Handle::try_current() {
        Ok(tokio) => match tokio.spawn_blocking(read).await {
            Ok(read) => read,
            // the tokio runtime is shutting down, and drops this future
            Err(_) => std::future::pending().await,
        },
        Err(_) => read(),
    }
}
