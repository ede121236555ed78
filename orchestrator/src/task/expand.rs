use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::input::outcome;
use super::node::{call_options, describe};
use super::{
    Delay, Input, IntoInput, Node, NodeOutcome, Outcome, Pool, TaskOptions, Trigger, Upstream,
};
use crate::definition::options::{Count, Factor, option_setter, option_setters};
use crate::error::GraphError;
use crate::index::NodeId;
use crate::scope::{
    self, GatherMode, GatherSpec, Handle, MappingSpec, NodeKind, NodeSpec, ScopeProblem,
    StageLimit, StageNodes,
};
use crate::value::{Data, Value};

/// One or more tasks mapped over a list, with one result of type `T` for each element, in the order
/// of the list.
///
/// It can be passed for a parameter of type `Vec<T>` (all results; skipped ones are left out; if an
/// element failed, the task is upstream-failed) or `Vec<Outcome<T>>` (the outcomes of all
/// elements). Awaiting it in an `async` flow returns a `Vec<T>`.
///
/// Options set on it apply to its task. If the closure creates several tasks, set them inside the
/// closure.
pub struct Mapped<T> {
    scope: u64,
    /// The mapping's node; `None` outside a flow.
    mapping: Option<NodeId>,
    /// The nodes that the closure created.
    stage: Option<StageNodes>,
    /// The node that the closure returned: the template's result.
    node: Node<T>,
}

/// A list to map over, created by [`cross`](Node::cross) and [`zip`](Node::zip).
pub struct List<T> {
    inputs: Vec<Input>,
    spec: MappingSpec,
    element: std::marker::PhantomData<fn() -> T>,
}

/// A type that converts into a [`List`]: a node of a `Vec`, a `Vec`, a [`Mapped`], another list.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a list of `{T}`",
    label = "expected a `Vec<{T}>`, a `Node<Vec<{T}>>`, a `Mapped<{T}>` or a `List<{T}>`"
)]
pub trait IntoList<T> {
    #[doc(hidden)]
    fn into_list(self) -> List<T>;
}

/// A function that can be mapped over a list of `T`: a task with one parameter of type `T`, or a
/// closure that takes a `Node<T>` and returns a node or a mapping.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be mapped over a list of `{T}`",
    label = "expected a task that takes a `{T}`, or a closure that takes a `Node<{T}>`"
)]
pub trait Mapping<T, R>: FnOnce(Node<T>) -> R {}

#[diagnostic::do_not_recommend]
impl<T, R, F: FnOnce(Node<T>) -> R> Mapping<T, R> for F {}

/// A type that the closure of an `expand` may return: a node, or (nested) a mapping.
#[diagnostic::on_unimplemented(
    message = "the closure of `expand` returns a node or a mapping, not a `{Self}`",
    label = "expected `Node<_>` or `Mapped<_>`",
    note = "a flow cannot be mapped: write an ordinary function that takes and returns nodes"
)]
pub trait Element {
    /// The type of the result of one element.
    type Item: Data;

    #[doc(hidden)]
    fn into_node(self) -> Node<Self::Item>;
}

impl<T: Data> Element for Node<T> {
    type Item = T;

    fn into_node(self) -> Self {
        self
    }
}

impl<T: Data> Element for Mapped<T> {
    type Item = Vec<T>;

    fn into_node(self) -> Node<Vec<T>> {
        self.values()
    }
}

/// Maps a task, or a closure over tasks, over a list.
///
/// The closure is called once, with a node that stands for the element. It may create several tasks
/// per element, capture values and nodes, and nest.
///
/// # Examples
///
/// ```
/// use orchestrator::prelude::*;
///
/// #[task]
/// async fn square(n: u64) -> u64 { n * n }
///
/// #[task]
/// async fn sum(numbers: &[u64]) -> u64 { numbers.iter().sum() }
///
/// #[flow]
/// fn squares() -> Node<u64> {
///     sum(expand(vec![1, 2, 3], square))
/// }
/// ```
pub fn expand<T: Data, R: Element>(
    list: impl IntoList<T>,
    mapping: impl Mapping<T, R>,
) -> Mapped<R::Item> {
    list.into_list().expand(mapping)
}

impl<T: Data> List<T> {
    fn plain(input: Input) -> Self {
        let spec = MappingSpec {
            length: Arc::new(|lists| Ok(lists[0].get::<Vec<T>>().len())),
            get: Arc::new(|lists, index| Value::new(lists[0].get::<Vec<T>>()[index].clone())),
            plain: true,
        };
        Self {
            inputs: vec![input],
            spec,
            element: std::marker::PhantomData,
        }
    }

