//! Cached results, and the flights of processes that compute them.
//!
//! A look-up reads the cache and claims the missing results in one transaction: otherwise a result
//! could be inserted between the two, and be computed twice.

use std::collections::HashMap;

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::prune::{Slice, throw_away_body};
use crate::blob::BlobRef;
use crate::clock::Timestamp;
use crate::id::RunId;
use crate::journal::{CacheKey, CacheMiss, CacheQuery};
use crate::store::cache::has_expired;
use crate::store::sql::changes::CacheRow;
use crate::store::sql::rows::BLOB;
use crate::store::sql::statements;
use crate::store::{Accept, CacheRequest, Claim};

/// A cached result that was chosen to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Eviction {
    entry: i64,
    created: Timestamp,
}

impl Eviction {
    pub(crate) fn new(entry: i64, created: Timestamp) -> Self {
        Self { entry, created }
    }

    #[cfg(test)]
    pub(crate) fn entry(&self) -> i64 {
        self.entry
    }
}

/// Selects the cached results that have expired at `now`, and the oldest ones beyond a limit on
/// their total size.
pub(crate) fn choose_evictions(
    connection: &Connection,
    now: Timestamp,
    bytes: i64,
) -> rusqlite::Result<Vec<Eviction>> {
    let chosen = |row: &rusqlite::Row<'_>| {
        Ok(Eviction {
            entry: row.get(0)?,
            created: row.get(1)?,
        })
    };
    let size: i64 =
        connection.query_row("SELECT coalesce(sum(size), 0) FROM cache", [], |row| {
            row.get(0)
        })?;
    let mut over = size - bytes;
    if over <= 0 {
        let mut select = connection.prepare_cached(statements::FIND_EXPIRED_RESULTS)?;
        return select.query_map([now], chosen)?.collect();
    }
    // without the bodies, since all of these rows are sorted
    let mut select = connection.prepare_cached(
        "SELECT entry, created, size, expires IS NOT NULL AND expires <= ?1 AS expired FROM cache \
         ORDER BY expired DESC, created",
    )?;
    let mut rows = select.query([now])?;
    let mut doomed = Vec::new();
    while let Some(row) = rows.next()? {
        let (size, expired): (i64, bool) = (row.get(2)?, row.get(3)?);
        if !expired && over <= 0 {
            break;
        }
        over -= size;
        doomed.push(chosen(row)?);
    }
    Ok(doomed)
}

/// Deletes cached results until the slice is over, except those that were replaced since they were
/// chosen. Returns how many existed, and how many of the list were processed.
pub(crate) fn delete_results(
    connection: &Connection,
    doomed: &[Eviction],
    slice: &mut Slice,
) -> rusqlite::Result<(u64, usize)> {
    let (mut deleted, mut done) = (0, 0);
    for Eviction { entry, created } in doomed {
        if !slice.has_time_for(1) {
            break;
        }
        done += 1;
        let mut select = connection.prepare_cached(statements::READ_RESULT)?;
        let body = select.query_row(params![entry, created], |row| row.get::<_, Vec<u8>>(0));
        if let Some(body) = body.optional()? {
            throw_away_body(connection, &body)?;
            connection
                .prepare_cached(statements::DELETE_RESULT)?
                .execute([entry])?;
            deleted += 1;
        }
    }
    Ok((deleted, done))
}

/// The outcome of a look-up.
pub(crate) enum LookupRow {
    /// The body of the entry, which may refer to a blob.
    Hit {
        run: RunId,
        created: Timestamp,
        body: Vec<u8>,
    },
    Miss(CacheMiss, Claim),
}

/// Looks up cached results, and claims the flights of at most `claims` missing ones for the process
/// `own`. Flights of other processes are only taken over from the `dead`.
pub(crate) fn look_up_results(
    connection: &Connection,
    wanted: &[CacheRequest],
    mut claims: usize,
    own: i64,
    dead: &[i64],
    now: Timestamp,
) -> rusqlite::Result<Vec<LookupRow>> {
    let mut select = connection.prepare_cached(statements::FIND_RESULT)?;
    let mut insert = connection.prepare_cached("INSERT OR IGNORE INTO flights VALUES (?1, ?2)")?;
    let mut reasons = Reasons::new(connection)?;
    let mut found = Vec::with_capacity(wanted.len());
    for CacheRequest { query, accept } in wanted {
        let mut rows = select.query(params![
            beginning(&query.inputs),
            beginning(&query.key.0),
            query.key.0
        ])?;
        let miss = match rows.next()? {
            Some(row) => {
                let (run, created): (_, Timestamp) = (RunId::from_bytes(row.get(0)?), row.get(1)?);
                if !accept.accepts(run, created) {
                    CacheMiss::Refreshed
                } else if has_expired(created, query.expiry, now) {
                    CacheMiss::Expired {
                        created: created.to_datetime().unwrap_or_default(),
                    }
                } else {
                    found.push(LookupRow::Hit {
                        run,
                        created,
                        body: row.get(2)?,
                    });
                    continue;
                }
            }
            None if *accept != Accept::Any => CacheMiss::Refreshed,
            None => reasons.of(query)?,
        };
        let claim = match claims {
            0 => Claim::NotMade,
            _ if insert.execute(params![query.key.0, own])? > 0 => Claim::Own,
            _ => take_over(connection, query.key, own, dead)?,
        };
        claims -= usize::from(claim == Claim::Own);
        found.push(LookupRow::Miss(miss, claim));
    }
    Ok(found)
}

