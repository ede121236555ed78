//! Sample records for tests.

use chrono::DateTime;

use super::{CellState, ElementPlace, FrameMeta, NewRun, RowPlace, TaskEnd};
use crate::clock::Timestamp;
use crate::graph::NodeMeta;
use crate::id::IdSource;
use crate::index::{FrameNumber, NodeNumber};
use crate::state::{RunKind, TaskState};
use crate::task::Interval;

/// Creates a manual run at the first second of 1970.
pub(crate) fn new_run(flow: &str) -> NewRun {
    static IDS: std::sync::LazyLock<IdSource> = std::sync::LazyLock::new(IdSource::from_entropy);
    let at = DateTime::from_timestamp(1, 0).unwrap();
    NewRun {
        id: IDS.run_id(at),
        flow: flow.to_owned().into(),
        kind: RunKind::Manual,
        deployment: None,
        key: None,
        logical_date: at,
        interval: Interval { start: at, end: at },
        parameters: serde_json::Map::new(),
        refresh_cache: false,
        created: at,
    }
}

/// Creates a node of the flow itself, or of the mapping `region`.
pub(crate) fn node(name: &'static str, region: Option<u32>, local: u32) -> NodeMeta {
    let hidden = name.starts_with("expand(");
    NodeMeta {
        prefix: None,
        name: name.into(),
        number: 1,
        region: region.map(NodeNumber::new),
        local,
        hidden,
        wiring: None,
    }
}

/// Returns the place of a row, by the numbers of its frame and its cell.
pub(crate) fn row_place(frame: u32, cell: u32) -> RowPlace {
    let frame = FrameNumber::new(frame);
    RowPlace { frame, cell }
}

/// Creates the frame of a mapping of `len` elements, by the mapping's number and the element that
/// it is in.
pub(crate) fn expanded(region: u32, (frame, index): (u32, u32), len: u32) -> FrameMeta {
    let frame = FrameNumber::new(frame);
    FrameMeta {
        region: Some(NodeNumber::new(region)),
        parent: ElementPlace { frame, index },
        len,
        unexpanded: false,
    }
}

/// Creates the state of a task that started at one time (0: never) and ended, or is due, at
/// another.
pub(crate) fn cell_state(state: TaskState, started: i64, until: i64) -> CellState {
    let (started, until) = (time(started), time(until));
    match state {
        TaskState::Pending => CellState::Pending,
        TaskState::Running => CellState::Running { since: started },
        TaskState::Retrying => CellState::Retrying {
            started,
            failed: None,
            due: until,
        },
        TaskState::Success
        | TaskState::Failed
        | TaskState::Skipped
        | TaskState::UpstreamFailed
        | TaskState::Cancelled => CellState::Ended {
            state,
            started: (started != Timestamp::EPOCH).then_some(started),
            at: until,
        },
    }
}

/// Creates a change of state without an error or a result.
pub(crate) fn change(frame: u32, cell: u32, state: TaskState, attempts: u16) -> TaskEnd {
    TaskEnd::new(row_place(frame, cell), cell_state(state, 20, 30), attempts)
}

/// Returns the time some microseconds after 1970.
pub(crate) fn time(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}
