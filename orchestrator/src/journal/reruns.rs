//! Re-runs: which recorded nodes and frames were superseded, and by which.
//!
//! A re-run makes rows pending and keeps their attempts. The flow then requests its nodes again. A
//! node that is wired differently, and a mapping whose list has another length, are recorded under
//! new numbers. They supersede the old ones: they continue their attempts, and the old ones are no
//! longer shown. A row that was to run again but was not requested is not shown either.
//!
//! An example, with a flow of a list, a mapping over it and a sum:
//!
//! ```text
//!                            list      process                sum
//! 1. first execution         node 0    frame 1: [0] [1]       node 3    succeeded, 1 attempt each
//! 2. re-run from `list`      node 0    frame 1: [0] [1]       node 3    pending, attempts kept
//! 3. `list` returns 3 items  node 0    frame 2: [0] [1] [2]   node 3
//! 4. `sum` is wired anew     node 0    frame 2: [0] [1] [2]   node 4
//! ```
//!
//! In step 3, frame 2 supersedes frame 1: `process[0]` and `process[1]` continue with attempt 2,
//! `process[2]` starts with attempt 1. In step 4, node 4 supersedes node 3, and `sum` continues
//! with attempt 2. Frame 1 and node 3 stay in the tables: the attempts of step 1 refer to them.
//!
//! If the flow does not request `sum` any more, its row stays pending. Such a row is hidden once
//! the run has ended, and the next re-run records its node as superseded by `None`.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use chrono::{DateTime, Utc};

use super::place::{ElementPlace, TaskPlace};
use super::row::Row;
use super::tables::{FrameRows, RunTables};
use super::transition::{ClearedRows, FrameMeta};
use crate::graph::{NodeKey, NodeMeta};
use crate::index::{FrameNumber, IndexVec, NodeNumber};
use crate::state::{Rerun, RunState};

/// A re-run of a run: when it was requested, and which tasks it covers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RerunRecord {
    /// When the re-run was requested.
    pub at: DateTime<Utc>,
    /// The tasks that were to run again.
    pub what: Rerun,
}

/// The re-runs of a run, and what they superseded.
#[derive(Clone, Debug)]
pub(crate) struct Reruns {
    pub(super) list: Vec<RerunRecord>,
    /// The number of nodes at the last re-run.
    known: usize,
    /// The last node of each key.
    by_key: HashMap<NodeKey, NodeNumber>,
    /// The last frame of each mapping in each place.
    opened: HashMap<TaskPlace, FrameNumber>,
    nodes: Supersession<NodeNumber>,
    frames: Supersession<FrameNumber>,
}

/// Which items were superseded, and by which.
#[derive(Clone, Debug)]
struct Supersession<N> {
    /// `None` for an item that was not requested again.
    superseded_by: HashMap<N, Option<N>>,
    supersedes: HashMap<N, N>,
}

impl<N> Default for Supersession<N> {
    fn default() -> Self {
        Self {
            superseded_by: HashMap::new(),
            supersedes: HashMap::new(),
        }
    }
}

impl<N: Copy + Eq + Hash> Supersession<N> {
    fn supersede(&mut self, old: N, new: N) {
        self.superseded_by.insert(old, Some(new));
        self.supersedes.insert(new, old);
    }

    /// Returns an item, the item that it superseded, and so on.
    fn lineage(&self, from: N) -> impl Iterator<Item = N> {
        std::iter::successors(Some(from), |last| self.supersedes.get(last).copied())
    }
}

impl Reruns {
    /// Returns the last re-run.
    pub(crate) fn last(&self) -> Option<&RerunRecord> {
        self.list.last()
    }

    fn new(tables: &RunTables) -> Self {
        let nodes = tables.nodes.entries();
        let visible = nodes.filter(|(_, node)| !node.hidden);
        Self {
            list: Vec::new(),
            known: 0,
            by_key: visible
                .map(|(id, node)| (node.key_in_parts(), id))
                .collect(),
            opened: tables.openings().collect(),
            nodes: Supersession::default(),
            frames: Supersession::default(),
        }
    }
}

