use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::BoxError;
use super::secrets::without_queries;
use crate::bounds;
use crate::mask;
use crate::panic::Fragile;

/// The reason why a task does not have a result: it failed, timed out, panicked or was skipped, or
/// one of its inputs is missing.
///
/// In a body, it is created by [`fatal`], [`skip`], [`retry_after`] and [`reconnect`], and returned by awaiting a
/// node. It converts with `?` into any error that accepts a `std::error::Error`: the prelude's
/// `Result`, anyhow, an enum with `#[from] TaskError`.
///
/// The text of a failure is that of the body's error and of its sources: "while reading: no such
/// table". A text of more than 16 KiB is truncated in the middle.
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
pub struct TaskError(Arc<TaskErrorInner>);

struct TaskErrorInner {
    message: String,
    signal: Signal,
    error: Option<Fragile<BoxError>>,
}

/// The signal of an error to the runtime. It is the `source()` of a [`TaskError`], so it is found
/// in the chain of sources however the error was wrapped: by `#[error(transparent)]`, by
/// `.context(…)`, by boxing.
#[derive(Clone, Debug)]
pub(crate) struct Signal(pub(crate) Cause);

/// Kinds of [`TaskError`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Cause {
    Failed,
    Fatal,
    Skipped,
    RetryAfter(Duration),
    Reconnect,
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
            Cause::Reconnect => "the task asked for new clients",
            Cause::TimedOut(_) => "the task timed out",
            Cause::Panicked => "the task panicked",
            Cause::Crashed => "the task's process died",
            Cause::UpstreamFailed => "an input of the task is missing",
            Cause::Cancelled => "the run was cancelled",
        })
    }
}

impl StdError for Signal {}

/// The message and the location of a panic.
#[derive(Clone, Debug, Default)]
pub(crate) struct PanicReport {
    pub(crate) message: String,
    pub(crate) place: Option<String>,
}

impl PanicReport {
    /// Extracts the message of a panic.
    pub(crate) fn from_payload(payload: &(dyn std::any::Any + Send)) -> Self {
        let message = match (
            payload.downcast_ref::<&str>(),
            payload.downcast_ref::<String>(),
        ) {
            (Some(text), _) => (*text).to_owned(),
            (_, Some(text)) => text.clone(),
            _ => "a payload that is not text".to_owned(),
        };
        Self {
            message,
            place: None,
        }
    }
}

impl fmt::Display for PanicReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "panicked at {place}: {}", self.message),
            None => write!(f, "panicked: {}", self.message),
        }
    }
}

impl TaskError {
    pub(crate) fn new(cause: Cause, message: impl Into<String>) -> Self {
        let message = excerpt(message.into());
        Self(Arc::new(TaskErrorInner {
            message,
            signal: Signal(cause),
            error: None,
        }))
    }

    /// Converts the error of a body, with the signal from anywhere in its chain of sources.
    fn from_body(error: BoxError) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(task_error) => return *task_error,
            Err(error) => error,
        };
        let cause = signal_in(&*error).unwrap_or(Cause::Failed);
        Self::signalled(cause, error)
    }

    fn signalled(cause: Cause, error: BoxError) -> Self {
        let message = error_text(&*error);
        Self(Arc::new(TaskErrorInner {
            message,
            signal: Signal(cause),
            error: Some(Fragile::new(error)),
        }))
    }

    pub(crate) fn panicked(panicked: &PanicReport) -> Self {
        Self::new(Cause::Panicked, panicked.to_string())
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

    /// Returns the body's own error, or one of its sources, if it is an `E`.
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        let mut next: Option<&(dyn StdError + 'static)> =
            self.0.error.as_deref().map(|error| &**error as _);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }

    /// Returns `true` if the task failed with an error that must not be retried ([`fatal`]).
    pub fn is_fatal(&self) -> bool {
        *self.cause() == Cause::Fatal
    }

    /// Returns `true` if the task was skipped, by its body ([`skip`]) or by its trigger rule.
    pub fn is_skipped(&self) -> bool {
        *self.cause() == Cause::Skipped
    }

    /// Returns `true` if an attempt or the run exceeded its timeout.
    pub fn is_timeout(&self) -> bool {
        matches!(self.cause(), Cause::TimedOut(_))
    }

    /// Returns `true` if the body panicked.
    pub fn is_panic(&self) -> bool {
        *self.cause() == Cause::Panicked
    }

    /// Returns `true` if the task's process died while the task ran, too often for another attempt.
    pub fn is_crash(&self) -> bool {
        *self.cause() == Cause::Crashed
    }

    /// Returns `true` if the task did not run because one of its inputs is missing.
    pub fn is_upstream_failed(&self) -> bool {
        *self.cause() == Cause::UpstreamFailed
    }

    /// Returns `true` if the run was cancelled.
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

/// The part of an error that outlives its process: its text and its signal.
#[derive(Serialize, Deserialize)]
#[serde(rename = "TaskError")]
struct RecordedError<'a> {
    message: std::borrow::Cow<'a, str>,
    cause: Cause,
}

