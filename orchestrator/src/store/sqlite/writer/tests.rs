use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;
use std::time::Instant;

use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::time::timeout;

use super::super::{SqliteStore, child};
use super::checkpoint::OVERDUE;
use super::*;
use crate::blob::BlobRef;
use crate::journal::{EncodedResult, RunRecord, TaskEnd, Transition};
use crate::state::{RunState, TaskState};
use crate::store::suite::{change, created, finish, left, new_run, started, success, time};
use crate::store::{AdminStore as _, RunLog, RunStore as _, ScheduleStore as _, Store as _};

/// Longer than any test here takes.
const LONG: Duration = Duration::from_secs(30);

fn path(folder: &Path) -> PathBuf {
    folder.join("runs.db")
}

fn open(folder: &Path) -> SqliteStore {
    open_with(folder, "")
}

fn open_with(folder: &Path, options: &str) -> SqliteStore {
    SqliteStore::open(
        &format!("sqlite:{}{options}", path(folder).display()),
        None,
        time(0),
    )
    .unwrap()
}

/// Opens the file as another program would.
fn other(folder: &Path) -> Connection {
    let connection = Connection::open(path(folder)).unwrap();
    connection.busy_timeout(LONG).unwrap();
    connection
}

fn ask(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn assert_intact(folder: &Path) {
    let check: String = other(folder)
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
}

/// Counts commits from now on.
fn count_commits(store: &SqliteStore) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let hook = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        false
    };
    let _ = store.file.writer.connection.lock().commit_hook(Some(hook));
    count
}

/// Prevents the file from growing. The returned function lets it grow again.
fn fill(store: &SqliteStore) -> impl FnOnce() {
    let writer = Arc::clone(&store.file.writer);
    writer
        .connection
        .lock()
        .execute_batch("PRAGMA max_page_count = 1;")
        .unwrap();
    move || {
        writer
            .connection
            .lock()
            .execute_batch("PRAGMA max_page_count = 1000000;")
            .unwrap()
    }
}

/// Holds the write lock for a time, like another process with a long write.
fn hold(folder: &Path, time: Duration) -> std::thread::JoinHandle<()> {
    let other = other(folder);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::spawn(move || {
        let (_sender, receiver) = mpsc::channel::<()>();
        let _ = receiver.recv_timeout(time);
        other.execute_batch("ROLLBACK").unwrap();
    })
}

/// Polls a future once.
async fn polled<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

fn done(cell: u32) -> Transition {
    Transition::Task(success(cell, b"result"))
}

fn large(cell: u32) -> Transition {
    Transition::Task(success(cell, &[7; 200_000]))
}

fn ended(record: &RunRecord) -> usize {
    record
        .tasks()
        .iter()
        .filter(|task| task.state() == TaskState::Success)
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn concurrent_commits_keep_their_order_and_share_transactions() {
    let folder = TempDir::new().unwrap();
    let store = Arc::new(open(folder.path()));
    let logs: Vec<Arc<dyn RunLog>> =
        join_all((0..8).map(|_| started(&*store, new_run("etl"), 500))).await;
    let commits = count_commits(&store);
    let threads = logs.iter().cloned().map(|log| {
        tokio::spawn(async move {
            for cell in 0..500 {
                log.record(done(cell));
                if cell % 50 == 49 {
                    log.commit().wait().await.unwrap();
                }
            }
        })
    });
    for thread in join_all(threads).await {
        thread.unwrap();
    }
    let commits = commits.load(Ordering::Relaxed);
    assert!(commits <= 100, "{commits} transactions for 4000 rows");
    let other = other(folder.path());
    assert_eq!(ask(&other, "SELECT count(*) FROM attempts"), 4_000);
    // the plan is number 0
    assert_eq!(
        ask(
            &other,
            "SELECT count(*) FROM attempts WHERE number = cell + 1"
        ),
        4_000
    );
    for log in logs {
        assert_eq!(
            ended(&store.find_run(log.snapshot().id()).await.unwrap().unwrap()),
            500
        );
    }
    assert_intact(folder.path());
}

#[tokio::test]
async fn another_process_that_writes_for_long_is_waited_for_and_the_thread_is_free() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let log = started(&store, new_run("etl"), 3).await;
    let holding = hold(folder.path(), Duration::from_millis(300));
    log.record(done(0));
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let mut ticked = 0;
    let writing = async {
        let (committed, created) =
            tokio::join!(log.commit().wait(), store.create_run(new_run("etl"), None));
        committed.unwrap();
        created.unwrap();
    };
    let mut writing = std::pin::pin!(writing);
    loop {
        tokio::select! {
            () = &mut writing => break,
            _ = ticks.tick() => ticked += 1,
        }
    }
    assert!(
        began.elapsed() >= Duration::from_millis(250),
        "{:?}",
        began.elapsed()
    );
    assert!(ticked >= 10, "the thread was blocked: {ticked}");
    holding.join().unwrap();
    assert_eq!(store.list_runs("etl").await.unwrap().len(), 2);
}

