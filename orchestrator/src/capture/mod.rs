//! Captures what tasks log through `tracing`, for the store and the console.
//!
//! The runtime creates a span for each run, attempt and flow in a flow, and passes its [`Origin`]
//! along. The layer keeps the origin with the span, and an event belongs to the innermost span that
//! has one. So nothing is looked up by name, and a future that a body spawns `in_current_span()`
//! belongs to its task, too.
//!
//! Logging never waits for the store. A line goes into the buffer of its runtime ([`LogSink`]). A
//! thread of its own stores the buffer after [`sink::DELAY`]; the end of a run stores it before
//! that end is reported. Without a capturing layer all of this is skipped. A capture never captures
//! its own events.

pub(crate) mod console;
mod event;
mod layer;
mod sink;

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tracing::Span;

#[cfg(feature = "cli")]
pub(crate) use layer::init_logs_beside;
pub use layer::{init_logs, log_layer};
pub(crate) use sink::LogSink;

use crate::clock::Clock;
use crate::graph::InstanceKey;
use crate::id::RunId;
use crate::log::LogLine;
use crate::store::Backlog;

/// The run or the task that a span belongs to.
#[derive(Debug)]
pub(crate) struct Origin {
    run: Arc<RunOrigin>,
    /// `None` for the run itself.
    task: Option<TaskOrigin>,
}

/// The attempt that a span belongs to, as its log lines tell it.
#[derive(Clone, Debug)]
pub(crate) struct TaskOrigin {
    pub(crate) key: InstanceKey,
    pub(crate) attempt: u32,
    pub(crate) map_index: Option<usize>,
}

impl TaskOrigin {
    /// Returns the origin of a subflow, which has no attempts of its own.
    pub(crate) fn of_subflow(key: InstanceKey) -> Self {
        Self {
            key,
            attempt: 1,
            map_index: None,
        }
    }

    /// Fills in what a line tells about its attempt.
    fn fill(&self, line: &mut LogLine) {
        line.task = Some(self.key.to_string());
        line.attempt = Some(self.attempt);
        line.map_index = self.map_index;
    }
}

/// The part of an origin that all spans of a run share.
#[derive(Debug)]
pub(crate) struct RunOrigin {
    pub(crate) run: RunId,
    pub(crate) flow: &'static str,
    pub(crate) clock: Clock,
    /// Weak, since the sink holds the store and spans may outlive the runtime. `None` if lines are
    /// not stored.
    pub(crate) sink: Option<Weak<LogSink>>,
    /// The lines logged before the run was in the store, which drops lines of unknown runs.
    pub(crate) early: Mutex<Option<Backlog>>,
}

impl RunOrigin {
    /// The limit on early lines, in bytes.
    pub(crate) const EARLY: usize = 8 << 20;

    fn push(&self, line: LogLine) {
        let Some(sink) = self.sink.as_ref().and_then(Weak::upgrade) else {
            return;
        };
        if let Some(early) = &mut *self.early.lock() {
            early.push(line);
            return;
        }
        sink.push(line);
    }

    /// Passes the early lines to the sink, now that the run is in the store.
    pub(crate) fn release_early_lines(&self) {
        // locked until all early lines are passed on: a line logged meanwhile must come after them
        let mut early = self.early.lock();
        if let Some(sink) = self.sink.as_ref().and_then(Weak::upgrade)
            && let Some(lines) = &mut *early
        {
            lines
                .take(usize::MAX, usize::MAX)
                .into_iter()
                .for_each(|line| sink.push(line));
        }
        *early = None;
    }
}

impl Origin {
    pub(crate) fn of_run(run: &Arc<RunOrigin>) -> Self {
        Self {
            run: Arc::clone(run),
            task: None,
        }
    }

    pub(crate) fn of_task(run: &Arc<RunOrigin>, task: TaskOrigin) -> Self {
        Self {
            run: Arc::clone(run),
            task: Some(task),
        }
    }
}

/// Whether a layer in this process captures.
static CAPTURED: AtomicBool = AtomicBool::new(false);

pub(crate) fn is_captured() -> bool {
    CAPTURED.load(Ordering::Relaxed)
}

thread_local! {
    /// The origin of the span that is being created. `tracing` has no other way to pass a value to
    /// [`Layer::on_new_span`](tracing_subscriber::Layer::on_new_span).
    static MAKING: RefCell<Option<Origin>> = const { RefCell::new(None) };
}

/// Calls a flow's function to collect its nodes. Its events belong to no run and are dropped.
pub(crate) fn quietly<T>(call: impl FnOnce() -> T) -> T {
    tracing::dispatcher::with_default(&tracing::Dispatch::none(), call)
}

/// Creates a span with its origin.
pub(crate) fn span_of(origin: Option<Origin>, make: impl FnOnce() -> Span) -> Span {
    if origin.is_none() {
        return make();
    }
    MAKING.set(origin);
    let span = make();
    MAKING.take();
    span
}
