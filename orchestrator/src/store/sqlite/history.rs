//! Reading runs: their rows are applied in order.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rusqlite::types::FromSql;
use rusqlite::{Connection, Row as SqlRow};

use super::codes::{Code, sql};
use super::failure::{self, Failure};
use super::rows::{self, AttemptRow, Unreadable};
use crate::blob::BlobRef;
use crate::clock::Timestamp;
use crate::id::RunId;
use crate::index::FrameNumber;
use crate::journal::History;
use crate::journal::RowPlace;
use crate::journal::transition::CellRange;
use crate::journal::{
    AttemptRecord, AwaitOrder, ClearedRows, EncodedResult, FrameMeta, NewRun, RunEnd, RunSummary,
    RunTables, Transition,
    attempts::{self, StateChange},
};
use crate::state::{RunKind, RunState, TaskState};
use crate::task::Interval;

/// A run as it was read; its output may be in a blob.
pub(super) struct Read {
    pub(super) tables: RunTables,
    pub(super) output: Option<Vec<u8>>,
}

/// A run to be resumed or re-run, as it was read.
pub(super) struct Recorded {
    pub(super) row: i64,
    pub(super) next: u32,
    pub(super) history: History,
    pub(super) blobs: HashMap<RowPlace, BlobRef>,
}

impl Recorded {
    /// Applies a re-run of the run: cleared rows have no results any more.
    pub(super) fn clear(&mut self, cleared: ClearedRows) {
        let History {
            tables,
            results,
            await_order,
            ..
        } = &mut self.history;
        for place in cleared.rows() {
            results.remove(&place);
            self.blobs.remove(&place);
        }
        tables.apply(Transition::Cleared(cleared));
        await_order.clear(tables);
    }
}

macro_rules! head {
    ($output:literal) => {
        concat!(
            "SELECT run, id, flow, kind, key, logical_date, interval_start, interval_end, parameters, refresh, created, \
             state, started, finished, error, ",
            $output,
            ", pruned, takeovers, deaths, cancelling FROM runs"
        )
    };
}

const HEAD: &str = head!("output");
/// The columns without the output, which may be large: lists do not show it.
const SUMMARY: &str = head!("NULL");

struct Head {
    row: i64,
    read: Read,
    takeovers: u32,
    deaths: u32,
    cancelling: bool,
}

impl Head {
    /// Returns the head of a run that was requested by itself.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be read completely.
    fn whole(self) -> Result<Self, Failure> {
        match &self.read.tables.unreadable {
            None => Ok(self),
            Some(problem) => {
                Err(Failure::Row(problem.to_string()).of_run(self.read.tables.head.id))
            }
        }
    }
}

/// The columns of a run's row. Unreadable columns are left empty, and the first problem is kept.
struct Columns<'a> {
    row: &'a SqlRow<'a>,
    problem: Option<Unreadable>,
}

impl Columns<'_> {
    fn get<T: FromSql + Default>(&mut self, at: usize) -> T {
        self.read(at, T::default(), Ok)
    }

    fn instant(&mut self, at: usize) -> DateTime<Utc> {
        let instant = |at: Timestamp| {
            at.to_datetime()
                .ok_or_else(|| format!("{} is not a valid time", at.micros()))
        };
        self.read(at, DateTime::UNIX_EPOCH, instant)
    }

    fn code<T: Code>(&mut self, at: usize, instead: T) -> T {
        self.read(at, instead, |code: i64| {
            T::of(code).ok_or_else(|| format!("{code} is unknown"))
        })
    }

    /// Reads a column. Returns `instead` if it is unreadable.
    fn read<V: FromSql, T>(
        &mut self,
        at: usize,
        instead: T,
        read: impl FnOnce(V) -> Result<T, Unreadable>,
    ) -> T {
        let found = self
            .row
            .get(at)
            .map_err(|error| failure::text(&error))
            .and_then(read);
        found.unwrap_or_else(|problem| {
            let column = self
                .row
                .as_ref()
                .column_name(at)
                .unwrap_or("a column")
                .to_owned();
            self.problem
                .get_or_insert_with(|| format!("{column}: {problem}"));
            instead
        })
    }
}

