//! The body of a flow: its function is called, polled if it is `async`, and the nodes that it adds
//! are planned.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context as Cx, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tracing::Span;

use super::super::hold::{Count, CountGuard};
use super::super::host::Host;
use super::super::live::{Answer, Live, Refusal, ScopeState};
use super::super::run::ActiveRun;
use super::super::slots::pulse::Pulse;
use crate::error::TaskError;
use crate::failpoint;
use crate::flow::{FlowBody, FlowBodyKind, FlowCall, FlowDef};
use crate::graph::build::Defaults;
use crate::index::{NodeId, ScopeId};
use crate::journal::Transition;
use crate::panic::{self, Fragile};
use crate::plan::Instance;
use crate::scope::{Promise, Scope};
use crate::task::{Context, Input, TaskOptions};

/// The number of active bodies of `async` flows in this process.
pub(crate) static BODIES: LazyLock<Count> = LazyLock::new(Count::default);

/// The body of a flow or subflow, including the wait for its output after its function returned.
pub(crate) struct RunningBody {
    pub(crate) run: Option<Arc<ActiveRun>>,
    /// Its scope in the run.
    pub(crate) number: ScopeId,
    /// The node of a subflow; `None` for the run's own flow.
    pub(crate) node: Option<NodeId>,
    pub(crate) scope: Option<Scope>,
    pub(crate) step: BodyStep,
    pub(crate) span: Span,
    /// The next answer for its function, and the commit that it waits for.
    pub(crate) telling: Option<(Answer, BoxFuture<'static, ()>)>,
    /// The timeout of a subflow.
    pub(crate) deadline: Option<(Duration, Pin<Box<tokio::time::Sleep>>)>,
    pub(crate) under_way: Option<CountGuard>,
    pub(crate) definition: &'static FlowDef,
    /// `None` until the first poll.
    pub(crate) pulse: Option<Arc<Pulse>>,
}

pub(crate) enum BodyStep {
    Polling(Fragile<BoxFuture<'static, Result<Input, TaskError>>>),
    /// The function returned; for a plain function, that is the whole body.
    Returned(Input),
    /// The function returned nodes, which the subflow's node waits for.
    Watching(Input, Vec<Arc<Promise>>),
}

/// The result of a body.
pub(crate) enum BodyEnd {
    /// Its function returned; for a subflow, the returned nodes have ended, too.
    Returned(Input),
    Failed(TaskError),
}

/// The result of calling a flow's function.
pub(crate) enum CalledFlow {
    Returned(Input),
    Polling(Box<RunningBody>),
    Failed(TaskError),
    /// Not called: the run was cancelled, and cannot run here.
    Cancelled,
}

/// Calls a flow's function and plans the nodes that it adds. An `async fn` has yet to be polled.
pub(crate) fn call(
    live: &mut Live,
    host: &Host,
    flow: &FlowCall,
    node: Option<NodeId>,
    span: &Span,
    context: Arc<Context>,
    cancel: tokio_util::sync::CancellationToken,
) -> Result<CalledFlow, CallError> {
    let prefix = node.map(|node| Arc::from(format!("{}/", live.plan.wiring.nodes[node].key())));
    let mut scope = Scope::new(prefix);
    scope.first = live.plan.wiring.nodes.next_id();
    let defaults = Defaults {
        flow: flow.definition.defaults.clone(),
        runtime: host.defaults.clone(),
    };
    let parent = node.map(|node| live.plan.wiring.nodes[node].scope);
    let grace_over = live.grace_over.child_token();
    let mut state = ScopeState::new(defaults, cancel, grace_over, parent, scope.prefix.clone());
    let at = node.map(Instance::in_flow);
    state.has_moved_on =
        at.is_some_and(|at| live.plan.has_unknown_starts() && !live.plan.follows_from_record(at));
    let number = live.scopes.push(state);
    let (mut scope, body) = span.in_scope(|| scope.enter(|| panic::catch(|| flow.start(context))));
    let FlowBody(progress) = match body {
        Ok(Ok(body)) => body,
        Ok(Err(panicked)) => return Err(CallError::Body(TaskError::panicked(&panicked))),
        Err(payload) => std::panic::resume_unwind(payload),
    };
    live.absorb(host, &mut scope, number)
        .map_err(CallError::Refused)?;
    Ok(match progress {
        FlowBodyKind::Wired(output) => {
            live.plan.returned(&output, node);
            live.plan.close(number);
            CalledFlow::Returned(output)
        }
        FlowBodyKind::Async(body) => {
            let step = BodyStep::Polling(Fragile::new(body));
            let body = RunningBody::new(flow.definition, number, node, step, span.clone());
            CalledFlow::Polling(Box::new(RunningBody {
                scope: Some(scope),
                ..body
            }))
        }
    })
}

/// Plans the nodes that `plant` adds, in a scope of their own.
pub(crate) fn plant(
    live: &mut Live,
    host: &Host,
    cancel: tokio_util::sync::CancellationToken,
    plant: impl FnOnce() -> Result<Input, TaskError>,
) -> Result<Input, TaskError> {
    let defaults = Defaults {
        flow: TaskOptions::NONE,
        runtime: host.defaults.clone(),
    };
    let grace_over = live.grace_over.child_token();
    live.scopes
        .push(ScopeState::new(defaults, cancel, grace_over, None, None));
    let (mut scope, planted) = Scope::new(None).enter(plant);
    let output = match planted {
        Ok(output) => output?,
        Err(payload) => std::panic::resume_unwind(payload),
    };
    live.absorb(host, &mut scope, ScopeId::FLOW)
        .map_err(|refusal| CallError::Refused(refusal).into_task_error())?;
    live.plan.returned(&output, None);
    live.plan.close(ScopeId::FLOW);
    Ok(output)
}

/// The reason why a flow's function gave no graph.
pub(crate) enum CallError {
    Refused(Refusal),
    Body(TaskError),
}

impl CallError {
    /// Converts the error to that of the body.
    pub(crate) fn into_task_error(self) -> TaskError {
        let text = match self {
            Self::Body(error) => return error,
            Self::Refused(Refusal::Graph(error)) => error.to_string(),
            Self::Refused(Refusal::Runtime(error)) => error.to_string(),
        };
        TaskError::new(crate::error::Cause::Fatal, text)
    }
}

impl Future for RunningBody {
    type Output = (ScopeId, Option<NodeId>, BodyEnd);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some((timeout, sleep)) = &mut this.deadline
            && sleep.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready((
                this.number,
                this.node,
                BodyEnd::Failed(TaskError::timed_out(*timeout)),
            ));
        }
        loop {
            let ended = match &mut this.step {
                BodyStep::Polling(_) => match this.poll_function(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(output)) => {
                        this.step = BodyStep::Returned(output);
                        continue;
                    }
                    Poll::Ready(Err(error)) => BodyEnd::Failed(error),
                },
                BodyStep::Returned(output) => {
                    let output = output.clone();
                    if let Some(promises) = this.watch(&output) {
                        this.step = BodyStep::Watching(output, promises);
                        continue;
                    }
                    BodyEnd::Returned(output)
                }
                BodyStep::Watching(output, promises) => {
                    promises.retain(|promise| promise.poll(cx.waker()).is_pending());
                    if !promises.is_empty() {
                        return Poll::Pending;
                    }
                    BodyEnd::Returned(output.clone())
                }
            };
            let late = this
                .deadline
                .as_ref()
                .filter(|(_, sleep)| sleep.deadline() < Instant::now());
            let ended = late.map_or(ended, |(timeout, _)| {
                BodyEnd::Failed(TaskError::timed_out(*timeout))
            });
            return Poll::Ready((this.number, this.node, ended));
        }
    }
}

