use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Transition;
use crate::error::TaskError;
use crate::graph::NodeMeta;
use crate::id::RunId;
use crate::state::{RunState, TaskState};
use crate::task::scope::NONE;
use crate::task::{Interval, RunFacts};
use crate::value::Value;

/// A run to be accepted.
#[derive(Debug)]
pub(crate) struct NewRun {
    pub(crate) facts: Arc<RunFacts>,
    pub(crate) parameters: serde_json::Map<String, serde_json::Value>,
    pub(crate) created: DateTime<Utc>,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct RunEnd {
    pub(crate) at: i64,
    pub(crate) state: RunState,
    pub(crate) error: Option<TaskError>,
    pub(crate) output: Option<Value>,
}

/// The elements of a mapping in one frame: in a nested mapping, there is a frame for each element of the outer one.
#[derive(Clone, Debug)]
pub(crate) struct FrameMeta {
    pub(crate) region: u32,
    pub(crate) parent: (u32, u32),
    pub(crate) len: u32,
    /// The list never came: the frame's one row stands for the mapping as a whole.
    pub(crate) unexpanded: bool,
}

/// What became of one node, or of one element of it. Times are in microseconds since 1970; 0 is never.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) started: i64,
    pub(crate) finished: i64,
    pub(crate) error: Option<TaskError>,
    pub(crate) attempts: u16,
    pub(crate) state: TaskState,
}

impl Row {
    const PENDING: Self = Self { started: 0, finished: 0, error: None, attempts: 0, state: TaskState::Pending };
}

#[derive(Clone, Debug)]
struct Frame {
    meta: FrameMeta,
    rows: Vec<Row>,
}

/// Everything recorded of a run.
#[derive(Clone, Debug)]
pub(super) struct RunTables {
    facts: Arc<RunFacts>,
    parameters: serde_json::Map<String, serde_json::Value>,
    state: RunState,
    created: DateTime<Utc>,
    started: i64,
    end: Option<Arc<RunEnd>>,
    nodes: Vec<NodeMeta>,
    /// How many nodes each mapping has.
    members: std::collections::HashMap<u32, u32>,
    /// The first is the flow itself.
    frames: Vec<Frame>,
}

impl RunTables {
    pub(super) fn new(run: NewRun) -> Self {
        let meta = FrameMeta { region: NONE, parent: (0, 0), len: 1, unexpanded: false };
        Self {
            facts: run.facts,
            parameters: run.parameters,
            state: RunState::Pending,
            created: run.created,
            started: 0,
            end: None,
            nodes: Vec::new(),
            members: std::collections::HashMap::new(),
            frames: vec![Frame { meta, rows: Vec::new() }],
        }
    }

    /// What stands in for tables that were moved away.
    pub(super) fn empty() -> Self {
        let epoch = DateTime::UNIX_EPOCH;
        let facts =
            RunFacts { id: RunId::NIL, flow: "", logical_date: epoch, interval: Interval { start: epoch, end: epoch } };
        Self::new(NewRun { facts: Arc::new(facts), parameters: serde_json::Map::new(), created: epoch })
    }

