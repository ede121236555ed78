//! Ready work out, what became of it in.

use std::collections::binary_heap::PeekMut;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::frame::Phase;
use super::{End, Instance, Place, Plan};
use crate::graph::build::Reach;
use crate::policy::retry::Policy;
use crate::state::TaskState;
use crate::task::scope::{Handle, Kind, MappingSpec};
use crate::task::{
    Arg, Args, Convert, Derived, Elements, Given, Input, Projection, Resolved, Source, TaskDef,
};
use crate::value::Value;

/// Something to run.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) at: Instance,
    /// The place of its row in the run's log.
    pub(crate) place: Place,
    /// The number of the attempt, from 1.
    pub(crate) attempt: u16,
    pub(crate) timeout: Option<Duration>,
    pub(crate) work: Work,
}

#[derive(Debug)]
pub(crate) enum Work {
    /// A task's body.
    Task {
        definition: &'static TaskDef,
        args: Args,
    },
    /// A mapping's list is worked out.
    Open { spec: MappingSpec, lists: Args },
    /// What became of a mapping's elements is collected.
    Gather(Gathering),
}

/// A gather under way: its elements are taken a few at a time, so that nobody waits long for the plan.
#[derive(Debug)]
pub(crate) struct Gathering {
    pub(crate) len: u32,
    pub(crate) collect: fn(&mut dyn Iterator<Item = Resolved>) -> Value,
    projection: Option<Projection>,
    of: Of,
}

#[derive(Debug)]
enum Of {
    Node(Instance),
    Elements(Arc<Elements>),
}

impl Plan {
    /// The next piece of work for a gate.
    pub(crate) fn next(&mut self, gate: u32) -> Option<Job> {
        loop {
            let mut first = self.ready.get_mut(gate as usize)?.peek_mut()?;
            let at = first.instance();
            if at.index + 1 < first.end {
                let (order, node, index) = first.key.0;
                first.key = std::cmp::Reverse((order, node, index + 1));
                drop(first);
            } else {
                PeekMut::pop(first);
            }
            if matches!(self.cell(at).phase, Phase::Running | Phase::Ended(_)) {
                continue;
            }
            if !self.due.is_empty()
                && let Some(due) = self.due.remove(&at)
            {
                self.retry_later(at);
                self.outbox.due.push((at, due));
                continue;
            }
            if let Some(job) = self.start(at) {
                return Some(job);
            }
        }
    }

    fn start(&mut self, at: Instance) -> Option<Job> {
        let place = self.row_of(at);
        let uncounted = self.uncounted.get(&at).copied().unwrap_or(0);
        let cell = self.cell_mut(at);
        cell.phase = Phase::Running;
        cell.attempts += 1;
        let attempt = cell.attempts;
        self.running += 1;
        let node = &self.wiring.nodes[at.node as usize];
        let timeout = node.policy.timeout;
        // what is parked takes its inputs again
        let parks = matches!(&node.kind, Kind::Task(definition) if definition.cache.is_some());
        let last = u32::from(attempt - uncounted) > node.policy.retries && !parks;
        let work = match &node.kind {
            Kind::Task(definition) => Work::Task {
                definition,
                args: self.args(at, last),
            },
            Kind::Mapping(spec) => Work::Open {
                spec: (**spec).clone(),
                lists: self.args(at, last),
            },
            Kind::Gather(_) => Work::Gather(self.gathering(at)?),
            Kind::Flow(_) => return None,
        };
        Some(Job {
            at,
            place,
            attempt,
            timeout,
            work,
        })
    }

    fn args(&mut self, at: Instance, last: bool) -> Args {
        let inputs = std::mem::take(&mut self.wiring.nodes[at.node as usize].inputs);
        let args = inputs
            .iter()
            .map(|input| self.arg(at, input, last))
            .collect();
        self.wiring.nodes[at.node as usize].inputs = inputs;
        args
    }

