//! One attempt of one task, in steps: call the body; poll it; where it waits, say that it runs, and watch time and
//! cancelling; see what came of it; record that; tell the plan.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as Cx, Poll};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cached::Flight;
use super::lane::{AMBIENT, Lane};
use super::limits::Slots;
use super::live::{Live, RunCore};
use super::panic;
use super::plan::{End, Instance, Job, Place, Work};
use crate::clock::micros_between;
use crate::error::{Cause, TaskError};
use crate::event::Event;
use crate::failpoint;
use crate::state::TaskState;
use crate::store::{
    CacheHit, CacheMiss, CacheNote, CacheQuery, Kept, NewEntry, Row, TaskEnd, Transition,
};
use crate::task::{Args, BlockingBody, Body, BodyFuture, Call, Context, TaskDef};
use crate::value::Value;

/// What is known of an attempt.
#[derive(Debug)]
pub(super) struct Attempt {
    at: Instance,
    place: Place,
    number: u16,
    timeout: Option<Duration>,
    pub(super) definition: &'static TaskDef,
    context: Option<Arc<Context>>,
    started: i64,
    finished: i64,
    span: tracing::Span,
    caching: Option<Box<Caching>>,
}

/// What is known of an attempt whose result is to be cached.
#[derive(Debug)]
pub(super) struct Caching {
    pub(super) query: CacheQuery,
    pub(super) miss: CacheMiss,
    pub(super) flight: Flight,
}

/// What came of an attempt.
enum AttemptEnd {
    Returned(Result<Value, TaskError>),
    /// Blocking work that could not be stopped goes on, and its node must not be tried again before it returns.
    Abandoned(TaskError, tokio::task::JoinHandle<()>),
    Cancelled,
}

/// An attempt that was started.
pub(super) enum Started {
    /// It is over already; the lane has its next piece of work.
    Over(Option<Job>),
    /// Something has to be waited for: the body, or a commit.
    Waits(Box<Waiting>),
}

/// An attempt that waits.
pub(super) struct Waiting {
    attempt: Attempt,
    on: On,
}

enum On {
    /// Its start is to be committed first.
    Start(Args, Option<Slots>),
    Body(BodyFuture, Option<Slots>),
    Thread(tokio::task::JoinHandle<Result<Value, TaskError>>),
    /// It is over; what came of it has yet to be concluded.
    Conclusion(AttemptEnd),
}

/// Starts an attempt: calls its body, and polls it once. What is over by that is recorded, and the lane has its next
/// piece of work: so a task that waits for nothing costs no future of ours.
pub(super) fn start(
    run: &Arc<RunCore>,
    lane: &mut Lane,
    job: Job,
    slots: Option<Slots>,
    cx: &mut Cx<'_>,
) -> Started {
    start_with(run, lane, job, slots, None, cx)
}

/// Starts an attempt whose result is to be cached.
pub(super) fn start_cached(
    run: &Arc<RunCore>,
    lane: &mut Lane,
    job: Job,
    slots: Slots,
    caching: Box<Caching>,
    cx: &mut Cx<'_>,
) -> Started {
    start_with(run, lane, job, Some(slots), Some(caching), cx)
}

/// Ends an attempt before its body could be called.
pub(super) async fn fail(run: &Arc<RunCore>, lane: &mut Lane, job: Job, error: TaskError) {
    if let Some((mut attempt, _)) = Attempt::new(run, lane, job, None) {
        attempt.span = run.span(attempt.at, attempt.number);
        attempt
            .conclude(run, lane, AttemptEnd::Returned(Err(error)))
            .await;
    }
}

