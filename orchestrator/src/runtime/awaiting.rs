//! Nodes and mappings, awaited: in a flow's body they are waited for, outside of any flow they run there and then.

use std::collections::HashMap;
use std::future::{IntoFuture, poll_fn};
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::lane::{AMBIENT, Ambient};
use super::{Inner, Runtime, body, launch, panic};
use crate::error::{Cause, TaskError};
use crate::task::scope::{self, Handle, Kind, NodeSpec, Promise, Wait};
use crate::task::{Convert, Input, Mapped, Node, Projection, Resolved, Source};
use crate::value::Data;

/// Awaiting a node gives its task's result. A failure that is awaited is the awaiting body's to handle.
impl<T: Data> IntoFuture for Node<T> {
    type Output = Result<T, TaskError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            match &self.handle {
                Handle::Scoped { scope, id } => {
                    result(wait(*scope, *id).await?, self.projection.as_ref())
                }
                Handle::Element {
                    mapping: scope::NONE,
                    ..
                } => Err(misplaced(MAPPED_ALONE)),
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

/// Awaiting a mapping gives the results of all elements.
impl<T: Data> IntoFuture for Mapped<T> {
    type Output = Result<Vec<T>, TaskError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.values().into_future()
    }
}

impl<T: Data> Node<T> {
    /// Runs a task outside of a flow, on a runtime: with its resources, its limits and its mocks. Nothing is stored.
    ///
    /// # Errors
    ///
    /// What the task failed with; and where the node is part of a flow.
    pub async fn on(self, runtime: &Runtime) -> Result<T, TaskError> {
        match self.handle {
            Handle::Loose(_) => alone(Ambient::on(&runtime.0), self).await,
            Handle::Scoped { .. } | Handle::Element { .. } => Err(misplaced(
                "a node of a flow runs with the flow: put the flow on a runtime, not the node",
            )),
        }
    }
}

fn misplaced(text: &str) -> TaskError {
    TaskError::new(Cause::Fatal, text)
}

/// Where a task is awaited that no body awaits.
fn default_ambient() -> Ambient {
    if body::bodies_under_way() && tokio::task::try_id().is_some() {
        tracing::warn!(
            "a task is awaited on a tokio task of its own while flows are under way: if one of them spawned it, it is \
             no part of that flow (use `join!` instead of `spawn`)"
        );
    }
    Ambient::outside(&Runtime::of_loose_tasks().0)
}

impl Ambient {
    /// On a runtime: in the body that is running, where that is the body's runtime, too.
    pub(super) fn on(runtime: &Arc<Inner>) -> Self {
        match AMBIENT.try_with(Clone::clone) {
            Ok(ambient) if Arc::ptr_eq(&ambient.runtime, runtime) => ambient,
            _ => Self::outside(runtime),
        }
    }

    /// In no body.
    pub(super) fn outside(runtime: &Arc<Inner>) -> Self {
        Self {
            runtime: Arc::clone(runtime),
            held: Vec::new(),
            flows: Vec::new(),
            in_task: false,
        }
    }
}

/// Waits for a node of the flow whose body is running.
async fn wait(scope: u64, node: u32) -> Result<Resolved, TaskError> {
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

/// What a body gets of what became of a node.
fn result<T: Data>(resolved: Resolved, projection: Option<&Projection>) -> Result<T, TaskError> {
    match resolved {
        Resolved::Success(value) => match projection {
            None => Ok(value.take()),
            Some(projection) => match panic::catch(|| projection.apply(value)) {
                Ok(value) => Ok(value.take()),
                Err(panicked) => Err(TaskError::panicked(&panicked)),
            },
        },
        Resolved::Failed(error) | Resolved::Skipped(error) | Resolved::UpstreamFailed(error) => {
            Err(error)
        }
        Resolved::Unknown => Err(TaskError::cancelled()),
    }
}

/// Runs a node that is in no flow, and what it takes: a run of its own that is recorded nowhere.
async fn alone<T: Data>(ambient: Ambient, node: Node<T>) -> Result<T, TaskError> {
    let name = match &node.handle {
        Handle::Loose(spec) => match &spec.lock().kind {
            Kind::Task(definition) => definition.name,
            Kind::Flow(call) => call.definition.name,
            Kind::Mapping(_) | Kind::Gather(_) => return Err(misplaced(MAPPED_ALONE)),
        },
        Handle::Scoped { .. } | Handle::Element { .. } => {
            return Err(misplaced("the node is part of a flow"));
        }
    };
    let value = launch::alone(ambient, name, move || {
        let source = Source::Node(plant(&node.handle, &mut HashMap::new())?);
        Ok(Input {
            source,
            projection: node.projection,
            convert: Convert::Plain,
        })
    });
    Ok(value.await?.take())
}

const MAPPED_ALONE: &str =
    "`expand` is used outside of a flow: write a `#[flow]` function around it";

/// Writes a loose node down in the thread's scope, after what it takes. A node that is taken twice is written once.
fn plant(handle: &Handle, planted: &mut HashMap<usize, Handle>) -> Result<Handle, TaskError> {
    let Handle::Loose(loose) = handle else {
        return Err(misplaced(
            "a task outside of a flow takes a node of a flow: await the node first",
        ));
    };
    let key = Arc::as_ptr(loose).addr();
    if let Some(handle) = planted.get(&key) {
        return Ok(handle.clone());
    }
    let mut spec: NodeSpec = loose.lock().clone();
    if matches!(spec.kind, Kind::Mapping(_) | Kind::Gather(_)) {
        return Err(misplaced(MAPPED_ALONE));
    }
    for input in &mut spec.inputs {
        plant_input(input, planted)?;
    }
    if let Some(more) = &mut spec.more {
        for after in &mut more.after {
            *after = plant(after, planted)?;
        }
    }
    let handle = scope::add(spec);
    planted.insert(key, handle.clone());
    Ok(handle)
}

fn plant_input(input: &mut Input, planted: &mut HashMap<usize, Handle>) -> Result<(), TaskError> {
    match &mut input.source {
        Source::Value(_) => Ok(()),
        Source::Node(handle) => {
            *handle = plant(handle, planted)?;
            Ok(())
        }
        Source::Many(inputs, _) => inputs
            .iter_mut()
            .try_for_each(|input| plant_input(input, planted)),
    }
}
