//! `depends_on_past`: the run of a tick waits until that of the previous tick has succeeded.

use std::sync::atomic::AtomicBool;

use chrono::NaiveDate;
use orchestrator::{Rerun, RunId};

use super::*;
use crate::support::{file, url};

const MINUTE: Duration = Duration::from_secs(60);

/// Returns the hour and the state of each run of a flow, by logical date.
async fn states(runtime: &Runtime, flow: &str) -> Vec<String> {
    let mut runs = runtime
        .find_runs(&RunFilter::new().flow(flow))
        .await
        .unwrap();
    runs.sort_by_key(|run| run.logical_date);
    let state = |run: &RunSummary| format!("{} {}", run.logical_date.format("%H"), run.state);
    runs.iter().map(state).collect()
}

/// Returns the run of an hour's tick.
async fn run_of(runtime: &Runtime, flow: &str, hour: &str) -> RunId {
    let at = utc(&format!("03-01T{hour}:00:00"));
    let filter = RunFilter::new().flow(flow).since(at).until(at);
    runtime.find_runs(&filter).await.unwrap()[0].id
}

async fn state(runtime: &Runtime, run: RunId) -> RunState {
    runtime.find_run(run).await.unwrap().unwrap().state()
}

/// Defines a task that takes a minute, and fails while `IS_DOWN` is set.
macro_rules! minute_that_may_fail {
    () => {
        static IS_DOWN: AtomicBool = AtomicBool::new(false);
        #[task]
        async fn minute() -> Result<u32> {
            tokio::time::sleep(MINUTE).await;
            match IS_DOWN.load(SeqCst) {
                true => Err("it is down".into()),
                false => Ok(1),
            }
        }
    };
}

