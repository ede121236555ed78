//! Runs that are interrupted by hand, at places that are hard to hit.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use orchestrator::prelude::*;
use orchestrator::{RunHandle, RunRecord, Runtime};
use parking_lot::Mutex;
use tokio::sync::Notify;

const LIMIT: Duration = Duration::from_secs(5);

fn threads() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

pub(crate) fn file() -> PathBuf {
    crate::support::new_folder("interrupted").join("runs.db")
}

async fn open(path: &Path) -> Runtime {
    let store = format!("sqlite:{}", path.display());
    Runtime::builder()
        .store(store)
        .grace(Duration::from_millis(20))
        .build()
        .await
        .unwrap()
}

fn wait_for_owners(path: &Path) {
    let folder = PathBuf::from(format!("{}-owners", path.display()));
    let began = Instant::now();
    while std::fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
        assert!(began.elapsed() < LIMIT, "the store is still open");
        std::thread::park_timeout(Duration::from_micros(200));
    }
}

/// One life of the runs in a file, for so long; then the tokio runtime goes.
pub(crate) fn life<T>(path: &Path, work: impl AsyncFnOnce(Runtime) -> T) -> T {
    let tokio = threads();
    let done = tokio.block_on(async { work(open(path).await).await });
    tokio.shutdown_background();
    wait_for_owners(path);
    done
}

/// One life of the runs in a file, on one thread. If `work` is woken in a poll of another future,
/// it goes on directly after that poll, and if it ends then, nothing else is polled any more.
fn life_poll_by_poll(path: &Path, work: impl AsyncFnOnce(Runtime)) {
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(1)
        .build()
        .unwrap();
    tokio.block_on(async {
        tokio::time::timeout(LIMIT, work(open(path).await))
            .await
            .expect("it does not come");
    });
    tokio.shutdown_background();
    wait_for_owners(path);
}

pub(crate) async fn wait_until(condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < LIMIT, "it does not come");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // what is recorded is committed soon
    tokio::time::sleep(Duration::from_millis(30)).await;
}

async fn resume(runtime: &Runtime) -> Vec<RunRecord> {
    tokio::time::timeout(LIMIT, runtime.resume())
        .await
        .expect("resume hangs")
        .unwrap()
}

fn states(record: &RunRecord) -> Vec<(String, String)> {
    record
        .tasks()
        .iter()
        .map(|task| (task.key(), task.state().to_string()))
        .collect()
}

#[task]
async fn plus(a: u64, b: u64) -> u64 {
    a + b
}

#[task]
async fn long(millis: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(millis)).await;
    millis
}

#[task]
async fn total(all: Vec<u64>) -> u64 {
    all.into_iter().sum()
}

