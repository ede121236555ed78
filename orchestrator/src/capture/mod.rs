//! What tasks say by `tracing`, captured: on its way to the store, and to the console.
//!
//! The runtime makes a span for each run, attempt and flow in a flow, and hands over with it whose it is ([`Origin`]): the
//! layer keeps that with the span, and an event belongs to the innermost span that has one. So nothing is looked up by
//! name, and what a body spawns `in_current_span()` belongs to its task, too.
//!
//! Who says something never waits for the store: a line goes into the buffer of its runtime ([`LogSink`]), which is
//! emptied within [`sink::DELAY`], and at the end of a run before that is told. Nothing here is done while nobody
//! captures, and a capture never captures itself.

pub(crate) mod console;
mod event;
mod layer;
mod sink;

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use tracing::Span;

#[cfg(feature = "cli")]
pub(crate) use layer::init_logs_beside;
pub use layer::{init_logs, log_layer};
pub(crate) use sink::LogSink;

use crate::clock::Clock;
use crate::graph::InstanceKey;
use crate::id::RunId;

/// The target of the runtime's spans; an event belongs to the innermost of them.
pub(crate) const TARGET: &str = "orchestrator";

/// Whose span it is.
#[derive(Debug)]
pub(crate) struct Origin {
    run: Arc<RunOrigin>,
    /// None for the run itself.
    task: Option<TaskOrigin>,
}

#[derive(Debug)]
struct TaskOrigin {
    key: InstanceKey,
    attempt: u32,
    map_index: Option<usize>,
}

/// What all spans of a run have in common.
#[derive(Debug)]
pub(crate) struct RunOrigin {
    pub(crate) run: RunId,
    pub(crate) flow: &'static str,
    pub(crate) clock: Clock,
    /// Gone with its runtime, however long spans live: it holds the store. None where lines are not stored.
    pub(crate) sink: Option<Weak<LogSink>>,
    /// Where the buffer is emptied, whatever thread says something.
    pub(crate) tokio: tokio::runtime::Handle,
}

impl Origin {
    pub(crate) fn of_run(run: &Arc<RunOrigin>) -> Self {
        Self {
            run: Arc::clone(run),
            task: None,
        }
    }

    pub(crate) fn of_task(
        run: &Arc<RunOrigin>,
        key: InstanceKey,
        attempt: u32,
        map_index: Option<usize>,
    ) -> Self {
        Self {
            run: Arc::clone(run),
            task: Some(TaskOrigin {
                key,
                attempt,
                map_index,
            }),
        }
    }
}

/// Somebody in this process captures.
static CAPTURED: AtomicBool = AtomicBool::new(false);

pub(crate) fn is_captured() -> bool {
    CAPTURED.load(Ordering::Relaxed)
}

thread_local! {
    /// Whose the span is that is being made.
    static MAKING: RefCell<Option<Origin>> = const { RefCell::new(None) };
}

/// Calls a flow's function to see what it writes down: what it says meanwhile is said in no run, and not told.
pub(crate) fn quietly<T>(call: impl FnOnce() -> T) -> T {
    tracing::dispatcher::with_default(&tracing::Dispatch::none(), call)
}

/// Makes a span with its origin.
pub(crate) fn span_of(origin: Option<Origin>, make: impl FnOnce() -> Span) -> Span {
    if origin.is_none() {
        return make();
    }
    MAKING.set(origin);
    let span = make();
    MAKING.take();
    span
}
