//! Lines of logs.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::id::RunId;

/// A line of a run's log: a `tracing` event inside of it.
///
/// What belongs to a task says which, with its attempt; what the run itself says, or the body of the flow, says none.
/// Read them with [`Runtime::logs`](crate::Runtime::logs).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LogLine {
    /// The line's place in the log of its run: greater than that of every line stored before, in whatever process.
    pub number: u64,
    /// When it was said, by the runtime's clock.
    pub at: DateTime<Utc>,
    /// How grave it is.
    pub level: LogLevel,
    /// Where in the program it was said: by default the path of the module.
    pub target: String,
    /// The text. What is longer than 16 KiB is cut, and says so at its end.
    pub message: String,
    /// What was said beside the text, by name. Numbers and booleans are such; all else is text, cut as the message is.
    pub fields: serde_json::Map<String, serde_json::Value>,
    /// The run.
    pub run: RunId,
    /// The node's key, as [`TaskRun::key`](crate::TaskRun::key): `process[3]`. None for what the run itself says.
    pub task: Option<String>,
    /// The number of the attempt, from 1.
    pub attempt: Option<u32>,
    /// The index of the mapped element, from 0.
    pub map_index: Option<usize>,
}

/// How grave a [`LogLine`] is: the graver, the greater. (`tracing::Level` is ordered the other way round, and has no form
/// in JSON.)
///
/// # Examples
///
/// ```
/// use orchestrator::LogLevel;
///
/// assert!(LogLevel::Error > LogLevel::Info);
/// assert_eq!(LogLevel::Warn.to_string(), "warn");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Every step.
    Trace,
    /// What helps to find a mistake.
    Debug,
    /// What people like to know.
    Info,
    /// What people should look at.
    Warn,
    /// What failed.
    Error,
}

impl LogLevel {
    /// The level in lower case: `info`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<tracing::Level> for LogLevel {
    fn from(level: tracing::Level) -> Self {
        match level {
            tracing::Level::TRACE => Self::Trace,
            tracing::Level::DEBUG => Self::Debug,
            tracing::Level::INFO => Self::Info,
            tracing::Level::WARN => Self::Warn,
            tracing::Level::ERROR => Self::Error,
        }
    }
}