fn start_with(
    run: &Arc<RunCore>,
    lane: &mut Lane,
    job: Job,
    slots: Option<Slots>,
    caching: Option<Box<Caching>>,
    cx: &mut Cx<'_>,
) -> Started {
    let Some((mut attempt, args)) = Attempt::new(run, lane, job, caching) else {
        return Started::Over(None);
    };
    attempt.announce(run);
    if run.resumed {
        // its process died before: how often it dies while this runs is to be known
        return Started::Waits(Box::new(Waiting {
            attempt,
            on: On::Start(args, slots),
        }));
    }
    let on = match attempt.begin(run, lane, args, slots, cx) {
        On::Conclusion(AttemptEnd::Returned(Ok(value))) => {
            return Started::Over(attempt.end(run, lane, End::Success(value)));
        }
        on => on,
    };
    Started::Waits(Box::new(Waiting { attempt, on }))
}

impl Waiting {
    /// Waits for the attempt's end, and takes the lane's next piece of work.
    pub(super) async fn end(self, run: &Arc<RunCore>, lane: &mut Lane) -> Option<Job> {
        let Self { attempt, mut on } = self;
        if let On::Start(args, slots) = on {
            attempt.record_running(run);
            failpoint::hit("start-recorded");
            run.commit().await;
            failpoint::hit("start-committed");
            lane.settle(run).await;
            // what is left meanwhile begins elsewhere; what could not be recorded does not begin
            let is_off = run.released.load(Ordering::Acquire) || attempt.token(run).is_cancelled();
            let mut given = Some((args, slots)).filter(|_| !is_off);
            let begun = poll_fn(|cx| {
                let begun = given
                    .take()
                    .map(|(args, slots)| attempt.begin(run, lane, args, slots, cx));
                Poll::Ready(begun)
            });
            on = begun.await.unwrap_or(On::Conclusion(AttemptEnd::Cancelled));
        } else if matches!(on, On::Body(..) | On::Thread(_)) {
            attempt.record_running(run);
        }
        // who is over does not wait for who is not
        lane.settle(run).await;
        let outcome = match on {
            On::Body(mut body, slots) => {
                let mut outcome = attempt.watch(run, lane, &mut body).await;
                if let Err(panicked) = panic::catch(|| drop(body)) {
                    outcome = AttemptEnd::Returned(Err(TaskError::panicked(&panicked)));
                }
                drop(slots);
                lane.now = run.runtime.clock.micros();
                outcome
            }
            On::Thread(handle) => {
                let outcome = attempt.watch_blocking(run, lane, handle).await;
                lane.now = run.runtime.clock.micros();
                outcome
            }
            On::Conclusion(outcome) => outcome,
            On::Start(..) => return None,
        };
        attempt.conclude(run, lane, outcome).await
    }
}

/// A body that was called.
enum Called {
    Over(Result<Value, TaskError>),
    Waits(BodyFuture, Option<Slots>),
    Thread(tokio::task::JoinHandle<Result<Value, TaskError>>),
}

impl Attempt {
    fn new(
        run: &RunCore,
        lane: &Lane,
        job: Job,
        caching: Option<Box<Caching>>,
    ) -> Option<(Self, Args)> {
        let Job {
            at,
            place,
            attempt: number,
            timeout,
            work,
        } = job;
        let Work::Task { definition, args } = work else {
            return None;
        };
        let context = definition.cooperative.then(|| run.context(at, number));
        let (started, span) = (lane.now, tracing::Span::none());
        Some((
            Self {
                at,
                place,
                number,
                timeout,
                definition,
                context,
                started,
                finished: 0,
                span,
                caching,
            },
            args,
        ))
    }

    pub(super) fn node(&self) -> u32 {
        self.at.node
    }

    /// Tells those who listen that the attempt starts.
    fn announce(&mut self, run: &RunCore) {
        self.span = run.span(self.at, self.number);
        tracing::debug!(parent: &self.span, "attempt starts");
        run.runtime.events.emit(|| Event::TaskStarted {
            run: run.facts.id,
            key: run.live.lock().plan.key(self.at),
            attempt: u32::from(self.number),
        });
    }

