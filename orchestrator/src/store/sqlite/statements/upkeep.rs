//! Inspection and maintenance: cached results, and the file as a whole.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::super::columns::unsigned;
use super::super::failure::{self, Failure};
use super::super::schema::MIGRATIONS;
use super::cache::Eviction;
use super::deployments;
use super::history;
use super::vault;
use crate::clock::Timestamp;
use crate::id::RunId;
use crate::store::entry::hex;
use crate::store::sql::statements;
use crate::store::{CacheEntry, CacheFilter, StoreCheck};

/// The maximum number of problems that are reported.
const TOLD: u32 = 20;

/// Lists cached results by task and age, without their values.
pub(crate) fn list_cached(
    connection: &Connection,
    filter: &CacheFilter,
    now: Timestamp,
) -> Result<Vec<CacheEntry>, Failure> {
    let mut entries = Vec::new();
    each_cached(connection, filter, now, |entry, _| entries.push(entry)).map(|()| entries)
}

/// Returns the cached results that match a filter, to be deleted.
pub(crate) fn find_matching(
    connection: &Connection,
    filter: &CacheFilter,
    now: Timestamp,
) -> Result<Vec<Eviction>, Failure> {
    let mut matching = Vec::new();
    each_cached(connection, filter, now, |_, doomed| matching.push(doomed)).map(|()| matching)
}

fn each_cached(
    connection: &Connection,
    filter: &CacheFilter,
    now: Timestamp,
    mut each: impl FnMut(CacheEntry, Eviction),
) -> Result<(), Failure> {
    let mut select = connection.prepare_cached(
        "SELECT key, task, inputs, run, created, expires, size, entry FROM cache \
         ORDER BY task, created",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (key, created): ([u8; 32], Timestamp) = (row.get(0)?, row.get(4)?);
        let entry = CacheEntry {
            key: hex(&key),
            task: row.get(1)?,
            inputs: hex(row
                .get_ref(2)?
                .as_blob()
                .map_err(|error| error.to_string())?),
            run: RunId::from_bytes(row.get(3)?),
            created_at: created.to_datetime().unwrap_or_default(),
            expires_at: row
                .get::<_, Option<Timestamp>>(5)?
                .and_then(Timestamp::to_datetime),
            size: row
                .get::<_, Option<i64>>(6)?
                .map(|size| unsigned(6, size))
                .transpose()?,
        };
        if filter.matches(&entry, now) {
            each(entry, Eviction::new(row.get(7)?, created));
        }
    }
    Ok(())
}

/// Returns the ids of runs from `first` to `last`, both included, in ascending order.
pub(crate) fn find_ids(
    connection: &Connection,
    first: RunId,
    last: RunId,
) -> Result<Vec<RunId>, Failure> {
    let mut select = connection.prepare_cached(statements::FIND_IDS)?;
    let ids = select.query_map(params![first.as_bytes(), last.as_bytes()], |row| {
        Ok(RunId::from_bytes(row.get(0)?))
    })?;
    Ok(ids.collect::<rusqlite::Result<_>>()?)
}

/// Returns the ids of runs that end with these hexadecimal digits, in ascending order. No index
/// covers the ends of ids: all ids are scanned, at about three million a second.
pub(crate) fn find_ids_ending(
    connection: &Connection,
    digits: &str,
) -> Result<Vec<RunId>, Failure> {
    let mut select = connection.prepare_cached(
        "SELECT id FROM runs WHERE substr(hex(id), -length(?1)) = upper(?1) \
         AND length(id) = 16 ORDER BY id",
    )?;
    let ids = select.query_map([digits], |row| Ok(RunId::from_bytes(row.get(0)?)))?;
    Ok(ids.collect::<rusqlite::Result<_>>()?)
}

/// Checks the whole file. Unreadable data is a finding, not an error.
pub(crate) fn check_store(connection: &Connection, path: &Path) -> StoreCheck {
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
    for (what, count) in statements::COUNTS {
        match connection.query_row(count, [], |row| unsigned(0, row.get(0)?)) {
            Ok(counted) => drop(check.counts.insert(what, counted)),
            Err(error) => problems.push(format!(
                "{}: {}",
                what.replace('_', " "),
                failure::text(&error)
            )),
        }
    }
    match deployments::list_deployments(connection, None) {
        Ok(records) => problems.extend(records.iter().filter_map(|record| {
            let problem = record.unreadable.as_ref()?;
            Some(format!("{} on record: {problem}", record.key))
        })),
        Err(error) => problems.push(format!("deployments: {}", failure::text(&error))),
    }
    match vault::check(connection) {
        Ok(found) => problems.extend(found),
        Err(failure) => problems.push(format!("vault: {}", failure.text())),
    }
    if let Err(failure) = runs(connection, &mut check.unreadable_runs) {
        problems.push(format!("runs: {}", failure.text()));
    }
    check
}

/// Returns the problems that SQLite finds in the file.
fn pages(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut pragma = connection.prepare(&format!("PRAGMA integrity_check({TOLD})"))?;
    let mut found = pragma
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<String>>>()?;
    found.retain(|problem| problem != "ok");
    Ok(found)
}

/// Reads each run with its tasks, one at a time, until too many are unreadable.
fn runs(connection: &Connection, unreadable: &mut Vec<String>) -> Result<(), Failure> {
    let mut select = connection.prepare(statements::FIND_NEXT_RUN)?;
    let (mut last, mut told) = (i64::MIN, 0);
    loop {
        // no transaction is open between runs, so that the log can be checkpointed meanwhile
        let next = select
            .query_row([last], |row| Ok((row.get(0)?, row.get::<_, [u8; 16]>(1))))
            .optional()?;
        let Some((run, id)) = next else { return Ok(()) };
        let problem = match id {
            Ok(id) => {
                let id = RunId::from_bytes(id);
                let read = history::read_run(connection, id).map(drop);
                read.err()
                    .map(|failure| format!("run {id}: {}", failure.text()))
            }
            Err(error) => Some(format!(
                "the run in row {run} has no id: {}",
                failure::text(&error)
            )),
        };
        if let Some(problem) = problem {
            if told == TOLD {
                unreadable.push("and more runs: these are the first".to_owned());
                return Ok(());
            }
            unreadable.push(problem);
            told += 1;
        }
        last = run;
    }
}
