use std::sync::Arc;

use chrono::DateTime;

use super::*;
use crate::error::{Cause, TaskError};
use crate::graph::{NodeMeta, NodeWiring};
use crate::index::NodeNumber;
use crate::journal::{CacheMiss, CacheNote, NewRun, RunEnd, RunTables, TaskEnd, Transition};
use crate::state::TaskState;
use crate::store::suite::{cell_state, expanded, row_place, time};
use crate::task::Interval;

const RUN: &str = "01936f5e-8c00-7000-8000-000000000001";
const OTHER: &str = "01936f5e-8c00-7000-8000-000000000002";
const SECOND: i64 = 1_000_000;

/// A run, and what is told to its record.
struct RecordedRun(RunTables);

impl RecordedRun {
    fn new(nodes: Vec<NodeMeta>) -> Self {
        let at = DateTime::UNIX_EPOCH;
        let mut tables = RunTables::new(Arc::new(NewRun {
            id: RUN.parse().unwrap(),
            flow: "flow".into(),
            kind: RunKind::Manual,
            deployment: None,
            key: None,
            logical_date: at,
            interval: Interval { start: at, end: at },
            parameters: serde_json::Map::new(),
            refresh_cache: false,
            created: at,
        }));
        tables.apply(Transition::RunStarted { at: time(SECOND) });
        tables.apply(Transition::Planned(nodes));
        Self(tables)
    }

    fn task(
        mut self,
        frame: u32,
        cell: u32,
        state: TaskState,
        attempts: u16,
        error: Option<TaskError>,
    ) -> Self {
        let state = cell_state(state, SECOND, 60 * SECOND);
        self.0.apply(Transition::Task(TaskEnd {
            error,
            ..TaskEnd::new(row_place(frame, cell), state, attempts)
        }));
        self
    }

    fn note(mut self, cell: u32, note: CacheNote) -> Self {
        self.0.notes.insert(row_place(0, cell), note);
        self
    }

    fn mapping(self, len: u32) -> Self {
        self.expanded(1, (0, 0), len)
    }

    fn expanded(mut self, region: u32, parent: (u32, u32), len: u32) -> Self {
        self.0
            .apply(Transition::Expanded(expanded(region, parent, len)));
        self
    }

    fn ended(mut self, state: RunState, error: Option<TaskError>) -> Self {
        let end = RunEnd {
            at: time(90 * SECOND),
            state,
            error,
            output: None,
            encoded: None,
        };
        self.0.apply(Transition::RunFinished(end));
        self
    }

    fn why(self, key: &str, around: &RecordContext<'_>) -> String {
        let record = RunRecord::from(self.0);
        match key {
            "" => run::of(&record, around).to_string(),
            key => task::of_key(&record, key, around)
                .map_or_else(|| "no task".to_owned(), |why| why.to_string()),
        }
    }
}

fn node(name: &'static str, region: Option<u32>, local: u32, upstreams: &[u32]) -> NodeMeta {
    let upstreams = upstreams.iter().copied().map(NodeNumber::new).collect();
    let wiring = NodeWiring {
        hash: [0; 16],
        task: name.into(),
        output: "".into(),
        upstreams,
    };
    let hidden = name == "gather" || name == "expand()";
    NodeMeta {
        prefix: None,
        name: name.into(),
        number: 1,
        region: region.map(NodeNumber::new),
        local,
        hidden,
        wiring: Some(Box::new(wiring)),
    }
}

/// `a` and `b`, then `c` of both, then `d` of `c`.
fn diamond() -> RecordedRun {
    RecordedRun::new(vec![
        node("a", None, 0, &[]),
        node("b", None, 1, &[]),
        node("c", None, 2, &[0, 1]),
        node("d", None, 3, &[2]),
    ])
}

/// `total` of `work`, for each of `list`.
fn mapped() -> RecordedRun {
    RecordedRun::new(vec![
        node("list", None, 0, &[]),
        node("expand()", None, 1, &[0]),
        node("work", Some(1), 0, &[]),
        node("gather", None, 2, &[2]),
        node("total", None, 3, &[3]),
    ])
}

