//! The replay of a resumed run: its nodes are matched with their recorded rows, by key and by
//! wiring.
//!
//! The log of a run keeps its numbers over all executions of the run. Recorded nodes and frames
//! take their numbers from the log; new ones get the next. A node with a recorded end ends as soon
//! as it is planned; one that was running, or waited for a retry, starts again with the next
//! attempt. The order in which nodes end is visible only to the bodies of flows, which get their
//! answers in the recorded order ([`Plan::next_expected`]).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::frame::Frame;
use super::{End, Instance, Plan, RecordedRetry};
use crate::error::{Cause, GraphError, TaskError};
use crate::graph::build::{PlannedNode, Reach};
use crate::graph::{NodeKey, NodeMeta};
use crate::index::{FrameId, FrameNumber, Id, IndexVec, NodeId, NodeNumber, ScopeId};
use crate::journal::History;
use crate::journal::{
    CellState, ElementPlace, EncodedResult, FrameMeta, NumberSet, RerunRecord, Row, RowPlace,
    RunTables, TaskPlace, Transition,
};
use crate::scope::{Handle, NodeKind};
use crate::state::TaskState;
use crate::task::{Input, InputSource};

/// The number of processes in a row that must die with a run, before any of its nodes ends, for the
/// running nodes to be suspected and tried one at a time.
const TAKEOVERS: u32 = 2;

/// The number of processes that must die while a suspect runs alone for the suspect to fail.
const CHARGES: u8 = 3;

/// The record of a resumed run.
#[derive(Debug)]
pub(crate) struct Replay {
    tables: RunTables,
    by_key: HashMap<NodeKey, NodeNumber>,
    /// The machinery of mappings, in the order in which it was planned. Mappings with tasks are
    /// excluded: they are matched by their tasks.
    machinery: HashMap<MachineryKey, VecDeque<NodeNumber>>,
    /// The frames of mappings, by the mapping and the element that contains it.
    opened: HashMap<TaskPlace, FrameNumber>,
    results: HashMap<RowPlace, EncodedResult>,
    /// The nodes whose ends bodies were given, by the prefix of the bodies' keys.
    awaited: HashMap<Option<Arc<str>>, VecDeque<NodeNumber>>,
    /// The nodes planned in this execution of the run, by their numbers in the log.
    planned: HashMap<NodeNumber, NodeId>,
    /// The same nodes as a set of numbers, in a run that was re-run.
    known: NumberSet,
    /// Nodes whose wiring may differ after a re-run, or which may be missing: all of their
    /// instances run again, or they were planned by a body that had seen a result that is
    /// recomputed.
    free: HashSet<NodeNumber>,
    /// The number of processes in a row that died with this run before any of its nodes ended.
    takeovers: u32,
    /// Whether processes died with this run: attempts whose start was not recorded yet may have
    /// died with them.
    died: bool,
    /// The first difference from the record.
    pub(super) problem: Option<GraphError>,
}

/// The key of recorded machinery of mappings, which has no name.
#[derive(Debug, PartialEq, Eq, Hash)]
struct MachineryKey {
    region: Option<NodeNumber>,
    /// The hash of its wiring.
    hash: [u8; 16],
}

impl Replay {
    pub(crate) fn new(history: History) -> Self {
        let History {
            tables,
            results,
            await_order,
            takeovers,
            deaths,
            ..
        } = history;
        let (mut by_key, mut machinery) = (HashMap::new(), HashMap::<_, VecDeque<_>>::new());
        for (id, node) in tables
            .nodes
            .entries()
            .filter(|(id, _)| !tables.is_superseded_node(*id))
        {
            match (node.hidden, &node.wiring) {
                (false, _) => {
                    by_key.insert(node.key_in_parts(), id);
                }
                (true, _) if has_members(&tables.nodes, id, |node| node.region) => {}
                (true, Some(wiring)) => machinery
                    .entry(MachineryKey {
                        region: node.region,
                        hash: wiring.hash,
                    })
                    .or_default()
                    .push_back(id),
                (true, None) => {}
            }
        }
        let mut by_prefix = HashMap::<_, VecDeque<_>>::new();
        for delivery in &await_order.deliveries {
            if let Some(meta) = tables.nodes.get(delivery.node) {
                by_prefix
                    .entry(meta.prefix.clone())
                    .or_default()
                    .push_back(delivery.node);
            }
        }
        let mut free = tables.cleared_nodes();
        if tables.reruns.is_some() {
            let nodes = tables.nodes.entries();
            free.extend(
                nodes
                    .filter(|(id, node)| await_order.is_invalidated(*id, node.prefix.as_ref()))
                    .map(|(id, _)| id),
            );
        }
        Self {
            by_key,
            machinery,
            opened: tables.openings().collect(),
            results,
            awaited: by_prefix,
            planned: HashMap::new(),
            known: NumberSet::default(),
            free,
            takeovers,
            died: deaths > 0,
            problem: None,
            tables,
        }
    }

