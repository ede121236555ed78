//! Random graphs against plain evaluation, and against a small model of failures, skips, retries
//! and rules.

use std::time::Duration;

use orchestrator::prelude::*;
use proptest::prelude::{Strategy, any, proptest};
use proptest::test_runner::Config;

/// What the body of a task does.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
enum Act {
    Skip,
    /// Fails without retries.
    Fatal,
    /// Fails at as many attempts; the task fails if it has fewer retries.
    Fail(u32),
}

impl Act {
    const SUCCEED: Self = Self::Fail(0);
}

/// A task of a random graph.
#[derive(Clone, Debug)]
struct Plan {
    /// What it takes, among the tasks before it.
    takes: Vec<usize>,
    act: Act,
    retries: u32,
    rule: Option<Trigger>,
    seconds: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum End {
    Success(u64),
    Failed,
    Skipped,
    UpstreamFailed,
}

fn plans(length: std::ops::Range<usize>, calm: bool) -> impl Strategy<Value = Vec<Plan>> {
    let plan = (
        proptest::collection::vec(any::<proptest::sample::Index>(), 0..4),
        0..5_u32,
        0..12_u32,
        0..3_u32,
        0..24_usize,
        0..20_u64,
    );
    proptest::collection::vec(plan, length).prop_map(move |plans| {
        let one = |(at, (takes, failing, odd, retries, rule, seconds)): (usize, _)| {
            let takes: Vec<proptest::sample::Index> = takes;
            let mut takes: Vec<usize> = match at {
                0 => Vec::new(),
                _ => takes.iter().map(|index| index.index(at)).collect(),
            };
            takes.sort_unstable();
            takes.dedup();
            Plan {
                takes,
                act: match odd {
                    _ if calm => Act::SUCCEED,
                    0..5 => Act::SUCCEED,
                    5 => Act::Skip,
                    6 if failing > 0 => Act::Fatal,
                    _ => Act::Fail(failing),
                },
                retries,
                rule: if calm {
                    None
                } else {
                    Trigger::ALL.get(rule).copied()
                },
                seconds,
            }
        };
        plans.into_iter().enumerate().map(one).collect()
    })
}

#[task(retry_delay = "7s")]
async fn step(
    inputs: Vec<Option<u64>>,
    act: Act,
    seconds: u64,
    #[context] context: &Context,
) -> Result<u64> {
    if !seconds.is_multiple_of(3) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
    match act {
        Act::Skip => return Err(skip("as planned").into()),
        Act::Fatal => return Err(fatal("as planned").into()),
        Act::Fail(attempts) if context.attempt() <= attempts => return Err("as planned".into()),
        Act::Fail(_) => {}
    }
    Ok(inputs
        .iter()
        .flatten()
        .fold(1, |sum, input| sum.wrapping_mul(31).wrapping_add(*input)))
}

/// The inputs of a task, as many as there are.
#[task(trigger = always)]
async fn nothing() -> Vec<Option<u64>> {
    Vec::new()
}

#[task(trigger = all_done)]
async fn with(mut all: Vec<Option<u64>>, one: Option<u64>) -> Vec<Option<u64>> {
    all.push(one);
    all
}

#[flow]
fn random(plans: Vec<PlanData>) {
    let mut nodes: Vec<Node<u64>> = Vec::new();
    for (at, plan) in plans.into_iter().enumerate() {
        let mut inputs = nothing();
        for upstream in &plan.takes {
            inputs = with(inputs, &nodes[*upstream]);
        }
        let waits: Vec<&Node<u64>> = plan
            .takes
            .iter()
            .map(|upstream| &nodes[*upstream])
            .collect();
        let node = step(inputs, plan.act, plan.seconds).named(format!("step-{at}"));
        let node = node.retries(plan.retries).after(waits).allow_failure();
        nodes.push(match plan.rule {
            Some(rule) => node.trigger(rule.parse().unwrap()),
            None => node,
        });
    }
}

/// A plan as a parameter: rules travel by name.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct PlanData {
    takes: Vec<usize>,
    act: Act,
    retries: u32,
    rule: Option<String>,
    seconds: u64,
}

impl From<&Plan> for PlanData {
    fn from(plan: &Plan) -> Self {
        let Plan {
            takes,
            act,
            retries,
            rule,
            seconds,
        } = plan.clone();
        Self {
            takes,
            act,
            retries,
            rule: rule.map(|rule| rule.to_string()),
            seconds,
        }
    }
}

