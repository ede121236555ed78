//! What stands in the file, added up.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use chrono::DateTime;
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};

use super::failure;
use super::prune;
use super::rows::{self, AttemptRow, Code, Unreadable};
use crate::blob::BlobRef;
use crate::error::StoreError;
use crate::id::RunId;
use crate::state::{RunKind, RunState, TaskState};
use crate::store::cached::has_expired;
use crate::store::transition::CellRange;
use crate::store::{
    Abandoned, AttemptRecord, CacheMiss, CacheQuery, Cleared, Encoded, FrameMeta, History, NewRun,
    RunEnd, RunSummary, RunTables, Told, Transition,
    attempts::{self, Change},
};
use crate::task::Interval;

/// Why something could not be read.
pub(super) enum Failure {
    Sql(rusqlite::Error),
    Row(Unreadable),
    Store(StoreError),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Unreadable> for Failure {
    fn from(problem: Unreadable) -> Self {
        Self::Row(problem)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Failure {
    pub(super) fn at(self, path: &Path) -> StoreError {
        match self {
            Self::Sql(error) => failure::classify(path, &error),
            Self::Row(problem) => StoreError::Damaged {
                path: path.to_owned(),
                problem,
            },
            Self::Store(error) => error,
        }
    }
}

/// A run as it was read; its output may be in a blob.
pub(super) struct Read {
    pub(super) tables: RunTables,
    pub(super) output: Option<Vec<u8>>,
}

/// A run that goes on, as it was read.
pub(super) struct Recorded {
    pub(super) row: i64,
    pub(super) next: u32,
    pub(super) history: History,
    pub(super) blobs: HashMap<(u32, u32), BlobRef>,
}

impl Recorded {
    /// Takes in that the run, which was final, is run again: what is cleared has no result any more.
    pub(super) fn clear(&mut self, cleared: Cleared) {
        let History {
            tables,
            results,
            told,
            ..
        } = &mut self.history;
        for place in cleared.cells() {
            results.remove(&place);
            self.blobs.remove(&place);
        }
        tables.apply(Transition::Cleared(cleared));
        told.clear(tables);
    }
}

/// Accepts a run; `None` where there is one with its key, its tick or its id, and where it is a scheduled one of a flow
/// that is paused. Without an owner, whoever serves takes it.
pub(super) fn insert(
    connection: &Connection,
    new: &NewRun,
    owner: Option<i64>,
) -> rusqlite::Result<Option<i64>> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO runs (id, flow, kind, key, logical_date, interval_start, interval_end, parameters, refresh, \
         created, state, started, finished, owner, takeovers, cancelling, pruned) \
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0, 0, 0, ?11, 0, 0, 0 \
         WHERE ?3 <> 1 OR NOT EXISTS (SELECT 1 FROM pauses WHERE flow = ?2) ON CONFLICT DO NOTHING",
    )?;
    let parameters = serde_json::Value::Object(new.parameters.clone()).to_string();
    let inserted = insert.execute(params![
        new.id.as_bytes(),
        new.flow,
        new.kind.code(),
        new.key,
        new.logical_date.timestamp_micros(),
        new.interval.start.timestamp_micros(),
        new.interval.end.timestamp_micros(),
        parameters,
        new.refresh_cache,
        new.created.timestamp_micros(),
        owner,
    ])?;
    Ok((inserted > 0).then(|| connection.last_insert_rowid()))
}

/// The run that has the key of a new one, or else its tick.
pub(super) fn taken(connection: &Connection, new: &NewRun) -> Result<Option<RunId>, Failure> {
    let mut by_key =
        connection.prepare_cached("SELECT id FROM runs WHERE flow = ?1 AND key = ?2")?;
    let mut by_tick = connection.prepare_cached(
        "SELECT id FROM runs WHERE flow = ?1 AND logical_date = ?2 AND kind <> 0",
    )?;
    let mut id = by_key
        .query_row(params![new.flow, new.key], |row| row.get::<_, [u8; 16]>(0))
        .optional()?;
    if id.is_none() && new.kind.has_tick() {
        let tick = params![new.flow, new.logical_date.timestamp_micros()];
        id = by_tick.query_row(tick, |row| row.get(0)).optional()?;
    }
    Ok(id.map(RunId::from_bytes))
}

pub(super) fn exists(connection: &Connection, id: RunId) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM runs WHERE id = ?1")?
        .exists([id.as_bytes()])
}