    /// Adds a node that was not recorded before. Returns its number, and its place among the nodes
    /// of its region.
    fn add(&mut self, meta: NodeMeta) -> (NodeNumber, u32) {
        let local = match meta.region {
            None => {
                let rows = self.tables.frames[FrameNumber::FLOW].rows.len();
                u32::try_from(rows).unwrap_or(u32::MAX)
            }
            Some(region) => self.tables.members.get(&region).copied().unwrap_or(0),
        };
        let number = self.tables.nodes.next_id();
        self.tables
            .apply(Transition::Planned(vec![NodeMeta { local, ..meta }]));
        (number, local)
    }

    /// Returns `true` if the list of a mapping is computed again because the nodes that it comes
    /// from run again.
    fn is_list_cleared(&self, FrameMeta { region, parent, .. }: &FrameMeta) -> bool {
        let (Some(mapping), Some(frame)) = (
            region.and_then(|region| self.tables.nodes.get(region)),
            self.tables.frames.get(parent.frame),
        ) else {
            return false;
        };
        let cell = mapping.local * frame.meta.len + parent.index;
        let row = frame.rows.get(cell as usize);
        row.is_some_and(|row| row.cleared)
    }

    /// Returns `true` if the elements of a frame may differ from the recorded ones: their list is
    /// computed again or never became available, and some of them run again, or there are no
    /// elements.
    fn may_be_replaced(&self, frame: FrameNumber) -> bool {
        let frame = &self.tables.frames[frame];
        let is_free = frame.meta.unexpanded || self.is_list_cleared(&frame.meta);
        self.tables.reruns.is_some()
            && is_free
            && (frame.rows.is_empty() || frame.rows.iter().any(|row| row.cleared))
    }

    /// Describes a recorded node.
    fn describe(&self, node: NodeNumber) -> String {
        let meta = &self.tables.nodes[node];
        match &meta.wiring {
            Some(wiring) => {
                let keys = wiring
                    .upstreams
                    .iter()
                    .filter_map(|upstream| self.tables.nodes.get(*upstream));
                let keys: Vec<String> = keys.map(|meta| meta.key(&[])).collect();
                format!("`{}({})`", wiring.task, keys.join(", "))
            }
            None => format!("`{}`", meta.name),
        }
    }
}

/// Returns `true` if a node is a mapping whose closure added nodes, the first of which directly
/// follows it.
fn has_members<I: Id + PartialEq, N>(
    nodes: &IndexVec<I, N>,
    id: I,
    region: impl Fn(&N) -> Option<I>,
) -> bool {
    let next = nodes.get(I::from_index(id.index() + 1));
    next.is_some_and(|next| region(next) == Some(id))
}

impl Plan {
    /// Numbers the nodes from `first` on like the log. Returns an error if the wiring of a recorded
    /// node has changed.
    pub(super) fn match_nodes(&mut self, first: NodeId) -> Result<(), GraphError> {
        let Some(mut replay) = self.replay.take() else {
            return Ok(());
        };
        let matched = self.match_with(&mut replay, first);
        self.replay = Some(replay);
        matched
    }

