use std::sync::Arc;

use chrono::DateTime;
use smallvec::SmallVec;

use super::*;
use crate::error::{Cause, TaskError};
use crate::graph::{NodeMeta, Wired};
use crate::state::TaskState;
use crate::store::{CacheMiss, CacheNote, FrameMeta, NewRun, Row, RunEnd, RunTables, TaskEnd, Transition};
use crate::task::Interval;
use crate::task::scope::NONE;

const RUN: &str = "01936f5e-8c00-7000-8000-000000000001";
const OTHER: &str = "01936f5e-8c00-7000-8000-000000000002";
const SECOND: i64 = 1_000_000;

/// A run, and what is told to its record.
struct Told(RunTables);

impl Told {
    fn new(nodes: Vec<NodeMeta>) -> Self {
        let at = DateTime::UNIX_EPOCH;
        let mut tables = RunTables::new(Arc::new(NewRun {
            id: RUN.parse().unwrap(),
            flow: "flow".into(),
            kind: RunKind::Manual,
            key: None,
            logical_date: at,
            interval: Interval { start: at, end: at },
            parameters: serde_json::Map::new(),
            refresh_cache: false,
            created: at,
        }));
        tables.apply(Transition::RunStarted { at: SECOND });
        tables.apply(Transition::Planned(nodes));
        Self(tables)
    }

    fn task(mut self, frame: u32, cell: u32, state: TaskState, attempts: u16, error: Option<TaskError>) -> Self {
        let row = Row { started: SECOND, finished: 60 * SECOND, error, attempts, state, ..Row::PENDING };
        self.0.apply(Transition::Task(TaskEnd::new(frame, cell, row)));
        self
    }

    fn note(mut self, cell: u32, note: CacheNote) -> Self {
        self.0.notes.insert((0, cell), note);
        self
    }

    fn mapping(self, len: u32) -> Self {
        self.expanded(1, (0, 0), len)
    }

    fn expanded(mut self, region: u32, parent: (u32, u32), len: u32) -> Self {
        self.0.apply(Transition::Expanded(FrameMeta { region, parent, len, unexpanded: false }));
        self
    }

    fn ended(mut self, state: RunState, error: Option<TaskError>) -> Self {
        let end = RunEnd { at: 90 * SECOND, state, error, output: None, encoded: None };
        self.0.apply(Transition::RunFinished(end));
        self
    }

    fn why(self, key: &str, around: &Around<'_>) -> String {
        let record = RunRecord::from(self.0);
        match key {
            "" => run::of(&record, around).to_string(),
            key => task::of_key(&record, key, around).map_or_else(|| "no task".to_owned(), |why| why.to_string()),
        }
    }
}

fn node(name: &'static str, region: u32, local: u32, upstreams: &[u32]) -> NodeMeta {
    let upstreams = SmallVec::from_slice(upstreams);
    let wired = Wired { hash: [0; 16], task: name.into(), output: "".into(), upstreams };
    let hidden = name == "gather" || name == "expand()";
    NodeMeta { prefix: None, name: name.into(), number: 1, region, local, hidden, wired: Some(Box::new(wired)) }
}

/// `a` and `b`, then `c` of both, then `d` of `c`.
fn diamond() -> Told {
    Told::new(vec![
        node("a", NONE, 0, &[]),
        node("b", NONE, 1, &[]),
        node("c", NONE, 2, &[0, 1]),
        node("d", NONE, 3, &[2]),
    ])
}

/// `total` of `work`, for each of `list`.
fn mapped() -> Told {
    Told::new(vec![
        node("list", NONE, 0, &[]),
        node("expand()", NONE, 1, &[0]),
        node("work", 1, 0, &[]),
        node("gather", NONE, 2, &[2]),
        node("total", NONE, 3, &[3]),
    ])
}

fn around(executed: Executed) -> Around<'static> {
    Around {
        executed,
        turns: Vec::new(),
        max_active_runs: None,
        schedule: None,
        pool_of: &|task| (task == "c").then_some(Pool { name: "database", slots: 1 }),
        slots: &|_| Some(4),
    }
}

fn error(text: &str) -> Option<TaskError> {
    Some(TaskError::new(Cause::Failed, text))
}

fn refused(cause: Cause, text: &str) -> Option<TaskError> {
    Some(TaskError::new(cause, text))
}

const HERE: Executed = Executed::Somewhere;
use TaskState::{Failed, Retrying, Running, Skipped, Success, UpstreamFailed};