macro_rules! head {
    ($output:literal) => {
        concat!(
            "SELECT run, id, flow, kind, key, logical_date, interval_start, interval_end, parameters, refresh, created, \
             state, started, finished, error, ",
            $output,
            ", pruned, takeovers, cancelling FROM runs"
        )
    };
}

const HEAD: &str = head!("output");
/// What a run returned may be large, and is not read where it is not shown.
const SUMMARY: &str = head!("NULL");

struct Head {
    row: i64,
    read: Read,
    takeovers: u32,
    cancelling: bool,
}

fn head(row: &SqlRow<'_>) -> Result<Head, Failure> {
    let instant = |at: usize| -> Result<_, Failure> {
        let micros: i64 = row.get(at)?;
        DateTime::from_timestamp_micros(micros)
            .ok_or_else(|| Failure::Row(format!("{micros} is no time")))
    };
    let parameters: String = row.get(8)?;
    let new = NewRun {
        id: RunId::from_bytes(row.get(1)?),
        flow: row.get::<_, String>(2)?.into(),
        kind: RunKind::of(row.get(3)?).ok_or_else(|| "a run is of an unknown kind".to_owned())?,
        key: row.get(4)?,
        logical_date: instant(5)?,
        interval: Interval {
            start: instant(6)?,
            end: instant(7)?,
        },
        parameters: serde_json::from_str(&parameters)
            .map_err(|error| format!("parameters: {error}"))?,
        refresh_cache: row.get(9)?,
        created: instant(10)?,
    };
    let state =
        RunState::of(row.get(11)?).ok_or_else(|| "a run has an unknown state".to_owned())?;
    let mut tables = RunTables::new(Arc::new(new));
    (tables.state, tables.started, tables.pruned) =
        (state, row.get(12)?, row.get::<_, i64>(16)? != 0);
    let error: Option<Vec<u8>> = row.get(14)?;
    if state.is_final() {
        let error = error.map(|error| rows::error_of(&error)).transpose()?;
        tables.end = Some(Arc::new(RunEnd {
            at: row.get(13)?,
            state,
            error,
            output: None,
            encoded: None,
        }));
    }
    Ok(Head {
        row: row.get(0)?,
        read: Read {
            tables,
            output: row.get(15)?,
        },
        takeovers: row.get(17)?,
        cancelling: row.get(18)?,
    })
}

/// A run's end without its output.
pub(super) fn copy_end(end: &RunEnd) -> RunEnd {
    RunEnd {
        at: end.at,
        state: end.state,
        error: end.error.clone(),
        output: None,
        encoded: None,
    }
}

/// Goes through what was recorded of a run, in order. Gives the number that comes next.
fn each_transition(
    connection: &Connection,
    row: i64,
    mut each: impl FnMut(Transition, Option<BlobRef>) -> Result<(), Failure>,
) -> Result<u32, Failure> {
    let mut plans = connection
        .prepare_cached("SELECT number, body FROM plans WHERE run = ?1 ORDER BY number")?;
    let mut plans = plans.query([row])?;
    let mut attempts = connection.prepare_cached(
        "SELECT number, frame, cell, attempt, state, started, took, body FROM attempts WHERE run = ?1 ORDER BY number",
    )?;
    let mut attempts = attempts.query([row])?;
    let (mut plan, mut attempt) = (plans.next()?, attempts.next()?);
    let mut next = 0;
    let after = |number: u32| {
        number
            .checked_add(1)
            .ok_or_else(|| Failure::Row(format!("{number} is no row's number")))
    };
    loop {
        let number = |row: Option<&SqlRow<'_>>| row.map(|row| row.get::<_, u32>(0)).transpose();
        match (number(plan)?, number(attempt)?) {
            (None, None) => return Ok(next),
            (Some(planned), attempted) if attempted.is_none_or(|attempted| planned < attempted) => {
                if let Some(row) = plan {
                    each(
                        rows::planned_of(
                            row.get_ref(1)?
                                .as_blob()
                                .map_err(|error| error.to_string())?,
                        )?,
                        None,
                    )?;
                }
                next = after(planned)?;
                plan = plans.next()?;
            }
            (_, attempted) => {
                if let Some(row) = attempt {
                    let (end, blob) = AttemptRow::read(row, 1)?;
                    each(Transition::Task(end), blob)?;
                }
                next = after(attempted.unwrap_or(0))?;
                attempt = attempts.next()?;
            }
        }
    }
}

