//! Schedules that have an end, and what was missed before it.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_tick_missed_before_the_end_gets_its_run_after_it() -> Result<()> {
    #[flow(name = "serving_end_latest")]
    fn latest() -> Node<u32> {
        one()
    }
    #[flow(name = "serving_end_all")]
    fn all() -> Node<u32> {
        one()
    }
    #[flow(name = "serving_end_none")]
    fn none() -> Node<u32> {
        one()
    }
    // the last tick is that of noon, which is the end of two, and of the third comes before it
    let hourly = |end| Schedule::cron("@hourly").map(|hourly| hourly.end(utc(end)));
    let runtime = runtime_at("03-01T09:30:00").await;
    let serve = || -> Result<_> {
        Ok(runtime.serve([
            latest().on(&runtime).serve(hourly("03-01T12:00:00")?),
            all()
                .on(&runtime)
                .serve(hourly("03-01T12:30:00")?)
                .catchup(true),
            none()
                .on(&runtime)
                .serve(hourly("03-01T12:00:00")?)
                .missed(Missed::None),
        ]))
    };
    serve_for(HOUR, serve()?).await;
    // at 16:30
    pass(6 * HOUR).await;
    for _ in ["the first time", "again, with nothing left to make up for"] {
        serve_for(3 * HOUR, serve()?).await;
        assert_eq!(
            ticks(&runtime, "serving_end_latest").await,
            ["01 10:00:00", "01 12:00:00"]
        );
        assert_eq!(
            ticks(&runtime, "serving_end_all").await,
            ["01 10:00:00", "01 11:00:00", "01 12:00:00"]
        );
        assert_eq!(ticks(&runtime, "serving_end_none").await, ["01 10:00:00"]);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_tick_held_back_by_a_pause_until_after_the_end_gets_its_run() -> Result<()> {
    #[flow(name = "serving_end_paused")]
    fn paused() -> Node<u32> {
        one()
    }
    let runtime = runtime_at("03-01T09:30:00").await;
    let schedule = Schedule::cron("@hourly")?.end(utc("03-01T12:00:00"));
    let act = async {
        pass(HOUR).await;
        runtime.pause("serving_end_paused").await.unwrap();
        pass(5 * HOUR).await;
        assert_eq!(ticks(&runtime, "serving_end_paused").await, ["01 10:00:00"]);
        runtime.unpause("serving_end_paused").await.unwrap();
        pass(2 * HOUR).await;
        assert_eq!(
            ticks(&runtime, "serving_end_paused").await,
            ["01 10:00:00", "01 12:00:00"]
        );
    };
    while_serving(paused().on(&runtime).serve(schedule), act).await;
    Ok(())
}