#[test]
fn what_is_pending_waits_for_something() {
    let around = around(HERE);
    let two = diamond().task(0, 0, Running, 1, None).task(0, 1, Retrying, 2, error("no network"));
    assert_eq!(
        two.why("d", &around),
        "d: pending\n  it waits for 1 of its 1 upstream(s)\n  c: pending\n    it waits for 2 of its 2 upstream(s)\n    \
         a: running\n      attempt 1 is under way since 1970-01-01T00:00:01Z\n    b: retrying\n      attempt 2 failed: no \
         network; the next is due at 1970-01-01T00:01:00Z\n"
    );
    let ready = || diamond().task(0, 0, Success, 1, None).task(0, 1, Success, 1, None);
    let pool = "all that it waits for is done: it waits for a slot of the pool `database`, which has 4";
    assert_eq!(ready().why("c", &around), format!("c: pending\n  {pool}\n"));
    let own = "it has no upstreams: it waits for a slot of the runtime (`max_running`, `max_blocking`)";
    assert_eq!(diamond().why("a", &around), format!("a: pending\n  {own}\n"));
    assert_eq!(diamond().why("e", &around), "no task");
}

#[test]
fn what_nobody_executes_waits_for_a_process() {
    let around = around(Executed::Nowhere);
    let nobody = "no process executes the run (a stop left it, or its process died): it goes on with `serve`, or with \
                  `Runtime::resume`";
    assert_eq!(diamond().why("a", &around), format!("a: pending\n  {nobody}\n"));
    let told = diamond().task(0, 0, Running, 2, None).why("a", &around);
    assert_eq!(told, format!("a: running\n  attempt 2 was under way when its process ended\n  {nobody}\n"));
}

#[test]
fn what_was_not_run_goes_back_to_its_cause() {
    let around = around(HERE);
    let failed = diamond()
        .task(0, 0, Failed, 3, error("no network"))
        .task(0, 1, Success, 1, None)
        .task(0, 2, UpstreamFailed, 0, refused(Cause::UpstreamFailed, "task `a` failed: no network"))
        .task(0, 3, UpstreamFailed, 0, refused(Cause::UpstreamFailed, "task `a` failed: no network"));
    assert_eq!(
        failed.why("d", &around),
        "d: upstream_failed\n  task `a` failed: no network\n  c: upstream_failed\n    task `a` failed: no network\n    \
         a: failed\n      attempt 3 failed: no network\n"
    );
    let skipped = diamond().task(0, 0, Skipped, 1, refused(Cause::Skipped, "no new rows")).task(
        0,
        2,
        Skipped,
        0,
        refused(Cause::Skipped, "task `a` was skipped"),
    );
    assert_eq!(
        skipped.why("c", &around),
        "c: skipped\n  task `a` was skipped\n  a: skipped\n    its body asked for it: no new rows\n"
    );
}

#[test]
fn what_is_done_says_how() {
    let around = around(HERE);
    let hit = CacheNote::Hit { run: OTHER.parse().unwrap(), created: SECOND };
    let told = diamond().task(0, 0, Success, 0, None).note(0, hit).why("a", &around);
    let expected = format!("its result is that of run {OTHER}, computed 1970-01-01T00:00:01Z");
    assert_eq!(told, format!("a: success\n  {expected}\n"));
    let missed = CacheNote::Missed(CacheMiss::NewInputs);
    assert_eq!(
        diamond().task(0, 0, Success, 1, None).note(0, missed).why("a", &around),
        "a: success\n  attempt 1 succeeded\n  it was computed, though its task is cached: the inputs are new\n"
    );
    assert_eq!(
        diamond().task(0, 0, Success, 3, None).why("a", &around),
        "a: success\n  attempt 3 succeeded\n  2 attempt(s) before that failed\n"
    );
    let again = diamond().task(0, 0, Running, 1, None).task(0, 0, Running, 2, None).task(0, 0, Success, 2, None);
    assert_eq!(
        again.why("a", &around),
        "a: success\n  attempt 2 succeeded\n  1 attempt(s) ended with their process, so that it ran again\n"
    );
}

#[test]
fn the_machinery_of_mappings_is_looked_through() {
    let around = around(HERE);
    let list = "list: running\n    attempt 1 is under way since 1970-01-01T00:00:01Z\n";
    assert_eq!(
        mapped().task(0, 0, Running, 1, None).why("work", &around),
        format!("work: pending\n  the list that it is mapped over is not there yet\n  {list}")
    );
    assert_eq!(
        mapped().task(0, 0, Running, 1, None).why("total", &around),
        format!("total: pending\n  it waits for 1 of its 1 upstream(s)\n  {list}")
    );
    let some =
        mapped().task(0, 0, Success, 1, None).mapping(3).task(1, 1, Running, 1, None).task(1, 0, Success, 1, None);
    let told = some.why("total", &around);
    assert!(told.starts_with("total: pending\n  it waits for 2 of its 3 upstream(s)\n  work[1]: running\n"), "{told}");
    assert!(told.contains("  work[2]: pending\n"), "{told}");
    let broken = (0..9).fold(mapped().mapping(9), |told, index| told.task(1, index, Failed, 1, error("odd")));
    let told = broken.task(0, 3, UpstreamFailed, 0, refused(Cause::UpstreamFailed, "9 of 9")).why("total", &around);
    assert_eq!(told.matches("attempt 1 failed: odd").count(), 5, "{told}");
    assert!(told.contains("4 more upstream(s) are so; 5 are shown"), "{told}");
}

