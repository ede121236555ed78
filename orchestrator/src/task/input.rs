use std::fmt;
use std::sync::Arc;

use super::scope::Handle;
use super::{Mapped, Node, Outcome};
use crate::error::TaskError;
use crate::value::{Data, Value};

/// What a task takes for one of its parameters: a plain value, or the result of other nodes.
#[derive(Clone, Debug)]
pub struct Input {
    pub(crate) source: Source,
    pub(crate) projection: Option<Projection>,
    pub(crate) convert: Convert,
}

#[derive(Clone, Debug)]
pub(crate) enum Source {
    Value(Value),
    Node(Handle),
    Many(Vec<Input>, fn(Vec<Value>) -> Value),
}

/// A function over a result, run where the result is taken: `.map(…)`, `.unzip()`.
#[derive(Clone)]
pub(crate) struct Projection(Arc<dyn Fn(Value) -> Value + Send + Sync>);

impl Projection {
    pub(crate) fn new(f: impl Fn(Value) -> Value + Send + Sync + 'static) -> Self {
        Self(Arc::new(f))
    }

    pub(crate) fn apply(&self, value: Value) -> Value {
        (self.0)(value)
    }

    /// First `earlier`, then this one.
    pub(crate) fn after(self, earlier: Option<Self>) -> Self {
        match earlier {
            None => self,
            Some(earlier) => Self::new(move |value| self.apply(earlier.apply(value))),
        }
    }
}

impl fmt::Debug for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Projection")
    }
}

/// What became of a node, as its consumers see it.
#[derive(Clone, Debug)]
pub(crate) enum Resolved {
    Success(Value),
    Failed(TaskError),
    Skipped(TaskError),
    UpstreamFailed(TaskError),
    /// It is not done: the consumer's rule did not wait for it.
    Unknown,
}

/// What a parameter makes of a result.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Convert {
    /// The value: there must be one.
    Plain,
    /// `Option<T>`: the value where there is one.
    Option(fn(Option<Value>) -> Value),
    /// `Outcome<T>`: whatever became of it.
    Outcome(fn(Resolved) -> Value),
    /// `Vec<Outcome<T>>` of a mapping: the gather made it, whatever became of the elements.
    Outcomes,
}

impl Convert {
    pub(crate) fn apply(self, resolved: Resolved) -> Value {
        match (self, resolved) {
            (Self::Plain | Self::Outcomes, Resolved::Success(value)) => value,
            (Self::Plain | Self::Outcomes, other) => {
                unreachable!("a plain input was checked to be there: {other:?}")
            }
            (Self::Option(convert), Resolved::Success(value)) => convert(Some(value)),
            (Self::Option(convert), _) => convert(None),
            (Self::Outcome(convert), resolved) => convert(resolved),
        }
    }
}

fn option<T: Data>(value: Option<Value>) -> Value {
    Value::new(value.map(Value::take::<T>))
}

pub(crate) fn outcome<T: Data>(resolved: Resolved) -> Outcome<T> {
    match resolved {
        Resolved::Success(value) => Outcome::Success(value.take()),
        Resolved::Failed(error) => Outcome::Failed(error),
        Resolved::Skipped(reason) => Outcome::Skipped(reason.to_string()),
        Resolved::UpstreamFailed(_) | Resolved::Unknown => Outcome::UpstreamFailed,
    }
}

fn outcome_value<T: Data>(resolved: Resolved) -> Value {
    Value::new(outcome::<T>(resolved))
}

fn list<T: Data>(values: Vec<Value>) -> Value {
    Value::new(values.into_iter().map(Value::take).collect::<Vec<T>>())
}

impl Input {
    pub(crate) fn value<T: Data>(value: T) -> Self {
        Self {
            source: Source::Value(Value::new(value)),
            projection: None,
            convert: Convert::Plain,
        }
    }

    pub(crate) fn node<T>(node: Node<T>, convert: Convert) -> Self {
        Self {
            source: Source::Node(node.handle),
            projection: node.projection,
            convert,
        }
    }

    pub(crate) fn many(inputs: Vec<Self>, combine: fn(Vec<Value>) -> Value) -> Self {
        Self {
            source: Source::Many(inputs, combine),
            projection: None,
            convert: Convert::Plain,
        }
    }

    /// The nodes that the input takes, and what it makes of each.
    pub(crate) fn for_each_node(&self, f: &mut dyn FnMut(&Handle, Convert)) {
        match &self.source {
            Source::Value(_) => {}
            Source::Node(handle) => f(handle, self.convert),
            Source::Many(inputs, _) => inputs.iter().for_each(|input| input.for_each_node(f)),
        }
    }
}

/// What may be given for a parameter of type `T`: a `T` (or `&T`, `&str` for a `String`, `&[U]` or `[U; N]` for a
/// `Vec<U>`), a [`Node<T>`](Node), a [`Flow<T>`](crate::Flow), a [`Mapped<U>`](Mapped) or an array of nodes for a
/// `Vec<U>`; a node for an `Option<T>` or an [`Outcome<T>`].
#[diagnostic::on_unimplemented(
    message = "the parameter takes a `{T}`, or a node of one; this is a `{Self}`",
    label = "expected `{T}` or `Node<{T}>`"
)]
pub trait IntoInput<T> {
    #[doc(hidden)]
    fn into_input(self) -> Input;
}

