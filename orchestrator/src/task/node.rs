use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use super::scope::{self, Handle, Kind, NodeSpec};
use super::{Delay, Input, Mapped, Pool, Projection, TaskDef, TaskOptions, Trigger};
use crate::error::GraphError;
use crate::value::{Data, OutputType, SameFn, Value};

/// One use of a task in a flow: a promise of its result, of type `T`.
///
/// Calling a task makes one; nothing has run yet. Passing it to another task is the dependency. What was made in a
/// flow's body runs, whether its node is passed on, awaited or dropped.
///
/// In an `async` flow, `node.await` gives the result. Outside of a flow, `task(…).await` runs the task there and then:
/// retries and the timeout apply, and nothing is stored.
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

/// Makes nodes of tasks whose results are of type `T`: what a task function calls.
///
/// Its own method `node` is the one that is found where `T` is data. Where it is not, [`NotData`] has one, so that the
/// error is the one at the type that the body returns, and no second one is at the call.
#[derive(Debug)]
pub struct Results<T>(PhantomData<fn() -> T>);

impl<T: Data> Results<T> {
    /// Makes a node. `same` compares results.
    pub fn node(
        definition: &'static TaskDef,
        inputs: Box<[Input]>,
        same: Option<SameFn>,
    ) -> Node<T> {
        if let Some(same) = same {
            definition.same.set(same);
        }
        let mut spec = NodeSpec::new(Kind::Task(definition), inputs);
        spec.output = Some(OutputType::of::<T>());
        Node::new(scope::add(spec))
    }
}

