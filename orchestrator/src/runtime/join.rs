//! Joined runs: a request for a key that already has a run, in this process or another, waits for
//! that run.

use std::sync::Arc;

use tokio::runtime::Handle as Tokio;
use tokio_util::sync::CancellationToken;

use super::handle::RunHandle;
use super::resume::Purpose;
use crate::error::Error;
use crate::executor::FinishedRun;
use crate::executor::Host;
use crate::executor::StartedRun;
use crate::executor::active::STORE_POLL;
use crate::flow::{FlowCall, FlowDef, Request};
use crate::journal::RunRecord;
use crate::value::{Data, OutputType};

/// Returns a handle to the existing run with the requested key.
pub(super) fn join<T: Data>(
    host: Arc<Host>,
    tokio: &Tokio,
    flow: &FlowCall,
    request: &Request,
    record: RunRecord,
) -> Result<RunHandle<T>, Error> {
    request.check_is_that_of(flow, &record)?;
    let (id, definition) = (record.id(), flow.definition);
    let cancel = CancellationToken::new();
    let waiter = finish(
        host,
        definition,
        record,
        OutputType::of::<T>(),
        cancel.clone(),
    );
    let waiter = tokio.spawn(waiter);
    Ok(RunHandle::joined(id, cancel, waiter))
}

/// The result of waiting for a run.
pub(crate) enum JoinOutcome {
    /// This process resumed it.
    Here(FinishedRun),
    Elsewhere(RunRecord),
}

/// Waits for a run of an earlier request, and resumes it if no process executes it.
pub(crate) async fn wait(
    host: &Arc<Host>,
    definition: &'static FlowDef,
    mut record: RunRecord,
    cancel: &CancellationToken,
) -> Result<JoinOutcome, Error> {
    let (id, mut asked) = (record.id(), false);
    while !record.state().is_final() {
        if let Some((run, done)) = host.active.of(id) {
            tokio::select! {
                () = done.cancelled() => {}
                () = cancel.cancelled() => {
                    run.cancel();
                    done.cancelled().await;
                }
            }
        } else if host
            .services
            .store
            .find_abandoned()
            .await?
            .iter()
            .any(|run| run.id == id)
        {
            if let Some(StartedRun {
                cancel: run,
                conducted: mut seen,
                ..
            }) = host.go_on(definition, id, Purpose::Run).await?
            {
                let finished = tokio::select! {
                    finished = &mut seen => finished,
                    () = cancel.cancelled() => {
                        run.cancel();
                        seen.await
                    }
                };
                return finished.map_err(|_| Error::NoTokio)?.map(JoinOutcome::Here);
            }
        } else {
            if cancel.is_cancelled() && !asked {
                asked = host.services.store.request_cancel(id).await?;
            }
            tokio::time::sleep(STORE_POLL).await;
        }
        match host.services.store.find_run(id).await? {
            Some(now) => record = now,
            None => break,
        }
        if host.stop.soft.is_cancelled() && !record.state().is_final() {
            return Err(Error::Stopped {
                flow: record.flow().to_owned(),
                run: id,
            });
        }
    }
    Ok(JoinOutcome::Elsewhere(record))
}

async fn finish(
    host: Arc<Host>,
    definition: &'static FlowDef,
    record: RunRecord,
    output: &'static OutputType,
    cancel: CancellationToken,
) -> Result<FinishedRun, Error> {
    let record = match wait(&host, definition, record, &cancel).await? {
        JoinOutcome::Here(finished) => return Ok(finished),
        JoinOutcome::Elsewhere(record) => record,
    };
    let value = record.output().map(|kept| kept.value(output)).transpose();
    let value = value.map_err(|error| {
        let text = format!(
            "the output of run {} cannot be read as the flow's `{}`: {error}",
            record.id(),
            output.name()
        );
        Error::Options(text)
    })?;
    Ok(FinishedRun {
        record,
        returned: value.map(Ok),
    })
}
