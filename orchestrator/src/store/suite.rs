//! The contract of stores: each test here runs on every store.

mod entries;
mod serving;

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use tempfile::TempDir;

use super::*;
use crate::error::{Cause, TaskError};
use crate::graph::NodeMeta;
use crate::index::{FrameNumber, NodeNumber};
pub(crate) use crate::journal::samples::*;
use crate::journal::*;
use crate::log::LogLevel;
use crate::state::{RunKind, RunState, TaskState};
use crate::task::Interval;
use crate::value::OutputType;

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
    match store.create_run(run).await.unwrap() {
        Created::New(log) => log,
        Created::Taken(record) => panic!("{record:?} has its place"),
        Created::Paused => panic!("its flow is paused"),
    }
}

async fn taken(store: &dyn Store, run: NewRun) -> RunId {
    match store.create_run(run).await.unwrap() {
        Created::New(log) => panic!("{:?} is new", log.snapshot()),
        Created::Taken(record) => record.id(),
        Created::Paused => panic!("its flow is paused"),
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
    LogLine {
        number: 0,
        at: DateTime::from_timestamp_micros(77).unwrap(),
        level: LogLevel::Info,
        target: "target".to_owned(),
        message: message.to_owned(),
        fields: serde_json::Map::new(),
        run,
        task: None,
        attempt: None,
        map_index: None,
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

/// A generator of small numbers, deterministic by its seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Returns the transitions of a run with a nested mapping, a mapping whose list never came, and
/// tasks that end in all ways.
pub(super) fn a_long_life(seed: u64, other: RunId) -> Vec<Transition> {
    let mut random = Random(seed);
    let mut transitions = vec![
        Transition::RunStarted { at: time(1_000) },
        Transition::Planned(vec![
            node("first", None, 0),
            node("expand(outer)", None, 1),
            node("expand(inner)", Some(1), 0),
            node("each", Some(2), 0),
            node("of_outer", Some(1), 1),
            NodeMeta {
                prefix: Some("sub/".into()),
                number: 3,
                ..node("in_a_flow", None, 2)
            },
            node("expand(never)", None, 3),
            node("never", Some(6), 0),
        ]),
        Transition::Expanded(expanded(1, (0, 0), 3)),
    ];
    // frames are in the order in which the lists came
    for (outer, len) in [(2, 4), (0, 0), (1, 2)] {
        transitions.push(Transition::Expanded(expanded(2, (1, outer), len)));
    }
    transitions.push(Transition::Expanded(FrameMeta {
        unexpanded: true,
        ..expanded(6, (0, 0), 1)
    }));
    // an async body plans more nodes of the first mapping while it runs, and more of its own
    transitions.push(Transition::Planned(vec![
        node("later", Some(1), 2),
        node("last", None, 4),
    ]));
    transitions.push(Transition::Extended {
        frame: FrameNumber::new(1),
    });
    let cells = [(0, 5), (1, 9), (2, 4), (4, 2), (5, 1)];
    let mut lives: Vec<Vec<Transition>> = cells
        .iter()
        .flat_map(|(frame, cells)| (0..*cells).map(|cell| (*frame, cell)))
        .map(|(frame, cell)| a_life(&mut random, frame, cell, other))
        .collect();
    // interleave the tasks
    while !lives.is_empty() {
        let at = random.below(lives.len() as u64) as usize;
        transitions.push(lives[at].remove(0));
        if random.below(8) == 0 {
            transitions.push(Transition::Awaited {
                node: NodeNumber::new(0),
                known: None,
            });
        }
        lives.retain(|life| !life.is_empty());
    }
    transitions
}

/// How a task of [`a_long_life`] ends.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Success,
    /// A success whose cached result had expired.
    Recomputed,
    CacheHit,
    Fatal,
    TimedOut,
    Skipped,
    /// Only for a task without attempts; such a task does not end otherwise.
    UpstreamFailed,
    Cancelled,
    Open,
}

impl Ending {
    const ALL: [Self; 9] = [
        Self::Success,
        Self::Recomputed,
        Self::CacheHit,
        Self::Fatal,
        Self::TimedOut,
        Self::Skipped,
        Self::UpstreamFailed,
        Self::Cancelled,
        Self::Open,
    ];
}

/// Returns a valid sequence of states of one task.
fn a_life(random: &mut Random, frame: u32, cell: u32, other: RunId) -> Vec<Transition> {
    let mut life = Vec::new();
    let mut step =
        |state, attempts, started: i64, finished: i64, error: Option<TaskError>, note| {
            let state = cell_state(state, started, finished);
            let note = Option::map(note, Box::new);
            life.push(Transition::Task(TaskEnd {
                note,
                error,
                ..TaskEnd::new(row_place(frame, cell), state, attempts)
            }));
        };
    let error = |text: &str, cause| Some(TaskError::new(cause, format!("{text} {frame} {cell}")));
    let mut attempts = 1;
    for _ in 0..random.below(3) {
        let at = 2_000 + random.below(1_000) as i64;
        step(TaskState::Running, attempts, at, 0, None, None);
        if random.below(3) > 0 {
            let due = at + random.below(5_000_000) as i64;
            step(
                TaskState::Retrying,
                attempts,
                at,
                due,
                error("once more", Cause::Failed),
                None,
            );
        }
        attempts += 1;
    }
    let at = 5_000 + random.below(1_000) as i64;
    let created = DateTime::from_timestamp(3, 4_000).unwrap();
    match Ending::ALL[random.below(9) as usize] {
        Ending::Success => step(TaskState::Success, attempts, at, at + 7, None, None),
        Ending::Recomputed => step(
            TaskState::Success,
            attempts,
            at,
            at,
            None,
            Some(CacheNote::Missed(CacheMiss::Expired { created })),
        ),
        Ending::CacheHit => step(
            TaskState::Success,
            attempts - 1,
            at,
            at,
            None,
            Some(CacheNote::Hit {
                run: other,
                created: time(7),
            }),
        ),
        Ending::Fatal => step(
            TaskState::Failed,
            attempts,
            at,
            at + 9,
            error("no", Cause::Fatal),
            None,
        ),
        Ending::TimedOut => {
            let timeout = Cause::TimedOut(Duration::from_millis(1_500));
            step(
                TaskState::Failed,
                attempts,
                at,
                at + 9,
                error("slow", timeout),
                Some(CacheNote::Missed(CacheMiss::Empty)),
            );
        }
        Ending::Skipped => step(
            TaskState::Skipped,
            attempts,
            at,
            at + 1,
            error("nothing to do", Cause::Skipped),
            None,
        ),
        Ending::UpstreamFailed if attempts == 1 => step(
            TaskState::UpstreamFailed,
            0,
            0,
            at,
            error("before it", Cause::UpstreamFailed),
            None,
        ),
        Ending::Cancelled => step(TaskState::Cancelled, attempts, at, at + 2, None, None),
        Ending::UpstreamFailed | Ending::Open => {}
    }
    life
}

#[tokio::test]
async fn a_record_has_all_that_was_asked_for() {
    on_each(async |opened| {
        let micros = |micros| DateTime::from_timestamp_micros(micros).unwrap();
        let parameters =
            serde_json::json!({ "n": 1, "x": 0.1, "list": ["a", null], "text": "ä\u{0}\"" });
        let run = NewRun {
            kind: RunKind::Backfill,
            key: Some("2026 / ä".to_owned()),
            logical_date: micros(-5),
            interval: Interval {
                start: micros(-86_400_000_001),
                end: micros(1_767_225_600_123_456),
            },
            parameters: parameters.as_object().unwrap().clone(),
            refresh_cache: true,
            created: micros(77),
            ..new_run("etl")
        };
        let asked = told(&RunRecord::from(RunTables::new(Arc::new(run.clone()))));
        let log = created(&*opened.store, run.clone()).await;
        assert_eq!(told(&log.snapshot()), asked);
        let mut stores = vec![Arc::clone(&opened.store)];
        stores.extend(opened.store.is_durable().then(|| opened.reopen()));
        for store in stores {
            assert_eq!(told(&store.run(run.id).await.unwrap().unwrap()), asked);
            assert_eq!(told(&store.runs("etl").await.unwrap()[0]), asked);
            assert_eq!(
                store
                    .run(new_run("etl").id)
                    .await
                    .unwrap()
                    .map(|run| run.id()),
                None
            );
            assert!(store.runs("other").await.unwrap().is_empty());
        }
    })
    .await;
}

#[tokio::test]
async fn numbers_of_parameters_come_back_to_the_last_bit() {
    on_each_durable(async |opened| {
        let mut random = Random(5);
        let numbers: Vec<f64> = (0..2_000)
            .map(|_| {
                f64::from_bits(
                    random.below(1 << 31) << 33 | random.below(1 << 31) << 2 | random.below(4),
                )
            })
            .filter(|number| number.is_finite())
            .collect();
        let parameters = serde_json::json!({ "numbers": numbers });
        let run = NewRun {
            parameters: parameters.as_object().unwrap().clone(),
            ..new_run("etl")
        };
        created(&*opened.store, run.clone()).await;
        let read = opened.store.run(run.id).await.unwrap().unwrap();
        assert!(*read.parameters() == run.parameters);
    })
    .await;
}

#[tokio::test]
async fn runs_are_listed_in_order_of_acceptance() {
    on_each(async |opened| {
        let mut asked = Vec::new();
        for number in 0..20 {
            let flow = if number % 3 == 0 { "other" } else { "etl" };
            let run = new_run(flow);
            asked.extend((flow == "etl").then_some(run.id));
            created(&*opened.store, run).await;
        }
        let ids = |runs: Vec<RunRecord>| runs.iter().map(RunRecord::id).collect::<Vec<_>>();
        assert_eq!(ids(opened.store.runs("etl").await.unwrap()), asked);
    })
    .await;
}

#[tokio::test]
async fn transitions_add_up_the_same_in_every_store() {
    for seed in 0..20 {
        let _case = case(format_args!("seed {seed}"));
        let (head, other) = (new_run("etl"), new_run("etl").id);
        let mut expected: Option<[Vec<String>; 2]> = None;
        on_each(async |opened| {
            let log = created(&*opened.store, head.clone()).await;
            for transition in a_long_life(seed, other) {
                log.record(transition);
                if seed % 2 == 0 {
                    log.commit().wait().await.unwrap();
                }
            }
            log.commit().wait().await.unwrap();
            let mut lives = [told(&log.snapshot()), Vec::new()];
            check(opened, &log, &lives[0]).await;
            let value = Value::new(7_u32);
            log.record(Transition::RunFinished(RunEnd {
                at: time(9_000),
                state: RunState::Failed,
                error: Some(TaskError::new(Cause::Panicked, "all in all")),
                encoded: log.encode(&value).unwrap(),
                output: Some(ResultValue::Live(value)),
            }));
            log.commit().wait().await.unwrap();
            // nothing is recorded after the end
            log.record(to(0, TaskState::Cancelled));
            log.commit().wait().await.unwrap();
            lives[1] = told(&log.snapshot());
            check(opened, &log, &lives[1]).await;
            assert_eq!(
                expected.get_or_insert_with(|| lives.clone()),
                &lives,
                "seed {seed}"
            );
        })
        .await;
    }

    async fn check(opened: &Opened, log: &Arc<dyn RunLog>, expected: &[String]) {
        let id = log.snapshot().id();
        assert_eq!(
            told(&opened.store.run(id).await.unwrap().unwrap()),
            expected
        );
        if opened.store.is_durable() {
            assert_eq!(
                told(&opened.reopen().run(id).await.unwrap().unwrap()),
                expected
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn there_is_one_run_for_each_flow_and_key() {
    on_each(async |opened| {
        let asking = (0..64).map(|_| {
            let store = Arc::clone(&opened.store);
            tokio::spawn(async move {
                let run = keyed("etl", "monday");
                let id = run.id;
                match store.create_run(run).await.unwrap() {
                    Created::New(_) => (id, true),
                    Created::Taken(record) => (record.id(), false),
                    Created::Paused => panic!("its flow is paused"),
                }
            })
        });
        let asked = futures_util::future::join_all(asking).await;
        let asked: Vec<(RunId, bool)> = asked.into_iter().map(Result::unwrap).collect();
        assert_eq!(asked.iter().filter(|(_, is_new)| *is_new).count(), 1);
        assert!(asked.iter().all(|(id, _)| *id == asked[0].0));
        created(&*opened.store, keyed("etl", "tuesday")).await;
        created(&*opened.store, keyed("other", "monday")).await;
        created(&*opened.store, new_run("etl")).await;
        assert_eq!(opened.store.runs("etl").await.unwrap().len(), 3);
    })
    .await;
}

#[tokio::test]
async fn there_is_one_run_for_each_flow_and_tick_and_none_for_runs_by_hand() {
    on_each(async |opened| {
        let store = &*opened.store;
        let first = of_tick("etl", RunKind::Scheduled, 60);
        let id = first.id;
        created(store, of_tick("etl", RunKind::Manual, 60)).await;
        created(store, first).await;
        assert_eq!(
            taken(store, of_tick("etl", RunKind::Scheduled, 60)).await,
            id
        );
        assert_eq!(
            taken(store, of_tick("etl", RunKind::Backfill, 60)).await,
            id
        );
        created(store, of_tick("etl", RunKind::Manual, 60)).await;
        created(store, of_tick("etl", RunKind::Backfill, 61)).await;
        created(store, of_tick("other", RunKind::Scheduled, 60)).await;
        // a key takes precedence over a tick
        let by_key = NewRun {
            key: Some("k".to_owned()),
            ..of_tick("etl", RunKind::Scheduled, 62)
        };
        let id_of_key = by_key.id;
        created(store, by_key).await;
        let both = NewRun {
            key: Some("k".to_owned()),
            ..of_tick("etl", RunKind::Scheduled, 60)
        };
        assert_eq!(taken(store, both).await, id_of_key);
        let new_key = NewRun {
            key: Some("new".to_owned()),
            ..of_tick("etl", RunKind::Scheduled, 60)
        };
        assert_eq!(taken(store, new_key).await, id);
        assert_eq!(opened.store.runs("etl").await.unwrap().len(), 5);
    })
    .await;
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
    let wanted = Wanted {
        query: query.clone(),
        accept: Accept::Any,
    };
    store
        .look_up(Arc::new([wanted]), 0, time(now))
        .await
        .unwrap()
        .remove(0)
}

/// Claims flights, and returns their owners.
async fn claim<const N: usize>(store: &dyn Store, keys: [u8; N]) -> [Claim; N] {
    let wanted = keys.map(|key| Wanted {
        query: query(key, key, None),
        accept: Accept::Nothing,
    });
    let claims = store
        .look_up(Arc::new(wanted), N, time(0))
        .await
        .unwrap()
        .into_iter()
        .map(|lookup| match lookup {
            Lookup::Miss(CacheMiss::Refreshed, claim) => claim,
            other => panic!("{other:?}"),
        });
    claims.collect::<Vec<_>>().try_into().unwrap()
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

#[tokio::test]
async fn look_up_returns_the_result_or_why_it_is_missing() {
    on_each(async |opened| {
        let store = &*opened.store;
        let log = started(store, new_run("etl"), 9).await;
        let kept = query(1, 1, Some(100));
        assert_eq!(found(store, &kept, 0).await, "Empty");
        cache(&*log, 0, &kept, 1_000, b"a");
        log.commit().wait().await.unwrap();
        assert_eq!(
            found(store, &query(2, 2, Some(100)), 1_001).await,
            "NewInputs"
        );
        assert_eq!(
            found(store, &query(2, 1, Some(100)), 1_001).await,
            "ChangedCode"
        );
        let other = CacheQuery {
            task: "crate::other::task".into(),
            ..query(2, 1, None)
        };
        assert_eq!(found(store, &other, 1_001).await, "Empty");
        let hit = "1000 [97]";
        // an entry does not expire by a clock that was set back
        for (now, expected) in [(1_000, hit), (1_099, hit), (0, hit), (i64::MIN, hit)] {
            assert_eq!(found(store, &kept, now).await, expected, "{now}");
        }
        for now in [1_100, 1_101, i64::MAX] {
            assert!(
                found(store, &kept, now).await.starts_with("Expired"),
                "{now}"
            );
        }
        // the expiry of the query counts, not that of the entry
        assert_eq!(found(store, &query(1, 1, None), i64::MAX).await, hit);
        assert!(
            found(store, &query(1, 1, Some(5)), 1_005)
                .await
                .starts_with("Expired")
        );
        cache(&*log, 1, &kept, 1_200, b"b");
        log.commit().wait().await.unwrap();
        assert_eq!(found(store, &kept, 1_201).await, "1200 [98]");
        match look_up(store, &kept, 1_201).await {
            Lookup::Hit(hit) => assert_eq!(hit.run, log.snapshot().id()),
            miss @ Lookup::Miss(..) => panic!("{miss:?}"),
        }
    })
    .await;
}

#[tokio::test]
async fn a_result_is_cached_with_the_end_that_made_it() {
    on_each_durable(async |opened| {
        let log = started(&*opened.store, new_run("etl"), 2).await;
        let (other, kept) = (opened.reopen(), query(1, 1, None));
        cache(&*log, 0, &kept, 1_000, b"a");
        assert_eq!(found(&*other, &kept, 1_000).await, "Empty");
        log.commit().wait().await.unwrap();
        assert_eq!(found(&*other, &kept, 1_000).await, "1000 [97]");
        let record = other.run(log.snapshot().id()).await.unwrap().unwrap();
        assert_eq!(record.task("work").unwrap().state(), TaskState::Success);
    })
    .await;
}

async fn ids(store: &dyn Store) -> Vec<RunId> {
    store
        .abandoned()
        .await
        .unwrap()
        .iter()
        .map(|run| run.id)
        .collect()
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

async fn eventually(mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..5_000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it never is so");
}

async fn take(store: &dyn Store, id: RunId) -> TakenOver {
    left(store, id).await;
    store.take_over(id).await.unwrap().expect("it is abandoned")
}

#[tokio::test]
async fn store_in_memory_has_no_abandoned_runs() {
    let store = MemoryStore::default();
    let log = started(&store, new_run("etl"), 1).await;
    assert!(ids(&store).await.is_empty());
    assert!(
        store
            .take_over(log.snapshot().id())
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn only_unfinished_runs_of_the_dead_are_abandoned() {
    on_each_durable(async |opened| {
        let alive = opened.reopen();
        let living = started(&*alive, new_run("etl"), 1).await;
        let dies = opened.reopen();
        let left = started(&*dies, new_run("etl"), 1).await;
        let pending = created(&*dies, new_run("etl")).await;
        let ended = started(&*dies, new_run("etl"), 1).await;
        finish(&*ended, 30, RunState::Failed).await;
        assert!(ids(&*opened.store).await.is_empty());
        drop(dies);
        self::left(&*opened.store, pending.snapshot().id()).await;
        assert_eq!(
            ids(&*opened.store).await,
            [left.snapshot().id(), pending.snapshot().id()]
        );
        for log in [&living, &ended] {
            assert!(
                opened
                    .store
                    .take_over(log.snapshot().id())
                    .await
                    .unwrap()
                    .is_none()
            );
        }
        assert!(
            opened
                .store
                .take_over(new_run("etl").id)
                .await
                .unwrap()
                .is_none()
        );
        take(&*opened.store, left.snapshot().id()).await;
        assert_eq!(ids(&*alive).await, [pending.snapshot().id()]);
        // not by itself either
        assert!(
            opened
                .store
                .take_over(left.snapshot().id())
                .await
                .unwrap()
                .is_none()
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_takeovers_have_one_winner() {
    on_each_durable(async |opened| {
        let takers: Vec<_> = (0..4).map(|_| opened.reopen()).collect();
        for round in 0..10 {
            let id = orphan(opened, new_run("etl")).await.snapshot().id();
            left(&*opened.store, id).await;
            let taking = takers.iter().cloned().map(|store| {
                tokio::spawn(async move { store.take_over(id).await.unwrap().is_some() })
            });
            let taken = futures_util::future::join_all(taking).await;
            let won = taken
                .into_iter()
                .filter(|taken| *taken.as_ref().unwrap())
                .count();
            assert_eq!(won, 1, "round {round}");
        }
    })
    .await;
}

#[tokio::test]
async fn process_that_lost_a_run_cannot_write_to_it() {
    on_each_durable(async |opened| {
        let dies = opened.reopen();
        let first = started(&*dies, new_run("etl"), 8).await;
        // while it owns another run, its process stays registered
        let _other = started(&*dies, new_run("etl"), 1).await;
        drop(dies);
        let id = first.snapshot().id();
        let taken = take(&*opened.store, id).await;
        let before = told(&opened.store.run(id).await.unwrap().unwrap());
        first.record(Transition::Task(success(0, b"late")));
        cache(&*first, 1, &query(1, 1, None), 50, b"late");
        first.record(Transition::Cancelling);
        let refused = first.commit().wait().await;
        assert_eq!(refused, Err(StoreError::RunLost { run: id }));
        finish_refused(&*first, id).await;
        assert_eq!(told(&opened.store.run(id).await.unwrap().unwrap()), before);
        assert_eq!(found(&*opened.store, &query(1, 1, None), 60).await, "Empty");
        taken.log.record(Transition::Task(success(0, b"in time")));
        finish(&*taken.log, 90, RunState::Success).await;
        let record = opened.reopen().run(id).await.unwrap().unwrap();
        assert_eq!(
            (
                record.state(),
                record.tasks().iter().next().unwrap().state()
            ),
            (RunState::Success, TaskState::Success)
        );
    })
    .await;

    async fn finish_refused(log: &dyn RunLog, id: RunId) {
        log.record(Transition::RunFinished(RunEnd {
            at: time(1),
            state: RunState::Failed,
            error: None,
            output: None,
            encoded: None,
        }));
        assert_eq!(
            log.commit().wait().await,
            Err(StoreError::RunLost { run: id })
        );
    }
}

#[tokio::test]
async fn history_has_results_await_order_and_cancelling() {
    on_each_durable(async |opened| {
        let log = orphan(opened, new_run("etl")).await;
        let id = log.snapshot().id();
        for cell in [2, 0, 1] {
            log.record(Transition::Task(success(cell, &[cell as u8; 3])));
            log.record(Transition::Awaited {
                node: NodeNumber::new(cell),
                known: None,
            });
        }
        log.record(Transition::Task(success(3, &[])));
        log.record(to(4, TaskState::Running));
        log.record(Transition::Cancelling);
        log.commit().wait().await.unwrap();
        let History {
            tables,
            mut results,
            await_order,
            takeovers,
            deaths,
            cancelling,
        } = take(&*opened.store, id).await.history;
        let deliveries = await_order.deliveries.iter();
        let awaited: Vec<u32> = deliveries.map(|delivery| delivery.node.get()).collect();
        assert_eq!(
            (awaited, takeovers, deaths, cancelling),
            (vec![2, 0, 1], 1, 1, true)
        );
        for cell in 0..3 {
            assert_eq!(
                results.remove(&row_place(0, cell)).unwrap().0[..],
                [cell as u8; 3]
            );
        }
        results.remove(&row_place(0, 3));
        assert!(results.is_empty());
        let states: Vec<TaskState> = tables.frames[FrameNumber::FLOW]
            .rows
            .iter()
            .map(Row::task_state)
            .collect();
        assert_eq!(
            states[..5],
            [
                TaskState::Success,
                TaskState::Success,
                TaskState::Success,
                TaskState::Success,
                TaskState::Running
            ]
        );
        assert_eq!(
            (tables.state, tables.started),
            (RunState::Running, Some(time(10)))
        );
    })
    .await;
}

#[tokio::test]
async fn takeovers_are_counted_until_a_node_ends() {
    on_each_durable(async |opened| {
        let id = orphan(opened, new_run("etl")).await.snapshot().id();
        /// How the process of an execution leaves the run.
        #[derive(PartialEq)]
        enum Leaves {
            Dies,
            Releases,
        }
        use Leaves::{Dies, Releases};
        let mut attempts = 0;
        let mut life = async |ends: Option<Transition>, leaves: Leaves| {
            let process = opened.reopen();
            let TakenOver { log, history } = take(&*process, id).await;
            attempts += 1;
            log.record(Transition::Task(change(0, 0, TaskState::Running, attempts)));
            for transition in ends
                .into_iter()
                .chain((leaves == Releases).then_some(Transition::Released))
            {
                log.record(transition);
            }
            log.commit().wait().await.unwrap();
            history.takeovers
        };
        assert_eq!(life(None, Dies).await, 1);
        assert_eq!(life(None, Dies).await, 2);
        // after a clean stop, there is no dead process
        assert_eq!(life(None, Releases).await, 3);
        assert_eq!(life(None, Dies).await, 3);
        assert_eq!(life(Some(to(1, TaskState::Success)), Dies).await, 4);
        assert_eq!(life(Some(to(2, TaskState::Skipped)), Releases).await, 1);
        assert_eq!(life(None, Releases).await, 0);
        let retrying = TaskEnd::new(row_place(0, 3), cell_state(TaskState::Retrying, 20, 99), 1);
        assert_eq!(life(Some(Transition::Task(retrying)), Dies).await, 0);
        assert_eq!(life(None, Dies).await, 1);
        let record = opened.store.run(id).await.unwrap().unwrap();
        assert_eq!(record.tasks().iter().next().unwrap().crashes(), 8);
    })
    .await;
}

#[tokio::test]
async fn lone_start_is_charged_with_the_death_of_its_process_unless_it_was_stopping() {
    on_each_durable(async |opened| {
        let id = orphan(opened, new_run("etl")).await.snapshot().id();
        let starts = |attempt: u16| Transition::Task(change(0, 0, TaskState::Running, attempt));
        let starts_alone = |attempt: u16| {
            Transition::Task(TaskEnd {
                alone: true,
                ..change(0, 0, TaskState::Running, attempt)
            })
        };
        #[derive(Debug, PartialEq)]
        struct Counts {
            takeovers: u32,
            deaths: u32,
            charges: u8,
        }
        let counts = |takeovers, deaths, charges| Counts {
            takeovers,
            deaths,
            charges,
        };
        let life = async |transitions: Vec<Transition>| {
            let process = opened.reopen();
            let TakenOver { log, history } = take(&*process, id).await;
            transitions
                .into_iter()
                .for_each(|transition| log.record(transition));
            log.commit().wait().await.unwrap();
            counts(
                history.takeovers,
                history.deaths,
                history.tables.charges(row_place(0, 0)),
            )
        };
        assert_eq!(life(vec![starts(1)]).await, counts(1, 1, 0));
        assert_eq!(life(vec![starts_alone(2)]).await, counts(2, 2, 0));
        assert_eq!(life(vec![starts_alone(3)]).await, counts(3, 3, 1));
        // the attempt is waiting when its process dies
        assert_eq!(life(vec![]).await, counts(4, 4, 2));
        // the charge is taken back: the process is stopped and ends while the task runs; a repeated
        // start counts once
        let stops = vec![starts_alone(4), starts(4), starts(4), Transition::Leaving];
        assert_eq!(life(stops).await, counts(5, 5, 2));
        assert_eq!(
            life(vec![
                starts_alone(5),
                starts(5),
                Transition::Leaving,
                Transition::Released
            ])
            .await,
            counts(5, 6, 2)
        );
        assert_eq!(life(vec![starts_alone(6)]).await, counts(5, 7, 2));
        assert_eq!(
            life(vec![to(0, TaskState::Retrying)]).await,
            counts(6, 8, 3)
        );
        assert_eq!(life(vec![]).await, counts(7, 9, 0));
    })
    .await;
}

#[tokio::test]
async fn resumed_run_keeps_its_numbers_and_records_nothing_twice() {
    on_each_durable(async |opened| {
        let head = new_run("etl");
        let log = orphan(opened, head.clone()).await;
        log.record(Transition::Task(success(0, b"once")));
        log.commit().wait().await.unwrap();
        let before = told(&log.snapshot());
        let TakenOver { log, .. } = take(&*opened.store, head.id).await;
        assert_eq!(told(&log.snapshot()), before);
        // it reaches its recorded states again
        log.record(Transition::RunStarted { at: time(77) });
        log.record(Transition::Task(success(0, b"twice")));
        assert_eq!(told(&log.snapshot()), before);
        log.record(Transition::Planned(vec![node("more", None, 8)]));
        log.record(Transition::Task(success(8, b"new")));
        finish(&*log, 90, RunState::Success).await;
        let record = opened.reopen().run(head.id).await.unwrap().unwrap();
        assert_eq!(told(&record), told(&log.snapshot()));
        assert_eq!(record.task("more").unwrap().state(), TaskState::Success);
    })
    .await;
}

#[tokio::test]
async fn a_run_that_is_run_again_adds_up_the_same_everywhere() {
    on_each(async |opened| {
        for seed in 0..20 {
            let _case = case(format_args!("seed {seed}"));
            let log = created(&*opened.store, new_run("etl")).await;
            let id = log.snapshot().id();
            assert!(
                opened
                    .store
                    .reopen(id, &Rerun::All, time(80))
                    .await
                    .unwrap()
                    .is_none()
            );
            a_long_life(seed, id)
                .into_iter()
                .for_each(|transition| log.record(transition));
            finish(&*log, 6_500, RunState::Failed).await;
            let before = log.snapshot();
            let TakenOver {
                log: again,
                history,
            } = opened
                .store
                .reopen(id, &Rerun::All, time(7_000))
                .await
                .unwrap()
                .expect("it is final");
            assert!(
                opened
                    .store
                    .reopen(id, &Rerun::All, time(7_001))
                    .await
                    .unwrap()
                    .is_none()
            );
            assert_eq!(
                (history.takeovers, history.cancelling, history.results.len()),
                (0, false, 0)
            );
            // the process that finished it can no longer write to it
            log.record(Transition::RunStarted { at: time(7_001) });
            let read = opened.store.run(id).await.unwrap().unwrap();
            for record in [&read, &again.snapshot(), &RunRecord::from(history.tables)] {
                assert_eq!(
                    (
                        record.state(),
                        record.started_at(),
                        record.error().is_none()
                    ),
                    (RunState::Pending, None, true)
                );
                assert_eq!(
                    (record.reruns().len(), &record.reruns()[0].what),
                    (1, &Rerun::All)
                );
                // lists are computed anew in each execution
                let shown: Vec<_> = before
                    .tasks()
                    .iter()
                    .filter(|task| !task.name().starts_with("expand("))
                    .collect();
                assert_eq!(record.tasks().len(), shown.len());
                for (task, old) in record.tasks().iter().zip(shown) {
                    assert_eq!((task.key(), task.state()), (old.key(), TaskState::Pending));
                    assert_eq!(
                        (task.attempts(), task.crashes()),
                        (old.attempts(), old.crashes())
                    );
                    assert!(
                        task.error().is_none()
                            && task.cached_from().is_none()
                            && task.started_at().is_none()
                    );
                }
            }
            again.record(Transition::RunStarted { at: time(7_100) });
            // it has the same lists, except one
            again.record(Transition::Expanded(expanded(2, (1, 1), 3)));
            again.record(Transition::Task(change(6, 2, TaskState::Success, 1)));
            let attempts = u16::try_from(before.task("first").unwrap().attempts()).unwrap() + 1;
            again.record(Transition::Task(change(0, 0, TaskState::Success, attempts)));
            finish(&*again, 7_200, RunState::Success).await;
            let read = opened.store.run(id).await.unwrap().unwrap();
            assert_eq!(told(&read), told(&again.snapshot()));
            // an element that was not requested again is not shown
            assert_eq!(
                read.tasks()
                    .iter()
                    .map(|task| task.key())
                    .collect::<Vec<_>>(),
                ["first", "each[1][2]"]
            );
            let attempts = opened.store.attempts(id).await.unwrap().unwrap();
            assert!(
                attempts
                    .iter()
                    .filter(|attempt| attempt.key == "first")
                    .count()
                    >= 2
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_reopens_have_one_winner() {
    on_each_durable(async |opened| {
        let stores: Vec<_> = (0..4).map(|_| opened.reopen()).collect();
        let log = started(&*opened.store, new_run("etl"), 3).await;
        let id = log.snapshot().id();
        finish(&*log, 30, RunState::Failed).await;
        let reopening = stores.iter().cloned().map(|store| {
            tokio::spawn(async move { store.reopen(id, &Rerun::All, time(40)).await.unwrap() })
        });
        let reopened = futures_util::future::join_all(reopening).await;
        let won: Vec<_> = reopened
            .into_iter()
            .filter_map(|reopened| reopened.unwrap())
            .collect();
        assert_eq!(won.len(), 1);
        finish(&*won[0].log, 50, RunState::Success).await;
        let record = opened.store.run(id).await.unwrap().unwrap();
        assert_eq!(
            (record.reruns().len(), record.state()),
            (1, RunState::Success)
        );
    })
    .await;
}

#[tokio::test]
async fn flight_belongs_to_one_process_until_either_ends() {
    on_each(async |opened| {
        let (store, key) = (&opened.store, 7);
        assert_eq!(claim(&**store, [key]).await, [Claim::Own]);
        if !store.is_durable() {
            return;
        }
        let (second, third) = (opened.reopen(), opened.reopen());
        assert_eq!(claim(&*second, [key]).await, [Claim::Other]);
        assert_eq!(claim(&*third, [key]).await, [Claim::Other]);
        // one flight each belongs to two processes
        assert_eq!(claim(&*second, [key, 8]).await, [Claim::Other, Claim::Own]);
        // a process cannot end a flight of another
        third.end_flights(vec![CacheKey([key; 32])]);
        tokio::task::yield_now().await;
        assert_eq!(claim(&*third, [key]).await, [Claim::Other]);
        store.end_flights(vec![CacheKey([key; 32])]);
        tokio::task::yield_now().await;
        assert_eq!(claim(&*second, [key]).await, [Claim::Own]);
        assert_eq!(claim(&**store, [key, 9]).await, [Claim::Other, Claim::Own]);
        drop(second);
        eventually(async || claim(&**store, [key, 8, 9]).await == [Claim::Own; 3]).await;
        assert_eq!(claim(&*third, [key, 8, 9]).await, [Claim::Other; 3]);
    })
    .await;
}

#[tokio::test]
async fn look_up_claims_missing_results_up_to_its_limit() {
    on_each(async |opened| {
        let store = &*opened.store;
        let log = started(store, new_run("etl"), 2).await;
        let run = log.snapshot().id();
        cache(&*log, 0, &query(1, 1, None), 1_000, b"a");
        cache(&*log, 1, &query(2, 2, Some(5)), 1_000, b"b");
        log.commit().wait().await.unwrap();
        let wanted = [
            (query(1, 1, None), Accept::Any),
            (query(3, 1, None), Accept::Any),
            (query(2, 2, Some(5)), Accept::Any),
            (query(1, 1, None), Accept::MadeBy(run, time(999))),
            (query(1, 1, None), Accept::MadeBy(run, time(1_000))),
            (query(4, 4, None), Accept::Any),
        ];
        let wanted: Arc<[Wanted]> = wanted
            .map(|(query, accept)| Wanted { query, accept })
            .into();
        let found = store.look_up(wanted, 3, time(1_005)).await.unwrap();
        let told = |found: &Lookup| match found {
            Lookup::Hit(_) => "hit".to_owned(),
            Lookup::Miss(CacheMiss::Expired { .. }, claim) => format!("expired {claim:?}"),
            Lookup::Miss(miss, claim) => format!("{miss:?} {claim:?}"),
        };
        assert_eq!(
            found.iter().map(told).collect::<Vec<_>>(),
            [
                "hit",
                "ChangedCode Own",
                "expired Own",
                "hit",
                "Refreshed Own",
                "NewInputs NotMade"
            ],
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_claims_of_a_flight_have_one_winner() {
    on_each_durable(async |opened| {
        let stores: Vec<_> = (0..8).map(|_| opened.reopen()).collect();
        let claims = stores
            .iter()
            .cloned()
            .map(|store| tokio::spawn(async move { claim(&*store, [1]).await[0] }));
        let claims = futures_util::future::join_all(claims).await;
        assert_eq!(
            claims
                .into_iter()
                .filter(|claim| *claim.as_ref().unwrap() == Claim::Own)
                .count(),
            1
        );
    })
    .await;
}

#[tokio::test]
async fn old_runs_lose_their_tasks_and_nothing_else() {
    on_each(async |opened| {
        let store = &*opened.store;
        let old = started(store, keyed("etl", "old"), 3).await;
        let fresh = started(store, keyed("etl", "fresh"), 3).await;
        let running = started(store, new_run("etl"), 3).await;
        for (log, at) in [(&old, 99), (&fresh, 100)] {
            log.record(Transition::Task(success(0, b"result")));
            finish(&**log, at, RunState::Failed).await;
        }
        let prune = || store.prune(time(100), time(0), u64::MAX);
        assert_eq!(prune().await.unwrap(), Pruned { runs: 1, cached: 0 });
        assert_eq!(prune().await.unwrap(), Pruned::default());
        let runs = store.runs("etl").await.unwrap();
        let kept: Vec<(bool, usize)> = runs
            .iter()
            .map(|run| (run.is_pruned(), run.tasks().len()))
            .collect();
        assert_eq!(kept, [(true, 0), (false, 3), (false, 3)]);
        assert_eq!(
            (runs[0].state(), runs[0].key(), runs[0].finished_at()),
            (RunState::Failed, Some("old"), old.snapshot().finished_at())
        );
        assert_eq!(taken(store, keyed("etl", "old")).await, old.snapshot().id());
        running.record(Transition::Task(success(0, b"result")));
        finish(&*running, 200, RunState::Success).await;
    })
    .await;
}

#[tokio::test]
async fn lines_of_logs_come_back_in_order_and_as_they_were() {
    on_each(async |opened| {
        let (first, second) = (new_run("etl"), new_run("etl"));
        let (one, two) = (first.id, second.id);
        let _logs = [started(&*opened.store, first, 1).await, started(&*opened.store, second, 1).await];
        let fields = serde_json::json!({ "n": 1, "x": 0.1, "yes": true, "text": "ä\u{0}\"", "big": u64::MAX });
        let full = LogLine {
            level: LogLevel::Error,
            message: "ä\u{0}\n".to_owned(),
            fields: fields.as_object().unwrap().clone(),
            task: Some("sub/load[7]".to_owned()),
            attempt: Some(3),
            map_index: Some(7),
            ..line(one, "")
        };
        let store = &opened.store;
        let mut mixed = vec![line(one, "a"), line(two, "b"), full.clone(), line(new_run("etl").id, "nobody's")];
        assert!(store.append_logs(&mut mixed, false).unwrap() && mixed.is_empty());
        assert!(store.append_logs(&mut vec![line(one, "c"), line(two, "d")], true).unwrap());
        let stores = [Some(Arc::clone(store)), store.is_durable().then(|| opened.reopen())];
        for store in stores.into_iter().flatten() {
            let lines = store.logs(one, 0, 10).await.unwrap();
            let expected = [line(one, "a"), full.clone(), line(one, "c")];
            let numbered = (1..).zip(expected).map(|(number, line)| LogLine { number, ..line });
            assert_eq!(lines, numbered.collect::<Vec<_>>());
            let messages = async |after, at_most| {
                let lines = store.logs(two, after, at_most).await.unwrap();
                lines.into_iter().map(|line| line.message).collect::<Vec<_>>()
            };
            assert_eq!(messages(0, 10).await, ["b", "d"]);
            assert_eq!(messages(0, 1).await, ["b"]);
            assert_eq!(messages(1, 10).await, ["d"]);
            assert_eq!(messages(2, 10).await, [""; 0]);
            assert_eq!(messages(u64::MAX, 10).await, [""; 0]);
            assert_eq!(store.logs(new_run("etl").id, 0, 10).await.unwrap(), []);
        }
    })
    .await;
}

#[tokio::test]
async fn lines_of_logs_go_with_the_tasks_of_their_run() {
    on_each(async |opened| {
        let store = &*opened.store;
        let (old, fresh) = (
            started(store, new_run("etl"), 1).await,
            started(store, new_run("etl"), 1).await,
        );
        // more lines than one step of a prune deletes
        let lines = |log: &Arc<dyn RunLog>| vec![line(log.snapshot().id(), "said"); 7_000];
        for log in [&old, &fresh] {
            assert!(store.append_logs(&mut lines(log), true).unwrap());
        }
        let left = async |log: &Arc<dyn RunLog>| {
            store
                .logs(log.snapshot().id(), 0, 20_000)
                .await
                .unwrap()
                .len()
        };
        finish(&*old, 99, RunState::Success).await;
        finish(&*fresh, 100, RunState::Success).await;
        assert_eq!((left(&old).await, left(&fresh).await), (7_000, 7_000));
        assert_eq!(
            store
                .prune(time(100), time(0), u64::MAX)
                .await
                .unwrap()
                .runs,
            1
        );
        // late lines are dropped
        assert!(store.append_logs(&mut lines(&old), true).unwrap());
        assert_eq!((left(&old).await, left(&fresh).await), (0, 7_000));
        assert_eq!(
            store
                .prune(time(101), time(0), u64::MAX)
                .await
                .unwrap()
                .runs,
            1
        );
        assert_eq!(left(&fresh).await, 0);
    })
    .await;
}

#[tokio::test]
async fn cached_results_go_by_age_and_by_their_size() {
    on_each(async |opened| {
        let store = &*opened.store;
        let log = started(store, new_run("etl"), 200).await;
        let (brief, lasting) = (query(1, 1, Some(100)), query(2, 2, Some(101)));
        cache(&*log, 0, &brief, 1_000, b"a");
        cache(&*log, 1, &lasting, 1_000, b"b");
        log.commit().wait().await.unwrap();
        assert_eq!(
            store
                .prune(time(0), time(1_099), u64::MAX)
                .await
                .unwrap()
                .cached,
            0
        );
        assert_eq!(
            store
                .prune(time(0), time(1_100), u64::MAX)
                .await
                .unwrap()
                .cached,
            1
        );
        assert_eq!(found(store, &brief, 1_000).await, "NewInputs");
        assert_eq!(found(store, &lasting, 1_100).await, "1000 [98]");
        assert_eq!(
            store.prune(time(0), time(1_100), 0).await.unwrap().cached,
            1
        );
        if !store.is_durable() {
            return;
        }
        for number in 0..150 {
            // later entries have older results
            cache(
                &*log,
                10 + number,
                &query(number as u8, 1, None),
                10_000 - i64::from(number),
                &[0; 10],
            );
        }
        log.commit().wait().await.unwrap();
        assert_eq!(
            store
                .prune(time(0), time(20_000), 1_500)
                .await
                .unwrap()
                .cached,
            0
        );
        assert_eq!(
            store
                .prune(time(0), time(20_000), 295)
                .await
                .unwrap()
                .cached,
            121
        );
        for (number, expected) in [(0, true), (28, true), (29, false), (149, false)] {
            assert_eq!(
                !found(store, &query(number, 1, None), 0)
                    .await
                    .contains("Changed"),
                expected,
                "{number}"
            );
        }
    })
    .await;
}
