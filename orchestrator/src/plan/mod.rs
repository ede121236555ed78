//! The plan of a run decides what happens next, as a function of the graph and of what has
//! happened: no IO, no clock, no user code.
//!
//! The flow itself and each mapping have a [`Frame`]: a table of cells, one for each node and
//! element. The flow's own frame is the first, and has one element. A node becomes *ready* when its
//! upstreams allow it. [`Plan::next`] hands out ready work, and [`Plan::finish`] takes its end.

mod begin;
mod cancel;
mod dispatch;
mod frame;
mod mappings;
mod quarantine;
mod ready;
mod reasons;
mod replay;
mod settle;
mod stage;
mod verdict;

use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use dispatch::{Gathering, Job, Work};
use frame::{Cell, ElementId, Frame, Phase};
use quarantine::Quarantine;
use ready::ReadyWork;
pub(crate) use replay::{NextDelivery, Replay};
use smallvec::SmallVec;
pub(crate) use verdict::Verdict;

use crate::clock::Timestamp;
use crate::error::{GraphError, TaskError};
use crate::graph::InstanceKey;
use crate::graph::build::{Defaults, PlannedNode, Reach, ReturnTarget, Wiring};
use crate::index::{FrameId, FrameNumber, GateId, IndexVec, NodeId, ScopeId, StageId};
use crate::journal::{FrameMeta, RowPlace};
use crate::policy::trigger::Tally;
use crate::scope::{NodeKind, Promise, Scope, Wait};
use crate::state::TaskState;
use crate::task::{Input, NodeOutcome};

/// A node, or one of its mapped elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Instance {
    pub(crate) frame: FrameId,
    pub(crate) node: NodeId,
    pub(crate) index: u32,
}

impl Instance {
    /// Returns the instance of a node of the flow itself.
    pub(crate) fn in_flow(node: NodeId) -> Self {
        Self::first(FrameId::FLOW, node)
    }

    /// Returns the first of a node's instances in a frame.
    pub(crate) fn first(frame: FrameId, node: NodeId) -> Self {
        Self {
            frame,
            node,
            index: 0,
        }
    }

    /// Returns the element that the instance is in.
    fn element(self) -> ElementId {
        let Self { frame, index, .. } = self;
        ElementId { frame, index }
    }
}

/// The end of an attempt, or of a node that had no attempt.
#[derive(Debug)]
pub(crate) enum End {
    Success(crate::value::Value),
    Failed(TaskError),
    Skipped(TaskError),
    UpstreamFailed(TaskError),
    Cancelled,
}

impl End {
    pub(crate) fn state(&self) -> TaskState {
        match self {
            Self::Success(_) => TaskState::Success,
            Self::Failed(_) => TaskState::Failed,
            Self::Skipped(_) => TaskState::Skipped,
            Self::UpstreamFailed(_) => TaskState::UpstreamFailed,
            Self::Cancelled => TaskState::Cancelled,
        }
    }

    pub(crate) fn error(&self) -> Option<&TaskError> {
        match self {
            Self::Failed(error) | Self::Skipped(error) | Self::UpstreamFailed(error) => Some(error),
            Self::Success(_) | Self::Cancelled => None,
        }
    }
}

/// An instance that ended without a completed attempt: the record of its end, except for the time.
#[derive(Debug)]
pub(crate) struct EndedInstance {
    pub(crate) at: Instance,
    /// The place of its row in the run's log, if it has one.
    pub(crate) place: Option<RowPlace>,
    pub(crate) state: TaskState,
    pub(crate) attempts: u16,
    pub(crate) error: Option<TaskError>,
}

