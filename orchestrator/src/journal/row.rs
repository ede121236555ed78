//! The state of one node, or of one element of a node.

use crate::clock::Timestamp;
use crate::error::TaskError;
use crate::state::TaskState;

/// A task's state, with the times that belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CellState {
    /// It has not started, or is to run again.
    Pending,
    /// An attempt is under way.
    Running {
        /// When the attempt started.
        since: Timestamp,
    },
    /// The last attempt failed, and waits for the next one.
    Retrying {
        /// When the attempt that failed started.
        started: Timestamp,
        /// When it failed. Set in a transition, but not kept in a row.
        failed: Option<Timestamp>,
        /// When the next attempt is due.
        due: Timestamp,
    },
    /// It came to its end.
    Ended {
        /// The final state.
        state: TaskState,
        /// When the last attempt started, if any.
        started: Option<Timestamp>,
        /// When it ended.
        at: Timestamp,
    },
}

impl CellState {
    /// Returns the state without its times.
    pub(crate) fn task_state(self) -> TaskState {
        match self {
            Self::Pending => TaskState::Pending,
            Self::Running { .. } => TaskState::Running,
            Self::Retrying { .. } => TaskState::Retrying,
            Self::Ended { state, .. } => state,
        }
    }

    /// Returns when the last attempt started.
    pub(crate) fn started(self) -> Option<Timestamp> {
        match self {
            Self::Pending => None,
            Self::Running { since } => Some(since),
            Self::Retrying { started, .. } => Some(started),
            Self::Ended { started, .. } => started,
        }
    }
}

/// The state of one node, or of one element of a node, with the counts of its attempts.
// a run of a million tasks has a million of these: a `CellState` in place of the first three fields
// would make each a quarter larger
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// When the last attempt started.
    started: Option<Timestamp>,
    /// When it ended or, while it is retrying, when the next attempt is due. Otherwise unused.
    until: Timestamp,
    state: TaskState,
    pub(crate) error: Option<TaskError>,
    pub(crate) attempts: u16,
    /// The number of attempts that ended with their process, which died or was stopped.
    pub(crate) crashes: u16,
    /// The number of attempts that do not count as tries: those, and all that were made before a
    /// re-run.
    pub(crate) uncounted: u16,
    /// Whether it is to run again and has not ended since.
    pub(crate) cleared: bool,
}

impl Row {
    pub(crate) const PENDING: Self = Self {
        started: None,
        until: Timestamp::EPOCH,
        state: TaskState::Pending,
        error: None,
        attempts: 0,
        crashes: 0,
        uncounted: 0,
        cleared: false,
    };

    /// Returns the state with its times.
    pub(crate) fn state(&self) -> CellState {
        match self.state {
            TaskState::Pending => CellState::Pending,
            TaskState::Running => CellState::Running {
                since: self.started.unwrap_or(Timestamp::EPOCH),
            },
            TaskState::Retrying => CellState::Retrying {
                started: self.started.unwrap_or(Timestamp::EPOCH),
                failed: None,
                due: self.until,
            },
            state @ (TaskState::Success
            | TaskState::Failed
            | TaskState::Skipped
            | TaskState::UpstreamFailed
            | TaskState::Cancelled) => CellState::Ended {
                state,
                started: self.started,
                at: self.until,
            },
        }
    }

    /// Returns the state without its times.
    pub(crate) fn task_state(&self) -> TaskState {
        self.state
    }

    /// Puts the row into another state.
    pub(super) fn set_state(&mut self, state: CellState) {
        self.state = state.task_state();
        self.started = state.started();
        self.until = match state {
            CellState::Pending | CellState::Running { .. } => Timestamp::EPOCH,
            CellState::Retrying { due, .. } => due,
            CellState::Ended { state, at, .. } => {
                debug_assert!(state.is_final(), "a task ended as {state}");
                at
            }
        };
    }

    /// Returns `true` if the row is to run again and no attempt has started since.
    pub(crate) fn is_rerun_pending(&self) -> bool {
        self.cleared && self.state == TaskState::Pending
    }

    /// Returns the row that supersedes this one: pending, and with its attempts, which no longer
    /// count as tries.
    pub(super) fn for_rerun(&self) -> Self {
        let Self {
            attempts,
            crashes,
            cleared,
            ..
        } = *self;
        Self {
            attempts,
            crashes,
            uncounted: attempts,
            cleared,
            ..Self::PENDING
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of a million tasks has a million of these.
    #[test]
    fn a_row_is_small() {
        assert_eq!(size_of::<Row>(), 32);
    }

    #[test]
    fn a_row_is_in_the_state_that_it_became() {
        let time = Timestamp::from_micros;
        let ended = |state, started| CellState::Ended {
            state,
            started,
            at: time(9),
        };
        let states = [
            CellState::Pending,
            CellState::Running { since: time(0) },
            CellState::Running { since: time(7) },
            CellState::Retrying {
                started: time(7),
                failed: None,
                due: time(8),
            },
            ended(TaskState::Success, Some(time(7))),
            ended(TaskState::Failed, Some(time(0))),
            ended(TaskState::Skipped, None),
            ended(TaskState::UpstreamFailed, None),
            ended(TaskState::Cancelled, Some(time(8))),
        ];
        let mut row = Row::PENDING;
        for state in states.into_iter().chain(states) {
            row.set_state(state);
            assert_eq!((row.state(), row.task_state()), (state, state.task_state()));
        }
        row.set_state(CellState::Retrying {
            started: time(7),
            failed: Some(time(8)),
            due: time(9),
        });
        assert!(matches!(
            row.state(),
            CellState::Retrying { failed: None, .. }
        ));
    }
}
