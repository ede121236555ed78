//! The conductor of a run: polls the bodies of its flows, and sees to retries whose time has come, to cancelling, and to
//! the end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as Cx, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::live::{Live, Refusal, RunCore, ScopeState};
use super::panic;
use super::plan::{End, Instance, Verdict};
use crate::error::{Error, TaskError};
use crate::event::Event;
use crate::flow::{FlowBody, FlowCall, Progress};
use crate::graph::build::Defaults;
use crate::state::RunState;
use crate::store::{Row, RunEnd, RunRecord, Transition};
use crate::task::scope::{Kind, Promise, Scope};
use crate::task::{Arg, Context, Input, TaskOptions};
use crate::value::Value;

/// The end of a run.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) record: RunRecord,
    /// Why there is no output, where the run is green without one.
    pub(super) missing: Option<TaskError>,
}

impl Finished {
    /// What was returned, where the run is green.
    pub(super) fn into_value(self) -> Result<Value, TaskError> {
        match (self.record.error(), self.record.output(), self.missing) {
            (Some(error), _, _) => Err(error.clone()),
            (None, Some(output), _) => Ok(output.clone()),
            (None, None, Some(missing)) => Err(missing),
            (None, None, None) => Err(TaskError::cancelled()),
        }
    }
}

/// Why a run comes to its end before its tasks do.
enum Stop {
    /// Somebody asked for it.
    Asked,
    TimedOut(Duration),
    /// The flow's body failed.
    Body(TaskError),
}

/// How many bodies of `async` flows are under way in this process.
static BODIES: AtomicUsize = AtomicUsize::new(0);

pub(super) fn bodies_under_way() -> bool {
    BODIES.load(Ordering::Relaxed) > 0
}

pub(super) struct Conductor {
    run: Arc<RunCore>,
    pub(super) bodies: FuturesUnordered<Body>,
    /// What the flow returned.
    output: Option<Input>,
    /// When the bodies of flows in the flow were started, by their nodes.
    started: std::collections::HashMap<u32, i64>,
    timeout: Option<Duration>,
    stop: Option<Stop>,
}

/// The body of a flow in the run, or what it waits for after its function returned.
pub(super) struct Body {
    run: Option<Arc<RunCore>>,
    /// Its number among the flows of the run.
    number: u32,
    /// The node that it is; none for the flow itself.
    node: Option<u32>,
    scope: Option<Scope>,
    step: Step,
    /// When a flow in the flow has taken too long.
    deadline: Option<(Duration, Pin<Box<tokio::time::Sleep>>)>,
    under_way: Option<UnderWay>,
}

enum Step {
    Polling(Pin<Box<dyn Future<Output = Result<Input, TaskError>> + Send>>),
    /// The function returned nodes, which the flow's node waits for.
    Watching(Input, Vec<Arc<Promise>>),
}

/// What came of a body.
pub(super) enum BodyEnd {
    /// Its function returned; for a flow in the flow, what it returned is there.
    Returned(Input),
    Failed(TaskError),
}

/// The function of a flow, called.
pub(super) enum Called {
    Returned(Input),
    Polling(Box<Body>),
    Failed(TaskError),
}

/// Calls a flow's function, and plans what it wrote down. Where it is an `async fn`, it has yet to be polled.
pub(super) fn call(
    live: &mut Live,
    runtime: &super::Inner,
    flow: &FlowCall,
    node: Option<u32>,
    context: Arc<Context>,
    cancel: tokio_util::sync::CancellationToken,
) -> Result<Called, CallError> {
    let prefix = node.map(|node| Arc::from(format!("{}/", live.plan.wiring.nodes[node as usize].key())));
    let mut scope = Scope::new(prefix);
    scope.first = super::plan::id_of(live.plan.wiring.nodes.len());
    let number = super::plan::id_of(live.scopes.len());
    let defaults = Defaults { flow: flow.definition.defaults.clone(), runtime: runtime.defaults.clone() };
    let parent = node.map(|node| live.plan.wiring.nodes[node as usize].scope);
    live.scopes.push(ScopeState { defaults, cancel, parent });
    let (mut scope, body) = scope.enter(|| panic::catch(|| flow.start(context)));
    let FlowBody(progress) = match body {
        Ok(Ok(body)) => body,
        Ok(Err(panicked)) => return Err(CallError::Body(TaskError::panicked(&panicked))),
        Err(payload) => std::panic::resume_unwind(payload),
    };
    live.absorb(runtime, &mut scope, number).map_err(CallError::Refused)?;
    Ok(match progress {
        Progress::Wired(output) => {
            live.plan.returned(&output, node);
            live.plan.close(number);
            Called::Returned(output)
        }
        Progress::Async(body) => {
            let step = Step::Polling(body);
            Called::Polling(Box::new(Body {
                run: None,
                number,
                node,
                scope: Some(scope),
                step,
                deadline: None,
                under_way: None,
            }))
        }
    })
}

