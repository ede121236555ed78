//! The conductor of a run: polls the bodies of its flows and handles timers, deadlines,
//! cancellation and the end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::body::{BODIES, Body, BodyEnd, Called, Step, call};
use super::grace::Grace;
use super::hold::Counted;
use super::live::{Live, RunCore};
use super::stop::few;
use super::watch::LOOK;
use crate::clock::{Deadline, Timestamp, in_time, passed, until};
use crate::error::{Cause, Error, PanicReport, StoreError, TaskError};
use crate::event::Event;
use crate::failpoint;
use crate::index::{NodeId, ScopeId};
use crate::journal::{CellState, RerunRecord, ResultValue, RunEnd, RunRecord, TaskEnd, Transition};
use crate::panic;
use crate::plan::{End, Instance, Verdict};
use crate::scope::NodeKind;
use crate::state::{RunState, TaskState};
use crate::task::{Arg, Context, Input};
use crate::value::Value;

/// A finished run.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) record: RunRecord,
    pub(super) returned: Returned,
}

/// The flow's output, or the reason why it has no value; `None` if the flow did not return.
pub(super) type Returned = Option<Result<Value, TaskError>>;

impl Finished {
    /// Returns the flow's output if the run succeeded.
    pub(super) fn into_value(self) -> Result<Value, TaskError> {
        match (self.record.error(), self.returned) {
            (Some(error), _) => Err(error.clone()),
            (None, Some(returned)) => returned,
            (None, None) => Err(TaskError::cancelled()),
        }
    }
}

/// The way in which a run ends. Separate from the output: a run can fail although its flow
/// returned.
#[derive(Debug)]
enum Ending {
    Succeeded,
    Failed(TaskError),
    Cancelled,
}

impl Ending {
    fn state(&self) -> RunState {
        match self {
            Self::Succeeded => RunState::Success,
            Self::Failed(_) => RunState::Failed,
            Self::Cancelled => RunState::Cancelled,
        }
    }

    /// Returns the error that the run is recorded with.
    fn error(&self) -> Option<TaskError> {
        match self {
            Self::Succeeded => None,
            Self::Failed(error) => Some(error.clone()),
            Self::Cancelled => Some(TaskError::cancelled()),
        }
    }

    /// Turns a success into a failure.
    fn or_fail(&mut self, error: TaskError) {
        if matches!(self, Self::Succeeded) {
            *self = Self::Failed(error);
        }
    }
}

/// The reason why a run is ended before its tasks are.
pub(super) enum Stop {
    /// The run was cancelled.
    Asked,
    TimedOut(Duration),
    /// The flow's body failed.
    Body(TaskError),
}

/// The delay before the store is asked again for a slot of the flow, while other processes hold all
/// of them; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The time that cancelled bodies have to end before their run is kept until they return.
const LET_GO: Duration = Duration::from_millis(100);

/// The conductor's next step.
enum Next {
    Look,
    Wait,
    /// The process gives the run up.
    Release,
    /// The run has ended.
    Finish,
}

pub(super) struct Conductor {
    pub(super) run: Arc<RunCore>,
    pub(super) bodies: FuturesUnordered<Body>,
    /// The flow's output.
    output: Option<Input>,
    /// The start times of running subflows, by node.
    started: std::collections::HashMap<NodeId, Timestamp>,
    timeout: Option<Duration>,
    /// The timeout, and the instant at which it is reached.
    deadline: Deadline,
    /// The end of the grace period; `None` unless the process is stopping.
    drained_by: Option<Instant>,
    stop: Option<Stop>,
    pub(super) graces: Vec<Grace>,
    /// Whether the run was being cancelled in an earlier execution, and its nodes are being planned
    /// again.
    pub(super) catching_up: bool,
    /// The start of the run in an earlier execution.
    began: Option<Timestamp>,
    /// The time that the resumed run waited for a slot. It does not count towards the timeout.
    waited: Duration,
    /// Whether bodies of flows were dropped before their end. If so, the run is unfinished even if
    /// all of its tasks are final.
    left: bool,
    /// The permit held while a suspect of the run is tried, and the instant at which the trial ends
    /// at the latest.
    pub(super) trial: Option<(OwnedSemaphorePermit, Option<Instant>)>,
    /// Suspects that still run after their trials.
    pub(super) company: Vec<(Instance, Counted)>,
}

