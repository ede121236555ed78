//! Retries, timeouts, skips, panics; which failures make a run red.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use orchestrator::prelude::*;
use orchestrator::{Clock, Delay, TaskOptions};
use tokio::time::Instant;

#[task]
async fn fails(text: &str) -> Result<u32> {
    Err(text.into())
}

#[task]
async fn skips(reason: &str) -> Result<u32> {
    Err(skip(reason).into())
}

#[task]
async fn one() -> u32 {
    1
}

#[task]
async fn inc(n: u32) -> u32 {
    n + 1
}

#[task]
async fn describe(n: Outcome<u32>) -> String {
    match n {
        Outcome::Success(n) => format!("success {n}"),
        Outcome::Failed(error) => format!("failed {error}"),
        Outcome::Skipped(reason) => format!("skipped {reason}"),
        Outcome::UpstreamFailed => "upstream failed".to_owned(),
    }
}

#[task]
async fn fails_on_it(n: Outcome<u32>) -> Result<u32> {
    Err(format!("cannot use {}", n.is_success()).into())
}

#[task]
async fn clean_up() {}

#[task]
async fn maybe(n: Option<u32>) -> u32 {
    n.unwrap_or_default()
}

async fn state<T: orchestrator::Data>(flow: Flow<T>) -> RunState {
    flow.on(&crate::support::runtime())
        .run()
        .await
        .unwrap()
        .state()
}

#[tokio::test]
async fn a_run_is_red_when_a_failure_was_not_handled() {
    #[flow]
    fn nobody_takes_it() {
        fails("x");
    }
    #[flow]
    fn taken_as_outcome() -> Node<String> {
        describe(fails("x"))
    }
    #[flow]
    fn taken_far_away() -> Node<String> {
        describe(inc(inc(fails("x"))))
    }
    #[flow]
    fn taken_twice_handled_once() -> Node<String> {
        let failed = fails("x");
        inc(&failed);
        describe(failed)
    }
    #[flow]
    fn taken_twice_handled_twice() -> Node<String> {
        let failed = fails("x");
        describe(&failed);
        describe(failed)
    }
    #[flow]
    fn handler_fails() -> Node<String> {
        describe(fails_on_it(fails("x")))
    }
    #[flow]
    fn allowed() {
        fails("x").allow_failure();
    }
    #[flow]
    fn allowed_and_waited_for() {
        clean_up()
            .after(fails("x").allow_failure())
            .trigger(Trigger::AllDone);
    }
    #[flow]
    fn cleaned_up() {
        clean_up().after(fails("x")).trigger(Trigger::AllDone);
    }
    #[flow]
    fn optional() -> Node<u32> {
        maybe(fails("x")).trigger(Trigger::AllDone)
    }
    #[flow]
    fn returned_and_handled() -> Node<u32> {
        let failed = fails("x");
        describe(&failed);
        failed
    }
    #[flow(name = "failure_skipped")]
    fn skipped() -> Node<u32> {
        inc(skips("no rows"))
    }
    assert_eq!(state(nobody_takes_it()).await, RunState::Failed);
    assert_eq!(state(taken_as_outcome()).await, RunState::Success);
    assert_eq!(state(taken_far_away()).await, RunState::Success);
    assert_eq!(state(taken_twice_handled_once()).await, RunState::Failed);
    assert_eq!(state(taken_twice_handled_twice()).await, RunState::Success);
    assert_eq!(state(handler_fails()).await, RunState::Failed);
    assert_eq!(state(allowed()).await, RunState::Success);
    assert_eq!(state(allowed_and_waited_for()).await, RunState::Success);
    assert_eq!(state(cleaned_up()).await, RunState::Failed);
    assert_eq!(state(optional()).await, RunState::Failed);
    assert_eq!(state(returned_and_handled()).await, RunState::Failed);
    assert_eq!(state(skipped()).await, RunState::Success);
}

