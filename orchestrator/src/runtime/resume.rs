//! Runs that go on: taken over from a process that died, or that stopped.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle as Tokio;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::body::{self, Called};
use super::lane::Ambient;
use super::launch::StartedRun;
use super::live::{Live, RunCore};
use super::plan::Replay;
use super::trace::Trace;
use super::{Inner, Runtime, launch};
use crate::error::{Cause, Error, TaskError};
use crate::failpoint;
use crate::flow::{FlowCall, FlowDef, registry};
use crate::id::RunId;
use crate::state::RunKind;
use crate::store::{Abandoned, RunRecord, TakenOver};
use crate::task::{Context, RunFacts};

impl Runtime {
    /// Goes on with the runs that are not final and that no living process executes, and waits for their ends: what is
    /// committed of them stays, what was running runs again.
    ///
    /// The runs of flows that this binary does not have are left alone; a warning names them. Gives the records of the
    /// others, in the order in which they were asked for. (`serve` does this by itself.)
    ///
    /// # Errors
    ///
    /// Where the store fails, and where the runtime is stopped meanwhile. A run that cannot be read keeps no other from
    /// going on: the error comes when those are done.
    pub async fn resume(&self) -> Result<Vec<RunRecord>, Error> {
        let (under_way, mut failed) = Recovery::default()
            .recover(&self.0, self.0.store.abandoned().await?)
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

/// When a run is tried again that could not go on because of the store.
const AGAIN: Duration = Duration::from_secs(60);

/// Goes on with runs that nobody executes.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// The runs that were there the last time, and did not go on, with when they are tried again: why is said once.
    tried: HashMap<RunId, Option<Instant>>,
}

impl Recovery {
    /// Takes runs over, where that was not tried before; gives those that go on, and the first error.
    pub(super) async fn recover(
        &mut self,
        runtime: &Arc<Inner>,
        abandoned: Vec<Abandoned>,
    ) -> Result<(Vec<StartedRun>, Option<Error>), Error> {
        let tokio = Tokio::try_current().map_err(|_| Error::NoTokio)?;
        let (mut under_way, mut failed) = (Vec::new(), None);
        let mut unknown = BTreeMap::<String, usize>::new();
        let before = std::mem::take(&mut self.tried);
        let now = Instant::now();
        for Abandoned { id, flow } in abandoned {
            match before.get(&id) {
                Some(again) if again.is_none_or(|again| now < again) => {
                    self.tried.insert(id, *again);
                    continue;
                }
                _ => {}
            }
            match registry::find(&flow) {
                Some(definition) => {
                    match go_on(runtime, &tokio, definition, id, Purpose::Run).await {
                        Ok(GoneOn::Here(run)) => under_way.push(run),
                        // who has it may leave it again
                        Ok(GoneOn::Elsewhere) => {}
                        Ok(GoneOn::Not) => drop(self.tried.insert(id, None)),
                        Err(error @ Error::Closed) => return Err(error),
                        Err(error) => {
                            tracing::error!(run = %id, flow, "a run is not done and cannot go on now: {error}");
                            failed.get_or_insert(error);
                            self.tried.insert(id, Some(now + AGAIN));
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
                "runs are not done whose flow is not in this binary (it has {}): link the crate that has it with \
                 `use the_crate as _;`",
                registry::names()
            );
        }
        Ok((under_way, failed))
    }
}

impl Inner {
    /// Goes on with a run. `None` where another process does, or where it cannot run here.
    pub(crate) async fn go_on(
        self: &Arc<Self>,
        definition: &'static FlowDef,
        run: RunId,
        purpose: Purpose,
    ) -> Result<Option<StartedRun>, Error> {
        let tokio = Tokio::try_current().map_err(|_| Error::NoTokio)?;
        Ok(match go_on(self, &tokio, definition, run, purpose).await? {
            GoneOn::Here(run) => Some(run),
            GoneOn::Elsewhere | GoneOn::Not => None,
        })
    }
}

/// What became of a run that was left.
enum GoneOn {
    Here(StartedRun),
    /// Another process was faster.
    Elsewhere,
    /// It cannot run here.
    Not,
}

/// What a run is gone on with for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Run,
    /// Its end was asked for: it needs nothing to be cancelled.
    Cancel,
}

/// Takes a run over and goes on with it.
async fn go_on(
    runtime: &Arc<Inner>,
    tokio: &Tokio,
    definition: &'static FlowDef,
    id: RunId,
    purpose: Purpose,
) -> Result<GoneOn, Error> {
    let Some(recorded) = runtime.store.run(id).await? else {
        return Ok(GoneOn::Not);
    };
    let recalled = recall(runtime, definition, &recorded);
    // what this runtime lacks is no failure of the run
    if let (Purpose::Run, Some(reason @ (Error::MissingResource { .. } | Error::Pool { .. }))) =
        (purpose, &recalled.lacks)
    {
        tracing::warn!(run = %id, flow = definition.name, "a run is not done and cannot go on here: {reason}");
        return Ok(GoneOn::Not);
    }
    let _taking = runtime.under_way.taking();
    if runtime.stop.soft.is_cancelled() {
        return Err(Error::Closed);
    }
    let Some(taken) = runtime.store.take_over(id).await? else {
        return Ok(GoneOn::Elsewhere);
    };
    failpoint::hit("taken-over");
    let cancel = CancellationToken::new();
    Ok(GoneOn::Here(conduct(
        runtime, tokio, definition, recalled, taken, cancel,
    )))
}

/// The flow of a recorded run, called as it was.
pub(super) struct Recalled {
    facts: Arc<RunFacts>,
    kind: RunKind,
    /// The call, or why the recorded parameters are not the flow's.
    pub(super) call: Result<Arc<FlowCall>, String>,
    /// What keeps it from running here.
    pub(super) lacks: Option<Error>,
}

pub(super) fn recall(
    runtime: &Arc<Inner>,
    definition: &'static FlowDef,
    recorded: &RunRecord,
) -> Recalled {
    let facts = Arc::new(RunFacts {
        id: recorded.id(),
        flow: definition.name,
        logical_date: recorded.logical_date(),
        interval: recorded.interval(),
    });
    let call = FlowCall::recall(definition, recorded.parameters());
    let lacks = match &call {
        Ok(call) if !definition.is_async => runtime.check_flow(call, &facts).err(),
        _ => runtime
            .check_has(definition.name, definition.resources)
            .err(),
    };
    Recalled {
        facts,
        kind: recorded.kind(),
        call,
        lacks,
    }
}

/// Goes on with a run that is this process's now.
pub(super) fn conduct(
    runtime: &Arc<Inner>,
    tokio: &Tokio,
    definition: &'static FlowDef,
    recalled: Recalled,
    taken: TakenOver,
    cancel: CancellationToken,
) -> StartedRun {
    let Recalled {
        facts,
        kind,
        call,
        lacks,
    } = recalled;
    let TakenOver { log, history } = taken;
    let (began, cancelling) = (history.tables.started, history.cancelling);
    let refresh_cache = history.tables.head.refresh_cache;
    let ambient = Ambient::outside(runtime);
    let mut live = Live::new(&ambient.held, true, Some(Replay::new(history)));
    let trace = Trace::new(runtime, &facts, tokio);
    let called = match call {
        _ if cancelling && lacks.is_some() => Called::Cancelled,
        Ok(call) => {
            let context = Arc::new(Context::of_flow(Arc::clone(&facts), cancel.clone()));
            body::call(
                &mut live,
                runtime,
                &call,
                None,
                &trace.run,
                context,
                cancel.clone(),
            )
            .unwrap_or_else(|error| Called::Failed(error.into_task_error()))
        }
        Err(problem) => {
            let text = format!(
                "the flow's parameters are not those that the run was asked for with: {problem}; start a new run, or go \
                 back to the code that began it"
            );
            Called::Failed(TaskError::new(Cause::Fatal, text))
        }
    };
    if cancelling {
        cancel.cancel();
    }
    let id = facts.id;
    let under_way = runtime.under_way.enter(id, &cancel, runtime.heard());
    let run = RunCore::new(
        Arc::clone(runtime),
        log,
        trace,
        cancel.clone(),
        live,
        &ambient,
        refresh_cache,
    );
    let began = (began != 0).then_some(began);
    let turns = launch::turns(definition, kind);
    let conducted = tokio.spawn(launch::see_through(
        run, called, definition, turns, began, ambient, under_way,
    ));
    StartedRun {
        id,
        cancel,
        conducted,
    }
}
