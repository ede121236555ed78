//! Ready work, in the order in which it starts.

use std::cmp::Ordering;

use super::Instance;
use crate::index::{FrameId, NodeId};

/// Ready work: one instance, or the elements of one node from the key's index to `end`. Ordered by
/// its key; the greatest starts first, since a `BinaryHeap` pops the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ReadyWork {
    key: ReadyKey,
    frame: FrameId,
    end: u32,
}

/// The order of ready work. The greatest starts first:
///
/// 1. the node that comes first in the flow itself; all nodes of a mapping have the place of the
///    outermost mapping;
/// 2. among the nodes of a mapping, the one that was added last, so that elements that have begun
///    are finished before others begin;
/// 3. among the elements of a node, the one with the smallest index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ReadyKey {
    /// The node's place in the flow itself.
    order: NodeId,
    node: NodeId,
    index: u32,
}

impl Ord for ReadyKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_order = other.order.cmp(&self.order);
        by_order
            .then_with(|| self.node.cmp(&other.node))
            .then_with(|| other.index.cmp(&self.index))
    }
}

impl PartialOrd for ReadyKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl ReadyWork {
    /// Creates ready work: the elements of a node from that of `first` up to, but not including,
    /// `end`.
    pub(super) fn new(order: NodeId, first: Instance, end: u32) -> Self {
        let Instance { frame, node, index } = first;
        let key = ReadyKey { order, node, index };
        Self { key, frame, end }
    }

    /// Returns the instance that starts first.
    pub(super) fn instance(&self) -> Instance {
        let ReadyKey { node, index, .. } = self.key;
        let frame = self.frame;
        Instance { frame, node, index }
    }

    /// Advances to the next element. Returns `false` if there are no more elements.
    pub(super) fn advance(&mut self) -> bool {
        let has_next = self.key.index + 1 < self.end;
        if has_next {
            self.key.index += 1;
        }
        has_next
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BinaryHeap;

    use super::*;

    #[test]
    fn earlier_nodes_then_later_stages_then_lower_indexes_start_first() {
        // node 1 is a mapping of the nodes 2 and 3, node 4 comes after it
        let places = [
            (4, 4, 0),
            (1, 2, 0),
            (1, 3, 1),
            (0, 0, 0),
            (1, 2, 1),
            (1, 3, 0),
        ];
        let ready = |(order, node, index)| {
            let first = Instance {
                index,
                ..Instance::in_flow(NodeId::new(node))
            };
            ReadyWork::new(NodeId::new(order), first, index + 1)
        };
        let mut heap: BinaryHeap<ReadyWork> = places.into_iter().map(ready).collect();
        let started = std::iter::from_fn(|| heap.pop()).map(|ready| ready.instance());
        let started: Vec<(u32, u32)> = started.map(|at| (at.node.get(), at.index)).collect();
        assert_eq!(started, [(0, 0), (3, 0), (3, 1), (2, 0), (2, 1), (4, 0)]);
    }

    #[test]
    fn a_range_is_handed_out_element_by_element() {
        let first = Instance::in_flow(NodeId::MIN);
        let mut ready = ReadyWork::new(NodeId::MIN, first, 3);
        let mut indexes = vec![ready.instance().index];
        while ready.advance() {
            indexes.push(ready.instance().index);
        }
        assert_eq!(indexes, [0, 1, 2]);
    }
}
