//! The conductor of a run: polls the bodies of its flows and handles timers, deadlines,
//! cancellation and the end.

pub(crate) mod body;
mod ending;
mod grace;
mod past;
mod subflows;
mod trial;
mod turn;

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as Cx, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use body::{BODIES, CalledFlow, RunningBody};
pub(crate) use ending::FinishedRun;
use grace::Grace;

use super::active::few;
use super::hold::CountGuard;
use super::notice::Beginning;
use super::run::ActiveRun;
use crate::clock::{Deadline, Timestamp, in_time, passed, until};
use crate::error::{Cause, Error, TaskError};
use crate::failpoint;
use crate::index::NodeId;
use crate::journal::{RerunRecord, RunEnd, Transition};
use crate::panic;
use crate::plan::{End, Instance};
use crate::state::RunState;
use crate::task::Input;

/// The reason why a run is ended before its tasks are.
pub(crate) enum EarlyEnd {
    /// The run was cancelled.
    Asked,
    TimedOut(Duration),
    /// The flow's body failed.
    Body(TaskError),
}

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

pub(crate) struct Conductor {
    pub(crate) run: Arc<ActiveRun>,
    pub(crate) bodies: FuturesUnordered<RunningBody>,
    /// The flow's output.
    output: Option<Input>,
    /// The start times of running subflows, by node.
    started: std::collections::HashMap<NodeId, Timestamp>,
    timeout: Option<Duration>,
    /// The timeout, and the instant at which it is reached.
    deadline: Deadline,
    /// The end of the grace period; `None` unless the process is stopping.
    drained_by: Option<Instant>,
    early_end: Option<EarlyEnd>,
    pub(crate) graces: Vec<Grace>,
    /// Whether the run was being cancelled in an earlier execution, and its nodes are being planned
    /// again.
    pub(crate) catching_up: bool,
    /// The start of the run in an earlier execution.
    began: Option<Timestamp>,
    /// The time that the resumed run waited for a slot. It does not count towards the timeout.
    waited: Duration,
    /// Whether bodies of flows were dropped before their end. If so, the run is unfinished even if
    /// all of its tasks are final.
    left: bool,
    /// The permit held while a suspect of the run is tried, and the instant at which the trial ends
    /// at the latest.
    pub(crate) trial: Option<(OwnedSemaphorePermit, Option<Instant>)>,
    /// Suspects that still run after their trials.
    pub(crate) company: Vec<(Instance, CountGuard)>,
}

