use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::TaskEnd;
use super::place::{ElementPlace, RowPlace};
use super::row::{CellState, Row};
use super::tables::RunTables;
use crate::clock::Timestamp;
use crate::error::{Cause, TaskError};
use crate::state::TaskState;

/// One recorded attempt of a task.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AttemptRecord {
    /// The task's key, such as `process[7]`.
    pub key: String,
    /// The number of the attempt, from 1. Numbers continue after a re-run.
    pub number: u32,
    /// The state of the attempt: how it ended, `Running` while it is under way, or `Retrying` if it
    /// failed and the next attempt is scheduled.
    pub state: TaskState,
    /// When the attempt started.
    pub started_at: DateTime<Utc>,
    /// When the attempt ended. `None` while it is under way, and if its process died.
    pub finished_at: Option<DateTime<Utc>>,
    /// The error of an attempt that did not succeed.
    pub error: Option<TaskError>,
}

/// A change of state of a node, or of an element of one.
#[derive(Clone, Debug)]
pub(crate) struct StateChange {
    place: RowPlace,
    state: CellState,
    attempts: u16,
    error: Option<TaskError>,
}

impl StateChange {
    /// Creates the change that led to the current state of a row.
    pub(crate) fn last(place: RowPlace, row: &Row) -> Self {
        Self {
            place,
            state: row.state(),
            attempts: row.attempts,
            error: row.error.clone(),
        }
    }

    /// Returns when the attempt ended.
    fn ended(&self) -> Option<Timestamp> {
        match self.state {
            CellState::Pending | CellState::Running { .. } => None,
            CellState::Retrying { failed, .. } => failed,
            CellState::Ended { at, .. } => Some(at),
        }
    }
}

impl From<&TaskEnd> for StateChange {
    fn from(end: &TaskEnd) -> Self {
        Self {
            place: end.place,
            state: end.state,
            attempts: end.attempts,
            error: end.error.clone(),
        }
    }
}

/// Derives the attempts from changes of state. `changes` are in the order in which they were
/// recorded; the attempts are sorted by their start.
pub(crate) fn attempts(
    tables: &RunTables,
    changes: impl Iterator<Item = StateChange>,
) -> Vec<AttemptRecord> {
    let regions = tables.nodes_by_region();
    let mut list: Vec<AttemptRecord> = Vec::new();
    let mut last_of: HashMap<RowPlace, usize> = HashMap::new();
    let instant = |at: Timestamp| at.to_datetime().unwrap_or_default();
    for change in changes {
        let finished_at = change.ended().map(instant);
        let StateChange {
            place,
            state,
            attempts,
            error,
        } = change;
        let RowPlace { frame, cell } = place;
        let Some(frame) = tables.frames.get(frame) else {
            continue;
        };
        let len = frame.meta.len.max(1);
        let nodes = regions.get(&frame.meta.region);
        let node = nodes.and_then(|nodes| tables.nodes.get(*nodes.get((cell / len) as usize)?));
        let Some(node) = node.filter(|node| !node.hidden) else {
            continue;
        };
        let last = last_of.get(&place).copied();
        if let Some(last) = last
            .map(|last| &mut list[last])
            .filter(|last| !last.state.is_final())
        {
            let goes_on = last.number == u32::from(attempts);
            match (state.task_state(), last.state) {
                // the attempt itself goes over into another state
                (state, TaskState::Running) if goes_on => {
                    (last.state, last.finished_at, last.error) = (state, finished_at, error);
                    continue;
                }
                // the next attempt never started: the run ended, or its process died
                (_, TaskState::Retrying) if goes_on => {
                    last.state = TaskState::Failed;
                    continue;
                }
                (_, TaskState::Running) => {
                    last.error = Some(TaskError::new(
                        Cause::Crashed,
                        "its process died while it ran",
                    ));
                    last.state = TaskState::Failed;
                }
                _ => last.state = TaskState::Failed,
            }
        }
        // a task that did not run has no attempt, but may have had one before
        let Some(started) = state.started() else {
            continue;
        };
        if attempts == 0 || last.is_some_and(|last| list[last].number >= attempts.into()) {
            continue;
        }
        last_of.insert(place, list.len());
        let element = ElementPlace {
            frame: place.frame,
            index: cell % len,
        };
        list.push(AttemptRecord {
            key: node.key(&tables.path(element)),
            number: attempts.into(),
            state: state.task_state(),
            started_at: instant(started),
            finished_at,
            error,
        });
    }
    list.sort_by_key(|attempt| attempt.started_at);
    list
}
