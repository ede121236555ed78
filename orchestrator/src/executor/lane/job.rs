//! The job of a lane: one attempt of a task is executed, its outcome is recorded, and the plan is
//! updated.
//!
//! The steps, of which most tasks take only those in the first column:
//!
//! ```text
//! announce
//!    │ ───────────► record the start, and commit it      a retry, or a run that was taken over:
//!    │ ◄───────────────────┘                             its death must be known by its number
//! call the body
//!    │ ───────────► record the start; wait for the end   the body waits, or blocks a thread
//!    │ ◄───────────────────┘
//! conclude ───────► record the retry, and commit it; be ready again when it is due, or cancelled
//!    │
//! record the end
//!    │ ───────────► wait for the commit                  a durable run; many ends have one commit
//!    │ ◄───────────────────┘
//! tell the plan, and take the next job
//! ```

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as Cx, Poll};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::super::attempt::{Attempt, AttemptOutcome, CancelSignal, RunningAttempt, Site, Started};
use super::super::flight::Flight;
use super::super::run::ActiveRun;
use super::super::slots::Slots;
use super::{EndedTask, Lane};
use crate::clock::in_time;
use crate::error::{Cause, TaskError};
use crate::failpoint;
use crate::journal::{
    CacheHit, CacheMiss, CacheNote, CacheQuery, CellState, NewCacheEntry, ResultValue, RowPlace,
    TaskEnd, Transition,
};
use crate::plan::{End, Instance, Job, Work};
use crate::secret::Secret;
use crate::task::Args;

/// A task that a lane took from the plan, with its current attempt.
#[derive(Debug)]
pub(super) struct TaskJob {
    pub(super) at: Instance,
    place: RowPlace,
    pub(super) attempt: Attempt,
    caching: Option<Box<Caching>>,
}

/// The cache data of a task whose result is to be cached.
#[derive(Debug)]
pub(super) struct Caching {
    pub(super) query: CacheQuery,
    pub(super) miss: CacheMiss,
    pub(super) flight: Flight,
    /// The texts of the task's variables, which are a part of the key.
    pub(super) variables: Arc<[Secret]>,
}

/// The progress of a task after its first poll.
pub(super) enum Progress {
    /// The task has ended; contains the lane's next job if there is one before the commit.
    Ended(Option<Job>),
    /// The task waits for its body or for a commit.
    Waits(Box<PendingTask>),
}

/// A task that waits.
pub(super) struct PendingTask {
    job: TaskJob,
    step: JobStep,
}

/// The next step of a task that waits.
enum JobStep {
    /// Commit its start, then call its body.
    Begin(Args, Option<Slots>),
    /// Wait for its body.
    Run(RunningAttempt),
    /// Conclude from its outcome.
    Conclude(AttemptOutcome),
}

/// Starts an attempt of a task. If its body succeeds at once, records the end and returns the
/// lane's next job without waiting.
pub(super) fn start(
    run: &Arc<ActiveRun>,
    lane: &mut Lane,
    job: Job,
    slots: Option<Slots>,
    caching: Option<Box<Caching>>,
    cx: &mut Cx<'_>,
) -> Progress {
    let Some((mut job, args)) = TaskJob::new(run, lane, job, caching) else {
        return Progress::Ended(None);
    };
    job.announce(run);
    if run.resumed || (run.durable && job.attempt.number > 1) {
        let step = JobStep::Begin(args, slots);
        return Progress::Waits(Box::new(PendingTask { job, step }));
    }
    match job.begin(run, lane, args, slots, cx) {
        JobStep::Conclude(AttemptOutcome::Returned(Ok(value))) => {
            Progress::Ended(job.end(run, lane, End::Success(value)))
        }
        step => Progress::Waits(Box::new(PendingTask { job, step })),
    }
}

