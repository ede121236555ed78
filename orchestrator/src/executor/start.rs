//! Starts runs: calls their flows, new or recorded, and conducts them to their ends.

use std::sync::Arc;

use tokio::runtime::Handle as Tokio;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::active::ActiveRunGuard;
use super::ambient::{AMBIENT, Ambient};
use super::conductor::body::{self, CallError, CalledFlow};
use super::conductor::{Conductor, FinishedRun};
use super::host::Host;
use super::live::{Live, Refusal};
use super::requirements::TasksInNeed;
use super::run::ActiveRun;
use super::trace::Trace;
use crate::clock::Timestamp;
use crate::error::{Cause, Error, TaskError};
use crate::flow::{FlowCall, FlowDef};
use crate::graph;
use crate::id::RunId;
use crate::journal::RunRecord;
use crate::plan::Replay;
use crate::scope::NodeKind;
use crate::state::RunKind;
use crate::store::Takeover;
use crate::task::{Context, RunFacts};

/// A run that this process executes.
pub(crate) struct StartedRun {
    pub(crate) id: RunId,
    pub(crate) cancel: CancellationToken,
    pub(crate) conducted: JoinHandle<Result<FinishedRun, Error>>,
}

impl StartedRun {
    /// Waits for the run's end.
    pub(crate) async fn end(self) -> Result<RunRecord, Error> {
        match self.conducted.await {
            Ok(finished) => finished.map(|finished| finished.record),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // the tokio runtime is shutting down
                Err(_) => Err(Error::NoTokio),
            },
        }
    }

    /// Waits for the end of a run without a caller. The run logs its own result; logs only an error
    /// that kept it from ending.
    pub(crate) async fn attend(self) {
        let run = self.id;
        match self.end().await {
            Ok(_) | Err(Error::Stopped { .. } | Error::NoTokio) => {}
            Err(error) => tracing::error!(%run, "run given up: {error}"),
        }
    }
}

/// Returns the limit on active runs that applies to a run of this kind. Runs of backfills are
/// limited by the backfill instead.
pub(crate) fn turns(definition: &FlowDef, kind: RunKind) -> Option<u32> {
    definition
        .max_active_runs
        .filter(|_| kind != RunKind::Backfill)
}

/// A run whose flow was called, and that is to be conducted.
pub(crate) struct CalledRun {
    pub(crate) run: Arc<ActiveRun>,
    pub(crate) called: CalledFlow,
    pub(crate) definition: &'static FlowDef,
    pub(crate) kind: RunKind,
    /// The start of the run in an earlier execution.
    pub(crate) began: Option<Timestamp>,
    /// The context of the body that asked for the run.
    pub(crate) ambient: Ambient,
    pub(crate) registration: ActiveRunGuard,
}

impl CalledRun {
    /// Conducts the run on a tokio task of its own.
    pub(crate) fn start(self, tokio: &Tokio) -> StartedRun {
        StartedRun {
            id: self.run.facts.id,
            cancel: self.run.cancel.clone(),
            conducted: tokio.spawn(conduct(self)),
        }
    }
}

/// Waits for the run of the previous tick and for a slot of the flow if necessary, and conducts the
/// run to its end.
async fn conduct(called: CalledRun) -> Result<FinishedRun, Error> {
    let CalledRun {
        run,
        called,
        definition,
        kind,
        began,
        ambient,
        registration: _registration,
    } = called;
    let mut conductor = Conductor::new(run, called, definition.timeout, began);
    // before the run takes a slot: while it waits, others of its flow may run
    if definition.depends_on_past && kind.has_tick() && began.is_none() {
        conductor.run.wait_for_past().await;
    }
    let _turn = match turns(definition, kind) {
        Some(turns) => conductor.wait_for_turn(definition.name, turns).await,
        None => None,
    };
    AMBIENT.scope(ambient, conductor.conduct()).await
}

impl Host {
    /// Checks whether the tasks of a static flow, and those of the static flows that it calls, can
    /// run here. Returns those that need connections, variables or secrets.
    pub(crate) fn check_flow(
        &self,
        flow: &Arc<FlowCall>,
        facts: &Arc<RunFacts>,
    ) -> Result<TasksInNeed, Error> {
        let context = Arc::new(Context::of_flow(
            Arc::clone(facts),
            CancellationToken::new(),
        ));
        let wiring = graph::wire(flow, &context)?.0;
        self.check_wiring(&wiring)?;
        Ok(TasksInNeed::of(&wiring))
    }

