//! What a run's tables hold once it was run again.
//!
//! A re-run makes rows pending and keeps their attempts. What the flow asks for anew, it asks for in place of what it
//! asked for before: a node that is wired otherwise, a mapping whose list has another length. Both are recorded under
//! numbers of their own and go on with the attempts of what they stand in for, which is not shown any more; nor is what
//! was to run again, and was not asked for. Runs that were never run again have none of this.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};

use super::tables::{Frame, Row, RunTables};
use super::transition::{Cleared, FrameMeta};
use crate::graph::{NodeKey, NodeMeta};
use crate::state::{Rerun, RunState};
use crate::task::scope::NONE;

/// That a run was run again: when that was asked for, and of what.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RerunRecord {
    /// When it was asked for.
    pub at: DateTime<Utc>,
    /// What was to run again.
    pub what: Rerun,
}

/// A mapping, and the element that it is in: its frame there, and its index.
pub(crate) type Opening = (u32, u32, u32);

#[derive(Clone, Debug)]
pub(crate) struct Reruns {
    pub(super) list: Vec<RerunRecord>,
    /// How many nodes there were at the last of them.
    known: u32,
    /// Of several nodes that had a key, the last.
    by_key: HashMap<NodeKey, u32>,
    /// Of several frames that a mapping had in one place, the last.
    opened: HashMap<Opening, u32>,
    nodes: Succession,
    frames: Succession,
}

/// What stands in for what; `NONE` for what nobody asked for again.
#[derive(Clone, Debug, Default)]
struct Succession {
    after: HashMap<u32, u32>,
    before: HashMap<u32, u32>,
}

impl Succession {
    fn succeed(&mut self, old: u32, new: u32) {
        self.after.insert(old, new);
        self.before.insert(new, old);
    }

    /// Something, what it stands in for, and so on.
    fn back(&self, from: u32) -> impl Iterator<Item = u32> {
        std::iter::successors(Some(from), |last| self.before.get(last).copied())
    }
}

impl Row {
    /// The row of what stands in for this.
    fn again(&self) -> Self {
        let Self {
            attempts,
            crashes,
            cleared,
            ..
        } = *self;
        Self {
            attempts,
            crashes,
            uncounted: attempts,
            cleared,
            ..Self::PENDING
        }
    }
}

impl Reruns {
    /// The last re-run.
    pub(crate) fn last(&self) -> Option<&RerunRecord> {
        self.list.last()
    }

    fn new(tables: &RunTables) -> Self {
        let visible = (0..).zip(&tables.nodes).filter(|(_, node)| !node.hidden);
        Self {
            list: Vec::new(),
            known: 0,
            by_key: visible
                .map(|(id, node)| (node.key_in_parts(), id))
                .collect(),
            opened: tables.openings().collect(),
            nodes: Succession::default(),
            frames: Succession::default(),
        }
    }
}

impl RunTables {
    /// The frames of mappings, by where they were opened; where several were, the last comes last.
    pub(crate) fn openings(&self) -> impl Iterator<Item = (Opening, u32)> {
        let frames = (0..).zip(&self.frames).skip(1);
        frames.map(|(id, frame)| {
            (
                (frame.meta.region, frame.meta.parent.0, frame.meta.parent.1),
                id,
            )
        })
    }

    /// The nodes of each mapping, and those of the flow itself, by their places there.
    pub(crate) fn nodes_by_region(&self) -> HashMap<u32, Vec<u32>> {
        let mut nodes = HashMap::<_, Vec<u32>>::new();
        for (id, node) in (0..).zip(&self.nodes) {
            nodes.entry(node.region).or_default().push(id);
        }
        nodes
    }

    /// Whether a node is not a part of the run any more: another stands in for it, or it was not asked for again.
    pub(crate) fn is_past_node(&self, node: u32) -> bool {
        self.reruns
            .as_ref()
            .is_some_and(|reruns| reruns.nodes.after.contains_key(&node))
    }

    /// Whether another frame stands in for a frame, or for one that it is in.
    pub(crate) fn is_past_frame(&self, mut frame: u32) -> bool {
        let Some(reruns) = self
            .reruns
            .as_ref()
            .filter(|reruns| !reruns.frames.after.is_empty())
        else {
            return false;
        };
        while frame != 0 {
            if reruns.frames.after.contains_key(&frame) {
                return true;
            }
            frame = self.frames[frame as usize].meta.parent.0;
        }
        false
    }

