use std::collections::HashMap;
use std::sync::Arc;

use super::stage::Stage;
use crate::policy::trigger::Tally;
use crate::state::TaskState;
use crate::task::Elements;
use crate::task::scope::NONE;
use crate::value::Value;

/// The cells of a flow, or of one mapping's elements, node by node.
#[derive(Debug)]
pub(super) struct Frame {
    /// The mapping, or `NONE` for the flow itself.
    pub(super) region: u32,
    /// Its number in the run's log: its own, but for a run that goes on.
    pub(super) logged: u32,
    /// The element of the outer frame that this mapping was opened in.
    pub(super) parent: (u32, u32),
    pub(super) len: u32,
    /// The list never came: one cell a node stands for the mapping as a whole.
    pub(super) unexpanded: bool,
    pub(super) elements: Option<Arc<Elements>>,
    /// By node, then by element.
    pub(super) cells: Vec<Cell>,
    /// What is known of a node of a mapping over all elements; the flow's own frame has none.
    pub(super) columns: Vec<Column>,
    /// The stages of which only so many elements may be under way.
    pub(super) stages: HashMap<u32, Stage>,
    /// Cells that are not final.
    pub(super) unfinished: usize,
}

/// How far one instance is.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) value: Option<Value>,
    /// Upstreams in the same region that are not satisfied (without a stated rule).
    pub(super) pending: u32,
    /// How many of the node's uses are over.
    pub(super) used: u32,
    /// How many attempts have started.
    pub(super) attempts: u16,
    pub(super) phase: Phase,
}

/// The life of a cell: the first three are all pending.
///
/// The end of an upstream is told only to cells that were begun (`Waiting`), and columns that were: who is begun later
/// reads the upstream's end itself. So nothing is counted twice, whatever ends while nodes are being begun one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its upstreams were not looked at. Elements of a node that waits for nothing in its mapping stay so: they stand in
    /// a ready range, all at once.
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
    /// What became of the upstreams outside of the mapping.
    pub(super) outer: Tally,
    /// Upstreams outside of the mapping that are not satisfied (without a stated rule).
    pub(super) outer_pending: u32,
    /// What became of the elements.
    pub(super) done: Tally,
    pub(super) cancelled: u32,
    /// Its upstreams were looked at; before that, their ends are not told to it.
    pub(super) begun: bool,
    /// All elements were handed to the ready queue, as a range.
    pub(super) released: bool,
}

impl Cell {
    pub(super) const NEW: Self = Self {
        value: None,
        pending: 0,
        used: 0,
        attempts: 0,
        phase: Phase::New,
    };

    pub(super) fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }
}

impl Frame {
    pub(super) fn of_flow() -> Self {
        Self {
            region: NONE,
            logged: 0,
            parent: (0, 0),
            len: 1,
            unexpanded: false,
            elements: None,
            cells: Vec::new(),
            columns: Vec::new(),
            stages: HashMap::new(),
            unfinished: 0,
        }
    }

    pub(super) fn of_mapping(region: u32, parent: (u32, u32), len: u32, nodes: usize) -> Self {
        let cells = nodes * len as usize;
        Self {
            region,
            parent,
            len,
            cells: vec![Cell::NEW; cells],
            columns: vec![Column::default(); nodes],
            unfinished: cells,
            ..Self::of_flow()
        }
    }

    /// Makes room for one more node. Says how many cells it has.
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
