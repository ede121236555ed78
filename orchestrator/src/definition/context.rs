use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::requirement::{ClientDef, Connect, Lookup, TakenClient, read_variable};
use crate::entry::EntryKind;
use crate::error::{Cause, TaskError};
use crate::id::RunId;
use crate::secret::Secret;

/// A span of time, `[start, end)`: the start is included, the end is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Interval {
    /// The first instant.
    pub start: DateTime<Utc>,
    /// The instant after the last.
    pub end: DateTime<Utc>,
}

impl Interval {
    /// Returns `true` if an instant is in the interval.
    pub fn contains(&self, instant: DateTime<Utc>) -> bool {
        self.start <= instant && instant < self.end
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} to {}",
            self.start.format("%F %T"),
            self.end.format("%F %T")
        )
    }
}

/// The properties of a run that its bodies may read.
#[derive(Debug)]
pub(crate) struct RunFacts {
    pub(crate) id: RunId,
    pub(crate) flow: &'static str,
    /// The deployment; `None` for the default one.
    pub(crate) deployment: Option<Arc<str>>,
    pub(crate) logical_date: DateTime<Utc>,
    pub(crate) interval: Interval,
}

/// The node and the attempt of a body.
#[derive(Debug)]
pub(crate) struct BodyPlace {
    pub(crate) task: String,
    pub(crate) key: String,
    pub(crate) map_index: Option<usize>,
    pub(crate) attempt: u32,
}

/// The context of a body: its run, its node and its attempt. Take it as
/// `#[context] context: &Context`.
///
/// The context is not an input, and not a part of the cache key.
///
/// # Examples
///
/// ```
/// use orchestrator::prelude::*;
///
/// #[task(retries = 2)]
/// async fn charge(amount: u32, #[context] context: &Context) -> Result<()> {
///     // the same for each attempt: the server can tell a retry from a second order
///     println!("charging {amount} under {}", context.idempotency_key());
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Context {
    run: Arc<RunFacts>,
    place: Option<BodyPlace>,
    cancel: CancellationToken,
    asked: AtomicBool,
    /// `None` in the body of a flow.
    lookup: Option<Arc<dyn Lookup>>,
    /// The clients that the body took by name.
    taken: Mutex<Vec<TakenClient>>,
}

impl Context {
    pub(crate) fn of_flow(run: Arc<RunFacts>, cancel: CancellationToken) -> Self {
        Self {
            run,
            place: None,
            cancel,
            asked: AtomicBool::new(false),
            lookup: None,
            taken: Mutex::default(),
        }
    }

    pub(crate) fn of_task(
        run: Arc<RunFacts>,
        place: BodyPlace,
        cancel: CancellationToken,
        lookup: Arc<dyn Lookup>,
    ) -> Self {
        Self {
            run,
            place: Some(place),
            cancel,
            asked: AtomicBool::new(false),
            lookup: Some(lookup),
            taken: Mutex::default(),
        }
    }

    /// Returns the id of the run.
    pub fn run_id(&self) -> RunId {
        self.run.id
    }

    /// Returns the name of the flow. For a task that is awaited outside a flow, returns the task's
    /// name.
    pub fn flow(&self) -> &str {
        self.run.flow
    }

    /// Returns the name of the deployment that the run belongs to, as given to
    /// [`Serve::named`](crate::Serve::named). Returns `None` for the default deployment, which has
    /// the flow's unnamed schedules.
    pub fn deployment(&self) -> Option<&str> {
        self.run.deployment.as_deref()
    }

    /// Returns the name of the task, or the one set by `.named(…)`. In the body of a flow, returns
    /// the flow's name.
    pub fn task(&self) -> &str {
        self.place
            .as_ref()
            .map_or(self.run.flow, |place| &place.task)
    }

    /// Returns the key of the node: the task's name, with a number if it is used more than once,
    /// and the index of the element, such as `process#2[7]`. In the body of a flow, returns the
    /// flow's name.
    pub fn key(&self) -> &str {
        self.place
            .as_ref()
            .map_or(self.run.flow, |place| &place.key)
    }

    /// Returns the index of the mapped element, from 0, or `None` if the task is not mapped.
    pub fn map_index(&self) -> Option<usize> {
        self.place.as_ref().and_then(|place| place.map_index)
    }

