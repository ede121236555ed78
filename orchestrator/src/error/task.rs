use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::BoxError;

/// Why a task has no result: it failed, timed out, panicked, was skipped, or what it takes is not there.
///
/// In a body it is what [`fatal`], [`skip`] and [`retry_after`] make, and what awaiting a node gives. It converts with
/// `?` into any error that takes `std::error::Error`s: the prelude's `Result`, anyhow, an enum with `#[from] TaskError`.
///
/// The text of a failure is that of the body's error and of its sources: "while reading: no such table".
///
/// # Examples
///
/// ```
/// use orchestrator::prelude::*;
///
/// let error = fatal("no such table");
/// assert!(error.is_fatal());
/// assert_eq!(error.to_string(), "no such table");
/// ```
#[derive(Clone)]
pub struct TaskError(Arc<Inner>);

struct Inner {
    message: String,
    signal: Signal,
    error: Option<BoxError>,
}

/// What the runtime reads off an error. It is the `source()` of a [`TaskError`], and so it is found in the chain of
/// sources however the error was wrapped on its way: by `#[error(transparent)]`, by `.context(…)`, by boxing.
#[derive(Clone, Debug)]
pub(crate) struct Signal(pub(crate) Cause);

/// Kinds of [`TaskError`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Cause {
    Failed,
    Fatal,
    Skipped,
    RetryAfter(Duration),
    TimedOut(Duration),
    Panicked,
    Crashed,
    UpstreamFailed,
    Cancelled,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Cause::Failed => "the task failed",
            Cause::Fatal => "the task asked not to be retried",
            Cause::Skipped => "the task asked to be skipped",
            Cause::RetryAfter(_) => "the task asked to be retried later",
            Cause::TimedOut(_) => "the task timed out",
            Cause::Panicked => "the task panicked",
            Cause::Crashed => "the task's process died",
            Cause::UpstreamFailed => "what the task takes is not there",
            Cause::Cancelled => "the run was cancelled",
        })
    }
}

impl StdError for Signal {}

/// What a panic left behind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Panicked {
    pub(crate) message: String,
    pub(crate) place: Option<String>,
}

impl Panicked {
    /// The message of a panic, as `panic!` makes it.
    pub(crate) fn from_payload(payload: &(dyn std::any::Any + Send)) -> Self {
        let message = match (
            payload.downcast_ref::<&str>(),
            payload.downcast_ref::<String>(),
        ) {
            (Some(text), _) => (*text).to_owned(),
            (_, Some(text)) => text.clone(),
            _ => "a value that is no text".to_owned(),
        };
        Self {
            message,
            place: None,
        }
    }
}

impl TaskError {
    pub(crate) fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            message: message.into(),
            signal: Signal(cause),
            error: None,
        }))
    }

    /// The error of a body: with the signal that is in it, wherever in the chain of its sources.
    fn from_body(error: BoxError) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(task_error) => return *task_error,
            Err(error) => error,
        };
        let cause = signal_in(&*error).unwrap_or(Cause::Failed);
        let message = chain_text(&*error);
        Self(Arc::new(Inner {
            message,
            signal: Signal(cause),
            error: Some(error),
        }))
    }

    fn signalled(cause: Cause, error: BoxError) -> Self {
        let message = chain_text(&*error);
        Self(Arc::new(Inner {
            message,
            signal: Signal(cause),
            error: Some(error),
        }))
    }

    pub(crate) fn panicked(panicked: &Panicked) -> Self {
        let message = match &panicked.place {
            Some(place) => format!("panicked at {place}: {}", panicked.message),
            None => format!("panicked: {}", panicked.message),
        };
        Self::new(Cause::Panicked, message)
    }

    pub(crate) fn timed_out(after: Duration) -> Self {
        Self::new(
            Cause::TimedOut(after),
            format!("timed out after {}", humantime::format_duration(after)),
        )
    }

    pub(crate) fn cancelled() -> Self {
        Self::new(Cause::Cancelled, "the run was cancelled")
    }

    pub(crate) fn cause(&self) -> &Cause {
        &self.0.signal.0
    }

    /// The body's own error, where it is an `E`.
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        let mut next: Option<&(dyn StdError + 'static)> =
            self.0.error.as_deref().map(|error| error as _);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }

    /// Whether the task failed and asked not to be retried ([`fatal`]).
    pub fn is_fatal(&self) -> bool {
        *self.cause() == Cause::Fatal
    }

    /// Whether the task was skipped, by its body ([`skip`]) or by its trigger rule.
    pub fn is_skipped(&self) -> bool {
        *self.cause() == Cause::Skipped
    }

    /// Whether an attempt, or the run, took longer than it may.
    pub fn is_timeout(&self) -> bool {
        matches!(self.cause(), Cause::TimedOut(_))
    }

    /// Whether the body panicked.
    pub fn is_panic(&self) -> bool {
        *self.cause() == Cause::Panicked
    }

    /// Whether the task's process died while it ran, too often for another attempt.
    pub fn is_crash(&self) -> bool {
        *self.cause() == Cause::Crashed
    }

    /// Whether the task did not run, because what it takes is not there.
    pub fn is_upstream_failed(&self) -> bool {
        *self.cause() == Cause::UpstreamFailed
    }

    /// Whether the run was cancelled.
    pub fn is_cancelled(&self) -> bool {
        *self.cause() == Cause::Cancelled
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl StdError for TaskError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0.signal)
    }
}

