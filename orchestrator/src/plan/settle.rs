//! Propagation: from the end of one node to its effects on others.

use super::frame::Phase;
use super::{End, EndedInstance, Instance, NodeWaiter, Outbox, Plan};
use crate::error::{Cause, TaskError};
use crate::graph::build::{Reach, ReverseEdge, UpstreamUse};
use crate::index::FrameId;
use crate::scope::NodeKind;
use crate::state::TaskState;
use crate::task::NodeOutcome;

/// The effect of an upstream's end on a consumer without a stated rule.
pub(super) enum UpstreamEffect {
    Satisfied,
    /// The consumer is skipped, unless another upstream fails, which is known when all have ended.
    Skip,
    /// The consumer ends at once, regardless of its other upstreams.
    End(End),
}

impl Plan {
    /// Returns the effect of an upstream's end on a consumer without a stated rule.
    pub(super) fn effect_of(
        &self,
        upstream: Instance,
        state: TaskState,
        takes: UpstreamUse,
    ) -> UpstreamEffect {
        // a mapping whose list never became available has no outcomes
        let outcome = |plan: &Self| {
            let gather = matches!(plan.wiring.nodes[upstream.node].kind, NodeKind::Gather(_));
            !gather || plan.cell(upstream).value.is_some()
        };
        match state {
            TaskState::Success => UpstreamEffect::Satisfied,
            TaskState::Cancelled => UpstreamEffect::End(End::Cancelled),
            _ if takes == UpstreamUse::Outcome && outcome(self) => UpstreamEffect::Satisfied,
            TaskState::Skipped => UpstreamEffect::Skip,
            _ => UpstreamEffect::End(End::UpstreamFailed(self.upstream_error(upstream))),
        }
    }

    /// Ends all elements of a node that have not ended.
    pub(super) fn settle_column(&mut self, first: Instance, end: &dyn Fn() -> End) {
        for index in 0..self.frames[first.frame].len {
            self.settle(Instance { index, ..first }, end(), false);
        }
    }

    /// Ends an instance and propagates its end to its waiters and consumers. `ran` tells whether
    /// the caller records the end.
    pub(super) fn settle(&mut self, at: Instance, end: End, ran: bool) {
        let recorded = if ran { None } else { self.recorded_end(at) };
        let (end, ran) = recorded.map_or((end, ran), |end| (end, true));
        // called while another end is propagated: that one is completed first, and a chain of ends
        // of any length does not overflow the stack
        if self.settling {
            self.ends.push_back((at, end, ran));
            return;
        }
        self.settling = true;
        self.settle_one(at, end, ran);
        while let Some((at, end, ran)) = self.ends.pop_front() {
            self.settle_one(at, end, ran);
        }
        self.settling = false;
    }

    pub(super) fn settle_one(&mut self, at: Instance, end: End, ran: bool) {
        // several upstreams may end an instance, and a cancellation may come before its attempt
        // ends: the first end counts
        if self.cell(at).is_ended() {
            return;
        }
        self.end_trial(at, false);
        let state = end.state();
        let was_busy = matches!(self.cell(at).phase, Phase::Ready | Phase::Running);
        let is_flow = matches!(self.wiring.nodes[at.node].kind, NodeKind::Flow(_));
        match self.cell(at).phase == Phase::Running {
            true if !is_flow => self.count_end(at),
            true if state == TaskState::Cancelled => drop(self.left_flows.insert(at.node)),
            _ => {}
        }
        self.release_inputs(at);
        if !ran && (state == TaskState::Failed || !self.wiring.nodes[at.node].is_hidden()) {
            let (place, attempts) = (self.row_of(at), self.cell(at).attempts);
            self.outbox.ended.push(EndedInstance {
                at,
                place,
                state,
                attempts,
                error: end.error().cloned(),
            });
        }
        if let Some(error) = end.error() {
            self.errors.insert(at, error.clone());
        }
        if matches!(state, TaskState::Failed | TaskState::UpstreamFailed) {
            self.failures += 1;
        }
        // an end without a body follows again from its upstreams when the run is resumed
        let recorded = !ran && self.follows_from_record(at);
        // before the consumers are told: they read the phase and the value
        let cell = self.cell_mut(at);
        cell.recorded |= recorded;
        cell.phase = Phase::Ended(state);
        if let End::Success(value) = end {
            cell.value = Some(value);
        }
        self.forget_unused(at);
        self.unfinished -= 1;
        if at.frame == FrameId::FLOW
            && !self.waits.is_empty()
            && let Some(waiters) = self.waits.remove(&at.node)
        {
            let resolved = self.resolved(at);
            for waiter in waiters {
                match waiter {
                    NodeWaiter::Body(promise) => {
                        self.outbox
                            .answers
                            .push((at.node, promise, resolved.clone()))
                    }
                    NodeWaiter::Watch(promise) => {
                        self.outbox.promises.push((promise, resolved.clone()))
                    }
                }
            }
        }
        for link in 0..self.wiring.nodes[at.node].links.len() {
            let link = self.wiring.nodes[at.node].links[link];
            match link.reach {
                Reach::Same => self.arrive(
                    Instance {
                        node: link.to,
                        ..at
                    },
                    at,
                    state,
                    link,
                ),
                Reach::Into => self.arrive_into(at, state, link),
                Reach::OutOf => {}
            }
        }
        if at.frame != FrameId::FLOW {
            self.element_ended(at, state, was_busy);
        }
        if state != TaskState::Success
            && matches!(self.wiring.nodes[at.node].kind, NodeKind::Mapping(_))
        {
            self.leave_unexpanded(at);
        }
    }