    /// Maps a task, or a closure over tasks, over the list: see [`expand`].
    pub fn expand<R: Element>(self, mapping: impl Mapping<T, R>) -> Mapped<R::Item> {
        let spec = NodeSpec::new(
            NodeKind::Mapping(Box::new(self.spec)),
            self.inputs.into_boxed_slice(),
        );
        match scope::add(spec) {
            Handle::Scoped { scope, id } => {
                let id = Some(id);
                let element = Node::new(Handle::Element { scope, mapping: id });
                mapped(scope, id, || mapping(element).into_node())
            }
            // a mapping outside a flow is an error, which awaiting reports
            loose => {
                let node = mapping(Node::new(loose)).into_node();
                Mapped {
                    scope: u64::MAX,
                    mapping: None,
                    stage: None,
                    node,
                }
            }
        }
    }

    /// Returns all pairs of an element of this list and one of the other, row by row: the last list
    /// varies fastest.
    pub fn cross<U: Data>(self, other: impl IntoList<U>) -> List<(T, U)> {
        self.join(
            other.into_list(),
            |left, right| Ok(left * right),
            |index, right| (index / right, index % right),
        )
    }

    /// Returns the pairs of elements at the same index. If the lists turn out to have different
    /// lengths, the mapping fails with an error that gives the lengths.
    pub fn zip<U: Data>(self, other: impl IntoList<U>) -> List<(T, U)> {
        let length = |left, right| match left == right {
            true => Ok(left),
            false => Err(format!(
                "expected `zip` to get lists of equal length, got {left} and {right} elements"
            )),
        };
        self.join(other.into_list(), length, |index, _| (index, index))
    }

    fn join<U: Data>(
        mut self,
        other: List<U>,
        length: fn(usize, usize) -> Result<usize, String>,
        indexes: fn(usize, usize) -> (usize, usize),
    ) -> List<(T, U)> {
        let (left, right, split) = (self.spec, other.spec, self.inputs.len());
        self.inputs.extend(other.inputs);
        let right_length = Arc::clone(&right.length);
        let spec = MappingSpec {
            length: Arc::new(move |lists| {
                let (lefts, rights) = lists.split_at(split);
                length((left.length)(lefts)?, (right.length)(rights)?)
            }),
            get: Arc::new(move |lists, index| {
                let (lefts, rights) = lists.split_at(split);
                let (at_left, at_right) = indexes(index, right_length(rights).unwrap_or(1));
                let pair = (
                    (left.get)(lefts, at_left).take::<T>(),
                    (right.get)(rights, at_right).take::<U>(),
                );
                Value::new(pair)
            }),
            plain: false,
        };
        List {
            inputs: self.inputs,
            spec,
            element: std::marker::PhantomData,
        }
    }
}

/// Runs the closure of an `expand` in its mapping's region.
fn mapped<T>(scope: u64, mapping: Option<NodeId>, closure: impl FnOnce() -> Node<T>) -> Mapped<T> {
    let (node, stage) = scope::in_region(mapping, closure);
    Mapped {
        scope,
        mapping,
        stage,
        node,
    }
}

impl<T: Data> IntoList<T> for Node<Vec<T>> {
    fn into_list(self) -> List<T> {
        List::plain(IntoInput::<Vec<T>>::into_input(self))
    }
}

impl<T: Data> IntoList<T> for &Node<Vec<T>> {
    fn into_list(self) -> List<T> {
        List::plain(IntoInput::<Vec<T>>::into_input(self))
    }
}

impl<T: Data> IntoList<T> for Vec<T> {
    fn into_list(self) -> List<T> {
        List::plain(IntoInput::<Self>::into_input(self))
    }
}

impl<T: Data> IntoList<T> for Mapped<T> {
    fn into_list(self) -> List<T> {
        List::plain(IntoInput::<Vec<T>>::into_input(self))
    }
}

impl<T: Data> IntoList<T> for &Mapped<T> {
    fn into_list(self) -> List<T> {
        List::plain(IntoInput::<Vec<T>>::into_input(self))
    }
}

impl<T> IntoList<T> for List<T> {
    fn into_list(self) -> Self {
        self
    }
}

impl<T: Data> Node<Vec<T>> {
    /// Maps a task, or a closure over tasks, over the list: see [`expand`].
    pub fn expand<R: Element>(&self, mapping: impl Mapping<T, R>) -> Mapped<R::Item> {
        self.into_list().expand(mapping)
    }

    /// Returns all pairs with another list: see [`List::cross`].
    pub fn cross<U: Data>(&self, other: impl IntoList<U>) -> List<(T, U)> {
        self.into_list().cross(other)
    }

    /// Returns the pairs with another list of the same length: see [`List::zip`].
    pub fn zip<U: Data>(&self, other: impl IntoList<U>) -> List<(T, U)> {
        self.into_list().zip(other)
    }
}