/// The model: what becomes of each task, and how many attempts it makes, by plain evaluation in
/// order.
///
/// A task's own rule sees its upstreams and the node that collects its inputs, which always
/// succeeds.
fn evaluate(plans: &[Plan]) -> Vec<(End, u32)> {
    let mut ends: Vec<(End, u32)> = Vec::new();
    for plan in plans {
        let upstreams: Vec<&End> = plan
            .takes
            .iter()
            .map(|upstream| &ends[*upstream].0)
            .collect();
        let count =
            |state: &dyn Fn(&End) -> bool| upstreams.iter().filter(|end| state(end)).count();
        let success = count(&|end| matches!(end, End::Success(_))) + 1;
        let broken = count(&|end| matches!(end, End::Failed | End::UpstreamFailed));
        let skipped = count(&|end| matches!(end, End::Skipped));
        let all = upstreams.len() + 1;
        let decision = match plan.rule.unwrap_or_default() {
            Trigger::AllSuccess if broken > 0 => Err(End::UpstreamFailed),
            Trigger::AllSuccess if skipped > 0 => Err(End::Skipped),
            Trigger::AllFailed if broken < all => Err(End::Skipped),
            Trigger::AllDoneMinOneSuccess if skipped > 0 => Err(End::Skipped),
            Trigger::OneFailed if broken == 0 => Err(End::Skipped),
            Trigger::NoneFailed | Trigger::NoneFailedMinOneSuccess if broken > 0 => {
                Err(End::UpstreamFailed)
            }
            Trigger::NoneSkipped if skipped > 0 => Err(End::Skipped),
            Trigger::AllSkipped if skipped < all => Err(End::Skipped),
            _ => Ok(()),
        };
        debug_assert!(success > 0);
        let end = match (decision, plan.act) {
            (Err(end), _) => (end, 0),
            (Ok(()), Act::Skip) => (End::Skipped, 1),
            (Ok(()), Act::Fatal) => (End::Failed, 1),
            (Ok(()), Act::Fail(attempts)) if attempts > plan.retries => {
                (End::Failed, plan.retries + 1)
            }
            (Ok(()), Act::Fail(attempts)) => {
                let inputs = upstreams.iter().filter_map(|end| match end {
                    End::Success(value) => Some(*value),
                    _ => None,
                });
                let value =
                    inputs.fold(1_u64, |sum, input| sum.wrapping_mul(31).wrapping_add(input));
                (End::Success(value), attempts + 1)
            }
        };
        ends.push(end);
    }
    ends
}

/// Whether a rule decides the same whatever the order in which its upstreams end.
fn is_settled(plans: &[Plan], ends: &[(End, u32)]) -> Vec<bool> {
    let mut settled: Vec<bool> = Vec::new();
    for plan in plans {
        let own = match plan.rule.unwrap_or_default() {
            // these start before all is done, and see the values that there are
            Trigger::Always | Trigger::OneSuccess | Trigger::OneDone | Trigger::OneFailed => false,
            // these give up at the first reason to, and there are two
            Trigger::AllSuccess | Trigger::AllDoneMinOneSuccess => {
                let upstreams = || plan.takes.iter().map(|upstream| &ends[*upstream].0);
                let broken =
                    upstreams().any(|end| matches!(end, End::Failed | End::UpstreamFailed));
                !(broken && upstreams().any(|end| matches!(end, End::Skipped)))
            }
            _ => true,
        };
        settled.push(own && plan.takes.iter().all(|upstream| settled[*upstream]));
    }
    settled
}

/// A tokio runtime in which time passes at once.
fn one_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

fn three_threads() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_time()
        .build()
        .unwrap()
}

fn compare(plans: &[Plan], tokio: &tokio::runtime::Runtime) {
    let ends = evaluate(plans);
    let settled = is_settled(plans, &ends);
    tokio.block_on(async {
        let data: Vec<PlanData> = plans.iter().map(PlanData::from).collect();
        let run = random(data)
            .on(&crate::support::runtime())
            .run()
            .await
            .unwrap();
        let tasks: std::collections::HashMap<String, (TaskState, u32)> = run
            .tasks()
            .iter()
            .map(|task| (task.key(), (task.state(), task.attempts())))
            .collect();
        for (at, (end, attempts)) in ends.iter().enumerate().filter(|(at, _)| settled[*at]) {
            let state = match end {
                End::Success(_) => TaskState::Success,
                End::Failed => TaskState::Failed,
                End::Skipped => TaskState::Skipped,
                End::UpstreamFailed => TaskState::UpstreamFailed,
            };
            assert_eq!(
                tasks[&format!("step-{at}")],
                (state, *attempts),
                "step-{at} of {plans:#?}"
            );
        }
        let is_over = run.tasks().iter().all(|task| task.state().is_final());
        assert!(is_over, "{plans:#?}");
    });
}

#[task]
async fn combine(inputs: Vec<u64>) -> u64 {
    inputs
        .iter()
        .fold(1, |sum, input| sum.wrapping_mul(31).wrapping_add(*input))
}

#[flow]
fn calm(takes: Vec<Vec<usize>>) -> Node<u64> {
    let mut nodes: Vec<Node<u64>> = Vec::new();
    for takes in &takes {
        nodes.push(combine(gather(
            takes.iter().map(|upstream| nodes[*upstream].clone()),
        )));
    }
    combine(gather(nodes))
}

proptest! {
    #![proptest_config(Config { cases: 200, ..Config::default() })]

    #[test]
    fn a_random_graph_gives_what_plain_evaluation_gives(plans in plans(1..60, true)) {
        let ends = evaluate(&plans);
        let values = ends.iter().map(|(end, _)| match end {
            End::Success(value) => *value,
            other => unreachable!("{other:?}"),
        });
        let expected = values.fold(1_u64, |sum, value| sum.wrapping_mul(31).wrapping_add(value));
        let takes = plans.into_iter().map(|plan| plan.takes).collect::<Vec<_>>();
        let run = async { calm(takes).on(&crate::support::runtime()).await };
        assert_eq!(three_threads().block_on(run).unwrap(), expected);
    }

    #[test]
    fn failures_skips_retries_and_rules_are_as_the_model_says(plans in plans(1..40, false)) {
        compare(&plans, &one_thread());
    }
}

#[test]
fn a_graph_on_several_threads_is_as_the_model_says() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..50 {
        let mut plans = plans(1..60, false).new_tree(&mut runner).unwrap().current();
        // time is real here, so no task waits
        for plan in &mut plans {
            if matches!(plan.act, Act::Fail(attempts) if attempts <= plan.retries) {
                plan.act = Act::SUCCEED;
            }
            (plan.seconds, plan.retries) = (0, 0);
        }
        compare(&plans, &three_threads());
    }
}