/// What of an error outlives its process: its text and its signal.
#[derive(Serialize, Deserialize)]
#[serde(rename = "TaskError")]
struct Recorded<'a> {
    message: std::borrow::Cow<'a, str>,
    cause: Cause,
}

impl Serialize for TaskError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Recorded {
            message: self.0.message.as_str().into(),
            cause: self.cause().clone(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TaskError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let recorded = Recorded::deserialize(deserializer)?;
        Ok(Self::new(recorded.cause, recorded.message))
    }
}

/// The text of an error and of its sources, joined by colons. A source is left out where it is a signal, or where the
/// text before it ends with it already (many errors print their source themselves).
fn chain_text(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        if !source.is::<Signal>() {
            let more = source.to_string();
            if !text.ends_with(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
        }
        next = source.source();
    }
    text
}

fn signal_in(error: &(dyn StdError + 'static)) -> Option<Cause> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(task_error) = error.downcast_ref::<TaskError>() {
            return Some(task_error.cause().clone());
        }
        if let Some(Signal(cause)) = error.downcast_ref() {
            return Some(cause.clone());
        }
        next = error.source();
    }
    None
}

/// An error that must not be retried: the task fails at once, whatever retries it has left.
///
/// # Examples
///
/// ```
/// use orchestrator::prelude::*;
///
/// #[task(retries = 5)]
/// async fn log_in(user: &str) -> Result<u32> {
///     if user.is_empty() {
///         return Err(fatal("no user is given").into());
///     }
///     Ok(1)
/// }
/// ```
pub fn fatal(error: impl Into<BoxError>) -> TaskError {
    TaskError::signalled(Cause::Fatal, error.into())
}

/// Says that there is nothing to do: the task is [`Skipped`](crate::TaskState::Skipped), and by the default rule so are
/// the tasks that take its result. A run with skipped tasks is not red.
pub fn skip(reason: impl fmt::Display) -> TaskError {
    TaskError::new(Cause::Skipped, reason.to_string())
}

/// An error after which the next attempt, if there is one left, starts `delay` later, whatever `retry_delay` says: for
/// servers that say when they want to be asked again.
pub fn retry_after(delay: Duration, error: impl Into<BoxError>) -> TaskError {
    TaskError::signalled(Cause::RetryAfter(delay), error.into())
}

/// What a body may fail with: anything that converts into a boxed error, such as any `std::error::Error`, an
/// `anyhow::Error`, or a text.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a task or a flow",
    label = "not an error",
    note = "implement `std::error::Error` for it (derive `thiserror::Error`), or return the prelude's `Result<T>`"
)]
pub trait IntoTaskError {
    #[doc(hidden)]
    fn into_task_error(self) -> TaskError;
}

#[diagnostic::do_not_recommend]
impl<E: Into<BoxError>> IntoTaskError for E {
    fn into_task_error(self) -> TaskError {
        TaskError::from_body(self.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("while reading")]
    struct Wrapped(#[source] TaskError);

    #[test]
    fn a_signal_is_found_through_wrapping() {
        let error = Wrapped(fatal("no such table")).into_task_error();
        assert!(error.is_fatal());
        assert_eq!(error.to_string(), "while reading: no such table");
        assert!(error.downcast_ref::<Wrapped>().is_some());
    }

    #[test]
    fn a_source_that_is_printed_already_is_not_repeated() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer: {0}")]
        struct Outer(#[source] std::num::ParseIntError);
        let error = Outer("x".parse::<u32>().unwrap_err()).into_task_error();
        assert_eq!(error.to_string(), "outer: invalid digit found in string");
        assert!(!error.is_fatal());
    }

    #[test]
    fn text_is_an_error() {
        assert_eq!("down".into_task_error().to_string(), "down");
        assert_eq!(skip("no rows").to_string(), "no rows");
    }
}
