//! Bodies that keep others waiting: their flow leaves slots to others, and they are told of.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use orchestrator::prelude::*;
use tokio::sync::Semaphore;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt as _};

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keeps bodies until it is opened, and counts those that came.
#[derive(Clone)]
struct Gate(Arc<Inner>);

struct Inner {
    came: AtomicU32,
    is_open: Mutex<bool>,
    opened: Condvar,
    /// Without permits, and closed when the gate is open.
    closed_when_open: Semaphore,
}

impl Default for Gate {
    fn default() -> Self {
        let (came, is_open, opened) = (AtomicU32::new(0), Mutex::default(), Condvar::new());
        Self(Arc::new(Inner {
            came,
            is_open,
            opened,
            closed_when_open: Semaphore::new(0),
        }))
    }
}

impl Gate {
    fn open(&self) {
        *self.0.is_open.lock().unwrap() = true;
        self.0.opened.notify_all();
        self.0.closed_when_open.close();
    }

    /// Blocks the thread until the gate is open. Returns whether it is.
    fn block(&self) -> bool {
        self.0.came.fetch_add(1, SeqCst);
        let is_open = self.0.is_open.lock().unwrap();
        *self
            .0
            .opened
            .wait_timeout_while(is_open, PATIENCE, |is_open| !*is_open)
            .unwrap()
            .0
    }

    async fn wait(&self) {
        self.0.came.fetch_add(1, SeqCst);
        let _ = self.0.closed_when_open.acquire().await;
    }

    async fn until_came(&self, bodies: u32) {
        while self.0.came.load(SeqCst) < bodies {
            tokio::task::yield_now().await;
        }
    }
}

#[task]
fn hangs(_n: u32, #[resource] gate: &Gate) -> bool {
    gate.block()
}

#[task]
async fn hangs_async(_n: u32, #[resource] gate: &Gate) {
    gate.wait().await;
}

#[task]
fn quick(n: u32) -> u32 {
    n + 1
}

#[task]
async fn quick_async(n: u32) -> u32 {
    n + 1
}

#[flow(name = "hung_blocking")]
fn blocking(bodies: u32) -> Mapped<bool> {
    expand((0..bodies).collect::<Vec<u32>>(), hangs)
}

#[flow(name = "hung_async")]
fn waiting(bodies: u32) -> Mapped<()> {
    expand((0..bodies).collect::<Vec<u32>>(), hangs_async)
}

#[flow(name = "hung_beside")]
fn beside() -> (Mapped<u32>, Mapped<u32>) {
    (
        expand((0..100).collect::<Vec<u32>>(), quick),
        expand((0..300).collect::<Vec<u32>>(), quick_async),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flow_whose_bodies_hang_leaves_slots_to_other_flows() -> Result<()> {
    let gate = Gate::default();
    let runtime = crate::support::builder()
        .resource(gate.clone())
        .build()
        .await?;
    let threads = blocking(70).on(&runtime).start().await?;
    let bodies = waiting(260).on(&runtime).start().await?;
    // alone they may have every slot
    gate.until_came(64 + 256).await;
    let run = tokio::time::timeout(PATIENCE, beside().on(&runtime).run()).await??;
    assert_eq!(run.state(), RunState::Success, "{run:?}");
    // there are no more of theirs than there are slots
    assert_eq!(gate.0.came.load(SeqCst), 64 + 256);
    gate.open();
    assert_eq!(threads.await?.output().map(Vec::len), Some(70));
    assert_eq!(bodies.await?.output().map(Vec::len), Some(260));
    Ok(())
}

/// Opens a gate when a warning tells of a body that keeps its thread.
struct OpensWhenTold(Gate, Arc<Mutex<Vec<String>>>);

#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push_str(&format!("{}={value:?} ", field.name()));
    }
}

impl<S: Subscriber> Layer<S> for OpensWhenTold {
    fn on_event(&self, event: &Event<'_>, _: LayerContext<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        if text.0.contains("has kept its thread") {
            self.1.lock().unwrap().push(text.0);
            self.0.open();
        }
    }
}

