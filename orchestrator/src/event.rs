//! Events of a runtime.

use std::sync::OnceLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::broadcast;

use crate::error::TaskError;
use crate::id::RunId;
use crate::state::{Rerun, RunState, TaskState};

/// An event in a runtime. Logs, notifications, the dashboard and tests all read events.
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
    /// A run started.
    #[non_exhaustive]
    RunStarted {
        /// The run.
        run: RunId,
        /// The flow's name.
        flow: &'static str,
        /// The deployment that the run belongs to; `None` for the default one.
        deployment: Option<String>,
        /// The instant that the run is for.
        logical_date: DateTime<Utc>,
    },
    /// An unfinished run that its process had left was resumed.
    #[non_exhaustive]
    RunResumed {
        /// The run.
        run: RunId,
        /// The flow's name.
        flow: &'static str,
        /// The deployment that the run belongs to; `None` for the default one.
        deployment: Option<String>,
        /// The instant that the run is for.
        logical_date: DateTime<Utc>,
    },
    /// A finished run is re-run, in part or as a whole.
    #[non_exhaustive]
    RunReopened {
        /// The run.
        run: RunId,
        /// The flow's name.
        flow: &'static str,
        /// The deployment that the run belongs to; `None` for the default one.
        deployment: Option<String>,
        /// The instant that the run is for.
        logical_date: DateTime<Utc>,
        /// The tasks that are re-run.
        what: Rerun,
    },
    /// A run reached its final state. A run that was cancelled while it waited for a slot never
    /// started.
    #[non_exhaustive]
    RunFinished {
        /// The run.
        run: RunId,
        /// The flow's name.
        flow: &'static str,
        /// The deployment that the run belongs to; `None` for the default one.
        deployment: Option<String>,
        /// Its final state.
        state: RunState,
        /// The duration of the run, measured by a steady clock.
        duration: Duration,
        /// Why, if it is not a success.
        error: Option<TaskError>,
    },
    /// An attempt of a task started.
    #[non_exhaustive]
    TaskStarted {
        /// The run.
        run: RunId,
        /// The node's key, such as `process[3]`.
        key: String,
        /// The number of the attempt, from 1.
        attempt: u32,
    },
    /// An attempt failed, and another one will follow.
    #[non_exhaustive]
    TaskRetrying {
        /// The run.
        run: RunId,
        /// The node's key.
        key: String,
        /// The number of the attempt that failed.
        attempt: u32,
        /// The delay before the next attempt.
        delay: Duration,
        /// The error of the attempt.
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
        /// The number of attempts; 0 if it never ran.
        attempts: u32,
        /// The duration of the last attempt, measured by a steady clock; zero if it never ran.
        duration: Duration,
        /// Why, if it is not a success.
        error: Option<TaskError>,
    },
    /// The list of a mapping was computed.
    #[non_exhaustive]
    Expanded {
        /// The run.
        run: RunId,
        /// The key of the mapping's first task.
        key: String,
        /// The number of elements.
        elements: usize,
    },
}

impl Event {
    /// Returns the run of the event.
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

/// The number of events that a slow reader may lag behind before it loses the oldest.
const CAPACITY: usize = 4096;

/// A reader of a runtime's events.
///
/// Runs never wait for readers: a reader that is more than 4,096 events behind loses the oldest of
/// them.
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<Event>,
    lost: u64,
}

impl Events {
    /// Waits for the next event. Returns `None` once the runtime is gone.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(events)) => self.lost += events,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// Returns the number of events that this reader has lost.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

/// The sending side of events. The channel is created for its first reader, and events are built
/// only while there are readers.
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
        self.readers().is_some()
    }

    /// Returns the channel, if it has readers.
    fn readers(&self) -> Option<&broadcast::Sender<Event>> {
        self.0.get().filter(|sender| sender.receiver_count() > 0)
    }

    /// Builds and sends an event, if there is a reader.
    pub(crate) fn emit(&self, event: impl FnOnce() -> Event) {
        if let Some(sender) = self.readers() {
            // fails if the last reader has just gone, which is not an error
            let _ = sender.send(event());
        }
    }
}
