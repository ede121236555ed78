//! A program as users write it, with flows of each sort and a command line: what the tests of the
//! command line run.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use orchestrator::prelude::*;
use orchestrator::{Overlap, Serve, Timetable};

/// Reads the rows of a region.
#[task(tags = ["source"])]
async fn extract(region: String) -> Vec<u64> {
    (0..region.len() as u64).collect()
}

/// Adds rows up.
#[task]
async fn load(rows: &[u64]) -> u64 {
    rows.iter().sum()
}

/// Loads the customers of a region.
///
/// Each day at six.
#[flow(tags = ["customers", "daily"], schedule = "0 6 * * *", timezone = "Europe/Zurich", max_active_runs = 1)]
fn etl(region: Option<String>) -> Node<u64> {
    load(extract(region.unwrap_or("north".into())))
}

/// Adds a number as often as asked.
#[task]
async fn multiply(amount: u64, times: u32) -> u64 {
    amount * u64::from(times)
}

/// Has parameters that must be given.
#[flow(tags = ["numbers"])]
fn invoice(customer: String, amount: u64, times: Option<u32>) -> Node<(String, u64)> {
    pair(customer, multiply(amount, times.unwrap_or(1)))
}

/// Puts two things side by side.
#[task]
async fn pair(customer: String, amount: u64) -> (String, u64) {
    (customer, amount)
}

/// Has no network.
#[task]
async fn fetch() -> Result<u64> {
    Err("no network".into())
}

/// Publishes what was fetched.
#[task]
async fn publish(rows: u64) -> u64 {
    rows
}

/// Fails, and something after it does not run.
#[flow(tags = ["broken"])]
fn broken() -> Node<u64> {
    publish(fetch())
}

/// Is over when a file is there.
#[task]
async fn wait_for(file: String) -> String {
    tracing::info!("waiting");
    while !Path::new(&file).exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    file
}

/// Says that it is done.
#[task]
async fn after_it(file: &str) -> String {
    tracing::info!("the file is there");
    format!("{file} is there")
}

/// Takes as long as it is told to.
#[flow(tags = ["slow"], max_active_runs = 1)]
fn slow(file: String) -> Node<String> {
    after_it(wait_for(file))
}

/// Keeps its thread for as long as anybody may wait.
#[task]
#[expect(clippy::disallowed_methods, reason = "it is meant to keep its thread")]
fn keep_thread(file: String) -> String {
    std::thread::sleep(Duration::from_secs(600));
    file
}

/// Does not come to its end by itself.
#[flow(tags = ["slow"])]
fn stuck(file: String) -> Node<String> {
    after_it(keep_thread(file))
}

/// Fails until a file is there.
#[task(retries = 50, retry_delay = "1h")]
async fn try_it(file: String) -> Result<u64> {
    if Path::new(&file).exists() {
        Ok(1)
    } else {
        Err("it is not there yet".into())
    }
}

/// Waits for its next attempt.
#[flow(tags = ["slow"])]
fn flaky(file: String) -> Node<u64> {
    publish(try_it(file))
}

/// Halves what is even.
#[task]
async fn halve(number: u64) -> Result<u64> {
    if number.is_multiple_of(2) {
        Ok(number / 2)
    } else {
        Err(format!("{number} is odd").into())
    }
}

/// Halves each of a list.
#[flow(tags = ["numbers"])]
fn mapped(numbers: Vec<u64>) -> Node<u64> {
    let halves = expand(numbers, halve);
    total(halves)
}

/// Adds what came.
#[task]
async fn total(halves: Vec<u64>) -> u64 {
    halves.iter().sum()
}

/// Scores a customer, once an hour.
#[task(cache = "1h")]
async fn score(customer: String) -> Result<usize> {
    if customer == "nobody" {
        Err("there is nobody".into())
    } else {
        Ok(customer.len())
    }
}

/// Caches what it computes.
#[flow(tags = ["numbers"])]
fn cached(customer: String) -> Node<usize> {
    score(customer)
}

/// Asks a database.
#[task(pool = "database")]
async fn query(table: String) -> usize {
    tracing::info!(table, "asking");
    table.len()
}

/// Needs a pool.
#[flow(tags = ["database"])]
fn pooled() -> Node<usize> {
    query("orders")
}

/// Decides as it goes.
#[flow(tags = ["numbers"], schedule = "0 */6 * * *")]
async fn decide() -> Result<u64> {
    Ok(multiply(21, 2).await?)
}

#[task]
async fn greet(name: String) -> String {
    format!("hello, {name}")
}

#[flow]
fn greeting(name: String) -> Node<String> {
    greet(name)
}

/// Measures something, with a sensor of its own.
#[task(pool = "sensors")]
async fn measure(times: u64) -> u64 {
    times
}

/// Decides as it goes, by what it is given.
#[flow(tags = ["numbers"])]
async fn adaptive(times: u64) -> Result<u64> {
    Ok(measure(times).await?)
}