/// Decisions that the rest of the run has to carry out: nodes that ended without running, mappings
/// that opened, bodies to start, promises to fulfil.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) ended: Vec<EndedInstance>,
    pub(crate) opened: Vec<OpenedMapping>,
    pub(crate) extended: Vec<FrameNumber>,
    pub(crate) flows: Vec<NodeId>,
    pub(crate) promises: Vec<(Arc<Promise>, NodeOutcome)>,
    /// Answers for bodies that await nodes, with the awaited nodes.
    pub(crate) answers: Vec<(NodeId, Arc<Promise>, NodeOutcome)>,
    /// Instances whose next attempt is due at a recorded time.
    pub(crate) due: Vec<(Instance, RecordedRetry)>,
}

/// The recorded time of an instance's next attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordedRetry {
    due: Timestamp,
    /// The start of the attempt before it.
    started: Timestamp,
}

impl RecordedRetry {
    /// Returns the remaining delay. It is at most the delay from the start of the previous attempt,
    /// since the clock may have been set back.
    pub(crate) fn delay(self, now: Timestamp) -> Duration {
        let Self { due, started } = self;
        let left = due.since(now);
        if due > started {
            left.min(due.since(started))
        } else {
            left
        }
    }
}

/// A mapping that was opened.
#[derive(Debug)]
pub(crate) struct OpenedMapping {
    pub(crate) mapping: NodeId,
    /// `None` if the list never became available.
    pub(crate) elements: Option<u32>,
    /// The record of the frame, unless it is recorded already.
    pub(crate) meta: Option<FrameMeta>,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.ended.is_empty()
            && self.opened.is_empty()
            && self.extended.is_empty()
            && self.flows.is_empty()
            && self.promises.is_empty()
            && self.answers.is_empty()
            && self.due.is_empty()
    }
}

/// The graph of a run and the progress of its nodes.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) wiring: Wiring,
    frames: IndexVec<FrameId, Frame>,
    /// The frames of each mapping.
    regions: HashMap<NodeId, Vec<FrameId>>,
    /// The frame of a mapping's elements, by the instance of the mapping's node.
    frame_of: HashMap<Instance, FrameId>,
    /// Ready work by gate.
    ready: IndexVec<GateId, BinaryHeap<ReadyWork>>,
    /// The maximum number of elements of a stage that may be active at once.
    limits: HashMap<StageId, u32>,
    /// The states of the upstreams of instances with a stated rule; of others only the number of
    /// skipped ones.
    tallies: HashMap<Instance, Tally>,
    errors: HashMap<Instance, TaskError>,
    waits: HashMap<NodeId, Vec<NodeWaiter>>,
    /// The number of instances that are not final.
    unfinished: usize,
    /// The number of jobs that were handed out and have not ended.
    running: usize,
    /// The number of instances that failed or are upstream-failed.
    failures: usize,
    /// The scopes that will add no more nodes: their values may be moved to their last consumer.
    closed: IndexVec<ScopeId, bool>,
    /// The scopes in which only clean-up tasks may still start.
    cancelled: cancel::Scopes,
    /// The scopes in which clean-up tasks may not start any more, either.
    overdue: cancel::Scopes,
    /// The number of active jobs in each scope that are not clean-up tasks.
    ordinary: IndexVec<ScopeId, usize>,
    /// Whether the run was being cancelled in an earlier execution, and its nodes are being planned
    /// again.
    pub(crate) catching_up: bool,
    /// Subflows that were cancelled after their bodies had begun.
    left_flows: HashSet<NodeId>,
    /// Values without further consumers. They are dropped after the lock is released, since their
    /// `Drop` is user code.
    pub(crate) garbage: Vec<crate::value::Value>,
    /// The promises of bodies that await nodes.
    awaited: HashMap<NodeId, Vec<Arc<Promise>>>,
    /// Ends that have yet to be propagated: one at a time, so that a long chain of them needs no
    /// deep stack.
    ends: VecDeque<(Instance, End, bool)>,
    settling: bool,
    /// Whether nodes keep a fingerprint of their wiring, so that another process can resume the
    /// run.
    durable: bool,
    /// The record of a resumed run.
    replay: Option<Box<Replay>>,
    /// Whether a resumed run differs from its record. If so, decisions about its nodes must not be
    /// recorded.
    pub(crate) is_changed: bool,
    /// Whether an earlier execution was cancelling the run when its process died.
    pub(crate) was_cancelled: bool,
    /// The number of an instance's attempts that do not count as tries, because they ended with
    /// their process or came before a re-run.
    uncounted: HashMap<Instance, u16>,
    /// Instances that a re-run requested.
    cleared: HashSet<Instance>,
    /// The recorded times of the next attempts of instances.
    due: HashMap<Instance, RecordedRetry>,
    /// The instances that are suspected of having crashed earlier processes.
    quarantine: Option<Box<Quarantine>>,
    /// Nodes that a body added after it got an answer that no earlier execution of the run gave.
    unseen: HashSet<NodeId>,
    pub(crate) outbox: Outbox,
}

