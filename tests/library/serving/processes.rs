//! Several processes on one store: what one leaves, another takes, pauses or cancels.

use super::*;
use crate::support::{file, url};

#[tokio::test(start_paused = true)]
async fn runs_that_were_left_take_turns_when_they_go_on() -> Result<()> {
    if !crate::support::is_durable() {
        return Ok(());
    }
    #[flow(name = "serving_turns_left", max_active_runs = 1)]
    fn turns() -> Node<u32> {
        takes(HOUR)
    }
    let (store, clock) = (crate::support::store(), Clock::tokio(utc("03-01T09:30:00")));
    let open = || open(&store, &clock, Duration::from_secs(1));
    // each process leaves a run that was under way: nobody executed the first one when the second
    // one started
    for _ in 0..2 {
        let runtime = open().await;
        let _run = turns().on(&runtime).start().await?;
        pass(Duration::from_secs(60)).await;
        assert_eq!(runtime.stop().await.left.len(), 1);
    }
    let runtime = open().await;
    let first = turns().on(&runtime).start().await?;
    pass(Duration::from_secs(60)).await;
    let resumed = timeout(5 * HOUR, runtime.resume())
        .await
        .expect("neither waits for the other")?;
    assert_eq!(resumed.len(), 2);
    assert!(resumed.iter().all(|run| run.state() == RunState::Success));
    assert_eq!(first.await?.state(), RunState::Success);
    let mut spans: Vec<_> = resumed
        .iter()
        .filter_map(|run| run.tasks().iter().next()?.finished_at())
        .collect();
    spans.sort_unstable();
    assert!(
        spans[1] - spans[0] >= TimeDelta::hours(1),
        "one after the other: {spans:?}"
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_ends_right_before_a_tick_loses_nothing_that_was_held() -> Result<()> {
    if !crate::support::is_durable() {
        return Ok(());
    }
    #[flow(name = "serving_unpaused_at_a_tick")]
    fn held() -> Node<u32> {
        one()
    }
    #[flow(name = "serving_unpaused_none")]
    fn none() -> Node<u32> {
        one()
    }
    let (store, clock) = (crate::support::store(), Clock::tokio(utc("03-01T09:30:00")));
    let open = || open(&store, &clock, Duration::from_secs(1));
    let (runtime, other) = (open().await, open().await);
    let act = async {
        pass(Duration::from_secs(60)).await;
        other.pause("serving_unpaused_at_a_tick").await.unwrap();
        other.pause("serving_unpaused_none").await.unwrap();
        // the server looks once a second
        pass(3 * HOUR + Duration::from_millis(29 * 60_000 - 2)).await;
        assert_eq!(ticks(&runtime, "serving_unpaused_at_a_tick").await.len(), 0);
        other.unpause("serving_unpaused_at_a_tick").await.unwrap();
        other.unpause("serving_unpaused_none").await.unwrap();
        pass(Duration::from_secs(10)).await;
        let all = ["01 10:00:00", "01 11:00:00", "01 12:00:00", "01 13:00:00"];
        assert_eq!(ticks(&runtime, "serving_unpaused_at_a_tick").await, all);
        // the tick came when the pause was over, though the server had not heard of it
        assert_eq!(
            ticks(&runtime, "serving_unpaused_none").await,
            ["01 13:00:00"]
        );
    };
    let serve = runtime.serve([
        held().serve("@hourly").catchup(true),
        none().serve("@hourly").missed(Missed::None),
    ]);
    while_serving(serve, act).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_run_that_another_process_took_and_left_again_is_taken() -> Result<()> {
    if !crate::support::is_durable() {
        return Ok(());
    }
    #[flow(name = "serving_left_again")]
    fn left_again() -> Node<u32> {
        takes(Duration::from_secs(20))
    }
    let (store, clock) = (crate::support::store(), Clock::tokio(utc("03-01T09:30:00")));
    let open = || open(&store, &clock, Duration::ZERO);
    let (serving, other) = (open().await, open().await);
    let act = async {
        pass(Duration::from_millis(500)).await;
        for _ in 0..30 {
            left_again().on(&other).trigger().await.unwrap();
        }
        pass(Duration::from_millis(500)).await;
        // both take what they find, one run after the other; then one of them stops
        let resuming = tokio::spawn({
            let other = other.clone();
            async move { other.resume().await }
        });
        pass(Duration::from_millis(10)).await;
        let left = other.stop().await.left.len();
        let _ = resuming.await.unwrap();
        pass(HOUR).await;
        let runs = other
            .find_runs(&RunFilter::new().flow("serving_left_again").unfinished())
            .await
            .unwrap();
        assert_eq!(runs.len(), 0, "{left} were left: {runs:?}");
    };
    while_serving(left_again().on(&serving).serve("@yearly"), act).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_run_that_goes_on_has_its_time_after_it_waited_for_its_turn() -> Result<()> {
    if !crate::support::is_durable() {
        return Ok(());
    }
    #[flow(name = "serving_turn_timeout", max_active_runs = 1, timeout = "90m")]
    fn limited() -> Node<u32> {
        takes(HOUR)
    }
    let (store, clock) = (crate::support::store(), Clock::tokio(utc("03-01T09:30:00")));
    let open = || open(&store, &clock, Duration::from_secs(1));
    let runtime = open().await;
    let _run = limited().on(&runtime).start().await?;
    pass(Duration::from_secs(60)).await;
    assert_eq!(runtime.stop().await.left.len(), 1);
    let runtime = open().await;
    let _first = limited().on(&runtime).start().await?;
    pass(Duration::from_secs(60)).await;
    let resumed = runtime.resume().await?;
    assert_eq!(
        resumed[0].state(),
        RunState::Success,
        "{:?}",
        resumed[0].error()
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_run_is_cancelled_where_it_could_not_run() -> Result<()> {
    if !crate::support::is_durable() {
        return Ok(());
    }
    struct Database;
    #[task]
    async fn stored(#[resource] database: &Database) -> u32 {
        let _ = database;
        1
    }
    #[flow(name = "serving_lacks")]
    fn lacks() -> Node<u32> {
        stored()
    }
    let store = crate::support::store();
    let full = Runtime::builder()
        .store(store.clone())
        .resource(Database)
        .build()
        .await?;
    let bare = Runtime::builder().store(store.clone()).build().await?;
    let id = lacks().on(&full).trigger().await?;
    assert!(bare.cancel(id).await?);
    assert_eq!(
        bare.find_run(id).await?.unwrap().state(),
        RunState::Cancelled
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn two_processes_that_serve_with_cancel_running_leave_the_newest_run() -> Result<()> {
    #[task]
    async fn endless() -> u32 {
        std::future::pending().await
    }
    #[flow(name = "serving_both_cancel_running", max_active_runs = 1)]
    fn endless_run() -> Node<u32> {
        endless()
    }
    let (store, clock) = (url(&file()), Clock::tokio(utc("03-01T09:59:59")));
    let open = || open(&store, &clock, Duration::ZERO);
    let (one, two) = (open().await, open().await);
    let serve = |runtime| {
        endless_run()
            .on(runtime)
            .serve("* * * * *")
            .overlap(Overlap::CancelRunning)
    };
    let act = async {
        for tick in 1..=100 {
            let _case = crate::support::case(format_args!("tick {tick}"));
            pass(Duration::from_secs(60)).await;
            let runs = one
                .find_runs(&RunFilter::new().flow("serving_both_cancel_running"))
                .await
                .unwrap();
            assert_eq!(runs.len(), tick);
            assert!(
                !runs[0].state.is_final(),
                "the run of tick {tick} is {}",
                runs[0].state
            );
        }
    };
    while_serving(serve(&one), while_serving(serve(&two), act)).await;
    Ok(())
}
