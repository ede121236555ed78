//! The context in which a body runs: whatever it awaits runs on the same runtime, in the same run.

use std::sync::Arc;

use super::Inner;
use super::hold::Hold;
use super::limits::GateKey;
use super::live::RunCore;

tokio::task_local! {
    /// The context of the body that is running.
    pub(super) static AMBIENT: Ambient;
}

/// The context in which a body runs.
#[derive(Clone, Debug)]
pub(super) struct Ambient {
    pub(super) runtime: Arc<Inner>,
    /// The pools in which the body, and those that wait for it, hold slots.
    pub(super) held: Vec<&'static str>,
    /// The flows of the runs that the body, and those that wait for it, are part of.
    pub(super) flows: Vec<&'static str>,
    /// Whether it is the body of a task, which has a slot, rather than of a flow.
    pub(super) in_task: bool,
    /// The hold of the body on its run.
    pub(super) hold: Option<Arc<Hold>>,
}

impl Ambient {
    /// Returns the context for work on a runtime: that of the current body if it runs on the same
    /// runtime.
    pub(super) fn on(runtime: &Arc<Inner>) -> Self {
        match AMBIENT.try_with(Clone::clone) {
            Ok(ambient) if Arc::ptr_eq(&ambient.runtime, runtime) => ambient,
            _ => Self::outside(runtime),
        }
    }

    /// Returns the context outside of any body.
    pub(super) fn outside(runtime: &Arc<Inner>) -> Self {
        Self {
            runtime: Arc::clone(runtime),
            held: Vec::new(),
            flows: Vec::new(),
            in_task: false,
            hold: None,
        }
    }

    pub(super) fn of(run: &RunCore, gate: &GateKey, hold: Arc<Hold>) -> Self {
        let mut held = run.held.clone();
        held.extend(gate.pool.map(|(name, _)| name));
        let (runtime, flows) = (Arc::clone(&run.runtime), run.flows.clone());
        Self {
            runtime,
            held,
            flows,
            in_task: true,
            hold: Some(hold),
        }
    }
}
