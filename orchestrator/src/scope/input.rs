use std::fmt;
use std::sync::Arc;

use super::Handle;
use crate::error::TaskError;
use crate::panic::Fragile;
use crate::value::{Data, Value};

/// The input of a task for one of its parameters: a plain value, or the results of other nodes.
#[derive(Clone, Debug)]
pub struct Input {
    pub(crate) source: InputSource,
    pub(crate) projection: Option<Projection>,
    pub(crate) convert: Conversion,
}

#[derive(Clone, Debug)]
pub(crate) enum InputSource {
    Value(Value),
    Node(Handle),
    Many(Vec<Input>, fn(Vec<Value>) -> Value),
}

/// Functions applied to a result when it is taken: `.map(…)`, `.unzip()`. Each refers to the one
/// before it, which other chains may share. A chain is walked and dropped link by link, so that a
/// long one does not need a deep stack.
#[derive(Clone)]
pub(crate) struct Projection(Arc<ProjectionLink>);

struct ProjectionLink {
    function: Fragile<Box<dyn Fn(Value) -> Value + Send + Sync>>,
    earlier: Option<Projection>,
}

impl Projection {
    /// Creates a projection that applies `earlier` first, then the function.
    pub(crate) fn new(
        earlier: Option<Self>,
        function: impl Fn(Value) -> Value + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(ProjectionLink {
            function: Fragile::new(Box::new(function)),
            earlier,
        }))
    }

    pub(crate) fn apply(&self, value: Value) -> Value {
        let backwards: Vec<&Self> =
            std::iter::successors(Some(self), |link| link.0.earlier.as_ref()).collect();
        backwards
            .into_iter()
            .rev()
            .fold(value, |value, link| (link.0.function)(value))
    }
}

impl Drop for ProjectionLink {
    fn drop(&mut self) {
        let mut next = self.earlier.take();
        while let Some(link) = next {
            next = Arc::into_inner(link.0).and_then(|mut link| link.earlier.take());
        }
    }
}

impl fmt::Debug for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Projection")
    }
}

/// The outcome of a node, as its consumers see it.
#[derive(Clone, Debug)]
pub(crate) enum NodeOutcome {
    Success(Value),
    Failed(TaskError),
    Skipped(TaskError),
    UpstreamFailed(TaskError),
    /// The node is unfinished: the consumer's trigger rule did not wait for it.
    Unknown,
}

/// The conversion of a result for a parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Conversion {
    /// The value, which must exist.
    Plain,
    /// `Option<T>`: the value, if it exists.
    Option(fn(Option<Value>) -> Value),
    /// `Outcome<T>`: the outcome, whatever it is.
    Outcome(fn(NodeOutcome) -> Value),
    /// `Vec<Outcome<T>>` of a mapping: the list from the gather, whatever the outcomes of the
    /// elements.
    Outcomes,
}

impl Conversion {
    pub(crate) fn apply(self, resolved: NodeOutcome) -> Value {
        match (self, resolved) {
            (Self::Plain | Self::Outcomes, NodeOutcome::Success(value)) => value,
            (Self::Plain | Self::Outcomes, other) => {
                unreachable!("a plain input was checked to be there: {other:?}")
            }
            (Self::Option(convert), NodeOutcome::Success(value)) => convert(Some(value)),
            (Self::Option(convert), _) => convert(None),
            (Self::Outcome(convert), resolved) => convert(resolved),
        }
    }
}

impl Input {
    pub(crate) fn value<T: Data>(value: T) -> Self {
        Self {
            source: InputSource::Value(Value::new(value)),
            projection: None,
            convert: Conversion::Plain,
        }
    }

    pub(crate) fn many(inputs: Vec<Self>, combine: fn(Vec<Value>) -> Value) -> Self {
        Self {
            source: InputSource::Many(inputs, combine),
            projection: None,
            convert: Conversion::Plain,
        }
    }

    /// Takes the input apart, and returns the handles that it holds.
    pub(super) fn into_handles(self, into: &mut Vec<Handle>) {
        match self.source {
            InputSource::Value(_) => {}
            InputSource::Node(handle) => into.push(handle),
            InputSource::Many(inputs, _) => inputs
                .into_iter()
                .for_each(|input| input.into_handles(into)),
        }
    }

    /// Returns the nodes that the input takes, with the conversion of each.
    pub(crate) fn for_each_node(&self, f: &mut dyn FnMut(&Handle, Conversion)) {
        match &self.source {
            InputSource::Value(_) => {}
            InputSource::Node(handle) => f(handle, self.convert),
            InputSource::Many(inputs, _) => inputs.iter().for_each(|input| input.for_each_node(f)),
        }
    }
}