impl RunTables {
    /// Returns the frames of mappings with the places where they were opened, in the order of their
    /// numbers: of several in one place, the current one comes last.
    pub(crate) fn openings(&self) -> impl Iterator<Item = (TaskPlace, FrameNumber)> {
        let frames = self.frames.entries().skip(1);
        frames.filter_map(|(number, frame)| Some((frame.meta.opening()?, number)))
    }

    /// Returns the nodes of each mapping, and those of the flow itself under `None`, by position.
    pub(crate) fn nodes_by_region(&self) -> HashMap<Option<NodeNumber>, Vec<NodeNumber>> {
        let mut nodes = HashMap::<_, Vec<_>>::new();
        for (id, node) in self.nodes.entries() {
            nodes.entry(node.region).or_default().push(id);
        }
        nodes
    }

    /// Returns `true` if a node was superseded by another, or was not requested again.
    pub(crate) fn is_superseded_node(&self, node: NodeNumber) -> bool {
        self.reruns
            .as_ref()
            .is_some_and(|reruns| reruns.nodes.superseded_by.contains_key(&node))
    }

    /// Returns `true` if a frame, or a frame around it, was superseded.
    pub(crate) fn is_superseded_frame(&self, mut frame: FrameNumber) -> bool {
        let Some(reruns) = self
            .reruns
            .as_ref()
            .filter(|reruns| !reruns.frames.superseded_by.is_empty())
        else {
            return false;
        };
        while frame != FrameNumber::FLOW {
            if reruns.frames.superseded_by.contains_key(&frame) {
                return true;
            }
            frame = self.frames[frame].meta.parent.frame;
        }
        false
    }

    /// Returns the node itself, or the node that superseded it last. Returns `None` if it was not
    /// requested again.
    pub(crate) fn current_node(&self, mut node: NodeNumber) -> Option<NodeNumber> {
        let Some(reruns) = &self.reruns else {
            return Some(node);
        };
        while let Some(next) = reruns.nodes.superseded_by.get(&node) {
            node = (*next)?;
        }
        Some(node)
    }

    /// Returns the nodes all of whose current rows are to run again, including those that have no
    /// rows.
    pub(crate) fn cleared_nodes(&self) -> HashSet<NodeNumber> {
        if self.reruns.is_none() {
            return HashSet::new();
        }
        let regions = self.nodes_by_region();
        let mut kept = HashSet::new();
        for (_, frame) in self
            .frames
            .entries()
            .filter(|(number, _)| !self.is_superseded_frame(*number))
        {
            let len = frame.meta.len as usize;
            for (local, node) in regions
                .get(&frame.meta.region)
                .into_iter()
                .flatten()
                .enumerate()
            {
                if frame
                    .rows
                    .iter()
                    .skip(local * len)
                    .take(len)
                    .any(|row| !row.cleared)
                {
                    kept.insert(*node);
                }
            }
        }
        self.nodes
            .ids()
            .filter(|node| !kept.contains(node))
            .collect()
    }

    /// Makes a final run and the given rows pending.
    pub(super) fn clear(&mut self, cleared: &ClearedRows) {
        let mut reruns = self
            .reruns
            .take()
            .unwrap_or_else(|| Box::new(Reruns::new(self)));
        let what = cleared.what.clone();
        reruns.list.push(RerunRecord {
            at: cleared.at.to_datetime().unwrap_or_default(),
            what,
        });
        reruns.known = self.nodes.len();
        self.reruns = Some(reruns);
        self.drop_unrequested();
        for place in cleared.rows() {
            let row = self
                .frames
                .get_mut(place.frame)
                .and_then(|frame| frame.rows.get_mut(place.cell as usize));
            if let Some(row) = row {
                *row = row.for_rerun();
                row.cleared = true;
                self.notes.remove(&place);
            }
        }
        debug_assert!(!self.state.is_final() || self.state.may_become(RunState::Pending));
        (self.state, self.started, self.end, self.pruned) = (RunState::Pending, None, None, false);
    }

