//! Mappings: opened when their list comes, gathered when their elements are final.

use super::frame::{Frame, Phase};
use super::stage::Stage;
use super::{End, Instance, Opened, Plan, id_of};
use crate::error::{Cause, TaskError};
use crate::graph::build::Reach;
use crate::state::TaskState;
use crate::store::FrameMeta;
use crate::task::Elements;
use crate::task::scope::{GatherMode, Kind, NONE};
use crate::value::Value;

impl Plan {
    /// Lets go of a mapping's list, where nobody will take an element of it any more.
    pub(super) fn forget_elements(&mut self, frame: u32) {
        let mapping = &self.wiring.nodes[self.frames[frame as usize].region as usize];
        // a gather of the bare elements waits for the mapping's node
        if mapping.links.is_empty()
            && self.may_give_away(mapping)
            && self.frames[frame as usize].unfinished == 0
        {
            self.frames[frame as usize].elements = None;
        }
    }

    /// All elements of a node are final.
    pub(super) fn column_done(&mut self, frame: u32, node: u32) {
        for link in 0..self.wiring.nodes[node as usize].links.len() {
            let link = self.wiring.nodes[node as usize].links[link];
            if link.reach == Reach::OutOf {
                let (outer, index) = self.frames[frame as usize].parent;
                let at = Instance {
                    frame: outer,
                    node: link.to,
                    index,
                };
                if matches!(self.cell(at).phase, Phase::Waiting) {
                    self.gather(
                        at,
                        Instance {
                            frame,
                            node,
                            index: 0,
                        },
                    );
                }
            }
        }
    }

    /// The state of a mapping as one upstream, by what became of one of its nodes in all elements.
    pub(super) fn mapping_state(&self, of: Instance) -> TaskState {
        let frame = &self.frames[of.frame as usize];
        let column = &frame.columns[self.wiring.nodes[of.node as usize].local as usize];
        let broken = column.done.failed + column.done.upstream_failed;
        match () {
            () if frame.unexpanded => match self.cell(of).phase {
                Phase::Ended(state) => state,
                _ => TaskState::Pending,
            },
            () if column.cancelled > 0 => TaskState::Cancelled,
            () if broken > 0 => TaskState::Failed,
            () if column.done.skipped == frame.len && frame.len > 0 => TaskState::Skipped,
            () => TaskState::Success,
        }
    }

    /// A gather's elements are all final: it collects them, or ends as they did.
    pub(super) fn gather(&mut self, at: Instance, of: Instance) {
        let Kind::Gather(spec) = &self.wiring.nodes[at.node as usize].kind else {
            return;
        };
        let mode = spec.mode;
        let state = self.mapping_state(of);
        let unexpanded = self.frames[of.frame as usize].unexpanded;
        match (state, mode) {
            (TaskState::Cancelled, _) => self.settle(at, End::Cancelled, false),
            (TaskState::Success, GatherMode::Done) => {
                self.settle(at, End::Success(Value::new(())), false)
            }
            (TaskState::Success, _) => self.ready(at),
            (_, GatherMode::Outcomes) if !unexpanded => self.ready(at),
            _ => {
                let end = self.gathered_end(of, state);
                self.settle(at, end, false);
            }
        }
    }

    /// The frames of a region that are inside one instance's.
    pub(super) fn frames_under(&self, from: Instance, region: u32) -> Vec<u32> {
        let outermost = self.wiring.nodes[from.node as usize].region;
        let mut mappings = Vec::new();
        let mut inner = region;
        while inner != outermost && inner != NONE {
            mappings.push(inner);
            inner = self.wiring.nodes[inner as usize].region;
        }
        let mut places = vec![(from.frame, from.index..from.index + 1)];
        for mapping in mappings.into_iter().rev() {
            let instances = places.into_iter().flat_map(|(frame, indexes)| {
                indexes.map(move |index| Instance {
                    frame,
                    node: mapping,
                    index,
                })
            });
            let frames = instances.filter_map(|instance| self.frame_of.get(&instance).copied());
            places = frames
                .map(|frame| (frame, 0..self.frames[frame as usize].len))
                .collect();
        }
        let expanded = places.into_iter().map(|(frame, _)| frame);
        expanded
            .filter(|frame| !self.frames[*frame as usize].unexpanded)
            .collect()
    }