/// Plans what `plant` writes down in a scope of its own.
pub(super) fn plant(
    live: &mut Live,
    runtime: &super::Inner,
    cancel: tokio_util::sync::CancellationToken,
    plant: impl FnOnce() -> Result<Input, TaskError>,
) -> Result<Input, TaskError> {
    let defaults = Defaults { flow: TaskOptions::NONE, runtime: runtime.defaults.clone() };
    live.scopes.push(ScopeState { defaults, cancel, parent: None });
    let (mut scope, planted) = Scope::new(None).enter(plant);
    let output = match planted {
        Ok(output) => output?,
        Err(payload) => std::panic::resume_unwind(payload),
    };
    live.absorb(runtime, &mut scope, 0).map_err(|refusal| CallError::Refused(refusal).into_task_error())?;
    live.plan.returned(&output, None);
    live.plan.close(0);
    Ok(output)
}

/// Why a flow's function gave no graph.
pub(super) enum CallError {
    Refused(Refusal),
    Body(TaskError),
}

impl CallError {
    /// The error as the body's own.
    pub(super) fn into_task_error(self) -> TaskError {
        let text = match self {
            Self::Body(error) => return error,
            Self::Refused(Refusal::Graph(error)) => error.to_string(),
            Self::Refused(Refusal::Runtime(error)) => error.to_string(),
        };
        TaskError::new(crate::error::Cause::Fatal, text)
    }
}

impl Future for Body {
    type Output = (u32, Option<u32>, BodyEnd);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some((timeout, sleep)) = &mut this.deadline
            && sleep.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready((this.number, this.node, BodyEnd::Failed(TaskError::timed_out(*timeout))));
        }
        loop {
            let ended = match &mut this.step {
                Step::Polling(_) => match this.poll_function(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(output)) => match this.watch(&output) {
                        None => BodyEnd::Returned(output),
                        Some(promises) => {
                            this.step = Step::Watching(output, promises);
                            continue;
                        }
                    },
                    Poll::Ready(Err(error)) => BodyEnd::Failed(error),
                },
                Step::Watching(output, promises) => {
                    promises.retain(|promise| promise.poll(cx.waker()).is_pending());
                    if !promises.is_empty() {
                        return Poll::Pending;
                    }
                    BodyEnd::Returned(output.clone())
                }
            };
            return Poll::Ready((this.number, this.node, ended));
        }
    }
}

/// Counts a body for as long as it is there.
struct UnderWay;

