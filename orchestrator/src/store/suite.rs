//! The contract of stores: each test here runs on every store.

mod cache;
mod entries;
mod lives;
mod logs;
mod reruns;
mod runs;
mod serving;
mod takeovers;
mod vault;

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use tempfile::TempDir;

pub(crate) use lives::{Random, a_long_life};

use super::*;
use crate::entry::EntryKind;
use crate::error::{Cause, TaskError};
use crate::graph::NodeMeta;
use crate::id::RunId;
use crate::index::{FrameNumber, NodeNumber};
pub(crate) use crate::journal::samples::*;
use crate::journal::*;
use crate::log::{LogLevel, LogLine};
use crate::state::{Rerun, RunKind, RunState, TaskState};
use crate::task::Interval;
use crate::value::{OutputType, Value};

/// A store that belongs to one test.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    url: String,
    folder: TempDir,
}

impl Opened {
    pub(crate) fn new(kind: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let url = match kind {
            "sqlite" => format!("sqlite:{}", folder.path().join("runs.db").display()),
            other => other.to_owned(),
        };
        Self {
            store: open(&url, None, time(0)).unwrap(),
            url,
            folder,
        }
    }

    /// Opens the store as another process would. That process dies when the store is dropped.
    pub(crate) fn reopen(&self) -> Arc<dyn Store> {
        open(&self.url, None, time(0)).unwrap()
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

const DURABLE: &[&str] = if cfg!(feature = "sqlite") {
    &["sqlite"]
} else {
    &[]
};

/// Names the case under test: if the test fails in it, the name is printed.
pub(crate) fn case(name: impl Display) -> Case {
    Case(name.to_string())
}

/// See [`case`].
pub(crate) struct Case(String);

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the case that failed: {}", self.0);
        }
    }
}

/// Runs a test on all stores.
async fn on_each(mut test: impl AsyncFnMut(&Opened)) {
    on("memory", &mut test).await;
    on_each_durable(test).await;
}

/// Runs a test on the stores that outlive their process.
async fn on_each_durable(mut test: impl AsyncFnMut(&Opened)) {
    for kind in DURABLE {
        on(kind, &mut test).await;
    }
}

async fn on(kind: &str, test: &mut impl AsyncFnMut(&Opened)) {
    let _case = case(kind);
    test(&Opened::new(kind)).await;
}

fn keyed(flow: &str, key: &str) -> NewRun {
    NewRun {
        key: Some(key.to_owned()),
        ..new_run(flow)
    }
}

fn of_tick(flow: &str, kind: RunKind, micros: i64) -> NewRun {
    NewRun {
        kind,
        logical_date: DateTime::from_timestamp_micros(micros).unwrap(),
        ..new_run(flow)
    }
}

pub(super) async fn created(store: &dyn Store, run: NewRun) -> Arc<dyn RunLog> {
    match store.create_run(run, None).await.unwrap() {
        RunCreation::New(log) => log,
        RunCreation::Taken(record) => panic!("{record:?} has its place"),
        RunCreation::Paused | RunCreation::Superseded => panic!("its flow is paused"),
    }
}

async fn taken(store: &dyn Store, run: NewRun) -> RunId {
    match store.create_run(run, None).await.unwrap() {
        RunCreation::New(log) => panic!("{:?} is new", log.snapshot()),
        RunCreation::Taken(record) => record.id(),
        RunCreation::Paused | RunCreation::Superseded => panic!("its flow is paused"),
    }
}

/// Creates a run that has started, with this number of nodes.
pub(crate) async fn started(store: &dyn Store, run: NewRun, nodes: u32) -> Arc<dyn RunLog> {
    let log = created(store, run).await;
    log.record(Transition::RunStarted { at: time(10) });
    log.record(Transition::Planned(
        (0..nodes).map(|local| node("work", None, local)).collect(),
    ));
    log.commit().wait().await.unwrap();
    log
}

pub(super) fn success(cell: u32, result: &[u8]) -> TaskEnd {
    TaskEnd {
        result: Some(EncodedResult(result.to_vec().into())),
        ..change(0, cell, TaskState::Success, 1)
    }
}

fn to(cell: u32, state: TaskState) -> Transition {
    Transition::Task(change(0, cell, state, 1))
}

/// Ends a run at a time.
pub(super) async fn finish(log: &dyn RunLog, at: i64, state: RunState) {
    log.record(Transition::RunFinished(RunEnd {
        at: time(at),
        state,
        error: None,
        output: None,
        encoded: None,
    }));
    log.commit().wait().await.unwrap();
}

