//! Flows on runtimes: accepted, started, awaited.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::runtime::Handle as Tokio;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::body::{self, CallError, Called};
use super::conduct::{Conductor, Finished};
use super::handle::{Run, RunHandle};
use super::lane::{AMBIENT, Ambient};
use super::live::{Live, Refusal, RunCore};
use super::stop::Left;
use super::trace::Trace;
use super::{Inner, Runtime, join};
use crate::capture::quietly;
use crate::clock::kept;
use crate::error::{Cause, Error, TaskError};
use crate::failpoint;
use crate::flow::{Flow, FlowCall, FlowDef, Request, registry};
use crate::graph::{self, Graph};
use crate::id::RunId;
use crate::schedule::Schedule;
use crate::state::RunKind;
use crate::store::{self, Created, NewRun, RunLog, RunRecord};
use crate::task::scope::Kind;
use crate::task::{Context, Input, Interval, RunFacts, scope};
use crate::value::{Data, Value};

impl<T: Data> Flow<T> {
    /// Binds the flow to a runtime. Without it a flow goes to [`Runtime::default_runtime`].
    pub fn on(mut self, runtime: &Runtime) -> Self {
        self.request.host = Some(Arc::clone(&runtime.0) as _);
        self
    }

    /// The flow's graph, without running it: the flow's function is called, its tasks are not.
    ///
    /// # Errors
    ///
    /// Where the graph is refused, and where the flow is an `async fn`, whose graph depends on results.
    pub fn graph(&self) -> Result<Graph, Error> {
        // of the runtime there is only the time to be had: no store is opened to draw a graph
        let host = self
            .given_host()
            .unwrap_or_else(|| Arc::clone(&Runtime::of_loose_tasks().0));
        host.graph(&self.call, &self.request)
    }

    /// Runs the flow, and waits for its end. A run that fails is an `Ok`: its state says so.
    ///
    /// # Errors
    ///
    /// Where no run was made, or its record could not be kept: the graph is refused, a resource or a pool is missing,
    /// the store fails.
    ///
    /// # Cancellation
    ///
    /// Dropping the future asks for the run's end, as [`RunHandle::cancel`] does.
    pub async fn run(self) -> Result<Run<T>, Error> {
        let host = self.host()?;
        // in a body, the run is a part of what the body does
        let handle: RunHandle<T> = start(Ambient::on(&host), self.call, &self.request).await?;
        let guard = handle.guard();
        let run = handle.await;
        if let Some(guard) = guard {
            guard.disarm();
        }
        run
    }

    /// Starts the flow, and gives a handle on the run.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run).
    pub async fn start(self) -> Result<RunHandle<T>, Error> {
        let host = self.host()?;
        start(Ambient::outside(&host), self.call, &self.request).await
    }

    pub(crate) fn given_host(&self) -> Option<Arc<Inner>> {
        self.request
            .host
            .clone()
            .and_then(|host| host.downcast::<Inner>().ok())
    }

    pub(super) fn host(&self) -> Result<Arc<Inner>, Error> {
        self.given_host().map_or_else(Inner::of_here, Ok)
    }
}

/// Awaiting a flow runs it, and gives what it returned. In the body of another flow it is a part of that flow's run.
impl<T: Data> IntoFuture for Flow<T> {
    type Output = Result<T, TaskError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            if scope::with(|_| ()).is_some() {
                return self.into_node().await;
            }
            match self.run().await {
                Ok(run) => run.into_result(),
                Err(error) => Err(TaskError::new(Cause::Fatal, error.to_string())),
            }
        })
    }
}

