//! durare 0.5 on SQLite, for the durable comparison of `benches/peers`, which starts this program,
//! asks it for a pass by a line (`chain 1000`) and gets a line back: how many nanoseconds the pass
//! took.
//!
//! As its guides have it: a workflow whose steps are closures given to `DurableContext::step`;
//! steps that need nothing of each other are built first and joined (guide `design`, "Concurrent
//! work"), in one workflow, as a queue or a child workflow a step writes several times as much. The
//! pool is made by hand (guide `operations`) with the options that `SqliteProvider::connect` sets
//! (WAL, `synchronous = NORMAL`, foreign keys, 5 seconds' patience) but one connection for its
//! five, which wait for each other's locks: a fan-out is faster with one, and a chain no slower.

use std::{
    env, error,
    io::{self, BufRead, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use durare::{DurableContext, DurableEngine, Error, Result, SqliteProvider, WorkflowOptions};
use futures_util::future::try_join_all;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

/// What every task does: one more than the sum of what it takes. As in `benches`.
fn work(inputs: impl IntoIterator<Item = u64>) -> u64 {
    inputs.into_iter().fold(1, u64::wrapping_add)
}

#[durare::workflow]
async fn chain(ctx: DurableContext, length: u64) -> Result<u64> {
    let mut value = ctx.step("source", || async { Ok::<_, Error>(work([])) }).await?;
    for _ in 1..length {
        value = ctx.step("takes_1", move || async move { Ok::<_, Error>(work([value])) }).await?;
    }
    Ok(value)
}

#[durare::workflow]
async fn fan_out(ctx: DurableContext, width: u64) -> Result<u64> {
    let source = ctx.step("source", || async { Ok::<_, Error>(work([])) }).await?;
    let step = |_| ctx.step("takes_1", move || async move { Ok::<_, Error>(work([source])) });
    let values = try_join_all((0..width).map(step).collect::<Vec<_>>()).await?;
    ctx.step("takes_all", move || async move { Ok::<_, Error>(work(values)) }).await
}

async fn engine(path: &str, connections: u32) -> Result<DurableEngine> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(Duration::from_secs(5));
    let pool = SqlitePoolOptions::new()
        .max_connections(connections)
        // ten thousand steps wait for the one connection, and none may give up
        .acquire_timeout(Duration::from_secs(600))
        .connect_with(options)
        .await?;
    DurableEngine::new(Arc::new(SqliteProvider::from_pool(pool))).await
}

/// From the start of the workflow to its output.
async fn pass(engine: &DurableEngine, shape: &str, tasks: u64) -> Result<(Duration, u64)> {
    let begin = Instant::now();
    let output = match shape {
        "chain" => engine.start_with(Chain, tasks, WorkflowOptions::default()).await?.await?,
        _ => engine.start_with(FanOut, tasks, WorkflowOptions::default()).await?.await?,
    };
    Ok((begin.elapsed(), output))
}

/// `benches-peers-durable FILE [CONNECTIONS]`
fn main() -> std::result::Result<(), Box<dyn error::Error>> {
    let mut arguments = env::args().skip(1);
    let path = arguments.next().ok_or("expected the database's file")?;
    let connections = arguments.next().map_or(Ok(1), |connections| connections.parse())?;
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let engine = Arc::new(tokio.block_on(engine(&path, connections))?);
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (shape, tasks) = line.split_once(' ').ok_or("expected a shape and its size")?;
        let (shape, tasks, engine) = (shape.to_owned(), tasks.parse()?, Arc::clone(&engine));
        // in a spawned task: from `main`'s own thread each wake-up is one of a worker
        let passed = tokio.block_on(tokio.spawn(async move { pass(&engine, &shape, tasks).await }))??;
        println!("{} {}", passed.0.as_nanos(), passed.1);
        io::stdout().flush()?;
    }
    Ok(())
}
