//! Re-runs of flows that decide as they go, of flows in flows, and of flows that changed.

use super::*;

#[flow(name = "rerun_body")]
async fn decides(world: String) -> Result<u64> {
    let before = start(&world).named("before");
    let first = step(&world, &before).named("first").await?;
    let end = if first < 10 {
        let small = step(&world, first).named("small");
        step(&world, small).named("end")
    } else {
        let big = list(&world, first).named("big");
        total(
            &world,
            big.expand({
                let world = world.clone();
                move |n| step(&world, n).named("part")
            }),
        )
        .named("end")
    };
    Ok(end.await? + before.await?)
}

#[tokio::test]
async fn rerun_body_may_take_another_branch() {
    let (runtime, world) = (sqlite().await, "body");
    let run = decides(world.to_owned()).on(&runtime).run().await.unwrap();
    assert_eq!(
        (run.output(), tasks(run.record())),
        (Some(&3), "before 1, first 1, small 1, end 1".into())
    );
    adds(world, "first", 10);
    ran(world);
    let again = runtime.rerun(run.id(), from("first")).await.unwrap();
    assert_eq!(again.state(), RunState::Success, "{:?}", again.error());
    assert_eq!(again.tasks().len(), 4 + 11, "{}", tasks(&again));
    assert_eq!(
        (
            again.task("end").unwrap().attempts(),
            again.task("small").is_none()
        ),
        (2, true)
    );
    let found = runtime.find_run(run.id()).await.unwrap().unwrap();
    assert_eq!(tasks(&found), tasks(&again));
    // and back: what stands in for the old ones goes on where they were
    adds(world, "first", 3);
    let again = runtime.rerun(run.id(), from("first")).await.unwrap();
    assert_eq!(tasks(&again), "before 1, first 3, small 2, end 3");
    let again = runtime.rerun(run.id(), from("end")).await.unwrap();
    assert_eq!(
        (again.state(), tasks(&again)),
        (
            RunState::Success,
            "before 1, first 3, small 2, end 4".into()
        )
    );
    let attempts = told(&runtime.attempts(run.id()).await.unwrap());
    assert_eq!(
        attempts
            .iter()
            .filter(|attempt| attempt.starts_with("part["))
            .count(),
        11
    );
    // alone, it still decides: what is asked for otherwise runs, what is asked for as before is
    // kept
    adds(world, "first", 4);
    ran(world);
    let again = runtime.rerun(run.id(), only("first")).await.unwrap();
    assert_eq!(
        (ran(world), again.state()),
        ("first small".into(), RunState::Success),
        "{:?}",
        again.error()
    );
    assert_eq!(tasks(&again), "before 1, first 4, end 4, small 3");
}

#[tokio::test]
async fn a_body_that_fails_runs_again_with_what_its_tasks_did() {
    static FAILS: AtomicU32 = AtomicU32::new(1);
    #[flow(name = "rerun_failing_body")]
    async fn failing(world: String) -> Result<u64> {
        let value = start(&world).named("a").await?;
        if FAILS.load(SeqCst) == 1 {
            return Err("the body gives up".into());
        }
        Ok(step(&world, value).named("b").await?)
    }
    let (runtime, world) = (sqlite().await, "failing body");
    let run = failing(world.to_owned()).on(&runtime).run().await.unwrap();
    assert_eq!(run.state(), RunState::Failed);
    FAILS.store(0, SeqCst);
    let again = runtime.rerun(run.id(), Failed).await.unwrap();
    assert_eq!(
        (ran(world), again.state(), tasks(&again)),
        ("a b".into(), RunState::Success, "a 1, b 1".into())
    );
}

#[flow(name = "rerun_inner")]
fn inner(world: String, n: u64) -> Node<u64> {
    let x = step(&world, n).named("x");
    step(&world, x).named("y")
}

#[flow(name = "rerun_inner_body")]
pub(super) async fn inner_body(world: String, n: u64) -> Result<u64> {
    let x = step(&world, n).named("x").await?;
    Ok(step(&world, x).named("y").await?)
}

#[flow(name = "rerun_outer")]
async fn outer(world: String) -> Result<u64> {
    let first = start(&world).named("first");
    let (left, right) = (inner(world.clone(), 3), inner_body(world.clone(), 4));
    let (left, right) = tokio::join!(left.into_future(), right.into_future());
    Ok(both(&world, left?, right?).named("last").await? + first.await?)
}

#[flow(name = "rerun_outer_static")]
fn outer_static(world: String) -> Node<u64> {
    let inside = inner_body(world.clone(), 4);
    step(&world, inside).named("last")
}

