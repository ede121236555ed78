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
#[cfg(test)]
mod tests;
mod uri;

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Utc};

use crate::secret::{HIDDEN, Secret};

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
/// A part that is empty is a part that is not there.
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
const SECRET: [&str; 8] = [
    "key",
    "secret",
    "token",
    "password",
    "passphrase",
    "credential",
    // headers, which options of `http` connections are
    "authorization",
    "cookie",
];

/// The kinds of connections whose path and options are secrets: their URL is all that it takes to
/// get in.
const SECRET_URLS: [&str; 2] = ["slack", "heartbeat"];

impl Connection {
    /// Reads a connection from a text: a URI, or a JSON object.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is neither, or if a part of it is invalid. The error names the
    /// part; it never contains the text.
    ///
    /// # Examples
    ///
    /// ```
    /// use orchestrator::Connection;
    ///
    /// let text = "postgres://loader:p%2Fw@db.example:5433/shop?sslmode=require";
    /// let shop = Connection::parse("shop", text)?;
    /// assert_eq!(shop.kind(), "postgres");
    /// assert_eq!(shop.host(), Some("db.example"));
    /// assert_eq!(shop.port(), Some(5433));
    /// assert_eq!(shop.login(), Some("loader"));
    /// assert_eq!(shop.password().map(|password| password.expose()), Some("p/w"));
    /// assert_eq!(shop.path(), Some("shop"));
    /// assert_eq!(shop.option("sslmode"), Some("require"));
    ///
    /// let text = r#"{"conn_type": "http", "host": "api.example", "extra": {"timeout": 10}}"#;
    /// let api = Connection::parse("api", text)?;
    /// assert_eq!(api.option("timeout"), Some("10"));
    ///
    /// let error = Connection::parse("shop", "postgres://loader:p/w@db.example").unwrap_err();
    /// assert!(error.to_string().starts_with("expected the port to be a number"));
    /// # Ok::<(), orchestrator::ConnectionError>(())
    /// ```
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

    /// Returns the kind of the service, such as `postgres`, `s3` or `http`: the scheme of the URI in
    /// lower case, or `conn_type`. As in Airflow, `postgresql` is returned as `postgres`, and `-` as
    /// `_`. It is empty if the text does not tell the kind: `//host`, or an object without
    /// `conn_type`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Returns the host: a name, an address without brackets, the path of a socket, or a URL.
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
    /// that is not a text is its JSON; a field that is `null` is not there.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(Secret::expose)
    }

    /// Returns the names of the options, in alphabetical order.
    pub fn options(&self) -> impl Iterator<Item = &str> {
        self.options.keys().map(String::as_str)
    }

    /// Returns `true` if the value of an option is a secret: if its name contains `key`, `secret`,
    /// `token`, `password`, `passphrase`, `credential`, `authorization` or `cookie`, unless it ends with
    /// `_id`. All options of `slack` and `heartbeat` connections are secrets.
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

    /// Returns `true` if the host is a URL with a secret in it.
    fn has_secret_host(&self) -> bool {
        let host = self.host().unwrap_or_default();
        let address = host.split_once("://").map_or(host, |(_, address)| address);
        address.contains('@') || self.has_secret_url() && address.contains('/')
    }

    /// Returns `true` if the path and the options are secrets.
    pub(crate) fn has_secret_url(&self) -> bool {
        SECRET_URLS.contains(&self.kind.as_str())
    }

    /// Returns all texts that are secrets. An option such as `no_host_key_check=true` has none.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        let options = self.options.iter();
        let options = options.filter(|(name, _)| self.is_secret(name));
        let path = self.path().filter(|_| self.has_secret_url());
        let host = self.host().filter(|_| self.has_secret_host());
        self.password
            .iter()
            .map(Secret::expose)
            .chain(options.map(|(_, value)| value.expose()))
            .chain(path)
            .chain(host)
            .filter(|text| !text.is_empty() && !is_switch(text))
    }

    /// Returns the texts that are not secrets, and that a secret must not be confused with.
    pub(crate) fn plain_texts(&self) -> impl Iterator<Item = &str> {
        let path = self.path().filter(|_| !self.has_secret_url());
        let host = self.host().filter(|_| !self.has_secret_host());
        [Some(self.id()), Some(self.kind()), host, self.login(), path]
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

    /// Returns the host as it may be shown.
    pub(crate) fn shown_host(&self) -> Option<&str> {
        match self.has_secret_host() {
            true => Some(HIDDEN),
            false => self.host(),
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

impl ConnectionError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the error of a text that is neither a URI nor an object.
    fn neither(text: &str) -> Self {
        let got = if text.is_empty() {
            "an empty text"
        } else {
            "neither"
        };
        Self::new(format!(
            "expected a URI such as `postgres://login:password@host:5432/database`, or a JSON \
             object, got {got}"
        ))
    }
}

/// Returns `true` for a text that is not worth hiding, and whose masking would make logs unreadable.
fn is_switch(text: &str) -> bool {
    ["true", "false"]
        .iter()
        .any(|switch| text.eq_ignore_ascii_case(switch))
}

/// Returns a kind by the name that Airflow knows it by.
fn kind_of(name: &str) -> String {
    match name {
        "postgresql" => "postgres".to_owned(),
        _ => name.replace('-', "_"),
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
            .field("host", &self.shown_host())
            .field("port", &self.port)
            .field("login", &self.login)
            .field("password", &self.password)
            .field("path", &self.shown_path())
            .field("options", &options)
            .field("expires_at", &self.expires_at)
            .finish()
    }
}