#[diagnostic::do_not_recommend]
impl<T: Data> IntoInput<T> for T {
    fn into_input(self) -> Input {
        Input::value(self)
    }
}

#[diagnostic::do_not_recommend]
impl<T: Data> IntoInput<T> for &T {
    fn into_input(self) -> Input {
        Input::value(self.clone())
    }
}

#[diagnostic::do_not_recommend]
impl IntoInput<String> for &str {
    fn into_input(self) -> Input {
        Input::value(self.to_owned())
    }
}

#[diagnostic::do_not_recommend]
impl<T: Data> IntoInput<Vec<T>> for &[T] {
    fn into_input(self) -> Input {
        Input::value(self.to_vec())
    }
}

#[diagnostic::do_not_recommend]
impl<T: Data, const N: usize> IntoInput<Vec<T>> for [T; N] {
    fn into_input(self) -> Input {
        Input::value(Vec::from(self))
    }
}

#[diagnostic::do_not_recommend]
impl<T: Data, const N: usize> IntoInput<Vec<T>> for &[T; N] {
    fn into_input(self) -> Input {
        Input::value(self.to_vec())
    }
}

#[diagnostic::do_not_recommend]
impl<T> IntoInput<T> for Node<T> {
    fn into_input(self) -> Input {
        Input::node(self, Convert::Plain)
    }
}

#[diagnostic::do_not_recommend]
impl<T: Data> IntoInput<Option<T>> for Node<T> {
    fn into_input(self) -> Input {
        Input::node(self, Convert::Option(option::<T>))
    }
}

#[diagnostic::do_not_recommend]
impl<T: Data> IntoInput<Outcome<T>> for Node<T> {
    fn into_input(self) -> Input {
        Input::node(self, Convert::Outcome(outcome_value::<T>))
    }
}

#[diagnostic::do_not_recommend]
impl<T: Data> IntoInput<Vec<T>> for Mapped<T> {
    fn into_input(self) -> Input {
        Input::node(self.values(), Convert::Plain)
    }
}

#[diagnostic::do_not_recommend]
impl<T: Data> IntoInput<Vec<Outcome<T>>> for Mapped<T> {
    fn into_input(self) -> Input {
        Input::node(self.outcomes(), Convert::Outcomes)
    }
}

/// What a reference to a handle gives, the handle gives.
macro_rules! by_reference {
    ($($handle:ident => $($target:ty),+;)+) => {$($(
        #[diagnostic::do_not_recommend]
        impl<T: Data> IntoInput<$target> for &$handle<T> {
            fn into_input(self) -> Input {
                IntoInput::<$target>::into_input(self.clone())
            }
        }
    )+)+};
}

by_reference! {
    Node => T, Option<T>, Outcome<T>;
    Mapped => Vec<T>, Vec<Outcome<T>>;
}

/// Several nodes of one type, for a parameter that is a list: what [`gather`] gives.
#[derive(Debug)]
pub struct Gathered<T>(Vec<Node<T>>);

/// Collects nodes for a parameter of type `Vec<T>` or `Vec<Outcome<T>>`, in their order. Arrays of nodes need no
/// `gather`.
///
/// # Examples
///
/// ```
/// use orchestrator::prelude::*;
///
/// #[task]
/// async fn double(n: u32) -> u32 { n * 2 }
///
/// #[task]
/// async fn sum(numbers: &[u32]) -> u32 { numbers.iter().sum() }
///
/// #[flow]
/// fn total(count: u32) -> Node<u32> {
///     sum(gather((0..count).map(double)))
/// }
/// ```
pub fn gather<T: Data>(nodes: impl IntoIterator<Item = Node<T>>) -> Gathered<T> {
    Gathered(nodes.into_iter().collect())
}

#[diagnostic::do_not_recommend]
impl<T: Data> IntoInput<Vec<T>> for Gathered<T> {
    fn into_input(self) -> Input {
        Input::many(
            self.0
                .into_iter()
                .map(|node| Input::node(node, Convert::Plain))
                .collect(),
            list::<T>,
        )
    }
}

#[diagnostic::do_not_recommend]
impl<T: Data> IntoInput<Vec<Outcome<T>>> for Gathered<T> {
    fn into_input(self) -> Input {
        let convert = Convert::Outcome(outcome_value::<T>);
        Input::many(
            self.0
                .into_iter()
                .map(|node| Input::node(node, convert))
                .collect(),
            list::<Outcome<T>>,
        )
    }
}

/// Arrays of nodes are gathered.
macro_rules! arrays {
    ($($item:ty, $node:ident => $owned:expr;)+) => {$(
        #[diagnostic::do_not_recommend]
        impl<T: Data, const N: usize> IntoInput<Vec<T>> for [$item; N] {
            fn into_input(self) -> Input {
                IntoInput::<Vec<T>>::into_input(gather(self.into_iter().map(|$node| $owned)))
            }
        }

        #[diagnostic::do_not_recommend]
        impl<T: Data, const N: usize> IntoInput<Vec<Outcome<T>>> for [$item; N] {
            fn into_input(self) -> Input {
                IntoInput::<Vec<Outcome<T>>>::into_input(gather(self.into_iter().map(|$node| $owned)))
            }
        }
    )+};
}

arrays! {
    Node<T>, node => node;
    &Node<T>, node => node.clone();
}
