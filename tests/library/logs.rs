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
async fn logs_of_tasks_are_stored_with_their_run() -> Result<()> {
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
async fn logs_of_elements_have_their_index() -> Result<()> {
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
async fn outcomes_of_attempts_are_logged() -> Result<()> {
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
async fn logs_of_flow_bodies_are_stored() -> Result<()> {
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

/// Takes longer than a line waits before it is stored.
#[flow]
fn slowly_wired() -> Node<u32> {
    tracing::info!("wiring");
    std::thread::park_timeout(Duration::from_millis(700));
    one()
}

#[tokio::test]
async fn logs_from_before_the_run_is_recorded_are_kept() -> Result<()> {
    let runtime = on(&file()).await;
    let run = slowly_wired().on(&runtime).run().await?;
    assert_eq!(
        told(&runtime, run.id()).await,
        ["info: wiring", "info: run started", "info: run finished"]
    );
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
async fn logs_of_spawned_futures_in_the_span_belong_to_the_task() -> Result<()> {
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

/// All lines of a run, however many.
async fn all_lines(runtime: &Runtime, run: RunId) -> Vec<LogLine> {
    let mut lines: Vec<LogLine> = Vec::new();
    loop {
        let more = runtime
            .logs(run, lines.last().map(|line| line.number))
            .await
            .unwrap();
        if more.is_empty() {
            return lines;
        }
        lines.extend(more);
    }
}

/// Checks what is left of the lines `0..said` of a task, of which each `graves`th is an error: its
/// first and last lines, all errors, and a count of the rest where it is missing.
#[track_caller]
fn check_flood(lines: &[LogLine], task: &str, said: u64, graves: u64) {
    let of_task: Vec<&LogLine> = lines
        .iter()
        .filter(|line| line.task.as_deref() == Some(task))
        .collect();
    let number = |line: &&LogLine| {
        line.fields
            .get("number")
            .and_then(serde_json::Value::as_u64)
    };
    let kept: Vec<u64> = of_task.iter().filter_map(number).collect();
    assert!(kept.is_sorted(), "{task}: the order is another");
    let (first, last): (Vec<u64>, Vec<u64>) =
        ((0..1_000).collect(), (said - 1_000..said).collect());
    assert!(
        kept.starts_with(&first) && kept.ends_with(&last),
        "{task}: its first and its last lines"
    );
    let errors = (0..said).filter(|number| number % graves == 7);
    assert!(
        errors
            .into_iter()
            .all(|number| kept.binary_search(&number).is_ok()),
        "{task}: its errors"
    );
    let mut before = None;
    let mut missing = 0;
    for line in of_task {
        match (
            number(&line),
            line.fields
                .get("dropped")
                .and_then(serde_json::Value::as_u64),
        ) {
            (Some(number), _) => before = Some(number),
            (None, Some(dropped)) => {
                assert!(
                    line.message
                        .starts_with(&format!("{dropped} lines are missing here")),
                    "{}",
                    line.message
                );
                assert!(
                    before.is_some_and(|before| kept.binary_search(&(before + 1)).is_err()),
                    "{task}: not here"
                );
                missing += dropped;
            }
            (None, None) => {}
        }
    }
    assert_eq!(kept.len() as u64 + missing, said, "{task}: the count");
}

fn say(number: u64, graves: u64) {
    if number % graves == 7 {
        tracing::error!(number, "flood")
    } else {
        tracing::info!(number, "flood")
    }
}

#[tokio::test]
async fn a_flood_loses_its_middle_and_neither_its_errors_nor_its_end() -> Result<()> {
    #[task]
    async fn floods(said: u64) -> Result<u32> {
        (0..said).for_each(|number| say(number, 5_000));
        Err("it is over".into())
    }
    #[flow(name = "logs_flood_at_once")]
    fn flood(said: u64) -> Node<u32> {
        floods(said)
    }
    let runtime = builder().build().await?;
    for said in [5_000, 12_000, 50_000] {
        let _case = support::case(format_args!("{said} lines"));
        let run = flood(said).on(&runtime).run().await?;
        let lines = all_lines(&runtime, run.id()).await;
        check_flood(&lines, "floods", said, 5_000);
        let told: Vec<_> = lines[lines.len() - 2..].iter().map(show).collect();
        assert_eq!(told[0], "error floods 1: task failed: it is over");
        assert!(told[1].starts_with("error: run finished"), "{told:?}");
        let missing = lines.iter().any(|line| line.fields.contains_key("dropped"));
        assert!(!missing || said > 10_000, "{said} lines are few");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn floods_of_several_tasks_lose_each_its_own_middle() -> Result<()> {
    #[task]
    fn floods(said: u64) -> u64 {
        (0..said).for_each(|number| say(number, 1_000));
        said
    }
    #[task]
    async fn quiet() {
        tracing::info!("said");
    }
    #[flow(name = "logs_floods")]
    fn flood(said: u64) -> Mapped<u64> {
        quiet();
        expand(vec![said, said + 1, said + 2], floods)
    }
    let runtime = builder().build().await?;
    let run = flood(30_000).on(&runtime).run().await?;
    let lines = all_lines(&runtime, run.id()).await;
    for index in 0..3 {
        check_flood(&lines, &format!("floods[{index}]"), 30_000 + index, 1_000);
    }
    assert!(lines.iter().any(|line| show(line) == "info quiet 1: said"));
    Ok(())
}

#[tokio::test]
async fn a_flood_of_errors_is_bounded_and_counted() -> Result<()> {
    #[task]
    async fn floods(said: u64) -> Result<u32> {
        (0..said).for_each(|number| tracing::error!(number, "flood"));
        tracing::info!("{}", "x".repeat(1 << 20));
        Err("it is over".into())
    }
    #[flow(name = "logs_flood_of_errors")]
    fn flood(said: u64) -> Node<u32> {
        floods(said)
    }
    let runtime = builder().build().await?;
    let said = 100_000;
    let run = flood(said).on(&runtime).run().await?;
    let lines = all_lines(&runtime, run.id()).await;
    let counts = |name: &str| {
        lines
            .iter()
            .filter_map(|line| line.fields.get(name)?.as_u64())
            .sum::<u64>()
    };
    let kept = lines.iter().filter(|line| line.message == "flood").count() as u64;
    assert_eq!(counts("dropped"), counts("dropped_warnings"));
    // on a slow machine the body is warned of for keeping its thread, and that is dropped, too
    assert!(
        (said..=said + 1).contains(&(kept + counts("dropped"))),
        "{kept} of {said}"
    );
    let end: Vec<_> = lines[lines.len() - 3..].iter().map(show).collect();
    assert!(
        end[0].starts_with("info floods 1: xxx") && end[0].len() < 17_000,
        "{}",
        end[0].len()
    );
    assert!(end[0].ends_with("more bytes are cut off)"));
    assert_eq!(end[1], "error floods 1: task failed: it is over");
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
    let ended = timeout(Duration::from_secs(60), quick().on(&runtime).run()).await;
    FLOODING.store(false, SeqCst);
    flooding.await?;
    assert!(ended.is_ok(), "a run waits for another one's lines");
    Ok(())
}

#[test]
fn logs_of_a_run_are_stored_before_its_end() {
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
async fn reader_waits_for_lines_that_are_being_stored() -> Result<()> {
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
        let _case = support::case(format_args!("{store}"));
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
