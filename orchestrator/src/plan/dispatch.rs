//! Hands out ready work and takes the ends of it.

use std::collections::binary_heap::PeekMut;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::frame::{ElementId, Phase};
use super::{End, Instance, Plan};
use crate::graph::build::Reach;
use crate::index::{FrameId, GateId, NodeId};
use crate::journal::RowPlace;
use crate::policy::retry::Policy;
use crate::scope::{Handle, MappingSpec, NodeKind};
use crate::state::TaskState;
use crate::task::{
    Arg, Args, Conversion, DerivedInput, Elements, Input, InputSource, NodeOutcome, Projection,
    ResolvedSource, TaskDef,
};
use crate::value::Value;

/// A piece of work.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) at: Instance,
    /// The place of its row in the run's log.
    pub(crate) place: RowPlace,
    /// The number of the attempt, from 1.
    pub(crate) attempt: u16,
    pub(crate) timeout: Option<Duration>,
    pub(crate) work: Work,
}

#[derive(Debug)]
pub(crate) enum Work {
    /// Run a task's body.
    Task {
        definition: &'static TaskDef,
        args: Args,
    },
    /// Compute a mapping's list.
    Open { spec: MappingSpec, lists: Args },
    /// Collect the results of a mapping's elements.
    Gather(Gathering),
}

/// An active gather. It takes its elements in portions, so that the plan is never locked for long.
#[derive(Debug)]
pub(crate) struct Gathering {
    pub(crate) len: u32,
    pub(crate) collect: fn(&mut dyn Iterator<Item = NodeOutcome>) -> Value,
    projection: Option<Projection>,
    of: GatherSource,
}

#[derive(Debug)]
enum GatherSource {
    Node(Instance),
    Elements(Arc<Elements>),
}

impl Plan {
    /// Takes the next piece of work for a gate.
    pub(crate) fn next(&mut self, gate: GateId) -> Option<Job> {
        loop {
            let mut first = self.ready.get_mut(gate)?.peek_mut()?;
            let at = first.instance();
            if first.advance() {
                drop(first);
            } else {
                PeekMut::pop(first);
            }
            // an entry of the heap may be outdated: since it was pushed, its instance may have ended,
            // or started by another entry
            if matches!(self.cell(at).phase, Phase::Running | Phase::Ended(_)) {
                continue;
            }
            if self.is_cancelled(at) {
                self.settle(at, End::Cancelled, false);
                continue;
            }
            if !self.due.is_empty()
                && let Some(due) = self.due.remove(&at)
            {
                self.put_off(at, true);
                self.outbox.due.push((at, due));
                continue;
            }
            if self.quarantine.is_some() && self.is_task(at.node) && self.is_held(at) {
                continue;
            }
            if let Some(job) = self.start(at) {
                return Some(job);
            }
        }
    }

