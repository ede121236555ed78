use std::collections::HashMap;
use std::sync::Arc;

use super::cache::CacheNote;
use super::place::{ElementPlace, RowPlace};
use super::reruns::Reruns;
use super::row::Row;
use super::summary::RunSummary;
use super::transition::{FrameMeta, NewRun, RunEnd, TaskEnd, Transition};
use crate::clock::Timestamp;
use crate::error::TaskError;
use crate::graph::NodeMeta;
use crate::index::{FrameNumber, IndexVec, NodeNumber};
use crate::state::{RunState, TaskState};

#[derive(Clone, Debug)]
pub(crate) struct FrameRows {
    pub(crate) meta: FrameMeta,
    pub(crate) rows: Vec<Row>,
}

/// The number of times that an instance was started as the only suspect of its process, and the
/// process died.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Charge {
    count: u8,
    /// Whether the attempt under way is one of them.
    alone: bool,
}

/// The complete record of a run: the sum of its transitions.
#[derive(Clone, Debug)]
pub(crate) struct RunTables {
    pub(crate) head: Arc<NewRun>,
    pub(crate) state: RunState,
    pub(crate) started: Option<Timestamp>,
    pub(crate) end: Option<Arc<RunEnd>>,
    pub(crate) nodes: IndexVec<NodeNumber, NodeMeta>,
    /// The number of nodes of each mapping.
    pub(crate) members: HashMap<NodeNumber, u32>,
    /// The frames. The first one is the flow itself.
    pub(crate) frames: IndexVec<FrameNumber, FrameRows>,
    /// How the cache took part in results.
    pub(crate) notes: HashMap<RowPlace, CacheNote>,
    /// The charges of instances that are under way.
    pub(super) charges: HashMap<RowPlace, Charge>,
    /// Whether its tasks were pruned, so that only the run itself is left.
    pub(crate) pruned: bool,
    /// Why the record cannot be read completely, if so. The other fields have what can be read.
    pub(crate) unreadable: Option<Arc<str>>,
    /// The re-runs of the run, if there were any.
    pub(crate) reruns: Option<Box<Reruns>>,
}

impl RunTables {
    pub(crate) fn new(head: Arc<NewRun>) -> Self {
        let meta = FrameMeta {
            region: None,
            parent: ElementPlace::FLOW,
            len: 1,
            unexpanded: false,
        };
        Self {
            head,
            state: RunState::Pending,
            started: None,
            end: None,
            nodes: IndexVec::default(),
            members: HashMap::new(),
            frames: IndexVec::from(vec![FrameRows {
                meta,
                rows: Vec::new(),
            }]),
            notes: HashMap::new(),
            charges: HashMap::new(),
            pruned: false,
            unreadable: None,
            reruns: None,
        }
    }

    /// Returns the tables of the same run without its tasks.
    pub(crate) fn without_tasks(&self) -> Self {
        let (state, started, end, pruned) =
            (self.state, self.started, self.end.clone(), self.pruned);
        let unreadable = self.unreadable.clone();
        Self {
            state,
            started,
            end,
            pruned,
            unreadable,
            ..Self::new(Arc::clone(&self.head))
        }
    }

    /// Sets the reason why the record cannot be read completely.
    pub(crate) fn unreadable(self, problem: impl Into<Arc<str>>) -> Self {
        Self {
            unreadable: Some(problem.into()),
            ..self
        }
    }

    /// Returns the run without its tasks.
    pub(crate) fn summary(&self) -> RunSummary {
        let NewRun {
            id,
            flow,
            kind,
            deployment,
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
            deployment: deployment.as_deref().map(str::to_owned),
            key: key.clone(),
            state: self.state,
            logical_date: *logical_date,
            interval: *interval,
            parameters: parameters.clone(),
            created_at: *created,
            started_at: self.started.and_then(Timestamp::to_datetime),
            finished_at: end.and_then(|end| end.at.to_datetime()),
            error: end
                .and_then(|end| end.error.as_ref())
                .map(ToString::to_string),
            unreadable: self.unreadable.as_deref().map(str::to_owned),
        }
    }

    /// Takes the tables, and leaves those of a new run in their place.
    pub(crate) fn take(&mut self) -> Self {
        let empty = Self::new(Arc::clone(&self.head));
        std::mem::replace(self, empty)
    }

    /// Returns `true` if a transition adds nothing: a resumed run reaches its recorded states
    /// again.
    pub(crate) fn knows(&self, transition: &Transition) -> bool {
        match transition {
            Transition::RunStarted { .. } => self.state == RunState::Running,
            Transition::Task(end) => {
                let row = self.row(end.place);
                row.is_some_and(|row| row.task_state().is_final())
            }
            _ => false,
        }
    }