fn around(executed: RunExecution) -> RecordContext<'static> {
    RecordContext {
        executed,
        turns: Vec::new(),
        previous: None,
        max_active_runs: None,
        schedule: None,
        failed: HashMap::new(),
        pool_of: &|task| {
            (task == "c").then_some(Pool {
                name: "database",
                slots: 1,
            })
        },
        cleans_up: &|task| task == "tidy",
        slots: &|_| Some(4),
    }
}

fn error(text: &str) -> Option<TaskError> {
    Some(TaskError::new(Cause::Failed, text))
}

fn refused(cause: Cause, text: &str) -> Option<TaskError> {
    Some(TaskError::new(cause, text))
}

const HERE: RunExecution = RunExecution::Somewhere;
use TaskState::{Failed, Retrying, Running, Skipped, Success, UpstreamFailed};

#[test]
fn pending_task_says_what_it_waits_for() {
    let around = around(HERE);
    let two = diamond()
        .task(0, 0, Running, 1, None)
        .task(0, 1, Retrying, 2, error("no network"));
    assert_eq!(
        two.why("d", &around),
        "d: pending\n  it waits for 1 of its 1 upstream\n  c: pending\n    it waits for 2 of its 2 upstreams\n    \
         a: running\n      attempt 1 is running since 1970-01-01T00:00:01Z\n    b: retrying\n      attempt 2 failed: no \
         network; the next is due at 1970-01-01T00:01:00Z\n"
    );
    let ready = || {
        diamond()
            .task(0, 0, Success, 1, None)
            .task(0, 1, Success, 1, None)
    };
    let pool = "all its upstreams have ended: perhaps it waits for a slot of the pool `database`, which has 4 here, or of \
                the runtime (`max_running`, `max_blocking`)";
    assert_eq!(ready().why("c", &around), format!("c: pending\n  {pool}\n"));
    let own = "it has no upstreams: perhaps it waits for a slot of a pool, or of the runtime (`max_running`, `max_blocking`)";
    assert_eq!(
        diamond().why("a", &around),
        format!("a: pending\n  {own}\n")
    );
    assert_eq!(diamond().why("e", &around), "no task");
}

#[test]
fn abandoned_run_waits_for_a_process() {
    let around = around(RunExecution::Nowhere);
    let nobody = "no process executes the run (a shutdown left it unfinished, or its process died): it continues with `serve` or `Runtime::resume`";
    assert_eq!(
        diamond().why("a", &around),
        format!("a: pending\n  {nobody}\n")
    );
    let told = diamond().task(0, 0, Running, 1, None).why("a", &around);
    assert_eq!(
        told,
        format!("a: running\n  attempt 1 was running when its process ended\n  {nobody}\n")
    );
}

#[test]
fn task_that_did_not_run_leads_to_its_cause() {
    let around = around(HERE);
    let failed = diamond()
        .task(0, 0, Failed, 3, error("no network"))
        .task(0, 1, Success, 1, None)
        .task(
            0,
            2,
            UpstreamFailed,
            0,
            refused(Cause::UpstreamFailed, "task `a` failed: no network"),
        )
        .task(
            0,
            3,
            UpstreamFailed,
            0,
            refused(Cause::UpstreamFailed, "task `a` failed: no network"),
        );
    assert_eq!(
        failed.why("d", &around),
        "d: upstream_failed\n  task `a` failed: no network\n  c: upstream_failed\n    task `a` failed: no network\n    \
         a: failed\n      attempt 3 failed: no network\n"
    );
    let skipped = diamond()
        .task(0, 0, Skipped, 1, refused(Cause::Skipped, "no new rows"))
        .task(
            0,
            2,
            Skipped,
            0,
            refused(Cause::Skipped, "task `a` was skipped"),
        );
    assert_eq!(
        skipped.why("c", &around),
        "c: skipped\n  task `a` was skipped\n  a: skipped\n    its body requested it: no new rows\n"
    );
}

