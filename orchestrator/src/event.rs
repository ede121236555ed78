//! What happens, as it happens.

use std::sync::OnceLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::broadcast;

use crate::error::TaskError;
use crate::id::RunId;
use crate::state::{Rerun, RunState, TaskState};

/// Something that happened in a runtime. Logs, notifications, the dashboard and tests all read these.
///
/// # Examples
///
/// ```
/// use orchestrator::prelude::*;
///
/// #[task]
/// async fn hello() -> u32 { 1 }
///
/// #[flow]
/// fn greeting() -> Node<u32> { hello() }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// let runtime = Runtime::in_memory();
/// let mut events = runtime.events();
/// greeting().on(&runtime).await?;
/// assert!(matches!(events.next().await, Some(Event::RunStarted { .. })));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A run went from pending to running.
    #[non_exhaustive]
    RunStarted {
        /// The run.
        run: RunId,
        /// The flow's name.
        flow: &'static str,
        /// The instant that the run is for.
        logical_date: DateTime<Utc>,
    },
    /// A run goes on that another process, or this one before, had left before its end.
    #[non_exhaustive]
    RunResumed {
        /// The run.
        run: RunId,
        /// The flow's name.
        flow: &'static str,
        /// The instant that the run is for.
        logical_date: DateTime<Utc>,
    },
    /// A finished run is run again, in part or whole.
    #[non_exhaustive]
    RunReopened {
        /// The run.
        run: RunId,
        /// The flow's name.
        flow: &'static str,
        /// The instant that the run is for.
        logical_date: DateTime<Utc>,
        /// What of it runs again.
        what: Rerun,
    },
    /// A run reached its final state. One that was cancelled while it waited for its turn never started.
    #[non_exhaustive]
    RunFinished {
        /// The run.
        run: RunId,
        /// The flow's name.
        flow: &'static str,
        /// Its final state.
        state: RunState,
        /// How long it ran.
        duration: Duration,
        /// Why, if it is not a success.
        error: Option<TaskError>,
    },
    /// An attempt of a task started.
    #[non_exhaustive]
    TaskStarted {
        /// The run.
        run: RunId,
        /// The node's key, as `process[3]`.
        key: String,
        /// The number of the attempt, from 1.
        attempt: u32,
    },
    /// An attempt failed, and there will be another.
    #[non_exhaustive]
    TaskRetrying {
        /// The run.
        run: RunId,
        /// The node's key.
        key: String,
        /// The number of the attempt that failed.
        attempt: u32,
        /// How long until the next attempt.
        delay: Duration,
        /// What the attempt failed with.
        error: TaskError,
    },
    /// A task reached its final state.
    #[non_exhaustive]
    TaskFinished {
        /// The run.
        run: RunId,
        /// The node's key.
        key: String,
        /// Its final state.
        state: TaskState,
        /// How many attempts were made; 0 where it never ran.
        attempts: u32,
        /// How long the last attempt took; zero where there was none.
        duration: Duration,
        /// Why, if it is not a success.
        error: Option<TaskError>,
    },
    /// A mapping learned how many elements it has.
    #[non_exhaustive]
    Expanded {
        /// The run.
        run: RunId,
        /// The key of the mapping's first task.
        key: String,
        /// How many elements there are.
        elements: usize,
    },
}

impl Event {
    /// The run that it is about.
    pub fn run(&self) -> RunId {
        match self {
            Self::RunStarted { run, .. }
            | Self::RunResumed { run, .. }
            | Self::RunReopened { run, .. }
            | Self::RunFinished { run, .. }
            | Self::TaskStarted { run, .. }
            | Self::TaskRetrying { run, .. }
            | Self::TaskFinished { run, .. }
            | Self::Expanded { run, .. } => *run,
        }
    }
}

/// How many events a slow reader may lag behind before it loses the oldest.
const CAPACITY: usize = 4096;

/// A reader of a runtime's events. A reader that is more than 4,096 events behind loses the oldest of them; runs never
/// wait for readers.
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<Event>,
    lost: u64,
}

impl Events {
    /// The next event; `None` when the runtime is gone.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(events)) => self.lost += events,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// How many events this reader was too slow for.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

/// Where events go in. Nothing is built for nobody: the channel is made for its first reader, and an event where there
/// is one.
#[derive(Debug, Default)]
pub(crate) struct EventSink(OnceLock<broadcast::Sender<Event>>);

impl EventSink {
    pub(crate) fn subscribe(&self) -> Events {
        let sender = self.0.get_or_init(|| broadcast::channel(CAPACITY).0);
        Events {
            receiver: sender.subscribe(),
            lost: 0,
        }
    }

    pub(crate) fn is_heard(&self) -> bool {
        self.0.get().is_some()
    }

    /// Builds and sends an event, if somebody listens.
    pub(crate) fn emit(&self, event: impl FnOnce() -> Event) {
        if let Some(sender) = self.0.get() {
            // an error says that all readers are gone, which is theirs to decide
            let _ = sender.send(event());
        }
    }
}
