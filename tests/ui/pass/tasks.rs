//! All forms of tasks.

use orchestrator::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    id: u32,
}

#[derive(Debug)]
struct Database;

#[derive(Debug)]
struct Refused;

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("refused")
    }
}

impl std::error::Error for Refused {}

#[task]
async fn nothing() {}

#[task]
fn nothing_blocking() {}

#[task]
async fn infallible(n: u32) -> u32 {
    n
}

#[task]
fn blocking(n: u32) -> Result<u32> {
    Ok(n)
}

#[task]
async fn fallible() -> Result<()> {
    Ok(())
}

#[task]
async fn own_type() -> Row {
    Row { id: 1 }
}

#[task]
async fn own_error(n: u32) -> std::result::Result<u32, Refused> {
    if n == 0 { Err(Refused) } else { Ok(n) }
}

#[task]
async fn text_error(n: u32) -> std::result::Result<u32, String> {
    if n == 0 { Err("refused".into()) } else { Ok(n) }
}

#[task]
async fn anyhow_error(text: &str) -> anyhow::Result<u32> {
    Ok(text.parse()?)
}

#[task]
async fn borrows(
    rows: &[Row],
    name: &str,
    row: &Row,
    list: &std::collections::VecDeque<Row>,
    map: &HashMap<String, Vec<u32>>,
) -> usize {
    tokio::task::yield_now().await;
    rows.len() + name.len() + row.id as usize + list.len() + map.len()
}

#[task]
async fn owns(mut rows: Vec<Row>, mut name: String) -> (Vec<Row>, String) {
    rows.reverse();
    name.push('!');
    (rows, name)
}

#[task]
async fn rebinds(mut name: &str) -> String {
    name = name.trim();
    name.into()
}

#[task]
async fn takes_what_comes(n: Option<u32>, m: Outcome<u32>, all: Vec<Outcome<u32>>) -> (u32, bool) {
    (n.unwrap_or(0), m.is_success() && all.is_empty())
}

#[task]
async fn takes_it_all(
    table: &str,
    #[resource] database: &Database,
    limit: u32,
    #[context] context: &Context,
) -> String {
    format!("{table} {database:?} {limit} {}", context.attempt())
}

#[task]
fn blocks_with_it_all(#[context] context: &Context, #[resource] database: &Database) -> String {
    format!("{database:?} {}", context.attempt())
}

#[task]
async fn recurses(n: u32) -> u32 {
    if n == 0 {
        0
    } else {
        Box::pin(recurses(n - 1)).await + 1
    }
}

#[task]
fn recurses_blocking(n: u32) -> u32 {
    if n == 0 {
        0
    } else {
        recurses_blocking(n - 1) + 1
    }
}

#[task]
async fn r#type(r#fn: u32) -> u32 {
    r#fn
}

#[task(
    name = "every.option-1",
    description = "All of them.",
    tags = ["a", "b"],
    retries = 3,
    retry_delay = "1h30m",
    backoff = 1.5,
    max_retry_delay = "1d",
    retry_if = is_transient,
    timeout = "10s500ms",
    trigger = none_failed_min_one_success,
    pool = "database",
    pool_slots = 2,
)]
async fn every_option() -> Result<u32> {
    Ok(1)
}

fn is_transient(error: &TaskError) -> bool {
    !error.to_string().is_empty()
}

#[task(cache)]
async fn cached_for_ever() {}

#[task(cache = "1h30m", retries = 1)]
fn cached(name: &str, all: &HashSet<u32>, #[no_cache] verbose: bool) -> Result<u32> {
    Ok(if verbose {
        0
    } else {
        (name.len() + all.len()) as u32
    })
}

#[task(cache, cache_key = key_of_all, version = "2")]
async fn keyed(
    n: u32,
    #[resource] _database: &Database,
    row: &Row,
    name: &str,
    owned_name: String,
    rows: &[Row],
    list: Vec<Row>,
    #[context] _context: &Context,
    perhaps: Option<u32>,
) -> usize {
    n as usize
        + row.id as usize
        + name.len()
        + owned_name.len()
        + rows.len()
        + list.len()
        + perhaps.iter().count()
}

// What it takes is the inputs, by reference.
#[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref)]
fn key_of_all(
    n: &u32,
    row: &Row,
    name: &str,
    owned_name: &str,
    rows: &[Row],
    list: &[Row],
    perhaps: &Option<u32>,
) -> (u32, u32, usize, usize) {
    (
        *n,
        row.id + perhaps.unwrap_or(1),
        name.len() + owned_name.len(),
        rows.len() + list.len(),
    )
}

#[task(cache = "1d", cache_key = itself::<Row>)]
fn keyed_by_itself(row: Row) -> Row {
    row
}

const fn itself<T>(value: &T) -> &T {
    value
}

#[task(cache, cache_key = the_key)]
async fn keyed_by_nothing() -> u32 {
    1
}

const fn the_key() -> &'static str {
    "key"
}

#[task(retries = 100, retry_delay = ["0s", "1s"], trigger = "always")]
async fn listed_delays() -> Result<u32> {
    Ok(1)
}

#[allow(unused_qualifications)]
#[task(backoff = 2, retry_if = super::tasks::is_transient)]
async fn left_to_defaults() -> Result<u32> {
    Ok(1)
}

#[flow]
fn all() -> Node<(u32, bool)> {
    nothing().after([&nothing_blocking(), &fallible()]);
    let row = own_type();
    let (rows, name) = owns(vec![Row { id: 1 }], "name").unzip();
    borrows(
        &rows,
        rebinds(&name),
        &row,
        std::collections::VecDeque::new(),
        HashMap::new(),
    );
    takes_it_all("customers", 1).after(blocks_with_it_all());
    every_option().after([&listed_delays(), &left_to_defaults()]);
    cached("a", HashSet::new(), true).after(cached_for_ever());
    keyed(1, &row, "a", "b", vec![], vec![], Some(1))
        .after((keyed_by_itself(&row), keyed_by_nothing()));
    let numbers = [
        infallible(1),
        blocking(2),
        own_error(3),
        text_error(4),
        anyhow_error("5"),
        r#type(6),
    ];
    takes_what_comes(recurses(1), recurses_blocking(1), numbers)
}

#[test]
fn tasks_compile() {
    assert_eq!(all().name(), "all");
}