/// Found where `Results` has no method of its own.
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

    pub(crate) fn projected<U>(&self, projection: Projection) -> Node<U> {
        let projection = Some(projection.after(self.projection.clone()));
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

/// Changes a node's description. Where the node has been planned, the flow is refused.
pub(crate) fn describe(handle: &Handle, option: &'static str, change: impl FnOnce(&mut NodeSpec)) {
    match handle {
        Handle::Loose(spec) => change(&mut spec.lock()),
        Handle::Scoped { scope, id } => {
            let changed = scope::with(|current| {
                let problem = match current.id == *scope {
                    true => match current.spec(*id) {
                        Some(spec) => {
                            change(spec);
                            spec.more
                                .as_ref()
                                .and_then(|more| more.options.problem())
                                .map(|problem| GraphError::Option {
                                    task: spec.name().to_owned(),
                                    problem,
                                })
                        }
                        None => Some(GraphError::Planned {
                            task: format!("node {id}"),
                            option,
                        }),
                    },
                    false => Some(GraphError::ForeignNode {
                        task: format!("node {id}"),
                    }),
                };
                if let Some(problem) = problem {
                    current.refuse(problem);
                }
            });
            if changed.is_none() {
                tracing::warn!(
                    option,
                    "an option was set on a node outside of its flow's body, and has no effect"
                );
            }
        }
        Handle::Element { .. } => {}
    }
}

/// The options that a use of a task may set; `$self` is a `Node` or a `Mapped`.
macro_rules! call_options {
    () => {
        /// Sets how many attempts may follow the first: at most 100.
        pub fn retries(self, retries: u32) -> Self {
            self.describe("retries", |spec| {
                spec.more().options.retries = Some(retries)
            })
        }

        /// Sets the delay before the second attempt; with `backoff` it grows.
        pub fn retry_delay(self, delay: Duration) -> Self {
            self.describe("retry_delay", |spec| {
                spec.more().options.retry_delay = Some(Delay::Fixed(delay))
            })
        }

        /// Sets the delay before each retry; the last repeats.
        pub fn retry_delays(self, delays: &'static [Duration]) -> Self {
            self.describe("retry_delays", |spec| {
                spec.more().options.retry_delay = Some(Delay::List(delays))
            })
        }

        /// Sets the factor, at least 1, by which the delay grows from attempt to attempt.
        pub fn backoff(self, factor: f64) -> Self {
            self.describe("backoff", |spec| spec.more().options.backoff = Some(factor))
        }

        /// Sets the upper bound of the delay.
        pub fn max_retry_delay(self, delay: Duration) -> Self {
            self.describe("max_retry_delay", |spec| {
                spec.more().options.max_retry_delay = Some(delay)
            })
        }

        /// Sets how long one attempt may take.
        pub fn timeout(self, timeout: Duration) -> Self {
            self.describe("timeout", |spec| {
                spec.more().options.timeout = Some(timeout)
            })
        }

        /// Sets when the task runs, given what became of the tasks before it.
        pub fn trigger(self, rule: Trigger) -> Self {
            self.describe("trigger", |spec| spec.more().options.trigger = Some(rule))
        }

        /// Sets the pool of which the body takes one slot while it runs.
        pub fn pool(self, name: &'static str) -> Self {
            self.describe("pool", |spec| {
                spec.more().options.pool = Some(Pool { name, slots: 1 })
            })
        }

        /// Sets several options at once; they win over those of `#[task(…)]`.
        pub fn options(self, options: TaskOptions) -> Self {
            self.describe("options", |spec| {
                let more = spec.more();
                more.options = options.or(&more.options);
            })
        }

        /// Gives this use a name of its own. Names must be free of `/`, `#`, `[`, `]` and white space.
        pub fn named(self, name: impl Into<String>) -> Self {
            let name = name.into();
            if let Some(character) = name
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

        /// Lets the task wait for other nodes without taking their results.
        pub fn after(self, nodes: impl Upstream) -> Self {
            let mut handles = Vec::new();
            nodes.handles(&mut handles);
            self.describe("after", |spec| {
                spec.more()
                    .after
                    .extend(handles.into_iter().map(|handle| handle.0))
            })
        }

        /// Says that the run may be green though this task fails.
        pub fn allow_failure(self) -> Self {
            self.describe("allow_failure", |spec| spec.more().allow_failure = true)
        }
    };
}
pub(crate) use call_options;

impl<T: Data> Node<T> {
    call_options!();

    /// A function of the result, worked out where it is taken. It is no task: it has no name, no retries, and should be
    /// cheap.
    pub fn map<U: Data>(&self, f: impl Fn(&T) -> U + Send + Sync + 'static) -> Node<U> {
        self.projected(Projection::new(move |value| Value::new(f(value.get()))))
    }
}

impl<A: Data, B: Data> Node<(A, B)> {
    /// Takes a pair apart.
    pub fn unzip(self) -> (Node<A>, Node<B>) {
        (
            self.projected(Projection::new(|value| {
                Value::new(value.get::<(A, B)>().0.clone())
            })),
            self.projected(Projection::new(|value| {
                Value::new(value.get::<(A, B)>().1.clone())
            })),
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
            Handle::Loose(spec) => spec.lock().name().to_owned(),
            Handle::Scoped { id, .. } => format!("node {id}"),
            Handle::Element { .. } => "element".to_owned(),
        };
        write!(f, "Node<{}>({name})", std::any::type_name::<T>())
    }
}

/// What a task may wait for with `.after(…)`: nodes and mappings, references to them, arrays, lists and tuples of them.
#[diagnostic::on_unimplemented(
    message = "`.after(…)` takes nodes, this is a `{Self}`",
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
    use super::super::{Body, TaskDef, TaskOptions};
    #[expect(
        unused_imports,
        reason = "as in an expansion: of data, the other is found"
    )]
    use super::NotData as _;
    use super::{Handle, Results};

    static TASK: TaskDef = TaskDef {
        name: "task",
        crate_name: "",
        module: "",
        file: "",
        line: 0,
        description: "",
        tags: &[],
        parameters: &[],
        resources: &[],
        options: TaskOptions::NONE,
        body: Body::Blocking(|_| unreachable!("no one runs it")),
        cooperative: false,
        cache: None,
        same: crate::value::Same::new(),
    };

    #[test]
    fn a_node_knows_how_to_read_its_results() {
        let node = Results::<Vec<u8>>::node(&TASK, Box::new([]), None);
        let Handle::Loose(spec) = node.handle else {
            panic!("there is no flow")
        };
        let output = spec.lock().output.expect("`Vec<u8>` is data");
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