impl Request {
    /// Asks for the run of a schedule's tick.
    pub(crate) fn of_tick(kind: RunKind, schedule: &Schedule, tick: DateTime<Utc>) -> Self {
        Self {
            kind,
            logical_date: Some(tick),
            interval: Some(schedule.interval_of(tick)),
            ..Self::default()
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let problem = match (&self.key, self.interval) {
            (Some(key), _) if key.is_empty() => {
                "expected a key to be at least one character, got ``".to_owned()
            }
            (_, Some(interval)) if interval.end < interval.start => {
                format!("expected an interval to end after its start, got {interval}")
            }
            _ => return Ok(()),
        };
        Err(Error::Options(problem))
    }

    /// Refuses a run that has the key that was asked for, but was asked for with something else.
    pub(crate) fn check_is_that_of(&self, flow: &FlowCall, taken: &RunRecord) -> Result<(), Error> {
        let json = |parameters: &serde_json::Map<_, _>| {
            serde_json::Value::Object(parameters.clone()).to_string()
        };
        let interval = self.interval.map(|Interval { start, end }| Interval {
            start: kept(start),
            end: kept(end),
        });
        let (recorded, asked) = match self.logical_date.map(kept) {
            _ if !flow.has(taken.parameters()) => (
                format!("the parameters {}", json(taken.parameters())),
                format!("the parameters {}", json(&flow.parameters)),
            ),
            Some(date) if date != taken.logical_date() => (
                format!("the logical date {}", taken.logical_date()),
                format!("the logical date {date}"),
            ),
            _ => match interval.filter(|interval| *interval != taken.interval()) {
                Some(interval) => (
                    format!("the interval {}", taken.interval()),
                    format!("the interval {interval}"),
                ),
                None => return Ok(()),
            },
        };
        Err(Error::KeyTaken {
            flow: taken.flow().to_owned(),
            key: taken.key().unwrap_or_default().to_owned(),
            run: taken.id(),
            recorded,
            asked,
        })
    }

    pub(super) fn facts(
        &self,
        runtime: &Inner,
        flow: &FlowDef,
        now: DateTime<Utc>,
    ) -> Arc<RunFacts> {
        // a body that is run again sees the same times
        let logical_date = kept(self.logical_date.unwrap_or(now));
        let interval = self.interval.or_else(|| last_interval(flow, logical_date));
        let interval = interval.unwrap_or(Interval {
            start: logical_date,
            end: logical_date,
        });
        let interval = Interval {
            start: kept(interval.start),
            end: kept(interval.end),
        };
        Arc::new(RunFacts {
            id: runtime.ids.run_id(now),
            flow: flow.name,
            logical_date,
            interval,
        })
    }

    pub(super) fn new_run(
        &self,
        facts: &RunFacts,
        parameters: serde_json::Map<String, serde_json::Value>,
        created: DateTime<Utc>,
    ) -> NewRun {
        NewRun {
            id: facts.id,
            flow: facts.flow.into(),
            kind: self.kind,
            key: self.key.clone(),
            logical_date: facts.logical_date,
            interval: facts.interval,
            parameters,
            refresh_cache: self.refresh_cache,
            created,
        }
    }
}

/// What a run by hand is for: the last interval of its flow's schedule that had ended then.
fn last_interval(flow: &FlowDef, at: DateTime<Utc>) -> Option<Interval> {
    let schedule = Schedule::of_flow(flow)?.ok()?;
    schedule.last_complete_interval(at)
}

/// What became of a run that was asked for.
pub(crate) enum Accepted {
    Started(StartedRun),
    /// There is a run with its key, or of its tick.
    Taken(RunRecord),
}

/// A run that this process executes.
pub(crate) struct StartedRun {
    pub(crate) id: RunId,
    pub(crate) cancel: CancellationToken,
    pub(super) conducted: JoinHandle<Result<Finished, Error>>,
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