/// No mapping has so many elements, times its tasks: what says so is damaged, and is not to take all memory.
const MOST_ROWS: u64 = 1 << 28;

/// Refuses a row that refers to what is not there: a damaged file must not end in a panic.
fn check(tables: &RunTables, transition: &Transition) -> Result<(), Failure> {
    let members = |region: u32| u64::from(tables.members.get(&region).copied().unwrap_or(0));
    let missing = || {
        Err(Failure::Row(
            "a row refers to one that is not there".to_owned(),
        ))
    };
    match transition {
        Transition::Task(end) => {
            let Some(frame) = tables.frames.get(end.frame as usize) else {
                return missing();
            };
            let Some(old) = frame.rows.get(end.cell as usize) else {
                return missing();
            };
            if !end.row.state.may_be_recorded_after(old.state) && old.state != TaskState::Running {
                let problem = format!("a task went from {} to {}", old.state, end.row.state);
                return Err(Failure::Row(problem));
            }
        }
        Transition::Extended { frame: 0 } => return missing(),
        Transition::Extended { frame } => {
            let Some(frame) = tables.frames.get(*frame as usize) else {
                return missing();
            };
            let rows = members(frame.meta.region) * u64::from(frame.meta.len);
            if rows < frame.rows.len() as u64 || rows > MOST_ROWS {
                return missing();
            }
        }
        Transition::Expanded(FrameMeta {
            region,
            parent,
            len,
            ..
        }) => {
            let rows = members(*region) * u64::from(*len);
            return if (parent.0 as usize) < tables.frames.len() && rows <= MOST_ROWS {
                Ok(())
            } else {
                missing()
            };
        }
        Transition::Cleared(cleared) => {
            let rows = |frame: u32| {
                tables
                    .frames
                    .get(frame as usize)
                    .map_or(0, |frame| frame.rows.len() as u64)
            };
            let is_there = |range: &CellRange| {
                u64::from(range.from) + u64::from(range.len) <= rows(range.frame)
            };
            return if cleared.ranges.iter().all(is_there) {
                Ok(())
            } else {
                missing()
            };
        }
        _ => {}
    }
    Ok(())
}

fn with_tasks(connection: &Connection, head: Head) -> Result<Read, Failure> {
    let Head { row, mut read, .. } = head;
    if read.tables.pruned {
        return Ok(read);
    }
    let (end, state, started) = (
        read.tables.end.take(),
        read.tables.state,
        read.tables.started,
    );
    each_transition(connection, row, |transition, _| {
        check(&read.tables, &transition)?;
        read.tables.apply(transition);
        Ok(())
    })?;
    (read.tables.end, read.tables.state, read.tables.started) = (end, state, started);
    Ok(read)
}

