//! The body of a flow: its function called, polled if it is `async`, and what it wrote down planned.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as Cx, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tracing::Span;

use super::live::{Answer, Live, Refusal, RunCore, ScopeState};
use super::panic;
use crate::error::TaskError;
use crate::failpoint;
use crate::flow::{FlowBody, FlowCall, Progress};
use crate::graph::build::Defaults;
use crate::store::Transition;
use crate::task::scope::{Promise, Scope};
use crate::task::{Context, Input, TaskOptions};

/// How many bodies of `async` flows are under way in this process.
static BODIES: AtomicUsize = AtomicUsize::new(0);

pub(super) fn bodies_under_way() -> bool {
    BODIES.load(Ordering::Relaxed) > 0
}

/// The body of a flow in the run, or what it waits for after its function returned.
pub(super) struct Body {
    pub(super) run: Option<Arc<RunCore>>,
    /// Its number among the flows of the run.
    pub(super) number: u32,
    /// The node that it is; none for the flow itself.
    pub(super) node: Option<u32>,
    pub(super) scope: Option<Scope>,
    pub(super) step: Step,
    pub(super) span: Span,
    /// What its function is told next, when that is committed.
    pub(super) telling: Option<(Answer, BoxFuture<'static, ()>)>,
    /// When a flow in the flow has taken too long.
    pub(super) deadline: Option<(Duration, Pin<Box<tokio::time::Sleep>>)>,
    pub(super) under_way: Option<UnderWay>,
}

pub(super) enum Step {
    Polling(Pin<Box<dyn Future<Output = Result<Input, TaskError>> + Send>>),
    /// A plain function, which is all of its body, returned.
    Returned(Input),
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
    /// Not called: the end of the run was asked for, and nothing of it could run here.
    Cancelled,
}

/// Calls a flow's function, and plans what it wrote down. Where it is an `async fn`, it has yet to be polled.
pub(super) fn call(
    live: &mut Live,
    runtime: &super::Inner,
    flow: &FlowCall,
    node: Option<u32>,
    span: &Span,
    context: Arc<Context>,
    cancel: tokio_util::sync::CancellationToken,
) -> Result<Called, CallError> {
    let prefix =
        node.map(|node| Arc::from(format!("{}/", live.plan.wiring.nodes[node as usize].key())));
    let mut scope = Scope::new(prefix);
    scope.first = super::plan::id_of(live.plan.wiring.nodes.len());
    let number = super::plan::id_of(live.scopes.len());
    let defaults = Defaults {
        flow: flow.definition.defaults.clone(),
        runtime: runtime.defaults.clone(),
    };
    let parent = node.map(|node| live.plan.wiring.nodes[node as usize].scope);
    live.scopes.push(ScopeState::new(
        defaults,
        cancel,
        parent,
        scope.prefix.clone(),
    ));
    let (mut scope, body) = span.in_scope(|| scope.enter(|| panic::catch(|| flow.start(context))));
    let FlowBody(progress) = match body {
        Ok(Ok(body)) => body,
        Ok(Err(panicked)) => return Err(CallError::Body(TaskError::panicked(&panicked))),
        Err(payload) => std::panic::resume_unwind(payload),
    };
    live.absorb(runtime, &mut scope, number)
        .map_err(CallError::Refused)?;
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
                span: span.clone(),
                telling: None,
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
    let defaults = Defaults {
        flow: TaskOptions::NONE,
        runtime: runtime.defaults.clone(),
    };
    live.scopes
        .push(ScopeState::new(defaults, cancel, None, None));
    let (mut scope, planted) = Scope::new(None).enter(plant);
    let output = match planted {
        Ok(output) => output?,
        Err(payload) => std::panic::resume_unwind(payload),
    };
    live.absorb(runtime, &mut scope, 0)
        .map_err(|refusal| CallError::Refused(refusal).into_task_error())?;
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
            return Poll::Ready((
                this.number,
                this.node,
                BodyEnd::Failed(TaskError::timed_out(*timeout)),
            ));
        }
        loop {
            let ended = match &mut this.step {
                Step::Polling(_) => match this.poll_function(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(output)) => {
                        this.step = Step::Returned(output);
                        continue;
                    }
                    Poll::Ready(Err(error)) => BodyEnd::Failed(error),
                },
                Step::Returned(output) => {
                    let output = output.clone();
                    if let Some(promises) = this.watch(&output) {
                        this.step = Step::Watching(output, promises);
                        continue;
                    }
                    BodyEnd::Returned(output)
                }
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
pub(super) struct UnderWay;

impl UnderWay {
    pub(super) fn new() -> Self {
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
    /// Polls an `async fn` in its scope, and plans what it has written down. It is told of the nodes that it awaits one
    /// at a time: so it asks for the same, in the same order, when it is run again and told in the same order.
    fn poll_function(&mut self, cx: &mut Cx<'_>) -> Poll<Result<Input, TaskError>> {
        let Some(run) = self.run.clone() else {
            return Poll::Pending;
        };
        run.live.lock().scopes[self.number as usize].waker = Some(cx.waker().clone());
        ready!(self.tell(&run, cx));
        loop {
            let polled = self.poll_once(&run, cx);
            if polled.is_ready() || !ready!(self.tell(&run, cx)) {
                return polled;
            }
        }
    }

    /// Tells the body of one node that it awaits, if there is one to be told of. Where it awaits others, too, that this
    /// one came first is committed before: what the body creates then has its keys by it.
    fn tell(&mut self, run: &Arc<RunCore>, cx: &mut Cx<'_>) -> Poll<bool> {
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
                    asked: answer.asked.clone(),
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

    fn poll_once(&mut self, run: &Arc<RunCore>, cx: &mut Cx<'_>) -> Poll<Result<Input, TaskError>> {
        let Some(mut scope) = self.scope.take() else {
            return Poll::Pending;
        };
        scope.first = super::plan::id_of(run.live.lock().plan.wiring.nodes.len());
        let Step::Polling(body) = &mut self.step else {
            return Poll::Pending;
        };
        let entered = self.span.enter();
        let (mut scope, polled) = scope.enter(|| panic::catch(|| body.as_mut().poll(cx)));
        drop(entered);
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

/// Drops a body before its end. What its own values do then is a user's code.
pub(super) fn drop_body(body: Body) {
    if let Err(panicked) = panic::catch(|| drop(body)) {
        tracing::error!(
            "a value in the body of a flow panicked when it was dropped: {}",
            panicked.message
        );
    }
}