/// Finds the reasons why results are missing. The part that holds for all results of a task is
/// looked up once.
struct Reasons<'a> {
    of_task: CachedStatement<'a>,
    of_inputs: CachedStatement<'a>,
    /// Whether a task has results.
    tasks: HashMap<&'a str, bool>,
}

impl<'a> Reasons<'a> {
    fn new(connection: &'a Connection) -> rusqlite::Result<Self> {
        let of_task = connection.prepare_cached(statements::FIND_RESULT_OF_TASK)?;
        let of_inputs = connection.prepare_cached(statements::FIND_RESULT_OF_INPUTS)?;
        Ok(Self {
            of_task,
            of_inputs,
            tasks: HashMap::new(),
        })
    }

    fn of(&mut self, query: &'a CacheQuery) -> rusqlite::Result<CacheMiss> {
        let has_results = match self.tasks.get(&*query.task) {
            Some(has_results) => *has_results,
            None => {
                let has_results = self.of_task.exists([&*query.task])?;
                self.tasks.insert(&query.task, has_results);
                has_results
            }
        };
        if !has_results {
            return Ok(CacheMiss::Empty);
        }
        match self.of_inputs.exists(params![
            beginning(&query.inputs),
            query.inputs,
            &*query.task
        ])? {
            true => Ok(CacheMiss::ChangedCode),
            false => Ok(CacheMiss::NewInputs),
        }
    }
}

/// Returns the part of a hash that is in the indexes.
fn beginning(hash: &[u8; 32]) -> &[u8] {
    &hash[..8]
}

/// Claims an existing flight, if its process is dead, or is this one.
fn take_over(
    connection: &Connection,
    key: CacheKey,
    own: i64,
    dead: &[i64],
) -> rusqlite::Result<Claim> {
    let mut select = connection.prepare_cached(statements::FIND_FLIGHT)?;
    let owner: Option<i64> = select.query_row([key.0], |row| row.get(0)).optional()?;
    if owner.is_some_and(|owner| owner != own && !dead.contains(&owner)) {
        return Ok(Claim::Other);
    }
    connection
        .prepare_cached(statements::TAKE_OVER_FLIGHT)?
        .execute(params![key.0, own])?;
    Ok(Claim::Own)
}

/// Ends some flights of a process.
pub(crate) fn end_flights(
    connection: &Connection,
    keys: &[CacheKey],
    own: i64,
) -> rusqlite::Result<()> {
    let mut delete = connection.prepare_cached(statements::END_FLIGHT)?;
    keys.iter()
        .try_for_each(|key| delete.execute(params![key.0, own]).map(drop))
}

/// Ends the flights of dead processes.
pub(crate) fn end_flights_of_dead(connection: &Connection, dead: &[i64]) -> rusqlite::Result<()> {
    let mut delete = connection.prepare_cached(statements::END_FLIGHTS)?;
    dead.iter()
        .try_for_each(|owner| delete.execute([owner]).map(drop))
}

/// Caches a result, replacing an older one with its key.
pub(crate) fn insert_result(connection: &Connection, entry: &CacheRow) -> rusqlite::Result<()> {
    let CacheRow {
        key,
        task,
        inputs,
        run,
        created,
        expires,
        size,
        body,
    } = entry;
    let (run, body) = (run.as_bytes(), body.bytes());
    let row = params![key, &**task, inputs, run, created, expires, size, body];
    let mut insert = connection.prepare_cached(
        "INSERT OR IGNORE INTO cache (key, task, inputs, run, created, expires, size, body) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    if insert.execute(row)? > 0 {
        return Ok(());
    }
    // the flag is compared, too: an inline result may have the length of a reference
    let mut replaced = connection.prepare_cached(
        "INSERT OR IGNORE INTO garbage SELECT substr(body, 2) FROM cache \
         WHERE substr(inputs, 1, 8) = ?1 AND substr(key, 1, 8) = ?2 \
         AND length(body) = ?3 AND substr(body, 1, 1) = ?4",
    )?;
    replaced.execute(params![
        beginning(inputs),
        beginning(key),
        1 + BlobRef::LENGTH as i64,
        [BLOB]
    ])?;
    let mut replace = connection.prepare_cached(
        "INSERT OR REPLACE INTO cache (key, task, inputs, run, created, expires, size, body) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    replace.execute(row).map(drop)
}
