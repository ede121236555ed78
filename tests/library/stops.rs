//! `Runtime::stop`: what runs may end, nothing more starts, and the rest goes on later.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
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
async fn running_bodies_may_end_and_the_rest_resumes_in_the_next_process() -> Result<()> {
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
async fn body_that_outlasts_the_grace_period_runs_again() -> Result<()> {
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
        assert!(
            error.contains(&blobs) && error.contains("is missing"),
            "{error}"
        );
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

/// Awaits a chain of tasks, which are a part of it.
#[task]
async fn awaits_steps(first: u32) -> Result<u32> {
    let first = step(first).await?;
    Ok(step(step(first)).await?)
}

#[flow(name = "stops_parts")]
fn parts() -> Node<u32> {
    awaits_steps(1)
}

#[task]
async fn awaits_runs() -> Result<u32> {
    let first = steps(1).run().await?;
    let second = steps(*first.output().unwrap()).start().await?.await?;
    Ok(*second.output().unwrap())
}

#[flow(name = "stops_runs")]
fn runs() -> Node<u32> {
    awaits_runs()
}

#[tokio::test(start_paused = true)]
async fn tasks_awaited_by_a_running_body_may_end_during_a_stop() -> Result<()> {
    let (url, ended) = (file(), Ended::default());
    let one = process(&url, &ended).await;
    let run = parts().on(&one).start().await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let started = Instant::now();
    assert_eq!(
        (one.stop().await.left, started.elapsed().as_secs()),
        (vec![], 25)
    );
    assert_eq!(
        (run.await?.output(), ended.all()),
        (Some(&4), vec![1, 2, 3])
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn stop_does_not_fail_bodies_that_await_unfinished_tasks() -> Result<()> {
    for (flow, seconds) in [(parts(), 5), (runs(), 5), (runs(), 25), (runs(), 35)] {
        let _case = support::case(format_args!("stopped after {seconds} s"));
        let (url, ended) = (file(), Ended::default());
        let one = Runtime::builder()
            .store(&url)
            .clock(Clock::tokio_from_now())
            .resource(ended.clone());
        let one = one.grace(Duration::from_secs(12)).build().await?;
        let run = flow.on(&one).start().await?;
        let id = run.id();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        assert!(one.stop().await.left.contains(&id));
        assert!(matches!(run.await.unwrap_err(), Error::Stopped { run, .. } if run == id));
        let two = process(&url, &ended).await;
        for resumed in two.resume().await? {
            assert_eq!(resumed.state(), RunState::Success, "{resumed:?}");
        }
        let record = two.find_run(id).await?.unwrap();
        assert_eq!(record.state(), RunState::Success, "{record:?}");
        assert_eq!(
            (
                record.tasks().iter().next().unwrap().attempts(),
                two.stop().await.left
            ),
            (2, vec![])
        );
    }
    Ok(())
}

/// A blocking body that waits for a run, or for a task.
#[task]
fn blocks_on(run: bool) -> Result<u32> {
    let tokio = tokio::runtime::Handle::current();
    Ok(match run {
        true => *tokio.block_on(steps(1).run())?.output().unwrap(),
        false => tokio.block_on(step(1).into_future())?,
    })
}

#[flow(name = "stops_blocked_on")]
fn blocked_on(run: bool) -> Node<u32> {
    blocks_on(run)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocking_body_that_waits_for_a_run_returns_when_both_are_left() -> Result<()> {
    for (run, store) in [
        (true, file()),
        (false, file()),
        (true, "memory".to_owned()),
        (false, "memory".to_owned()),
    ] {
        let one = Runtime::builder()
            .store(&store)
            .resource(Ended::default())
            .grace(Duration::from_millis(50));
        let one = one.build().await?;
        let mut events = one.events();
        let run = blocked_on(run).on(&one).start().await?;
        while !matches!(events.next().await, Some(Event::TaskStarted { key, .. }) if key == "step")
        {
        }
        let stopped = one.stop().await;
        assert!(stopped.unreturned.is_empty(), "{stopped:?}");
        let left = if store == "memory" {
            RunState::Cancelled
        } else {
            RunState::Running
        };
        assert_eq!(one.find_run(run.id()).await?.unwrap().state(), left);
        run.await.unwrap_err();
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn unfinished_runs_in_memory_are_cancelled_by_a_stop() -> Result<()> {
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
    let why = record.error().unwrap().to_string();
    assert!(
        why.contains("a store in memory keeps no run for later"),
        "{why}"
    );
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
async fn only_timers_advance_paused_time() -> Result<()> {
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

/// Lets bodies return, and counts how many run at once.
#[derive(Clone)]
struct Gate(Arc<(Mutex<mpsc::Receiver<()>>, AtomicU32, AtomicU32)>);

impl Gate {
    fn new() -> (mpsc::Sender<()>, Self) {
        let (open, closed) = mpsc::channel();
        (
            open,
            Self(Arc::new((
                Mutex::new(closed),
                AtomicU32::new(0),
                AtomicU32::new(0),
            ))),
        )
    }

    fn pass(&self) -> u32 {
        let (gate, running, peak) = &*self.0;
        peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        // once it was opened and let go, it is open
        let _ = gate.lock().unwrap().recv();
        running.fetch_sub(1, Ordering::SeqCst);
        1
    }
}

#[task]
fn blocks(#[resource] gate: &Gate) -> u32 {
    gate.pass()
}

#[task]
async fn keeps_its_thread(#[resource] gate: &Gate) -> u32 {
    gate.pass()
}

#[flow(name = "stops_blocking")]
fn blocking() -> Node<u32> {
    blocks()
}

#[flow(name = "stops_keeping")]
fn keeping() -> Node<u32> {
    keeps_its_thread()
}

/// What it awaits is a part of it.
#[task]
async fn awaits() -> Result<u32> {
    Ok(blocks().await?)
}

#[flow(name = "stops_awaiting")]
fn awaiting() -> Node<u32> {
    awaits()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_run_stays_with_its_process_until_its_bodies_have_returned() -> Result<()> {
    for (flow, unreturned) in [
        (blocking(), "blocks"),
        (keeping(), "(async)"),
        (awaiting(), "blocks"),
    ] {
        let _case = support::case(unreturned);
        let (url, (open, gate)) = (file(), Gate::new());
        let process = || {
            let grace = Duration::from_millis(50);
            Runtime::builder()
                .store(&url)
                .resource(gate.clone())
                .resource(Ended::default())
                .grace(grace)
                .build()
        };
        let (one, two) = (process().await?, process().await?);
        let run = flow.on(&one).start().await?;
        while gate.0.1.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let stopped = one.stop().await;
        assert_eq!(
            (stopped.left, stopped.unreturned),
            (vec![run.id()], vec![unreturned.to_owned()])
        );
        for _ in 0..3 {
            assert!(two.resume().await?.is_empty());
        }
        assert_eq!(
            two.find_run(run.id()).await?.unwrap().state(),
            RunState::Running
        );
        drop(open);
        let resumed = loop {
            let resumed = two.resume().await?;
            if !resumed.is_empty() {
                break resumed;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(
            (resumed[0].id(), resumed[0].state()),
            (run.id(), RunState::Success),
            "{resumed:?}"
        );
        let task = resumed[0].tasks().iter().next().unwrap();
        assert_eq!((task.attempts(), gate.0.2.load(Ordering::SeqCst)), (2, 1));
        assert!(one.stop().await.unreturned.is_empty());
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn events_of_a_stopped_run_in_memory_tell_its_end() -> Result<()> {
    let runtime = Runtime::in_memory();
    #[task]
    async fn long() -> u32 {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        1
    }
    #[flow(name = "stops_in_memory")]
    fn in_memory() -> Node<u32> {
        long()
    }
    let mut events = runtime.events();
    let run = in_memory().on(&runtime).start().await?;
    assert!(matches!(
        events.next().await,
        Some(Event::RunStarted { .. })
    ));
    runtime.stop().await;
    assert!(run.await.is_err());
    let state = loop {
        match events.next().await {
            Some(Event::RunFinished { state, .. }) => break state,
            Some(_) => {}
            None => panic!("no event tells the end"),
        }
    };
    assert_eq!(state, RunState::Cancelled);
    Ok(())
}
