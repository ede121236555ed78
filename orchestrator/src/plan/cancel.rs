//! Cancellation: nodes that have not started end, except for clean-up tasks. Running bodies are
//! signalled elsewhere.
//!
//! In a cancelled scope, a clean-up task still waits for its upstreams, until the grace period of
//! its scope is over ([`Plan::end_grace`]). It runs only if a task upstream of it had begun:
//! otherwise there is nothing to clean up.

use std::collections::HashSet;

use super::frame::Phase;
use super::{End, Instance, Plan};
use crate::graph::build::Reach;
use crate::index::{FrameId, NodeId, ScopeId};
use crate::scope::NodeKind;
use crate::state::TaskState;

/// Some of the scopes of a run, or all of them.
#[derive(Debug, Default)]
pub(super) struct Scopes {
    all: bool,
    some: Vec<ScopeId>,
}

impl Scopes {
    fn add(&mut self, scope: Option<ScopeId>) {
        match scope {
            Some(scope) => self.some.push(scope),
            None => self.all = true,
        }
    }

    fn is_empty(&self) -> bool {
        !self.all && self.some.is_empty()
    }

    fn has(&self, scope: ScopeId) -> bool {
        self.all || self.some.contains(&scope)
    }
}

impl Plan {
    /// Cancels nodes that have not started, in one scope or in all. Does not signal running bodies.
    pub(crate) fn cancel(&mut self, scope: Option<ScopeId>) {
        self.catching_up &= scope.is_some();
        // first: the ends below let other nodes be considered, which must not start any more
        self.cancelled.add(scope);
        if scope.is_none() {
            let nodes = &self.wiring.nodes;
            let cleans_up =
                |ready: &super::ReadyWork| nodes[ready.instance().node].policy.run_on_cancel;
            self.ready
                .iter_mut()
                .for_each(|ready| ready.retain(cleans_up));
            self.cancel_held();
        }
        self.cancel_waiting(scope);
    }

    /// Cancels a run that was being cancelled in an earlier execution, like
    /// [`cancel`](Self::cancel), except that flow bodies are still called and mappings opened as
    /// before: otherwise, the clean-up tasks that they added would not be planned.
    pub(crate) fn catch_up(&mut self) {
        self.catching_up = true;
        self.cancelled.add(None);
    }

    /// Also cancels the clean-up tasks that have not started, in one scope or in all cancelled
    /// scopes.
    pub(crate) fn end_grace(&mut self, scope: Option<ScopeId>) {
        // first: `is_cancelled`, which decides below, reads it
        self.overdue.add(scope);
        self.cancel_waiting(scope);
    }

    /// Returns `true` if bodies other than those of clean-up tasks are running, in one scope or in
    /// all.
    pub(crate) fn is_winding_down(&self, scope: Option<ScopeId>) -> bool {
        match scope {
            Some(scope) => self.ordinary.get(scope).is_some_and(|running| *running > 0),
            None => self.ordinary.iter().any(|running| *running > 0),
        }
    }

    fn cancel_waiting(&mut self, scope: Option<ScopeId>) {
        for node in self.wiring.nodes.ids() {
            if scope.is_some_and(|scope| self.wiring.nodes[node].scope != scope) {
                continue;
            }
            for frame in self.frames_with(node) {
                for index in 0..self.frames[frame].len {
                    let at = Instance { frame, node, index };
                    match self.cell(at).phase {
                        Phase::Running | Phase::Ended(_) => {}
                        _ if self.is_cancelled(at) => self.settle(at, End::Cancelled, false),
                        _ => {}
                    }
                }
            }
        }
    }

    fn frames_with(&self, node: NodeId) -> Vec<FrameId> {
        match self.wiring.nodes[node].region {
            None => vec![FrameId::FLOW],
            Some(region) => self.frames_of(region),
        }
    }

    /// Returns `true` if an instance must not start any more.
    pub(super) fn is_cancelled(&self, at: Instance) -> bool {
        if self.cancelled.is_empty() {
            return false;
        }
        let node = &self.wiring.nodes[at.node];
        self.cancelled.has(node.scope)
            && !(self.catching_up && self.is_found_again(at))
            && !(node.policy.run_on_cancel
                && !self.overdue.has(node.scope)
                && self.follows_work(at))
    }

    /// Returns `true` if an instance is not a task, but added tasks in an earlier execution.
    fn is_found_again(&self, at: Instance) -> bool {
        match self.wiring.nodes[at.node].kind {
            NodeKind::Task(_) => false,
            NodeKind::Mapping(_) => self.was_opened(at),
            NodeKind::Gather(_) | NodeKind::Flow(_) => true,
        }
    }

    /// Returns `true` if a task of an instance, or one upstream of it, has started, or has ended in
    /// another way than by cancellation.
    fn follows_work(&self, at: Instance) -> bool {
        let (mut seen, mut open) = (HashSet::from([at]), vec![at]);
        while let Some(at) = open.pop() {
            if self.has_begun(at) {
                return true;
            }
            let node = &self.wiring.nodes[at.node];
            for edge in &node.upstreams {
                let Some(upstream) = self.upstream(at, edge.node, edge.reach) else {
                    continue;
                };
                let len = if edge.reach == Reach::OutOf {
                    self.frames[upstream.frame].len
                } else {
                    1
                };
                let upstreams = (upstream.index..upstream.index + len)
                    .map(|index| Instance { index, ..upstream });
                open.extend(upstreams.filter(|upstream| seen.insert(*upstream)));
            }
            if let Some(mapping) = self.mapping_of(at.frame) {
                open.extend(seen.insert(mapping).then_some(mapping));
            }
        }
        false
    }

    fn has_begun(&self, at: Instance) -> bool {
        let (node, cell) = (&self.wiring.nodes[at.node], self.cell(at));
        match (&node.kind, cell.phase) {
            (NodeKind::Mapping(_) | NodeKind::Gather(_), _) => false,
            (_, Phase::Running | Phase::Retrying) => true,
            (_, Phase::Ended(state)) if state != TaskState::Cancelled => true,
            (NodeKind::Flow(_), _) => self.left_flows.contains(&at.node),
            (NodeKind::Task(_), _) => cell.attempts > 0,
        }
    }

    /// Ends every instance that has not ended, even while it is running: its end will not be
    /// reported.
    pub(crate) fn abandon(&mut self) {
        self.cancelled.add(None);
        self.overdue.add(None);
        self.settling = false;
        self.ends.clear();
        for node in self.wiring.nodes.ids() {
            for frame in self.frames_with(node) {
                for index in 0..self.frames[frame].len {
                    self.settle(Instance { frame, node, index }, End::Cancelled, false);
                }
            }
        }
    }
}
