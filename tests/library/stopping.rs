//! Cancelling, time limits, dropping; blocking work that cannot be stopped.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use orchestrator::Clock;
use orchestrator::prelude::*;
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;
use tokio::time::Instant;

#[task]
async fn long() -> u32 {
    tokio::time::sleep(Duration::from_secs(600)).await;
    1
}

#[task]
async fn after(n: u32) -> u32 {
    n + 1
}

#[task(retries = 5, retry_delay = "1h")]
async fn fails() -> Result<u32> {
    Err("down".into())
}

#[flow]
fn long_one() -> Node<u32> {
    after(long())
}

#[tokio::test(start_paused = true)]
async fn cancelled_run_drops_its_pending_and_waiting_tasks() -> Result<()> {
    #[flow(name = "stopping_many")]
    fn many() -> Node<u32> {
        fails();
        expand(vec![1, 2, 3], after).expand(|n| after(long().after(n)));
        after(long())
    }
    let handle = many().on(&crate::support::runtime()).start().await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let started = Instant::now();
    handle.cancel();
    let run = handle.await?;
    assert_eq!(started.elapsed().as_secs(), 0);
    assert_eq!(run.state(), RunState::Cancelled);
    assert!(run.error().unwrap().is_cancelled());
    let state = |key: &str| run.task(key).unwrap().state();
    assert_eq!(state("fails"), TaskState::Cancelled);
    assert_eq!(run.task("fails").unwrap().attempts(), 1);
    assert_eq!(state("after[2]"), TaskState::Success);
    assert_eq!(state("long[1]"), TaskState::Cancelled);
    assert_eq!(state("after#3"), TaskState::Cancelled);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn attempt_that_fails_as_its_run_is_cancelled_keeps_its_error_and_is_not_the_last_word()
-> Result<()> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    // the request waits for a store in a file, so the body is dropped there and does not fail; that case is
    // `a_failure_is_retried_if_its_process_dies_before_the_cancel_of_its_run_is_recorded`
    if crate::support::is_durable() {
        return Ok(());
    }
    #[task]
    async fn cancels_and_fails(waits: bool, #[context] context: &Context) -> Result<u32> {
        if waits {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let runtime = RUNTIME.get().unwrap();
        assert!(runtime.cancel(context.run_id()).await?);
        Err("down".into())
    }
    #[flow(name = "stopping_failing")]
    fn failing(waits: bool, retries: u32) -> Node<u32> {
        cancels_and_fails(waits).retries(retries)
    }
    let runtime = RUNTIME.get_or_init(crate::support::runtime);
    for (waits, retries, expected) in [
        (false, 5, TaskState::Cancelled),
        (true, 5, TaskState::Cancelled),
        (false, 0, TaskState::Failed),
        (true, 0, TaskState::Failed),
    ] {
        let _case = crate::support::case(format_args!("waits {waits}, {retries} retries"));
        let run = failing(waits, retries).on(runtime).run().await?;
        assert_eq!(run.state(), RunState::Cancelled);
        let task = run.task("cancels_and_fails").unwrap();
        assert_eq!((task.state(), task.attempts()), (expected, 1));
        let attempts = runtime.attempts(run.id()).await?;
        let attempts: Vec<_> = attempts
            .iter()
            .map(|attempt| (attempt.state, attempt.error.as_ref().unwrap().to_string()))
            .collect();
        assert_eq!(attempts, [(TaskState::Failed, "down".to_owned())]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_cancelled_if_its_body_ends_after_its_tasks_were_cancelled() -> Result<()> {
    static GO: Notify = Notify::const_new();
    static BLOCKS: Notify = Notify::const_new();
    static RETURNS: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());
    #[flow(name = "stopping_returning")]
    async fn returning(fails: bool) -> Result<u32> {
        let _long = long();
        GO.notified().await;
        BLOCKS.notify_one();
        let mut returns = RETURNS.0.lock();
        let limit = Duration::from_secs(10);
        RETURNS
            .1
            .wait_while_for(&mut returns, |returns| !*returns, limit);
        if fails { Err("down".into()) } else { Ok(1) }
    }
    let runtime = crate::support::builder().build().await?;
    let mut events = runtime.events();
    for fails in [false, true] {
        *RETURNS.0.lock() = false;
        let handle = returning(fails).on(&runtime).start().await?;
        while !matches!(events.next().await, Some(Event::TaskStarted { .. })) {}
        GO.notify_one();
        BLOCKS.notified().await;
        // the body is being polled: the run cannot notice this before its task does
        handle.cancel();
        while !matches!(events.next().await, Some(Event::TaskFinished { .. })) {}
        *RETURNS.0.lock() = true;
        RETURNS.1.notify_one();
        let run = handle.await?;
        let state = run.task("long").unwrap().state();
        assert_eq!(
            (state, run.state()),
            (TaskState::Cancelled, RunState::Cancelled),
            "its body fails: {fails}"
        );
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn abandoned_run_is_cancelled_by_another_process() -> Result<()> {
    let url = format!(
        "sqlite:{}",
        crate::support::new_folder("elsewhere")
            .join("state.db")
            .display()
    );
    let [here, elsewhere] = [
        Runtime::builder().store(&url).build().await?,
        Runtime::builder().store(&url).build().await?,
    ];
    let flow = || long_one().on(&here);
    for _ in 0..2 {
        let handle = flow().start().await?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let started = Instant::now();
        assert!(elsewhere.cancel(handle.id()).await?);
        assert_eq!(handle.await?.state(), RunState::Cancelled);
        assert!(started.elapsed() <= Duration::from_secs(1));
    }
    // a run that is done before anybody looks leaves nothing behind that would
    assert_eq!(flow().run().await?.state(), RunState::Success);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn body_that_checks_is_cancelled_ends_by_itself() -> Result<()> {
    static SAVED: AtomicBool = AtomicBool::new(false);
    #[task]
    async fn saves(#[context] context: &Context) -> u32 {
        context.cancelled().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        SAVED.store(true, SeqCst);
        1
    }
    #[task]
    async fn asks_and_goes_on(#[context] context: &Context) -> u32 {
        while !context.is_cancelled() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        std::future::pending().await
    }
    #[flow]
    fn cooperative() {
        saves();
        asks_and_goes_on();
    }
    let runtime = crate::support::builder()
        .clock(Clock::tokio_from_now())
        .grace(Duration::from_secs(10))
        .build()
        .await?;
    let handle = cooperative().on(&runtime).start().await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let started = Instant::now();
    handle.cancel();
    let run = handle.await?;
    assert!(SAVED.load(SeqCst));
    assert_eq!(started.elapsed().as_secs(), 10);
    assert_eq!(run.task("saves").unwrap().state(), TaskState::Success);
    assert_eq!(
        run.task("asks_and_goes_on").unwrap().state(),
        TaskState::Cancelled
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_run_that_takes_too_long_is_red() -> Result<()> {
    #[flow(name = "stopping_limited", timeout = "1m")]
    fn limited() -> Node<u32> {
        after(long())
    }
    #[flow(timeout = "1m")]
    async fn limited_body() -> Result<u32> {
        Ok(long().await?)
    }
    let runtime = crate::support::runtime();
    let started = Instant::now();
    let run = limited().on(&runtime).run().await?;
    assert_eq!(
        (run.state(), started.elapsed().as_secs()),
        (RunState::Failed, 60)
    );
    assert!(run.error().unwrap().is_timeout() && run.error().unwrap().to_string().contains("1m"));
    assert_eq!(run.task("long").unwrap().state(), TaskState::Cancelled);
    assert!(limited_body().on(&runtime).await.unwrap_err().is_timeout());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_of_a_run_asks_for_its_end() -> Result<()> {
    let runtime = crate::support::runtime();
    let limit = Duration::from_secs(5);
    assert!(
        tokio::time::timeout(limit, long_one().on(&runtime).run())
            .await
            .is_err()
    );
    assert!(
        tokio::time::timeout(limit, long_one().on(&runtime).into_future())
            .await
            .is_err()
    );
    let mut events = runtime.events();
    for _ in 0..2 {
        while !matches!(events.next().await, Some(Event::RunFinished { .. })) {
            if runtime
                .runs("long_one")
                .await?
                .iter()
                .all(|run| run.state().is_final())
            {
                break;
            }
        }
    }
    assert!(
        runtime
            .runs("long_one")
            .await?
            .iter()
            .all(|run| run.state() == RunState::Cancelled)
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_started_run_goes_on_without_its_handle() -> Result<()> {
    let runtime = crate::support::runtime();
    drop(long_one().on(&runtime).start().await?);
    tokio::time::sleep(Duration::from_secs(601)).await;
    assert_eq!(
        runtime.runs("long_one").await?[0].state(),
        RunState::Success
    );
    Ok(())
}

#[tokio::test]
async fn blocking_work_is_left_alone_and_keeps_its_slot_until_it_returns() -> Result<()> {
    struct Release(
        std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
        Arc<AtomicU32>,
    );
    #[task(pool = "one", retries = 1, timeout = "500ms")]
    fn stubborn(#[resource] release: &Release, #[context] context: &Context) -> u32 {
        let running = release.1.fetch_add(1, SeqCst) + 1;
        assert_eq!(running, 1, "two attempts of one node at once");
        if context.attempt() == 1 {
            release.0.lock().unwrap().recv().ok();
        }
        release.1.fetch_sub(1, SeqCst);
        context.attempt()
    }
    #[flow(name = "stopping_waits")]
    fn waits() -> Node<u32> {
        stubborn()
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    let running = Arc::new(AtomicU32::new(0));
    let release = Release(std::sync::Mutex::new(receiver), Arc::clone(&running));
    let runtime = crate::support::builder()
        .pool("one", 1)
        .resource(release)
        .build()
        .await?;
    let mut events = runtime.events();
    let handle = waits().on(&runtime).start().await?;
    loop {
        match events.next().await {
            Some(Event::TaskRetrying { error, .. }) => {
                assert!(error.is_timeout());
                break;
            }
            Some(_) => {}
            None => panic!("no retry was told"),
        }
    }
    while running.load(SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    sender.send(())?;
    let run = handle.await?;
    assert_eq!(
        (run.output(), run.task("stubborn").unwrap().attempts()),
        (Some(&2), 2)
    );
    Ok(())
}

#[task(retries = 1)]
async fn fails_once(n: u32, #[context] context: &Context) -> Result<u32> {
    tokio::task::yield_now().await;
    if context.attempt() == 1 && n.is_multiple_of(3) {
        Err("once".into())
    } else {
        Ok(n)
    }
}

#[task]
async fn list(n: u32) -> Vec<u32> {
    (0..n).collect()
}

#[task]
async fn sum(numbers: Vec<u32>) -> u32 {
    numbers.iter().sum()
}

#[flow]
async fn stopped_within(n: u32) -> Result<u32> {
    let first = fails_once(n).await?;
    Ok(sum(list(first % 5).expand(after).concurrency(2)).await?)
}

#[flow]
fn stopped_anywhere(n: u32) -> Node<u32> {
    let inner = stopped_within(n);
    let totals = list(4).expand(|n| sum(list(&n).expand(|m| fails_once(after(m))).concurrency(1)));
    after(sum([after(inner), sum(totals.expand(fails_once))]))
}

#[test]
fn a_run_that_is_cancelled_at_any_moment_comes_to_its_end() {
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    tokio.block_on(async {
        let runtime = crate::support::runtime();
        for moment in 0..300_u32 {
            let handle = stopped_anywhere(moment).on(&runtime).start().await.unwrap();
            for _ in 0..moment {
                tokio::task::yield_now().await;
            }
            handle.cancel();
            let run = tokio::time::timeout(Duration::from_secs(60), handle.into_future()).await;
            let run = run
                .unwrap_or_else(|_| panic!("the run that was cancelled at {moment} hangs"))
                .unwrap();
            assert!(
                matches!(run.state(), RunState::Cancelled | RunState::Success),
                "{moment}: {run:?}"
            );
            assert!(
                run.tasks().iter().all(|task| task.state().is_final()),
                "{moment}: {:?}",
                run.tasks()
            );
        }
    });
}