    /// A mapping's list is there.
    pub(super) fn expand(&mut self, at: Instance, elements: std::sync::Arc<Elements>, len: u32) {
        let frame = self.add_frame(at, len, false);
        self.frames[frame as usize].elements = Some(elements);
        for node in self
            .wiring
            .members
            .get(&at.node)
            .cloned()
            .unwrap_or_default()
        {
            self.begin_column(frame, node);
            self.replay_column(frame, node);
        }
    }

    /// A mapping's list will never be there: its nodes end as one.
    pub(super) fn leave_unexpanded(&mut self, at: Instance) {
        let frame = self.add_frame(at, 1, true);
        for node in self
            .wiring
            .members
            .get(&at.node)
            .cloned()
            .unwrap_or_default()
        {
            self.end_unexpanded(frame, node);
        }
    }

    pub(super) fn end_unexpanded(&mut self, frame: u32, node: u32) {
        let (outer, index) = self.frames[frame as usize].parent;
        let mapping = Instance {
            frame: outer,
            node: self.frames[frame as usize].region,
            index,
        };
        let end = match self.cell(mapping).phase {
            Phase::Ended(TaskState::Cancelled) => End::Cancelled,
            Phase::Ended(TaskState::Skipped) => {
                let reason = self
                    .errors
                    .get(&mapping)
                    .map_or_else(|| "its list was skipped".to_owned(), ToString::to_string);
                End::Skipped(TaskError::new(Cause::Skipped, reason))
            }
            _ => End::UpstreamFailed(self.upstream_error(mapping)),
        };
        self.settle(
            Instance {
                frame,
                node,
                index: 0,
            },
            end,
            false,
        );
    }

    pub(super) fn add_frame(&mut self, at: Instance, len: u32, unexpanded: bool) -> u32 {
        let nodes = self.wiring.members.get(&at.node).map_or(0, Vec::len);
        let id = id_of(self.frames.len());
        let mut frame = Frame::of_mapping(at.node, (at.frame, at.index), len, nodes);
        frame.unexpanded = unexpanded;
        let parent = (self.frames[at.frame as usize].logged, at.index);
        let meta = FrameMeta {
            region: self.wiring.nodes[at.node as usize].logged,
            parent,
            len,
            unexpanded,
        };
        let meta = self.log_frame(&mut frame, id, meta);
        self.unfinished += frame.unfinished;
        self.frames.push(frame);
        self.frame_of.insert(at, id);
        self.regions.entry(at.node).or_default().push(id);
        let elements = (!unexpanded).then_some(len);
        self.outbox.opened.push(Opened {
            mapping: at.node,
            elements,
            meta,
        });
        id
    }

    /// The limit on a stage of a mapping, in one frame.
    pub(super) fn stage(&mut self, frame: u32, stage: u32) -> &mut Stage {
        let limit = self.limits.get(&stage).copied().unwrap_or(NONE);
        let region = self.frames[frame as usize].region;
        let len = self.frames[frame as usize].len;
        let members = self.wiring.members.get(&region);
        let nodes = &self.wiring.nodes;
        self.frames[frame as usize]
            .stages
            .entry(stage)
            .or_insert_with(|| {
                let of_stage = |id: &&u32| nodes[**id as usize].stage == stage;
                Stage::new(
                    limit,
                    len,
                    id_of(members.map_or(0, |members| members.iter().filter(of_stage).count())),
                )
            })
    }

    /// Lets elements of a stage go on, as many as may.
    pub(super) fn admit(&mut self, frame: u32, stage: u32) {
        for instance in self.stage(frame, stage).admit(frame) {
            if matches!(
                self.cell(instance).phase,
                Phase::New | Phase::Waiting | Phase::Ready
            ) {
                self.cell_mut(instance).phase = Phase::Ready;
                self.push(instance);
            }
        }
    }
}
