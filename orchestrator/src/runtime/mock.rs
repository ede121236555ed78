//! Mocks: tasks replaced by closures.

use std::sync::Arc;

use crate::error::{BoxError, IntoTaskError, TaskError};
use crate::executor::Mock;
use crate::panic::Fragile;
use crate::scope::{self, Handle, NodeKind, Scope};
use crate::task::{AnyHandle, Call, Node, TaskDef};
use crate::value::{Data, Value};

/// A task function, by the types of its parameters.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a task with the parameters {Args}",
    label = "expected a task whose parameters are those of the closure"
)]
pub trait TaskFn<Args> {
    /// The task's output.
    type Output: Data;

    #[doc(hidden)]
    fn node(self, element: &dyn Fn() -> AnyHandle) -> Node<Self::Output>;
}

/// A closure that can stand in for a task: it takes the task's parameters by value (a `String` for
/// a `&str`, a `Vec<T>` for a `&[T]`), and returns the task's output, or a `Result` of it.
#[diagnostic::on_unimplemented(
    message = "the closure cannot stand in for a task that returns `{T}`",
    label = "expected a closure that takes the task's parameters by value and returns `{T}` or `Result<{T}>`"
)]
pub trait MockFn<Args, T>: Send + Sync + 'static {
    #[doc(hidden)]
    fn call(&self, call: &mut Call<'_>) -> Result<Value, TaskError>;
}

/// The return type of a [`MockFn`].
#[diagnostic::on_unimplemented(
    message = "a mock returns what its task returns: `{T}`, or a `Result` of it, not `{Self}`",
    label = "expected `{T}` or `Result<{T}>`"
)]
pub trait MockReturn<T> {
    #[doc(hidden)]
    fn into_result(self) -> Result<T, TaskError>;
}

impl<T> MockReturn<T> for T {
    fn into_result(self) -> Result<T, TaskError> {
        Ok(self)
    }
}

impl<T> MockReturn<T> for Result<T, BoxError> {
    fn into_result(self) -> Result<T, TaskError> {
        self.map_err(IntoTaskError::into_task_error)
    }
}

macro_rules! arities {
    ($($($name:ident $at:literal)*;)+) => {$(
        impl<Task, Output, $($name),*> TaskFn<($($name,)*)> for Task
        where
            Task: FnOnce($(Node<$name>),*) -> Node<Output>,
            Output: Data,
        {
            type Output = Output;

            #[allow(unused_variables, reason = "a task may have no parameters")]
            fn node(self, element: &dyn Fn() -> AnyHandle) -> Node<Output> {
                self($(Node::<$name>::new(element().0)),*)
            }
        }

        impl<Closure, Returned, Output, $($name),*> MockFn<($($name,)*), Output> for Closure
        where
            Closure: Fn($($name),*) -> Returned + Send + Sync + 'static,
            Returned: MockReturn<Output>,
            Output: Data,
            $($name: Data,)*
        {
            #[allow(unused_variables, reason = "a task may have no parameters")]
            fn call(&self, call: &mut Call<'_>) -> Result<Value, TaskError> {
                self($(call.owned::<$name>($at)),*).into_result().map(Value::new)
            }
        }
    )+};
}

arities! {
    ;
    A 0;
    A 0 B 1;
    A 0 B 1 C 2;
    A 0 B 1 C 2 D 3;
    A 0 B 1 C 2 D 3 E 4;
    A 0 B 1 C 2 D 3 E 4 F 5;
    A 0 B 1 C 2 D 3 E 4 F 5 G 6;
    A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7;
    A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8;
    A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8 J 9;
    A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8 J 9 K 10;
    A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8 J 9 K 10 L 11;
}

/// Finds the definition of a task function by calling it in a scope of its own, where it adds a
/// node.
pub(super) fn prepare<Args, Task, Closure>(
    task: Task,
    closure: Closure,
) -> Option<(&'static TaskDef, Mock)>
where
    Task: TaskFn<Args>,
    Closure: MockFn<Args, Task::Output>,
{
    let (mut scope, node) = Scope::new(None).enter(|| {
        let id = scope::with(|scope| scope.id).unwrap_or_default();
        task.node(&|| {
            AnyHandle(Handle::Element {
                scope: id,
                mapping: None,
            })
        })
    });
    let (Handle::Scoped { .. }, NodeKind::Task(definition)) =
        (node.ok()?.handle, scope.specs.pop()?.kind)
    else {
        return None;
    };
    Some((
        definition,
        Mock(Fragile::new(Arc::new(move |call: &mut Call<'_>| {
            closure.call(call)
        }))),
    ))
}