#[test]
fn finished_task_says_how_it_ended() {
    let around = around(HERE);
    let hit = CacheNote::Hit {
        run: OTHER.parse().unwrap(),
        created: time(SECOND),
    };
    let told = diamond()
        .task(0, 0, Success, 0, None)
        .note(0, hit)
        .why("a", &around);
    let expected = format!("its result is that of run {OTHER}, computed 1970-01-01T00:00:01Z");
    assert_eq!(told, format!("a: success\n  {expected}\n"));
    let missed = CacheNote::Missed(CacheMiss::NewInputs);
    assert_eq!(
        diamond()
            .task(0, 0, Success, 1, None)
            .note(0, missed)
            .why("a", &around),
        "a: success\n  attempt 1 succeeded\n  it was computed although its task is cached: the inputs are new\n"
    );
    assert_eq!(
        diamond().task(0, 0, Success, 3, None).why("a", &around),
        "a: success\n  attempt 3 succeeded\n  2 attempts before that failed\n"
    );
    let again = diamond()
        .task(0, 0, Running, 1, None)
        .task(0, 0, Running, 2, None)
        .task(0, 0, Success, 2, None);
    assert_eq!(
        again.why("a", &around),
        "a: success\n  attempt 2 succeeded\n  1 attempt ended with its process, so it ran again\n"
    );
}

#[test]
fn internal_nodes_of_mappings_are_skipped_in_reasons() {
    let around = around(HERE);
    let list = "list: running\n    attempt 1 is running since 1970-01-01T00:00:01Z\n";
    assert_eq!(
        mapped().task(0, 0, Running, 1, None).why("work", &around),
        format!("work: pending\n  the list that it is mapped over is not available yet\n  {list}")
    );
    assert_eq!(
        mapped().task(0, 0, Running, 1, None).why("total", &around),
        format!("total: pending\n  it waits for 1 of its 1 upstream\n  {list}")
    );
    let some = mapped()
        .task(0, 0, Success, 1, None)
        .mapping(3)
        .task(1, 1, Running, 1, None)
        .task(1, 0, Success, 1, None);
    let told = some.why("total", &around);
    assert!(
        told.starts_with(
            "total: pending\n  it waits for 2 of its 3 upstreams\n  work[1]: running\n"
        ),
        "{told}"
    );
    assert!(told.contains("  work[2]: pending\n"), "{told}");
    let broken = (0..9).fold(mapped().mapping(9), |told, index| {
        told.task(1, index, Failed, 1, error("odd"))
    });
    let told = broken
        .task(
            0,
            3,
            UpstreamFailed,
            0,
            refused(Cause::UpstreamFailed, "9 of 9"),
        )
        .why("total", &around);
    assert_eq!(told.matches("attempt 1 failed: odd").count(), 5, "{told}");
    assert!(
        told.contains("4 more upstreams are so; 5 are shown"),
        "{told}"
    );
}

/// `total` of `work`, for each of `rows`, for each of `list`.
fn nested(len: u32) -> RecordedRun {
    RecordedRun::new(vec![
        node("list", None, 0, &[]),
        node("expand()", None, 1, &[0]),
        node("rows", Some(1), 0, &[]),
        node("expand()", Some(1), 1, &[2]),
        node("work", Some(3), 0, &[]),
        node("gather", Some(1), 2, &[4]),
        node("gather", None, 2, &[5]),
        node("total", None, 3, &[6]),
    ])
    .mapping(len)
}

