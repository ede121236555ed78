//! What the macros write down of tasks and flows, and that arguments reach the parameters that they
//! are for.

use orchestrator::__private::{TaskCode, TaskDef, TaskEntry, inventory};
use orchestrator::prelude::*;
use orchestrator::{Delay, flows};
use std::time::Duration;

const DELAYS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(90)];

#[derive(Debug)]
struct Database {
    url: String,
}

#[derive(Debug)]
struct Client;

/// Reads a table.
///
///     and keeps its lines
#[task(name = "read.table", tags = ["daily", "slow"], retries = 3, retry_delay = ["1s", "1m30s"], pool = "p")]
async fn read(
    #[resource] database: &Database,
    table: &str,
    #[context] context: &Context,
    limit: Option<u32>,
    #[resource] client: &Client,
    columns: &[String],
) -> Result<String> {
    Ok(format!(
        "{} {table} {} {limit:?} {client:?} {columns:?}",
        database.url,
        context.task()
    ))
}

#[task(description = "Blocks.", backoff = 2, max_retry_delay = "1h1s", trigger = none_skipped)]
fn write(mut text: String, #[resource] database: &Database, times: usize) -> String {
    text = text.repeat(times);
    text.insert_str(0, &database.url);
    text
}

/// Keeps what it returns.
#[task(cache = "1h1s", retries = 1)]
async fn kept(
    /* of */ n: u32,
    all: &std::collections::HashSet<u32>,
    #[no_cache] list: Vec<u32>,
) -> usize {
    // added up
    n as usize + all.len() + list.len()
}

#[task(cache, cache_key = half, version = "2")]
fn kept_for_ever(n: u32) -> u32 {
    n
}

#[allow(clippy::trivially_copy_pass_by_ref)]
const fn half(n: &u32) -> u32 {
    *n / 2
}

/** Reads
 * and writes. */
#[flow(max_active_runs = 2, timeout = "2h2s", defaults(retries = 1, timeout = "1m1ms"), resources = [Database, Client])]
async fn copy(table: String, #[context] context: &Context, times: usize) -> Result<String> {
    let text = read(&table, Some(times as u32), [context.flow().to_owned()]);
    Ok(write(text, times).await?)
}

fn task(name: &str) -> &'static TaskDef {
    let mut entries = inventory::iter::<TaskEntry>.into_iter();
    entries
        .find(|entry| entry.0.name == name && entry.0.module == module_path!())
        .map_or_else(|| panic!("no `{name}`"), |entry| entry.0)
}

#[test]
fn tasks_are_written_down() {
    let read = task("read.table");
    assert_eq!((read.crate_name, read.module), ("tests-ui", module_path!()));
    assert!(read.file.ends_with("pass/definitions.rs") && read.line > 1);
    assert_eq!(
        read.description,
        "Reads a table.\n\n    and keeps its lines"
    );
    assert_eq!(read.tags, ["daily", "slow"]);
    let parameters: Vec<_> = read
        .parameters
        .iter()
        .map(|parameter| (parameter.name, parameter.type_name))
        .collect();
    assert_eq!(
        parameters,
        [
            ("table", "&str"),
            ("limit", "Option<u32>"),
            ("columns", "&[String]")
        ]
    );
    let resources: Vec<_> = read
        .resources
        .iter()
        .map(|resource| (resource.name, resource.type_name))
        .collect();
    assert_eq!(
        resources,
        [("database", "&Database"), ("client", "&Client")]
    );
    assert!(read.cooperative);
    assert_eq!(read.options.retries, Some(3));
    assert_eq!(read.options.retry_delay, Some(Delay::List(&DELAYS)));
    assert_eq!(
        read.options
            .pool
            .as_ref()
            .map(|pool| (pool.name, pool.slots)),
        Some(("p", 1))
    );
    assert_eq!((read.options.timeout, read.options.trigger), (None, None));

    let write = task("write");
    assert_eq!((write.description, write.cooperative), ("Blocks.", false));
    assert_eq!(
        (write.options.backoff, write.options.max_retry_delay),
        (Some(2.0), Some(Duration::from_secs(3601)))
    );
    assert_eq!(write.options.trigger, Some(Trigger::NoneSkipped));
}

#[test]
fn caches_are_written_down() {
    let kept = task("kept");
    let parameters: Vec<_> = kept
        .parameters
        .iter()
        .map(|parameter| (parameter.name, parameter.unordered, parameter.in_key))
        .collect();
    assert_eq!(
        parameters,
        [
            ("n", false, true),
            ("all", true, true),
            ("list", false, false)
        ]
    );
    let cache = kept
        .cache
        .as_ref()
        .unwrap_or_else(|| panic!("`kept` is cached"));
    assert_eq!(
        (cache.expiry, cache.key.is_some()),
        (Some(Duration::from_secs(3601)), false)
    );
    let code = "( n : u32 , all : & std : : collections : : HashSet < u32 > , list : Vec < u32 > ) - > usize \
                { n as usize + all . len ( ) + list . len ( ) }";
    assert!(
        matches!(cache.code, TaskCode::Tokens(tokens) if tokens == code),
        "{cache:?}"
    );

    let kept = task("kept_for_ever");
    let cache = kept
        .cache
        .as_ref()
        .unwrap_or_else(|| panic!("`kept_for_ever` is cached"));
    assert_eq!((cache.expiry, cache.key.is_some()), (None, true));
    assert!(matches!(cache.code, TaskCode::Version("2")), "{cache:?}");
    assert!(task("write").cache.is_none());
}

#[test]
fn flows_are_written_down() {
    let copy = flows()
        .find(|flow| flow.name == "copy" && flow.module == module_path!())
        .unwrap_or_else(|| panic!("no `copy`"));
    assert_eq!(copy.description, "Reads\nand writes.");
    let parameters: Vec<_> = copy
        .parameters
        .iter()
        .map(|parameter| (parameter.name, parameter.type_name))
        .collect();
    assert_eq!(parameters, [("table", "String"), ("times", "usize")]);
    let resources: Vec<_> = copy
        .resources
        .iter()
        .map(|resource| resource.type_name)
        .collect();
    assert_eq!(resources, ["Database", "Client"]);
    assert!(copy.is_async);
    assert_eq!(
        (copy.max_active_runs, copy.timeout),
        (Some(2), Some(Duration::from_secs(7202)))
    );
    assert_eq!(
        (copy.defaults.retries, copy.defaults.timeout),
        (Some(1), Some(Duration::from_millis(60_001)))
    );
    assert_eq!(copy.defaults.backoff, None);
}

#[tokio::test]
async fn arguments_reach_their_parameters() -> Result<()> {
    let database = Database { url: "db:".into() };
    let runtime = Runtime::builder()
        .store("memory")
        .resource(database)
        .resource(Client)
        .pool("p", 1)
        .build()
        .await?;
    let written = copy("customers".into(), 2).on(&runtime).await?;
    let read = "db: customers read.table Some(2) Client [\"copy\"]";
    assert_eq!(written, format!("db:{read}{read}"));
    Ok(())
}