    /// Waits for the end of a run that nobody else waits for. What becomes of it stands in its own log; here only what
    /// kept it from an end.
    pub(crate) async fn attend(self) {
        let run = self.id;
        match self.end().await {
            Ok(_) | Err(Error::Stopped { .. } | Error::NoTokio) => {}
            Err(error) => tracing::error!(%run, "a run was given up: {error}"),
        }
    }
}

/// Accepts a run and starts it; or finds the one that has its key.
async fn start<T: Data>(
    ambient: Ambient,
    flow: Arc<FlowCall>,
    request: &Request,
) -> Result<RunHandle<T>, Error> {
    let runtime = Arc::clone(&ambient.runtime);
    match accept(ambient, &flow, request).await? {
        Accepted::Started(StartedRun {
            id,
            cancel,
            conducted,
        }) => Ok(RunHandle::new(id, cancel, conducted)),
        Accepted::Taken(record) => join::join(runtime, &Tokio::current(), &flow, request, record),
    }
}

/// Accepts a run and starts it, unless another has its place.
pub(super) async fn accept(
    ambient: Ambient,
    flow: &Arc<FlowCall>,
    request: &Request,
) -> Result<Accepted, Error> {
    let accepted = accept_unless_paused(ambient, flow, request).await?;
    let paused = || {
        Error::Options(format!(
            "the schedules of flow `{}` are paused",
            flow.definition.name
        ))
    };
    accepted.ok_or_else(paused)
}

/// Accepts a run and starts it, unless another has its place; gives none where the run is a scheduled one and its flow is
/// paused. A run that nobody waits for is accepted, and fails, where one by hand would be refused: so its record says
/// why.
async fn accept_unless_paused(
    ambient: Ambient,
    flow: &Arc<FlowCall>,
    request: &Request,
) -> Result<Option<Accepted>, Error> {
    let runtime = Arc::clone(&ambient.runtime);
    let definition = flow.definition;
    let tokio = Tokio::try_current().map_err(|_| Error::NoTokio)?;
    registry::check_name(definition)?;
    if runtime.stop.soft.is_cancelled() {
        return Err(Error::Closed);
    }
    if let Some(problem) = &flow.problem {
        return Err(Error::Parameters {
            flow: definition.name.to_owned(),
            problem: problem.clone(),
        });
    }
    request.check()?;
    let waiting = ambient
        .flows
        .iter()
        .filter(|flow| **flow == definition.name)
        .count();
    if let Some(turns) = turns(definition, request.kind).filter(|turns| waiting >= *turns as usize)
    {
        return Err(Error::Options(format!(
            "flow `{}` is run in the body of a task of its own run, and its `max_active_runs` is {turns}: the two would \
             wait for each other; start it without waiting (`.start()`), or call another flow",
            definition.name
        )));
    }
    let created = runtime.clock.now();
    let facts = request.facts(&runtime, definition, created);
    let cancel = CancellationToken::new();
    let mut live = Live::new(&ambient.held, runtime.store.is_durable(), None);
    let trace = Trace::new(&runtime, &facts, &tokio);
    let called = match runtime.call(&mut live, flow, &facts, &trace, &cancel) {
        Ok(called) => called,
        Err(error) if request.kind == RunKind::Manual => return Err(error),
        Err(error) => Called::Failed(TaskError::new(Cause::Fatal, error.to_string())),
    };
    // before the run is there for others to find
    let under_way = runtime.under_way.enter(facts.id, &cancel, runtime.heard());
    // who stops the runtime finds the run under way, or else is seen here
    if runtime.stop.soft.is_cancelled() {
        return Err(Error::Closed);
    }
    let new = request.new_run(&facts, flow.parameters.clone(), created);
    let log = match runtime.store.create_run(new).await? {
        Created::New(log) => log,
        Created::Taken(record) => return Ok(Some(Accepted::Taken(record))),
        Created::Paused => return Ok(None),
    };
    failpoint::hit("run-created");
    let run = RunCore::new(
        runtime,
        log,
        trace,
        cancel.clone(),
        live,
        &ambient,
        request.refresh_cache,
    );
    let id = run.facts.id;
    let turns = turns(definition, request.kind);
    let conducted = tokio.spawn(see_through(
        run, called, definition, turns, None, ambient, under_way,
    ));
    Ok(Some(Accepted::Started(StartedRun {
        id,
        cancel,
        conducted,
    })))
}

/// How many runs of a flow may be under way for one of a kind to start: a backfill counts its own.
pub(super) fn turns(definition: &FlowDef, kind: RunKind) -> Option<u32> {
    definition
        .max_active_runs
        .filter(|_| kind != RunKind::Backfill)
}

/// Sees a run to its end, when its turn comes.
pub(super) async fn see_through(
    run: Arc<RunCore>,
    called: Called,
    definition: &'static FlowDef,
    turns: Option<u32>,
    began: Option<i64>,
    ambient: Ambient,
    _under_way: Left,
) -> Result<Finished, Error> {
    let mut conductor = Conductor::new(run, called, definition.timeout, began);
    let _turn = match turns {
        Some(turns) => conductor.wait_for_turn(definition.name, turns).await,
        None => None,
    };
    AMBIENT.scope(ambient, conductor.conduct()).await
}

/// Runs what `plant` writes down: a run of its own, which is recorded nowhere. Gives what became of what it returned.
pub(super) async fn alone(
    ambient: Ambient,
    name: &'static str,
    plant: impl FnOnce() -> Result<Input, TaskError>,
) -> Result<Value, TaskError> {
    let Ambient {
        runtime,
        held,
        flows,
        in_task,
    } = ambient;
    let refused = |error: Error| TaskError::new(Cause::Fatal, error.to_string());
    let tokio = Tokio::try_current().map_err(|_| refused(Error::NoTokio))?;
    let created = runtime.clock.now();
    let interval = Interval {
        start: created,
        end: created,
    };
    let facts = Arc::new(RunFacts {
        id: runtime.ids.run_id(created),
        flow: name,
        logical_date: created,
        interval,
    });
    let cancel = CancellationToken::new();
    let trace = Trace::unrecorded(&facts);
    let mut live = Live::new(&held, false, None);
    live.caches = false;
    let output = body::plant(&mut live, &runtime, cancel.clone(), plant)?;
    let log =
        store::unrecorded(Request::default().new_run(&facts, serde_json::Map::new(), created));
    let ambient = Ambient {
        runtime: Arc::clone(&runtime),
        held,
        flows,
        in_task,
    };
    let run = RunCore::new(runtime, log, trace, cancel.clone(), live, &ambient, false);
    let guard = cancel.drop_guard();
    let conducted = tokio
        .spawn(Conductor::new(run, Called::Returned(output), None, None).conduct())
        .await;
    guard.disarm();
    match conducted {
        Ok(finished) => {
            let finished = finished.map_err(refused)?;
            // the task's own error, rather than the run's, which would name the task
            finished
                .missing
                .clone()
                .map_or_else(|| finished.into_value(), Err)
        }
        Err(_) => Err(refused(Error::NoTokio)),
    }
}

impl RunCore {
    pub(super) fn new(
        runtime: Arc<Inner>,
        log: Arc<dyn RunLog>,
        trace: Trace,
        cancel: CancellationToken,
        live: Live,
        ambient: &Ambient,
        refresh_cache: bool,
    ) -> Arc<Self> {
        let workers = Tokio::try_current().map_or(1, |tokio| tokio.metrics().num_workers());
        let durable = log.needs_commits();
        let mut flows = ambient.flows.clone();
        // a task that runs alone is no flow
        flows.extend(trace.is_recorded.then_some(trace.facts.flow));
        Arc::new(Self {
            runtime,
            facts: Arc::clone(&trace.facts),
            log,
            trace,
            cancel,
            wake: Notify::new(),
            workers,
            nested: ambient.in_task,
            held: ambient.held.clone(),
            flows,
            broken: AtomicBool::new(false),
            durable,
            resumed: live.plan.is_replayed(),
            refresh_cache,
            released: AtomicBool::new(false),
            live: Mutex::new(live),
        })
    }
}

impl Inner {
    /// The runtime for what is bound to none: in a body the one where that runs, and else the default one.
    pub(crate) fn of_here() -> Result<Arc<Self>, Error> {
        match AMBIENT.try_with(|ambient| Arc::clone(&ambient.runtime)) {
            Ok(runtime) => Ok(runtime),
            Err(_) => Ok(Runtime::default_runtime()?.0),
        }
    }