/// Ends an attempt of a task with an error, before its body could be called.
pub(super) async fn fail(run: &Arc<ActiveRun>, lane: &mut Lane, job: Job, error: TaskError) {
    if let Some((mut job, _)) = TaskJob::new(run, lane, job, None) {
        job.attempt.span = run.attempt_span(job.at, job.attempt.number);
        job.conclude(run, lane, AttemptOutcome::failed(error)).await;
    }
}

impl PendingTask {
    /// Returns `true` if the body has ended.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.step, JobStep::Conclude(_))
    }

    /// Waits for the end of the task, and takes the lane's next job.
    pub(super) async fn end(self, run: &Arc<ActiveRun>, lane: &mut Lane) -> Option<Job> {
        let Self { mut job, mut step } = self;
        if let JobStep::Begin(args, slots) = step {
            job.record_running(run);
            failpoint::hit("start-recorded");
            run.commit().await;
            failpoint::hit("start-committed");
            lane.settle(run).await;
            step = job.begin_recorded(run, lane, args, slots).await;
        } else if matches!(step, JobStep::Run(_)) {
            job.record_running(run);
        }
        // ended tasks are committed now: they must not wait for a body that may take hours
        lane.settle(run).await;
        let outcome = match step {
            JobStep::Begin(..) => return None,
            JobStep::Conclude(outcome) => outcome,
            JobStep::Run(running) => {
                lane.deactivate(run);
                let cancelling = job.cancelling(run);
                let (at, pulse) = (job.at, Arc::clone(&lane.pulse));
                let site = Site {
                    environment: &run.host.environment,
                    clock: &run.clock,
                    pulse: &pulse,
                    on_thread: &|body| run.on_thread(at, body),
                };
                let outcome = running.end(&mut job.attempt, &site, cancelling).await;
                lane.now = job.attempt.finished;
                outcome
            }
        };
        job.conclude(run, lane, outcome).await
    }
}

impl TaskJob {
    fn new(
        run: &ActiveRun,
        lane: &Lane,
        job: Job,
        caching: Option<Box<Caching>>,
    ) -> Option<(Self, Args)> {
        let Work::Task {
            definition: task,
            args,
        } = job.work
        else {
            return None;
        };
        let context = task.cooperative.then(|| run.context(job.at, job.attempt));
        let attempt = Attempt {
            task,
            number: job.attempt,
            timeout: job.timeout,
            context,
            variables: caching
                .as_ref()
                .map_or_else(Arc::default, |caching| Arc::clone(&caching.variables)),
            taken: Vec::new(),
            span: tracing::Span::none(),
            started: lane.now,
            finished: lane.now,
        };
        let (at, place) = (job.at, job.place);
        let job = Self {
            at,
            place,
            attempt,
            caching,
        };
        Some((job, args))
    }

    /// Tells that the attempt starts.
    fn announce(&mut self, run: &ActiveRun) {
        self.attempt.span = run.attempt_span(self.at, self.attempt.number);
        run.tell_attempt_started(&self.attempt, self.at);
    }

    /// Calls the body, and polls it once.
    fn begin(
        &mut self,
        run: &ActiveRun,
        lane: &mut Lane,
        args: Args,
        slots: Option<Slots>,
        cx: &mut Cx<'_>,
    ) -> JobStep {
        let (environment, at) = (&run.host.environment, self.at);
        lane.pulse.begin(at);
        let site = Site {
            environment,
            clock: &run.clock,
            pulse: &lane.pulse,
            on_thread: &|body| run.on_thread(at, body),
        };
        match self.attempt.start(args, slots, &site, cx) {
            Started::Running(running) => JobStep::Run(running),
            Started::Ended(outcome) => {
                lane.now = self.attempt.finished;
                JobStep::Conclude(outcome)
            }
        }
    }

