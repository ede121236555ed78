//! Resumed runs: those of a process that died or was stopped are taken over.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle as Tokio;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Runtime;
use crate::error::{Error, StoreError};
use crate::executor::{Host, StartedRun, start};
use crate::failpoint;
use crate::flow::{FlowDef, registry};
use crate::id::RunId;
use crate::journal::RunRecord;
use crate::store::AbandonedRun;

impl Runtime {
    /// Resumes the unfinished runs that no living process executes, and waits for their ends.
    /// Committed results are kept; tasks that were running run again.
    ///
    /// Runs of flows that this binary does not have are skipped; a warning names them. Returns the
    /// records of the others in the order in which they were requested. (`serve` resumes runs by
    /// itself.)
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails, or if the runtime is stopped meanwhile. A run that
    /// cannot be read does not keep others from being resumed: its error is returned when they have
    /// ended.
    pub async fn resume(&self) -> Result<Vec<RunRecord>, Error> {
        let (under_way, mut failed) = Recovery::default()
            .recover(&self.host, self.host.services.store.find_abandoned().await?)
            .await?;
        let mut records = Vec::new();
        for run in under_way {
            match run.end().await {
                Ok(record) => records.push(record),
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        failed.map_or(Ok(records), Err)
    }
}

/// The delay before a run is tried again that could not be resumed because of the store, or because of
/// a name that was not found.
const AGAIN: Duration = Duration::from_secs(60);

/// Resumes runs that no process executes.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// The runs that could not be resumed at the last look, with the time of the next try. Keeps
    /// each reason from being logged again at every look.
    tried: HashMap<RunId, Option<Instant>>,
}

impl Recovery {
    /// Takes over the runs that were not tried before. Returns those that are resumed, and the
    /// first error.
    pub(super) async fn recover(
        &mut self,
        host: &Arc<Host>,
        abandoned: Vec<AbandonedRun>,
    ) -> Result<(Vec<StartedRun>, Option<Error>), Error> {
        let tokio = Tokio::try_current().map_err(|_| Error::NoTokio)?;
        let (mut under_way, mut failed) = (Vec::new(), None);
        let mut unknown = BTreeMap::<String, usize>::new();
        let before = std::mem::take(&mut self.tried);
        let now = Instant::now();
        for AbandonedRun { id, flow } in abandoned {
            match before.get(&id) {
                Some(again) if again.is_none_or(|again| now < again) => {
                    self.tried.insert(id, *again);
                    continue;
                }
                _ => {}
            }
            match registry::find(&flow) {
                Some(definition) => {
                    match go_on(host, &tokio, definition, id, Purpose::Run).await {
                        Ok(ResumeOutcome::Here(run)) => under_way.push(run),
                        // not remembered: the process that has the run may leave it again
                        Ok(ResumeOutcome::Elsewhere) => {}
                        Ok(ResumeOutcome::Not) => drop(self.tried.insert(id, None)),
                        Ok(ResumeOutcome::NotYet) => {
                            self.tried.insert(id, Some(now + AGAIN));
                        }
                        Err(error @ Error::Closed) => return Err(error),
                        Err(error) => {
                            tracing::error!(run = %id, flow, "run cannot be resumed now: {error}");
                            // an unreadable run does not become readable, so it is not tried again
                            let is_unreadable =
                                matches!(error, Error::Store(StoreError::UnreadableRun { .. }));
                            self.tried.insert(id, (!is_unreadable).then(|| now + AGAIN));
                            failed.get_or_insert(error);
                        }
                    }
                }
                None => {
                    self.tried.insert(id, None);
                    *unknown.entry(flow).or_default() += 1;
                }
            }
        }
        for (flow, runs) in unknown {
            tracing::warn!(
                flow,
                runs,
                "unfinished runs of an unknown flow were skipped; this binary has {}: link the crate of the flow \
                 with `use the_crate as _;`",
                registry::names()
            );
        }
        Ok((under_way, failed))
    }
}

impl Host {
    /// Resumes a run. Returns `None` if another process does, or if it cannot run here.
    pub(crate) async fn go_on(
        self: &Arc<Self>,
        definition: &'static FlowDef,
        run: RunId,
        purpose: Purpose,
    ) -> Result<Option<StartedRun>, Error> {
        let tokio = Tokio::try_current().map_err(|_| Error::NoTokio)?;
        Ok(match go_on(self, &tokio, definition, run, purpose).await? {
            ResumeOutcome::Here(run) => Some(run),
            ResumeOutcome::Elsewhere | ResumeOutcome::Not | ResumeOutcome::NotYet => None,
        })
    }
}

/// The result of resuming a run.
enum ResumeOutcome {
    Here(StartedRun),
    /// Another process took it over first.
    Elsewhere,
    /// It cannot run here.
    Not,
    /// It cannot run here until a connection, a variable or a secret is set.
    NotYet,
}

/// The purpose of resuming a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Run,
    /// To cancel it, which needs neither resources nor pools.
    Cancel,
}

/// Takes a run over and resumes it.
async fn go_on(
    host: &Arc<Host>,
    tokio: &Tokio,
    definition: &'static FlowDef,
    id: RunId,
    purpose: Purpose,
) -> Result<ResumeOutcome, Error> {
    let Some(recorded) = host.services.store.find_run(id).await? else {
        return Ok(ResumeOutcome::Not);
    };
    let recalled = start::recall(host, definition, &recorded).await;
    // a run must not fail because this runtime lacks something: another may have it
    let lacks = recalled.lacks.as_ref().filter(|lacks| {
        matches!(
            lacks,
            Error::MissingResource { .. } | Error::Pool { .. } | Error::Requirements { .. }
        )
    });
    if let (Purpose::Run, Some(reason)) = (purpose, lacks) {
        tracing::warn!(run = %id, flow = definition.name, "run cannot be resumed here: {reason}");
        return Ok(match reason {
            Error::Requirements { .. } => ResumeOutcome::NotYet,
            _ => ResumeOutcome::Not,
        });
    }
    let _taking = host.active.taking();
    if host.stop.soft.is_cancelled() {
        return Err(Error::Closed);
    }
    let Some(taken) = host.services.store.take_over_run(id).await? else {
        return Ok(ResumeOutcome::Elsewhere);
    };
    failpoint::hit("taken-over");
    let cancel = CancellationToken::new();
    Ok(ResumeOutcome::Here(start::resume(
        host, tokio, definition, recalled, taken, cancel,
    )))
}
