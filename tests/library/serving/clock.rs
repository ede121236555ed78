//! Clocks that are set, that ran ahead, and that stand at the ends of time, while schedules are
//! served.

use super::*;
use crate::support::{file, url};

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_by_a_day_doubles_and_loses_nothing() -> Result<()> {
    #[flow(name = "serving_set_all")]
    fn all() -> Node<u32> {
        one()
    }
    #[flow(name = "serving_set_latest")]
    fn latest() -> Node<u32> {
        one()
    }
    let clock = Clock::settable(utc("03-10T10:30:00"));
    let runtime = crate::support::builder()
        .clock(clock.clone())
        .build()
        .await?;
    let serve = runtime.serve([
        all().serve("@hourly").catchup(true),
        latest().serve("@hourly"),
    ]);
    let act = async {
        pass(HOUR).await;
        clock.shift(TimeDelta::days(1));
        pass(HOUR).await;
        // what the jump passed over is made up for by policy: 11 o'clock to 12 o'clock on the next
        // day
        assert_eq!(ticks(&runtime, "serving_set_all").await.len(), 26);
        assert_eq!(
            ticks(&runtime, "serving_set_latest").await,
            ["10 11:00:00", "11 11:00:00", "11 12:00:00"]
        );
        clock.shift(TimeDelta::days(-1));
        // the day comes again: what has its run keeps it, and what was passed over comes in its
        // time (but for noon, which came and went while the clock was ahead)
        pass(26 * HOUR).await;
        let all = ticks(&runtime, "serving_set_all").await;
        assert_eq!(all.len(), 28, "{all:?}");
        let latest = ticks(&runtime, "serving_set_latest").await;
        assert_eq!(latest.len(), 3 + 22 + 2, "{latest:?}");
        assert_eq!(
            latest
                .iter()
                .collect::<std::collections::BTreeSet<_>>()
                .len(),
            latest.len()
        );
        // a jump back alone doubles nothing, either
        clock.shift(TimeDelta::days(-1));
        pass(HOUR).await;
        assert_eq!(ticks(&runtime, "serving_set_all").await.len(), 28);
    };
    while_serving(serve, act).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn repeated_tick_cancels_no_run() -> Result<()> {
    #[flow(
        name = "serving_again_cancel",
        max_active_runs = 1,
        overlap = "cancel_running"
    )]
    fn cancels() -> Node<u32> {
        takes(Duration::from_secs(59 * 60))
    }
    let clock = Clock::settable(utc("03-01T09:30:00"));
    let runtime = crate::support::builder()
        .clock(clock.clone())
        .build()
        .await?;
    let act = async {
        // at 12:20, the run of 12 o'clock is under way
        pass(Duration::from_secs(170 * 60)).await;
        clock.shift(TimeDelta::minutes(-90));
        // at 11:10 again: the tick of 11 o'clock has its run, which is done
        pass(Duration::from_secs(20 * 60)).await;
        let runs = runtime
            .find_runs(&RunFilter::new().flow("serving_again_cancel").oldest_first())
            .await
            .unwrap();
        let states: Vec<_> = runs.iter().map(|run| run.state).collect();
        assert_eq!(
            states,
            [RunState::Success, RunState::Success, RunState::Running]
        );
    };
    while_serving(cancels().on(&runtime).serve("@hourly"), act).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn schedules_at_the_ends_of_time_are_served() -> Result<()> {
    #[flow(name = "serving_ends")]
    fn ends() -> Node<u32> {
        one()
    }
    let first: DateTime<Utc> = "0001-01-01T00:00:00Z".parse()?;
    let last: DateTime<Utc> = "9999-12-31T23:59:59.999999999Z".parse()?;
    let (earliest, latest) = (DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC);
    for now in [earliest, first, utc("03-01T09:30:00"), last, latest] {
        let runtime = crate::support::builder()
            .clock(Clock::tokio(now))
            .build()
            .await?;
        let serve = || {
            let hour = Schedule::every(HOUR).unwrap();
            let serve = ends()
                .on(&runtime)
                .serve(Schedule::once(first))
                .schedule(Schedule::once(last));
            let serve = serve
                .schedule(hour.clone().anchor(last))
                .schedule(hour.anchor(first).start(last));
            let serve = serve
                .schedule("* * * * *")
                .schedule(Schedule::every(Duration::MAX));
            serve.schedule(
                Schedule::every(Duration::from_nanos(u64::MAX))
                    .unwrap()
                    .end(first),
            )
        };
        serve_for(Duration::from_secs(100), serve()).await;
        serve_for(Duration::from_secs(100), serve().missed(Missed::None)).await;
        // the years of schedules are those of dates that are written with four digits
        for beyond in [earliest, latest] {
            let serve = ends().on(&runtime).serve(Schedule::once(beyond));
            let refused = serve.await.unwrap_err().to_string();
            assert!(refused.contains("in the years 1 to 9999"), "{refused}");
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_ran_ahead_takes_no_tick_from_a_later_life() -> Result<()> {
    #[flow(name = "serving_ran_ahead")]
    fn ahead() -> Node<u32> {
        one()
    }
    let clock = Clock::settable(utc("03-10T10:30:00"));
    let runtime = crate::support::builder()
        .clock(clock.clone())
        .build()
        .await?;
    let serve = || ahead().on(&runtime).serve("@hourly");
    let act = async {
        pass(Duration::from_secs(60)).await;
        clock.shift(TimeDelta::days(1));
        pass(Duration::from_secs(60)).await;
        clock.shift(TimeDelta::days(-1));
        pass(Duration::from_secs(60)).await;
    };
    while_serving(serve(), act).await;
    pass(3 * HOUR).await;
    serve_for(Duration::from_secs(60), serve()).await;
    assert_eq!(
        ticks(&runtime, "serving_ran_ahead").await,
        ["11 10:00:00", "10 13:00:00"]
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_ran_ahead_in_an_earlier_life_hides_no_missed_tick() -> Result<()> {
    #[flow(name = "serving_ran_ahead_before")]
    fn ahead() -> Node<u32> {
        one()
    }
    let store = url(&file());
    let serve = async |at: &str| {
        let runtime = open(&store, &Clock::tokio(utc(at)), Duration::from_secs(1)).await;
        serve_for(HOUR, ahead().on(&runtime).serve("@hourly")).await;
        ticks(&runtime, "serving_ran_ahead_before").await
    };
    // by a day, and put right before the next start
    assert_eq!(serve("03-11T10:30:00").await, ["11 11:00:00"]);
    assert_eq!(
        serve("03-10T11:30:00").await,
        ["11 11:00:00", "10 12:00:00"]
    );
    // nobody serves from 12:30 to 15:30
    assert_eq!(
        serve("03-10T15:30:00").await,
        ["11 11:00:00", "10 12:00:00", "10 15:00:00", "10 16:00:00"]
    );
    Ok(())
}
