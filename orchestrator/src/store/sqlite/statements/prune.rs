//! Pruning: deletes in short transactions with pauses in between, so that active runs in this
//! process and others never wait long.
//!
//! A blob becomes garbage in the transaction that deletes its row, and is removed after that: no
//! row ever refers to a missing blob.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use tokio::time::Instant;

use super::lines;
use crate::blob::BlobRef;
use crate::clock::Timestamp;
use crate::store::sql::codes::sql;
use crate::store::sql::rows;
use crate::store::sql::statements;

/// The limits of one transaction: its duration, and the number of rows that it deletes. A run that
/// executes at the same time has four commits, and may wait at each. A row takes about a
/// microsecond on a fast disk in a small file; with paused time, only the number of rows counts.
const LASTS: Duration = Duration::from_millis(2);
const ROWS: usize = 5_000;

/// The number of rows that are deleted between two looks at the time.
const STEP: usize = 50;

/// The number of blobs that are removed before their rows are deleted.
const BLOBS: usize = 1_000;

/// The longest body with a reference to a blob: a note of the cache may come first.
const LONGEST: i64 = 300;

/// Selects the next run to prune. The index contains only these runs, so that pruned ones cost
/// nothing.
const NEXT: &str = sql!(
    "SELECT run, pruned FROM runs INDEXED BY runs_to_prune WHERE ",
    RUN_FINAL,
    " AND pruned <> 1 AND finished < ?1 ORDER BY finished LIMIT 1",
);

/// The part of a longer piece of work that is done in one transaction.
pub(crate) struct Slice {
    time: fn() -> Instant,
    pub(crate) began: Instant,
    rows: usize,
}

impl Slice {
    /// Creates a slice that begins now.
    pub(crate) fn new() -> Self {
        Self::by(Instant::now)
    }

    fn by(time: fn() -> Instant) -> Self {
        Self {
            time,
            began: time(),
            rows: ROWS,
        }
    }

    /// Returns the number of rows that may be deleted now, at most [`STEP`]; 0 when the slice is
    /// over. There is always time for a first step: otherwise the work would never end if each
    /// transaction is slow to begin.
    fn rows(&self) -> usize {
        let lasts =
            self.rows == ROWS || (self.time)().saturating_duration_since(self.began) < LASTS;
        if lasts { self.rows.min(STEP) } else { 0 }
    }

    fn used(&mut self, rows: usize) {
        self.rows = self.rows.saturating_sub(rows);
    }

    /// Reserves time for some rows. Returns `false` if the slice is over.
    pub(crate) fn has_time_for(&mut self, rows: usize) -> bool {
        let has_time = self.rows() > 0;
        self.used(rows);
        has_time
    }
}

/// Deletes some of the task records and logs of runs that were final before a time. Returns the
/// number of completed runs, and whether there is more.
pub(crate) fn prune_runs(
    connection: &Connection,
    before: Timestamp,
    slice: &mut Slice,
) -> rusqlite::Result<(u64, bool)> {
    let mut select = connection.prepare_cached(NEXT)?;
    let mut done = 0;
    loop {
        let at_most = slice.rows();
        if at_most == 0 {
            return Ok((done, true));
        }
        let next = select
            .query_row([before], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((run, begun)): Option<(i64, i64)> = next else {
            return Ok((done, false));
        };
        if begun == 0 {
            connection
                .prepare_cached(statements::BEGIN_PRUNING)?
                .execute([run])?;
        }
        let mut deleted = delete_attempts(connection, run, at_most)?;
        if deleted < at_most {
            deleted += lines::delete(connection, run, at_most - deleted)?;
        }
        if deleted < at_most {
            connection
                .prepare_cached(statements::DELETE_PLANS)?
                .execute([run])?;
            connection
                .prepare_cached(statements::END_PRUNING)?
                .execute([run])?;
            done += 1;
        }
        // a run without tasks counts as work, too
        slice.used(deleted.max(1));
    }
}

/// Deletes the first attempts of a run, at most `at_most`. Returns their number.
fn delete_attempts(connection: &Connection, run: i64, at_most: usize) -> rusqlite::Result<usize> {
    let mut last = connection.prepare_cached(
        "SELECT max(number) FROM \
         (SELECT number FROM attempts WHERE run = ?1 ORDER BY number LIMIT ?2)",
    )?;
    let last: Option<i64> = last.query_row(params![run, at_most as i64], |row| row.get(0))?;
    let mut bodies = connection.prepare_cached(statements::FIND_BLOBS)?;
    let bodies = bodies.query_map(
        params![run, last, 1 + BlobRef::LENGTH as i64, LONGEST],
        |row| row.get::<_, Vec<u8>>(0),
    )?;
    for body in bodies {
        if let Ok(Err(blob)) = rows::stored_result(&body?) {
            throw_away(connection, &blob)?;
        }
    }
    connection
        .prepare_cached(statements::DELETE_ATTEMPTS)?
        .execute(params![run, last])
}

/// Deletes some of the remaining rows of a partly pruned run. Returns `true` if there is more.
pub(crate) fn prune_rest(
    connection: &Connection,
    run: i64,
    slice: &mut Slice,
) -> rusqlite::Result<bool> {
    let mut is_pruned = connection.prepare_cached(statements::IS_PRUNED)?;
    if !is_pruned.exists([run])? {
        return Ok(false);
    }
    loop {
        let at_most = slice.rows();
        if at_most == 0 {
            return Ok(true);
        }
        let deleted = delete_attempts(connection, run, at_most)?;
        if deleted < at_most {
            return Ok(false);
        }
        slice.used(deleted);
    }
}

/// Deletes the remaining rows of a run.
pub(crate) fn delete_rest(connection: &Connection, run: i64) -> rusqlite::Result<()> {
    while delete_attempts(connection, run, ROWS)? == ROWS {}
    connection
        .prepare_cached(statements::DELETE_PLANS)?
        .execute([run])
        .map(drop)
}

/// Marks the blob that the body of a row refers to, if any, as garbage.
pub(crate) fn throw_away_body(connection: &Connection, body: &[u8]) -> rusqlite::Result<()> {
    match rows::stored_result(body) {
        Ok(Err(blob)) => throw_away(connection, &blob),
        _ => Ok(()),
    }
}

pub(crate) fn throw_away(connection: &Connection, blob: &BlobRef) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached("INSERT OR IGNORE INTO garbage VALUES (?1)")?;
    insert.execute([blob.to_bytes().as_slice()]).map(drop)
}

