//! Flows: functions that wire tasks.

mod definition;
mod parameters;
pub(crate) mod registry;
mod returns;

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use chrono::{DateTime, Utc};

pub use definition::{FlowDef, FlowEntry};
pub use parameters::Parameters;
pub(crate) use returns::Progress;
pub use returns::{FlowBody, FlowReturn};

use crate::task::scope::{self, Kind, NodeSpec};
use crate::task::{Context, Input, Interval, IntoInput, Node, Outcome};
use crate::value::Data;

/// A flow with its parameters: a description that can be run, awaited, drawn, and used as a task of another flow.
///
/// Calling a flow function makes one; nothing has run yet, and each `.run()` is a new run. Used inside another flow, as
/// a task's input or by awaiting it there, it is part of that flow's run.
///
/// # Examples
///
/// ```
/// use orchestrator::prelude::*;
///
/// #[task]
/// async fn add(a: u64, b: u64) -> u64 { a + b }
///
/// #[flow]
/// fn sum_of_three(a: u64, b: u64, c: u64) -> Node<u64> {
///     add(add(a, b), c)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// let runtime = Runtime::in_memory();
/// let flow = sum_of_three(1, 2, 3).on(&runtime);
/// assert_eq!(flow.clone().await?, 6);
/// assert_eq!(flow.run().await?.state(), RunState::Success);
/// # Ok(())
/// # }
/// ```
#[must_use = "a flow does nothing until it is run, awaited, or passed to a task"]
pub struct Flow<T> {
    pub(crate) call: Arc<FlowCall>,
    pub(crate) request: Request,
    output: PhantomData<fn() -> T>,
}

/// A flow function with what its parameters were given.
pub(crate) struct FlowCall {
    pub(crate) definition: &'static FlowDef,
    pub(crate) parameters: serde_json::Map<String, serde_json::Value>,
    start: Box<dyn Fn(Arc<Context>) -> FlowBody + Send + Sync>,
}

/// How a run is asked for.
#[derive(Clone, Default)]
pub(crate) struct Request {
    /// The runtime that it goes to, unless the default one. Who asked for it knows the type.
    pub(crate) host: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) logical_date: Option<DateTime<Utc>>,
    pub(crate) interval: Option<Interval>,
}

/// Makes a flow: what a flow function calls.
pub fn flow<P: Parameters, T>(
    definition: &'static FlowDef,
    parameters: P,
    body: fn(P, Arc<Context>) -> FlowBody,
) -> Flow<T> {
    let names = definition.parameters.iter().map(|parameter| parameter.name);
    let call = FlowCall {
        definition,
        parameters: names.map(str::to_owned).zip(parameters.to_json()).collect(),
        start: Box::new(move |context| body(parameters.clone(), context)),
    };
    Flow { call: Arc::new(call), request: Request::default(), output: PhantomData }
}

impl FlowCall {
    /// Calls the flow's function. Where it is a plain `fn`, this is all of its body.
    pub(crate) fn start(&self, context: Arc<Context>) -> FlowBody {
        (self.start)(context)
    }
}

impl fmt::Debug for FlowCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:?})", self.definition.name, self.parameters)
    }
}

impl<T> Flow<T> {
    /// The flow's name.
    pub fn name(&self) -> &'static str {
        self.call.definition.name
    }

    /// Sets the instant that the run is for. By default it is the moment at which the run is asked for.
    pub fn logical_date(mut self, date: DateTime<Utc>) -> Self {
        self.request.logical_date = Some(date);
        self
    }

    /// Sets the span of time that the run is for, `[start, end)`. By default it is empty, at the logical date.
    pub fn interval(mut self, start: DateTime<Utc>, end: DateTime<Utc>) -> Self {
        self.request.interval = Some(Interval { start, end });
        self
    }

    /// The flow as a node of the flow whose body is running.
    pub(crate) fn into_node(self) -> Node<T> {
        Node::new(scope::add(NodeSpec::new(Kind::Flow(self.call), Box::new([]))))
    }
}

#[diagnostic::do_not_recommend]
impl<T: Data> IntoInput<T> for Flow<T> {
    fn into_input(self) -> Input {
        IntoInput::<T>::into_input(self.into_node())
    }
}

#[diagnostic::do_not_recommend]
impl<T: Data> IntoInput<Option<T>> for Flow<T> {
    fn into_input(self) -> Input {
        IntoInput::<Option<T>>::into_input(self.into_node())
    }
}

#[diagnostic::do_not_recommend]
impl<T: Data> IntoInput<Outcome<T>> for Flow<T> {
    fn into_input(self) -> Input {
        IntoInput::<Outcome<T>>::into_input(self.into_node())
    }
}

impl<T> Clone for Flow<T> {
    fn clone(&self) -> Self {
        Self { call: Arc::clone(&self.call), request: self.request.clone(), output: PhantomData }
    }
}

impl<T> fmt::Debug for Flow<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flow<{}>({:?})", std::any::type_name::<T>(), self.call)
    }
}
