//! What a runtime tells of itself.

use orchestrator::prelude::*;

#[task(retries = 1)]
async fn flaky(#[context] context: &Context) -> Result<u32> {
    if context.attempt() == 1 {
        Err("once".into())
    } else {
        Ok(3)
    }
}

#[task]
async fn double(n: u32) -> u32 {
    n * 2
}

#[task]
async fn never(n: u32) -> Result<u32> {
    Err(skip(format!("{n}")).into())
}

#[flow]
fn observed() -> Node<u32> {
    double(never(flaky()))
}

#[flow]
fn expanded() -> Mapped<u32> {
    expand(vec![1, 2], double)
}

#[tokio::test]
async fn events_tell_each_step_of_a_run() -> Result<()> {
    let runtime = crate::support::runtime();
    let mut events = runtime.events();
    let run = observed().on(&runtime).run().await?;
    expanded().on(&runtime).run().await?;
    drop(runtime);
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        told.push(match event {
            Event::RunStarted { flow, .. } => format!("{flow} starts"),
            Event::RunFinished { flow, state, .. } => format!("{flow} {state}"),
            Event::TaskStarted {
                run: id,
                key,
                attempt,
                ..
            } => {
                assert!(id == run.id() || key.starts_with("double["));
                format!("{key} starts {attempt}")
            }
            Event::TaskRetrying {
                key,
                attempt,
                error,
                ..
            } => format!("{key} retries after {attempt}: {error}"),
            Event::TaskFinished {
                key,
                state,
                attempts,
                ..
            } => format!("{key} {state} {attempts}"),
            Event::Expanded { elements, .. } => format!("{elements} elements"),
            other => panic!("{other:?}"),
        });
    }
    let mut expected = vec![
        "observed starts",
        "flaky starts 1",
        "flaky retries after 1: once",
        "flaky starts 2",
        "flaky success 2",
        "never starts 1",
        "never skipped 1",
        "double skipped 0",
        "observed success",
        "expanded starts",
        "2 elements",
        "double[0] starts 1",
        "double[0] success 1",
        "double[1] starts 1",
        "double[1] success 1",
        "expanded success",
    ];
    // elements run side by side
    told.sort();
    expected.sort_unstable();
    assert_eq!(told, expected);
    assert_eq!(events.lost(), 0);
    Ok(())
}

#[tokio::test]
async fn record_has_times_and_attempts() -> Result<()> {
    let run = observed().on(&crate::support::runtime()).run().await?;
    let flaky = run.task("flaky").unwrap();
    assert_eq!(flaky.attempts(), 2);
    assert!(flaky.started_at() >= run.started_at() && flaky.finished_at() <= run.finished_at());
    assert!(flaky.duration() <= run.duration());
    let skipped = run.task("double").unwrap();
    assert_eq!(
        (skipped.attempts(), skipped.started_at(), skipped.duration()),
        (0, None, None)
    );
    assert!(
        skipped
            .error()
            .unwrap()
            .to_string()
            .contains("`never` was skipped")
    );
    assert!(run.task("nobody").is_none());
    assert!(format!("{run:?}").contains("observed"));
    Ok(())
}

#[tokio::test]
async fn a_run_that_is_cancelled_while_it_waits_for_its_turn_never_started() -> Result<()> {
    #[task]
    async fn for_ever() {
        std::future::pending().await
    }
    #[flow(name = "events_turns", max_active_runs = 1)]
    fn one_at_a_time() {
        for_ever();
    }
    let runtime = crate::support::runtime();
    let mut events = runtime.events();
    let first = one_at_a_time().on(&runtime).start().await?;
    assert!(
        matches!(events.next().await, Some(Event::RunStarted { run, .. }) if run == first.id())
    );
    let second = one_at_a_time().on(&runtime).start().await?;
    let waiting = second.id();
    second.cancel();
    assert_eq!(second.await?.state(), RunState::Cancelled);
    first.cancel();
    first.await?;
    drop(runtime);
    while let Some(event) = events.next().await {
        assert!(!matches!(event, Event::RunStarted { run, .. } if run == waiting));
    }
    Ok(())
}
