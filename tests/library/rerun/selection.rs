//! What a re-run runs, and what it keeps.

use super::*;

#[tokio::test]
async fn failed_run_succeeds_after_its_failed_tasks_are_rerun() {
    let (runtime, world) = (sqlite().await, "green");
    fails(world, &["b"]);
    let run = chain(world.to_owned()).on(&runtime).run().await.unwrap();
    assert_eq!(
        (run.state(), tasks(run.record())),
        (
            RunState::Failed,
            "a 1, b failed 1, c upstream_failed 0".into()
        )
    );
    ran(world);
    fails(world, &[]);
    let before = runtime.now();
    let again = runtime.rerun(run.id(), Failed).await.unwrap();
    assert_eq!(
        (again.state(), again.id(), again.error().is_none()),
        (RunState::Success, run.id(), true)
    );
    assert_eq!(
        (ran(world), tasks(&again)),
        ("b c".into(), "a 1, b 2, c 1".into())
    );
    assert_eq!(
        (again.logical_date(), again.created_at()),
        (run.logical_date(), run.created_at())
    );
    assert!(again.started_at() >= run.finished_at() && again.finished_at() >= again.started_at());
    let [rerun] = again.reruns() else {
        panic!("{:?}", again.reruns())
    };
    assert!(rerun.what == Failed && rerun.at >= before && rerun.at <= runtime.now());
    let found = runtime.find_run(run.id()).await.unwrap().unwrap();
    assert_eq!(
        (tasks(&found), found.state(), found.started_at()),
        (tasks(&again), again.state(), again.started_at())
    );
    assert_eq!(
        (
            found.reruns(),
            runtime.runs("rerun_chain").await.unwrap().len()
        ),
        (again.reruns(), 1)
    );
    let attempts = runtime.attempts(run.id()).await.unwrap();
    assert_eq!(
        told(&attempts),
        ["a 1 success", "b 1 failed", "b 2 success", "c 1 success"]
    );
    assert!(
        attempts[1]
            .error
            .as_ref()
            .unwrap()
            .to_string()
            .contains("b fails")
    );
    assert!(
        attempts
            .iter()
            .all(|attempt| attempt.finished_at.unwrap() >= attempt.started_at)
    );
}

#[flow(name = "rerun_diamond")]
fn diamond(world: String) -> Node<u64> {
    let a = start(&world).named("a");
    let (b, c) = (step(&world, &a).named("b"), step(&world, &a).named("c"));
    let d = both(&world, b, &c).named("d");
    note(&world).named("e").after(c);
    d
}

#[tokio::test]
async fn each_selection_reruns_its_downstream_tasks() {
    let runtime = sqlite().await;
    for (number, (failing, what, expected)) in [
        (&[][..], All, "a b c d e"),
        (&[], from("a"), "a b c d e"),
        (&[], from("b"), "b d"),
        (&[], from("c"), "c d e"),
        (&[], from("d"), "d"),
        (&[], only("a"), "a"),
        (&[], only("c"), "c"),
        (&["a"], Failed, "a b c d e"),
        (&["b"], Failed, "b d"),
        (&["c"], Failed, "c d e"),
        (&["d"], Failed, "d"),
        (&["b", "e"], Failed, "b d e"),
        (&["b"], All, "a b c d e"),
        (&["b"], from("b"), "b d"),
        (&["b"], from("e"), "e"),
        (&["b"], only("b"), "b"),
    ]
    .into_iter()
    .enumerate()
    {
        let _case = crate::support::case(format_args!("{what:?} of {failing:?}"));
        let world = format!("diamond {number}");
        fails(&world, failing);
        let run = diamond(world.clone()).on(&runtime).run().await.unwrap();
        ran(&world);
        fails(&world, &[]);
        let again = runtime.rerun(run.id(), what.clone()).await.unwrap();
        assert_eq!(ran(&world), expected, "{what:?} of {failing:?}");
        let left = failing.contains(&"b") && [from("e"), only("b")].contains(&what);
        assert_eq!(
            again.state(),
            if left {
                RunState::Failed
            } else {
                RunState::Success
            },
            "{what:?}: {again:?}"
        );
        assert!(
            again.tasks().iter().all(|task| task.state().is_final()),
            "{}",
            tasks(&again)
        );
    }
}

