//! Which rows a re-run makes pending again: a function of what is recorded of the run.
//!
//! What hangs on a row: the tasks that take its result or wait for it, element by element where they are in the same
//! mapping; all elements of a mapping whose list it is; the flow in the flow that it is a part of; and, where a body
//! awaited it, all that this body planned after that, since it may have decided by it. The machinery of mappings is no
//! task, is worked out in each life of a run, and so is never what a re-run leaves alone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::reruns::Opening;
use super::tables::RunTables;
use super::told::Answered;
use super::transition::CellRange;
use crate::error::RerunError;
use crate::similar::nearest;
use crate::state::{Rerun, RunState, TaskState};
use crate::task::scope::NONE;

/// The cells that a re-run makes pending.
pub(crate) fn cells(
    tables: &RunTables,
    told: &[Answered],
    what: &Rerun,
) -> Result<Vec<CellRange>, RerunError> {
    let alone = matches!(what, Rerun::Only(_));
    let mut clearing = Clearing::new(tables, told, alone);
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

/// One row: its frame, its node, and the index of the element.
type Place = (u32, u32, u32);

struct Clearing<'a> {
    tables: &'a RunTables,
    /// Whether what hangs on a task keeps what it has.
    alone: bool,
    /// The nodes that are a part of the run, by mapping and by place there.
    regions: HashMap<u32, Vec<u32>>,
    /// Who takes a node's result, or waits for it.
    consumers: Vec<Vec<u32>>,
    frames: HashMap<Opening, u32>,
    /// The flows in the flow, by what stands before the keys of their tasks.
    flows: HashMap<Arc<str>, u32>,
    told: &'a [Answered],
    /// When a body was first told of a node: the place in `told`.
    told_first: HashMap<u32, usize>,
    /// What a body was told first of what is marked: all that it asked for after that is marked, too.
    cut: HashMap<Option<Arc<str>>, usize>,
    marked: Vec<Vec<bool>>,
    whole: HashSet<u32>,
    stack: Vec<Place>,
}