    /// Marks the nodes of the previous re-run that the flow did not request as superseded, and
    /// resets the marks of all rows.
    fn drop_unrequested(&mut self) {
        let regions = self.nodes_by_region();
        let mut rows_of = IndexVec::<NodeNumber, _>::from(vec![(false, true); self.nodes.len()]);
        for number in self.frames.ids() {
            let is_superseded = self.is_superseded_frame(number);
            let frame = &mut self.frames[number];
            let len = frame.meta.len as usize;
            for (local, node) in regions
                .get(&frame.meta.region)
                .into_iter()
                .flatten()
                .enumerate()
            {
                let (any, open) = &mut rows_of[*node];
                for row in frame.rows.iter_mut().skip(local * len).take(len) {
                    *any |= !is_superseded;
                    *open &= is_superseded || row.is_rerun_pending();
                    row.cleared = false;
                }
            }
        }
        let Some(reruns) = &mut self.reruns else {
            return;
        };
        for ((node, meta), (any, open)) in self.nodes.entries().zip(&rows_of) {
            if *any && *open && !meta.hidden {
                reruns.nodes.superseded_by.entry(node).or_insert(None);
            }
        }
    }

    /// Adds planned nodes to a run that was re-run. A node with the key of an older one supersedes
    /// it.
    pub(super) fn plan_in_rerun(&mut self, nodes: Vec<NodeMeta>) {
        let Some(mut reruns) = self.reruns.take() else {
            return;
        };
        let mut left = HashMap::new();
        for node in nodes {
            let id = self.nodes.next_id();
            let mut row = Row::PENDING;
            let old = (!node.hidden)
                .then(|| reruns.by_key.insert(node.key_in_parts(), id))
                .flatten();
            if let Some(old) = old {
                reruns.nodes.supersede(old, id);
                let theirs = &self.nodes[old];
                if (theirs.region, node.region) == (None, None) {
                    row = self.frames[FrameNumber::FLOW]
                        .rows
                        .get(theirs.local as usize)
                        .map_or(Row::PENDING, Row::for_rerun);
                }
                let both = self.mappings(theirs.region).zip(self.mappings(node.region));
                left.extend(both.take_while(|(mapping, new)| mapping != new));
            }
            match node.region {
                None => self.frames[FrameNumber::FLOW].rows.push(row),
                Some(region) => *self.members.entry(region).or_default() += 1,
            }
            self.nodes.push(node);
        }
        if !left.is_empty() {
            let regions = self.nodes_by_region();
            let is_superseded = |node: &NodeNumber| {
                self.nodes[*node].hidden || reruns.nodes.superseded_by.contains_key(node)
            };
            // a mapping's own node is hidden: it is superseded when all of its tasks are
            left.retain(|mapping, _| {
                let members = regions.get(&Some(*mapping));
                members.into_iter().flatten().all(is_superseded)
            });
            let left = left.into_iter().map(|(old, new)| (old, Some(new)));
            reruns.nodes.superseded_by.extend(left);
        }
        self.reruns = Some(reruns);
    }

    /// Completes the last frame, which was just opened: in a run that was re-run it may supersede
    /// another.
    pub(super) fn opened_in_rerun(&mut self) {
        let Some(reruns) = &mut self.reruns else {
            return;
        };
        let Some((new, FrameRows { meta, .. })) = self.frames.entries().next_back() else {
            return;
        };
        if let Some(opening) = meta.opening()
            && let Some(old) = reruns.opened.insert(opening, new)
        {
            reruns.frames.supersede(old, new);
        }
        let (region, len, known) = (meta.region, meta.len as usize, reruns.known);
        self.carry_over(new, 0);
        // nodes that are older than the re-run may not be requested any more: marked, their rows
        // are hidden unless they run
        let members = self
            .nodes
            .iter()
            .take(known)
            .filter(|node| node.region == region)
            .count();
        self.frames[new]
            .rows
            .iter_mut()
            .take(members * len)
            .for_each(|row| row.cleared = true);
    }

