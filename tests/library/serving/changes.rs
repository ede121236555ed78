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
        let _case = crate::support::case(&format!("{is_paused}"));
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
