//! What happens next in a run, as a function of its graph, of what has happened, and of nothing else: no IO, no time,
//! no user's code.
//!
//! The flow itself and each mapping have a [`Frame`]: a table of cells, one for each node and element. The flow's own
//! frame is the first, and has one element. A node whose upstreams allow it becomes *ready*; [`Plan::next`] hands out
//! ready work, [`Plan::finish`] takes back what became of it.

mod begin;
mod cancel;
mod dispatch;
mod frame;
mod mappings;
mod reasons;
mod replay;
mod settle;
mod stage;
mod verdict;

use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

pub(crate) use dispatch::{Gathering, Job, Work};
use frame::{Cell, Frame, Phase};
pub(crate) use replay::{Expected, Replay};
use smallvec::SmallVec;
pub(crate) use verdict::Verdict;

use crate::error::{GraphError, TaskError};
use crate::graph::InstanceKey;
use crate::graph::build::{Defaults, Planned, Reach, Wiring};
use crate::policy::trigger::Tally;
use crate::state::TaskState;
use crate::store::FrameMeta;
use crate::task::scope::{Kind, NONE, Promise, Scope, Wait};
use crate::task::{Input, Resolved};

/// One node, or one mapped element of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Instance {
    pub(crate) frame: u32,
    pub(crate) node: u32,
    pub(crate) index: u32,
}

/// What became of an attempt, or of a node without one.
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

/// Where an instance's row is in the run's log: its frame there, and its cell in that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) frame: u32,
    pub(crate) cell: u32,
}

/// An instance ended without being run to its end: what is recorded of it, but for the time.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) at: Instance,
    pub(crate) place: Place,
    pub(crate) state: TaskState,
    pub(crate) attempts: u16,
    pub(crate) error: Option<TaskError>,
}

/// What the plan has to tell the rest of the run: nodes that ended without running, mappings that opened, bodies to
/// start, promises to fulfil.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) ended: Vec<Ended>,
    pub(crate) opened: Vec<Opened>,
    pub(crate) extended: Vec<u32>,
    pub(crate) flows: Vec<u32>,
    pub(crate) promises: Vec<(Arc<Promise>, Resolved)>,
    /// What a body that awaits a node is to be told, by the node.
    pub(crate) answers: Vec<(u32, Arc<Promise>, Resolved)>,
    /// Attempts that are due at a recorded time.
    pub(crate) due: Vec<(Instance, i64)>,
}

/// A mapping that learned its list.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) mapping: u32,
    /// None where the list never came.
    pub(crate) elements: Option<u32>,
    /// What is to be recorded, if it is not yet.
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

/// Ready work: one instance, or the elements `index..end` of one node. Ordered by when it should start, the first the
/// greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ready {
    key: std::cmp::Reverse<(u32, std::cmp::Reverse<u32>, u32)>,
    frame: u32,
    end: u32,
}

impl Ready {
    /// A mapping stands where it was made; in it later nodes go first, then elements by index.
    fn new(order: u32, instance: Instance, end: u32) -> Self {
        use std::cmp::Reverse;
        Self {
            key: Reverse((order, Reverse(instance.node), instance.index)),
            frame: instance.frame,
            end,
        }
    }

    fn instance(&self) -> Instance {
        let (_, std::cmp::Reverse(node), index) = self.key.0;
        Instance {
            frame: self.frame,
            node,
            index,
        }
    }
}

/// A run's graph, and how far it is.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) wiring: Wiring,
    frames: Vec<Frame>,
    /// The frames of each mapping.
    regions: HashMap<u32, Vec<u32>>,
    /// The frame of a mapping's elements, by the instance of the mapping's node.
    frame_of: HashMap<Instance, u32>,
    /// Ready work by gate.
    ready: Vec<BinaryHeap<Ready>>,
    /// How many elements of a stage may be under way at once.
    limits: HashMap<u32, u32>,
    /// What became of the upstreams of instances whose rule was stated.
    tallies: HashMap<Instance, Tally>,
    errors: HashMap<Instance, TaskError>,
    waits: HashMap<u32, Vec<Waiter>>,
    /// Instances that are not final.
    unfinished: usize,
    /// Jobs that were handed out and are not over.
    running: usize,
    /// How many nodes have failed or are upstream-failed, and are no machinery.
    failures: usize,
    /// The scopes from which no more nodes will come: their values may go to their last user.
    closed: Vec<bool>,
    cancelled: bool,
    cancelled_scopes: Vec<u32>,
    /// Values that nobody needs any more: dropped when the plan is not held, since that runs users' code.
    pub(crate) garbage: Vec<crate::value::Value>,
    /// The promises of bodies that await nodes.
    awaited: HashMap<u32, Vec<Arc<Promise>>>,
    /// Ends that are still to be passed on: one at a time, so that a long chain of them needs no deep stack.
    ends: std::collections::VecDeque<(Instance, End, bool)>,
    settling: bool,
    /// Whether nodes remember how they are wired, so that another process can go on with the run.
    durable: bool,
    /// What is recorded of a run that goes on.
    replay: Option<Box<Replay>>,
    /// The run goes on, and is not what was recorded: what is decided of its nodes now is not to be kept.
    pub(crate) is_changed: bool,
    /// The run goes on, and an earlier life of it was cancelling it when its process died.
    pub(crate) was_cancelled: bool,
    /// How many attempts of an instance do not count as tries: they ended with their process, or were made before a
    /// re-run.
    uncounted: HashMap<Instance, u16>,
    /// Instances that a re-run asked for.
    cleared: std::collections::HashSet<Instance>,
    /// When the next attempt of an instance is due, as recorded.
    due: HashMap<Instance, i64>,
    pub(crate) outbox: Outbox,
}

