//! Mappings: opened when their list is available, gathered when their elements are final.

use super::frame::{Frame, Phase};
use super::stage::Stage;
use super::{End, Instance, OpenedMapping, Plan};
use crate::error::{Cause, TaskError};
use crate::graph::build::Reach;
use crate::index::{FrameId, NodeId, StageId};
use crate::journal::{ElementPlace, FrameMeta};
use crate::scope::{GatherMode, NodeKind};
use crate::state::TaskState;
use crate::task::Elements;
use crate::value::Value;

impl Plan {
    /// Drops a mapping's list if no element of it will be taken any more.
    pub(super) fn forget_elements(&mut self, frame: FrameId) {
        let Some(mapping) = self.frames[frame].region else {
            return;
        };
        let mapping = &self.wiring.nodes[mapping];
        // a gather of the list's own elements is linked to the mapping's node
        if mapping.links.is_empty()
            && self.may_give_away(mapping)
            && self.frames[frame].unfinished == 0
        {
            self.frames[frame].elements = None;
        }
    }

    /// Begins the gathers of a node whose elements are all final.
    pub(super) fn column_done(&mut self, frame: FrameId, node: NodeId) {
        for link in 0..self.wiring.nodes[node].links.len() {
            let link = self.wiring.nodes[node].links[link];
            if link.reach == Reach::OutOf {
                let at = self.frames[frame].parent.of(link.to);
                if matches!(self.cell(at).phase, Phase::Waiting) {
                    self.gather(at, Instance::first(frame, node));
                }
            }
        }
    }

    /// Returns the state of a mapping as a single upstream, derived from the states of one of its
    /// nodes in all elements.
    pub(super) fn mapping_state(&self, of: Instance) -> TaskState {
        let frame = &self.frames[of.frame];
        let column = &frame.columns[self.wiring.nodes[of.node].local as usize];
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

    /// Makes a gather ready whose elements are all final, or ends it as they did.
    pub(super) fn gather(&mut self, at: Instance, of: Instance) {
        let NodeKind::Gather(spec) = &self.wiring.nodes[at.node].kind else {
            return;
        };
        let (mode, outlives) = (spec.mode, self.wiring.nodes[at.node].policy.run_on_cancel);
        let state = self.mapping_state(of);
        let unexpanded = self.frames[of.frame].unexpanded;
        match (state, mode) {
            // after a cancellation, only tasks that run on cancel take the outcomes
            (TaskState::Cancelled, GatherMode::Outcomes) if !unexpanded && outlives => {
                self.ready(at)
            }
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

    /// Returns the frames of a region within one instance.
    pub(super) fn frames_under(&self, from: Instance, region: Option<NodeId>) -> Vec<FrameId> {
        let outermost = self.wiring.nodes[from.node].region;
        let mut mappings = Vec::new();
        let mut inner = region;
        while inner != outermost
            && let Some(mapping) = inner
        {
            mappings.push(mapping);
            inner = self.wiring.nodes[mapping].region;
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
                .map(|frame| (frame, 0..self.frames[frame].len))
                .collect();
        }
        let expanded = places.into_iter().map(|(frame, _)| frame);
        expanded
            .filter(|frame| !self.frames[*frame].unexpanded)
            .collect()
    }

    /// Opens a mapping whose list is available.
    pub(super) fn expand(&mut self, at: Instance, elements: std::sync::Arc<Elements>, len: u32) {
        let frame = self.add_frame(at, len, false);
        self.frames[frame].elements = Some(elements);
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

    /// Ends the nodes of a mapping, as a whole, whose list will never be available.
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

    pub(super) fn end_unexpanded(&mut self, frame: FrameId, node: NodeId) {
        let Some(mapping) = self.mapping_of(frame) else {
            return;
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
        self.settle(Instance::first(frame, node), end, false);
    }

    pub(super) fn add_frame(&mut self, at: Instance, len: u32, unexpanded: bool) -> FrameId {
        let nodes = self.wiring.members.get(&at.node).map_or(0, Vec::len);
        let mut frame = Frame::of_mapping(at, len, nodes);
        frame.unexpanded = unexpanded;
        let meta = self.frames[at.frame].logged.map(|outer| FrameMeta {
            region: Some(self.wiring.nodes[at.node].logged),
            parent: ElementPlace {
                frame: outer,
                index: at.index,
            },
            len,
            unexpanded,
        });
        let meta = meta.and_then(|meta| self.log_frame(&mut frame, at.node, meta));
        self.unfinished += frame.unfinished;
        let id = self.frames.push(frame);
        self.frame_of.insert(at, id);
        self.regions.entry(at.node).or_default().push(id);
        let elements = (!unexpanded).then_some(len);
        self.outbox.opened.push(OpenedMapping {
            mapping: at.node,
            elements,
            meta,
        });
        id
    }

    /// Returns the limiter of a stage of a mapping in one frame.
    pub(super) fn stage(&mut self, frame: FrameId, stage: StageId) -> &mut Stage {
        let limit = self.limits.get(&stage).copied().unwrap_or(u32::MAX);
        let region = self.frames[frame].region;
        let len = self.frames[frame].len;
        let members = region.and_then(|region| self.wiring.members.get(&region));
        let nodes = &self.wiring.nodes;
        self.frames[frame].stages.entry(stage).or_insert_with(|| {
            let of_stage = |id: &&NodeId| nodes[**id].stage == Some(stage);
            let members = members.into_iter().flatten();
            let nodes = u32::try_from(members.filter(of_stage).count());
            Stage::new(limit, len, nodes.unwrap_or(u32::MAX))
        })
    }

    /// Starts as many elements of a stage as its limit allows.
    pub(super) fn admit(&mut self, frame: FrameId, stage: StageId) {
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
