use serde::{Deserialize, Serialize};

use crate::error::TaskError;

/// The outcome of a task. A parameter of this type takes the outcome whatever it is, and so handles
/// a failure.
///
/// # Examples
///
/// ```
/// use orchestrator::prelude::*;
///
/// #[task]
/// async fn report(rows: Outcome<u64>) -> String {
///     match rows {
///         Outcome::Success(rows) => format!("{rows} rows"),
///         Outcome::Failed(error) => format!("failed: {error}"),
///         Outcome::Skipped(reason) => format!("nothing to do: {reason}"),
///         Outcome::UpstreamFailed => "something before it failed".into(),
///     }
/// }
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Outcome<T> {
    /// The task succeeded, with this value.
    Success(T),
    /// The task failed.
    Failed(TaskError),
    /// The task was skipped, for this reason.
    Skipped(String),
    /// The task did not run, because one of its inputs is missing.
    UpstreamFailed,
}

impl<T> Outcome<T> {
    /// Returns `true` if the task succeeded.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Success(_))
    }

    /// Returns the value if the task succeeded.
    pub fn success(self) -> Option<T> {
        match self {
            Self::Success(value) => Some(value),
            Self::Failed(_) | Self::Skipped(_) | Self::UpstreamFailed => None,
        }
    }

    /// Returns the error if the task failed.
    pub fn error(&self) -> Option<&TaskError> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Success(_) | Self::Skipped(_) | Self::UpstreamFailed => None,
        }
    }
}
