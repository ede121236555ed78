//! Damaged, missing and newer data is an error that names it, never a panic.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{Connection, params};
use tempfile::TempDir;

use super::SqliteStore;
use super::statements::{cache, history};
use crate::deployment::samples::spec;
use crate::entry::EntryKind;
use crate::error::StoreError;
use crate::id::RunId;
use crate::journal::{
    CacheHit, CacheKey, CacheMiss, CacheQuery, EncodedResult, NewCacheEntry, ResultValue, RunEnd,
    RunFilter, RunRecord, TaskEnd, Transition,
};
use crate::schedule::Schedule;
use crate::state::{RunState, TaskState};
use crate::store::sql::rows;
use crate::store::suite::{
    Opened, Random, a_long_life, case, created, finish, left, line, new_run, node, row_place,
    started, success, time, told,
};
use crate::store::vault::{KeyId, SealedText};
use crate::store::{
    Accept, AdminStore as _, CacheRequest, CacheStore as _, Lookup, NewEntry, RunStore as _,
};

const MIB: usize = 1 << 20;

fn open(folder: &Path) -> SqliteStore {
    SqliteStore::open(
        &format!("sqlite:{}", folder.join("runs.db").display()),
        None,
        time(0),
    )
    .unwrap()
}

fn query(key: u8) -> CacheQuery {
    CacheQuery {
        key: CacheKey([key; 32]),
        task: "task".into(),
        inputs: [1; 32],
        expiry: Some(Duration::from_secs(9)),
    }
}

fn wanted() -> CacheRequest {
    CacheRequest {
        query: query(1),
        accept: Accept::Any,
    }
}

/// Looks up the result under key 1.
async fn look_up(store: &SqliteStore) -> Lookup {
    store
        .look_up_cached(Arc::new([wanted()]), 0, time(1_500))
        .await
        .unwrap()
        .remove(0)
}

/// Creates a success whose result is cached, too.
fn cached(run: RunId, cell: u32, key: u8, result: Vec<u8>) -> Transition {
    let result = EncodedResult(result.into());
    let hit = CacheHit {
        run,
        created: time(1_000),
        result: ResultValue::Encoded(result.clone()),
    };
    let cache = Some(Box::new(NewCacheEntry {
        query: query(key),
        hit,
    }));
    Transition::Task(TaskEnd {
        result: Some(result),
        cache,
        ..success(cell, b"")
    })
}

fn with_result(cell: u32, result: Vec<u8>) -> Transition {
    Transition::Task(TaskEnd {
        result: Some(EncodedResult(result.into())),
        ..success(cell, b"")
    })
}

/// Returns the files of blobs.
fn blobs(folder: &Path) -> Vec<PathBuf> {
    let list = |folder: &Path| {
        fs::read_dir(folder)
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path())
            .collect::<Vec<_>>()
    };
    list(&folder.join("runs.db-blobs"))
        .iter()
        .flat_map(|folder| list(folder))
        .collect()
}

/// Returns a copy of the bytes with a few random changes.
fn mutated(random: &mut Random, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        let byte = match random.below(3) {
            0 => [
                0, 1, 2, 3, 4, 0x7f, 0x90, 0xc0, 0xc4, 0xcd, 0xce, 0xcf, 0xdb, 0xdd, 0xff,
            ][random.below(15) as usize],
            _ => random.below(256) as u8,
        };
        match random.below(5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, byte),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            _ if at < bytes.len() => bytes[at] = byte,
            _ => bytes.push(byte),
        }
    }
    bytes
}

/// Reads everything, in all ways. Returns `true` if no error was found.
fn read_all(connection: &Connection, id: RunId) -> bool {
    let read = history::read_run(connection, id);
    let is_well = match read {
        Ok(Some(read)) => {
            if let Some(output) = &read.output {
                let _ = rows::stored_result(output);
            }
            let record = RunRecord::from(read.tables);
            for task in record.tasks().iter() {
                let _ = format!(
                    "{task:?} {:?} {:?} {:?}",
                    task.duration(),
                    task.cache_miss(),
                    task.next_attempt_at()
                );
            }
            let _ = (record.task("each[1]").is_some(), record.duration());
            true
        }
        Ok(None) => false,
        Err(failure) => {
            let text = failure.at(Path::new("runs.db")).to_string();
            assert!(!text.is_empty() && !text.contains('\n'), "{text}");
            false
        }
    };
    is_well
        & history::read_history(connection, id).is_ok()
        & cache::look_up_results(connection, &[wanted()], 0, 0, &[], time(1_500)).is_ok()
}