#[test]
fn internal_nodes_of_nested_mappings_are_skipped_in_reasons() {
    let first = || {
        let told = nested(2)
            .task(1, 0, Success, 1, None)
            .expanded(3, (1, 0), 2);
        told.task(2, 0, Success, 1, None)
    };
    let around = around(HERE);
    let told = first().task(1, 1, Running, 1, None).why("total", &around);
    assert!(
        told.contains("  it waits for 2 of its 3 upstreams\n"),
        "{told}"
    );
    assert!(
        told.contains("\n  rows[1]: running\n") && told.contains("\n  work[0][1]: pending\n"),
        "{told}"
    );
    let told = first()
        .task(1, 1, Success, 1, None)
        .expanded(3, (1, 1), 2)
        .task(3, 1, Running, 1, None);
    let told = told.why("total", &around);
    assert!(told.contains("\n  work[1][1]: running\n"), "{told}");
}

#[test]
fn mappings_within_mappings_are_summed_up() {
    let around = around(HERE);
    let told = || {
        let told = nested(3)
            .expanded(3, (1, 0), 2)
            .expanded(3, (1, 1), 1)
            .task(1, 2, Running, 1, None);
        told.task(2, 0, Success, 1, None)
            .task(2, 1, Failed, 1, error("odd"))
            .task(3, 0, Success, 1, None)
    };
    let all = told().why("work", &around);
    let counted = "work: running\n  3 elements: 2 success, 1 failed\n  1 list that it is mapped over is not available yet\n";
    assert!(all.starts_with(counted), "{all}");
    assert!(
        all.contains("\n  work[0][1]: failed\n") && all.contains("\n  rows[2]: running\n"),
        "{all}"
    );
    let some = told().why("work[0]", &around);
    assert!(
        some.starts_with(
            "work[0]: failed\n  2 elements: 1 success, 1 failed\n  work[0][1]: failed\n"
        ),
        "{some}"
    );
    let none = told().why("work[2]", &around);
    assert!(
        none.starts_with(
            "work[2]: pending\n  the list that it is mapped over is not available yet\n"
        ),
        "{none}"
    );
    for (key, expected) in [
        ("work[3]", "`work` with elements 0 to 2"),
        ("work[3][0]", "`work` with elements 0 to 2"),
        ("work[0][2]", "`work[0]` with elements 0 to 1"),
        ("work[1][1]", "`work[1]` with one element, 0"),
        ("work[2][0]", "`work[2][0]`, whose list is not available"),
        ("work[0][0][0]", "`list`, `rows`, `work`, `total`"),
    ] {
        assert_eq!(
            told().why(key, &around) == "no task",
            key != "work[2][0]",
            "{key}"
        );
        assert_eq!(
            known(&RunRecord::from(told().0), key).to_string(),
            expected,
            "{key}"
        );
    }
}

#[test]
fn a_long_mapping_costs_no_more_for_each_of_its_elements() {
    const LONG: u32 = 100_000;
    let told = (0..LONG).fold(nested(LONG), |told, index| told.expanded(3, (1, index), 1));
    let told = told.task(2, 0, Running, 1, None);
    let around = around(HERE);
    let total = RecordedRun(told.0.clone()).why("total", &around);
    assert!(
        total.contains("\n  it waits for 100000 of its 100000 upstreams\n"),
        "{total}"
    );
    let work = told.why("work", &around);
    assert!(
        work.contains("\n  100000 elements: 1 running, 99999 pending\n"),
        "{work}"
    );
}

#[test]
fn each_run_says_how_it_was_requested() {
    let told = |kind: RunKind, key: Option<&str>, schedule: Option<&str>| {
        let mut told = diamond();
        let head = Arc::make_mut(&mut told.0.head);
        (head.kind, head.key) = (kind, key.map(str::to_owned));
        told.why(
            "",
            &RecordContext {
                schedule: schedule.map(str::to_owned),
                ..around(HERE)
            },
        )
    };
    for (kind, key, schedule, expected) in [
        (
            RunKind::Manual,
            None,
            None,
            "it was started manually at 1970-01-01T00:00:00Z",
        ),
        (
            RunKind::Manual,
            Some("a"),
            None,
            "it was started manually at 1970-01-01T00:00:00Z, with the key `a`",
        ),
        (
            RunKind::Scheduled,
            None,
            Some("0 6 * * *"),
            "it was due at 1970-01-01T00:00:00Z by a schedule, perhaps the one of its attribute (0 6 * * *)",
        ),
        (
            RunKind::Scheduled,
            None,
            None,
            "it was due at 1970-01-01T00:00:00Z by a schedule",
        ),
        (
            RunKind::Backfill,
            None,
            None,
            "a backfill created it at 1970-01-01T00:00:00Z, for the tick of 1970-01-01T00:00:00Z",
        ),
    ] {
        let why = told(kind, key, schedule);
        assert!(why.contains(&format!("\n  {expected}\n")), "{why}");
    }
}

