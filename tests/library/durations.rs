//! How long runs and attempts take, and how long is waited in them, while the clock is set.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use orchestrator::prelude::*;
use orchestrator::{AttemptRecord, Clock};
use tokio::time::Instant;

use crate::support::{file, open, url};

const DAY: i64 = 24 * 60 * 60;

/// By how much the clock is set.
const SET_BY: [TimeDelta; 2] = [TimeDelta::seconds(DAY), TimeDelta::seconds(-DAY)];

/// Sets the clock while it works, for two seconds each time, and fails at first.
#[task(retries = 1, retry_delay = "10s", timeout = "1m")]
async fn set_clock(
    by: i64,
    #[context] context: &Context,
    #[resource] clock: &Clock,
) -> Result<u32> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    clock.shift(TimeDelta::seconds(by));
    tokio::time::sleep(Duration::from_secs(1)).await;
    match context.attempt() {
        1 => Err("the first attempt fails".into()),
        _ => Ok(7),
    }
}

/// Is timed from its first poll on, in which the clock is set.
#[task(timeout = "1m")]
async fn set_clock_at_once(by: i64, after: u32, #[resource] clock: &Clock) -> u32 {
    clock.shift(TimeDelta::seconds(by));
    tokio::time::sleep(Duration::from_secs(3)).await;
    after
}

#[task]
async fn work(after: u32) -> u32 {
    tokio::time::sleep(Duration::from_secs(4)).await;
    after
}

#[flow]
fn inner(by: i64) -> Node<u32> {
    set_clock_at_once(by, set_clock(by))
}

#[flow(name = "durations_timed", timeout = "1h")]
fn timed(by: i64) -> Node<u32> {
    work(inner(by))
}

/// What is told and recorded of a run during which the clock is set, each with its seconds.
async fn run_on(store: &str, by: TimeDelta) -> Result<()> {
    let clock = Clock::settable("2026-03-10T10:30:00Z".parse()?);
    let runtime = Runtime::builder()
        .store(store)
        .clock(clock.clone())
        .resource(clock.clone())
        .build()
        .await?;
    let (mut events, began) = (runtime.events(), Instant::now());
    let run = timed(by.num_seconds()).on(&runtime).run().await?;
    assert_eq!(
        (run.state(), began.elapsed().as_secs()),
        (RunState::Success, 21)
    );
    assert_eq!(
        clock.now() - "2026-03-10T10:30:21Z".parse::<DateTime<Utc>>()?,
        by * 3
    );

    let record = runtime.find_run(run.id()).await?.unwrap();
    let attempts = runtime.attempts(run.id()).await?;
    drop(runtime);
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Event::TaskFinished { key, duration, .. } => told.push((key, duration)),
            Event::RunFinished { duration, .. } => told.push(("run".into(), duration)),
            _ => {}
        }
    }
    let seconds = |(key, duration): &(String, Duration)| format!("{key} {}", duration.as_secs());
    let told: Vec<String> = told.iter().map(seconds).collect();
    assert_eq!(
        told,
        [
            "inner/set_clock 2",
            "inner/set_clock_at_once 3",
            "inner 17",
            "work 4",
            "run 21"
        ]
    );

    assert_eq!(record.duration(), Some(Duration::from_secs(21)));
    let mut recorded: Vec<String> = record
        .tasks()
        .into_iter()
        .filter_map(|task| Some(seconds(&(task.key(), task.duration()?))))
        .collect();
    recorded.sort();
    assert_eq!(
        recorded,
        [
            "inner 17",
            "inner/set_clock 2",
            "inner/set_clock_at_once 3",
            "work 4"
        ]
    );
    let took = |attempt: &AttemptRecord| (attempt.finished_at? - attempt.started_at).to_std().ok();
    let mut attempts: Vec<_> = attempts
        .iter()
        .map(|attempt| took(attempt).map(|took| took.as_secs()))
        .collect();
    attempts.sort();
    assert_eq!(attempts, [2, 2, 3, 4, 17].map(Some));
    // all of it belongs together: nothing starts before the run, or ends after it
    let (start, end) = (record.started_at().unwrap(), record.finished_at().unwrap());
    for task in record.tasks() {
        assert!(
            task.started_at().unwrap() >= start && task.finished_at().unwrap() <= end,
            "{task:?}"
        );
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_changes_no_duration_of_a_run() -> Result<()> {
    for by in SET_BY {
        run_on("memory", by).await?;
        run_on(&url(&file()), by).await?;
    }
    Ok(())
}

#[task(retries = 1, retry_delay = "1h")]
async fn fail_first(#[context] context: &Context) -> Result<u32> {
    if context.attempt() == 1 {
        Err("the first attempt fails".into())
    } else {
        Ok(7)
    }
}

#[flow(name = "durations_retried")]
fn retried() -> Node<u32> {
    fail_first()
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_not_put_off_by_a_clock_that_was_set_back_between_two_lives() -> Result<()> {
    let (store, start) = (
        url(&file()),
        "2026-03-10T10:30:00Z".parse::<DateTime<Utc>>()?,
    );
    let runtime = open(&store, &Clock::tokio(start), Duration::ZERO).await;
    let mut events = runtime.events();
    let run = retried().on(&runtime).start().await?;
    while !matches!(events.next().await, Some(Event::TaskRetrying { .. })) {}
    runtime.stop().await;
    assert!(run.await.is_err(), "it was left");
    drop(runtime);

    let runtime = open(
        &store,
        &Clock::tokio(start - TimeDelta::days(1)),
        Duration::ZERO,
    )
    .await;
    let began = Instant::now();
    let resumed = runtime.resume().await?;
    assert_eq!(resumed[0].state(), RunState::Success);
    assert_eq!(began.elapsed().as_secs(), 60 * 60);
    // it began a day ahead, and did not end before it began
    assert_eq!(resumed[0].duration(), Some(Duration::from_secs(60 * 60)));
    Ok(())
}
