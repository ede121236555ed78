//! The subflows of a run: started when their nodes are ready, ended with their bodies.

use std::sync::Arc;
use std::time::Duration;

use super::super::live::Live;
use super::body::{BodyEnd, BodyStep, CalledFlow, RunningBody, call};
use super::ending::value_of;
use super::grace::Grace;
use super::{Conductor, EarlyEnd};
use crate::error::TaskError;
use crate::index::{NodeId, ScopeId};
use crate::journal::{CellState, TaskEnd, Transition};
use crate::plan::{End, Instance};
use crate::scope::NodeKind;
use crate::task::Context;

impl Conductor {
    /// Starts the subflows that are ready.
    pub(crate) fn start_flows(&mut self) {
        let mut overdue = Vec::new();
        loop {
            let run = Arc::clone(&self.run);
            let live = &mut *run.live.lock();
            let Some(node) = live.flows.pop() else { break };
            if !live.plan.is_running(node) {
                // cancelled since
                continue;
            }
            let NodeKind::Flow(flow) = &live.plan.wiring.nodes[node].kind else {
                continue;
            };
            let flow = Arc::clone(flow);
            self.started.insert(node, run.clock.timestamp());
            if self.early_end.is_some() {
                self.flow_ended(live, node, End::Cancelled);
                continue;
            }
            let scope = live.plan.wiring.nodes[node].scope;
            let cancel = live.scopes[scope].cancel.child_token();
            let context = Arc::new(Context::of_flow(Arc::clone(&run.facts), cancel.clone()));
            let number = live.scopes.next_id();
            let timeout = flow.definition.timeout;
            let deadline = timeout.map(|timeout| (timeout, Box::pin(tokio::time::sleep(timeout))));
            let span = run.trace.flow(|| live.plan.key_of(Instance::in_flow(node)));
            match call(live, &run.host, &flow, Some(node), &span, context, cancel) {
                Ok(called) => {
                    run.flush(live);
                    // the timeout was reached in an earlier execution of the run
                    if let Some(timeout) = timeout.filter(|_| live.plan.took_too_long(node)) {
                        overdue.push((number, node, timeout));
                        continue;
                    }
                    match called {
                        CalledFlow::Polling(body) => {
                            self.poll_body(RunningBody { deadline, ..*body })
                        }
                        CalledFlow::Returned(output) => {
                            let step = BodyStep::Returned(output);
                            let body =
                                RunningBody::new(flow.definition, number, Some(node), step, span);
                            self.poll_body(RunningBody { deadline, ..body });
                        }
                        CalledFlow::Failed(error) => {
                            self.flow_ended(live, node, End::Failed(error))
                        }
                        CalledFlow::Cancelled => self.flow_ended(live, node, End::Cancelled),
                    }
                }
                Err(error) => self.flow_ended(live, node, End::Failed(error.into_task_error())),
            }
        }
        for (number, node, timeout) in overdue {
            self.body_ended((
                number,
                Some(node),
                BodyEnd::Failed(TaskError::timed_out(timeout)),
            ));
        }
    }

    pub(crate) fn body_ended(&mut self, (number, node, ended): (ScopeId, Option<NodeId>, BodyEnd)) {
        let run = Arc::clone(&self.run);
        if run.live.lock().lacks.is_some() {
            return;
        }
        match (node, ended) {
            (None, BodyEnd::Returned(output)) => self.output = Some(output),
            // it may have failed because of the request, which the conductor has yet to see
            (None, BodyEnd::Failed(_)) if self.catching_up || run.cancel.is_cancelled() => {
                self.end_early(EarlyEnd::Asked);
            }
            (None, BodyEnd::Failed(error)) => self.end_early(EarlyEnd::Body(error)),
            (Some(node), BodyEnd::Returned(output)) => {
                let arg = {
                    let live = &mut *run.live.lock();
                    live.follow_output(number, node, Some(&output));
                    let plan = &mut live.plan;
                    plan.output(&output)
                        .map_err(|(source, end)| plan.without_output(source, end))
                };
                let end = match arg.map(value_of) {
                    Ok(Ok(value)) => End::Success(value),
                    Ok(Err(panicked)) => End::Failed(panicked),
                    Err(end) => end,
                };
                self.flow_ended(&mut run.live.lock(), node, end);
            }
            (Some(node), BodyEnd::Failed(error)) => {
                self.drop_family(number);
                run.live.lock().follow_output(number, node, None);
                let end = if error.is_skipped() {
                    End::Skipped(error)
                } else {
                    End::Failed(error)
                };
                self.flow_ended(&mut run.live.lock(), node, end);
            }
        }
    }

    /// Cancels a subflow and all flows below it.
    fn drop_family(&mut self, number: ScopeId) {
        let run = Arc::clone(&self.run);
        let family = run.live.lock().family(number);
        let bodies = std::mem::take(&mut self.bodies).into_iter();
        let (dropped, kept): (Vec<RunningBody>, Vec<RunningBody>) =
            bodies.partition(|body| family.contains(&body.number));
        self.bodies.extend(kept);
        drop(dropped);
        let live = &mut *run.live.lock();
        self.graces.push(Grace {
            scopes: Some(family.clone()),
            ends: None,
        });
        for number in family {
            live.plan.cancel(Some(number));
            live.scopes[number].cancel.cancel();
            for node in live.plan.running_flows() {
                if live.plan.wiring.nodes[node].scope == number {
                    live.flows.retain(|flow| *flow != node);
                    self.flow_ended(live, node, End::Cancelled);
                }
            }
        }
        run.flush(live);
    }

    /// Records the end of a subflow and passes it to the plan.
    pub(super) fn flow_ended(&self, live: &mut Live, node: NodeId, end: End) {
        self.run.record_planned(live);
        let at = Instance::in_flow(node);
        let started = self.started.get(&node).copied();
        let finished = self.run.clock.timestamp();
        let attempts = live.plan.attempts(at) + 1;
        let state = CellState::Ended {
            state: end.state(),
            started,
            at: finished,
        };
        let place = live.plan.row_of(at);
        self.run.log_flow_end(live, at, &end);
        if let Some(place) = place.filter(|_| !live.plan.is_changed) {
            self.run.record(Transition::Task(TaskEnd {
                error: end.error().cloned(),
                ..TaskEnd::new(place, state, attempts)
            }));
        }
        let duration = started.map_or(Duration::ZERO, |started| finished.since(started));
        self.run
            .emit_task_end(live, at, end.state(), attempts, duration, end.error());
        live.plan.finish(at, end);
        self.run.flush(live);
    }
}