#[task]
async fn keeps_the_thread(#[resource] gate: &Gate) -> bool {
    gate.block()
}

#[flow(name = "hung_thread")]
fn keeps() -> Node<bool> {
    keeps_the_thread()
}

#[flow(name = "hung_body")]
async fn keeps_in_its_body() -> Result<bool> {
    quick_async(1).await?;
    Ok(BODY.block())
}

static BODY: std::sync::LazyLock<Gate> = std::sync::LazyLock::new(Gate::default);

#[test]
fn body_that_blocks_the_only_thread_is_reported_meanwhile() -> Result<()> {
    for (flow, gate, what) in [
        (keeps(), Gate::default(), "task `keeps_the_thread`"),
        (keeps_in_its_body(), BODY.clone(), "flow `hung_body`"),
    ] {
        let _case = crate::support::case(what);
        let told = Arc::new(Mutex::new(Vec::new()));
        let layer = OpensWhenTold(gate.clone(), Arc::clone(&told));
        let subscriber = tracing_subscriber::registry()
            .with(orchestrator::log_layer())
            .with(layer);
        let _subscriber = tracing::subscriber::set_default(subscriber);
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        tokio.block_on(async {
            let runtime = crate::support::builder().resource(gate).build().await?;
            let run = flow.on(&runtime).run().await?;
            // the gate was opened by the warning
            assert_eq!(run.output(), Some(&true));
            let told = told.lock().unwrap().clone();
            assert!(
                told.len() == 1 && told[0].contains(what) && told[0].contains("hung.rs:"),
                "{told:?}"
            );
            let lines = runtime.logs(run.id(), None).await?;
            let line = lines
                .iter()
                .find(|line| line.message.contains("has kept its thread"));
            let attempt = line.map(|line| line.attempt);
            assert_eq!(
                attempt,
                Some(what.starts_with("task").then_some(1)),
                "{lines:?}"
            );
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        })?;
    }
    Ok(())
}

/// Keeps the thread for some time, in which nothing else of a runtime with one thread goes on.
fn keep_for(millis: u64) {
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(millis) {
        std::thread::park_timeout(Duration::from_millis(millis));
    }
}

#[task(timeout = "20ms")]
async fn late_at_once() -> u32 {
    keep_for(60);
    1
}

#[task(timeout = "20ms")]
async fn late_after_a_wait() -> u32 {
    tokio::task::yield_now().await;
    keep_for(60);
    1
}

#[task(timeout = "20ms")]
fn late_on_its_thread() -> u32 {
    keep_for(60);
    1
}

#[task]
async fn keeps_meanwhile() -> u32 {
    keep_for(120);
    1
}

#[flow(name = "hung_late")]
fn late() -> (Node<u32>, Node<u32>, Node<u32>, Node<u32>) {
    // the blocking one returns while nobody can see it
    (
        late_on_its_thread(),
        keeps_meanwhile(),
        late_at_once(),
        late_after_a_wait(),
    )
}

#[flow(name = "hung_late_body", timeout = "20ms")]
async fn late_body() -> Result<u32> {
    quick_async(1).await?;
    keep_for(60);
    Ok(1)
}

#[flow(name = "hung_late_inner")]
async fn late_inner() -> Result<u32> {
    Ok(late_body().await?)
}

#[tokio::test]
async fn a_flow_whose_body_returns_after_its_timeout_has_timed_out() -> Result<()> {
    for flow in [late_body(), late_inner()] {
        let run = flow.on(&crate::support::runtime()).run().await?;
        assert!(
            run.error()
                .is_some_and(|error| error.to_string().contains("timed out")),
            "{run:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_body_that_returns_after_its_timeout_has_timed_out() -> Result<()> {
    let run = late().on(&crate::support::runtime()).run().await?;
    for task in run.tasks().iter() {
        let timed_out = task
            .error()
            .is_some_and(|error| error.to_string().contains("timed out"));
        assert_eq!(timed_out, task.key() != "keeps_meanwhile", "{task:?}");
    }
    Ok(())
}
