use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::error::{IntoTaskError, TaskError};
use crate::scope::Input;
use crate::value::{Data, Value};

/// The body of a flow that was called: its return value, or a future of it.
pub struct FlowBody(pub(crate) FlowBodyKind);

pub(crate) enum FlowBodyKind {
    /// The return value of a plain `fn`, which has run.
    Wired(Input),
    /// The future of an `async fn`, to be polled.
    Async(Pin<Box<dyn Future<Output = Result<Input, TaskError>> + Send>>),
}

impl FlowBody {
    /// Wraps the return value of a plain `fn`.
    pub fn wired<R: FlowReturn>(returned: R) -> Self {
        Self(FlowBodyKind::Wired(returned.into_output()))
    }

    /// Wraps an `async fn` that returns a `Result` of data.
    pub fn fallible<T: Data, E: IntoTaskError>(
        body: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Self {
        Self(FlowBodyKind::Async(Box::pin(async move {
            body.await
                .map(Input::value)
                .map_err(IntoTaskError::into_task_error)
        })))
    }

    /// Wraps an `async fn` that returns nodes, or nothing.
    pub fn wiring<R: FlowReturn>(body: impl Future<Output = R> + Send + 'static) -> Self {
        Self(FlowBodyKind::Async(Box::pin(async move {
            Ok(body.await.into_output())
        })))
    }
}

impl fmt::Debug for FlowBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlowBody")
    }
}

/// A return type of a flow function: a [`Node`](crate::Node), a [`Mapped`](crate::Mapped), a tuple
/// of them, or nothing. An `async fn` may also return a `Result` of data.
#[diagnostic::on_unimplemented(
    message = "a flow returns a node, a mapping, a tuple of them or nothing, not a `{Self}`",
    label = "expected `Node<_>`, `Mapped<_>`, a tuple of them or `()`",
    note = "only an `async fn` flow can return data: as a `Result<T>`"
)]
pub trait FlowReturn {
    /// The type of the flow's result.
    type Output: Data;

    #[doc(hidden)]
    fn into_output(self) -> Input;
}

impl FlowReturn for () {
    type Output = ();

    fn into_output(self) -> Input {
        Input::value(())
    }
}

macro_rules! tuples {
    ($($($name:ident)+;)+) => {$(
        impl<$($name: FlowReturn),+> FlowReturn for ($($name,)+) {
            type Output = ($($name::Output,)+);

            #[expect(non_snake_case, reason = "a variable for each type")]
            fn into_output(self) -> Input {
                let ($($name,)+) = self;
                Input::many(vec![$($name.into_output()),+], |values| {
                    let mut values = values.into_iter();
                    Value::new(($(taken::<$name::Output>(&mut values),)+))
                })
            }
        }
    )+};
}

fn taken<T: Data>(values: &mut impl Iterator<Item = Value>) -> T {
    match values.next() {
        Some(value) => value.take(),
        None => unreachable!("a tuple has as many values as types"),
    }
}

tuples! { A B; A B C; A B C D; A B C D E; A B C D E F; }