    pub(crate) fn apply(&mut self, transition: Transition) {
        match transition {
            Transition::RunStarted { at } => {
                debug_assert!(self.state.may_become(RunState::Running));
                (self.state, self.started) = (RunState::Running, Some(at));
            }
            Transition::Planned(nodes) if self.reruns.is_some() => self.plan_in_rerun(nodes),
            Transition::Planned(nodes) => {
                let of_flow = nodes.iter().filter(|node| node.region.is_none()).count();
                let rows = &mut self.frames[FrameNumber::FLOW].rows;
                rows.resize(rows.len() + of_flow, Row::PENDING);
                for region in nodes.iter().filter_map(|node| node.region) {
                    *self.members.entry(region).or_default() += 1;
                }
                match self.nodes.is_empty() {
                    true => self.nodes = nodes.into(),
                    false => self.nodes.extend(nodes),
                }
            }
            Transition::Expanded(meta) => {
                let rows = self.members_of(meta.region) as usize * meta.len as usize;
                self.frames.push(FrameRows {
                    meta,
                    rows: vec![Row::PENDING; rows],
                });
                self.opened_in_rerun();
            }
            Transition::Extended { frame: number } => {
                let rows = self.members_of(self.frames[number].meta.region) as usize;
                let frame = &mut self.frames[number];
                let before = frame.rows.len();
                // rows are ordered by node: those of new nodes come last, so that the places of
                // earlier rows, which transitions refer to, stay valid
                frame
                    .rows
                    .resize(rows * frame.meta.len as usize, Row::PENDING);
                self.extended_in_rerun(number, before);
            }
            Transition::Cleared(cleared) => self.clear(&cleared),
            Transition::Task(end) => self.end(end),
            Transition::RunFinished(end) => {
                self.state = end.state;
                self.end = Some(Arc::new(end));
            }
            Transition::Awaited { .. }
            | Transition::Cancelling
            | Transition::Draining
            | Transition::Leaving
            | Transition::Released => {}
        }
    }

    fn end(&mut self, end: TaskEnd) {
        let TaskEnd {
            place,
            state,
            attempts,
            error,
            note,
            alone,
            ..
        } = end;
        let new = state.task_state();
        self.charge(place, new, attempts, alone);
        let row = &mut self.frames[place.frame].rows[place.cell as usize];
        let old = row.task_state();
        debug_assert!(
            new.may_be_recorded_after(old) || old == TaskState::Running,
            "a task went from {old} to {new}"
        );
        // an attempt that starts while another was under way: the process of that one died. So it
        // did if too many died and the last error is a crash
        let died = attempts > row.attempts || error.as_ref().is_some_and(TaskError::is_crash);
        let died = u16::from(old == TaskState::Running && died);
        // an attempt 2 without an attempt 1: that one may have started, and died before its start
        // was recorded
        let died = died + u16::from((row.attempts, attempts, new) == (0, 2, TaskState::Running));
        row.set_state(state);
        (row.attempts, row.error) = (attempts, error);
        (row.crashes, row.uncounted) = (row.crashes + died, row.uncounted + died);
        row.cleared &= !new.is_final();
        if let Some(note) = note {
            self.notes.insert(place, *note);
        }
    }

    /// Updates the charges of an instance: counts an attempt that starts alone, and takes the count
    /// back if the attempt continues together with others. Any other state clears the count, since
    /// the process did not die of it.
    fn charge(&mut self, place: RowPlace, state: TaskState, attempts: u16, alone: bool) {
        if alone {
            let charge = self.charges.entry(place).or_default();
            *charge = Charge {
                count: charge.count.saturating_add(1),
                alone,
            };
        } else if self.charges.is_empty() {
            // the common case: nothing was ever suspected
        } else if state != TaskState::Running {
            self.charges.remove(&place);
        } else if let Some(charge) = self.charges.get_mut(&place) {
            let goes_on = self.frames[place.frame].rows[place.cell as usize].attempts == attempts;
            charge.count -= u8::from(charge.alone && goes_on);
            charge.alone = false;
        }
    }

    /// Returns the number of nodes of a mapping; 0 for the flow itself.
    pub(crate) fn members_of(&self, region: Option<NodeNumber>) -> u32 {
        let members = region.and_then(|region| self.members.get(&region));
        members.copied().unwrap_or(0)
    }

    /// Returns the row at a place, if there is one.
    pub(crate) fn row(&self, place: RowPlace) -> Option<&Row> {
        let frame = self.frames.get(place.frame)?;
        frame.rows.get(place.cell as usize)
    }

    /// Returns how often a process died while an instance was its only suspect.
    pub(crate) fn charges(&self, place: RowPlace) -> u8 {
        self.charges.get(&place).map_or(0, |charge| charge.count)
    }

    /// Returns the indexes that lead to an element, the outermost mapping's first.
    pub(crate) fn path(&self, mut element: ElementPlace) -> Vec<u32> {
        let mut path = Vec::new();
        while element.frame != FrameNumber::FLOW {
            path.push(element.index);
            element = self.frames[element.frame].meta.parent;
        }
        path.reverse();
        path
    }
}
