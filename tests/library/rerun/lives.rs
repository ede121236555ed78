//! The life of a re-run: its attempts, its time, its end; left, cancelled, asked for twice,
//! refused.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::support;

#[tokio::test(start_paused = true)]
async fn retries_and_their_delays_begin_anew() {
    static STARTS: Mutex<Vec<Instant>> = Mutex::new(Vec::new());
    #[task(retries = 3, retry_delay = "10s", backoff = 2.0)]
    async fn flaky(#[context] context: &Context) -> Result<String> {
        STARTS.lock().push(Instant::now());
        match context.attempt() {
            8.. => Ok(context.idempotency_key()),
            attempt => Err(format!("attempt {attempt}").into()),
        }
    }
    #[flow(name = "rerun_retries")]
    fn retried() -> Node<String> {
        flaky()
    }
    let delays = || {
        let starts = std::mem::take(&mut *STARTS.lock());
        starts
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).as_secs_f64().round() as u64)
            .collect::<Vec<_>>()
    };
    let runtime = paused().await;
    let run = retried().on(&runtime).run().await.unwrap();
    assert_eq!(
        (run.state(), run.task("flaky").unwrap().attempts()),
        (RunState::Failed, 4)
    );
    // with jitter: from half of the delay to all of it
    let first = delays();
    assert!(first.len() == 3 && first[2] >= 20, "{first:?}");
    let again = runtime.rerun(run.id(), Failed).await.unwrap();
    assert_eq!(
        (again.state(), again.task("flaky").unwrap().attempts()),
        (RunState::Success, 8)
    );
    let second = delays();
    assert!(
        second.len() == 3 && second[0] <= 10 && second[2] >= 20,
        "{second:?}"
    );
    let attempts = runtime.attempts(run.id()).await.unwrap();
    let numbers: Vec<u32> = attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(
        attempts[..7]
            .iter()
            .all(|attempt| attempt.state == TaskState::Failed && attempt.error.is_some())
    );
}

#[tokio::test]
async fn rerun_tasks_are_not_taken_from_the_cache() {
    static BODIES: AtomicU32 = AtomicU32::new(0);
    #[task(cache = "1h")]
    async fn cached(n: u64) -> u64 {
        u64::from(BODIES.fetch_add(1, SeqCst)) * 100 + n
    }
    #[flow(name = "rerun_cached")]
    fn cached_twice() -> Node<u64> {
        let first = cached(3_u64).named("first");
        cached(first.map(|n| n + 1)).named("second")
    }
    let runtime = sqlite().await;
    let run = cached_twice().on(&runtime).run().await.unwrap();
    assert_eq!((run.output(), BODIES.load(SeqCst)), (Some(&104), 2));
    let other = cached_twice().on(&runtime).run().await.unwrap();
    assert_eq!(
        (
            other.output(),
            BODIES.load(SeqCst),
            other.task("first").unwrap().cached()
        ),
        (Some(&104), 2, true)
    );
    // of this one, no body ran before
    let again = runtime.rerun(other.id(), only("first")).await.unwrap();
    assert_eq!(
        (BODIES.load(SeqCst), again.task("first").unwrap().cached()),
        (3, false)
    );
    assert_eq!(
        (again.task("second").unwrap().cached(), tasks(&again)),
        (true, "first 1, second 0".into())
    );
    let again = runtime.rerun(run.id(), All).await.unwrap();
    assert_eq!(
        (BODIES.load(SeqCst), tasks(&again)),
        (5, "first 2, second 2".into())
    );
    // what it made is what others find
    let other = cached_twice().on(&runtime).run().await.unwrap();
    assert_eq!((BODIES.load(SeqCst), other.output()), (5, Some(&704)));
}

