//! The states of runs and tasks, and their transitions.

use std::fmt;

/// The state of a task in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TaskState {
    /// The task has not started: it waits for its upstreams, or for a slot.
    Pending,
    /// An attempt is running.
    Running,
    /// An attempt failed, and the next one is scheduled.
    Retrying,
    /// The task succeeded: it has a result, possibly a cached one.
    Success,
    /// Its last attempt failed.
    Failed,
    /// The task was skipped, by its body or by its trigger rule.
    Skipped,
    /// The task did not run because one of its inputs is missing.
    UpstreamFailed,
    /// The run was cancelled before the task was done.
    Cancelled,
}

impl TaskState {
    /// Returns `true` if the state is final.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Success | Self::Failed | Self::Skipped | Self::UpstreamFailed | Self::Cancelled
        )
    }

    /// Returns `true` if a task in this state may change to `next`. All rules are in this function.
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

    /// Returns `true` if this state may be recorded after `old`. An attempt that never waited is
    /// recorded only once, when it is over, so `Running` may be skipped. Tasks that a re-run resets
    /// to pending are recorded for the whole run at once.
    pub(crate) fn may_be_recorded_after(self, old: Self) -> bool {
        let ran = matches!(old, Self::Pending | Self::Retrying) && Self::Running.may_become(self);
        self != Self::Pending && (old.may_become(self) || ran)
    }

    /// Returns the name, such as `upstream_failed`.
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

/// The origin of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunKind {
    /// Requested by a user or a program.
    Manual,
    /// Created by a schedule.
    Scheduled,
    /// Created by a backfill, for a past date.
    Backfill,
}

impl RunKind {
    /// Returns `true` if its logical date is a tick of the flow's schedule, which has only one run.
    pub(crate) fn has_tick(self) -> bool {
        self != Self::Manual
    }

    /// Returns the name, such as `scheduled`.
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
    /// The run was accepted and has not started, or was left and waits to be resumed: other runs of
    /// its flow come first.
    Pending,
    /// The run is active.
    Running,
    /// The run is done, and every failure in it was handled.
    Success,
    /// The run is done, and a failure in it was not handled.
    Failed,
    /// The run was cancelled.
    Cancelled,
}

impl RunState {
    /// Returns `true` if the state is final.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Failed | Self::Cancelled)
    }

    /// Returns `true` if a run in this state may change to `next`. Only a re-run leaves a final
    /// state.
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Pending => matches!(next, Self::Running | Self::Failed | Self::Cancelled),
            Self::Running => next.is_final(),
            Self::Success | Self::Failed | Self::Cancelled => next == Self::Pending,
        }
    }

    /// Returns the name, such as `success`.
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

/// The tasks of a finished run to re-run.
///
/// A task is named by its key: `process`, `process#2` for the second use, `process[7]` for an
/// element, `report/load` in a flow in the flow. The key of a mapped task without an index selects
/// all of its elements, and that of a nested flow all of its tasks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rerun {
    /// All tasks.
    All,
    /// The tasks that failed or were cancelled, those that did not run because of that, and
    /// everything downstream of them. For a mapping, this selects the elements that failed, and the
    /// same elements of its downstream tasks in the mapping.
    Failed,
    /// A task, and everything downstream of it.
    From(String),
    /// A task alone. Its downstream tasks keep their results.
    Only(String),
}

impl fmt::Display for Rerun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all tasks"),
            Self::Failed => f.write_str("the failed tasks"),
            Self::From(key) => write!(f, "`{key}` and everything downstream"),
            Self::Only(key) => write!(f, "`{key}` alone"),
        }
    }
}
