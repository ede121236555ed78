use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use super::{Delay, Input, Mapped, Pool, Projection, TaskDef, TaskOptions, Trigger};
use crate::definition::options::{Count, Factor, option_setter, option_setters};
use crate::error::GraphError;
use crate::scope::{self, Handle, NodeKind, NodeSpec, ScopeProblem};
use crate::value::{Data, OutputType, SameFn, Value};

/// One use of a task in a flow: a promise of its result, of type `T`.
///
/// Calling a task creates a node; nothing has run yet. Passing it to another task creates the
/// dependency. A node that was created in a flow's body runs, whether it is passed on, awaited or
/// dropped.
///
/// In an `async` flow, `node.await` returns the result. Outside a flow, `task(…).await` runs the
/// task immediately: retries and the timeout apply, and nothing is stored.
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
/// fn sums() -> Node<u64> {
///     let three = add(1, 2).named("three");
///     add(&three, &three)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// assert_eq!(sums().on(&Runtime::in_memory()).await?, 6);
/// assert_eq!(add(1, 2).await?, 3);
/// # Ok(())
/// # }
/// ```
pub struct Node<T> {
    pub(crate) handle: Handle,
    pub(crate) projection: Option<Projection>,
    output: PhantomData<fn() -> T>,
}

/// Creates nodes of tasks whose results are of type `T`, for the expansions of task functions.
///
/// If `T` is data, its inherent method `node` is resolved. Otherwise that of [`NotData`] is, so
/// that the only error is the one at the return type of the body, and there is no second one at the
/// call.
#[derive(Debug)]
pub struct Results<T>(PhantomData<fn() -> T>);

impl<T: Data> Results<T> {
    /// Creates a node. `same` compares results.
    pub fn node(
        definition: &'static TaskDef,
        inputs: Box<[Input]>,
        same: Option<SameFn>,
    ) -> Node<T> {
        if let Some(same) = same {
            definition.same.set(same);
        }
        let mut spec = NodeSpec::new(NodeKind::Task(definition), inputs);
        spec.output = Some(OutputType::of::<T>());
        Node::new(scope::add(spec))
    }
}

/// Provides `node` if `Results` has no inherent method of that name.
pub trait NotData<T> {
    /// Stands in for a node.
    fn node(_: &'static TaskDef, _: Box<[Input]>, _: Option<SameFn>) -> Node<T> {
        unreachable!("the results of a task are data: its body does not compile otherwise")
    }
}

impl<T> NotData<T> for Results<T> {}

impl<T> Node<T> {
    pub(crate) fn new(handle: Handle) -> Self {
        Self {
            handle,
            projection: None,
            output: PhantomData,
        }
    }

    pub(crate) fn projected<U>(
        &self,
        function: impl Fn(Value) -> Value + Send + Sync + 'static,
    ) -> Node<U> {
        let projection = Some(Projection::new(self.projection.clone(), function));
        Node {
            handle: self.handle.clone(),
            projection,
            output: PhantomData,
        }
    }

    /// Changes the node's description, which must not have been planned.
    fn describe(self, option: &'static str, change: impl FnOnce(&mut NodeSpec)) -> Self {
        describe(&self.handle, option, change);
        self
    }
}

/// Changes a node's description. If the node has been planned, the flow is refused.
pub(crate) fn describe(handle: &Handle, option: &'static str, change: impl FnOnce(&mut NodeSpec)) {
    match handle {
        Handle::Loose(loose) => change(&mut loose.spec()),
        Handle::Scoped { scope, id } => {
            let changed = scope::with(|current| {
                let problem = match current.id == *scope {
                    true => match current.spec(*id) {
                        Some(spec) => {
                            change(spec);
                            None
                        }
                        None => Some(ScopeProblem::Planned { node: *id, option }),
                    },
                    false => Some(ScopeProblem::Foreign { node: *id }),
                };
                if let Some(problem) = problem {
                    current.refuse(problem);
                }
            });
            if changed.is_none() {
                tracing::warn!(
                    option,
                    "option ignored: it was set on a node outside of its flow's body"
                );
            }
        }
        Handle::Element { .. } => {}
    }
}

/// The options that a use of a task may set; `$self` is a `Node` or a `Mapped`.
macro_rules! call_options {
    () => {
        orchestrator_grammar::task_options!(option_setters);

        /// Sets the delay before each retry; the last repeats.
        pub fn retry_delays(self, delays: &'static [Duration]) -> Self {
            self.describe("retry_delays", |spec| {
                spec.more().options.retry_delay = Some(Delay::List(delays))
            })
        }

        /// Sets several options at once, which override those of `#[task(…)]`.
        pub fn options(self, options: TaskOptions) -> Self {
            self.describe("options", |spec| {
                let more = spec.more();
                more.options = options.or(&more.options);
            })
        }

        /// Sets the name of this use: at most 250 bytes, without `/`, `#`, `[`, `]` and white
        /// space.
        pub fn named(self, name: impl Into<String>) -> Self {
            let name = name.into();
            if let Some(problem) = crate::bounds::fault(&name, crate::bounds::NAME) {
                scope::with(|scope| scope.refuse(GraphError::LongName { problem }));
            } else if let Some(character) = name
                .chars()
                .find(|c| matches!(c, '/' | '#' | '[' | ']') || c.is_whitespace())
            {
                let problem = GraphError::Name {
                    name: name.clone(),
                    character,
                };
                scope::with(|scope| scope.refuse(problem));
            }
            self.describe("named", |spec| spec.more().name = Some(name))
        }

        /// Makes the task wait for other nodes without taking their results.
        pub fn after(self, nodes: impl Upstream) -> Self {
            let mut handles = Vec::new();
            nodes.handles(&mut handles);
            self.describe("after", |spec| {
                spec.more()
                    .after
                    .extend(handles.into_iter().map(|handle| handle.0))
            })
        }

        /// Allows the run to succeed even if this task fails.
        pub fn allow_failure(self) -> Self {
            self.describe("allow_failure", |spec| spec.more().allow_failure = true)
        }
    };
}
pub(crate) use call_options;