/// Who waits for a node.
#[derive(Debug)]
enum Waiter {
    /// A body that awaits it.
    Body(Arc<Promise>),
    /// The runtime itself.
    Watch(Arc<Promise>),
}

impl Plan {
    pub(crate) fn new(durable: bool, replay: Option<Replay>) -> Self {
        let replay = replay.map(Box::new);
        Self {
            frames: vec![Frame::of_flow()],
            durable: durable || replay.is_some(),
            replay,
            ..Self::default()
        }
    }

    /// Plans what a body has written down. `gate` says which limits a task's body needs.
    pub(crate) fn absorb(
        &mut self,
        scope: &mut Scope,
        number: u32,
        defaults: &Defaults,
        mut gate: impl FnMut(&Planned) -> u32,
    ) -> Result<(), GraphError> {
        let first = self.wiring.nodes.len();
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
        self.limits.extend(scope.limits.drain(..));
        for node in &mut self.wiring.nodes[first..] {
            node.gate = gate(node);
            let gate = node.gate as usize;
            if self.ready.len() <= gate {
                self.ready.resize_with(gate + 1, BinaryHeap::new);
            }
        }
        let last = self.wiring.nodes.len();
        self.frames[0].cells.reserve(last - first);
        for id in first..last {
            self.place(id_of(id));
        }
        for id in first..last {
            self.begin(id_of(id));
        }
        self.take_problem().map_or(Ok(()), Err)
    }

    /// Gives a new node its cells: one in the flow's frame, or one for each element where its mapping is open.
    fn place(&mut self, node: u32) {
        let planned = &self.wiring.nodes[node as usize];
        if planned.region == NONE {
            self.frames[0].cells.push(Cell::NEW);
            self.unfinished += 1;
            return;
        }
        let region = planned.region;
        for frame in self.frames_of(region) {
            self.unfinished += self.frames[frame as usize].extend();
            self.log_extended(self.frames[frame as usize].logged);
        }
    }

    /// Looks at a new node for the first time: its upstreams may be done already.
    fn begin(&mut self, node: u32) {
        let region = self.wiring.nodes[node as usize].region;
        if region == NONE {
            self.begin_instance(Instance {
                frame: 0,
                node,
                index: 0,
            });
            return self.replay_column(0, node);
        }
        for frame in self.frames_of(region) {
            if self.frames[frame as usize].unexpanded {
                self.end_unexpanded(frame, node);
            } else {
                self.begin_column(frame, node);
                self.replay_column(frame, node);
            }
        }
    }

    pub(super) fn frames_of(&self, region: u32) -> Vec<u32> {
        self.regions.get(&region).cloned().unwrap_or_default()
    }

    /// Lets a body wait for nodes.
    pub(crate) fn wait(&mut self, waits: impl IntoIterator<Item = Wait>) {
        for Wait { node, promise } in waits {
            self.wiring.nodes[node as usize].pinned = true;
            self.awaited
                .entry(node)
                .or_default()
                .push(Arc::clone(&promise));
            let instance = Instance {
                frame: 0,
                node,
                index: 0,
            };
            match self.cell(instance).phase {
                Phase::Ended(_) => {
                    let resolved = self.resolved(instance);
                    self.outbox.answers.push((node, promise, resolved));
                }
                _ => self
                    .waits
                    .entry(node)
                    .or_default()
                    .push(Waiter::Body(promise)),
            }
        }
    }

    /// Tells when a node is final, without taking its failure for handled.
    pub(crate) fn watch(&mut self, node: u32, promise: Arc<Promise>) {
        match self
            .cell(Instance {
                frame: 0,
                node,
                index: 0,
            })
            .phase
        {
            Phase::Ended(_) => self.outbox.promises.push((promise, Resolved::Unknown)),
            _ => self
                .waits
                .entry(node)
                .or_default()
                .push(Waiter::Watch(promise)),
        }
    }

    /// A flow's body returned: what it gives is taken by its caller (`None`), or by the node that it is.
    pub(crate) fn returned(&mut self, output: &Input, to: Option<u32>) {
        let mut nodes = Vec::new();
        output.for_each_node(&mut |handle, _| {
            if let crate::task::scope::Handle::Scoped { id, .. } = handle {
                nodes.push(*id);
            }
        });
        for id in nodes {
            let Some(node) = self.wiring.nodes.get_mut(id as usize) else {
                continue;
            };
            node.pinned = true;
            node.returned_to = Some(to.unwrap_or(NONE));
        }
    }

