//! The reasons why a node did not run, in words.

use super::frame::Phase;
use super::{End, Instance, Plan};
use crate::error::{Cause, TaskError};
use crate::graph::build::UpstreamUse;
use crate::index::NodeId;
use crate::policy::trigger::TriggerDecision;
use crate::scope::NodeKind;
use crate::state::TaskState;
use crate::task::Trigger;

impl Plan {
    /// Returns `true` if a consumer that takes an upstream in this way cannot run without its
    /// value.
    fn needs_value(&self, upstream: Instance, takes: UpstreamUse) -> bool {
        match takes {
            UpstreamUse::Plain => true,
            // the outcomes of a mapping are a value as well, which is missing if the list never
            // became available
            UpstreamUse::Outcome => {
                matches!(self.wiring.nodes[upstream.node].kind, NodeKind::Gather(_))
            }
            UpstreamUse::Option | UpstreamUse::Nothing => false,
        }
    }

    fn has_value(&self, upstream: Instance, takes: UpstreamUse) -> bool {
        match takes {
            UpstreamUse::Outcome => self.cell(upstream).value.is_some(),
            _ => self.cell(upstream).phase == Phase::Ended(TaskState::Success),
        }
    }

    /// Returns `true` if a consumer needs the value of an upstream, and the value is not there, or
    /// not yet.
    pub(super) fn lacks_value(&self, upstream: Instance, takes: UpstreamUse) -> bool {
        self.needs_value(upstream, takes) && !self.has_value(upstream, takes)
    }

    /// Returns `true` if a consumer needs the value of an upstream, and the value is there.
    pub(super) fn brings_value(&self, upstream: Instance, takes: UpstreamUse) -> bool {
        self.needs_value(upstream, takes) && self.has_value(upstream, takes)
    }

    /// Returns the end of an instance whose rule allows it to run, but one of whose parameters will
    /// never have its value.
    pub(super) fn missing_parameter(&self, at: Instance, rule: Trigger) -> Option<End> {
        let (missing, state) = self.wiring.nodes[at.node]
            .upstreams
            .iter()
            .find_map(|edge| {
                let upstream = self.upstream(at, edge.node, edge.reach)?;
                match self.cell(upstream).phase {
                    Phase::Ended(state) if self.lacks_value(upstream, edge.takes) => {
                        Some((upstream, state))
                    }
                    _ => None,
                }
            })?;
        let parameter = self.parameter_of(at.node, missing.node);
        Some(End::UpstreamFailed(TaskError::new(
            Cause::UpstreamFailed,
            format!(
                "the rule {rule} is satisfied, but the parameter `{parameter}` has no value: task `{}` is {state}; \
                 make it an `Option` or an `Outcome`",
                self.key_of_visible(missing),
            ),
        )))
    }

    /// Returns the parameter for which a node takes another.
    pub(super) fn parameter_of(&self, node: NodeId, upstream: NodeId) -> &'static str {
        let NodeKind::Task(definition) = &self.wiring.nodes[node].kind else {
            return "list";
        };
        let inputs = self.wiring.nodes[node].inputs.iter();
        let taking = inputs.zip(definition.parameters).find(|(input, _)| {
            let mut takes = false;
            input.for_each_node(&mut |handle, _| {
                takes |= matches!(handle, crate::scope::Handle::Scoped { id, .. } if *id == upstream);
            });
            takes
        });
        taking.map_or("?", |(_, parameter)| parameter.name)
    }

    /// Returns the end of an instance without a stated rule after one of its upstreams was skipped.
    /// Names the first skipped one.
    pub(super) fn skipped_with_upstream(&self, at: Instance) -> End {
        let skipped = self.wiring.nodes[at.node]
            .upstreams
            .iter()
            .find_map(|edge| {
                let upstream = self.upstream(at, edge.node, edge.reach)?;
                let state = self.cell(upstream).phase;
                (edge.takes != UpstreamUse::Outcome && state == Phase::Ended(TaskState::Skipped))
                    .then_some(upstream)
            });
        let reason = match skipped {
            Some(upstream) => format!("task `{}` was skipped", self.key_of_visible(upstream)),
            None => "its list was skipped".to_owned(),
        };
        End::Skipped(TaskError::new(Cause::Skipped, reason))
    }

    /// Returns the end of an instance whose rule decided against running it.
    pub(super) fn refused(&self, at: Instance, rule: Trigger, decision: TriggerDecision) -> End {
        let reason = || {
            let upstreams = self.wiring.nodes[at.node].upstreams.iter();
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
            TriggerDecision::Cancel => End::Cancelled,
            TriggerDecision::Skip => End::Skipped(TaskError::new(Cause::Skipped, reason())),
            _ => End::UpstreamFailed(TaskError::new(Cause::UpstreamFailed, reason())),
        }
    }

    /// Returns the failure that caused a node to have no value.
    pub(super) fn upstream_error(&self, at: Instance) -> TaskError {
        let text = match self.errors.get(&at) {
            Some(error) if error.is_upstream_failed() || self.wiring.nodes[at.node].is_hidden() => {
                error.to_string()
            }
            Some(error) => format!("task `{}` failed: {error}", self.key(at)),
            None => format!("task `{}` failed", self.key_of_visible(at)),
        };
        TaskError::new(Cause::UpstreamFailed, text)
    }

    pub(super) fn key_of_visible(&self, at: Instance) -> String {
        match &self.wiring.nodes[at.node].kind {
            NodeKind::Gather(_) => match self.wiring.nodes[at.node].upstreams.first() {
                Some(edge) => self.wiring.nodes[edge.node].key(),
                None => self.key(at),
            },
            _ => self.key(at),
        }
    }

    /// Returns the end of a gather without a value.
    pub(super) fn gathered_end(&self, of: Instance, state: TaskState) -> End {
        let name = self.wiring.nodes[of.node].key();
        match state {
            TaskState::Skipped => End::Skipped(TaskError::new(
                Cause::Skipped,
                format!("all elements of `{name}` were skipped"),
            )),
            TaskState::UpstreamFailed => End::UpstreamFailed(self.upstream_error(of)),
            TaskState::Cancelled => End::Cancelled,
            _ => {
                let frame = &self.frames[of.frame];
                let tally = frame.columns[self.wiring.nodes[of.node].local as usize].done;
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
