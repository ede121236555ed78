//! All forms of flows.

use orchestrator::prelude::*;

#[derive(Debug)]
struct Database;

#[task]
async fn number(n: u32) -> u32 {
    n
}

#[task]
async fn list(n: u32) -> Vec<u32> {
    (0..n).collect()
}

#[task]
async fn read(#[resource] database: &Database) -> String {
    format!("{database:?}")
}

#[flow]
fn nothing() {
    number(1);
}

#[flow]
async fn nothing_awaited() {
    number(1);
}

#[flow]
fn node(n: u32) -> Node<u32> {
    number(n)
}

#[flow]
fn mapped(n: u32) -> Mapped<u32> {
    list(n).expand(number)
}

#[flow]
fn tuple(n: u32) -> (Node<u32>, Mapped<u32>) {
    (number(n), list(n).expand(number))
}

#[flow]
async fn node_of_async(n: u32) -> Node<u32> {
    let list = list(n).await.unwrap_or_default();
    number(list.len() as u32)
}

#[flow]
async fn result(mut n: u32, limit: Option<u32>) -> Result<Vec<u32>> {
    while n < limit.unwrap_or(3) {
        n += number(1).await?;
    }
    Ok(vec![n])
}

#[flow]
async fn anyhow_result(n: u32) -> anyhow::Result<()> {
    number(n).await?;
    Ok(())
}

#[flow]
fn with_context(n: u32, #[context] context: &Context) -> Node<u32> {
    number(n + context.flow().len() as u32)
}

#[flow]
async fn with_context_awaited(#[context] context: &Context, n: u32) -> Result<u32> {
    let n = number(n).await?;
    Ok(n + context.flow().len() as u32)
}

#[flow(
    name = "every.option-2",
    description = "All of them.",
    tags = ["daily"],
    max_active_runs = 1,
    timeout = "2h",
    defaults(retries = 2, retry_delay = "5m", backoff = 2, timeout = "1h", trigger = all_done, pool = "database"),
    resources = [Database, std::sync::Mutex<Vec<Option<Database>>>],
)]
async fn every_option() -> Result<String> {
    Ok(read().await?)
}

#[flow]
fn of_flows() -> Node<u32> {
    number(node(1)).after([&number(result_length(result(1, None))), &number(2)])
}

#[task]
async fn result_length(list: &[u32]) -> u32 {
    list.len() as u32
}

#[test]
fn flows_compile() {
    assert_eq!(node(1_u8.into()).name(), "node");
    assert_eq!(every_option().name(), "every.option-2");
    drop((
        nothing(),
        nothing_awaited(),
        mapped(1),
        tuple(1),
        node_of_async(1),
        result(1, Some(2)),
        anyhow_result(1),
    ));
    drop((with_context(1), with_context_awaited(1), of_flows()));
}
