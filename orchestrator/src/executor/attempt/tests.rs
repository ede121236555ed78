//! Attempts without a run, a plan and a store.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::task::Poll;

use tokio_util::sync::CancellationToken;

use super::super::clients::Clients;
use super::super::slots::pulse::Pulse;
use super::*;
use crate::clock::Clock;
use crate::task::{Arg, BlockingBody, BodyFuture, Call, Resources, TaskBody};
use crate::vault::Places;

const TIMEOUT: Duration = Duration::from_secs(5);

const fn task(body: TaskBody) -> TaskDef {
    TaskDef::plain("double", body)
}

static AT_ONCE: TaskDef = task(TaskBody::Async(|call| {
    let n: u32 = call.owned(0);
    Box::pin(std::future::ready(Ok(Value::new(2 * n))))
}));

static AFTER: TaskDef = task(TaskBody::Async(|call| {
    let seconds: u32 = call.owned(0);
    Box::pin(async move {
        tokio::time::sleep(Duration::from_secs(seconds.into())).await;
        Ok(Value::new(seconds))
    })
}));

static PANICS: TaskDef = task(TaskBody::Async(panics));

fn panics(_: &mut Call<'_>) -> BodyFuture {
    panic!("no inputs")
}

static ON_A_THREAD: TaskDef = task(TaskBody::Blocking(on_a_thread));

static RETURNED: AtomicU32 = AtomicU32::new(0);

fn on_a_thread(call: &mut Call<'_>) -> BlockingBody {
    let n: u32 = call.owned(0);
    Box::new(move || {
        RETURNED.store(n, SeqCst);
        Ok(Value::new(n))
    })
}

fn clients(clock: &Clock) -> Arc<Clients> {
    let store = Arc::new(crate::store::MemoryStore::default());
    let places = Places::new(HashMap::new(), store, Vec::new());
    Arc::new(Clients::new(places, clock.clone()))
}

/// Executes an attempt, and returns its outcome and how long it took, in milliseconds.
async fn execute(
    task: &'static TaskDef,
    input: u32,
    token: CancellationToken,
) -> (AttemptOutcome, i64) {
    let clock = Clock::tokio(chrono::DateTime::UNIX_EPOCH);
    let environment = Environment {
        resources: Resources::default(),
        clients: clients(&clock),
        mocks: HashMap::new(),
        grace: Duration::ZERO,
    };
    let pulse = Pulse::without_run("", [None, None]);
    let mut attempt = Attempt {
        task,
        number: 1,
        timeout: Some(TIMEOUT),
        context: None,
        variables: Arc::default(),
        taken: Vec::new(),
        span: Span::none(),
        started: clock.timestamp(),
        finished: clock.timestamp(),
    };
    let mut args = Some([Arg::Value(Value::new(input))].into_iter().collect());
    let started = poll_fn(|cx| {
        let site = Site {
            environment: &environment,
            clock: &clock,
            pulse: &pulse,
            on_thread: &|body| (body, Box::new(())),
        };
        let args = args.take().expect("it is polled once");
        Poll::Ready(attempt.start(args, None, &site, cx))
    });
    let outcome = match started.await {
        Started::Ended(outcome) => outcome,
        Started::Running(running) => {
            let cancelling = CancelSignal {
                token,
                grace: environment.grace,
            };
            let site = Site {
                environment: &environment,
                clock: &clock,
                pulse: &pulse,
                on_thread: &|body| (body, Box::new(())),
            };
            running.end(&mut attempt, &site, cancelling).await
        }
    };
    (
        outcome,
        attempt.finished.micros_since(attempt.started) / 1_000,
    )
}

async fn value_of(task: &'static TaskDef, input: u32) -> u32 {
    match execute(task, input, CancellationToken::new()).await {
        (AttemptOutcome::Returned(Ok(value)), _) => *value.get::<u32>(),
        (outcome, _) => panic!("{outcome:?}"),
    }
}

async fn error_of(task: &'static TaskDef, input: u32) -> (String, i64) {
    match execute(task, input, CancellationToken::new()).await {
        (AttemptOutcome::Returned(Err(error)), took) => (error.to_string(), took),
        (outcome, _) => panic!("{outcome:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_needs_no_plan() {
    assert_eq!(value_of(&AT_ONCE, 4).await, 8);
    assert_eq!(value_of(&AFTER, 3).await, 3);
    assert_eq!(value_of(&ON_A_THREAD, 7).await, 7);
    assert_eq!(RETURNED.load(SeqCst), 7);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_ends_with_its_timeout() {
    let (error, took) = error_of(&AFTER, 6).await;
    assert_eq!((error.as_str(), took), ("timed out after 5s", 5_000));
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_body_is_its_error() {
    let (error, _) = error_of(&PANICS, 0).await;
    assert!(
        error.starts_with("panicked at ") && error.ends_with("no inputs"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_attempt_ends_at_its_next_wait() {
    let token = CancellationToken::new();
    let cancel = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        token.cancel();
    };
    let ((outcome, took), ()) = tokio::join!(execute(&AFTER, 4, token.clone()), cancel);
    assert!(matches!(outcome, AttemptOutcome::Cancelled), "{outcome:?}");
    assert_eq!(took, 1_000);
}