    fn arg(&mut self, at: Instance, input: &Input, last: bool) -> Arg {
        let bare = input.projection.is_none()
            && matches!(input.convert, Convert::Plain | Convert::Outcomes);
        let given = match &input.source {
            Source::Value(value) => return Arg::Value(value.clone()),
            Source::Many(inputs, combine) => Given::Many(
                inputs
                    .iter()
                    .map(|input| self.arg(at, input, last))
                    .collect(),
                *combine,
            ),
            Source::Node(Handle::Scoped { id, .. }) => {
                match self.give(at, *id, input.convert, last) {
                    Resolved::Success(value) if bare => return Arg::Value(value),
                    resolved => Given::Node(resolved),
                }
            }
            Source::Node(Handle::Element { mapping, .. }) => {
                let (frame, index) = self.outer(at.frame, at.index, *mapping);
                let elements = match &self.frames[frame as usize].elements {
                    Some(elements) => Arc::clone(elements),
                    None => unreachable!("a mapping has its list until its last element is final"),
                };
                match bare {
                    true => return Arg::Element(elements, index),
                    false => Given::Element(elements, index),
                }
            }
            Source::Node(Handle::Loose(_)) => {
                unreachable!("a loose node is refused when it is planned")
            }
        };
        Arg::Derived(Box::new(Derived {
            given,
            projection: input.projection.clone(),
            convert: input.convert,
        }))
    }

    /// What became of an upstream, for one of its users: the value itself where nobody else will need it.
    fn give(&mut self, at: Instance, upstream: u32, convert: Convert, last: bool) -> Resolved {
        let (own, other) = (
            &self.wiring.nodes[at.node as usize],
            &self.wiring.nodes[upstream as usize],
        );
        let same = own.region == other.region;
        let (uses, may_move) = (other.uses, same && last && self.may_give_away(other));
        let Some(source) =
            self.upstream(at, upstream, if same { Reach::Same } else { Reach::Into })
        else {
            return Resolved::Unknown;
        };
        let cell = self.cell_mut(source);
        if matches!(convert, Convert::Outcomes) || cell.phase == Phase::Ended(TaskState::Success) {
            let value = match may_move && cell.used + 1 == uses {
                true => cell.value.take(),
                false => cell.value.clone(),
            };
            if let Some(value) = value {
                return Resolved::Success(value);
            }
        }
        self.resolved(source)
    }

    /// A user of other nodes' values is done with them.
    pub(super) fn release_inputs(&mut self, at: Instance) {
        let inputs = std::mem::take(&mut self.wiring.nodes[at.node as usize].inputs);
        let region = self.wiring.nodes[at.node as usize].region;
        inputs
            .iter()
            .for_each(|input| self.release_input(at, region, input));
        self.wiring.nodes[at.node as usize].inputs = inputs;
    }

    fn release_input(&mut self, at: Instance, region: u32, input: &Input) {
        match &input.source {
            Source::Node(Handle::Scoped { id, .. }) => {
                let source = &self.wiring.nodes[*id as usize];
                if source.region == region {
                    let (uses, may_go) = (source.uses, self.may_give_away(source));
                    let cell = self.frames[at.frame as usize].cell_mut(source.local, at.index);
                    cell.used += 1;
                    if may_go && cell.used >= uses {
                        self.garbage.extend(cell.value.take());
                    }
                }
            }
            Source::Many(inputs, _) => inputs
                .iter()
                .for_each(|input| self.release_input(at, region, input)),
            Source::Value(_) | Source::Node(_) => {}
        }
    }

    /// Drops a value that nobody will take any more.
    pub(super) fn forget_unused(&mut self, at: Instance) {
        let node = &self.wiring.nodes[at.node as usize];
        let (uses, keep) = (node.uses, !self.may_give_away(node));
        if !keep && self.cell(at).used >= uses {
            let value = self.cell_mut(at).value.take();
            self.garbage.extend(value);
        }
    }

