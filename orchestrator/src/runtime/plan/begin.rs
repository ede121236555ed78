//! Nodes looked at for the first time, and what is decided of them as their upstreams end.

use super::frame::Phase;
use super::{End, Instance, Plan, Ready};
use crate::graph::build::Reach;
use crate::policy::trigger::{Decision, Tally, decide};
use crate::state::TaskState;
use crate::task::scope::Kind;

impl Plan {
    /// Looks at an instance for the first time. Upstreams outside of its mapping are its column's.
    pub(super) fn begin_instance(&mut self, at: Instance) {
        if self.is_cancelled(at.node) {
            return self.settle(at, End::Cancelled, false);
        }
        let rule = self.wiring.nodes[at.node as usize].policy.trigger;
        let mut tally = Tally::default();
        let mut pending = 0;
        for edge in 0..self.wiring.nodes[at.node as usize].upstreams.len() {
            let edge = self.wiring.nodes[at.node as usize].upstreams[edge];
            match edge.reach {
                Reach::Into => continue,
                Reach::OutOf => return self.begin_gather(at, edge.node),
                Reach::Same => {}
            }
            let upstream = Instance {
                node: edge.node,
                ..at
            };
            tally.total += 1;
            match self.cell(upstream).phase {
                Phase::Ended(TaskState::Cancelled) => {
                    return self.settle(at, End::Cancelled, false);
                }
                Phase::Ended(state) if rule.is_some() => tally.count(state),
                Phase::Ended(state) if !self.satisfies(upstream, state, edge.takes) => {
                    return self.settle(at, self.unsatisfied(upstream, state), false);
                }
                Phase::Ended(_) => {}
                _ => pending += 1,
            }
        }
        if rule.is_some() && tally.total > 0 {
            self.tallies.insert(at, tally);
        }
        let cell = self.cell_mut(at);
        (cell.phase, cell.pending) = (Phase::Waiting, pending);
        self.consider(at);
    }

    pub(super) fn begin_gather(&mut self, at: Instance, inner: u32) {
        self.cell_mut(at).phase = Phase::Waiting;
        let Some(of) = self.upstream(at, inner, Reach::OutOf) else {
            return;
        };
        let frame = &self.frames[of.frame as usize];
        if frame.columns[self.wiring.nodes[inner as usize].local as usize].ended() == frame.len {
            self.gather(at, of);
        }
    }

    /// Looks at a node of a mapping for the first time, in all elements.
    pub(super) fn begin_column(&mut self, frame: u32, node: u32) {
        let (local, rule) = (
            self.wiring.nodes[node as usize].local,
            self.wiring.nodes[node as usize].policy.trigger,
        );
        self.frames[frame as usize].columns[local as usize].begun = true;
        if self.frames[frame as usize].len == 0 {
            return self.column_done(frame, node);
        }
        let first = Instance {
            frame,
            node,
            index: 0,
        };
        let (mut outer, mut pending) = (Tally::default(), 0);
        for edge in 0..self.wiring.nodes[node as usize].upstreams.len() {
            let edge = self.wiring.nodes[node as usize].upstreams[edge];
            let Some(upstream) = (edge.reach == Reach::Into)
                .then(|| self.upstream(first, edge.node, edge.reach))
                .flatten()
            else {
                continue;
            };
            outer.total += 1;
            match self.cell(upstream).phase {
                Phase::Ended(TaskState::Cancelled) => {
                    return self.settle_column(first, &|| End::Cancelled);
                }
                Phase::Ended(state) if rule.is_some() => outer.count(state),
                Phase::Ended(state) if !self.satisfies(upstream, state, edge.takes) => {
                    let error = self.unsatisfied(upstream, state);
                    return self.settle_column(first, &|| error.again());
                }
                Phase::Ended(_) => {}
                _ => pending += 1,
            }
        }
        let column = &mut self.frames[frame as usize].columns[local as usize];
        (column.outer, column.outer_pending) = (outer, pending);
        if self.is_root(node) {
            self.consider_column(first);
        } else {
            for index in 0..self.frames[frame as usize].len {
                self.begin_instance(Instance { index, ..first });
            }
        }
    }

