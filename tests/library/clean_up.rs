//! Tasks that clean up after a run that is cancelled, times out, or is brought to its end by its
//! flow's body.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orchestrator::prelude::*;
use orchestrator::{Clock, RunRecord, Runtime};
use tokio::time::Instant;

use crate::interrupted_cases::{file, life, wait_until};

/// What the tasks of a test have done.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

#[task]
async fn create(#[resource] log: &Log) -> u32 {
    log.note("created");
    7
}

#[task]
async fn long(_before: u32) -> u32 {
    tokio::time::sleep(Duration::from_secs(600)).await;
    1
}

#[task]
async fn never(before: u32) -> u32 {
    before
}

#[task(trigger = all_done, run_on_cancel)]
async fn delete(created: Option<u32>, #[resource] log: &Log, #[context] context: &Context) {
    assert!(!context.is_cancelled());
    tokio::time::sleep(Duration::from_secs(5)).await;
    log.note(format!("deleted {created:?}"));
}

async fn with_log(grace: u64) -> (Runtime, Log) {
    let log = Log::default();
    let builder = crate::support::builder()
        .clock(Clock::tokio_from_now())
        .grace(Duration::from_secs(grace));
    (builder.resource(log.clone()).build().await.unwrap(), log)
}

/// Starts a flow, cancels it ten seconds later, and says how it ended and how long that took.
async fn cancelled_after_ten_seconds<T: orchestrator::Data>(
    flow: Flow<T>,
    runtime: &Runtime,
) -> (RunRecord, Duration) {
    let handle = flow.on(runtime).start().await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let asked = Instant::now();
    handle.cancel();
    let run = handle.await.unwrap();
    assert!(
        run.tasks().iter().all(|task| task.state().is_final()),
        "{:?}",
        run.tasks()
    );
    (run.record().clone(), asked.elapsed())
}

fn state(record: &RunRecord, key: &str) -> TaskState {
    record
        .task(key)
        .unwrap_or_else(|| panic!("no task `{key}` in {:?}", record.tasks()))
        .state()
}

#[flow(name = "clean_up_created")]
fn created() -> Node<u32> {
    let created = create();
    let used = never(long(&created));
    delete(&created).after(&used);
    used
}