fn heads(
    connection: &Connection,
    condition: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<Head>, Failure> {
    let mut select =
        connection.prepare_cached(&format!("{HEAD} WHERE {condition} ORDER BY run"))?;
    let mut rows = select.query(parameters)?;
    let mut heads = Vec::new();
    while let Some(row) = rows.next()? {
        heads.push(head(row)?);
    }
    Ok(heads)
}

/// Runs without their tasks, by what comes after `WHERE`.
pub(super) fn summaries(
    connection: &Connection,
    condition: &str,
    values: Vec<rusqlite::types::Value>,
) -> Result<Vec<RunSummary>, Failure> {
    let mut select = connection.prepare_cached(&format!("{SUMMARY} WHERE {condition}"))?;
    let mut rows = select.query(rusqlite::params_from_iter(values))?;
    let mut summaries = Vec::new();
    while let Some(row) = rows.next()? {
        summaries.push(head(row)?.read.tables.summary());
    }
    Ok(summaries)
}

/// Reads in one transaction, so that what is read is of one moment.
fn at_once<T>(
    connection: &Connection,
    read: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let transaction = connection.unchecked_transaction()?;
    let read = read();
    transaction.finish()?;
    read
}

pub(super) fn runs_of(connection: &Connection, flow: &str) -> Result<Vec<Read>, Failure> {
    at_once(connection, || {
        let heads = heads(connection, "flow = ?1", [flow])?;
        heads
            .into_iter()
            .map(|head| with_tasks(connection, head))
            .collect()
    })
}

pub(super) fn run(connection: &Connection, id: RunId) -> Result<Option<Read>, Failure> {
    at_once(connection, || {
        let head = heads(connection, "id = ?1", [id.as_bytes()])?.pop();
        head.map(|head| with_tasks(connection, head)).transpose()
    })
}

/// Runs that are not final and that nobody executes.
pub(super) fn abandoned(connection: &Connection, dead: &[i64]) -> Result<Vec<Abandoned>, Failure> {
    let mut select = connection
        .prepare_cached("SELECT run, id, flow FROM runs WHERE owner IS ?1 AND state < 2")?;
    let mut abandoned = Vec::new();
    for owner in std::iter::once(None).chain(dead.iter().copied().map(Some)) {
        let mut rows = select.query([owner])?;
        while let Some(row) = rows.next()? {
            let run = Abandoned {
                id: RunId::from_bytes(row.get(1)?),
                flow: row.get(2)?,
            };
            abandoned.push((row.get::<_, i64>(0)?, run));
        }
    }
    abandoned.sort_unstable_by_key(|(accepted, _)| *accepted);
    Ok(abandoned.into_iter().map(|(_, run)| run).collect())
}

/// Makes a process the owner of an abandoned run. A run that was left by a clean stop has crashed nobody.
pub(super) fn take_over(
    connection: &Connection,
    id: RunId,
    dead: &[i64],
    owner: i64,
) -> rusqlite::Result<bool> {
    let mut select =
        connection.prepare_cached("SELECT owner FROM runs WHERE id = ?1 AND state < 2")?;
    let Some(old) = select
        .query_row([id.as_bytes()], |row| row.get::<_, Option<i64>>(0))
        .optional()?
    else {
        return Ok(false);
    };
    if old.is_some_and(|old| !dead.contains(&old)) {
        return Ok(false);
    }
    let mut update = connection.prepare_cached(
        "UPDATE runs SET owner = ?2, takeovers = takeovers + (owner IS NOT NULL) WHERE id = ?1 AND owner IS ?3",
    )?;
    Ok(update.execute(params![id.as_bytes(), owner, old])? > 0)
}

/// Everything that is recorded of a run that goes on.
pub(super) fn history(connection: &Connection, id: RunId) -> Result<Recorded, Failure> {
    let head = heads(connection, "id = ?1", [id.as_bytes()])?.pop();
    let Head {
        row,
        read,
        takeovers,
        cancelling,
    } = head.ok_or_else(|| format!("run {id} is not there"))?;
    let (tables, results, told) = (read.tables, HashMap::new(), Told::default());
    let (end, state, started) = (tables.end.clone(), tables.state, tables.started);
    let history = History {
        tables,
        results,
        told,
        takeovers,
        cancelling,
    };
    let mut recorded = Recorded {
        row,
        next: 0,
        history,
        blobs: HashMap::new(),
    };
    if recorded.history.tables.pruned {
        return Ok(recorded);
    }
    recorded.next = each_transition(connection, row, |transition, blob| {
        let History {
            tables,
            results,
            told,
            ..
        } = &mut recorded.history;
        check(tables, &transition)?;
        match &transition {
            Transition::Task(end) if end.row.state == TaskState::Success => {
                let at = (end.frame, end.cell);
                results.extend(end.result.clone().map(|result: Encoded| (at, result)));
                recorded.blobs.extend(blob.map(|blob| (at, blob)));
            }
            Transition::Awaited { node, asked } => told.tell(*node, asked.as_deref(), tables),
            _ => {}
        }
        match transition {
            Transition::Cleared(cleared) => recorded.clear(cleared),
            transition => tables.apply(transition),
        }
        Ok(())
    })?;
    let tables = &mut recorded.history.tables;
    (tables.end, tables.state, tables.started) = (end, state, started);
    Ok(recorded)
}

/// Everything that is recorded of a run, in one transaction; `None` where there is no such run.
pub(super) fn history_of_final(
    connection: &Connection,
    id: RunId,
) -> Result<Option<Recorded>, Failure> {
    at_once(connection, || {
        let is_final = connection
            .prepare_cached("SELECT 1 FROM runs WHERE id = ?1 AND state >= 2")?
            .exists([id.as_bytes()])?;
        is_final.then(|| history(connection, id)).transpose()
    })
}

/// Makes a process the owner of a run that was final and is run again; not where anything of it changed since it was
/// read.
pub(super) fn reopen(
    connection: &Connection,
    run: &Reopening,
    owner: i64,
) -> rusqlite::Result<bool> {
    let mut select = connection
        .prepare_cached("SELECT pruned, output FROM runs WHERE run = ?1 AND state >= 2")?;
    let found = select.query_row([run.row], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, Option<Vec<u8>>>(1)?))
    });
    let Some((pruned, output)) = found.optional()? else {
        return Ok(false);
    };
    if (pruned != 0) != run.pruned {
        return Ok(false);
    }
    if run.pruned {
        prune::rest(connection, run.row)?;
    }
    let mut insert =
        connection.prepare_cached("INSERT OR IGNORE INTO plans VALUES (?1, ?2, ?3)")?;
    if insert.execute(params![run.row, run.number, run.plan])? == 0 {
        return Ok(false);
    }
    if let Some(Ok(Err(blob))) = output.as_deref().map(rows::stored_result) {
        prune::throw_away(connection, &blob)?;
    }
    let mut update = connection.prepare_cached(
        "UPDATE runs SET state = 0, started = 0, finished = 0, error = NULL, output = NULL, owner = ?2, takeovers = 0, \
         cancelling = 0, pruned = 0 WHERE run = ?1",
    )?;
    update
        .execute(params![run.row, owner])
        .map(|updated| updated > 0)
}

