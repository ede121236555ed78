//! Tasks that run alone: awaited outside of any flow, or by a body. Nothing of them is recorded.

use std::sync::Arc;

use tokio::runtime::Handle as Tokio;
use tokio_util::sync::CancellationToken;

use super::ambient::{Ambient, unless_left};
use super::conductor::Conductor;
use super::conductor::body::{self, CalledFlow};
use super::live::Live;
use super::run::ActiveRun;
use super::trace::Trace;
use crate::error::{Cause, Error, TaskError};
use crate::journal::NewRun;
use crate::state::RunKind;
use crate::store;
use crate::task::{Input, Interval, RunFacts};
use crate::value::Value;

/// Runs the nodes that `plant` adds as an unrecorded run of their own. Returns the value of the
/// node that `plant` returns.
pub(crate) async fn alone(
    ambient: Ambient,
    name: &'static str,
    plant: impl FnOnce() -> Result<Input, TaskError>,
) -> Result<Value, TaskError> {
    let host = Arc::clone(&ambient.host);
    let refused = |error: Error| TaskError::new(Cause::Fatal, error.to_string());
    let tokio = Tokio::try_current().map_err(|_| refused(Error::NoTokio))?;
    let created = host.services.clock.now();
    let interval = Interval {
        start: created,
        end: created,
    };
    let facts = Arc::new(RunFacts {
        id: host.services.ids.run_id(created),
        flow: name,
        deployment: None,
        logical_date: created,
        interval,
    });
    let cancel = CancellationToken::new();
    let trace = Trace::unrecorded(&host, &facts);
    let mut live = Live::new(&ambient.held, false, None);
    live.caches = false;
    let output = body::plant(&mut live, &host, cancel.clone(), plant)?;
    let log = store::unrecorded(NewRun {
        id: facts.id,
        flow: name.into(),
        kind: RunKind::Manual,
        deployment: None,
        key: None,
        logical_date: created,
        interval,
        parameters: serde_json::Map::new(),
        refresh_cache: false,
        created,
    });
    let run = ActiveRun::new(
        tokio.clone(),
        log,
        trace,
        cancel.clone(),
        live,
        &ambient,
        false,
    );
    let guard = cancel.drop_guard();
    let conducted =
        tokio.spawn(Conductor::new(run, CalledFlow::Returned(output), None, None).conduct());
    let finished = unless_left(async { conducted.await.map_err(|_| Error::NoTokio)? }).await;
    guard.disarm();
    let finished = finished.map_err(refused)?;
    // the task's own error: that of the run would also name the task
    match finished.returned {
        Some(Err(error)) => Err(error),
        _ => finished.into_value(),
    }
}