impl<T: Data> Node<T> {
    call_options!();

    /// Applies a function to the result whenever it is taken. The function is not a task: it does
    /// not have a name or retries, and should be cheap.
    pub fn map<U: Data>(&self, f: impl Fn(&T) -> U + Send + Sync + 'static) -> Node<U> {
        self.projected(move |value| Value::new(f(value.get())))
    }
}

impl<A: Data, B: Data> Node<(A, B)> {
    /// Splits a node of a pair into two nodes.
    pub fn unzip(self) -> (Node<A>, Node<B>) {
        (
            self.projected(|value| Value::new(value.get::<(A, B)>().0.clone())),
            self.projected(|value| Value::new(value.get::<(A, B)>().1.clone())),
        )
    }
}

impl<T> Clone for Node<T> {
    fn clone(&self) -> Self {
        Self {
            handle: self.handle.clone(),
            projection: self.projection.clone(),
            output: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Node<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.handle {
            Handle::Loose(loose) => loose.spec().name().to_owned(),
            Handle::Scoped { id, .. } => format!("node {id}"),
            Handle::Element { .. } => "element".to_owned(),
        };
        write!(f, "Node<{}>({name})", std::any::type_name::<T>())
    }
}

/// A type that a task can wait for with `.after(…)`: nodes and mappings, references to them, and
/// arrays, lists and tuples of them.
#[diagnostic::on_unimplemented(
    message = "`.after(…)` takes nodes, got a `{Self}`",
    label = "expected a node, a mapping, or an array or tuple of references to them"
)]
pub trait Upstream {
    #[doc(hidden)]
    fn handles(self, into: &mut Vec<AnyHandle>);
}

/// A node of any type.
#[doc(hidden)]
#[derive(Debug)]
pub struct AnyHandle(pub(crate) Handle);

impl<T> Upstream for Node<T> {
    fn handles(self, into: &mut Vec<AnyHandle>) {
        into.push(AnyHandle(self.handle));
    }
}

impl<T> Upstream for &Node<T> {
    fn handles(self, into: &mut Vec<AnyHandle>) {
        into.push(AnyHandle(self.handle.clone()));
    }
}

impl<T: Data> Upstream for &Mapped<T> {
    fn handles(self, into: &mut Vec<AnyHandle>) {
        into.push(AnyHandle(self.done().handle));
    }
}

impl<T: Data> Upstream for Mapped<T> {
    fn handles(self, into: &mut Vec<AnyHandle>) {
        into.push(AnyHandle(self.done().handle));
    }
}

impl<U: Upstream, const N: usize> Upstream for [U; N] {
    fn handles(self, into: &mut Vec<AnyHandle>) {
        self.into_iter().for_each(|upstream| upstream.handles(into));
    }
}

impl<U: Upstream> Upstream for Vec<U> {
    fn handles(self, into: &mut Vec<AnyHandle>) {
        self.into_iter().for_each(|upstream| upstream.handles(into));
    }
}

macro_rules! tuples {
    ($($($name:ident)+;)+) => {$(
        impl<$($name: Upstream),+> Upstream for ($($name,)+) {
            #[expect(non_snake_case, reason = "a variable for each type")]
            fn handles(self, into: &mut Vec<AnyHandle>) {
                let ($($name,)+) = self;
                $($name.handles(into);)+
            }
        }
    )+};
}

tuples! { A B; A B C; A B C D; A B C D E; A B C D E F; }

#[cfg(test)]
mod tests {
    use super::super::{TaskBody, TaskDef};
    #[expect(
        unused_imports,
        reason = "as in an expansion: of data, the other is found"
    )]
    use super::NotData as _;
    use super::{Handle, Results};

    static TASK: TaskDef = TaskDef::plain(
        "task",
        TaskBody::Blocking(|_| unreachable!("no one runs it")),
    );

    #[test]
    fn a_node_knows_how_to_read_its_results() {
        let node = Results::<Vec<u8>>::node(&TASK, Box::new([]), None);
        let Handle::Loose(loose) = node.handle else {
            panic!("there is no flow")
        };
        let output = loose.spec().output.expect("`Vec<u8>` is data");
        assert!(output.name().ends_with("Vec<u8>"));
        assert_eq!(
            output
                .decode(&[0x92, 1, 2])
                .map(|value| value.get::<Vec<u8>>().clone())
                .ok(),
            Some(vec![1, 2])
        );
        assert!(
            output
                .decode(&[0x92, 1, 0xcd, 1, 0])
                .is_err_and(|error| error.to_string().contains("256"))
        );
    }
}
