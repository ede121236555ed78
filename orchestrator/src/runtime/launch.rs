//! Flows on a runtime: how runs are accepted, started and awaited.

use std::future::{Future as _, IntoFuture, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context as Cx, Poll};

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::runtime::Handle as Tokio;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::ambient::{AMBIENT, Ambient};
use super::body::{self, CallError, Called};
use super::conduct::{Conductor, Finished};
use super::handle::{Run, RunHandle};
use super::hold::Hold;
use super::live::{Live, Refusal, RunCore};
use super::stop::{Left, StopSignal, unless_left};
use super::trace::Trace;
use super::{Inner, Runtime, join};
use crate::bounds;
use crate::capture::quietly;
use crate::clock::{Timestamp, kept};
use crate::error::{Cause, Error, TaskError};
use crate::excerpt::Excerpt;
use crate::failpoint;
use crate::flow::{Flow, FlowCall, FlowDef, Request, registry};
use crate::graph::{self, Graph};
use crate::id::RunId;
use crate::journal::{NewRun, RunRecord};
use crate::panic::catch;
use crate::schedule::Schedule;
use crate::scope;
use crate::scope::NodeKind;
use crate::state::RunKind;
use crate::store::{self, Created, RunLog};
use crate::task::{Context, Input, Interval, RunFacts};
use crate::value::{Data, Value, json_text};

impl<T: Data> Flow<T> {
    /// Binds the flow to a runtime. An unbound flow runs on [`Runtime::default_runtime`].
    pub fn on(mut self, runtime: &Runtime) -> Self {
        self.request.host = Some(Arc::clone(&runtime.0) as _);
        self
    }

    /// Returns the flow's graph without running it: calls the flow's function, but not its tasks.
    ///
    /// # Errors
    ///
    /// Returns an error if the graph is invalid, or if the flow is an `async fn`, whose graph
    /// depends on results.
    pub fn graph(&self) -> Result<Graph, Error> {
        // drawing a graph needs only a clock: no store is opened for it
        let host = self
            .given_host()
            .unwrap_or_else(|| Arc::clone(&Runtime::of_loose_tasks().0));
        host.graph(&self.call, &self.request)
    }

    /// Runs the flow and waits for its end. Returns `Ok` even if the run fails: see
    /// [`RunRecord::state`].
    ///
    /// # Errors
    ///
    /// Returns an error if no run was created or its record could not be stored: the graph is
    /// invalid, a resource or a pool is missing, or the store failed.
    ///
    /// # Cancellation
    ///
    /// Dropping the future cancels the run, like [`RunHandle::cancel`].
    pub async fn run(self) -> Result<Run<T>, Error> {
        let host = self.host()?;
        // within a body, the run is part of the body's work
        let started = start(Ambient::on(&host), self.call, &self.request);
        let handle: RunHandle<T> = unless_left(started).await?;
        let guard = handle.guard();
        let run = handle.await;
        if let Some(guard) = guard {
            guard.disarm();
        }
        run
    }