    /// Returns the number of this attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.place.as_ref().map_or(1, |place| place.attempt)
    }

    /// Returns the instant that the run is for: the fire time of a scheduled run, the date that was
    /// set, or else the time at which the run was requested.
    pub fn logical_date(&self) -> DateTime<Utc> {
        self.run.logical_date
    }

    /// Returns the span of time that the run is for: from the previous tick of its deployment to its
    /// own. A manual run has the interval that was set, or else one of its deployment, as it is on
    /// record, or of the schedule in the flow's attribute: if the logical date is a tick, the
    /// interval of that tick, and otherwise the last one that was complete at the logical date.
    /// Without any schedule, the interval is empty, at the logical date.
    pub fn interval(&self) -> Interval {
        self.run.interval
    }

    /// Returns a key that is the same on each attempt of this node in this run, and differs from
    /// all others: a hash of the run, the node's key and the map index, in hexadecimal.
    pub fn idempotency_key(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.run.id.as_bytes());
        hasher.update(self.key().as_bytes());
        hasher.finalize().to_hex()[..32].to_owned()
    }

    /// Returns a client for a connection whose id is known only at run time, such as one of a list of
    /// sources. The client is made when it is first needed, and shared by all tasks
    /// ([`Connect`](crate::Connect)).
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such connection, if it is of another kind than the client takes,
    /// if the client cannot be made, or in the body of a flow: tasks connect. An error that trying again
    /// cannot mend is fatal.
    pub async fn connection<T: Connect>(&self, id: &str) -> Result<Arc<T>, TaskError> {
        let taken = self
            .lookup(EntryKind::Connection)?
            .client(id, ClientDef::of::<T>())
            .await?;
        let client = taken.client.downcast();
        let mut known = self.taken.lock();
        if !known.iter().any(|known| known.number == taken.number) {
            known.push(taken);
        }
        drop(known);
        match client {
            Some(client) => Ok(client),
            None => unreachable!("a client is found by its type"),
        }
    }

    /// Returns the value of a variable whose name is known only at run time. A `String` is the text as
    /// it is; another type is read as JSON or, if that fails, as a JSON string.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such variable, if its value is of another type, or in the body
    /// of a flow.
    pub async fn variable<T: DeserializeOwned + 'static>(
        &self,
        name: &str,
    ) -> Result<T, TaskError> {
        let text = self
            .lookup(EntryKind::Variable)?
            .text(EntryKind::Variable, name)
            .await?;
        read_variable(text.expose()).map_err(|problem| {
            let expected = std::any::type_name::<T>();
            let text =
                format!("variable `{name}`: expected a value of type `{expected}`: {problem}");
            TaskError::new(Cause::Fatal, text)
        })
    }

    /// Returns a secret whose name is known only at run time.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such secret, or in the body of a flow.
    pub async fn secret(&self, name: &str) -> Result<Secret, TaskError> {
        self.lookup(EntryKind::Secret)?
            .text(EntryKind::Secret, name)
            .await
    }

    fn lookup(&self, kind: EntryKind) -> Result<&dyn Lookup, TaskError> {
        self.lookup.as_deref().ok_or_else(|| {
            let text = format!(
                "the body of a flow takes no {kind}s, its tasks do: take it in a task, as a parameter or from its context"
            );
            TaskError::new(Cause::Fatal, text)
        })
    }

    /// Returns the clients that the body has taken by name.
    pub(crate) fn taken(&self) -> Vec<TakenClient> {
        self.taken.lock().clone()
    }

    /// Returns `true` if this body should stop: the run was cancelled or timed out, or, for
    /// blocking work, this attempt timed out (an async body is dropped instead).
    ///
    /// A body that has called this method gets the grace period to finish by itself.
    pub fn is_cancelled(&self) -> bool {
        // set before the check: a cancellation in between would otherwise end the body without the
        // grace period
        self.asked.store(true, Ordering::Release);
        self.cancel.is_cancelled()
    }

    /// Waits until [`is_cancelled`](Self::is_cancelled) returns `true`.
    pub async fn cancelled(&self) {
        self.asked.store(true, Ordering::Release);
        self.cancel.cancelled().await;
    }

    /// Signals the body of this attempt to stop.
    pub(crate) fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Returns `true` if the body has checked for cancellation, and so is expected to finish by
    /// itself.
    pub(crate) fn has_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }
}