    /// Calls the body, and polls it once.
    fn begin(
        &self,
        run: &RunCore,
        lane: &mut Lane,
        args: Args,
        slots: Option<Slots>,
        cx: &mut Cx<'_>,
    ) -> On {
        let call = Call::new(args, &run.runtime.resources, self.context.clone());
        match self.call(run, call, slots, cx) {
            Called::Waits(body, slots) => On::Body(body, slots),
            Called::Thread(handle) => On::Thread(handle),
            Called::Over(result) => {
                lane.now = run.runtime.clock.micros();
                On::Conclusion(AttemptEnd::Returned(result))
            }
        }
    }

    /// Calls the body, which takes its inputs, and polls it once. Users' code runs here: projections of inputs, too.
    fn call(
        &self,
        run: &RunCore,
        mut call: Call<'_>,
        slots: Option<Slots>,
        cx: &mut Cx<'_>,
    ) -> Called {
        let mock = run.runtime.mock_of(self.definition);
        let _entered = self.span.enter();
        let called = panic::catch(|| {
            let mut body = match (mock, &self.definition.body) {
                (Some(mock), _) => mock.body(&mut call),
                (None, Body::Async(body)) => body(&mut call),
                (None, Body::Blocking(body)) => return self.call_blocking(body(&mut call), slots),
            };
            match body.as_mut().poll(cx) {
                Poll::Pending => Called::Waits(body, slots),
                Poll::Ready(result) => {
                    drop(body);
                    Called::Over(result)
                }
            }
        });
        called.unwrap_or_else(|panicked| Called::Over(Err(TaskError::panicked(&panicked))))
    }

    /// Calls a blocking body, on a thread where it may block.
    fn call_blocking(&self, body: BlockingBody, slots: Option<Slots>) -> Called {
        let (span, ambient) = (self.span.clone(), AMBIENT.try_with(Clone::clone).ok());
        Called::Thread(tokio::task::spawn_blocking(move || {
            let result = panic::catch(|| match ambient {
                Some(ambient) => AMBIENT.sync_scope(ambient, || span.in_scope(body)),
                None => span.in_scope(body),
            });
            // freed by the thread that used them, whatever became of the attempt
            drop(slots);
            result.unwrap_or_else(|panicked| Err(TaskError::panicked(&panicked)))
        }))
    }

    fn poll(&self, body: &mut BodyFuture, cx: &mut Cx<'_>) -> Poll<Result<Value, TaskError>> {
        let _entered = self.span.enter();
        match panic::catch(|| body.as_mut().poll(cx)) {
            Ok(poll) => poll,
            Err(panicked) => Poll::Ready(Err(TaskError::panicked(&panicked))),
        }
    }

    /// Waits for an async body, and watches time and cancelling meanwhile.
    async fn watch(
        &self,
        run: &Arc<RunCore>,
        lane: &mut Lane,
        body: &mut BodyFuture,
    ) -> AttemptEnd {
        lane.wait(run);
        let cancel = self.token(run);
        let deadline = self.deadline(run);
        let mut polled = poll_fn(|cx| self.poll(body, cx));
        tokio::select! {
            biased;
            result = &mut polled => return AttemptEnd::Returned(result),
            () = cancel.cancelled() => {}
            timeout = passed(deadline) => return AttemptEnd::Returned(Err(TaskError::timed_out(timeout))),
        }
        // a body that asked for its cancellation sees to its own end; another is dropped
        if !self
            .context
            .as_ref()
            .is_some_and(|context| context.has_asked())
        {
            return AttemptEnd::Cancelled;
        }
        match tokio::time::timeout(run.runtime.grace, polled).await {
            Ok(Ok(value)) => AttemptEnd::Returned(Ok(value)),
            Ok(Err(_)) | Err(_) => AttemptEnd::Cancelled,
        }
    }