/// Counts the addresses of a network.
#[task]
async fn count(network: std::net::IpAddr, addresses: u128) -> Network {
    Network {
        network,
        addresses,
        half: 0.1,
    }
}

/// A network: JSON has its address as a text, and all digits of its size.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Network {
    network: std::net::IpAddr,
    addresses: u128,
    half: f32,
}

/// Has numbers beyond 64 bits.
#[flow(tags = ["numbers"])]
fn wide(network: std::net::IpAddr, addresses: u128) -> Node<Network> {
    count(network, addresses)
}

/// Prints in all the ways that there are, until a file is there; a thread of it goes on.
#[task]
async fn print_all(file: String) -> usize {
    let child = std::process::Command::new("sh")
        .args(["-c", "echo of a child; echo a child complains >&2"])
        .status();
    assert!(child.is_ok_and(|status| status.success()));
    for number in 0..20 {
        println!("printed {number}");
        eprintln!("complained {number}");
        tracing::info!("logged {number}");
        print!("half and ");
        let _ = std::io::stdout().flush();
        tokio::time::sleep(Duration::from_millis(20)).await;
        println!("half {number}");
    }
    while !Path::new(&file).exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    std::thread::spawn(|| {
        loop {
            println!("still here");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    });
    20
}

/// Has tasks that print.
#[flow(tags = ["noisy"])]
fn noisy(file: String) -> Node<usize> {
    println!("wired");
    print_all(file)
}

/// Does nothing.
#[flow(tags = ["numbers"])]
fn empty() {}

/// Fires at a quarter past each hour.
struct QuarterPast;

impl Timetable for QuarterPast {
    fn identity(&self) -> String {
        "a quarter past".to_owned()
    }

    fn after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let hour = (instant - TimeDelta::minutes(15)).duration_trunc(TimeDelta::hours(1));
        Some(hour.ok()? + TimeDelta::minutes(75))
    }

    fn before(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let moment = TimeDelta::nanoseconds(1);
        let hour = (instant - TimeDelta::minutes(15) - moment).duration_trunc(TimeDelta::hours(1));
        Some(hour.ok()? + TimeDelta::minutes(15))
    }
}

/// Does not get any further.
struct Stuck;

impl Timetable for Stuck {
    fn identity(&self) -> String {
        "stuck".to_owned()
    }

    fn after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Some(instant)
    }

    fn before(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Some(instant)
    }
}

/// What is given to the command line: the tests choose.
fn served() -> Vec<Serve> {
    let greet = |name: &str, schedule: &str| greeting(name.into()).serve(schedule);
    let parameters = |name: &str| serde_json::Map::from_iter([("name".to_owned(), name.into())]);
    let noon = |name: &str| {
        let noon = Schedule::cron("0 12 * * *").map(|noon| noon.parameters(parameters(name)));
        greeting("nobody".into()).serve(noon)
    };
    match std::env::var("PIPELINES_SERVES").as_deref() {
        Ok("nothing") => vec![],
        Ok("regions") => vec![
            greet("Europe", "0 6 * * *").named("eu"),
            noon("America")
                .schedule(
                    Schedule::cron("30 12 * * MON")
                        .map(|half| half.parameters(parameters("America"))),
                )
                .named("us"),
        ],
        Ok("region") => vec![greet("Europe", "0 6 * * *").named("eu")],
        Ok("moved") => vec![greet("Europa", "0 7 * * *").named("eu")],
        Ok("union") => vec![greet("world", "0 6 * * *"), greet("world", "0 18 * * *")],
        Ok("etl") => vec![
            etl(Some("south".into())).serve("0 9 * * *").named("south"),
            etl(None).serve("0 8 * * *"),
        ],
        Ok("quick") => vec![greeting("world".into()).serve(Schedule::every("1500ms"))],
        Ok("own") => vec![greeting("world".into()).serve(Schedule::custom(QuarterPast))],
        Ok("faults") => vec![
            greet("one", "0 6 * * *"),
            greet("two", "0 7 * * *"),
            greet("one", "0 6 * * *").named("late"),
            greet("one", "0 7 * * *").named("late").catchup(true),
            greet("one", "0 6 * * *")
                .schedule("0 6 * * *")
                .named("twice"),
            greet("one", "0 6 * * *").named(""),
            greet("one", "0 6 * * *")
                .named("alone")
                .overlap(Overlap::Skip),
            greeting("one".into())
                .serve(Schedule::custom(Stuck))
                .named("stuck"),
        ],
        _ => vec![greet("world", "*/5 * * * *")],
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    if std::env::var_os("PIPELINES_POOL").is_none() {
        return orchestrator::cli().serve(served()).await;
    }
    // a runtime of its own, which what it serves is on
    match Runtime::builder().pool("database", 1).build().await {
        Ok(runtime) => {
            let served = greeting("world".into()).on(&runtime).serve("*/5 * * * *");
            orchestrator::cli().runtime(runtime).serve([served]).await
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