/// A run that is to be run again.
#[derive(Debug)]
pub(super) struct Reopening {
    pub(super) row: i64,
    /// The number of the row that says so.
    pub(super) number: u32,
    pub(super) plan: Vec<u8>,
    pub(super) pruned: bool,
}

/// Every attempt of a run's tasks.
pub(super) fn attempts_of(
    connection: &Connection,
    id: RunId,
) -> Result<Option<Vec<AttemptRecord>>, Failure> {
    at_once(connection, || {
        let Some(Head { row, mut read, .. }) = heads(connection, "id = ?1", [id.as_bytes()])?.pop()
        else {
            return Ok(None);
        };
        if read.tables.pruned {
            return Ok(Some(Vec::new()));
        }
        let mut changes = Vec::new();
        each_transition(connection, row, |transition, _| {
            check(&read.tables, &transition)?;
            if let Transition::Task(end) = &transition {
                changes.push(Change::from(end));
            }
            read.tables.apply(transition);
            Ok(())
        })?;
        Ok(Some(attempts::attempts(&read.tables, changes.into_iter())))
    })
}

type Found = (RunId, i64, Vec<u8>);

/// A cached result that may be used, or why there is none.
pub(super) fn cached(
    connection: &Connection,
    query: &CacheQuery,
    now: i64,
) -> Result<Result<Found, CacheMiss>, Failure> {
    let mut select =
        connection.prepare_cached("SELECT run, created, body FROM cache WHERE key = ?1")?;
    let found = select
        .query_row([query.key.0], |row| {
            Ok((
                RunId::from_bytes(row.get(0)?),
                row.get::<_, i64>(1)?,
                row.get(2)?,
            ))
        })
        .optional()?;
    Ok(match found {
        Some((_, created, _)) if has_expired(created, query.expiry, now) => {
            Err(CacheMiss::Expired {
                created: DateTime::from_timestamp_micros(created).unwrap_or_default(),
            })
        }
        Some(found) => Ok(found),
        None => {
            let mut of_inputs =
                connection.prepare_cached("SELECT 1 FROM cache WHERE task = ?1 AND inputs = ?2")?;
            let mut of_task =
                connection.prepare_cached("SELECT 1 FROM cache WHERE task = ?1 LIMIT 1")?;
            Err(match () {
                () if of_inputs.exists(params![query.task, query.inputs])? => {
                    CacheMiss::ChangedCode
                }
                () if of_task.exists([&query.task])? => CacheMiss::NewInputs,
                () => CacheMiss::Empty,
            })
        }
    })
}