    /// Waits for blocking work, which cannot be stopped, only left alone.
    async fn watch_blocking(
        &self,
        run: &Arc<RunCore>,
        lane: &mut Lane,
        mut handle: tokio::task::JoinHandle<Result<Value, TaskError>>,
    ) -> AttemptEnd {
        lane.wait(run);
        let cancel = self.token(run);
        let deadline = self.deadline(run);
        let timed_out = tokio::select! {
            biased;
            joined = &mut handle => match joined {
                Ok(result) => return AttemptEnd::Returned(result),
                // the tokio runtime shuts down, and this lane with it: nobody asked for the end of the run
                Err(_) => std::future::pending().await,
            },
            () = cancel.cancelled() => None,
            timeout = passed(deadline) => Some(timeout),
        };
        if let Some(context) = &self.context {
            context.cancel();
        }
        if let Some(timeout) = timed_out {
            return AttemptEnd::Abandoned(TaskError::timed_out(timeout), returned(handle));
        }
        match tokio::time::timeout(run.runtime.grace, &mut handle).await {
            Ok(Ok(Ok(value))) => AttemptEnd::Returned(Ok(value)),
            _ => AttemptEnd::Cancelled,
        }
    }

    /// When the attempt has taken too long: its first poll counts.
    fn deadline(&self, run: &RunCore) -> Option<(Duration, Instant)> {
        let timeout = self.timeout?;
        let passed = micros_between(self.started, run.runtime.clock.micros());
        Some((timeout, Instant::now() + timeout.saturating_sub(passed)))
    }

    fn token(&self, run: &RunCore) -> CancellationToken {
        let live = run.live.lock();
        let scope = live.plan.wiring.nodes[self.at.node as usize].scope;
        live.scopes[scope as usize].cancel.clone()
    }

    /// Says that the attempt is under way; nobody waits for this.
    fn record_running(&self, run: &RunCore) {
        run.record(Transition::Task(self.row(TaskState::Running, 0, None)));
        run.log.commit_soon();
    }

    fn row(&self, state: TaskState, finished: i64, error: Option<TaskError>) -> TaskEnd {
        let row = Row {
            started: self.started,
            finished,
            error,
            attempts: self.number,
            state,
            ..Row::PENDING
        };
        let note = self
            .caching
            .as_ref()
            .map(|caching| Box::new(CacheNote::Missed(caching.miss)));
        TaskEnd {
            note,
            ..TaskEnd::new(self.place.frame, self.place.cell, row)
        }
    }

