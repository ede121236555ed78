//! The spans of runs and of what is in them: each has its run's span, or that of the body which
//! awaits it, as its parent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orchestrator::prelude::*;
use tracing::Dispatch;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing_subscriber::layer::{Context as Cx, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

/// A span as it is told: `run FLOW`, `flow KEY`, `task KEY ATTEMPT`, or the name of any other.
#[derive(Default)]
struct Label(HashMap<&'static str, String>);

impl Visit for Label {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(
            field.name(),
            format!("{value:?}").trim_matches('"').to_owned(),
        );
    }
}

impl Label {
    fn of(attributes: &Attributes<'_>) -> String {
        let mut fields = Self::default();
        attributes.record(&mut fields);
        let field = |name| fields.0.get(name).cloned().unwrap_or_default();
        match attributes.metadata().name() {
            "run" => format!("run {}", field("flow")),
            "flow" => format!("flow {}", field("task")),
            "task" => format!("task {} {}", field("task"), field("attempt")),
            other => other.to_owned(),
        }
    }
}

/// Records each span that is made, with its parent: `task load 1 < run etl`.
#[derive(Clone, Default)]
struct Parents(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Parents {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Cx<'_, S>) {
        let span = context.span(id).unwrap();
        let label = Label::of(attributes);
        let parent = span.parent().map_or_else(
            || "nothing".to_owned(),
            |parent| parent.extensions().get::<String>().cloned().unwrap(),
        );
        self.0.lock().unwrap().push(format!("{label} < {parent}"));
        span.extensions_mut().insert(label);
    }
}

impl Parents {
    /// Listens on this thread.
    fn listen() -> (Self, tracing::subscriber::DefaultGuard) {
        let parents = Self::default();
        let subscriber = tracing_subscriber::registry().with(parents.clone());
        (parents, tracing::subscriber::set_default(subscriber))
    }

    /// A tokio runtime of which all threads are listened to, also those of blocking bodies.
    fn listen_everywhere() -> (Self, tokio::runtime::Runtime) {
        let parents = Self::default();
        let subscriber = Dispatch::new(tracing_subscriber::registry().with(parents.clone()));
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .on_thread_start(move || {
                Box::leak(Box::new(tracing::dispatcher::set_default(&subscriber)));
            })
            .build()
            .unwrap();
        (parents, tokio)
    }

    fn told(&self) -> Vec<String> {
        let mut told = std::mem::take(&mut *self.0.lock().unwrap());
        told.sort();
        told
    }
}

#[task]
async fn one() -> u32 {
    tokio::task::yield_now().await;
    tracing::info_span!("own").in_scope(|| 1)
}

#[task]
fn blocks(n: u32) -> u32 {
    n + 1
}

#[task(retries = 1)]
async fn flaky(n: u32, #[context] context: &Context) -> Result<u32> {
    if context.attempt() == 1 {
        Err("once".into())
    } else {
        Ok(n)
    }
}

#[task(cache = "1h")]
async fn cached(n: u32) -> u32 {
    n
}

#[flow]
async fn spans_inner(n: u32) -> Result<u32> {
    let n = cached(n).await?;
    Ok(blocks(n).await?)
}

#[task]
async fn sum(n: u32, inner: u32, _elements: Vec<u32>) -> u32 {
    n + inner
}

#[flow]
fn spans_all() -> Node<u32> {
    sum(
        flaky(blocks(one())),
        spans_inner(7),
        expand(vec![5, 6], cached),
    )
}

#[tokio::test]
async fn spans_of_attempts_and_of_flows_in_the_flow_are_children_of_their_run_s() -> Result<()> {
    let runtime = crate::support::runtime();
    let (parents, _listening) = Parents::listen();
    spans_all().on(&runtime).run().await?;
    let of_run = [
        "flow spans_inner",
        "task blocks 1",
        "task cached[0] 1",
        "task cached[1] 1",
        "task flaky 1",
        "task flaky 2",
        "task one 1",
        "task spans_inner/blocks 1",
        "task spans_inner/cached 1",
        "task sum 1",
    ];
    let mut expected: Vec<String> = of_run
        .map(|label| format!("{label} < run spans_all"))
        .into();
    expected.push("own < task one 1".to_owned());
    expected.push("run spans_all < nothing".to_owned());
    expected.sort();
    assert_eq!(parents.told(), expected);
    // what is cached does not run
    spans_all().on(&runtime).run().await?;
    expected.retain(|span| !span.contains("cached"));
    assert_eq!(parents.told(), expected);
    Ok(())
}

#[task]
async fn awaits() -> Result<u32> {
    let n = flaky(blocks(1)).await?;
    Ok(n + one().await?)
}

#[task]
fn awaits_on_a_thread() -> Result<u32> {
    Ok(tokio::runtime::Handle::current().block_on(one().into_future())?)
}

#[flow]
fn spans_in_bodies() -> (Node<u32>, Node<u32>) {
    (awaits(), awaits_on_a_thread())
}

#[test]
fn spans_of_what_a_body_awaits_are_children_of_the_body_s() {
    let (parents, tokio) = Parents::listen_everywhere();
    let run = tokio.spawn(async {
        let runtime = crate::support::builder().build().await.unwrap();
        spans_in_bodies().on(&runtime).run().await.unwrap();
    });
    tokio.block_on(run).unwrap();
    let expected = [
        "own < task one 1",
        "run spans_in_bodies < nothing",
        "task awaits 1 < run spans_in_bodies",
        "task awaits_on_a_thread 1 < run spans_in_bodies",
        "task blocks 1 < task awaits 1",
        "task flaky 1 < task awaits 1",
        "task flaky 2 < task awaits 1",
        "task one 1 < task awaits 1",
        "task one 1 < task awaits_on_a_thread 1",
    ];
    let mut told = parents.told();
    told.dedup();
    assert_eq!(told, expected);
}

/// A registry panics at a span that another one made.
#[test]
fn threads_may_have_different_subscribers() {
    let (elsewhere, tokio) = Parents::listen_everywhere();
    let (here, _listening) = Parents::listen();
    tokio.block_on(async {
        let runtime = crate::support::builder().build().await.unwrap();
        assert_eq!(
            spans_all().on(&runtime).run().await.unwrap().state(),
            RunState::Success
        );
    });
    assert_eq!(here.told()[0], "run spans_all < nothing");
    assert!(
        elsewhere
            .told()
            .contains(&"task flaky 2 < nothing".to_owned())
    );
}

#[task]
async fn for_ever() {
    std::future::pending().await
}

#[task(trigger = all_done, run_on_cancel)]
async fn cleans_up(_before: Option<()>) {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[flow]
fn spans_cancelled() {
    cleans_up(for_ever());
}

#[tokio::test(start_paused = true)]
async fn a_clean_up_s_span_is_a_child_of_its_run_s() -> Result<()> {
    let runtime = crate::support::runtime();
    let (parents, _listening) = Parents::listen();
    let handle = spans_cancelled().on(&runtime).start().await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    handle.cancel();
    assert_eq!(handle.await?.state(), RunState::Cancelled);
    let expected = [
        "run spans_cancelled < nothing",
        "task cleans_up 1 < run spans_cancelled",
        "task for_ever 1 < run spans_cancelled",
    ];
    assert_eq!(parents.told(), expected);
    Ok(())
}