/// Returns some blobs whose row was deleted.
pub(crate) fn find_garbage(connection: &Connection) -> rusqlite::Result<Vec<BlobRef>> {
    let mut select = connection.prepare_cached(statements::FIND_GARBAGE)?;
    let blobs = select
        .query_map([BLOBS as i64], |row| row.get::<_, Vec<u8>>(0))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(blobs
        .iter()
        .filter_map(|blob| BlobRef::from_bytes(blob))
        .collect())
}

/// Forgets blobs that were removed. Returns how many it has processed: all of them, unless the
/// slice is over.
pub(crate) fn forget_garbage(
    connection: &Connection,
    blobs: &[BlobRef],
    slice: &mut Slice,
) -> rusqlite::Result<usize> {
    let mut delete = connection.prepare_cached(statements::FORGET_GARBAGE)?;
    let mut done = 0;
    for blob in blobs {
        if !slice.has_time_for(1) {
            break;
        }
        delete.execute([blob.to_bytes().as_slice()])?;
        done += 1;
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::store::sqlite::schema::MIGRATIONS;
    use crate::store::sqlite::statements::cache;
    use crate::store::suite::time;

    thread_local! {
        static LOOKS: Cell<u32> = const { Cell::new(0) };
        static START: Instant = Instant::now();
    }

    /// Returns a time that advances by a millisecond at each look.
    fn hurried() -> Instant {
        let looks = LOOKS.replace(LOOKS.get() + 1);
        START.with(|start| *start + Duration::from_millis(1) * looks)
    }

    /// Returns a time that does not advance.
    fn still() -> Instant {
        START.with(|start| *start)
    }

    fn store(runs: u32, attempts: u32) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        MIGRATIONS
            .iter()
            .for_each(|migration| connection.execute_batch(migration.sql).unwrap());
        let insert = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
             INSERT INTO runs (run, id, flow, kind, logical_date, interval_start, interval_end, parameters, refresh,
                               created, state, started, finished, takeovers, cancelling, pruned)
             SELECT n, randomblob(16), 'etl', 0, 0, 0, 0, '{}', 0, 0, 2, 1, 10 * n, 0, 0, 0 FROM n";
        connection.execute(insert, [runs]).unwrap();
        let insert = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
             INSERT INTO attempts SELECT run, n, 0, n, 1, 3, 1, 1, x'00c0' FROM runs, n";
        connection.execute(insert, [attempts]).unwrap();
        connection
            .execute("INSERT INTO plans SELECT run, 0, x'00' FROM runs", [])
            .unwrap();
        connection
    }

    fn cached(connection: &Connection, key: u8, created: i64, expires: Option<i64>, size: i64) {
        let insert =
            "INSERT OR REPLACE INTO cache (key, task, inputs, run, created, expires, size, body)
             VALUES (?1, 'task', ?1, zeroblob(16), ?2, ?3, ?4, x'00c0')";
        connection
            .execute(insert, params![[key; 32], created, expires, size])
            .unwrap();
    }

    fn count(connection: &Connection, what: &str) -> usize {
        let count = connection.query_row(&format!("SELECT count(*) FROM {what}"), [], |row| {
            row.get::<_, i64>(0)
        });
        usize::try_from(count.unwrap()).unwrap()
    }

    #[test]
    fn the_next_run_is_found_without_looking_at_those_that_were_pruned() {
        let connection = store(1, 1);
        let mut select = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {NEXT}"))
            .unwrap();
        let steps = select
            .query_map([0], |row| row.get::<_, String>("detail"))
            .unwrap();
        let steps: Vec<String> = steps.map(Result::unwrap).collect();
        // no statement sorts
        assert_eq!(
            steps,
            ["SEARCH runs USING INDEX runs_to_prune (finished<?)"]
        );
    }

    #[test]
    fn a_transaction_of_pruning_ends_with_its_time() {
        let connection = store(4, 1_000);
        let (mut pruned, mut transactions) = (0, 0);
        loop {
            let before = count(&connection, "attempts");
            let (runs, more) = prune_runs(&connection, time(31), &mut Slice::by(hurried)).unwrap();
            assert!(
                before - count(&connection, "attempts") <= 3 * STEP,
                "it goes on after its two milliseconds"
            );
            (pruned, transactions) = (pruned + runs, transactions + 1);
            if !more {
                break;
            }
        }
        // the last of the four is too young
        assert_eq!(
            (
                pruned,
                count(&connection, "attempts"),
                count(&connection, "plans")
            ),
            (3, 1_000, 1)
        );
        assert!(transactions >= 3_000 / (3 * STEP), "{transactions}");
        assert_eq!(count(&connection, "runs WHERE pruned = 1"), 3);
    }

    #[test]
    fn a_transaction_of_pruning_ends_with_its_rows_where_time_stands_still() {
        let connection = store(3, 4_000);
        let (done, more) = prune_runs(&connection, time(i64::MAX), &mut Slice::by(still)).unwrap();
        // completing a run counts as a step, too
        assert_eq!(
            (done, more, count(&connection, "attempts")),
            (1, true, 7_001)
        );
    }

    #[test]
    fn a_run_that_is_no_longer_pruned_keeps_its_rows() {
        let connection = store(1, 1_000);
        assert!(!prune_rest(&connection, 1, &mut Slice::by(still)).unwrap());
        assert_eq!(count(&connection, "attempts"), 1_000);
        connection
            .execute("UPDATE runs SET pruned = 2", [])
            .unwrap();
        assert!(prune_rest(&connection, 1, &mut Slice::by(hurried)).unwrap());
        while prune_rest(&connection, 1, &mut Slice::by(hurried)).unwrap() {}
        assert_eq!(count(&connection, "attempts"), 0);
    }

    #[test]
    fn the_oldest_results_beyond_the_bound_go_and_those_that_expired() {
        let connection = store(1, 1);
        for (key, created, expires) in [
            (1, 40, None),
            (2, 10, None),
            (3, 50, Some(60)),
            (4, 20, Some(99)),
            (5, 30, None),
        ] {
            cached(&connection, key, created, expires, 10);
        }
        let keys = |now, bytes| {
            // entries are numbered as they come
            let doomed = cache::choose_evictions(&connection, now, bytes).unwrap();
            doomed
                .into_iter()
                .map(|doomed| doomed.entry())
                .collect::<Vec<_>>()
        };
        for (now, bytes, expected) in [
            (59, 50, &[][..]),
            (60, 50, &[3]),
            (60, 40, &[3]),
            (60, 39, &[3, 2]),
            (59, 30, &[2, 4]),
            (99, 20, &[4, 3, 2]),
            (0, 0, &[2, 4, 5, 1, 3]),
        ] {
            assert_eq!(keys(time(now), bytes), expected, "at {now} of {bytes}");
        }
    }

    #[test]
    fn a_result_that_was_made_anew_since_it_was_chosen_stays() {
        let connection = store(1, 1);
        (1..=3).for_each(|key| cached(&connection, key, 10, Some(20), 10));
        let doomed = cache::choose_evictions(&connection, time(30), i64::MAX).unwrap();
        cached(&connection, 2, 30, Some(40), 10);
        let (deleted, done) =
            cache::delete_results(&connection, &doomed, &mut Slice::by(still)).unwrap();
        assert_eq!((deleted, done), (2, 3));
        assert_eq!(count(&connection, "cache WHERE created = 30"), 1);
        assert_eq!(count(&connection, "cache"), 1);
    }
}
