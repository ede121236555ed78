//! Connections, variables and secrets that tasks take by name, and the clients that connections
//! become.

use std::any::{Any, TypeId};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;

use crate::connection::Connection;
use crate::entry::EntryKind;
use crate::error::{Result, TaskError};
use crate::panic::{self, Fragile};
use crate::secret::Secret;

/// How long a check of a client may take. The attempts that need the client wait for it.
const CHECK: Duration = Duration::from_secs(30);

/// A connection, a variable or a secret that a task takes.
#[derive(Debug)]
pub struct Requirement {
    /// Its name in the vaults, such as `postgres_default`.
    pub name: &'static str,
    /// The parameter that takes it.
    pub parameter: &'static str,
    /// The type of the parameter, as it is written.
    pub type_name: &'static str,
    /// What it is.
    pub kind: RequirementKind,
}

/// The kind of a requirement.
#[derive(Debug)]
pub enum RequirementKind {
    /// `#[connection("…")]`.
    Connection(ClientDef),
    /// `#[variable("…")]`.
    Variable {
        /// Reads its value.
        parse: ParseVariable,
        /// Whether the value is part of a cache key.
        in_key: bool,
    },
    /// `#[secret("…")]`.
    Secret,
}

impl RequirementKind {
    /// Returns the kind of entry that it is looked up as.
    pub(crate) fn entry(&self) -> EntryKind {
        match self {
            Self::Connection(_) => EntryKind::Connection,
            Self::Variable { .. } => EntryKind::Variable,
            Self::Secret => EntryKind::Secret,
        }
    }
}

/// Reads the text of a variable as a value.
pub type ParseVariable = fn(&str) -> Result<Box<dyn Any + Send>, String>;

/// A client, without its type.
#[derive(Clone)]
pub(crate) struct SharedClient(Fragile<Arc<dyn Any + Send + Sync>>);

impl SharedClient {
    /// Returns the client, if it is a `T`.
    pub(crate) fn downcast<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        Arc::clone(&self.0).downcast().ok()
    }
}

impl fmt::Debug for SharedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedClient")
    }
}

/// What a connection becomes: a client for a service, made of a [`Connection`].
///
/// A task takes it as `#[connection("id")] shop: &Client`. It is made when it is first needed, once
/// per runtime, id and type, and shared by all tasks. It is made anew if the connection is changed
/// (looked at once a minute), before its credentials end
/// ([`Connection::expires_at`]), if [`check`](Self::check) fails, and after an attempt that fails with
/// [`reconnect`](crate::reconnect).
///
/// `Connection` itself implements it, for tasks that connect by themselves.
///
/// # Examples
///
/// ```
/// use orchestrator::prelude::*;
/// use orchestrator::{Connect, Connection};
///
/// struct Search { url: String }
///
/// impl Connect for Search {
///     const KINDS: &'static [&'static str] = &["opensearch"];
///
///     async fn connect(connection: &Connection) -> Result<Self> {
///         let host = connection.host().ok_or("expected a host")?;
///         Ok(Self { url: format!("https://{host}:{}", connection.port().unwrap_or(9200)) })
///     }
/// }
///
/// #[task]
/// async fn index(pages: &[String], #[connection("search_default")] search: &Search) -> String {
///     format!("{} pages to {}", pages.len(), search.url)
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a client: it cannot be made of a connection",
    label = "expected a type that implements `Connect`",
    note = "implement `orchestrator::Connect` for it, or take `&Connection`"
)]
pub trait Connect: Sized + Send + Sync + 'static {
    /// The kinds of connections that it is made of, as [`Connection::kind`] returns them; empty for any
    /// kind. A connection of another kind is refused before anything runs.
    const KINDS: &'static [&'static str] = &[];

    /// Makes the client.
    ///
    /// # Errors
    ///
    /// An error is a failure of the attempt that needs the client, which is retried as the task says.
    fn connect(connection: &Connection) -> impl Future<Output = Result<Self>> + Send;

    /// Checks whether the service answers. Once a minute, a client is checked before it is given to
    /// the next attempt, and made anew if the check fails, or takes more than 30 seconds.
    ///
    /// # Errors
    ///
    /// Returns an error if the service does not answer. By default, nothing is checked.
    fn check(&self) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }
}

