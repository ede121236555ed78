//! What tasks log. Filters, what is shown, and processes that die have processes of their own.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use orchestrator::prelude::*;
use orchestrator::{Clock, LogLevel, LogLine, Rerun, RunId};
use tokio::time::timeout;
use tracing::Instrument as _;

use crate::support::{self, builder, file, url};

/// A runtime on a file.
async fn on(path: &Path) -> Runtime {
    Runtime::builder().store(url(path)).build().await.unwrap()
}

#[task]
async fn one() -> u32 {
    1
}

/// The lines of a run: `LEVEL TASK ATTEMPT INDEX message`.
async fn told(runtime: &Runtime, run: RunId) -> Vec<String> {
    let lines = runtime.logs(run, None).await.unwrap();
    assert!(lines.is_sorted_by(|one, next| one.number < next.number));
    assert!(lines.iter().all(|line| line.run == run));
    lines.iter().map(show).collect()
}

fn show(line: &LogLine) -> String {
    let LogLine { level, message, .. } = line;
    let mut shown = level.to_string();
    if let Some(task) = &line.task {
        shown.push_str(&format!(" {task} {}", line.attempt.unwrap()));
    }
    if let Some(index) = line.map_index {
        shown.push_str(&format!(" [{index}]"));
    }
    format!("{shown}: {message}")
}

fn of_tasks(mut told: Vec<String>) -> Vec<String> {
    told.retain(|line| !line.contains(": run "));
    told
}

#[task]
async fn extract(n: u32) -> u32 {
    tracing::info!(n, source = "table", "extracting");
    tokio::task::yield_now().await;
    tracing::warn!("after a wait");
    tracing::debug!("nobody listens to this");
    n
}

#[task]
fn crunch(n: u32) -> u32 {
    tracing::info!("on a thread");
    n + 1
}

#[flow]
fn etl() -> Node<u32> {
    tracing::info!("wiring");
    crunch(extract(1))
}