impl Conductor {
    pub(crate) fn new(
        run: Arc<ActiveRun>,
        called: CalledFlow,
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
            early_end: None,
            graces: Vec::new(),
            catching_up: false,
            began,
            waited: Duration::ZERO,
            left: false,
            trial: None,
            company: Vec::new(),
        };
        match called {
            CalledFlow::Returned(output) => conductor.output = Some(output),
            CalledFlow::Polling(body) => conductor.poll_body(*body),
            CalledFlow::Failed(error) => conductor.early_end = Some(EarlyEnd::Body(error)),
            CalledFlow::Cancelled => conductor.early_end = Some(EarlyEnd::Asked),
        }
        conductor
    }

    fn poll_body(&mut self, mut body: RunningBody) {
        body.under_way = Some(BODIES.enter());
        body.run = Some(Arc::clone(&self.run));
        self.bodies.push(body);
    }

    /// Conducts the run to its end, or until the process gives it up. If the runtime itself panics,
    /// the run still ends, both in the store and for its waiters.
    pub(crate) async fn conduct(self) -> Result<FinishedRun, Error> {
        let run = Arc::clone(&self.run);
        let mut conducted = pin!(self.take_steps());
        let polled = |cx: &mut Cx<'_>| match panic::catch(|| conducted.as_mut().poll(cx)) {
            Ok(polled) => polled.map(Ok),
            Err(panicked) => Poll::Ready(Err(panicked)),
        };
        match poll_fn(polled).await {
            Ok(finished) => finished,
            Err(panicked) => Self::give_up(&run, &panicked).await,
        }
    }

    async fn take_steps(mut self) -> Result<FinishedRun, Error> {
        if self.run.stop.soft.is_cancelled() {
            return self.release(None).await;
        }
        let started = self.begin();
        loop {
            let next = match self.look() {
                Next::Wait => self.wait().await,
                next => next,
            };
            match next {
                Next::Look | Next::Wait => {}
                Next::Release => return self.release(Some(started)).await,
                Next::Finish => return self.finish(started).await,
            }
        }
    }

    /// Starts or resumes the run. Returns the time of its start.
    fn begin(&mut self) -> Timestamp {
        let run = Arc::clone(&self.run);
        // the start of a resumed run was read off the system's clock, which may have been set back
        // since: the run's clock must not show a time before it
        let now = run.host.services.clock.timestamp();
        let started = self.began.unwrap_or(now);
        run.clock.set_to(now.max(started));
        run.record(Transition::RunStarted { at: started });
        failpoint::hit("run-started");
        self.announce();
        let spent = now.since(started).saturating_sub(self.waited);
        let deadline = |timeout: Duration| (timeout, in_time(timeout.saturating_sub(spent)));
        self.deadline = self.timeout.map(deadline);
        if let Some(why) = self.early_end.take() {
            self.end_early(why);
        } else if run.cancel.is_cancelled() {
            match run.resumed && self.began.is_some() {
                true => self.begin_catching_up(),
                false => self.end_early(EarlyEnd::Asked),
            }
        }
        self.announce_suspects();
        run.flush(&mut run.live.lock());
        started
    }

    /// Tells that the run starts, is resumed, or is re-run.
    fn announce(&self) {
        let run = &self.run;
        let goes_on = self.began.is_some();
        let rerun = match goes_on {
            true => None,
            false => run.live.lock().plan.rerun(),
        };
        let beginning = match rerun {
            Some(RerunRecord { what, .. }) => Beginning::Reopened(what),
            None if run.resumed && goes_on => Beginning::Resumed,
            // it ends before it starts
            None if run.cancel.is_cancelled() => return,
            None => Beginning::Started,
        };
        run.tell_beginning(&beginning);
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
            // the request came after the last wait looked for it, or in an earlier execution: the
            // ends of the last tasks, or of the body, may follow from it
            if self.early_end.is_none() && run.cancel.is_cancelled() {
                self.end_early(EarlyEnd::Asked);
            }
            // the timeout was reached in an earlier execution, whose process died before it could
            // record that
            if let (Some((timeout, at)), None) = (self.deadline, &self.early_end)
                && at <= Instant::now()
                && run.live.lock().plan.was_cancelled
            {
                self.end_early(EarlyEnd::TimedOut(timeout));
            }
            return Next::Finish;
        }
        let is_drained = self.early_end.is_none() && !is_busy;
        if self.drained_by.is_some() && (is_drained || run.stop.hard.is_cancelled()) {
            return Next::Release;
        }
        if let Some(problem) = problem {
            self.end_early(EarlyEnd::Body(TaskError::new(
                Cause::Fatal,
                problem.to_string(),
            )));
            return Next::Look;
        }
        if run.broken.load(Ordering::Acquire) {
            let text = "the runtime itself panicked: see the panic's own message";
            self.end_early(EarlyEnd::Body(TaskError::new(Cause::Panicked, text)));
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
        let may_stop = self.early_end.is_none() && !self.catching_up;
        let (is_draining, drained_by) = (self.drained_by.is_some(), self.drained_by);
        let deadline = self.deadline.filter(|_| may_stop);
        // biased: requests about the run are handled before events within it
        tokio::select! {
            biased;
            () = run.cancel.cancelled(), if may_stop => {
                self.end_early(EarlyEnd::Asked);
                // committed at once: the cancellation must hold even if this process dies
                run.commit().await;
            }
            () = run.stop.soft.cancelled(), if !is_draining => {
                self.drained_by = Some(in_time(run.host.environment.grace));
                self.drain();
            }
            () = until(drained_by), if is_draining => return Next::Release,
            () = run.stop.hard.cancelled(), if is_draining => return Next::Release,
            Some(ended) = self.bodies.next(), if !self.bodies.is_empty() => {
                // a body that blocked the thread may have ended after the deadline, in the same
                // poll: then the timeout came first
                match deadline.filter(|(_, at)| *at < Instant::now()) {
                    Some((timeout, _)) => self.end_early(EarlyEnd::TimedOut(timeout)),
                    None => self.body_ended(ended),
                }
            }
            permit = run.host.admission.trials.permit(), if wants_trial => self.begin_trial(permit),
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
            timeout = passed(deadline) => self.end_early(EarlyEnd::TimedOut(timeout)),
            // last: lanes may notify at each end of a task, which must not hold up what is due
            () = run.wake.notified() => {}
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
        if self.early_end.is_some() {
            // a run that is being ended has its own grace period
            return;
        }
        self.run.live.lock().draining = true;
        self.left = !self.bodies.is_empty();
        self.bodies.clear();
    }

    /// Gives the run up. Another process, or a later one, resumes it once nothing of it runs here.
    async fn release(self, started: Option<Timestamp>) -> Result<FinishedRun, Error> {
        let run = &self.run;
        let unkept = || {
            let text = "the runtime stopped or is no longer served, and a store in memory keeps no run for later";
            Some(TaskError::new(Cause::Cancelled, text))
        };
        if !run.durable {
            // no other process could resume it
            let live = &mut *run.live.lock();
            live.plan.abandon();
            run.flush(live);
            let at = run.clock.timestamp();
            run.record(Transition::RunFinished(RunEnd {
                at,
                state: RunState::Cancelled,
                error: unkept(),
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
                    run.host.active.keep(run.facts.id, held);
                }
            }
        }
        run.log.commit().wait().await?;
        if run.durable {
            run.log_release();
        } else {
            let (state, error) = (RunState::Cancelled, unkept());
            let now = run.clock.timestamp();
            let duration = started.map_or(Duration::ZERO, |started| now.since(started));
            run.log_end(state, duration, error.as_ref());
            run.emit_end(state, duration, error);
        }
        run.host.services.flush_logs().await;
        Err(Error::Stopped {
            flow: run.facts.flow.to_owned(),
            run: run.facts.id,
        })
    }

    /// Ends the run early: cancels what has not started, and signals what is running.
    pub(crate) fn end_early(&mut self, why: EarlyEnd) {
        let run = Arc::clone(&self.run);
        match why {
            EarlyEnd::Asked => run.record_cancelling(&mut run.live.lock()),
            // before the token is cancelled: lanes would take that for a request
            EarlyEnd::TimedOut(_) | EarlyEnd::Body(_) => run.live.lock().is_ending = true,
        }
        self.early_end = Some(why);
        self.bodies.clear();
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
}
