//! From the end of one node to what it means for the others.

use super::frame::Phase;
use super::{End, Ended, Instance, Outbox, Plan, Waiter};
use crate::error::{Cause, TaskError};
use crate::graph::build::{Link, Reach, Takes};
use crate::state::TaskState;
use crate::task::Resolved;
use crate::task::scope::Kind;

impl Plan {
    /// Whether an end is what a consumer without a stated rule waits for.
    pub(super) fn satisfies(&self, upstream: Instance, state: TaskState, takes: Takes) -> bool {
        // a mapping whose list never came has no outcomes to give
        let outcome = |plan: &Self| {
            let gather = matches!(
                plan.wiring.nodes[upstream.node as usize].kind,
                Kind::Gather(_)
            );
            !gather || plan.cell(upstream).value.is_some()
        };
        state == TaskState::Success || (takes == Takes::Outcome && outcome(self))
    }

    /// Ends all elements of a node that have not ended.
    pub(super) fn settle_column(&mut self, first: Instance, end: &dyn Fn() -> End) {
        for index in 0..self.frames[first.frame as usize].len {
            self.settle(Instance { index, ..first }, end(), false);
        }
    }

    /// Takes the end of an instance, and passes it on to those who wait for it. `ran` tells whether somebody else
    /// records it.
    pub(super) fn settle(&mut self, at: Instance, end: End, ran: bool) {
        let recorded = if ran { None } else { self.recorded_end(at) };
        let (end, ran) = recorded.map_or((end, ran), |end| (end, true));
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

    pub(super) fn settle_one(&mut self, at: Instance, end: End, ran: bool) {
        if self.cell(at).is_ended() {
            return;
        }
        let state = end.state();
        let was_busy = matches!(self.cell(at).phase, Phase::Ready | Phase::Running);
        let is_flow = matches!(self.wiring.nodes[at.node as usize].kind, Kind::Flow(_));
        self.running -= usize::from(self.cell(at).phase == Phase::Running && !is_flow);
        self.release_inputs(at);
        if !ran && (state == TaskState::Failed || !self.wiring.nodes[at.node as usize].is_hidden())
        {
            let (place, attempts) = (self.row_of(at), self.cell(at).attempts);
            self.outbox.ended.push(Ended {
                at,
                place,
                state,
                attempts,
                error: end.error().cloned(),
            });
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
            && let Some(waiters) = self.waits.remove(&at.node)
        {
            let resolved = self.resolved(at);
            for waiter in waiters {
                match waiter {
                    Waiter::Body(promise) => {
                        self.outbox
                            .answers
                            .push((at.node, promise, resolved.clone()))
                    }
                    Waiter::Watch(promise) => {
                        self.outbox.promises.push((promise, resolved.clone()))
                    }
                }
            }
        }
        for link in 0..self.wiring.nodes[at.node as usize].links.len() {
            let link = self.wiring.nodes[at.node as usize].links[link];
            match link.reach {
                Reach::Same => self.arrive(
                    Instance {
                        node: link.to,
                        ..at
                    },
                    at,
                    state,
                    link,
                ),
                Reach::Into => self.arrive_into(at, state, link),
                Reach::OutOf => {}
            }
        }
        if at.frame != 0 {
            self.element_ended(at, state, was_busy);
        }
        if state != TaskState::Success
            && matches!(self.wiring.nodes[at.node as usize].kind, Kind::Mapping(_))
        {
            self.leave_unexpanded(at);
        }
    }

    pub(super) fn element_ended(&mut self, at: Instance, state: TaskState, was_busy: bool) {
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

    /// An upstream in the same region ended.
    pub(super) fn arrive(&mut self, at: Instance, from: Instance, state: TaskState, link: Link) {
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
    pub(super) fn arrive_into(&mut self, from: Instance, state: TaskState, link: Link) {
        let (region, local) = {
            let node = &self.wiring.nodes[link.to as usize];
            (node.region, node.local as usize)
        };
        for frame in self.frames_under(from, region) {
            let first = Instance {
                frame,
                node: link.to,
                index: 0,
            };
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
            Phase::Ended(TaskState::Skipped) => Resolved::Skipped(
                error().unwrap_or_else(|| TaskError::new(Cause::Skipped, "skipped")),
            ),
            Phase::Ended(TaskState::UpstreamFailed) => {
                Resolved::UpstreamFailed(error().unwrap_or_else(|| self.upstream_error(at)))
            }
            Phase::Ended(TaskState::Cancelled) => Resolved::Failed(TaskError::cancelled()),
            _ => Resolved::Unknown,
        }
    }

    /// Takes what there is to tell.
    pub(crate) fn take_outbox(&mut self) -> Option<Outbox> {
        (!self.outbox.is_empty()).then(|| std::mem::take(&mut self.outbox))
    }
}

impl End {
    /// The same end, for another element.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Success(value) => Self::Success(value.clone()),
            Self::Failed(error) => Self::Failed(error.clone()),
            Self::Skipped(error) => Self::Skipped(error.clone()),
            Self::UpstreamFailed(error) => Self::UpstreamFailed(error.clone()),
            Self::Cancelled => Self::Cancelled,
        }
    }
}
