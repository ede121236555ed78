//! Deployments: what is in force, by whom it is served, and what was missed before an edit.

use super::*;
use chrono::TimeZone as _;
use orchestrator::Timetable;

const DAY: Duration = Duration::from_secs(24 * 3600);
const MINUTE: Duration = Duration::from_secs(60);

fn cron(expression: &str) -> Schedule {
    Schedule::cron(expression).unwrap()
}

/// A runtime in memory: what is served for days would look at a file once a second.
async fn in_memory_at(text: &str) -> Runtime {
    let builder = Runtime::builder().store("memory");
    builder
        .clock(Clock::tokio(utc(text)))
        .build()
        .await
        .unwrap()
}

fn json(text: &str) -> serde_json::Map<String, serde_json::Value> {
    serde_json::from_str(text).expect(text)
}

#[tokio::test(start_paused = true)]
async fn no_tick_is_made_for_a_time_in_which_its_schedule_was_not_in_force() -> Result<()> {
    #[flow(name = "deployments_back_again")]
    fn back_again() -> Node<u32> {
        one()
    }
    let runtime = in_memory_at("03-01T09:30:00").await;
    let serve = |schedule: &str| back_again().on(&runtime).serve(schedule).catchup(true);
    serve_for(2 * HOUR, serve("0 * * * *")).await;
    serve_for(30 * DAY, serve("0 6 * * *")).await;
    let before = ticks(&runtime, "deployments_back_again").await;
    assert_eq!(before.len(), 2 + 30);
    serve_for(10 * MINUTE, serve("0 * * * *")).await;
    assert_eq!(ticks(&runtime, "deployments_back_again").await, before);
    serve_for(HOUR, serve("0 * * * *")).await;
    assert_eq!(
        ticks(&runtime, "deployments_back_again").await.len(),
        before.len() + 1
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_edit_loses_no_missed_tick() -> Result<()> {
    #[flow(name = "deployments_edited")]
    fn edited(region: String) -> Node<u32> {
        let _ = region;
        one()
    }
    let daily = || cron("0 6 * * *").timezone(chrono_tz::Etc::UTC);
    let next_year = Utc.with_ymd_and_hms(2027, 1, 1, 0, 0, 0).unwrap();
    for (name, region, other) in [
        ("same", "EU", daily()),
        ("end", "EU", daily().end(next_year)),
        ("start", "EU", daily().start(utc("01-01T00:00:00"))),
        ("zone", "EU", cron("0 6 * * *")),
        ("schedule", "EU", cron("40 6 * * *")),
        ("parameters", "US", daily()),
    ] {
        let _case = crate::support::case(name);
        let runtime = in_memory_at("03-01T00:00:00").await;
        let serve = |region: &str, schedule: Schedule| {
            edited(region.to_owned())
                .on(&runtime)
                .serve(schedule)
                .catchup(true)
        };
        serve_for(12 * HOUR, serve("EU", daily())).await;
        pass(3 * DAY).await;
        serve_for(MINUTE, serve(region, other)).await;
        let runs = runtime
            .find_runs(&RunFilter::new().flow("deployments_edited").oldest_first())
            .await?;
        let dates: Vec<_> = runs.iter().map(|run| run.logical_date).collect();
        let expected = [1, 2, 3, 4].map(|day| utc(&format!("03-0{day}T06:00:00")));
        assert_eq!(dates, expected);
        // what was missed has the parameters that were in force then
        assert!(runs.iter().all(|run| run.parameters["region"] == "EU"));
        assert!(
            runs.iter()
                .all(|run| run.interval.end - run.interval.start == TimeDelta::days(1))
        );
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_edit_to_an_earlier_hour_makes_no_run_at_once() -> Result<()> {
    #[flow(name = "deployments_later_today")]
    fn later_today() -> Node<u32> {
        one()
    }
    for (before, after) in [("40 5 * * *", "50 5 * * *"), ("50 5 * * *", "40 5 * * *")] {
        let runtime = runtime_at("03-01T00:00:00").await;
        let serve = |schedule: &str| later_today().on(&runtime).serve(schedule).catchup(true);
        serve_for(12 * HOUR + 14 * MINUTE, serve(before)).await;
        serve_for(HOUR, serve(after)).await;
        assert_eq!(ticks(&runtime, "deployments_later_today").await.len(), 1);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_new_policy_settles_what_was_missed() -> Result<()> {
    #[flow(name = "deployments_settled")]
    fn settled() -> Node<u32> {
        one()
    }
    for (missed, expected) in [
        (
            Missed::All,
            &["01 10:00:00", "01 11:00:00", "01 12:00:00"][..],
        ),
        (Missed::Latest, &["01 10:00:00", "01 12:00:00"]),
        (Missed::None, &["01 10:00:00"]),
        (
            Missed::Within(90 * MINUTE),
            &["01 10:00:00", "01 11:00:00", "01 12:00:00"],
        ),
        (Missed::Within(HOUR), &["01 10:00:00", "01 12:00:00"]),
        (
            Missed::AtMost(2),
            &["01 10:00:00", "01 11:00:00", "01 12:00:00"],
        ),
    ] {
        let _case = crate::support::case(format!("{missed:?}"));
        let runtime = runtime_at("03-01T09:30:00").await;
        serve_for(HOUR, settled().on(&runtime).serve("@hourly")).await;
        pass(2 * HOUR).await;
        let serve = settled().on(&runtime).serve("@daily").missed(missed);
        serve_for(10 * MINUTE, serve).await;
        assert_eq!(ticks(&runtime, "deployments_settled").await, expected);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn unnamed_schedules_are_one_deployment_with_one_line_of_intervals() -> Result<()> {
    #[flow(name = "deployments_union")]
    fn union() -> Node<u32> {
        one()
    }
    let runtime = in_memory_at("03-01T00:00:00").await;
    // of one `Serve` or of several, at the same instants or not
    let serve = || {
        runtime.serve([
            union()
                .serve("0 6 * * *")
                .schedule("0 */8 * * *")
                .catchup(true),
            union().serve(cron("30 6 * * *")).catchup(true),
            union().serve("0 6,7 * * *").catchup(true),
        ])
    };
    serve_for(12 * HOUR, serve()).await;
    pass(DAY).await;
    serve_for(12 * HOUR, serve()).await;
    let runs = runtime
        .find_runs(&RunFilter::new().flow("deployments_union").oldest_first())
        .await?;
    let dates: Vec<_> = runs
        .iter()
        .map(|run| run.logical_date.format("%d %H:%M").to_string())
        .collect();
    assert_eq!(
        dates,
        [
            "01 06:00", "01 06:30", "01 07:00", "01 08:00", "01 16:00", "02 00:00", "02 06:00",
            "02 06:30", "02 07:00", "02 08:00", "02 16:00"
        ]
    );
    assert_eq!(runs[0].interval.start, utc("03-01T00:00:00"));
    for pair in runs.windows(2) {
        assert_eq!(pair[0].interval.end, pair[1].interval.start, "{pair:?}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn named_deployments_are_known_apart_everywhere() -> Result<()> {
    #[task]
    async fn name_of(name: Option<String>) -> Option<String> {
        name
    }
    #[flow(name = "deployments_named")]
    fn named(region: String, #[context] context: &Context) -> Node<Option<String>> {
        let _ = region;
        name_of(context.deployment().map(str::to_owned))
    }
    let runtime = in_memory_at("03-01T00:00:00").await;
    let mut events = runtime.events();
    let serve = || {
        runtime.serve([
            named("CH".into()).serve("0 6 * * *"),
            named("EU".into()).serve("0 6 * * *").named("eu"),
            named("US".into()).serve("0 6,18 * * *").named("us"),
        ])
    };
    serve_for(DAY + HOUR, serve()).await;
    let of = async |filter: RunFilter| {
        let runs = runtime.find_runs(&filter.flow("deployments_named")).await;
        runs.unwrap()
    };
    for (filter, name, region, hours) in [
        (RunFilter::new().default_deployment(), None, "CH", 24),
        (RunFilter::new().deployment("eu"), Some("eu"), "EU", 24),
        (RunFilter::new().deployment("us"), Some("us"), "US", 12),
    ] {
        let runs = of(filter).await;
        assert_eq!(runs.len(), if hours == 24 { 1 } else { 2 }, "{name:?}");
        for run in runs {
            assert_eq!(run.deployment.as_deref(), name);
            assert_eq!(run.parameters["region"], region);
            assert_eq!(
                run.interval.end - run.interval.start,
                TimeDelta::hours(hours)
            );
            let record = runtime.find_run(run.id).await?.unwrap();
            assert_eq!(record.deployment(), name);
            assert_eq!(record.task("name_of").unwrap().state(), TaskState::Success);
        }
    }
    let mut told = Vec::new();
    while told.len() < 4 {
        if let Some(orchestrator::Event::RunStarted { deployment, .. }) = events.next().await {
            told.push(deployment.unwrap_or_default());
        }
    }
    told.sort();
    assert_eq!(told, ["", "eu", "us", "us"]);
    let on_record = runtime.deployments("deployments_named").await?;
    let names: Vec<_> = on_record.iter().map(|one| one.name.as_deref()).collect();
    assert_eq!(names, [None, Some("eu"), Some("us")]);
    assert_eq!(on_record[2].schedules, ["0 6,18 * * *"]);
    assert_eq!(on_record[2].next, Some(utc("03-02T06:00:00")));
    assert_eq!(on_record[1].parameters, json(r#"{"region": "EU"}"#));
    assert!(
        runtime
            .forget_deployment("deployments_named", Some("us"))
            .await?
    );
    assert!(
        !runtime
            .forget_deployment("deployments_named", Some("us"))
            .await?
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_one_deployment_is_refused_by_name() -> Result<()> {
    #[flow(name = "deployments_refused", max_active_runs = 1)]
    fn refused(region: String) -> Node<u32> {
        let _ = region;
        one()
    }
    let flow = |region: &str| refused(region.to_owned());
    let runtime = runtime_at("03-01T00:00:00").await;
    for (serves, expected) in [
        (
            vec![flow("EU").serve("@daily"), flow("US").serve("@hourly")],
            &[
                "different parameters",
                r#"{"region":"EU"} and {"region":"US"}"#,
                ".named(",
            ][..],
        ),
        (
            vec![
                flow("EU").serve("@daily").named("a"),
                flow("US").serve("@hourly").named("a"),
            ],
            &["deployment `a`", "different parameters"],
        ),
        (
            vec![flow("EU").serve("@daily"), flow("EU").serve("@daily")],
            &["`0 0 * * *` is given twice"],
        ),
        (
            vec![
                flow("EU").serve("@daily"),
                flow("EU").serve("@hourly").catchup(true),
            ],
            &["different policies"],
        ),
        (
            vec![flow("EU").serve("@daily").named("")],
            &["at least one character"],
        ),
        (
            vec![flow("EU").serve("@daily").named("a\nb")],
            &["control characters"],
        ),
        (
            vec![flow("EU").serve("@daily").named("n".repeat(251))],
            &["too long", "at most 250 bytes"],
        ),
        (
            vec![flow("EU").serve("@daily").catchup_within("7 days")],
            &["catchup_within", "7 days"],
        ),
        (
            vec![
                flow("EU").serve("@daily").named("a"),
                flow("EU").serve(cron("@daily").times(0)),
            ],
            &["times"],
        ),
    ] {
        let error = runtime.serve(serves).await.unwrap_err().to_string();
        let missing: Vec<_> = expected
            .iter()
            .filter(|text| !error.contains(**text))
            .collect();
        assert!(
            error.contains("deployments_refused") && missing.is_empty(),
            "{error}: {missing:?}"
        );
    }
    assert!(runtime.deployments("deployments_refused").await?.is_empty());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_manual_run_has_the_interval_of_the_deployment_on_record() -> Result<()> {
    #[flow(name = "deployments_by_hand")]
    fn by_hand() -> Node<u32> {
        one()
    }
    #[flow(name = "deployments_by_attribute", schedule = "0 6 * * *")]
    fn by_attribute() -> Node<u32> {
        one()
    }
    let runtime = runtime_at("03-05T09:30:00").await;
    let interval = async |flow: Flow<u32>| flow.on(&runtime).run().await.unwrap().interval();
    let hours = |from: &str, to: &str| Interval {
        start: utc(from),
        end: utc(to),
    };
    // without any schedule it is empty, at the logical date
    let at = runtime.now();
    assert_eq!(interval(by_hand()).await, Interval { start: at, end: at });
    let of_attribute = interval(by_attribute()).await;
    assert_eq!(of_attribute, hours("03-04T06:00:00", "03-05T06:00:00"));
    let serves = || {
        [
            by_hand().serve("0 */2 * * *"),
            by_attribute().serve("0 */12 * * *"),
        ]
    };
    serve_for(Duration::from_secs(1), runtime.serve(serves())).await;
    assert_eq!(
        interval(by_hand()).await,
        hours("03-05T06:00:00", "03-05T08:00:00")
    );
    // what is on record comes before the attribute
    let on_record = interval(by_attribute()).await;
    assert_eq!(on_record, hours("03-04T12:00:00", "03-05T00:00:00"));
    // of a date that is a tick its own, else the last one that was complete
    for (date, from, to) in [
        ("03-04T10:00:00", "03-04T08:00:00", "03-04T10:00:00"),
        ("03-04T10:30:00", "03-04T08:00:00", "03-04T10:00:00"),
        ("03-04T09:59:59", "03-04T06:00:00", "03-04T08:00:00"),
    ] {
        let run = by_hand().logical_date(utc(date));
        assert_eq!(interval(run).await, hours(from, to), "{date}");
        let trigger = runtime.trigger("deployments_by_hand", json("{}"));
        let id = trigger.logical_date(utc(date)).await?;
        let record = runtime.find_run(id).await?.unwrap();
        assert_eq!(record.interval(), hours(from, to), "{date}");
    }
    let given = by_hand().interval(utc("01-01T00:00:00"), utc("01-02T00:00:00"));
    assert_eq!(
        interval(given).await,
        hours("01-01T00:00:00", "01-02T00:00:00")
    );
    let beyond = by_hand()
        .on(&runtime)
        .logical_date(DateTime::<Utc>::MAX_UTC);
    let error = beyond.run().await.unwrap_err().to_string();
    assert!(error.contains("in the years 1 to 9999"), "{error}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_manual_run_names_its_deployment_where_there_are_several() -> Result<()> {
    #[flow(name = "deployments_choice")]
    fn choice(region: String) -> Node<u32> {
        let _ = region;
        one()
    }
    let flow = |region: &str| choice(region.to_owned()).on(&runtime_of());
    fn runtime_of() -> Runtime {
        RUNTIME.with(Clone::clone)
    }
    thread_local! {
        static RUNTIME: Runtime = crate::support::runtime();
    }
    let runtime = runtime_of();
    let start = async |serves: Vec<orchestrator::Serve>| {
        serve_for(Duration::from_secs(1), runtime.serve(serves)).await;
    };
    let unknown = flow("CH")
        .deployment("eu")
        .run()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        unknown.contains("no deployment `eu`") && unknown.contains("none is on record"),
        "{unknown}"
    );
    // the only one on record, with its parameters where none are given
    start(vec![flow("EU").serve("0 6 * * *").named("eu")]).await;
    let run = flow("CH").run().await?;
    assert_eq!(run.deployment(), Some("eu"));
    let id = runtime.trigger("deployments_choice", json("{}")).await?;
    let record = runtime.find_run(id).await?.unwrap();
    assert_eq!(
        (record.deployment(), &record.parameters()["region"]),
        (Some("eu"), &"EU".into())
    );
    // several of them have to be told apart
    start(vec![flow("US").serve("0 7 * * *").named("us")]).await;
    for error in [
        flow("CH").run().await.unwrap_err().to_string(),
        runtime
            .trigger("deployments_choice", json(r#"{"region": "CH"}"#))
            .await
            .unwrap_err()
            .to_string(),
        flow("CH")
            .backfill("@daily", chrono::NaiveDate::MIN..=chrono::NaiveDate::MIN)
            .dry_run()
            .await
            .unwrap_err()
            .to_string(),
    ] {
        let is_beyond = error.contains("in the years");
        assert!(is_beyond || error.contains("`eu`, `us`"), "{error}");
    }
    assert_eq!(
        flow("CH").deployment("us").run().await?.deployment(),
        Some("us")
    );
    let id = runtime
        .trigger("deployments_choice", json("{}"))
        .deployment("us")
        .await?;
    assert_eq!(
        runtime.find_run(id).await?.unwrap().parameters()["region"],
        "US"
    );
    let keyed = || flow("CH").key("one");
    keyed().deployment("us").run().await?;
    let error = keyed()
        .deployment("eu")
        .run()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("the deployment `us`") && error.contains("the deployment `eu`"),
        "{error}"
    );
    // the default one comes first
    start(vec![flow("DE").serve("0 8 * * *")]).await;
    assert_eq!(flow("CH").run().await?.deployment(), None);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn missed_ticks_wait_for_their_turn_whatever_overlap_says() -> Result<()> {
    #[flow(name = "deployments_waits", max_active_runs = 1)]
    fn waits() -> Node<u32> {
        takes(150 * MINUTE)
    }
    for overlap in [Overlap::Skip, Overlap::Latest, Overlap::CancelRunning] {
        let _case = crate::support::case(format!("{overlap:?}"));
        let runtime = in_memory_at("03-01T09:59:58").await;
        let serve = || {
            let serve = waits()
                .on(&runtime)
                .serve(cron("@hourly").end(utc("03-01T13:00:00")));
            serve.catchup(true).overlap(overlap)
        };
        // a run by hand goes on while nothing is served, and then while ticks are made up for
        let by_hand = waits().on(&runtime).start().await?;
        serve_for(Duration::from_secs(1), serve()).await;
        pass(210 * MINUTE).await;
        let running = waits().on(&runtime).start().await?;
        serve_for(DAY, serve()).await;
        let (by_hand, running) = (by_hand.await?.state(), running.await?.state());
        assert_eq!((by_hand, running), (RunState::Success, RunState::Success));
        let runs = RunFilter::new()
            .flow("deployments_waits")
            .kind(RunKind::Scheduled);
        let runs = runtime.find_runs(&runs.oldest_first()).await?;
        let hours: Vec<_> = runs
            .iter()
            .map(|run| (run.logical_date.format("%H").to_string(), run.state))
            .collect();
        let expected = ["10", "11", "12", "13"].map(|hour| (hour.to_owned(), RunState::Success));
        assert_eq!(hours, expected);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn at_most_the_newest_tick_waits_where_the_latest_is_asked_for() -> Result<()> {
    #[flow(name = "deployments_newest", max_active_runs = 1)]
    fn newest() -> Node<u32> {
        takes(70 * MINUTE + Duration::from_secs(10))
    }
    let runtime = runtime_at("03-01T09:59:00").await;
    let serve = newest()
        .on(&runtime)
        .serve("* * * * *")
        .overlap(Overlap::Latest);
    while_serving(serve, async {
        // between the ticks: at one, the run before is cancelled when the new one is there
        pass(MINUTE / 2).await;
        for _ in 0..360 {
            pass(MINUTE).await;
            let waiting = RunFilter::new()
                .flow("deployments_newest")
                .state(RunState::Pending);
            assert!(runtime.find_runs(&waiting).await.unwrap().len() <= 1);
        }
    })
    .await;
    let done = RunFilter::new()
        .flow("deployments_newest")
        .state(RunState::Success);
    let runs = runtime.find_runs(&done.oldest_first()).await?;
    let dates: Vec<_> = runs
        .iter()
        .map(|run| run.logical_date.format("%H:%M").to_string())
        .collect();
    assert_eq!(dates, ["10:00", "11:10", "12:20", "13:30", "14:40"]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_is_noticed_within_a_minute_is_on_time_after_a_restart() -> Result<()> {
    #[flow(name = "deployments_on_time")]
    fn on_time() -> Node<u32> {
        one()
    }
    for (down_for, expected) in [(3, 1), (59, 1), (61, 0)] {
        let runtime = runtime_at("03-01T09:00:00").await;
        let serve = || on_time().on(&runtime).serve("@hourly").missed(Missed::None);
        serve_for(HOUR - Duration::from_secs(1), serve()).await;
        pass(Duration::from_secs(1 + down_for)).await;
        serve_for(MINUTE, serve()).await;
        let ticks = ticks(&runtime, "deployments_on_time").await;
        assert_eq!(ticks.len(), expected, "down for {down_for} s");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_pause_may_choose_what_is_made_up_for() -> Result<()> {
    #[flow(name = "deployments_unpaused")]
    fn unpaused() -> Node<u32> {
        one()
    }
    for (choice, expected) in [
        (None, &["10", "13", "14"][..]),
        (Some(Missed::None), &["10", "14"]),
        (Some(Missed::Latest), &["10", "13", "14"]),
        (Some(Missed::All), &["10", "11", "12", "13", "14"]),
        (Some(Missed::AtMost(2)), &["10", "12", "13", "14"]),
    ] {
        let _case = crate::support::case(format!("{choice:?}"));
        let runtime = runtime_at("03-01T09:30:00").await;
        let act = async {
            pass(HOUR).await;
            assert!(runtime.pause("deployments_unpaused").await.unwrap());
            pass(3 * HOUR).await;
            let unpause = runtime.unpause("deployments_unpaused");
            let changed = match choice {
                Some(missed) => unpause.missed(missed).await,
                None => unpause.await,
            };
            assert!(changed.unwrap());
            pass(HOUR).await;
        };
        while_serving(unpaused().on(&runtime).serve("@hourly"), act).await;
        let ticks = ticks(&runtime, "deployments_unpaused").await;
        let hours: Vec<_> = ticks.iter().map(|tick| &tick[3..5]).collect();
        assert_eq!(hours, expected);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn holidays_numbers_of_ticks_and_jitter_are_served() -> Result<()> {
    #[flow(name = "deployments_options")]
    fn options() -> Node<u32> {
        one()
    }
    let served = async |schedule: Schedule, days: u32| {
        let runtime = in_memory_at("03-01T00:00:00").await;
        let serve = || options().on(&runtime).serve(schedule.clone()).catchup(true);
        // in two lives: what is counted goes on
        serve_for(days * DAY / 2, serve()).await;
        serve_for(days * DAY / 2, serve()).await;
        let filter = RunFilter::new().flow("deployments_options").oldest_first();
        runtime.find_runs(&filter).await.unwrap()
    };
    let days = |runs: &[RunSummary]| -> Vec<u32> {
        runs.iter()
            .map(|run| chrono::Datelike::day(&run.logical_date))
            .collect()
    };
    let holiday = chrono::NaiveDate::from_ymd_opt(2026, 3, 3).unwrap();
    let runs = served(cron("0 6 * * *").except(holiday).except("* * 5 * *"), 6).await;
    assert_eq!(days(&runs), [1, 2, 4, 6]);
    assert_eq!(runs[2].interval.start, utc("03-02T06:00:00"));
    assert_eq!(
        days(&served(cron("0 6 * * *").times(3), 8).await),
        [1, 2, 3]
    );
    let runs = served(cron("0 6 * * *").jitter("30m"), 8).await;
    assert_eq!(days(&runs), [1, 2, 3, 4, 5, 6, 7, 8]);
    let delays: Vec<_> = runs
        .iter()
        .map(|run| run.created_at - run.logical_date)
        .collect();
    assert!(
        delays.iter().all(|delay| *delay <= TimeDelta::minutes(30)),
        "{delays:?}"
    );
    assert!(
        delays.iter().any(|delay| *delay > TimeDelta::minutes(5)),
        "{delays:?}"
    );
    let again = served(cron("0 6 * * *").jitter("30m"), 8).await;
    let again: Vec<_> = again
        .iter()
        .map(|run| run.created_at - run.logical_date)
        .collect();
    assert_eq!(delays, again);
    Ok(())
}

/// A timetable that answers as it is told.
struct Odd(&'static str);

impl Timetable for Odd {
    fn identity(&self) -> String {
        format!("odd: {}", self.0)
    }

    fn after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let noon = utc("03-01T12:00:00");
        match self.0 {
            "stands still" => Some(instant),
            "panics" => panic!("no day after this one"),
            "stops later" if instant < noon => Some(noon),
            "stops later" => Some(noon),
            _ => None,
        }
    }

    fn before(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Some(instant - TimeDelta::hours(1))
    }
}

#[tokio::test(start_paused = true)]
async fn a_timetable_that_does_not_advance_ends_by_name() -> Result<()> {
    #[flow(name = "deployments_odd")]
    fn odd() -> Node<u32> {
        one()
    }
    for (kind, expected) in [
        ("stands still", "odd: stands still"),
        ("panics", "no day after this one"),
    ] {
        let runtime = runtime_at("03-01T00:00:00").await;
        let serve = odd().on(&runtime).serve(Schedule::custom(Odd(kind)));
        let error = serve.await.unwrap_err().to_string();
        assert!(
            error.contains("deployments_odd") && error.contains(expected),
            "{error}"
        );
    }
    // one that ends later keeps no other from its ticks
    let runtime = runtime_at("03-01T00:00:00").await;
    let serve = odd()
        .on(&runtime)
        .serve(Schedule::custom(Odd("stops later")));
    serve_for(DAY, serve.schedule("0 6,18 * * *")).await;
    let dates = ticks(&runtime, "deployments_odd").await;
    assert_eq!(
        dates,
        ["01 06:00:00", "01 12:00:00", "01 18:00:00", "02 00:00:00"][..3]
    );
    Ok(())
}

/// Each hour, by its own rule.
struct Hours;

impl Timetable for Hours {
    fn identity(&self) -> String {
        "hours of deployments".to_owned()
    }

    fn after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        cron("@hourly").next(instant)
    }

    fn before(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        cron("@hourly").previous(instant)
    }
}

#[tokio::test(start_paused = true)]
async fn a_manual_run_has_the_interval_of_a_timetable() -> Result<()> {
    #[flow(name = "deployments_timetable")]
    fn timetable() -> Node<u32> {
        one()
    }
    let runtime = runtime_at("03-01T09:30:00").await;
    let by_hand = || timetable().on(&runtime).run();
    let serve = timetable()
        .on(&runtime)
        .serve(Schedule::custom(Hours))
        .into_future();
    let expected = Interval {
        start: utc("03-01T08:00:00"),
        end: utc("03-01T09:00:00"),
    };
    let act = async {
        pass(MINUTE).await;
        assert_eq!(by_hand().await.unwrap().interval(), expected);
        let on_record = runtime.deployments("deployments_timetable").await.unwrap();
        assert_eq!(on_record[0].next, Some(utc("03-01T10:00:00")));
    };
    while_serving(serve, act).await;
    // a process without the timetable says what to do
    pass(MINUTE).await;
    let unknown = by_hand().await.unwrap_err().to_string();
    assert!(
        unknown.contains("hours of deployments") && unknown.contains(".interval("),
        "{unknown}"
    );
    let given = timetable()
        .on(&runtime)
        .interval(expected.start, expected.end);
    assert_eq!(given.run().await?.interval(), expected);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_a_dropped_serve_leaves_in_memory_is_cancelled_and_says_why() -> Result<()> {
    #[flow(name = "deployments_dropped")]
    fn dropped() -> Node<u32> {
        takes(DAY)
    }
    let runtime = in_memory_at("03-01T09:59:59").await;
    serve_for(MINUTE, dropped().on(&runtime).serve("@hourly")).await;
    pass(HOUR).await;
    let runs = RunFilter::new().flow("deployments_dropped");
    let run = &runtime.find_runs(&runs).await?[0];
    let why = run.error.as_deref().unwrap_or_default();
    assert_eq!(run.state, RunState::Cancelled);
    assert!(
        why.contains("a store in memory keeps no run for later"),
        "{why}"
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn catching_up_of_one_deployment_delays_no_other() -> Result<()> {
    #[flow(name = "deployments_apart", max_active_runs = 3)]
    fn apart(minutes: u32) -> Node<u32> {
        takes(minutes * MINUTE)
    }
    let runtime = runtime_at("03-01T00:00:00").await;
    let serve = || {
        runtime.serve([
            apart(20).serve("@hourly").named("slow").catchup(true),
            apart(0).serve("* * * * *").named("fast"),
        ])
    };
    serve_for(MINUTE, serve()).await;
    pass(DAY).await;
    serve_for(30 * MINUTE, serve()).await;
    let fast = RunFilter::new()
        .flow("deployments_apart")
        .deployment("fast");
    let runs = runtime
        .find_runs(&fast.since(utc("03-02T00:02:00")))
        .await?;
    assert!(runs.len() >= 29, "{}", runs.len());
    for run in &runs {
        assert!(
            run.created_at - run.logical_date < TimeDelta::seconds(1),
            "{run:?}"
        );
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn in_force_is_what_began_to_be_served_last() -> Result<()> {
    #[flow(name = "deployments_rolling")]
    fn rolling(build: u32) -> Node<u32> {
        let _ = build;
        one()
    }
    let runtime = runtime_at("03-01T00:30:00").await;
    let warnings = Warnings::default();
    let _here =
        tracing::subscriber::set_default(tracing_subscriber::registry().with(warnings.clone()));
    let serve = |build: u32, schedule: &str| {
        let serve = rolling(build).on(&runtime).serve(schedule);
        serve.catchup(true).into_future()
    };
    // an old process goes on while new ones come, and one of the old ones once more
    let old = tokio::spawn(serve(1, "@hourly"));
    pass(2 * HOUR).await;
    let new = tokio::spawn(serve(2, "*/30 * * * *"));
    pass(2 * HOUR - MINUTE).await;
    let parameters = async || {
        let filter = RunFilter::new().flow("deployments_rolling").oldest_first();
        let runs = runtime.find_runs(&filter).await.unwrap();
        let row = |run: &RunSummary| {
            let date = run.logical_date.format("%H:%M").to_string();
            (date, run.parameters["build"].as_u64().unwrap())
        };
        runs.iter().map(row).collect::<Vec<_>>()
    };
    let expected = |ticks: &[(&str, u64)]| -> Vec<(String, u64)> {
        ticks
            .iter()
            .map(|(date, build)| ((*date).to_owned(), *build))
            .collect()
    };
    let until_now = [
        ("01:00", 1),
        ("02:00", 1),
        ("03:00", 2),
        ("03:30", 2),
        ("04:00", 2),
    ];
    assert_eq!(parameters().await, expected(&until_now));
    let superseded = warnings.0.lock().unwrap().clone();
    assert_eq!(superseded.len(), 1, "said once: {superseded:?}");
    assert!(superseded[0].contains("deployment superseded"));
    // what is in force again is served by the old process, too, but not before
    pass(MINUTE).await;
    new.abort();
    let again = tokio::spawn(serve(1, "@hourly"));
    pass(MINUTE).await;
    again.abort();
    pass(2 * HOUR).await;
    let mut all = until_now.to_vec();
    all.extend([("04:30", 2), ("05:00", 1), ("06:00", 1)]);
    assert_eq!(parameters().await, expected(&all));
    old.abort();
    Ok(())
}

/// What is served, or not, for some minutes, and what becomes of its ticks: the model.
#[derive(Clone, Debug)]
struct Stretch {
    /// The index of the schedules; `None` if nothing is served.
    served: Option<usize>,
    minutes: i64,
}

#[tokio::test(start_paused = true)]
async fn edits_lose_no_tick_and_invent_none() -> Result<()> {
    #[flow(name = "deployments_random")]
    fn random(build: u32) -> Node<u32> {
        let _ = build;
        one()
    }
    const CRONS: [&[&str]; 5] = [
        &["0 * * * *"],
        &["*/20 * * * *"],
        &["0 6 * * *", "0 18 * * *"],
        &["30 */3 * * *"],
        &["10 * * * *", "*/30 * * * *"],
    ];
    let usual = if crate::support::is_durable() {
        20
    } else {
        300
    };
    let sequences =
        std::env::var("ORCHESTRATOR_EDITS").map_or(usual, |count| count.parse().unwrap());
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: u64| {
        // xorshift, from a fixed seed
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % below
    };
    let mut runtime = runtime_at("03-01T00:00:30").await;
    for sequence in 0..sequences {
        if sequence % 50 == 0 {
            runtime = runtime_at("03-01T00:00:30").await;
        }
        let name = format!("n{sequence}");
        let stretches: Vec<Stretch> = (0..2 + next(6))
            .map(|_| {
                let kind = usize::try_from(next(7)).unwrap();
                Stretch {
                    served: (kind < CRONS.len()).then_some(kind),
                    minutes: i64::try_from(1 + next(300)).unwrap(),
                }
            })
            .collect();
        // the last one settles what is left
        let last = stretches.iter().rev().find_map(|stretch| stretch.served);
        let stretches = stretches.into_iter().chain([Stretch {
            served: Some(last.unwrap_or(0)),
            minutes: 1,
        }]);
        let (mut in_force, mut expected): (Option<(usize, DateTime<Utc>)>, Vec<_>) =
            (None, Vec::new());
        let ticks_of = |kind: usize, after: DateTime<Utc>, until: DateTime<Utc>| {
            let each = CRONS[kind].iter().flat_map(|text| {
                cron(text)
                    .after(after)
                    .take_while(|tick| *tick <= until)
                    .collect::<Vec<_>>()
            });
            let mut ticks: Vec<_> = each.map(|tick| (tick, kind as u64)).collect();
            ticks.sort();
            ticks.dedup();
            ticks
        };
        for Stretch { served, minutes } in stretches {
            let now = runtime.now();
            let time = Duration::from_secs(u64::try_from(minutes).unwrap() * 60);
            let Some(kind) = served else {
                pass(time).await;
                continue;
            };
            // what was in force until now is due; after that what is served now is
            if let Some((before, since)) = in_force.replace((kind, now)) {
                expected.extend(ticks_of(before, since, now));
            }
            let [first, rest @ ..] = CRONS[kind] else {
                unreachable!()
            };
            let build = u32::try_from(kind).unwrap();
            let serve = random(build).on(&runtime).serve(*first).named(&*name);
            let serve = rest.iter().fold(serve, |serve, cron| serve.schedule(*cron));
            serve_for(time, serve.catchup(true)).await;
        }
        let (kind, since) = in_force.unwrap();
        expected.extend(ticks_of(kind, since, runtime.now()));
        let filter = RunFilter::new()
            .flow("deployments_random")
            .deployment(&*name);
        let runs = runtime.find_runs(&filter).await?;
        let mut made: Vec<_> = runs
            .iter()
            .map(|run| (run.logical_date, run.parameters["build"].as_u64().unwrap()))
            .collect();
        made.sort();
        expected.sort();
        assert_eq!(made, expected, "sequence {sequence}");
    }
    Ok(())
}