impl RunningBody {
    pub(crate) fn new(
        definition: &'static FlowDef,
        number: ScopeId,
        node: Option<NodeId>,
        step: BodyStep,
        span: Span,
    ) -> Self {
        let (run, scope, telling, deadline, under_way, pulse) =
            (None, None, None, None, None, None);
        Self {
            run,
            number,
            node,
            scope,
            step,
            span,
            telling,
            deadline,
            under_way,
            definition,
            pulse,
        }
    }

    /// Polls an `async fn` in its scope and plans the nodes that it adds. It gets the answers for
    /// the nodes that it awaits one at a time and in a recorded order: when the body runs again
    /// with answers in the same order, it adds the same nodes in the same order.
    fn poll_function(&mut self, cx: &mut Cx<'_>) -> Poll<Result<Input, TaskError>> {
        let Some(run) = self.run.clone() else {
            return Poll::Pending;
        };
        run.live.lock().scopes[self.number].waker = Some(cx.waker().clone());
        ready!(self.tell(&run, cx));
        loop {
            let polled = self.poll_once(&run, cx);
            if polled.is_ready() || !ready!(self.tell(&run, cx)) {
                return polled;
            }
        }
    }

    /// Gives the body the answer for one node that it awaits, if there is one. If it awaits other
    /// nodes as well, the await order is committed first: the keys of nodes that the body adds next
    /// depend on it, and a resumed run could not repeat it otherwise.
    fn tell(&mut self, run: &Arc<ActiveRun>, cx: &mut Cx<'_>) -> Poll<bool> {
        let mut telling = match self.telling.take() {
            Some(telling) => telling,
            None => {
                let answer = run.live.lock().answer(self.number);
                let Some(answer) = answer else {
                    return Poll::Ready(false);
                };
                if !run.durable || answer.is_known {
                    answer.promise.fulfil(answer.resolved);
                    return Poll::Ready(true);
                }
                run.record(Transition::Awaited {
                    node: answer.node,
                    known: answer.known.clone(),
                });
                failpoint::hit("body-told");
                let commit: BoxFuture<'static, ()> = match answer.is_one_of_many {
                    true => {
                        let run = Arc::clone(run);
                        Box::pin(async move { run.commit().await })
                    }
                    false => Box::pin(std::future::ready(())),
                };
                (answer, commit)
            }
        };
        if telling.1.as_mut().poll(cx).is_pending() {
            self.telling = Some(telling);
            return Poll::Pending;
        }
        let (answer, _) = telling;
        answer.promise.fulfil(answer.resolved);
        Poll::Ready(true)
    }

    fn poll_once(
        &mut self,
        run: &Arc<ActiveRun>,
        cx: &mut Cx<'_>,
    ) -> Poll<Result<Input, TaskError>> {
        let Some(mut scope) = self.scope.take() else {
            return Poll::Pending;
        };
        scope.first = run.live.lock().plan.wiring.nodes.next_id();
        let BodyStep::Polling(body) = &mut self.step else {
            return Poll::Pending;
        };
        let pulse = self
            .pulse
            .get_or_insert_with(|| run.flow_pulse(self.definition));
        let entered = self.span.enter();
        let (mut scope, polled) =
            pulse.poll(|| scope.enter(|| panic::catch(|| body.as_mut().poll(cx))));
        drop(entered);
        let polled = match polled {
            Ok(Ok(poll)) => poll,
            Ok(Err(panicked)) => Poll::Ready(Err(TaskError::panicked(&panicked))),
            Err(payload) => std::panic::resume_unwind(payload),
        };
        let live = &mut *run.live.lock();
        let planned = live.absorb(&run.host, &mut scope, self.number);
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

    /// Returns promises for the nodes that a subflow's node waits for. `None` for the run's own
    /// flow, whose output is read at the end.
    fn watch(&self, output: &Input) -> Option<Vec<Arc<Promise>>> {
        let run = self.run.as_ref().filter(|_| self.node.is_some())?;
        let mut promises = Vec::new();
        let live = &mut *run.live.lock();
        output.for_each_node(&mut |handle, _| {
            if let crate::scope::Handle::Scoped { id, .. } = handle {
                let promise = Arc::new(Promise::default());
                live.plan.watch(*id, Arc::clone(&promise));
                promises.push(promise);
            }
        });
        run.flush(live);
        (!promises.is_empty()).then_some(promises)
    }
}
