//! Awaited nodes and mappings: in a flow's body they are waited for; outside of any flow they run
//! right away.

use std::collections::{HashMap, HashSet};
use std::future::{IntoFuture, poll_fn};
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::Runtime;
use crate::error::{Cause, TaskError};
use crate::executor::alone;
use crate::executor::ambient::{AMBIENT, Ambient};
use crate::executor::conductor::body::BODIES;
use crate::index::NodeId;
use crate::panic::catch;
use crate::scope::{self, Handle, LooseNode, NodeKind, NodeSpec, Promise, Wait};
use crate::task::{Conversion, Input, InputSource, Mapped, Node, NodeOutcome, Projection};
use crate::value::{Data, Value};

/// Awaiting a node returns the result of its task. The awaiting body handles a failure.
impl<T: Data> IntoFuture for Node<T> {
    type Output = Result<T, TaskError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            match &self.handle {
                Handle::Scoped { scope, id } => {
                    result(wait(*scope, *id).await?, self.projection.as_ref())
                }
                Handle::Element { mapping: None, .. } => Err(misplaced(MAPPED_ALONE)),
                Handle::Element { .. } => Err(misplaced(
                    "an element of a mapping is awaited: pass it to a task instead",
                )),
                Handle::Loose(_) => {
                    let ambient = AMBIENT.try_with(Clone::clone).ok();
                    alone(ambient.unwrap_or_else(default_ambient), self).await
                }
            }
        })
    }
}

/// Awaiting a mapping returns the results of all elements.
impl<T: Data> IntoFuture for Mapped<T> {
    type Output = Result<Vec<T>, TaskError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.values().into_future()
    }
}

impl<T: Data> Node<T> {
    /// Runs a task outside of a flow on a runtime, with its resources, limits and mocks. Nothing is
    /// stored.
    ///
    /// # Errors
    ///
    /// Returns the task's error, or an error if the node is part of a flow.
    pub async fn on(self, runtime: &Runtime) -> Result<T, TaskError> {
        match self.handle {
            Handle::Loose(_) => alone(Ambient::on(&runtime.host), self).await,
            Handle::Scoped { .. } | Handle::Element { .. } => Err(misplaced(
                "a node of a flow runs with the flow: put the flow on a runtime, not the node",
            )),
        }
    }
}

fn misplaced(text: impl Into<String>) -> TaskError {
    TaskError::new(Cause::Fatal, text)
}

/// Returns the context of a task that is awaited outside of any body.
fn default_ambient() -> Ambient {
    if BODIES.any() && tokio::task::try_id().is_some() {
        tracing::warn!(
            "task awaited on a tokio task of its own while flows are active: if a flow spawned it, it is not part of \
             that flow (use `join!` instead of `spawn`)"
        );
    }
    Ambient::outside(&Runtime::of_loose_tasks().host)
}

/// Waits for a node of the flow whose body is running.
async fn wait(scope: u64, node: NodeId) -> Result<NodeOutcome, TaskError> {
    let promise = Arc::new(Promise::default());
    let registered = scope::with(|current| {
        let own = current.id == scope;
        if own {
            current.waits.push(Wait {
                node,
                promise: Arc::clone(&promise),
            });
        }
        own
    });
    match registered {
        Some(true) => Ok(poll_fn(|cx| promise.poll(cx.waker())).await),
        Some(false) | None => Err(misplaced(
            "a node is awaited outside of the body of its flow: await it there (use `join!` instead of `spawn`)",
        )),
    }
}

/// Converts the result of a node to what its awaiting body gets.
fn result<T: Data>(resolved: NodeOutcome, projection: Option<&Projection>) -> Result<T, TaskError> {
    match resolved {
        NodeOutcome::Success(value) => take(|| match projection {
            Some(projection) => projection.apply(value),
            None => value,
        }),
        NodeOutcome::Failed(error)
        | NodeOutcome::Skipped(error)
        | NodeOutcome::UpstreamFailed(error) => Err(error),
        NodeOutcome::Unknown => Err(TaskError::cancelled()),
    }
}