    fn gathering(&mut self, at: Instance) -> Option<Gathering> {
        let node = &self.wiring.nodes[at.node as usize];
        let Kind::Gather(spec) = &node.kind else {
            return None;
        };
        let (collect, projection) = (spec.collect, spec.projection.clone());
        let edge = *node.upstreams.first()?;
        let mapping = Instance {
            node: spec.mapping,
            ..at
        };
        let frame = self.frame_of.get(&mapping).copied();
        match (edge.reach, frame) {
            (Reach::OutOf, Some(frame)) => {
                let len = self.frames[frame as usize].len;
                let of = Of::Node(Instance {
                    frame,
                    node: edge.node,
                    index: 0,
                });
                Some(Gathering {
                    len,
                    collect,
                    projection,
                    of,
                })
            }
            // the bare elements of the list
            (_, Some(frame)) if !self.frames[frame as usize].unexpanded => {
                let frame = &self.frames[frame as usize];
                let Some(elements) = &frame.elements else {
                    unreachable!("a mapping keeps its list for the gathers of its bare elements")
                };
                Some(Gathering {
                    len: frame.len,
                    collect,
                    projection,
                    of: Of::Elements(Arc::clone(elements)),
                })
            }
            _ => {
                let end = self.gathered_end(mapping, TaskState::UpstreamFailed);
                self.settle(at, end, false);
                None
            }
        }
    }

    /// What became of some elements of a gather, each taken once.
    pub(crate) fn take_elements(
        &mut self,
        gathering: &Gathering,
        indexes: Range<u32>,
    ) -> SmallVec<[Resolved; 64]> {
        match &gathering.of {
            Of::Elements(elements) => indexes
                .map(|index| Resolved::Success(elements.get(index)))
                .collect(),
            Of::Node(of) => {
                let node = &self.wiring.nodes[of.node as usize];
                let (uses, may_move) = (node.uses, self.may_give_away(node));
                let take = |index| {
                    let at = Instance { index, ..*of };
                    let cell = self.cell_mut(at);
                    cell.used += 1;
                    let value = match may_move && cell.used == uses {
                        true => cell.value.take(),
                        false => cell.value.clone(),
                    };
                    match value {
                        Some(value) if cell.phase == Phase::Ended(TaskState::Success) => {
                            Resolved::Success(value)
                        }
                        _ => self.resolved(at),
                    }
                };
                indexes.map(take).collect()
            }
        }
    }

    /// A gather has collected its elements.
    pub(crate) fn gathered(&mut self, at: Instance, gathering: &Gathering, value: Value) {
        let (state, of) = match gathering.of {
            Of::Elements(_) => (TaskState::Success, at),
            Of::Node(of) => (self.mapping_state(of), of),
        };
        let end = match state {
            TaskState::Success => End::Success(value),
            state => {
                self.cell_mut(at).value = Some(value);
                self.gathered_end(of, state)
            }
        };
        self.settle(at, end, false);
    }

    /// A mapping's list was worked out.
    pub(crate) fn list_came(&mut self, at: Instance, elements: Arc<Elements>, len: u32) {
        // the node's end lets go of the lists' inputs; the elements hold the lists
        if self.is_cancelled(at.node) {
            return self.settle(at, End::Cancelled, false);
        }
        if let Some(end) = self.was_left(at) {
            return self.settle(at, end, false);
        }
        let len = self.kept_length(at).unwrap_or(len);
        self.expand(at, elements, len);
        self.settle(at, End::Success(Value::new(())), false);
    }

    /// A job is done.
    pub(crate) fn finish(&mut self, at: Instance, end: End) {
        self.settle(at, end, true);
    }

    /// A job failed without a body: a mapping's list, or a gather.
    pub(crate) fn fail(&mut self, at: Instance, end: End) {
        self.settle(at, end, false);
    }