    /// Accepts a run and starts it, outside of any body.
    pub(crate) async fn accept(
        self: &Arc<Self>,
        flow: &Arc<FlowCall>,
        request: &Request,
    ) -> Result<Accepted, Error> {
        accept(Ambient::outside(self), flow, request).await
    }

    /// Accepts a scheduled run and starts it; gives none where its flow is paused.
    pub(crate) async fn accept_tick(
        self: &Arc<Self>,
        flow: &Arc<FlowCall>,
        request: &Request,
    ) -> Result<Option<Accepted>, Error> {
        accept_unless_paused(Ambient::outside(self), flow, request).await
    }

    /// Accepts a run and starts it: in a body, as a part of what the body does.
    pub(crate) async fn accept_here(
        self: &Arc<Self>,
        flow: &Arc<FlowCall>,
        request: &Request,
    ) -> Result<Accepted, Error> {
        accept(Ambient::on(self), flow, request).await
    }

    /// Refuses a flow that cannot run here, as far as that is known before it does: at an instant, or now.
    pub(crate) fn check_call(
        &self,
        flow: &Arc<FlowCall>,
        at: Option<DateTime<Utc>>,
    ) -> Result<(), Error> {
        let definition = flow.definition;
        if let Some(problem) = &flow.problem {
            return Err(Error::Parameters {
                flow: definition.name.to_owned(),
                problem: problem.clone(),
            });
        }
        self.check_has(definition.name, definition.resources)?;
        if definition.is_async {
            return Ok(());
        }
        let request = Request {
            logical_date: at,
            ..Request::default()
        };
        let facts = request.facts(self, definition, self.clock.now());
        quietly(|| self.check_flow(flow, &facts))
    }