#[tokio::test]
async fn what_tasks_say_is_kept_with_their_run() -> Result<()> {
    let runtime = builder().build().await?;
    let run = etl().on(&runtime).run().await?;
    let expected = [
        "info: wiring",
        "info: run started",
        "info extract 1: extracting",
        "warn extract 1: after a wait",
        "info crunch 1: on a thread",
        "info: run finished",
    ];
    assert_eq!(told(&runtime, run.id()).await, expected);
    let lines = runtime.logs(run.id(), None).await?;
    assert_eq!(
        lines[2].fields,
        *serde_json::json!({ "n": 1, "source": "table" })
            .as_object()
            .unwrap()
    );
    assert_eq!(
        (lines[2].target.as_str(), lines[2].level),
        ("library::logs", LogLevel::Info)
    );
    assert!(lines[2].at >= run.started_at().unwrap() && lines[2].at <= run.finished_at().unwrap());
    let rest = runtime.logs(run.id(), Some(lines[3].number)).await?;
    assert_eq!(rest, lines[4..]);
    assert!(
        serde_json::to_string(&lines[2])
            .unwrap()
            .contains(r#""level":"info","target":"library::logs""#)
    );
    Ok(())
}

#[tokio::test]
async fn a_runtime_that_stores_no_logs_has_none() -> Result<()> {
    let runtime = builder().store_logs(false).build().await?;
    let run = etl().on(&runtime).run().await?;
    assert_eq!(told(&runtime, run.id()).await, [""; 0]);
    Ok(())
}

#[task]
async fn each(n: u32) -> u32 {
    tracing::info!("element");
    n
}

#[flow]
fn telling_elements() -> Mapped<u32> {
    expand(vec![5, 6, 7], each).expand(crunch)
}

#[tokio::test]
async fn elements_say_which_they_are() -> Result<()> {
    let runtime = builder().build().await?;
    let run = telling_elements().on(&runtime).run().await?;
    let mut told = of_tasks(told(&runtime, run.id()).await);
    told.sort();
    let expected = [
        "info crunch[0] 1 [0]: on a thread",
        "info crunch[1] 1 [1]: on a thread",
        "info crunch[2] 1 [2]: on a thread",
        "info each[0] 1 [0]: element",
        "info each[1] 1 [1]: element",
        "info each[2] 1 [2]: element",
    ];
    assert_eq!(told, expected);
    Ok(())
}

#[task(retries = 2)]
async fn flaky(#[context] context: &Context) -> Result<u32> {
    tracing::info!("trying");
    match context.attempt() {
        1 => Err("once".into()),
        2 => panic!("twice"),
        _ => Ok(3),
    }
}

#[task]
async fn fails(_n: u32) -> Result<u32> {
    Err("never".into())
}

#[task]
async fn skipped() -> Result<u32> {
    Err(skip("nothing to do").into())
}

#[flow]
fn bad() -> (Node<u32>, Node<u32>) {
    (fails(flaky()), skipped().allow_failure())
}

#[tokio::test]
async fn what_becomes_of_attempts_is_said() -> Result<()> {
    let runtime = builder().build().await?;
    let run = bad().on(&runtime).run().await?;
    assert_eq!(run.state(), RunState::Failed);
    let told = told(&runtime, run.id()).await;
    let said = |text: &str| told.iter().filter(|line| line.contains(text)).count();
    assert_eq!(
        said("info flaky 1: trying") + said("info flaky 2: trying") + said("info flaky 3: trying"),
        3
    );
    assert_eq!(
        said("warn flaky 1: attempt failed, next in 0s: once"),
        1,
        "{told:#?}"
    );
    assert_eq!(
        said("warn flaky 2: attempt failed, next in 0s: panicked at"),
        1,
        "{told:#?}"
    );
    assert_eq!(said("error fails 1: task failed: never"), 1);
    assert_eq!(
        said("info skipped 1: task skipped: nothing to do"),
        1,
        "{told:#?}"
    );
    assert!(
        told.last().unwrap().starts_with("error: run finished: "),
        "{told:#?}"
    );
    Ok(())
}

#[flow]
async fn inner(n: u32) -> Result<u32> {
    tracing::info!("in the inner body");
    Ok(extract(n).await?)
}

#[flow]
async fn telling() -> Result<u32> {
    tracing::info!("in the body");
    let n = inner(1).await?;
    tracing::info!(n, "again");
    Ok(n)
}

#[tokio::test]
async fn bodies_of_flows_log_too() -> Result<()> {
    let runtime = builder().build().await?;
    let run = telling().on(&runtime).run().await?;
    let expected = [
        "info: in the body",
        "info inner 1: in the inner body",
        "info inner/extract 1: extracting",
        "warn inner/extract 1: after a wait",
        "info: again",
    ];
    assert_eq!(of_tasks(told(&runtime, run.id()).await), expected);
    Ok(())
}

#[task]
async fn spawns() -> u32 {
    let in_span = tokio::spawn(async { tracing::info!("spawned") }.in_current_span());
    in_span.await.unwrap();
    tokio::spawn(async { tracing::info!("nobody's") })
        .await
        .unwrap();
    tracing::info_span!("own", n = 1).in_scope(|| tracing::info!("in a span"));
    // a task in a task, which is no node of the run
    fails(1).await.unwrap_err();
    extract(1).await.unwrap()
}

#[flow]
fn spawning() -> Node<u32> {
    spawns()
}

#[tokio::test]
async fn what_is_spawned_in_the_span_belongs_to_the_task() -> Result<()> {
    let runtime = builder().build().await?;
    let run = spawning().on(&runtime).run().await?;
    let expected = [
        "info: run started",
        "info spawns 1: spawned",
        "info spawns 1: in a span",
        "error spawns 1: task failed: never",
        "info spawns 1: extracting",
        "warn spawns 1: after a wait",
        "info: run finished",
    ];
    assert_eq!(told(&runtime, run.id()).await, expected);
    let lines = runtime.logs(run.id(), None).await?;
    assert_eq!(
        lines.iter().find_map(|line| line.fields.get("task")),
        Some(&"fails".into())
    );
    Ok(())
}

#[task]
async fn floods(lines: u32) -> u32 {
    for number in 0..lines {
        tracing::info!(number, "flood");
    }
    tracing::info!("{}", "x".repeat(1 << 20));
    lines
}

#[flow]
fn flood(lines: u32) -> Node<u32> {
    floods(lines)
}

#[tokio::test]
async fn a_flood_is_bounded() -> Result<()> {
    let runtime = builder().build().await?;
    let run = flood(5_000).on(&runtime).run().await?;
    let lines = runtime.logs(run.id(), None).await?;
    assert_eq!(lines.len(), 5_003);
    let long = &lines[5_001].message;
    assert!(long.len() < 17_000 && long.ends_with("more bytes are cut off)"));
    let run = flood(25_000).on(&runtime).run().await?;
    let lines = runtime.logs(run.id(), None).await?;
    assert_eq!(lines.len(), 10_000);
    let more = runtime
        .logs(run.id(), lines.last().map(|line| line.number))
        .await?;
    assert!(more.len() < 10, "{}", more.len());
    if support::is_durable() {
        let dropped = more
            .iter()
            .find_map(|line| line.fields.get("dropped")?.as_u64());
        assert!(dropped.unwrap() >= 15_000);
    }
    Ok(())
}

/// How late a line may be that is written within a second, on a machine that has much else to do.
const LATE: Duration = Duration::from_secs(15);

#[tokio::test]
async fn another_process_finds_lines_soon_and_while_their_task_runs() -> Result<()> {
    let path = file();
    let (runtime, reader) = (on(&path).await, on(&path).await);
    let clock = Clock::system();
    let handle = waiting().on(&runtime).start().await?;
    let started = Instant::now();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        assert!(started.elapsed() < 4 * LATE, "{seen:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
        let after = seen.last().map(|line: &LogLine| line.number);
        let found = reader.logs(handle.id(), after).await?;
        let late = found
            .iter()
            .map(|line| clock.now() - line.at)
            .max()
            .unwrap_or_default();
        assert!(
            late.to_std().unwrap_or_default() < LATE,
            "found after {late}: {found:?}"
        );
        seen.extend(found);
    }
    assert_eq!(
        seen.iter().map(show).collect::<Vec<_>>(),
        ["info: run started", "info waits 1: waiting"]
    );
    assert_eq!(
        reader.find_run(handle.id()).await?.unwrap().state(),
        RunState::Running
    );
    handle.cancel();
    handle.await?;
    let rest: Vec<_> = reader
        .logs(seen[0].run, Some(seen[1].number))
        .await?
        .iter()
        .map(show)
        .collect();
    assert_eq!(rest[..1], ["info waits 1: task cancelled"]);
    assert!(rest[1].starts_with("warn: run finished"), "{rest:?}");
    Ok(())
}

#[task]
async fn waits() {
    tracing::info!("waiting");
    std::future::pending().await
}

#[flow]
fn waiting() -> Node<()> {
    waits()
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
    #[flow(name = "logs_flood")]
    fn flood() {
        for _ in 0..3 {
            floods();
        }
    }
    #[flow(name = "logs_quick")]
    fn quick() -> Node<u32> {
        one()
    }
    let runtime = on(&file()).await;
    let flooding = flood().on(&runtime).start().await?;
    while LINES.load(SeqCst) < 10_000 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let ended = timeout(Duration::from_secs(10), quick().on(&runtime).run()).await;
    FLOODING.store(false, SeqCst);
    flooding.await?;
    assert!(ended.is_ok(), "a run waits for another one's lines");
    Ok(())
}

#[test]
fn what_a_run_said_is_there_when_its_end_is() {
    #[task]
    async fn says() -> u32 {
        tracing::info!("said");
        1
    }
    #[flow(name = "logs_says")]
    fn saying() -> Node<u32> {
        says()
    }
    let (tokio, is_reached, let_go) = support::held();
    tokio.block_on(async {
        let path = file();
        let runtime = on(&path).await;
        let reader = on(&path).await;
        let handle = saying().on(&runtime).start().await.unwrap();
        let id = handle.id();
        is_reached.recv_timeout(Duration::from_secs(60)).unwrap();
        // another process that follows the run sees its end, and looks no more
        assert!(
            reader
                .find_run(id)
                .await
                .unwrap()
                .unwrap()
                .state()
                .is_final()
        );
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
    #[flow(name = "logs_in_flight")]
    fn saying() -> Node<u32> {
        says()
    }
    let path = file();
    let runtime = on(&path).await;
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

#[tokio::test(start_paused = true)]
async fn logs_of_a_run_that_runs_again_go_on() -> Result<()> {
    #[task]
    async fn says() -> u32 {
        tracing::info!("said");
        1
    }
    #[flow(name = "logs_again")]
    fn saying() -> Node<u32> {
        says()
    }
    for store in ["memory".to_owned(), url(&file())] {
        let runtime = Runtime::builder().store(store).build().await?;
        let run = saying().on(&runtime).run().await?;
        let last = runtime.logs(run.id(), None).await?.last().unwrap().number;
        runtime.rerun(run.id(), Rerun::All).await?;
        let lines = runtime.logs(run.id(), Some(last)).await?;
        let said: Vec<_> = lines
            .iter()
            .filter(|line| line.message == "said")
            .map(|line| line.attempt)
            .collect();
        assert_eq!(said, [Some(2)]);
    }
    Ok(())
}