    fn match_with(&mut self, replay: &mut Replay, first: NodeId) -> Result<(), GraphError> {
        let mut found: HashMap<NodeId, NodeNumber> = HashMap::new();
        for id in first.until(self.wiring.nodes.next_id()) {
            let node = &self.wiring.nodes[id];
            let key = (node.prefix.clone(), node.name.clone(), node.number);
            let recorded = (!node.is_hidden())
                .then(|| replay.by_key.get(&key).copied())
                .flatten();
            let Some(recorded) = recorded else { continue };
            if !self.check_wiring(replay, id, recorded)? {
                continue;
            }
            found.insert(id, recorded);
            // a mapping is matched by its tasks
            let mut both = node.region.zip(replay.tables.nodes[recorded].region);
            while let Some((mapping, theirs)) = both {
                found.insert(mapping, theirs);
                let outer = self.wiring.nodes[mapping].region;
                both = outer.zip(replay.tables.nodes[theirs].region);
            }
        }
        for id in first.until(self.wiring.nodes.next_id()) {
            let node = &self.wiring.nodes[id];
            let mut recorded = found.get(&id).copied();
            let by_wiring =
                node.is_hidden() && !has_members(&self.wiring.nodes, id, |node| node.region);
            if let (None, true, Some(wiring)) = (recorded, by_wiring, &node.wiring) {
                let key = MachineryKey {
                    region: node.region.map(|mapping| self.wiring.nodes[mapping].logged),
                    hash: wiring.hash,
                };
                recorded = replay.machinery.get_mut(&key).and_then(VecDeque::pop_front);
            }
            let (logged, local) = match recorded {
                Some(recorded) => (recorded, replay.tables.nodes[recorded].local),
                None => replay.add(self.wiring.meta(id)),
            };
            replay.planned.insert(logged, id);
            if replay.tables.reruns.is_some() {
                replay.known.add(logged);
            }
            let node = &mut self.wiring.nodes[id];
            (node.logged, node.logged_local, node.recorded) = (logged, local, recorded.is_some());
        }
        Ok(())
    }

    /// Returns `true` if a node is the recorded one. If it is not, it must be free to differ.
    fn check_wiring(
        &self,
        replay: &Replay,
        id: NodeId,
        recorded: NodeNumber,
    ) -> Result<bool, GraphError> {
        let node = &self.wiring.nodes[id];
        let (own, theirs) = (&node.wiring, &replay.tables.nodes[recorded].wiring);
        if let (Some(own), Some(theirs)) = (own, theirs)
            && own.hash == theirs.hash
        {
            return Ok(true);
        }
        let is_free = replay.free.contains(&recorded);
        let (Some(own), false) = (own, is_free) else {
            return Ok(!is_free);
        };
        let keys = own
            .upstreams
            .iter()
            .map(|upstream| self.wiring.nodes[*upstream].key());
        let asked = format!("`{}({})`", own.task, keys.collect::<Vec<_>>().join(", "));
        let recorded = replay.describe(recorded);
        let asked = if asked == recorded {
            otherwise(node)
        } else {
            asked
        };
        Err(GraphError::Changed {
            run: replay.tables.head.id,
            key: node.key(),
            recorded,
            asked,
        })
    }

    /// Returns the records of the new nodes from `first` on.
    pub(crate) fn new_metas(&self, first: NodeId) -> Vec<NodeMeta> {
        let nodes = first.until(self.wiring.nodes.next_id());
        let new = nodes.filter(|id| !self.wiring.nodes[*id].recorded);
        new.map(|id| self.wiring.meta(id)).collect()
    }

    /// Numbers a new frame like the log. Returns its record if it is new.
    pub(super) fn log_frame(
        &mut self,
        frame: &mut Frame,
        mapping: NodeId,
        meta: FrameMeta,
    ) -> Option<FrameMeta> {
        let Some(replay) = &mut self.replay else {
            frame.logged = Some(FrameNumber::new(self.frames.next_id().get()));
            return Some(meta);
        };
        let mut known = meta
            .opening()
            .and_then(|opening| replay.opened.get(&opening).copied());
        let recorded = known.map(|known| &replay.tables.frames[known].meta);
        let differs = recorded.is_some_and(|recorded| {
            (recorded.len, recorded.unexpanded) != (meta.len, meta.unexpanded)
        });
        let expanded = recorded.is_some_and(|recorded| !recorded.unexpanded);
        if differs && known.is_some_and(|known| replay.may_be_replaced(known)) {
            known = None;
        } else if expanded && meta.unexpanded {
            // the list was available before, and is not now because the run ends first: its rows
            // end with the run
            return None;
        }
        if let Some(known) = known {
            frame.logged = Some(known);
            let recorded = replay.tables.frames[known].meta.len;
            if recorded != meta.len && replay.problem.is_none() {
                replay.problem = Some(GraphError::Changed {
                    run: replay.tables.head.id,
                    key: self.wiring.key_of_mapping(mapping),
                    recorded: format!("a mapping of {recorded} elements"),
                    asked: format!("one of {} elements", meta.len),
                });
            }
            // nodes that were planned since have no rows in the frame
            self.log_extended(Some(known));
            return None;
        }
        frame.logged = Some(replay.tables.frames.next_id());
        replay.tables.apply(Transition::Expanded(meta.clone()));
        Some(meta)
    }

