use std::collections::HashMap;
use std::sync::Arc;

use super::Instance;
use super::stage::Stage;
use crate::index::{FrameId, FrameNumber, NodeId, StageId};
use crate::policy::trigger::Tally;
use crate::state::TaskState;
use crate::task::Elements;
use crate::value::Value;

/// The cells of a flow, or of one mapping's elements, node by node.
#[derive(Debug)]
pub(super) struct Frame {
    /// The mapping; `None` for the flow itself.
    pub(super) region: Option<NodeId>,
    /// The frame's number in the run's log: the same as its own, except in a resumed run. `None` if
    /// the frame is not recorded: its rows then end with the run.
    pub(super) logged: Option<FrameNumber>,
    /// The element of the outer frame in which this mapping was opened.
    pub(super) parent: ElementId,
    pub(super) len: u32,
    /// Whether the list never became available. If so, one cell per node stands for the whole
    /// mapping.
    pub(super) unexpanded: bool,
    pub(super) elements: Option<Arc<Elements>>,
    /// By node, then by element.
    pub(super) cells: Vec<Cell>,
    /// The state of each node of a mapping over all elements; empty in the flow's own frame.
    pub(super) columns: Vec<Column>,
    /// The stages with a limit on active elements.
    pub(super) stages: HashMap<StageId, Stage>,
    /// The number of cells that are not final.
    pub(super) unfinished: usize,
}

/// One element of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ElementId {
    pub(super) frame: FrameId,
    pub(super) index: u32,
}

/// The progress of one instance.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) value: Option<Value>,
    /// The number of upstreams in the same region that have not ended; under a stated rule, of
    /// those whose value is needed and not there yet.
    pub(super) pending: u32,
    /// The number of consumers that have released the value.
    pub(super) used: u32,
    /// The number of attempts that have started.
    pub(super) attempts: u16,
    pub(super) phase: Phase,
    /// Whether its end was recorded in an earlier execution of the run.
    pub(super) recorded: bool,
}

/// The states of a cell; the first three are all pending.
///
/// The end of an upstream is propagated only to cells that have begun (`Waiting`), and to columns
/// that have begun; cells and columns that begin later read the upstream's end themselves. Nothing
/// is therefore counted twice, even if upstreams end while nodes begin one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its upstreams were not read yet. Elements of a node without upstreams in its mapping stay in
    /// this state: they are made ready all at once, as a range.
    New,
    Waiting,
    Ready,
    Running,
    Retrying,
    Ended(TaskState),
}

/// One node of a mapping, over all elements.
#[derive(Clone, Debug, Default)]
pub(super) struct Column {
    /// The states of the upstreams outside of the mapping.
    pub(super) outer: Tally,
    /// The same for upstreams outside of the mapping.
    pub(super) outer_pending: u32,
    /// The states of the elements.
    pub(super) done: Tally,
    pub(super) cancelled: u32,
    /// Whether its upstreams were read; before that, their ends are not propagated to it.
    pub(super) begun: bool,
    /// Whether all elements were added to the ready queue, as a range.
    pub(super) released: bool,
}

impl ElementId {
    /// The only element of the flow's frame.
    const FLOW: Self = Self {
        frame: FrameId::FLOW,
        index: 0,
    };

    /// Returns the instance of a node in this element.
    pub(super) fn of(self, node: NodeId) -> Instance {
        let Self { frame, index } = self;
        Instance { frame, node, index }
    }
}

impl Cell {
    pub(super) const NEW: Self = Self {
        value: None,
        pending: 0,
        used: 0,
        attempts: 0,
        phase: Phase::New,
        recorded: false,
    };

    pub(super) fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }
}

impl Frame {
    pub(super) fn of_flow() -> Self {
        Self {
            region: None,
            logged: Some(FrameNumber::FLOW),
            parent: ElementId::FLOW,
            len: 1,
            unexpanded: false,
            elements: None,
            cells: Vec::new(),
            columns: Vec::new(),
            stages: HashMap::new(),
            unfinished: 0,
        }
    }

    pub(super) fn of_mapping(mapping: Instance, len: u32, nodes: usize) -> Self {
        let cells = nodes * len as usize;
        Self {
            region: Some(mapping.node),
            logged: None,
            parent: mapping.element(),
            len,
            cells: vec![Cell::NEW; cells],
            columns: vec![Column::default(); nodes],
            unfinished: cells,
            ..Self::of_flow()
        }
    }

    /// Adds the cells of one more node. Returns the number of new cells.
    pub(super) fn extend(&mut self) -> usize {
        let more = self.len as usize;
        self.cells.resize(self.cells.len() + more, Cell::NEW);
        self.columns.push(Column::default());
        self.unfinished += more;
        more
    }

    fn at(&self, local: u32, index: u32) -> usize {
        local as usize * self.len as usize + index as usize
    }

    pub(super) fn cell(&self, local: u32, index: u32) -> &Cell {
        &self.cells[self.at(local, index)]
    }

    pub(super) fn cell_mut(&mut self, local: u32, index: u32) -> &mut Cell {
        let at = self.at(local, index);
        &mut self.cells[at]
    }
}

impl Column {
    pub(super) fn ended(&self) -> u32 {
        self.done.success
            + self.done.failed
            + self.done.upstream_failed
            + self.done.skipped
            + self.cancelled
    }
}