#[tokio::test]
async fn no_change_of_any_row_ends_in_a_panic() {
    let opened = Opened::new("sqlite");
    let log = created(&*opened.store, new_run("etl")).await;
    let id = log.snapshot().id();
    for transition in a_long_life(3, id) {
        log.record(transition);
    }
    log.record(Transition::Planned(vec![node("kept", None, 5)]));
    log.record(cached(id, 5, 1, vec![1, 2, 3]));
    finish(&*log, 90, RunState::Failed).await;
    assert!(told(&opened.store.find_run(id).await.unwrap().unwrap()).len() > 15);

    let connection = Connection::open(opened.folder().join("runs.db")).unwrap();
    connection
        .execute_batch("PRAGMA synchronous = OFF")
        .unwrap();
    // each row that has something in a column, by how it is found
    let pick = |table: &'static str, column: &'static str| {
        let key = if table == "cache" { "0" } else { "number" };
        let sql = format!("SELECT {key}, {column} FROM {table} WHERE {column} IS NOT NULL");
        let mut select = connection.prepare(&sql).unwrap();
        let rows = select
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        let rows: Vec<(i64, Value)> = rows.map(Result::unwrap).collect();
        (
            format!("UPDATE {table} SET {column} = ?2 WHERE {key} = ?1"),
            rows,
        )
    };
    let bodies = [
        ("plans", "body"),
        ("attempts", "body"),
        ("attempts", "body"),
        ("cache", "body"),
    ];
    let numbers =
        ["frame", "cell", "attempt", "state", "started", "took"].map(|column| ("attempts", column));
    let places: Vec<_> = bodies
        .iter()
        .chain(&numbers)
        .map(|(table, column)| pick(table, column))
        .collect();
    let strange = [
        -1,
        0,
        1,
        2,
        3,
        7,
        8,
        99,
        i64::from(u32::MAX),
        i64::MAX,
        i64::MIN,
    ];
    let mut random = Random(11);
    let mut well = 0;
    for _ in 0..2_000 {
        let (update, rows) = &places[random.below(places.len() as u64) as usize];
        let (number, value) = &rows[random.below(rows.len() as u64) as usize];
        let changed = match value {
            Value::Blob(body) => Value::Blob(mutated(&mut random, body)),
            _ => Value::Integer(strange[random.below(strange.len() as u64) as usize]),
        };
        let _case = case(format_args!("{update}: row {number}, {changed:?}"));
        connection
            .execute(update, params![number, changed])
            .unwrap();
        well += usize::from(read_all(&connection, id));
        connection.execute(update, params![number, value]).unwrap();
    }
    assert!(read_all(&connection, id));
    assert!(
        (100..1_900).contains(&well),
        "{well} of 2000 changes were not noticed"
    );
}