    /// Records that more nodes of a mapping were planned than a frame has rows for.
    pub(super) fn log_extended(&mut self, logged: Option<FrameNumber>) {
        let Some(frame) = logged else {
            return;
        };
        if let Some(replay) = &mut self.replay {
            replay.tables.apply(Transition::Extended { frame });
        }
        self.outbox.extended.push(frame);
    }

    /// Restores the recorded states of a node, in all elements of a frame.
    pub(super) fn replay_column(&mut self, frame: FrameId, node: NodeId) {
        if self.wiring.nodes[node].is_hidden() {
            return;
        }
        let Some(mut replay) = self.replay.take() else {
            return;
        };
        if !self.wiring.nodes[node].recorded && replay.tables.reruns.is_none() {
            self.replay = Some(replay);
            return;
        }
        let len = self.frames[frame].len;
        let logged = self.frames[frame].logged;
        let is_there = logged
            .and_then(|logged| replay.tables.frames.get(logged))
            .is_some_and(|recorded| recorded.meta.len == len);
        if is_there && !self.frames[frame].unexpanded {
            for index in 0..len {
                let at = Instance { frame, node, index };
                let place = self.row_of(at);
                if let Some(row) = place.and_then(|at| replay.tables.row(at)).cloned() {
                    self.replay_row(&mut replay, at, &row);
                }
            }
        }
        self.replay = Some(replay);
    }

    fn replay_row(&mut self, replay: &mut Replay, at: Instance, row: &Row) {
        if self.cell(at).is_ended() {
            return;
        }
        if matches!(self.wiring.nodes[at.node].kind, NodeKind::Flow(_)) {
            self.cell_mut(at).recorded = row.task_state().is_final();
            // the body of a subflow is called in each execution of the run, which does not count as
            // an attempt of its own
            self.cell_mut(at).attempts =
                row.attempts - u16::from(row.task_state().is_final() && row.attempts > 0);
            return;
        }
        if let Some(end) = self.end_of(replay, at, row) {
            return self.settle(at, end, true);
        }
        if row.cleared {
            self.cleared.insert(at);
        }
        self.cell_mut(at).attempts = row.attempts;
        if row.task_state() == TaskState::Running {
            let place = self.row_of(at);
            let charges = place.map_or(0, |place| replay.tables.charges(place));
            if charges >= CHARGES {
                let text = format!("its process died all {CHARGES} times that it ran alone");
                return self.settle(at, End::Failed(TaskError::new(Cause::Crashed, text)), false);
            }
            if replay.takeovers >= TAKEOVERS {
                self.suspect(at, charges);
            }
        }
        let uncounted = row.uncounted + u16::from(row.task_state() == TaskState::Running);
        if uncounted > 0 {
            self.uncounted.insert(at, uncounted);
        }
        match row.state() {
            CellState::Retrying { started, due, .. } => {
                self.due.insert(at, RecordedRetry { due, started });
            }
            CellState::Pending | CellState::Running { .. } | CellState::Ended { .. } => {}
        }
    }

    /// Returns the recorded end of an instance, if it is final. This includes ends that its
    /// upstreams decided: the order in which they ended is not known any more.
    fn end_of(&mut self, replay: &mut Replay, at: Instance, row: &Row) -> Option<End> {
        let error = || {
            row.error
                .clone()
                .unwrap_or_else(|| TaskError::new(Cause::Failed, "failed"))
        };
        let end = match row.task_state() {
            TaskState::Success => self.recorded_result(replay, at),
            TaskState::Failed => End::Failed(error()),
            TaskState::Skipped => End::Skipped(error()),
            TaskState::UpstreamFailed => End::UpstreamFailed(error()),
            TaskState::Cancelled => {
                // subflows are cancelled on their own
                self.was_cancelled |= self.wiring.nodes[at.node].scope == ScopeId::FLOW;
                End::Cancelled
            }
            TaskState::Pending | TaskState::Running | TaskState::Retrying => return None,
        };
        let cell = self.cell_mut(at);
        (cell.attempts, cell.recorded) = (row.attempts, true);
        Some(end)
    }

