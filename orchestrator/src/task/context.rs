use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::id::RunId;

/// A span of time, `[start, end)`: the start is in it, the end is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Interval {
    /// The first instant.
    pub start: DateTime<Utc>,
    /// The instant after the last.
    pub end: DateTime<Utc>,
}

impl Interval {
    /// Whether an instant is in the interval.
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

/// What a run is, for those who ask inside of it.
#[derive(Debug)]
pub(crate) struct RunFacts {
    pub(crate) id: RunId,
    pub(crate) flow: &'static str,
    pub(crate) logical_date: DateTime<Utc>,
    pub(crate) interval: Interval,
}

/// Which attempt of which node.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) task: String,
    pub(crate) key: String,
    pub(crate) map_index: Option<usize>,
    pub(crate) attempt: u32,
}

/// What a body may know of the run it is in: take it as `#[context] context: &Context`. It is no input, and no part of
/// a cache key.
///
/// # Examples
///
/// ```
/// use orchestrator::prelude::*;
///
/// #[task(retries = 2)]
/// async fn charge(amount: u32, #[context] context: &Context) -> Result<()> {
///     // the same for each attempt: the other side can tell a retry from a second order
///     println!("charging {amount} under {}", context.idempotency_key());
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Context {
    run: Arc<RunFacts>,
    place: Option<Place>,
    cancel: CancellationToken,
    asked: AtomicBool,
}

impl Context {
    pub(crate) fn of_flow(run: Arc<RunFacts>, cancel: CancellationToken) -> Self {
        Self {
            run,
            place: None,
            cancel,
            asked: AtomicBool::new(false),
        }
    }

    pub(crate) fn of_task(run: Arc<RunFacts>, place: Place, cancel: CancellationToken) -> Self {
        Self {
            run,
            place: Some(place),
            cancel,
            asked: AtomicBool::new(false),
        }
    }

    /// The run's id.
    pub fn run_id(&self) -> RunId {
        self.run.id
    }

    /// The flow's name. For a task that is awaited outside of a flow, the task's name.
    pub fn flow(&self) -> &str {
        self.run.flow
    }

    /// The task's name, as set by `.named(…)` where it was. In the body of a flow, the flow's name.
    pub fn task(&self) -> &str {
        self.place
            .as_ref()
            .map_or(self.run.flow, |place| &place.task)
    }

    /// The node's key: the task's name, with its number where it is used more than once, and the index of the element:
    /// `process#2[7]`. In the body of a flow, the flow's name.
    pub fn key(&self) -> &str {
        self.place
            .as_ref()
            .map_or(self.run.flow, |place| &place.key)
    }

    /// The index of the mapped element that this is, from 0; none where the task is not mapped.
    pub fn map_index(&self) -> Option<usize> {
        self.place.as_ref().and_then(|place| place.map_index)
    }

    /// The number of this attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.place.as_ref().map_or(1, |place| place.attempt)
    }

    /// The instant that the run is for: a scheduled run's fire time, else the moment at which the run was asked for,
    /// unless it was given.
    pub fn logical_date(&self) -> DateTime<Utc> {
        self.run.logical_date
    }

    /// The span of time that the run is for. Empty, at the logical date, where there is neither a schedule nor a given
    /// one.
    pub fn interval(&self) -> Interval {
        self.run.interval
    }

    /// A key that is the same on each attempt of this node in this run, and differs from all others: a hash of the run,
    /// the node's key and the map index, in hexadecimal.
    pub fn idempotency_key(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.run.id.as_bytes());
        hasher.update(self.key().as_bytes());
        hasher.finalize().to_hex()[..32].to_owned()
    }

    /// Whether this body should come to its end: the run was cancelled or timed out; for blocking work, also when this
    /// attempt timed out (an async body is dropped then).
    ///
    /// A body that has asked is given the grace period to end by itself.
    pub fn is_cancelled(&self) -> bool {
        self.asked.store(true, Ordering::Release);
        self.cancel.is_cancelled()
    }

    /// Waits until [`is_cancelled`](Self::is_cancelled) would say so.
    pub async fn cancelled(&self) {
        self.asked.store(true, Ordering::Release);
        self.cancel.cancelled().await;
    }

    /// Tells the body of this attempt to come to its end.
    pub(crate) fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Whether the body has asked for its cancellation, and so will see to its own end.
    pub(crate) fn has_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }
}