fn head(row: &SqlRow<'_>) -> Head {
    let mut columns = Columns { row, problem: None };
    let new = NewRun {
        id: columns.read(1, RunId::from_bytes([0; 16]), |id| {
            Ok(RunId::from_bytes(id))
        }),
        flow: columns.get::<String>(2).into(),
        kind: columns.code(3, RunKind::Manual),
        key: columns.get(4),
        logical_date: columns.instant(5),
        interval: Interval {
            start: columns.instant(6),
            end: columns.instant(7),
        },
        parameters: columns.read(8, serde_json::Map::new(), |parameters: String| {
            serde_json::from_str(&parameters).map_err(|error| error.to_string())
        }),
        refresh_cache: columns.get(9),
        created: columns.instant(10),
    };
    let mut tables = RunTables::new(Arc::new(new));
    let state = columns.code(11, RunState::Pending);
    tables.state = state;
    tables.started = columns.read(12, None, |started| Ok(rows::unless_zero(started)));
    tables.pruned = columns.get::<i64>(16) != 0;
    let error = columns.read(14, None, |error: Option<Vec<u8>>| {
        error.map(|error| rows::error_of(&error)).transpose()
    });
    if state.is_final() {
        let at = columns.read(13, Timestamp::EPOCH, Ok);
        tables.end = Some(Arc::new(RunEnd {
            at,
            state,
            error,
            output: None,
            encoded: None,
        }));
    }
    let (row, output) = (columns.get(0), columns.get(15));
    let (takeovers, deaths, cancelling) = (columns.get(17), columns.get(18), columns.get(19));
    tables.unreadable = columns.problem.map(Arc::from);
    Head {
        row,
        read: Read { tables, output },
        takeovers,
        deaths,
        cancelling,
    }
}

/// Copies a run's end without its output.
pub(super) fn copy_end(end: &RunEnd) -> RunEnd {
    RunEnd {
        at: end.at,
        state: end.state,
        error: end.error.clone(),
        output: None,
        encoded: None,
    }
}

/// Calls a function for each recorded transition of a run, in order. Returns the number of the next
/// row.
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
            .ok_or_else(|| Failure::Row(format!("{number} is not the number of a row")))
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

/// The limit on the rows of a mapping: its elements, times its tasks. A file that claims more is
/// damaged, and must not exhaust the memory.
const MOST_ROWS: u64 = 1 << 28;