#[tokio::test]
async fn awaiting_a_red_flow_names_the_failures() -> Result<()> {
    #[flow]
    fn red() -> Node<u32> {
        fails("first");
        fails("second").named("other");
        one()
    }
    let error = red()
        .on(&crate::support::runtime())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("task `fails` failed: first")
            && error.contains("task `other` failed: second"),
        "{error}"
    );
    let run = red().on(&crate::support::runtime()).run().await?;
    assert_eq!((run.state(), run.output()), (RunState::Failed, Some(&1)));
    assert_eq!(run.error().unwrap().to_string(), error);
    Ok(())
}

#[tokio::test]
async fn awaiting_a_flow_whose_result_was_skipped_says_so() -> Result<()> {
    #[flow]
    fn nothing() -> Node<u32> {
        inc(skips("no rows"))
    }
    let runtime = crate::support::runtime();
    let error = nothing().on(&runtime).await.unwrap_err();
    assert!(error.is_skipped(), "{error:?}");
    let run = nothing().on(&runtime).run().await?;
    assert_eq!((run.state(), run.output()), (RunState::Success, None));
    assert!(run.error().is_none());
    assert_eq!(
        run.task("skips").unwrap().error().unwrap().to_string(),
        "no rows"
    );
    Ok(())
}

#[tokio::test]
async fn an_outcome_says_what_became_of_it() -> Result<()> {
    let runtime = crate::support::runtime();
    #[flow]
    fn outcomes() -> (Node<String>, Node<String>, Node<String>, Node<String>) {
        (
            describe(one()),
            describe(fails("x")),
            describe(skips("no rows")),
            describe(inc(fails("x"))),
        )
    }
    let (success, failed, skipped, upstream) = outcomes().on(&runtime).await?;
    assert_eq!(success, "success 1");
    assert_eq!(failed, "failed x");
    assert_eq!(skipped, "skipped no rows");
    assert_eq!(upstream, "upstream failed");
    Ok(())
}

static STARTS: Mutex<Vec<Instant>> = Mutex::new(Vec::new());

#[task(retries = 3, retry_delay = "60s", backoff = 2)]
async fn keeps_failing() -> Result<()> {
    STARTS.lock().unwrap().push(Instant::now());
    Err("down".into())
}