impl Serialize for TaskError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RecordedError {
            message: self.0.message.as_str().into(),
            cause: self.cause().clone(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TaskError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let recorded = RecordedError::deserialize(deserializer)?;
        Ok(Self::new(recorded.cause, recorded.message))
    }
}

/// Returns the text of an error and of its sources, joined by colons. A source is left out if it is
/// a signal, or if the text before it already ends with it (many errors print their source
/// themselves).
pub(crate) fn error_text(error: &(dyn StdError + 'static)) -> String {
    let mut text = excerpt(error);
    let mut next = error.source();
    while let Some(source) = next {
        if !source.is::<Signal>() {
            let more = excerpt(source);
            if !text.ends_with(&more) {
                text = excerpt(format_args!("{text}: {more}"));
            }
        }
        next = source.source();
    }
    text
}

/// Truncates the text of an error in the middle: its beginning has the context, and its end often
/// the cause. Secrets are masked, and so are the queries of URLs, which clients add to their errors.
fn excerpt(error: impl fmt::Display) -> String {
    const TAIL: usize = bounds::ERROR / 4;
    without_queries(mask::excerpt(error, bounds::ERROR - TAIL, TAIL))
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

/// Creates an error that must not be retried: the task fails at once, regardless of the retries it
/// has left.
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

/// Creates an error that skips the task: it becomes [`Skipped`](crate::TaskState::Skipped), and by
/// the default trigger rule so do the tasks that take its result. Skipped tasks do not fail a run.
pub fn skip(reason: impl fmt::Display) -> TaskError {
    TaskError::new(Cause::Skipped, excerpt(reason))
}

/// Creates an error after which the next attempt, if one is left, starts `delay` later, regardless
/// of `retry_delay`. Use it for servers that tell when to retry.
pub fn retry_after(delay: Duration, error: impl Into<BoxError>) -> TaskError {
    TaskError::signalled(Cause::RetryAfter(delay), error.into())
}

/// Creates an error after which the clients that the attempt took are made anew
/// ([`Connect`](crate::Connect)). The attempt has failed, and is retried as any other. Use it if a client
/// no longer works, such as after a failover of a database.
///
/// # Examples
///
/// ```
/// use orchestrator::prelude::*;
/// use orchestrator::Connection;
///
/// #[task(retries = 3)]
/// async fn load(#[connection("warehouse")] warehouse: &Connection) -> Result<u64> {
///     match warehouse.host() {
///         Some(_) => Ok(7),
///         None => Err(reconnect("the server is read-only").into()),
///     }
/// }
/// ```
pub fn reconnect(error: impl Into<BoxError>) -> TaskError {
    TaskError::signalled(Cause::Reconnect, error.into())
}

/// An error that a body may return: anything that converts into a boxed error, such as any
/// `std::error::Error`, an `anyhow::Error`, or a text.
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
    fn a_long_text_is_cut_in_the_middle_wherever_it_comes_from() {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Long(String, #[source] Wrapped);
        let long = || format!("begins{}ends", "x".repeat(1 << 20));
        let wrapped = || Wrapped(TaskError::new(Cause::Failed, long()));
        let panicked = PanicReport {
            message: long(),
            place: None,
        };
        let recorded = rmp_serde::to_vec(&(long(), Cause::Failed)).unwrap();
        for error in [
            long().into_task_error(),
            fatal(long()),
            skip(long()),
            retry_after(Duration::ZERO, long()),
            TaskError::panicked(&panicked),
            wrapped().into_task_error(),
            Long(long(), wrapped()).into_task_error(),
            rmp_serde::from_slice(&recorded).unwrap(),
        ] {
            let text = error.to_string();
            assert!(text.len() <= bounds::ERROR + 50, "{} bytes", text.len());
            assert!(
                text.contains("begins")
                    && text.ends_with("ends")
                    && text.contains(" bytes are cut out"),
                "{text}"
            );
        }
        // in memory, the error itself is kept
        let error = Long(long(), wrapped()).into_task_error();
        assert!(
            error
                .downcast_ref::<Long>()
                .is_some_and(|error| error.0 == long())
        );
    }

    #[test]
    fn text_is_an_error() {
        assert_eq!("down".into_task_error().to_string(), "down");
        assert_eq!(skip("no rows").to_string(), "no rows");
    }
}