#[test]
fn a_flow_in_the_flow_waits_for_its_tasks() {
    let inner = NodeMeta {
        prefix: Some("sub/".into()),
        ..node("inner", None, 1, &[])
    };
    let told = RecordedRun::new(vec![node("sub", None, 0, &[]), inner])
        .task(0, 1, Running, 1, None)
        .why("sub", &around(HERE));
    assert!(told.contains("\n  sub/inner: running\n"), "{told}");
}

#[test]
fn reasons_of_a_run_lead_to_its_tasks() {
    let asked = "it was started manually at 1970-01-01T00:00:00Z";
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
    let green = diamond()
        .task(0, 1, Failed, 1, error("handled"))
        .ended(RunState::Success, None);
    let handled = "1 task failed, and its failure was handled";
    assert_eq!(
        green.why("", &around(HERE)),
        format!("run {RUN}: success\n  {handled}\n  {asked}\n")
    );
    let running = diamond()
        .task(0, 0, Running, 1, None)
        .why("", &around(HERE));
    assert!(
        running.contains("  0 of 4 tasks are done, 1 running, 0 retrying\n"),
        "{running}"
    );
    assert!(
        running.contains("  a: running\n") && !running.contains("b: pending"),
        "{running}"
    );
}

#[test]
fn a_run_that_has_not_started_waits_for_its_turn() {
    let mut told = diamond();
    told.0.state = RunState::Pending;
    let turns = vec![OTHER.parse().unwrap()];
    let around = RecordContext {
        turns,
        max_active_runs: Some(1),
        ..around(HERE)
    };
    let why = told.why("", &around);
    let turn = format!(
        "it waits for a run slot: `max_active_runs` of its flow is 1, and the active runs are {OTHER}"
    );
    assert!(
        why.starts_with(&format!("run {RUN}: pending\n  {turn}\n")),
        "{why}"
    );
}

#[test]
fn a_run_waits_for_that_of_the_previous_tick_before_it_waits_for_its_turn() {
    for (state, how) in [
        (RunState::Pending, "is pending"),
        (RunState::Running, "is running"),
        (
            RunState::Failed,
            "failed: it starts when that one is re-run with success",
        ),
        (
            RunState::Cancelled,
            "was cancelled: it starts when that one is re-run with success",
        ),
    ] {
        let mut told = diamond();
        told.0.state = RunState::Pending;
        let id = OTHER.parse().unwrap();
        let around = RecordContext {
            turns: vec![id],
            max_active_runs: Some(1),
            previous: Some(PreviousRun { id, state }),
            ..around(HERE)
        };
        let why = told.why("", &around);
        let past = format!("it waits for the run of the previous tick, {OTHER}, which {how}");
        assert!(
            why.starts_with(&format!("run {RUN}: pending\n  {past}\n  it was started")),
            "{why}"
        );
    }
}

