//! Runs as they are read: their recorded transitions are checked, and applied in order.

use std::collections::HashMap;

use super::rows::Unreadable;
use crate::blob::BlobRef;
use crate::index::FrameNumber;
use crate::journal::transition::CellRange;
use crate::journal::{ClearedRows, FrameMeta, History, RowPlace, RunTables, Transition};
use crate::state::TaskState;

/// A run to be resumed or re-run, as it was read.
pub(crate) struct RecordedRun {
    pub(crate) row: i64,
    pub(crate) next: u32,
    pub(crate) history: History,
    pub(crate) blobs: HashMap<RowPlace, BlobRef>,
}

impl RecordedRun {
    /// Applies a re-run of the run: cleared rows have no results any more.
    pub(crate) fn clear(&mut self, cleared: ClearedRows) {
        let History {
            tables,
            results,
            await_order,
            ..
        } = &mut self.history;
        for place in cleared.rows() {
            results.remove(&place);
            self.blobs.remove(&place);
        }
        tables.apply(Transition::Cleared(cleared));
        await_order.clear(tables);
    }

    /// Applies a transition as it was read, with the reference to its result if that is in a blob.
    ///
    /// # Errors
    ///
    /// Returns an error if the transition refers to rows that do not exist.
    pub(crate) fn apply(
        &mut self,
        transition: Transition,
        blob: Option<BlobRef>,
    ) -> Result<(), Unreadable> {
        let History {
            tables,
            results,
            await_order,
            ..
        } = &mut self.history;
        check(tables, &transition)?;
        match &transition {
            Transition::Task(end) if end.state.task_state() == TaskState::Success => {
                let at = end.place;
                results.extend(end.result.clone().map(|result| (at, result)));
                self.blobs.extend(blob.map(|blob| (at, blob)));
            }
            Transition::Awaited { node, known } => {
                await_order.record(*node, known.as_deref(), tables)
            }
            _ => {}
        }
        match transition {
            Transition::Cleared(cleared) => self.clear(cleared),
            transition => tables.apply(transition),
        }
        Ok(())
    }
}

/// The limit on the rows of a mapping: its elements, times its tasks. A file that claims more is
/// damaged, and must not exhaust the memory.
const MOST_ROWS: u64 = 1 << 28;

/// Refuses a transition that refers to rows that do not exist: a damaged file must not cause a
/// panic.
pub(crate) fn check(tables: &RunTables, transition: &Transition) -> Result<(), Unreadable> {
    let members = |region| u64::from(tables.members_of(region));
    let missing = || Err("a row refers to one that is not there".to_owned());
    match transition {
        Transition::Task(end) => {
            let Some(old) = tables.row(end.place) else {
                return missing();
            };
            let (old, new) = (old.task_state(), end.state.task_state());
            if !new.may_be_recorded_after(old) && old != TaskState::Running {
                return Err(format!("a task went from {old} to {new}"));
            }
        }
        Transition::Extended { frame } if *frame == FrameNumber::FLOW => return missing(),
        Transition::Extended { frame } => {
            let Some(frame) = tables.frames.get(*frame) else {
                return missing();
            };
            let rows = members(frame.meta.region) * u64::from(frame.meta.len);
            if rows < frame.rows.len() as u64 || rows > MOST_ROWS {
                return missing();
            }
        }
        Transition::Expanded(FrameMeta {
            region,
            parent,
            len,
            ..
        }) => {
            let rows = members(*region) * u64::from(*len);
            return if parent.frame < tables.frames.next_id() && rows <= MOST_ROWS {
                Ok(())
            } else {
                missing()
            };
        }
        Transition::Cleared(cleared) => {
            let rows = |frame| {
                tables
                    .frames
                    .get(frame)
                    .map_or(0, |frame| frame.rows.len() as u64)
            };
            let is_there = |range: &CellRange| {
                u64::from(range.from) + u64::from(range.len) <= rows(range.frame)
            };
            return if cleared.ranges.iter().all(is_there) {
                Ok(())
            } else {
                missing()
            };
        }
        _ => {}
    }
    Ok(())
}
