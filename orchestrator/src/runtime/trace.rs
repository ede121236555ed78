//! What a run says by `tracing`: the spans of the run, of its attempts and of the flows in it.
//!
//! Spans are of the level error, so that a filter that lets only warnings pass leaves them in place: it is to be known
//! whose warnings those are. Where nobody listens there are none.

use std::sync::Arc;

use tokio::runtime::Handle as Tokio;
use tracing::Span;

use super::Inner;
use crate::capture::{self, Origin, RunOrigin, TARGET};
use crate::graph::InstanceKey;
use crate::task::RunFacts;

/// The spans of a run.
#[derive(Debug)]
pub(super) struct Trace {
    pub(super) facts: Arc<RunFacts>,
    /// None where nobody captures, or where the run is not recorded.
    origin: Option<Arc<RunOrigin>>,
    /// Otherwise what is said in it belongs to the body that awaits it.
    pub(super) is_recorded: bool,
    /// The run's own span.
    pub(super) run: Span,
    /// The span in which the spans of attempts are made.
    outer: Span,
}

macro_rules! span {
    ($trace:expr, $name:literal $($fields:tt)*) => {
        tracing::error_span!(
            target: TARGET, parent: &$trace.outer, $name, run = %$trace.facts.id, flow = $trace.facts.flow $($fields)*
        )
    };
}

impl Trace {
    pub(super) fn new(runtime: &Inner, facts: &Arc<RunFacts>, tokio: &Tokio) -> Self {
        let origin = capture::is_captured().then(|| {
            let (run, flow, clock) = (facts.id, facts.flow, runtime.clock.clone());
            let sink = runtime.logs.as_ref().map(Arc::downgrade);
            Arc::new(RunOrigin {
                run,
                flow,
                clock,
                sink,
                tokio: tokio.clone(),
            })
        });
        let mut trace = Self {
            facts: Arc::clone(facts),
            origin,
            is_recorded: true,
            run: Span::none(),
            outer: Span::none(),
        };
        trace.run = capture::span_of(trace.origin.as_ref().map(Origin::of_run), || {
            span!(trace, "run")
        });
        trace
    }

    /// Of a run that is recorded nowhere: what is said in it belongs to the body that awaits it.
    pub(super) fn unrecorded(facts: &Arc<RunFacts>) -> Self {
        let outer = Span::current();
        Self {
            facts: Arc::clone(facts),
            origin: None,
            is_recorded: false,
            run: outer.clone(),
            outer,
        }
    }

    /// The span of an attempt.
    pub(super) fn attempt(
        &self,
        number: u16,
        of: impl FnOnce() -> (InstanceKey, Option<usize>),
    ) -> Span {
        if !is_heard() {
            return Span::none();
        }
        let (key, map_index) = of();
        let attempt = u32::from(number);
        self.make(
            &key,
            attempt,
            map_index,
            || span!(self, "task", task = %key, attempt = attempt, map_index = map_index),
        )
    }

    /// The span of a flow in the flow.
    pub(super) fn flow(&self, key: impl FnOnce() -> InstanceKey) -> Span {
        if !is_heard() {
            return Span::none();
        }
        let key = key();
        self.make(&key, 1, None, || span!(self, "flow", task = %key))
    }

    fn make(
        &self,
        key: &InstanceKey,
        attempt: u32,
        map_index: Option<usize>,
        make: impl FnOnce() -> Span,
    ) -> Span {
        let origin = self
            .origin
            .as_ref()
            .map(|run| Origin::of_task(run, key.clone(), attempt, map_index));
        capture::span_of(origin, make)
    }
}

fn is_heard() -> bool {
    tracing::span_enabled!(target: TARGET, tracing::Level::ERROR)
}