#[tokio::test]
async fn commits_that_are_safe_from_a_loss_of_power_leave_the_thread() {
    let folder = TempDir::new().unwrap();
    let store = open_with(folder.path(), "?synchronous=full");
    let log = started(&store, new_run("etl"), 600).await;
    assert_eq!(
        ask(&store.file.writer.connection.lock(), "PRAGMA synchronous"),
        2
    );
    for cell in 0..600 {
        log.record(done(cell));
    }
    let commit = log.commit();
    assert!(matches!(commit, Commit::Waiting(_)));
    assert!(
        store.file.writer.connection.try_lock().is_some(),
        "it is committed on this thread"
    );
    commit.wait().await.unwrap();
    finish(&*log, 90, RunState::Success).await;
    assert_eq!(
        ended(&open(folder.path()).list_runs("etl").await.unwrap()[0]),
        600
    );
}

#[tokio::test(start_paused = true)]
async fn runs_wait_for_disk_space_and_requests_get_an_error() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let log = started(&store, new_run("etl"), 3).await;
    let free = fill(&store);
    log.record(large(0));
    let mut waiting = std::pin::pin!(log.commit().wait());
    assert!(timeout(LONG, &mut waiting).await.is_err());
    for _ in 0..3 {
        let refused = store.create_run(new_run("etl"), None).await.unwrap_err();
        assert_eq!(
            refused,
            StoreError::Full {
                place: place_of(&path(folder.path()))
            }
        );
    }
    // reads still work, and later writes keep their order
    assert_eq!(ended(&store.list_runs("etl").await.unwrap()[0]), 0);
    log.record(done(1));
    free();
    timeout(LONG, waiting).await.unwrap().unwrap();
    finish(&*log, 90, RunState::Success).await;
    created(&store, new_run("etl")).await;
    let runs = open(folder.path()).list_runs("etl").await.unwrap();
    assert_eq!(
        (runs.len(), ended(&runs[0]), runs[0].state()),
        (2, 2, RunState::Success)
    );
    assert_intact(folder.path());
}

#[tokio::test(start_paused = true)]
async fn a_count_of_takeovers_is_cleared_by_the_end_that_is_committed_and_not_by_one_that_is_not() {
    let folder = TempDir::new().unwrap();
    let dies = open(folder.path());
    let id = started(&dies, new_run("etl"), 3).await.snapshot().id();
    drop(dies);
    let store = open(folder.path());
    left(&store, id).await;
    let log = store.take_over_run(id).await.unwrap().unwrap().log;
    let free = fill(&store);
    log.record(done(0));
    log.record(large(1));
    let mut waiting = std::pin::pin!(log.commit().wait());
    assert!(timeout(LONG, &mut waiting).await.is_err());
    assert_eq!(ask(&other(folder.path()), "SELECT takeovers FROM runs"), 1);
    free();
    waiting.await.unwrap();
    assert_eq!(ask(&other(folder.path()), "SELECT takeovers FROM runs"), 0);
}

#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "mounts a file system: for root, with --ignored"]
async fn a_full_file_system_is_waited_for() {
    let folder = TempDir::new().unwrap();
    let run = |command: &str, arguments: &[&str]| {
        let status = std::process::Command::new(command)
            .args(arguments)
            .arg(folder.path())
            .status()
            .unwrap();
        assert!(status.success(), "{command}");
    };
    run("mount", &["-t", "tmpfs", "-o", "size=3m", "tmpfs"]);
    {
        let store = open(folder.path());
        let log = started(&store, new_run("etl"), 60).await;
        std::fs::write(folder.path().join("ballast"), vec![1; 1 << 20]).unwrap();
        let mut cell = 0;
        let mut waiting = loop {
            log.record(large(cell));
            cell += 1;
            let mut commit = Box::pin(log.commit().wait());
            match timeout(Duration::from_secs(2), &mut commit).await {
                Ok(committed) => committed.unwrap(),
                Err(_) => break commit,
            }
        };
        let refused = store.create_run(new_run("etl"), None).await.unwrap_err();
        assert!(matches!(refused, StoreError::Full { .. }), "{refused}");
        std::fs::remove_file(folder.path().join("ballast")).unwrap();
        timeout(LONG, &mut waiting).await.unwrap().unwrap();
        assert_eq!(
            ended(&store.list_runs("etl").await.unwrap()[0]),
            cell as usize
        );
        drop(store);
        assert_intact(folder.path());
    }
    run("umount", &["-l"]);
}

