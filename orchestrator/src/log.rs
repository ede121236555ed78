//! Log lines.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::id::RunId;

/// The target of the library's own spans and log lines.
pub(crate) const TARGET: &str = "orchestrator";

/// A line of a run's log: a `tracing` event inside the run.
///
/// A line of a task has the task's key and attempt; lines of the run itself and of the flow's body
/// do not. Read lines with [`Runtime::logs`](crate::Runtime::logs).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LogLine {
    /// The number of the line in the log of its run: greater than that of every line stored before
    /// it, by any process.
    pub number: u64,
    /// The time of the event, by the runtime's clock.
    pub at: DateTime<Utc>,
    /// The level of the event.
    pub level: LogLevel,
    /// The target of the event: by default the path of the module.
    pub target: String,
    /// The message. A message of more than 16 KiB is truncated, which its end tells.
    pub message: String,
    /// The fields of the event, by name. Numbers and booleans keep their types; all other values
    /// are text, truncated like the message.
    pub fields: serde_json::Map<String, serde_json::Value>,
    /// The run.
    pub run: RunId,
    /// The node's key, like [`TaskRun::key`](crate::TaskRun::key), such as `process[3]`. `None` for
    /// lines of the run itself.
    pub task: Option<String>,
    /// The number of the attempt, from 1.
    pub attempt: Option<u32>,
    /// The index of the mapped element, from 0.
    pub map_index: Option<usize>,
}

impl LogLine {
    /// Creates a line of a run itself, without fields.
    pub(crate) fn new(run: RunId, at: DateTime<Utc>, level: LogLevel, message: String) -> Self {
        Self {
            number: 0,
            at,
            level,
            target: TARGET.to_owned(),
            message,
            fields: serde_json::Map::new(),
            run,
            task: None,
            attempt: None,
            map_index: None,
        }
    }
}

/// The level of a [`LogLine`]. More severe levels are greater. (`tracing::Level` has the opposite
/// order, and cannot be serialized.)
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
    /// Very detailed information.
    Trace,
    /// Information for debugging.
    Debug,
    /// General information.
    Info,
    /// A problem that needs attention.
    Warn,
    /// A failure.
    Error,
}

impl LogLevel {
    /// Returns the name of the level in lower case, such as `info`.
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