    pub(super) fn element_ended(&mut self, at: Instance, state: TaskState, was_busy: bool) {
        let local = self.wiring.nodes[at.node].local as usize;
        let frame = &mut self.frames[at.frame];
        frame.unfinished -= 1;
        if frame.unfinished == 0 {
            self.forget_elements(at.frame);
        }
        let frame = &mut self.frames[at.frame];
        let column = &mut frame.columns[local];
        match state {
            TaskState::Cancelled => column.cancelled += 1,
            state => column.done.count(state),
        }
        if column.ended() == frame.len {
            self.column_done(at.frame, at.node);
        }
        if let Some(stage) = self.limited_stage(at.node) {
            self.stage(at.frame, stage).leave(at, was_busy, true);
            self.admit(at.frame, stage);
        }
    }

    /// An upstream in the same region ended.
    pub(super) fn arrive(
        &mut self,
        at: Instance,
        from: Instance,
        state: TaskState,
        link: ReverseEdge,
    ) {
        if self.cell(at).phase != Phase::Waiting {
            return;
        }
        let policy = &self.wiring.nodes[at.node].policy;
        if state == TaskState::Cancelled && !policy.run_on_cancel {
            return self.settle(at, End::Cancelled, false);
        }
        if policy.trigger.is_some() {
            self.tallies.entry(at).or_default().count(state);
            self.cell_mut(at).pending -= u32::from(self.brings_value(from, link.takes));
        } else {
            match self.effect_of(from, state, link.takes) {
                UpstreamEffect::Satisfied => {}
                UpstreamEffect::Skip => self.tallies.entry(at).or_default().count(state),
                UpstreamEffect::End(end) => return self.settle(at, end, false),
            }
            self.cell_mut(at).pending -= 1;
        }
        self.consider(at);
    }

    /// Propagates the end of an upstream outside of a mapping to the elements of the mapping.
    pub(super) fn arrive_into(&mut self, from: Instance, state: TaskState, link: ReverseEdge) {
        let (region, local) = {
            let node = &self.wiring.nodes[link.to];
            (node.region, node.local as usize)
        };
        for frame in self.frames_under(from, region) {
            let first = Instance::first(frame, link.to);
            let table = &self.frames[frame];
            if table.len == 0 || !table.columns[local].begun {
                continue;
            }
            let policy = &self.wiring.nodes[link.to].policy;
            if state == TaskState::Cancelled && !policy.run_on_cancel {
                self.settle_column(first, &|| End::Cancelled);
                continue;
            }
            let (counts, over) = if policy.trigger.is_some() {
                (true, self.brings_value(from, link.takes))
            } else {
                match self.effect_of(from, state, link.takes) {
                    UpstreamEffect::Satisfied => (false, true),
                    UpstreamEffect::Skip => (true, true),
                    UpstreamEffect::End(end) => {
                        self.settle_column(first, &|| end.again());
                        continue;
                    }
                }
            };
            let column = &mut self.frames[frame].columns[local];
            column.outer_pending -= u32::from(over);
            if counts {
                column.outer.count(state);
            }
            if self.is_root(link.to) {
                self.consider_column(first);
            } else {
                for index in 0..self.frames[frame].len {
                    if self.cell(Instance { index, ..first }).phase == Phase::Waiting {
                        self.consider(Instance { index, ..first });
                    }
                }
            }
        }
    }

    /// Returns the result of an instance in the form that its consumers get.
    pub(crate) fn resolved(&self, at: Instance) -> NodeOutcome {
        let cell = self.cell(at);
        let error = || self.errors.get(&at).cloned();
        match cell.phase {
            Phase::Ended(TaskState::Success) => match &cell.value {
                Some(value) => NodeOutcome::Success(value.clone()),
                None => unreachable!("the value of `{}` was given away", self.key(at)),
            },
            Phase::Ended(TaskState::Failed) => NodeOutcome::Failed(
                error().unwrap_or_else(|| TaskError::new(Cause::Failed, "failed")),
            ),
            Phase::Ended(TaskState::Skipped) => NodeOutcome::Skipped(
                error().unwrap_or_else(|| TaskError::new(Cause::Skipped, "skipped")),
            ),
            Phase::Ended(TaskState::UpstreamFailed) => {
                NodeOutcome::UpstreamFailed(error().unwrap_or_else(|| self.upstream_error(at)))
            }
            Phase::Ended(TaskState::Cancelled) => NodeOutcome::Failed(TaskError::cancelled()),
            _ => NodeOutcome::Unknown,
        }
    }

    /// Takes the decisions that the rest of the run has to carry out.
    pub(crate) fn take_outbox(&mut self) -> Option<Outbox> {
        (!self.outbox.is_empty()).then(|| std::mem::take(&mut self.outbox))
    }
}

impl End {
    /// Returns the same end for another element.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Success(value) => Self::Success(value.clone()),
            Self::Failed(error) => Self::Failed(error.clone()),
            Self::Skipped(error) => Self::Skipped(error.clone()),
            Self::UpstreamFailed(error) => Self::UpstreamFailed(error.clone()),
            Self::Cancelled => Self::Cancelled,
        }
    }
}
