//! Pruning, and how long it takes.

use std::path::Path;
use std::time::{Duration, Instant};

use orchestrator::RuntimeBuilder;
use orchestrator::prelude::*;

use crate::support::{file, url};

fn on(path: &Path) -> RuntimeBuilder {
    Runtime::builder().store(url(path))
}

#[task]
async fn one() -> u32 {
    1
}

#[tokio::test]
async fn pruning_does_not_take_longer_with_each_run_that_was_pruned() -> Result<()> {
    #[flow(name = "upkeep_pruned")]
    fn pruned() -> Node<u32> {
        one()
    }
    let path = file();
    let runtime = on(&path).keep(Duration::ZERO).build().await?;
    let run = pruned().on(&runtime).run().await?;
    drop(runtime);
    let insert = |from: u32, to: u32, pruned: bool| {
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection
            .execute(
                "WITH RECURSIVE n(n) AS (SELECT ?1 UNION ALL SELECT n + 1 FROM n WHERE n < ?2) \
                 INSERT INTO runs (id, flow, kind, key, logical_date, interval_start, interval_end, parameters, \
                 refresh, created, state, started, finished, owner, takeovers, cancelling, pruned) \
                 SELECT randomblob(16), flow, 0, NULL, n, n, n, parameters, 0, n, 2, n + 1, n + 1, NULL, 0, 0, ?3 \
                 FROM runs, n WHERE id = unhex(?4, '-')",
                (from, to, pruned, run.id().to_string()),
            )
            .unwrap()
    };
    let time = async |runs: u64| {
        let runtime = on(&path).keep(Duration::ZERO).build().await.unwrap();
        let began = Instant::now();
        assert!(runtime.prune().await.unwrap().runs >= runs);
        began.elapsed()
    };
    time(1).await;
    insert(1, 1_000, false);
    let few = time(1_000).await;
    insert(1_001, 31_000, true);
    insert(31_001, 32_000, false);
    let many = time(1_000).await;
    assert!(
        many < 5 * few + Duration::from_millis(100),
        "{few:?} became {many:?}"
    );
    Ok(())
}

#[tokio::test]
async fn pruning_does_not_read_what_it_keeps() -> Result<()> {
    let path = file();
    let runtime = on(&path).build().await?;
    let insert = |entries: u32, size: u32| {
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection
            .execute(
                "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1) \
                 INSERT INTO cache (key, task, inputs, run, created, expires, size, body) \
                 SELECT randomblob(32), 'task', randomblob(32), randomblob(16), n, NULL, ?2, zeroblob(?2) FROM n",
                (entries, size),
            )
            .unwrap();
    };
    let time = async || {
        let began = Instant::now();
        assert_eq!(runtime.prune().await.unwrap().cached, 0);
        began.elapsed()
    };
    insert(400, 10);
    let small = time().await;
    insert(400, 500_000);
    let large = time().await;
    assert!(
        large < 5 * small + Duration::from_millis(50),
        "{small:?} became {large:?}"
    );
    Ok(())
}
