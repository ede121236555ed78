//! The conductor of a run: polls the bodies of its flows, and sees to retries whose time has come, to cancelling, and to
//! the end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::body::{Body, BodyEnd, Called, Step, UnderWay, call, drop_body};
use super::live::{Live, RunCore};
use super::panic;
use super::plan::{End, Instance, Verdict};
use super::watch::LOOK;
use crate::clock::micros_between;
use crate::error::{Error, StoreError, TaskError};
use crate::event::Event;
use crate::failpoint;
use crate::state::{RunState, TaskState};
use crate::store::{Kept, RerunRecord, Row, RunEnd, RunRecord, TaskEnd, Transition};
use crate::task::scope::Kind;
use crate::task::{Arg, Context, Input};
use crate::value::Value;

/// The end of a run.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) record: RunRecord,
    /// What was returned, as the type that it is of.
    pub(super) output: Option<Value>,
    /// Why there is no output, where the run is green without one.
    pub(super) missing: Option<TaskError>,
}

impl Finished {
    /// What was returned, where the run is green.
    pub(super) fn into_value(self) -> Result<Value, TaskError> {
        match (self.record.error(), self.output, self.missing) {
            (Some(error), _, _) => Err(error.clone()),
            (None, Some(output), _) => Ok(output),
            (None, None, Some(missing)) => Err(missing),
            (None, None, None) => Err(TaskError::cancelled()),
        }
    }
}

/// Why a run comes to its end before its tasks do.
enum Stop {
    /// Somebody asked for it.
    Asked,
    TimedOut(Duration),
    /// The flow's body failed.
    Body(TaskError),
}

/// How soon other processes, which have all the turns of a flow, are asked again; then twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

pub(super) struct Conductor {
    run: Arc<RunCore>,
    pub(super) bodies: FuturesUnordered<Body>,
    /// What the flow returned.
    output: Option<Input>,
    /// When the bodies of flows in the flow were started, by their nodes.
    started: std::collections::HashMap<u32, i64>,
    timeout: Option<Duration>,
    stop: Option<Stop>,
    /// When the run started, in an earlier life of it.
    began: Option<i64>,
    /// How long it has waited for its turn since it goes on: that is no time of its own.
    waited: Duration,
    /// Bodies of flows were left before their end: the run is not done, whatever its tasks are.
    left: bool,
}

