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

#[tokio::test]
async fn every_rule_in_a_flow_does_what_airflow_does() -> Result<()> {
    let table = include_str!("../../orchestrator/tests/fixtures/trigger_rule_vectors.csv");
    let rules: Vec<Trigger> = table
        .lines()
        .next()
        .unwrap()
        .split(',')
        .skip(1)
        .map(|name| name.parse().unwrap())
        .collect();
    #[flow]
    fn table_row(upstreams: String, rules: Vec<String>) {
        let nodes: Vec<Node<u32>> = upstreams.chars().map(upstream).collect();
        for rule in &rules {
            let waits = nodes.iter().fold(watch(), |watch, node| watch.after(node));
            let _watching = waits.named(rule.as_str()).trigger(rule.parse().unwrap());
        }
    }
    let runtime = crate::support::runtime();
    let mut checked = 0;
    for line in table.lines().skip(1) {
        let mut cells = line.split(',');
        let upstreams = cells.next().unwrap();
        // what waits for an upstream that never ends cannot be seen at the end
        if upstreams.contains('-') {
            continue;
        }
        let names = rules.iter().map(ToString::to_string).collect();
        let run = table_row(upstreams.to_owned(), names)
            .on(&runtime)
            .run()
            .await?;
        for (rule, expected) in rules.iter().zip(cells) {
            let expected = match expected {
                "RUN" => TaskState::Success,
                "SKIPPED" => TaskState::Skipped,
                "UPSTREAM_FAILED" => TaskState::UpstreamFailed,
                other => panic!("{other}"),
            };
            let became = run.task(rule.as_str()).unwrap().state();
            // rules that decide early see the upstreams as they end: any order is right for these
            let early = upstreams
                .chars()
                .collect::<std::collections::HashSet<_>>()
                .len()
                > 1;
            let free = early && matches!(rule, Trigger::AllSuccess | Trigger::AllDoneMinOneSuccess);
            assert!(
                became == expected || (free && became != TaskState::Success),
                "{rule} of {upstreams}: {became}"
            );
            checked += 1;
        }
    }
    assert!(checked > 300, "{checked}");
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
