//! What pruning reads.

use std::path::Path;

use orchestrator::RuntimeBuilder;
use orchestrator::prelude::*;

use crate::support::{file, url};

fn on(path: &Path) -> RuntimeBuilder {
    Runtime::builder().store(url(path))
}

#[tokio::test]
async fn pruning_does_not_read_the_results_that_it_keeps() -> Result<()> {
    let path = file();
    drop(on(&path).build().await?);
    let body = || {
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.query_row("SELECT length(hex(body)) FROM cache", [], |row| {
            row.get::<_, i64>(0)
        })
    };
    let connection = rusqlite::Connection::open(&path)?;
    connection.execute(
        "INSERT INTO cache (key, task, inputs, run, created, expires, size, body) \
         VALUES (randomblob(32), 'task', randomblob(32), randomblob(16), 1, NULL, 500000, zeroblob(500000))",
        [],
    )?;
    drop(connection);
    assert_eq!(body()?, 1_000_000);
    // its pages are damaged
    let mut bytes = std::fs::read(&path)?;
    let end = bytes.len();
    bytes[end - 400_000..].fill(0xff);
    std::fs::write(&path, bytes)?;
    body().unwrap_err();
    let pruned = on(&path).build().await?.prune().await?;
    assert_eq!(pruned.cached, 0);
    Ok(())
}
