//! Mappings: order, nesting, captured nodes, streaming, limits, failures.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use orchestrator::prelude::*;
use tokio::time::Instant;

#[task]
async fn range(n: u32) -> Vec<u32> {
    (0..n).collect()
}

#[task]
async fn double(n: u32) -> u32 {
    n * 2
}

#[task]
async fn add(a: u32, b: u32) -> u32 {
    a + b
}

#[task]
async fn sum(numbers: &[u32]) -> u32 {
    numbers.iter().sum()
}

#[task]
async fn collect(numbers: Vec<u32>) -> Vec<u32> {
    numbers
}

#[task]
async fn odd_fails(n: u32) -> Result<u32> {
    if n % 2 == 1 {
        Err(format!("{n} is odd").into())
    } else {
        Ok(n)
    }
}

#[task]
async fn odd_skips(n: u32) -> Result<u32> {
    if n % 2 == 1 {
        Err(skip(format!("{n} is odd")).into())
    } else {
        Ok(n)
    }
}

#[task]
async fn outcomes(all: Vec<Outcome<u32>>) -> String {
    let one = |outcome: &Outcome<u32>| match outcome {
        Outcome::Success(n) => n.to_string(),
        Outcome::Failed(error) => format!("F({error})"),
        Outcome::Skipped(reason) => format!("K({reason})"),
        Outcome::UpstreamFailed => "U".to_owned(),
    };
    all.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[task]
async fn sleep(seconds: u32) -> u32 {
    tokio::time::sleep(Duration::from_secs(u64::from(seconds))).await;
    seconds
}

#[tokio::test]
async fn results_keep_the_order_of_the_list() -> Result<()> {
    #[task]
    async fn last_first(n: u32) -> u32 {
        tokio::time::sleep(Duration::from_millis(u64::from(20 - n))).await;
        n
    }
    #[flow]
    fn ordered() -> Mapped<u32> {
        range(20).expand(last_first)
    }
    assert_eq!(
        ordered().on(&crate::support::runtime()).await?,
        (0..20).collect::<Vec<_>>()
    );
    Ok(())
}

#[tokio::test]
async fn closures_capture_values_and_nodes_and_make_several_tasks() -> Result<()> {
    #[flow]
    fn captured(offset: u32) -> Node<Vec<u32>> {
        let base = double(50);
        collect(range(4).expand(|n| {
            let doubled = double(&n);
            add(add(doubled, &base), add(n, offset))
        }))
    }
    let run = captured(1000).on(&crate::support::runtime()).run().await?;
    assert_eq!(run.output().unwrap(), &[1100, 1103, 1106, 1109]);
    let keys: Vec<String> = run.tasks().iter().map(|task| task.key()).collect();
    assert_eq!(keys[..4], ["double", "range", "double#2[0]", "double#2[1]"]);
    assert_eq!(run.tasks().len(), 2 + 4 * 4 + 1);
    assert_eq!(run.task("add#2[3]").unwrap().map_index(), Some(3));
    Ok(())
}

#[tokio::test]
async fn mappings_nest() -> Result<()> {
    #[task]
    async fn total(groups: Vec<Vec<u32>>) -> u32 {
        groups.into_iter().flatten().sum()
    }
    #[flow]
    fn nested(n: u32) -> Node<u32> {
        let factor = double(5);
        total(
            range(n).expand(|outer| range(&outer).expand(|inner| add(add(inner, &outer), &factor))),
        )
    }
    #[flow]
    fn thrice(n: u32) -> Mapped<u32> {
        range(n).expand(|a| sum(range(a).expand(|b| sum(range(b).expand(double)))))
    }
    let runtime = crate::support::runtime();
    let expected: u32 = (0..5)
        .flat_map(|outer| (0..outer).map(move |inner| inner + outer + 10))
        .sum();
    let run = nested(5).on(&runtime).run().await?;
    assert_eq!(run.output(), Some(&expected));
    assert_eq!(run.task("add[4][2]").unwrap().state(), TaskState::Success);
    let keys: Vec<String> = run
        .tasks()
        .iter()
        .filter(|task| task.name() == "add")
        .map(|task| task.key())
        .collect();
    assert_eq!(
        keys[..4],
        ["add[1][0]", "add[2][0]", "add[2][1]", "add[3][0]"]
    );
    let thirds = |b: u32| (0..b).map(|c| 2 * c).sum::<u32>();
    let expected: Vec<u32> = (0..5).map(|a| (0..a).map(thirds).sum()).collect();
    assert_eq!(thrice(5).on(&runtime).await?, expected);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn elements_go_on_without_waiting_for_each_other() -> Result<()> {
    static ENDS: Mutex<Vec<(u32, u64)>> = Mutex::new(Vec::new());
    #[task]
    async fn note(n: u32, started: u64) -> u32 {
        ENDS.lock().unwrap().push((n, started));
        n
    }
    #[flow]
    fn streamed() -> Mapped<u32> {
        expand(vec![100, 1, 50], sleep).expand(|n| note(n, 0))
    }
    let started = Instant::now();
    streamed().on(&crate::support::runtime()).await?;
    assert_eq!(started.elapsed().as_secs(), 100);
    let order: Vec<u32> = ENDS.lock().unwrap().iter().map(|(n, _)| *n).collect();
    assert_eq!(order, [1, 50, 100]);
    Ok(())
}

#[tokio::test]
async fn a_later_stage_may_be_added_while_the_mapping_runs() -> Result<()> {
    #[flow]
    async fn added() -> Result<Vec<u32>> {
        let doubled = range(5).expand(double);
        let first: Vec<u32> = doubled.clone().await?;
        assert_eq!(first, [0, 2, 4, 6, 8]);
        let total = sum(&doubled);
        Ok(doubled.expand(|n| add(n, &total)).await?)
    }
    assert_eq!(
        added().on(&crate::support::runtime()).await?,
        [20, 22, 24, 26, 28]
    );
    Ok(())
}

#[tokio::test]
async fn a_mapping_may_use_its_own_whole() -> Result<()> {
    #[flow]
    fn shares() -> Mapped<u32> {
        let doubled = range(4).expand(double);
        let total = sum(&doubled);
        doubled.expand(|n| add(n, &total))
    }
    assert_eq!(
        shares().on(&crate::support::runtime()).await?,
        [12, 14, 16, 18]
    );
    Ok(())
}

#[tokio::test]
async fn failed_elements_fail_only_tasks_that_take_the_list() -> Result<()> {
    #[flow]
    fn partly() -> Node<String> {
        outcomes(range(4).expand(odd_fails).expand(double))
    }
    #[flow(name = "expand_whole")]
    fn whole() -> Node<u32> {
        sum(range(4).expand(odd_fails))
    }
    #[flow]
    fn skipping() -> (Node<Vec<u32>>, Node<String>) {
        let kept = range(5).expand(odd_skips);
        (collect(&kept), outcomes(kept))
    }
    let runtime = crate::support::runtime();
    let run = partly().on(&runtime).run().await?;
    assert_eq!(run.output().unwrap(), "0 U 4 U");
    assert_eq!(run.state(), RunState::Success);
    assert_eq!(
        run.task("double[1]").unwrap().state(),
        TaskState::UpstreamFailed
    );
    let run = whole().on(&runtime).run().await?;
    assert_eq!(run.state(), RunState::Failed);
    let error = run.task("sum").unwrap().error().unwrap().to_string();
    assert!(
        error.contains("2 of 4") && error.contains("1 is odd"),
        "{error}"
    );
    let (kept, all) = skipping().on(&runtime).await?;
    assert_eq!(kept, [0, 2, 4]);
    assert_eq!(all, "0 K(1 is odd) 2 K(3 is odd) 4");
    Ok(())
}

#[tokio::test]
async fn a_list_that_never_comes_leaves_one_row_a_task() -> Result<()> {
    #[task]
    async fn no_list() -> Result<Vec<u32>> {
        Err("no list today".into())
    }
    #[task]
    async fn handled(n: Outcome<u32>) -> bool {
        n.is_success()
    }
    #[flow]
    fn failed() -> Node<u32> {
        sum(no_list().expand(|n| add(double(n), 1)))
    }
    #[flow]
    fn handled_far_away() -> Node<bool> {
        handled(sum(no_list().expand(double)))
    }
    #[flow(name = "expand_skipped")]
    fn skipped() -> Node<u32> {
        let rows = range(3).map(|_| Vec::<u32>::new());
        let _ = rows;
        sum(nothing().expand(double))
    }
    #[task]
    async fn nothing() -> Result<Vec<u32>> {
        Err(skip("holiday").into())
    }
    let runtime = crate::support::runtime();
    let run = failed().on(&runtime).run().await?;
    assert_eq!(run.state(), RunState::Failed);
    let states: Vec<(String, TaskState)> = run
        .tasks()
        .iter()
        .map(|task| (task.key(), task.state()))
        .collect();
    let upstream = TaskState::UpstreamFailed;
    let expected = [
        ("no_list", TaskState::Failed),
        ("double", upstream),
        ("add", upstream),
        ("sum", upstream),
    ];
    assert_eq!(states, expected.map(|(key, state)| (key.to_owned(), state)));
    let run = handled_far_away().on(&runtime).run().await?;
    assert_eq!(
        (run.state(), run.output()),
        (RunState::Success, Some(&false))
    );
    let run = skipped().on(&runtime).run().await?;
    assert_eq!(run.state(), RunState::Success);
    assert_eq!(run.task("sum").unwrap().state(), TaskState::Skipped);
    Ok(())
}

#[tokio::test]
async fn lists_are_crossed_and_zipped() -> Result<()> {
    #[task]
    async fn triple(a: u32, b: u32, c: u32) -> u32 {
        a * 100 + b * 10 + c
    }
    #[flow]
    fn crossed() -> Mapped<u32> {
        range(2).cross(vec![5, 6]).cross(range(2)).expand(|item| {
            let (ab, c) = item.unzip();
            let (a, b) = ab.unzip();
            triple(a, b, c)
        })
    }
    #[flow]
    fn zipped(other: u32) -> Mapped<u32> {
        range(3).zip(range(other)).expand(|pair| {
            let (a, b) = pair.unzip();
            add(a, b)
        })
    }
    let runtime = crate::support::runtime();
    assert_eq!(
        crossed().on(&runtime).await?,
        [50, 51, 60, 61, 150, 151, 160, 161]
    );
    assert_eq!(zipped(3).on(&runtime).await?, [0, 2, 4]);
    let run = zipped(5).on(&runtime).run().await?;
    assert_eq!(run.state(), RunState::Failed);
    let error = run.error().unwrap().to_string();
    assert!(error.contains("3 and 5 elements"), "{error}");
    Ok(())
}

#[tokio::test]
async fn bare_elements_and_projected_ones_are_collected() -> Result<()> {
    #[flow(name = "expand_bare")]
    fn bare() -> (Mapped<u32>, Mapped<u32>, Mapped<u32>) {
        let list = range(3);
        (
            list.expand(|n| n),
            list.expand(|n| n.map(|n| n + 10)),
            list.expand(|n| double(n).map(|n| n + 1)),
        )
    }
    let (bare, projected, behind) = bare().on(&crate::support::runtime()).await?;
    assert_eq!(
        (bare, projected, behind),
        (vec![0, 1, 2], vec![10, 11, 12], vec![1, 3, 5])
    );
    Ok(())
}

static UNDER_WAY: AtomicU32 = AtomicU32::new(0);
static MOST: AtomicU32 = AtomicU32::new(0);

#[tokio::test(start_paused = true)]
async fn concurrency_counts_elements_from_their_first_task_to_their_last() -> Result<()> {
    #[task]
    async fn enter(n: u32) -> u32 {
        MOST.fetch_max(UNDER_WAY.fetch_add(1, SeqCst) + 1, SeqCst);
        tokio::time::sleep(Duration::from_secs(1)).await;
        n
    }
    #[task]
    async fn leave(n: u32) -> u32 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        UNDER_WAY.fetch_sub(1, SeqCst);
        n
    }
    #[flow(name = "expand_limited")]
    fn limited() -> Node<u32> {
        sum(range(10).expand(|n| leave(enter(n))).concurrency(3))
    }
    let started = Instant::now();
    assert_eq!(limited().on(&crate::support::runtime()).await?, 45);
    assert_eq!(MOST.load(SeqCst), 3);
    assert_eq!(started.elapsed().as_secs(), 8);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn element_that_waits_for_its_retry_gives_up_its_slot() -> Result<()> {
    #[task(retries = 1, retry_delay = "1h")]
    async fn first_fails(n: u32, #[context] context: &Context) -> Result<u32> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if n == 0 && context.attempt() == 1 {
            Err("once".into())
        } else {
            Ok(n)
        }
    }
    #[flow(name = "expand_limited_2")]
    fn limited() -> Node<u32> {
        sum(range(10).expand(first_fails).concurrency(1))
    }
    let started = Instant::now();
    assert_eq!(limited().on(&crate::support::runtime()).await?, 45);
    // one second each, and element 0 again an hour after its failure
    assert_eq!(started.elapsed().as_secs(), 3602);
    Ok(())
}

#[tokio::test]
async fn options_on_a_mapping_hold_for_its_task() -> Result<()> {
    #[flow(name = "expand_one")]
    fn one() -> Node<String> {
        outcomes(range(2).expand(odd_fails).retries(2).named("checked"))
    }
    let run = one().on(&crate::support::runtime()).run().await?;
    assert_eq!(run.task("checked[1]").unwrap().attempts(), 3);
    #[flow]
    fn several() -> Mapped<u32> {
        range(2).expand(|n| double(double(n))).retries(2)
    }
    let error = several()
        .on(&crate::support::runtime())
        .run()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`retries`") && error.contains("2 tasks"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn siblings_are_independent_and_all_run_once() -> Result<()> {
    static SEEN: Mutex<Option<HashMap<u32, u32>>> = Mutex::new(None);
    #[task]
    async fn see(n: u32) -> u32 {
        *SEEN
            .lock()
            .unwrap()
            .get_or_insert_default()
            .entry(n)
            .or_default() += 1;
        if n.is_multiple_of(7) {
            tokio::task::yield_now().await;
        }
        n
    }
    #[flow(name = "expand_many")]
    fn many() -> Node<u32> {
        sum(range(10_000).expand(see).expand(see))
    }
    assert_eq!(many().on(&crate::support::runtime()).await?, 49_995_000);
    let seen = SEEN.lock().unwrap().take().unwrap();
    assert_eq!(seen.len(), 10_000);
    assert!(seen.values().all(|times| *times == 2));
    Ok(())
}

#[tokio::test]
async fn an_element_with_a_stated_rule_and_outside_upstreams() -> Result<()> {
    #[task(trigger = all_done)]
    async fn settle(n: Option<u32>, other: Option<u32>) -> u32 {
        n.unwrap_or(100) + other.unwrap_or(1000)
    }
    #[flow]
    fn settled() -> Node<Vec<u32>> {
        let outside = odd_fails(1).allow_failure();
        collect(range(3).expand(|n| settle(odd_fails(n).allow_failure(), &outside)))
    }
    assert_eq!(
        settled().on(&crate::support::runtime()).await?,
        [1000, 1100, 1002]
    );
    Ok(())
}

/// Runs a flow that must come to an end.
async fn ends<T: orchestrator::Data>(flow: Flow<T>) -> Run<T> {
    let run = tokio::time::timeout(
        Duration::from_secs(3600),
        flow.on(&crate::support::runtime()).run(),
    );
    run.await.expect("the run comes to its end").unwrap()
}

#[task]
async fn later(n: u32) -> Vec<u32> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    (0..n).collect()
}

