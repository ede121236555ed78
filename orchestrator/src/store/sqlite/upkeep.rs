//! What people look at and tidy up: cached results, and the file as a whole.

use std::path::Path;

use chrono::DateTime;
use rusqlite::{Connection, params};

use super::prune;
use super::read::Failure;
use super::schema::MIGRATIONS;
use crate::id::RunId;
use crate::store::entry::hex;
use crate::store::{CacheEntry, CacheFilter, StoreCheck};

/// The tables that a check counts, by the words that people know.
const COUNTED: [(&str, &str); 7] = [
    ("runs", "SELECT count(*) FROM runs"),
    ("unfinished_runs", "SELECT count(*) FROM runs WHERE state < 2"),
    ("attempts", "SELECT count(*) FROM attempts"),
    ("cached_results", "SELECT count(*) FROM cache"),
    ("schedules", "SELECT count(*) FROM schedules"),
    ("paused_flows", "SELECT count(*) FROM pauses"),
    ("processes", "SELECT count(*) FROM processes"),
];

/// How many problems of a file are told.
const TOLD: u32 = 20;

/// Cached results, without the results, by task and age.
pub(super) fn cached(connection: &Connection, filter: &CacheFilter, now: i64) -> Result<Vec<CacheEntry>, Failure> {
    let mut select = connection
        .prepare_cached("SELECT key, task, inputs, run, created, expires, size FROM cache ORDER BY task, created")?;
    let mut rows = select.query([])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let instant = |micros: i64| DateTime::from_timestamp_micros(micros);
        let entry = CacheEntry {
            key: hex(&row.get::<_, [u8; 32]>(0)?),
            task: row.get(1)?,
            inputs: hex(row.get_ref(2)?.as_blob().map_err(|error| error.to_string())?),
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
        let mut select = connection.prepare_cached("SELECT body FROM cache WHERE key = unhex(?1)")?;
        let bodies = select.query_map([key], |row| row.get::<_, Vec<u8>>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
        for body in bodies {
            prune::throw_away_body(connection, &body)?;
            connection.prepare_cached("DELETE FROM cache WHERE key = unhex(?1)")?.execute([key])?;
            forgotten += 1;
        }
    }
    Ok(forgotten)
}

/// The ids of runs within bounds, both included, in their own order.
pub(super) fn ids(connection: &Connection, first: RunId, last: RunId, limit: usize) -> Result<Vec<RunId>, Failure> {
    let mut select =
        connection.prepare_cached("SELECT id FROM runs WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3")?;
    let bounds = params![first.as_bytes(), last.as_bytes(), limit];
    let ids = select.query_map(bounds, |row| Ok(RunId::from_bytes(row.get(0)?)))?;
    Ok(ids.collect::<rusqlite::Result<_>>()?)
}

/// Looks at the whole file.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<StoreCheck, Failure> {
    let mut check = StoreCheck {
        store: path.display().to_string(),
        schema: MIGRATIONS.last().map(|migration| migration.number),
        size: std::fs::metadata(path).ok().map(|file| file.len()),
        ..StoreCheck::default()
    };
    let mut pragma = connection.prepare(&format!("PRAGMA integrity_check({TOLD})"))?;
    let found = pragma.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    check.problems = found.into_iter().filter(|problem| problem != "ok").collect();
    for (what, count) in COUNTED {
        check.counts.insert(what, connection.query_row(count, [], |row| row.get(0))?);
    }
    Ok(check)
}
