//! Vaults: where connections, variables and secrets are looked up by name.
//!
//! | file | contents |
//! | --- | --- |
//! | [`places`] | the places of a runtime in their order, and the look-up |
//! | [`environment`], [`folder`] | environment variables, Airflow's too; a folder with a file a name |
//! | [`stored`] | what the store keeps: variables as they are, connections and secrets sealed |
//! | [`keys`] | the keys with which a store's connections and secrets are sealed |
//! | `cipher.rs` | how one text is sealed |
//! | `no_keys.rs` | replaces `keys.rs` if the feature `vault` is off |
//!
//! What is given to the runtime comes first, then the environment, the folder, the store, and the
//! vaults that were added to the runtime ([`Vault`]), in their order.

#[cfg(feature = "vault")]
mod cipher;
mod environment;
mod folder;
#[cfg(feature = "vault")]
mod keys;
#[cfg(not(feature = "vault"))]
#[path = "no_keys.rs"]
mod keys;
mod places;
mod stored;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;

pub(crate) use environment::Family;
pub(crate) use keys::{KeyError, KeyRing};
pub(crate) use places::{Found, LookupError, Place, Places};
pub(crate) use stored::StoredEntries;

use crate::entry::EntryKind;
use crate::error::Result;
use crate::panic;
use crate::secret::Secret;

/// A place where connections, variables and secrets are looked up, such as a server of secrets. Added
/// to a runtime with [`RuntimeBuilder::vault`](crate::RuntimeBuilder::vault).
///
/// # Examples
///
/// ```
/// use orchestrator::prelude::*;
/// use orchestrator::{EntryKind, Secret, Vault, VaultEntry};
///
/// struct Fixed;
///
/// impl Vault for Fixed {
///     fn name(&self) -> String {
///         "fixed".to_owned()
///     }
///
///     async fn find(&self, kind: EntryKind, name: &str) -> Result<Option<VaultEntry>> {
///         Ok(match (kind, name) {
///             (EntryKind::Secret, "scoring_api_key") => Some(VaultEntry::new("k-123456")),
///             _ => None,
///         })
///     }
/// }
///
/// #[task]
/// async fn digits(#[secret("scoring_api_key")] key: &Secret) -> usize { key.expose().len() }
///
/// #[flow]
/// fn key_digits() -> Node<usize> { digits() }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// let runtime = Runtime::builder().store("memory").vault(Fixed).build().await?;
/// assert_eq!(key_digits().on(&runtime).await?, 8);
/// # Ok(())
/// # }
/// ```
pub trait Vault: Send + Sync + 'static {
    /// Returns its name, for messages.
    fn name(&self) -> String;

    /// Looks an entry up.
    ///
    /// # Errors
    ///
    /// Returns an error if the vault cannot be asked. The attempt that needs the entry fails with it,
    /// and is retried as any other; clients that are made already stay in use. A vault that does not
    /// answer within 30 seconds cannot be asked.
    fn find(
        &self,
        kind: EntryKind,
        name: &str,
    ) -> impl Future<Output = Result<Option<VaultEntry>>> + Send;

    /// Returns the version of an entry, if that is cheaper than the entry itself: an entry is looked up
    /// again only if its version has changed. By default, the entry is looked up.
    ///
    /// # Errors
    ///
    /// Returns an error if the vault cannot be asked.
    fn version(
        &self,
        kind: EntryKind,
        name: &str,
    ) -> impl Future<Output = Result<Option<String>>> + Send {
        let _ = (kind, name);
        async { Ok(None) }
    }

    /// Returns the names of its entries, for lists of the command line. By default none: they are found
    /// by name all the same.
    ///
    /// # Errors
    ///
    /// Returns an error if the vault cannot be asked.
    fn names(&self, kind: EntryKind) -> impl Future<Output = Result<Vec<String>>> + Send {
        let _ = kind;
        async { Ok(Vec::new()) }
    }
}

/// What a [`Vault`] has under a name.
#[derive(Clone, Debug)]
pub struct VaultEntry {
    pub(crate) text: Secret,
    pub(crate) version: Option<String>,
    pub(crate) expires_at: Option<DateTime<Utc>>,
}

impl VaultEntry {
    /// Creates an entry: the text of a connection ([`Connection::parse`](crate::Connection::parse)), of
    /// a variable, or of a secret.
    pub fn new(text: impl Into<Secret>) -> Self {
        Self {
            text: text.into(),
            version: None,
            expires_at: None,
        }
    }

    /// Sets the version, which [`Vault::version`] returns until the entry changes.
    #[must_use]
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Sets the instant at which the credentials end. Clients are made anew before that.
    #[must_use]
    pub fn with_expiry(mut self, at: DateTime<Utc>) -> Self {
        self.expires_at = Some(at);
        self
    }
}

/// How long a vault may take to answer. Runs that start or are resumed wait for it, and no timeout of
/// theirs counts yet.
const TIME: Duration = Duration::from_secs(30);

/// A [`Vault`] without its type. No answer in time and a panic are errors.
pub(crate) trait AnyVault: Send + Sync {
    fn name(&self) -> String;

    fn find<'a>(
        &'a self,
        kind: EntryKind,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<VaultEntry>>>;

    fn version<'a>(
        &'a self,
        kind: EntryKind,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>>>;

    fn names(&self, kind: EntryKind) -> BoxFuture<'_, Result<Vec<String>>>;
}

impl<V: Vault> AnyVault for V {
    fn name(&self) -> String {
        Vault::name(self)
    }

    fn find<'a>(
        &'a self,
        kind: EntryKind,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<VaultEntry>>> {
        Box::pin(panic::answer(TIME, Vault::find(self, kind, name)))
    }

    fn version<'a>(
        &'a self,
        kind: EntryKind,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>>> {
        Box::pin(panic::answer(TIME, Vault::version(self, kind, name)))
    }

    fn names(&self, kind: EntryKind) -> BoxFuture<'_, Result<Vec<String>>> {
        Box::pin(panic::answer(TIME, Vault::names(self, kind)))
    }
}

impl fmt::Debug for dyn AnyVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({})", self.name())
    }
}
