//! Deletes what is not to be kept any longer, a small transaction at a time: runs under way wait for none of them long.
//!
//! A blob becomes garbage in the transaction that deletes its row, and is removed after that.

use rusqlite::{Connection, OptionalExtension, params};

use super::{lines, rows};
use crate::blob::BlobRef;

/// How many rows, cached results or blobs one transaction sees to. A row takes about a microsecond.
pub(super) const AT_ONCE: usize = 5_000;

/// How long a body with a reference is at most: before it, a note of the cache may stand.
const LONGEST: usize = 300;

/// Deletes some of what is kept of the tasks, and of the logs, of runs that were final before a time. Says how many runs were done with,
/// and whether there is more.
pub(super) fn runs(connection: &Connection, before: i64) -> rusqlite::Result<(u64, bool)> {
    let mut select = connection.prepare_cached(
        "SELECT run, pruned FROM runs WHERE state >= 2 AND pruned <> 1 AND finished < ?1 ORDER BY finished LIMIT 1",
    )?;
    let (mut done, mut left) = (0, AT_ONCE);
    while left > 0 {
        let next = select
            .query_row([before], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((run, begun)): Option<(i64, i64)> = next else {
            return Ok((done, false));
        };
        if begun == 0 {
            connection
                .prepare_cached("UPDATE runs SET pruned = 2 WHERE run = ?1")?
                .execute([run])?;
        }
        let mut deleted = attempts(connection, run, left)?;
        deleted += lines::delete(connection, run, left - deleted)?;
        if deleted < left {
            connection
                .prepare_cached("DELETE FROM plans WHERE run = ?1")?
                .execute([run])?;
            connection
                .prepare_cached("UPDATE runs SET pruned = 1 WHERE run = ?1")?
                .execute([run])?;
            done += 1;
        }
        // a run without tasks is work, too
        left -= deleted.clamp(1, left);
    }
    Ok((done, true))
}

/// Deletes the first attempts of a run, at most so many. Says how many.
fn attempts(connection: &Connection, run: i64, at_most: usize) -> rusqlite::Result<usize> {
    let mut last = connection.prepare_cached(
        "SELECT max(number) FROM (SELECT number FROM attempts WHERE run = ?1 ORDER BY number LIMIT ?2)",
    )?;
    let last: Option<i64> = last.query_row(params![run, at_most], |row| row.get(0))?;
    let mut bodies = connection.prepare_cached(
        "SELECT body FROM attempts WHERE run = ?1 AND number <= ?2 AND state = 3 AND length(body) BETWEEN ?3 AND ?4",
    )?;
    let bodies = bodies.query_map(params![run, last, 1 + BlobRef::LENGTH, LONGEST], |row| {
        row.get::<_, Vec<u8>>(0)
    })?;
    for body in bodies {
        if let Ok(Err(blob)) = rows::stored_result(&body?) {
            throw_away(connection, &blob)?;
        }
    }
    connection
        .prepare_cached("DELETE FROM attempts WHERE run = ?1 AND number <= ?2")?
        .execute(params![run, last])
}

/// Deletes what is left of a run of whose tasks some was deleted already.
pub(super) fn rest(connection: &Connection, run: i64) -> rusqlite::Result<()> {
    while attempts(connection, run, AT_ONCE)? == AT_ONCE {}
    connection
        .prepare_cached("DELETE FROM plans WHERE run = ?1")?
        .execute([run])
        .map(drop)
}

/// Deletes some cached results that have expired at `now`, and the oldest beyond a bound on their size. Says how many,
/// and whether there may be more.
pub(super) fn cached(
    connection: &Connection,
    now: i64,
    bytes: i64,
) -> rusqlite::Result<(u64, bool)> {
    let size: i64 =
        connection.query_row("SELECT coalesce(sum(size), 0) FROM cache", [], |row| {
            row.get(0)
        })?;
    let mut over = size - bytes;
    // without the bodies: all of this is sorted
    let mut select = connection.prepare_cached(
        "SELECT key, size, expires IS NOT NULL AND expires <= ?1 AS expired FROM cache ORDER BY expired DESC, created",
    )?;
    let mut rows = select.query([now])?;
    let mut doomed = Vec::new();
    while let Some(row) = rows.next()?
        && doomed.len() < AT_ONCE
    {
        let (size, expired): (i64, bool) = (row.get(1)?, row.get(2)?);
        if !expired && over <= 0 {
            break;
        }
        over -= size;
        doomed.push(row.get::<_, [u8; 32]>(0)?);
    }
    drop(rows);
    for key in &doomed {
        let mut delete =
            connection.prepare_cached("DELETE FROM cache WHERE key = ?1 RETURNING body")?;
        let body: Vec<u8> = delete.query_row([key], |row| row.get(0))?;
        throw_away_body(connection, &body)?;
    }
    Ok((doomed.len() as u64, doomed.len() == AT_ONCE))
}

/// Makes garbage of the blob that the body of a row refers to, if it does.
pub(super) fn throw_away_body(connection: &Connection, body: &[u8]) -> rusqlite::Result<()> {
    match rows::stored_result(body) {
        Ok(Err(blob)) => throw_away(connection, &blob),
        _ => Ok(()),
    }
}

pub(super) fn throw_away(connection: &Connection, blob: &BlobRef) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached("INSERT OR IGNORE INTO garbage VALUES (?1)")?;
    insert.execute([blob.to_bytes().as_slice()]).map(drop)
}

/// Some blobs whose row is gone.
pub(super) fn garbage(connection: &Connection) -> rusqlite::Result<Vec<BlobRef>> {
    let mut select = connection.prepare_cached("SELECT blob FROM garbage LIMIT ?1")?;
    let blobs = select
        .query_map([AT_ONCE], |row| row.get::<_, Vec<u8>>(0))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(blobs
        .iter()
        .filter_map(|blob| BlobRef::from_bytes(blob))
        .collect())
}

/// Blobs have been removed.
pub(super) fn removed(connection: &Connection, blobs: &[BlobRef]) -> rusqlite::Result<()> {
    let mut delete = connection.prepare_cached("DELETE FROM garbage WHERE blob = ?1")?;
    blobs
        .iter()
        .try_for_each(|blob| delete.execute([blob.to_bytes().as_slice()]).map(drop))
}

/// Deletes what says that the dead are computing something.
pub(super) fn flights(connection: &Connection, dead: &[i64]) -> rusqlite::Result<()> {
    let mut delete = connection.prepare_cached("DELETE FROM flights WHERE owner = ?1")?;
    dead.iter()
        .try_for_each(|owner| delete.execute([owner]).map(drop))
}