#[test]
fn mappings_within_mappings_are_looked_through() {
    let nested = || {
        Told::new(vec![
            node("list", NONE, 0, &[]),
            node("expand()", NONE, 1, &[0]),
            node("rows", 1, 0, &[]),
            node("expand()", 1, 1, &[2]),
            node("work", 3, 0, &[]),
            node("gather", 1, 2, &[4]),
            node("gather", NONE, 2, &[5]),
            node("total", NONE, 3, &[6]),
        ])
        .mapping(2)
        .task(1, 0, Success, 1, None)
        .expanded(3, (1, 0), 2)
        .task(2, 0, Success, 1, None)
    };
    let around = around(HERE);
    let told = nested().task(1, 1, Running, 1, None).why("total", &around);
    assert!(told.contains("  it waits for 2 of its 3 upstream(s)\n"), "{told}");
    assert!(told.contains("\n  rows[1]: running\n") && told.contains("\n  work[0][1]: pending\n"), "{told}");
    let told = nested().task(1, 1, Success, 1, None).expanded(3, (1, 1), 2).task(3, 1, Running, 1, None);
    let told = told.why("total", &around);
    assert!(told.contains("\n  work[1][1]: running\n"), "{told}");
}

#[test]
fn each_run_was_asked_for_by_somebody() {
    let told = |kind: RunKind, key: Option<&str>, schedule: Option<&str>| {
        let mut told = diamond();
        let head = Arc::make_mut(&mut told.0.head);
        (head.kind, head.key) = (kind, key.map(str::to_owned));
        told.why("", &Around { schedule: schedule.map(str::to_owned), ..around(HERE) })
    };
    for (kind, key, schedule, expected) in [
        (RunKind::Manual, None, None, "it was asked for by hand at 1970-01-01T00:00:00Z"),
        (RunKind::Manual, Some("a"), None, "it was asked for by hand at 1970-01-01T00:00:00Z, with the key `a`"),
        (
            RunKind::Scheduled,
            None,
            Some("0 6 * * *"),
            "it was due at 1970-01-01T00:00:00Z by the schedule of its flow (0 6 * * *)",
        ),
        (RunKind::Scheduled, None, None, "it was due at 1970-01-01T00:00:00Z by a schedule of its flow"),
        (
            RunKind::Backfill,
            None,
            None,
            "a backfill made it at 1970-01-01T00:00:00Z, for the tick of 1970-01-01T00:00:00Z",
        ),
    ] {
        let why = told(kind, key, schedule);
        assert!(why.contains(&format!("\n  {expected}\n")), "{why}");
    }
}

#[test]
fn a_flow_in_the_flow_waits_for_its_tasks() {
    let inner = NodeMeta { prefix: Some("sub/".into()), ..node("inner", NONE, 1, &[]) };
    let told = Told::new(vec![node("sub", NONE, 0, &[]), inner]).task(0, 1, Running, 1, None).why("sub", &around(HERE));
    assert!(told.contains("\n  sub/inner: running\n"), "{told}");
}

#[test]
fn a_run_goes_back_to_its_tasks() {
    let asked = "it was asked for by hand at 1970-01-01T00:00:00Z";
    let red = diamond()
        .task(0, 0, Failed, 1, error("no network"))
        .task(0, 1, Failed, 1, error("handled"))
        .ended(RunState::Failed, error("task `a` failed: no network"));
    assert_eq!(
        red.why("", &around(HERE)),
        format!(
            "run {RUN}: failed\n  task `a` failed: no network\n  {asked}\n  a: failed\n    attempt 1 failed: no network\n"
        )
    );
    let green = diamond().task(0, 1, Failed, 1, error("handled")).ended(RunState::Success, None);
    let handled = "1 task(s) failed, and each failure was handled";
    assert_eq!(green.why("", &around(HERE)), format!("run {RUN}: success\n  {handled}\n  {asked}\n"));
    let running = diamond().task(0, 0, Running, 1, None).why("", &around(HERE));
    assert!(running.contains("  0 of 4 task(s) are done, 1 running, 0 retrying\n"), "{running}");
    assert!(running.contains("  a: running\n") && !running.contains("b: pending"), "{running}");
}

#[test]
fn a_run_that_has_not_started_waits_for_its_turn() {
    let mut told = diamond();
    told.0.state = RunState::Pending;
    let turns = vec![OTHER.parse().unwrap()];
    let around = Around { turns, max_active_runs: Some(1), ..around(HERE) };
    let why = told.why("", &around);
    let turn = format!("it waits for its turn: `max_active_runs` of its flow is 1, and under way are {OTHER}");
    assert!(why.starts_with(&format!("run {RUN}: pending\n  {turn}\n")), "{why}");
}