#[task]
async fn both(a: Outcome<u32>, b: Outcome<u32>) -> bool {
    a.is_success() && b.is_success()
}

#[tokio::test(start_paused = true)]
async fn a_captured_node_may_fail_before_an_empty_list_comes() {
    #[flow]
    fn empty() -> Node<u32> {
        let failed = odd_fails(1).allow_failure();
        sum(later(0).expand(|n| add(n, &failed)))
    }
    #[flow]
    fn empty_within() -> Mapped<u32> {
        let failed = odd_skips(1);
        later(2).expand(|_| sum(later(0).expand(|n| add(n, &failed))))
    }
    assert_eq!(ends(empty()).await.output(), Some(&0));
    assert_eq!(ends(empty_within()).await.output(), Some(&vec![0, 0]));
}

#[tokio::test(start_paused = true)]
async fn a_captured_node_may_fail_before_a_mapping_that_uses_its_own_whole() {
    #[flow]
    fn whole() -> Mapped<bool> {
        let failed = odd_fails(1);
        let sums = later(3).expand(|n| add(n, &failed));
        let total = sum(&sums);
        sums.expand(|n| both(n, &total))
    }
    let run = ends(whole()).await;
    assert_eq!(
        (run.state(), run.output()),
        (RunState::Success, Some(&vec![false, false, false]))
    );
}

