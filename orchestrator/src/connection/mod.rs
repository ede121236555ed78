//! Connections: where a service is, and how to get in.
//!
//! | file | contents |
//! | --- | --- |
//! | [`uri`] | connections as URIs |
//! | [`json`] | connections as JSON objects |
//!
//! Both are read as Airflow reads them; `orchestrator/tests/fixtures/airflow_connections.csv` has its
//! own answers.

mod json;
mod uri;

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Utc};

use crate::secret::Secret;

/// Where a service is and how to get in: its kind, host, port, login, password, path and options.
///
/// A task takes it as `#[connection("id")] shop: &Connection`, or takes a client that is made of it
/// ([`Connect`](crate::Connect)).
///
/// As a text, a connection is a URI, or a JSON object as Airflow writes it:
///
/// - `postgres://loader:p%2Fw@db.example:5433/shop?sslmode=require`: all parts are percent-encoded;
///   the query has the options.
/// - `{"conn_type": "postgres", "host": "db.example", "login": "loader", "password": "p/w", "port": 5433,
///   "schema": "shop", "extra": {"sslmode": "require"}}`
///
/// `Debug` hides the password and the options that are secrets ([`is_secret`](Self::is_secret)).
#[derive(Clone)]
pub struct Connection {
    id: String,
    kind: String,
    host: Option<String>,
    port: Option<u16>,
    login: Option<String>,
    password: Option<Secret>,
    path: Option<String>,
    options: BTreeMap<String, Secret>,
    expires_at: Option<DateTime<Utc>>,
}

/// The reason why a text is not a connection. It never contains the text itself.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConnectionError(pub(crate) String);

/// Parts of the names of options whose values are secrets.
const SECRET: [&str; 6] = ["key", "secret", "token", "password", "passphrase", "credential"];

/// The kinds of connections whose path and options are secrets: their URL is all that it takes to
/// get in.
const SECRET_URLS: [&str; 2] = ["slack", "heartbeat"];

/// The replacement for a secret.
const HIDDEN: &str = "***";

impl Connection {
    /// Reads a connection from a text: a URI, or a JSON object.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is neither, or if a part of it is invalid.
    pub fn parse(id: &str, text: &str) -> Result<Self, ConnectionError> {
        let text = text.trim();
        match text.starts_with('{') {
            true => json::parse(id, text),
            false => uri::parse(id, text),
        }
    }

    /// Returns the id: the name under which it was found.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the kind of the service, such as `postgres`, `s3` or `http`: the scheme of the URI, or
    /// `conn_type`. As in Airflow, `postgresql` is returned as `postgres`, and `-` as `_`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Returns the host.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// Returns the port.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Returns the login: the name of the user.
    pub fn login(&self) -> Option<&str> {
        self.login.as_deref()
    }

    /// Returns the password.
    pub fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    /// Returns the path without the slash before it: what Airflow calls the schema, such as the name
    /// of a database.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// Returns an option: a parameter of the URI's query, or a field of `extra`. The value of a field
    /// that is not a text is its JSON.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(Secret::expose)
    }

    /// Returns the names of the options, in alphabetical order.
    pub fn options(&self) -> impl Iterator<Item = &str> {
        self.options.keys().map(String::as_str)
    }

    /// Returns `true` if the value of an option is a secret: if its name contains `key`, `secret`,
    /// `token`, `password`, `passphrase` or `credential`, unless it ends with `_id`. All options of
    /// `slack` and `heartbeat` connections are secrets.
    pub fn is_secret(&self, option: &str) -> bool {
        let name = option.to_ascii_lowercase();
        let is_named = SECRET.iter().any(|part| name.contains(part)) && !name.ends_with("_id");
        is_named || self.has_secret_url()
    }

    /// Returns when the credentials end, if the place that it was found in tells: clients are made
    /// anew before that.
    pub fn expires_at(&self) -> Option<DateTime<Utc>> {
        self.expires_at
    }

    /// Returns the connection with credentials that end at an instant. A [`Vault`](crate::Vault) tells
    /// the same in its entry.
    #[must_use]
    pub fn with_expiry(mut self, at: DateTime<Utc>) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// Returns `true` if the path and the options are secrets.
    pub(crate) fn has_secret_url(&self) -> bool {
        SECRET_URLS.contains(&self.kind.as_str())
    }

    /// Returns all texts that are secrets.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        let options = self.options.iter();
        let options = options.filter(|(name, _)| self.is_secret(name));
        let path = self.path.as_deref().filter(|_| self.has_secret_url());
        self.password
            .iter()
            .map(Secret::expose)
            .chain(options.map(|(_, value)| value.expose()))
            .chain(path)
    }

    /// Returns the texts that are no secrets, and that a secret must not be confused with.
    pub(crate) fn plain_texts(&self) -> impl Iterator<Item = &str> {
        let path = self.path.as_deref().filter(|_| !self.has_secret_url());
        [Some(self.id.as_str()), Some(&self.kind), self.host(), self.login(), path]
            .into_iter()
            .flatten()
    }

    /// Returns the value of an option as it may be shown.
    pub(crate) fn shown_option(&self, name: &str) -> Option<&str> {
        match self.is_secret(name) {
            true => self.options.contains_key(name).then_some(HIDDEN),
            false => self.option(name),
        }
    }

    /// Returns the path as it may be shown.
    pub(crate) fn shown_path(&self) -> Option<&str> {
        match self.has_secret_url() {
            true => self.path.as_ref().map(|_| HIDDEN),
            false => self.path(),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options: BTreeMap<_, _> = self
            .options()
            .map(|name| (name, self.shown_option(name)))
            .collect();
        f.debug_struct("Connection")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("login", &self.login)
            .field("password", &self.password)
            .field("path", &self.shown_path())
            .field("options", &options)
            .field("expires_at", &self.expires_at)
            .finish()
    }
}
