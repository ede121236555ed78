//! What holds of every store: each test here is run on all of them.

mod entries;
mod serving;

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use tempfile::TempDir;

use super::*;
use crate::error::{Cause, TaskError};
use crate::graph::NodeMeta;
use crate::id::IdSource;
use crate::log::LogLevel;
use crate::state::{RunKind, RunState, TaskState};
use crate::task::Interval;
use crate::task::scope::NONE;
use crate::value::OutputType;

/// A store that no other test has.
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
            store: open(&url, None, 0).unwrap(),
            url,
            folder,
        }
    }

    /// The store as another process opens it. That process dies where this is dropped.
    pub(crate) fn reopen(&self) -> Arc<dyn Store> {
        open(&self.url, None, 0).unwrap()
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

/// Runs a test on all stores.
async fn on_each(mut test: impl AsyncFnMut(&Opened)) {
    test(&Opened::new("memory")).await;
    on_each_durable(test).await;
}

/// Runs a test on the stores that outlive their process.
async fn on_each_durable(mut test: impl AsyncFnMut(&Opened)) {
    for kind in DURABLE {
        test(&Opened::new(kind)).await;
    }
}

/// A run by hand, at the first second of 1970.
pub(crate) fn new_run(flow: &str) -> NewRun {
    static IDS: std::sync::LazyLock<IdSource> = std::sync::LazyLock::new(IdSource::from_entropy);
    let at = DateTime::from_timestamp(1, 0).unwrap();
    NewRun {
        id: IDS.run_id(at),
        flow: flow.to_owned().into(),
        kind: RunKind::Manual,
        key: None,
        logical_date: at,
        interval: Interval { start: at, end: at },
        parameters: serde_json::Map::new(),
        refresh_cache: false,
        created: at,
    }
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

/// A node of the flow itself, or of the mapping that `region` is.
pub(super) fn node(name: &'static str, region: u32, local: u32) -> NodeMeta {
    let hidden = name.starts_with("expand(");
    NodeMeta {
        prefix: None,
        name: name.into(),
        number: 1,
        region,
        local,
        hidden,
        wired: None,
    }
}

/// A run that has started, with so many nodes.
pub(crate) async fn started(store: &dyn Store, run: NewRun, nodes: u32) -> Arc<dyn RunLog> {
    let log = created(store, run).await;
    log.record(Transition::RunStarted { at: 10 });
    log.record(Transition::Planned(
        (0..nodes).map(|local| node("work", NONE, local)).collect(),
    ));
    log.commit().wait().await.unwrap();
    log
}

pub(super) fn row(state: TaskState, attempts: u16) -> Row {
    Row {
        started: 20,
        finished: if state == TaskState::Running { 0 } else { 30 },
        error: None,
        attempts,
        state,
        ..Row::PENDING
    }
}

pub(super) fn success(cell: u32, result: &[u8]) -> TaskEnd {
    TaskEnd {
        result: Some(Encoded(result.into())),
        ..TaskEnd::new(0, cell, row(TaskState::Success, 1))
    }
}

fn to(cell: u32, state: TaskState) -> Transition {
    Transition::Task(TaskEnd::new(0, cell, row(state, 1)))
}

/// Brings a run to its end, at a time.
pub(super) async fn finish(log: &dyn RunLog, at: i64, state: RunState) {
    log.record(Transition::RunFinished(RunEnd {
        at,
        state,
        error: None,
        output: None,
        encoded: None,
    }));
    log.commit().wait().await.unwrap();
}

/// A line of a run's log.
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

/// Everything that a record tells.
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

/// Small numbers, the same for the same seed.
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

/// What happens in a run with a mapping in a mapping, one whose list never came, and tasks that end in all ways.
pub(super) fn a_long_life(seed: u64, other: RunId) -> Vec<Transition> {
    let mut random = Random(seed);
    let mut transitions = vec![
        Transition::RunStarted { at: 1_000 },
        Transition::Planned(vec![
            node("first", NONE, 0),
            node("expand(outer)", NONE, 1),
            node("expand(inner)", 1, 0),
            node("each", 2, 0),
            node("of_outer", 1, 1),
            NodeMeta {
                prefix: Some("sub/".into()),
                number: 3,
                ..node("in_a_flow", NONE, 2)
            },
            node("expand(never)", NONE, 3),
            node("never", 6, 0),
        ]),
        Transition::Expanded(FrameMeta {
            region: 1,
            parent: (0, 0),
            len: 3,
            unexpanded: false,
        }),
    ];
    // the order of frames is that in which lists came
    for (outer, len) in [(2, 4), (0, 0), (1, 2)] {
        transitions.push(Transition::Expanded(FrameMeta {
            region: 2,
            parent: (1, outer),
            len,
            unexpanded: false,
        }));
    }
    transitions.push(Transition::Expanded(FrameMeta {
        region: 6,
        parent: (0, 0),
        len: 1,
        unexpanded: true,
    }));
    // an async body plans more of the first mapping's nodes while it runs, and more of its own
    transitions.push(Transition::Planned(vec![
        node("later", 1, 2),
        node("last", NONE, 4),
    ]));
    transitions.push(Transition::Extended { frame: 1 });
    let cells = [(0, 5), (1, 9), (2, 4), (4, 2), (5, 1)];
    let mut lives: Vec<Vec<Transition>> = cells
        .iter()
        .flat_map(|(frame, cells)| (0..*cells).map(|cell| (*frame, cell)))
        .map(|(frame, cell)| a_life(&mut random, frame, cell, other))
        .collect();
    // side by side
    while !lives.is_empty() {
        let at = random.below(lives.len() as u64) as usize;
        transitions.push(lives[at].remove(0));
        if random.below(8) == 0 {
            transitions.push(Transition::Awaited {
                node: 0,
                asked: None,
            });
        }
        lives.retain(|life| !life.is_empty());
    }
    transitions
}

/// What becomes of one task, legally.
fn a_life(random: &mut Random, frame: u32, cell: u32, other: RunId) -> Vec<Transition> {
    let mut life = Vec::new();
    let mut step =
        |state, attempts, started: i64, finished: i64, error: Option<TaskError>, note| {
            let row = Row {
                started,
                finished,
                error,
                attempts,
                state,
                ..Row::PENDING
            };
            let note = Option::map(note, Box::new);
            life.push(Transition::Task(TaskEnd {
                note,
                ..TaskEnd::new(frame, cell, row)
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
    match random.below(9) {
        0 => step(TaskState::Success, attempts, at, at + 7, None, None),
        1 => step(
            TaskState::Success,
            attempts,
            at,
            at,
            None,
            Some(CacheNote::Missed(CacheMiss::Expired { created })),
        ),
        2 => step(
            TaskState::Success,
            attempts - 1,
            at,
            at,
            None,
            Some(CacheNote::Hit {
                run: other,
                created: 7,
            }),
        ),
        3 => step(
            TaskState::Failed,
            attempts,
            at,
            at + 9,
            error("no", Cause::Fatal),
            None,
        ),
        4 => {
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
        5 => step(
            TaskState::Skipped,
            attempts,
            at,
            at + 1,
            error("nothing to do", Cause::Skipped),
            None,
        ),
        6 if attempts == 1 => step(
            TaskState::UpstreamFailed,
            0,
            0,
            at,
            error("before it", Cause::UpstreamFailed),
            None,
        ),
        7 => step(TaskState::Cancelled, attempts, at, at + 2, None, None),
        _ => {}
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
async fn runs_are_told_in_the_order_in_which_they_were_accepted() {
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
async fn transitions_add_up_alike_in_every_store() {
    for seed in 0..20 {
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
                at: 9_000,
                state: RunState::Failed,
                error: Some(TaskError::new(Cause::Panicked, "all in all")),
                encoded: log.encode(&value).unwrap(),
                output: Some(Kept::Live(value)),
            }));
            log.commit().wait().await.unwrap();
            // nothing comes after the end
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
        // a key is stronger than a tick
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
        task: "crate::module::task".to_owned(),
        inputs: [inputs; 32],
        expiry,
    }
}

/// Records a success whose result goes into the cache.
fn cache(log: &dyn RunLog, cell: u32, query: &CacheQuery, created: i64, result: &[u8]) {
    let result = Encoded(result.into());
    let hit = CacheHit {
        run: log.snapshot().id(),
        created,
        result: Kept::Encoded(result.clone()),
    };
    let entry = Some(Box::new(NewEntry {
        query: query.clone(),
        hit,
    }));
    let row = Row {
        finished: created.max(21),
        ..row(TaskState::Success, 1)
    };
    log.record(Transition::Task(TaskEnd {
        result: Some(result),
        cache: entry,
        ..TaskEnd::new(0, cell, row)
    }));
}

/// What a look-up finds, in short.
async fn found(store: &dyn Store, query: &CacheQuery, now: i64) -> String {
    match store.look_up(query, now).await.unwrap() {
        Lookup::Hit(CacheHit {
            created,
            result: Kept::Encoded(bytes),
            ..
        }) => {
            format!("{} {:?}", created, &bytes.0[..])
        }
        Lookup::Hit(_) => "a value".to_owned(),
        Lookup::Miss(miss) => format!("{miss:?}"),
    }
}

#[tokio::test]
async fn a_look_up_tells_what_there_is_or_why_there_is_nothing() {
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
            task: "crate::other::task".to_owned(),
            ..query(2, 1, None)
        };
        assert_eq!(found(store, &other, 1_001).await, "Empty");
        let hit = "1000 [97]";
        // a clock that was set back makes nothing older
        for (now, expected) in [(1_000, hit), (1_099, hit), (0, hit), (i64::MIN, hit)] {
            assert_eq!(found(store, &kept, now).await, expected, "{now}");
        }
        for now in [1_100, 1_101, i64::MAX] {
            assert!(
                found(store, &kept, now).await.starts_with("Expired"),
                "{now}"
            );
        }
        // what counts is how long the one who asks takes a result for good
        assert_eq!(found(store, &query(1, 1, None), i64::MAX).await, hit);
        assert!(
            found(store, &query(1, 1, Some(5)), 1_005)
                .await
                .starts_with("Expired")
        );
        cache(&*log, 1, &kept, 1_200, b"b");
        log.commit().wait().await.unwrap();
        assert_eq!(found(store, &kept, 1_201).await, "1200 [98]");
        match store.look_up(&kept, 1_201).await.unwrap() {
            Lookup::Hit(hit) => assert_eq!(hit.run, log.snapshot().id()),
            Lookup::Miss(miss) => panic!("{miss}"),
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

/// A run that has started in a process that died then. Its log is what is left of that process.
async fn orphan(opened: &Opened, run: NewRun) -> Arc<dyn RunLog> {
    let other = opened.reopen();
    let log = started(&*other, run, 8).await;
    assert!(ids(&*opened.store).await.is_empty());
    drop(other);
    log
}

/// Waits until it is known that the process of a run is dead. That is at once, but for a process that another test is
/// just starting: until it is itself, it has the locks of this one.
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
async fn in_memory_nothing_is_left_by_others() {
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
        // not from itself, either
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
async fn one_of_many_takers_wins() {
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
async fn who_lost_a_run_writes_nothing_to_it() {
    on_each_durable(async |opened| {
        let first = orphan(opened, new_run("etl")).await;
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
            at: 1,
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
async fn a_history_has_results_the_order_of_answers_and_who_asked_for_the_end() {
    on_each_durable(async |opened| {
        let log = orphan(opened, new_run("etl")).await;
        let id = log.snapshot().id();
        for cell in [2, 0, 1] {
            log.record(Transition::Task(success(cell, &[cell as u8; 3])));
            log.record(Transition::Awaited {
                node: cell,
                asked: None,
            });
        }
        log.record(Transition::Task(success(3, &[])));
        log.record(to(4, TaskState::Running));
        log.record(Transition::Cancelling);
        log.commit().wait().await.unwrap();
        let History {
            tables,
            mut results,
            told,
            takeovers,
            cancelling,
        } = take(&*opened.store, id).await.history;
        let told: Vec<u32> = told.answers.iter().map(|answered| answered.node).collect();
        assert_eq!((told, takeovers, cancelling), (vec![2, 0, 1], 1, true));
        for cell in 0..3 {
            assert_eq!(results.remove(&(0, cell)).unwrap().0[..], [cell as u8; 3]);
        }
        results.remove(&(0, 3));
        assert!(results.is_empty());
        let states: Vec<TaskState> = tables.frames[0].rows.iter().map(|row| row.state).collect();
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
        assert_eq!((tables.state, tables.started), (RunState::Running, 10));
    })
    .await;
}

#[tokio::test]
async fn takeovers_are_counted_until_a_node_comes_to_its_end() {
    on_each_durable(async |opened| {
        let id = orphan(opened, new_run("etl")).await.snapshot().id();
        let mut attempts = 0;
        let mut life = async |ends: Option<Transition>, released: bool| {
            let process = opened.reopen();
            let TakenOver { log, history } = take(&*process, id).await;
            attempts += 1;
            log.record(Transition::Task(TaskEnd::new(
                0,
                0,
                row(TaskState::Running, attempts),
            )));
            for transition in ends
                .into_iter()
                .chain(released.then_some(Transition::Released))
            {
                log.record(transition);
            }
            log.commit().wait().await.unwrap();
            history.takeovers
        };
        assert_eq!(life(None, false).await, 1);
        assert_eq!(life(None, false).await, 2);
        // left by a clean stop: the process that takes it then took it from nobody
        assert_eq!(life(None, true).await, 3);
        assert_eq!(life(None, false).await, 3);
        assert_eq!(life(Some(to(1, TaskState::Success)), false).await, 4);
        assert_eq!(life(Some(to(2, TaskState::Skipped)), true).await, 1);
        assert_eq!(life(None, true).await, 0);
        let retrying = Row {
            finished: 99,
            ..row(TaskState::Retrying, 1)
        };
        assert_eq!(
            life(Some(Transition::Task(TaskEnd::new(0, 3, retrying))), false).await,
            0
        );
        assert_eq!(life(None, false).await, 1);
        let record = opened.store.run(id).await.unwrap().unwrap();
        assert_eq!(record.tasks().iter().next().unwrap().crashes(), 8);
    })
    .await;
}

#[tokio::test]
async fn a_run_that_goes_on_keeps_its_numbers_and_is_not_told_twice() {
    on_each_durable(async |opened| {
        let head = new_run("etl");
        let log = orphan(opened, head.clone()).await;
        log.record(Transition::Task(success(0, b"once")));
        log.commit().wait().await.unwrap();
        let before = told(&log.snapshot());
        let TakenOver { log, .. } = take(&*opened.store, head.id).await;
        assert_eq!(told(&log.snapshot()), before);
        // it comes to its recorded states again
        log.record(Transition::RunStarted { at: 77 });
        log.record(Transition::Task(success(0, b"twice")));
        assert_eq!(told(&log.snapshot()), before);
        log.record(Transition::Planned(vec![node("more", NONE, 8)]));
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
            let log = created(&*opened.store, new_run("etl")).await;
            let id = log.snapshot().id();
            assert!(
                opened
                    .store
                    .reopen(id, &Rerun::All, 80)
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
                .reopen(id, &Rerun::All, 7_000)
                .await
                .unwrap()
                .expect("it is final");
            assert!(
                opened
                    .store
                    .reopen(id, &Rerun::All, 7_001)
                    .await
                    .unwrap()
                    .is_none()
            );
            assert_eq!(
                (history.takeovers, history.cancelling, history.results.len()),
                (0, false, 0)
            );
            // who finished it writes nothing to it any more
            log.record(Transition::RunStarted { at: 7_001 });
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
                // lists are worked out in each life
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
            again.record(Transition::RunStarted { at: 7_100 });
            // it has the lists that it had, but one
            let longer = FrameMeta {
                region: 2,
                parent: (1, 1),
                len: 3,
                unexpanded: false,
            };
            again.record(Transition::Expanded(longer));
            again.record(Transition::Task(TaskEnd::new(
                6,
                2,
                row(TaskState::Success, 1),
            )));
            let attempts = u16::try_from(before.task("first").unwrap().attempts()).unwrap() + 1;
            again.record(Transition::Task(TaskEnd::new(
                0,
                0,
                row(TaskState::Success, attempts),
            )));
            finish(&*again, 7_200, RunState::Success).await;
            let read = opened.store.run(id).await.unwrap().unwrap();
            assert_eq!(told(&read), told(&again.snapshot()));
            // what did not come again is not shown
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
async fn one_of_many_runs_a_run_again() {
    on_each_durable(async |opened| {
        let stores: Vec<_> = (0..4).map(|_| opened.reopen()).collect();
        let log = started(&*opened.store, new_run("etl"), 3).await;
        let id = log.snapshot().id();
        finish(&*log, 30, RunState::Failed).await;
        let reopening = stores.iter().cloned().map(|store| {
            tokio::spawn(async move { store.reopen(id, &Rerun::All, 40).await.unwrap() })
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
async fn a_flight_is_one_process_s_until_it_ends_or_that_process_does() {
    on_each(async |opened| {
        let (store, key) = (&opened.store, CacheKey([7; 32]));
        assert!(store.claim_flight(key).await.unwrap());
        if !store.is_durable() {
            return;
        }
        let (second, third) = (opened.reopen(), opened.reopen());
        assert!(
            !second.claim_flight(key).await.unwrap() && !third.claim_flight(key).await.unwrap()
        );
        assert!(second.claim_flight(CacheKey([8; 32])).await.unwrap());
        // who has none ends none
        third.end_flight(key);
        tokio::task::yield_now().await;
        assert!(!third.claim_flight(key).await.unwrap());
        store.end_flight(key);
        tokio::task::yield_now().await;
        assert!(second.claim_flight(key).await.unwrap());
        assert!(!store.claim_flight(key).await.unwrap());
        drop(second);
        eventually(async || store.claim_flight(key).await.unwrap()).await;
        assert!(!third.claim_flight(key).await.unwrap());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_processes_has_a_flight() {
    on_each_durable(async |opened| {
        let stores: Vec<_> = (0..8).map(|_| opened.reopen()).collect();
        let claims = stores.iter().cloned().map(|store| {
            tokio::spawn(async move { store.claim_flight(CacheKey([1; 32])).await.unwrap() })
        });
        let claims = futures_util::future::join_all(claims).await;
        assert_eq!(
            claims
                .into_iter()
                .filter(|claim| *claim.as_ref().unwrap())
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
        let prune = || store.prune(100, 0, u64::MAX);
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
        let mixed = vec![line(one, "a"), line(two, "b"), full.clone(), line(new_run("etl").id, "nobody's")];
        store.append_logs(mixed).wait().await.unwrap();
        store.append_logs(vec![line(one, "c"), line(two, "d")]).wait().await.unwrap();
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
        // more than one step of a prune takes
        let lines = |log: &Arc<dyn RunLog>| vec![line(log.snapshot().id(), "said"); 7_000];
        for log in [&old, &fresh] {
            store.append_logs(lines(log)).wait().await.unwrap();
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
        assert_eq!(store.prune(100, 0, u64::MAX).await.unwrap().runs, 1);
        // what comes late comes to nothing
        store.append_logs(lines(&old)).wait().await.unwrap();
        assert_eq!((left(&old).await, left(&fresh).await), (0, 7_000));
        assert_eq!(store.prune(101, 0, u64::MAX).await.unwrap().runs, 1);
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
        assert_eq!(store.prune(0, 1_099, u64::MAX).await.unwrap().cached, 0);
        assert_eq!(store.prune(0, 1_100, u64::MAX).await.unwrap().cached, 1);
        assert_eq!(found(store, &brief, 1_000).await, "NewInputs");
        assert_eq!(found(store, &lasting, 1_100).await, "1000 [98]");
        assert_eq!(store.prune(0, 1_100, 0).await.unwrap().cached, 1);
        if !store.is_durable() {
            return;
        }
        for number in 0..150 {
            // the later the older
            cache(
                &*log,
                10 + number,
                &query(number as u8, 1, None),
                10_000 - i64::from(number),
                &[0; 10],
            );
        }
        log.commit().wait().await.unwrap();
        assert_eq!(store.prune(0, 20_000, 1_500).await.unwrap().cached, 0);
        assert_eq!(store.prune(0, 20_000, 295).await.unwrap().cached, 121);
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
