use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::cached::{CacheMiss, CacheNote};
use super::reruns::RerunRecord;
use super::summary::RunSummary;
use super::tables::{Row, RunTables};
use super::transition::Kept;
use crate::error::TaskError;
use crate::graph::NodeMeta;
use crate::id::RunId;
use crate::state::{RunKind, RunState, TaskState};
use crate::task::Interval;
use crate::task::scope::NONE;

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
        self.0.head.id
    }

    /// The flow's name.
    pub fn flow(&self) -> &str {
        &self.0.head.flow
    }

    /// Why there is the run.
    pub fn kind(&self) -> RunKind {
        self.0.head.kind
    }

    /// The key that it was asked for with, if any.
    pub fn key(&self) -> Option<&str> {
        self.0.head.key.as_deref()
    }

    /// The run's state.
    pub fn state(&self) -> RunState {
        self.0.state
    }

    /// The instant that the run is for.
    pub fn logical_date(&self) -> DateTime<Utc> {
        self.0.head.logical_date
    }

    /// The span of time that the run is for.
    pub fn interval(&self) -> Interval {
        self.0.head.interval
    }

    /// The flow's parameters, as JSON.
    pub fn parameters(&self) -> &serde_json::Map<String, serde_json::Value> {
        &self.0.head.parameters
    }

    /// When the run was accepted.
    pub fn created_at(&self) -> DateTime<Utc> {
        self.0.head.created
    }

    /// When the run started; after a re-run, when that did.
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

    /// When the run was run again, and what of it: in the order in which that was asked for.
    pub fn reruns(&self) -> &[RerunRecord] {
        self.0
            .reruns
            .as_ref()
            .map(|reruns| reruns.list.as_slice())
            .unwrap_or_default()
    }

    /// Whether what is known of its tasks was pruned: only the run itself is kept for ever.
    pub fn is_pruned(&self) -> bool {
        self.0.pruned
    }

    /// The record without its tasks, where the run was final before a time and has any.
    pub(crate) fn without_tasks(&self, before: i64) -> Option<Self> {
        let old = self.0.end.as_ref().is_some_and(|end| end.at < before) && !self.0.pruned;
        old.then(|| {
            let bare = RunTables::new(Arc::clone(&self.0.head));
            let (state, started, end) = (self.0.state, self.0.started, self.0.end.clone());
            Self(Arc::new(RunTables {
                state,
                started,
                end,
                pruned: true,
                ..bare
            }))
        })
    }

    /// Everything that is recorded of it.
    pub(crate) fn tables(&self) -> &RunTables {
        &self.0
    }

    /// The rows of tasks that are not final: their frames, their cells, and how many attempts they had. Of those that
    /// are to run again only the ones whose nodes were asked for: the others are no part of the run any more.
    pub(crate) fn open(&self, is_asked_for: impl Fn(u32) -> bool) -> Vec<(u32, u32, u16)> {
        let open = self.tasks().iter().filter(|task| !task.state().is_final());
        let open = open.filter(|task| !task.row.is_open_again() || is_asked_for(task.node));
        let place = |task: TaskRun<'_>| {
            let cell =
                task.meta().local * task.tables.frames[task.frame as usize].meta.len + task.index;
            (task.frame, cell, task.row.attempts)
        };
        open.map(place).collect()
    }

    /// The run without its tasks.
    pub fn summary(&self) -> RunSummary {
        self.0.summary()
    }

    /// What became of a node, or of an element of it, by its place in the record.
    pub(crate) fn at(&self, (node, frame, index): (u32, u32, u32)) -> Option<TaskRun<'_>> {
        let tables = &*self.0;
        let (meta, table) = (
            tables.nodes.get(node as usize)?,
            tables.frames.get(frame as usize)?,
        );
        let row = table
            .rows
            .get((meta.local * table.meta.len + index) as usize)?;
        (meta.region == table.meta.region).then_some(TaskRun {
            tables,
            node,
            frame,
            index,
            row,
        })
    }

    pub(crate) fn output(&self) -> Option<&Kept> {
        self.0.end.as_ref().and_then(|end| end.output.as_ref())
    }

    /// The run's nodes and mapped elements: by creation, then by index.
    pub fn tasks(&self) -> Tasks<'_> {
        Tasks { tables: &self.0 }
    }

    /// The node or element with a key, as `process`, `process#2` or `process[7]`; for a mapped task its key without an
    /// index gives the first element.
    pub fn task(&self, key: &str) -> Option<TaskRun<'_>> {
        let is_element = |task: &TaskRun<'_>| {
            task.key()
                .strip_prefix(key)
                .is_some_and(|rest| rest.starts_with('['))
        };
        self.exact(key)
            .or_else(|| self.named_in(key).find(is_element))
    }

    /// The node or element with exactly this key: none for a mapped task without an index.
    pub(crate) fn exact(&self, key: &str) -> Option<TaskRun<'_>> {
        self.named_in(key).find(|task| task.key() == key)
    }

    /// The tasks whose name is in a key: a name is compared more cheaply than a key is made.
    fn named_in<'a, 'k>(&'a self, key: &'k str) -> impl Iterator<Item = TaskRun<'a>> + use<'a, 'k> {
        self.tasks()
            .iter()
            .filter(move |task| key.contains(task.name()))
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
        frames.retain(|frame| !tables.is_past_frame(*frame));
        let is_final = tables.state.is_final();
        frames.sort_by_cached_key(|frame| {
            (
                tables.frames[*frame as usize].meta.region,
                tables.path(*frame, 0),
            )
        });
        let frames: Arc<[u32]> = frames.into();
        let nodes = (0..)
            .zip(&tables.nodes)
            .filter(|(node, _)| !tables.is_past_node(*node));
        nodes.flat_map(move |(node, meta)| {
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
                    let shown = !meta.hidden
                        || (row.state == TaskState::Failed && meta.name.starts_with("expand("));
                    // what was to run again, and was not asked for, is no part of the run any more
                    let shown = shown && !(is_final && row.is_open_again());
                    shown.then_some(TaskRun {
                        tables,
                        node,
                        frame,
                        index,
                        row,
                    })
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
            true => self
                .meta()
                .key(&self.tables.path(frame.parent.0, frame.parent.1)),
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

    /// How many attempts were made, those before a re-run included; 0 where it never ran.
    pub fn attempts(&self) -> u32 {
        u32::from(self.row.attempts)
    }

    /// Why it is not a success; while it waits for another attempt, why the last one failed.
    pub fn error(&self) -> Option<&'a TaskError> {
        self.row.error.as_ref()
    }

    /// How many of the attempts ended with their process, which died, or stopped and left them.
    pub fn crashes(&self) -> u32 {
        u32::from(self.row.crashes)
    }

    /// How many attempts count as tries: those since it was last to run again, that did not end with their process.
    pub(crate) fn tries(&self) -> u32 {
        u32::from(self.row.attempts.saturating_sub(self.row.uncounted))
    }

    /// Whether it had attempts before a re-run of its run, in which it was to run again.
    pub(crate) fn was_run_again(&self) -> bool {
        self.row.uncounted > self.row.crashes
    }

    /// Whether the last re-run of its run covers it, and it has not come to its end since.
    pub(crate) fn is_to_run_again(&self) -> bool {
        self.row.cleared
    }

    /// What stands before its key in a flow in the flow: that flow's key, and a slash.
    pub(crate) fn prefix(&self) -> Option<&'a str> {
        self.meta().prefix.as_deref()
    }

    /// Whether its result is that of another run, found in the cache.
    pub fn cached(&self) -> bool {
        self.cached_from().is_some()
    }

    /// The run whose result was found in the cache.
    pub fn cached_from(&self) -> Option<RunId> {
        match self.note() {
            Some(CacheNote::Hit { run, .. }) => Some(*run),
            _ => None,
        }
    }

    /// Why its result was computed rather than taken from the cache, where its task is cached.
    pub fn cache_miss(&self) -> Option<CacheMiss> {
        match self.note() {
            Some(CacheNote::Missed(miss)) => Some(*miss),
            _ => None,
        }
    }

    /// Its node, its frame and its index there.
    pub(crate) fn place(&self) -> (u32, u32, u32) {
        (self.node, self.frame, self.index)
    }

    /// When the result that was found in the cache was computed.
    pub(crate) fn cached_at(&self) -> Option<DateTime<Utc>> {
        match self.note() {
            Some(CacheNote::Hit { created, .. }) => instant(*created),
            _ => None,
        }
    }

    fn note(&self) -> Option<&'a CacheNote> {
        let cell =
            self.meta().local * self.tables.frames[self.frame as usize].meta.len + self.index;
        self.tables.notes.get(&(self.frame, cell))
    }

    /// When its next attempt is due, while it waits for one.
    pub fn next_attempt_at(&self) -> Option<DateTime<Utc>> {
        (self.row.state == TaskState::Retrying)
            .then(|| instant(self.row.finished))
            .flatten()
    }

    /// When its last attempt started.
    pub fn started_at(&self) -> Option<DateTime<Utc>> {
        instant(self.row.started)
    }

    /// When it reached its final state.
    pub fn finished_at(&self) -> Option<DateTime<Utc>> {
        if self.row.state.is_final() {
            instant(self.row.finished)
        } else {
            None
        }
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

pub(super) fn instant(micros: i64) -> Option<DateTime<Utc>> {
    (micros != 0)
        .then(|| DateTime::from_timestamp_micros(micros))
        .flatten()
}
