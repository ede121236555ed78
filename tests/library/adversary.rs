//! What a reviewer tried to break: scheduling, backfills, re-runs, logs and upkeep.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDate, Utc};
use orchestrator::prelude::*;
use orchestrator::{Clock, Overlap, Reprocess, Rerun, RunFilter, RuntimeBuilder};
use tokio::time::timeout;

const HOUR: Duration = Duration::from_secs(3600);

fn utc(text: &str) -> DateTime<Utc> {
    format!("2026-{text}Z").parse().expect(text)
}

fn date(text: &str) -> NaiveDate {
    text.parse().expect(text)
}

fn file() -> PathBuf {
    crate::support::new_folder("adversary").join("runs.db")
}

fn on(path: &std::path::Path) -> RuntimeBuilder {
    Runtime::builder().store(format!("sqlite:{}", path.display()))
}

#[task]
async fn one() -> u32 {
    1
}

#[tokio::test(start_paused = true)]
async fn a_run_that_cannot_run_again_keeps_no_other_tick_of_a_backfill_from_it() -> Result<()> {
    static DOWN: AtomicBool = AtomicBool::new(true);
    #[task]
    async fn sometimes() -> Result<u32> {
        if DOWN.load(SeqCst) { Err("down".into()) } else { Ok(1) }
    }
    #[flow(name = "adversary_pruned")]
    fn pruned() -> Node<u32> {
        sometimes()
    }
    let runtime = on(&file()).clock(Clock::tokio(utc("03-01T12:00:00"))).keep(HOUR).build().await?;
    let backfill = |from, to| pruned().on(&runtime).backfill("@daily", date(from)..=date(to));
    backfill("2026-02-10", "2026-02-11").run().await?;
    tokio::time::sleep(2 * HOUR).await;
    backfill("2026-02-12", "2026-02-13").run().await?;
    assert_eq!(runtime.prune().await?.runs, 2);
    DOWN.store(false, SeqCst);
    // of the first two, nothing is known that could be kept
    let done = backfill("2026-02-10", "2026-02-13").reprocess(Reprocess::Failed).run().await?;
    assert_eq!((done.total(), done.reran(), done.succeeded()), (4, 2, 2));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn of_two_backfills_that_run_the_same_again_neither_fails() -> Result<()> {
    static DOWN: AtomicBool = AtomicBool::new(true);
    #[task]
    async fn sometimes() -> Result<u32> {
        tokio::time::sleep(Duration::from_secs(60)).await;
        if DOWN.load(SeqCst) { Err("down".into()) } else { Ok(1) }
    }
    #[flow(name = "adversary_two_backfills")]
    fn twice() -> Node<u32> {
        sometimes()
    }
    let runtime = on(&file()).clock(Clock::tokio(utc("03-01T12:00:00"))).build().await?;
    let days = || date("2026-02-10")..=date("2026-02-15");
    let backfill = || twice().on(&runtime).backfill("@daily", days()).max_active_runs(2);
    backfill().run().await?;
    DOWN.store(false, SeqCst);
    let again = || backfill().reprocess(Reprocess::Failed).run();
    let (a, b) = tokio::join!(again(), again());
    let (a, b) = (a?, b?);
    assert_eq!(a.reran() + b.reran(), 6, "{a:?} {b:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_ran_ahead_in_an_earlier_life_hides_no_missed_tick() -> Result<()> {
    #[flow(name = "adversary_ran_ahead")]
    fn ahead() -> Node<u32> {
        one()
    }
    let path = file();
    let serve = async |at: &str| {
        let runtime = on(&path).clock(Clock::tokio(utc(at))).build().await.unwrap();
        let _ = timeout(HOUR, ahead().on(&runtime).serve("@hourly").into_future()).await;
        let runs = runtime.find_runs(&RunFilter::new().flow("adversary_ran_ahead").oldest_first()).await.unwrap();
        runs.iter().map(|run| run.logical_date.format("%d %H").to_string()).collect::<Vec<_>>()
    };
    // by a day, and put right before the next start
    assert_eq!(serve("03-11T10:30:00").await, ["11 11"]);
    assert_eq!(serve("03-10T11:30:00").await, ["11 11", "10 12"]);
    // nobody serves from 12:30 to 15:30
    assert_eq!(serve("03-10T15:30:00").await, ["11 11", "10 12", "10 15", "10 16"]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn two_processes_that_serve_with_cancel_running_leave_the_newest_run() -> Result<()> {
    #[task]
    async fn endless() -> u32 {
        std::future::pending().await
    }
    #[flow(name = "adversary_cancel_running", max_active_runs = 1)]
    fn endless_run() -> Node<u32> {
        endless()
    }
    let path = file();
    let open =
        async || on(&path).clock(Clock::tokio(utc("03-01T09:59:59"))).grace(Duration::ZERO).build().await.unwrap();
    let (one, two) = (open().await, open().await);
    let serve =
        |runtime: &Runtime| endless_run().on(runtime).serve("* * * * *").overlap(Overlap::CancelRunning).into_future();
    let act = async {
        for tick in 1..=100 {
            tokio::time::sleep(Duration::from_secs(60)).await;
            let runs = one.find_runs(&RunFilter::new().flow("adversary_cancel_running")).await.unwrap();
            assert_eq!(runs.len(), tick);
            assert!(!runs[0].state.is_final(), "the run of tick {tick} is {}", runs[0].state);
        }
    };
    tokio::select! {
        stopped = serve(&one) => panic!("{stopped:?}"),
        stopped = serve(&two) => panic!("{stopped:?}"),
        () = act => {}
    }
    Ok(())
}

#[tokio::test]
async fn pruning_does_not_take_longer_with_each_run_that_was_pruned() -> Result<()> {
    #[flow(name = "adversary_prune")]
    fn pruned() -> Node<u32> {
        one()
    }
    let path = file();
    let runtime = on(&path).keep(Duration::ZERO).build().await?;
    let run = pruned().on(&runtime).run().await?;
    drop(runtime);
    let insert = |from: u32, to: u32, pruned: bool| {
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection
            .execute(
                "WITH RECURSIVE n(n) AS (SELECT ?1 UNION ALL SELECT n + 1 FROM n WHERE n < ?2) \
                 INSERT INTO runs (id, flow, kind, key, logical_date, interval_start, interval_end, parameters, \
                 refresh, created, state, started, finished, owner, takeovers, cancelling, pruned) \
                 SELECT randomblob(16), flow, 0, NULL, n, n, n, parameters, 0, n, 2, n + 1, n + 1, NULL, 0, 0, ?3 \
                 FROM runs, n WHERE id = ?4",
                (
                    from,
                    to,
                    i64::from(pruned),
                    run.id()
                        .to_string()
                        .replace('-', "")
                        .as_bytes()
                        .chunks(2)
                        .map(|hex| u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap())
                        .collect::<Vec<u8>>(),
                ),
            )
            .unwrap()
    };
    let time = async |runs: u64| {
        let runtime = on(&path).keep(Duration::ZERO).build().await.unwrap();
        let began = Instant::now();
        assert!(runtime.prune().await.unwrap().runs >= runs);
        began.elapsed()
    };
    time(1).await;
    insert(1, 1_000, false);
    let few = time(1_000).await;
    insert(1_001, 31_000, true);
    insert(31_001, 32_000, false);
    let many = time(1_000).await;
    println!("{few:?} {many:?}");
    assert!(many < 5 * few + Duration::from_millis(100), "{few:?} became {many:?}");
    Ok(())
}

fn captured() {
    use tracing_subscriber::layer::SubscriberExt as _;
    let subscriber = tracing_subscriber::registry().with(orchestrator::log_layer());
    let _ = tracing::subscriber::set_global_default(subscriber);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_run_ends_while_another_one_floods() -> Result<()> {
    static FLOODING: AtomicBool = AtomicBool::new(true);
    static LINES: AtomicU32 = AtomicU32::new(0);
    #[task]
    fn floods() -> u32 {
        while FLOODING.load(SeqCst) {
            tracing::info!("flood");
            LINES.fetch_add(1, SeqCst);
        }
        1
    }
    #[flow(name = "adversary_flood")]
    fn flood() {
        for _ in 0..3 {
            floods();
        }
    }
    #[flow(name = "adversary_quick")]
    fn quick() -> Node<u32> {
        one()
    }
    captured();
    let runtime = on(&file()).build().await?;
    let flooding = flood().on(&runtime).start().await?;
    while LINES.load(SeqCst) < 10_000 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let began = Instant::now();
    let ended = timeout(Duration::from_secs(10), quick().on(&runtime).run()).await;
    let took = began.elapsed();
    println!("{took:?} {}", LINES.load(SeqCst));
    FLOODING.store(false, SeqCst);
    flooding.await?;
    assert!(ended.is_ok(), "a run waits for another one's lines");
    Ok(())
}

#[tokio::test]
async fn why_of_nested_mappings_is_linear() -> Result<()> {
    #[task]
    async fn pair(n: u32) -> Vec<u32> {
        vec![n]
    }
    #[task]
    async fn same(n: u32) -> u32 {
        n
    }
    #[task]
    async fn sum(all: Vec<Vec<u32>>) -> Result<u32> {
        Err(format!("{} lists", all.len()).into())
    }
    #[task]
    async fn last(n: u32) -> u32 {
        n
    }
    #[flow(name = "adversary_nested_why")]
    fn nested(length: u32) -> Node<u32> {
        let lists = expand((0..length).collect::<Vec<u32>>(), |n| pair(n).expand(same));
        last(sum(lists))
    }
    let time = async |length: u32| {
        let runtime = on(&file()).build().await.unwrap();
        let run = nested(length).on(&runtime).run().await.unwrap();
        let began = Instant::now();
        let why = runtime.why(run.id(), Some("last")).await.unwrap();
        assert!(why.to_string().contains("lists"), "{why}");
        let why = runtime.why(run.id(), Some("sum")).await.unwrap();
        assert!(why.to_string().contains("lists"), "{why}");
        began.elapsed()
    };
    let few = time(1_000).await;
    let many = time(8_000).await;
    println!("{few:?} {many:?}");
    assert!(many < 24 * few + Duration::from_millis(100), "{few:?} became {many:?}");
    Ok(())
}

/// Holds the thread that says `run finished`, once: by then the end of the run is committed.
struct Hold {
    is_armed: AtomicBool,
    reached: mpsc::Sender<()>,
    go_on: Mutex<mpsc::Receiver<()>>,
}

struct IsEnd(bool);

impl tracing::field::Visit for IsEnd {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0 |= field.name() == "message" && format!("{value:?}").starts_with("run finished");
    }
}

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Hold {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let mut is_end = IsEnd(false);
        event.record(&mut is_end);
        if is_end.0 && self.is_armed.swap(false, SeqCst) {
            self.reached.send(()).unwrap();
            let _ = self.go_on.lock().unwrap().recv_timeout(Duration::from_secs(60));
        }
    }
}

/// A tokio runtime of which a thread is held when the first run has ended, and what tells of that and lets it go on.
fn held() -> (tokio::runtime::Runtime, mpsc::Receiver<()>, mpsc::Sender<()>) {
    use tracing_subscriber::layer::SubscriberExt as _;
    captured();
    let ((reached, is_reached), (let_go, go_on)) = (mpsc::channel(), mpsc::channel());
    let hold = Hold { is_armed: AtomicBool::new(true), reached, go_on: Mutex::new(go_on) };
    let subscriber = tracing_subscriber::registry().with(orchestrator::log_layer()).with(hold);
    let subscriber = tracing::Dispatch::new(subscriber);
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .on_thread_start(move || {
            Box::leak(Box::new(tracing::dispatcher::set_default(&subscriber)));
        })
        .build()
        .unwrap();
    (tokio, is_reached, let_go)
}

#[test]
fn a_run_that_runs_again_at_once_is_under_way() {
    static STARTS: AtomicU32 = AtomicU32::new(0);
    #[task]
    async fn quick_at_first() -> u32 {
        if STARTS.fetch_add(1, SeqCst) > 0 {
            std::future::pending::<()>().await;
        }
        1
    }
    #[flow(name = "adversary_at_once")]
    fn at_once() -> Node<u32> {
        quick_at_first()
    }
    let (tokio, is_reached, let_go) = held();
    tokio.block_on(async {
        let runtime = on(&file()).grace(Duration::ZERO).build().await.unwrap();
        let first = at_once().on(&runtime).start().await.unwrap();
        let id = first.id();
        is_reached.recv_timeout(Duration::from_secs(60)).unwrap();
        let again = runtime.start_rerun(id, Rerun::All).await.unwrap();
        while STARTS.load(SeqCst) < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let_go.send(()).unwrap();
        assert_eq!(first.await.unwrap().state(), RunState::Success);
        assert_eq!(runtime.stop().await.left, [id]);
        assert!(matches!(again.await, Err(Error::Stopped { .. })));
    });
}

#[test]
fn what_a_run_said_is_there_when_its_end_is() {
    #[task]
    async fn says() -> u32 {
        tracing::info!("said");
        1
    }
    #[flow(name = "adversary_says")]
    fn saying() -> Node<u32> {
        says()
    }
    let (tokio, is_reached, let_go) = held();
    tokio.block_on(async {
        let path = file();
        let runtime = on(&path).build().await.unwrap();
        let reader = on(&path).build().await.unwrap();
        let handle = saying().on(&runtime).start().await.unwrap();
        let id = handle.id();
        is_reached.recv_timeout(Duration::from_secs(60)).unwrap();
        // another process that follows the run sees its end, and looks no more
        assert!(reader.find_run(id).await.unwrap().unwrap().state().is_final());
        let lines = reader.logs(id, None).await.unwrap();
        let_go.send(()).unwrap();
        handle.await.unwrap();
        let lines: Vec<_> = lines.iter().map(|line| line.message.as_str()).collect();
        assert!(lines.contains(&"said"), "{lines:?}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_are_being_stored_are_waited_for() -> Result<()> {
    static SAY: tokio::sync::Notify = tokio::sync::Notify::const_new();
    #[task]
    async fn says() -> u32 {
        SAY.notified().await;
        tracing::info!("said");
        SAY.notify_one();
        std::future::pending().await
    }
    #[flow(name = "adversary_in_flight")]
    fn saying() -> Node<u32> {
        says()
    }
    captured();
    let path = file();
    let runtime = on(&path).build().await?;
    let handle = saying().on(&runtime).start().await?;
    while runtime.logs(handle.id(), None).await?.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let other = rusqlite::Connection::open(&path)?;
    other.execute_batch("BEGIN IMMEDIATE")?;
    SAY.notify_one();
    // it is handed over after a fifth of a second
    tokio::time::sleep(Duration::from_millis(400)).await;
    let release = async {
        tokio::task::spawn_blocking(move || {
            std::thread::park_timeout(Duration::from_millis(300));
            other.execute_batch("COMMIT").unwrap();
        })
        .await
    };
    let (lines, _) = tokio::join!(runtime.logs(handle.id(), None), release);
    let lines: Vec<_> = lines?.into_iter().map(|line| line.message).collect();
    assert_eq!(lines, ["run started", "said"]);
    handle.cancel();
    handle.await?;
    Ok(())
}

#[tokio::test]
async fn pruning_does_not_read_what_it_keeps() -> Result<()> {
    let path = file();
    let runtime = on(&path).build().await?;
    let insert = |entries: u32, size: u32| {
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection
            .execute(
                "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1) \
                 INSERT INTO cache (key, task, inputs, run, created, expires, size, body) \
                 SELECT randomblob(32), 'task', randomblob(32), randomblob(16), n, NULL, ?2, zeroblob(?2) FROM n",
                (entries, size),
            )
            .unwrap();
    };
    let time = async || {
        let began = Instant::now();
        assert_eq!(runtime.prune().await.unwrap().cached, 0);
        began.elapsed()
    };
    insert(400, 10);
    let small = time().await;
    insert(400, 500_000);
    let large = time().await;
    println!("{small:?} {large:?}");
    assert!(large < 5 * small + Duration::from_millis(50), "{small:?} became {large:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_backfill_that_is_dropped_while_it_asks_for_a_re_run_cancels_that_too() -> Result<()> {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    #[task]
    async fn long_at_last() -> u32 {
        if RUNS.fetch_add(1, SeqCst) >= 2 {
            tokio::time::sleep(HOUR).await;
        }
        1
    }
    #[flow(name = "adversary_dropped_rerun")]
    fn dropped() -> Node<u32> {
        long_at_last()
    }
    let runtime = on(&file()).clock(Clock::tokio(utc("03-01T12:00:00"))).build().await?;
    let backfill = || dropped().on(&runtime).backfill("@daily", date("2026-02-10")..=date("2026-02-11"));
    backfill().run().await?;
    let started = Arc::new(tokio::sync::Notify::new());
    let again = {
        let started = Arc::clone(&started);
        backfill().reprocess(Reprocess::All).on_progress(move |_| started.notify_one())
    };
    tokio::select! {
        biased;
        () = started.notified() => {}
        done = again.run() => panic!("{done:?}"),
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let runs = runtime.find_runs(&RunFilter::new().flow("adversary_dropped_rerun").oldest_first()).await?;
    let states: Vec<_> = runs.iter().map(|run| run.state).collect();
    assert_eq!(states[0], RunState::Cancelled);
    assert!(states[1].is_final(), "nobody waits for it: {states:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_body_that_outlives_its_cancelled_run_does_no_harm_to_the_re_run() -> Result<()> {
    static STARTS: AtomicU32 = AtomicU32::new(0);
    static GO_ON: AtomicBool = AtomicBool::new(false);
    #[task]
    fn stubborn() -> Result<u32> {
        if STARTS.fetch_add(1, SeqCst) == 0 {
            while !GO_ON.load(SeqCst) {
                std::thread::park_timeout(Duration::from_millis(1));
            }
        }
        Ok(STARTS.load(SeqCst))
    }
    #[flow(name = "adversary_stubborn")]
    fn stubborn_run() -> Node<u32> {
        let first = stubborn();
        one().after(&first);
        first
    }
    let runtime = on(&file()).grace(Duration::ZERO).build().await?;
    let handle = stubborn_run().on(&runtime).start().await?;
    let id = handle.id();
    while STARTS.load(SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    handle.cancel();
    assert_eq!(handle.await?.state(), RunState::Cancelled);
    let again = runtime.start_rerun(id, Rerun::Failed).await?;
    tokio::time::sleep(Duration::from_millis(50)).await;
    GO_ON.store(true, SeqCst);
    let again = timeout(Duration::from_secs(20), again.into_future()).await??;
    assert_eq!(again.state(), RunState::Success);
    assert_eq!(stubborn_run().on(&runtime).run().await?.state(), RunState::Success);
    let attempts = runtime.attempts(id).await?;
    let told: Vec<_> = attempts.iter().map(|a| format!("{} {} {}", a.key, a.number, a.state)).collect();
    assert_eq!(told, ["stubborn 1 cancelled", "stubborn 2 success", "one 1 success"]);
    Ok(())
}

#[tokio::test]
async fn why_follows_what_is_a_part_of_the_run_after_a_re_run() -> Result<()> {
    static LENGTH: AtomicU32 = AtomicU32::new(4);
    static BAD: AtomicU32 = AtomicU32::new(3);
    #[task]
    async fn listed() -> Vec<u32> {
        (0..LENGTH.load(SeqCst)).collect()
    }
    #[task]
    async fn checked(n: u32) -> Result<u32> {
        if n == BAD.load(SeqCst) { Err(format!("{n} is bad").into()) } else { Ok(n) }
    }
    #[task]
    async fn total(all: Vec<u32>) -> u32 {
        all.iter().sum()
    }
    #[flow(name = "adversary_why_mapped")]
    fn mapped() -> Node<u32> {
        total(listed().expand(checked))
    }
    let runtime = on(&file()).build().await?;
    let run = mapped().on(&runtime).run().await?;
    let causes = async || {
        let why = runtime.why(run.id(), Some("total")).await.unwrap();
        why.causes.iter().map(|why| format!("{} {}", why.task.as_deref().unwrap(), why.state)).collect::<Vec<_>>()
    };
    assert_eq!(causes().await, ["checked[3] failed"]);
    LENGTH.store(2, SeqCst);
    BAD.store(0, SeqCst);
    runtime.rerun(run.id(), Rerun::From("listed".into())).await?;
    assert_eq!(causes().await, ["checked[0] failed"]);
    LENGTH.store(3, SeqCst);
    runtime.rerun(run.id(), Rerun::From("listed".into())).await?;
    assert_eq!(causes().await, ["checked[0] failed"]);
    Ok(())
}

#[tokio::test]
async fn why_follows_what_stands_in_for_an_upstream() -> Result<()> {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    #[task]
    async fn number() -> u32 {
        NUMBER.load(SeqCst)
    }
    #[task]
    async fn fails(n: u32) -> Result<u32> {
        Err(format!("{n} is bad").into())
    }
    #[task]
    async fn after(n: u32) -> u32 {
        n
    }
    #[flow(name = "adversary_why_body")]
    async fn body() -> Result<u32> {
        let n = number().await?;
        Ok(after(fails(n)).await?)
    }
    let runtime = on(&file()).build().await?;
    let run = body().on(&runtime).run().await?;
    NUMBER.store(2, SeqCst);
    runtime.rerun(run.id(), Rerun::From("number".into())).await?;
    let why = runtime.why(run.id(), Some("after")).await?.to_string();
    assert!(why.contains("2 is bad") && why.contains("attempt 2 failed"), "{why}");
    let unknown = runtime.why(run.id(), Some("nothing")).await.unwrap_err().to_string();
    assert_eq!(unknown.matches("`fails`").count(), 1, "{unknown}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn logs_of_a_run_that_runs_again_go_on() -> Result<()> {
    #[task]
    async fn says() -> u32 {
        tracing::info!("said");
        1
    }
    #[flow(name = "adversary_logs_again")]
    fn saying() -> Node<u32> {
        says()
    }
    captured();
    for (builder, _) in [(Runtime::builder().store("memory"), 0), (on(&file()), 1)] {
        let runtime = builder.build().await?;
        let run = saying().on(&runtime).run().await?;
        let last = runtime.logs(run.id(), None).await?.last().unwrap().number;
        runtime.rerun(run.id(), Rerun::All).await?;
        let lines = runtime.logs(run.id(), Some(last)).await?;
        let said: Vec<_> = lines.iter().filter(|line| line.message == "said").map(|line| line.attempt).collect();
        assert_eq!(said, [Some(2)]);
    }
    Ok(())
}

#[tokio::test]
async fn a_cached_result_of_any_length_is_replaced() -> Result<()> {
    #[task(cache = "1h")]
    async fn text(length: usize) -> String {
        "x".repeat(length)
    }
    #[flow(name = "adversary_lengths")]
    fn lengths() -> Mapped<String> {
        expand((0..200).collect::<Vec<usize>>(), text)
    }
    let runtime = on(&file()).build().await?;
    let run = lengths().on(&runtime).run().await?;
    for _ in 0..3 {
        assert_eq!(runtime.rerun(run.id(), Rerun::All).await?.state(), RunState::Success);
    }
    runtime.prune().await?;
    Ok(())
}

#[tokio::test]
async fn a_large_cached_result_that_is_replaced_leaves_nothing() -> Result<()> {
    #[task(cache = "1h")]
    async fn large() -> String {
        "x".repeat(2 << 20)
    }
    #[flow(name = "adversary_large_cached")]
    fn large_one() -> Node<u32> {
        one().after(large())
    }
    let path = file();
    let runtime = on(&path).build().await?;
    let entries = |folder: PathBuf| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let blobs = || {
        let parts = entries(path.with_file_name("runs.db-blobs"));
        parts.map(|part| if part.is_dir() { entries(part).count() } else { 1 }).sum::<usize>()
    };
    let run = large_one().on(&runtime).run().await?;
    // that of the attempt, and that of the cache
    assert_eq!(blobs(), 2);
    for attempts in 2..5 {
        runtime.rerun(run.id(), Rerun::All).await?;
        runtime.prune().await?;
        assert_eq!(blobs(), attempts + 1);
    }
    Ok(())
}
