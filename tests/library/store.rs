//! What a store refuses, and what a process does that it refuses.

use std::path::Path;
use std::time::Duration;

use orchestrator::prelude::*;
use orchestrator::{Error, RunFilter, RunId, StoreError};

use crate::support::{file, url};

async fn open(path: &Path) -> Runtime {
    Runtime::builder().store(url(path)).build().await.unwrap()
}

fn execute(path: &Path, sql: &str) {
    rusqlite::Connection::open(path)
        .unwrap()
        .execute(sql, [])
        .unwrap();
}

/// Takes an hour, unless it is cancelled.
#[task]
async fn store_waits() {
    tokio::time::sleep(Duration::from_secs(3600)).await;
}

#[flow]
fn store_waiting() -> Node<()> {
    store_waits()
}

#[task]
async fn store_counts(number: u32) -> u32 {
    number
}

#[flow]
fn store_counting(number: u32) -> Node<u32> {
    store_counts(number)
}

/// Runs that were left, of which the first cannot be read. Gives their ids.
async fn left(path: &Path, parameters: [&str; 3]) -> [RunId; 3] {
    let runtime = open(path).await;
    let mut ids = Vec::new();
    for (number, parameters) in parameters.iter().enumerate() {
        let run = store_counting(number as u32)
            .on(&runtime)
            .run()
            .await
            .unwrap();
        ids.push(run.id());
        let unfinish = "UPDATE runs SET state = 0, started = 0, finished = 0, output = NULL, owner = NULL, parameters = ?1 \
                        WHERE id = unhex(?2, '-')";
        rusqlite::Connection::open(path)
            .unwrap()
            .execute(unfinish, (parameters, run.id().to_string()))
            .unwrap();
    }
    ids.try_into().unwrap()
}