#[tokio::test]
async fn bare_elements_may_be_used_again_after_they_are_final() {
    #[flow]
    async fn used_again() -> Result<Vec<u32>> {
        let tens = range(3).expand(|n: Node<u32>| n.map(|n| n * 10));
        let more: Vec<u32> = tens.expand(double).await?;
        let bare: Vec<u32> = tens.clone().await?;
        let once_more: Vec<u32> = tens.expand(|n| add(n, 1)).await?;
        Ok([more, bare, once_more].concat())
    }
    assert_eq!(
        ends(used_again()).await.output(),
        Some(&vec![0, 20, 40, 0, 10, 20, 1, 11, 21])
    );
}

#[tokio::test]
async fn outcomes_of_a_list_that_never_came_are_missing_by_name() {
    #[task]
    async fn broken_list() -> Result<Vec<u32>> {
        Err("no list".into())
    }
    #[task(trigger = all_done)]
    async fn report(results: Vec<Outcome<u32>>) -> usize {
        results.len()
    }
    #[flow]
    fn reported() -> Node<usize> {
        report(broken_list().expand(double))
    }
    let run = ends(reported()).await;
    let report = run.task("report").unwrap();
    assert_eq!(report.state(), TaskState::UpstreamFailed);
    assert!(
        report.error().unwrap().to_string().contains("`results`"),
        "{:?}",
        report.error()
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_mapping_starts_after_a_cancel() -> Result<()> {
    #[flow]
    fn cancelled_early() -> Node<u32> {
        let (started, go) = (&STARTED, &GO);
        sum(range(5)
            .map(move |list| {
                started.store(1, SeqCst);
                while go.load(SeqCst) == 0 {
                    std::thread::yield_now();
                }
                list.clone()
            })
            .expand(double))
    }
    static STARTED: AtomicU32 = AtomicU32::new(0);
    static GO: AtomicU32 = AtomicU32::new(0);
    let threads = tokio::task::spawn_blocking(|| {
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .unwrap();
        threads.block_on(async {
            let handle = cancelled_early()
                .on(&crate::support::runtime())
                .start()
                .await
                .unwrap();
            while STARTED.load(SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
            handle.cancel();
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            GO.store(1, SeqCst);
            handle.await.unwrap()
        })
    });
    let run = threads.await?;
    assert_eq!(run.state(), RunState::Cancelled);
    assert!(
        run.tasks()
            .iter()
            .filter(|task| task.name() == "double")
            .all(|task| task.state() == TaskState::Cancelled)
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_limit_holds_for_its_own_stage_and_is_set_before_planning() {
    #[flow]
    fn leaking() -> Mapped<u32> {
        expand(vec![1, 1, 1, 1], |n: Node<u32>| n)
            .concurrency(1)
            .expand(sleep)
    }
    #[flow]
    async fn too_late() -> Result<Vec<u32>> {
        let slept = expand(vec![1, 1], sleep);
        double(1).await?;
        Ok(slept.concurrency(1).await?)
    }
    let started = Instant::now();
    ends(leaking()).await;
    assert_eq!(started.elapsed().as_secs(), 1);
    let run = ends(too_late()).await;
    let error = run.error().unwrap().to_string();
    assert!(
        error.contains("`concurrency`") && error.contains("`sleep`"),
        "{error}"
    );
}
