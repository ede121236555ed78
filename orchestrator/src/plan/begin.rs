//! Nodes begin, and are decided on as their upstreams end.

use super::frame::Phase;
use super::settle::UpstreamEffect;
use super::{End, Instance, Plan, ReadyWork};
use crate::graph::build::{Reach, UpstreamUse};
use crate::index::{FrameId, NodeId};
use crate::policy::trigger::{Tally, TriggerDecision, decide};
use crate::scope::NodeKind;
use crate::state::TaskState;

/// The decision about an instance that has not started.
enum StartDecision {
    Wait,
    Run,
    End(End),
}

impl Plan {
    /// Begins an instance. Upstreams outside of its mapping are handled by its column.
    pub(super) fn begin_instance(&mut self, at: Instance) {
        if self.is_cancelled(at) && !self.catching_up {
            return self.settle(at, End::Cancelled, false);
        }
        let mut tally = Tally::default();
        let mut pending = 0;
        for edge in 0..self.wiring.nodes[at.node].upstreams.len() {
            let edge = self.wiring.nodes[at.node].upstreams[edge];
            match edge.reach {
                Reach::Into => continue,
                Reach::OutOf => return self.begin_gather(at, edge.node),
                Reach::Same => {}
            }
            let upstream = Instance {
                node: edge.node,
                ..at
            };
            if let Some(end) = self.look_at(at.node, upstream, edge.takes, &mut tally, &mut pending)
            {
                return self.settle(at, end, false);
            }
        }
        let is_stated = self.wiring.nodes[at.node].policy.trigger.is_some();
        if (is_stated && tally.total > 0) || tally.skipped > 0 {
            self.tallies.insert(at, tally);
        }
        let cell = self.cell_mut(at);
        (cell.phase, cell.pending) = (Phase::Waiting, pending);
        self.consider(at);
    }

    /// Counts the state of an upstream of a node, or that the upstream is pending. Returns the
    /// node's end if this upstream decides it.
    fn look_at(
        &self,
        node: NodeId,
        upstream: Instance,
        takes: UpstreamUse,
        tally: &mut Tally,
        pending: &mut u32,
    ) -> Option<End> {
        let policy = &self.wiring.nodes[node].policy;
        let is_stated = policy.trigger.is_some();
        tally.total += 1;
        *pending += u32::from(is_stated && self.lacks_value(upstream, takes));
        match self.cell(upstream).phase {
            Phase::Ended(TaskState::Cancelled) if !policy.run_on_cancel => {
                return Some(End::Cancelled);
            }
            Phase::Ended(state) if is_stated => tally.count(state),
            Phase::Ended(state) => match self.effect_of(upstream, state, takes) {
                UpstreamEffect::Satisfied => {}
                UpstreamEffect::Skip => tally.count(state),
                UpstreamEffect::End(end) => return Some(end),
            },
            _ => *pending += u32::from(!is_stated),
        }
        None
    }

    pub(super) fn begin_gather(&mut self, at: Instance, inner: NodeId) {
        self.cell_mut(at).phase = Phase::Waiting;
        let Some(of) = self.upstream(at, inner, Reach::OutOf) else {
            return;
        };
        let frame = &self.frames[of.frame];
        if frame.columns[self.wiring.nodes[inner].local as usize].ended() == frame.len {
            self.gather(at, of);
        }
    }

    /// Begins a node of a mapping, in all elements.
    pub(super) fn begin_column(&mut self, frame: FrameId, node: NodeId) {
        let local = self.wiring.nodes[node].local;
        self.frames[frame].columns[local as usize].begun = true;
        if self.frames[frame].len == 0 {
            return self.column_done(frame, node);
        }
        let first = Instance::first(frame, node);
        let (mut outer, mut pending) = (Tally::default(), 0);
        for edge in 0..self.wiring.nodes[node].upstreams.len() {
            let edge = self.wiring.nodes[node].upstreams[edge];
            let Some(upstream) = (edge.reach == Reach::Into)
                .then(|| self.upstream(first, edge.node, edge.reach))
                .flatten()
            else {
                continue;
            };
            if let Some(end) = self.look_at(node, upstream, edge.takes, &mut outer, &mut pending) {
                return self.settle_column(first, &|| end.again());
            }
        }
        let column = &mut self.frames[frame].columns[local as usize];
        (column.outer, column.outer_pending) = (outer, pending);
        if self.is_root(node) {
            self.consider_column(first);
        } else {
            for index in 0..self.frames[frame].len {
                self.begin_instance(Instance { index, ..first });
            }
        }
    }

