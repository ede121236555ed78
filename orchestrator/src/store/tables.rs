use std::collections::HashMap;
use std::sync::Arc;

use super::cached::CacheNote;
use super::record::instant;
use super::reruns::Reruns;
use super::summary::RunSummary;
use super::transition::{FrameMeta, NewRun, RunEnd, TaskEnd, Transition};
use crate::error::TaskError;
use crate::graph::NodeMeta;
use crate::state::{RunState, TaskState};
use crate::task::scope::NONE;

/// What became of one node, or of one element of it. Times are in microseconds since 1970; 0 is never.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) started: i64,
    /// When it ended; while it waits for another attempt, when that is due.
    pub(crate) finished: i64,
    pub(crate) error: Option<TaskError>,
    pub(crate) attempts: u16,
    /// How many of the attempts ended with their process, which died or was stopped.
    pub(crate) crashes: u16,
    /// How many of the attempts do not count as tries: those, and all that were made before a re-run.
    pub(crate) uncounted: u16,
    pub(crate) state: TaskState,
    /// It is to run again, and has not come to its end since.
    pub(crate) cleared: bool,
}

impl Row {
    pub(crate) const PENDING: Self = Self {
        started: 0,
        finished: 0,
        error: None,
        attempts: 0,
        crashes: 0,
        uncounted: 0,
        state: TaskState::Pending,
        cleared: false,
    };

    /// Whether it is to run again, and nothing came of that yet.
    pub(crate) fn is_open_again(&self) -> bool {
        self.cleared && self.state == TaskState::Pending
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) meta: FrameMeta,
    pub(crate) rows: Vec<Row>,
}

/// Everything recorded of a run: what its transitions add up to.
#[derive(Clone, Debug)]
pub(crate) struct RunTables {
    pub(crate) head: Arc<NewRun>,
    pub(crate) state: RunState,
    pub(crate) started: i64,
    pub(crate) end: Option<Arc<RunEnd>>,
    pub(crate) nodes: Vec<NodeMeta>,
    /// How many nodes each mapping has.
    pub(crate) members: HashMap<u32, u32>,
    /// The first is the flow itself.
    pub(crate) frames: Vec<Frame>,
    /// What the cache had to do with a result, by frame and cell.
    pub(crate) notes: HashMap<(u32, u32), CacheNote>,
    /// Its tasks were pruned: only the run itself is left.
    pub(crate) pruned: bool,
    /// What came of running it again; none where nobody asked for that.
    pub(crate) reruns: Option<Box<Reruns>>,
}

impl RunTables {
    pub(crate) fn new(head: Arc<NewRun>) -> Self {
        let meta = FrameMeta {
            region: NONE,
            parent: (0, 0),
            len: 1,
            unexpanded: false,
        };
        Self {
            head,
            state: RunState::Pending,
            started: 0,
            end: None,
            nodes: Vec::new(),
            members: HashMap::new(),
            frames: vec![Frame {
                meta,
                rows: Vec::new(),
            }],
            notes: HashMap::new(),
            pruned: false,
            reruns: None,
        }
    }

    /// The run without its tasks.
    pub(crate) fn summary(&self) -> RunSummary {
        let NewRun {
            id,
            flow,
            kind,
            key,
            logical_date,
            interval,
            parameters,
            created,
            ..
        } = &*self.head;
        let end = self.end.as_deref();
        RunSummary {
            id: *id,
            flow: flow.to_string(),
            kind: *kind,
            key: key.clone(),
            state: self.state,
            logical_date: *logical_date,
            interval: *interval,
            parameters: parameters.clone(),
            created_at: *created,
            started_at: instant(self.started),
            finished_at: end.and_then(|end| instant(end.at)),
            error: end
                .and_then(|end| end.error.as_ref())
                .map(ToString::to_string),
        }
    }

    /// Takes the tables away, and leaves what stands in for them.
    pub(crate) fn take(&mut self) -> Self {
        let empty = Self::new(Arc::clone(&self.head));
        std::mem::replace(self, empty)
    }

    /// Whether a transition tells nothing new: a run that goes on comes to its recorded states again.
    pub(crate) fn knows(&self, transition: &Transition) -> bool {
        match transition {
            Transition::RunStarted { .. } => self.state == RunState::Running,
            Transition::Task(end) => {
                let row = self
                    .frames
                    .get(end.frame as usize)
                    .and_then(|frame| frame.rows.get(end.cell as usize));
                row.is_some_and(|row| row.state.is_final())
            }
            _ => false,
        }
    }

    pub(crate) fn apply(&mut self, transition: Transition) {
        match transition {
            Transition::RunStarted { at } => {
                debug_assert!(self.state.may_become(RunState::Running));
                (self.state, self.started) = (RunState::Running, at);
            }
            Transition::Planned(nodes) if self.reruns.is_some() => self.plan_again(nodes),
            Transition::Planned(nodes) => {
                let of_flow = nodes.iter().filter(|node| node.region == NONE).count();
                let rows = &mut self.frames[0].rows;
                rows.resize(rows.len() + of_flow, Row::PENDING);
                for node in nodes.iter().filter(|node| node.region != NONE) {
                    *self.members.entry(node.region).or_default() += 1;
                }
                match self.nodes.is_empty() {
                    true => self.nodes = nodes,
                    false => self.nodes.extend(nodes),
                }
            }
            Transition::Expanded(meta) => {
                let rows = self.members.get(&meta.region).copied().unwrap_or(0) as usize
                    * meta.len as usize;
                self.frames.push(Frame {
                    meta,
                    rows: vec![Row::PENDING; rows],
                });
                self.opened_again();
            }
            Transition::Extended { frame: number } => {
                let frame = &mut self.frames[number as usize];
                let rows = self.members.get(&frame.meta.region).copied().unwrap_or(0) as usize;
                let before = frame.rows.len();
                frame
                    .rows
                    .resize(rows * frame.meta.len as usize, Row::PENDING);
                self.extended_again(number, before);
            }
            Transition::Cleared(cleared) => self.clear(&cleared),
            Transition::Task(end) => self.end(end),
            Transition::RunFinished(end) => {
                self.state = end.state;
                self.end = Some(Arc::new(end));
            }
            Transition::Awaited { .. } | Transition::Cancelling | Transition::Released => {}
        }
    }

    fn end(&mut self, end: TaskEnd) {
        let TaskEnd {
            frame,
            cell,
            mut row,
            note,
            ..
        } = end;
        let old = &mut self.frames[frame as usize].rows[cell as usize];
        debug_assert!(
            row.state.may_be_recorded_after(old.state) || old.state == TaskState::Running,
            "a task went from {} to {}",
            old.state,
            row.state
        );
        // an attempt that starts where another was under way: that one's process died, as did the last one's of too many
        let died =
            row.attempts > old.attempts || row.error.as_ref().is_some_and(TaskError::is_crash);
        let died = u16::from(old.state == TaskState::Running && died);
        (row.crashes, row.uncounted) = (old.crashes + died, old.uncounted + died);
        row.cleared = old.cleared && !row.state.is_final();
        *old = row;
        if let Some(note) = note {
            self.notes.insert((frame, cell), *note);
        }
    }

    /// The indexes that lead to an element of a frame, the outermost mapping's first.
    pub(crate) fn path(&self, frame: u32, index: u32) -> Vec<u32> {
        let mut path = Vec::new();
        let (mut frame, mut index) = (frame, index);
        while frame != 0 {
            let meta = &self.frames[frame as usize].meta;
            path.push(index);
            (frame, index) = meta.parent;
        }
        path.reverse();
        path
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
}