/// A waiter for a node.
#[derive(Debug)]
enum NodeWaiter {
    /// A body that awaits the node.
    Body(Arc<Promise>),
    /// The runtime itself.
    Watch(Arc<Promise>),
}

impl Plan {
    pub(crate) fn new(durable: bool, replay: Option<Replay>) -> Self {
        let replay = replay.map(Box::new);
        Self {
            frames: vec![Frame::of_flow()].into(),
            durable: durable || replay.is_some(),
            replay,
            ..Self::default()
        }
    }

    /// Plans the nodes that a body has added. `gate` returns the gate of a task's body.
    pub(crate) fn absorb(
        &mut self,
        scope: &mut Scope,
        number: ScopeId,
        defaults: &Defaults,
        mut gate: impl FnMut(&PlannedNode) -> GateId,
    ) -> Result<(), GraphError> {
        let first = self.wiring.nodes.next_id();
        self.ordinary.grow_to(number, || 0);
        self.wiring.absorb(scope, number, defaults)?;
        if self.durable {
            let matched = self
                .wiring
                .remember(first)
                .and_then(|()| self.match_nodes(first));
            if let Err(problem) = matched {
                self.is_changed = self.replay.is_some();
                self.wiring.forget(first);
                return Err(problem);
            }
        }
        let limits = scope.limits.drain(..);
        self.limits
            .extend(limits.map(|limit| (limit.stage, limit.elements)));
        for node in self.wiring.nodes.tail_mut(first) {
            node.gate = gate(node);
            self.ready.grow_to(node.gate, BinaryHeap::new);
        }
        let new = first.until(self.wiring.nodes.next_id());
        self.frames[FrameId::FLOW].cells.reserve(new.len());
        // all nodes have their cells before the first one begins: its end may be propagated to
        // others of the batch at once
        for id in first.until(self.wiring.nodes.next_id()) {
            self.place(id);
        }
        for id in new {
            self.begin(id);
        }
        self.take_problem().map_or(Ok(()), Err)
    }

    /// Adds the cells of a new node: one in the flow's frame, or one for each element if its
    /// mapping is open.
    fn place(&mut self, node: NodeId) {
        let Some(region) = self.wiring.nodes[node].region else {
            self.frames[FrameId::FLOW].cells.push(Cell::NEW);
            self.unfinished += 1;
            return;
        };
        for frame in self.frames_of(region) {
            self.unfinished += self.frames[frame].extend();
            self.log_extended(self.frames[frame].logged);
        }
    }

    /// Begins a new node, whose upstreams may have ended already.
    fn begin(&mut self, node: NodeId) {
        let Some(region) = self.wiring.nodes[node].region else {
            self.begin_instance(Instance::in_flow(node));
            return self.replay_column(FrameId::FLOW, node);
        };
        for frame in self.frames_of(region) {
            if self.frames[frame].unexpanded {
                self.end_unexpanded(frame, node);
            } else {
                self.begin_column(frame, node);
                self.replay_column(frame, node);
            }
        }
    }

    pub(super) fn frames_of(&self, region: NodeId) -> Vec<FrameId> {
        self.regions.get(&region).cloned().unwrap_or_default()
    }

