use std::borrow::Cow;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::await_order::NumberSet;
use super::cache::{CacheNote, NewCacheEntry};
use super::place::{ElementPlace, RowPlace, TaskPlace};
use super::result::{EncodedResult, ResultValue};
use super::row::CellState;
use crate::clock::Timestamp;
use crate::error::TaskError;
use crate::graph::NodeMeta;
use crate::id::RunId;
use crate::index::{FrameNumber, NodeNumber};
use crate::state::{Rerun, RunKind, RunState};
use crate::task::Interval;

/// A run to be accepted: the part of its record that never changes.
#[derive(Clone, Debug)]
pub(crate) struct NewRun {
    pub(crate) id: RunId,
    pub(crate) flow: Cow<'static, str>,
    pub(crate) kind: RunKind,
    /// The deployment that the run belongs to; `None` for the default one.
    pub(crate) deployment: Option<Arc<str>>,
    /// The idempotency key: there is at most one run per flow and key.
    pub(crate) key: Option<String>,
    pub(crate) logical_date: DateTime<Utc>,
    pub(crate) interval: Interval,
    pub(crate) parameters: serde_json::Map<String, serde_json::Value>,
    /// Whether it ignores cached results and recomputes them.
    pub(crate) refresh_cache: bool,
    pub(crate) created: DateTime<Utc>,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct RunEnd {
    pub(crate) at: Timestamp,
    pub(crate) state: RunState,
    pub(crate) error: Option<TaskError>,
    pub(crate) output: Option<ResultValue>,
    /// The output, if the log encodes results.
    pub(crate) encoded: Option<EncodedResult>,
}

/// The elements of a mapping in one frame: in a nested mapping, there is a frame for each element
/// of the outer one.
#[derive(Clone, Debug)]
pub(crate) struct FrameMeta {
    /// The mapping; `None` for the frame of the flow itself.
    pub(crate) region: Option<NodeNumber>,
    /// The element of the outer frame that the mapping is in.
    pub(crate) parent: ElementPlace,
    pub(crate) len: u32,
    /// Whether the list never came. The frame's one row then stands for the mapping as a whole.
    pub(crate) unexpanded: bool,
}

impl FrameMeta {
    /// Returns the place of the mapping's node. Returns `None` for the frame of the flow itself.
    pub(crate) fn opening(&self) -> Option<TaskPlace> {
        self.region.map(|mapping| self.parent.of(mapping))
    }
}

/// One step of a run. Nodes and frames are numbered in the order in which they are recorded.
#[derive(Debug)]
pub(crate) enum Transition {
    /// The run's body starts.
    RunStarted { at: Timestamp },
    /// Nodes were planned.
    Planned(Vec<NodeMeta>),
    /// A mapping received its list: a row for each of its nodes and elements is pending.
    Expanded(FrameMeta),
    /// More nodes of a mapping were planned while it runs.
    Extended { frame: FrameNumber },
    /// A node, or an element of one, changed its state.
    Task(TaskEnd),
    /// The outcome of an awaited node was delivered to the body of a flow. A replay delivers
    /// outcomes in the recorded order.
    Awaited {
        node: NodeNumber,
        /// The nodes that bodies had requested by then. `None` means all recorded nodes; only a run
        /// that was re-run has a set.
        known: Option<Box<NumberSet>>,
    },
    /// The run's cancellation was requested.
    Cancelling,
    /// A final run is re-run, in part or completely.
    Cleared(ClearedRows),
    /// The run reached its final state.
    RunFinished(RunEnd),
    /// The process was asked to stop: its end is not counted as a crash.
    Draining,
    /// The process was asked to stop and ends while bodies of the run do not return: its end is not
    /// counted as a crash.
    Leaving,
    /// The process releases the run: another may resume it.
    Released,
}

/// The rows that a re-run makes pending again.
#[derive(Clone, Debug)]
pub(crate) struct ClearedRows {
    pub(crate) at: Timestamp,
    pub(crate) what: Rerun,
    pub(crate) ranges: Vec<CellRange>,
}

/// A range of cells of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CellRange {
    pub(crate) frame: FrameNumber,
    pub(crate) from: u32,
    pub(crate) len: u32,
}

impl ClearedRows {
    /// Returns the places of the rows.
    pub(crate) fn rows(&self) -> impl Iterator<Item = RowPlace> {
        self.ranges.iter().flat_map(|range| {
            let frame = range.frame;
            (range.from..range.from + range.len).map(move |cell| RowPlace { frame, cell })
        })
    }
}

/// A change of state of a node or an element, and the data that belongs to it.
#[derive(Debug)]
pub(crate) struct TaskEnd {
    pub(crate) place: RowPlace,
    pub(crate) state: CellState,
    /// The number of attempts, including the one under way.
    pub(crate) attempts: u16,
    /// The error of an end that is not a success; while the task is retrying, the error of the last
    /// attempt.
    pub(crate) error: Option<TaskError>,
    /// The result of a success, if the log encodes results.
    pub(crate) result: Option<EncodedResult>,
    /// How the cache took part in it.
    pub(crate) note: Option<Box<CacheNote>>,
    /// The entry to be cached in the same commit.
    pub(crate) cache: Option<Box<NewCacheEntry>>,
    /// Whether an attempt starts as the only suspect of its process. If the process dies now, the
    /// attempt is charged.
    pub(crate) alone: bool,
}

impl TaskEnd {
    /// Creates a change of state without an error or a result.
    pub(crate) fn new(place: RowPlace, state: CellState, attempts: u16) -> Self {
        Self {
            place,
            state,
            attempts,
            error: None,
            result: None,
            note: None,
            cache: None,
            alone: false,
        }
    }
}
