use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::cache::{CacheMiss, CacheNote};
use super::place::{ElementPlace, RowPlace, TaskPlace};
use super::reruns::RerunRecord;
use super::result::ResultValue;
use super::row::{CellState, Row};
use super::summary::RunSummary;
use super::tables::RunTables;
use crate::clock::Timestamp;
use crate::error::TaskError;
use crate::graph::NodeMeta;
use crate::id::RunId;
use crate::index::{FrameNumber, NodeNumber};
use crate::state::{RunKind, RunState, TaskState};
use crate::task::Interval;

/// A snapshot of the record of a run. Cheap to clone.
#[derive(Clone)]
pub struct RunRecord(Arc<RunTables>);

impl From<RunTables> for RunRecord {
    fn from(tables: RunTables) -> Self {
        Self(Arc::new(tables))
    }
}

impl RunRecord {
    /// Returns the run's id.
    pub fn id(&self) -> RunId {
        self.0.head.id
    }

    /// Returns the flow's name.
    pub fn flow(&self) -> &str {
        &self.0.head.flow
    }

    /// Returns the kind of the run: manual, scheduled or a backfill.
    pub fn kind(&self) -> RunKind {
        self.0.head.kind
    }

    /// Returns the name of the deployment that the run belongs to, or `None` for the default one.
    /// The run of a tick belongs to the deployment whose tick it is; a manual run to the one that it
    /// was requested for, whose interval it has.
    pub fn deployment(&self) -> Option<&str> {
        self.0.head.deployment.as_deref()
    }

    /// Returns the key that the run was requested with, if any.
    pub fn key(&self) -> Option<&str> {
        self.0.head.key.as_deref()
    }

    /// Returns the run's state.
    pub fn state(&self) -> RunState {
        self.0.state
    }

    /// Returns the instant that the run is for.
    pub fn logical_date(&self) -> DateTime<Utc> {
        self.0.head.logical_date
    }

    /// Returns the span of time that the run is for.
    pub fn interval(&self) -> Interval {
        self.0.head.interval
    }

    /// Returns the flow's parameters, as JSON.
    pub fn parameters(&self) -> &serde_json::Map<String, serde_json::Value> {
        &self.0.head.parameters
    }

    /// Returns when the run was accepted.
    pub fn created_at(&self) -> DateTime<Utc> {
        self.0.head.created
    }

    /// Returns when the run started. After a re-run, returns when that started.
    pub fn started_at(&self) -> Option<DateTime<Utc>> {
        self.0.started.and_then(Timestamp::to_datetime)
    }

    /// Returns when the run reached its final state.
    pub fn finished_at(&self) -> Option<DateTime<Utc>> {
        self.0.end.as_ref().and_then(|end| end.at.to_datetime())
    }

    /// Returns how long the run took, from its start to its end.
    ///
    /// The times of a run are measured from its start by a monotonic clock: neither this nor the
    /// times of its tasks jump if the system's clock is set meanwhile. If the run was taken over,
    /// the time between its two processes is read off the system's clock.
    pub fn duration(&self) -> Option<Duration> {
        (self.finished_at()? - self.started_at()?).to_std().ok()
    }

    /// Returns why the run did not succeed: the body's error, a timeout, or the failures that were
    /// not handled.
    pub fn error(&self) -> Option<&TaskError> {
        self.0.end.as_ref().and_then(|end| end.error.as_ref())
    }

    /// Returns the re-runs of the run, in the order in which they were requested.
    pub fn reruns(&self) -> &[RerunRecord] {
        self.0
            .reruns
            .as_ref()
            .map(|reruns| reruns.list.as_slice())
            .unwrap_or_default()
    }

    /// Returns `true` if the records of the tasks were pruned. The run itself is kept for ever.
    pub fn is_pruned(&self) -> bool {
        self.0.pruned
    }

    /// Returns why the record cannot be read completely, or `None` if it can.
    ///
    /// Such a record has the readable fields, leaves the others empty and has no tasks. Only lists
    /// return such records ([`Runtime::runs`](crate::Runtime::runs)).
    pub fn unreadable(&self) -> Option<&str> {
        self.0.unreadable.as_deref()
    }

    /// Returns the record without its tasks. Returns `None` if the run was not final before a time,
    /// or was pruned already.
    pub(crate) fn without_tasks(&self, before: Timestamp) -> Option<Self> {
        let old = self.0.end.as_ref().is_some_and(|end| end.at < before) && !self.0.pruned;
        old.then(|| {
            Self(Arc::new(RunTables {
                pruned: true,
                ..self.0.without_tasks()
            }))
        })
    }