#[tokio::test]
async fn a_run_that_cannot_be_read_is_named_and_harms_no_other() {
    // no deeper than the JSON that older versions accepted
    let nested = format!(
        "UPDATE runs SET parameters = '{{\"a\":{}{}}}'",
        "[".repeat(127),
        "]".repeat(127)
    );
    for (change, problem) in [
        ("UPDATE plans SET body = x'63'", "unknown kind 99"),
        ("UPDATE plans SET body = x''", "a plan is empty"),
        ("UPDATE plans SET body = x'01'", "a plan cannot be read"),
        ("UPDATE attempts SET state = 99", "unknown state"),
        ("UPDATE attempts SET attempt = 70000", "out of range"),
        ("UPDATE attempts SET body = x''", "a row is empty"),
        ("UPDATE attempts SET body = x'01ff'", "a note is cut off"),
        (
            "UPDATE attempts SET body = x'0201'",
            "a reference is cut off",
        ),
        ("UPDATE attempts SET frame = 7", "not there"),
        ("UPDATE attempts SET cell = 7", "not there"),
        (
            "UPDATE attempts SET state = 4, body = x'00ff'",
            "a row cannot be read",
        ),
        ("UPDATE runs SET state = 9", "state: 9 is unknown"),
        ("UPDATE runs SET kind = 9", "kind: 9 is unknown"),
        ("UPDATE runs SET parameters = '{'", "parameters: EOF"),
        (&nested, "parameters: recursion limit exceeded"),
        ("UPDATE runs SET key = CAST(x'ff' AS TEXT)", "key: "),
        ("UPDATE runs SET id = x'00'", "id: "),
        (
            "UPDATE runs SET created = 9223372036854775807",
            "created: 9223372036854775807 is not a valid time",
        ),
        (
            "UPDATE runs SET state = 3, finished = 1, error = x'ff'",
            "error: ",
        ),
        (
            "UPDATE runs SET state = 2, finished = 1, output = x'0201'",
            "a reference is cut off",
        ),
    ] {
        let opened = Opened::new("sqlite");
        let log = started(&*opened.store, new_run("etl"), 1).await;
        log.record(Transition::Task(success(0, b"result")));
        log.commit().wait().await.unwrap();
        let connection = Connection::open(opened.folder().join("runs.db")).unwrap();
        connection.execute_batch(change).unwrap();
        let id = log.snapshot().id();
        let alone = opened.store.find_run(id).await.map(|run| run.is_some());
        match &alone {
            Err(StoreError::UnreadableRun {
                run,
                problem: named,
            }) => {
                assert!(*run == id && named.contains(problem), "{change}: {named}");
            }
            found => assert_eq!((found, change), (&Ok(false), "UPDATE runs SET id = x'00'")),
        }
        // another of the same flow
        let other = started(&*opened.store, new_run("etl"), 1).await;
        finish(&*other, 90, RunState::Success).await;
        let listed = opened.store.list_runs("etl").await.unwrap();
        let unreadable: Vec<bool> = listed
            .iter()
            .map(|run| run.unreadable().is_some())
            .collect();
        assert_eq!(unreadable, [true, false], "{change}");
        assert!(
            listed[0].unreadable().unwrap().contains(problem),
            "{change}: {:?}",
            listed[0].unreadable()
        );
        let summaries = opened
            .store
            .find_runs(&RunFilter::new().oldest_first())
            .await
            .unwrap();
        assert_eq!(summaries.len(), 2, "{change}");
        let of_row = change.starts_with("UPDATE runs") && !change.contains("output");
        assert_eq!(summaries[0].unreadable.is_some(), of_row, "{change}");
        let check = opened.store.check_store().await.unwrap();
        assert_eq!(
            (
                check.problems.len(),
                change.contains("output") || check.unreadable_runs.len() == 1
            ),
            (0, true)
        );
        let (first, last) = (RunId::from_bytes([0; 16]), RunId::from_bytes([0xff; 16]));
        assert!(
            opened
                .store
                .find_ids(first, last)
                .await
                .unwrap()
                .contains(&other.snapshot().id()),
            "{change}"
        );
        opened
            .store
            .prune_store(time(1_000), time(1_000), 0)
            .await
            .unwrap();
        let next = opened.reopen();
        connection
            .execute("UPDATE runs SET owner = NULL", [])
            .unwrap();
        next.find_abandoned().await.unwrap();
        if alone.is_err() && !change.contains("runs SET state") {
            assert!(next.take_over_run(id).await.is_err(), "{change}");
            let owned = "SELECT count(*) FROM runs WHERE owner IS NOT NULL";
            assert_eq!(
                connection.query_row(owned, [], |row| row.get(0)),
                Ok(0),
                "{change}"
            );
        }
    }
}

#[tokio::test]
async fn a_line_of_a_log_that_cannot_be_read_is_named() {
    for (change, problem) in [
        (
            "UPDATE logs SET at = 9223372036854775807",
            "is not a valid time",
        ),
        ("UPDATE logs SET level = 9", "unknown level"),
        ("UPDATE logs SET fields = '[1]'", "fields"),
        ("UPDATE logs SET fields = '{'", "fields"),
        ("UPDATE logs SET map_index = -1", "out of range"),
        ("UPDATE logs SET attempt = -1", "out of range"),
        (
            "UPDATE logs SET number = -number; DELETE FROM logs WHERE number > 0",
            "",
        ),
        ("UPDATE logs SET message = CAST(x'ff' AS TEXT)", "utf-8"),
    ] {
        let opened = Opened::new("sqlite");
        let id = started(&*opened.store, new_run("etl"), 1)
            .await
            .snapshot()
            .id();
        assert!(
            opened
                .store
                .append_logs(&mut vec![line(id, "said")], true)
                .unwrap()
        );
        let connection = Connection::open(opened.folder().join("runs.db")).unwrap();
        connection.execute_batch(change).unwrap();
        match opened.store.read_logs(id, 0, 10).await {
            Ok(lines) => assert!(problem.is_empty() && lines.is_empty(), "{change}"),
            Err(refused) => {
                let is_damaged = matches!(&refused, StoreError::Damaged { problem: named, .. } if named.contains(problem));
                assert!(is_damaged, "{change}: {refused}");
            }
        }
        // the store can still be written to
        assert!(
            opened
                .store
                .append_logs(&mut vec![line(id, "more")], true)
                .unwrap()
        );
    }
}