    /// Returns `true` if attempts may have died with the run before their start was recorded.
    pub(crate) fn has_unknown_starts(&self) -> bool {
        self.replay.as_ref().is_some_and(|replay| replay.died)
    }

    /// Skips the number of an attempt that may have started in an earlier execution of the run and
    /// died with its process before that was recorded: each try needs a number of its own. Resumed
    /// executions commit a start before the body runs.
    pub(super) fn skip_unknown_attempt(&mut self, at: Instance) {
        if self.cell(at).attempts == 0 && self.is_task(at.node) && self.follows_from_record(at) {
            self.cell_mut(at).attempts = 1;
            *self.uncounted.entry(at).or_default() += 1;
        }
    }

    /// Returns `true` if an instance could already start, or end without a body, in an earlier
    /// execution whose starts may be unknown.
    pub(crate) fn follows_from_record(&self, at: Instance) -> bool {
        if !self.has_unknown_starts() || self.unseen.contains(&at.node) {
            return false;
        }
        let mut upstreams = self.wiring.nodes[at.node].upstreams.iter();
        self.mapping_of(at.frame)
            .is_none_or(|mapping| !self.is_new(mapping))
            && upstreams.all(
                |edge| match (edge.reach, self.upstream(at, edge.node, edge.reach)) {
                    (_, None) => true,
                    (Reach::OutOf, Some(first)) => (0..self.frames[first.frame].len)
                        .all(|index| !self.is_new(Instance { index, ..first })),
                    (_, Some(upstream)) => !self.is_new(upstream),
                },
            )
    }

    /// Returns `true` if an instance ended in this execution of the run, and could not in an
    /// earlier one.
    fn is_new(&self, at: Instance) -> bool {
        let cell = self.cell(at);
        cell.is_ended() && !cell.recorded
    }

    /// Notes that a subflow, which ends now with an output, could already end in this way in an
    /// earlier execution of the run.
    pub(crate) fn follow_output(&mut self, node: NodeId, output: Option<&Input>) {
        let at = Instance::in_flow(node);
        let mut follows = self.follows_from_record(at);
        if let Some(output) = output {
            output.for_each_node(&mut |handle, _| {
                if let Handle::Scoped { id, .. } = handle {
                    follows &= !self.is_new(Instance::in_flow(*id));
                }
            });
        }
        self.cell_mut(at).recorded |= follows;
    }

    /// Returns the number of processes in a row that died with the run before any of its nodes
    /// ended.
    pub(super) fn takeovers(&self) -> u32 {
        self.replay.as_ref().map_or(0, |replay| replay.takeovers)
    }

    /// Notes that a body got an answer that no earlier execution of the run gave before it added
    /// the nodes from `first` on.
    pub(crate) fn mark_unseen(&mut self, first: NodeId) {
        self.unseen.extend(first.until(self.wiring.nodes.next_id()));
    }

    /// Returns `true` if the end of a node of the flow itself was recorded in an earlier execution
    /// of the run.
    pub(crate) fn was_recorded(&self, node: NodeId) -> bool {
        self.cell(Instance::in_flow(node)).recorded
    }

    /// Returns the recorded end of an instance for which another end is about to be decided.
    pub(super) fn recorded_end(&mut self, at: Instance) -> Option<End> {
        self.replay.as_ref()?;
        let node = &self.wiring.nodes[at.node];
        let frame = &self.frames[at.frame];
        if !node.recorded
            || !matches!(node.kind, NodeKind::Task(_))
            || frame.unexpanded
            || self.cell(at).is_ended()
        {
            return None;
        }
        let mut replay = self.replay.take()?;
        let recorded = frame
            .logged
            .and_then(|logged| replay.tables.frames.get(logged))
            .filter(|recorded| recorded.meta.len == frame.len);
        let place = self.row_of(at).filter(|_| recorded.is_some());
        let row = place.and_then(|place| replay.tables.row(place)).cloned();
        let end = row.and_then(|row| self.end_of(&mut replay, at, &row));
        self.replay = Some(replay);
        end
    }

