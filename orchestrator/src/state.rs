//! The states of runs and tasks, and which may follow which.

use std::fmt;

/// The state of a task in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TaskState {
    /// It has not started: it waits for its upstreams, or for a slot.
    Pending,
    /// An attempt is under way.
    Running,
    /// An attempt failed, and the next one has a time.
    Retrying,
    /// It has a result (perhaps a cached one).
    Success,
    /// Its last attempt failed.
    Failed,
    /// It was not meant to run this time: its body said so, or its trigger rule.
    Skipped,
    /// It did not run, because what it takes is not there.
    UpstreamFailed,
    /// The run was cancelled before it was done.
    Cancelled,
}

impl TaskState {
    /// Whether the state is a last one.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Success | Self::Failed | Self::Skipped | Self::UpstreamFailed | Self::Cancelled
        )
    }

    /// Whether a task in this state may go over into `next`. All of the rules are here.
    ///
    /// ```text
    ///  Pending ──► Running ──► Success | Failed | Skipped | Cancelled
    ///     │         │   ▲
    ///     │         ▼   │
    ///     │       Retrying ──► Cancelled
    ///     └──► Success (cached) | Skipped | UpstreamFailed | Cancelled
    ///
    ///  Success | Failed | Skipped | UpstreamFailed | Cancelled ──► Pending (by a re-run alone)
    /// ```
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Pending => next != Self::Pending && next != Self::Retrying,
            Self::Running => {
                matches!(
                    next,
                    Self::Retrying | Self::Success | Self::Failed | Self::Skipped | Self::Cancelled
                )
            }
            Self::Retrying => matches!(next, Self::Running | Self::Cancelled),
            Self::Success
            | Self::Failed
            | Self::Skipped
            | Self::UpstreamFailed
            | Self::Cancelled => next == Self::Pending,
        }
    }

    /// Whether this state may be recorded where `old` was: an attempt that never waited is recorded once, when it is
    /// over, so that `Running` may be passed over. What a re-run makes pending is recorded for all of the run at once.
    pub(crate) fn may_be_recorded_after(self, old: Self) -> bool {
        let ran = matches!(old, Self::Pending | Self::Retrying) && Self::Running.may_become(self);
        self != Self::Pending && (old.may_become(self) || ran)
    }

    /// The name, as `upstream_failed`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::UpstreamFailed => "upstream_failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why there is a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunKind {
    /// Somebody asked for it.
    Manual,
    /// Its schedule did.
    Scheduled,
    /// It makes up for a date of the past.
    Backfill,
}

impl RunKind {
    /// Whether its logical date is a tick of the flow's schedule, of which there is one run.
    pub(crate) fn has_tick(self) -> bool {
        self != Self::Manual
    }

    /// The name, as `scheduled`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Scheduled => "scheduled",
            Self::Backfill => "backfill",
        }
    }
}

impl fmt::Display for RunKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The state of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunState {
    /// It was accepted and has not started, or was left and waits to go on: other runs of its flow come first.
    Pending,
    /// It is under way.
    Running,
    /// It is done, and every failure in it was handled.
    Success,
    /// A failure in it was not handled.
    Failed,
    /// Someone asked for its end.
    Cancelled,
}

impl RunState {
    /// Whether the state is a last one.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Failed | Self::Cancelled)
    }

    /// Whether a run in this state may go over into `next`. A final state is left by a re-run alone.
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Pending => matches!(next, Self::Running | Self::Failed | Self::Cancelled),
            Self::Running => next.is_final(),
            Self::Success | Self::Failed | Self::Cancelled => next == Self::Pending,
        }
    }

    /// The name, as `success`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What of a finished run is to run again.
///
/// A task is named by its key: `process`, `process#2` for the second use, `process[7]` for an element, `report/load` in
/// a flow in the flow. The key of a mapped task without an index stands for all of its elements, that of a flow in the
/// flow for all of its tasks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rerun {
    /// Everything.
    All,
    /// What failed or was cancelled, what did not run because of that, and everything that hangs on these: of a mapping
    /// the elements that failed, and of what comes after it in the mapping the same elements.
    Failed,
    /// A task, and everything that hangs on it.
    From(String),
    /// A task alone: what takes its result keeps the result that it had.
    Only(String),
}

impl fmt::Display for Rerun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Failed => f.write_str("what failed"),
            Self::From(key) => write!(f, "`{key}` and what hangs on it"),
            Self::Only(key) => write!(f, "`{key}` alone"),
        }
    }
}