impl<T: Data> Mapped<T> {
    call_options!();

    /// Maps over the results, element by element: each element continues as soon as it is
    /// available, without waiting for the others.
    pub fn expand<R: Element>(&self, mapping: impl Mapping<T, R>) -> Mapped<R::Item> {
        let node = self.node.clone();
        mapped(self.scope, self.mapping, || mapping(node).into_node())
    }

    /// Returns all pairs with another list: see [`List::cross`]. It waits for all results.
    pub fn cross<U: Data>(&self, other: impl IntoList<U>) -> List<(T, U)> {
        self.into_list().cross(other)
    }

    /// Returns the pairs with another list of the same length: see [`List::zip`]. It waits for all
    /// results.
    pub fn zip<U: Data>(&self, other: impl IntoList<U>) -> List<(T, U)> {
        self.into_list().zip(other)
    }

    /// Sets the maximum number of active elements: those between the start of the first task of
    /// this `expand` and the end of its last. An element that only waits for a retry does not
    /// count. There is no limit by default.
    pub fn concurrency(self, elements: u32) -> Self {
        let problem = (elements == 0).then(|| GraphError::Option {
            task: self.label(),
            problem: "expected `concurrency` to be at least 1 element, got 0".to_owned(),
        });
        scope::with(|scope| match (problem, self.stage) {
            (Some(problem), _) => scope.refuse(problem),
            (None, Some(stage)) if stage.nodes > 0 && stage.first < scope.first => {
                scope.refuse(ScopeProblem::Planned {
                    node: stage.first,
                    option: "concurrency",
                });
            }
            (None, Some(StageNodes { id: stage, .. })) => {
                scope.limits.push(StageLimit { stage, elements })
            }
            (None, None) => {}
        });
        self
    }

    fn label(&self) -> String {
        match self.node.handle {
            Handle::Scoped { id, .. } => {
                scope::with(|scope| scope.spec(id).map(|spec| spec.name().to_owned())).flatten()
            }
            _ => None,
        }
        .unwrap_or_else(|| "a mapping".to_owned())
    }

    fn describe(self, option: &'static str, change: impl FnOnce(&mut NodeSpec)) -> Self {
        let tasks = self.stage.map_or(0, |stage| stage.nodes);
        if tasks > 1 {
            let problem = GraphError::OptionOnGroup { option, tasks };
            scope::with(|scope| scope.refuse(problem));
        } else {
            describe(&self.node.handle, option, change);
        }
        self
    }

    fn gathered<U>(
        &self,
        mode: GatherMode,
        collect: fn(&mut dyn Iterator<Item = NodeOutcome>) -> Value,
    ) -> Node<U> {
        let spec = |mapping| GatherSpec {
            of: self.node.handle.clone(),
            mapping,
            projection: self.node.projection.clone(),
            mode,
            collect,
        };
        let gathered = scope::with(|scope| {
            let mapping = self.mapping.filter(|_| scope.id == self.scope);
            mapping.map(|mapping| scope.gather(spec(mapping)))
        });
        let gathered = gathered.flatten();
        // without its scope the mapping is foreign, which planning reports
        Node::new(gathered.unwrap_or(Handle::Element {
            scope: self.scope,
            mapping: self.mapping,
        }))
    }

    pub(crate) fn values(&self) -> Node<Vec<T>> {
        self.gathered(GatherMode::Values, |elements| {
            let values = elements.filter_map(|resolved| match resolved {
                NodeOutcome::Success(value) => Some(value.take::<T>()),
                _ => None,
            });
            Value::new(exactly(values))
        })
    }

    pub(crate) fn outcomes(&self) -> Node<Vec<Outcome<T>>> {
        self.gathered(GatherMode::Outcomes, |elements| {
            Value::new(exactly(elements.map(outcome::<T>)))
        })
    }

    pub(crate) fn done(&self) -> Node<()> {
        self.gathered(GatherMode::Done, |_| Value::new(()))
    }
}

/// Collects into a `Vec` with the exact capacity.
fn exactly<T>(elements: impl Iterator<Item = T>) -> Vec<T> {
    let (at_least, at_most) = elements.size_hint();
    let mut list = Vec::with_capacity(at_most.unwrap_or(at_least));
    list.extend(elements);
    list
}

impl<T> Clone for Mapped<T> {
    fn clone(&self) -> Self {
        Self {
            node: self.node.clone(),
            ..*self
        }
    }
}

impl<T> fmt::Debug for Mapped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Mapped").field(&self.node).finish()
    }
}

impl<T> fmt::Debug for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "List<{}>", std::any::type_name::<T>())
    }
}