#[tokio::test]
async fn rerun_of_a_single_task_leaves_its_downstream_tasks() {
    let (runtime, world) = (sqlite().await, "alone");
    let run = chain(world.to_owned()).on(&runtime).run().await.unwrap();
    assert_eq!(run.output(), Some(&2));
    adds(world, "a", 10);
    ran(world);
    let again = runtime.rerun(run.id(), only("a")).await.unwrap();
    assert_eq!(
        (ran(world), again.state(), tasks(&again)),
        ("a".into(), RunState::Success, "a 2, b 1, c 1".into())
    );
    // the new result is what is kept
    let again = runtime.rerun(run.id(), from("c")).await.unwrap();
    assert_eq!(
        (ran(world), tasks(&again)),
        ("c".into(), "a 2, b 1, c 2".into())
    );
    let again = runtime.rerun(run.id(), from("b")).await.unwrap();
    assert_eq!(
        (ran(world), tasks(&again), again.reruns().len()),
        ("b c".into(), "a 2, b 2, c 3".into(), 3)
    );
    // a task that fails now is red, whatever was made of its result before
    fails(world, &["a"]);
    let again = runtime.rerun(run.id(), only("a")).await.unwrap();
    assert_eq!(
        (again.state(), tasks(&again)),
        (RunState::Failed, "a failed 3, b 2, c 3".into())
    );
    fails(world, &[]);
    assert_eq!(
        runtime.rerun(run.id(), only("a")).await.unwrap().state(),
        RunState::Success
    );
}

#[tokio::test]
async fn failed_elements_of_a_mapping_are_rerun() {
    let (runtime, world) = (sqlite().await, "elements");
    fails(world, &["first[2]", "second[0]"]);
    let run = mapped(world.to_owned()).on(&runtime).run().await.unwrap();
    ran(world);
    fails(world, &["second[0]"]);
    let again = runtime.rerun(run.id(), Failed).await.unwrap();
    assert_eq!(
        (ran(world), again.state()),
        ("first[2] second[0] second[2]".into(), RunState::Failed)
    );
    fails(world, &[]);
    let again = runtime.rerun(run.id(), Failed).await.unwrap();
    assert_eq!(
        (ran(world), again.state()),
        ("second[0] total".into(), RunState::Success)
    );
    assert_eq!(
        tasks(&again),
        "list 1, first[0] 1, first[1] 1, first[2] 2, first[3] 1, \
         second[0] 3, second[1] 1, second[2] 1, second[3] 1, total 1"
    );
    for (what, expected) in [
        (from("first[1]"), "first[1] second[1] total"),
        (only("first[1]"), "first[1]"),
        (only("first"), "first[0] first[1] first[2] first[3]"),
        (
            from("second"),
            "second[0] second[1] second[2] second[3] total",
        ),
        (only("list"), "list"),
        (only("total"), "total"),
        (
            from("list"),
            "first[0] first[1] first[2] first[3] list second[0] second[1] second[2] second[3] total",
        ),
    ] {
        let _case = crate::support::case(format_args!("{what:?}"));
        let again = runtime.rerun(run.id(), what.clone()).await.unwrap();
        assert_eq!(
            (ran(world), again.state()),
            (expected.into(), RunState::Success),
            "{what:?}"
        );
        assert_eq!(again.tasks().len(), 10);
    }
}