    /// Completes a frame to which rows for more nodes were appended: in a run that was re-run they
    /// may supersede others.
    pub(super) fn extended_in_rerun(&mut self, frame: FrameNumber, rows_before: usize) {
        let FrameRows { meta, rows } = &self.frames[frame];
        if self.reruns.is_some() && rows.len() > rows_before && meta.len > 0 {
            let first = rows_before / meta.len as usize;
            self.carry_over(frame, first);
        }
    }

    /// Copies the attempt counts of superseded rows to the rows with the same keys, for the nodes
    /// of a frame from `first` on. The older rows may be in older frames, or belong to older nodes.
    fn carry_over(&mut self, frame: FrameNumber, first: usize) {
        let Some(reruns) = self.reruns.take() else {
            return;
        };
        let meta = self.frames[frame].meta.clone();
        let path = self.path(meta.parent);
        let members = self
            .nodes
            .entries()
            .filter(|(_, node)| node.region == meta.region)
            .map(|(id, _)| id);
        let members: Vec<NodeNumber> = members.collect();
        for (local, member) in members.into_iter().enumerate().skip(first) {
            let mut rows: Vec<Row> = Vec::new();
            for node in reruns.nodes.lineage(member) {
                let known = self.frames_at(&reruns, self.nodes[node].region, &path);
                for known in known
                    .into_iter()
                    .filter(|known| *known != frame || node != member)
                {
                    // newest first: each frame only adds elements that the newer ones did not have
                    let theirs = self.rows_of(node, known, &meta).iter().skip(rows.len());
                    rows.extend(theirs.map(Row::for_rerun));
                }
            }
            let places = self.frames[frame]
                .rows
                .iter_mut()
                .skip(local * meta.len as usize);
            places.zip(rows).for_each(|(place, row)| *place = row);
        }
        self.reruns = Some(reruns);
    }

    /// Returns the rows of a node in a frame, for the elements that it has in common with the frame
    /// `of`.
    fn rows_of(&self, node: NodeNumber, frame: FrameNumber, of: &FrameMeta) -> &[Row] {
        let FrameRows { meta, rows } = &self.frames[frame];
        if meta.unexpanded != of.unexpanded {
            return &[];
        }
        let from = self.nodes[node].local as usize * meta.len as usize;
        rows.get(from..from + meta.len.min(of.len) as usize)
            .unwrap_or_default()
    }

    /// Returns a mapping, the mapping around it, and so on.
    pub(crate) fn mappings(&self, region: Option<NodeNumber>) -> impl Iterator<Item = NodeNumber> {
        // an outer mapping has a lower number; in a damaged file it may not, and this would not end
        let outer = |region: &NodeNumber| {
            let mapping = self.nodes.get(*region)?;
            mapping.region.filter(|outer| outer < region)
        };
        std::iter::successors(region, outer)
    }

    /// Returns the frames that a mapping had in the element at `path`, the last one first.
    fn frames_at(
        &self,
        reruns: &Reruns,
        region: Option<NodeNumber>,
        path: &[u32],
    ) -> Vec<FrameNumber> {
        let mut mappings: Vec<NodeNumber> = self.mappings(region).collect();
        if mappings.len() != path.len() + 1 {
            return Vec::new();
        }
        mappings.reverse();
        let mut frames = vec![FrameNumber::FLOW];
        for (mapping, index) in mappings.into_iter().zip(std::iter::once(&0).chain(path)) {
            let index = *index;
            let inner = frames.iter().filter_map(|frame| {
                let element = ElementPlace {
                    frame: *frame,
                    index,
                };
                reruns.opened.get(&element.of(mapping)).copied()
            });
            frames = inner
                .flat_map(|frame| reruns.frames.lineage(frame))
                .collect();
        }
        frames
    }
}
