//! Trigger rules, as flows see them. The table itself is a test of `policy::trigger`.

use std::time::Duration;

use orchestrator::prelude::*;
use tokio::time::Instant;

#[task]
async fn ends(how: &str, after_seconds: u64) -> Result<u32> {
    tokio::time::sleep(Duration::from_secs(after_seconds)).await;
    match how {
        "S" => Ok(1),
        "F" => Err("failed".into()),
        "K" => Err(skip("skipped").into()),
        other => unreachable!("{other}"),
    }
}

#[task]
async fn pass(n: u32) -> u32 {
    n
}

#[task]
async fn watch() {}

/// An upstream in the given state: `U` is upstream-failed.
fn upstream(how: char) -> Node<u32> {
    match how {
        'U' => pass(ends("F", 0)),
        how => ends(how.to_string(), 0),
    }
}

/// What the table says of each rule when upstreams have ended so, in any order.
fn in_the_end(upstreams: &str) -> Vec<(Trigger, TaskState)> {
    let sorted = |text: &str| {
        let mut letters: Vec<char> = text.chars().collect();
        letters.sort_unstable();
        letters
    };
    let table = include_str!("../../orchestrator/tests/fixtures/trigger_rule_vectors.csv");
    let rules = table
        .lines()
        .next()
        .unwrap()
        .split(',')
        .skip(1)
        .map(|name| name.parse().unwrap());
    let row = table
        .lines()
        .skip(1)
        .map(|line| line.split_once(',').unwrap());
    let (_, cells) = row
        .into_iter()
        .find(|(of, _)| sorted(of) == sorted(upstreams))
        .unwrap();
    let states = cells.split(',').map(|cell| match cell {
        "RUN" => TaskState::Success,
        "SKIPPED" => TaskState::Skipped,
        "UPSTREAM_FAILED" => TaskState::UpstreamFailed,
        other => panic!("{other}"),
    });
    rules.zip(states).collect()
}

/// All texts of a length that are made of the letters of the table.
fn orders(length: u32) -> impl Iterator<Item = String> {
    (0..4_usize.pow(length)).map(move |number| {
        (0..length)
            .map(|at| char::from(b"SFUK"[number / 4_usize.pow(at) % 4]))
            .collect()
    })
}

#[tokio::test]
async fn every_rule_in_a_flow_does_what_airflow_does() -> Result<()> {
    #[flow]
    fn table_row(upstreams: String, rules: Vec<String>) {
        let nodes: Vec<Node<u32>> = upstreams.chars().map(upstream).collect();
        for rule in &rules {
            let waits = nodes.iter().fold(watch(), |watch, node| watch.after(node));
            let _watching = waits.named(rule.as_str()).trigger(rule.parse().unwrap());
        }
    }
    let runtime = crate::support::runtime();
    for upstreams in [1, 2, 3].into_iter().flat_map(orders) {
        let expected = in_the_end(&upstreams);
        let names = expected.iter().map(|(rule, _)| rule.to_string()).collect();
        let run = table_row(upstreams.clone(), names)
            .on(&runtime)
            .run()
            .await?;
        for (rule, expected) in expected {
            assert_eq!(
                run.task(rule.as_str()).unwrap().state(),
                expected,
                "{rule} of {upstreams}"
            );
        }
    }
    Ok(())
}

