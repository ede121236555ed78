//! `Runtime::stop`: what runs may end, nothing more starts, and the rest goes on later.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use orchestrator::prelude::*;
use orchestrator::{Clock, RunId};
use tokio::time::Instant;

use crate::support;

/// Which bodies ran to their end.
#[derive(Clone, Default)]
struct Ended(Arc<Mutex<Vec<u32>>>);

impl Ended {
    fn all(&self) -> Vec<u32> {
        self.0.lock().unwrap().clone()
    }
}

#[task]
async fn step(n: u32, #[resource] ended: &Ended) -> u32 {
    tokio::time::sleep(Duration::from_secs(10)).await;
    ended.0.lock().unwrap().push(n);
    n + 1
}

#[flow]
fn steps(first: u32) -> Node<u32> {
    step(step(step(first)))
}

#[flow]
async fn awaited_steps(first: u32) -> Result<u32> {
    let mut n = first;
    for _ in 0..3 {
        n = step(n).await?;
    }
    Ok(n)
}

#[task]
async fn tell(
    date: chrono::DateTime<chrono::Utc>,
    until: chrono::DateTime<chrono::Utc>,
    n: u32,
) -> String {
    format!("{date} {until} {n}")
}

#[flow(name = "stops_dated")]
fn dated(#[context] context: &Context) -> Node<String> {
    tell(context.logical_date(), context.interval().end, step(1))
}

/// A process on a file.
async fn process(url: &str, ended: &Ended) -> Runtime {
    let builder = Runtime::builder()
        .store(url)
        .clock(Clock::tokio_from_now())
        .resource(ended.clone());
    builder
        .grace(Duration::from_secs(30))
        .build()
        .await
        .unwrap()
}

fn file() -> String {
    format!(
        "sqlite:{}",
        support::new_folder("stops").join("state.db").display()
    )
}