impl Conductor {
    pub(super) fn new(
        run: Arc<RunCore>,
        called: Called,
        timeout: Option<Duration>,
        began: Option<Timestamp>,
    ) -> Self {
        let mut conductor = Self {
            run,
            bodies: FuturesUnordered::new(),
            output: None,
            started: std::collections::HashMap::new(),
            timeout,
            deadline: None,
            drained_by: None,
            stop: None,
            graces: Vec::new(),
            catching_up: false,
            began,
            waited: Duration::ZERO,
            left: false,
            trial: None,
            company: Vec::new(),
        };
        match called {
            Called::Returned(output) => conductor.output = Some(output),
            Called::Polling(body) => conductor.poll_body(*body),
            Called::Failed(error) => conductor.stop = Some(Stop::Body(error)),
            Called::Cancelled => conductor.stop = Some(Stop::Asked),
        }
        conductor
    }

    fn poll_body(&mut self, mut body: Body) {
        body.under_way = Some(BODIES.enter());
        body.run = Some(Arc::clone(&self.run));
        self.bodies.push(body);
    }

    /// Waits for one of the flow's `max_active_runs` slots, or until the run is cancelled or
    /// stopped.
    pub(super) async fn wait_for_turn(
        &mut self,
        flow: &'static str,
        turns: u32,
    ) -> Option<OwnedSemaphorePermit> {
        let (run, began) = (Arc::clone(&self.run), self.began.is_some());
        let asked = Instant::now();
        let given_up = async {
            tokio::select! {
                () = run.cancel.cancelled() => {}
                () = run.stop.soft.cancelled() => {}
            }
        };
        let turn = async {
            let (store, id) = (&run.runtime.store, run.facts.id);
            // the store may recover: until then, the run stays with this process
            let failed = |error: StoreError| {
                tracing::error!(run = %id, flow, "cannot claim a run slot, retrying: {error}");
                tokio::time::sleep(LOOK)
            };
            while let (true, Err(error)) = (began, store.leave_turn(id).await) {
                failed(error).await;
            }
            // first a slot of this process, in order of arrival; then one across processes, by
            // polling. In the opposite order, waiting runs of this process would all poll the store
            let permit = run.runtime.turn(flow, turns).acquire_owned().await.ok();
            let mut pause = FIRST_PAUSE;
            loop {
                match store
                    .claim_turn(id, flow, turns, run.runtime.clock.timestamp())
                    .await
                {
                    Ok(true) => return permit,
                    Ok(false) => tokio::time::sleep(pause).await,
                    Err(error) => failed(error).await,
                }
                pause = LOOK.min(pause * 2);
            }
        };
        let turn = tokio::select! {
            biased;
            () = given_up => None,
            turn = turn => turn,
        };
        if began {
            self.waited = asked.elapsed();
        }
        turn
    }

    /// Conducts the run to its end, or until the process gives it up.
    pub(super) async fn conduct(mut self) -> Result<Finished, Error> {
        if self.run.stop.soft.is_cancelled() {
            return self.release().await;
        }
        let started = self.begin();
        loop {
            let next = match self.look() {
                Next::Wait => self.wait().await,
                next => next,
            };
            match next {
                Next::Look | Next::Wait => {}
                Next::Release => return self.release().await,
                Next::Finish => return self.finish(started).await,
            }
        }
    }

    /// Starts or resumes the run. Returns the time of its start.
    fn begin(&mut self) -> Timestamp {
        let run = Arc::clone(&self.run);
        // the start of a resumed run was read off the system's clock, which may have been set back
        // since: the run's clock must not show a time before it
        let now = run.runtime.clock.timestamp();
        let started = self.began.unwrap_or(now);
        run.clock.set_to(now.max(started));
        run.record(Transition::RunStarted { at: started });
        failpoint::hit("run-started");
        self.announce();
        let spent = now.since(started).saturating_sub(self.waited);
        let deadline = |timeout: Duration| (timeout, in_time(timeout.saturating_sub(spent)));
        self.deadline = self.timeout.map(deadline);
        if let Some(why) = self.stop.take() {
            self.stop(why);
        } else if run.cancel.is_cancelled() {
            match run.resumed && self.began.is_some() {
                true => self.begin_catching_up(),
                false => self.stop(Stop::Asked),
            }
        }
        self.announce_suspects();
        run.flush(&mut run.live.lock());
        started
    }

