//! From the end of one node to what it means for the others.

use super::frame::{Frame, Phase};
use super::stage::Stage;
use super::{End, Ended, Instance, Outbox, Plan, Ready, id_of};
use crate::error::{Cause, TaskError};
use crate::graph::build::{Link, Reach, Takes};
use crate::policy::trigger::{Decision, Tally, decide};
use crate::state::TaskState;
use crate::store::FrameMeta;
use crate::task::scope::{GatherMode, Kind, NONE};
use crate::task::{Elements, Resolved, Trigger};
use crate::value::Value;

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
            let upstream = Instance { node: edge.node, ..at };
            tally.total += 1;
            match self.cell(upstream).phase {
                Phase::Ended(TaskState::Cancelled) => return self.settle(at, End::Cancelled, false),
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

    fn begin_gather(&mut self, at: Instance, inner: u32) {
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
        let (local, rule) = (self.wiring.nodes[node as usize].local, self.wiring.nodes[node as usize].policy.trigger);
        self.frames[frame as usize].columns[local as usize].begun = true;
        if self.frames[frame as usize].len == 0 {
            return self.column_done(frame, node);
        }
        let first = Instance { frame, node, index: 0 };
        let (mut outer, mut pending) = (Tally::default(), 0);
        for edge in 0..self.wiring.nodes[node as usize].upstreams.len() {
            let edge = self.wiring.nodes[node as usize].upstreams[edge];
            let Some(upstream) =
                (edge.reach == Reach::Into).then(|| self.upstream(first, edge.node, edge.reach)).flatten()
            else {
                continue;
            };
            outer.total += 1;
            match self.cell(upstream).phase {
                Phase::Ended(TaskState::Cancelled) => return self.settle_column(first, &|| End::Cancelled),
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
    fn is_root(&self, node: u32) -> bool {
        self.wiring.nodes[node as usize].upstreams.iter().all(|edge| edge.reach == Reach::Into)
    }

    /// Decides what becomes of an instance, if that can be decided.
    fn consider(&mut self, at: Instance) {
        let node = &self.wiring.nodes[at.node as usize];
        let column = self.frames[at.frame as usize].columns.get(node.local as usize);
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
    fn consider_column(&mut self, first: Instance) {
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
    fn release(&mut self, first: Instance) {
        let node = &self.wiring.nodes[first.node as usize];
        let (local, stage, order, gate) = (node.local as usize, node.stage, node.order, node.gate as usize);
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

    /// Where a stated rule is satisfied though a plain parameter has no value.
    fn missing_parameter(&self, at: Instance) -> Option<End> {
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
    fn parameter_of(&self, node: u32, upstream: u32) -> &'static str {
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

    /// Whether an end is what a consumer without a stated rule waits for.
    fn satisfies(&self, upstream: Instance, state: TaskState, takes: Takes) -> bool {
        // a mapping whose list never came has no outcomes to give
        let outcome = |plan: &Self| {
            let gather = matches!(plan.wiring.nodes[upstream.node as usize].kind, Kind::Gather(_));
            !gather || plan.cell(upstream).value.is_some()
        };
        state == TaskState::Success || (takes == Takes::Outcome && outcome(self))
    }

    /// What becomes of a consumer, without a stated rule, of an upstream that ended so.
    fn unsatisfied(&self, upstream: Instance, state: TaskState) -> End {
        let key = self.key_of_visible(upstream);
        match state {
            TaskState::Skipped => End::Skipped(TaskError::new(Cause::Skipped, format!("task `{key}` was skipped"))),
            TaskState::Cancelled => End::Cancelled,
            _ => End::UpstreamFailed(self.upstream_error(upstream)),
        }
    }

    /// What a rule made of the upstreams of an instance, other than to run.
    fn refused(&self, at: Instance, rule: Trigger, decision: Decision) -> End {
        let reason = || {
            let upstreams = self.wiring.nodes[at.node as usize].upstreams.iter();
            let states = upstreams.filter_map(|edge| {
                let upstream = self.upstream(at, edge.node, edge.reach)?;
                match self.cell(upstream).phase {
                    Phase::Ended(state) => Some(format!("`{}` is {state}", self.key_of_visible(upstream))),
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
            Some(error) if error.is_upstream_failed() || self.wiring.nodes[at.node as usize].is_hidden() => {
                error.to_string()
            }
            Some(error) => format!("task `{}` failed: {error}", self.key(at)),
            None => format!("task `{}` failed", self.key_of_visible(at)),
        };
        TaskError::new(Cause::UpstreamFailed, text)
    }

    fn key_of_visible(&self, at: Instance) -> String {
        match &self.wiring.nodes[at.node as usize].kind {
            Kind::Gather(_) => match self.wiring.nodes[at.node as usize].upstreams.first() {
                Some(edge) => self.wiring.nodes[edge.node as usize].key(),
                None => self.key(at),
            },
            _ => self.key(at),
        }
    }

    /// Ends all elements of a node that have not ended.
    fn settle_column(&mut self, first: Instance, end: &dyn Fn() -> End) {
        for index in 0..self.frames[first.frame as usize].len {
            self.settle(Instance { index, ..first }, end(), false);
        }
    }

    /// Takes the end of an instance, and passes it on to those who wait for it. `ran` tells whether somebody else
    /// records it.
    pub(super) fn settle(&mut self, at: Instance, end: End, ran: bool) {
        if self.settling {
            self.ends.push_back((at, end, ran));
            return;
        }
        self.settling = true;
        self.settle_one(at, end, ran);
        while let Some((at, end, ran)) = self.ends.pop_front() {
            self.settle_one(at, end, ran);
        }
        self.settling = false;
    }

    fn settle_one(&mut self, at: Instance, end: End, ran: bool) {
        if self.cell(at).is_ended() {
            return;
        }
        let state = end.state();
        let was_busy = matches!(self.cell(at).phase, Phase::Ready | Phase::Running);
        self.release_inputs(at);
        if !ran && (state == TaskState::Failed || !self.wiring.nodes[at.node as usize].is_hidden()) {
            let (cell, attempts) = (self.cell_number(at), self.cell(at).attempts);
            self.outbox.ended.push(Ended { at, cell, state, attempts, error: end.error().cloned() });
        }
        if let Some(error) = end.error() {
            self.errors.insert(at, error.clone());
        }
        if matches!(state, TaskState::Failed | TaskState::UpstreamFailed) {
            self.failures += 1;
        }
        let cell = self.cell_mut(at);
        cell.phase = Phase::Ended(state);
        if let End::Success(value) = end {
            cell.value = Some(value);
        }
        self.forget_unused(at);
        self.unfinished -= 1;
        if at.frame == 0
            && !self.waits.is_empty()
            && let Some(promises) = self.waits.remove(&at.node)
        {
            let resolved = self.resolved(at);
            self.outbox.promises.extend(promises.into_iter().map(|promise| (promise, resolved.clone())));
        }
        for link in 0..self.wiring.nodes[at.node as usize].links.len() {
            let link = self.wiring.nodes[at.node as usize].links[link];
            match link.reach {
                Reach::Same => self.arrive(Instance { node: link.to, ..at }, at, state, link),
                Reach::Into => self.arrive_into(at, state, link),
                Reach::OutOf => {}
            }
        }
        if at.frame != 0 {
            self.element_ended(at, state, was_busy);
        }
        if state != TaskState::Success && matches!(self.wiring.nodes[at.node as usize].kind, Kind::Mapping(_)) {
            self.leave_unexpanded(at);
        }
    }

    fn element_ended(&mut self, at: Instance, state: TaskState, was_busy: bool) {
        let node = &self.wiring.nodes[at.node as usize];
        let (local, stage) = (node.local as usize, node.stage);
        let frame = &mut self.frames[at.frame as usize];
        frame.unfinished -= 1;
        if frame.unfinished == 0 {
            self.forget_elements(at.frame);
        }
        let frame = &mut self.frames[at.frame as usize];
        let column = &mut frame.columns[local];
        match state {
            TaskState::Cancelled => column.cancelled += 1,
            state => column.done.count(state),
        }
        if column.ended() == frame.len {
            self.column_done(at.frame, at.node);
        }
        if self.limits.contains_key(&stage) {
            self.stage(at.frame, stage).leave(at, was_busy, true);
            self.admit(at.frame, stage);
        }
    }

    /// Lets go of a mapping's list, where nobody will take an element of it any more.
    pub(super) fn forget_elements(&mut self, frame: u32) {
        let mapping = &self.wiring.nodes[self.frames[frame as usize].region as usize];
        // a gather of the bare elements waits for the mapping's node
        if mapping.links.is_empty() && self.may_give_away(mapping) && self.frames[frame as usize].unfinished == 0 {
            self.frames[frame as usize].elements = None;
        }
    }

    /// All elements of a node are final.
    fn column_done(&mut self, frame: u32, node: u32) {
        for link in 0..self.wiring.nodes[node as usize].links.len() {
            let link = self.wiring.nodes[node as usize].links[link];
            if link.reach == Reach::OutOf {
                let (outer, index) = self.frames[frame as usize].parent;
                let at = Instance { frame: outer, node: link.to, index };
                if matches!(self.cell(at).phase, Phase::Waiting) {
                    self.gather(at, Instance { frame, node, index: 0 });
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
    fn gather(&mut self, at: Instance, of: Instance) {
        let Kind::Gather(spec) = &self.wiring.nodes[at.node as usize].kind else {
            return;
        };
        let mode = spec.mode;
        let state = self.mapping_state(of);
        let unexpanded = self.frames[of.frame as usize].unexpanded;
        match (state, mode) {
            (TaskState::Cancelled, _) => self.settle(at, End::Cancelled, false),
            (TaskState::Success, GatherMode::Done) => self.settle(at, End::Success(Value::new(())), false),
            (TaskState::Success, _) => self.ready(at),
            (_, GatherMode::Outcomes) if !unexpanded => self.ready(at),
            _ => {
                let end = self.gathered_end(of, state);
                self.settle(at, end, false);
            }
        }
    }

    /// How a gather without a value ends.
    pub(super) fn gathered_end(&self, of: Instance, state: TaskState) -> End {
        let name = self.wiring.nodes[of.node as usize].key();
        match state {
            TaskState::Skipped => {
                End::Skipped(TaskError::new(Cause::Skipped, format!("all elements of `{name}` were skipped")))
            }
            TaskState::UpstreamFailed => End::UpstreamFailed(self.upstream_error(of)),
            _ => {
                let frame = &self.frames[of.frame as usize];
                let tally = frame.columns[self.wiring.nodes[of.node as usize].local as usize].done;
                let failed = |index: &u32| {
                    let phase = self.cell(Instance { index: *index, ..of }).phase;
                    matches!(phase, Phase::Ended(TaskState::Failed | TaskState::UpstreamFailed))
                };
                let first = (0..frame.len).find(failed).map(|index| Instance { index, ..of });
                let why = first.map(|first| format!(", first: {}", self.upstream_error(first)));
                let broken = tally.failed + tally.upstream_failed;
                End::Failed(TaskError::new(
                    Cause::Failed,
                    format!("{broken} of {} elements of `{name}` failed{}", frame.len, why.unwrap_or_default()),
                ))
            }
        }
    }

    /// An upstream in the same region ended.
    fn arrive(&mut self, at: Instance, from: Instance, state: TaskState, link: Link) {
        if self.cell(at).phase != Phase::Waiting {
            return;
        }
        if state == TaskState::Cancelled {
            return self.settle(at, End::Cancelled, false);
        }
        if self.wiring.nodes[at.node as usize].policy.trigger.is_some() {
            self.tallies.entry(at).or_default().count(state);
        } else if state == TaskState::Success || self.satisfies(from, state, link.takes) {
            self.cell_mut(at).pending -= 1;
        } else {
            let end = self.unsatisfied(from, state);
            return self.settle(at, end, false);
        }
        self.consider(at);
    }

    /// An upstream of the elements of a mapping ended, outside of the mapping.
    fn arrive_into(&mut self, from: Instance, state: TaskState, link: Link) {
        let (region, local) = {
            let node = &self.wiring.nodes[link.to as usize];
            (node.region, node.local as usize)
        };
        for frame in self.frames_under(from, region) {
            let first = Instance { frame, node: link.to, index: 0 };
            let table = &self.frames[frame as usize];
            if table.len == 0 || !table.columns[local].begun {
                continue;
            }
            if state == TaskState::Cancelled {
                self.settle_column(first, &|| End::Cancelled);
                continue;
            }
            let stated = self.wiring.nodes[link.to as usize].policy.trigger.is_some();
            if !stated && !self.satisfies(from, state, link.takes) {
                let end = self.unsatisfied(from, state);
                self.settle_column(first, &|| end.again());
                continue;
            }
            let column = &mut self.frames[frame as usize].columns[local];
            match stated {
                true => column.outer.count(state),
                false => column.outer_pending -= 1,
            }
            if self.is_root(link.to) {
                self.consider_column(first);
            } else {
                for index in 0..self.frames[frame as usize].len {
                    if self.cell(Instance { index, ..first }).phase == Phase::Waiting {
                        self.consider(Instance { index, ..first });
                    }
                }
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
            let instances = places
                .into_iter()
                .flat_map(|(frame, indexes)| indexes.map(move |index| Instance { frame, node: mapping, index }));
            let frames = instances.filter_map(|instance| self.frame_of.get(&instance).copied());
            places = frames.map(|frame| (frame, 0..self.frames[frame as usize].len)).collect();
        }
        let expanded = places.into_iter().map(|(frame, _)| frame);
        expanded.filter(|frame| !self.frames[*frame as usize].unexpanded).collect()
    }

    /// A mapping's list is there.
    pub(super) fn expand(&mut self, at: Instance, elements: std::sync::Arc<Elements>, len: u32) {
        let frame = self.add_frame(at, len, false);
        self.frames[frame as usize].elements = Some(elements);
        for node in self.wiring.members.get(&at.node).cloned().unwrap_or_default() {
            self.begin_column(frame, node);
        }
    }

    /// A mapping's list will never be there: its nodes end as one.
    fn leave_unexpanded(&mut self, at: Instance) {
        let frame = self.add_frame(at, 1, true);
        for node in self.wiring.members.get(&at.node).cloned().unwrap_or_default() {
            self.end_unexpanded(frame, node);
        }
    }

    pub(super) fn end_unexpanded(&mut self, frame: u32, node: u32) {
        let (outer, index) = self.frames[frame as usize].parent;
        let mapping = Instance { frame: outer, node: self.frames[frame as usize].region, index };
        let end = match self.cell(mapping).phase {
            Phase::Ended(TaskState::Cancelled) => End::Cancelled,
            Phase::Ended(TaskState::Skipped) => {
                let reason =
                    self.errors.get(&mapping).map_or_else(|| "its list was skipped".to_owned(), ToString::to_string);
                End::Skipped(TaskError::new(Cause::Skipped, reason))
            }
            _ => End::UpstreamFailed(self.upstream_error(mapping)),
        };
        self.settle(Instance { frame, node, index: 0 }, end, false);
    }

    fn add_frame(&mut self, at: Instance, len: u32, unexpanded: bool) -> u32 {
        let nodes = self.wiring.members.get(&at.node).map_or(0, Vec::len);
        let id = id_of(self.frames.len());
        let mut frame = Frame::of_mapping(at.node, (at.frame, at.index), len, nodes);
        frame.unexpanded = unexpanded;
        self.unfinished += frame.unfinished;
        self.frames.push(frame);
        self.frame_of.insert(at, id);
        self.regions.entry(at.node).or_default().push(id);
        self.outbox.opened.push(FrameMeta { region: at.node, parent: (at.frame, at.index), len, unexpanded });
        id
    }

    /// What became of an instance, as its consumers see it.
    pub(crate) fn resolved(&self, at: Instance) -> Resolved {
        let cell = self.cell(at);
        let error = || self.errors.get(&at).cloned();
        match cell.phase {
            Phase::Ended(TaskState::Success) => match &cell.value {
                Some(value) => Resolved::Success(value.clone()),
                None => unreachable!("the value of `{}` was given away", self.key(at)),
            },
            Phase::Ended(TaskState::Failed) => {
                Resolved::Failed(error().unwrap_or_else(|| TaskError::new(Cause::Failed, "failed")))
            }
            Phase::Ended(TaskState::Skipped) => {
                Resolved::Skipped(error().unwrap_or_else(|| TaskError::new(Cause::Skipped, "skipped")))
            }
            Phase::Ended(TaskState::UpstreamFailed) => {
                Resolved::UpstreamFailed(error().unwrap_or_else(|| self.upstream_error(at)))
            }
            Phase::Ended(TaskState::Cancelled) => Resolved::Failed(TaskError::cancelled()),
            _ => Resolved::Unknown,
        }
    }

    /// The limit on a stage of a mapping, in one frame.
    pub(super) fn stage(&mut self, frame: u32, stage: u32) -> &mut Stage {
        let limit = self.limits.get(&stage).copied().unwrap_or(NONE);
        let region = self.frames[frame as usize].region;
        let len = self.frames[frame as usize].len;
        let members = self.wiring.members.get(&region);
        let nodes = &self.wiring.nodes;
        self.frames[frame as usize].stages.entry(stage).or_insert_with(|| {
            let of_stage = |id: &&u32| nodes[**id as usize].stage == stage;
            Stage::new(limit, len, id_of(members.map_or(0, |members| members.iter().filter(of_stage).count())))
        })
    }

    /// Lets elements of a stage go on, as many as may.
    pub(super) fn admit(&mut self, frame: u32, stage: u32) {
        for instance in self.stage(frame, stage).admit(frame) {
            if matches!(self.cell(instance).phase, Phase::New | Phase::Waiting | Phase::Ready) {
                self.cell_mut(instance).phase = Phase::Ready;
                self.push(instance);
            }
        }
    }

    /// Cancels what has not started, in one scope or in all. Says nothing of what is running.
    pub(crate) fn cancel(&mut self, scope: Option<u32>) {
        match scope {
            Some(scope) => self.cancelled_scopes.push(scope),
            None => {
                self.cancelled = true;
                self.ready.iter_mut().for_each(std::collections::BinaryHeap::clear);
            }
        }
        let nodes = self.wiring.nodes.iter().enumerate();
        let nodes: Vec<u32> =
            nodes.filter(|(_, node)| scope.is_none_or(|scope| node.scope == scope)).map(|(id, _)| id_of(id)).collect();
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
        self.cancelled || self.cancelled_scopes.contains(&self.wiring.nodes[node as usize].scope)
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

    /// Takes what there is to tell.
    pub(crate) fn take_outbox(&mut self) -> Option<Outbox> {
        (!self.outbox.is_empty()).then(|| std::mem::take(&mut self.outbox))
    }
}

impl End {
    /// The same end, for another element.
    fn again(&self) -> Self {
        match self {
            Self::Success(value) => Self::Success(value.clone()),
            Self::Failed(error) => Self::Failed(error.clone()),
            Self::Skipped(error) => Self::Skipped(error.clone()),
            Self::UpstreamFailed(error) => Self::UpstreamFailed(error.clone()),
            Self::Cancelled => Self::Cancelled,
        }
    }
}
