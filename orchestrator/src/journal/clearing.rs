//! Which rows a re-run makes pending again, as a pure function of the record of the run.
//!
//! A re-run covers everything downstream of the chosen rows. Downstream of a row are:
//! - the tasks that take its result or wait for it: element by element if they are in the same
//!   mapping;
//! - all elements of a mapping, if the row is the mapping's list;
//! - the flow in the flow that it belongs to;
//! - if a body awaited it, everything that this body planned afterwards: the body may have branched
//!   on it.
//!
//! The hidden nodes of mappings are recreated in each execution, so that even a re-run of one task
//! alone covers them.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use orchestrator_grammar::similar::nearest;

use super::await_order::Delivery;
use super::place::{ElementPlace, TaskPlace};
use super::tables::RunTables;
use super::transition::CellRange;
use crate::error::RerunError;
use crate::index::{FrameNumber, IndexVec, NodeNumber};
use crate::state::{Rerun, RunState, TaskState};

/// Returns the cells that a re-run makes pending.
///
/// # Errors
///
/// Returns [`RerunError`] if nothing failed, or if the key names no task.
pub(crate) fn cells(
    tables: &RunTables,
    deliveries: &[Delivery],
    what: &Rerun,
) -> Result<Vec<CellRange>, RerunError> {
    let alone = matches!(what, Rerun::Only(_));
    let mut clearing = Clearing::new(tables, deliveries, alone);
    match what {
        Rerun::All => clearing.mark_where(|_| true),
        Rerun::Failed => {
            clearing.mark_failed();
            if clearing.stack.is_empty() && tables.state == RunState::Success {
                return Err(RerunError::NothingFailed {
                    run: tables.head.id,
                });
            }
        }
        Rerun::From(key) | Rerun::Only(key) => clearing.mark_key(key)?,
    }
    if *what != Rerun::All {
        clearing.spread();
    }
    Ok(clearing.ranges())
}

struct Clearing<'a> {
    tables: &'a RunTables,
    /// Whether downstream tasks keep their results.
    alone: bool,
    /// The nodes that were not superseded, by mapping and by position in it.
    regions: HashMap<Option<NodeNumber>, Vec<NodeNumber>>,
    /// The nodes that take a node's result, or wait for it.
    consumers: IndexVec<NodeNumber, Vec<NodeNumber>>,
    frames: HashMap<TaskPlace, FrameNumber>,
    /// The flows in the flow, by the key prefix of their tasks.
    flows: HashMap<Arc<str>, NodeNumber>,
    deliveries: &'a [Delivery],
    /// The position in `deliveries` at which a node was first delivered to a body.
    first_delivery: HashMap<NodeNumber, usize>,
    /// The first delivery of a marked node, by body. All nodes that the body requested after it are
    /// marked, too.
    cut: HashMap<Option<Arc<str>>, usize>,
    marked: IndexVec<FrameNumber, Vec<bool>>,
    whole: HashSet<NodeNumber>,
    stack: Vec<TaskPlace>,
}

impl<'a> Clearing<'a> {
    fn new(tables: &'a RunTables, deliveries: &'a [Delivery], alone: bool) -> Self {
        let mut regions = tables.nodes_by_region();
        regions
            .values_mut()
            .for_each(|nodes| nodes.retain(|node| !tables.is_superseded_node(*node)));
        let mut consumers = IndexVec::from(vec![Vec::new(); tables.nodes.len()]);
        for (id, node) in tables
            .nodes
            .entries()
            .filter(|(id, _)| !tables.is_superseded_node(*id))
        {
            for upstream in node.wiring.iter().flat_map(|wiring| &wiring.upstreams) {
                let upstream = tables.current_node(*upstream);
                if let Some(consumers) = upstream.and_then(|node| consumers.get_mut(node)) {
                    consumers.push(id);
                }
            }
        }
        let prefixes: HashSet<&Arc<str>> = tables
            .nodes
            .iter()
            .filter_map(|node| node.prefix.as_ref())
            .collect();
        let mut flows = HashMap::new();
        if !prefixes.is_empty() {
            for id in regions.get(&None).into_iter().flatten() {
                let prefix: Arc<str> = format!("{}/", tables.nodes[*id].key(&[])).into();
                if prefixes.contains(&prefix) {
                    flows.insert(prefix, *id);
                }
            }
        }
        let mut first_delivery = HashMap::new();
        for (at, delivery) in deliveries.iter().enumerate() {
            if let Some(node) = tables.current_node(delivery.node) {
                first_delivery.entry(node).or_insert(at);
            }
        }
        Self {
            tables,
            alone,
            regions,
            consumers,
            frames: tables
                .openings()
                .filter(|(_, frame)| !tables.is_superseded_frame(*frame))
                .collect(),
            flows,
            deliveries,
            first_delivery,
            cut: HashMap::new(),
            marked: tables
                .frames
                .iter()
                .map(|frame| vec![false; frame.rows.len()])
                .collect(),
            whole: HashSet::new(),
            stack: Vec::new(),
        }
    }

