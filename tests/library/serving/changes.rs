//! Deployments that are edited, removed, paused or overtaken by the clock while processes serve them.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

async fn made(runtime: &Runtime, flow: &str) -> Vec<(String, u64)> {
    let filter = RunFilter::new().flow(flow.to_owned()).oldest_first();
    let runs = runtime.find_runs(&filter).await.unwrap();
    let mut rows: Vec<_> = runs
        .iter()
        .map(|run| {
            let date = run.logical_date.format("%d %H:%M").to_string();
            (date, run.parameters["build"].as_u64().unwrap())
        })
        .collect();
    rows.sort();
    rows
}

#[tokio::test(start_paused = true)]
async fn old_process_back_in_force_decides_nothing_that_is_being_made_up_for() -> Result<()> {
    #[flow(name = "changes_gap", max_active_runs = 1)]
    fn gap(build: u32) -> Node<u32> {
        let _ = build;
        takes(10 * MINUTE)
    }
    let runtime = runtime_at("03-01T00:30:00").await;
    let serve = |build: u32, schedule: &str| {
        gap(build)
            .on(&runtime)
            .serve(schedule)
            .catchup(true)
            .into_future()
    };
    let old = tokio::spawn(serve(1, "0 * * * *"));
    pass(2 * HOUR).await; // 02:30
    let other = tokio::spawn(serve(2, "*/10 * * * *"));
    pass(15 * MINUTE).await; // 02:45: 02:40 was made
    other.abort();
    pass(4 * HOUR).await; // 06:45: 02:50 to 06:40 were missed
    let back = tokio::spawn(serve(1, "0 * * * *"));
    pass(17 * MINUTE).await; // 07:02: the old one made its tick of 07:00
    back.abort();
    old.abort();
    pass(MINUTE).await;
    serve_for(20 * HOUR, serve(1, "0 * * * *")).await;
    let rows = made(&runtime, "changes_gap").await;
    let second: Vec<_> = rows
        .iter()
        .filter(|(_, build)| *build == 2)
        .map(|(date, _)| date.clone())
        .collect();
    let mut expected: Vec<String> = Vec::new();
    let mut at = utc("03-01T02:40:00");
    while at <= utc("03-01T06:40:00") {
        expected.push(at.format("%d %H:%M").to_string());
        at += TimeDelta::minutes(10);
    }
    assert_eq!(second, expected);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn choice_at_the_end_of_a_pause_holds_for_ticks_that_wait_for_others() -> Result<()> {
    #[flow(name = "changes_waits", max_active_runs = 1)]
    fn waits() -> Node<u32> {
        takes(2 * HOUR)
    }
    for (missed, expected) in [
        (Missed::None, &["10", "14"][..]),
        (Missed::Latest, &["10", "13", "14"]),
    ] {
        let _case = crate::support::case(format!("{missed:?}"));
        let runtime = runtime_at("03-01T09:30:00").await;
        let serve = || waits().on(&runtime).serve("@hourly").catchup(true);
        serve_for(5 * MINUTE, serve()).await;
        pass(2 * HOUR - 5 * MINUTE).await; // 11:30, and 10:00 and 11:00 were missed
        let act = async {
            pass(10 * MINUTE).await;
            assert!(runtime.pause("changes_waits").await.unwrap()); // 11:40
            pass(100 * MINUTE).await; // 13:20: the run of 10:00 goes on until 13:30
            assert!(
                runtime
                    .unpause("changes_waits")
                    .missed(missed)
                    .await
                    .unwrap()
            );
            pass(45 * MINUTE).await; // 14:05
        };
        while_serving(serve(), act).await;
        let ticks = ticks(&runtime, "changes_waits").await;
        let hours: Vec<_> = ticks.iter().map(|tick| &tick[3..5]).collect();
        assert_eq!(hours, expected);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn short_pause_with_none_ends_a_catch_up() -> Result<()> {
    #[flow(name = "changes_ends_catch_up", max_active_runs = 1)]
    fn ends() -> Node<u32> {
        takes(30 * MINUTE)
    }
    let runtime = runtime_at("03-01T09:30:00").await;
    let serve = || ends().on(&runtime).serve("0 0-12 * * *").catchup(true);
    serve_for(5 * MINUTE, serve()).await;
    pass(4 * HOUR).await; // 10, 11, 12 were missed
    let act = async {
        pass(5 * MINUTE).await;
        assert!(runtime.pause("changes_ends_catch_up").await.unwrap());
        pass(5 * MINUTE).await;
        assert!(
            runtime
                .unpause("changes_ends_catch_up")
                .missed(Missed::None)
                .await
                .unwrap()
        );
        pass(5 * HOUR).await;
    };
    while_serving(serve(), act).await;
    assert_eq!(
        ticks(&runtime, "changes_ends_catch_up").await,
        ["01 10:00:00"]
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn at_most_one_waits_after_ticks_were_made_up_for() -> Result<()> {
    #[flow(name = "changes_pile", max_active_runs = 1)]
    fn pile() -> Node<u32> {
        takes(70 * MINUTE)
    }
    let runtime = runtime_at("03-01T09:59:00").await;
    let serve = || {
        let serve = pile().on(&runtime).serve("* * * * *");
        serve.overlap(Overlap::Latest).catchup(true)
    };
    serve_for(Duration::from_secs(30), serve()).await;
    pass(5 * MINUTE).await;
    let mut most = 0;
    while_serving(serve(), async {
        for _ in 0..(10 * 60) {
            pass(MINUTE).await;
            let waiting = RunFilter::new()
                .flow("changes_pile")
                .state(RunState::Pending);
            most = most.max(runtime.find_runs(&waiting).await.unwrap().len());
        }
    })
    .await;
    assert!(most <= 2, "{most}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn removed_deployment_that_is_served_anew_is_another_version() -> Result<()> {
    #[flow(name = "changes_removed")]
    fn removed(build: u32) -> Node<u32> {
        let _ = build;
        one()
    }
    let runtime = runtime_at("03-01T00:30:00").await;
    let serve =
        |build: u32, schedule: &str| removed(build).on(&runtime).serve(schedule).into_future();
    let old = tokio::spawn(serve(1, "15 * * * *"));
    pass(HOUR).await;
    assert!(runtime.forget_deployment("changes_removed", None).await?);
    let new = tokio::spawn(serve(2, "*/30 * * * *"));
    pass(HOUR + MINUTE).await;
    let rows = made(&runtime, "changes_removed").await;
    let expected = [("01 01:15", 1), ("01 02:00", 2), ("01 02:30", 2)];
    assert_eq!(rows, expected.map(|(date, build)| (date.to_owned(), build)));
    old.abort();
    new.abort();
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn edit_while_the_clock_ran_ahead_is_in_force_when_it_is_set_back() -> Result<()> {
    #[flow(name = "changes_ahead")]
    fn ahead(build: u32) -> Node<u32> {
        let _ = build;
        one()
    }
    for is_paused in [false, true] {
        let _case = crate::support::case(format!("{is_paused}"));
        let clock = Clock::settable(utc("03-10T09:31:00"));
        let runtime = crate::support::builder()
            .clock(clock.clone())
            .build()
            .await?;
        let serve =
            |build: u32, schedule: &str| ahead(build).on(&runtime).serve(schedule).into_future();
        serve_for(HOUR, serve(1, "0 * * * *")).await; // until 10:31
        if is_paused {
            runtime.pause("changes_ahead").await?;
        }
        clock.shift(TimeDelta::days(1));
        let mut served = tokio::spawn(serve(2, "*/30 * * * *"));
        pass(MINUTE).await;
        if is_paused {
            served.abort(); // it dies before the clock is set
        }
        clock.shift(TimeDelta::days(-1)); // 10:32
        if is_paused {
            runtime.unpause("changes_ahead").await?;
            served = tokio::spawn(serve(2, "*/30 * * * *"));
        }
        pass(2 * HOUR).await;
        let rows = made(&runtime, "changes_ahead").await;
        let rows: Vec<_> = rows
            .into_iter()
            .filter(|(date, _)| date.starts_with("10 "))
            .collect();
        let expected = [
            ("10 10:00", 1),
            ("10 11:00", 2),
            ("10 11:30", 2),
            ("10 12:00", 2),
            ("10 12:30", 2),
        ];
        assert_eq!(rows, expected.map(|(date, build)| (date.to_owned(), build)));
        served.abort();
    }
    Ok(())
}

/// The messages of all events.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Told {
    fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
        event.record(&mut |field: &Field, value: &dyn Debug| {
            if field.name() == "message" {
                self.0.lock().unwrap().push(format!("{value:?}"));
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn record_that_cannot_be_read_is_told_and_replaced() -> Result<()> {
    #[flow(name = "changes_unreadable")]
    fn unreadable() -> Node<u32> {
        one()
    }
    let path = crate::support::file();
    let runtime = open(
        &crate::support::url(&path),
        &Clock::tokio(utc("03-01T09:30:00")),
        HOUR,
    )
    .await;
    let serve = || unreadable().on(&runtime).serve("@hourly").catchup(true);
    serve_for(HOUR, serve()).await;
    rusqlite::Connection::open(&path).unwrap().execute(
        "UPDATE deployments SET segments = replace(segments, '\"rule\"', '\"week\":true,\"rule\"')",
        [],
    )?;
    let run = unreadable()
        .on(&runtime)
        .run()
        .await
        .map(|run| run.interval());
    let column = || -> String {
        let file = rusqlite::Connection::open(&path).unwrap();
        file.query_row("SELECT segments FROM deployments", [], |row| row.get(0))
            .unwrap()
    };
    let before = column();
    runtime.pause("changes_unreadable").await?;
    runtime
        .unpause("changes_unreadable")
        .missed(Missed::All)
        .await?;
    assert_eq!(column(), before, "a later version may read it");
    let told = Told::default();
    let here = tracing::subscriber::set_default(tracing_subscriber::registry().with(told.clone()));
    serve_for(HOUR, serve()).await;
    drop(here);
    let told = told.0.lock().unwrap().join("\n");
    assert!(told.contains("record of the deployment"), "{told}");
    assert!(told.contains("week"), "{told}");
    assert!(run.is_err(), "{run:?}");
    Ok(())
}