    /// An attempt failed, and another will follow.
    pub(crate) fn retry_later(&mut self, at: Instance) {
        self.running -= usize::from(self.cell(at).phase == Phase::Running);
        self.cell_mut(at).phase = Phase::Retrying;
        let stage = self.wiring.nodes[at.node as usize].stage;
        if at.frame != 0 && self.limits.contains_key(&stage) {
            self.stage(at.frame, stage).leave(at, true, false);
            self.admit(at.frame, stage);
        }
        if self.is_cancelled(at.node) {
            self.settle(at, End::Cancelled, false);
        }
    }

    /// An instance that was started waits for what another computes.
    pub(crate) fn park(&mut self, at: Instance) {
        self.cell_mut(at).attempts -= 1;
        self.retry_later(at);
    }

    /// The time of the next attempt has come.
    pub(crate) fn retry_now(&mut self, at: Instance) {
        if self.cell(at).phase == Phase::Retrying {
            self.cell_mut(at).phase = Phase::Waiting;
            self.ready(at);
        }
    }

    /// The options of the task, the instance's key, and how many tries it has had with this one, for when an attempt
    /// failed. An attempt that ended with its process was none, nor was one from before a re-run.
    pub(crate) fn policy(&self, at: Instance) -> (Arc<Policy>, String, u32) {
        let tries = self.cell(at).attempts - self.uncounted.get(&at).copied().unwrap_or(0);
        (
            Arc::clone(&self.wiring.nodes[at.node as usize].policy),
            self.key(at),
            u32::from(tries),
        )
    }

    /// The flow's own output, or that of a flow in it: the value, or how the first node ended that it was to come from.
    pub(crate) fn output(&mut self, output: &Input) -> Result<Arg, (Instance, End)> {
        let mut missing = None;
        output.for_each_node(&mut |handle, _| {
            if let (Handle::Scoped { id, .. }, None) = (handle, &missing) {
                let source = Instance {
                    frame: 0,
                    node: *id,
                    index: 0,
                };
                let end = match self.resolved(source) {
                    Resolved::Success(_) => return,
                    Resolved::Skipped(reason) => End::Skipped(reason),
                    Resolved::Failed(error) if error.is_cancelled() => End::Cancelled,
                    Resolved::Failed(error) => End::Failed(error),
                    Resolved::UpstreamFailed(error) => End::UpstreamFailed(error),
                    Resolved::Unknown => End::Cancelled,
                };
                missing = Some((source, end));
            }
        });
        match missing {
            Some(end) => Err(end),
            None => Ok(self.output_arg(output)),
        }
    }

    /// How a flow in the flow ends whose output is to come from a node that ended so.
    pub(crate) fn without_output(&self, source: Instance, end: End) -> End {
        match end {
            End::Failed(_) | End::UpstreamFailed(_) => {
                End::UpstreamFailed(self.upstream_error(source))
            }
            other => other,
        }
    }

    fn output_arg(&self, output: &Input) -> Arg {
        match &output.source {
            Source::Value(value) => Arg::Value(value.clone()),
            Source::Many(inputs, combine) => {
                let args = inputs.iter().map(|input| self.output_arg(input)).collect();
                Arg::Derived(Box::new(Derived {
                    given: Given::Many(args, *combine),
                    projection: None,
                    convert: Convert::Plain,
                }))
            }
            Source::Node(handle) => {
                let node = match handle {
                    Handle::Scoped { id, .. } => *id,
                    Handle::Element { .. } | Handle::Loose(_) => {
                        unreachable!("an output was checked to be a node")
                    }
                };
                let given = Given::Node(self.resolved(Instance {
                    frame: 0,
                    node,
                    index: 0,
                }));
                Arg::Derived(Box::new(Derived {
                    given,
                    projection: output.projection.clone(),
                    convert: output.convert,
                }))
            }
        }
    }
}

impl Gathering {
    /// An element as it is collected.
    pub(crate) fn project(&self, resolved: Resolved) -> Resolved {
        match (resolved, &self.projection) {
            (Resolved::Success(value), Some(projection)) => {
                Resolved::Success(projection.apply(value))
            }
            (other, _) => other,
        }
    }
}
