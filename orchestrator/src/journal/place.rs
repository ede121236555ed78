//! Places in the tables of a run.

use crate::index::{FrameNumber, NodeNumber};

/// The place of a row: its frame, and its cell there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RowPlace {
    pub(crate) frame: FrameNumber,
    pub(crate) cell: u32,
}

/// The place of an element: its frame, and its index there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ElementPlace {
    pub(crate) frame: FrameNumber,
    pub(crate) index: u32,
}

/// The place of a node, or of an element of one. Ordered by the node, then by the element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TaskPlace {
    pub(crate) node: NodeNumber,
    pub(crate) frame: FrameNumber,
    pub(crate) index: u32,
}

impl ElementPlace {
    /// The place of the flow's only element.
    pub(crate) const FLOW: Self = Self {
        frame: FrameNumber::FLOW,
        index: 0,
    };

    /// Returns the place of a node in this element.
    pub(crate) fn of(self, node: NodeNumber) -> TaskPlace {
        let Self { frame, index } = self;
        TaskPlace { node, frame, index }
    }
}

impl TaskPlace {
    /// Returns the place of a node of the flow itself.
    pub(crate) fn in_flow(node: NodeNumber) -> Self {
        ElementPlace::FLOW.of(node)
    }

    /// Returns the element that the node is in.
    pub(crate) fn element(self) -> ElementPlace {
        let Self { frame, index, .. } = self;
        ElementPlace { frame, index }
    }
}