#[test]
fn a_mapped_task_is_summed_up() {
    let around = around(HERE);
    let some = || mapped().task(0, 0, Success, 1, None).mapping(4);
    let red = (0..3).fold(some(), |told, index| told.task(1, index, Success, 1, None));
    assert_eq!(
        red.task(1, 3, Failed, 2, error("odd")).why("work", &around),
        "work: failed\n  4 elements: 3 success, 1 failed\n  work[3]: failed\n    attempt 2 failed: odd\n"
    );
    let running = some()
        .task(1, 0, Success, 1, None)
        .task(1, 2, Running, 1, None)
        .why("work", &around);
    assert!(
        running
            .starts_with("work: running\n  4 elements: 1 success, 1 running, 2 pending\n  work[2]"),
        "{running}"
    );
    let waiting = some().why("work", &around);
    assert!(
        waiting.starts_with("work: pending\n  4 elements: 4 pending\n  work[0]: pending\n"),
        "{waiting}"
    );
    let empty = mapped()
        .task(0, 0, Success, 1, None)
        .mapping(0)
        .why("work", &around);
    assert_eq!(empty, "work: success\n  no elements: its list is empty\n");
    let broken = (0..9).fold(mapped().mapping(9), |told, index| {
        told.task(1, index, Failed, 1, error("odd"))
    });
    let told = broken.why("work", &around);
    assert!(
        told.contains("\n  9 elements: 9 failed\n  4 more elements are so; 5 are shown\n"),
        "{told}"
    );
    assert_eq!(told.matches("attempt 1 failed: odd").count(), 5, "{told}");
}

#[test]
fn existing_elements_are_named() {
    let known = |told: RecordedRun, key: &str| known(&RunRecord::from(told.0), key).to_string();
    for (key, expected) in [
        ("work[4]", "`work` with elements 0 to 3"),
        ("work", "`work` with elements 0 to 3"),
        ("work[99999999999]", "`work` with elements 0 to 3"),
        ("work[1][2]", "`list`, `work`, `total`"),
        ("work[x]", "`list`, `work`, `total`"),
        ("work[", "`list`, `work`, `total`"),
        ("list[0]", "`list`, `work`, `total`"),
        ("]", "`list`, `work`, `total`"),
    ] {
        assert_eq!(known(mapped().mapping(4), key), expected, "{key}");
    }
    assert_eq!(
        known(mapped().mapping(1), "work[4]"),
        "`work` with one element, 0"
    );
    assert_eq!(
        known(mapped().mapping(0), "work[0]"),
        "`work` with no elements"
    );
    assert_eq!(
        known(mapped(), "work[0]"),
        "`work[0]`, whose list is not available"
    );
}

#[test]
fn earlier_attempts_are_shown() {
    let attempt = |number: u32, state: TaskState, error: Option<TaskError>| AttemptRecord {
        key: "a".into(),
        number,
        state,
        started_at: DateTime::UNIX_EPOCH,
        finished_at: None,
        error,
    };
    let crash = attempt(3, Failed, refused(Cause::Crashed, "its process died"));
    assert!(!again::has_failed(&crash) && !again::has_failed(&attempt(3, Success, None)));
    let failed = |last: u32| {
        let attempts = (1..=last)
            .map(|number| attempt(number, Failed, error(&format!("no network {number}"))));
        RecordContext {
            failed: HashMap::from([("a".to_owned(), attempts.collect())]),
            ..around(HERE)
        }
    };
    assert_eq!(
        diamond().task(0, 0, Success, 3, None).why("a", &failed(2)),
        "a: success\n  attempt 3 succeeded\n  attempt 2 failed: no network 2\n  attempt 1 failed: no network 1\n"
    );
    let many = diamond()
        .task(0, 0, Failed, 8, error("no network 8"))
        .why("a", &failed(8));
    assert!(
        many.contains("\n  attempt 8 failed: no network 8\n  attempt 7 failed: no network 7\n"),
        "{many}"
    );
    assert!(
        many.ends_with("\n  attempt 3 failed: no network 3\n  2 attempts before these failed\n"),
        "{many}"
    );
}