    fn start(&mut self, at: Instance) -> Option<Job> {
        let Some(place) = self.row_of(at) else {
            unreachable!("what is in an unrecorded frame ends without being run")
        };
        self.skip_unknown_attempt(at);
        let uncounted = self.uncounted.get(&at).copied().unwrap_or(0);
        let cell = self.cell_mut(at);
        cell.phase = Phase::Running;
        cell.attempts += 1;
        let attempt = cell.attempts;
        self.count_start(at);
        let node = &self.wiring.nodes[at.node];
        let timeout = node.policy.timeout;
        // a task with a cached result may be parked after this, and takes its inputs again then
        let parks = matches!(&node.kind, NodeKind::Task(definition) if definition.cache.is_some());
        let last = u32::from(attempt - uncounted) > node.policy.retries && !parks;
        let work = match &node.kind {
            NodeKind::Task(definition) => Work::Task {
                definition,
                args: self.args(at, last),
            },
            NodeKind::Mapping(spec) => Work::Open {
                spec: (**spec).clone(),
                lists: self.args(at, last),
            },
            NodeKind::Gather(_) => Work::Gather(self.gathering(at)?),
            NodeKind::Flow(_) => return None,
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
        let inputs = std::mem::take(&mut self.wiring.nodes[at.node].inputs);
        let args = inputs
            .iter()
            .map(|input| self.arg(at, input, last))
            .collect();
        self.wiring.nodes[at.node].inputs = inputs;
        args
    }

    fn arg(&mut self, at: Instance, input: &Input, last: bool) -> Arg {
        let bare = input.projection.is_none()
            && matches!(input.convert, Conversion::Plain | Conversion::Outcomes);
        let given = match &input.source {
            InputSource::Value(value) => return Arg::Value(value.clone()),
            InputSource::Many(inputs, combine) => ResolvedSource::Many(
                inputs
                    .iter()
                    .map(|input| self.arg(at, input, last))
                    .collect(),
                *combine,
            ),
            InputSource::Node(Handle::Scoped { id, .. }) => {
                match self.give(at, *id, input.convert, last) {
                    NodeOutcome::Success(value) if bare => return Arg::Value(value),
                    resolved => ResolvedSource::Node(resolved),
                }
            }
            InputSource::Node(Handle::Element { mapping, .. }) => {
                let ElementId { frame, index } = self.outer(at.element(), *mapping);
                let elements = match &self.frames[frame].elements {
                    Some(elements) => Arc::clone(elements),
                    None => unreachable!("a mapping has its list until its last element is final"),
                };
                match bare {
                    true => return Arg::Element(elements, index),
                    false => ResolvedSource::Element(elements, index),
                }
            }
            InputSource::Node(Handle::Loose(_)) => {
                unreachable!("a loose node is refused when it is planned")
            }
        };
        Arg::Derived(Box::new(DerivedInput {
            given,
            projection: input.projection.clone(),
            convert: input.convert,
        }))
    }

    /// Returns the result of an upstream for one of its consumers: the value itself if no other
    /// consumer needs it.
    fn give(
        &mut self,
        at: Instance,
        upstream: NodeId,
        convert: Conversion,
        last: bool,
    ) -> NodeOutcome {
        let (own, other) = (&self.wiring.nodes[at.node], &self.wiring.nodes[upstream]);
        let same = own.region == other.region;
        let (uses, may_move) = (other.uses, same && last && self.may_give_away(other));
        let Some(source) =
            self.upstream(at, upstream, if same { Reach::Same } else { Reach::Into })
        else {
            return NodeOutcome::Unknown;
        };
        let cell = self.cell_mut(source);
        if matches!(convert, Conversion::Outcomes) || cell.phase == Phase::Ended(TaskState::Success)
        {
            let value = match may_move && cell.used + 1 == uses {
                true => cell.value.take(),
                false => cell.value.clone(),
            };
            if let Some(value) = value {
                return NodeOutcome::Success(value);
            }
        }
        self.resolved(source)
    }

    /// Releases the values that an ended node has taken from others.
    pub(super) fn release_inputs(&mut self, at: Instance) {
        let inputs = std::mem::take(&mut self.wiring.nodes[at.node].inputs);
        let region = self.wiring.nodes[at.node].region;
        inputs
            .iter()
            .for_each(|input| self.release_input(at, region, input));
        self.wiring.nodes[at.node].inputs = inputs;
    }

    fn release_input(&mut self, at: Instance, region: Option<NodeId>, input: &Input) {
        match &input.source {
            InputSource::Node(Handle::Scoped { id, .. }) => {
                let source = &self.wiring.nodes[*id];
                if source.region == region {
                    let (uses, may_go) = (source.uses, self.may_give_away(source));
                    let cell = self.frames[at.frame].cell_mut(source.local, at.index);
                    cell.used += 1;
                    if may_go && cell.used >= uses {
                        self.garbage.extend(cell.value.take());
                    }
                }
            }
            InputSource::Many(inputs, _) => inputs
                .iter()
                .for_each(|input| self.release_input(at, region, input)),
            InputSource::Value(_) | InputSource::Node(_) => {}
        }
    }

    /// Drops a value without further consumers.
    pub(super) fn forget_unused(&mut self, at: Instance) {
        let node = &self.wiring.nodes[at.node];
        let (uses, keep) = (node.uses, !self.may_give_away(node));
        if !keep && self.cell(at).used >= uses {
            let value = self.cell_mut(at).value.take();
            self.garbage.extend(value);
        }
    }

    fn gathering(&mut self, at: Instance) -> Option<Gathering> {
        let node = &self.wiring.nodes[at.node];
        let NodeKind::Gather(spec) = &node.kind else {
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
                let len = self.frames[frame].len;
                let of = GatherSource::Node(Instance::first(frame, edge.node));
                Some(Gathering {
                    len,
                    collect,
                    projection,
                    of,
                })
            }
            // the elements of the list themselves
            (_, Some(frame)) if !self.frames[frame].unexpanded => {
                let frame = &self.frames[frame];
                let Some(elements) = &frame.elements else {
                    unreachable!("a mapping keeps its list for the gathers of its bare elements")
                };
                Some(Gathering {
                    len: frame.len,
                    collect,
                    projection,
                    of: GatherSource::Elements(Arc::clone(elements)),
                })
            }
            _ => {
                let end = self.gathered_end(mapping, TaskState::UpstreamFailed);
                self.settle(at, end, false);
                None
            }
        }
    }

