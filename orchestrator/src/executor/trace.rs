//! The `tracing` spans of a run, of its attempts and of its subflows.
//!
//! The spans of attempts and subflows are children of the run's span, or of the span of the body
//! that awaits them. They are created inside of that span, rather than with it as an explicit
//! parent: a thread may have another subscriber than the parent's, and a registry panics if it does
//! not know a parent.
//!
//! Spans have the level error, so that a filter for warnings keeps them: it must be visible to
//! which run a warning belongs. Without a subscriber, no spans are created.

use std::sync::Arc;

use parking_lot::Mutex;
use tracing::Span;

use super::host::Host;
use crate::capture::{self, Origin, RunOrigin, TaskOrigin};
use crate::clock::Clock;
use crate::graph::InstanceKey;
use crate::log::TARGET;
use crate::store::Backlog;
use crate::task::RunFacts;

/// The spans of a run.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) facts: Arc<RunFacts>,
    /// The clock of the run and of its log lines, steady from the run's start on.
    pub(crate) clock: Clock,
    /// `None` if logs are not captured, or if the run is not recorded.
    origin: Option<Arc<RunOrigin>>,
    /// Whether the run is recorded. If not, its log lines belong to the body that awaits it.
    pub(crate) is_recorded: bool,
    /// The run's own span, or that of the body that awaits it. The parent of all others.
    pub(crate) run: Span,
}

macro_rules! span {
    ($trace:expr, [$($parent:tt)*] $name:literal $($fields:tt)*) => {
        tracing::error_span!(
            target: TARGET, $($parent)* $name, run = %$trace.facts.id, flow = $trace.facts.flow,
            deployment = $trace.facts.deployment.as_deref() $($fields)*
        )
    };
}

impl Trace {
    pub(crate) fn new(host: &Host, facts: &Arc<RunFacts>) -> Self {
        let clock = host.services.clock.steady();
        let origin = capture::is_captured().then(|| {
            let (run, flow, clock) = (facts.id, facts.flow, clock.clone());
            let sink = host.services.logs.as_ref().map(Arc::downgrade);
            let early = Mutex::new(Some(Backlog::new(RunOrigin::EARLY)));
            Arc::new(RunOrigin {
                run,
                flow,
                clock,
                sink,
                early,
            })
        });
        let mut trace = Self {
            facts: Arc::clone(facts),
            clock,
            origin,
            is_recorded: true,
            run: Span::none(),
        };
        trace.run = capture::span_of(
            trace.origin.as_ref().map(Origin::of_run),
            || span!(trace, [parent: None,] "run"),
        );
        trace
    }

    /// Lets the early lines of the run pass to the store, which has the run now.
    pub(crate) fn release_early_lines(&self) {
        if let Some(origin) = &self.origin {
            origin.release_early_lines();
        }
    }

    /// Creates the spans of an unrecorded run, whose log lines belong to the body that awaits it.
    pub(crate) fn unrecorded(host: &Host, facts: &Arc<RunFacts>) -> Self {
        let (facts, clock) = (Arc::clone(facts), host.services.clock.steady());
        Self {
            facts,
            clock,
            origin: None,
            is_recorded: false,
            run: Span::current(),
        }
    }

    /// Returns the span of an attempt.
    pub(crate) fn attempt(&self, of: impl FnOnce() -> TaskOrigin) -> Span {
        if !is_heard() {
            return Span::none();
        }
        let task = of();
        let (attempt, map_index) = (task.attempt, task.map_index);
        self.make(
            &task,
            || span!(self, [] "task", task = %task.key, attempt = attempt, map_index = map_index),
        )
    }

    /// Returns the span of a subflow.
    pub(crate) fn flow(&self, key: impl FnOnce() -> InstanceKey) -> Span {
        if !is_heard() {
            return Span::none();
        }
        let task = TaskOrigin::of_subflow(key());
        self.make(&task, || span!(self, [] "flow", task = %task.key))
    }

    fn make(&self, task: &TaskOrigin, make: impl FnOnce() -> Span) -> Span {
        let origin = self
            .origin
            .as_ref()
            .map(|run| Origin::of_task(run, task.clone()));
        self.run.in_scope(|| capture::span_of(origin, make))
    }
}

fn is_heard() -> bool {
    tracing::span_enabled!(target: TARGET, tracing::Level::ERROR)
}