impl Conductor {
    pub(super) fn new(
        run: Arc<RunCore>,
        called: Called,
        timeout: Option<Duration>,
        began: Option<i64>,
    ) -> Self {
        let mut conductor = Self {
            run,
            bodies: FuturesUnordered::new(),
            output: None,
            started: std::collections::HashMap::new(),
            timeout,
            stop: None,
            began,
            waited: Duration::ZERO,
            left: false,
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
        body.under_way = Some(UnderWay::new());
        body.run = Some(Arc::clone(&self.run));
        self.bodies.push(body);
    }

    /// Waits until the run is one of so many of its flow that are under way; or until it is cancelled or stopped before.
    pub(super) async fn wait_for_turn(
        &mut self,
        flow: &'static str,
        turns: u32,
    ) -> Option<OwnedSemaphorePermit> {
        let (run, began) = (Arc::clone(&self.run), self.began.is_some());
        let asked = run.runtime.clock.micros();
        let given_up = async {
            tokio::select! {
                () = run.cancel.cancelled() => {}
                () = run.runtime.stop.soft.cancelled() => {}
            }
        };
        let turn = async {
            let (store, id) = (&run.runtime.store, run.facts.id);
            // a store that fails now may be well later: the run stays this process's until then
            let failed = |error: StoreError| {
                tracing::error!(run = %id, flow, "whose turn it is is not known, and is asked again: {error}");
                tokio::time::sleep(LOOK)
            };
            while let (true, Err(error)) = (began, store.leave_turn(id).await) {
                failed(error).await;
            }
            // those of this process stand in line; other processes are asked again and again
            let permit = run.runtime.turn(flow, turns).acquire_owned().await.ok();
            let mut pause = FIRST_PAUSE;
            loop {
                match store
                    .claim_turn(id, flow, turns, run.runtime.clock.micros())
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
            self.waited = micros_between(asked, run.runtime.clock.micros());
        }
        turn
    }

    /// Sees the run to its end.
    pub(super) async fn conduct(mut self) -> Result<Finished, Error> {
        let run = Arc::clone(&self.run);
        if run.runtime.stop.soft.is_cancelled() {
            return self.release().await;
        }
        let now = run.runtime.clock.micros();
        let started = self.began.unwrap_or(now);
        run.record(Transition::RunStarted { at: started });
        failpoint::hit("run-started");
        let facts = Arc::clone(&run.facts);
        let (run_id, flow, logical_date) = (facts.id, facts.flow, facts.logical_date);
        let again = self
            .began
            .is_none()
            .then(|| run.live.lock().plan.rerun())
            .flatten();
        if let Some(RerunRecord { what, .. }) = again {
            tracing::info!(parent: &run.trace.run, %logical_date, "run again: {what}");
            run.runtime.events.emit(|| Event::RunReopened {
                run: run_id,
                flow,
                logical_date,
                what,
            });
        } else if run.resumed && self.began.is_some() {
            tracing::info!(parent: &run.trace.run, %logical_date, "run goes on");
            run.runtime.events.emit(|| Event::RunResumed {
                run: run_id,
                flow,
                logical_date,
            });
        } else if !run.cancel.is_cancelled() {
            if run.trace.is_recorded {
                tracing::info!(parent: &run.trace.run, %logical_date, "run started");
            }
            run.runtime.events.emit(|| Event::RunStarted {
                run: run_id,
                flow,
                logical_date,
            });
        }
        let spent = micros_between(started, now).saturating_sub(self.waited);
        let deadline = self
            .timeout
            .map(|timeout| (timeout, Instant::now() + timeout.saturating_sub(spent)));
        let (soft, hard) = (run.runtime.stop.soft.clone(), run.runtime.stop.hard.clone());
        let mut drained_by = None;
        if let Some(why) = self.stop.take() {
            self.stop(why);
        } else if run.cancel.is_cancelled() {
            self.stop(Stop::Asked);
        }
        run.flush(&mut run.live.lock());
        loop {
            self.start_flows();
            let lacks = run.live.lock().lacks.take();
            if let Some(lacks) = lacks {
                tracing::warn!(parent: &run.trace.run, "a run is not done and cannot go on here: {lacks}");
                return self.release().await;
            }
            let (done, timer) = {
                let live = &mut *run.live.lock();
                let ended = self.bodies.is_empty() && live.flows.is_empty() && !self.left;
                (ended && live.plan.is_done(), live.next_timer())
            };
            if done {
                // ended by time in an earlier life, whose process died before it could say so
                if let (Some((timeout, at)), None) = (deadline, &self.stop)
                    && at <= Instant::now()
                    && run.live.lock().plan.was_cancelled
                {
                    self.stop(Stop::TimedOut(timeout));
                }
                break;
            }
            if drained_by.is_some() && (!run.live.lock().plan.is_busy() || hard.is_cancelled()) {
                return self.release().await;
            }
            if let Some(problem) = run.live.lock().problem.take() {
                self.stop(Stop::Body(TaskError::new(
                    crate::error::Cause::Fatal,
                    problem.to_string(),
                )));
                continue;
            }
            if run.broken.load(Ordering::Acquire) {
                let text = "a panic in the runtime itself, or in the `Drop` of a value: see the panic's own message";
                self.stop(Stop::Body(TaskError::new(
                    crate::error::Cause::Panicked,
                    text,
                )));
                let live = &mut *run.live.lock();
                live.plan.abandon();
                run.flush(live);
                break;
            }
            tokio::select! {
                biased;
                () = run.cancel.cancelled(), if self.stop.is_none() => {
                    self.stop(Stop::Asked);
                    // what was asked for holds, whatever becomes of this process
                    run.commit().await;
                }
                () = soft.cancelled(), if drained_by.is_none() && self.stop.is_none() => {
                    drained_by = Some(Instant::now() + run.runtime.grace);
                    self.drain();
                }
                () = until(drained_by), if drained_by.is_some() => return self.release().await,
                () = hard.cancelled(), if drained_by.is_some() => return self.release().await,
                Some(ended) = self.bodies.next(), if !self.bodies.is_empty() => self.body_ended(ended),
                () = run.wake.notified() => {}
                () = until(timer) => {
                    let live = &mut *run.live.lock();
                    live.due(Instant::now());
                    run.flush(live);
                }
                () = until(deadline.map(|(_, at)| at)), if self.stop.is_none() => {
                    let timeout = self.timeout.unwrap_or_default();
                    self.stop(Stop::TimedOut(timeout));
                }
            }
        }
        self.finish(started).await
    }

    /// Lets what is running come to its end, and starts nothing more.
    fn drain(&mut self) {
        let run = Arc::clone(&self.run);
        run.live.lock().draining = true;
        self.left = !self.bodies.is_empty();
        std::mem::take(&mut self.bodies)
            .into_iter()
            .for_each(drop_body);
    }

    /// Gives the run up: another process, or a later one, goes on with it.
    async fn release(self) -> Result<Finished, Error> {
        let run = &self.run;
        if !run.durable {
            // there is nobody who could go on with it
            let live = &mut *run.live.lock();
            live.plan.abandon();
            run.flush(live);
            let at = run.runtime.clock.micros();
            let (state, error) = (RunState::Cancelled, Some(TaskError::cancelled()));
            run.record(Transition::RunFinished(RunEnd {
                at,
                state,
                error,
                output: None,
                encoded: None,
            }));
            // with the plan in hand: what ends from now on tells nobody
            run.released.store(true, Ordering::Release);
        } else {
            // first: an attempt that is not recorded before the release finds out before it begins
            run.released.store(true, Ordering::Release);
            run.log.record(Transition::Released);
        }
        run.cancel.cancel();
        run.log.commit().wait().await?;
        tracing::info!(parent: &run.trace.run, "run left: it can go on");
        run.runtime.flush_logs().await;
        Err(Error::Stopped {
            flow: run.facts.flow.to_owned(),
            run: run.facts.id,
        })
    }

    /// Starts the flows in the flow that may start.
    fn start_flows(&mut self) {
        let mut overdue = Vec::new();
        loop {
            let run = Arc::clone(&self.run);
            let live = &mut *run.live.lock();
            let Some(node) = live.flows.pop() else { break };
            if !live.plan.is_running(node) {
                // it was cancelled since
                continue;
            }
            let Kind::Flow(flow) = &live.plan.wiring.nodes[node as usize].kind else {
                continue;
            };
            let flow = Arc::clone(flow);
            self.started.insert(node, run.runtime.clock.micros());
            if self.stop.is_some() {
                self.flow_ended(live, node, End::Cancelled);
                continue;
            }
            let scope = live.plan.wiring.nodes[node as usize].scope;
            let cancel = live.scopes[scope as usize].cancel.child_token();
            let context = Arc::new(Context::of_flow(Arc::clone(&run.facts), cancel.clone()));
            let number = super::plan::id_of(live.scopes.len());
            let timeout = flow.definition.timeout;
            let deadline = timeout.map(|timeout| (timeout, Box::pin(tokio::time::sleep(timeout))));
            let span = run.trace.flow(|| {
                live.plan.key_of(Instance {
                    frame: 0,
                    node,
                    index: 0,
                })
            });
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
                    // in an earlier life of the run
                    if let Some(timeout) = timeout.filter(|_| live.plan.took_too_long(node)) {
                        overdue.push((number, node, timeout));
                        continue;
                    }
                    match called {
                        Called::Polling(body) => self.poll_body(Body { deadline, ..*body }),
                        Called::Returned(output) => {
                            let (node, step) = (Some(node), Step::Returned(output));
                            self.poll_body(Body {
                                run: None,
                                number,
                                node,
                                scope: None,
                                step,
                                span,
                                telling: None,
                                deadline,
                                under_way: None,
                            });
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

    fn body_ended(&mut self, (number, node, ended): (u32, Option<u32>, BodyEnd)) {
        let run = Arc::clone(&self.run);
        if run.live.lock().lacks.is_some() {
            return;
        }
        match (node, ended) {
            (None, BodyEnd::Returned(output)) => self.output = Some(output),
            (None, BodyEnd::Failed(error)) => self.stop(Stop::Body(error)),
            (Some(node), BodyEnd::Returned(output)) => {
                let arg = {
                    let plan = &mut run.live.lock().plan;
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
                let end = if error.is_skipped() {
                    End::Skipped(error)
                } else {
                    End::Failed(error)
                };
                self.flow_ended(&mut run.live.lock(), node, end);
            }
        }
    }

    /// Cancels a flow in the flow, and the flows that it called.
    fn drop_family(&mut self, number: u32) {
        let run = Arc::clone(&self.run);
        let family = run.live.lock().family(number);
        let bodies = std::mem::take(&mut self.bodies).into_iter();
        let (dropped, kept): (Vec<Body>, Vec<Body>) =
            bodies.partition(|body| family.contains(&body.number));
        self.bodies.extend(kept);
        dropped.into_iter().for_each(drop_body);
        let live = &mut *run.live.lock();
        for number in family {
            live.plan.cancel(Some(number));
            live.scopes[number as usize].cancel.cancel();
            for node in live.plan.running_flows() {
                if live.plan.wiring.nodes[node as usize].scope == number {
                    live.flows.retain(|flow| *flow != node);
                    self.flow_ended(live, node, End::Cancelled);
                }
            }
        }
        run.flush(live);
    }

    /// A flow in the flow is final.
    fn flow_ended(&self, live: &mut Live, node: u32, end: End) {
        self.run.record_planned(live);
        let at = Instance {
            frame: 0,
            node,
            index: 0,
        };
        let started = self.started.get(&node).copied().unwrap_or_default();
        let finished = self.run.runtime.clock.micros();
        let attempts = live.plan.attempts(at) + 1;
        let row = Row {
            started,
            finished,
            error: end.error().cloned(),
            attempts,
            state: end.state(),
            ..Row::PENDING
        };
        let place = live.plan.row_of(at);
        if let End::Failed(error) = &end {
            let span = self.run.trace.flow(|| live.plan.key_of(at));
            tracing::error!(parent: &span, "flow failed: {error}");
        }
        if !live.plan.is_changed {
            self.run
                .record(Transition::Task(TaskEnd::new(place.frame, place.cell, row)));
        }
        let duration = micros_between(started, finished);
        self.run
            .emit_finished(live, at, end.state(), attempts, duration, end.error());
        live.plan.finish(at, end);
        self.run.flush(live);
    }

    /// Brings the run to its end: what has not started is cancelled, what is running is told.
    fn stop(&mut self, why: Stop) {
        if matches!(why, Stop::Asked) {
            self.run.record(Transition::Cancelling);
        }
        self.stop = Some(why);
        std::mem::take(&mut self.bodies)
            .into_iter()
            .for_each(drop_body);
        let run = Arc::clone(&self.run);
        let live = &mut *run.live.lock();
        live.plan.cancel(None);
        run.cancel.cancel();
        live.flows.clear();
        let flows: Vec<u32> = live.plan.running_flows();
        for node in flows {
            self.flow_ended(live, node, End::Cancelled);
        }
        run.flush(live);
    }

    async fn finish(mut self, started: i64) -> Result<Finished, Error> {
        let run = Arc::clone(&self.run);
        let (verdict, output) = {
            let live = &mut *run.live.lock();
            // of a flow that was stopped, not all was asked for again
            if self.stop.is_none()
                && let Some(problem) = live.plan.forgotten()
            {
                self.stop = Some(Stop::Body(TaskError::new(
                    crate::error::Cause::Fatal,
                    problem.to_string(),
                )));
            }
            let output = match (&self.stop, self.output.take()) {
                (None, Some(output)) => Some(live.plan.output(&output)),
                _ => None,
            };
            let verdict = match live.plan.verdict() {
                // an earlier life was being cancelled, and its process died before it could say so; or something else of
                // a cancelled run was run again
                Verdict::Green if live.plan.was_cancelled => Verdict::Cancelled,
                verdict => verdict,
            };
            (verdict, output)
        };
        let (state, error) = match (self.stop, verdict) {
            (Some(Stop::Asked), _) => (RunState::Cancelled, Some(TaskError::cancelled())),
            (Some(Stop::TimedOut(timeout)), _) => {
                (RunState::Failed, Some(TaskError::timed_out(timeout)))
            }
            (Some(Stop::Body(error)), _) if error.is_skipped() => {
                return Self::record(&run, RunState::Success, None, None, Some(error), started)
                    .await;
            }
            (Some(Stop::Body(error)), _) => (RunState::Failed, Some(error)),
            (None, Verdict::Red(error)) => (RunState::Failed, Some(error)),
            (None, Verdict::Cancelled) => (RunState::Cancelled, Some(TaskError::cancelled())),
            (None, Verdict::Green) => (RunState::Success, None),
        };
        let (state, error, value, missing) = match output.map(|output| output.map(value_of)) {
            None => (state, error, None, None),
            Some(Ok(Ok(value))) => (state, error, Some(value), None),
            // the projection of what was returned panicked
            Some(Ok(Err(panicked))) => (
                RunState::Failed,
                Some(error.unwrap_or(panicked)),
                None,
                None,
            ),
            Some(Err((_, end))) => (state, error, None, end.error().cloned()),
        };
        Self::record(&run, state, error, value, missing, started).await
    }

    async fn record(
        run: &RunCore,
        state: RunState,
        error: Option<TaskError>,
        output: Option<Value>,
        missing: Option<TaskError>,
        started: i64,
    ) -> Result<Finished, Error> {
        let at = run.runtime.clock.micros();
        let duration = micros_between(started, at);
        let (mut state, mut error) = (state, error);
        let encoded = output
            .as_ref()
            .map(|output| panic::catch(|| run.log.encode(output)));
        let (encoded, problem) = match encoded {
            None => (None, None),
            Some(Ok(Ok(encoded))) => (encoded, None),
            Some(Ok(Err(problem))) => {
                let text = format!("what the flow returned cannot be kept: {problem}");
                (
                    None,
                    Some(TaskError::new(crate::error::Cause::Failed, text)),
                )
            }
            Some(Err(panicked)) => (None, Some(TaskError::panicked(&panicked))),
        };
        if let Some(problem) = problem {
            state = RunState::Failed;
            error.get_or_insert(problem);
        }
        if run.resumed && !run.live.lock().plan.is_changed {
            // what was recorded before, and did not come up again
            let open = {
                let live = run.live.lock();
                run.log.snapshot().open(|node| live.plan.is_planned(node))
            };
            for (frame, cell, attempts) in open {
                let row = Row {
                    started: 0,
                    finished: at,
                    error: None,
                    attempts,
                    state: TaskState::Cancelled,
                    ..Row::PENDING
                };
                run.record(Transition::Task(TaskEnd::new(frame, cell, row)));
            }
        }
        if let (true, Some(logs)) = (run.trace.is_recorded, &run.runtime.logs) {
            // whoever finds the run at its end finds what its tasks said: it is stored before that
            logs.hand_over_all();
        }
        let end = RunEnd {
            at,
            state,
            error: error.clone(),
            output: output.map(Kept::Live),
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
        let record = run.log.snapshot();
        let output = match record.output() {
            Some(Kept::Live(output)) => Some(output.clone()),
            _ => None,
        };
        Ok(Finished {
            record,
            output,
            missing,
        })
    }
}

fn value_of(arg: Arg) -> Result<Value, TaskError> {
    panic::catch(|| arg.into_value()).map_err(|panicked| TaskError::panicked(&panicked))
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