    fn len(&self, frame: FrameNumber) -> u32 {
        self.tables.frames[frame].meta.len
    }

    fn region(&self, node: NodeNumber) -> Option<NodeNumber> {
        self.tables.nodes[node].region
    }

    /// Returns `true` if a re-run of one task alone leaves a node unchanged.
    fn is_spared(&self, node: NodeNumber) -> bool {
        self.alone && !self.tables.nodes[node].hidden
    }

    fn cell(&self, place: TaskPlace) -> usize {
        let (local, len) = (self.tables.nodes[place.node].local, self.len(place.frame));
        local as usize * len as usize + place.index as usize
    }

    fn mark(&mut self, place: TaskPlace) {
        let cell = self.cell(place);
        if let Some(marked) = self.marked[place.frame].get_mut(cell)
            && !std::mem::replace(marked, true)
        {
            self.stack.push(place);
        }
    }

    /// Returns the places of all rows that were not superseded.
    fn places(&self) -> impl Iterator<Item = TaskPlace> {
        let frames = self.tables.frames.entries();
        let frames = frames.filter(|(number, _)| !self.tables.is_superseded_frame(*number));
        frames.flat_map(|(number, frame)| {
            let nodes = self.regions.get(&frame.meta.region).into_iter().flatten();
            nodes.flat_map(move |node| {
                elements(number, 0..frame.meta.len).map(|element| element.of(*node))
            })
        })
    }

    fn mark_where(&mut self, is_wanted: impl Fn(TaskPlace) -> bool) {
        let wanted: Vec<TaskPlace> = self.places().filter(|place| is_wanted(*place)).collect();
        wanted.into_iter().for_each(|place| self.mark(place));
    }

    fn mark_failed(&mut self) {
        let (tables, is_red) = (self.tables, self.tables.state != RunState::Success);
        let failed: Vec<TaskPlace> = self
            .places()
            .filter(|place| {
                let row = tables.frames[place.frame].rows.get(self.cell(*place));
                let hidden = tables.nodes[place.node].hidden;
                row.is_some_and(|row| match row.task_state() {
                    TaskState::Failed | TaskState::UpstreamFailed | TaskState::Cancelled => true,
                    TaskState::Success | TaskState::Skipped => false,
                    // the run ended before the task did
                    TaskState::Pending | TaskState::Running | TaskState::Retrying => {
                        is_red && !hidden
                    }
                })
            })
            .collect();
        failed.into_iter().for_each(|place| self.mark(place));
    }