#[tokio::test]
async fn a_re_run_that_is_left_goes_on() {
    for round in 0..3 {
        let _case = support::case(format_args!("round {round}"));
        let (path, world) = (file(), format!("left {round}"));
        let runtime = open(&path).await;
        fails(&world, &["first[1]", "first[2]"]);
        let run = mapped(world.clone()).on(&runtime).run().await.unwrap();
        ran(&world);
        fails(&world, &[]);
        in_world(&world, |world| world.stuck.insert("first[2]".to_owned()));
        let handle = runtime.start_rerun(run.id(), Failed).await.unwrap();
        let is_stuck = || async {
            let found = runtime.find_run(run.id()).await.unwrap().unwrap();
            found.task("second[1]").unwrap().state() == TaskState::Success
                && found.task("first[2]").unwrap().state() == TaskState::Running
        };
        while !is_stuck().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let running = runtime.find_run(run.id()).await.unwrap().unwrap();
        assert_eq!(
            (
                running.state(),
                running.finished_at(),
                running.error().is_none()
            ),
            (RunState::Running, None, true)
        );
        assert_eq!(runtime.stop().await.left, [run.id()]);
        assert!(matches!(handle.await, Err(Error::Stopped { .. })));
        drop(runtime);
        assert_eq!(ran(&world), "first[1] first[2] second[1]");
        in_world(&world, |world| world.stuck.clear());
        let runtime = open(&path).await;
        let mut resumed = Vec::new();
        while resumed.is_empty() {
            resumed = runtime.resume().await.unwrap();
        }
        let again = &resumed[0];
        assert_eq!(
            (ran(&world), again.state()),
            ("first[2] second[2] total".into(), RunState::Success)
        );
        assert_eq!(
            (
                again.task("first[2]").unwrap().attempts(),
                again.task("first[2]").unwrap().crashes()
            ),
            (3, 1)
        );
        let attempts = told(&runtime.attempts(run.id()).await.unwrap());
        let of_one: Vec<&String> = attempts
            .iter()
            .filter(|attempt| attempt.starts_with("first[2]"))
            .collect();
        assert_eq!(
            of_one,
            [
                "first[2] 1 failed",
                "first[2] 2 failed",
                "first[2] 3 success"
            ]
        );
    }
}