    /// The node that stands in for a node, if it is not itself a part of the run.
    pub(crate) fn current_node(&self, mut node: u32) -> u32 {
        let Some(reruns) = &self.reruns else {
            return node;
        };
        while let Some(next) = reruns.nodes.after.get(&node) {
            node = *next;
        }
        node
    }

    /// The nodes that are to run again with all of their elements, or that have nothing that could be kept.
    pub(crate) fn cleared_nodes(&self) -> HashSet<u32> {
        if self.reruns.is_none() {
            return HashSet::new();
        }
        let regions = self.nodes_by_region();
        let mut kept = HashSet::new();
        for (_, frame) in (0..)
            .zip(&self.frames)
            .filter(|(number, _)| !self.is_past_frame(*number))
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
        (0..)
            .take(self.nodes.len())
            .filter(|node| !kept.contains(node))
            .collect()
    }

    /// The run, which was final, is run again.
    pub(super) fn clear(&mut self, cleared: &Cleared) {
        let mut reruns = self
            .reruns
            .take()
            .unwrap_or_else(|| Box::new(Reruns::new(self)));
        let what = cleared.what.clone();
        reruns.list.push(RerunRecord {
            at: DateTime::from_timestamp_micros(cleared.at).unwrap_or_default(),
            what,
        });
        reruns.known = u32::try_from(self.nodes.len()).unwrap_or(NONE);
        self.reruns = Some(reruns);
        self.leave_behind();
        for (frame, cell) in cleared.cells() {
            let row = self
                .frames
                .get_mut(frame as usize)
                .and_then(|frame| frame.rows.get_mut(cell as usize));
            if let Some(row) = row {
                *row = Row {
                    cleared: true,
                    ..row.again()
                };
                self.notes.remove(&(frame, cell));
            }
        }
        debug_assert!(!self.state.is_final() || self.state.may_become(RunState::Pending));
        (self.state, self.started, self.end, self.pruned) = (RunState::Pending, 0, None, false);
    }

    /// What an earlier re-run was to run, and the flow did not ask for, is no part of the run any more.
    fn leave_behind(&mut self) {
        let regions = self.nodes_by_region();
        let mut rows_of = vec![(false, true); self.nodes.len()];
        for number in 0..self.frames.len() {
            let is_past = u32::try_from(number).is_ok_and(|number| self.is_past_frame(number));
            let frame = &mut self.frames[number];
            let len = frame.meta.len as usize;
            for (local, node) in regions
                .get(&frame.meta.region)
                .into_iter()
                .flatten()
                .enumerate()
            {
                let (any, open) = &mut rows_of[*node as usize];
                for row in frame.rows.iter_mut().skip(local * len).take(len) {
                    *any |= !is_past;
                    *open &= is_past || row.is_open_again();
                    row.cleared = false;
                }
            }
        }
        let Some(reruns) = &mut self.reruns else {
            return;
        };
        for ((node, meta), (any, open)) in (0..).zip(&self.nodes).zip(rows_of) {
            if any && open && !meta.hidden {
                reruns.nodes.after.entry(node).or_insert(NONE);
            }
        }
    }

    /// Nodes were planned in a run that was run again.
    pub(super) fn plan_again(&mut self, nodes: Vec<NodeMeta>) {
        let Some(mut reruns) = self.reruns.take() else {
            return;
        };
        let mut left = HashMap::new();
        for node in nodes {
            let id = u32::try_from(self.nodes.len()).unwrap_or(NONE);
            let mut row = Row::PENDING;
            let old = (!node.hidden)
                .then(|| reruns.by_key.insert(node.key_in_parts(), id))
                .flatten();
            if let Some(old) = old {
                reruns.nodes.succeed(old, id);
                let theirs = &self.nodes[old as usize];
                if (theirs.region, node.region) == (NONE, NONE) {
                    row = self.frames[0]
                        .rows
                        .get(theirs.local as usize)
                        .map_or(Row::PENDING, Row::again);
                }
                let both = self.mappings(theirs.region).zip(self.mappings(node.region));
                left.extend(both.take_while(|(mapping, new)| mapping != new));
            }
            match node.region {
                NONE => self.frames[0].rows.push(row),
                region => *self.members.entry(region).or_default() += 1,
            }
            self.nodes.push(node);
        }
        if !left.is_empty() {
            let regions = self.nodes_by_region();
            let is_past = |node: &u32| {
                self.nodes[*node as usize].hidden || reruns.nodes.after.contains_key(node)
            };
            // a mapping is known by its tasks
            left.retain(|mapping, _| regions.get(mapping).into_iter().flatten().all(is_past));
            reruns.nodes.after.extend(left);
        }
        self.reruns = Some(reruns);
    }