#[test]
fn element_done_before_a_crash_takes_no_concurrency_slot() {
    static DONE: AtomicU32 = AtomicU32::new(0);
    #[task(retries = 1, retry_delay = "300ms")]
    async fn first_fails_once(n: u64, #[context] context: &Context) -> Result<u64> {
        if n == 0 && context.attempt() == 1 {
            return Err("once".into());
        }
        if n == 2 && DONE.load(SeqCst) == 1 {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        DONE.fetch_add(1, SeqCst);
        Ok(n)
    }
    #[flow(name = "hand_place")]
    fn place() -> Node<u64> {
        total(expand(vec![0, 1, 2, 3], first_fails_once).concurrency(1))
    }
    let path = file();
    life(&path, async |runtime| {
        let _handle = place().on(&runtime).start().await.unwrap();
        wait_until(|| DONE.load(SeqCst) == 1).await;
        DONE.store(10, SeqCst);
    });
    let records = life(&path, async |runtime| resume(&runtime).await);
    assert_eq!(
        records[0].state(),
        RunState::Success,
        "{:?}",
        states(&records[0])
    );
}

#[test]
fn a_run_that_took_too_long_is_red_after_a_crash_in_its_end() {
    #[task]
    fn stubborn() -> u64 {
        std::thread::park_timeout(Duration::from_millis(400));
        1
    }
    #[flow(name = "hand_timed", timeout = "50ms")]
    fn timed() {
        let slow = long(60_000);
        plus(slow, 1_u64);
        stubborn();
    }
    let path = file();
    life(&path, async |runtime| {
        let _handle = timed().on(&runtime).start().await.unwrap();
        // past the timeout: `long` and `plus` are cancelled, `stubborn` has its grace
        tokio::time::sleep(Duration::from_millis(62)).await;
    });
    let records = life(&path, async |runtime| resume(&runtime).await);
    assert_eq!(
        records[0].state(),
        RunState::Failed,
        "{:?}",
        states(&records[0])
    );
    assert!(
        records[0].error().unwrap().is_timeout(),
        "{:?}",
        records[0].error()
    );
}

#[test]
fn a_flow_in_the_flow_that_took_too_long_stays_failed() {
    static GATE: AtomicU32 = AtomicU32::new(0);
    #[task]
    async fn gate(of: Outcome<u64>) -> bool {
        GATE.fetch_add(1, SeqCst);
        if GATE.load(SeqCst) == 1 {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        of.is_success()
    }
    #[flow(name = "hand_slow_inner", timeout = "30ms")]
    fn slow_inner() -> Node<u64> {
        plus(long(60_000), 1_u64)
    }
    #[flow(name = "hand_slow_outer")]
    fn slow_outer() -> Node<bool> {
        gate(slow_inner())
    }
    let path = file();
    life(&path, async |runtime| {
        let _handle = slow_outer().on(&runtime).start().await.unwrap();
        wait_until(|| GATE.load(SeqCst) == 1).await;
    });
    let (run, before) = life(&path, async |runtime| {
        let before = states(&runtime.runs("hand_slow_outer").await.unwrap()[0]);
        (resume(&runtime).await.remove(0), before)
    });
    assert_eq!(
        run.state(),
        RunState::Success,
        "{before:?} {:?} {:?}",
        run.error(),
        states(&run)
    );
    assert_eq!(GATE.load(SeqCst), 2, "{:?}", states(&run));
}

#[test]
fn a_flow_that_makes_fewer_nodes_than_before_fails_by_name() {
    static LIFE: AtomicU32 = AtomicU32::new(0);
    static STARTED: AtomicU32 = AtomicU32::new(0);
    #[task]
    async fn slow_once(name: String) -> String {
        STARTED.fetch_add(1, SeqCst);
        if LIFE.load(SeqCst) == 1 {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        name
    }
    #[flow(name = "hand_fewer")]
    fn fewer() {
        slow_once("a");
        if LIFE.load(SeqCst) == 1 {
            slow_once("b");
        }
    }
    let path = file();
    life(&path, async |runtime| {
        LIFE.store(1, SeqCst);
        let _handle = fewer().on(&runtime).start().await.unwrap();
        wait_until(|| STARTED.load(SeqCst) == 2).await;
        LIFE.store(2, SeqCst);
    });
    let run = life(&path, async |runtime| resume(&runtime).await.remove(0));
    assert_eq!(run.state(), RunState::Failed, "{:?}", states(&run));
    let error = run.error().unwrap().to_string();
    assert!(
        error.contains("`slow_once#2`") && error.contains("no task of that name"),
        "{error}"
    );
}

#[test]
fn a_flow_that_reads_a_counter_fails_by_name() {
    static LIFE: AtomicU32 = AtomicU32::new(0);
    #[flow(name = "hand_counter")]
    fn counts() -> Node<u64> {
        let n = u64::from(LIFE.load(SeqCst));
        plus(plus(n, 1_u64), long(if n == 1 { 60_000 } else { 1 }))
    }
    let path = file();
    life(&path, async |runtime| {
        LIFE.store(1, SeqCst);
        let _handle = counts().on(&runtime).start().await.unwrap();
        tokio::time::sleep(Duration::from_millis(40)).await;
        LIFE.store(2, SeqCst);
    });
    let run = life(&path, async |runtime| resume(&runtime).await.remove(0));
    assert_eq!(run.state(), RunState::Failed);
    let error = run.error().unwrap().to_string();
    assert!(error.contains("`plus`"), "{error}");
}

#[test]
fn one_run_that_cannot_be_read_holds_up_no_other() {
    static LIFE: AtomicU32 = AtomicU32::new(0);
    #[task]
    async fn huge() -> String {
        "x".repeat(3 << 20)
    }
    #[task]
    async fn measured(text: String) -> usize {
        if LIFE.load(SeqCst) == 1 {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        text.len()
    }
    #[flow(name = "hand_huge")]
    fn has_huge() -> Node<usize> {
        measured(huge())
    }
    #[task]
    async fn waits() -> u64 {
        if LIFE.load(SeqCst) == 1 {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        7
    }
    #[flow(name = "hand_waits")]
    fn waiting() -> Node<u64> {
        waits()
    }
    let path = file();
    life(&path, async |runtime| {
        LIFE.store(1, SeqCst);
        let _one = has_huge().on(&runtime).start().await.unwrap();
        let _two = waiting().on(&runtime).start().await.unwrap();
        let is_kept = async || {
            let run = runtime.runs("hand_huge").await.unwrap().remove(0);
            run.task("huge")
                .is_some_and(|task| task.state() == TaskState::Success)
        };
        while !is_kept().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        LIFE.store(2, SeqCst);
    });
    std::fs::remove_dir_all(format!("{}-blobs", path.display())).unwrap();
    life(&path, async |runtime| {
        let resumed = tokio::time::timeout(LIMIT, runtime.resume())
            .await
            .expect("hangs");
        assert!(resumed.is_err());
        tokio::time::sleep(Duration::from_millis(100)).await;
        let other = runtime.runs("hand_waits").await.unwrap().remove(0);
        assert_eq!(other.state(), RunState::Success);
    });
}

#[test]
fn a_stop_right_after_a_start_leaves_the_run_and_says_so() {
    #[flow(name = "hand_stopped")]
    fn stopped() -> Node<u64> {
        long(60_000)
    }
    let path = file();
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let left = tokio.block_on(async {
        let runtime = open(&path).await;
        let handle = stopped().on(&runtime).start().await.unwrap();
        let id = handle.id();
        (runtime.stop().await.left, id)
    });
    assert_eq!(left.0, [left.1]);
}

#[test]
fn a_joined_handle_cancels_the_run_that_it_took_over() {
    #[flow(name = "hand_joined")]
    fn keyed() -> Node<u64> {
        long(3_000)
    }
    let path = file();
    life(&path, async |runtime| {
        let _handle = keyed().key("k").on(&runtime).start().await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    });
    life(&path, async |runtime| {
        let handle = keyed().key("k").on(&runtime).start().await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        handle.cancel();
        let run = tokio::time::timeout(LIMIT, handle.into_future())
            .await
            .expect("hangs")
            .unwrap();
        assert_eq!(run.state(), RunState::Cancelled);
    });
}

#[test]
fn stage_may_be_added_while_its_mapping_opens() {
    #[flow(name = "hand_stage")]
    async fn stages(n: u64) -> Result<u64> {
        let list = listing(n).expand(|x| plus(x, 1_u64));
        listing(n).await?;
        let more = list.expand(|x| plus(x, 2_u64));
        Ok(total(&more).await?)
    }
    #[task]
    async fn listing(n: u64) -> Vec<u64> {
        (0..n).collect()
    }
    let tokio = threads();
    tokio.block_on(async {
        let runtime = Runtime::in_memory();
        for round in 0..3000 {
            let run = tokio::time::timeout(LIMIT, stages(3).on(&runtime).run())
                .await
                .expect("hangs")
                .unwrap();
            assert_eq!(run.output(), Some(&12), "round {round}: {:?}", run.error());
        }
    });
}

#[test]
fn two_mappings_of_one_list_keep_their_results() {
    static LIFE: AtomicU32 = AtomicU32::new(0);
    static BODIES: AtomicU32 = AtomicU32::new(0);
    #[task]
    async fn listing() -> Vec<u64> {
        if LIFE.load(SeqCst) == 1 {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        vec![1, 2, 3]
    }
    #[task]
    async fn counted(n: u64) -> u64 {
        BODIES.fetch_add(1, SeqCst);
        n
    }
    #[task]
    async fn gate(all: Vec<u64>) -> u64 {
        if LIFE.load(SeqCst) == 2 {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        all.into_iter().sum()
    }
    #[flow(name = "hand_twice")]
    fn twice() -> (Node<u64>, Node<u64>) {
        let list = listing();
        let counted = list.expand(counted);
        let bare = list.expand(|n| n);
        (gate(&counted), total(bare))
    }
    let path = file();
    LIFE.store(1, SeqCst);
    life(&path, async |runtime| {
        let _handle = twice().on(&runtime).start().await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    });
    LIFE.store(2, SeqCst);
    life(&path, async |runtime| {
        tokio::select! { _ = runtime.resume() => {}, () = tokio::time::sleep(Duration::from_millis(100)) => {} }
    });
    LIFE.store(3, SeqCst);
    let run = life(&path, async |runtime| resume(&runtime).await.remove(0));
    assert_eq!(run.tasks().len(), 6, "{:?}", states(&run));
    assert_eq!(BODIES.load(SeqCst), 3, "{:?}", states(&run));
}

#[test]
fn two_hundred_runs_go_on_at_once_and_each_once() {
    static LIFE: AtomicU32 = AtomicU32::new(0);
    static BODIES: AtomicU32 = AtomicU32::new(0);
    #[task]
    async fn counted(n: u64) -> u64 {
        if LIFE.load(SeqCst) == 1 {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        BODIES.fetch_add(1, SeqCst);
        n
    }
    #[flow(name = "hand_many", max_active_runs = 3)]
    fn many(n: u64) -> Node<u64> {
        plus(counted(n), 1_u64)
    }
    #[flow(name = "hand_many_more")]
    fn many_more(n: u64) -> Node<u64> {
        plus(counted(n), 1_u64)
    }
    let path = file();
    life(&path, async |runtime| {
        LIFE.store(1, SeqCst);
        for n in 0..100 {
            let _one = many(n).on(&runtime).start().await.unwrap();
            let _two = many_more(n).on(&runtime).start().await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        LIFE.store(2, SeqCst);
    });
    life(&path, async |runtime| {
        let other = open(&path).await;
        let (a, b, c) = tokio::join!(runtime.resume(), runtime.resume(), other.resume());
        let all = a.unwrap().len() + b.unwrap().len() + c.unwrap().len();
        assert_eq!(all, 200);
        for flow in ["hand_many", "hand_many_more"] {
            let runs = runtime.runs(flow).await.unwrap();
            assert!(
                runs.iter().all(|run| run.state() == RunState::Success),
                "{runs:?}"
            );
        }
        assert_eq!(BODIES.load(SeqCst), 200);
    });
}

#[test]
fn race_for_a_name_resumes_in_the_recorded_order() {
    static LIFE: AtomicU32 = AtomicU32::new(0);
    #[task]
    async fn late() -> u64 {
        if LIFE.load(SeqCst) < 3 {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        1
    }
    #[flow(name = "hand_race")]
    async fn race(n: u64) -> Result<Vec<u64>> {
        // `plus`, `plus#2`… are numbered by who asks first
        let branch = |at: u64| async move {
            let first = long((n - at) * 3 % 7 + 1)
                .named(format!("l{at}"))
                .await
                .unwrap_or_default();
            let second = plus(at, first).await.unwrap_or_default();
            plus(second, at).await.unwrap_or_default()
        };
        let (a, b, c, d) = tokio::join!(branch(1), branch(2), branch(3), branch(4));
        late().await?;
        let again = tokio::join!(branch(5), branch(6));
        Ok(vec![a, b, c, d, again.0, again.1])
    }
    for n in 10..30 {
        let _case = crate::support::case(format_args!("{n} ms"));
        let path = file();
        LIFE.store(1, SeqCst);
        life(&path, async |runtime| {
            let _handle = race(n).on(&runtime).start().await.unwrap();
            tokio::time::sleep(Duration::from_millis(n - 5)).await;
        });
        LIFE.store(2, SeqCst);
        life(&path, async |runtime| {
            tokio::select! { _ = runtime.resume() => {}, () = tokio::time::sleep(Duration::from_millis(40)) => {} }
        });
        LIFE.store(3, SeqCst);
        let run = life(&path, async |runtime| resume(&runtime).await.remove(0));
        assert_eq!(run.state(), RunState::Success, "{:?}", run.error());
    }
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
enum Odd {
    Nothing,
    Pair(Option<Box<Self>>, f64),
    Named {
        set: std::collections::HashSet<String>,
        big: u64,
    },
}

#[test]
fn unusual_inputs_and_results_survive_a_crash() {
    use std::collections::{HashMap, HashSet};
    static LIFE: AtomicU32 = AtomicU32::new(0);
    static BODIES: AtomicU32 = AtomicU32::new(0);
    #[task]
    #[allow(clippy::option_option, reason = "as odd as can be")]
    async fn odd(
        map: HashMap<String, Vec<i64>>,
        set: HashSet<u64>,
        odd: Odd,
        at: Option<Option<f64>>,
    ) -> Odd {
        BODIES.fetch_add(1, SeqCst);
        Odd::Pair(
            Some(Box::new(odd)),
            at.flatten().unwrap_or_default() + (map.len() + set.len()) as f64,
        )
    }
    #[task]
    async fn unit(run: String, at: i64) {
        BODIES.fetch_add(1, SeqCst);
        assert!(run.len() + at as usize > 0);
    }
    #[task]
    async fn gate(odd: Odd, text: String, number: u32, _unit: ()) -> String {
        if LIFE.load(SeqCst) == 1 {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        format!("{odd:?} {} {number}", text.len())
    }
    #[task]
    async fn pair() -> (String, u32) {
        BODIES.fetch_add(1, SeqCst);
        ("y".repeat(2 << 20), u32::MAX)
    }
    #[flow(name = "hand_odd")]
    async fn odds(n: u64, #[context] context: &Context) -> Result<String> {
        let map: HashMap<String, Vec<i64>> =
            (0..50).map(|n| (n.to_string(), vec![n, -n])).collect();
        let set: HashSet<u64> = (0..50).map(|at| n - at).collect();
        let names: HashSet<String> = std::iter::once("one".to_owned()).collect();
        let inner = Odd::Pair(
            Some(Box::new(Odd::Named {
                set: names,
                big: u64::MAX,
            })),
            0.1 + 0.2,
        );
        let made = odd(map, set, inner, Some(Some(f64::MIN_POSITIVE)));
        let done = unit(
            context.run_id().to_string(),
            context.interval().end.timestamp_micros(),
        );
        let (text, number) = pair().unzip();
        let shown = gate(&made, &text, number, &done);
        let (a, b, c) = (
            made.clone().await?,
            made.await?,
            text.map(|text| text.len()).await?,
        );
        assert!(a == b && c == 2 << 20);
        Ok(shown.await?)
    }
    let path = file();
    LIFE.store(1, SeqCst);
    life(&path, async |runtime| {
        let _handle = odds(u64::MAX).on(&runtime).start().await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
    });
    LIFE.store(2, SeqCst);
    let run = life(&path, async |runtime| resume(&runtime).await.remove(0));
    assert_eq!(
        (run.state(), BODIES.load(SeqCst)),
        (RunState::Success, 3),
        "{:?} {:?}",
        run.error(),
        states(&run)
    );
}

#[test]
fn projection_that_panics_after_a_crash_fails_its_task() {
    static LIFE: AtomicU32 = AtomicU32::new(0);
    #[task]
    async fn gate(n: u64, all: Vec<u64>) -> u64 {
        if LIFE.load(SeqCst) == 1 {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        n + all.len() as u64
    }
    #[flow(name = "hand_projected")]
    fn projected() -> Node<u64> {
        let check = |n: &u64| {
            assert_eq!(LIFE.load(SeqCst), 1, "not twice");
            *n
        };
        gate(
            plus(1_u64, 2_u64).map(check),
            expand(vec![1, 2], |n| plus(n, 1_u64).map(check)),
        )
    }
    let path = file();
    LIFE.store(1, SeqCst);
    life(&path, async |runtime| {
        let _handle = projected().on(&runtime).start().await.unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
    });
    LIFE.store(2, SeqCst);
    let run = life(&path, async |runtime| resume(&runtime).await.remove(0));
    assert_eq!(run.state(), RunState::Failed, "{:?}", states(&run));
    assert!(
        run.error().unwrap().to_string().contains("not twice"),
        "{:?}",
        run.error()
    );
    assert!(
        run.tasks().iter().all(|task| task.state().is_final()),
        "{:?}",
        states(&run)
    );
}

#[test]
fn a_keyed_run_is_taken_over_by_one_and_awaited_by_both() {
    static LIFE: AtomicU32 = AtomicU32::new(0);
    static BODIES: AtomicU32 = AtomicU32::new(0);
    #[task]
    async fn counted() -> u64 {
        if LIFE.load(SeqCst) == 1 {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        BODIES.fetch_add(1, SeqCst);
        3
    }
    #[flow(name = "hand_keyed")]
    fn keyed() -> Node<u64> {
        counted()
    }
    let path = file();
    LIFE.store(1, SeqCst);
    life(&path, async |runtime| {
        let _handle = keyed().key("k").on(&runtime).start().await.unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
    });
    LIFE.store(2, SeqCst);
    life(&path, async |runtime| {
        let other = open(&path).await;
        let (a, b, c) = tokio::join!(
            keyed().key("k").on(&runtime).run(),
            keyed().key("k").on(&other).run(),
            runtime.resume()
        );
        assert_eq!(
            (
                a.unwrap().output(),
                b.unwrap().output(),
                BODIES.load(SeqCst)
            ),
            (Some(&3), Some(&3), 1)
        );
        c.unwrap();
    });
}

#[test]
fn a_run_whose_pool_is_missing_is_left_alone() {
    #[task(pool = "hand_pool")]
    async fn pooled() -> u64 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        3
    }
    #[flow(name = "hand_pooled")]
    fn fixed() -> Node<u64> {
        pooled()
    }
    #[flow(name = "hand_pooled_body")]
    async fn body() -> Result<u64> {
        Ok(pooled().await?)
    }
    let path = file();
    let with_pool = async |path: &Path| {
        let store = format!("sqlite:{}", path.display());
        Runtime::builder()
            .store(store)
            .pool("hand_pool", 1)
            .build()
            .await
            .unwrap()
    };
    let tokio = threads();
    tokio.block_on(async {
        let runtime = with_pool(&path).await;
        let _one = fixed().on(&runtime).start().await.unwrap();
        let _two = body().on(&runtime).start().await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    });
    tokio.shutdown_background();
    wait_for_owners(&path);
    let found = life(&path, async |runtime| {
        // what is left is no error of the others
        let _ = runtime.resume().await;
        let state = async |flow| runtime.runs(flow).await.unwrap()[0].state();
        (state("hand_pooled").await, state("hand_pooled_body").await)
    });
    assert_eq!(found, (RunState::Running, RunState::Running));
}

#[test]
fn a_run_whose_process_died_is_cancelled_with_what_was_running_in_it() {
    #[flow(name = "hand_cancelled")]
    async fn decides() -> Result<u64> {
        let first = plus(1_u64, 2_u64).await?;
        Ok(long(60_000 + first).await?)
    }
    let path = file();
    let id = life(&path, async |runtime| {
        let handle = decides().on(&runtime).start().await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        handle.id()
    });
    let record = life(&path, async |runtime| {
        assert!(runtime.cancel(id).await.unwrap());
        runtime.find_run(id).await.unwrap().unwrap()
    });
    assert_eq!(record.state(), RunState::Cancelled);
    let expected = [("plus", "success"), ("long", "cancelled")];
    assert_eq!(
        states(&record),
        expected.map(|(key, state)| (key.to_owned(), state.to_owned()))
    );
}

#[test]
fn a_failure_is_retried_if_its_process_dies_before_the_cancel_of_its_run_is_recorded() {
    static HANDLE: Mutex<Option<RunHandle<u64>>> = Mutex::new(None);
    static GO: Notify = Notify::const_new();
    static FAILED: Notify = Notify::const_new();
    #[task(retries = 1)]
    async fn fails_once(n: u64, #[context] context: &Context) -> Result<u64> {
        if n == 2 && context.attempt() == 1 {
            GO.notified().await;
            HANDLE.lock().take().unwrap().cancel();
            FAILED.notify_one();
            return Err("once".into());
        }
        Ok(n)
    }
    #[flow(name = "hand_failing_inner")]
    fn inner() -> Node<u64> {
        total(expand(vec![1, 2], fails_once))
    }
    #[flow(name = "hand_failing")]
    fn failing() -> Node<u64> {
        plus(inner(), 1_u64)
    }
    let path = file();
    life_poll_by_poll(&path, async |runtime| {
        *HANDLE.lock() = Some(failing().on(&runtime).start().await.unwrap());
        GO.notify_one();
        FAILED.notified().await;
    });
    let run = life(&path, async |runtime| resume(&runtime).await.remove(0));
    assert_eq!(
        run.state(),
        RunState::Success,
        "{:?} {:?}",
        run.error(),
        states(&run)
    );
}

#[test]
fn a_run_is_cancelled_if_its_process_dies_after_only_a_task_is_recorded_as_cancelled() {
    static HANDLE: Mutex<Option<RunHandle<u64>>> = Mutex::new(None);
    static GO: Notify = Notify::const_new();
    static DROPPED: Notify = Notify::const_new();
    struct Dropped;
    impl Drop for Dropped {
        fn drop(&mut self) {
            DROPPED.notify_one();
        }
    }
    #[task]
    async fn cancels() -> u64 {
        let _dropped = Dropped;
        GO.notified().await;
        HANDLE.lock().take().unwrap().cancel();
        std::future::pending().await
    }
    #[flow(name = "hand_dropped_inner")]
    fn inner() -> Node<u64> {
        cancels()
    }
    #[flow(name = "hand_dropped")]
    fn dropped() -> Node<u64> {
        plus(inner(), 1_u64)
    }
    let path = file();
    life_poll_by_poll(&path, async |runtime| {
        *HANDLE.lock() = Some(dropped().on(&runtime).start().await.unwrap());
        GO.notify_one();
        DROPPED.notified().await;
    });
    let run = life(&path, async |runtime| resume(&runtime).await.remove(0));
    let cancelled = |key: &str| (key.to_owned(), "cancelled".to_owned());
    assert_eq!(
        (run.state(), states(&run)),
        (
            RunState::Cancelled,
            ["hand_dropped_inner", "plus", "hand_dropped_inner/cancels"]
                .map(cancelled)
                .to_vec()
        )
    );
}