#[tokio::test]
async fn concurrent_reruns_of_one_run_happen_once() {
    let (path, world) = (file(), "race");
    let (one, two) = (open(&path).await, open(&path).await);
    fails(world, &["b"]);
    let run = chain(world.to_owned()).on(&one).run().await.unwrap();
    fails(world, &[]);
    for round in 0..10 {
        let _case = support::case(format_args!("round {round}"));
        ran(world);
        let what = if round == 0 { Failed } else { from("b") };
        let (a, b, c) = tokio::join!(
            one.rerun(run.id(), what.clone()),
            two.rerun(run.id(), what.clone()),
            two.rerun(run.id(), what.clone())
        );
        let results = [a, b, c];
        let won = results.iter().filter(|result| result.is_ok()).count();
        assert!(won >= 1, "{results:?}");
        for result in results {
            match result {
                Ok(record) => assert_eq!(record.state(), RunState::Success),
                // under way, or over by now
                Err(Error::Rerun(
                    RerunError::NotFinal { .. } | RerunError::NothingFailed { .. },
                )) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(
            ran(world),
            [vec!["b"; won], vec!["c"; won]].concat().join(" ")
        );
        let found = one.find_run(run.id()).await.unwrap().unwrap();
        assert_eq!(
            found.task("b").unwrap().attempts(),
            found.task("c").unwrap().attempts() + 1
        );
    }
}

fn said<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().to_string()
}

#[tokio::test]
async fn refused_rerun_says_why() {
    #[task]
    async fn waits() -> u64 {
        std::future::pending().await
    }
    #[flow(name = "rerun_waits")]
    fn waiting() -> Node<u64> {
        waits()
    }
    let (runtime, world) = (sqlite().await, "refused");
    let run = mapped(world.to_owned()).on(&runtime).run().await.unwrap();
    let id = run.id();
    assert!(
        said(runtime.rerun(id, Failed).await).starts_with(&format!("no task of run {id} failed: "))
    );
    for (key, expected) in [
        ("frist", "; did you mean `first`?"),
        ("first[9]", "; did you mean `first`?"),
        ("first[x]", "; did you mean `first`?"),
        ("list[0]", "; did you mean `list`?"),
        ("nothing_like_it", ""),
        ("", ""),
    ] {
        let _case = support::case(key);
        let expected = format!("run {id} has no task `{key}`{expected}");
        assert_eq!(said(runtime.rerun(id, from(key)).await), expected);
        assert_eq!(said(runtime.rerun(id, only(key)).await), expected);
    }
    let none: RunId = "0190f1b2-0000-7000-8000-000000000000".parse().unwrap();
    assert_eq!(
        said(runtime.rerun(none, All).await),
        format!("there is no run {none} in this store")
    );
    assert_eq!(
        said(runtime.attempts(none).await),
        format!("there is no run {none} in this store")
    );
    let handle = waiting().on(&runtime).start().await.unwrap();
    assert!(
        said(runtime.rerun(handle.id(), All).await).contains("only a finished run can be re-run")
    );
    handle.cancel();
    let cancelled = handle.await.unwrap();
    // nothing of that left a trace
    let found = runtime.find_run(id).await.unwrap().unwrap();
    assert_eq!(
        (found.reruns().len(), found.state(), found.finished_at()),
        (0, run.state(), run.finished_at())
    );
    runtime.stop().await;
    assert!(matches!(
        runtime.rerun(cancelled.id(), All).await,
        Err(Error::Closed)
    ));
}

#[tokio::test]
async fn run_without_stored_results_can_only_be_rerun_whole() {
    let world = "memory";
    let runtime = Runtime::in_memory();
    fails(world, &["first[2]"]);
    let run = mapped(world.to_owned()).on(&runtime).run().await.unwrap();
    fails(world, &[]);
    assert!(
        said(runtime.rerun(run.id(), Failed).await)
            .contains("a store in memory keeps no results of tasks")
    );
    adds(world, "list", 1);
    let again = runtime.rerun(run.id(), All).await.unwrap();
    assert_eq!(
        tasks(&again),
        "list 2, first[0] 2, first[1] 2, first[2] 2, first[3] 2, first[4] 1, \
         second[0] 2, second[1] 2, second[2] 1, second[3] 2, second[4] 1, total 1"
    );
    assert_eq!(
        (
            again.state(),
            runtime.runs("rerun_mapped").await.unwrap().len()
        ),
        (RunState::Success, 1)
    );
    let attempts = told(&runtime.attempts(run.id()).await.unwrap());
    assert!(
        attempts.contains(&"first[2] 1 failed".to_owned())
            && attempts.contains(&"first[2] 2 success".to_owned())
    );
    assert_eq!(attempts.len(), 8 + 12);
    let again = runtime.rerun(run.id(), All).await.unwrap();
    assert_eq!(
        (
            again.task("first[4]").unwrap().attempts(),
            again.reruns().len()
        ),
        (2, 2)
    );

    let (path, world) = (file(), "pruned");
    let store = format!("sqlite:{}", path.display());
    let runtime = Runtime::builder()
        .store(store)
        .keep(Duration::ZERO)
        .build()
        .await
        .unwrap();
    fails(world, &["first[2]"]);
    let run = mapped(world.to_owned()).on(&runtime).run().await.unwrap();
    fails(world, &[]);
    assert_eq!(runtime.prune().await.unwrap().runs, 1);
    assert!(said(runtime.rerun(run.id(), Failed).await).contains("was deleted by age"));
    assert!(runtime.attempts(run.id()).await.unwrap().is_empty());
    let again = runtime.rerun(run.id(), All).await.unwrap();
    assert_eq!(
        (again.state(), again.tasks().len(), again.is_pruned()),
        (RunState::Success, 10, false)
    );
    let found = runtime.find_run(run.id()).await.unwrap().unwrap();
    assert_eq!((tasks(&found), found.is_pruned()), (tasks(&again), false));
}

#[tokio::test]
async fn a_re_run_can_be_cancelled_and_run_again() {
    let (runtime, world) = (sqlite().await, "cancelled");
    let run = chain(world.to_owned()).on(&runtime).run().await.unwrap();
    in_world(world, |world| world.stuck.insert("b".to_owned()));
    ran(world);
    let is_stuck = || in_world(world, |world| world.ran.iter().any(|key| key == "b"));
    let handle = runtime.start_rerun(run.id(), from("b")).await.unwrap();
    while !is_stuck() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    handle.cancel();
    let record = handle.await.unwrap();
    assert_eq!(
        (record.state(), tasks(&record)),
        (
            RunState::Cancelled,
            "a 1, b cancelled 2, c cancelled 1".into()
        )
    );
    // something else of a cancelled run does not make it a success
    let record = runtime.rerun(run.id(), only("a")).await.unwrap();
    assert_eq!(
        (record.state(), tasks(&record)),
        (
            RunState::Cancelled,
            "a 2, b cancelled 2, c cancelled 1".into()
        )
    );
    ran(world);
    // dropped
    let mut rerun = Box::pin(runtime.rerun(run.id(), Failed));
    while !is_stuck() {
        tokio::select! { _ = &mut rerun => panic!("it is stuck"), () = tokio::time::sleep(Duration::from_millis(1)) => {} }
    }
    drop(rerun);
    loop {
        let found = runtime.find_run(run.id()).await.unwrap().unwrap();
        if found.state() == RunState::Cancelled {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    in_world(world, |world| world.stuck.clear());
    ran(world);
    let record = runtime.rerun(run.id(), Failed).await.unwrap();
    assert_eq!(
        (ran(world), record.state(), tasks(&record)),
        ("b c".into(), RunState::Success, "a 2, b 4, c 2".into())
    );
}

#[tokio::test]
async fn events_tell_of_a_re_run() {
    let (runtime, world) = (sqlite().await, "events");
    fails(world, &["b"]);
    let run = chain(world.to_owned()).on(&runtime).run().await.unwrap();
    fails(world, &[]);
    let mut events = runtime.events();
    runtime.rerun(run.id(), Failed).await.unwrap();
    let mut seen = Vec::new();
    loop {
        match events.next().await.unwrap() {
            Event::RunReopened { what, run: of, .. } => {
                seen.push(format!("reopened {what} {}", of == run.id()))
            }
            Event::TaskStarted { key, attempt, .. } => seen.push(format!("{key} {attempt}")),
            Event::TaskFinished {
                key,
                attempts,
                state,
                ..
            } => seen.push(format!("{key} {attempts} {state}")),
            Event::RunFinished { state, .. } => {
                seen.push(state.to_string());
                break;
            }
            other => seen.push(format!("{other:?}")),
        }
    }
    assert_eq!(
        seen,
        [
            "reopened the failed tasks true",
            "b 2",
            "b 2 success",
            "c 1",
            "c 1 success",
            "success"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_re_run_has_the_time_and_the_turn_of_a_new_run() {
    static SLOW: AtomicU32 = AtomicU32::new(0);
    #[task]
    async fn slow() -> u64 {
        tokio::time::sleep(Duration::from_secs(u64::from(SLOW.load(SeqCst)))).await;
        1
    }
    #[flow(name = "rerun_timed", timeout = "60s", max_active_runs = 1)]
    fn timed() -> Node<u64> {
        slow()
    }
    let runtime = paused().await;
    SLOW.store(100, SeqCst);
    let run = timed().on(&runtime).run().await.unwrap();
    assert_eq!(run.state(), RunState::Failed);
    tokio::time::sleep(Duration::from_secs(1000)).await;
    SLOW.store(50, SeqCst);
    let began = Instant::now();
    let other = timed().on(&runtime).start().await.unwrap();
    let again = runtime.rerun(run.id(), Failed).await.unwrap();
    assert_eq!(
        (again.state(), other.await.unwrap().state()),
        (RunState::Success, RunState::Success)
    );
    // one after the other
    assert!(
        began.elapsed() >= Duration::from_secs(100),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(again.duration().map(|took| took.as_secs()), Some(50));
}

#[tokio::test]
async fn large_results_are_those_of_the_last_attempt() {
    static SIZE: AtomicU32 = AtomicU32::new(0);
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    #[task]
    async fn made() -> String {
        "x".repeat(SIZE.load(SeqCst) as usize)
    }
    #[task]
    async fn measured(text: &str) -> u64 {
        TAKEN.store(text.len() as u32, SeqCst);
        text.len() as u64
    }
    #[flow(name = "rerun_large")]
    fn large() -> Node<String> {
        let text = made();
        measured(&text);
        text
    }
    let runtime = sqlite().await;
    SIZE.store(3 << 20, SeqCst);
    let run = large().on(&runtime).run().await.unwrap();
    for size in [10, 2 << 20, 4 << 20, 20] {
        let _case = support::case(format_args!("{size} bytes"));
        SIZE.store(size, SeqCst);
        runtime.rerun(run.id(), only("made")).await.unwrap();
        let again = runtime.rerun(run.id(), from("measured")).await.unwrap();
        assert_eq!(
            (again.state(), TAKEN.load(SeqCst)),
            (RunState::Success, size)
        );
    }
    runtime.prune().await.unwrap();
}

/// A runtime on a file that waits for nothing when it stops.
async fn left_at_once() -> Runtime {
    support::open(&support::url(&file()), &Clock::system(), Duration::ZERO).await
}

#[test]
fn a_run_that_runs_again_at_once_is_under_way() {
    static STARTS: AtomicU32 = AtomicU32::new(0);
    #[task]
    async fn quick_at_first() -> u32 {
        if STARTS.fetch_add(1, SeqCst) > 0 {
            std::future::pending::<()>().await;
        }
        1
    }
    #[flow(name = "rerun_at_once")]
    fn at_once() -> Node<u32> {
        quick_at_first()
    }
    let (tokio, is_reached, let_go) = support::held();
    tokio.block_on(async {
        let runtime = left_at_once().await;
        let first = at_once().on(&runtime).start().await.unwrap();
        let id = first.id();
        is_reached.recv_timeout(Duration::from_secs(60)).unwrap();
        let again = runtime.start_rerun(id, All).await.unwrap();
        while STARTS.load(SeqCst) < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let_go.send(()).unwrap();
        assert_eq!(first.await.unwrap().state(), RunState::Success);
        assert_eq!(runtime.stop().await.left, [id]);
        assert!(matches!(again.await, Err(Error::Stopped { .. })));
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_body_that_outlives_its_cancelled_run_does_no_harm_to_the_re_run() -> Result<()> {
    static STARTS: AtomicU32 = AtomicU32::new(0);
    static GO_ON: AtomicBool = AtomicBool::new(false);
    #[task]
    fn stubborn() -> Result<u32> {
        if STARTS.fetch_add(1, SeqCst) == 0 {
            while !GO_ON.load(SeqCst) {
                std::thread::park_timeout(Duration::from_millis(1));
            }
        }
        Ok(STARTS.load(SeqCst))
    }
    #[task]
    async fn one() -> u32 {
        1
    }
    #[flow(name = "rerun_stubborn")]
    fn stubborn_run() -> Node<u32> {
        let first = stubborn();
        one().after(&first);
        first
    }
    let runtime = left_at_once().await;
    let handle = stubborn_run().on(&runtime).start().await?;
    let id = handle.id();
    while STARTS.load(SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    handle.cancel();
    assert_eq!(handle.await?.state(), RunState::Cancelled);
    let again = runtime.start_rerun(id, Failed).await?;
    tokio::time::sleep(Duration::from_millis(50)).await;
    GO_ON.store(true, SeqCst);
    let again = tokio::time::timeout(Duration::from_secs(20), again.into_future()).await??;
    assert_eq!(again.state(), RunState::Success);
    assert_eq!(
        stubborn_run().on(&runtime).run().await?.state(),
        RunState::Success
    );
    let attempts = told(&runtime.attempts(id).await?);
    assert_eq!(
        attempts,
        [
            "stubborn 1 cancelled",
            "stubborn 2 success",
            "one 1 success"
        ]
    );
    Ok(())
}