    /// Logs and emits that the run starts, is resumed, or is re-run.
    fn announce(&self) {
        let run = &self.run;
        let (id, flow, logical_date) = (run.facts.id, run.facts.flow, run.facts.logical_date);
        let goes_on = self.began.is_some();
        let rerun = match goes_on {
            true => None,
            false => run.live.lock().plan.rerun(),
        };
        if let Some(RerunRecord { what, .. }) = rerun {
            tracing::info!(parent: &run.trace.run, %logical_date, "run reopened: {what}");
            run.runtime.events.emit(|| Event::RunReopened {
                run: id,
                flow,
                logical_date,
                what,
            });
        } else if run.resumed && goes_on {
            tracing::info!(parent: &run.trace.run, %logical_date, "run resumed");
            run.runtime.events.emit(|| Event::RunResumed {
                run: id,
                flow,
                logical_date,
            });
        } else if !run.cancel.is_cancelled() {
            if run.trace.is_recorded {
                tracing::info!(parent: &run.trace.run, %logical_date, "run started");
            }
            run.runtime.events.emit(|| Event::RunStarted {
                run: id,
                flow,
                logical_date,
            });
        }
    }

    /// Starts ready subflows, inspects the run, and decides on the next step.
    fn look(&mut self) -> Next {
        let run = Arc::clone(&self.run);
        self.start_flows();
        if self.catching_up {
            self.catch_up();
        }
        let lacks = run.live.lock().lacks.take();
        if let Some(lacks) = lacks {
            tracing::warn!(parent: &run.trace.run, "run cannot be resumed here: {lacks}");
            return Next::Release;
        }
        let (is_done, is_busy, problem) = {
            let live = &mut *run.live.lock();
            let has_bodies = !self.bodies.is_empty() || !live.flows.is_empty() || self.left;
            let is_done = !has_bodies && live.plan.is_done();
            (
                is_done,
                live.plan.is_busy(),
                live.problem.take_if(|_| !is_done),
            )
        };
        if is_done {
            // the timeout was reached in an earlier execution, whose process died before it could
            // record that
            if let (Some((timeout, at)), None) = (self.deadline, &self.stop)
                && at <= Instant::now()
                && run.live.lock().plan.was_cancelled
            {
                self.stop(Stop::TimedOut(timeout));
            }
            return Next::Finish;
        }
        let is_drained = self.stop.is_none() && !is_busy;
        if self.drained_by.is_some() && (is_drained || run.stop.hard.is_cancelled()) {
            return Next::Release;
        }
        if let Some(problem) = problem {
            self.stop(Stop::Body(TaskError::new(
                Cause::Fatal,
                problem.to_string(),
            )));
            return Next::Look;
        }
        if run.broken.load(Ordering::Acquire) {
            let text = "the runtime itself panicked: see the panic's own message";
            self.stop(Stop::Body(TaskError::new(Cause::Panicked, text)));
            let live = &mut *run.live.lock();
            live.end_grace(None);
            live.plan.abandon();
            run.flush(live);
            return Next::Finish;
        }
        Next::Wait
    }

