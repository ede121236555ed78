//! The context in which a body runs: whatever it awaits runs on the same runtime, in the same run.

use std::future::{Future, pending};
use std::sync::Arc;

use super::hold::Hold;
use super::host::Host;
use crate::error::Error;

tokio::task_local! {
    /// The context of the body that is running.
    pub(crate) static AMBIENT: Ambient;
}

/// The context in which a body runs.
#[derive(Clone, Debug)]
pub(crate) struct Ambient {
    pub(crate) host: Arc<Host>,
    /// The pools in which the body, and those that wait for it, hold slots.
    pub(crate) held: Vec<&'static str>,
    /// The flows of the runs that the body, and those that wait for it, are part of.
    pub(crate) flows: Vec<&'static str>,
    /// Whether it is the body of a task, which has a slot, rather than of a flow.
    pub(crate) in_task: bool,
    /// The hold of the body on its run.
    pub(crate) hold: Option<Arc<Hold>>,
}

impl Ambient {
    /// Returns the context for work on a runtime: that of the current body if it runs on the same
    /// runtime.
    pub(crate) fn on(host: &Arc<Host>) -> Self {
        match AMBIENT.try_with(Clone::clone) {
            // clones of a runtime, with mocks or a stop signal of their own, share its slots: a run
            // that took other slots than those of the waiting body could wait for that body
            Ok(ambient) if ambient.host.shares_slots_with(host) => Self {
                host: Arc::clone(host),
                ..ambient
            },
            _ => Self::outside(host),
        }
    }

    /// Returns the context outside of any body.
    pub(crate) fn outside(host: &Arc<Host>) -> Self {
        Self {
            host: Arc::clone(host),
            held: Vec::new(),
            flows: Vec::new(),
            in_task: false,
            hold: None,
        }
    }
}

/// Waits for a run. If the shutdown of the runtime prevents its end, a body that waits for it gets
/// the error only when its own run is left by the same shutdown. Earlier, the error would be
/// recorded as a failure of the body, although the body is to run again. A body that can be dropped
/// never gets the error.
pub(crate) async fn unless_left<T>(
    run: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let run = run.await;
    let stops = |ambient: &Ambient| {
        ambient
            .host
            .stop
            .soft
            .is_cancelled()
            .then(|| ambient.hold.clone())
    };
    if let Err(Error::Stopped { .. } | Error::Closed) = run
        && let Ok(Some(hold)) = AMBIENT.try_with(stops)
    {
        match hold {
            // a blocking body cannot be dropped, so it needs the error to return
            Some(hold) => hold.left().cancelled().await,
            None => pending().await,
        }
    }
    run
}