    /// Whether a node waits for nothing in its own mapping, so that all its elements are in one case.
    pub(super) fn is_root(&self, node: u32) -> bool {
        self.wiring.nodes[node as usize]
            .upstreams
            .iter()
            .all(|edge| edge.reach == Reach::Into)
    }

    /// Decides what becomes of an instance, if that can be decided.
    pub(super) fn consider(&mut self, at: Instance) {
        let node = &self.wiring.nodes[at.node as usize];
        let column = self.frames[at.frame as usize]
            .columns
            .get(node.local as usize);
        let Some(rule) = node.policy.trigger else {
            if self.cell(at).pending == 0 && column.is_none_or(|column| column.outer_pending == 0) {
                self.ready(at);
            }
            return;
        };
        let outer = column.map(|column| column.outer).unwrap_or_default();
        let inner = self.tallies.get(&at).copied().unwrap_or_default();
        match decide(rule, inner.plus(outer)) {
            Decision::Wait => {}
            Decision::Run => self.ready(at),
            decision => {
                let end = self.refused(at, rule, decision);
                self.settle(at, end, false);
            }
        }
    }

    /// Decides what becomes of all elements of a root.
    pub(super) fn consider_column(&mut self, first: Instance) {
        let node = &self.wiring.nodes[first.node as usize];
        let (rule, local) = (node.policy.trigger, node.local as usize);
        let column = &self.frames[first.frame as usize].columns[local];
        if column.released {
            return;
        }
        let decision = match rule {
            Some(rule) => decide(rule, column.outer),
            None if column.outer_pending == 0 => Decision::Run,
            None => Decision::Wait,
        };
        match (decision, rule) {
            (Decision::Wait, _) => {}
            (Decision::Run, _) | (_, None) => self.release(first),
            (decision, Some(rule)) => {
                let end = self.refused(first, rule, decision);
                self.settle_column(first, &|| end.again());
            }
        }
    }

    /// All elements of a root may run.
    pub(super) fn release(&mut self, first: Instance) {
        let node = &self.wiring.nodes[first.node as usize];
        let (local, stage, order, gate) = (
            node.local as usize,
            node.stage,
            node.order,
            node.gate as usize,
        );
        let len = self.frames[first.frame as usize].len;
        self.frames[first.frame as usize].columns[local].released = true;
        if len > 0 && self.missing_parameter(first).is_some() {
            // the upstreams of a root are the same for all elements
            for index in 0..len {
                self.ready(Instance { index, ..first });
            }
        } else if self.limits.contains_key(&stage) {
            let passed = self.stage(first.frame, stage).add_root(first.node);
            for index in passed {
                self.ready(Instance { index, ..first });
            }
            self.admit(first.frame, stage);
        } else if len > 0 {
            self.ready[gate].push(Ready::new(order, first, len));
        }
    }

    /// An instance may run, as far as its upstreams are concerned.
    pub(super) fn ready(&mut self, at: Instance) {
        if !matches!(self.cell(at).phase, Phase::New | Phase::Waiting) {
            return;
        }
        if let Some(end) = self.missing_parameter(at) {
            return self.settle(at, end, false);
        }
        let node = &self.wiring.nodes[at.node as usize];
        if matches!(node.kind, Kind::Flow(_)) {
            self.cell_mut(at).phase = Phase::Running;
            self.outbox.flows.push(at.node);
            return;
        }
        let (stage, frame) = (node.stage, at.frame);
        self.cell_mut(at).phase = Phase::Ready;
        if frame != 0 && self.limits.contains_key(&stage) && !self.stage(frame, stage).enter(at) {
            return self.admit(frame, stage);
        }
        self.push(at);
    }

    pub(super) fn push(&mut self, at: Instance) {
        let node = &self.wiring.nodes[at.node as usize];
        self.ready[node.gate as usize].push(Ready::new(node.order, at, at.index + 1));
    }
}