    pub(super) fn apply(&mut self, transition: Transition) {
        match transition {
            Transition::RunStarted { at } => {
                debug_assert!(self.state.may_become(RunState::Running));
                (self.state, self.started) = (RunState::Running, at);
            }
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
                let rows = self.members.get(&meta.region).copied().unwrap_or(0) as usize * meta.len as usize;
                self.frames.push(Frame { meta, rows: vec![Row::PENDING; rows] });
            }
            Transition::Extended { frame } => {
                let frame = &mut self.frames[frame as usize];
                let rows = self.members.get(&frame.meta.region).copied().unwrap_or(0) as usize;
                frame.rows.resize(rows * frame.meta.len as usize, Row::PENDING);
            }
            Transition::Task { frame, cell, row } => {
                let old = &mut self.frames[frame as usize].rows[cell as usize];
                debug_assert!(
                    row.state.may_be_recorded_after(old.state),
                    "a task went from {} to {}",
                    old.state,
                    row.state
                );
                *old = row;
            }
            Transition::RunFinished(end) => {
                self.state = end.state;
                self.end = Some(Arc::new(end));
            }
        }
    }

    /// The indexes that lead to an element of a frame, the outermost mapping's first.
    fn path(&self, frame: u32, index: u32) -> Vec<u32> {
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

/// What is recorded of a run: a snapshot, cheap to clone.
#[derive(Clone)]
pub struct RunRecord(Arc<RunTables>);

impl From<RunTables> for RunRecord {
    fn from(tables: RunTables) -> Self {
        Self(Arc::new(tables))
    }
}

impl RunRecord {
    /// The run's id.
    pub fn id(&self) -> RunId {
        self.0.facts.id
    }

    /// The flow's name.
    pub fn flow(&self) -> &str {
        self.0.facts.flow
    }

    /// The run's state.
    pub fn state(&self) -> RunState {
        self.0.state
    }

    /// The instant that the run is for.
    pub fn logical_date(&self) -> DateTime<Utc> {
        self.0.facts.logical_date
    }

    /// The span of time that the run is for.
    pub fn interval(&self) -> Interval {
        self.0.facts.interval
    }

    /// The flow's parameters, as JSON.
    pub fn parameters(&self) -> &serde_json::Map<String, serde_json::Value> {
        &self.0.parameters
    }

    /// When the run was accepted.
    pub fn created_at(&self) -> DateTime<Utc> {
        self.0.created
    }

    /// When the run started.
    pub fn started_at(&self) -> Option<DateTime<Utc>> {
        instant(self.0.started)
    }

    /// When the run reached its final state.
    pub fn finished_at(&self) -> Option<DateTime<Utc>> {
        self.0.end.as_ref().and_then(|end| instant(end.at))
    }

    /// How long the run took, from its start to its end.
    pub fn duration(&self) -> Option<Duration> {
        (self.finished_at()? - self.started_at()?).to_std().ok()
    }

    /// Why the run is not a success: the body's error, a timeout, or the failures that nobody handled.
    pub fn error(&self) -> Option<&TaskError> {
        self.0.end.as_ref().and_then(|end| end.error.as_ref())
    }

    pub(crate) fn output(&self) -> Option<&Value> {
        self.0.end.as_ref().and_then(|end| end.output.as_ref())
    }

    /// The run's nodes and mapped elements: by creation, then by index.
    pub fn tasks(&self) -> Tasks<'_> {
        Tasks { tables: &self.0 }
    }

    /// The node or element with a key, as `process`, `process#2` or `process[7]`; for a mapped task its key without an
    /// index gives the first element.
    pub fn task(&self, key: &str) -> Option<TaskRun<'_>> {
        let elements = |task: &TaskRun<'_>| {
            let full = task.key();
            full.strip_prefix(key).is_some_and(|rest| rest.starts_with('['))
        };
        let named = key.rsplit('/').next().and_then(|name| name.split(['#', '[']).next()).unwrap_or(key);
        let mut candidates = self.tasks().iter().filter(|task| task.name() == named);
        let exact = candidates.clone().find(|task| task.key() == key);
        exact.or_else(|| candidates.find(elements))
    }
}

impl fmt::Debug for RunRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunRecord")
            .field("id", &self.id())
            .field("flow", &self.flow())
            .field("state", &self.state())
            .field("logical_date", &self.logical_date())
            .field("error", &self.error())
            .finish_non_exhaustive()
    }
}

/// The nodes and mapped elements of a run, in order.
#[derive(Clone, Copy)]
pub struct Tasks<'a> {
    tables: &'a RunTables,
}

impl<'a> Tasks<'a> {
    /// How many there are.
    pub fn len(self) -> usize {
        self.iter().count()
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }

    /// All of them: by creation, then by index.
    pub fn iter(self) -> impl Iterator<Item = TaskRun<'a>> + Clone {
        let tables = self.tables;
        let mut frames: Vec<u32> = (0..).take(tables.frames.len()).collect();
        frames.sort_by_cached_key(|frame| (tables.frames[*frame as usize].meta.region, tables.path(*frame, 0)));
        let frames: Arc<[u32]> = frames.into();
        (0..).zip(&tables.nodes).flat_map(move |(node, meta)| {
            let region = |frame: &u32| tables.frames[*frame as usize].meta.region;
            let from = frames.partition_point(|frame| region(frame) < meta.region);
            let to = frames.partition_point(|frame| region(frame) <= meta.region);
            let frames = Arc::clone(&frames);
            (from..to).flat_map(move |at| {
                let frame = frames[at];
                let table = &tables.frames[frame as usize];
                let len = table.meta.len as usize;
                let from = meta.local as usize * len;
                let rows = table.rows.get(from..from + len).unwrap_or_default();
                (0..).zip(rows).filter_map(move |(index, row)| {
                    let shown = !meta.hidden || (row.state == TaskState::Failed && meta.name.starts_with("expand("));
                    shown.then_some(TaskRun { tables, node, frame, index, row })
                })
            })
        })
    }
}

impl<'a> IntoIterator for Tasks<'a> {
    type Item = TaskRun<'a>;
    type IntoIter = Box<dyn Iterator<Item = TaskRun<'a>> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

impl fmt::Debug for Tasks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// What became of one node, or of one mapped element, in a run.
#[derive(Clone, Copy)]
pub struct TaskRun<'a> {
    tables: &'a RunTables,
    node: u32,
    frame: u32,
    index: u32,
    row: &'a Row,
}

impl<'a> TaskRun<'a> {
    fn meta(&self) -> &'a NodeMeta {
        &self.tables.nodes[self.node as usize]
    }

    /// The key: the task's name, its number where the name is used more than once, and the index of the element:
    /// `process#2[7]`; in a flow within the flow, that flow's name before it: `report/process`.
    pub fn key(&self) -> String {
        let frame = &self.tables.frames[self.frame as usize].meta;
        match frame.unexpanded {
            true => self.meta().key(&self.tables.path(frame.parent.0, frame.parent.1)),
            false => self.meta().key(&self.tables.path(self.frame, self.index)),
        }
    }

    /// The task's name, or the one given by `.named(…)`.
    pub fn name(&self) -> &'a str {
        &self.meta().name
    }

    /// The index of the element, in the innermost mapping; none where the task is not mapped, or its list never came.
    pub fn map_index(&self) -> Option<usize> {
        let frame = &self.tables.frames[self.frame as usize].meta;
        (frame.region != NONE && !frame.unexpanded).then_some(self.index as usize)
    }

    /// The state.
    pub fn state(&self) -> TaskState {
        self.row.state
    }

    /// How many attempts were made; 0 where it never ran.
    pub fn attempts(&self) -> u32 {
        u32::from(self.row.attempts)
    }

    /// Why it is not a success.
    pub fn error(&self) -> Option<&'a TaskError> {
        self.row.error.as_ref()
    }

    /// When its last attempt started.
    pub fn started_at(&self) -> Option<DateTime<Utc>> {
        instant(self.row.started)
    }

    /// When it reached its final state.
    pub fn finished_at(&self) -> Option<DateTime<Utc>> {
        instant(self.row.finished)
    }

    /// How long its last attempt took.
    pub fn duration(&self) -> Option<Duration> {
        (self.finished_at()? - self.started_at()?).to_std().ok()
    }
}

impl fmt::Debug for TaskRun<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskRun")
            .field("key", &self.key())
            .field("state", &self.state())
            .field("attempts", &self.attempts())
            .field("error", &self.error())
            .finish_non_exhaustive()
    }
}

fn instant(micros: i64) -> Option<DateTime<Utc>> {
    (micros != 0).then(|| DateTime::from_timestamp_micros(micros)).flatten()
}