/// Under each rule, the default one stated and not: upstreams that end a second apart, in each
/// order, outside of a mapping and around one.
#[tokio::test(start_paused = true)]
async fn a_state_does_not_depend_on_which_upstream_ended_first() -> Result<()> {
    #[task]
    async fn two(from: &str) -> Vec<u32> {
        vec![from.len() as u32; 2]
    }
    #[task]
    async fn of_element(element: u32) -> u32 {
        element
    }
    #[flow]
    fn one_by_one(upstreams: String, rules: Vec<String>) {
        let end = |(second, how): (u64, char)| match how {
            'U' => pass(ends("F", second)),
            how => ends(how.to_string(), second),
        };
        let nodes: Vec<Node<u32>> = (1..).zip(upstreams.chars()).map(end).collect();
        let watch = |name: &str| {
            nodes
                .iter()
                .fold(watch().named(name), |watch, node| watch.after(node))
        };
        for rule in &rules {
            let _watching = watch(rule).trigger(rule.parse().unwrap());
        }
        let _unstated = watch("unstated");
        two("").expand(|element| {
            // a root of the mapping, and a node that waits for one, too
            let _root = nodes
                .iter()
                .fold(of_element(&element).named("root"), |task, node| {
                    task.after(node)
                });
            nodes
                .iter()
                .fold(of_element(pass(element)).named("later"), |task, node| {
                    task.after(node)
                })
        });
    }
    let runtime = crate::support::runtime();
    for upstreams in [2, 3].into_iter().flat_map(orders) {
        let expected = in_the_end(&upstreams);
        let names = expected.iter().map(|(rule, _)| rule.to_string()).collect();
        let run = one_by_one(upstreams.clone(), names)
            .on(&runtime)
            .run()
            .await?;
        let (_, unstated) = expected
            .iter()
            .find(|(rule, _)| *rule == Trigger::AllSuccess)
            .unwrap();
        for (rule, expected) in &expected {
            assert_eq!(
                run.task(rule.as_str()).unwrap().state(),
                *expected,
                "{rule} of {upstreams}"
            );
        }
        for key in ["unstated", "root[0]", "root[1]", "later[0]", "later[1]"] {
            assert_eq!(
                run.task(key).unwrap().state(),
                *unstated,
                "{key} of {upstreams}"
            );
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_is_met_waits_for_the_plain_parameters() -> Result<()> {
    #[task(trigger = one_success)]
    async fn sum(a: u32, b: u32) -> u32 {
        a + b
    }
    #[flow]
    fn after_seconds(a: u64, b: u64, how: String) -> Node<u32> {
        sum(ends("S", a), ends(how, b))
    }
    let runtime = crate::support::runtime();
    for (a, b) in [(1, 2), (2, 1), (1, 1)] {
        let _case = crate::support::case(format_args!("{a} s and {b} s"));
        assert_eq!(after_seconds(a, b, "S".to_owned()).on(&runtime).await?, 2);
        for how in ["F", "K"] {
            let run = after_seconds(a, b, how.to_owned())
                .on(&runtime)
                .run()
                .await?;
            let sum = run.task("sum").unwrap();
            assert_eq!(sum.state(), TaskState::UpstreamFailed, "{a} {b} {how}");
            assert!(
                sum.error().unwrap().to_string().contains("`b`"),
                "{a} {b} {how}"
            );
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn rules_that_need_not_wait_for_all_do_not() -> Result<()> {
    #[task(trigger = one_success)]
    async fn first(a: Option<u32>, b: Option<u32>) -> (Option<u32>, Option<u32>) {
        (a, b)
    }
    #[task]
    async fn note(n: (Option<u32>, Option<u32>), #[context] context: &Context) -> String {
        format!("{n:?} {}", context.task())
    }
    #[flow(name = "triggers_early")]
    async fn early() -> Result<u64> {
        let started = Instant::now();
        let (fast, slow) = (ends("S", 1), ends("S", 100));
        let noted = note(first(&fast, &slow)).await?;
        assert_eq!(noted, "(Some(1), None) note");
        Ok(started.elapsed().as_secs())
    }
    assert_eq!(early().on(&crate::support::runtime()).await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_rule_that_is_met_without_a_value_says_which_parameter() -> Result<()> {
    #[task(trigger = one_failed)]
    async fn alarm(reading: u32) -> u32 {
        reading
    }
    #[flow]
    fn alarmed() {
        alarm(ends("F", 0));
    }
    let run = alarmed().on(&crate::support::runtime()).run().await?;
    let alarm = run.task("alarm").unwrap();
    assert_eq!(alarm.state(), TaskState::UpstreamFailed);
    let error = alarm.error().unwrap().to_string();
    assert!(
        error.contains("`reading`") && error.contains("one_failed"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn an_outcome_is_satisfied_by_any_end_unless_a_rule_is_stated() -> Result<()> {
    #[task]
    async fn takes(n: Outcome<u32>) -> bool {
        n.is_success()
    }
    #[flow]
    fn unstated() -> Node<bool> {
        takes(ends("F", 0))
    }
    #[flow]
    fn stated() -> Node<bool> {
        takes(ends("F", 0)).trigger(Trigger::AllSuccess)
    }
    let runtime = crate::support::runtime();
    assert!(!unstated().on(&runtime).await?);
    let run = stated().on(&runtime).run().await?;
    assert_eq!(
        run.task("takes").unwrap().state(),
        TaskState::UpstreamFailed
    );
    Ok(())
}

#[tokio::test]
async fn a_mapping_is_one_upstream() -> Result<()> {
    #[task]
    async fn list(kinds: &str) -> Vec<String> {
        kinds.chars().map(String::from).collect()
    }
    #[task]
    async fn element(kind: &str) -> Result<u32> {
        match kind {
            "S" => Ok(1),
            "F" => Err("failed".into()),
            _ => Err(skip("skipped").into()),
        }
    }
    #[flow]
    fn mapped(kinds: String, rule: String) {
        let elements = list(kinds).expand(element);
        watch().after(&elements).trigger(rule.parse().unwrap());
    }
    let runtime = crate::support::runtime();
    for (kinds, rule, expected) in [
        ("SS", "all_success", TaskState::Success),
        ("", "all_success", TaskState::Success),
        ("SK", "none_skipped", TaskState::Success),
        ("KK", "all_skipped", TaskState::Success),
        ("KK", "all_success", TaskState::Skipped),
        ("SFS", "all_success", TaskState::UpstreamFailed),
        ("SFS", "one_failed", TaskState::Success),
        ("SFS", "one_success", TaskState::UpstreamFailed),
        ("SFK", "all_done", TaskState::Success),
    ] {
        let run = mapped(kinds.to_owned(), rule.to_owned())
            .on(&runtime)
            .run()
            .await?;
        assert_eq!(
            run.task("watch").unwrap().state(),
            expected,
            "{rule} of a mapping {kinds}"
        );
    }
    Ok(())
}
