//! What people look at and tidy up: cached results, and the file as a whole.

use std::path::Path;

use chrono::DateTime;
use rusqlite::{Connection, OptionalExtension, params};

use super::read::{self, Failure};
use super::schema::MIGRATIONS;
use super::{failure, prune};
use crate::id::RunId;
use crate::store::entry::hex;
use crate::store::{CacheEntry, CacheFilter, StoreCheck};

/// The tables that a check counts, by the words that people know.
const COUNTED: [(&str, &str); 7] = [
    ("runs", "SELECT count(*) FROM runs"),
    (
        "unfinished_runs",
        "SELECT count(*) FROM runs WHERE state < 2",
    ),
    ("attempts", "SELECT count(*) FROM attempts"),
    ("cached_results", "SELECT count(*) FROM cache"),
    ("schedules", "SELECT count(*) FROM schedules"),
    ("paused_flows", "SELECT count(*) FROM pauses"),
    ("processes", "SELECT count(*) FROM processes"),
];

/// How many problems of a file are told.
const TOLD: u32 = 20;

/// Cached results, without the results, by task and age.
pub(super) fn cached(
    connection: &Connection,
    filter: &CacheFilter,
    now: i64,
) -> Result<Vec<CacheEntry>, Failure> {
    let mut select = connection.prepare_cached(
        "SELECT key, task, inputs, run, created, expires, size FROM cache ORDER BY task, created",
    )?;
    let mut rows = select.query([])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let instant = |micros: i64| DateTime::from_timestamp_micros(micros);
        let entry = CacheEntry {
            key: hex(&row.get::<_, [u8; 32]>(0)?),
            task: row.get(1)?,
            inputs: hex(row
                .get_ref(2)?
                .as_blob()
                .map_err(|error| error.to_string())?),
            run: RunId::from_bytes(row.get(3)?),
            created_at: instant(row.get(4)?).unwrap_or_default(),
            expires_at: row.get::<_, Option<i64>>(5)?.and_then(instant),
            size: row.get(6)?,
        };
        if filter.matches(&entry, now) {
            entries.push(entry);
        }
    }
    Ok(entries)
}

/// Deletes cached results by their keys, in hexadecimal digits. Says how many were there.
pub(super) fn forget(connection: &Connection, keys: &[String]) -> rusqlite::Result<u64> {
    let mut forgotten = 0;
    for key in keys {
        let mut select =
            connection.prepare_cached("SELECT body FROM cache WHERE key = unhex(?1)")?;
        let bodies = select
            .query_map([key], |row| row.get::<_, Vec<u8>>(0))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        for body in bodies {
            prune::throw_away_body(connection, &body)?;
            connection
                .prepare_cached("DELETE FROM cache WHERE key = unhex(?1)")?
                .execute([key])?;
            forgotten += 1;
        }
    }
    Ok(forgotten)
}

/// The ids of runs within bounds, both included, in their own order.
pub(super) fn ids(
    connection: &Connection,
    first: RunId,
    last: RunId,
) -> Result<Vec<RunId>, Failure> {
    let mut select =
        connection.prepare_cached("SELECT id FROM runs WHERE id BETWEEN ?1 AND ?2 ORDER BY id")?;
    let ids = select.query_map(params![first.as_bytes(), last.as_bytes()], |row| {
        Ok(RunId::from_bytes(row.get(0)?))
    })?;
    Ok(ids.collect::<rusqlite::Result<_>>()?)
}

/// The ids of runs that end so, in hexadecimal digits, in their own order. No index has ends: all ids are looked at,
/// some three million a second.
pub(super) fn ids_ending(connection: &Connection, digits: &str) -> Result<Vec<RunId>, Failure> {
    let mut select = connection.prepare_cached(
        "SELECT id FROM runs WHERE substr(hex(id), -length(?1)) = upper(?1) ORDER BY id",
    )?;
    let ids = select.query_map([digits], |row| Ok(RunId::from_bytes(row.get(0)?)))?;
    Ok(ids.collect::<rusqlite::Result<_>>()?)
}

/// Looks at the whole file. What cannot be read is what is looked for, and no error.
pub(super) fn check(connection: &Connection, path: &Path) -> StoreCheck {
    let mut check = StoreCheck {
        store: path.display().to_string(),
        schema: MIGRATIONS.last().map(|migration| migration.number),
        size: std::fs::metadata(path).ok().map(|file| file.len()),
        ..StoreCheck::default()
    };
    let problems = &mut check.problems;
    match pages(connection) {
        Ok(found) => problems.extend(found),
        Err(error) => problems.push(failure::text(&error)),
    }
    for (what, count) in COUNTED {
        match connection.query_row(count, [], |row| row.get(0)) {
            Ok(counted) => drop(check.counts.insert(what, counted)),
            Err(error) => problems.push(format!(
                "{}: {}",
                what.replace('_', " "),
                failure::text(&error)
            )),
        }
    }
    if let Err(failure) = runs(connection, problems) {
        problems.push(format!("runs: {}", text(&failure)));
    }
    check
}

/// What SQLite finds wrong with the file.
fn pages(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut pragma = connection.prepare(&format!("PRAGMA integrity_check({TOLD})"))?;
    let mut found = pragma
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<String>>>()?;
    found.retain(|problem| problem != "ok");
    Ok(found)
}

/// What is wrong, without the file's path.
fn text(failure: &Failure) -> String {
    match failure {
        Failure::Sql(error) => failure::text(error),
        Failure::Row(problem) => problem.clone(),
        Failure::Store(error) => error.to_string(),
    }
}

/// Reads each run with its tasks, one at a time, until too much is wrong.
fn runs(connection: &Connection, problems: &mut Vec<String>) -> Result<(), Failure> {
    let mut select =
        connection.prepare("SELECT run, id FROM runs WHERE run > ?1 ORDER BY run LIMIT 1")?;
    let (mut last, mut told) = (i64::MIN, 0);
    loop {
        // no transaction is open from run to run: the log may be emptied meanwhile
        let next = select
            .query_row([last], |row| Ok((row.get(0)?, row.get::<_, [u8; 16]>(1))))
            .optional()?;
        let Some((run, id)) = next else { return Ok(()) };
        let problem = match id {
            Ok(id) => {
                let id = RunId::from_bytes(id);
                let read = read::run(connection, id).map(drop);
                read.err()
                    .map(|failure| format!("run {id}: {}", text(&failure)))
            }
            Err(error) => Some(format!(
                "the run in row {run} has no id: {}",
                failure::text(&error)
            )),
        };
        if let Some(problem) = problem {
            if told == TOLD {
                problems.push("and more runs: these are the first".to_owned());
                return Ok(());
            }
            problems.push(problem);
            told += 1;
        }
        last = run;
    }
}