    /// Registers the nodes that a body awaits.
    pub(crate) fn wait(&mut self, waits: impl IntoIterator<Item = Wait>) {
        for Wait { node, promise } in waits {
            // the last consumer of the value would otherwise take it away from the body
            self.wiring.nodes[node].pinned = true;
            self.awaited
                .entry(node)
                .or_default()
                .push(Arc::clone(&promise));
            let instance = Instance::in_flow(node);
            match self.cell(instance).phase {
                Phase::Ended(_) => {
                    let resolved = self.resolved(instance);
                    self.outbox.answers.push((node, promise, resolved));
                }
                _ => self
                    .waits
                    .entry(node)
                    .or_default()
                    .push(NodeWaiter::Body(promise)),
            }
        }
    }

    /// Fulfils a promise when a node is final. Unlike awaiting, this does not handle the node's
    /// failure.
    pub(crate) fn watch(&mut self, node: NodeId, promise: Arc<Promise>) {
        match self.cell(Instance::in_flow(node)).phase {
            Phase::Ended(_) => self.outbox.promises.push((promise, NodeOutcome::Unknown)),
            _ => self
                .waits
                .entry(node)
                .or_default()
                .push(NodeWaiter::Watch(promise)),
        }
    }

    /// Records the output of a flow's body, which goes to the caller (`None`) or to the subflow's
    /// node.
    pub(crate) fn returned(&mut self, output: &Input, to: Option<NodeId>) {
        let mut nodes = Vec::new();
        output.for_each_node(&mut |handle, _| {
            if let crate::scope::Handle::Scoped { id, .. } = handle {
                nodes.push(*id);
            }
        });
        for id in nodes {
            let Some(node) = self.wiring.nodes.get_mut(id) else {
                continue;
            };
            node.pinned = true;
            node.returned_to = Some(to.map_or(ReturnTarget::Caller, ReturnTarget::Node));
        }
    }

    /// Closes a scope, which will add no more nodes.
    pub(crate) fn close(&mut self, scope: ScopeId) {
        self.closed.grow_to(scope, || false);
        self.closed[scope] = true;
        for frame in self.frames.ids().skip(1) {
            self.forget_elements(frame);
        }
    }

    /// Returns `true` if a node's value may be moved to the last of its known consumers.
    fn may_give_away(&self, node: &PlannedNode) -> bool {
        !node.pinned && self.closed.get(node.scope).is_some_and(|closed| *closed)
    }

    /// Returns `true` if a node of the flow itself has started and not ended.
    pub(crate) fn is_running(&self, node: NodeId) -> bool {
        self.cell(Instance::in_flow(node)).phase == Phase::Running
    }

    /// Returns the subflow nodes whose bodies have started.
    pub(crate) fn running_flows(&self) -> Vec<NodeId> {
        let nodes = self.wiring.nodes.entries();
        let flows = nodes.filter(|(_, node)| matches!(node.kind, NodeKind::Flow(_)));
        let frame = &self.frames[FrameId::FLOW];
        let running = flows.filter(|(_, node)| frame.cell(node.local, 0).phase == Phase::Running);
        running.map(|(id, _)| id).collect()
    }

    /// Returns `true` if all planned nodes have ended.
    pub(crate) fn is_done(&self) -> bool {
        self.unfinished == 0
    }

    /// Returns `true` if the run was resumed.
    pub(crate) fn is_replayed(&self) -> bool {
        self.replay.is_some()
    }

    /// Counts a job that is handed out.
    fn count_start(&mut self, at: Instance) {
        self.running += 1;
        if let Some(running) = self.ordinary_of(at) {
            *running += 1;
        }
    }

    /// Counts the end of a job.
    fn count_end(&mut self, at: Instance) {
        self.running -= 1;
        if let Some(running) = self.ordinary_of(at) {
            *running -= 1;
        }
    }

    fn ordinary_of(&mut self, at: Instance) -> Option<&mut usize> {
        let node = &self.wiring.nodes[at.node];
        self.ordinary
            .get_mut(node.scope)
            .filter(|_| !node.policy.run_on_cancel)
    }

