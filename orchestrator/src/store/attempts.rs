use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::TaskEnd;
use super::tables::{Row, RunTables};
use crate::error::{Cause, TaskError};
use crate::state::TaskState;

/// One attempt of one task, as it is recorded.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AttemptRecord {
    /// The task's key, as `process[7]`.
    pub key: String,
    /// The number of the attempt, from 1. After a re-run numbers go on.
    pub number: u32,
    /// How it ended; `Running` while it is under way, `Retrying` where it failed and the next one has a time.
    pub state: TaskState,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// When it ended; none while it is under way, and where its process died.
    pub finished_at: Option<DateTime<Utc>>,
    /// Why it is no success.
    pub error: Option<TaskError>,
}

/// A state that a node, or an element of one, went over into.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    frame: u32,
    cell: u32,
    row: Row,
    /// As of [`TaskEnd`].
    failed: Option<i64>,
}

impl Change {
    /// One that no other came after.
    pub(crate) fn last(frame: u32, cell: u32, row: Row) -> Self {
        Self {
            frame,
            cell,
            row,
            failed: None,
        }
    }

    fn ended(&self) -> Option<i64> {
        self.failed
            .or_else(|| self.row.state.is_final().then_some(self.row.finished))
    }
}

impl From<&TaskEnd> for Change {
    fn from(end: &TaskEnd) -> Self {
        Self {
            frame: end.frame,
            cell: end.cell,
            row: end.row.clone(),
            failed: end.failed,
        }
    }
}

/// The attempts that changes tell of, which are given in the order in which they were recorded; in the order of their
/// starts.
pub(crate) fn attempts(
    tables: &RunTables,
    changes: impl Iterator<Item = Change>,
) -> Vec<AttemptRecord> {
    let regions = tables.nodes_by_region();
    let mut list: Vec<AttemptRecord> = Vec::new();
    let mut last_of: HashMap<(u32, u32), usize> = HashMap::new();
    let instant = |micros: i64| DateTime::from_timestamp_micros(micros).unwrap_or_default();
    for change in changes {
        let finished_at = change.ended().map(instant);
        let Change {
            frame: number,
            cell,
            row,
            ..
        } = change;
        let Some(frame) = tables.frames.get(number as usize) else {
            continue;
        };
        let len = frame.meta.len.max(1);
        let nodes = regions.get(&frame.meta.region);
        let node = nodes.and_then(|nodes| {
            tables
                .nodes
                .get(*nodes.get((cell / len) as usize)? as usize)
        });
        let Some(node) = node.filter(|node| !node.hidden) else {
            continue;
        };
        let last = last_of.get(&(number, cell)).copied();
        if let Some(last) = last
            .map(|last| &mut list[last])
            .filter(|last| !last.state.is_final())
        {
            let goes_on = last.number == u32::from(row.attempts);
            match (row.state, last.state) {
                // the attempt itself goes over into another state
                (state, TaskState::Running) if goes_on => {
                    (last.state, last.finished_at, last.error) = (state, finished_at, row.error);
                    continue;
                }
                // it waited for the next one, which never came
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
        // who did not run has no attempt, but perhaps had one before
        if row.attempts == 0
            || row.started == 0
            || last.is_some_and(|last| list[last].number >= row.attempts.into())
        {
            continue;
        }
        last_of.insert((number, cell), list.len());
        list.push(AttemptRecord {
            key: node.key(&tables.path(number, cell % len)),
            number: row.attempts.into(),
            state: row.state,
            started_at: instant(row.started),
            finished_at,
            error: row.error,
        });
    }
    list.sort_by_key(|attempt| attempt.started_at);
    list
}