#[tokio::test(start_paused = true)]
async fn retries_wait_longer_each_time() -> Result<()> {
    #[flow]
    fn retrying() {
        keeps_failing();
    }
    let run = retrying().on(&crate::support::runtime()).run().await?;
    assert_eq!(run.task("keeps_failing").unwrap().attempts(), 4);
    let starts = STARTS.lock().unwrap().clone();
    let waits: Vec<f64> = starts
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_secs_f64())
        .collect();
    for (wait, base) in waits.iter().zip([60.0, 120.0, 240.0]) {
        assert!((base / 2.0..=base + 0.01).contains(wait), "{waits:?}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_list_of_delays_and_retry_after_are_kept_to() -> Result<()> {
    #[task]
    async fn busy(#[context] context: &Context) -> Result<u32> {
        match context.attempt() {
            1 => Err("first".into()),
            2 => Err(retry_after(Duration::from_secs(1000), "asked too soon").into()),
            attempt => Ok(attempt),
        }
    }
    #[flow(name = "failure_waits")]
    fn waits() -> Node<u32> {
        const DELAYS: &[Duration] = &[Duration::from_secs(7), Duration::from_secs(9)];
        busy().retries(5).retry_delays(DELAYS)
    }
    let started = Instant::now();
    assert_eq!(waits().on(&crate::support::runtime()).await?, 3);
    assert_eq!(started.elapsed().as_secs(), 1007);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn options_are_looked_for_at_the_call_the_task_the_flow_the_runtime() -> Result<()> {
    #[task]
    async fn open() -> Result<u32> {
        Err("x".into())
    }
    #[task(retries = 4)]
    async fn own() -> Result<u32> {
        Err("x".into())
    }
    #[flow(defaults(retries = 3, retry_delay = "1s"))]
    fn layered() {
        own();
        own().retries(1);
        open();
    }
    #[flow(name = "failure_bare")]
    fn bare() {
        open();
    }
    let mut options = TaskOptions::default();
    options.retries = Some(2);
    options.retry_delay = Some(Delay::Fixed(Duration::from_secs(5)));
    let runtime = crate::support::builder()
        .clock(Clock::tokio_from_now())
        .defaults(options)
        .build()
        .await?;
    let run = layered().on(&runtime).run().await?;
    let attempts = |key: &str| run.task(key).unwrap().attempts();
    assert_eq!(
        (attempts("own"), attempts("own#2"), attempts("open")),
        (5, 2, 4)
    );
    let run = bare().on(&runtime).run().await?;
    assert_eq!(run.task("open").unwrap().attempts(), 3);
    Ok(())
}

fn is_transient(error: &TaskError) -> bool {
    error.to_string().contains("transient")
}

#[tokio::test]
async fn retry_if_decides_which_errors_are_retried() -> Result<()> {
    #[task(retries = 2, retry_if = is_transient)]
    async fn picky(text: &str) -> Result<u32> {
        Err(text.into())
    }
    #[flow(name = "failure_both")]
    fn both() {
        picky("transient: connection reset");
        picky("no such table");
    }
    let run = both().on(&crate::support::runtime()).run().await?;
    assert_eq!(run.task("picky").unwrap().attempts(), 3);
    assert_eq!(run.task("picky#2").unwrap().attempts(), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_tried_again() -> Result<()> {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    #[task(retries = 1, timeout = "10s")]
    async fn slow_once() -> u32 {
        if CALLS.fetch_add(1, SeqCst) == 0 {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        5
    }
    #[flow]
    fn flaky() -> Node<u32> {
        slow_once()
    }
    let started = Instant::now();
    let run = flaky().on(&crate::support::runtime()).run().await?;
    assert_eq!(
        (run.output(), run.task("slow_once").unwrap().attempts()),
        (Some(&5), 2)
    );
    assert_eq!(started.elapsed().as_secs(), 10);
    Ok(())
}

#[tokio::test]
async fn a_panic_is_a_failure_with_its_message_and_place() -> Result<()> {
    #[task]
    async fn panics() -> u32 {
        panic!("a number is {}", 42)
    }
    #[task]
    fn panics_blocking() -> u32 {
        panic!("in a thread")
    }
    #[task]
    async fn panics_later() -> u32 {
        tokio::task::yield_now().await;
        panic!("after a wait")
    }
    #[flow(name = "failure_panicking")]
    fn panicking() {
        panics();
        panics_blocking();
        panics_later();
    }
    #[flow]
    fn body_panics() -> Node<u32> {
        panic!("in the flow")
    }
    #[flow]
    async fn async_body_panics() -> Result<u32> {
        one().await?;
        panic!("in the async flow")
    }
    let runtime = crate::support::runtime();
    let run = panicking().on(&runtime).run().await?;
    for (key, message) in [
        ("panics", "a number is 42"),
        ("panics_blocking", "in a thread"),
        ("panics_later", "after a wait"),
    ] {
        let _case = crate::support::case(key);
        let error = run.task(key).unwrap().error().unwrap();
        let text = error.to_string();
        assert!(
            error.is_panic() && text.contains(message) && text.contains("failure.rs:"),
            "{text}"
        );
    }
    let run = body_panics().on(&runtime).run().await?;
    assert_eq!(run.state(), RunState::Failed);
    assert!(run.error().unwrap().to_string().contains("in the flow"));
    let run = async_body_panics().on(&runtime).run().await?;
    assert_eq!(run.state(), RunState::Failed);
    assert!(
        run.error()
            .unwrap()
            .to_string()
            .contains("in the async flow")
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn jitter_is_the_same_for_the_same_seed() -> Result<()> {
    #[task(retries = 2, retry_delay = "100s", backoff = 3)]
    async fn down() -> Result<u32> {
        Err("down".into())
    }
    #[flow]
    fn jittered() {
        down();
    }
    async fn takes(seed: u64) -> Result<Duration> {
        let start = "2026-01-01T00:00:00Z".parse()?;
        let runtime = crate::support::builder()
            .clock(Clock::tokio(start))
            .seed(seed)
            .build()
            .await?;
        let started = Instant::now();
        jittered().on(&runtime).run().await?;
        Ok(started.elapsed())
    }
    assert_eq!(takes(1).await?, takes(1).await?);
    assert_ne!(takes(1).await?, takes(2).await?);
    Ok(())
}

/// Panics when it is dropped.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Explosive;

impl Drop for Explosive {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("dropped");
        }
    }
}

#[task]
async fn explosive() -> Explosive {
    Explosive
}

#[tokio::test]
async fn values_that_panic_on_drop_harm_no_other_task() -> Result<()> {
    #[flow]
    fn exploding() -> Node<u32> {
        explosive();
        inc(one())
    }
    let run = tokio::time::timeout(
        Duration::from_secs(30),
        exploding().on(&crate::support::runtime()).run(),
    )
    .await??;
    assert!(
        run.tasks().iter().all(|task| task.state().is_final()),
        "{:?}",
        run.tasks()
    );
    assert_eq!((run.state(), run.output()), (RunState::Success, Some(&2)));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn bodies_whose_values_panic_on_drop_leave_a_correct_record() -> Result<()> {
    #[task(timeout = "1s")]
    async fn holds_one() -> u32 {
        let _explosive = Explosive;
        std::future::pending().await
    }
    #[flow]
    fn held_by_a_task() {
        holds_one();
        inc(one());
    }
    #[flow]
    async fn held_by_the_body() -> Result<u32> {
        let _explosive = Explosive;
        std::future::pending().await
    }
    let runtime = crate::support::runtime();
    let run = tokio::time::timeout(Duration::from_secs(60), held_by_a_task().on(&runtime).run())
        .await??;
    assert_eq!(run.state(), RunState::Failed);
    assert_eq!(run.task("holds_one").unwrap().state(), TaskState::Failed);
    assert_eq!(run.task("inc").unwrap().state(), TaskState::Success);
    let handle = held_by_the_body().on(&runtime).start().await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    handle.cancel();
    assert_eq!(
        tokio::time::timeout(Duration::from_secs(60), handle.into_future())
            .await??
            .state(),
        RunState::Cancelled
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn failure_of_an_abandoned_await_is_unhandled() -> Result<()> {
    #[task]
    async fn fails_late() -> Result<u32> {
        tokio::time::sleep(Duration::from_secs(10)).await;
        Err("late".into())
    }
    #[flow]
    async fn stops_waiting() -> Result<u32> {
        tokio::select! {
            result = fails_late().into_future() => Ok(result?),
            () = tokio::time::sleep(Duration::from_secs(1)) => Ok(1),
        }
    }
    let run = stops_waiting().on(&crate::support::runtime()).run().await?;
    assert_eq!((run.state(), run.output()), (RunState::Failed, Some(&1)));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_first_poll_counts_towards_the_timeout() -> Result<()> {
    #[task(timeout = "10s")]
    async fn slow_to_wait() -> u32 {
        tokio::time::advance(Duration::from_secs(9)).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        1
    }
    #[flow]
    fn waits_slowly() -> Node<u32> {
        slow_to_wait()
    }
    assert!(
        waits_slowly()
            .on(&crate::support::runtime())
            .await
            .unwrap_err()
            .to_string()
            .contains("timed out after 10s")
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_recorded_with_its_own_end() -> Result<()> {
    #[task(retries = 2, retry_delay = "1h")]
    async fn third_time(#[context] context: &Context) -> Result<u32> {
        tokio::time::sleep(Duration::from_secs(context.attempt().into())).await;
        if context.attempt() < 3 {
            Err("not yet".into())
        } else {
            Ok(3)
        }
    }
    #[flow(name = "failure_attempts")]
    fn attempts() -> Node<u32> {
        third_time()
    }
    let runtime = crate::support::runtime();
    let run = attempts().on(&runtime).run().await?;
    let took: Vec<_> = runtime
        .attempts(run.id())
        .await?
        .iter()
        .map(|attempt| {
            let took = attempt.finished_at.unwrap() - attempt.started_at;
            (attempt.number, attempt.state, took.num_seconds())
        })
        .collect();
    assert_eq!(
        took,
        [
            (1, TaskState::Failed, 1),
            (2, TaskState::Failed, 2),
            (3, TaskState::Success, 3)
        ]
    );
    Ok(())
}