    /// Takes the results of some elements of a gather, each of them once.
    pub(crate) fn take_elements(
        &mut self,
        gathering: &Gathering,
        indexes: Range<u32>,
    ) -> SmallVec<[NodeOutcome; 64]> {
        let GatherSource::Node(of) = gathering.of else {
            return SmallVec::new();
        };
        let node = &self.wiring.nodes[of.node];
        let (uses, may_move) = (node.uses, self.may_give_away(node));
        let take = |index| {
            let at = Instance { index, ..of };
            let cell = self.cell_mut(at);
            cell.used += 1;
            let value = match may_move && cell.used == uses {
                true => cell.value.take(),
                false => cell.value.clone(),
            };
            match value {
                Some(value) if cell.phase == Phase::Ended(TaskState::Success) => {
                    NodeOutcome::Success(value)
                }
                _ => self.resolved(at),
            }
        };
        indexes.map(take).collect()
    }

    /// Ends a gather that has collected its elements.
    pub(crate) fn gathered(&mut self, at: Instance, gathering: &Gathering, value: Value) {
        let (state, of) = match gathering.of {
            GatherSource::Elements(_) => (TaskState::Success, at),
            GatherSource::Node(of) => (self.mapping_state(of), of),
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

    /// Opens a mapping whose list was computed.
    pub(crate) fn list_came(&mut self, at: Instance, elements: Arc<Elements>, len: u32) {
        // the end of the node releases the inputs of the lists; the elements keep the lists
        if self.is_cancelled(at) {
            return self.settle(at, End::Cancelled, false);
        }
        if let Some(end) = self.was_left(at) {
            return self.settle(at, end, false);
        }
        let len = self.kept_length(at).unwrap_or(len);
        self.expand(at, elements, len);
        self.settle(at, End::Success(Value::new(())), false);
    }

    /// Takes the end of a job.
    pub(crate) fn finish(&mut self, at: Instance, end: End) {
        self.settle(at, end, true);
    }

    /// Ends a job that failed without a body: the list of a mapping, or a gather.
    pub(crate) fn fail(&mut self, at: Instance, end: End) {
        self.settle(at, end, false);
    }

    /// Puts off an instance whose attempt failed and will be retried, or cancels it. It may have
    /// ended before: a run that is abandoned does not wait for its attempts.
    pub(crate) fn retry_later(&mut self, at: Instance) {
        if !self.cell(at).is_ended() {
            self.put_off(at, false);
        }
    }

    /// Puts off an instance, after a failed attempt or before it was tried (`is_untried`).
    fn put_off(&mut self, at: Instance, is_untried: bool) {
        self.end_trial(at, is_untried);
        if self.cell(at).phase == Phase::Running {
            self.count_end(at);
        }
        self.cell_mut(at).phase = Phase::Retrying;
        if at.frame != FrameId::FLOW
            && let Some(stage) = self.limited_stage(at.node)
        {
            self.stage(at.frame, stage).leave(at, true, false);
            self.admit(at.frame, stage);
        }
        if self.is_cancelled(at) {
            self.settle(at, End::Cancelled, false);
        }
    }

    /// Makes a job ready again that was handed out and not begun.
    pub(crate) fn put_back(&mut self, at: Instance) {
        self.end_trial(at, true);
        self.count_end(at);
        let cell = self.cell_mut(at);
        cell.attempts -= 1;
        cell.phase = Phase::Ready;
        if self.is_cancelled(at) {
            return self.settle(at, End::Cancelled, false);
        }
        self.push(at);
    }

    /// Puts off an instance that waits for another to compute its result.
    pub(crate) fn park(&mut self, at: Instance) {
        self.cell_mut(at).attempts -= 1;
        self.put_off(at, true);
    }

    /// Makes an instance ready whose next attempt is due.
    pub(crate) fn retry_now(&mut self, at: Instance) {
        if self.cell(at).phase == Phase::Retrying {
            self.cell_mut(at).phase = Phase::Waiting;
            self.ready(at);
        }
    }

    /// Returns the task's options, the instance's key, and the number of its tries including this
    /// one, after a failed attempt. Attempts that ended with their process, or that came before a
    /// re-run, do not count as tries.
    pub(crate) fn policy(&self, at: Instance) -> (Arc<Policy>, String, u32) {
        let tries = self.cell(at).attempts - self.uncounted.get(&at).copied().unwrap_or(0);
        (
            Arc::clone(&self.wiring.nodes[at.node].policy),
            self.key(at),
            u32::from(tries),
        )
    }

    /// Returns the output of the flow or of a subflow: the value, or the first of its nodes that
    /// has none and that node's end.
    pub(crate) fn output(&mut self, output: &Input) -> Result<Arg, (Instance, End)> {
        let mut missing = None;
        output.for_each_node(&mut |handle, _| {
            if let (Handle::Scoped { id, .. }, None) = (handle, &missing) {
                let source = Instance::in_flow(*id);
                let end = match self.resolved(source) {
                    NodeOutcome::Success(_) => return,
                    NodeOutcome::Skipped(reason) => End::Skipped(reason),
                    NodeOutcome::Failed(error) if error.is_cancelled() => End::Cancelled,
                    NodeOutcome::Failed(error) => End::Failed(error),
                    NodeOutcome::UpstreamFailed(error) => End::UpstreamFailed(error),
                    NodeOutcome::Unknown => End::Cancelled,
                };
                missing = Some((source, end));
            }
        });
        match missing {
            Some(end) => Err(end),
            None => Ok(self.output_arg(output)),
        }
    }

    /// Returns the end of a subflow whose output depends on a node with the given end.
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
            InputSource::Value(value) => Arg::Value(value.clone()),
            InputSource::Many(inputs, combine) => {
                let args = inputs.iter().map(|input| self.output_arg(input)).collect();
                Arg::Derived(Box::new(DerivedInput {
                    given: ResolvedSource::Many(args, *combine),
                    projection: None,
                    convert: Conversion::Plain,
                }))
            }
            InputSource::Node(handle) => {
                let node = match handle {
                    Handle::Scoped { id, .. } => *id,
                    Handle::Element { .. } | Handle::Loose(_) => {
                        unreachable!("an output was checked to be a node")
                    }
                };
                let given = ResolvedSource::Node(self.resolved(Instance::in_flow(node)));
                Arg::Derived(Box::new(DerivedInput {
                    given,
                    projection: output.projection.clone(),
                    convert: output.convert,
                }))
            }
        }
    }
}

impl Gathering {
    /// Returns clones of some elements of a list, if the gather is of the list itself.
    pub(crate) fn elements(&self, indexes: Range<u32>) -> Option<SmallVec<[NodeOutcome; 64]>> {
        match &self.of {
            GatherSource::Elements(elements) => Some(
                indexes
                    .map(|index| NodeOutcome::Success(elements.get(index)))
                    .collect(),
            ),
            GatherSource::Node(_) => None,
        }
    }

    /// Returns an element in the form in which it is collected.
    pub(crate) fn project(&self, resolved: NodeOutcome) -> NodeOutcome {
        match (resolved, &self.projection) {
            (NodeOutcome::Success(value), Some(projection)) => {
                NodeOutcome::Success(projection.apply(value))
            }
            (other, _) => other,
        }
    }
}
