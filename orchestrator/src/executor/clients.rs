//! What tasks need from outside: names looked up, and the clients that connections become.
//!
//! What was found under a name stays in use for [`FRESH`], and is looked up anew whenever a run is
//! asked for. A client is shared by all tasks of the runtime. It is looked at once in that time, by one
//! attempt while the others wait for it: it stays if its connection is unchanged, its credentials do
//! not end soon, and its own check passes. Attempts that have a client keep it when it is made anew.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use crate::clock::{Clock, Timestamp};
use crate::connection::Connection;
use crate::entry::EntryKind;
use crate::error::{BoxError, Cause, IntoTaskError as _, TaskError, error_text};
use crate::flow::registry;
use crate::mask;
use crate::panic::{self, Fragile};
use crate::secret::Secret;
use crate::task::{
    ClientDef, Lookup, ParseVariable, PreparedRequirement, PreparedRequirements, Requirement,
    RequirementKind, SharedClient, TakenClient, TaskEntry,
};
use crate::vault::{Found, LookupError, Places};

/// How long what was found under a name is used before it is looked up again.
const FRESH: Duration = Duration::from_secs(60);

/// A client is made anew this long before its credentials end.
const BEFORE_EXPIRY: Duration = Duration::from_secs(60);

/// The clients of a runtime, and what was found under the names that its tasks need.
pub(crate) struct Clients {
    pub(crate) places: Places,
    clock: Clock,
    entries: Mutex<HashMap<EntryKind, HashMap<Arc<str>, Recent>>>,
    clients: Mutex<HashMap<TypeId, ClientSlots>>,
    made: AtomicU64,
}

/// The clients of a type, by their connections.
type ClientSlots = HashMap<Arc<str>, Arc<ClientSlot>>;

/// What was found under a name, and when.
#[derive(Clone, Debug)]
struct Recent {
    entry: Arc<Entry>,
    looked_at: Timestamp,
}

/// What was found under a name.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) found: Found,
    /// The connection, or what is wrong with its text. `None` for other kinds.
    pub(crate) connection: Option<Result<Arc<Connection>, String>>,
}

/// A client for one connection and type.
#[derive(Debug)]
struct ClientSlot {
    connection: Arc<str>,
    def: ClientDef,
    /// Held by the attempt that looks at the client, or makes it.
    flight: tokio::sync::Mutex<()>,
    current: Mutex<Option<MadeClient>>,
}

#[derive(Clone, Debug)]
struct MadeClient {
    client: SharedClient,
    number: u64,
    /// The text of the connection that it was made of.
    text: Secret,
    expires_at: Option<Timestamp>,
    looked_at: Timestamp,
}

/// The reason why a name cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum EntryError {
    /// A place could not be asked. Trying again may help.
    #[error(transparent)]
    Lookup(LookupError),
    /// It is not there, or of no use.
    #[error("{0}")]
    Unusable(String),
}

impl Entry {
    /// Reads what was found under a name. Its secrets are masked from now on.
    pub(crate) fn read(kind: EntryKind, name: &str, found: Found) -> Self {
        let connection = (kind == EntryKind::Connection).then(|| {
            let parsed = Connection::parse(name, found.text.expose());
            let parsed = parsed.map(|connection| match found.expires_at {
                Some(at) => connection.with_expiry(at),
                None => connection,
            });
            parsed.map(Arc::new).map_err(|error| error.to_string())
        });
        let entry = Self { found, connection };
        learn_names();
        entry.teach_masks(kind, name);
        entry
    }

    /// Returns why a secret of the entry is not masked, if one is not.
    pub(crate) fn weakness(&self, kind: EntryKind) -> Option<mask::Weakness> {
        match (kind, &self.connection) {
            (EntryKind::Secret, _) => mask::weakness(self.found.text.expose()),
            (_, Some(Ok(connection))) => connection.secrets().find_map(mask::weakness),
            _ => None,
        }
    }