    /// Returns `true` if a job was handed out and has not ended.
    pub(crate) fn is_busy(&self) -> bool {
        self.running > 0
    }

    pub(crate) fn has_ready(&self, gate: GateId) -> bool {
        self.ready.get(gate).is_some_and(|ready| !ready.is_empty())
    }

    pub(crate) fn gates(&self) -> impl Iterator<Item = GateId> + use<> {
        self.ready.ids()
    }

    fn is_task(&self, node: NodeId) -> bool {
        matches!(self.wiring.nodes[node].kind, NodeKind::Task(_))
    }

    fn cell(&self, at: Instance) -> &Cell {
        let local = self.wiring.nodes[at.node].local;
        self.frames[at.frame].cell(local, at.index)
    }

    fn cell_mut(&mut self, at: Instance) -> &mut Cell {
        let local = self.wiring.nodes[at.node].local;
        self.frames[at.frame].cell_mut(local, at.index)
    }

    /// Returns the place of an instance's row in the run's log, or `None` if its frame is not
    /// recorded.
    pub(crate) fn row_of(&self, at: Instance) -> Option<RowPlace> {
        let frame = &self.frames[at.frame];
        let cell = self.wiring.nodes[at.node].logged_local * frame.len + at.index;
        frame.logged.map(|frame| RowPlace { frame, cell })
    }

    /// Returns the element of an outer region that contains an element.
    fn outer(&self, mut element: ElementId, region: Option<NodeId>) -> ElementId {
        while self.frames[element.frame].region != region && element.frame != FrameId::FLOW {
            element = self.frames[element.frame].parent;
        }
        element
    }

    /// Returns the mapping instance whose elements a frame contains, or `None` for the flow's
    /// frame.
    fn mapping_of(&self, frame: FrameId) -> Option<Instance> {
        let frame = &self.frames[frame];
        frame.region.map(|mapping| frame.parent.of(mapping))
    }

    /// Returns the upstream instance that an instance reads. An edge out of a mapping has many;
    /// then it is the first.
    fn upstream(&self, at: Instance, node: NodeId, reach: Reach) -> Option<Instance> {
        match reach {
            Reach::Same => Some(Instance { node, ..at }),
            Reach::Into => {
                let region = self.wiring.nodes[node].region;
                Some(self.outer(at.element(), region).of(node))
            }
            Reach::OutOf => {
                let mapping = at.element().of(self.wiring.nodes[node].region?);
                let frame = self.frame_of.get(&mapping)?;
                Some(Instance::first(*frame, node))
            }
        }
    }

    /// Returns the number of attempts of an instance before this one.
    pub(crate) fn attempts(&self, at: Instance) -> u16 {
        self.cell(at).attempts
    }

    /// Returns the key of an instance, such as `process#2[7]`.
    pub(crate) fn key(&self, at: Instance) -> String {
        self.key_of(at).to_string()
    }

    /// Returns the key of an instance, which is formatted only when it is displayed.
    pub(crate) fn key_of(&self, at: Instance) -> InstanceKey {
        let node = &self.wiring.nodes[at.node];
        let mut element = at.element();
        let mut path = SmallVec::new();
        while element.frame != FrameId::FLOW {
            let frame = &self.frames[element.frame];
            if !frame.unexpanded {
                path.push(element.index);
            }
            element = frame.parent;
        }
        path.reverse();
        node.key_of(path)
    }

    /// Returns the index of an instance if it is mapped.
    pub(crate) fn map_index(&self, at: Instance) -> Option<usize> {
        let region = self.wiring.nodes[at.node].region;
        region.map(|_| at.index as usize)
    }

    /// Returns the stage of a mapping's node if the stage has a limit.
    fn limited_stage(&self, node: NodeId) -> Option<StageId> {
        let stage = self.wiring.nodes[node].stage?;
        self.limits.contains_key(&stage).then_some(stage)
    }
}
