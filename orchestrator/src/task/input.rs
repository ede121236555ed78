use super::{Mapped, Node, Outcome};
use crate::scope::{Conversion, Input, InputSource, NodeOutcome};
use crate::value::{Data, Value};

fn option<T: Data>(value: Option<Value>) -> Value {
    Value::new(value.map(Value::take::<T>))
}

pub(crate) fn outcome<T: Data>(resolved: NodeOutcome) -> Outcome<T> {
    match resolved {
        NodeOutcome::Success(value) => Outcome::Success(value.take()),
        NodeOutcome::Failed(error) => Outcome::Failed(error),
        NodeOutcome::Skipped(reason) => Outcome::Skipped(reason.to_string()),
        NodeOutcome::UpstreamFailed(_) | NodeOutcome::Unknown => Outcome::UpstreamFailed,
    }
}

fn outcome_value<T: Data>(resolved: NodeOutcome) -> Value {
    Value::new(outcome::<T>(resolved))
}

fn list<T: Data>(values: Vec<Value>) -> Value {
    Value::new(values.into_iter().map(Value::take).collect::<Vec<T>>())
}

impl Input {
    pub(crate) fn node<T>(node: Node<T>, convert: Conversion) -> Self {
        Self {
            source: InputSource::Node(node.handle),
            projection: node.projection,
            convert,
        }
    }
}

/// An argument for a parameter of type `T`: a `T` (or `&T`, `&str` for a `String`, `&[U]` or
/// `[U; N]` for a `Vec<U>`), a [`Node<T>`](Node), a [`Flow<T>`](crate::Flow), a
/// [`Mapped<U>`](Mapped) or an array of nodes for a `Vec<U>`; a node for an `Option<T>` or an
/// [`Outcome<T>`].
#[diagnostic::on_unimplemented(
    message = "the parameter takes a `{T}` or a node of it, got a `{Self}`",
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
        Input::node(self, Conversion::Plain)
    }
}

#[diagnostic::do_not_recommend]
impl<T: Data> IntoInput<Option<T>> for Node<T> {
    fn into_input(self) -> Input {
        Input::node(self, Conversion::Option(option::<T>))
    }
}

#[diagnostic::do_not_recommend]
impl<T: Data> IntoInput<Outcome<T>> for Node<T> {
    fn into_input(self) -> Input {
        Input::node(self, Conversion::Outcome(outcome_value::<T>))
    }
}

#[diagnostic::do_not_recommend]
impl<T: Data> IntoInput<Vec<T>> for Mapped<T> {
    fn into_input(self) -> Input {
        Input::node(self.values(), Conversion::Plain)
    }
}

#[diagnostic::do_not_recommend]
impl<T: Data> IntoInput<Vec<Outcome<T>>> for Mapped<T> {
    fn into_input(self) -> Input {
        Input::node(self.outcomes(), Conversion::Outcomes)
    }
}

/// Implements `IntoInput` for references to handles, by way of the handles.
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

/// Several nodes of one type, for a parameter that is a list. Created by [`gather`].
#[derive(Debug)]
pub struct Gathered<T>(Vec<Node<T>>);

/// Collects nodes for a parameter of type `Vec<T>` or `Vec<Outcome<T>>`, in their order. Arrays of
/// nodes do not need `gather`.
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
                .map(|node| Input::node(node, Conversion::Plain))
                .collect(),
            list::<T>,
        )
    }
}

#[diagnostic::do_not_recommend]
impl<T: Data> IntoInput<Vec<Outcome<T>>> for Gathered<T> {
    fn into_input(self) -> Input {
        let convert = Conversion::Outcome(outcome_value::<T>);
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