impl UnderWay {
    fn new() -> Self {
        BODIES.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        BODIES.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Body {
    /// Polls an `async fn` in its scope, and plans what it has written down.
    fn poll_function(&mut self, cx: &mut Cx<'_>) -> Poll<Result<Input, TaskError>> {
        let (Some(run), Some(mut scope)) = (self.run.clone(), self.scope.take()) else {
            return Poll::Pending;
        };
        scope.first = super::plan::id_of(run.live.lock().plan.wiring.nodes.len());
        let Step::Polling(body) = &mut self.step else {
            return Poll::Pending;
        };
        let (mut scope, polled) = scope.enter(|| panic::catch(|| body.as_mut().poll(cx)));
        let polled = match polled {
            Ok(Ok(poll)) => poll,
            Ok(Err(panicked)) => Poll::Ready(Err(TaskError::panicked(&panicked))),
            Err(payload) => std::panic::resume_unwind(payload),
        };
        let live = &mut *run.live.lock();
        let planned = live.absorb(&run.runtime, &mut scope, self.number);
        self.scope = Some(scope);
        match planned {
            Ok(()) => {
                if let Poll::Ready(Ok(output)) = &polled {
                    live.plan.returned(output, self.node);
                    live.plan.close(self.number);
                }
                run.flush(live);
                polled
            }
            Err(refusal) => Poll::Ready(Err(CallError::Refused(refusal).into_task_error())),
        }
    }

    /// What the node of a flow in the flow waits for; nothing for the flow itself, whose output is seen to at the end.
    fn watch(&self, output: &Input) -> Option<Vec<Arc<Promise>>> {
        let run = self.run.as_ref().filter(|_| self.node.is_some())?;
        let mut promises = Vec::new();
        let live = &mut *run.live.lock();
        output.for_each_node(&mut |handle, _| {
            if let crate::task::scope::Handle::Scoped { id, .. } = handle {
                let promise = Arc::new(Promise::default());
                live.plan.watch(*id, Arc::clone(&promise));
                promises.push(promise);
            }
        });
        run.flush(live);
        (!promises.is_empty()).then_some(promises)
    }
}

impl Conductor {
    pub(super) fn new(run: Arc<RunCore>, called: Called, timeout: Option<Duration>) -> Self {
        let mut conductor = Self {
            run,
            bodies: FuturesUnordered::new(),
            output: None,
            started: std::collections::HashMap::new(),
            timeout,
            stop: None,
        };
        match called {
            Called::Returned(output) => conductor.output = Some(output),
            Called::Polling(body) => conductor.poll_body(*body),
            Called::Failed(error) => conductor.stop = Some(Stop::Body(error)),
        }
        conductor
    }

    fn poll_body(&mut self, mut body: Body) {
        body.under_way = Some(UnderWay::new());
        body.run = Some(Arc::clone(&self.run));
        self.bodies.push(body);
    }

    /// Waits for the flow's turn, unless the run is cancelled before it comes.
    pub(super) async fn wait_for(&mut self, turn: Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            permit = turn.acquire_owned() => permit.ok(),
            () = self.run.cancel.cancelled() => None,
        }
    }

    /// Sees the run to its end.
    pub(super) async fn conduct(mut self) -> Result<Finished, Error> {
        let run = Arc::clone(&self.run);
        let started = run.runtime.clock.micros();
        run.log.record(Transition::RunStarted { at: started }).wait().await?;
        let facts = Arc::clone(&run.facts);
        let span = tracing::info_span!("run", run = %facts.id, flow = facts.flow);
        span.in_scope(|| tracing::info!(logical_date = %facts.logical_date, "run started"));
        run.runtime.events.emit(|| Event::RunStarted {
            run: facts.id,
            flow: facts.flow,
            logical_date: facts.logical_date,
        });
        let deadline = self.timeout.map(|timeout| (timeout, Instant::now() + timeout));
        if run.cancel.is_cancelled() {
            self.stop(Stop::Asked);
        }
        run.flush(&mut run.live.lock());
        loop {
            self.start_flows();
            let (done, timer) = {
                let live = &mut *run.live.lock();
                (self.bodies.is_empty() && live.plan.is_done() && live.flows.is_empty(), live.next_timer())
            };
            if done {
                break;
            }
            if run.broken.load(Ordering::Acquire) {
                let text = "a panic in the runtime itself, or in the `Drop` of a value: see the panic's own message";
                self.stop(Stop::Body(TaskError::new(crate::error::Cause::Panicked, text)));
                let live = &mut *run.live.lock();
                live.plan.abandon();
                run.flush(live);
                break;
            }
            tokio::select! {
                biased;
                () = run.cancel.cancelled(), if self.stop.is_none() => self.stop(Stop::Asked),
                Some(ended) = self.bodies.next(), if !self.bodies.is_empty() => self.body_ended(ended),
                () = run.wake.notified() => {}
                () = until(timer) => {
                    let live = &mut *run.live.lock();
                    live.due(Instant::now());
                    run.flush(live);
                }
                () = until(deadline.map(|(_, at)| at)), if self.stop.is_none() => {
                    let timeout = self.timeout.unwrap_or_default();
                    self.stop(Stop::TimedOut(timeout));
                }
            }
        }
        self.finish(started, &span).await
    }

    /// Starts the flows in the flow that may start.
    fn start_flows(&mut self) {
        loop {
            let run = Arc::clone(&self.run);
            let live = &mut *run.live.lock();
            let Some(node) = live.flows.pop() else { return };
            let Kind::Flow(flow) = &live.plan.wiring.nodes[node as usize].kind else {
                continue;
            };
            let flow = Arc::clone(flow);
            self.started.insert(node, run.runtime.clock.micros());
            if self.stop.is_some() {
                self.flow_ended(live, node, End::Cancelled);
                continue;
            }
            let scope = live.plan.wiring.nodes[node as usize].scope;
            let cancel = live.scopes[scope as usize].cancel.child_token();
            let context = Arc::new(Context::of_flow(Arc::clone(&run.facts), cancel.clone()));
            let number = super::plan::id_of(live.scopes.len());
            let timeout = flow.definition.timeout;
            let deadline = timeout.map(|timeout| (timeout, Box::pin(tokio::time::sleep(timeout))));
            match call(live, &run.runtime, &flow, Some(node), context, cancel) {
                Ok(called) => {
                    run.flush(live);
                    match called {
                        Called::Polling(body) => self.poll_body(Body { deadline, ..*body }),
                        Called::Returned(output) => {
                            let step = Step::Polling(Box::pin(std::future::ready(Ok(output))));
                            self.poll_body(Body {
                                run: None,
                                number,
                                node: Some(node),
                                scope: Some(Scope::new(None)),
                                step,
                                deadline,
                                under_way: None,
                            });
                        }
                        Called::Failed(error) => self.flow_ended(live, node, End::Failed(error)),
                    }
                }
                Err(error) => self.flow_ended(live, node, End::Failed(error.into_task_error())),
            }
        }
    }

    fn body_ended(&mut self, (number, node, ended): (u32, Option<u32>, BodyEnd)) {
        let run = Arc::clone(&self.run);
        match (node, ended) {
            (None, BodyEnd::Returned(output)) => self.output = Some(output),
            (None, BodyEnd::Failed(error)) => self.stop(Stop::Body(error)),
            (Some(node), BodyEnd::Returned(output)) => {
                let arg = {
                    let plan = &mut run.live.lock().plan;
                    plan.output(&output).map_err(|(source, end)| plan.without_output(source, end))
                };
                let end = match arg.map(value_of) {
                    Ok(Ok(value)) => End::Success(value),
                    Ok(Err(panicked)) => End::Failed(panicked),
                    Err(end) => end,
                };
                self.flow_ended(&mut run.live.lock(), node, end);
            }
            (Some(node), BodyEnd::Failed(error)) => {
                self.drop_family(number);
                let end = if error.is_skipped() { End::Skipped(error) } else { End::Failed(error) };
                self.flow_ended(&mut run.live.lock(), node, end);
            }
        }
    }

    /// Cancels a flow in the flow, and the flows that it called.
    fn drop_family(&mut self, number: u32) {
        let run = Arc::clone(&self.run);
        let family = run.live.lock().family(number);
        let bodies = std::mem::take(&mut self.bodies).into_iter();
        let (dropped, kept): (Vec<Body>, Vec<Body>) = bodies.partition(|body| family.contains(&body.number));
        self.bodies.extend(kept);
        dropped.into_iter().for_each(drop_body);
        let live = &mut *run.live.lock();
        for number in family {
            live.plan.cancel(Some(number));
            live.scopes[number as usize].cancel.cancel();
            for node in live.plan.running_flows() {
                if live.plan.wiring.nodes[node as usize].scope == number {
                    live.flows.retain(|flow| *flow != node);
                    self.flow_ended(live, node, End::Cancelled);
                }
            }
        }
        run.flush(live);
    }

    /// A flow in the flow is final.
    fn flow_ended(&self, live: &mut Live, node: u32, end: End) {
        let at = Instance { frame: 0, node, index: 0 };
        let started = self.started.get(&node).copied().unwrap_or_default();
        let finished = self.run.runtime.clock.micros();
        let row = Row { started, finished, error: end.error().cloned(), attempts: 1, state: end.state() };
        let cell = live.plan.cell_number(at);
        self.run.append(Transition::Task { frame: 0, cell, row });
        let duration = Duration::from_micros(u64::try_from(finished - started).unwrap_or(0));
        self.run.emit_finished(live, at, end.state(), 1, duration, end.error());
        live.plan.finish(at, end);
        self.run.flush(live);
    }

    /// Brings the run to its end: what has not started is cancelled, what is running is told.
    fn stop(&mut self, why: Stop) {
        self.stop = Some(why);
        std::mem::take(&mut self.bodies).into_iter().for_each(drop_body);
        let run = Arc::clone(&self.run);
        let live = &mut *run.live.lock();
        live.plan.cancel(None);
        run.cancel.cancel();
        live.flows.clear();
        let flows: Vec<u32> = live.plan.running_flows();
        for node in flows {
            self.flow_ended(live, node, End::Cancelled);
        }
        run.flush(live);
    }

    async fn finish(mut self, started: i64, span: &tracing::Span) -> Result<Finished, Error> {
        let run = Arc::clone(&self.run);
        let (verdict, output) = {
            let live = &mut *run.live.lock();
            let output = match (&self.stop, self.output.take()) {
                (None, Some(output)) => Some(live.plan.output(&output)),
                _ => None,
            };
            (live.plan.verdict(), output)
        };
        let (state, error) = match (self.stop, verdict) {
            (Some(Stop::Asked), _) => (RunState::Cancelled, Some(TaskError::cancelled())),
            (Some(Stop::TimedOut(timeout)), _) => (RunState::Failed, Some(TaskError::timed_out(timeout))),
            (Some(Stop::Body(error)), _) if error.is_skipped() => {
                return Self::record(&run, RunState::Success, None, None, Some(error), started, span).await;
            }
            (Some(Stop::Body(error)), _) => (RunState::Failed, Some(error)),
            (None, Verdict::Red(error)) => (RunState::Failed, Some(error)),
            (None, Verdict::Green) => (RunState::Success, None),
        };
        let (state, error, value, missing) = match output.map(|output| output.map(value_of)) {
            None => (state, error, None, None),
            Some(Ok(Ok(value))) => (state, error, Some(value), None),
            // the projection of what was returned panicked
            Some(Ok(Err(panicked))) => (RunState::Failed, Some(error.unwrap_or(panicked)), None, None),
            Some(Err((_, end))) => (state, error, None, end.error().cloned()),
        };
        Self::record(&run, state, error, value, missing, started, span).await
    }

    async fn record(
        run: &RunCore,
        state: RunState,
        error: Option<TaskError>,
        output: Option<Value>,
        missing: Option<TaskError>,
        started: i64,
        span: &tracing::Span,
    ) -> Result<Finished, Error> {
        let at = run.runtime.clock.micros();
        let duration = Duration::from_micros(u64::try_from(at - started).unwrap_or(0));
        let end = RunEnd { at, state, error: error.clone(), output };
        run.log.record(Transition::RunFinished(end)).wait().await?;
        let shown = humantime::format_duration(duration);
        span.in_scope(|| match &error {
            None => tracing::info!(%state, duration = %shown, "run finished"),
            Some(error) => tracing::error!(%state, duration = %shown, "run finished: {error}"),
        });
        run.runtime.events.emit(|| Event::RunFinished {
            run: run.facts.id,
            flow: run.facts.flow,
            state,
            duration,
            error,
        });
        Ok(Finished { record: run.log.snapshot(), missing })
    }
}

/// Drops a body before its end. What its own values do then is a user's code.
fn drop_body(body: Body) {
    if let Err(panicked) = panic::catch(|| drop(body)) {
        tracing::error!("a value in the body of a flow panicked when it was dropped: {}", panicked.message);
    }
}

fn value_of(arg: Arg) -> Result<Value, TaskError> {
    panic::catch(|| arg.into_value()).map_err(|panicked| TaskError::panicked(&panicked))
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
