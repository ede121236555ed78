//! What comes back of results that a store keeps, of parameters, and of what is cached.
#![allow(clippy::option_option, reason = "what becomes of them is tested")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use orchestrator::Rerun;
use orchestrator::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::support;

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Event {
    Login { from: IpAddr },
    Charged { cents: i128 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Logged {
    line: u64,
    #[serde(flatten)]
    event: Event,
}

/// A runtime on a file.
async fn sqlite() -> Runtime {
    on(&support::file()).await
}

async fn on(file: &std::path::Path) -> Runtime {
    Runtime::builder()
        .store(support::url(file))
        .build()
        .await
        .unwrap()
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| Value::Array(vec![inner]))
}

#[track_caller]
fn error_of<T: orchestrator::Data>(run: &Run<T>, task: &str) -> String {
    assert_eq!(run.state(), RunState::Failed);
    run.task(task).unwrap().error().unwrap().to_string()
}

#[tokio::test]
async fn results_that_serde_buffers_are_read_back_by_the_next_process() {
    static LOGINS: AtomicU32 = AtomicU32::new(0);
    static READY: AtomicU32 = AtomicU32::new(0);
    #[task]
    async fn log_in() -> Logged {
        LOGINS.fetch_add(1, SeqCst);
        Logged {
            line: 1,
            event: Event::Login { from: HOME },
        }
    }
    #[task]
    async fn read(logged: &Logged) -> Result<String> {
        match READY.load(SeqCst) {
            0 => Err("not yet".into()),
            _ => Ok(format!("{logged:?}")),
        }
    }
    #[flow(name = "kept_buffered")]
    fn buffered() -> Node<String> {
        read(log_in())
    }
    let file = support::file();
    let run = buffered().on(&on(&file).await).run().await.unwrap();
    assert_eq!(run.state(), RunState::Failed);
    READY.store(1, SeqCst);
    let runtime = on(&file).await;
    let again = runtime.rerun(run.id(), Rerun::Failed).await.unwrap();
    assert_eq!(
        (again.state(), LOGINS.load(SeqCst)),
        (RunState::Success, 1),
        "{:?}",
        again.error()
    );
}

#[tokio::test]
async fn a_result_that_cannot_be_read_back_fails_its_task_by_type_and_reason() {
    #[task]
    async fn charge(cents: i128) -> Event {
        Event::Charged { cents }
    }
    #[flow(name = "kept_unreadable")]
    fn unreadable() -> Node<Event> {
        charge(7_i128)
    }
    #[flow(name = "kept_unreadable_output")]
    async fn output() -> Result<Event> {
        Ok(Event::Charged { cents: 7 })
    }
    let runtime = sqlite().await;
    let run = unreadable().on(&runtime).run().await.unwrap();
    let error = error_of(&run, "charge");
    let expected = "its result cannot be kept: `Event`: its encoded form cannot be decoded: i128 is not supported";
    assert!(error.contains(expected), "{error}");
    let run = output().on(&runtime).run().await.unwrap();
    assert_eq!(run.state(), RunState::Failed);
    let error = run.error().unwrap().to_string();
    assert!(
        error.contains("what the flow returned cannot be kept: `Event`: its encoded form"),
        "{error}"
    );
}

#[tokio::test]
async fn cached_results_that_serde_buffers_are_found() {
    static BODIES: AtomicU32 = AtomicU32::new(0);
    #[task(cache = "1h")]
    async fn log_in(line: u64) -> Logged {
        BODIES.fetch_add(1, SeqCst);
        Logged {
            line,
            event: Event::Login { from: HOME },
        }
    }
    #[flow(name = "kept_cached")]
    fn cached() -> Node<Logged> {
        log_in(1_u64)
    }
    let file = support::file();
    for _ in 0..2 {
        let event = Event::Login { from: HOME };
        assert_eq!(
            cached().on(&on(&file).await).await.unwrap(),
            Logged { line: 1, event }
        );
    }
    assert_eq!(BODIES.load(SeqCst), 1);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[tokio::test]
async fn some_unit_is_never_stored_as_none() {
    #[task]
    async fn nested() -> Option<Option<u8>> {
        Some(None)
    }
    #[task]
    async fn unit() -> Option<()> {
        Some(())
    }
    #[task]
    async fn unit_struct() -> Option<Unit> {
        Some(Unit)
    }
    type Values = Vec<Option<Option<u8>>>;
    #[task]
    async fn values() -> Values {
        vec![Some(Some(1)), None]
    }
    #[flow(name = "kept_some")]
    fn each() -> (Node<Option<Option<u8>>>, Node<Option<()>>) {
        (nested(), unit())
    }
    #[flow(name = "kept_some_values")]
    fn kept() -> (Node<Option<Unit>>, Node<Values>) {
        (unit_struct(), values())
    }
    let runtime = sqlite().await;
    let run = each().on(&runtime).run().await.unwrap();
    for (task, expected) in [
        (
            "nested",
            "`Option<Option<u8>>`: `Some(None)` would be read back as `None`",
        ),
        (
            "unit",
            "`Option<()>`: `Some(())` would be read back as `None`",
        ),
    ] {
        let _case = support::case(expected);
        let error = error_of(&run, task);
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(
        kept().on(&runtime).await.unwrap(),
        (Some(Unit), vec![Some(Some(1)), None])
    );
    // in memory nothing is written
    assert_eq!(
        each().on(&Runtime::in_memory()).await.unwrap(),
        (Some(None), Some(()))
    );
}

#[tokio::test]
async fn some_unit_and_none_have_different_cache_keys() {
    static BODIES: AtomicU32 = AtomicU32::new(0);
    #[task(cache = "1h")]
    async fn show(inner: Option<Option<u8>>, unit: Option<()>, named: Option<Unit>) -> String {
        BODIES.fetch_add(1, SeqCst);
        format!("{inner:?} {unit:?} {named:?}")
    }
    #[task]
    async fn together(shown: Vec<String>) -> Vec<String> {
        shown
    }
    #[flow(name = "kept_inputs")]
    fn inputs() -> Node<Vec<String>> {
        let nodes = [
            show(None, None, None),
            show(Some(None), None, None),
            show(None, Some(()), None),
            show(None, None, Some(Unit)),
        ];
        together(nodes)
    }
    let runtime = sqlite().await;
    for _ in 0..2 {
        let shown = inputs().on(&runtime).await.unwrap();
        assert_eq!(
            shown,
            [
                "None None None",
                "Some(None) None None",
                "None Some(()) None",
                "None None Some(Unit)"
            ]
        );
    }
    assert_eq!(BODIES.load(SeqCst), 4);
}

#[tokio::test]
async fn parameters_that_json_cannot_tell_apart_are_refused_by_name() {
    #[flow(name = "kept_parameters")]
    fn takes(inner: Option<Option<u8>>, unit: Option<()>, named: Option<Unit>) {
        let _ = (inner, unit, named);
    }
    let runtime = sqlite().await;
    for (flow, expected) in [
        (
            takes(Some(None), None, None),
            "parameter `inner: Option<Option<u8>>` cannot be stored as JSON: `Some(None)` would",
        ),
        (
            takes(None, Some(()), None),
            "parameter `unit: Option<()>` cannot be stored as JSON: `Some(())` would",
        ),
        (
            takes(None, None, Some(Unit)),
            "parameter `named: Option<Unit>` cannot be stored as JSON: `Some(Unit)` would",
        ),
    ] {
        let _case = support::case(expected);
        let error = flow.on(&runtime).run().await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    takes(Some(Some(1)), None, None).on(&runtime).await.unwrap();
}

#[tokio::test]
async fn parameters_have_one_limit_of_depth_however_they_are_given() {
    #[flow(name = "kept_deep")]
    fn deep(value: Value) {
        let _ = value;
    }
    let file = support::file();
    let runtime = on(&file).await;
    let given = |levels| Map::from_iter([("value".to_owned(), nested(levels))]);
    deep(nested(64)).on(&runtime).await.unwrap();
    runtime.trigger("kept_deep", given(64)).await.unwrap();
    let expected = "expected at most 64 levels of nesting, got more";
    for levels in [65, 127, 1_000] {
        let _case = support::case(format_args!("{levels} levels"));
        let call = deep(nested(levels)).on(&runtime).run().await.unwrap_err();
        let triggered = runtime
            .trigger("kept_deep", given(levels))
            .await
            .unwrap_err();
        for error in [call.to_string(), triggered.to_string()] {
            assert!(
                error.contains("parameter `value: Value`") && error.contains(expected),
                "{error}"
            );
        }
    }
    // what was accepted is read by the next process
    assert_eq!(on(&file).await.runs("kept_deep").await.unwrap().len(), 2);
}

#[tokio::test]
async fn results_within_the_depth_limit_are_read_back() {
    #[task]
    async fn make(levels: usize) -> Value {
        nested(levels)
    }
    #[task]
    async fn fail(value: &Value) -> Result<()> {
        Err(format!("{}", value.is_array()).into())
    }
    #[flow(name = "kept_deep_results")]
    fn deep(levels: usize) -> Node<()> {
        fail(make(levels))
    }
    let file = support::file();
    for levels in [257, 1_100, 5_000] {
        let _case = support::case(format_args!("{levels} levels"));
        let run = deep(levels).on(&on(&file).await).run().await.unwrap();
        let error = error_of(&run, "make");
        assert!(
            error.contains("`Value`: expected at most 256 levels of nesting, got more"),
            "{error}"
        );
    }
    let run = deep(256).on(&on(&file).await).run().await.unwrap();
    assert_eq!(run.task("make").unwrap().state(), TaskState::Success);
    let again = on(&file)
        .await
        .rerun(run.id(), Rerun::Failed)
        .await
        .unwrap();
    assert_eq!(
        again.task("fail").unwrap().error().unwrap().to_string(),
        "true"
    );
    assert_eq!(again.task("make").unwrap().attempts(), 1);
}

#[tokio::test]
async fn json_values_are_results_and_parameters_as_they_are() {
    #[task]
    async fn pass(value: Value) -> Value {
        value
    }
    #[flow(name = "kept_json")]
    fn passed(value: Value, wide: u128) -> (Node<Value>, Node<Value>) {
        (pass(value), pass(Value::from(wide.to_string())))
    }
    let value = json!({ "a": [1, -1, u64::MAX, 0.5, 1e300], "b": { "c": null, "d": "x" } });
    let runtime = sqlite().await;
    let flow = passed(value.clone(), u128::MAX);
    let run = flow.clone().key("one").on(&runtime).run().await.unwrap();
    assert_eq!(
        run.output().unwrap(),
        &(value.clone(), json!(u128::MAX.to_string()))
    );
    // the parameters are those that are recorded
    assert_eq!(
        flow.key("one").on(&runtime).run().await.unwrap().id(),
        run.id()
    );
    let other = passed(value, u128::MAX - 1)
        .key("one")
        .on(&runtime)
        .run()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        other.contains("\"wide\":340282366920938463463374607431768211454"),
        "{other}"
    );
}
