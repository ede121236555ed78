//! Schedules that are served: ticks, missed runs, overlap, pauses, and what other processes ask.

mod bounds;
mod changes;
mod clock;
mod deployments;
mod past;
mod processes;

use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use orchestrator::prelude::*;
use orchestrator::{Clock, Missed, Overlap, RunFilter, RunKind, RunSummary};
use tokio::time::timeout;
use tracing::field::Field;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{self, Layer, SubscriberExt as _};

use crate::support::{open, serve_for, while_serving};

const HOUR: Duration = Duration::from_secs(3600);

fn utc(text: &str) -> DateTime<Utc> {
    format!("2026-{text}Z").parse().expect(text)
}

/// A runtime on the store of these tests, whose clock stands at this instant.
async fn runtime_at(text: &str) -> Runtime {
    crate::support::builder()
        .clock(Clock::tokio(utc(text)))
        .build()
        .await
        .unwrap()
}

async fn ticks(runtime: &Runtime, flow: &str) -> Vec<String> {
    let runs = runtime
        .find_runs(&RunFilter::new().flow(flow).oldest_first())
        .await
        .unwrap();
    runs.iter()
        .map(|run| run.logical_date.format("%d %H:%M:%S").to_string())
        .collect()
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

#[task]
async fn one() -> u32 {
    1
}

#[task]
async fn takes(time: Duration) -> u32 {
    tokio::time::sleep(time).await;
    1
}

#[tokio::test(start_paused = true)]
async fn each_tick_has_a_run_with_its_date_and_interval() -> Result<()> {
    #[flow(name = "serving_each")]
    fn each() -> Node<u32> {
        one()
    }
    let runtime = runtime_at("03-01T10:20:00").await;
    serve_for(2 * HOUR, each().on(&runtime).serve("*/30 * * * *")).await;
    let runs = runtime
        .find_runs(&RunFilter::new().flow("serving_each").oldest_first())
        .await?;
    let dates: Vec<_> = runs.iter().map(|run| run.logical_date).collect();
    let expected = [
        "03-01T10:30:00",
        "03-01T11:00:00",
        "03-01T11:30:00",
        "03-01T12:00:00",
    ]
    .map(utc);
    assert_eq!(dates, expected);
    for run in &runs {
        assert_eq!(
            (run.kind, run.state),
            (RunKind::Scheduled, RunState::Success),
            "{run:?}"
        );
        assert_eq!(
            (run.interval.start, run.interval.end),
            (run.logical_date - TimeDelta::minutes(30), run.logical_date)
        );
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn missed_ticks_go_by_policy() -> Result<()> {
    #[flow(name = "serving_latest")]
    fn latest() -> Node<u32> {
        one()
    }
    #[flow(name = "serving_all", missed = "all", schedule = "@hourly")]
    fn all() -> Node<u32> {
        one()
    }
    #[flow(name = "serving_none")]
    fn none() -> Node<u32> {
        one()
    }
    let runtime = runtime_at("03-01T09:30:00").await;
    let serve = || {
        runtime.serve([
            latest().on(&runtime).serve("@hourly"),
            all().scheduled(),
            none().serve("@hourly").missed(Missed::None),
        ])
    };
    serve_for(HOUR, serve()).await;
    for flow in ["serving_latest", "serving_all", "serving_none"] {
        assert_eq!(ticks(&runtime, flow).await, ["01 10:00:00"], "{flow}");
    }
    pass(3 * HOUR).await;
    serve_for(Duration::from_secs(600), serve()).await;
    assert_eq!(
        ticks(&runtime, "serving_latest").await,
        ["01 10:00:00", "01 13:00:00"]
    );
    assert_eq!(
        ticks(&runtime, "serving_all").await,
        ["01 10:00:00", "01 11:00:00", "01 12:00:00", "01 13:00:00"]
    );
    assert_eq!(ticks(&runtime, "serving_none").await, ["01 10:00:00"]);
    // once more, and there is nothing left to make up for
    serve_for(Duration::from_secs(600), serve()).await;
    assert_eq!(ticks(&runtime, "serving_all").await.len(), 4);
    assert_eq!(ticks(&runtime, "serving_latest").await.len(), 2);
    Ok(())
}

/// What is warned of and belongs to no run.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
        let (mut message, mut ticks) = (String::new(), String::new());
        event.record(&mut |field: &Field, value: &dyn Debug| match field.name() {
            "message" => message = format!("{value:?}"),
            name @ ("ticks" | "first" | "last") => ticks += &format!(" {name}={value:?}"),
            _ => {}
        });
        message += &ticks;
        if *event.metadata().level() == Level::WARN {
            self.0.lock().unwrap().push(message);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn missed_ticks_that_get_no_run_are_warned_of() -> Result<()> {
    #[flow(name = "serving_warned")]
    fn warned() -> Node<u32> {
        one()
    }
    let warnings = Warnings::default();
    let _here =
        tracing::subscriber::set_default(tracing_subscriber::registry().with(warnings.clone()));
    let latest = "missed ticks skipped: only the latest missed tick gets a run; `catchup(true)` runs all of them ticks=2 \
                  first=2026-03-01T11:00:00Z last=2026-03-01T12:00:00Z";
    let none = "missed ticks skipped: missed ticks get no run ticks=3 first=2026-03-01T11:00:00Z \
                last=2026-03-01T13:00:00Z";
    for (missed, expected) in [
        (Missed::Latest, &[latest][..]),
        (Missed::None, &[none]),
        (Missed::All, &[]),
    ] {
        let runtime = runtime_at("03-01T09:30:00").await;
        let serve = || warned().on(&runtime).serve("@hourly").missed(missed);
        serve_for(HOUR, serve()).await;
        pass(3 * HOUR).await;
        serve_for(Duration::from_secs(600), serve()).await;
        assert_eq!(
            std::mem::take(&mut *warnings.0.lock().unwrap()),
            expected,
            "{missed:?}"
        );
    }
    // of a year of seconds they are not all counted
    let runtime = runtime_at("03-01T09:30:00").await;
    let serve = || {
        warned()
            .on(&runtime)
            .serve("* * * * * *")
            .missed(Missed::None)
    };
    let moment = Duration::from_millis(1500);
    serve_for(moment, serve()).await;
    pass(365 * 24 * HOUR).await;
    serve_for(moment, serve()).await;
    let warned = warnings.0.lock().unwrap()[0].clone();
    assert!(
        warned.ends_with(
            " ticks=more than 10000 first=2026-03-01T09:30:02Z last=2027-03-01T09:29:01Z"
        ),
        "{warned}"
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn catch_up_has_at_most_sixteen_runs_at_once() -> Result<()> {
    static UNDER_WAY: AtomicU32 = AtomicU32::new(0);
    static MOST: AtomicU32 = AtomicU32::new(0);
    #[task]
    async fn counted() -> u32 {
        let now = UNDER_WAY.fetch_add(1, SeqCst) + 1;
        MOST.fetch_max(now, SeqCst);
        tokio::time::sleep(Duration::from_secs(10)).await;
        UNDER_WAY.fetch_sub(1, SeqCst);
        now
    }
    #[flow(name = "serving_made_up")]
    fn made_up() -> Node<u32> {
        counted()
    }
    let runtime = runtime_at("03-01T09:30:00").await;
    let serve = || made_up().on(&runtime).serve("* * * * *").catchup(true);
    serve_for(Duration::from_secs(30), serve()).await;
    pass(HOUR).await;
    serve_for(Duration::from_secs(55), serve()).await;
    assert_eq!(ticks(&runtime, "serving_made_up").await.len(), 61);
    assert_eq!(MOST.load(SeqCst), 16);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn deployments_of_a_flow_have_parameters_of_their_own() -> Result<()> {
    #[flow(name = "serving_regions")]
    fn regions(region: String, rows: Option<u32>) -> Node<u32> {
        let _ = (region, rows);
        one()
    }
    let runtime = runtime_at("03-01T09:59:00").await;
    let eu = Schedule::cron("15 * * * *")?.parameters(serde_json::from_value(
        serde_json::json!({"region": "EU", "rows": 5}),
    )?);
    let us = || {
        regions("US".to_owned(), None)
            .on(&runtime)
            .serve("0 * * * *")
    };
    let refused = us().schedule(eu.clone()).await.unwrap_err().to_string();
    assert!(
        refused.contains("serving_regions") && refused.contains(".named("),
        "{refused}"
    );
    let eu = regions("US".to_owned(), None).on(&runtime).serve(eu);
    serve_for(HOUR, runtime.serve([us(), eu.named("eu")])).await;
    let runs = runtime
        .find_runs(&RunFilter::new().flow("serving_regions").oldest_first())
        .await?;
    let parameters =
        |run: &RunSummary| serde_json::Value::Object(run.parameters.clone()).to_string();
    let parameters: Vec<_> = runs.iter().map(parameters).collect();
    assert_eq!(
        parameters,
        [
            r#"{"region":"US","rows":null}"#,
            r#"{"region":"EU","rows":5}"#
        ]
    );
    // what does not fit is said before anything is served
    let wrong = Schedule::once(utc("04-01T00:00:00"))
        .parameters(serde_json::from_str(r#"{"rows": "five"}"#)?);
    let refused = regions("US".to_owned(), None)
        .on(&runtime)
        .serve(wrong)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("`rows: Option < u32 >`") || refused.contains("`rows: Option<u32>`"),
        "{refused}"
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn invalid_flows_are_refused_by_name_when_served() -> Result<()> {
    struct Database;
    #[task]
    async fn stored(#[resource] database: &Database) -> u32 {
        let _ = database;
        1
    }
    #[flow(name = "serving_refused")]
    fn refused() -> Node<u32> {
        stored()
    }
    #[flow(name = "serving_plain")]
    fn plain() -> Node<u32> {
        one()
    }
    let runtime = crate::support::runtime();
    let error =
        async |serve: orchestrator::Serve| runtime.serve([serve]).await.unwrap_err().to_string();
    let missing = error(refused().serve("@daily")).await;
    assert!(
        missing.contains("takes the resource `database: &Database`"),
        "{missing}"
    );
    assert_eq!(
        error(plain().serve("0 25 * * *")).await,
        "invalid schedule of flow `serving_plain`: hour: expected 0 to 23, got `25` in `0 25 * * *`"
    );
    assert!(
        error(plain().serve(Schedule::every(Duration::ZERO)))
            .await
            .contains("expected a period greater than zero")
    );
    assert!(error(plain().scheduled()).await.contains("there is none"));
    assert!(
        error(plain().serve("@daily").schedule("@daily"))
            .await
            .contains("is given twice")
    );
    assert!(
        error(plain().key("k").serve("@daily"))
            .await
            .contains("`.key(…)` applies to a single run")
    );
    assert!(
        error(plain().on(&Runtime::in_memory()).serve("@daily"))
            .await
            .contains("another runtime")
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn overlapping_runs_wait_are_skipped_or_replace_the_oldest() -> Result<()> {
    #[flow(name = "serving_queue", max_active_runs = 1)]
    fn queue() -> Node<u32> {
        takes(Duration::from_secs(100 * 60))
    }
    #[flow(name = "serving_skip", max_active_runs = 1, overlap = "skip")]
    fn skip() -> Node<u32> {
        takes(Duration::from_secs(100 * 60))
    }
    #[flow(name = "serving_cancel", max_active_runs = 1)]
    fn cancel() -> Node<u32> {
        takes(Duration::from_secs(100 * 60))
    }
    let runtime = runtime_at("03-01T09:30:00").await;
    let serve = runtime.serve([
        queue().serve("@hourly"),
        skip().serve("@hourly"),
        cancel().serve("@hourly").overlap(Overlap::CancelRunning),
    ]);
    let looked = async {
        // at 12:29, two ticks after the first
        pass(3 * HOUR - Duration::from_secs(60)).await;
        let states = async |flow: &str| {
            let runs = runtime
                .find_runs(&RunFilter::new().flow(flow).oldest_first())
                .await
                .unwrap();
            runs.iter()
                .map(|run| format!("{} {}", run.logical_date.format("%H"), run.state))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            states("serving_queue").await,
            ["10 success", "11 running", "12 pending"]
        );
        assert_eq!(states("serving_skip").await, ["10 success", "12 running"]);
        assert_eq!(
            states("serving_cancel").await,
            ["10 cancelled", "11 cancelled", "12 running"]
        );
    };
    while_serving(serve, looked).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_pause_holds_ticks_back_and_they_were_missed_when_it_ends() -> Result<()> {
    #[flow(name = "serving_paused")]
    fn paused() -> Node<u32> {
        one()
    }
    #[flow(name = "serving_paused_all")]
    fn paused_all() -> Node<u32> {
        one()
    }
    let runtime = runtime_at("03-01T09:30:00").await;
    let serve = runtime.serve([
        paused().serve("@hourly"),
        paused_all().serve("@hourly").catchup(true),
    ]);
    let act = async {
        pass(HOUR).await;
        assert!(runtime.pause("serving_paused").await.unwrap());
        assert!(runtime.pause("serving_paused_all").await.unwrap());
        assert!(!runtime.pause("serving_paused").await.unwrap());
        assert_eq!(runtime.paused().await.unwrap().len(), 2);
        pass(3 * HOUR).await;
        assert_eq!(ticks(&runtime, "serving_paused").await, ["01 10:00:00"]);
        // by hand it runs as ever
        paused().on(&runtime).run().await.unwrap();
        assert!(runtime.unpause("serving_paused").await.unwrap());
        assert!(runtime.unpause("serving_paused_all").await.unwrap());
        pass(Duration::from_secs(5)).await;
        assert_eq!(
            ticks(&runtime, "serving_paused").await,
            ["01 10:00:00", "01 13:30:00", "01 13:00:00"]
        );
        let all = ["01 10:00:00", "01 11:00:00", "01 12:00:00", "01 13:00:00"];
        assert_eq!(ticks(&runtime, "serving_paused_all").await, all);
        pass(HOUR).await;
        assert_eq!(ticks(&runtime, "serving_paused_all").await.len(), 5);
        assert_eq!(ticks(&runtime, "serving_paused").await.len(), 4);
    };
    while_serving(serve, act).await;
    let unknown = runtime
        .pause("serving_pausd")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        unknown.contains("no flow `serving_pausd`") && unknown.contains("`serving_paused`"),
        "{unknown}"
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn triggered_run_is_executed_by_the_serving_process() -> Result<()> {
    #[flow(name = "serving_triggered")]
    fn triggered(n: u32) -> Node<u32> {
        let _ = n;
        one()
    }
    let runtime = runtime_at("03-01T09:30:00").await;
    let id = triggered(7).on(&runtime).trigger().await?;
    let record = async || runtime.find_run(id).await.unwrap().unwrap();
    if crate::support::is_durable() {
        pass(HOUR).await;
        assert_eq!(record().await.state(), RunState::Pending);
    }
    serve_for(
        Duration::from_secs(5),
        triggered(1).on(&runtime).serve("@yearly"),
    )
    .await;
    let run = record().await;
    assert_eq!(
        (run.state(), run.kind()),
        (RunState::Success, RunKind::Manual)
    );
    assert_eq!(run.parameters()["n"], 7);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_served_run_is_cancelled_by_its_id() -> Result<()> {
    #[flow(name = "serving_cancelled")]
    fn cancelled() -> Node<u32> {
        takes(24 * HOUR)
    }
    let runtime = runtime_at("03-01T09:30:00").await;
    let act = async {
        pass(HOUR).await;
        let run = &runtime
            .find_runs(&RunFilter::new().flow("serving_cancelled"))
            .await
            .unwrap()[0];
        assert!(runtime.cancel(run.id).await.unwrap());
        pass(Duration::from_secs(5)).await;
        assert_eq!(
            runtime.find_run(run.id).await.unwrap().unwrap().state(),
            RunState::Cancelled
        );
        assert!(!runtime.cancel(run.id).await.unwrap());
    };
    while_serving(cancelled().on(&runtime).serve("@hourly"), act).await;
    let unknown = "01936f5e-8c00-7000-8000-000000000000".parse()?;
    assert!(
        runtime
            .cancel(unknown)
            .await
            .unwrap_err()
            .to_string()
            .contains("there is no run 01936f5e")
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn one_flows_error_delays_no_other() -> Result<()> {
    #[flow(name = "serving_panics")]
    fn panics(#[context] context: &Context) -> Node<u32> {
        assert!(
            context.logical_date() < utc("03-01T09:35:00"),
            "not on this day"
        );
        one()
    }
    #[flow(name = "serving_well")]
    fn well() -> Node<u32> {
        one()
    }
    #[flow(name = "serving_refused_later")]
    fn refused_later(#[context] context: &Context) -> Node<u32> {
        let first = one();
        if context.logical_date() > utc("03-01T09:41:00") {
            let second = one().after(&first);
            first.clone().after(&second);
        }
        first
    }
    let runtime = runtime_at("03-01T09:30:00").await;
    let serve = runtime.serve([
        panics().serve("*/2 * * * *"),
        well().serve("*/2 * * * *"),
        refused_later().serve("*/2 * * * *"),
    ]);
    serve_for(Duration::from_secs(20 * 60 + 30), serve).await;
    assert_eq!(ticks(&runtime, "serving_well").await.len(), 10);
    let runs = runtime
        .find_runs(
            &RunFilter::new()
                .flow("serving_panics")
                .state(RunState::Failed),
        )
        .await?;
    assert_eq!(runs.len(), 8);
    assert!(
        runs[0].error.as_ref().unwrap().contains("not on this day"),
        "{runs:?}"
    );
    // the run of a tick that could not start says why
    let runs = runtime
        .find_runs(
            &RunFilter::new()
                .flow("serving_refused_later")
                .state(RunState::Failed),
        )
        .await?;
    assert_eq!(runs.len(), 5);
    assert!(
        runs[0].error.as_ref().unwrap().contains("waits for itself"),
        "{runs:?}"
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn dropping_the_server_drains_its_runs_and_nothing_else() -> Result<()> {
    #[flow(name = "serving_dropped")]
    fn dropped() -> Node<u32> {
        takes(Duration::from_secs(20))
    }
    #[flow(name = "serving_outlives")]
    fn outlives() -> Node<u32> {
        takes(HOUR)
    }
    let runtime = runtime_at("03-01T09:59:50").await;
    let other = outlives().on(&runtime).start().await?;
    serve_for(
        Duration::from_secs(20),
        dropped().on(&runtime).serve("@hourly"),
    )
    .await;
    assert_eq!(
        runtime.runs("serving_dropped").await?[0].state(),
        RunState::Running
    );
    pass(Duration::from_secs(15)).await;
    assert_eq!(
        runtime.runs("serving_dropped").await?[0].state(),
        RunState::Success
    );
    assert_eq!(other.await?.state(), RunState::Success);
    // and the runtime is as usable as before
    assert_eq!(
        dropped().on(&runtime).run().await?.state(),
        RunState::Success
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_the_runtime_ends_what_serves() -> Result<()> {
    #[flow(name = "serving_stopped")]
    fn stopped() -> Node<u32> {
        takes(Duration::from_secs(20))
    }
    let runtime = runtime_at("03-01T09:59:50").await;
    let serving = tokio::spawn(stopped().on(&runtime).serve("@hourly").into_future());
    pass(Duration::from_secs(15)).await;
    assert_eq!(runtime.stop().await.left, []);
    assert_eq!(serving.await??.left, []);
    assert_eq!(
        runtime.runs("serving_stopped").await?[0].state(),
        RunState::Success
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_run_by_hand_is_for_the_last_interval_of_its_flows_schedule() -> Result<()> {
    #[task]
    async fn span(start: DateTime<Utc>, end: DateTime<Utc>) -> String {
        format!("{} to {}", start.format("%d %H:%M"), end.format("%d %H:%M"))
    }
    #[flow(
        name = "serving_by_hand",
        schedule = "0 6 * * *",
        timezone = "Europe/Zurich"
    )]
    fn by_hand(#[context] context: &Context) -> Node<String> {
        span(context.interval().start, context.interval().end)
    }
    let runtime = runtime_at("03-05T12:00:00").await;
    assert_eq!(by_hand().on(&runtime).await?, "04 05:00 to 05 05:00");
    let dated = by_hand().logical_date(utc("03-01T04:59:00")).on(&runtime);
    assert_eq!(dated.await?, "27 05:00 to 28 05:00");
    let given = by_hand()
        .interval(utc("01-01T00:00:00"), utc("01-02T00:00:00"))
        .on(&runtime);
    assert_eq!(given.await?, "01 00:00 to 02 00:00");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_simulated_runtime_refuses_what_does_not_come_back_equal() -> Result<()> {
    #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Lossy {
        kept: u32,
        #[serde(skip)]
        lost: u32,
    }
    #[task]
    async fn lossy(lost: u32) -> Lossy {
        Lossy { kept: 1, lost }
    }
    type Nested = Option<Option<u32>>;
    #[task]
    async fn nested() -> Nested {
        Some(None)
    }
    #[task]
    async fn measured() -> Vec<f64> {
        vec![f64::NAN, 1.0]
    }
    #[flow(name = "simulated_lossy")]
    fn loses(lost: u32) -> Node<Lossy> {
        lossy(lost)
    }
    #[flow(name = "simulated_nested")]
    fn nests() -> Node<Nested> {
        nested()
    }
    #[flow(name = "simulated_measured")]
    fn measures() -> Node<Vec<f64>> {
        measured()
    }
    let runtime = Runtime::simulated(utc("03-01T00:00:00"));
    assert_eq!(loses(0).on(&runtime).await?.kept, 1);
    let error = loses(5).on(&runtime).await.unwrap_err().to_string();
    assert!(
        error.contains("`Lossy`") && error.contains("a different value"),
        "{error}"
    );
    let error = nests().on(&runtime).await.unwrap_err().to_string();
    assert!(error.contains("`Option<Option<u32>>`"), "{error}");
    assert!(measures().on(&runtime).await?[0].is_nan());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_tick_of_a_paused_flow_cancels_nothing() -> Result<()> {
    #[flow(
        name = "serving_paused_cancel",
        max_active_runs = 1,
        overlap = "cancel_running"
    )]
    fn cancels() -> Node<u32> {
        takes(Duration::from_secs(100 * 60))
    }
    let runtime = runtime_at("03-01T09:30:00").await;
    let act = async {
        pass(HOUR).await;
        assert!(runtime.pause("serving_paused_cancel").await.unwrap());
        pass(HOUR).await;
        let runs = runtime
            .find_runs(&RunFilter::new().flow("serving_paused_cancel"))
            .await
            .unwrap();
        assert_eq!(
            runs.iter().map(|run| run.state).collect::<Vec<_>>(),
            [RunState::Running]
        );
    };
    while_serving(cancels().on(&runtime).serve("@hourly"), act).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_same_schedule_of_a_flow_twice_is_refused() -> Result<()> {
    #[flow(name = "serving_twice")]
    fn twice(n: u32) -> Node<u32> {
        let _ = n;
        one()
    }
    let runtime = crate::support::runtime();
    let serve = runtime.serve([twice(1).serve("@hourly"), twice(1).serve("@hourly")]);
    let refused = timeout(HOUR, serve)
        .await
        .expect("it is refused")
        .unwrap_err()
        .to_string();
    assert!(refused.contains("is given twice"), "{refused}");
    let serve = twice(1)
        .on(&runtime)
        .serve("@hourly")
        .overlap(Overlap::Skip);
    let refused = timeout(HOUR, serve.into_future())
        .await
        .expect("it is refused")
        .unwrap_err()
        .to_string();
    assert!(refused.contains("max_active_runs"), "{refused}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn triggered_runs_are_checked_like_started_ones() -> Result<()> {
    #[flow(name = "serving_trigger_checked")]
    fn checked() -> Node<u32> {
        one()
    }
    let runtime = runtime_at("03-01T09:30:00").await;
    let inverted = || {
        checked()
            .on(&runtime)
            .interval(utc("03-02T00:00:00"), utc("03-01T00:00:00"))
    };
    let started = inverted().start().await.unwrap_err().to_string();
    assert_eq!(inverted().trigger().await.unwrap_err().to_string(), started);
    let all = runtime
        .find_runs(&RunFilter::new().limit(usize::MAX))
        .await?;
    assert!(all.is_empty(), "{all:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn run_triggered_in_a_body_goes_to_the_store_of_its_runtime() -> Result<()> {
    #[flow(name = "serving_inner")]
    fn inner() -> Node<u32> {
        one()
    }
    #[task]
    async fn triggers() -> Result<String> {
        let day = "2026-02-10".parse::<chrono::NaiveDate>()?;
        let plan = inner().backfill("@daily", day..=day).run().await?;
        assert_eq!(plan.created(), 1);
        Ok(inner().trigger().await?.to_string())
    }
    #[flow(name = "serving_outer")]
    fn outer() -> Node<String> {
        triggers()
    }
    let runtime = runtime_at("03-01T09:30:00").await;
    let id = outer().on(&runtime).await?;
    assert!(runtime.find_run(id.parse()?).await?.is_some());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_backfill_in_a_body_does_not_wait_for_the_bodys_own_slot() -> Result<()> {
    #[task(pool = "one")]
    async fn pooled() -> u32 {
        1
    }
    #[flow(name = "serving_slot_pooled")]
    fn inner() -> Node<u32> {
        pooled()
    }
    #[task(pool = "one")]
    async fn fills() -> Result<u32> {
        let day = "2026-02-10".parse::<chrono::NaiveDate>()?;
        let done = inner().backfill("@daily", day..=day).run().await?;
        assert_eq!(done.unsuccessful()[0].state, Some(RunState::Failed));
        Ok(1)
    }
    #[flow(name = "serving_slot_fills")]
    fn outer() -> Node<u32> {
        fills()
    }
    let runtime = crate::support::builder()
        .clock(Clock::tokio(utc("03-01T09:30:00")))
        .pool("one", 1)
        .build()
        .await?;
    assert_eq!(
        timeout(HOUR, outer().on(&runtime).into_future())
            .await
            .expect("no deadlock")?,
        1
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_run_that_would_wait_for_its_own_turn_is_refused() -> Result<()> {
    #[task]
    async fn again(n: u32) -> Result<u32> {
        if n == 0 {
            Ok(0)
        } else {
            Ok(recursive(n - 1).await? + 1)
        }
    }
    #[flow(name = "serving_recursive", max_active_runs = 2)]
    fn recursive(n: u32) -> Node<u32> {
        again(n)
    }
    let runtime = crate::support::runtime();
    let run = async |n: u32| {
        timeout(HOUR, recursive(n).on(&runtime).into_future())
            .await
            .expect("it ends")
    };
    assert_eq!(run(1).await?, 1);
    let refused = run(2).await.unwrap_err().to_string();
    assert!(
        refused.contains("its `max_active_runs` is 2: the two would wait for each other"),
        "{refused}"
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn deployment_of_a_run_is_no_name_to_serve_under() -> Result<()> {
    #[flow(name = "serving_named")]
    fn named() -> Node<u32> {
        one()
    }
    let runtime = runtime_at("03-01T09:30:00").await;
    let serve = named().on(&runtime).deployment("eu").serve("@hourly");
    let refused = timeout(HOUR, serve.into_future()).await;
    let refused = refused.expect("it is refused").unwrap_err().to_string();
    assert!(refused.contains(".named("), "{refused}");
    Ok(())
}