#[tokio::test]
async fn commit_whose_waiter_is_gone_is_made() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let log = started(&store, new_run("etl"), 40).await;
    let holding = hold(folder.path(), Duration::from_millis(100));
    for cell in 0..20 {
        log.record(done(cell));
        // polled once, and dropped
        let mut commit = Box::pin(log.commit().wait());
        assert!(polled(&mut commit).await.is_pending());
    }
    // a caller that gives up on creating a run leaves no run behind
    let mut creating = Box::pin(store.create_run(new_run("given up"), None));
    assert!(polled(&mut creating).await.is_pending());
    drop(creating);
    tokio::task::yield_now().await;
    log.record(done(20));
    log.commit().wait().await.unwrap();
    holding.join().unwrap();
    created(&store, new_run("etl")).await;
    let store = open(folder.path());
    assert_eq!(ended(&store.list_runs("etl").await.unwrap()[0]), 21);
    assert!(store.list_runs("given up").await.unwrap().is_empty());
}

#[tokio::test]
async fn takeover_whose_waiter_is_gone_leaves_the_run_to_others() {
    let folder = TempDir::new().unwrap();
    let dies = open(folder.path());
    let id = started(&dies, new_run("etl"), 1).await.snapshot().id();
    drop(dies);
    let store = open(folder.path());
    left(&store, id).await;
    let polls = async |polls: usize| {
        let mut taking = Box::pin(store.take_over_run(id));
        for _ in 0..polls {
            if let Poll::Ready(taken) = polled(&mut taking).await {
                return taken.unwrap().is_some();
            }
            // time for concurrent reads
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        false
    };
    let mut taken = false;
    for given in 1..100 {
        taken = polls(given).await;
        if taken {
            break;
        }
    }
    assert!(taken, "the run is this process's, and nobody executes it");
}

fn tokio_of_one() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn tokio_may_go_down_before_the_leader_was_polled() {
    let folder = TempDir::new().unwrap();
    let first = tokio_of_one();
    let (store, log) = first.block_on(async {
        let store = open(folder.path());
        let log = started(&store, new_run("etl"), 3).await;
        (store, log)
    });
    let holding = hold(folder.path(), Duration::from_millis(50));
    first.block_on(async {
        log.record(done(0));
        drop(log.commit());
    });
    drop(first);
    holding.join().unwrap();
    tokio_of_one().block_on(async {
        log.record(done(1));
        timeout(LONG, log.commit().wait())
            .await
            .expect("nobody leads")
            .unwrap();
        assert_eq!(ended(&store.list_runs("etl").await.unwrap()[0]), 2);
    });
}

#[test]
fn tokio_may_go_down_in_the_middle_of_a_commit() {
    for held in [0, 20, 60] {
        let folder = TempDir::new().unwrap();
        let first = tokio_of_one();
        let (store, log) = first.block_on(async {
            let store = open_with(folder.path(), "?synchronous=full");
            let log = started(&store, new_run("etl"), 2_000).await;
            (store, log)
        });
        let holding = hold(folder.path(), Duration::from_millis(held));
        first.block_on(async {
            (0..1_000).for_each(|cell| log.record(done(cell)));
            let _ = timeout(Duration::from_millis(30), log.commit().wait()).await;
        });
        drop(first);
        holding.join().unwrap();
        tokio_of_one().block_on(async {
            (1_000..2_000).for_each(|cell| log.record(done(cell)));
            timeout(LONG, log.commit().wait())
                .await
                .expect("nobody leads")
                .unwrap();
            assert_eq!(
                ended(&store.list_runs("etl").await.unwrap()[0]),
                2_000,
                "{held}"
            );
            created(&store, new_run("etl")).await;
        });
    }
}

#[test]
fn waiter_on_another_tokio_runtime_leads_after_the_leader_is_gone() {
    let folder = TempDir::new().unwrap();
    let (first, second) = (
        tokio_of_one(),
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap(),
    );
    let (store, log) = first.block_on(async {
        let store = open(folder.path());
        let log = started(&store, new_run("etl"), 3).await;
        (store, log)
    });
    let free = fill(&store);
    first.block_on(async {
        log.record(large(0));
        let _ = timeout(Duration::from_millis(100), log.commit().wait()).await;
    });
    let waiting = {
        let log = Arc::clone(&log);
        second.spawn(async move { log.commit().wait().await })
    };
    drop(first);
    free();
    second.block_on(async {
        timeout(LONG, waiting)
            .await
            .expect("nobody leads")
            .unwrap()
            .unwrap()
    });
    assert_eq!(
        ended(&second.block_on(store.list_runs("etl")).unwrap()[0]),
        1
    );
}

#[test]
fn unawaited_writes_are_committed_on_another_tokio_runtime() {
    let folder = TempDir::new().unwrap();
    let first = tokio_of_one();
    let (store, log) = first.block_on(async {
        let store = open(folder.path());
        let log = started(&store, new_run("etl"), 3).await;
        log.record(done(0));
        log.commit_soon();
        (store, log)
    });
    drop(first);
    tokio_of_one().block_on(async {
        log.record(done(1));
        log.commit_soon();
        tokio::task::yield_now().await;
        assert_eq!(ended(&store.list_runs("etl").await.unwrap()[0]), 2);
    });
}

/// Executes this number of runs, some concurrently.
async fn execute(store: &SqliteStore, flow: &str, runs: usize) {
    for _ in 0..runs / 10 {
        let side_by_side = (0..10).map(|_| async {
            let log = started(store, new_run(flow), 2).await;
            log.record(Transition::Task(change(0, 0, TaskState::Running, 1)));
            log.commit_soon();
            tokio::task::yield_now().await;
            log.record(done(0));
            log.commit().wait().await.unwrap();
            log.record(done(1));
            finish(&*log, 90, RunState::Success).await;
        });
        join_all(side_by_side).await;
    }
}

async fn assert_executed(store: &SqliteStore, flow: &str, runs: usize) {
    let records = store.list_runs(flow).await.unwrap();
    assert_eq!(records.len(), runs);
    assert!(
        records
            .iter()
            .all(|run| run.state() == RunState::Success && ended(run) == 2)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_stores_of_one_process_may_write_one_file_at_once() {
    let folder = TempDir::new().unwrap();
    let executing = ["a", "b"].map(|flow| {
        let store = open(folder.path());
        tokio::spawn(async move { execute(&store, flow, 300).await })
    });
    for executing in executing {
        executing.await.unwrap();
    }
    let store = open(folder.path());
    assert_executed(&store, "a", 300).await;
    assert_executed(&store, "b", 300).await;
    assert_intact(folder.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_may_write_one_file_at_once() {
    if let Some(folder) = child::folder() {
        let flow = format!("of {}", std::process::id());
        return execute(&open(&folder), &flow, 500).await;
    }
    let folder = TempDir::new().unwrap();
    let test = "store::sqlite::writer::tests::two_processes_may_write_one_file_at_once";
    let others = [(); 2].map(|()| {
        child::again(test, folder.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    });
    let flows = others.map(|mut other| {
        let flow = format!("of {}", other.id());
        assert!(other.wait().unwrap().success(), "{flow}");
        flow
    });
    let store = open(folder.path());
    for flow in flows {
        assert_executed(&store, &flow, 500).await;
    }
    assert_intact(folder.path());
}

#[tokio::test]
async fn statements_that_fail_are_refused_alone() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let log = started(&store, new_run("etl"), 2).await;
    log.record(done(0));
    let failing = store.file.writer.call(|connection| {
        connection.execute("INSERT INTO flights VALUES (x'01', 1)", [])?;
        connection.execute("INSERT INTO flights VALUES (x'01', 1)", [])
    });
    let (failed, committed) = tokio::join!(failing, log.commit().wait());
    assert!(
        matches!(failed, Err(StoreError::Failed { .. })),
        "{failed:?}"
    );
    committed.unwrap();
    assert_eq!(
        ask(&other(folder.path()), "SELECT count(*) FROM flights"),
        0
    );
    finish(&*log, 90, RunState::Success).await;
    assert_eq!(ended(&store.list_runs("etl").await.unwrap()[0]), 1);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_any_more_fails_for_everyone_and_is_not_written_half() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let log = started(&store, new_run("etl"), 4).await;
    other(folder.path())
        .execute_batch("ALTER TABLE attempts RENAME TO gone")
        .unwrap();
    log.record(done(0));
    let failed = log.commit().wait().await.unwrap_err();
    assert!(matches!(failed, StoreError::Failed { .. }), "{failed}");
    other(folder.path())
        .execute_batch("ALTER TABLE gone RENAME TO attempts")
        .unwrap();
    log.record(done(1));
    assert_eq!(log.commit().wait().await, Err(failed.clone()));
    assert_eq!(
        store.create_run(new_run("etl"), None).await.unwrap_err(),
        failed
    );
    assert_eq!(
        ask(&other(folder.path()), "SELECT count(*) FROM attempts"),
        0
    );
}

#[tokio::test]
async fn pruning_goes_in_steps() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    for _ in 0..250 {
        let log = started(&store, new_run("etl"), 1).await;
        log.record(done(0));
        finish(&*log, 90, RunState::Success).await;
    }
    let commits = count_commits(&store);
    assert_eq!(
        store
            .prune_store(time(100), time(0), u64::MAX)
            .await
            .unwrap()
            .runs,
        250
    );
    assert!(commits.load(Ordering::Relaxed) >= 3);
    assert_eq!(
        ask(&other(folder.path()), "SELECT count(*) FROM attempts"),
        0
    );
    assert_eq!(ask(&other(folder.path()), "SELECT count(*) FROM plans"), 0);
}

/// Stores blobs, and notifies the test of each.
#[derive(Debug)]
struct Telling(
    Arc<dyn Blobs>,
    tokio::sync::mpsc::UnboundedSender<()>,
    Arc<tokio::sync::Semaphore>,
);

#[async_trait::async_trait]
impl Blobs for Telling {
    async fn put(
        &self,
        bytes: Arc<Vec<u8>>,
        number: u64,
    ) -> Result<BlobRef, crate::error::BlobError> {
        let put = self.0.put(bytes, number).await;
        let _ = self.1.send(());
        let _permit = self.2.acquire().await;
        put
    }

    async fn get(&self, blob: &BlobRef) -> Result<Vec<u8>, crate::error::BlobError> {
        self.0.get(blob).await
    }

    async fn remove(&self, blob: &BlobRef) -> Result<(), crate::error::BlobError> {
        self.0.remove(blob).await
    }
}

/// Records the addresses of the bytes that it stores.
#[derive(Debug)]
struct Locating(Arc<dyn Blobs>, std::sync::Mutex<Vec<usize>>);

#[async_trait::async_trait]
impl Blobs for Locating {
    async fn put(
        &self,
        bytes: Arc<Vec<u8>>,
        number: u64,
    ) -> Result<BlobRef, crate::error::BlobError> {
        self.1.lock().unwrap().push(bytes.as_ptr().addr());
        self.0.put(bytes, number).await
    }

    async fn get(&self, blob: &BlobRef) -> Result<Vec<u8>, crate::error::BlobError> {
        self.0.get(blob).await
    }

    async fn remove(&self, blob: &BlobRef) -> Result<(), crate::error::BlobError> {
        self.0.remove(blob).await
    }
}

#[tokio::test]
async fn a_large_result_is_not_copied_on_its_way_to_its_blob() {
    let folder = TempDir::new().unwrap();
    let mut store = open(folder.path());
    let file = Arc::get_mut(&mut store.file).unwrap();
    let blobs = Arc::new(Locating(
        Arc::clone(&file.blobs),
        std::sync::Mutex::default(),
    ));
    Arc::get_mut(&mut file.writer).unwrap().blobs = Arc::clone(&blobs) as _;
    let log = started(&store, new_run("etl"), 1).await;
    let bytes = vec![7; (1 << 20) + 1];
    let address = bytes.as_ptr().addr();
    log.record(Transition::Task(TaskEnd {
        result: Some(bytes.into()),
        ..success(0, b"")
    }));
    log.commit().wait().await.unwrap();
    assert_eq!(*blobs.1.lock().unwrap(), [address]);
}

#[tokio::test]
async fn a_blob_that_is_about_to_be_referred_to_is_not_pruned() {
    let folder = TempDir::new().unwrap();
    let value = vec![7; (1 << 20) + 1];
    let end = |cell| {
        Transition::Task(TaskEnd {
            result: Some(EncodedResult(value.clone().into())),
            ..success(cell, b"")
        })
    };
    let pruning = open(folder.path());
    let old = started(&pruning, new_run("etl"), 1).await;
    old.record(end(0));
    finish(&*old, 90, RunState::Success).await;

    let mut store = open(folder.path());
    let (told, mut put) = tokio::sync::mpsc::unbounded_channel();
    let go_on = Arc::new(tokio::sync::Semaphore::new(0));
    let file = Arc::get_mut(&mut store.file).unwrap();
    let blobs = Arc::new(Telling(Arc::clone(&file.blobs), told, Arc::clone(&go_on)));
    Arc::get_mut(&mut file.writer).unwrap().blobs = blobs;
    let log = started(&store, new_run("etl"), 1).await;
    log.record(end(0));
    let committing = tokio::spawn(log.commit().wait());
    put.recv().await.unwrap();
    assert_eq!(
        pruning
            .prune_store(time(100), time(0), u64::MAX)
            .await
            .unwrap()
            .runs,
        1
    );
    go_on.add_permits(1);
    committing.await.unwrap().unwrap();
    let id = log.snapshot().id();
    drop(store);
    left(&pruning, id).await;
    pruning.take_over_run(id).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_process_that_is_not_on_record_writes_nothing() {
    for undo in [
        "DELETE FROM processes",
        "UPDATE processes SET lock = 'another'",
    ] {
        let folder = TempDir::new().unwrap();
        let store = open(folder.path());
        let log = started(&store, new_run("etl"), 1).await;
        other(folder.path()).execute(undo, []).unwrap();
        log.record(Transition::Task(success(0, b"1")));
        let lost = StoreError::ProcessLost { process: 1 };
        assert_eq!(log.commit().wait().await, Err(lost.clone()), "{undo}");
        assert_eq!(
            store.create_run(new_run("etl"), None).await.map(drop),
            Err(lost.clone()),
            "{undo}"
        );
        assert_eq!(store.failure(), Some(lost), "{undo}");
        let attempts = ask(&other(folder.path()), "SELECT count(*) FROM attempts");
        assert_eq!(attempts, 0, "{undo}");
    }
}

#[tokio::test]
async fn reader_notices_that_its_process_is_not_on_record() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let id = started(&store, new_run("etl"), 1).await.snapshot().id();
    other(folder.path())
        .execute("DELETE FROM processes", [])
        .unwrap();
    let lost = Some(StoreError::ProcessLost { process: 1 });
    assert_eq!(store.read_serving_state().await.err(), lost);
    assert_eq!(store.find_cancel_requests().await.err(), lost);
    assert_eq!(store.failure(), lost);
    // its runs can be taken over
    let next = open(folder.path());
    assert_eq!(
        next.find_abandoned()
            .await
            .unwrap()
            .iter()
            .map(|run| run.id)
            .collect::<Vec<_>>(),
        [id]
    );
    assert!(next.take_over_run(id).await.unwrap().is_some());
}

#[tokio::test]
async fn lines_of_logs_alone_have_the_write_ahead_log_copied() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let run = started(&store, new_run("etl"), 1).await.snapshot().id();
    let lines: Vec<_> = (0..10)
        .map(|_| crate::store::suite::line(run, &"x".repeat(1_000)))
        .collect();
    let log = connection::beside(&path(folder.path()), "-wal");
    let pages = || std::fs::metadata(&log).unwrap().len() / 4_096;
    let before = pages();
    assert!(store.file.writer.append(&lines, true).unwrap());
    let written_at_once = pages() - before;
    let mut written = 0;
    // until the log is far shorter than what was written to it: how soon, depends on when the thread
    // that copies it has a turn
    while written < u64::from(OVERDUE) * 9 || pages() > written / 2 {
        assert!(written < u64::from(OVERDUE) * 100, "{} pages", pages());
        assert!(store.file.writer.append(&lines, true).unwrap());
        written += written_at_once;
        tokio::task::yield_now().await;
    }
}

#[test]
fn checkpoint_that_is_dropped_before_it_runs_does_not_prevent_later_ones() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let writer = &store.file.writer;
    let gone = tokio_of_one();
    let handle = gone.handle().clone();
    drop(gone);
    writer.logged.store(OVERDUE, Ordering::Relaxed);
    {
        // tokio drops the tasks of a runtime that is gone
        let _entered = handle.enter();
        writer.checkpoint();
    }
    assert!(!writer.checkpointing.load(Ordering::Acquire));
    // the log is still due: nothing was copied
    assert_eq!(writer.copied.load(Ordering::Relaxed), 0);
    writer.checkpoint();
    assert!(!writer.checkpointing.load(Ordering::Acquire));
    assert_eq!(writer.copied.load(Ordering::Relaxed), OVERDUE);
}