    fn teach_masks(&self, kind: EntryKind, name: &str) {
        let text = self.found.text.expose();
        match (kind, &self.connection) {
            (EntryKind::Secret, _) => mask::learn(&[text], &[name]),
            (_, Some(Ok(connection))) => {
                let secrets: Vec<_> = connection.secrets().collect();
                let plain: Vec<_> = connection.plain_texts().collect();
                mask::learn(&secrets, &plain);
            }
            // what is secret of a text that cannot be read is unknown
            (EntryKind::Connection, _) => mask::learn(&[text], &[name]),
            (EntryKind::Variable, _) => mask::learn(&[], &[name]),
        }
    }
}

impl Clients {
    pub(crate) fn new(places: Places, clock: Clock) -> Self {
        Self {
            places,
            clock,
            entries: Mutex::default(),
            clients: Mutex::default(),
            made: AtomicU64::new(0),
        }
    }

    /// Returns what is under a name, looked up now.
    pub(crate) async fn look_up(
        &self,
        kind: EntryKind,
        name: &str,
    ) -> Result<Arc<Entry>, EntryError> {
        if let Some(problem) = orchestrator_grammar::names::fault(name) {
            return Err(EntryError::Unusable(format!("{kind} {problem}")));
        }
        let found = self.places.find(kind, name).await?;
        let Some(found) = found else {
            self.forget(kind, name);
            return Err(EntryError::Unusable(format!(
                "{kind} `{name}` is not found; looked in {}",
                self.places.in_words(kind, name).join(", ")
            )));
        };
        let entry = Arc::new(Entry::read(kind, name, found));
        self.remember(kind, name, &entry);
        Ok(entry)
    }

    fn remember(&self, kind: EntryKind, name: &str, entry: &Arc<Entry>) {
        let recent = Recent {
            entry: Arc::clone(entry),
            looked_at: self.clock.timestamp(),
        };
        let mut entries = self.entries.lock();
        entries.entry(kind).or_default().insert(name.into(), recent);
    }

    fn forget(&self, kind: EntryKind, name: &str) {
        let mut entries = self.entries.lock();
        entries.entry(kind).or_default().remove(name);
    }

    /// Returns what is under a name, if it was looked up a short while ago.
    fn recent(&self, kind: EntryKind, name: &str) -> Option<Arc<Entry>> {
        let entries = self.entries.lock();
        let recent = entries.get(&kind)?.get(name)?;
        let is_usable = self.is_fresh(recent.looked_at) && !self.is_over(recent);
        is_usable.then(|| Arc::clone(&recent.entry))
    }

    /// Returns `true` if what was found ends soon.
    fn is_over(&self, recent: &Recent) -> bool {
        self.ends_soon(expiry(&recent.entry.found))
    }

    /// Lets a connection be looked up anew before a client is made of it. If its place cannot be asked
    /// then, what was found before stays in use.
    fn doubt(&self, id: &str) {
        let mut entries = self.entries.lock();
        let connections = entries.entry(EntryKind::Connection).or_default();
        if let Some(recent) = connections.get_mut(id) {
            recent.looked_at = Timestamp::MIN;
        }
    }

    fn is_fresh(&self, looked_at: Timestamp) -> bool {
        let age = self.clock.timestamp().since(looked_at);
        age < FRESH
    }

    /// Returns what is under a name, looked up a short while ago or now. If a place cannot be asked
    /// now, what was found before stays in use.
    async fn entry(&self, kind: EntryKind, name: &str) -> Result<Arc<Entry>, EntryError> {
        if let Some(entry) = self.recent(kind, name) {
            return Ok(entry);
        }
        let before = {
            let entries = self.entries.lock();
            entries
                .get(&kind)
                .and_then(|of_kind| of_kind.get(name))
                .cloned()
        };
        let Some(before) = before else {
            return self.look_up(kind, name).await;
        };
        let looked = match self.is_over(&before) {
            true => self.look_up(kind, name).await,
            false => self.look_again(kind, name, &before.entry).await,
        };
        match looked {
            Err(EntryError::Lookup(error)) => {
                tracing::warn!("{error}; what was found before stays in use");
                self.remember(kind, name, &before.entry);
                Ok(before.entry)
            }
            looked => looked,
        }
    }

    /// Looks a name up again, if what was found under it has changed.
    async fn look_again(
        &self,
        kind: EntryKind,
        name: &str,
        before: &Arc<Entry>,
    ) -> Result<Arc<Entry>, EntryError> {
        if !self.places.is_unchanged(kind, name, &before.found).await? {
            return self.look_up(kind, name).await;
        }
        self.remember(kind, name, before);
        Ok(Arc::clone(before))
    }

