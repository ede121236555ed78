//! Why a run, or a task of it, is as it is.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use orchestrator::prelude::*;
use orchestrator::{Clock, Error, Rerun, RunId, RunState, Runtime};

use crate::support::new_folder;

/// A runtime on a file: what waits for what is not recorded in memory. Its time goes on with
/// tokio's.
async fn sqlite() -> Runtime {
    let store = format!("sqlite:{}", new_folder("why").join("runs.db").display());
    Runtime::builder()
        .store(store)
        .clock(Clock::tokio_from_now())
        .build()
        .await
        .unwrap()
}

async fn why(runtime: &Runtime, run: RunId, task: &str) -> String {
    runtime.why(run, Some(task)).await.unwrap().to_string()
}

#[task]
async fn parse(number: u64) -> Result<u64> {
    if number == 2 {
        Err("2 is no number".into())
    } else {
        Ok(number)
    }
}

#[task]
async fn sum(numbers: Vec<u64>) -> u64 {
    numbers.iter().sum()
}

#[flow(name = "why_parsed")]
fn parsed(length: u64) -> Node<u64> {
    sum(expand((0..length).collect::<Vec<_>>(), parse))
}

#[tokio::test]
async fn why_sums_up_a_mapped_task() -> Result<()> {
    let runtime = sqlite().await;
    let run = parsed(4).on(&runtime).run().await?;
    let red = "parse[2]: failed\n    attempt 1 failed: 2 is no number\n";
    assert_eq!(
        why(&runtime, run.id(), "parse").await,
        format!("parse: failed\n  4 elements: 3 success, 1 failed\n  {red}")
    );
    let told = runtime.why(run.id(), Some("parse")).await?;
    assert_eq!((told.state, told.causes.len()), ("failed", 1));
    let error = runtime.why(run.id(), Some("parse[9]")).await.unwrap_err();
    assert!(
        matches!(&error, Error::UnknownTask { known, .. } if known == "`parse` with elements 0 to 3"),
        "{error}"
    );
    let green = parsed(2).on(&runtime).run().await?;
    assert_eq!(
        why(&runtime, green.id(), "parse").await,
        "parse: success\n  2 elements: 2 success\n"
    );
    Ok(())
}

#[task]
async fn fetch() -> u64 {
    1
}

#[task]
async fn transform(rows: u64) -> u64 {
    rows
}

#[task]
async fn publish(rows: u64) -> u64 {
    rows
}

#[flow(name = "why_etl")]
fn etl() -> Node<u64> {
    publish(transform(fetch()))
}