    /// Marks the tasks that a key names: a node with all of its elements, or one element.
    ///
    /// # Errors
    ///
    /// Returns [`RerunError::UnknownTask`] if there is no such task.
    fn mark_key(&mut self, key: &str) -> Result<(), RerunError> {
        let (base, indexes) = key
            .split_once('[')
            .map_or((key, None), |(base, rest)| (base, Some(rest)));
        let indexes: Option<Vec<u32>> = match indexes {
            None => Some(Vec::new()),
            Some(rest) => rest
                .strip_suffix(']')
                .and_then(|rest| rest.split("][").map(|at| at.parse().ok()).collect()),
        };
        let tables = self.tables;
        let visible =
            |id: &NodeNumber| !tables.nodes[*id].hidden && !tables.is_superseded_node(*id);
        let nodes = tables.nodes.ids().filter(visible);
        let keys: Vec<(NodeNumber, String)> =
            nodes.map(|id| (id, tables.nodes[id].key(&[]))).collect();
        let named = keys.iter().find(|(_, own)| own == base).map(|(id, _)| *id);
        if let (Some(named), Some(indexes)) = (named, &indexes) {
            let path = |place: TaskPlace| match &tables.frames[place.frame].meta {
                meta if meta.unexpanded => tables.path(meta.parent),
                _ => tables.path(place.element()),
            };
            let is_named = |place: TaskPlace| {
                place.node == named && (indexes.is_empty() || path(place).starts_with(indexes))
            };
            let of_node: Vec<TaskPlace> = self.places().filter(|place| is_named(*place)).collect();
            of_node.into_iter().for_each(|place| self.mark(place));
            if !self.stack.is_empty() {
                self.mark_whole(named);
                return Ok(());
            }
        }
        let is_flow_of = |own: &str| {
            base.strip_prefix(own)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let others = keys
            .iter()
            .map(|(_, own)| own.as_str())
            .filter(|own| !is_flow_of(own));
        let similar = if named.is_some() {
            Some(base)
        } else {
            nearest(base, others)
        };
        let (run, similar) = (tables.head.id, similar.map(str::to_owned));
        Err(RerunError::UnknownTask {
            run,
            key: key.to_owned(),
            similar,
        })
    }

    /// Marks all tasks of a flow in the flow.
    fn mark_whole(&mut self, flow: NodeNumber) {
        if self.flows.is_empty() || !self.whole.insert(flow) {
            return;
        }
        let prefix = format!("{}/", self.tables.nodes[flow].key(&[]));
        if self.flows.contains_key(&*prefix) {
            let tables = self.tables;
            self.mark_where(|place| {
                tables.nodes[place.node]
                    .prefix
                    .as_ref()
                    .is_some_and(|own| own.starts_with(&prefix))
            });
        }
    }

    /// Marks everything downstream of the marked rows.
    fn spread(&mut self) {
        while let Some(place) = self.stack.pop() {
            let node = place.node;
            for at in 0..self.consumers[node].len() {
                let consumer = self.consumers[node][at];
                if !self.is_spared(consumer) {
                    self.mark_consumer(place, consumer);
                }
            }
            if let (Some(inner), Some(members)) = (
                self.frames.get(&place).copied(),
                self.regions.get(&Some(node)).cloned(),
            ) {
                let members: Vec<NodeNumber> = members
                    .into_iter()
                    .filter(|member| !self.is_spared(*member))
                    .collect();
                for member in members {
                    elements(inner, 0..self.len(inner))
                        .for_each(|element| self.mark(element.of(member)));
                }
            }
            let prefix = self.tables.nodes[node].prefix.clone();
            if let Some(flow) = prefix.as_ref().and_then(|prefix| self.flows.get(prefix)) {
                self.mark(TaskPlace::in_flow(*flow));
            }
            let is_of_flow = place.frame == FrameNumber::FLOW;
            if let (true, false, Some(at)) = (
                is_of_flow,
                self.alone,
                self.first_delivery.get(&node).copied(),
            ) {
                self.mark_decided(prefix.as_ref(), at);
            }
        }
    }

    /// Marks the nodes that a body requested after the delivery at `at`.
    fn mark_decided(&mut self, prefix: Option<&Arc<str>>, at: usize) {
        let cut = self.cut.entry(prefix.cloned()).or_insert(usize::MAX);
        if *cut <= at {
            return;
        }
        *cut = at;
        let (tables, known) = (self.tables, &self.deliveries[at].known);
        let is_decided =
            |node: NodeNumber| tables.nodes[node].prefix.as_ref() == prefix && !known.has(node);
        // including nodes that the body added to mappings opened earlier
        self.mark_where(|place| is_decided(place.node));
        let flows: Vec<NodeNumber> = self
            .flows
            .values()
            .copied()
            .filter(|flow| is_decided(*flow))
            .collect();
        flows.into_iter().for_each(|flow| self.mark_whole(flow));
    }

    fn mark_consumer(&mut self, place: TaskPlace, consumer: NodeNumber) {
        let (own, theirs) = (self.region(place.node), self.region(consumer));
        let element = place.element();
        if own == theirs {
            self.mark(element.of(consumer));
            // the consumer may be a flow in the flow: its tasks wait for the same node
            return if own.is_none() {
                self.mark_whole(consumer)
            };
        }
        let mappings: Vec<NodeNumber> = self
            .tables
            .mappings(theirs)
            .take_while(|mapping| Some(*mapping) != own)
            .collect();
        let is_outside = |own| self.tables.mappings(theirs).all(|mapping| mapping != own);
        if own.is_some_and(is_outside) {
            // the consumer is outside of the mapping, where its results are gathered
            let parent = self.tables.frames[place.frame].meta.parent;
            return self.mark(parent.of(consumer));
        }
        let mut places = vec![(element.frame, element.index..element.index + 1)];
        for mapping in mappings.into_iter().rev() {
            let instances = places
                .into_iter()
                .flat_map(|(frame, indexes)| elements(frame, indexes));
            let frames =
                instances.filter_map(|element| self.frames.get(&element.of(mapping)).copied());
            places = frames.map(|frame| (frame, 0..self.len(frame))).collect();
        }
        for (frame, indexes) in places {
            elements(frame, indexes).for_each(|element| self.mark(element.of(consumer)));
        }
    }

    fn ranges(&self) -> Vec<CellRange> {
        let mut ranges: Vec<CellRange> = Vec::new();
        for (frame, marked) in self.marked.entries() {
            for (cell, _) in (0..).zip(marked).filter(|(_, marked)| **marked) {
                match ranges
                    .last_mut()
                    .filter(|last| last.frame == frame && last.from + last.len == cell)
                {
                    Some(last) => last.len += 1,
                    None => ranges.push(CellRange {
                        frame,
                        from: cell,
                        len: 1,
                    }),
                }
            }
        }
        ranges
    }
}

/// Returns the places of some elements of a frame.
fn elements(frame: FrameNumber, indexes: Range<u32>) -> impl Iterator<Item = ElementPlace> {
    indexes.map(move |index| ElementPlace { frame, index })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{NodeMeta, NodeWiring};
    use crate::journal::Transition;
    use crate::journal::await_order::KnownNodes;
    use crate::journal::samples::{change, expanded, new_run, node};

    fn taking(upstreams: &[u32], node: NodeMeta) -> NodeMeta {
        let (hash, task, output) = ([0; 16], node.name.clone(), Arc::from(""));
        let wiring = NodeWiring {
            hash,
            task,
            output,
            upstreams: upstreams.iter().copied().map(NodeNumber::new).collect(),
        };
        NodeMeta {
            wiring: Some(Box::new(wiring)),
            ..node
        }
    }

    /// Creates the record of a list, a mapping of three elements in two stages and its sum; and of
    /// a body that planned `decided` and the flow `sub` after `asked` was delivered to it.
    fn tables(failed: &[(u32, u32)], state: RunState) -> RunTables {
        let mut tables = RunTables::new(Arc::new(new_run("etl")));
        let hidden = |node: NodeMeta| NodeMeta {
            hidden: true,
            ..node
        };
        let inside = |node: NodeMeta| NodeMeta {
            prefix: Some("sub/".into()),
            ..node
        };
        tables.apply(Transition::Planned(vec![
            node("list", None, 0),
            taking(&[0], node("expand(first)", None, 1)),
            taking(&[], node("first", Some(1), 0)),
            taking(&[2], node("second", Some(1), 1)),
            hidden(taking(&[3], node("gather", None, 2))),
            taking(&[4], node("sum", None, 3)),
            node("asked", None, 4),
            node("decided", None, 5),
            node("sub", None, 6),
            inside(node("inner", None, 7)),
            inside(taking(&[9], node("last", None, 8))),
        ]));
        tables.apply(Transition::Expanded(expanded(1, (0, 0), 3)));
        for (frame, cells) in [(0, 9), (1, 6)] {
            for cell in
                (0..cells).filter(|cell| (frame, *cell) != (0, 1) && (frame, *cell) != (0, 2))
            {
                let state = if failed.contains(&(frame, cell)) {
                    TaskState::Failed
                } else {
                    TaskState::Success
                };
                tables.apply(Transition::Task(change(frame, cell, state, 1)));
            }
        }
        tables.state = state;
        tables
    }

    #[test]
    fn downstream_of_rerun_tasks_is_rerun() {
        let deliveries = [Delivery {
            node: NodeNumber::new(6),
            known: KnownNodes::Prefix(7),
        }];
        let key = str::to_owned;
        let (red, green) = (RunState::Failed, RunState::Success);
        for (failed, state, what, expected) in [
            (&[][..], green, Rerun::All, "0: 0-8, 1: 0-5"),
            (&[], red, Rerun::Failed, ""),
            (&[(1, 0)], red, Rerun::Failed, "0: 2-3, 1: 0-0, 1: 3-3"),
            (
                &[(1, 1), (1, 5)],
                red,
                Rerun::Failed,
                "0: 2-3, 1: 1-1, 1: 4-5",
            ),
            (&[(0, 3)], red, Rerun::Failed, "0: 3-3"),
            (&[(0, 4)], green, Rerun::Failed, "0: 4-8"),
            (&[(0, 8)], red, Rerun::Failed, "0: 6-6, 0: 8-8"),
            (&[(0, 6)], red, Rerun::Failed, "0: 6-6"),
            (&[], green, Rerun::From(key("list")), "0: 0-3, 1: 0-5"),
            (
                &[],
                green,
                Rerun::From(key("first[2]")),
                "0: 2-3, 1: 2-2, 1: 5-5",
            ),
            (&[], green, Rerun::From(key("second")), "0: 2-3, 1: 3-5"),
            (&[], green, Rerun::From(key("asked")), "0: 4-8"),
            (&[], green, Rerun::From(key("sub/inner")), "0: 6-8"),
            (&[], green, Rerun::Only(key("sub/inner")), "0: 6-7"),
            (&[], green, Rerun::Only(key("sub")), "0: 6-8"),
            (&[], green, Rerun::Only(key("asked")), "0: 4-4"),
            // including the nodes of mappings, which each execution recreates
            (&[], green, Rerun::Only(key("list")), "0: 0-1"),
            (&[], green, Rerun::Only(key("second[1]")), "0: 2-2, 1: 4-4"),
            (&[], green, Rerun::Only(key("sum")), "0: 3-3"),
        ] {
            let found = cells(&tables(failed, state), &deliveries, &what).unwrap();
            let shown = |range: &CellRange| {
                format!(
                    "{}: {}-{}",
                    range.frame,
                    range.from,
                    range.from + range.len - 1
                )
            };
            let found: Vec<String> = found.iter().map(shown).collect();
            assert_eq!(found.join(", "), expected, "{what:?} of {failed:?}");
        }
    }

    #[test]
    fn impossible_reruns_are_refused() {
        let all_well = tables(&[], RunState::Success);
        let refused = |what| cells(&all_well, &[], &what).unwrap_err();
        assert!(matches!(
            refused(Rerun::Failed),
            RerunError::NothingFailed { .. }
        ));
        for (key, expected) in [
            ("frist", Some("first")),
            ("sub/innr", Some("sub/inner")),
            ("first[3]", Some("first")),
            ("first[0", Some("first")),
            ("sum[0]", Some("sum")),
            ("expand(first)", None),
            ("gather", None),
        ] {
            let RerunError::UnknownTask { similar, .. } = refused(Rerun::Only(key.to_owned()))
            else {
                panic!("{key}")
            };
            assert_eq!(similar.as_deref(), expected, "{key}");
        }
    }
}