#[tokio::test(start_paused = true)]
async fn runs_after_a_failed_one_wait_in_order_until_it_is_rerun() -> Result<()> {
    minute_that_may_fail!();
    #[flow(name = "past_chain", depends_on_past)]
    fn chain() -> Node<u32> {
        minute()
    }
    let runtime = runtime_at("03-01T09:30:00").await;
    let act = async {
        // at 10:30 the first run has succeeded; it had no past to wait for
        pass(HOUR).await;
        IS_DOWN.store(true, SeqCst);
        pass(4 * HOUR).await;
        let waiting = ["12 pending", "13 pending", "14 pending"];
        let chain_is = async |first: [&str; 2], last: [&str; 3]| {
            assert_eq!(
                states(&runtime, "past_chain").await,
                [&first[..], &last].concat()
            );
        };
        chain_is(["10 success", "11 failed"], waiting).await;
        let failed = run_of(&runtime, "past_chain", "11").await;
        let next = run_of(&runtime, "past_chain", "12").await;
        let why = runtime.why(next, None).await.unwrap().to_string();
        let because = format!(
            "it waits for the run of the previous tick, {failed}, which failed: it starts when that one is re-run with success"
        );
        assert!(why.contains(&because), "{why}");
        // a re-run that fails changes nothing
        runtime.rerun(failed, Rerun::All).await.unwrap();
        pass(MINUTE).await;
        chain_is(["10 success", "11 failed"], waiting).await;
        // by hand, runs neither wait nor count
        IS_DOWN.store(false, SeqCst);
        let manual = chain()
            .on(&runtime)
            .logical_date(utc("03-01T11:30:00"))
            .run();
        assert_eq!(manual.await.unwrap().state(), RunState::Success);
        // in the middle of the re-run, the next one still waits
        let rerun = runtime.start_rerun(failed, Rerun::All).await.unwrap();
        pass(MINUTE / 2).await;
        let why = runtime.why(next, None).await.unwrap().to_string();
        assert!(
            why.contains(&format!("{failed}, which is running")),
            "{why}"
        );
        rerun.await.unwrap();
        pass(MINUTE / 2).await;
        assert_eq!(state(&runtime, next).await, RunState::Running);
        assert_eq!(
            state(&runtime, run_of(&runtime, "past_chain", "13").await).await,
            RunState::Pending
        );
        pass(3 * MINUTE).await;
        let runs = states(&runtime, "past_chain").await;
        assert!(runs.iter().all(|run| run.ends_with("success")), "{runs:?}");
        // one after the other, and each as soon as the one before it had ended
        let mut started = Vec::new();
        for hour in ["12", "13", "14"] {
            let run = run_of(&runtime, "past_chain", hour).await;
            started.push(
                runtime
                    .find_run(run)
                    .await
                    .unwrap()
                    .unwrap()
                    .started_at()
                    .unwrap(),
            );
        }
        assert_eq!(started[1] - started[0], TimeDelta::minutes(1));
        assert_eq!(started[2] - started[1], TimeDelta::minutes(1));
    };
    while_serving(chain().on(&runtime).serve("@hourly"), act).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn waiting_run_holds_no_slot_of_its_flow() -> Result<()> {
    minute_that_may_fail!();
    #[flow(name = "past_slot", max_active_runs = 1, depends_on_past)]
    fn slot() -> Node<u32> {
        minute()
    }
    #[flow(
        name = "past_skip",
        max_active_runs = 1,
        overlap = "skip",
        depends_on_past
    )]
    fn skip() -> Node<u32> {
        minute()
    }
    let runtime = runtime_at("03-01T09:30:00").await;
    IS_DOWN.store(true, SeqCst);
    let act = async {
        pass(3 * HOUR).await;
        IS_DOWN.store(false, SeqCst);
        assert_eq!(
            states(&runtime, "past_slot").await,
            ["10 failed", "11 pending", "12 pending"]
        );
        // what waits counts as active: one run waits for the failed one, further ticks are skipped
        assert_eq!(
            states(&runtime, "past_skip").await,
            ["10 failed", "11 pending"]
        );
        for by_hand in [slot(), skip()] {
            let run = timeout(2 * MINUTE, by_hand.on(&runtime).run()).await;
            assert_eq!(
                run.expect("it has a slot").unwrap().state(),
                RunState::Success
            );
        }
        for flow in ["past_slot", "past_skip"] {
            let failed = run_of(&runtime, flow, "10").await;
            runtime.rerun(failed, Rerun::All).await.unwrap();
        }
        pass(5 * MINUTE).await;
        for flow in ["past_slot", "past_skip"] {
            let runs = states(&runtime, flow).await;
            assert!(runs.iter().all(|run| run.ends_with("success")), "{runs:?}");
        }
    };
    let serve = [
        slot().on(&runtime).serve("@hourly"),
        skip().on(&runtime).serve("@hourly"),
    ];
    while_serving(runtime.serve(serve), act).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn cancelled_run_is_waited_for_like_a_failed_one() -> Result<()> {
    minute_that_may_fail!();
    #[flow(name = "past_cancelled", depends_on_past)]
    fn cancelled() -> Node<u32> {
        minute()
    }
    let runtime = runtime_at("03-01T09:30:00").await;
    IS_DOWN.store(true, SeqCst);
    let act = async {
        pass(3 * HOUR).await;
        IS_DOWN.store(false, SeqCst);
        let [first, second, third] =
            ["10", "11", "12"].map(|hour| run_of(&runtime, "past_cancelled", hour));
        let (first, second, third) = (first.await, second.await, third.await);
        // a waiting run can be cancelled, and the next one goes on waiting, for that one now
        assert!(runtime.cancel(second).await.unwrap());
        pass(MINUTE).await;
        assert_eq!(state(&runtime, second).await, RunState::Cancelled);
        let why = runtime.why(third, None).await.unwrap().to_string();
        assert!(
            why.contains(&format!("{second}, which was cancelled")),
            "{why}"
        );
        // a re-run waits as well, and is pending until then
        let rerun = runtime.start_rerun(second, Rerun::All).await.unwrap();
        pass(2 * MINUTE).await;
        assert_eq!(state(&runtime, second).await, RunState::Pending);
        runtime.rerun(first, Rerun::All).await.unwrap();
        assert_eq!(state(&runtime, third).await, RunState::Pending);
        assert_eq!(rerun.await.unwrap().state(), RunState::Success);
        pass(2 * MINUTE).await;
        assert_eq!(state(&runtime, third).await, RunState::Success);
    };
    while_serving(cancelled().on(&runtime).serve("@hourly"), act).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn each_deployment_has_a_past_of_its_own() -> Result<()> {
    static IS_DOWN: AtomicBool = AtomicBool::new(true);
    #[task]
    async fn load(region: &str) -> Result<u32> {
        match region == "EU" && IS_DOWN.load(SeqCst) {
            true => Err("it is down".into()),
            false => Ok(1),
        }
    }
    #[flow(name = "past_regions", depends_on_past)]
    fn regions(region: String) -> Node<u32> {
        load(region)
    }
    let runtime = runtime_at("03-01T09:30:00").await;
    let serve = ["eu", "us"].map(|name| {
        let region = name.to_uppercase();
        regions(region).on(&runtime).serve("@hourly").named(name)
    });
    let act = async {
        pass(2 * HOUR).await;
        for (deployment, expected) in [
            ("us", [RunState::Success; 2]),
            ("eu", [RunState::Failed, RunState::Pending]),
        ] {
            let filter = RunFilter::new()
                .flow("past_regions")
                .deployment(deployment)
                .oldest_first();
            let runs = runtime.find_runs(&filter).await.unwrap();
            let states: Vec<_> = runs.iter().map(|run| run.state).collect();
            assert_eq!(states, expected, "{deployment}");
        }
    };
    while_serving(runtime.serve(serve), act).await;
    Ok(())
}

fn day(text: &str) -> NaiveDate {
    text.parse().expect(text)
}

#[tokio::test(start_paused = true)]
async fn backfill_goes_in_order_and_not_the_newest_first() -> Result<()> {
    static UNDER_WAY: AtomicU32 = AtomicU32::new(0);
    static MOST: AtomicU32 = AtomicU32::new(0);
    #[task]
    async fn counted() -> u32 {
        MOST.fetch_max(UNDER_WAY.fetch_add(1, SeqCst) + 1, SeqCst);
        tokio::time::sleep(MINUTE).await;
        UNDER_WAY.fetch_sub(1, SeqCst)
    }
    #[flow(name = "past_backfill", depends_on_past)]
    fn daily() -> Node<u32> {
        counted()
    }
    let runtime = runtime_at("03-01T09:30:00").await;
    let backfill = daily()
        .on(&runtime)
        .backfill("@daily", day("2026-02-01")..=day("2026-02-10"));
    let refused = backfill.clone().newest_first(true);
    for error in [
        refused.dry_run().await.unwrap_err(),
        refused.run().await.unwrap_err(),
    ] {
        assert_eq!(
            error.to_string(),
            "backfill of `past_backfill`: `.newest_first(true)` cannot be combined with `depends_on_past` of the flow: the \
             run of each tick waits until that of the tick before has succeeded; leave one of them out"
        );
    }
    let done = backfill.max_active_runs(4).run().await?;
    assert_eq!((done.created(), done.succeeded()), (10, 10));
    assert_eq!(MOST.load(SeqCst), 1);
    let filter = RunFilter::new().flow("past_backfill").oldest_first();
    let runs = runtime.find_runs(&filter).await?;
    let started: Vec<_> = runs.iter().map(|run| run.started_at).collect();
    assert!(
        started.is_sorted() && runs.is_sorted_by_key(|run| run.logical_date),
        "{runs:?}"
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn backfilled_tick_between_is_waited_for() -> Result<()> {
    minute_that_may_fail!();
    #[flow(name = "past_between", depends_on_past)]
    fn between() -> Node<u32> {
        minute()
    }
    let runtime = runtime_at("03-01T09:30:00").await;
    let backfill = |from, to| {
        between()
            .on(&runtime)
            .backfill("@daily", day(from)..=day(to))
    };
    IS_DOWN.store(true, SeqCst);
    backfill("2026-02-01", "2026-02-01").run().await?;
    let later = tokio::spawn(backfill("2026-02-05", "2026-02-05").run());
    pass(MINUTE).await;
    // it is created while the later one waits, and waits itself
    let middle = tokio::spawn(backfill("2026-02-03", "2026-02-03").run());
    pass(MINUTE).await;
    IS_DOWN.store(false, SeqCst);
    let runs = runtime
        .find_runs(&RunFilter::new().flow("past_between").oldest_first())
        .await?;
    runtime.rerun(runs[0].id, Rerun::All).await?;
    assert_eq!(later.await??.succeeded(), 1);
    assert_eq!(middle.await??.succeeded(), 1);
    let runs = runtime
        .find_runs(&RunFilter::new().flow("past_between").oldest_first())
        .await?;
    // they were accepted in another order
    assert!(runs[1].logical_date > runs[2].logical_date);
    assert!(runs[1].started_at >= runs[2].finished_at, "{runs:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn stopped_process_leaves_waiting_runs_which_wait_in_the_next_one() -> Result<()> {
    minute_that_may_fail!();
    #[flow(name = "past_restarted", max_active_runs = 1, depends_on_past)]
    fn restarted() -> Node<u32> {
        minute()
    }
    let (store, clock) = (url(&file()), Clock::tokio(utc("03-01T09:30:00")));
    let open = || open(&store, &clock, Duration::from_secs(1));
    let serve = |runtime: &Runtime| restarted().on(runtime).serve("@hourly");
    IS_DOWN.store(true, SeqCst);
    let runtime = open().await;
    serve_for(3 * HOUR, serve(&runtime)).await;
    assert_eq!(runtime.stop().await.left.len(), 2);
    let waiting = ["10 failed", "11 pending", "12 pending"];
    assert_eq!(states(&runtime, "past_restarted").await, waiting);
    drop(runtime);
    let runtime = open().await;
    let act = async {
        pass(MINUTE).await;
        assert_eq!(states(&runtime, "past_restarted").await, waiting);
        IS_DOWN.store(false, SeqCst);
        let failed = run_of(&runtime, "past_restarted", "10").await;
        // another process re-runs it
        let other = open().await;
        let rerun = other.rerun(failed, Rerun::Failed).await.unwrap();
        assert_eq!(rerun.state(), RunState::Success);
        let ended = rerun.finished_at().unwrap();
        pass(3 * MINUTE).await;
        let next = run_of(&runtime, "past_restarted", "11").await;
        let next = runtime.find_run(next).await.unwrap().unwrap();
        assert!(
            next.started_at().unwrap() - ended <= TimeDelta::milliseconds(1100),
            "{next:?}"
        );
        let done = ["10 success", "11 success", "12 success"];
        assert_eq!(states(&runtime, "past_restarted").await, done);
    };
    while_serving(serve(&runtime), act).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn run_that_had_begun_does_not_wait_when_it_is_resumed() -> Result<()> {
    minute_that_may_fail!();
    #[flow(name = "past_begun", depends_on_past)]
    fn begun() -> Node<u32> {
        minute()
    }
    let (store, clock) = (url(&file()), Clock::tokio(utc("03-01T09:30:00")));
    let open = || open(&store, &clock, Duration::ZERO);
    let runtime = open().await;
    // until half a minute after eleven
    let serve = begun().on(&runtime).serve("@hourly");
    serve_for(90 * MINUTE + MINUTE / 2, serve).await;
    runtime.stop().await;
    drop(runtime);
    let runtime = open().await;
    let first = run_of(&runtime, "past_begun", "10").await;
    IS_DOWN.store(true, SeqCst);
    assert_eq!(
        runtime.rerun(first, Rerun::All).await?.state(),
        RunState::Failed
    );
    IS_DOWN.store(false, SeqCst);
    let resumed = timeout(2 * MINUTE, runtime.resume())
        .await
        .expect("it does not wait")?;
    let resumed: Vec<_> = resumed
        .iter()
        .map(|run| (run.logical_date(), run.state()))
        .collect();
    assert_eq!(resumed, [(utc("03-01T11:00:00"), RunState::Success)]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn two_processes_run_the_ticks_of_a_flow_in_order() -> Result<()> {
    static ORDER: Mutex<Vec<DateTime<Utc>>> = Mutex::new(Vec::new());
    #[task]
    async fn noted(at: DateTime<Utc>) -> u32 {
        // longer than the time between two ticks
        tokio::time::sleep(Duration::from_secs(90)).await;
        ORDER.lock().unwrap().push(at);
        1
    }
    #[flow(name = "past_both", depends_on_past)]
    fn both(#[context] context: &Context) -> Node<u32> {
        noted(context.logical_date())
    }
    let (store, clock) = (url(&file()), Clock::tokio(utc("03-01T09:59:30")));
    let open = || open(&store, &clock, Duration::ZERO);
    let (one, two) = (open().await, open().await);
    let serve = |runtime| both().on(runtime).serve("* * * * *");
    while_serving(serve(&one), while_serving(serve(&two), pass(40 * MINUTE))).await;
    let order = ORDER.lock().unwrap().clone();
    assert!(order.len() > 20, "{}", order.len());
    for (position, at) in order.iter().enumerate() {
        let expected = utc("03-01T10:00:00") + TimeDelta::minutes(i64::try_from(position)?);
        assert_eq!(*at, expected);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn overlap_that_cancels_runs_is_refused() -> Result<()> {
    #[flow(name = "past_overlap", max_active_runs = 1, depends_on_past)]
    fn overlapping() -> Node<u32> {
        one()
    }
    let runtime = crate::support::runtime();
    for overlap in [Overlap::CancelRunning, Overlap::Latest] {
        let serve = overlapping().on(&runtime).serve("@hourly").overlap(overlap);
        let refused = serve.await.unwrap_err().to_string();
        assert!(
            refused.contains("past_overlap") && refused.contains("`depends_on_past`"),
            "{refused}"
        );
    }
    Ok(())
}