impl Connect for Connection {
    async fn connect(connection: &Connection) -> Result<Self> {
        Ok(connection.clone())
    }
}

/// How a client is made, without its type.
#[derive(Clone, Copy)]
pub struct ClientDef {
    pub(crate) id: fn() -> TypeId,
    pub(crate) kinds: &'static [&'static str],
    pub(crate) connect: fn(Arc<Connection>) -> BoxFuture<'static, Result<SharedClient>>,
    pub(crate) check: fn(SharedClient) -> BoxFuture<'static, Result<()>>,
}

impl ClientDef {
    /// Describes a type of clients.
    pub const fn of<T: Connect>() -> Self {
        Self {
            id: TypeId::of::<T>,
            kinds: T::KINDS,
            connect: |connection| {
                Box::pin(async move {
                    let made = panic::contained(T::connect(&connection)).await?;
                    let client: Arc<dyn Any + Send + Sync> = Arc::new(made);
                    Ok(SharedClient(Fragile::new(client)))
                })
            },
            check: |client| {
                Box::pin(async move {
                    match client.downcast::<T>() {
                        Some(client) => panic::answer(CHECK, client.check()).await,
                        None => Ok(()),
                    }
                })
            },
        }
    }

    /// Returns `true` if the client can be made of connections of a kind.
    pub(crate) fn takes(&self, kind: &str) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }
}

impl fmt::Debug for ClientDef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientDef")
            .field("kinds", &self.kinds)
            .finish_non_exhaustive()
    }
}

/// A client that an attempt took.
#[derive(Clone, Debug)]
pub(crate) struct TakenClient {
    pub(crate) client: SharedClient,
    pub(crate) connection: Arc<str>,
    pub(crate) def: ClientDef,
    /// Counts the clients of the runtime: one that was made anew has another number.
    pub(crate) number: u64,
}

/// Looks up what a body asks for by name at run time.
pub(crate) trait Lookup: fmt::Debug + Send + Sync {
    /// Returns a client, made of a connection if it does not exist yet.
    fn client<'a>(
        &'a self,
        id: &'a str,
        def: ClientDef,
    ) -> BoxFuture<'a, Result<TakenClient, TaskError>>;

    /// Returns the text of a variable or a secret.
    fn text<'a>(
        &'a self,
        kind: EntryKind,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Secret, TaskError>>;
}

/// A type of variables. Implemented by all types that are deserializable and owned.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be read from a variable",
    label = "not `Deserialize + Send + 'static`",
    note = "derive the missing trait: `#[derive(serde::Deserialize)]`",
    note = "a text that is never printed is not a variable: take it as `#[secret(\"…\")] key: &Secret`"
)]
pub trait VariableValue: DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned + Send + 'static> VariableValue for T {}

/// Reads the text of a variable: as it is for a `String`; otherwise as JSON or, if that fails, as a
/// JSON string.
pub fn parse_variable<T: VariableValue>(text: &str) -> Result<Box<dyn Any + Send>, String> {
    read_variable::<T>(text).map(|value| Box::new(value) as _)
}

/// Reads the text of a variable as a value of type `T`.
pub(crate) fn read_variable<T: DeserializeOwned + 'static>(text: &str) -> Result<T, String> {
    if TypeId::of::<T>() == TypeId::of::<String>() {
        // the types are equal: a text is the simplest value to go through
        return T::deserialize(serde::de::value::StrDeserializer::<serde_json::Error>::new(
            text,
        ))
        .map_err(|error| error.to_string());
    }
    let problem = match serde_json::from_str(text) {
        Ok(value) => return Ok(value),
        Err(problem) => problem,
    };
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|_| problem.to_string())
}