#[tokio::test(start_paused = true)]
async fn a_clean_up_runs_when_its_run_is_cancelled_and_the_run_stays_cancelled() {
    let (runtime, log) = with_log(30).await;
    let (record, took) = cancelled_after_ten_seconds(created(), &runtime).await;
    assert_eq!((record.state(), took.as_secs()), (RunState::Cancelled, 5));
    assert_eq!(log.lines(), ["created", "deleted Some(7)"]);
    let states = ["create", "long", "never", "delete"].map(|key| state(&record, key));
    use TaskState::{Cancelled, Success};
    assert_eq!(states, [Success, Cancelled, Cancelled, Success]);
    let why = runtime
        .why(record.id(), Some("delete"))
        .await
        .unwrap()
        .to_string();
    assert!(why.contains("run_on_cancel"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_clean_up_runs_when_its_run_times_out_or_its_body_fails() {
    #[flow(name = "clean_up_limited", timeout = "1m")]
    fn limited() -> Node<u32> {
        let created = create();
        let used = long(&created);
        delete(&created).after(&used);
        used
    }
    #[flow(name = "clean_up_of_a_body")]
    async fn fails() -> Result<u32> {
        let created = create();
        let used = long(&created);
        delete(&created).after(&used);
        created.await?;
        Err("enough".into())
    }
    for flow in [limited(), fails()] {
        let (runtime, log) = with_log(30).await;
        let run = flow.on(&runtime).run().await.unwrap();
        assert_eq!((run.state(), run.output()), (RunState::Failed, None));
        assert_eq!(
            log.lines(),
            ["created", "deleted Some(7)"],
            "{}",
            run.flow()
        );
        assert_eq!(state(run.record(), "long"), TaskState::Cancelled);
        let error = run.error().unwrap();
        assert!(
            error.is_timeout() || error.to_string() == "enough",
            "{error}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn clean_up_is_skipped_if_its_upstreams_had_not_started() {
    #[task]
    async fn waits_for_a_slot(before: u32) -> u32 {
        before
    }
    #[flow(name = "clean_up_in_line")]
    fn in_line() {
        let first = waits_for_a_slot(1).pool("one");
        let second = waits_for_a_slot(first).named("second");
        delete(&second);
        delete(&second)
            .after(long(1).pool("one").named("holds"))
            .named("after_both");
    }
    let log = Log::default();
    let runtime = crate::support::builder()
        .pool("one", 1)
        .clock(Clock::tokio_from_now())
        .resource(log.clone());
    let runtime = runtime.build().await.unwrap();
    // a run of its own holds the slot
    #[flow(name = "clean_up_holds")]
    fn holds() {
        long(1).pool("one");
    }
    let holder = holds().on(&runtime).start().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (record, took) = cancelled_after_ten_seconds(in_line(), &runtime).await;
    assert_eq!((record.state(), took.as_secs()), (RunState::Cancelled, 0));
    assert!(
        record
            .tasks()
            .iter()
            .all(|task| task.state() == TaskState::Cancelled),
        "{:?}",
        record.tasks()
    );
    assert!(log.lines().is_empty());
    holder.cancel();
    holder.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_clean_up_that_runs_already_goes_on() {
    #[flow(name = "clean_up_runs_already")]
    fn runs_already() {
        let created = create();
        delete(&created).after(long(&created).timeout(Duration::from_secs(7)));
        long(created).named("other");
    }
    let (runtime, log) = with_log(30).await;
    let (record, took) = cancelled_after_ten_seconds(runs_already(), &runtime).await;
    assert_eq!(
        (state(&record, "delete"), took.as_secs()),
        (TaskState::Success, 2)
    );
    assert_eq!(
        (state(&record, "other"), record.state()),
        (TaskState::Cancelled, RunState::Cancelled)
    );
    assert_eq!(log.lines().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn clean_ups_share_one_grace_with_their_retries() {
    #[task(trigger = all_done, run_on_cancel, retries = 9, retry_delay = "4s")]
    async fn retries(
        _before: Option<u32>,
        enough: u32,
        #[context] context: &Context,
    ) -> Result<()> {
        if context.attempt() < enough {
            Err("not yet".into())
        } else {
            Ok(())
        }
    }
    #[task(trigger = all_done, run_on_cancel)]
    async fn asks(_before: Option<u32>, #[resource] log: &Log, #[context] context: &Context) {
        context.cancelled().await;
        log.note("told");
        std::future::pending().await
    }
    #[flow(name = "clean_up_graces")]
    fn graces() {
        let used = long(1);
        retries(&used, 4).named("in_time");
        retries(&used, 8).named("too_late");
        asks(&used);
        delete(&used)
            .after(asks(&used).named("first"))
            .named("last");
    }
    let (runtime, _) = with_log(15).await;
    let (record, took) = cancelled_after_ten_seconds(graces(), &runtime).await;
    assert_eq!((record.state(), took.as_secs()), (RunState::Cancelled, 15));
    assert_eq!(state(&record, "in_time"), TaskState::Success);
    for key in ["too_late", "asks", "first", "last"] {
        assert_eq!(state(&record, key), TaskState::Cancelled, "{key}");
    }
    assert_eq!(record.task("too_late").unwrap().attempts(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_grace_of_clean_ups_begins_when_other_bodies_have_ended() {
    #[task]
    async fn takes_its_grace(before: u32, #[context] context: &Context) -> u32 {
        context.cancelled().await;
        std::future::pending::<()>().await;
        before
    }
    #[flow(name = "clean_up_after_a_grace")]
    fn after_a_grace() {
        delete(takes_its_grace(1));
    }
    let (runtime, log) = with_log(6).await;
    let (record, took) = cancelled_after_ten_seconds(after_a_grace(), &runtime).await;
    assert_eq!((record.state(), took.as_secs()), (RunState::Cancelled, 11));
    assert_eq!(log.lines(), ["deleted None"]);
}

#[tokio::test(start_paused = true)]
async fn a_clean_up_takes_what_became_of_those_before() {
    #[task(trigger = all_done, run_on_cancel)]
    async fn collects(one: Outcome<u32>, all: Vec<Outcome<u32>>, #[resource] log: &Log) {
        let of_one = one.error().map(ToString::to_string);
        let done: Vec<Option<u32>> = all.into_iter().map(Outcome::success).collect();
        log.note(format!("{of_one:?} {done:?}"));
    }
    #[task]
    async fn quick_or_long(n: u32) -> u32 {
        tokio::time::sleep(Duration::from_secs(u64::from(n) * 8)).await;
        n
    }
    #[flow(name = "clean_up_collects")]
    fn flow() {
        let mapped = expand(vec![1, 2, 1], quick_or_long);
        collects(long(1), mapped);
    }
    let (runtime, log) = with_log(30).await;
    let (record, _) = cancelled_after_ten_seconds(flow(), &runtime).await;
    assert_eq!(
        log.lines(),
        ["Some(\"the run was cancelled\") [Some(1), None, Some(1)]"],
        "{record:?}"
    );
}

#[task]
async fn list() -> Vec<u32> {
    vec![0, 1, 2, 3]
}

#[task]
async fn opens(n: u32) -> u32 {
    tokio::time::sleep(Duration::from_secs(if n == 0 { 1 } else { 600 })).await;
    n
}

#[task(trigger = all_done, run_on_cancel)]
async fn closes(opened: Option<u32>, n: u32, #[resource] log: &Log) {
    log.note(format!("closed {n} {opened:?}"));
}

#[tokio::test(start_paused = true)]
async fn each_element_cleans_up_for_itself() {
    #[flow(name = "clean_up_elements")]
    fn elements() {
        let all = list().expand(|n| closes(opens(&n), n));
        delete(None::<u32>).after(&all);
    }
    let (runtime, log) = with_log(30).await;
    let (record, _) = cancelled_after_ten_seconds(elements(), &runtime).await;
    let mut lines = log.lines();
    lines.sort();
    assert_eq!(
        lines,
        [
            "closed 0 Some(0)",
            "closed 1 None",
            "closed 2 None",
            "closed 3 None",
            "deleted None"
        ]
    );
    assert_eq!(state(&record, "opens[1]"), TaskState::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_flow_in_the_flow_that_fails_cleans_up() {
    #[flow(name = "clean_up_inner")]
    async fn inner() -> Result<u32> {
        let created = create();
        delete(&created).after(long(&created));
        created.await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        Err("inner".into())
    }
    #[task]
    async fn outcome_of(inner: Outcome<u32>) -> bool {
        inner.error().is_some()
    }
    #[flow(name = "clean_up_outer")]
    fn outer() -> Node<bool> {
        outcome_of(inner())
    }
    let (runtime, log) = with_log(30).await;
    let run = outer().on(&runtime).run().await.unwrap();
    assert_eq!(
        (run.state(), run.output()),
        (RunState::Success, Some(&true)),
        "{run:?}"
    );
    assert_eq!(log.lines(), ["created", "deleted Some(7)"]);
    assert_eq!(
        state(run.record(), "clean_up_inner/long"),
        TaskState::Cancelled
    );
    assert_eq!(
        state(run.record(), "clean_up_inner/delete"),
        TaskState::Success
    );
}

#[tokio::test(start_paused = true)]
async fn a_clean_up_after_a_flow_in_the_flow_runs() {
    #[flow(name = "clean_up_used")]
    async fn used(n: u32) -> Result<u32> {
        Ok(long(n).await?)
    }
    #[flow(name = "clean_up_after_a_flow")]
    fn flow() {
        delete(used(1));
    }
    let (runtime, log) = with_log(30).await;
    let (record, _) = cancelled_after_ten_seconds(flow(), &runtime).await;
    assert_eq!(log.lines(), ["deleted None"], "{record:?}");
}

#[tokio::test]
async fn a_rule_that_no_cancelled_task_can_meet_is_refused() {
    #[task]
    async fn plain() {}
    #[flow(name = "clean_up_refused")]
    fn refused(rule: Option<String>) {
        let node = plain().run_on_cancel();
        if let Some(rule) = rule {
            node.trigger(rule.parse().unwrap());
        }
    }
    let runtime = crate::support::runtime();
    for rule in [None, Some("all_failed"), Some("all_skipped")] {
        let _case = crate::support::case(format_args!("{rule:?}"));
        let error = refused(rule.map(str::to_owned))
            .on(&runtime)
            .run()
            .await
            .unwrap_err()
            .to_string();
        let named = format!(
            "got {}: set `trigger` to `all_done`",
            rule.unwrap_or("all_success")
        );
        assert!(
            error.contains("task `plain`") && error.contains(&named),
            "{error}"
        );
    }
    let run = refused(Some("all_done".into()))
        .on(&runtime)
        .run()
        .await
        .unwrap();
    assert_eq!(run.state(), RunState::Success);
    let graph = refused(Some("all_done".into())).graph().unwrap();
    assert!(
        graph.nodes()[0].runs_on_cancel() && graph.to_mermaid().contains("run_on_cancel"),
        "{graph}"
    );
}

/// What is left to clean up in a file's runs, over the lives of their processes.
static CLEANED: Mutex<Vec<(&str, u32)>> = Mutex::new(Vec::new());
static UNDER_WAY: AtomicU32 = AtomicU32::new(0);
static HANGS: AtomicU32 = AtomicU32::new(0);

#[task]
async fn works(before: u32) -> u32 {
    UNDER_WAY.fetch_add(1, SeqCst);
    tokio::time::sleep(Duration::from_secs(600)).await;
    before
}

#[task(trigger = all_done, run_on_cancel)]
async fn tidies(_used: Option<u32>, #[context] context: &Context) {
    UNDER_WAY.fetch_add(1, SeqCst);
    if HANGS.load(SeqCst) > 0 {
        std::future::pending::<()>().await;
    }
    let key = context.key().to_owned();
    CLEANED
        .lock()
        .unwrap()
        .push((key.leak(), context.attempt()));
}

#[flow(name = "clean_up_lives_inner")]
async fn lives_inner(n: u32) -> Result<u32> {
    let first = never(n).await?;
    let used = works(first);
    tidies(&used);
    Ok(used.await?)
}

/// A flow whose clean-up tasks are planned as it goes, in the flow, in a flow in it, and in a
/// mapping.
#[flow(name = "clean_up_lives")]
async fn lives() -> Result<()> {
    let first = never(1).await?;
    tidies(works(first)).named("own");
    expand(vec![1, 2], |n| tidies(works(n)).named("element")).concurrency(1);
    lives_inner(never(first).await?).await?;
    Ok(())
}

#[test]
fn clean_ups_run_again_where_the_process_died_while_they_did() {
    let path = file();
    HANGS.store(1, SeqCst);
    let id = life(&path, async |runtime| {
        let handle = lives().on(&runtime).start().await.unwrap();
        wait_until(|| UNDER_WAY.load(SeqCst) == 3).await;
        handle.id()
    });
    // its end is asked for when its process is gone; and the one that cleans up dies, too
    UNDER_WAY.store(0, SeqCst);
    let patient = || async {
        Runtime::builder()
            .store(crate::support::url(&path))
            .build()
            .await
            .unwrap()
    };
    life(&path, async |_| {
        let cancelling = patient().await;
        tokio::spawn(async move { cancelling.cancel(id).await });
        wait_until(|| UNDER_WAY.load(SeqCst) == 3).await;
    });
    assert!(CLEANED.lock().unwrap().is_empty());
    HANGS.store(0, SeqCst);
    let record = life(&path, async |_| {
        let runtime = patient().await;
        let resumed = runtime.resume().await.unwrap();
        assert_eq!(resumed.len(), 1);
        runtime.find_run(id).await.unwrap().unwrap()
    });
    assert_eq!(record.state(), RunState::Cancelled);
    let mut cleaned = CLEANED.lock().unwrap().clone();
    cleaned.sort_unstable();
    // the first number is left out: they may have started in the first life, as far as that is
    // known
    assert_eq!(
        cleaned,
        [
            ("clean_up_lives_inner/tidies", 3),
            ("element[0]", 3),
            ("own", 3)
        ],
        "{:?}",
        record.tasks()
    );
    assert_eq!(state(&record, "element[1]"), TaskState::Cancelled);
    for key in [
        "works",
        "works#2[0]",
        "works#2[1]",
        "clean_up_lives_inner/works",
    ] {
        assert_eq!(state(&record, key), TaskState::Cancelled, "{key}");
    }
    assert_eq!(record.task("works").unwrap().attempts(), 1);
}

#[tokio::test]
async fn a_stop_cancels_nothing_and_cleans_nothing_up() {
    #[task]
    async fn waits() -> u32 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        1
    }
    static RAN: AtomicU32 = AtomicU32::new(0);
    #[task(trigger = all_done, run_on_cancel)]
    async fn tidies(_used: u32) {
        RAN.fetch_add(1, SeqCst);
    }
    #[flow(name = "clean_up_stopped")]
    fn stopped() {
        tidies(waits());
    }
    let url = crate::support::url(&crate::support::file());
    let runtime = Runtime::builder()
        .store(&url)
        .grace(Duration::from_millis(20))
        .build()
        .await
        .unwrap();
    let handle = stopped().on(&runtime).start().await.unwrap();
    let id = handle.id();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(runtime.stop().await.left, [id]);
    assert_eq!(RAN.load(SeqCst), 0);
    drop(runtime);
    let runtime = Runtime::builder().store(&url).build().await.unwrap();
    runtime.resume().await.unwrap();
    assert_eq!(RAN.load(SeqCst), 1);
    assert_eq!(
        runtime.find_run(id).await.unwrap().unwrap().state(),
        RunState::Success
    );
}