    /// Returns the connection of an entry, if a client can be made of it.
    pub(crate) fn connection_of<'a>(
        id: &str,
        entry: &'a Entry,
        def: Option<&ClientDef>,
    ) -> Result<&'a Arc<Connection>, String> {
        let Some(connection) = &entry.connection else {
            unreachable!("connection `{id}` was looked up as a connection");
        };
        let connection = connection.as_ref().map_err(|problem| {
            format!("connection `{id}` (from {}): {problem}", entry.found.place)
        })?;
        if let Some(def) = def.filter(|def| !def.takes(connection.kind())) {
            return Err(format!(
                "connection `{id}` (from {}): expected the kind {}, got `{}`",
                entry.found.place,
                or(def.kinds),
                connection.kind()
            ));
        }
        Ok(connection)
    }

    /// Looks a requirement up, and checks that it can be used, as far as that is known without
    /// connecting.
    pub(crate) async fn check(&self, requirement: &Requirement) -> Result<(), EntryError> {
        let Requirement { name, kind, .. } = requirement;
        let entry = self.look_up(kind.entry(), name).await?;
        let problem = match kind {
            RequirementKind::Connection(def) => Self::connection_of(name, &entry, Some(def)).err(),
            RequirementKind::Variable { parse, .. } => {
                value_of(requirement, *parse, entry.found.text.expose()).err()
            }
            RequirementKind::Secret => None,
        };
        problem.map_or(Ok(()), |problem| Err(EntryError::Unusable(problem)))
    }

    /// Looks up what a flow declares for its tasks.
    pub(crate) async fn check_declared(
        &self,
        kind: EntryKind,
        name: &str,
    ) -> Result<(), EntryError> {
        let entry = self.look_up(kind, name).await?;
        match kind {
            EntryKind::Connection => match Self::connection_of(name, &entry, None) {
                Ok(_) => Ok(()),
                Err(problem) => Err(EntryError::Unusable(problem)),
            },
            EntryKind::Variable | EntryKind::Secret => Ok(()),
        }
    }

    /// Returns what a task requires without waiting, if all of it was looked up a short while ago.
    pub(crate) fn at_hand(
        &self,
        requirements: &[Requirement],
        texts: &[Secret],
        taken: &mut Vec<TakenClient>,
    ) -> Option<Result<PreparedRequirements, TaskError>> {
        let mut prepared = PreparedRequirements::with_capacity(requirements.len());
        let mut texts = texts.iter();
        for requirement in requirements {
            let name = requirement.name;
            prepared.push(match &requirement.kind {
                RequirementKind::Connection(def) => {
                    let client = self.slot(name, def).usable(self)?;
                    taken.push(client.clone());
                    PreparedRequirement::Client(client.client)
                }
                RequirementKind::Variable { parse, .. } => {
                    let entry;
                    let text = match texts.next() {
                        Some(text) => text,
                        None => {
                            entry = self.recent(EntryKind::Variable, name)?;
                            &entry.found.text
                        }
                    };
                    match variable(requirement, *parse, text) {
                        Ok(variable) => variable,
                        Err(error) => return Some(Err(error)),
                    }
                }
                RequirementKind::Secret => {
                    let entry = self.recent(EntryKind::Secret, name)?;
                    PreparedRequirement::Secret(entry.found.text.clone())
                }
            });
        }
        Some(Ok(prepared))
    }

    /// Looks up what a task requires, and makes its clients. `texts` are those of its variables, if
    /// they are known already.
    pub(crate) async fn prepare(
        &self,
        requirements: &[Requirement],
        texts: &[Secret],
    ) -> Result<(PreparedRequirements, Vec<TakenClient>), TaskError> {
        let mut prepared = PreparedRequirements::with_capacity(requirements.len());
        let (mut taken, mut texts) = (Vec::new(), texts.iter());
        for requirement in requirements {
            let name = requirement.name;
            prepared.push(match &requirement.kind {
                RequirementKind::Connection(def) => {
                    let client = self.client_of(name, *def).await?;
                    taken.push(client.clone());
                    PreparedRequirement::Client(client.client)
                }
                RequirementKind::Variable { parse, .. } => {
                    let text = match texts.next() {
                        Some(text) => text.clone(),
                        None => self.text_of(EntryKind::Variable, name).await?,
                    };
                    variable(requirement, *parse, &text)?
                }
                RequirementKind::Secret => {
                    PreparedRequirement::Secret(self.text_of(EntryKind::Secret, name).await?)
                }
            });
        }
        Ok((prepared, taken))
    }

    /// Returns the text of a variable or a secret.
    pub(crate) async fn text_of(&self, kind: EntryKind, name: &str) -> Result<Secret, TaskError> {
        let entry = self
            .entry(kind, name)
            .await
            .map_err(EntryError::into_task_error)?;
        Ok(entry.found.text.clone())
    }

    /// Returns a client for a connection.
    pub(crate) async fn client_of(
        &self,
        id: &str,
        def: ClientDef,
    ) -> Result<TakenClient, TaskError> {
        let slot = self.slot(id, &def);
        if let Some(taken) = slot.usable(self) {
            return Ok(taken);
        }
        let _flight = slot.flight.lock().await;
        if let Some(taken) = slot.usable(self) {
            return Ok(taken);
        }
        let current = slot.current.lock().clone();
        let entry = self.entry(EntryKind::Connection, id).await;
        let entry = entry.map_err(EntryError::into_task_error)?;
        let connection = Self::connection_of(id, &entry, Some(&def))
            .map_err(|problem| TaskError::new(Cause::Fatal, problem))?;
        let (text, expires_at) = (&entry.found.text, expiry(&entry.found));
        if let Some(current) = current.filter(|current| current.text.expose() == text.expose()) {
            match (def.check)(current.client.clone()).await {
                Ok(()) => {
                    let now = self.clock.timestamp();
                    if let Some(taken) = slot.confirm(current.number, expires_at, now) {
                        return Ok(taken);
                    }
                    // an attempt asked for a new one meanwhile
                }
                Err(error) => {
                    tracing::warn!(
                        connection = id,
                        "the client is made anew, since its check failed: {}",
                        error_text(&*error)
                    );
                    // also if the new one cannot be made
                    let dropped = slot.current.lock().take();
                    drop(dropped);
                }
            }
        }
        let made = (def.connect)(Arc::clone(connection)).await;
        let client = made.map_err(|error| {
            // a password may just have been changed
            self.doubt(id);
            connect_error(connection, error)
        })?;
        Ok(slot.keep(MadeClient {
            client,
            number: self.made.fetch_add(1, Ordering::Relaxed),
            text: text.clone(),
            expires_at,
            looked_at: self.clock.timestamp(),
        }))
    }

    fn slot(&self, id: &str, def: &ClientDef) -> Arc<ClientSlot> {
        let mut clients = self.clients.lock();
        let of_type = clients.entry((def.id)()).or_default();
        if let Some(slot) = of_type.get(id) {
            return Arc::clone(slot);
        }
        let connection: Arc<str> = id.into();
        let slot = Arc::new(ClientSlot {
            connection: Arc::clone(&connection),
            def: *def,
            flight: tokio::sync::Mutex::default(),
            current: Mutex::default(),
        });
        of_type.insert(connection, Arc::clone(&slot));
        slot
    }

    fn ends_soon(&self, expires_at: Option<Timestamp>) -> bool {
        expires_at.is_some_and(|end| end <= self.clock.timestamp().after(BEFORE_EXPIRY))
    }

    /// Lets clients be made anew for later attempts, unless that has happened already.
    pub(crate) fn discard(&self, taken: &[TakenClient]) {
        for taken in taken {
            let slot = self.slot(&taken.connection, &taken.def);
            let mut current = slot.current.lock();
            let dropped = current.take_if(|current| current.number == taken.number);
            // outside of the lock: dropping a client is user code
            drop(current);
            if dropped.is_some() {
                self.doubt(&taken.connection);
            }
            drop(dropped);
        }
    }
}