    /// Waits until something happens that concerns the conductor, and handles it.
    async fn wait(&mut self) -> Next {
        let run = Arc::clone(&self.run);
        let wants_trial = self.drained_by.is_none() && self.wants_trial();
        let trial_ends = self.trial.as_ref().and_then(|(_, ends)| *ends);
        let grace_ends = self.begin_graces();
        let timer = run.live.lock().next_timer();
        // a run that is being ended needs no other reason to end; one that is catching up has not
        // reached the point where it was cancelled
        let may_stop = self.stop.is_none() && !self.catching_up;
        let (is_draining, drained_by) = (self.drained_by.is_some(), self.drained_by);
        let deadline = self.deadline.filter(|_| may_stop);
        // biased: requests about the run are handled before events within it
        tokio::select! {
            biased;
            () = run.cancel.cancelled(), if may_stop => {
                self.stop(Stop::Asked);
                // committed at once: the cancellation must hold even if this process dies
                run.commit().await;
            }
            () = run.stop.soft.cancelled(), if !is_draining => {
                self.drained_by = Some(in_time(run.runtime.environment.grace));
                self.drain();
            }
            () = until(drained_by), if is_draining => return Next::Release,
            () = run.stop.hard.cancelled(), if is_draining => return Next::Release,
            Some(ended) = self.bodies.next(), if !self.bodies.is_empty() => {
                // a body that blocked the thread may have ended after the deadline, in the same
                // poll: then the timeout came first
                match deadline.filter(|(_, at)| *at < Instant::now()) {
                    Some((timeout, _)) => self.stop(Stop::TimedOut(timeout)),
                    None => self.body_ended(ended),
                }
            }
            () = run.wake.notified() => {}
            permit = run.runtime.trials.permit(), if wants_trial => self.begin_trial(permit),
            () = until(trial_ends), if trial_ends.is_some() => self.acquit(),
            () = until(timer) => {
                let live = &mut *run.live.lock();
                live.due(Instant::now());
                run.flush(live);
            }
            () = until(grace_ends) => self.end_graces(),
            () = run.grace_over.cancelled(), if !self.graces.is_empty() => {
                self.graces.clear();
                let live = &mut *run.live.lock();
                live.end_grace(None);
                run.flush(live);
            }
            timeout = passed(deadline) => self.stop(Stop::TimedOut(timeout)),
        }
        Next::Look
    }

    /// Starts nothing more, and lets running bodies end.
    fn drain(&mut self) {
        // recorded first: however this process ends from now on, it was asked to stop, and that is
        // not a crash
        self.break_off_trial();
        self.run.record(Transition::Draining);
        self.run.log.commit_soon();
        if self.stop.is_some() {
            // a run that is being ended has its own grace period
            return;
        }
        self.run.live.lock().draining = true;
        self.left = !self.bodies.is_empty();
        self.bodies.clear();
    }

    /// Gives the run up. Another process, or a later one, resumes it once nothing of it runs here.
    async fn release(self) -> Result<Finished, Error> {
        let run = &self.run;
        if !run.durable {
            // no other process could resume it
            let live = &mut *run.live.lock();
            live.plan.abandon();
            run.flush(live);
            let at = run.clock.timestamp();
            run.record(Transition::RunFinished(RunEnd {
                at,
                state: Ending::Cancelled.state(),
                error: Ending::Cancelled.error(),
                output: None,
                encoded: None,
            }));
            // set under the lock: ends from now on are neither recorded nor passed to the plan
            run.released.store(true, Ordering::Release);
            live.hold.as_ref().inspect(|hold| hold.abandon());
            run.end_bodies();
        } else {
            self.break_off_trial();
            // set before the hold is released: an attempt whose start is not recorded by then must
            // notice it before its body begins
            run.released.store(true, Ordering::Release);
            let hold = run.live.lock().hold.take();
            if let Some(hold) = hold {
                let held = Arc::downgrade(&hold);
                let let_go = hold.leave();
                run.end_bodies();
                if tokio::time::timeout(LET_GO, let_go.cancelled())
                    .await
                    .is_err()
                {
                    let tasks = held.upgrade().map(|hold| hold.bodies()).unwrap_or_default();
                    tracing::warn!(
                        parent: &run.trace.run,
                        tasks = few(&tasks),
                        "bodies have not returned: the run stays with this process until they do or the process ends"
                    );
                    run.runtime.under_way.keep(run.facts.id, held);
                }
            }
        }
        run.log.commit().wait().await?;
        tracing::info!(parent: &run.trace.run, "run released: it can be resumed");
        run.runtime.flush_logs().await;
        Err(Error::Stopped {
            flow: run.facts.flow.to_owned(),
            run: run.facts.id,
        })
    }