    /// Calls the body of an attempt whose start is recorded. If the run was released or cancelled
    /// meanwhile, the body is not called: another process may be executing it, or it should not run
    /// at all.
    async fn begin_recorded(
        &mut self,
        run: &ActiveRun,
        lane: &mut Lane,
        args: Args,
        slots: Option<Slots>,
    ) -> JobStep {
        if run.released.load(Ordering::Acquire) || self.token(run).is_cancelled() {
            return JobStep::Conclude(AttemptOutcome::Cancelled);
        }
        let mut given = Some((args, slots));
        let begun = poll_fn(|cx| {
            let begun = given.take();
            Poll::Ready(begun.map(|(args, slots)| self.begin(run, lane, args, slots, cx)))
        });
        begun
            .await
            .unwrap_or(JobStep::Conclude(AttemptOutcome::Cancelled))
    }

    fn token(&self, run: &ActiveRun) -> CancellationToken {
        run.live.lock().token(self.at.node).clone()
    }

    /// Returns the token and the grace period of the attempt's cancellation. The token of a
    /// clean-up task is cancelled after its grace period.
    fn cancelling(&self, run: &ActiveRun) -> CancelSignal {
        let live = run.live.lock();
        let node = &live.plan.wiring.nodes[self.at.node];
        CancelSignal {
            token: live.token(self.at.node).clone(),
            grace: match node.policy.run_on_cancel {
                true => Duration::ZERO,
                false => run.host.environment.grace,
            },
        }
    }

    /// Records that the attempt is running, without waiting for the commit.
    fn record_running(&self, run: &ActiveRun) {
        let live = run.live.lock();
        let is_on_trial = run.resumed && live.plan.on_trial() == Some(self.at);
        let alone = is_on_trial && !run.host.admission.trials.company.any();
        let since = self.attempt.started;
        let started = self.changed(CellState::Running { since }, None);
        // recorded under the lock, like every transition of a task, so that the log has the order
        // of the plan
        run.record(Transition::Task(TaskEnd { alone, ..started }));
        drop(live);
        run.log.commit_soon();
    }

    fn changed(&self, state: CellState, error: Option<TaskError>) -> TaskEnd {
        let note = self.caching.as_ref();
        let note = note.map(|caching| Box::new(CacheNote::Missed(caching.miss)));
        TaskEnd {
            note,
            error,
            ..TaskEnd::new(self.place, state, self.attempt.number)
        }
    }

    /// Concludes from the outcome of the attempt: the task is retried, or has ended.
    async fn conclude(
        self,
        run: &Arc<ActiveRun>,
        lane: &mut Lane,
        outcome: AttemptOutcome,
    ) -> Option<Job> {
        if let AttemptOutcome::Returned(Err(error)) = &outcome
            && *error.cause() == Cause::Reconnect
        {
            self.attempt.discard_clients(&run.host.environment);
        }
        let (result, abandoned) = match outcome {
            AttemptOutcome::Returned(result) => (result, None),
            AttemptOutcome::Abandoned(error, returned) => (Err(error), Some(returned)),
            AttemptOutcome::Cancelled => (Err(TaskError::cancelled()), None),
        };
        let end = match result {
            Ok(value) => End::Success(value),
            Err(error) if error.is_cancelled() => End::Cancelled,
            Err(error) if error.is_skipped() => End::Skipped(error),
            Err(error) => {
                let (policy, key, tries) = run.live.lock().plan.policy(self.at);
                match policy.next_delay(&error, tries, run.facts.id, &key) {
                    // also if the run is being cancelled: the plan cancels the retry, and if the
                    // process dies before the request is recorded, the resumed run makes it
                    Ok(Some(delay)) => {
                        return self.retry(run, lane, error, key, delay, abandoned).await;
                    }
                    Ok(None) => End::Failed(error),
                    Err(panicked) => End::Failed(TaskError::new(
                        Cause::Panicked,
                        format!(
                            "{error}; whether to try again is not known: its `retry_if` {panicked}"
                        ),
                    )),
                }
            }
        };
        match self.end(run, lane, end) {
            None => {
                lane.settle(run).await;
                lane.tell(run)
            }
            next => next,
        }
    }