    /// Returns the tables behind the record.
    pub(crate) fn tables(&self) -> &RunTables {
        &self.0
    }

    /// Returns the rows of tasks that are not final, with their numbers of attempts. Rows that are
    /// to run again count only if their node was requested; the others are no longer part of the
    /// run.
    pub(crate) fn open(&self, is_asked_for: impl Fn(NodeNumber) -> bool) -> Vec<(RowPlace, u16)> {
        let open = self.tasks().iter().filter(|task| !task.state().is_final());
        let open =
            open.filter(|task| !task.row.is_rerun_pending() || is_asked_for(task.place.node));
        open.map(|task| (task.row_place(), task.row.attempts))
            .collect()
    }

    /// Returns the run without its tasks.
    pub fn summary(&self) -> RunSummary {
        self.0.summary()
    }

    /// Returns the task at a place.
    pub(crate) fn at(&self, place: TaskPlace) -> Option<TaskRun<'_>> {
        let tables = &*self.0;
        let (meta, table) = (
            tables.nodes.get(place.node)?,
            tables.frames.get(place.frame)?,
        );
        let row = table
            .rows
            .get((meta.local * table.meta.len + place.index) as usize)?;
        (meta.region == table.meta.region).then_some(TaskRun { tables, place, row })
    }

    pub(crate) fn output(&self) -> Option<&ResultValue> {
        self.0.end.as_ref().and_then(|end| end.output.as_ref())
    }

    /// Returns the run's nodes and mapped elements, by creation, then by index.
    pub fn tasks(&self) -> Tasks<'_> {
        Tasks { tables: &self.0 }
    }

    /// Returns the node or element with a key, such as `process`, `process#2` or `process[7]`. The
    /// key of a mapped task without an index returns its first element.
    pub fn task(&self, key: &str) -> Option<TaskRun<'_>> {
        let is_element = |task: &TaskRun<'_>| {
            task.key()
                .strip_prefix(key)
                .is_some_and(|rest| rest.starts_with('['))
        };
        self.exact(key)
            .or_else(|| self.named_in(key).find(is_element))
    }

    /// Returns the node or element with exactly this key. A mapped task needs an index.
    pub(crate) fn exact(&self, key: &str) -> Option<TaskRun<'_>> {
        self.named_in(key).find(|task| task.key() == key)
    }

    /// Returns the tasks whose name occurs in a key. Comparing names first is cheaper than building
    /// the key of each task.
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
    /// Returns the number of nodes and elements.
    pub fn len(self) -> usize {
        self.iter().count()
    }

    /// Returns `true` if there are no nodes.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }

    /// Returns an iterator over all of them, by creation, then by index.
    pub fn iter(self) -> impl Iterator<Item = TaskRun<'a>> + Clone {
        let tables = self.tables;
        let mut frames: Vec<FrameNumber> = tables.frames.ids().collect();
        frames.retain(|frame| !tables.is_superseded_frame(*frame));
        let is_final = tables.state.is_final();
        frames.sort_by_cached_key(|frame| {
            let first = ElementPlace {
                frame: *frame,
                index: 0,
            };
            (tables.frames[*frame].meta.region, tables.path(first))
        });
        let frames: Arc<[FrameNumber]> = frames.into();
        let nodes = tables
            .nodes
            .entries()
            .filter(|(node, _)| !tables.is_superseded_node(*node));
        nodes.flat_map(move |(node, meta)| {
            let region = |frame: &FrameNumber| tables.frames[*frame].meta.region;
            let from = frames.partition_point(|frame| region(frame) < meta.region);
            let to = frames.partition_point(|frame| region(frame) <= meta.region);
            let frames = Arc::clone(&frames);
            (from..to).flat_map(move |at| {
                let frame = frames[at];
                let table = &tables.frames[frame];
                let len = table.meta.len as usize;
                let from = meta.local as usize * len;
                let rows = table.rows.get(from..from + len).unwrap_or_default();
                (0..).zip(rows).filter_map(move |(index, row)| {
                    let shown = !meta.hidden
                        || (row.task_state() == TaskState::Failed
                            && meta.name.starts_with("expand("));
                    // a row that was to run again but was not requested is no longer part of the
                    // run
                    let shown = shown && !(is_final && row.is_rerun_pending());
                    let place = TaskPlace { node, frame, index };
                    shown.then_some(TaskRun { tables, place, row })
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

/// A node, or one mapped element of a node, in a run.
#[derive(Clone, Copy)]
pub struct TaskRun<'a> {
    tables: &'a RunTables,
    place: TaskPlace,
    row: &'a Row,
}

impl<'a> TaskRun<'a> {
    fn meta(&self) -> &'a NodeMeta {
        &self.tables.nodes[self.place.node]
    }

    /// Returns the key: the task's name, its number if the name is used more than once, and the
    /// index of the element: `process#2[7]`. In a flow within the flow, that flow's key comes
    /// first: `report/process`.
    pub fn key(&self) -> String {
        let frame = &self.tables.frames[self.place.frame].meta;
        let element = match frame.unexpanded {
            true => frame.parent,
            false => self.place.element(),
        };
        self.meta().key(&self.tables.path(element))
    }

    /// Returns the task's name, or the one given by `.named(…)`.
    pub fn name(&self) -> &'a str {
        &self.meta().name
    }

    /// Returns the index of the element in the innermost mapping. Returns `None` if the task is not
    /// mapped, or if its list never came.
    pub fn map_index(&self) -> Option<usize> {
        let frame = &self.tables.frames[self.place.frame].meta;
        (frame.region.is_some() && !frame.unexpanded).then_some(self.place.index as usize)
    }

    /// Returns the state.
    pub fn state(&self) -> TaskState {
        self.row.task_state()
    }

    /// Returns the number of attempts, including those before a re-run; 0 if the task never ran.
    pub fn attempts(&self) -> u32 {
        u32::from(self.row.attempts)
    }

    /// Returns why the task did not succeed; while it waits for another attempt, why the last one
    /// failed.
    pub fn error(&self) -> Option<&'a TaskError> {
        self.row.error.as_ref()
    }

    /// Returns the number of attempts that ended with their process, because it died, or stopped
    /// and left them.
    pub fn crashes(&self) -> u32 {
        u32::from(self.row.crashes)
    }

    /// Returns the number of attempts that count as tries: those since the last re-run that did not
    /// end with their process.
    pub(crate) fn tries(&self) -> u32 {
        u32::from(self.row.attempts.saturating_sub(self.row.uncounted))
    }

    /// Returns `true` if it had attempts before a re-run that covered it.
    pub(crate) fn was_run_again(&self) -> bool {
        self.row.uncounted > self.row.crashes
    }

    /// Returns `true` if the last re-run covers it and it has not ended since.
    pub(crate) fn is_to_run_again(&self) -> bool {
        self.row.cleared
    }

    /// Returns the prefix of its key in a flow in the flow: that flow's key, and a slash.
    pub(crate) fn prefix(&self) -> Option<&'a str> {
        self.meta().prefix.as_deref()
    }

    /// Returns `true` if its result was computed by another run and found in the cache.
    pub fn cached(&self) -> bool {
        self.cached_from().is_some()
    }

    /// Returns the run whose result was found in the cache.
    pub fn cached_from(&self) -> Option<RunId> {
        match self.note() {
            Some(CacheNote::Hit { run, .. }) => Some(*run),
            _ => None,
        }
    }

    /// Returns why the result of a cached task was computed and not taken from the cache.
    pub fn cache_miss(&self) -> Option<CacheMiss> {
        match self.note() {
            Some(CacheNote::Missed(miss)) => Some(*miss),
            _ => None,
        }
    }

    /// Returns its place in the record.
    pub(crate) fn place(&self) -> TaskPlace {
        self.place
    }

    /// Returns the place of its row.
    fn row_place(&self) -> RowPlace {
        let TaskPlace { frame, index, .. } = self.place;
        let cell = self.meta().local * self.tables.frames[frame].meta.len + index;
        RowPlace { frame, cell }
    }

    /// Returns when the result that was found in the cache was computed.
    pub(crate) fn cached_at(&self) -> Option<DateTime<Utc>> {
        match self.note() {
            Some(CacheNote::Hit { created, .. }) => created.to_datetime(),
            _ => None,
        }
    }

    fn note(&self) -> Option<&'a CacheNote> {
        self.tables.notes.get(&self.row_place())
    }

    /// Returns when its next attempt is due, while it waits for one.
    pub fn next_attempt_at(&self) -> Option<DateTime<Utc>> {
        match self.row.state() {
            CellState::Retrying { due, .. } => due.to_datetime(),
            CellState::Pending | CellState::Running { .. } | CellState::Ended { .. } => None,
        }
    }

    /// Returns when its last attempt started.
    pub fn started_at(&self) -> Option<DateTime<Utc>> {
        self.row.state().started()?.to_datetime()
    }

    /// Returns when it reached its final state.
    pub fn finished_at(&self) -> Option<DateTime<Utc>> {
        match self.row.state() {
            CellState::Ended { at, .. } => at.to_datetime(),
            CellState::Pending | CellState::Running { .. } | CellState::Retrying { .. } => None,
        }
    }

    /// Returns how long its last attempt took, measured by a monotonic clock.
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
