use std::borrow::Cow;

use chrono::{DateTime, Utc};

use super::cached::{CacheNote, NewEntry};
use super::tables::Row;
use super::told::Numbers;
use crate::error::TaskError;
use crate::graph::NodeMeta;
use crate::id::RunId;
use crate::state::{Rerun, RunKind, RunState};
use crate::task::Interval;
use crate::value::{EncodingError, OutputType, Value};

/// A run to be accepted: what stands of it from its beginning.
#[derive(Clone, Debug)]
pub(crate) struct NewRun {
    pub(crate) id: RunId,
    pub(crate) flow: Cow<'static, str>,
    pub(crate) kind: RunKind,
    /// One run per flow and key.
    pub(crate) key: Option<String>,
    pub(crate) logical_date: DateTime<Utc>,
    pub(crate) interval: Interval,
    pub(crate) parameters: serde_json::Map<String, serde_json::Value>,
    /// Whether it refuses what is cached.
    pub(crate) refresh_cache: bool,
    pub(crate) created: DateTime<Utc>,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct RunEnd {
    pub(crate) at: i64,
    pub(crate) state: RunState,
    pub(crate) error: Option<TaskError>,
    pub(crate) output: Option<Kept>,
    /// The output, where the log encodes results.
    pub(crate) encoded: Option<Encoded>,
}

/// A result, as it is there: as a value, or as the bytes of one.
#[derive(Clone, Debug)]
pub(crate) enum Kept {
    Live(Value),
    Encoded(Encoded),
}

impl Kept {
    /// The value, which is of the type `output`.
    pub(crate) fn value(&self, output: &OutputType) -> Result<Value, EncodingError> {
        match self {
            Self::Live(value) => output.check(value).map(|()| value.clone()),
            Self::Encoded(encoded) => output.decode(&encoded.0),
        }
    }
}

/// The bytes of a result.
#[derive(Clone, Debug)]
pub(crate) struct Encoded(pub(crate) std::sync::Arc<[u8]>);

/// The elements of a mapping in one frame: in a nested mapping, there is a frame for each element of the outer one.
#[derive(Clone, Debug)]
pub(crate) struct FrameMeta {
    pub(crate) region: u32,
    pub(crate) parent: (u32, u32),
    pub(crate) len: u32,
    /// The list never came: the frame's one row stands for the mapping as a whole.
    pub(crate) unexpanded: bool,
}

/// One step in the life of a run. Nodes and frames are numbered in the order in which they are recorded.
#[derive(Debug)]
pub(crate) enum Transition {
    /// The run's body starts.
    RunStarted { at: i64 },
    /// Nodes were planned.
    Planned(Vec<NodeMeta>),
    /// A mapping learned its list; its elements, times its nodes, are pending.
    Expanded(FrameMeta),
    /// More nodes of a mapping were planned, while it runs.
    Extended { frame: u32 },
    /// A node, or an element of one, changed its state.
    Task(TaskEnd),
    /// The body of a flow was told what became of a node that it awaits: in this order it is told again.
    Awaited {
        node: u32,
        /// What bodies had asked for by then, where that is not all that is recorded: in a run that was run again.
        asked: Option<Box<Numbers>>,
    },
    /// Somebody asked for the run's end.
    Cancelling,
    /// The run was final, and is run again, in part or whole.
    Cleared(Cleared),
    /// The run reached its final state.
    RunFinished(RunEnd),
    /// The process stops executing the run: another may go on with it.
    Released,
}

/// What a re-run makes pending again.
#[derive(Clone, Debug)]
pub(crate) struct Cleared {
    pub(crate) at: i64,
    pub(crate) what: Rerun,
    pub(crate) ranges: Vec<CellRange>,
}

/// Cells of a frame, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CellRange {
    pub(crate) frame: u32,
    pub(crate) from: u32,
    pub(crate) len: u32,
}

impl Cleared {
    /// The frames and the cells.
    pub(crate) fn cells(&self) -> impl Iterator<Item = (u32, u32)> {
        self.ranges
            .iter()
            .flat_map(|range| (range.from..range.from + range.len).map(|cell| (range.frame, cell)))
    }
}

/// A node's, or an element's, change of state, and what comes with it.
#[derive(Debug)]
pub(crate) struct TaskEnd {
    pub(crate) frame: u32,
    pub(crate) cell: u32,
    pub(crate) row: Row,
    /// When an attempt failed that another comes after: of that one the row tells when it is due.
    pub(crate) failed: Option<i64>,
    /// The result of a success, where the log encodes results.
    pub(crate) result: Option<Encoded>,
    /// What the cache had to do with it.
    pub(crate) note: Option<Box<CacheNote>>,
    /// What goes into the cache with it.
    pub(crate) cache: Option<Box<NewEntry>>,
}

impl TaskEnd {
    /// A change of state without a result.
    pub(crate) fn new(frame: u32, cell: u32, row: Row) -> Self {
        Self {
            frame,
            cell,
            row,
            failed: None,
            result: None,
            note: None,
            cache: None,
        }
    }
}