    fn recorded_result(&self, replay: &mut Replay, at: Instance) -> End {
        let node = &self.wiring.nodes[at.node];
        let place = self.row_of(at);
        let theirs = replay.tables.nodes[node.logged]
            .wiring
            .as_ref()
            .map(|wiring| Arc::clone(&wiring.output));
        let (Some(output), Some(bytes)) = (
            node.output,
            place.and_then(|place| replay.results.remove(&place)),
        ) else {
            return End::Failed(TaskError::new(
                Cause::Failed,
                "its result is no longer stored",
            ));
        };
        let (run, key, own) = (replay.tables.head.id, self.key(at), output.name());
        let returns = with_article(&own);
        let problem = match theirs {
            Some(theirs) if *theirs != *own => GraphError::ChangedOutput {
                run,
                key,
                returns,
                recorded: with_article(&theirs),
            },
            _ => match output.decode(&bytes.0) {
                Ok(value) => return End::Success(value),
                Err(error) => GraphError::Unreadable {
                    run,
                    key,
                    output: returns,
                    problem: error.to_string(),
                },
            },
        };
        let error = TaskError::new(Cause::Fatal, problem.to_string());
        replay.problem.get_or_insert(problem);
        End::Failed(error)
    }

    /// Returns the node whose end the body with a prefix must be given next, in the recorded order,
    /// or [`NextDelivery::Any`] if any may come next. Skips nodes that the body no longer awaits.
    pub(crate) fn next_expected(
        &mut self,
        prefix: Option<&Arc<str>>,
        is_here: impl Fn(NodeId) -> bool,
    ) -> NextDelivery {
        let Some(replay) = &mut self.replay else {
            return NextDelivery::Any;
        };
        let Some(queue) = replay.awaited.get_mut(&prefix.cloned()) else {
            return NextDelivery::Any;
        };
        while let Some(logged) = queue.front().copied() {
            match replay.planned.get(&logged).copied() {
                Some(node) if is_here(node) => {
                    queue.pop_front();
                    return NextDelivery::Node(node);
                }
                // it has not ended, or has only just ended
                Some(node)
                    if self.waits.contains_key(&node)
                        || self.outbox.answers.iter().any(|(of, ..)| *of == node) =>
                {
                    return NextDelivery::Later;
                }
                _ => queue.pop_front(),
            };
        }
        NextDelivery::Any
    }

    /// Returns the recorded end of a mapping that never had its list.
    pub(super) fn was_left(&self, at: Instance) -> Option<End> {
        let (replay, known) = self.opened_before(at)?;
        let frame = &replay.tables.frames[known];
        if !frame.meta.unexpanded || replay.may_be_replaced(known) {
            return None;
        }
        let row = frame.rows.first();
        let error = row.and_then(|row| row.error.clone());
        Some(match (row.map(Row::task_state), error) {
            (Some(TaskState::Skipped), Some(error)) => End::Skipped(error),
            (Some(TaskState::UpstreamFailed), Some(error)) => End::UpstreamFailed(error),
            _ => End::Cancelled,
        })
    }

    /// Returns the number of elements of a mapping that keep their recorded ends although the
    /// mapping's list is computed again.
    pub(super) fn kept_length(&self, at: Instance) -> Option<u32> {
        let (replay, known) = self.opened_before(at)?;
        let meta = &replay.tables.frames[known].meta;
        let is_kept =
            !meta.unexpanded && replay.is_list_cleared(meta) && !replay.may_be_replaced(known);
        is_kept.then_some(meta.len)
    }

    /// Returns `true` if a mapping was opened in an earlier execution of the run.
    pub(super) fn was_opened(&self, at: Instance) -> bool {
        self.opened_before(at).is_some()
    }

    /// Returns the recorded frame of a mapping's elements.
    fn opened_before(&self, at: Instance) -> Option<(&Replay, FrameNumber)> {
        let replay = self.replay.as_ref()?;
        let parent = ElementPlace {
            frame: self.frames[at.frame].logged?,
            index: at.index,
        };
        let opening = parent.of(self.wiring.nodes[at.node].logged);
        let known = replay.opened.get(&opening);
        known.map(|known| (&**replay, *known))
    }