#[tokio::test]
async fn results_above_one_mebibyte_are_blobs() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let log = started(&store, new_run("etl"), 4).await;
    let id = log.snapshot().id();
    let (inline, blob) = (vec![1; MIB], vec![2; MIB + 1]);
    log.record(with_result(0, inline.clone()));
    log.commit().wait().await.unwrap();
    assert_eq!(blobs(folder.path()).len(), 0);
    log.record(cached(id, 1, 1, blob.clone()));
    log.record(Transition::RunStarted { at: time(77) });
    log.commit().wait().await.unwrap();
    // the run's own, and that of the cache
    assert_eq!(blobs(folder.path()).len(), 2);
    match look_up(&store).await {
        Lookup::Hit(CacheHit {
            result: ResultValue::Encoded(found),
            ..
        }) => assert!(found.0[..] == blob[..]),
        other => panic!("{other:?}"),
    }
    drop(store);
    let store = open(folder.path());
    left(&store, id).await;
    let results = store
        .take_over_run(id)
        .await
        .unwrap()
        .unwrap()
        .history
        .results;
    assert!(
        results[&row_place(0, 0)].0[..] == inline[..]
            && results[&row_place(0, 1)].0[..] == blob[..]
    );
    let connection = Connection::open(folder.path().join("runs.db")).unwrap();
    let lengths: String = connection
        .query_row(
            "SELECT group_concat(length(body) ORDER BY number) FROM attempts",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(lengths, format!("{},49", MIB + 1));
    let size: u32 = connection
        .query_row("SELECT size FROM cache", [], |row| row.get(0))
        .unwrap();
    assert_eq!(size as usize, MIB + 1);
}

#[tokio::test]
async fn a_blob_that_is_gone_or_altered_is_named_and_its_run_goes_on_when_it_is_back() {
    for damage in ["missing", "modified"] {
        let folder = TempDir::new().unwrap();
        let dies = open(folder.path());
        let log = started(&dies, new_run("etl"), 2).await;
        let id = log.snapshot().id();
        log.record(cached(id, 0, 1, vec![2; MIB + 1]));
        log.commit().wait().await.unwrap();
        let ended = started(&dies, new_run("etl"), 1).await;
        let output = Some(EncodedResult(vec![2; MIB + 1].into()));
        ended.record(Transition::RunFinished(RunEnd {
            at: time(5),
            state: RunState::Success,
            error: None,
            output: None,
            encoded: output,
        }));
        ended.commit().wait().await.unwrap();
        drop(dies);
        let blobs = blobs(folder.path());
        let bytes = fs::read(&blobs[0]).unwrap();
        for blob in &blobs {
            match damage {
                "missing" => fs::remove_file(blob).unwrap(),
                _ => fs::write(blob, vec![3; MIB + 1]).unwrap(),
            }
        }
        let store = open(folder.path());
        left(&store, id).await;
        for refused in [
            store.take_over_run(id).await.map(drop).unwrap_err(),
            store
                .find_run(ended.snapshot().id())
                .await
                .map(drop)
                .unwrap_err(),
        ] {
            let text = refused.to_string();
            let named = blobs
                .iter()
                .filter(|blob| text.contains(&blob.display().to_string()));
            assert!(named.count() == 1 && text.contains(damage), "{text}");
        }
        // a cached result can be computed again
        assert!(matches!(
            look_up(&store).await,
            Lookup::Miss(CacheMiss::Unreadable, _)
        ));
        assert_eq!(
            store.find_abandoned().await.unwrap().len(),
            1,
            "nothing executes the run, nor can another process"
        );
        for blob in &blobs {
            fs::write(blob, &bytes).unwrap();
        }
        let taken = store.take_over_run(id).await.unwrap().unwrap();
        assert_eq!(taken.history.takeovers, 1);
        assert_eq!(
            taken
                .history
                .tables
                .row(row_place(0, 0))
                .unwrap()
                .task_state(),
            TaskState::Success
        );
        assert!(
            store
                .find_run(ended.snapshot().id())
                .await
                .unwrap()
                .unwrap()
                .output()
                .is_some()
        );
    }
}

