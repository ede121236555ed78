//! Cancelling: what has not started ends; what is running is told elsewhere.

use super::frame::Phase;
use super::{End, Instance, Plan, id_of};
use crate::task::scope::NONE;

impl Plan {
    /// Cancels what has not started, in one scope or in all. Says nothing of what is running.
    pub(crate) fn cancel(&mut self, scope: Option<u32>) {
        match scope {
            Some(scope) => self.cancelled_scopes.push(scope),
            None => {
                self.cancelled = true;
                self.ready
                    .iter_mut()
                    .for_each(std::collections::BinaryHeap::clear);
            }
        }
        let nodes = self.wiring.nodes.iter().enumerate();
        let nodes: Vec<u32> = nodes
            .filter(|(_, node)| scope.is_none_or(|scope| node.scope == scope))
            .map(|(id, _)| id_of(id))
            .collect();
        for node in nodes {
            let frames = match self.wiring.nodes[node as usize].region {
                NONE => vec![0],
                region => self.frames_of(region),
            };
            for frame in frames {
                for index in 0..self.frames[frame as usize].len {
                    let at = Instance { frame, node, index };
                    match self.cell(at).phase {
                        Phase::Running | Phase::Ended(_) => {}
                        _ => self.settle(at, End::Cancelled, false),
                    }
                }
            }
        }
    }

    /// Whether nothing of a node is to start any more.
    pub(super) fn is_cancelled(&self, node: u32) -> bool {
        self.cancelled
            || self
                .cancelled_scopes
                .contains(&self.wiring.nodes[node as usize].scope)
    }

    /// Ends what has not ended, whatever it is doing: nobody will tell of it.
    pub(crate) fn abandon(&mut self) {
        self.cancelled = true;
        self.settling = false;
        self.ends.clear();
        for node in 0..id_of(self.wiring.nodes.len()) {
            let frames = match self.wiring.nodes[node as usize].region {
                NONE => vec![0],
                region => self.frames_of(region),
            };
            for frame in frames {
                for index in 0..self.frames[frame as usize].len {
                    self.settle(Instance { frame, node, index }, End::Cancelled, false);
                }
            }
        }
    }
}
