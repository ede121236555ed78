//! Flows in flows, parameters, contexts, logical dates.

use chrono::{DateTime, Utc};
use orchestrator::prelude::*;
use std::collections::HashMap;

#[task]
async fn add(a: u32, b: u32) -> u32 {
    a + b
}

#[task]
async fn fails() -> Result<u32> {
    Err("broken".into())
}

#[task]
async fn note(n: Outcome<u32>) -> String {
    match n {
        Outcome::Success(n) => n.to_string(),
        Outcome::Failed(error) => format!("failed: {error}"),
        Outcome::Skipped(reason) => format!("skipped: {reason}"),
        Outcome::UpstreamFailed => "upstream failed".to_owned(),
    }
}

#[flow]
fn sum_of(a: u32, b: u32) -> Node<u32> {
    add(add(a, b), 0)
}

#[flow]
async fn doubled(n: u32) -> Result<u32> {
    let once = add(n, 0).await?;
    Ok(add(once, once).await?)
}

#[flow]
fn broken_inside() -> Node<u32> {
    add(fails(), 1)
}

#[flow(name = "flows_gives_up")]
async fn gives_up() -> Result<u32> {
    let _never = add(add(1, 1).after(fails().allow_failure()), 1);
    Err("no data".into())
}

#[tokio::test]
async fn a_flow_in_a_flow_is_a_part_of_its_run() -> Result<()> {
    #[flow]
    fn outer() -> Node<u32> {
        add(sum_of(1, 2), add(doubled(10), sum_of(3, 4)))
    }
    let runtime = crate::support::runtime();
    let run = outer().on(&runtime).run().await?;
    assert_eq!(run.output(), Some(&30));
    for key in [
        "sum_of",
        "doubled",
        "sum_of/add",
        "sum_of/add#2",
        "doubled/add#2",
        "sum_of#2/add",
        "add#2",
    ] {
        assert_eq!(
            run.task(key).unwrap_or_else(|| panic!("{key}")).state(),
            TaskState::Success
        );
    }
    assert!(runtime.runs("sum_of").await?.is_empty());
    assert_eq!(runtime.runs("outer").await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_flow_in_a_flow_fails_as_a_node_does() -> Result<()> {
    #[flow]
    fn unhandled() -> Node<u32> {
        add(broken_inside(), 1)
    }
    #[flow]
    fn handled() -> (Node<String>, Node<String>) {
        (note(broken_inside()), note(gives_up()))
    }
    #[flow]
    async fn awaited() -> Result<String> {
        let error = broken_inside().await.unwrap_err().to_string();
        let other = gives_up().await.unwrap_err().to_string();
        Ok(format!("{error} | {other}"))
    }
    let runtime = crate::support::runtime();
    let run = unhandled().on(&runtime).run().await?;
    assert_eq!(run.state(), RunState::Failed);
    assert!(run.error().unwrap().to_string().contains("broken"));
    let run = handled().on(&runtime).run().await?;
    assert_eq!(run.state(), RunState::Success, "{:?}", run.error());
    assert_eq!(
        run.output().unwrap(),
        &("upstream failed".to_owned(), "failed: no data".to_owned())
    );
    let text = awaited().on(&runtime).await?;
    assert!(
        text.contains("broken") && text.ends_with("no data"),
        "{text}"
    );
    Ok(())
}

#[tokio::test]
async fn a_hundred_flows_side_by_side() -> Result<()> {
    #[task]
    async fn total(all: Vec<u32>) -> u32 {
        all.into_iter().sum()
    }
    #[flow(name = "flows_many")]
    async fn many() -> Result<u32> {
        let flows = (0..100).map(|n| async move { doubled(n).await });
        let results = futures(flows).await;
        Ok(total(
            results
                .into_iter()
                .collect::<std::result::Result<Vec<u32>, TaskError>>()?,
        )
        .await?)
    }
    assert_eq!(many().on(&crate::support::runtime()).await?, 9900);
    Ok(())
}

/// Awaits all, side by side.
async fn futures<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = all.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(move |cx| {
        for (future, output) in waiting.iter_mut().filter(|(_, output)| output.is_none()) {
            if let std::task::Poll::Ready(ready) = future.as_mut().poll(cx) {
                *output = Some(ready);
            }
        }
        match waiting.iter().all(|(_, output)| output.is_some()) {
            true => {
                std::task::Poll::Ready(waiting.drain(..).filter_map(|(_, output)| output).collect())
            }
            false => std::task::Poll::Pending,
        }
    })
    .await
}

#[tokio::test]
async fn a_run_has_its_parameters_its_date_and_its_interval() -> Result<()> {
    #[flow]
    fn dated(name: String, n: u32, #[context] context: &Context) -> Node<u32> {
        assert_eq!(context.flow(), "dated");
        assert_eq!((name.len() as u32, n), (3, 4));
        add(
            context.interval().end.timestamp() as u32,
            context.logical_date().timestamp() as u32,
        )
    }
    let at = |seconds| DateTime::<Utc>::from_timestamp(seconds, 0).unwrap();
    let runtime = crate::support::runtime();
    let flow = dated("abc".into(), 4)
        .logical_date(at(100))
        .interval(at(10), at(20));
    let run = flow.on(&runtime).run().await?;
    assert_eq!(run.output(), Some(&120));
    assert_eq!(
        (run.logical_date(), run.interval().start),
        (at(100), at(10))
    );
    assert_eq!(serde_json_text(run.parameters()), r#"{"name":"abc","n":4}"#);
    let run = dated("abc".into(), 4).on(&runtime).run().await?;
    assert!(run.interval().start == run.logical_date() && run.interval().end == run.logical_date());
    assert_eq!(run.created_at(), run.logical_date());
    let error = dated("abc".into(), 4)
        .interval(at(20), at(10))
        .on(&runtime)
        .run()
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("to end after its start"),
        "{error}"
    );
    Ok(())
}

fn serde_json_text(map: &impl std::fmt::Debug) -> String {
    let text = format!("{map:?}");
    match text.contains("\"abc\"") && text.contains('4') {
        true => r#"{"name":"abc","n":4}"#.to_owned(),
        false => text,
    }
}

#[tokio::test]
async fn each_attempt_of_a_node_has_the_same_idempotency_key() -> Result<()> {
    #[task(retries = 2)]
    async fn key(n: u32, #[context] context: &Context) -> Result<String> {
        let key = context.idempotency_key();
        KEYS.lock().unwrap().push((n, key.clone()));
        if context.attempt() < 3 {
            Err("again".into())
        } else {
            Ok(key)
        }
    }
    static KEYS: std::sync::Mutex<Vec<(u32, String)>> = std::sync::Mutex::new(Vec::new());
    #[flow]
    fn keys() -> Mapped<String> {
        expand(vec![0, 1, 2], key)
    }
    let keys = keys().on(&crate::support::runtime()).await?;
    assert_eq!(
        keys.iter().collect::<std::collections::HashSet<_>>().len(),
        3
    );
    let seen = KEYS.lock().unwrap().clone();
    assert_eq!(seen.len(), 9);
    assert!(seen.iter().all(|(n, key)| key == &keys[*n as usize]));
    Ok(())
}

#[tokio::test]
async fn two_flows_of_one_name_are_refused() {
    #[flow(name = "same")]
    fn one() -> Node<u32> {
        add(1, 1)
    }
    #[flow(name = "same")]
    fn other() -> Node<u32> {
        add(2, 2)
    }
    let runtime = crate::support::runtime();
    for flow in [one(), other()] {
        let error = flow.on(&runtime).run().await.unwrap_err().to_string();
        assert!(
            error.contains("`same`") && error.contains("flows.rs:"),
            "{error}"
        );
    }
    assert!(orchestrator::flows().any(|flow| flow.name == "sum_of"));
}

#[task(pool = "nowhere")]
async fn pooled() -> Result<u32> {
    unreachable!("it has no pool")
}

#[flow]
fn child_without_pool() -> Node<u32> {
    add(pooled(), add(1, 1))
}

#[tokio::test]
async fn missing_resources_of_inner_flows_are_found_before_the_run() -> Result<()> {
    #[flow]
    fn static_parent() -> Node<u32> {
        add(child_without_pool(), 1)
    }
    #[flow]
    async fn async_parent() -> Result<u32> {
        Ok(child_without_pool().await?)
    }
    let runtime = crate::support::runtime();
    let error = static_parent()
        .on(&runtime)
        .run()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`nowhere`") && error.contains("`pooled`"),
        "{error}"
    );
    let run = async_parent().on(&runtime).run().await?;
    assert!(run.error().unwrap().to_string().contains("`nowhere`"));
    assert_eq!(
        run.tasks()
            .iter()
            .map(|task| task.key())
            .collect::<Vec<_>>(),
        ["child_without_pool"]
    );
    Ok(())
}