/// Runs a node that is not part of a flow, and the nodes that it takes, as an unrecorded run of
/// their own.
async fn alone<T: Data>(ambient: Ambient, node: Node<T>) -> Result<T, TaskError> {
    let name = match &node.handle {
        Handle::Loose(loose) => match &loose.spec().kind {
            NodeKind::Task(definition) => definition.name,
            NodeKind::Flow(call) => call.definition.name,
            NodeKind::Mapping(_) | NodeKind::Gather(_) => return Err(misplaced(MAPPED_ALONE)),
        },
        Handle::Scoped { .. } | Handle::Element { .. } => {
            return Err(misplaced("the node is part of a flow"));
        }
    };
    let value = alone::alone(ambient, name, move || {
        let source = InputSource::Node(plant(&node.handle)?);
        Ok(Input {
            source,
            projection: node.projection,
            convert: Conversion::Plain,
        })
    });
    let value = value.await?;
    take(|| value)
}

/// Extracts a value for the caller. Its projection and its `Clone` are user code.
fn take<T: Data>(value: impl FnOnce() -> Value) -> Result<T, TaskError> {
    catch(|| value().take()).map_err(|panicked| TaskError::panicked(&panicked))
}

const MAPPED_ALONE: &str =
    "`expand` is used outside of a flow: write a `#[flow]` function around it";

/// Adds a loose node to the thread's scope, after the nodes that it takes. A node that is taken
/// twice is added once.
///
/// Uses a stack of its own instead of recursion, since chains may be long.
fn plant(handle: &Handle) -> Result<Handle, TaskError> {
    let mut planted = HashMap::new();
    let mut open = HashSet::new();
    let mut stack = vec![loose(handle)?];
    while let Some(node) = stack.last() {
        let key = Arc::as_ptr(node).addr();
        if planted.contains_key(&key) {
            stack.pop();
            continue;
        }
        let mut spec: NodeSpec = node.spec().clone();
        if matches!(spec.kind, NodeKind::Mapping(_) | NodeKind::Gather(_)) {
            return Err(misplaced(MAPPED_ALONE));
        }
        let mut before = Vec::new();
        for_each_handle(&mut spec, &mut |handle| {
            let taken = loose(handle)?;
            match planted.get(&Arc::as_ptr(&taken).addr()) {
                Some(scoped) => *handle = Handle::clone(scoped),
                None => before.push(taken),
            }
            Ok(())
        })?;
        if before.is_empty() {
            planted.insert(key, scope::add(spec));
            stack.pop();
        } else if open.insert(key) {
            // the first one on top, so that nodes are added in the order in which they are taken
            stack.extend(before.into_iter().rev());
        } else {
            let name = spec.name();
            return Err(misplaced(format!(
                "task `{name}` waits for itself, by way of `.after(…)`: take one of them out"
            )));
        }
    }
    match planted.remove(&Arc::as_ptr(&loose(handle)?).addr()) {
        Some(handle) => Ok(handle),
        None => unreachable!("the node itself is planted last"),
    }
}

fn loose(handle: &Handle) -> Result<Arc<LooseNode>, TaskError> {
    match handle {
        Handle::Loose(loose) => Ok(Arc::clone(loose)),
        Handle::Scoped { .. } | Handle::Element { .. } => Err(misplaced(
            "a task outside of a flow takes a node of a flow: await the node first",
        )),
    }
}

/// Visits the nodes that a node takes and waits for.
fn for_each_handle(
    spec: &mut NodeSpec,
    f: &mut impl FnMut(&mut Handle) -> Result<(), TaskError>,
) -> Result<(), TaskError> {
    fn of_input(
        input: &mut Input,
        f: &mut impl FnMut(&mut Handle) -> Result<(), TaskError>,
    ) -> Result<(), TaskError> {
        match &mut input.source {
            InputSource::Value(_) => Ok(()),
            InputSource::Node(handle) => f(handle),
            InputSource::Many(inputs, _) => {
                inputs.iter_mut().try_for_each(|input| of_input(input, f))
            }
        }
    }
    spec.inputs
        .iter_mut()
        .try_for_each(|input| of_input(input, f))?;
    spec.more
        .iter_mut()
        .flat_map(|more| &mut more.after)
        .try_for_each(f)
}