    /// The last frame was opened: in a run that was run again, it may stand in for another.
    pub(super) fn opened_again(&mut self) {
        let Some(reruns) = &mut self.reruns else {
            return;
        };
        let new = u32::try_from(self.frames.len() - 1).unwrap_or(NONE);
        let meta = &self.frames[new as usize].meta;
        if let Some(old) = reruns
            .opened
            .insert((meta.region, meta.parent.0, meta.parent.1), new)
        {
            reruns.frames.succeed(old, new);
        }
        let (region, len, known) = (meta.region, meta.len as usize, reruns.known as usize);
        self.carry(new, 0);
        // nodes that were there before may not be asked for any more
        let members = self
            .nodes
            .iter()
            .take(known)
            .filter(|node| node.region == region)
            .count();
        self.frames[new as usize]
            .rows
            .iter_mut()
            .take(members * len)
            .for_each(|row| row.cleared = true);
    }

    /// A frame got rows for more nodes: in a run that was run again, they may stand in for others.
    pub(super) fn extended_again(&mut self, frame: u32, rows_before: usize) {
        let Frame { meta, rows } = &self.frames[frame as usize];
        if self.reruns.is_some() && rows.len() > rows_before && meta.len > 0 {
            let first = rows_before / meta.len as usize;
            self.carry(frame, first);
        }
    }

    /// Lets the rows of a frame's nodes go on where the rows with the same keys are, in older frames or of older nodes.
    fn carry(&mut self, frame: u32, first: usize) {
        let Some(reruns) = self.reruns.take() else {
            return;
        };
        let meta = self.frames[frame as usize].meta.clone();
        let path = self.path(meta.parent.0, meta.parent.1);
        let members = (0..)
            .zip(&self.nodes)
            .filter(|(_, node)| node.region == meta.region)
            .map(|(id, _)| id);
        let members: Vec<u32> = members.collect();
        for (local, member) in members.into_iter().enumerate().skip(first) {
            let mut rows: Vec<Row> = Vec::new();
            for node in reruns.nodes.back(member) {
                let known = self.frames_at(&reruns, self.nodes[node as usize].region, &path);
                for known in known
                    .into_iter()
                    .filter(|known| *known != frame || node != member)
                {
                    // the last one that had such an element
                    let theirs = self.rows_of(node, known, &meta).iter().skip(rows.len());
                    rows.extend(theirs.map(Row::again));
                }
            }
            let places = self.frames[frame as usize]
                .rows
                .iter_mut()
                .skip(local * meta.len as usize);
            places.zip(rows).for_each(|(place, row)| *place = row);
        }
        self.reruns = Some(reruns);
    }

    /// The rows of a node in a frame that stand for the same elements as those of another frame.
    fn rows_of(&self, node: u32, frame: u32, of: &FrameMeta) -> &[Row] {
        let Frame { meta, rows } = &self.frames[frame as usize];
        if meta.unexpanded != of.unexpanded {
            return &[];
        }
        let from = self.nodes[node as usize].local as usize * meta.len as usize;
        rows.get(from..from + meta.len.min(of.len) as usize)
            .unwrap_or_default()
    }

    /// A mapping, the one that it is in, and so on.
    pub(super) fn mappings(&self, region: u32) -> impl Iterator<Item = u32> {
        // what holds others comes before them: else the file is damaged
        let outer = |region: &u32| {
            let mapping = self.nodes.get(*region as usize)?;
            Some(mapping.region).filter(|outer| outer < region)
        };
        std::iter::successors(Some(region).filter(|region| *region != NONE), outer)
    }

    /// The frames that a mapping had in the element that indexes lead to, the last one first.
    fn frames_at(&self, reruns: &Reruns, region: u32, path: &[u32]) -> Vec<u32> {
        let mut mappings: Vec<u32> = self.mappings(region).collect();
        if mappings.len() != path.len() + 1 {
            return Vec::new();
        }
        mappings.reverse();
        let mut frames = vec![0];
        for (mapping, index) in mappings.into_iter().zip(std::iter::once(&0).chain(path)) {
            let inner = frames
                .iter()
                .filter_map(|frame| reruns.opened.get(&(mapping, *frame, *index)).copied());
            frames = inner.flat_map(|frame| reruns.frames.back(frame)).collect();
        }
        frames
    }
}