    /// Starts the subflows that are ready.
    pub(super) fn start_flows(&mut self) {
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
            if self.stop.is_some() {
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
            match call(
                live,
                &run.runtime,
                &flow,
                Some(node),
                &span,
                context,
                cancel,
            ) {
                Ok(called) => {
                    run.flush(live);
                    // the timeout was reached in an earlier execution of the run
                    if let Some(timeout) = timeout.filter(|_| live.plan.took_too_long(node)) {
                        overdue.push((number, node, timeout));
                        continue;
                    }
                    match called {
                        Called::Polling(body) => self.poll_body(Body { deadline, ..*body }),
                        Called::Returned(output) => {
                            let step = Step::Returned(output);
                            let body = Body::new(flow.definition, number, Some(node), step, span);
                            self.poll_body(Body { deadline, ..body });
                        }
                        Called::Failed(error) => self.flow_ended(live, node, End::Failed(error)),
                        Called::Cancelled => self.flow_ended(live, node, End::Cancelled),
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

    pub(super) fn body_ended(&mut self, (number, node, ended): (ScopeId, Option<NodeId>, BodyEnd)) {
        let run = Arc::clone(&self.run);
        if run.live.lock().lacks.is_some() {
            return;
        }
        match (node, ended) {
            (None, BodyEnd::Returned(output)) => self.output = Some(output),
            (None, BodyEnd::Failed(_)) if self.catching_up => self.stop(Stop::Asked),
            (None, BodyEnd::Failed(error)) => self.stop(Stop::Body(error)),
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
        let (dropped, kept): (Vec<Body>, Vec<Body>) =
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
    fn flow_ended(&self, live: &mut Live, node: NodeId, end: End) {
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
        if let End::Failed(error) = &end {
            let span = self.run.trace.flow(|| live.plan.key_of(at));
            tracing::error!(parent: &span, "flow failed: {error}");
        }
        if let Some(place) = place.filter(|_| !live.plan.is_changed) {
            self.run.record(Transition::Task(TaskEnd {
                error: end.error().cloned(),
                ..TaskEnd::new(place, state, attempts)
            }));
        }
        let duration = started.map_or(Duration::ZERO, |started| finished.since(started));
        self.run
            .emit_finished(live, at, end.state(), attempts, duration, end.error());
        live.plan.finish(at, end);
        self.run.flush(live);
    }

    /// Ends the run early: cancels what has not started, and signals what is running.
    pub(super) fn stop(&mut self, why: Stop) {
        if matches!(why, Stop::Asked) {
            self.run.record(Transition::Cancelling);
        }
        self.stop = Some(why);
        self.bodies.clear();
        let run = Arc::clone(&self.run);
        let live = &mut *run.live.lock();
        live.plan.cancel(None);
        run.cancel.cancel();
        if !std::mem::take(&mut self.catching_up) {
            self.graces.push(Grace {
                scopes: None,
                ends: None,
            });
        }
        if live.plan.is_changed {
            // a run that differs from its record is not continued, not even by clean-up tasks
            live.end_grace(None);
        }
        live.flows.clear();
        let flows: Vec<NodeId> = live.plan.running_flows();
        for node in flows {
            self.flow_ended(live, node, End::Cancelled);
        }
        run.flush(live);
    }

    /// Ends a run whose conductor panicked.
    pub(super) async fn give_up(
        run: &Arc<RunCore>,
        panicked: &PanicReport,
    ) -> Result<Finished, Error> {
        run.cancel.cancel();
        {
            let live = &mut *run.live.lock();
            live.plan.abandon();
            run.flush(live);
        }
        let text = format!("the runtime itself {panicked}");
        let error = TaskError::new(Cause::Panicked, text);
        let now = run.clock.timestamp();
        Self::record(run, Ending::Failed(error), None, now).await
    }

    async fn finish(mut self, started: Timestamp) -> Result<Finished, Error> {
        let run = Arc::clone(&self.run);
        let (verdict, output) = {
            let live = &mut *run.live.lock();
            // only checked if the flow was not stopped: a stopped body has not asked for all of its
            // nodes again
            if self.stop.is_none()
                && let Some(problem) = live.plan.forgotten()
            {
                self.stop = Some(Stop::Body(TaskError::new(
                    Cause::Fatal,
                    problem.to_string(),
                )));
            }
            let output = match (&self.stop, self.output.take()) {
                (None, Some(output)) => Some(live.plan.output(&output)),
                _ => None,
            };
            let verdict = match live.plan.verdict() {
                // the run was being cancelled in an earlier execution, whose process died before it
                // could record that; or another part of a cancelled run was re-run
                Verdict::Green if live.plan.was_cancelled => Verdict::Cancelled,
                verdict => verdict,
            };
            (verdict, output)
        };
        let mut ending = match (self.stop, verdict) {
            (Some(Stop::Asked), _) | (None, Verdict::Cancelled) => Ending::Cancelled,
            (Some(Stop::TimedOut(timeout)), _) => Ending::Failed(TaskError::timed_out(timeout)),
            (Some(Stop::Body(error)), _) if error.is_skipped() => {
                return Self::record(&run, Ending::Succeeded, Some(Err(error)), started).await;
            }
            (Some(Stop::Body(error)), _) | (None, Verdict::Red(error)) => Ending::Failed(error),
            (None, Verdict::Green) => Ending::Succeeded,
        };
        let returned = match output.map(|output| output.map(value_of)) {
            None => None,
            Some(Ok(Ok(value))) => Some(Ok(value)),
            // the projection of what was returned panicked
            Some(Ok(Err(panicked))) => {
                ending.or_fail(panicked);
                None
            }
            Some(Err((_, end))) => end.error().cloned().map(Err),
        };
        Self::record(&run, ending, returned, started).await
    }

    /// Records the end of the run, then logs and emits it.
    async fn record(
        run: &RunCore,
        mut ending: Ending,
        returned: Returned,
        started: Timestamp,
    ) -> Result<Finished, Error> {
        let at = run.clock.timestamp();
        let duration = at.since(started);
        let output = match &returned {
            Some(Ok(value)) => Some(value.clone()),
            Some(Err(_)) | None => None,
        };
        let encoded = match output.as_ref().map(|output| run.log.encode(output)) {
            None => None,
            Some(Ok(encoded)) => encoded,
            Some(Err(problem)) => {
                let text = format!("what the flow returned cannot be kept: {problem}");
                ending.or_fail(TaskError::new(Cause::Failed, text));
                None
            }
        };
        let (state, error) = (ending.state(), ending.error());
        if run.resumed && !run.live.lock().plan.is_changed {
            // rows of an earlier execution that were not planned again
            let open = {
                let live = run.live.lock();
                run.log.snapshot().open(|node| live.plan.is_planned(node))
            };
            for (place, attempts) in open {
                let state = CellState::Ended {
                    state: TaskState::Cancelled,
                    started: None,
                    at,
                };
                run.record(Transition::Task(TaskEnd::new(place, state, attempts)));
            }
        }
        if run.trace.is_recorded {
            // stored before the end is recorded: a process that sees the end must find all log
            // lines, too
            run.runtime.flush_logs().await;
        }
        let end = RunEnd {
            at,
            state,
            error: error.clone(),
            output: output.map(ResultValue::Live),
            encoded,
        };
        run.record(Transition::RunFinished(end));
        failpoint::hit("run-end-recorded");
        run.log.commit().wait().await?;
        failpoint::hit("run-end-committed");
        let shown = humantime::format_duration(duration);
        let span = &run.trace.run;
        match &error {
            _ if !run.trace.is_recorded => {}
            None => tracing::info!(parent: span, %state, duration = %shown, "run finished"),
            Some(error) if state == RunState::Cancelled => {
                tracing::warn!(parent: span, %state, duration = %shown, "run finished: {error}");
            }
            Some(error) => {
                tracing::error!(parent: span, %state, duration = %shown, "run finished: {error}")
            }
        }
        if run.trace.is_recorded {
            run.runtime.flush_logs().await;
        }
        run.runtime.events.emit(|| Event::RunFinished {
            run: run.facts.id,
            flow: run.facts.flow,
            state,
            duration,
            error,
        });
        Ok(Finished {
            record: run.log.snapshot(),
            returned,
        })
    }
}

fn value_of(arg: Arg) -> Result<Value, TaskError> {
    panic::catch(|| arg.into_value()).map_err(|panicked| TaskError::panicked(&panicked))
}