#[tokio::test]
async fn a_blob_goes_with_the_row_that_refers_to_it() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let value = |byte: u8| vec![byte; MIB + 1];
    let old = started(&store, new_run("etl"), 3).await;
    let id = old.snapshot().id();
    // another run has an equal blob, and so has the cache; one is the output of the run
    old.record(with_result(0, value(1)));
    old.record(cached(id, 1, 1, value(2)));
    old.record(with_result(2, value(4)));
    let output = Some(EncodedResult(value(3).into()));
    old.record(Transition::RunFinished(RunEnd {
        at: time(50),
        state: RunState::Success,
        error: None,
        output: None,
        encoded: output,
    }));
    old.commit().wait().await.unwrap();
    let young = started(&store, new_run("etl"), 1).await;
    young.record(with_result(0, value(1)));
    finish(&*young, 200, RunState::Success).await;
    assert_eq!(blobs(folder.path()).len(), 6);
    store
        .prune_store(time(100), time(1_500), u64::MAX)
        .await
        .unwrap();
    assert_eq!(blobs(folder.path()).len(), 3);
    assert!(matches!(look_up(&store).await, Lookup::Hit(_)));
    store.prune_store(time(100), time(1_500), 0).await.unwrap();
    assert_eq!(blobs(folder.path()).len(), 2);
    store.prune_store(time(201), time(1_500), 0).await.unwrap();
    assert_eq!(blobs(folder.path()).len(), 1);
    assert!(
        store
            .find_run(id)
            .await
            .unwrap()
            .unwrap()
            .output()
            .is_some()
    );
}

#[tokio::test]
async fn a_deployment_that_cannot_be_read_is_named_and_served_anew() {
    let opened = Opened::new("sqlite");
    let daily = spec(&[Schedule::cron("@daily").unwrap()], "EU");
    opened.store.put_in_force(&daily, time(10)).await.unwrap();
    let connection = Connection::open(opened.folder().join("runs.db")).unwrap();
    let damage = r#"UPDATE deployments SET segments = '[{"schedules":'"#;
    connection.execute(damage, []).unwrap();
    let check = opened.store.check_store().await.unwrap();
    assert_eq!(check.problems.len(), 1, "{:?}", check.problems);
    let problem = &check.problems[0];
    assert!(
        problem.starts_with("flow `report` on record: "),
        "{problem}"
    );
    let served = opened.store.put_in_force(&daily, time(20)).await.unwrap();
    assert_eq!(
        (served.decided, served.segments.len()),
        (time(20).to_datetime().unwrap(), 1)
    );
    assert!(
        opened
            .store
            .check_store()
            .await
            .unwrap()
            .problems
            .is_empty()
    );
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_is_named_and_harms_no_other() {
    // as another program may write, which does not know or ignores the conditions of the table
    let ignoring = "PRAGMA ignore_check_constraints = ON; ";
    for (change, problem) in [
        (
            "SET kind = 9 WHERE kind = 2",
            "an entry of the unknown kind 9",
        ),
        (
            "SET name = CAST(x'ff' AS TEXT) WHERE kind = 2",
            "a secret: ",
        ),
        (
            "SET key = NULL WHERE kind = 2",
            "secret `harmed`: it is not sealed",
        ),
        (
            "SET key = x'00' WHERE kind = 2",
            "secret `harmed`: expected the id of a key, got 1 bytes",
        ),
        (
            "SET bytes = x'ff' WHERE kind = 1",
            "variable `harmed`: invalid utf-8",
        ),
    ] {
        let opened = Opened::new("sqlite");
        let (store, key) = (&*opened.store, KeyId([7; 8]));
        let sealed = |kind| {
            let bytes = vec![1, 2, 3];
            NewEntry::sealed(kind, "harmed", SealedText { key, bytes })
        };
        for entry in [
            sealed(EntryKind::Connection),
            NewEntry::variable("harmed", "text"),
            sealed(EntryKind::Secret),
        ] {
            store.put_entry(entry, time(1)).await.unwrap();
        }
        let connection = Connection::open(opened.folder().join("runs.db")).unwrap();
        connection
            .execute_batch(&format!("{ignoring} UPDATE vault {change}"))
            .unwrap();
        let listed = store.list_entries(None).await.unwrap_err();
        let is_named = matches!(&listed, StoreError::Damaged { problem: named, .. } if named.contains(problem));
        assert!(is_named, "{change}: {listed}");
        let problems = store.check_store().await.unwrap().problems;
        assert!(
            problems.iter().any(|named| named.contains(problem)),
            "{change}: {problems:?}"
        );
        let other = store.find_entry(EntryKind::Connection, "harmed").await;
        assert!(other.unwrap().is_some(), "{change}");
        // setting it again is the remedy
        if !problem.starts_with('a') {
            for entry in [
                sealed(EntryKind::Secret),
                NewEntry::variable("harmed", "text"),
            ] {
                store.put_entry(entry, time(2)).await.unwrap();
            }
            assert_eq!(store.list_entries(None).await.unwrap().len(), 3, "{change}");
        }
    }
}