    /// The graph of a static flow, as a run of it would have it.
    pub(crate) fn graph(&self, flow: &Arc<FlowCall>, request: &Request) -> Result<Graph, Error> {
        let facts = request.facts(self, flow.definition, self.clock.now());
        graph::of_flow(
            flow,
            &Arc::new(Context::of_flow(facts, CancellationToken::new())),
        )
    }

    /// The same runtime, with a stop of its own: where that comes first, nothing else stops.
    pub(crate) fn with_own_stop(&self) -> Self {
        Self {
            stop: self.stop.child(),
            ..self.clone()
        }
    }

    /// Refuses a static flow whose tasks, or those of the static flows that it calls, cannot run here.
    pub(super) fn check_flow(
        &self,
        flow: &Arc<FlowCall>,
        facts: &Arc<RunFacts>,
    ) -> Result<(), Error> {
        let context = Arc::new(Context::of_flow(
            Arc::clone(facts),
            CancellationToken::new(),
        ));
        self.check_wiring(&graph::wire(flow, &context)?.0)
    }

    /// Calls a flow's function, and checks what it wrote down. Where it is a plain `fn`, this is all of its body: it is
    /// checked before there is a run.
    fn call(
        &self,
        live: &mut Live,
        flow: &Arc<FlowCall>,
        facts: &Arc<RunFacts>,
        trace: &Trace,
        cancel: &CancellationToken,
    ) -> Result<Called, Error> {
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
            Err(error @ CallError::Body(_)) => Called::Failed(error.into_task_error()),
        };
        let is_static = |kind: &Kind| matches!(kind, Kind::Flow(call) if !call.definition.is_async);
        if live
            .plan
            .wiring
            .nodes
            .iter()
            .any(|node| is_static(&node.kind))
        {
            self.check_flow(flow, facts)?;
        }
        Ok(called)
    }

    /// The slots of a flow that says how many of its runs may be under way.
    pub(super) fn turn(&self, flow: &'static str, runs: u32) -> Arc<Semaphore> {
        let mut active = self.active.lock();
        Arc::clone(
            active
                .entry(flow)
                .or_insert_with(|| Arc::new(Semaphore::new(runs as usize))),
        )
    }
}
