use std::collections::{BTreeSet, HashMap, HashSet};

use super::Instance;

/// The elements of one `expand` with a limit, in one frame: which are under way, and which wait for their turn.
///
/// An element is under way from the start of its first task to the end of its last; while all that is left of it waits
/// for a retry, it gives its place away.
#[derive(Debug)]
pub(super) struct Stage {
    limit: u32,
    /// How many elements the frame has.
    len: u32,
    /// How many nodes the stage has.
    nodes: u32,
    /// The first element that has not had its turn, among those that wait for nothing else.
    next: u32,
    /// The nodes that wait for nothing else.
    roots: Vec<u32>,
    /// Instances of those that were final before their element had its turn: in a run that goes on, they were recorded.
    early: HashSet<(u32, u32)>,
    elements: HashMap<u32, Element>,
    under_way: u32,
    /// Elements, with the node that could run.
    waiting: BTreeSet<(u32, u32)>,
}

#[derive(Debug)]
struct Element {
    /// Nodes that are not final.
    remaining: u32,
    /// Nodes that are ready or running.
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

    fn element(&mut self, index: u32) -> &mut Element {
        let remaining = self.nodes;
        self.elements.entry(index).or_insert(Element {
            remaining,
            busy: 0,
            under_way: false,
        })
    }

    /// All elements of a node may run, as far as others are concerned. Gives those that had their turn already.
    pub(super) fn add_root(&mut self, node: u32) -> std::ops::Range<u32> {
        self.roots.push(node);
        0..self.next
    }

    /// A node of an element could run. Says whether it may: whether the element is under way.
    pub(super) fn enter(&mut self, at: Instance) -> bool {
        let element = self.element(at.index);
        if element.under_way {
            element.busy += 1;
            return true;
        }
        self.waiting.insert((at.index, at.node));
        false
    }

    /// A node of an element is done, for good or until its retry.
    pub(super) fn leave(&mut self, at: Instance, was_busy: bool, is_final: bool) {
        if is_final && at.index >= self.next && self.roots.contains(&at.node) {
            self.early.insert((at.index, at.node));
        }
        let waited = self.waiting.remove(&(at.index, at.node));
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

    /// The instances that may run now. Elements that have begun go first.
    pub(super) fn admit(&mut self, frame: u32) -> Vec<Instance> {
        let mut admitted = Vec::new();
        while self.under_way < self.limit {
            let index = match self.waiting.first() {
                Some((index, _)) => *index,
                None if self.next < self.len && !self.roots.is_empty() => {
                    self.next += 1;
                    let index = self.next - 1;
                    let roots = self.roots.iter().map(|node| (index, *node));
                    self.waiting
                        .extend(roots.filter(|root| !self.early.remove(root)));
                    if self.waiting.is_empty() {
                        continue;
                    }
                    index
                }
                None => break,
            };
            let nodes: Vec<(u32, u32)> = self
                .waiting
                .range((index, 0)..=(index, u32::MAX))
                .copied()
                .collect();
            for waiting in &nodes {
                self.waiting.remove(waiting);
            }
            let element = self.element(index);
            element.under_way = true;
            element.busy += u32::try_from(nodes.len()).unwrap_or(0);
            self.under_way += 1;
            admitted.extend(
                nodes
                    .into_iter()
                    .map(|(index, node)| Instance { frame, node, index }),
            );
        }
        admitted
    }
}