#[task]
async fn long(seconds: u64) -> u32 {
    tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
    1
}

#[flow]
fn inner_of_three() -> Node<u32> {
    add(long(1000), 1)
}

#[flow]
async fn middle_of_three() -> Result<u32> {
    let inner = add(inner_of_three(), 1);
    long(1).await?;
    drop(inner);
    Err("given up".into())
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_fails_takes_the_flows_inside_it_along() -> Result<()> {
    #[flow]
    async fn outer_of_three() -> Result<u32> {
        Ok(middle_of_three().await.unwrap_or(7))
    }
    let started = tokio::time::Instant::now();
    let run = outer_of_three()
        .on(&crate::support::runtime())
        .run()
        .await?;
    assert_eq!(
        (run.output(), run.state(), started.elapsed().as_secs()),
        (Some(&7), RunState::Success, 1)
    );
    let state = |key: &str| run.task(key).unwrap().state();
    assert_eq!(state("middle_of_three"), TaskState::Failed);
    assert_eq!(
        state("middle_of_three/inner_of_three"),
        TaskState::Cancelled
    );
    assert_eq!(
        state("middle_of_three/inner_of_three/long"),
        TaskState::Cancelled
    );
    assert_eq!(
        state("middle_of_three/inner_of_three/add"),
        TaskState::Cancelled
    );
    Ok(())
}

#[flow(timeout = "5s")]
fn hurried() -> Node<u32> {
    long(1000)
}

#[tokio::test(start_paused = true)]
async fn the_timeout_of_a_flow_holds_inside_another() -> Result<()> {
    #[flow]
    async fn waits_for_hurried() -> Result<String> {
        Ok(hurried().await.unwrap_err().to_string())
    }
    let started = tokio::time::Instant::now();
    let text = waits_for_hurried().on(&crate::support::runtime()).await?;
    assert!(
        text.contains("timed out after 5s") && started.elapsed().as_secs() == 5,
        "{text}"
    );
    Ok(())
}

#[tokio::test]
async fn a_flow_awaited_in_a_body_runs_where_the_body_does() -> Result<()> {
    #[task]
    async fn runs_a_flow() -> Result<u32> {
        Ok(sum_of(1, 2).await?)
    }
    #[task]
    fn blocks_on_a_task() -> Result<u32> {
        Ok(tokio::runtime::Handle::current().block_on(add(1, 2).into_future())?)
    }
    #[flow]
    fn ambient() -> (Node<u32>, Node<u32>) {
        (runs_a_flow(), blocks_on_a_task())
    }
    let runtime = crate::support::runtime().mock(add, |a: u32, b: u32| a * 100 + b);
    assert_eq!(ambient().on(&runtime).await?, ((100 + 2) * 100, 102));
    Ok(())
}

#[tokio::test]
async fn parameters_come_back_from_json() -> Result<()> {
    #[flow(name = "flows_weighed")]
    fn weighed(
        weights: HashMap<u32, Vec<u32>>,
        only: Option<u32>,
        #[context] _context: &Context,
    ) -> Node<u32> {
        add(weights[&7][1], only.unwrap_or(0))
    }
    let runtime = crate::support::runtime();
    let weights = HashMap::from([(7, vec![1, 2]), (8, vec![])]);
    let run = weighed(weights.clone(), None).on(&runtime).run().await?;
    assert_eq!(run.output(), Some(&2));

    let definition = orchestrator::flows()
        .find(|flow| flow.name == "flows_weighed")
        .unwrap();
    let parse = |json: &[(&str, serde_json::Value)]| {
        let json = json
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        definition.function.parse(definition.parameters, &json)
    };
    let parsed = parse(&[("weights", run.parameters()["weights"].clone())])?;
    assert_eq!(
        *parsed
            .downcast::<(HashMap<u32, Vec<u32>>, Option<u32>)>()
            .unwrap(),
        (weights, None)
    );
    for (json, expected) in [
        (
            vec![("only", 1.into())],
            "parameter `weights: HashMap<u32, Vec<u32>>`: it is missing",
        ),
        (
            vec![("weights", "a".into())],
            "parameter `weights: HashMap<u32, Vec<u32>>`: invalid type: string \"a\"",
        ),
        (
            vec![("weight", 1.into())],
            "no parameter `weight` (parameters: `weights: HashMap<u32, Vec<u32>>`, `only: Option<u32>`)",
        ),
    ] {
        let _case = crate::support::case(format_args!("{json:?}"));
        let error = parse(&json).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn parameters_that_json_cannot_keep_are_refused() {
    #[flow(name = "flows_scaled")]
    fn scaled(n: u32, by: f64) -> Node<u32> {
        add(n, by as u32)
    }
    #[flow(name = "flows_weights")]
    fn weighed(weights: Option<Vec<f32>>) -> Node<u32> {
        add(weights.map_or(0, |weights| weights.len() as u32), 0)
    }
    #[flow(name = "flows_keyed")]
    fn keyed(pairs: HashMap<(u32, u32), u32>) -> Node<u32> {
        add(pairs[&(1, 2)], 0)
    }
    let runtime = crate::support::runtime();
    let error = scaled(1, f64::NAN)
        .on(&runtime)
        .run()
        .await
        .unwrap_err()
        .to_string();
    let expected = "flow `flows_scaled`: parameter `by: f64` cannot be stored as JSON: JSON cannot represent NaN";
    assert_eq!(error, expected);
    let error = weighed(Some(vec![1.0, f32::NEG_INFINITY]))
        .on(&runtime)
        .run()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with(
            "`weights: Option<Vec<f32>>` cannot be stored as JSON: JSON cannot represent -inf"
        ),
        "{error}"
    );
    let error = keyed(HashMap::from([((1, 2), 3)]))
        .on(&runtime)
        .run()
        .await
        .unwrap_err()
        .to_string();
    let expected = "flow `flows_keyed`: parameter `pairs: HashMap<(u32, u32), u32>` cannot be stored as JSON: key must";
    assert!(error.starts_with(expected), "{error}");
    assert!(runtime.runs("flows_scaled").await.unwrap().is_empty());
    assert_eq!(scaled(1, 2.5).on(&runtime).await.unwrap(), 3);
}

#[tokio::test]
async fn flow_may_be_defined_wherever_a_function_can() -> Result<()> {
    struct Shop;
    impl Shop {
        #[flow(name = "flows_of_a_type")]
        async fn opened(n: u32) -> Result<u32> {
            Ok(add(n, 1).await?)
        }
    }
    #[flow(name = "flows_of_a_function")]
    fn local(n: u32) -> Node<u32> {
        add(n, Shop::opened(1))
    }
    assert_eq!(local(1).on(&crate::support::runtime()).await?, 3);
    for name in ["flows_of_a_type", "flows_of_a_function"] {
        assert!(
            orchestrator::flows().any(|flow| flow.name == name),
            "{name}"
        );
    }
    Ok(())
}