impl<'a> Clearing<'a> {
    fn new(tables: &'a RunTables, told: &'a [Answered], alone: bool) -> Self {
        let mut regions = tables.nodes_by_region();
        regions
            .values_mut()
            .for_each(|nodes| nodes.retain(|node| !tables.is_past_node(*node)));
        let mut consumers = vec![Vec::new(); tables.nodes.len()];
        for (id, node) in (0..)
            .zip(&tables.nodes)
            .filter(|(id, _)| !tables.is_past_node(*id))
        {
            for upstream in node.wired.iter().flat_map(|wired| &wired.upstreams) {
                if let Some(consumers) = consumers.get_mut(tables.current_node(*upstream) as usize)
                {
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
            for id in regions.get(&NONE).into_iter().flatten() {
                let prefix: Arc<str> = format!("{}/", tables.nodes[*id as usize].key(&[])).into();
                if prefixes.contains(&prefix) {
                    flows.insert(prefix, *id);
                }
            }
        }
        let mut told_first = HashMap::new();
        for (at, answered) in told.iter().enumerate() {
            told_first
                .entry(tables.current_node(answered.node))
                .or_insert(at);
        }
        Self {
            tables,
            alone,
            regions,
            consumers,
            frames: tables
                .openings()
                .filter(|(_, frame)| !tables.is_past_frame(*frame))
                .collect(),
            flows,
            told,
            told_first,
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

    fn len(&self, frame: u32) -> u32 {
        self.tables.frames[frame as usize].meta.len
    }

    fn region(&self, node: u32) -> u32 {
        self.tables.nodes[node as usize].region
    }

    /// Whether a re-run of one task alone leaves a node as it is.
    fn is_spared(&self, node: u32) -> bool {
        self.alone && !self.tables.nodes[node as usize].hidden
    }

    fn cell(&self, (frame, node, index): Place) -> usize {
        self.tables.nodes[node as usize].local as usize * self.len(frame) as usize + index as usize
    }

    fn mark(&mut self, place: Place) {
        let cell = self.cell(place);
        if let Some(marked) = self.marked[place.0 as usize].get_mut(cell)
            && !std::mem::replace(marked, true)
        {
            self.stack.push(place);
        }
    }

    /// All rows that are a part of the run.
    fn places(&self) -> impl Iterator<Item = Place> {
        let frames = (0..)
            .zip(&self.tables.frames)
            .filter(|(number, _)| !self.tables.is_past_frame(*number));
        frames.flat_map(|(number, frame)| {
            let nodes = self.regions.get(&frame.meta.region).into_iter().flatten();
            nodes.flat_map(move |node| (0..frame.meta.len).map(move |index| (number, *node, index)))
        })
    }

    fn mark_where(&mut self, is_wanted: impl Fn(Place) -> bool) {
        let wanted: Vec<Place> = self.places().filter(|place| is_wanted(*place)).collect();
        wanted.into_iter().for_each(|place| self.mark(place));
    }

    fn mark_failed(&mut self) {
        let (tables, is_red) = (self.tables, self.tables.state != RunState::Success);
        let failed: Vec<Place> = self
            .places()
            .filter(|place| {
                let row = tables.frames[place.0 as usize].rows.get(self.cell(*place));
                let hidden = tables.nodes[place.1 as usize].hidden;
                row.is_some_and(|row| match row.state {
                    TaskState::Failed | TaskState::UpstreamFailed | TaskState::Cancelled => true,
                    TaskState::Success | TaskState::Skipped => false,
                    // the run came to its end before the task did
                    TaskState::Pending | TaskState::Running | TaskState::Retrying => {
                        is_red && !hidden
                    }
                })
            })
            .collect();
        failed.into_iter().for_each(|place| self.mark(place));
    }

    /// Marks the tasks that a key names.
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
        let visible = |id: &u32| !tables.nodes[*id as usize].hidden && !tables.is_past_node(*id);
        let nodes = (0..).take(tables.nodes.len()).filter(visible);
        let keys: Vec<(u32, String)> = nodes
            .map(|id| (id, tables.nodes[id as usize].key(&[])))
            .collect();
        let named = keys.iter().find(|(_, own)| own == base).map(|(id, _)| *id);
        if let (Some(named), Some(indexes)) = (named, &indexes) {
            let path = |(frame, _, index): Place| match &tables.frames[frame as usize].meta {
                meta if meta.unexpanded => tables.path(meta.parent.0, meta.parent.1),
                _ => tables.path(frame, index),
            };
            let is_named = |place: Place| {
                place.1 == named && (indexes.is_empty() || path(place).starts_with(indexes))
            };
            let of_node: Vec<Place> = self.places().filter(|place| is_named(*place)).collect();
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
    fn mark_whole(&mut self, flow: u32) {
        if self.flows.is_empty() || !self.whole.insert(flow) {
            return;
        }
        let prefix = format!("{}/", self.tables.nodes[flow as usize].key(&[]));
        if self.flows.contains_key(&*prefix) {
            let tables = self.tables;
            self.mark_where(|(_, node, _)| {
                tables.nodes[node as usize]
                    .prefix
                    .as_ref()
                    .is_some_and(|own| own.starts_with(&prefix))
            });
        }
    }

    /// Marks what hangs on what is marked.
    fn spread(&mut self) {
        while let Some(place) = self.stack.pop() {
            let (frame, node, index) = place;
            for at in 0..self.consumers[node as usize].len() {
                let consumer = self.consumers[node as usize][at];
                if !self.is_spared(consumer) {
                    self.mark_consumer(place, consumer);
                }
            }
            if let (Some(inner), Some(members)) = (
                self.frames.get(&(node, frame, index)).copied(),
                self.regions.get(&node).cloned(),
            ) {
                let members: Vec<u32> = members
                    .into_iter()
                    .filter(|member| !self.is_spared(*member))
                    .collect();
                for member in members {
                    (0..self.len(inner)).for_each(|index| self.mark((inner, member, index)));
                }
            }
            let prefix = self.tables.nodes[node as usize].prefix.clone();
            if let Some(flow) = prefix.as_ref().and_then(|prefix| self.flows.get(prefix)) {
                self.mark((0, *flow, 0));
            }
            if let (0, false, Some(at)) = (frame, self.alone, self.told_first.get(&node).copied()) {
                self.mark_decided(prefix.as_ref(), at);
            }
        }
    }

    /// Marks what a body asked for after it was told of something.
    fn mark_decided(&mut self, prefix: Option<&Arc<str>>, at: usize) {
        let cut = self.cut.entry(prefix.cloned()).or_insert(usize::MAX);
        if *cut <= at {
            return;
        }
        *cut = at;
        let (tables, asked) = (self.tables, &self.told[at].asked);
        let is_decided =
            |node: u32| tables.nodes[node as usize].prefix.as_ref() == prefix && !asked.has(node);
        // also what it added to mappings that were there before
        self.mark_where(|(_, node, _)| is_decided(node));
        let flows: Vec<u32> = self
            .flows
            .values()
            .copied()
            .filter(|flow| is_decided(*flow))
            .collect();
        flows.into_iter().for_each(|flow| self.mark_whole(flow));
    }

    fn mark_consumer(&mut self, (frame, node, index): Place, consumer: u32) {
        let (own, theirs) = (self.region(node), self.region(consumer));
        if own == theirs {
            self.mark((frame, consumer, index));
            // its tasks come after what it waits for
            return if own == NONE {
                self.mark_whole(consumer)
            };
        }
        let mappings: Vec<u32> = self
            .tables
            .mappings(theirs)
            .take_while(|mapping| *mapping != own)
            .collect();
        if own != NONE && !self.tables.mappings(theirs).any(|mapping| mapping == own) {
            // out of the mapping, where its results are gathered
            let (frame, index) = self.tables.frames[frame as usize].meta.parent;
            return self.mark((frame, consumer, index));
        }
        let mut places = vec![(frame, index..index + 1)];
        for mapping in mappings.into_iter().rev() {
            let instances = places
                .into_iter()
                .flat_map(|(frame, indexes)| indexes.map(move |index| (frame, index)));
            let frames = instances
                .filter_map(|(frame, index)| self.frames.get(&(mapping, frame, index)).copied());
            places = frames.map(|frame| (frame, 0..self.len(frame))).collect();
        }
        for (frame, indexes) in places {
            indexes.for_each(|index| self.mark((frame, consumer, index)));
        }
    }

    fn ranges(&self) -> Vec<CellRange> {
        let mut ranges: Vec<CellRange> = Vec::new();
        for (frame, marked) in (0..).zip(&self.marked) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{NodeMeta, Wired};
    use crate::store::suite::{new_run, node, row};
    use crate::store::told::Asked;
    use crate::store::{FrameMeta, TaskEnd, Transition};

    fn taking(upstreams: &[u32], node: NodeMeta) -> NodeMeta {
        let (hash, task, output) = ([0; 16], node.name.clone(), Arc::from(""));
        let wired = Wired {
            hash,
            task,
            output,
            upstreams: upstreams.into(),
        };
        NodeMeta {
            wired: Some(Box::new(wired)),
            ..node
        }
    }

    /// A list, a mapping of three elements in two stages and its sum; and a body that planned `decided` and the flow
    /// `sub` after it was told of `asked`.
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
            node("list", NONE, 0),
            taking(&[0], node("expand(first)", NONE, 1)),
            taking(&[], node("first", 1, 0)),
            taking(&[2], node("second", 1, 1)),
            hidden(taking(&[3], node("gather", NONE, 2))),
            taking(&[4], node("sum", NONE, 3)),
            node("asked", NONE, 4),
            node("decided", NONE, 5),
            node("sub", NONE, 6),
            inside(node("inner", NONE, 7)),
            inside(taking(&[9], node("last", NONE, 8))),
        ]));
        tables.apply(Transition::Expanded(FrameMeta {
            region: 1,
            parent: (0, 0),
            len: 3,
            unexpanded: false,
        }));
        for (frame, cells) in [(0, 9), (1, 6)] {
            for cell in
                (0..cells).filter(|cell| (frame, *cell) != (0, 1) && (frame, *cell) != (0, 2))
            {
                let state = if failed.contains(&(frame, cell)) {
                    TaskState::Failed
                } else {
                    TaskState::Success
                };
                tables.apply(Transition::Task(TaskEnd::new(frame, cell, row(state, 1))));
            }
        }
        tables.state = state;
        tables
    }

    #[test]
    fn what_hangs_on_what_runs_again_does_too() {
        let told = [Answered {
            node: 6,
            asked: Asked::First(7),
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
            // with the machinery, which comes anew
            (&[], green, Rerun::Only(key("list")), "0: 0-1"),
            (&[], green, Rerun::Only(key("second[1]")), "0: 2-2, 1: 4-4"),
            (&[], green, Rerun::Only(key("sum")), "0: 3-3"),
        ] {
            let found = cells(&tables(failed, state), &told, &what).unwrap();
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
    fn what_cannot_be_run_again_is_refused() {
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