    /// Returns the last re-run of the run.
    pub(crate) fn rerun(&self) -> Option<RerunRecord> {
        self.replay
            .as_ref()?
            .tables
            .reruns
            .as_ref()?
            .last()
            .cloned()
    }

    /// Returns the nodes that bodies have added so far in this execution, if the run was re-run.
    pub(crate) fn known_nodes(&self) -> Option<Box<NumberSet>> {
        let replay = self
            .replay
            .as_ref()
            .filter(|replay| replay.tables.reruns.is_some())?;
        Some(Box::new(replay.known.clone()))
    }

    /// Returns `true` if a recorded node was planned in this execution of the run.
    pub(crate) fn is_planned(&self, logged: NodeNumber) -> bool {
        self.replay
            .as_ref()
            .is_some_and(|replay| replay.planned.contains_key(&logged))
    }

    /// Returns `true` if a re-run requested an instance, so that cached results must not be used.
    pub(crate) fn is_cleared(&self, at: Instance) -> bool {
        self.cleared.contains(&at)
    }

    /// Returns `true` if a subflow is recorded to have timed out.
    pub(crate) fn took_too_long(&self, node: NodeId) -> bool {
        let Some(replay) = self
            .replay
            .as_ref()
            .filter(|_| self.wiring.nodes[node].recorded)
        else {
            return false;
        };
        let place = self.row_of(Instance::in_flow(node));
        let row = place
            .and_then(|place| replay.tables.row(place))
            .filter(|row| row.task_state() == TaskState::Failed);
        row.and_then(|row| row.error.as_ref())
            .is_some_and(TaskError::is_timeout)
    }

    /// Returns an error if a recorded node of the flow itself is no longer added by the flow.
    pub(crate) fn forgotten(&mut self) -> Option<GraphError> {
        let replay = self.replay.as_ref()?;
        let is_forgotten = |(id, node): &(NodeNumber, &NodeMeta)| {
            !node.hidden
                && node.prefix.is_none()
                && !replay.planned.contains_key(id)
                && !replay.free.contains(id)
                && !replay.tables.is_superseded_node(*id)
        };
        let (id, node) = replay.tables.nodes.entries().find(is_forgotten)?;
        let (run, key, recorded) = (replay.tables.head.id, node.key(&[]), replay.describe(id));
        self.is_changed = true;
        Some(GraphError::Changed {
            run,
            key,
            recorded,
            asked: "no task of that name".to_owned(),
        })
    }

    /// Takes the first difference from the record.
    pub(crate) fn take_problem(&mut self) -> Option<GraphError> {
        let problem = self
            .replay
            .as_mut()
            .and_then(|replay| replay.problem.take());
        self.is_changed |= problem.is_some();
        problem
    }
}

/// The node whose end a body must be given next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextDelivery {
    Any,
    Node(NodeId),
    /// A node whose end is not available yet.
    Later,
}

/// Describes how the request for a node differs from its record if its task and its upstreams are
/// the same: of plain inputs, only a hash of all of them is recorded.
fn otherwise(node: &PlannedNode) -> String {
    let NodeKind::Task(definition) = &node.kind else {
        return "it with other parameters".to_owned();
    };
    let inputs = definition
        .parameters
        .iter()
        .zip(&node.inputs)
        .filter(|(_, input)| has_plain(input));
    let mut differs: Vec<String> = inputs
        .map(|(parameter, _)| format!("another `{}`", parameter.name))
        .collect();
    if node.region.is_some() {
        differs.push("another list to map over".to_owned());
    }
    if !node.upstreams.is_empty() {
        differs.push("other uses of its upstreams' results".to_owned());
    }
    format!("it with {}", differs.join(", or "))
}

/// Returns `true` if an input contains a value of the flow's own.
fn has_plain(input: &Input) -> bool {
    match &input.source {
        InputSource::Value(_) => true,
        InputSource::Node(_) => false,
        InputSource::Many(inputs, _) => inputs.iter().any(has_plain),
    }
}

fn with_article(noun: &str) -> String {
    let begins_with_vowel = noun.starts_with(['A', 'E', 'I', 'O', 'U', 'a', 'e', 'i', 'o', 'u']);
    format!("{} `{noun}`", if begins_with_vowel { "an" } else { "a" })
}