impl ClientSlot {
    /// Returns the client, unless it has to be looked at.
    fn usable(&self, clients: &Clients) -> Option<TakenClient> {
        let current = self.current.lock();
        let current = current.as_ref()?;
        let is_usable =
            clients.is_fresh(current.looked_at) && !clients.ends_soon(current.expires_at);
        is_usable.then(|| self.taken(current))
    }

    /// Keeps the client in use, if it is still there.
    fn confirm(
        &self,
        number: u64,
        expires_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<TakenClient> {
        let mut current = self.current.lock();
        let current = current.as_mut().filter(|made| made.number == number)?;
        current.expires_at = expires_at;
        current.looked_at = now;
        Some(self.taken(current))
    }

    /// Keeps a client for later attempts.
    fn keep(&self, made: MadeClient) -> TakenClient {
        let taken = self.taken(&made);
        let before = self.current.lock().replace(made);
        // outside of the lock: dropping a client is user code
        drop(before);
        taken
    }

    fn taken(&self, made: &MadeClient) -> TakenClient {
        TakenClient {
            client: made.client.clone(),
            connection: Arc::clone(&self.connection),
            def: self.def,
            number: made.number,
        }
    }
}

impl Lookup for Clients {
    fn client<'a>(
        &'a self,
        id: &'a str,
        def: ClientDef,
    ) -> BoxFuture<'a, Result<TakenClient, TaskError>> {
        Box::pin(self.client_of(id, def))
    }

    fn text<'a>(
        &'a self,
        kind: EntryKind,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Secret, TaskError>> {
        Box::pin(self.text_of(kind, name))
    }
}