#[tokio::test(start_paused = true)]
async fn each_task_ran_again_for_the_re_run_that_covers_it() -> Result<()> {
    let runtime = sqlite().await;
    let run = etl().on(&runtime).run().await?.id();
    // time stands still: when they were asked for does not tell the re-runs apart
    runtime.rerun(run, Rerun::All).await?;
    runtime.rerun(run, Rerun::Only("transform".into())).await?;
    let (all, alone) = (
        "a re-run of all tasks was requested",
        "a re-run of `transform` alone was requested",
    );
    for (task, expected) in [("fetch", all), ("transform", alone), ("publish", all)] {
        let why = why(&runtime, run, task).await;
        assert!(
            why.contains(&format!("\n  it ran again because {expected} at ")),
            "{why}"
        );
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    runtime.rerun(run, Rerun::From("transform".into())).await?;
    let told = why(&runtime, run, "fetch").await;
    assert!(told.contains(all), "{told}");
    let told = why(&runtime, run, "publish").await;
    assert!(
        told.contains("a re-run of `transform` and everything downstream was requested"),
        "{told}"
    );
    Ok(())
}

#[task]
async fn odd(number: u64) -> Result<u64> {
    Err(format!("{number} is odd").into())
}

#[flow(name = "why_odd")]
fn all_odd() {
    odd(0).allow_failure();
    for number in 1..8 {
        odd(number);
    }
}

#[tokio::test]
async fn why_of_a_failed_run_counts_the_other_failures() -> Result<()> {
    let runtime = sqlite().await;
    let run = all_odd().on(&runtime).run().await?;
    let why = runtime.why(run.id(), None).await?;
    let causes: Vec<_> = why
        .causes
        .iter()
        .filter_map(|cause| cause.task.as_deref())
        .collect();
    assert_eq!(causes, ["odd#2", "odd#3", "odd#4", "odd#5", "odd#6"]);
    let why = why.to_string();
    assert!(
        why.contains("; and 2 more\n  2 more tasks are so; 5 are shown\n"),
        "{why}"
    );
    assert!(!why.contains("perhaps"), "{why}");
    Ok(())
}

static TRIES: AtomicU32 = AtomicU32::new(0);

#[task(retries = 2)]
async fn third_time() -> Result<u64> {
    match TRIES.fetch_add(1, SeqCst) {
        0 => Err("no network".into()),
        1 => Err("no route".into()),
        _ => Ok(1),
    }
}

#[flow(name = "why_retried")]
fn retried() -> Node<u64> {
    third_time()
}

#[tokio::test]
async fn a_retried_task_says_why() -> Result<()> {
    let runtime = sqlite().await;
    let run = retried().on(&runtime).run().await?;
    assert_eq!(
        why(&runtime, run.id(), "third_time").await,
        "third_time: success\n  attempt 3 succeeded\n  attempt 2 failed: no route\n  attempt 1 failed: no network\n"
    );
    Ok(())
}

#[task]
async fn long(first: u64) -> u64 {
    tokio::time::sleep(Duration::from_secs(600)).await;
    first
}

#[flow(name = "why_one_at_a_time", max_active_runs = 1)]
fn one_at_a_time(length: u64) -> Node<u64> {
    long(sum(expand((0..length).collect::<Vec<_>>(), parse)))
}

#[tokio::test(start_paused = true)]
async fn a_task_of_a_run_that_waits_waits_with_it() -> Result<()> {
    let runtime = sqlite().await;
    let first = one_at_a_time(2).on(&runtime).start().await?;
    let under_way =
        async |id| runtime.find_run(id).await.unwrap().unwrap().state() == RunState::Running;
    while !under_way(first.id()).await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let second = one_at_a_time(3).on(&runtime).start().await?;
    let turn =
        "it waits for a run slot: `max_active_runs` of its flow is 1, and the active runs are";
    for task in ["long", "parse", "parse[2]"] {
        let _case = crate::support::case(task);
        let expected = format!("{task}: pending\n  {turn} {}\n", first.id());
        assert_eq!(why(&runtime, second.id(), task).await, expected);
    }
    let error = runtime
        .why(second.id(), Some("slow"))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("has no task `slow` (it has `parse`, `sum`, `long`)"),
        "{error}"
    );
    second.cancel();
    first.cancel();
    let (first, second) = (first.await?, second.await?);
    for run in [first.id(), second.id()] {
        let told = why(&runtime, run, "long").await;
        assert_eq!(
            told,
            "long: cancelled\n  it was unfinished when the rest of its run was cancelled\n"
        );
    }
    Ok(())
}

#[flow(name = "why_late", timeout = "50ms")]
fn late() -> Node<u64> {
    publish(long(1))
}

#[tokio::test(start_paused = true)]
async fn why_names_the_timeout_that_cancelled_a_task() -> Result<()> {
    let runtime = sqlite().await;
    let run = late().on(&runtime).run().await?;
    let passed =
        "it was unfinished when the timeout of its flow passed: the run timed out after 50ms";
    for task in ["long", "publish"] {
        assert_eq!(
            why(&runtime, run.id(), task).await,
            format!("{task}: cancelled\n  {passed}\n")
        );
    }
    let told = runtime.why(run.id(), None).await?;
    assert_eq!(
        told.reasons[0].text,
        "the timeout of its flow passed: it timed out after 50ms"
    );
    assert_eq!(told.causes[0].task.as_deref(), Some("long"));
    Ok(())
}