    /// Starts the flow and returns a handle to the run.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`run`](Self::run).
    pub async fn start(self) -> Result<RunHandle<T>, Error> {
        let host = self.host()?;
        unless_left(start(Ambient::outside(&host), self.call, &self.request)).await
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

/// Awaiting a flow runs it and returns its output. In the body of another flow, it becomes part of
/// that flow's run.
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
    /// Creates the request for the run of a schedule's tick.
    pub(crate) fn of_tick(kind: RunKind, schedule: &Schedule, tick: DateTime<Utc>) -> Self {
        Self {
            kind,
            logical_date: Some(tick),
            interval: Some(schedule.interval_of(tick)),
            ..Self::default()
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let long = self
            .key
            .as_ref()
            .and_then(|key| bounds::fault(key, bounds::RUN_KEY));
        let problem = match (&self.key, self.interval) {
            _ if long.is_some() => {
                format!("the key of a run is too long: {}", long.unwrap_or_default())
            }
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

    /// Returns an error if the existing run with the requested key was requested with other
    /// parameters or dates.
    pub(crate) fn check_is_that_of(&self, flow: &FlowCall, taken: &RunRecord) -> Result<(), Error> {
        let json = |parameters: &serde_json::Map<_, _>| {
            Excerpt::of(json_text(parameters), bounds::ERROR / 4, 0)
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
        // truncated to the precision of the store, so that a resumed body sees the same times
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

/// Returns the interval of a manual run: the last interval of the flow's schedule that had ended at
/// the given time.
fn last_interval(flow: &FlowDef, at: DateTime<Utc>) -> Option<Interval> {
    let schedule = Schedule::of_flow(flow)?.ok()?;
    schedule.last_complete_interval(at)
}

/// The result of a request for a run.
pub(crate) enum Accepted {
    Started(StartedRun),
    /// An existing run has the same key or belongs to the same tick.
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

/// Accepts and starts a run, or joins the existing run with its key.
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

/// Accepts and starts a run, unless an existing run has its key or tick.
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

/// Accepts and starts a run, unless an existing run has its key or tick. Returns `None` if the run
/// is scheduled and its flow is paused. If the runtime cannot run the flow, a manual run is refused
/// with an error; any other run is accepted and fails, so that its record has the error.
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
    if let Some(problem) = flow.fault() {
        return Err(Error::Parameters {
            flow: definition.name.to_owned(),
            problem,
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
    let trace = Trace::new(&runtime, &facts);
    let called = match runtime.call(&mut live, flow, &facts, &trace, &cancel) {
        Ok(called) => called,
        Err(error) if request.kind == RunKind::Manual => return Err(error),
        Err(error) => Called::Failed(TaskError::new(Cause::Fatal, error.to_string())),
    };
    // registered before the run is created: other processes can see it from then on, and may cancel
    // it
    let under_way = runtime.under_way.enter(facts.id, &cancel, runtime.heard());
    // checked again after the registration: a concurrent stop either finds the run registered, or
    // is noticed here
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
    trace.release_early_lines();
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

/// Returns the limit on active runs that applies to a run of this kind. Runs of backfills are
/// limited by the backfill instead.
pub(super) fn turns(definition: &FlowDef, kind: RunKind) -> Option<u32> {
    definition
        .max_active_runs
        .filter(|_| kind != RunKind::Backfill)
}

/// Waits for a slot of the flow if necessary, and conducts the run to its end.
pub(super) async fn see_through(
    run: Arc<RunCore>,
    called: Called,
    definition: &'static FlowDef,
    turns: Option<u32>,
    began: Option<Timestamp>,
    ambient: Ambient,
    _under_way: Left,
) -> Result<Finished, Error> {
    let mut conductor = Conductor::new(Arc::clone(&run), called, definition.timeout, began);
    let _turn = match turns {
        Some(turns) => conductor.wait_for_turn(definition.name, turns).await,
        None => None,
    };
    let mut conducted = pin!(AMBIENT.scope(ambient, conductor.conduct()));
    let polled = |cx: &mut Cx<'_>| match catch(|| conducted.as_mut().poll(cx)) {
        Ok(polled) => polled.map(Ok),
        Err(panicked) => Poll::Ready(Err(panicked)),
    };
    match poll_fn(polled).await {
        Ok(finished) => finished,
        // a bug of the runtime: the run still ends, both in the store and for its waiters
        Err(panicked) => Conductor::give_up(&run, &panicked).await,
    }
}

/// Runs the nodes that `plant` adds as an unrecorded run of their own. Returns the value of the
/// node that `plant` returns.
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
        hold,
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
    let trace = Trace::unrecorded(&runtime, &facts);
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
        hold,
    };
    let run = RunCore::new(runtime, log, trace, cancel.clone(), live, &ambient, false);
    let guard = cancel.drop_guard();
    let conducted =
        tokio.spawn(Conductor::new(run, Called::Returned(output), None, None).conduct());
    let finished = unless_left(async { conducted.await.map_err(|_| Error::NoTokio)? }).await;
    guard.disarm();
    let finished = finished.map_err(refused)?;
    // the task's own error: that of the run would also name the task
    match finished.returned {
        Some(Err(error)) => Err(error),
        _ => finished.into_value(),
    }
}

impl RunCore {
    pub(super) fn new(
        runtime: Arc<Inner>,
        log: Arc<dyn RunLog>,
        trace: Trace,
        cancel: CancellationToken,
        mut live: Live,
        ambient: &Ambient,
        refresh_cache: bool,
    ) -> Arc<Self> {
        let workers = Tokio::try_current().map_or(1, |tokio| tokio.metrics().num_workers());
        let durable = log.needs_commits();
        let mut flows = ambient.flows.clone();
        // a task that runs alone does not belong to a flow
        flows.extend(trace.is_recorded.then_some(trace.facts.flow));
        // a task that a body awaits is part of the body's run
        let outer = ambient.hold.clone().filter(|_| !trace.is_recorded);
        let stop = outer.as_ref().map_or_else(
            || runtime.stop.clone(),
            |outer| StopSignal::at_once(outer.left()),
        );
        live.hold = Some(Hold::new(Arc::clone(&log), outer));
        let clock = trace.clock.clone();
        Arc::new(Self {
            runtime,
            facts: Arc::clone(&trace.facts),
            log,
            clock,
            trace,
            cancel,
            stop,
            grace_over: live.grace_over.clone(),
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
    /// Returns the runtime for an unbound flow: within a body, the runtime of the body; otherwise
    /// the default one.
    pub(crate) fn of_here() -> Result<Arc<Self>, Error> {
        match AMBIENT.try_with(|ambient| Arc::clone(&ambient.runtime)) {
            Ok(runtime) => Ok(runtime),
            Err(_) => Ok(Runtime::default_runtime()?.0),
        }
    }

    /// Accepts and starts a run outside of any body.
    pub(crate) async fn accept(
        self: &Arc<Self>,
        flow: &Arc<FlowCall>,
        request: &Request,
    ) -> Result<Accepted, Error> {
        accept(Ambient::outside(self), flow, request).await
    }

    /// Accepts and starts a scheduled run. Returns `None` if its flow is paused.
    pub(crate) async fn accept_tick(
        self: &Arc<Self>,
        flow: &Arc<FlowCall>,
        request: &Request,
    ) -> Result<Option<Accepted>, Error> {
        accept_unless_paused(Ambient::outside(self), flow, request).await
    }

    /// Accepts and starts a run. Within a body, the run is part of the body's work.
    pub(crate) async fn accept_here(
        self: &Arc<Self>,
        flow: &Arc<FlowCall>,
        request: &Request,
    ) -> Result<Accepted, Error> {
        accept(Ambient::on(self), flow, request).await
    }

    /// Checks whether a flow can run here, as far as that is known beforehand, for a run at an
    /// instant or now.
    pub(crate) fn check_call(
        &self,
        flow: &Arc<FlowCall>,
        at: Option<DateTime<Utc>>,
    ) -> Result<(), Error> {
        let definition = flow.definition;
        if let Some(problem) = flow.fault() {
            return Err(Error::Parameters {
                flow: definition.name.to_owned(),
                problem,
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

    /// Returns the graph that a run of a static flow would have.
    pub(crate) fn graph(&self, flow: &Arc<FlowCall>, request: &Request) -> Result<Graph, Error> {
        let facts = request.facts(self, flow.definition, self.clock.now());
        graph::of_flow(
            flow,
            &Arc::new(Context::of_flow(facts, CancellationToken::new())),
        )
    }

    /// Returns the same runtime with a stop signal of its own, which stops nothing else.
    pub(crate) fn with_own_stop(&self) -> Self {
        Self {
            stop: self.stop.child(),
            ..self.clone()
        }
    }

    /// Checks whether the tasks of a static flow, and those of the static flows that it calls, can
    /// run here.
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

    /// Calls a flow's function and checks the nodes that it adds. For a plain `fn` flow, this is
    /// the whole body, so it is checked before a run is created.
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
        let is_static =
            |kind: &NodeKind| matches!(kind, NodeKind::Flow(call) if !call.definition.is_async);
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

    /// Returns the slots of a flow with `max_active_runs`.
    pub(super) fn turn(&self, flow: &'static str, runs: u32) -> Arc<Semaphore> {
        let mut active = self.active.lock();
        Arc::clone(active.entry(flow).or_insert_with(|| {
            Arc::new(Semaphore::new((runs as usize).min(Semaphore::MAX_PERMITS)))
        }))
    }
}
