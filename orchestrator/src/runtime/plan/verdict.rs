//! Whether a failure was handled: a run is red when one was not.

use std::collections::HashMap;

use super::frame::Phase;
use super::{Instance, Plan};
use crate::error::{Cause, TaskError};
use crate::graph::build::{Link, Reach, Takes};
use crate::state::TaskState;
use crate::task::scope::{Kind, NONE};

/// What a run's tasks make of the run.
#[derive(Debug)]
pub(crate) enum Verdict {
    Green,
    Red(TaskError),
    /// Nothing failed, and something is cancelled that nobody asked to run again.
    Cancelled,
}

/// How many failures an error names.
const NAMED: usize = 5;

impl Plan {
    /// Whether each failure was handled.
    pub(crate) fn verdict(&self) -> Verdict {
        if self.failures == 0 {
            return Verdict::Green;
        }
        let mut known = HashMap::new();
        let mut unhandled = Vec::new();
        for (frame, table) in (0..).zip(&self.frames) {
            let locals = table
                .cells
                .len()
                .checked_div(table.len as usize)
                .unwrap_or(0);
            let members = self.members_of(table.region);
            for (node, local) in members.into_iter().take(locals).zip(0..) {
                if matches!(self.wiring.nodes[node as usize].kind, Kind::Gather(_)) {
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

    fn members_of(&self, region: u32) -> Vec<u32> {
        match region {
            NONE => {
                let nodes = (0..).zip(&self.wiring.nodes);
                nodes
                    .filter(|(_, node)| node.region == NONE)
                    .map(|(id, _)| id)
                    .collect()
            }
            region => self
                .wiring
                .members
                .get(&region)
                .cloned()
                .unwrap_or_default(),
        }
    }

    /// Whether the failure of an instance was handled: `allow_failure`, awaited by a body, or taken by consumers each of
    /// which takes it as an outcome and succeeded, or is itself upstream-failed and handled.
    fn is_handled(&self, at: Instance, known: &mut HashMap<Instance, bool>) -> bool {
        // consumers come after what they take, so that looking ahead ends; a long chain must not need a deep stack
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

    /// Judges by the consumers that were judged; the others that matter are put on `open`.
    fn judge(
        &self,
        at: Instance,
        known: &HashMap<Instance, bool>,
        open: &mut Vec<Instance>,
    ) -> bool {
        let node = &self.wiring.nodes[at.node as usize];
        let awaited = self
            .awaited
            .get(&at.node)
            .is_some_and(|promises| promises.iter().any(|promise| promise.was_kept()));
        if node.allow_failure || awaited {
            return true;
        }
        let mut consumers: Vec<(Instance, Takes)> = Vec::new();
        match node.returned_to {
            // the caller takes it plainly
            Some(NONE) => return false,
            Some(flow) => consumers.push((
                Instance {
                    frame: 0,
                    node: flow,
                    index: 0,
                },
                Takes::Plain,
            )),
            None => {}
        }
        if let (Kind::Mapping(_), Some(frame)) = (&node.kind, self.frame_of.get(&at)) {
            // a list that never came is taken by all nodes of its mapping
            let members = self.wiring.members.get(&at.node).into_iter().flatten();
            consumers.extend(members.map(|node| {
                (
                    Instance {
                        frame: *frame,
                        node: *node,
                        index: 0,
                    },
                    Takes::Plain,
                )
            }));
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
            let gather = matches!(
                self.wiring.nodes[consumer.node as usize].kind,
                Kind::Gather(_)
            );
            let ok = match self.cell(consumer).phase {
                Phase::Ended(TaskState::Success) => takes == Takes::Outcome,
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

    /// Whether a link takes the value. What only waits is no consumer.
    fn consumes(&self, link: &Link) -> bool {
        link.takes != Takes::Nothing
    }

    fn consumers(&self, at: Instance, link: Link) -> Vec<Instance> {
        match link.reach {
            Reach::Same => vec![Instance {
                node: link.to,
                ..at
            }],
            Reach::OutOf => {
                let (frame, index) = self.frames[at.frame as usize].parent;
                vec![Instance {
                    frame,
                    node: link.to,
                    index,
                }]
            }
            Reach::Into => {
                let region = self.wiring.nodes[link.to as usize].region;
                let frames = self.frames_under(at, region).into_iter();
                frames
                    .flat_map(|frame| {
                        let len = self.frames[frame as usize].len;
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

    /// Names what failed. Tasks that only lack their upstreams are named where nothing else is to be.
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
