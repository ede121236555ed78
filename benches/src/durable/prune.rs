//! What a run waits while another process prunes the store.
//!
//! A store gets a hundred thousand finished runs, each a copy of one that the library made, and as
//! many cached results that have expired. Then another process prunes it, while this one runs small
//! flows, one after the other.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use orchestrator::prelude::*;
use rusqlite::Connection;

use super::{own, process};
use crate::compare::on_a_worker;
use crate::measure::Times;
use crate::targets::Target;
use crate::{Shape, flow};

const RUNS: u32 = 100_000;

/// The run that is measured, and copied.
const SMALL: Shape = Shape::Chain(3);

/// How long runs are measured with nothing beside them.
const ALONE: Duration = Duration::from_secs(3);

/// The longest that a run may wait, in milliseconds.
const WAIT: f64 = 20.0;

/// What the pruning process does: says when it begins, then how long it took.
pub(super) async fn child(folder: &Path) {
    let url = format!("sqlite:{}", own::file(folder).display());
    let runtime = Runtime::builder()
        .store(url)
        .keep(Duration::ZERO)
        .build()
        .await
        .expect("the store is there");
    process::say("begins");
    let begin = Instant::now();
    let pruned = runtime.prune().await.expect("the store can be pruned");
    process::say(&format!(
        "{} {} {}",
        begin.elapsed().as_secs_f64() * 1e3,
        pruned.runs,
        pruned.cached
    ));
}

/// Measures, and prints.
pub(super) fn measure() -> Vec<Target> {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().to_owned();
    let (alone, beside, pruned) = on_a_worker(async move {
        let runtime = own::runtime(&path).await;
        flow::output(SMALL, &runtime).await;
        fill(&own::file(&path)).expect("the store can be filled");
        let mut alone = Times::default();
        let begin = Instant::now();
        while begin.elapsed() < ALONE {
            alone.0.push(run(&runtime).await);
        }
        let mut child = process::start("prune", &path);
        let output = child.stdout.take().expect("the output is a pipe");
        let (has_begun, is_over) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let (begun, over) = (Arc::clone(&has_begun), Arc::clone(&is_over));
        let reader = std::thread::spawn(move || {
            let mut lines = BufReader::new(output)
                .lines()
                .map(|line| line.expect("the output is text"));
            lines.next().expect("the process begins");
            begun.store(true, Ordering::Release);
            let said = lines.next().expect("the process comes to its end");
            over.store(true, Ordering::Release);
            said
        });
        let mut beside = Times::default();
        while !is_over.load(Ordering::Acquire) {
            let counts = has_begun.load(Ordering::Acquire);
            let millis = run(&runtime).await;
            if counts {
                beside.0.push(millis);
            }
        }
        let said = reader.join().expect("it reads to the end");
        assert!(child.wait().expect("the process is there").success());
        (alone, beside, said)
    });
    let mut figures = pruned.split(' ');
    let millis: f64 = figures
        .next()
        .and_then(|figure| figure.parse().ok())
        .expect("a figure");
    let counts: Vec<u64> = figures
        .map(|figure| figure.parse().expect("a figure"))
        .collect();
    assert!(
        counts[0] >= u64::from(RUNS) && counts[1] == u64::from(RUNS),
        "{counts:?} were pruned"
    );
    println!("\n| durable prune | runs | ms a run | 99.9 % | longest |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (name, times) in [("nothing beside", &alone), ("pruning beside", &beside)] {
        let (most, longest) = (at(times, 0.999), at(times, 1.0));
        println!(
            "| {name} | {} | {:.2} | {most:.1} | {longest:.1} |",
            times.0.len(),
            times.median()
        );
    }
    println!(
        "\n{} runs and {} cached results were pruned in {millis:.0} ms",
        counts[0], counts[1]
    );
    let text = "durable prune: ms that a run beside it takes at most".to_owned();
    let longest = at(&beside, 1.0);
    vec![Target {
        text,
        most: WAIT,
        median: longest,
        fastest: longest,
    }]
}

async fn run(runtime: &Runtime) -> f64 {
    let begin = Instant::now();
    assert_eq!(flow::output(SMALL, runtime).await, SMALL.expected());
    begin.elapsed().as_secs_f64() * 1e3
}

/// The time that a part of the runs did not exceed.
fn at(times: &Times, part: f64) -> f64 {
    let mut sorted = times.0.clone();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted
        .get((last as f64 * part) as usize)
        .copied()
        .unwrap_or_default()
}

/// Copies the one run of a store, and caches as many results.
fn fill(path: &Path) -> rusqlite::Result<()> {
    let connection = Connection::open(path)?;
    let columns = |table: &str, but: &[&str]| -> rusqlite::Result<String> {
        let mut select = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
        let names = select
            .query_map([table], |row| row.get::<_, String>(0))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(names
            .into_iter()
            .filter(|name| !but.contains(&name.as_str()))
            .collect::<Vec<_>>()
            .join(", "))
    };
    let (runs, plans) = (
        columns("runs", &["run", "id"])?,
        columns("plans", &["run"])?,
    );
    let attempts = columns("attempts", &["run"])?;
    let number =
        format!("WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {RUNS})");
    connection.execute_batch(&format!(
        "BEGIN;
         CREATE TEMP TABLE made AS SELECT run FROM runs;
         {number} INSERT INTO runs (id, {runs}) SELECT randomblob(16), {runs} FROM n, runs;
         INSERT INTO plans (run, {plans}) SELECT r.run, {plans} FROM runs r, plans p
           WHERE p.run = (SELECT run FROM made) AND r.run <> p.run;
         INSERT INTO attempts (run, {attempts}) SELECT r.run, {attempts_of} FROM runs r, attempts a
           WHERE a.run = (SELECT run FROM made) AND r.run <> a.run;
         {number} INSERT INTO cache (key, task, inputs, run, created, expires, size, body)
           SELECT randomblob(32), 'task', randomblob(32), randomblob(16), n, n, 2, x'00c0' FROM n;
         COMMIT;
         PRAGMA wal_checkpoint(TRUNCATE);",
        attempts_of = attempts
            .split(", ")
            .map(|name| format!("a.{name}"))
            .collect::<Vec<_>>()
            .join(", "),
        plans = plans,
    ))
}
