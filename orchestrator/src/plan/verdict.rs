//! Whether each failure was handled: a run with an unhandled failure fails.

use std::collections::HashMap;

use super::frame::Phase;
use super::{Instance, Plan};
use crate::error::{Cause, TaskError};
use crate::graph::build::{Reach, ReturnTarget, ReverseEdge, UpstreamUse};
use crate::index::NodeId;
use crate::scope::NodeKind;
use crate::state::TaskState;

/// The result of a run, derived from its tasks.
#[derive(Debug)]
pub(crate) enum Verdict {
    Green,
    Red(TaskError),
    /// Nothing failed, but tasks are cancelled whose re-run was not requested.
    Cancelled,
}

/// The maximum number of failures in an error.
const NAMED: usize = 5;

impl Plan {
    /// Returns the verdict on the run: whether each failure was handled.
    pub(crate) fn verdict(&self) -> Verdict {
        if self.failures == 0 {
            return Verdict::Green;
        }
        let mut known = HashMap::new();
        let mut unhandled = Vec::new();
        for (frame, table) in self.frames.entries() {
            let locals = table
                .cells
                .len()
                .checked_div(table.len as usize)
                .unwrap_or(0);
            let members = self.members_of(table.region);
            for (node, local) in members.into_iter().take(locals).zip(0..) {
                if matches!(self.wiring.nodes[node].kind, NodeKind::Gather(_)) {
                    continue;
                }
                for index in 0..table.len {
                    let at = Instance { frame, node, index };
                    let broken = matches!(
                        table.cell(local, index).phase,
                        Phase::Ended(TaskState::Failed | TaskState::UpstreamFailed)
                    );
                    if broken && !self.is_handled(at, &mut known) {
                        unhandled.push(at);
                    }
                }
            }
        }
        if unhandled.is_empty() {
            Verdict::Green
        } else {
            Verdict::Red(self.summary(&unhandled))
        }
    }

    fn members_of(&self, region: Option<NodeId>) -> Vec<NodeId> {
        match region {
            None => {
                let nodes = self.wiring.nodes.entries();
                nodes
                    .filter(|(_, node)| node.region.is_none())
                    .map(|(id, _)| id)
                    .collect()
            }
            Some(region) => self
                .wiring
                .members
                .get(&region)
                .cloned()
                .unwrap_or_default(),
        }
    }

    /// Returns `true` if the failure of an instance was handled: by `allow_failure`, by a body that
    /// awaits it, or by its consumers. Each consumer must either take it as an outcome and have
    /// succeeded, or be upstream-failed and handled itself.
    fn is_handled(&self, at: Instance, known: &mut HashMap<Instance, bool>) -> bool {
        // consumers come after the nodes that they take, so this terminates; a stack of its own,
        // since a long chain would overflow the call stack
        let mut stack = vec![at];
        while let Some(here) = stack.last().copied() {
            if known.contains_key(&here) {
                stack.pop();
                continue;
            }
            let mut open = Vec::new();
            let handled = self.judge(here, known, &mut open);
            if open.is_empty() {
                known.insert(here, handled);
                stack.pop();
            } else {
                stack.extend(open);
            }
        }
        known.get(&at).copied().unwrap_or(false)
    }

    /// Judges a failure by its consumers that were judged before. Pushes the others that matter to
    /// `open`.
    fn judge(
        &self,
        at: Instance,
        known: &HashMap<Instance, bool>,
        open: &mut Vec<Instance>,
    ) -> bool {
        let node = &self.wiring.nodes[at.node];
        let awaited = self
            .awaited
            .get(&at.node)
            .is_some_and(|promises| promises.iter().any(|promise| promise.was_kept()));
        if node.allow_failure || awaited {
            return true;
        }
        let mut consumers: Vec<(Instance, UpstreamUse)> = Vec::new();
        match node.returned_to {
            // the caller takes the output as a plain value
            Some(ReturnTarget::Caller) => return false,
            Some(ReturnTarget::Node(flow)) => {
                consumers.push((Instance::in_flow(flow), UpstreamUse::Plain))
            }
            None => {}
        }
        if let (NodeKind::Mapping(_), Some(frame)) = (&node.kind, self.frame_of.get(&at)) {
            // a list that never became available is consumed by all nodes of its mapping
            let members = self.wiring.members.get(&at.node).into_iter().flatten();
            let first = |node: &NodeId| (Instance::first(*frame, *node), UpstreamUse::Plain);
            consumers.extend(members.map(first));
        }
        for link in node.links.iter().filter(|link| self.consumes(link)) {
            consumers.extend(
                self.consumers(at, *link)
                    .into_iter()
                    .map(|consumer| (consumer, link.takes)),
            );
        }
        if consumers.is_empty() {
            return false;
        }
        let mut handled = true;
        for (consumer, takes) in consumers {
            let gather = matches!(self.wiring.nodes[consumer.node].kind, NodeKind::Gather(_));
            let ok = match self.cell(consumer).phase {
                Phase::Ended(TaskState::Success) => takes == UpstreamUse::Outcome,
                Phase::Ended(state)
                    if state == TaskState::UpstreamFailed
                        || (gather && state == TaskState::Failed) =>
                {
                    match known.get(&consumer) {
                        Some(handled) => *handled,
                        None => {
                            open.push(consumer);
                            true
                        }
                    }
                }
                _ => false,
            };
            handled &= ok;
        }
        handled
    }

    /// Returns `true` if a link takes the value. A node that only waits for another does not
    /// consume it.
    fn consumes(&self, link: &ReverseEdge) -> bool {
        link.takes != UpstreamUse::Nothing
    }

    fn consumers(&self, at: Instance, link: ReverseEdge) -> Vec<Instance> {
        match link.reach {
            Reach::Same => vec![Instance {
                node: link.to,
                ..at
            }],
            Reach::OutOf => vec![self.frames[at.frame].parent.of(link.to)],
            Reach::Into => {
                let region = self.wiring.nodes[link.to].region;
                let frames = self.frames_under(at, region).into_iter();
                frames
                    .flat_map(|frame| {
                        let len = self.frames[frame].len;
                        (0..len).map(move |index| Instance {
                            frame,
                            node: link.to,
                            index,
                        })
                    })
                    .collect()
            }
        }
    }

    /// Names the failures. Tasks that did not run are named only if there is nothing else to name.
    fn summary(&self, unhandled: &[Instance]) -> TaskError {
        let failed = |at: &&Instance| self.cell(**at).phase == Phase::Ended(TaskState::Failed);
        let causes: Vec<&Instance> = unhandled.iter().filter(failed).collect();
        let shown = if causes.is_empty() {
            unhandled.iter().collect()
        } else {
            causes
        };
        let lines = shown
            .iter()
            .take(NAMED)
            .map(|at| match self.errors.get(at) {
                Some(error) if error.is_upstream_failed() => {
                    format!("task `{}` did not run: {error}", self.key(**at))
                }
                Some(error) => format!("task `{}` failed: {error}", self.key(**at)),
                None => format!("task `{}` failed", self.key(**at)),
            });
        let mut text = lines.collect::<Vec<_>>().join("; ");
        if shown.len() > NAMED {
            text.push_str(&format!("; and {} more", shown.len() - NAMED));
        }
        TaskError::new(Cause::Failed, text)
    }
}