    /// Records the end. If the run is durable, the lane updates the plan after the commit;
    /// otherwise the plan is updated at once. Returns the next job if there is one before the
    /// commit.
    fn end(self, run: &Arc<ActiveRun>, lane: &mut Lane, mut end: End) -> Option<Job> {
        if let (true, End::Success(value)) = (run.host.simulated, &end) {
            end = self
                .through_encoding(run, value)
                .map_or_else(End::Failed, End::Success);
        }
        let (result, end) = match &end {
            End::Success(value) => match run.log.encode(value) {
                Ok(result) => (result, end),
                Err(problem) => {
                    let text = format!("its result cannot be kept: {problem}");
                    (None, End::Failed(TaskError::new(Cause::Fatal, text)))
                }
            },
            _ => (None, end),
        };
        failpoint::hit("body-over");
        run.log_task_end(&self.attempt, self.at, &end);
        let finished = self.attempt.finished;
        let state = CellState::Ended {
            state: end.state(),
            started: Some(self.attempt.started),
            at: finished,
        };
        let change = self.changed(state, end.error().cloned());
        let cache = match (&self.caching, &end) {
            (Some(caching), End::Success(value)) => {
                let result = result
                    .clone()
                    .map_or_else(|| ResultValue::Live(value.clone()), ResultValue::Encoded);
                let hit = CacheHit {
                    run: run.facts.id,
                    created: finished,
                    result,
                };
                let query = caching.query.clone();
                Some(Box::new(NewCacheEntry { query, hit }))
            }
            _ => None,
        };
        let live = &mut *run.live.lock();
        // a success without a context cannot follow from a request to cancel the run
        let may_follow = self.attempt.context.is_some() || !matches!(end, End::Success(_));
        if may_follow && run.cancel.is_cancelled() {
            run.record_cancelling(live);
        }
        if !(live.plan.is_changed && matches!(end, End::Cancelled)) {
            run.record(Transition::Task(TaskEnd {
                result,
                cache,
                ..change
            }));
        }
        failpoint::hit("end-recorded");
        lane.activate(live);
        if run.durable {
            return lane.ended(run, live, self.ended(end));
        }
        self.ended(end).tell(run, live, &mut lane.ended_flights);
        lane.take(run, live)
    }

    /// Converts the job to the update for the plan.
    fn ended(self, end: End) -> EndedTask {
        let Attempt {
            number,
            started,
            finished,
            ..
        } = self.attempt;
        EndedTask {
            at: self.at,
            attempts: number,
            took: finished.since(started),
            end,
            flight: self.caching.map(|caching| caching.flight),
        }
    }

    /// Records that the task is retried after a delay, and schedules the retry, which is cancelled
    /// at once if the run is. If its blocking body is still running, the retry is scheduled when
    /// the body has returned: two attempts must not run at once.
    async fn retry(
        self,
        run: &Arc<ActiveRun>,
        lane: &mut Lane,
        error: TaskError,
        key: String,
        delay: Duration,
        abandoned: Option<JoinHandle<()>>,
    ) -> Option<Job> {
        run.tell_retry(&self.attempt, self.at, key, delay, &error);
        let due = run.host.services.clock.timestamp().after(delay);
        let retrying = CellState::Retrying {
            started: self.attempt.started,
            failed: Some(self.attempt.finished),
            due,
        };
        let change = self.changed(retrying, Some(error));
        {
            let _live = run.live.lock();
            run.record(Transition::Task(change));
        }
        failpoint::hit("retry-recorded");
        let (at, due) = (self.at, in_time(delay));
        run.commit().await;
        failpoint::hit("retry-committed");
        let live = &mut *run.live.lock();
        if run.released.load(Ordering::Acquire) {
            return None;
        }
        live.plan.retry_later(at);
        match abandoned {
            None => {
                live.retry_at(at, due);
                run.wake.notify_one();
            }
            Some(returned) => {
                let run = Arc::clone(run);
                run.tokio.clone().spawn(async move {
                    let _ = returned.await;
                    run.live.lock().retry_at(at, due);
                    run.wake.notify_one();
                });
            }
        }
        lane.activate(live);
        lane.take(run, live)
    }
}
