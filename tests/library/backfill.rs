//! Backfills: which runs they make, and which they leave alone.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use orchestrator::prelude::*;
use orchestrator::{Backfilled, Clock, Overlap, Reprocess, RunFilter, RunKind, TickAction};

use crate::support::{file, open, serve_for, url};

const HOUR: Duration = Duration::from_secs(3600);

fn date(text: &str) -> NaiveDate {
    text.parse().expect(text)
}

fn clock() -> Clock {
    Clock::tokio("2026-03-01T12:00:00Z".parse().unwrap())
}

async fn runtime() -> Runtime {
    crate::support::builder()
        .clock(clock())
        .build()
        .await
        .unwrap()
}

#[task]
async fn one() -> u32 {
    1
}

#[tokio::test(start_paused = true)]
async fn each_tick_of_the_dates_has_one_run_and_as_many_are_at_once_as_the_backfill_says()
-> Result<()> {
    static UNDER_WAY: AtomicU32 = AtomicU32::new(0);
    static MOST: AtomicU32 = AtomicU32::new(0);
    #[task]
    async fn counted() -> u32 {
        MOST.fetch_max(UNDER_WAY.fetch_add(1, SeqCst) + 1, SeqCst);
        tokio::time::sleep(Duration::from_secs(10)).await;
        UNDER_WAY.fetch_sub(1, SeqCst)
    }
    // the backfill's own number wins over the flow's
    #[flow(name = "backfill_each", max_active_runs = 1)]
    fn each() -> Node<u32> {
        counted()
    }
    let runtime = runtime().await;
    let days = || date("2026-02-10")..=date("2026-02-19");
    let told = Arc::new(Mutex::new(Vec::new()));
    let progress = Arc::clone(&told);
    let told_of = move |done: &Backfilled| {
        progress
            .lock()
            .unwrap()
            .push((done.running(), done.succeeded()))
    };
    let done = each()
        .on(&runtime)
        .backfill("0 6 * * *", days())
        .max_active_runs(4)
        .on_progress(told_of)
        .run()
        .await?;
    assert_eq!(
        (
            done.total(),
            done.created(),
            done.skipped(),
            done.succeeded()
        ),
        (10, 10, 0, 10)
    );
    assert_eq!(told.lock().unwrap().last(), Some(&(0, 10)));
    assert_eq!(
        told.lock()
            .unwrap()
            .iter()
            .map(|(running, _)| *running)
            .max(),
        Some(4)
    );
    assert_eq!(MOST.load(SeqCst), 4);
    let runs = runtime
        .find_runs(&RunFilter::new().flow("backfill_each").oldest_first())
        .await?;
    let dates: BTreeSet<_> = runs.iter().map(|run| run.logical_date).collect();
    assert_eq!((dates.len(), runs.len()), (10, 10));
    assert_eq!(
        runs[0].logical_date,
        "2026-02-10T06:00:00Z".parse::<DateTime<Utc>>()?
    );
    assert!(
        runs.iter()
            .all(|run| run.kind == RunKind::Backfill && run.interval.end == run.logical_date)
    );
    let again = each()
        .on(&runtime)
        .backfill("0 6 * * *", days())
        .run()
        .await?;
    assert_eq!((again.created(), again.skipped()), (0, 10));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_tick_has_one_run_whether_its_schedule_or_a_backfill_made_it() -> Result<()> {
    #[flow(name = "backfill_scheduled")]
    fn scheduled() -> Node<u32> {
        one()
    }
    let runtime = runtime().await;
    let serve = || scheduled().on(&runtime).serve("30 12 * * *").catchup(true);
    let backfill = |from, to| {
        scheduled()
            .on(&runtime)
            .backfill("30 12 * * *", date(from)..=date(to))
    };
    serve_for(HOUR, serve()).await;
    let backfilled = backfill("2026-02-28", "2026-03-01");
    let plan = backfilled.dry_run().await?;
    let reasons: Vec<_> = plan
        .ticks()
        .iter()
        .map(|tick| (tick.action, tick.reason, tick.state))
        .collect();
    let skipped = (
        TickAction::Skip,
        "its run succeeded",
        Some(RunState::Success),
    );
    assert_eq!(
        reasons,
        [(TickAction::Create, "it has no run", None), skipped]
    );
    let done = backfilled.run().await?;
    assert_eq!(
        (done.created(), done.skipped(), done.succeeded()),
        (1, 1, 1)
    );
    // two ticks are missed, and one of them has its run from a backfill when the flow is served
    // again
    tokio::time::sleep(48 * HOUR).await;
    assert_eq!(
        backfill("2026-03-02", "2026-03-02").run().await?.created(),
        1
    );
    serve_for(HOUR, serve()).await;
    let runs = runtime
        .find_runs(&RunFilter::new().flow("backfill_scheduled"))
        .await?;
    let mut kinds: Vec<_> = runs
        .iter()
        .map(|run| (run.logical_date.date_naive(), run.kind))
        .collect();
    kinds.sort_by_key(|(day, _)| *day);
    let (scheduled, filled) = (RunKind::Scheduled, RunKind::Backfill);
    let expected = [
        ("02-28", filled),
        ("03-01", scheduled),
        ("03-02", filled),
        ("03-03", scheduled),
    ];
    assert_eq!(
        kinds,
        expected.map(|(day, kind)| (date(&format!("2026-{day}")), kind))
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn dates_are_those_of_the_schedules_zone_and_newest_come_first_if_asked() -> Result<()> {
    #[flow(name = "backfill_zone")]
    fn zone() -> Node<u32> {
        one()
    }
    let runtime = runtime().await;
    let nightly = Schedule::cron("30 23 * * *")?.timezone(chrono_tz::America::New_York);
    let backfill = zone()
        .on(&runtime)
        .backfill(nightly, date("2026-02-10")..=date("2026-02-11"));
    let plan = backfill.clone().newest_first(true).dry_run().await?;
    let dates: Vec<_> = plan
        .ticks()
        .iter()
        .map(|tick| tick.logical_date.to_rfc3339())
        .collect();
    assert_eq!(
        dates,
        ["2026-02-12T04:30:00+00:00", "2026-02-11T04:30:00+00:00"]
    );
    assert_eq!(
        plan.to_string(),
        "backfill of backfill_zone by 30 23 * * * in America/New_York: 2 of 2 ticks to process\n\
         logical date              action    reason                                     run\n\
         2026-02-11T23:30:00-05:00 create    it has no run\n\
         2026-02-10T23:30:00-05:00 create    it has no run\n"
    );
    assert_eq!(
        runtime
            .find_runs(&RunFilter::new().flow("backfill_zone"))
            .await?
            .len(),
        0
    );
    backfill.newest_first(true).max_active_runs(1).run().await?;
    let runs = runtime
        .find_runs(&RunFilter::new().flow("backfill_zone").oldest_first())
        .await?;
    assert!(runs[0].logical_date > runs[1].logical_date);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn backfill_leaves_future_ticks_to_their_schedule() -> Result<()> {
    #[flow(name = "backfill_future")]
    fn future() -> Node<u32> {
        one()
    }
    let runtime = runtime().await;
    let backfill = future()
        .on(&runtime)
        .backfill("@daily", date("2026-02-28")..=date("2026-03-05"));
    let plan = backfill.dry_run().await?;
    assert_eq!(
        plan.ticks()
            .iter()
            .filter(|tick| tick.action == TickAction::Create)
            .count(),
        2
    );
    assert_eq!(plan.ticks()[5].reason, "it is not due yet");
    assert_eq!(backfill.run().await?.created(), 2);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_run_that_fails_keeps_no_other_from_being_made() -> Result<()> {
    static DOWN: AtomicBool = AtomicBool::new(true);
    #[task]
    async fn sometimes(day: u32) -> Result<u32> {
        if DOWN.load(SeqCst) && day == 11 {
            Err("down".into())
        } else {
            Ok(day)
        }
    }
    #[flow(name = "backfill_fails")]
    fn fails(#[context] context: &Context) -> Node<u32> {
        let day = context.logical_date().format("%d").to_string();
        sometimes(day.parse::<u32>().unwrap_or_default())
    }
    let runtime = runtime().await;
    let backfill = || {
        fails()
            .on(&runtime)
            .backfill("@daily", date("2026-02-10")..=date("2026-02-12"))
    };
    let done = backfill().run().await?;
    assert_eq!((done.created(), done.succeeded()), (3, 2));
    assert_eq!(
        done.unsuccessful()[0].logical_date,
        "2026-02-11T00:00:00Z".parse::<DateTime<Utc>>()?
    );
    let plan = backfill().dry_run().await?;
    let reasons: Vec<_> = plan
        .ticks()
        .iter()
        .map(|tick| (tick.action, tick.reason))
        .collect();
    assert_eq!(reasons[0], (TickAction::Skip, "its run succeeded"));
    assert_eq!(reasons[1], (TickAction::Skip, "it has a run, which failed"));
    let plan = backfill().reprocess(Reprocess::Failed).dry_run().await?;
    assert_eq!(
        (plan.ticks()[0].action, plan.ticks()[1].action),
        (TickAction::Skip, TickAction::Rerun)
    );
    if crate::support::is_durable() {
        DOWN.store(false, SeqCst);
        let done = backfill().reprocess(Reprocess::Failed).run().await?;
        assert_eq!((done.reran(), done.skipped(), done.succeeded()), (1, 2, 1));
        assert_eq!(
            runtime
                .find_runs(&RunFilter::new().flow("backfill_fails"))
                .await?
                .len(),
            3
        );
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn backfill_reruns_all_runs_if_asked() -> Result<()> {
    static RAN: AtomicU32 = AtomicU32::new(0);
    #[task]
    async fn counts() -> u32 {
        RAN.fetch_add(1, SeqCst)
    }
    #[flow(name = "backfill_all")]
    fn all() -> Node<u32> {
        counts()
    }
    let runtime = runtime().await;
    let backfill = || {
        all()
            .on(&runtime)
            .backfill("@daily", date("2026-02-10")..=date("2026-02-12"))
    };
    backfill().run().await?;
    let done = backfill().reprocess(Reprocess::All).run().await?;
    assert_eq!((done.reran(), done.succeeded()), (3, 3));
    assert_eq!(RAN.load(SeqCst), 6);
    assert_eq!(
        runtime
            .find_runs(&RunFilter::new().flow("backfill_all"))
            .await?
            .len(),
        3
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn dropped_backfill_cancels_its_runs_and_creates_no_more() -> Result<()> {
    #[task]
    async fn long() -> u32 {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        1
    }
    #[flow(name = "backfill_dropped")]
    fn dropped() -> Node<u32> {
        long()
    }
    let runtime = runtime().await;
    let backfill = dropped()
        .on(&runtime)
        .backfill("@daily", date("2026-02-01")..=date("2026-02-20"));
    let done =
        tokio::time::timeout(Duration::from_secs(60), backfill.max_active_runs(3).run()).await;
    assert!(done.is_err(), "{done:?}");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let runs = runtime
        .find_runs(&RunFilter::new().flow("backfill_dropped"))
        .await?;
    assert_eq!(runs.len(), 3);
    assert!(
        runs.iter().all(|run| run.state == RunState::Cancelled),
        "{runs:?}"
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn stopped_backfill_goes_on_when_it_is_asked_for_again() -> Result<()> {
    if !crate::support::is_durable() {
        return Ok(());
    }
    static RAN: AtomicU32 = AtomicU32::new(0);
    #[task]
    async fn slow() -> u32 {
        tokio::time::sleep(Duration::from_secs(100)).await;
        RAN.fetch_add(1, SeqCst)
    }
    #[flow(name = "backfill_stopped")]
    fn stopped() -> Node<u32> {
        let first = slow();
        slow().after(&first)
    }
    let store = crate::support::store();
    let clock = clock();
    let open = || open(&store, &clock, Duration::from_secs(1));
    let days = || date("2026-02-10")..=date("2026-02-14");
    let runtime = open().await;
    let backfill = stopped()
        .on(&runtime)
        .backfill("@daily", days())
        .max_active_runs(2)
        .run();
    let stop = async {
        tokio::time::sleep(Duration::from_secs(350)).await;
        runtime.stop().await
    };
    let (done, left) = tokio::join!(backfill, stop);
    assert!(matches!(done, Err(Error::Stopped { .. })), "{done:?}");
    assert_eq!(left.left.len(), 2);
    drop(runtime);
    let runtime = open().await;
    let done = stopped()
        .on(&runtime)
        .backfill("@daily", days())
        .run()
        .await?;
    assert_eq!(
        (
            done.resumed(),
            done.created(),
            done.skipped(),
            done.succeeded()
        ),
        (2, 1, 2, 3)
    );
    // what was done of the runs that went on is not done again
    assert_eq!(RAN.load(SeqCst), 10);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn invalid_backfills_are_refused_with_the_reason() -> Result<()> {
    #[flow(name = "backfill_wrong")]
    fn wrong() -> Node<u32> {
        one()
    }
    let runtime = runtime().await;
    let days = || date("2026-02-10")..=date("2026-02-14");
    let on = || wrong().on(&runtime);
    for (backfill, expected) in [
        (
            on().backfill("0 25 * * *", days()),
            "hour: expected 0 to 23, got `25`",
        ),
        (
            on().backfill("@daily", date("2026-02-10")..=date("2026-02-09")),
            "expected the first date not to be after",
        ),
        (
            on().backfill("@daily", days()).max_active_runs(0),
            "`max_active_runs` to be at least 1",
        ),
        (
            on().key("one").backfill("@daily", days()),
            "`.key(…)` applies to a single run",
        ),
    ] {
        let _case = crate::support::case(expected);
        let error = backfill.run().await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_backfill_that_is_dropped_between_two_starts_cancels_what_has_started() -> Result<()> {
    if !crate::support::is_durable() {
        return Ok(());
    }
    #[task]
    async fn long() -> u32 {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        1
    }
    #[flow(name = "backfill_dropped_early")]
    fn dropped() -> Node<u32> {
        long()
    }
    let store = crate::support::store();
    let clock = clock();
    let open = || open(&store, &clock, Duration::from_secs(1));
    let days = || date("2026-02-01")..=date("2026-02-02");
    let runtime = open().await;
    let (_, stopped) = tokio::join!(
        dropped().on(&runtime).backfill("@daily", days()).run(),
        async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            runtime.stop().await
        }
    );
    assert_eq!(stopped.left.len(), 2);
    drop(runtime);
    // to go on with the second one takes a while, and meanwhile nobody waits any more
    let runtime = open().await;
    let started = Arc::new(tokio::sync::Notify::new());
    let backfill = {
        let started = Arc::clone(&started);
        dropped()
            .on(&runtime)
            .backfill("@daily", days())
            .on_progress(move |_| started.notify_one())
    };
    tokio::select! {
        biased;
        () = started.notified() => {}
        done = backfill.run() => panic!("{done:?}"),
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let runs = runtime
        .find_runs(
            &RunFilter::new()
                .flow("backfill_dropped_early")
                .oldest_first(),
        )
        .await?;
    assert_eq!(runs[0].state, RunState::Cancelled, "{runs:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn backfill_of_more_than_a_million_ticks_is_refused() -> Result<()> {
    #[flow(name = "backfill_ages")]
    fn ages() -> Node<u32> {
        one()
    }
    let runtime = runtime().await;
    for schedule in ["@daily", "* * * * * *"] {
        let _case = crate::support::case(schedule);
        let backfill = ages()
            .on(&runtime)
            .backfill(schedule, date("0001-01-01")..=date("9999-12-31"));
        let error = backfill.dry_run().await.unwrap_err().to_string();
        assert!(
            error.contains("backfill of `backfill_ages`: expected at most 1000000 ticks"),
            "{error}"
        );
    }
    let once = Schedule::once("1815-12-10T00:00:00Z".parse::<DateTime<Utc>>()?);
    let done = ages()
        .on(&runtime)
        .backfill(once, date("0001-01-01")..=date("9999-12-31"))
        .run()
        .await?;
    assert_eq!(done.created(), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn dates_without_a_tick_are_refused() -> Result<()> {
    #[flow(name = "backfill_no_tick")]
    fn no_tick() -> Node<u32> {
        one()
    }
    let runtime = runtime().await;
    let february = "2026-02-10T00:00:00Z".parse::<DateTime<Utc>>()?;
    let started = || Schedule::cron("@daily").unwrap().start(february);
    for (schedule, dates, expected) in [
        (
            started(),
            date("2026-02-08")..=date("2026-02-12"),
            "expected dates from the start of the schedule on, which is 2026-02-10T00:00:00Z, got 2026-02-08",
        ),
        (
            Schedule::cron("0 6 * * SUN")?,
            date("2026-02-09")..=date("2026-02-10"),
            "`0 6 * * 0` has no tick from 2026-02-09 to 2026-02-10",
        ),
        (
            started().end(february),
            date("2026-02-11")..=date("2026-02-12"),
            "has no tick from 2026-02-11 to 2026-02-12",
        ),
        (
            started(),
            date("2026-02-11")..=NaiveDate::MAX,
            "expected dates in the years 1 to 9999, got 2026-02-11 to +262142-12-31",
        ),
    ] {
        let backfill = no_tick().on(&runtime).backfill(schedule, dates);
        let error = backfill.dry_run().await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_tick_between_two_microseconds_has_its_run() -> Result<()> {
    #[flow(name = "backfill_nanoseconds")]
    fn nanoseconds() -> Node<u32> {
        one()
    }
    let runtime = runtime().await;
    let at: DateTime<Utc> = "2026-02-10T06:00:00.123456789Z".parse()?;
    let daily = Schedule::every(Duration::from_secs(24 * 3600))?.anchor(at);
    for (schedule, day) in [(Schedule::once(at), "2026-02-10"), (daily, "2026-02-11")] {
        let _case = crate::support::case(day);
        let backfill = nanoseconds()
            .on(&runtime)
            .backfill(schedule, date(day)..=date(day));
        assert_eq!(backfill.clone().run().await?.created(), 1);
        assert_eq!(
            backfill.dry_run().await?.ticks()[0].reason,
            "its run succeeded"
        );
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_run_keeps_its_parameters_and_others_are_refused() -> Result<()> {
    #[task]
    async fn only_even(n: u32) -> Result<u32> {
        if n.is_multiple_of(2) {
            Ok(n)
        } else {
            Err("odd".into())
        }
    }
    #[flow(name = "backfill_parameters")]
    fn parameters(n: u32) -> Node<u32> {
        only_even(n)
    }
    let runtime = runtime().await;
    let backfill = |n| {
        parameters(n)
            .on(&runtime)
            .backfill("@daily", date("2026-02-10")..=date("2026-02-11"))
    };
    assert_eq!(backfill(1).run().await?.unsuccessful().len(), 2);
    let done = backfill(2).run().await?;
    assert_eq!(
        (done.created(), done.skipped(), done.different()),
        (0, 0, 2)
    );
    let difference = done.different_ticks()[0].difference.as_deref();
    assert_eq!(difference, Some("its run has n = 1, not n = 2"));
    for refused in [
        backfill(2).reprocess(Reprocess::Failed),
        backfill(2).reprocess(Reprocess::All),
    ] {
        let error = refused.run().await.unwrap_err().to_string();
        assert!(
            error.contains(
                "another run and cannot be re-run for this one: its run has n = 1, not n = 2"
            ),
            "{error}"
        );
    }
    assert_eq!(
        backfill(1).reprocess(Reprocess::All).run().await?.reran(),
        2
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_run_that_cannot_run_again_keeps_no_other_tick_of_a_backfill_from_it() -> Result<()> {
    static DOWN: AtomicBool = AtomicBool::new(true);
    #[task]
    async fn sometimes() -> Result<u32> {
        if DOWN.load(SeqCst) {
            Err("down".into())
        } else {
            Ok(1)
        }
    }
    #[flow(name = "backfill_pruned")]
    fn pruned() -> Node<u32> {
        sometimes()
    }
    let runtime = Runtime::builder()
        .store(url(&file()))
        .clock(clock())
        .keep(HOUR)
        .build()
        .await?;
    let backfill = |from, to| {
        pruned()
            .on(&runtime)
            .backfill("@daily", date(from)..=date(to))
    };
    backfill("2026-02-10", "2026-02-11").run().await?;
    tokio::time::sleep(2 * HOUR).await;
    backfill("2026-02-12", "2026-02-13").run().await?;
    assert_eq!(runtime.prune().await?.runs, 2);
    DOWN.store(false, SeqCst);
    // of the first two, nothing is known that could be kept
    let done = backfill("2026-02-10", "2026-02-13")
        .reprocess(Reprocess::Failed)
        .run()
        .await?;
    assert_eq!((done.total(), done.reran(), done.succeeded()), (4, 2, 2));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn two_backfills_may_rerun_the_same_ticks() -> Result<()> {
    static DOWN: AtomicBool = AtomicBool::new(true);
    #[task]
    async fn sometimes() -> Result<u32> {
        tokio::time::sleep(Duration::from_secs(60)).await;
        if DOWN.load(SeqCst) {
            Err("down".into())
        } else {
            Ok(1)
        }
    }
    #[flow(name = "backfill_two_backfills")]
    fn twice() -> Node<u32> {
        sometimes()
    }
    let runtime = open(&url(&file()), &clock(), HOUR).await;
    let days = || date("2026-02-10")..=date("2026-02-15");
    let backfill = || {
        twice()
            .on(&runtime)
            .backfill("@daily", days())
            .max_active_runs(2)
    };
    backfill().run().await?;
    DOWN.store(false, SeqCst);
    let again = || backfill().reprocess(Reprocess::Failed).run();
    let (a, b) = tokio::join!(again(), again());
    let (a, b) = (a?, b?);
    assert_eq!(a.reran() + b.reran(), 6, "{a:?} {b:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn backfill_dropped_during_a_rerun_request_cancels_the_rerun() -> Result<()> {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    #[task]
    async fn long_at_last() -> u32 {
        if RUNS.fetch_add(1, SeqCst) >= 2 {
            tokio::time::sleep(HOUR).await;
        }
        1
    }
    #[flow(name = "backfill_dropped_rerun")]
    fn dropped() -> Node<u32> {
        long_at_last()
    }
    let runtime = runtime().await;
    let backfill = || {
        dropped()
            .on(&runtime)
            .backfill("@daily", date("2026-02-10")..=date("2026-02-11"))
    };
    backfill().run().await?;
    let started = Arc::new(tokio::sync::Notify::new());
    let again = {
        let started = Arc::clone(&started);
        backfill()
            .reprocess(Reprocess::All)
            .on_progress(move |_| started.notify_one())
    };
    tokio::select! {
        biased;
        () = started.notified() => {}
        done = again.run() => panic!("{done:?}"),
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let runs = runtime
        .find_runs(
            &RunFilter::new()
                .flow("backfill_dropped_rerun")
                .oldest_first(),
        )
        .await?;
    let states: Vec<_> = runs.iter().map(|run| run.state).collect();
    assert_eq!(states[0], RunState::Cancelled);
    assert!(states[1].is_final(), "nobody waits for it: {states:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_tick_with_another_run_is_not_done() -> Result<()> {
    #[flow(name = "backfill_other")]
    fn other(region: String) -> Node<u32> {
        let _ = region;
        one()
    }
    let runtime = runtime().await;
    let dates = || date("2026-02-10")..=date("2026-02-10");
    let flow = |region: &str| other(region.to_owned()).on(&runtime);
    let hourly = flow("EU").backfill("@hourly", dates()).run().await?;
    assert_eq!(hourly.created(), 24);
    // the run of an hour is not that of a day, and the region is not the same either
    let asked = || flow("US").backfill("0 6 * * *", dates());
    let plan = asked().dry_run().await?;
    let tick = &plan.ticks()[0];
    let expected = "its run has the interval 2026-02-10 05:00:00 to 2026-02-10 06:00:00, not 2026-02-09 06:00:00 to \
                    2026-02-10 06:00:00; its run has region = \"EU\", not region = \"US\"";
    assert_eq!(
        (tick.action, tick.reason, tick.difference.as_deref()),
        (TickAction::Different, "it has another run", Some(expected))
    );
    assert!(plan.to_string().contains(expected), "{plan}");
    let done = asked().run().await?;
    assert_eq!(
        (done.created(), done.skipped(), done.different()),
        (0, 0, 1)
    );
    let refused = asked().reprocess(Reprocess::All).run().await.unwrap_err();
    assert!(refused.to_string().contains("is another run"), "{refused}");
    // of another deployment the tick is another one
    let serve = flow("US").serve("0 6 * * *").named("us");
    serve_for(Duration::from_secs(1), serve).await;
    let named = flow("US")
        .deployment("us")
        .backfill("0 6 * * *", dates())
        .run()
        .await?;
    assert_eq!((named.created(), named.different()), (1, 0));
    let again = asked().deployment("us").run().await?;
    assert_eq!((again.skipped(), again.different()), (1, 0));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn manual_runs_are_named_and_adopted_if_asked() -> Result<()> {
    #[flow(name = "backfill_adopted")]
    fn adopted(region: String) -> Node<u32> {
        let _ = region;
        one()
    }
    let runtime = runtime().await;
    let six: DateTime<Utc> = "2026-02-11T06:00:00Z".parse()?;
    let day = chrono::TimeDelta::days(1);
    let flow = |region: &str| adopted(region.to_owned()).on(&runtime);
    let by_hand = flow("EU").logical_date(six).interval(six - day, six);
    let by_hand = by_hand.run().await?.id();
    // with other parameters, and for another date, it is not the same
    let others = flow("US").logical_date(six + day);
    others.interval(six, six + day).run().await?;
    let asked = || flow("EU").backfill("0 6 * * *", date("2026-02-11")..=date("2026-02-12"));
    let plan = asked().dry_run().await?;
    let manual: Vec<_> = plan
        .ticks()
        .iter()
        .map(|tick| (tick.action, tick.manual))
        .collect();
    assert_eq!(
        manual,
        [
            (TickAction::Create, Some(by_hand)),
            (TickAction::Create, None)
        ]
    );
    assert!(
        plan.to_string()
            .contains(&format!("made by hand: {by_hand}"))
    );
    let done = asked().adopt_manual(true).run().await?;
    let skipped: Vec<_> = done.skipped_because().collect();
    assert_eq!(
        (done.created(), skipped),
        (1, vec![("a manual run succeeded", 1)])
    );
    // without the choice the tick has a run of its own
    assert_eq!(asked().run().await?.created(), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn several_schedules_of_a_backfill_are_one_line_of_intervals() -> Result<()> {
    #[flow(name = "backfill_union")]
    fn union() -> Node<u32> {
        one()
    }
    let runtime = runtime().await;
    let dates = date("2026-02-10")..=date("2026-02-11");
    let asked = || {
        let backfill = union().on(&runtime).backfill("0 6,18 * * *", dates.clone());
        backfill.schedule("0 12 * * *").schedule("0 6 * * *")
    };
    assert_eq!(asked().run().await?.created(), 6);
    let runs = RunFilter::new().flow("backfill_union").oldest_first();
    let runs = runtime.find_runs(&runs).await?;
    for pair in runs.windows(2) {
        assert_eq!(pair[0].interval.end, pair[1].interval.start);
    }
    assert_eq!(asked().run().await?.skipped(), 6);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn dates_beyond_the_limit_go_by_the_overlap_of_the_backfill() -> Result<()> {
    #[task]
    async fn hour() -> u32 {
        tokio::time::sleep(HOUR).await;
        1
    }
    #[flow(name = "backfill_overlap", max_active_runs = 1)]
    fn overlapping() -> Node<u32> {
        hour()
    }
    for (overlap, days) in [
        (Overlap::Queue, &["10", "11", "12", "13", "14"][..]),
        (Overlap::Skip, &["10", "11"]),
        (Overlap::Latest, &["10", "11", "14"]),
        (Overlap::CancelRunning, &["13", "14"]),
    ] {
        let runtime = runtime().await;
        let backfill = overlapping()
            .on(&runtime)
            .backfill("0 6 * * *", date("2026-02-10")..=date("2026-02-14"))
            .max_active_runs(2)
            .overlap(overlap);
        let done = backfill.run().await?;
        assert_eq!(done.total(), 5);
        let succeeded = RunFilter::new()
            .flow("backfill_overlap")
            .state(RunState::Success);
        let runs = runtime.find_runs(&succeeded.oldest_first()).await?;
        let of: Vec<_> = runs
            .iter()
            .map(|run| run.logical_date.format("%d").to_string())
            .collect();
        assert_eq!(of, days, "{overlap:?}: {done:?}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn backfill_from_the_day_of_the_start_in_its_zone() -> Result<()> {
    #[flow(name = "backfill_start")]
    fn start() -> Node<u32> {
        one()
    }
    let runtime = crate::support::builder()
        .clock(Clock::tokio("2026-03-20T09:30:00Z".parse()?))
        .build()
        .await?;
    let evening = Schedule::cron("0 21 * * *")?.timezone(chrono_tz::America::New_York);
    let evening = evening.start("2026-03-02T01:00:00Z".parse()?); // 20:00 on 1 March
    let plan = start()
        .on(&runtime)
        .backfill(evening, date("2026-03-01")..=date("2026-03-03"))
        .dry_run()
        .await;
    assert_eq!(
        plan.map(|plan| plan.ticks().len())
            .map_err(|error| error.to_string()),
        Ok(3)
    );
    let midnight = Schedule::cron("0 6 * * *")?.timezone(chrono_tz::Europe::Zurich);
    let midnight = midnight.start("2026-03-01T23:00:00Z".parse()?); // 00:00 on 2 March
    let plan = start()
        .on(&runtime)
        .backfill(midnight, date("2026-03-01")..=date("2026-03-03"))
        .dry_run()
        .await;
    assert!(plan.is_err(), "{plan:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn backfill_of_the_latest_makes_the_last_one_that_is_to_be_made() -> Result<()> {
    #[task]
    async fn slow() -> u32 {
        tokio::time::sleep(HOUR).await;
        1
    }
    #[flow(name = "backfill_last")]
    fn last() -> Node<u32> {
        slow()
    }
    let runtime = crate::support::builder()
        .clock(Clock::tokio("2026-03-20T09:30:00Z".parse()?))
        .build()
        .await?;
    let backfill = last()
        .on(&runtime)
        .backfill("0 12 * * *", date("2026-03-10")..=date("2026-03-20"));
    backfill
        .max_active_runs(2)
        .overlap(Overlap::Latest)
        .run()
        .await?;
    let filter = RunFilter::new().flow("backfill_last").oldest_first();
    let runs = runtime.find_runs(&filter).await?;
    let days: Vec<_> = runs
        .iter()
        .map(|run| run.logical_date.format("%d").to_string())
        .collect();
    assert_eq!(days, ["10", "11", "19"]);
    Ok(())
}
