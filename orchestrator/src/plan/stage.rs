use std::collections::{BTreeSet, HashMap, HashSet};

use super::Instance;
use crate::index::{FrameId, NodeId};

/// The elements of one `expand` with a limit, in one frame: those that are active, and those that
/// wait for their turn.
///
/// An element is active from the start of its first task to the end of its last. While everything
/// that is left of it waits for a retry, it gives up its place.
#[derive(Debug)]
pub(super) struct Stage {
    limit: u32,
    /// The number of elements of the frame.
    len: u32,
    /// The number of nodes of the stage.
    nodes: u32,
    /// The first element that has not had its turn, among those that wait for nothing else.
    next: u32,
    /// The nodes that wait for nothing else.
    roots: Vec<NodeId>,
    /// Instances of the roots that were final before their element had its turn, because they are
    /// recorded in a resumed run.
    early: HashSet<StageTurn>,
    elements: HashMap<u32, StageElement>,
    under_way: u32,
    /// Waiting elements, each with a node that could run.
    waiting: BTreeSet<StageTurn>,
}

/// A node of an element, which has its turn with its element. Ordered by the element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct StageTurn {
    index: u32,
    node: NodeId,
}

impl StageTurn {
    fn of(at: Instance) -> Self {
        let Instance { index, node, .. } = at;
        Self { index, node }
    }
}

#[derive(Debug)]
struct StageElement {
    /// The number of nodes that are not final.
    remaining: u32,
    /// The number of nodes that are ready or running.
    busy: u32,
    under_way: bool,
}

impl Stage {
    pub(super) fn new(limit: u32, len: u32, nodes: u32) -> Self {
        Self {
            limit,
            len,
            nodes,
            next: 0,
            roots: Vec::new(),
            early: HashSet::new(),
            elements: HashMap::new(),
            under_way: 0,
            waiting: BTreeSet::new(),
        }
    }

    fn element(&mut self, index: u32) -> &mut StageElement {
        let remaining = self.nodes;
        self.elements.entry(index).or_insert(StageElement {
            remaining,
            busy: 0,
            under_way: false,
        })
    }

    /// Adds a node whose elements may all run as far as others are concerned. Returns the elements
    /// that have had their turn already.
    pub(super) fn add_root(&mut self, node: NodeId) -> std::ops::Range<u32> {
        self.roots.push(node);
        0..self.next
    }

    /// Adds a node of an element that could run. Returns `true` if it may, because the element is
    /// active.
    pub(super) fn enter(&mut self, at: Instance) -> bool {
        let element = self.element(at.index);
        if element.under_way {
            element.busy += 1;
            return true;
        }
        self.waiting.insert(StageTurn::of(at));
        false
    }

    /// Removes a node of an element that has ended, for good or until its retry.
    pub(super) fn leave(&mut self, at: Instance, was_busy: bool, is_final: bool) {
        if is_final && at.index >= self.next && self.roots.contains(&at.node) {
            self.early.insert(StageTurn::of(at));
        }
        let waited = self.waiting.remove(&StageTurn::of(at));
        let element = self.element(at.index);
        if was_busy && !waited {
            element.busy = element.busy.saturating_sub(1);
        }
        if is_final {
            element.remaining = element.remaining.saturating_sub(1);
        }
        let done = element.remaining == 0;
        let gives_way = done || (!is_final && element.busy == 0);
        if gives_way && std::mem::take(&mut element.under_way) {
            self.under_way -= 1;
        }
        if done {
            self.elements.remove(&at.index);
        }
    }

    /// Takes the instances that may run now. Elements that have begun go first.
    pub(super) fn admit(&mut self, frame: FrameId) -> Vec<Instance> {
        let mut admitted = Vec::new();
        while self.under_way < self.limit {
            let index = match self.waiting.first() {
                Some(turn) => turn.index,
                None if self.next < self.len && !self.roots.is_empty() => {
                    self.next += 1;
                    let index = self.next - 1;
                    let roots = self
                        .roots
                        .iter()
                        .map(|node| StageTurn { index, node: *node });
                    self.waiting
                        .extend(roots.filter(|root| !self.early.remove(root)));
                    if self.waiting.is_empty() {
                        continue;
                    }
                    index
                }
                None => break,
            };
            let turn = |node| StageTurn { index, node };
            let turns: Vec<StageTurn> = self
                .waiting
                .range(turn(NodeId::MIN)..=turn(NodeId::MAX))
                .copied()
                .collect();
            for turn in &turns {
                self.waiting.remove(turn);
            }
            let element = self.element(index);
            element.under_way = true;
            element.busy += u32::try_from(turns.len()).unwrap_or(0);
            self.under_way += 1;
            admitted.extend(turns.into_iter().map(|StageTurn { index, node }| Instance {
                frame,
                node,
                index,
            }));
        }
        admitted
    }
}