#[tokio::test]
async fn inner_flows_are_rerun_with_their_tasks() {
    let (runtime, world) = (sqlite().await, "inner");
    fails(world, &["rerun_inner/y"]);
    let run = outer(world.to_owned()).on(&runtime).run().await.unwrap();
    assert_eq!(run.state(), RunState::Failed);
    ran(world);
    fails(world, &[]);
    let again = runtime.rerun(run.id(), Failed).await.unwrap();
    assert_eq!(again.state(), RunState::Success, "{:?}", again.error());
    assert_eq!(ran(world), "last rerun_inner/y");
    assert_eq!(
        (
            again.task("rerun_inner").unwrap().attempts(),
            again.task("rerun_inner/x").unwrap().attempts()
        ),
        (2, 1)
    );
    for (what, expected) in [
        (
            from("rerun_inner_body/x"),
            "last rerun_inner_body/x rerun_inner_body/y",
        ),
        (from("rerun_inner"), "last rerun_inner/x rerun_inner/y"),
        (only("rerun_inner"), "rerun_inner/x rerun_inner/y"),
        (only("rerun_inner/y"), "rerun_inner/y"),
        (from("last"), "last"),
    ] {
        let _case = crate::support::case(format_args!("{what:?}"));
        let again = runtime.rerun(run.id(), what.clone()).await.unwrap();
        assert_eq!(
            (ran(world), again.state()),
            (expected.into(), RunState::Success),
            "{what:?}: {:?}",
            again.error()
        );
    }

    let world = "inner static";
    fails(world, &["rerun_inner_body/x"]);
    let run = outer_static(world.to_owned())
        .on(&runtime)
        .run()
        .await
        .unwrap();
    ran(world);
    fails(world, &[]);
    let again = runtime.rerun(run.id(), Failed).await.unwrap();
    assert_eq!(
        (ran(world), again.state()),
        (
            "last rerun_inner_body/x rerun_inner_body/y".into(),
            RunState::Success
        )
    );
}

#[tokio::test]
async fn rerun_body_on_another_branch_resumes_after_a_stop() {
    let (path, world) = (file(), "left body");
    let runtime = open(&path).await;
    let run = decides(world.to_owned()).on(&runtime).run().await.unwrap();
    adds(world, "first", 10);
    in_world(world, |world| world.stuck.insert("part[4]".to_owned()));
    let handle = runtime.start_rerun(run.id(), from("first")).await.unwrap();
    loop {
        let found = runtime.find_run(run.id()).await.unwrap().unwrap();
        let done = found
            .tasks()
            .iter()
            .filter(|task| task.name() == "part" && task.state() == TaskState::Success);
        if done.count() == 10 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    runtime.stop().await;
    drop((handle.await, runtime));
    in_world(world, |world| world.stuck.clear());
    ran(world);
    let runtime = open(&path).await;
    let mut resumed = Vec::new();
    while resumed.is_empty() {
        resumed = runtime.resume().await.unwrap();
    }
    assert_eq!(
        (ran(world), resumed[0].state()),
        ("end part[4]".into(), RunState::Success),
        "{:?}",
        resumed[0].error()
    );
    assert_eq!(
        (
            resumed[0].tasks().len(),
            resumed[0].task("end").unwrap().attempts()
        ),
        (15, 2)
    );
}

#[tokio::test]
async fn kept_tasks_must_be_wired_as_before_and_rerun_tasks_need_not() {
    #[flow(name = "rerun_changes")]
    fn changes(world: String) -> Node<u64> {
        let kept = step(&world, added(&world, "kept wiring")).named("kept");
        let again = both(&world, kept, added(&world, "again wiring")).named("again");
        match added(&world, "gone") {
            0 => step(&world, again).named("last"),
            _ => step(&world, again).named("other"),
        }
    }
    let (runtime, world) = (sqlite().await, "changes");
    fails(world, &["again"]);
    let run = changes(world.to_owned()).on(&runtime).run().await.unwrap();
    fails(world, &[]);
    adds(world, "again wiring", 5);
    adds(world, "gone", 1);
    ran(world);
    let again = runtime.rerun(run.id(), Failed).await.unwrap();
    assert_eq!(
        (ran(world), again.state()),
        ("again other".into(), RunState::Success),
        "{:?}",
        again.error()
    );
    assert_eq!(tasks(&again), "kept 1, again 2, other 1");
    adds(world, "kept wiring", 5);
    let again = runtime.rerun(run.id(), from("other")).await.unwrap();
    let text = again.error().unwrap().to_string();
    assert!(
        text.contains(
            "recorded `kept` as `step()`, but the flow now creates it with another `world`, or another `input`: the"
        ),
        "{text}"
    );
    assert_eq!(
        (ran(world), again.state()),
        (String::new(), RunState::Failed)
    );
    let again = runtime.rerun(run.id(), All).await.unwrap();
    assert_eq!(
        (ran(world), again.state()),
        ("again kept other".into(), RunState::Success),
        "{:?}",
        again.error()
    );
    assert_eq!(tasks(&again), "again 3, kept 2, other 2");
}