    /// Records what came of the attempt, tells the plan, and takes the next piece of work.
    async fn conclude(
        self,
        run: &Arc<RunCore>,
        lane: &mut Lane,
        outcome: AttemptEnd,
    ) -> Option<Job> {
        let (result, abandoned) = match outcome {
            AttemptEnd::Returned(result) => (result, None),
            AttemptEnd::Abandoned(error, returned) => (Err(error), Some(returned)),
            AttemptEnd::Cancelled => (Err(TaskError::cancelled()), None),
        };
        let end = match result {
            Ok(value) => End::Success(value),
            Err(error) if error.is_cancelled() => {
                tracing::info!(parent: &self.span, task = run.loose_key(self.at), "task cancelled");
                End::Cancelled
            }
            Err(error) if error.is_skipped() => {
                tracing::info!(parent: &self.span, task = run.loose_key(self.at), "task skipped: {error}");
                End::Skipped(error)
            }
            Err(error) => {
                let (policy, key, tries) = run.live.lock().plan.policy(self.at);
                match policy.next_delay(&error, tries, run.facts.id, &key) {
                    Some(delay) if !run.cancel.is_cancelled() => {
                        return self.retry(run, lane, error, key, delay, abandoned).await;
                    }
                    _ => End::Failed(error),
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

    /// Records the end. Where nobody has to wait for the commit, the plan is told at once; else the lane does when it
    /// is committed. Gives the next piece of work, if there is one before that.
    fn end(mut self, run: &Arc<RunCore>, lane: &mut Lane, mut end: End) -> Option<Job> {
        if let (true, End::Success(value)) = (run.runtime.simulated, &end) {
            end = self
                .through_encoding(run, value)
                .map_or_else(End::Failed, End::Success);
        }
        let (result, end) = match &end {
            // its `Serialize` is a user's code
            End::Success(value) => match panic::catch(|| run.log.encode(value)) {
                Ok(Ok(result)) => (result, end),
                Ok(Err(problem)) => {
                    let text = format!("its result cannot be kept: {problem}");
                    (None, End::Failed(TaskError::new(Cause::Fatal, text)))
                }
                Err(panicked) => (None, End::Failed(TaskError::panicked(&panicked))),
            },
            _ => (None, end),
        };
        failpoint::hit("body-over");
        self.finished = lane.now;
        match &end {
            End::Failed(error) => {
                tracing::error!(parent: &self.span, task = run.loose_key(self.at), "task failed: {error}");
            }
            End::Success(_) => tracing::debug!(parent: &self.span, "task succeeded"),
            _ => {}
        }
        let row = self.row(end.state(), self.finished, end.error().cloned());
        let cache = match (&self.caching, &end) {
            (Some(caching), End::Success(value)) => {
                let kept = result
                    .clone()
                    .map_or_else(|| Kept::Live(value.clone()), Kept::Encoded);
                let hit = CacheHit {
                    run: run.facts.id,
                    created: self.finished,
                    result: kept,
                };
                Some(Box::new(NewEntry {
                    query: caching.query.clone(),
                    hit,
                }))
            }
            _ => None,
        };
        let live = &mut *run.live.lock();
        if !(live.plan.is_changed && matches!(end, End::Cancelled)) {
            run.record(Transition::Task(TaskEnd {
                result,
                cache,
                ..row
            }));
        }
        failpoint::hit("end-recorded");
        lane.resume(live);
        if run.durable {
            return lane.ended(run, live, self, end);
        }
        lane.landed.extend(self.finish(run, live, end));
        lane.take(run, live)
    }

    /// Tells the plan of the end, which is recorded. Gives back the flight that is over with it.
    pub(super) fn finish(self, run: &RunCore, live: &mut Live, end: End) -> Option<Flight> {
        let flight = self.caching.map(|caching| caching.flight);
        if run.released.load(Ordering::Acquire) {
            return flight;
        }
        if run.runtime.events.is_heard() {
            let duration = micros_between(self.started, self.finished);
            run.emit_finished(
                live,
                self.at,
                end.state(),
                self.number,
                duration,
                end.error(),
            );
        }
        live.plan.finish(self.at, end);
        flight
    }

    async fn retry(
        self,
        run: &Arc<RunCore>,
        lane: &mut Lane,
        error: TaskError,
        key: String,
        delay: Duration,
        abandoned: Option<tokio::task::JoinHandle<()>>,
    ) -> Option<Job> {
        let (attempt, shown) = (u32::from(self.number), humantime::format_duration(delay));
        tracing::warn!(parent: &self.span, task = run.loose_key(self.at), "attempt failed, next in {shown}: {error}");
        run.runtime.events.emit(|| Event::TaskRetrying {
            run: run.facts.id,
            key,
            attempt,
            delay,
            error: error.clone(),
        });
        let due = lane
            .now
            .saturating_add(i64::try_from(delay.as_micros()).unwrap_or(i64::MAX));
        let retrying = self.row(TaskState::Retrying, due, Some(error));
        run.record(Transition::Task(TaskEnd {
            failed: Some(lane.now),
            ..retrying
        }));
        failpoint::hit("retry-recorded");
        let (at, due) = (self.at, Instant::now() + delay);
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
                tokio::spawn(async move {
                    let _ = returned.await;
                    run.live.lock().retry_at(at, due);
                    run.wake.notify_one();
                });
            }
        }
        lane.resume(live);
        lane.take(run, live)
    }
}

/// Waits until a deadline has passed, and says what the timeout was; without one, for ever.
async fn passed(deadline: Option<(Duration, Instant)>) -> Duration {
    match deadline {
        Some((timeout, at)) => {
            tokio::time::sleep_until(at).await;
            timeout
        }
        None => std::future::pending().await,
    }
}

/// Tells when blocking work has returned, whatever it returned.
fn returned(
    handle: tokio::task::JoinHandle<Result<Value, TaskError>>,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let _ = handle.await;
    })
}