#[test]
fn failed_run_leads_to_the_tasks_in_its_error() {
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let red = |text: &str| {
        let nodes = (0..)
            .zip(names)
            .map(|(local, name)| node(name, None, local, &[]));
        let told =
            (0..).zip(names).fold(
                RecordedRun::new(nodes.collect()),
                |told, (at, name)| match name {
                    "g" => told.task(0, at, Success, 1, None),
                    _ => told.task(0, at, Failed, 1, error(&format!("{name}; task `x` failed"))),
                },
            );
        told.ended(RunState::Failed, error(text))
            .why("", &around(HERE))
    };
    let causes = |told: &str| {
        let causes = told
            .lines()
            .filter_map(|line| line.strip_suffix(": failed")?.strip_prefix("  "));
        causes.collect::<Vec<_>>().join(" ")
    };
    let list = |names: &[&str]| {
        let lines = names
            .iter()
            .map(|name| format!("task `{name}` failed: {name}; task `x` failed"));
        lines.collect::<Vec<_>>().join("; ")
    };
    let perhaps = "perhaps because of tasks that failed";
    for (text, expected, is_known) in [
        (list(&["a"]), "a", true),
        (list(&["b", "a"]), "b a", true),
        (list(&["b", "c", "d", "e", "f"]), "b c d e f", true),
        (
            list(&["b", "c", "d", "e", "f"]) + "; and 2 more",
            "b c d e f",
            true,
        ),
        (
            list(&["b", "c", "d", "e", "f"]) + "; and more",
            "a b c d e",
            false,
        ),
        (list(&["g"]), "a b c d e", false),
        ("task `b` failed: otherwise".to_owned(), "a b c d e", false),
        ("neither `b`, nor `c`".to_owned(), "a b c d e", false),
        ("task `b".to_owned(), "a b c d e", false),
    ] {
        let told = red(&text);
        assert_eq!(
            (&*causes(&told), !told.contains(perhaps)),
            (expected, is_known),
            "{text}: {told}"
        );
        let more = if text.ends_with("2 more") {
            Some("2 more tasks are so; 5 are shown")
        } else {
            None
        };
        let more = more.or((!is_known).then_some("1 more task is so; 5 are shown"));
        assert_eq!(told.contains("; 5 are shown"), more.is_some(), "{told}");
        assert!(more.is_none_or(|more| told.contains(more)), "{told}");
    }
}

#[test]
fn cancelled_task_says_what_ended_its_run() {
    let late = || Some(TaskError::timed_out(std::time::Duration::from_secs(60)));
    let cancelled = |told: RecordedRun| told.task(0, 2, TaskState::Cancelled, 1, None);
    let why = |told: RecordedRun, error| {
        cancelled(told)
            .ended(RunState::Failed, error)
            .why("c", &around(HERE))
    };
    assert_eq!(
        why(diamond(), late()),
        "c: cancelled\n  it was unfinished when the timeout of its flow passed: the run timed out after 1m\n"
    );
    // perhaps the body gave it on
    assert_eq!(
        why(diamond().task(0, 0, Failed, 1, late()), late()),
        "c: cancelled\n  it was unfinished when its run failed: timed out after 1m\n"
    );
    assert_eq!(
        why(diamond(), error("no rows")),
        "c: cancelled\n  it was unfinished when its run failed: no rows\n"
    );
    let asked = cancelled(diamond()).ended(RunState::Cancelled, Some(TaskError::cancelled()));
    assert_eq!(
        asked.why("c", &around(HERE)),
        "c: cancelled\n  it was unfinished when the rest of its run was cancelled\n"
    );
    let inner = NodeMeta {
        prefix: Some("sub/".into()),
        ..node("inner", None, 1, &[])
    };
    let sub = RecordedRun::new(vec![node("sub", None, 0, &[]), inner]).task(
        0,
        0,
        Failed,
        1,
        error("no rows"),
    );
    assert_eq!(
        sub.task(0, 1, TaskState::Cancelled, 0, None)
            .why("sub/inner", &around(HERE)),
        "sub/inner: cancelled\n  it was unfinished when `sub` failed: no rows\n"
    );
    let run = cancelled(diamond())
        .ended(RunState::Failed, late())
        .why("", &around(HERE));
    assert!(
        run.contains("\n  the timeout of its flow passed: it timed out after 1m\n"),
        "{run}"
    );
    assert!(run.contains("\n  c: cancelled\n"), "{run}");
}