fn assert_stopped<T>(ended: Result<Run<T>, Error>, of: &str, id: RunId) {
    let error = ended.map(drop).unwrap_err();
    assert!(
        matches!(&error, Error::Stopped { flow, run } if flow == of && *run == id),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains(of) && text.contains(&id.to_string()),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_runs_may_end_and_the_rest_goes_on_in_the_next_process() -> Result<()> {
    let (url, ended) = (file(), Ended::default());
    let one = process(&url, &ended).await;
    let first = steps(1).on(&one).start().await?;
    let second = awaited_steps(11).on(&one).start().await?;
    let mut ids = [first.id(), second.id()];
    tokio::time::sleep(Duration::from_secs(12)).await;
    let started = Instant::now();
    let stopped = one.stop().await;
    // the second steps, which were under way
    assert_eq!(
        (started.elapsed().as_secs(), stopped.cut_short_by),
        (8, None)
    );
    assert_stopped(first.await, "steps", ids[0]);
    assert_stopped(second.await, "awaited_steps", ids[1]);
    // those of one millisecond are in any order
    let asked = ids;
    ids.sort_unstable();
    assert_eq!(stopped.left, ids);
    let so_far = |ended: &Ended| {
        let mut all = ended.all();
        all.sort_unstable();
        all
    };
    assert_eq!(so_far(&ended), [1, 2, 11, 12]);
    assert!(matches!(
        steps(5).on(&one).start().await.unwrap_err(),
        Error::Closed
    ));
    assert!(matches!(one.resume().await.unwrap_err(), Error::Closed));
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(so_far(&ended), [1, 2, 11, 12]);
    // twice is as once
    assert!(one.stop().await.left.is_empty());

    let two = process(&url, &ended).await;
    let started = Instant::now();
    let resumed = two.resume().await?;
    assert_eq!(
        resumed
            .iter()
            .map(|run| (run.id(), run.state()))
            .collect::<Vec<_>>(),
        asked.map(|id| (id, RunState::Success))
    );
    assert_eq!(
        (started.elapsed().as_secs(), so_far(&ended)),
        (10, vec![1, 2, 3, 11, 12, 13])
    );
    // nobody's process died
    assert!(
        resumed
            .iter()
            .flat_map(|run| run.tasks())
            .all(|task| (task.attempts(), task.crashes()) == (1, 0))
    );
    assert!(two.resume().await?.is_empty());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_in_time_is_left_and_runs_again() -> Result<()> {
    let (url, ended) = (file(), Ended::default());
    let one = Runtime::builder()
        .store(&url)
        .clock(Clock::tokio_from_now())
        .resource(ended.clone());
    let one = one.grace(Duration::from_secs(3)).build().await?;
    let first = steps(1).on(&one).start().await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let started = Instant::now();
    assert_eq!(
        (one.stop().await.left, started.elapsed().as_secs()),
        (vec![first.id()], 3)
    );
    assert!(ended.all().is_empty());
    let two = process(&url, &ended).await;
    assert_eq!(two.resume().await?[0].state(), RunState::Success);
    assert_eq!(ended.all(), [1, 2, 3]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_run_that_goes_on_has_the_dates_that_it_had() -> Result<()> {
    let dates = [
        None,
        "2026-03-01T00:00:00.123456789Z".parse().ok(),
        "1969-12-31T23:59:59.999999999Z".parse().ok(),
    ];
    for date in dates {
        let (url, ended) = (file(), Ended::default());
        let one = process(&url, &ended).await;
        let flow = date.map_or_else(dated, |date: chrono::DateTime<chrono::Utc>| {
            dated()
                .logical_date(date)
                .interval(date, date + Duration::from_nanos(1_001))
        });
        let first = flow.on(&one).start().await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        one.stop().await;
        let two = process(&url, &ended).await;
        let resumed = &two.resume().await?[0];
        assert_eq!(
            (resumed.state(), resumed.id()),
            (RunState::Success, first.id()),
            "{:?}",
            resumed.error()
        );
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_run_that_cannot_be_read_keeps_no_other_from_going_on() -> Result<()> {
    #[task]
    async fn large() -> Vec<u8> {
        vec![200; 2 << 20]
    }
    #[task]
    async fn step_after(_large: &[u8], #[resource] ended: &Ended) -> u32 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        ended.0.lock().unwrap().push(100);
        100
    }
    #[flow(name = "stops_large")]
    fn of_large() -> Node<u32> {
        step_after(large())
    }
    let (url, ended) = (file(), Ended::default());
    let one = Runtime::builder()
        .store(&url)
        .clock(Clock::tokio_from_now())
        .resource(ended.clone());
    let one = one.grace(Duration::ZERO).build().await?;
    let (first, second) = (
        of_large().on(&one).start().await?,
        steps(1).on(&one).start().await?,
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(one.stop().await.left.len(), 2);
    let blobs = format!("{}-blobs", url.trim_start_matches("sqlite:"));
    std::fs::rename(&blobs, format!("{blobs}.bak"))?;
    let two = process(&url, &ended).await;
    for _ in 0..2 {
        let error = two.resume().await.unwrap_err().to_string();
        assert!(error.contains(&blobs) && error.contains("gone"), "{error}");
        assert_eq!(
            two.find_run(second.id()).await?.unwrap().state(),
            RunState::Success
        );
    }
    std::fs::rename(format!("{blobs}.bak"), &blobs)?;
    let resumed = two.resume().await?;
    assert_eq!(
        (resumed[0].id(), resumed[0].state(), ended.all()),
        (first.id(), RunState::Success, vec![1, 2, 3, 100])
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn in_memory_what_is_left_is_cancelled() -> Result<()> {
    let ended = Ended::default();
    let builder = Runtime::builder()
        .store("memory")
        .clock(Clock::tokio_from_now())
        .resource(ended.clone());
    let runtime = builder.build().await?;
    let run = steps(1).on(&runtime).start().await?;
    let id = run.id();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(runtime.stop().await.left.is_empty());
    assert_eq!(ended.all(), [1]);
    assert_stopped(run.await, "steps", id);
    let record = runtime.find_run(id).await?.unwrap();
    assert_eq!(record.state(), RunState::Cancelled);
    let states: Vec<TaskState> = record.tasks().iter().map(|task| task.state()).collect();
    assert_eq!(
        states,
        [
            TaskState::Success,
            TaskState::Cancelled,
            TaskState::Cancelled
        ]
    );
    assert!(matches!(
        steps(1).on(&runtime).start().await.unwrap_err(),
        Error::Closed
    ));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_runtime_without_runs_stops_at_once_and_finished_runs_are_not_left() -> Result<()> {
    let (runtime, ended) = (file(), Ended::default());
    let runtime = process(&runtime, &ended).await;
    let run = steps(1).on(&runtime).run().await?;
    assert_eq!(run.output(), Some(&4));
    let started = Instant::now();
    let stopped = runtime.stop().await;
    assert!(
        stopped.left.is_empty() && stopped.to_string().contains("every run"),
        "{stopped}"
    );
    assert_eq!(started.elapsed().as_secs(), 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn nothing_moves_paused_time_but_what_waits_for_it() -> Result<()> {
    #[flow(name = "stops_paused")]
    fn never() -> Node<u32> {
        forever()
    }
    #[task]
    async fn forever() -> u32 {
        std::future::pending().await
    }
    let runtime = support::runtime();
    let began = Instant::now();
    let handle = never().on(&runtime).start().await?;
    // on another thread, where tokio's time is not known
    let waited =
        tokio::task::spawn_blocking(|| std::thread::park_timeout(Duration::from_millis(50)));
    waited.await?;
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    handle.cancel();
    handle.await?;
    assert_eq!(began.elapsed(), Duration::ZERO);
    Ok(())
}