    /// No more nodes will come from a scope.
    pub(crate) fn close(&mut self, scope: u32) {
        let scope = scope as usize;
        self.closed.resize(self.closed.len().max(scope + 1), false);
        self.closed[scope] = true;
        for frame in 1..id_of(self.frames.len()) {
            self.forget_elements(frame);
        }
    }

    /// Whether a node's value may be given away, to the last of those that are known to take it.
    fn may_give_away(&self, node: &Planned) -> bool {
        !node.pinned
            && self
                .closed
                .get(node.scope as usize)
                .is_some_and(|closed| *closed)
    }

    /// Whether a node of the flow itself has started, and not ended.
    pub(crate) fn is_running(&self, node: u32) -> bool {
        self.cell(Instance {
            frame: 0,
            node,
            index: 0,
        })
        .phase
            == Phase::Running
    }

    /// Nodes that are flows, and whose bodies have started.
    pub(crate) fn running_flows(&self) -> Vec<u32> {
        let flows = (0..)
            .zip(&self.wiring.nodes)
            .filter(|(_, node)| matches!(node.kind, Kind::Flow(_)));
        let running =
            flows.filter(|(_, node)| self.frames[0].cell(node.local, 0).phase == Phase::Running);
        running.map(|(id, _)| id).collect()
    }

    /// Whether all that was planned is done.
    pub(crate) fn is_done(&self) -> bool {
        self.unfinished == 0
    }

    /// Whether this is a run that goes on.
    pub(crate) fn is_replayed(&self) -> bool {
        self.replay.is_some()
    }

    /// Whether a job was handed out and is not over.
    pub(crate) fn is_busy(&self) -> bool {
        self.running > 0
    }

    pub(crate) fn has_ready(&self, gate: u32) -> bool {
        self.ready
            .get(gate as usize)
            .is_some_and(|ready| !ready.is_empty())
    }

    pub(crate) fn gates(&self) -> u32 {
        id_of(self.ready.len())
    }

    fn cell(&self, at: Instance) -> &Cell {
        let local = self.wiring.nodes[at.node as usize].local;
        self.frames[at.frame as usize].cell(local, at.index)
    }

    fn cell_mut(&mut self, at: Instance) -> &mut Cell {
        let local = self.wiring.nodes[at.node as usize].local;
        self.frames[at.frame as usize].cell_mut(local, at.index)
    }

    /// The place of an instance's row in the run's log.
    pub(crate) fn row_of(&self, at: Instance) -> Place {
        let frame = &self.frames[at.frame as usize];
        let cell = self.wiring.nodes[at.node as usize].logged_local * frame.len + at.index;
        Place {
            frame: frame.logged,
            cell,
        }
    }

    /// The element of an outer region that an element is in.
    fn outer(&self, mut frame: u32, mut index: u32, region: u32) -> (u32, u32) {
        while self.frames[frame as usize].region != region && frame != 0 {
            (frame, index) = self.frames[frame as usize].parent;
        }
        (frame, index)
    }

    /// The instance of an upstream that an instance looks at. Out of a mapping there are many; then it is the first.
    fn upstream(&self, at: Instance, node: u32, reach: Reach) -> Option<Instance> {
        match reach {
            Reach::Same => Some(Instance { node, ..at }),
            Reach::Into => {
                let (frame, index) =
                    self.outer(at.frame, at.index, self.wiring.nodes[node as usize].region);
                Some(Instance { frame, node, index })
            }
            Reach::OutOf => {
                let mapping = self.wiring.nodes[node as usize].region;
                let frame = self.frame_of.get(&Instance {
                    node: mapping,
                    ..at
                })?;
                Some(Instance {
                    frame: *frame,
                    node,
                    index: 0,
                })
            }
        }
    }

    /// How many attempts of an instance there were before this one.
    pub(crate) fn attempts(&self, at: Instance) -> u16 {
        self.cell(at).attempts
    }

    /// The key of an instance, as `process#2[7]`.
    pub(crate) fn key(&self, at: Instance) -> String {
        self.key_of(at).to_string()
    }

    /// The same, rendered where somebody reads it.
    pub(crate) fn key_of(&self, at: Instance) -> InstanceKey {
        let node = &self.wiring.nodes[at.node as usize];
        let (mut frame, mut index) = (at.frame, at.index);
        let mut path = SmallVec::new();
        while frame != 0 {
            let here = &self.frames[frame as usize];
            if !here.unexpanded {
                path.push(index);
            }
            (frame, index) = here.parent;
        }
        path.reverse();
        node.key_of(path)
    }

    /// The index of an instance, if it is mapped.
    pub(crate) fn map_index(&self, at: Instance) -> Option<usize> {
        (self.wiring.nodes[at.node as usize].region != NONE).then_some(at.index as usize)
    }
}

/// Nodes, elements and frames are counted in 32 bits: four thousand million are more than a machine holds.
pub(crate) fn id_of(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(NONE)
}