#[tokio::test]
async fn a_list_of_another_length_has_other_elements() {
    let (runtime, world) = (sqlite().await, "length");
    let run = mapped(world.to_owned()).on(&runtime).run().await.unwrap();
    assert_eq!(run.output(), Some(&14));
    // a list that comes anew for itself alone changes no mapping
    adds(world, "list", 3);
    ran(world);
    let again = runtime.rerun(run.id(), only("list")).await.unwrap();
    assert_eq!(
        (ran(world), again.state(), again.tasks().len()),
        ("list".into(), RunState::Success, 10)
    );
    adds(world, "list", 1);
    let again = runtime.rerun(run.id(), from("list")).await.unwrap();
    assert_eq!(
        tasks(&again),
        "list 3, first[0] 2, first[1] 2, first[2] 2, first[3] 2, first[4] 1, \
         second[0] 2, second[1] 2, second[2] 2, second[3] 2, second[4] 1, total 2"
    );
    in_world(world, |world| world.added.clear());
    fails(world, &["first[1]"]);
    let again = runtime.rerun(run.id(), All).await.unwrap();
    assert_eq!(again.state(), RunState::Failed);
    fails(world, &[]);
    let again = runtime.rerun(run.id(), Failed).await.unwrap();
    assert_eq!(
        tasks(&again),
        "list 4, first[0] 3, first[1] 4, first[2] 3, first[3] 3, second[0] 3, second[1] 3, second[2] 3, second[3] 3, \
         total 3"
    );
    let found = runtime.find_run(run.id()).await.unwrap().unwrap();
    assert_eq!(
        (tasks(&found), found.state()),
        (tasks(&again), RunState::Success)
    );
    // what is not shown any more was there
    let attempts = told(&runtime.attempts(run.id()).await.unwrap());
    assert!(
        attempts.contains(&"first[4] 1 success".to_owned()),
        "{attempts:?}"
    );
    assert_eq!(
        attempts
            .iter()
            .filter(|attempt| attempt.starts_with("first[1] "))
            .count(),
        4
    );
}

#[tokio::test]
async fn missing_list_may_appear_in_a_rerun_and_the_reverse() {
    let (runtime, world) = (sqlite().await, "unexpanded");
    fails(world, &["list"]);
    let run = mapped(world.to_owned()).on(&runtime).run().await.unwrap();
    assert_eq!(
        tasks(run.record()).matches("upstream_failed").count(),
        3,
        "{}",
        tasks(run.record())
    );
    let again = runtime.rerun(run.id(), Failed).await.unwrap();
    assert_eq!(
        (
            again.state(),
            tasks(&again).replace("list failed 2", "list failed 1")
        ),
        (run.state(), tasks(run.record()))
    );
    fails(world, &[]);
    // by itself, the list is of no use to those that never ran
    let alone = runtime.rerun(run.id(), only("list")).await.unwrap();
    assert_eq!(
        (alone.state(), tasks(&alone)),
        (
            RunState::Failed,
            tasks(run.record()).replace("list failed 1", "list 3")
        )
    );
    let again = runtime.rerun(run.id(), Failed).await.unwrap();
    assert_eq!(
        (again.state(), again.tasks().len()),
        (RunState::Success, 10),
        "{}",
        tasks(&again)
    );
    fails(world, &["list"]);
    let again = runtime.rerun(run.id(), from("list")).await.unwrap();
    assert_eq!(again.state(), RunState::Failed);
    assert_eq!(
        tasks(&again).matches("upstream_failed").count(),
        3,
        "{}",
        tasks(&again)
    );
    fails(world, &[]);
    let again = runtime.rerun(run.id(), Failed).await.unwrap();
    assert_eq!(
        (again.state(), again.tasks().len()),
        (RunState::Success, 10),
        "{}",
        tasks(&again)
    );
}

#[flow(name = "rerun_nested")]
fn nested(world: String) -> Node<u64> {
    let numbers = list(&world, 2_u64).named("outer");
    let sums = numbers.expand({
        let world = world.clone();
        move |n| {
            let inner = list(&world, n.map(|n| n + 1)).named("inner");
            let steps = inner.expand({
                let world = world.clone();
                move |n| step(&world, n).named("deep")
            });
            total(&world, steps).named("sum")
        }
    });
    total(&world, sums).named("all")
}