    /// Calls a flow's function and checks the nodes that it adds. For a plain `fn` flow, this is
    /// the whole body, so it is checked before a run is created. Also returns the tasks that need
    /// connections, variables or secrets, as far as they are known.
    pub(crate) fn call(
        &self,
        live: &mut Live,
        flow: &Arc<FlowCall>,
        facts: &Arc<RunFacts>,
        trace: &Trace,
        cancel: &CancellationToken,
    ) -> Result<(CalledFlow, TasksInNeed), Error> {
        self.check_has(flow.definition.name, flow.definition.resources)?;
        let context = Arc::new(Context::of_flow(Arc::clone(facts), cancel.clone()));
        let called = match body::call(live, self, flow, None, &trace.run, context, cancel.clone()) {
            Ok(called) => called,
            Err(CallError::Refused(Refusal::Runtime(error))) => return Err(error),
            Err(CallError::Refused(Refusal::Graph(source))) => {
                return Err(Error::Graph {
                    flow: flow.definition.name.to_owned(),
                    source,
                });
            }
            Err(error @ CallError::Body(_)) => CalledFlow::Failed(error.into_task_error()),
        };
        let is_static =
            |kind: &NodeKind| matches!(kind, NodeKind::Flow(call) if !call.definition.is_async);
        if live
            .plan
            .wiring
            .nodes
            .iter()
            .any(|node| is_static(&node.kind))
        {
            return Ok((called, self.check_flow(flow, facts)?));
        }
        Ok((called, TasksInNeed::of(&live.plan.wiring)))
    }
}

/// A call of a recorded run's flow with its recorded parameters.
pub(crate) struct FlowRecall {
    facts: Arc<RunFacts>,
    kind: RunKind,
    /// The call, or the reason why the recorded parameters do not fit the flow.
    pub(crate) call: Result<Arc<FlowCall>, String>,
    /// The reason why it cannot run here.
    pub(crate) lacks: Option<Error>,
}

pub(crate) async fn recall(
    host: &Arc<Host>,
    definition: &'static FlowDef,
    recorded: &RunRecord,
) -> FlowRecall {
    let facts = Arc::new(RunFacts {
        id: recorded.id(),
        flow: definition.name,
        deployment: recorded.deployment().map(Arc::from),
        logical_date: recorded.logical_date(),
        interval: recorded.interval(),
    });
    let call = FlowCall::recall(definition, recorded.parameters());
    let checked = match &call {
        Ok(call) if !definition.is_async => host.check_flow(call, &facts),
        _ => host
            .check_has(definition.name, definition.resources)
            .map(|()| TasksInNeed::default()),
    };
    let lacks = match checked {
        Ok(tasks) => host.check_requirements(definition, &tasks).await.err(),
        Err(error) => Some(error),
    };
    FlowRecall {
        facts,
        kind: recorded.kind(),
        call,
        lacks,
    }
}

/// Starts a run that was taken over.
pub(crate) fn resume(
    host: &Arc<Host>,
    tokio: &Tokio,
    definition: &'static FlowDef,
    recalled: FlowRecall,
    taken: Takeover,
    cancel: CancellationToken,
) -> StartedRun {
    let FlowRecall {
        facts,
        kind,
        call,
        lacks,
    } = recalled;
    let Takeover { log, history } = taken;
    let (began, cancelling) = (history.tables.started, history.cancelling);
    let refresh_cache = history.tables.head.refresh_cache;
    // registered before the flow's function is called: the store shows the run as executed here, and
    // a cancel request that comes meanwhile must find it
    let registration = host.active.enter(facts.id, &cancel, host.heard());
    let ambient = Ambient::outside(host);
    let mut live = Live::new(&ambient.held, true, Some(Replay::new(history)));
    let trace = Trace::new(host, &facts);
    trace.release_early_lines();
    let called = match call {
        _ if cancelling && lacks.is_some() => CalledFlow::Cancelled,
        Ok(call) => {
            let context = Arc::new(Context::of_flow(Arc::clone(&facts), cancel.clone()));
            body::call(
                &mut live,
                host,
                &call,
                None,
                &trace.run,
                context,
                cancel.clone(),
            )
            .unwrap_or_else(|error| CalledFlow::Failed(error.into_task_error()))
        }
        Err(problem) => {
            let text = format!(
                "the flow's parameters are not those that the run was asked for with: {problem}; start a new run, or go \
                 back to the code that began it"
            );
            CalledFlow::Failed(TaskError::new(Cause::Fatal, text))
        }
    };
    if cancelling {
        cancel.cancel();
    }
    let run = ActiveRun::new(
        tokio.clone(),
        log,
        trace,
        cancel,
        live,
        &ambient,
        refresh_cache,
    );
    let run = CalledRun {
        run,
        called,
        definition,
        kind,
        began,
        ambient,
        registration,
    };
    run.start(tokio)
}