    /// Returns `true` if a node has no upstreams in its own mapping, so that all its elements are
    /// in the same state.
    pub(super) fn is_root(&self, node: NodeId) -> bool {
        self.wiring.nodes[node]
            .upstreams
            .iter()
            .all(|edge| edge.reach == Reach::Into)
    }

    /// Decides on an instance, if its upstreams allow a decision.
    pub(super) fn consider(&mut self, at: Instance) {
        let node = &self.wiring.nodes[at.node];
        let column = self.frames[at.frame].columns.get(node.local as usize);
        let (outer, outer_pending) = column
            .map(|column| (column.outer, column.outer_pending))
            .unwrap_or_default();
        let inner = match self.tallies.is_empty() {
            true => Tally::default(),
            false => self.tallies.get(&at).copied().unwrap_or_default(),
        };
        match self.outcome(at, inner.plus(outer), self.cell(at).pending + outer_pending) {
            StartDecision::Wait => {}
            StartDecision::Run => self.ready(at),
            StartDecision::End(end) => self.settle(at, end, false),
        }
    }

    /// Decides on all elements of a root.
    pub(super) fn consider_column(&mut self, first: Instance) {
        let local = self.wiring.nodes[first.node].local as usize;
        let column = &self.frames[first.frame].columns[local];
        if column.released {
            return;
        }
        match self.outcome(first, column.outer, column.outer_pending) {
            StartDecision::Wait => {}
            StartDecision::Run => self.release(first),
            StartDecision::End(end) => self.settle_column(first, &|| end.again()),
        }
    }

    /// Returns the decision for an instance with the given states of its upstreams, of which
    /// `pending` are awaited.
    fn outcome(&self, at: Instance, tally: Tally, pending: u32) -> StartDecision {
        let Some(rule) = self.wiring.nodes[at.node].policy.trigger else {
            return match pending {
                0 if tally.skipped > 0 => StartDecision::End(self.skipped_with_upstream(at)),
                0 => StartDecision::Run,
                _ => StartDecision::Wait,
            };
        };
        match decide(rule, tally) {
            TriggerDecision::Wait => StartDecision::Wait,
            TriggerDecision::Run if pending == 0 => StartDecision::Run,
            // an upstream that can still give its value is waited for: otherwise it would depend on
            // a race whether the value is there
            TriggerDecision::Run => self
                .missing_parameter(at, rule)
                .map_or(StartDecision::Wait, StartDecision::End),
            decision => StartDecision::End(self.refused(at, rule, decision)),
        }
    }

    /// Makes all elements of a root ready.
    pub(super) fn release(&mut self, first: Instance) {
        let node = &self.wiring.nodes[first.node];
        let (local, order, gate) = (node.local as usize, node.order, node.gate);
        let len = self.frames[first.frame].len;
        self.frames[first.frame].columns[local].released = true;
        if let Some(stage) = self.limited_stage(first.node) {
            let passed = self.stage(first.frame, stage).add_root(first.node);
            for index in passed {
                self.ready(Instance { index, ..first });
            }
            self.admit(first.frame, stage);
        } else if len > 0 {
            self.ready[gate].push(ReadyWork::new(order, first, len));
        }
    }

    /// Makes an instance ready, as far as its upstreams are concerned.
    pub(super) fn ready(&mut self, at: Instance) {
        if !matches!(self.cell(at).phase, Phase::New | Phase::Waiting) {
            return;
        }
        let node = &self.wiring.nodes[at.node];
        if matches!(node.kind, NodeKind::Flow(_)) {
            self.cell_mut(at).phase = Phase::Running;
            self.outbox.flows.push(at.node);
            return;
        }
        let frame = at.frame;
        self.cell_mut(at).phase = Phase::Ready;
        if frame != FrameId::FLOW
            && let Some(stage) = self.limited_stage(at.node)
            && !self.stage(frame, stage).enter(at)
        {
            return self.admit(frame, stage);
        }
        self.push(at);
    }

    pub(super) fn push(&mut self, at: Instance) {
        let node = &self.wiring.nodes[at.node];
        self.ready[node.gate].push(ReadyWork::new(node.order, at, at.index + 1));
    }
}