#[task]
async fn numbers() -> Vec<u64> {
    tokio::time::sleep(Duration::from_secs(600)).await;
    Vec::new()
}

#[flow(name = "why_no_list", timeout = "50ms")]
fn no_list() -> Node<u64> {
    sum(numbers().expand(parse))
}

#[tokio::test(start_paused = true)]
async fn a_mapping_without_a_list_is_asked_for_as_a_whole() -> Result<()> {
    let runtime = sqlite().await;
    let run = no_list().on(&runtime).run().await?;
    let told = why(&runtime, run.id(), "parse").await;
    assert!(
        told.starts_with(
            "parse: cancelled\n  it was unfinished when the timeout of its flow passed: "
        ),
        "{told}"
    );
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
    #[flow(name = "why_nested")]
    fn nested(length: u32) -> Node<u32> {
        let lists = expand((0..length).collect::<Vec<u32>>(), |n| pair(n).expand(same));
        last(sum(lists))
    }
    let time = async |length: u32| {
        let runtime = sqlite().await;
        let run = nested(length).on(&runtime).run().await.unwrap();
        let began = Instant::now();
        for task in ["last", "sum"] {
            let _case = crate::support::case(task);
            let why = why(&runtime, run.id(), task).await;
            assert!(why.contains("lists"), "{why}");
        }
        began.elapsed()
    };
    let few = time(1_000).await;
    let many = time(8_000).await;
    assert!(
        many < 24 * few + Duration::from_millis(100),
        "{few:?} became {many:?}"
    );
    Ok(())
}

#[tokio::test]
async fn why_follows_current_tasks_after_a_rerun() -> Result<()> {
    static LENGTH: AtomicU32 = AtomicU32::new(4);
    static BAD: AtomicU32 = AtomicU32::new(3);
    #[task]
    async fn listed() -> Vec<u32> {
        (0..LENGTH.load(SeqCst)).collect()
    }
    #[task]
    async fn checked(n: u32) -> Result<u32> {
        if n == BAD.load(SeqCst) {
            Err(format!("{n} is bad").into())
        } else {
            Ok(n)
        }
    }
    #[task]
    async fn total(all: Vec<u32>) -> u32 {
        all.iter().sum()
    }
    #[flow(name = "why_mapped")]
    fn mapped() -> Node<u32> {
        total(listed().expand(checked))
    }
    let runtime = sqlite().await;
    let run = mapped().on(&runtime).run().await?;
    let causes = async || {
        let why = runtime.why(run.id(), Some("total")).await.unwrap();
        why.causes
            .iter()
            .map(|why| format!("{} {}", why.task.as_deref().unwrap(), why.state))
            .collect::<Vec<_>>()
    };
    assert_eq!(causes().await, ["checked[3] failed"]);
    LENGTH.store(2, SeqCst);
    BAD.store(0, SeqCst);
    runtime
        .rerun(run.id(), Rerun::From("listed".into()))
        .await?;
    assert_eq!(causes().await, ["checked[0] failed"]);
    LENGTH.store(3, SeqCst);
    runtime
        .rerun(run.id(), Rerun::From("listed".into()))
        .await?;
    assert_eq!(causes().await, ["checked[0] failed"]);
    Ok(())
}

#[tokio::test]
async fn why_follows_the_replacement_of_an_upstream() -> Result<()> {
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
    #[flow(name = "why_body")]
    async fn body() -> Result<u32> {
        let n = number().await?;
        Ok(after(fails(n)).await?)
    }
    let runtime = sqlite().await;
    let run = body().on(&runtime).run().await?;
    NUMBER.store(2, SeqCst);
    runtime
        .rerun(run.id(), Rerun::From("number".into()))
        .await?;
    let why = why(&runtime, run.id(), "after").await;
    assert!(
        why.contains("2 is bad") && why.contains("attempt 2 failed"),
        "{why}"
    );
    let unknown = runtime
        .why(run.id(), Some("nothing"))
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(unknown.matches("`fails`").count(), 1, "{unknown}");
    Ok(())
}
