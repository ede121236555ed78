//! Why a node did not run, in words.

use super::frame::Phase;
use super::{End, Instance, Plan};
use crate::error::{Cause, TaskError};
use crate::graph::build::Takes;
use crate::policy::trigger::Decision;
use crate::state::TaskState;
use crate::task::Trigger;
use crate::task::scope::Kind;

impl Plan {
    /// Where a stated rule is satisfied though a plain parameter has no value.
    pub(super) fn missing_parameter(&self, at: Instance) -> Option<End> {
        let node = &self.wiring.nodes[at.node as usize];
        node.policy.trigger?;
        let missing = node.upstreams.iter().find_map(|edge| {
            let upstream = self.upstream(at, edge.node, edge.reach)?;
            let gather = matches!(self.wiring.nodes[edge.node as usize].kind, Kind::Gather(_));
            let there = match edge.takes {
                Takes::Plain => self.cell(upstream).phase == Phase::Ended(TaskState::Success),
                // the outcomes of a mapping are a value, too, and of a list that never came there are none
                Takes::Outcome if gather => self.cell(upstream).value.is_some(),
                Takes::Outcome | Takes::Option | Takes::Nothing => true,
            };
            (!there).then_some(upstream)
        })?;
        let parameter = self.parameter_of(at.node, missing.node);
        let state = match self.cell(missing).phase {
            Phase::Ended(state) => format!("is {state}"),
            _ => "is not done".to_owned(),
        };
        Some(End::UpstreamFailed(TaskError::new(
            Cause::UpstreamFailed,
            format!(
                "the rule {} is satisfied, but the parameter `{parameter}` has no value: task `{}` {state}; \
                 make it an `Option` or an `Outcome`",
                node.policy.trigger.unwrap_or_default(),
                self.key_of_visible(missing),
            ),
        )))
    }

    /// The parameter for which a node takes another.
    pub(super) fn parameter_of(&self, node: u32, upstream: u32) -> &'static str {
        let Kind::Task(definition) = &self.wiring.nodes[node as usize].kind else {
            return "list";
        };
        let inputs = self.wiring.nodes[node as usize].inputs.iter();
        let taking = inputs.zip(definition.parameters).find(|(input, _)| {
            let mut takes = false;
            input.for_each_node(&mut |handle, _| {
                takes |= matches!(handle, crate::task::scope::Handle::Scoped { id, .. } if *id == upstream);
            });
            takes
        });
        taking.map_or("?", |(_, parameter)| parameter.name)
    }

    /// What becomes of a consumer, without a stated rule, of an upstream that ended so.
    pub(super) fn unsatisfied(&self, upstream: Instance, state: TaskState) -> End {
        let key = self.key_of_visible(upstream);
        match state {
            TaskState::Skipped => End::Skipped(TaskError::new(
                Cause::Skipped,
                format!("task `{key}` was skipped"),
            )),
            TaskState::Cancelled => End::Cancelled,
            _ => End::UpstreamFailed(self.upstream_error(upstream)),
        }
    }

    /// What a rule made of the upstreams of an instance, other than to run.
    pub(super) fn refused(&self, at: Instance, rule: Trigger, decision: Decision) -> End {
        let reason = || {
            let upstreams = self.wiring.nodes[at.node as usize].upstreams.iter();
            let states = upstreams.filter_map(|edge| {
                let upstream = self.upstream(at, edge.node, edge.reach)?;
                match self.cell(upstream).phase {
                    Phase::Ended(state) => {
                        Some(format!("`{}` is {state}", self.key_of_visible(upstream)))
                    }
                    _ => None,
                }
            });
            let states: Vec<String> = states.take(5).collect();
            format!("the rule {rule} is not met: {}", states.join(", "))
        };
        match decision {
            Decision::Skip => End::Skipped(TaskError::new(Cause::Skipped, reason())),
            _ => End::UpstreamFailed(TaskError::new(Cause::UpstreamFailed, reason())),
        }
    }

    /// The failure behind a node that has no value.
    pub(super) fn upstream_error(&self, at: Instance) -> TaskError {
        let text = match self.errors.get(&at) {
            Some(error)
                if error.is_upstream_failed()
                    || self.wiring.nodes[at.node as usize].is_hidden() =>
            {
                error.to_string()
            }
            Some(error) => format!("task `{}` failed: {error}", self.key(at)),
            None => format!("task `{}` failed", self.key_of_visible(at)),
        };
        TaskError::new(Cause::UpstreamFailed, text)
    }

    pub(super) fn key_of_visible(&self, at: Instance) -> String {
        match &self.wiring.nodes[at.node as usize].kind {
            Kind::Gather(_) => match self.wiring.nodes[at.node as usize].upstreams.first() {
                Some(edge) => self.wiring.nodes[edge.node as usize].key(),
                None => self.key(at),
            },
            _ => self.key(at),
        }
    }

    /// How a gather without a value ends.
    pub(super) fn gathered_end(&self, of: Instance, state: TaskState) -> End {
        let name = self.wiring.nodes[of.node as usize].key();
        match state {
            TaskState::Skipped => End::Skipped(TaskError::new(
                Cause::Skipped,
                format!("all elements of `{name}` were skipped"),
            )),
            TaskState::UpstreamFailed => End::UpstreamFailed(self.upstream_error(of)),
            _ => {
                let frame = &self.frames[of.frame as usize];
                let tally = frame.columns[self.wiring.nodes[of.node as usize].local as usize].done;
                let failed = |index: &u32| {
                    let phase = self
                        .cell(Instance {
                            index: *index,
                            ..of
                        })
                        .phase;
                    matches!(
                        phase,
                        Phase::Ended(TaskState::Failed | TaskState::UpstreamFailed)
                    )
                };
                let first = (0..frame.len)
                    .find(failed)
                    .map(|index| Instance { index, ..of });
                let why = first.map(|first| format!(", first: {}", self.upstream_error(first)));
                let broken = tally.failed + tally.upstream_failed;
                End::Failed(TaskError::new(
                    Cause::Failed,
                    format!(
                        "{broken} of {} elements of `{name}` failed{}",
                        frame.len,
                        why.unwrap_or_default()
                    ),
                ))
            }
        }
    }
}