#[tokio::test]
async fn mappings_in_mappings_run_again_where_they_failed() {
    let (runtime, world) = (sqlite().await, "nested");
    fails(world, &["deep[1][0]"]);
    let run = nested(world.to_owned()).on(&runtime).run().await.unwrap();
    assert_eq!(run.state(), RunState::Failed);
    ran(world);
    fails(world, &[]);
    let again = runtime.rerun(run.id(), Failed).await.unwrap();
    assert_eq!(
        (ran(world), again.state()),
        ("all deep[1][0] sum[1]".into(), RunState::Success)
    );
    for (what, expected) in [
        (from("deep[1]"), "all deep[1][0] deep[1][1] sum[1]"),
        (from("inner[0]"), "all deep[0][0] inner[0] sum[0]"),
        (only("deep[0][0]"), "deep[0][0]"),
        (only("deep"), "deep[0][0] deep[1][0] deep[1][1]"),
    ] {
        let _case = crate::support::case(format_args!("{what:?}"));
        let again = runtime.rerun(run.id(), what.clone()).await.unwrap();
        assert_eq!(
            (ran(world), again.state()),
            (expected.into(), RunState::Success),
            "{what:?}"
        );
    }
    // another length, outside and inside: both go on with the attempts that they had
    adds(world, "outer", 1);
    adds(world, "inner[0]", 1);
    let again = runtime.rerun(run.id(), from("outer")).await.unwrap();
    assert_eq!(
        tasks(&again),
        "outer 2, inner[0] 3, inner[1] 2, inner[2] 1, deep[0][0] 5, deep[0][1] 1, deep[1][0] 5, deep[1][1] 4, \
         deep[2][0] 1, deep[2][1] 1, deep[2][2] 1, sum[0] 3, sum[1] 3, sum[2] 1, all 4"
    );
    let found = runtime.find_run(run.id()).await.unwrap().unwrap();
    assert_eq!(tasks(&found), tasks(&again));
}

#[flow(name = "rerun_rules")]
fn rules(world: String) -> Node<u64> {
    let risky = start(&world).named("risky");
    note(&world)
        .named("alarm")
        .after(&risky)
        .trigger(Trigger::OneFailed);
    note(&world)
        .named("cleanup")
        .after(&risky)
        .trigger(Trigger::AllDone);
    let skipped = start(&world).named("skipped");
    step(&world, &skipped).named("behind");
    seen(&world, skipped).named("anyway");
    seen(&world, risky).named("judge")
}

#[tokio::test]
async fn rules_decide_anew() {
    let (runtime, world) = (sqlite().await, "rules");
    fails(world, &["risky"]);
    skips(world, &["skipped"]);
    let run = rules(world.to_owned()).on(&runtime).run().await.unwrap();
    let first = "risky failed 1, alarm 1, cleanup 1, skipped skipped 1, behind skipped 0, anyway 1, judge 1";
    assert_eq!(
        (run.state(), tasks(run.record()), run.output()),
        (RunState::Success, first.into(), Some(&1000))
    );
    ran(world);
    fails(world, &[]);
    // a failure that was handled is one, too
    let again = runtime.rerun(run.id(), Failed).await.unwrap();
    assert_eq!(
        (ran(world), again.state()),
        ("cleanup judge risky".into(), RunState::Success)
    );
    let second = "risky 2, alarm skipped 1, cleanup 2, skipped skipped 1, behind skipped 0, anyway 1, judge 2";
    assert_eq!(tasks(&again), second);
    skips(world, &[]);
    let again = runtime.rerun(run.id(), from("skipped")).await.unwrap();
    assert_eq!(
        (ran(world), again.state()),
        ("anyway behind skipped".into(), RunState::Success)
    );
    fails(world, &["risky"]);
    let again = runtime.rerun(run.id(), from("risky")).await.unwrap();
    assert_eq!(
        (ran(world), again.task("alarm").unwrap().attempts()),
        ("alarm cleanup judge risky".into(), 2)
    );
}