/// Refuses a transition that refers to rows that do not exist: a damaged file must not cause a
/// panic.
fn check(tables: &RunTables, transition: &Transition) -> Result<(), Failure> {
    let members = |region| u64::from(tables.members_of(region));
    let missing = || {
        Err(Failure::Row(
            "a row refers to one that is not there".to_owned(),
        ))
    };
    match transition {
        Transition::Task(end) => {
            let Some(old) = tables.row(end.place) else {
                return missing();
            };
            let (old, new) = (old.task_state(), end.state.task_state());
            if !new.may_be_recorded_after(old) && old != TaskState::Running {
                let problem = format!("a task went from {old} to {new}");
                return Err(Failure::Row(problem));
            }
        }
        Transition::Extended { frame } if *frame == FrameNumber::FLOW => return missing(),
        Transition::Extended { frame } => {
            let Some(frame) = tables.frames.get(*frame) else {
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
            return if parent.frame < tables.frames.next_id() && rows <= MOST_ROWS {
                Ok(())
            } else {
                missing()
            };
        }
        Transition::Cleared(cleared) => {
            let rows = |frame| {
                tables
                    .frames
                    .get(frame)
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
        heads.push(head(row));
    }
    Ok(heads)
}

/// Returns the head of one run, which must be readable.
fn one(connection: &Connection, id: RunId) -> Result<Option<Head>, Failure> {
    heads(connection, "id = ?1", [id.as_bytes()])?
        .pop()
        .map(Head::whole)
        .transpose()
}

/// Returns runs without their tasks. `condition` is the text after `WHERE`.
pub(super) fn summaries(
    connection: &Connection,
    condition: &str,
    values: Vec<rusqlite::types::Value>,
) -> Result<Vec<RunSummary>, Failure> {
    let mut select = connection.prepare_cached(&format!("{SUMMARY} WHERE {condition}"))?;
    let mut rows = select.query(rusqlite::params_from_iter(values))?;
    let mut summaries = Vec::new();
    while let Some(row) = rows.next()? {
        summaries.push(head(row).read.tables.summary());
    }
    Ok(summaries)
}

/// Reads in one transaction, so that all results are of the same moment.
fn at_once<T>(
    connection: &Connection,
    read: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let transaction = connection.unchecked_transaction()?;
    let read = read();
    transaction.finish()?;
    read
}

/// Reads a run for a list: an unreadable run does not prevent the others from being listed.
fn as_listed(connection: &Connection, head: Head) -> Result<Read, Failure> {
    if head.read.tables.unreadable.is_some() {
        return Ok(head.read);
    }
    let without = head.read.tables.without_tasks();
    match with_tasks(connection, head) {
        Err(failure) if failure.is_of_one_run() => {
            let tables = without.unreadable(failure.text());
            Ok(Read {
                tables,
                output: None,
            })
        }
        read => read,
    }
}

pub(super) fn runs_of(connection: &Connection, flow: &str) -> Result<Vec<Read>, Failure> {
    at_once(connection, || {
        let heads = heads(connection, "flow = ?1", [flow])?;
        heads
            .into_iter()
            .map(|head| as_listed(connection, head))
            .collect()
    })
}

pub(super) fn run(connection: &Connection, id: RunId) -> Result<Option<Read>, Failure> {
    at_once(connection, || {
        let head = one(connection, id)?;
        head.map(|head| with_tasks(connection, head).map_err(|failure| failure.of_run(id)))
            .transpose()
    })
}

/// Returns the whole record of a run that is resumed.
pub(super) fn history(connection: &Connection, id: RunId) -> Result<Recorded, Failure> {
    let head = one(connection, id)?;
    let Head {
        row,
        read,
        takeovers,
        deaths,
        cancelling,
    } = head.ok_or_else(|| format!("run {id} is not there"))?;
    let (tables, results, await_order) = (read.tables, HashMap::new(), AwaitOrder::default());
    let (end, state, started) = (tables.end.clone(), tables.state, tables.started);
    let history = History {
        tables,
        results,
        await_order,
        takeovers,
        deaths,
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
    let next = each_transition(connection, row, |transition, blob| {
        let History {
            tables,
            results,
            await_order,
            ..
        } = &mut recorded.history;
        check(tables, &transition)?;
        match &transition {
            Transition::Task(end) if end.state.task_state() == TaskState::Success => {
                let at = end.place;
                results.extend(end.result.clone().map(|result: EncodedResult| (at, result)));
                recorded.blobs.extend(blob.map(|blob| (at, blob)));
            }
            Transition::Awaited { node, known } => {
                await_order.record(*node, known.as_deref(), tables)
            }
            _ => {}
        }
        match transition {
            Transition::Cleared(cleared) => recorded.clear(cleared),
            transition => tables.apply(transition),
        }
        Ok(())
    });
    recorded.next = next.map_err(|failure| failure.of_run(id))?;
    let tables = &mut recorded.history.tables;
    (tables.end, tables.state, tables.started) = (end, state, started);
    Ok(recorded)
}

/// Returns the whole record of a final run, in one transaction. Returns `None` if there is no such
/// run.
pub(super) fn history_of_final(
    connection: &Connection,
    id: RunId,
) -> Result<Option<Recorded>, Failure> {
    at_once(connection, || {
        let is_final = connection
            .prepare_cached(sql!("SELECT 1 FROM runs WHERE id = ?1 AND ", RUN_FINAL))?
            .exists([id.as_bytes()])?;
        is_final.then(|| history(connection, id)).transpose()
    })
}

/// Returns every attempt of a run's tasks.
pub(super) fn attempts_of(
    connection: &Connection,
    id: RunId,
) -> Result<Option<Vec<AttemptRecord>>, Failure> {
    at_once(connection, || {
        let Some(Head { row, mut read, .. }) = one(connection, id)? else {
            return Ok(None);
        };
        if read.tables.pruned {
            return Ok(Some(Vec::new()));
        }
        let mut changes = Vec::new();
        each_transition(connection, row, |transition, _| {
            check(&read.tables, &transition)?;
            if let Transition::Task(end) = &transition {
                changes.push(StateChange::from(end));
            }
            read.tables.apply(transition);
            Ok(())
        })
        .map_err(|failure| failure.of_run(id))?;
        Ok(Some(attempts::attempts(&read.tables, changes.into_iter())))
    })
}