/// Creates a line of a run's log.
pub(crate) fn line(run: RunId, message: &str) -> LogLine {
    let at = DateTime::from_timestamp_micros(77).unwrap();
    LogLine {
        target: "target".to_owned(),
        ..LogLine::new(run, at, LogLevel::Info, message.to_owned())
    }
}

/// Returns everything that a record shows.
pub(super) fn told(record: &RunRecord) -> Vec<String> {
    let mut told = vec![format!(
        "{} {} {:?} {:?} {:?} {} {:?} {:?} {} {:?} {:?} {:?} {:?} {}",
        record.id(),
        record.flow(),
        record.kind(),
        record.key(),
        record.state(),
        record.logical_date(),
        record.interval(),
        record.parameters(),
        record.created_at(),
        record.started_at(),
        record.finished_at(),
        record.duration(),
        record.error(),
        record.is_pruned(),
    )];
    let output = record
        .output()
        .map(|kept| *kept.value(OutputType::of::<u32>()).unwrap().get::<u32>());
    told.push(format!("{output:?}"));
    told.extend(record.tasks().iter().map(|task| {
        format!(
            "{} {} {:?} {} {} {:?} {} {:?} {:?} {:?} {:?} {:?} {:?}",
            task.key(),
            task.name(),
            task.map_index(),
            task.state(),
            task.attempts(),
            task.error(),
            task.crashes(),
            task.cached_from(),
            task.cache_miss(),
            task.next_attempt_at(),
            task.started_at(),
            task.finished_at(),
            task.duration(),
        )
    }));
    told
}

fn query(key: u8, inputs: u8, expiry: Option<u64>) -> CacheQuery {
    let expiry = expiry.map(Duration::from_micros);
    CacheQuery {
        key: CacheKey([key; 32]),
        task: "crate::module::task".into(),
        inputs: [inputs; 32],
        expiry,
    }
}

/// Records a success whose result is cached.
fn cache(log: &dyn RunLog, cell: u32, query: &CacheQuery, created: i64, result: &[u8]) {
    let result = EncodedResult(result.to_vec().into());
    let hit = CacheHit {
        run: log.snapshot().id(),
        created: time(created),
        result: ResultValue::Encoded(result.clone()),
    };
    let entry = Some(Box::new(NewCacheEntry {
        query: query.clone(),
        hit,
    }));
    let state = cell_state(TaskState::Success, 20, created.max(21));
    log.record(Transition::Task(TaskEnd {
        result: Some(result),
        cache: entry,
        ..TaskEnd::new(row_place(0, cell), state, 1)
    }));
}

/// Looks up one result, without a claim.
async fn look_up(store: &dyn Store, query: &CacheQuery, now: i64) -> Lookup {
    let wanted = CacheRequest {
        query: query.clone(),
        accept: Accept::Any,
    };
    store
        .look_up_cached(Arc::new([wanted]), 0, time(now))
        .await
        .unwrap()
        .remove(0)
}

/// Creates a run that was started in a process that has died. The log is the one of that process.
async fn orphan(opened: &Opened, run: NewRun) -> Arc<dyn RunLog> {
    let other = opened.reopen();
    let log = started(&*other, run, 8).await;
    assert!(ids(&*opened.store).await.is_empty());
    drop(other);
    log
}

/// Waits until the process of a run is known to be dead. That is immediate, unless another test is
/// just starting a process: until its `exec`, that process has the locks of this one.
pub(super) async fn left(store: &dyn Store, id: RunId) {
    eventually(async || ids(store).await.contains(&id)).await;
}

async fn take(store: &dyn Store, id: RunId) -> Takeover {
    left(store, id).await;
    store
        .take_over_run(id)
        .await
        .unwrap()
        .expect("it is abandoned")
}

async fn ids(store: &dyn Store) -> Vec<RunId> {
    store
        .find_abandoned()
        .await
        .unwrap()
        .iter()
        .map(|run| run.id)
        .collect()
}

async fn eventually(mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..5_000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it never is so");
}

/// Returns the outcome of a look-up, in short form.
async fn found(store: &dyn Store, query: &CacheQuery, now: i64) -> String {
    match look_up(store, query, now).await {
        Lookup::Hit(CacheHit {
            created,
            result: ResultValue::Encoded(bytes),
            ..
        }) => {
            format!("{} {:?}", created.micros(), &bytes.0[..])
        }
        Lookup::Hit(_) => "a value".to_owned(),
        Lookup::Miss(miss, Claim::NotMade) => format!("{miss:?}"),
        claimed @ Lookup::Miss(..) => panic!("{claimed:?}"),
    }
}