impl From<LookupError> for EntryError {
    fn from(error: LookupError) -> Self {
        // the environment and its files do not change by trying again
        match error.place.is_of_the_environment() {
            true => Self::Unusable(error.to_string()),
            false => Self::Lookup(error),
        }
    }
}

impl EntryError {
    /// Converts the error to that of an attempt. What is missing does not come by trying again.
    pub(crate) fn into_task_error(self) -> TaskError {
        let cause = match &self {
            Self::Lookup(_) => Cause::Failed,
            Self::Unusable(_) => Cause::Fatal,
        };
        TaskError::new(cause, self.to_string())
    }
}

fn expiry(found: &Found) -> Option<Timestamp> {
    found.expires_at.map(DateTime::<Utc>::into)
}

/// Returns the error of an attempt whose client could not be made. A signal in the error, such as
/// [`fatal`](crate::fatal), holds.
fn connect_error(connection: &Connection, error: BoxError) -> TaskError {
    #[derive(Debug, thiserror::Error)]
    #[error("connection `{id}` ({kind}) cannot be made")]
    struct NotConnected {
        id: String,
        kind: String,
        source: BoxError,
    }
    NotConnected {
        id: connection.id().to_owned(),
        kind: connection.kind().to_owned(),
        source: error,
    }
    .into_task_error()
}

fn variable(
    requirement: &Requirement,
    parse: ParseVariable,
    text: &Secret,
) -> Result<PreparedRequirement, TaskError> {
    let value = value_of(requirement, parse, text.expose());
    let value = value.map_err(|problem| TaskError::new(Cause::Fatal, problem))?;
    Ok(PreparedRequirement::Variable(Some(Fragile::new(value))))
}

/// Reads the value of a variable. This runs user code: `Deserialize`.
fn value_of(
    requirement: &Requirement,
    parse: ParseVariable,
    text: &str,
) -> Result<Box<dyn Any + Send>, String> {
    let Requirement {
        name, type_name, ..
    } = requirement;
    let value = panic::catch(|| parse(text)).map_err(|panicked| panicked.to_string());
    value.flatten().map_err(|problem| {
        format!("variable `{name}`: expected a value of type `{type_name}`: {problem}")
    })
}

/// Returns kinds in words.
fn or(kinds: &[&str]) -> String {
    let kinds: Vec<String> = kinds.iter().map(|kind| format!("`{kind}`")).collect();
    kinds.join(" or ")
}

/// Keeps the names of flows and tasks readable in logs, whatever secrets there are.
fn learn_names() {
    static LEARN: Once = Once::new();
    LEARN.call_once(|| {
        let tasks = inventory::iter::<TaskEntry>.into_iter();
        let names: Vec<_> = tasks
            .map(|TaskEntry(task)| task.name)
            .chain(registry::flows().map(|flow| flow.name))
            .collect();
        mask::learn(&[], &names);
    });
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").finish_non_exhaustive()
    }
}
