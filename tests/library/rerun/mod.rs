//! Finished runs, run again: what runs, what is kept, and what is told of it. On files of SQLite,
//! but for what says otherwise: a store in memory keeps no results.

mod bodies;
mod lives;
mod random;
mod selection;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use orchestrator::prelude::*;
use orchestrator::{AttemptRecord, Clock, Rerun, RerunError, RunId, RunRecord, Runtime, gather};
use parking_lot::Mutex;
use tokio::time::Instant;

use Rerun::{All, Failed};

fn from(key: &str) -> Rerun {
    Rerun::From(key.to_owned())
}

fn only(key: &str) -> Rerun {
    Rerun::Only(key.to_owned())
}

/// What the tasks of a test do, and which of them ran.
#[derive(Debug, Default)]
struct World {
    /// The keys of those that fail, and of those that skip.
    failing: BTreeSet<String>,
    skipping: BTreeSet<String>,
    /// The keys of those that wait for ever.
    stuck: BTreeSet<String>,
    /// What is added to a result, by key; and how long a list is.
    added: HashMap<String, u64>,
    ran: Vec<String>,
}

static WORLDS: LazyLock<Mutex<HashMap<String, World>>> = LazyLock::new(Mutex::default);

fn in_world<T>(world: &str, act: impl FnOnce(&mut World) -> T) -> T {
    act(WORLDS.lock().entry(world.to_owned()).or_default())
}

fn fails(world: &str, keys: &[&str]) {
    in_world(world, |world| {
        world.failing = keys.iter().map(|key| (*key).to_owned()).collect()
    });
}

fn skips(world: &str, keys: &[&str]) {
    in_world(world, |world| {
        world.skipping = keys.iter().map(|key| (*key).to_owned()).collect()
    });
}

fn adds(world: &str, key: &str, number: u64) {
    in_world(world, |world| world.added.insert(key.to_owned(), number));
}

fn added(world: &str, key: &str) -> u64 {
    in_world(world, |world| world.added.get(key).copied().unwrap_or(0))
}

/// The keys of what ran since this was asked for last, in the order of the alphabet.
fn ran(world: &str) -> String {
    let mut ran = in_world(world, |world| std::mem::take(&mut world.ran));
    ran.sort();
    ran.join(" ")
}

async fn act(world: &str, context: &Context) -> Result<u64> {
    let key = context.key();
    let (stuck, failing, skipping, added) = in_world(world, |world| {
        world.ran.push(key.to_owned());
        let added = world.added.get(key).copied().unwrap_or(0);
        (
            world.stuck.contains(key),
            world.failing.contains(key),
            world.skipping.contains(key),
            added,
        )
    });
    if stuck {
        tokio::time::sleep(Duration::from_secs(600)).await;
    }
    match (failing, skipping) {
        (true, _) => Err(format!("{key} fails").into()),
        (_, true) => Err(skip("not today").into()),
        _ => Ok(added),
    }
}

#[task]
async fn start(world: &str, #[context] context: &Context) -> Result<u64> {
    act(world, context).await
}

#[task]
async fn step(world: &str, input: u64, #[context] context: &Context) -> Result<u64> {
    Ok(act(world, context).await? + input + 1)
}

#[task]
async fn both(world: &str, a: u64, b: u64, #[context] context: &Context) -> Result<u64> {
    Ok(act(world, context).await? + a * 100 + b)
}

#[task]
async fn list(world: &str, length: u64, #[context] context: &Context) -> Result<Vec<u64>> {
    let more = act(world, context).await?;
    Ok((0..length + more).collect())
}

#[task]
async fn total(world: &str, all: Vec<u64>, #[context] context: &Context) -> Result<u64> {
    Ok(act(world, context).await? + all.iter().sum::<u64>())
}

#[task]
async fn seen(world: &str, outcome: Outcome<u64>, #[context] context: &Context) -> Result<u64> {
    let added = act(world, context).await?;
    Ok(match outcome {
        Outcome::Success(value) => value + added,
        Outcome::Failed(_) => 1_000,
        Outcome::Skipped(_) => 2_000,
        Outcome::UpstreamFailed => 3_000,
    })
}

#[task]
async fn note(world: &str, #[context] context: &Context) -> Result<u64> {
    act(world, context).await
}

fn file() -> PathBuf {
    crate::support::new_folder("rerun").join("runs.db")
}

async fn open(path: &std::path::Path) -> Runtime {
    let store = format!("sqlite:{}", path.display());
    Runtime::builder()
        .store(store)
        .grace(Duration::from_millis(50))
        .build()
        .await
        .unwrap()
}

async fn sqlite() -> Runtime {
    open(&file()).await
}

/// A runtime on a file, whose time goes on with tokio's.
async fn paused() -> Runtime {
    let store = format!("sqlite:{}", file().display());
    Runtime::builder()
        .store(store)
        .clock(Clock::tokio_from_now())
        .build()
        .await
        .unwrap()
}

/// The tasks as `key state attempts`, where the state is not `success`, and `key attempts` where it
/// is.
fn tasks(record: &RunRecord) -> String {
    let task = |task: orchestrator::TaskRun<'_>| match task.state() {
        TaskState::Success => format!("{} {}", task.key(), task.attempts()),
        state => format!("{} {state} {}", task.key(), task.attempts()),
    };
    record
        .tasks()
        .iter()
        .map(task)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The attempts as `key number state`.
fn told(attempts: &[AttemptRecord]) -> Vec<String> {
    attempts
        .iter()
        .map(|attempt| format!("{} {} {}", attempt.key, attempt.number, attempt.state))
        .collect()
}

#[flow(name = "rerun_chain")]
fn chain(world: String) -> Node<u64> {
    let a = start(&world).named("a");
    let b = step(&world, a).named("b");
    step(&world, b).named("c")
}

#[flow(name = "rerun_mapped")]
fn mapped(world: String) -> Node<u64> {
    let numbers = list(&world, 4_u64).named("list");
    let first = numbers.expand({
        let world = world.clone();
        move |n| step(&world, n).named("first")
    });
    let second = first.expand({
        let world = world.clone();
        move |n| step(&world, n).named("second")
    });
    total(&world, second).named("total")
}