#[tokio::test]
async fn runs_go_on_beside_one_that_cannot_be_read() -> Result<()> {
    let path = file();
    let deep = format!("{{\"number\":{}{}}}", "[".repeat(127), "]".repeat(127));
    let [unreadable, first, second] =
        left(&path, [&deep, r#"{"number":1}"#, r#"{"number":2}"#]).await;
    let runtime = open(&path).await;
    let refused = runtime.resume().await.unwrap_err();
    let expected = format!("run {unreadable} cannot be read: parameters: recursion limit exceeded");
    assert!(refused.to_string().starts_with(&expected), "{refused}");
    let listed = runtime.runs("store_counting").await?;
    let listed: Vec<_> = listed
        .iter()
        .map(|run| (run.id(), run.state(), run.unreadable().is_some()))
        .collect();
    let success = |run| (run, RunState::Success, false);
    assert_eq!(
        listed,
        [
            (unreadable, RunState::Pending, true),
            success(first),
            success(second)
        ]
    );
    let found = runtime.find_runs(&RunFilter::new().oldest_first()).await?;
    assert_eq!(
        found
            .iter()
            .map(|run| run.unreadable.is_some())
            .collect::<Vec<_>>(),
        [true, false, false]
    );
    assert_eq!(runtime.check_store().await?.unreadable_runs.len(), 1);
    assert!(matches!(
        runtime.find_run(unreadable).await,
        Err(Error::Store(StoreError::UnreadableRun { run, .. })) if run == unreadable
    ));
    runtime.prune().await?;
    assert_eq!(store_counting(3).on(&runtime).await?, 3);
    Ok(())
}

#[tokio::test]
async fn passwords_in_urls_are_not_shown() {
    for url in [
        "postgres://user:s3cret@host/db",
        "redis://:s3cret@host",
        "sqlite:runs.db?password=s3cret",
        "s3cret=a:s3cret@b",
    ] {
        let _case = crate::support::case(url);
        let builder = Runtime::builder().store(url).blobs(url);
        assert!(!format!("{builder:?}").contains(":s3cret"), "{builder:?}");
        let refused = builder.build().await.unwrap_err();
        assert!(
            !refused.to_string().contains(":s3cret") && !refused.to_string().contains("=s3cret"),
            "{refused}"
        );
    }
}

fn is_lost(error: &Error) -> bool {
    matches!(error, Error::Store(StoreError::ProcessLost { .. }))
}

#[tokio::test]
async fn a_process_that_is_not_on_record_cancels_its_runs_and_others_go_on_with_them() -> Result<()>
{
    let path = file();
    let runtime = open(&path).await;
    let mut events = runtime.events();
    let run = store_waiting().on(&runtime).start().await?;
    while !matches!(events.next().await, Some(Event::TaskStarted { .. })) {}
    let id = run.id();
    execute(&path, "DELETE FROM processes");
    let lost = run.await.unwrap_err();
    assert!(is_lost(&lost), "{lost}");
    let refused = store_waiting().on(&runtime).start().await.unwrap_err();
    assert!(is_lost(&refused), "{refused}");
    let other = open(&path).await.mock(store_waits, || ());
    let gone_on: Vec<_> = other
        .resume()
        .await?
        .iter()
        .map(|run| (run.id(), run.state()))
        .collect();
    assert_eq!(gone_on, [(id, RunState::Success)]);
    Ok(())
}

#[tokio::test]
async fn a_process_whose_lock_file_was_deleted_serves_no_more() -> Result<()> {
    let delete =
        |path: &Path| std::fs::remove_dir_all(format!("{}-owners", path.display())).unwrap();
    serves_no_more(delete, is_lost).await
}

#[tokio::test]
async fn a_process_that_is_not_on_record_serves_no_more() -> Result<()> {
    serves_no_more(
        |path| execute(path, "UPDATE processes SET lock = 'another'"),
        is_lost,
    )
    .await
}

async fn serves_no_more(lose: impl Fn(&Path), is_lost: impl Fn(&Error) -> bool) -> Result<()> {
    let path = file();
    let runtime = open(&path).await;
    let mut serving = std::pin::pin!(
        store_waiting()
            .on(&runtime)
            .serve("0 0 1 1 *")
            .into_future()
    );
    // it serves from the first poll on
    tokio::select! {
        biased;
        served = &mut serving => panic!("{served:?}"),
        () = tokio::task::yield_now() => {}
    }
    lose(&path);
    let refused = serving.await.unwrap_err();
    assert!(is_lost(&refused), "{refused}");
    Ok(())
}

/// Whether a store says that it is not where it was.
fn is_elsewhere(error: &Error) -> bool {
    matches!(error, Error::Store(StoreError::FileLost { .. }))
}

/// Deletes a store, with what SQLite has beside it.
fn delete(path: &Path) {
    for ending in ["", "-wal", "-shm"] {
        std::fs::remove_file(format!("{}{ending}", path.display())).unwrap();
    }
}

#[tokio::test]
async fn a_process_whose_store_was_deleted_serves_no_more() -> Result<()> {
    serves_no_more(delete, is_elsewhere).await
}

#[tokio::test]
async fn a_process_whose_store_was_moved_serves_no_more() -> Result<()> {
    serves_no_more(
        |path| std::fs::rename(path, path.with_extension("moved")).unwrap(),
        is_elsewhere,
    )
    .await
}

#[tokio::test]
async fn a_process_whose_folder_was_deleted_serves_no_more() -> Result<()> {
    serves_no_more(
        |path| std::fs::remove_dir_all(path.parent().unwrap()).unwrap(),
        is_elsewhere,
    )
    .await
}

#[cfg(unix)]
#[tokio::test]
async fn a_process_whose_store_was_replaced_serves_no_more() -> Result<()> {
    let replace = |path: &Path| {
        std::fs::copy(path, path.with_extension("copy")).unwrap();
        std::fs::rename(path.with_extension("copy"), path).unwrap();
    };
    serves_no_more(replace, is_elsewhere).await
}

#[tokio::test]
async fn a_run_whose_store_was_deleted_is_cancelled_and_fails() -> Result<()> {
    let path = file();
    let runtime = open(&path).await;
    let mut events = runtime.events();
    let run = store_waiting().on(&runtime).start().await?;
    while !matches!(events.next().await, Some(Event::TaskStarted { .. })) {}
    delete(&path);
    let lost = run.await.unwrap_err();
    assert!(is_elsewhere(&lost), "{lost}");
    assert!(
        lost.to_string().contains("(it is not there any more)"),
        "{lost}"
    );
    Ok(())
}

#[tokio::test]
async fn no_run_begins_in_a_store_that_was_deleted() -> Result<()> {
    let path = file();
    let runtime = open(&path).await;
    store_counting(1).on(&runtime).await?;
    delete(&path);
    let refused = store_counting(2).on(&runtime).run().await.unwrap_err();
    assert!(is_elsewhere(&refused), "{refused}");
    let refused = store_counting(3).on(&runtime).trigger().await.unwrap_err();
    assert!(is_elsewhere(&refused), "{refused}");
    Ok(())
}

/// Ends when it is told to.
#[task]
async fn store_ends(#[resource] end: &std::sync::Arc<tokio::sync::Notify>) {
    end.notified().await;
}

#[flow]
fn store_ending() -> Node<()> {
    store_ends()
}

#[tokio::test]
async fn run_that_ends_after_its_store_was_deleted_does_not_succeed() -> Result<()> {
    let (path, end) = (file(), std::sync::Arc::new(tokio::sync::Notify::new()));
    let runtime = Runtime::builder()
        .store(url(&path))
        .resource(std::sync::Arc::clone(&end))
        .build()
        .await?;
    let mut events = runtime.events();
    let run = store_ending().on(&runtime).start().await?;
    while !matches!(events.next().await, Some(Event::TaskStarted { .. })) {}
    delete(&path);
    // before it is looked for once a second
    end.notify_one();
    let lost = run.await.unwrap_err();
    assert!(is_elsewhere(&lost), "{lost}");
    Ok(())
}

#[cfg(unix)]
#[tokio::test]
async fn a_store_that_took_the_place_of_another_is_left_alone() -> Result<()> {
    let path = file();
    let old = open(&path).await;
    store_counting(1).on(&old).await?;
    delete(&path);
    let new = open(&path).await;
    store_counting(2).on(&new).await?;
    let files = || {
        ["", "-wal", "-shm"]
            .map(|ending| std::fs::read(format!("{}{ending}", path.display())).unwrap())
    };
    let before = files();
    assert!(is_elsewhere(
        &store_counting(3).on(&old).run().await.unwrap_err()
    ));
    drop(old);
    assert!(files() == before, "the old store's end changed the new one");
    assert_eq!(new.runs("store_counting").await?.len(), 1);
    Ok(())
}
