//! Reading runs, from their heads and from their rows.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rusqlite::types::FromSql;
use rusqlite::{Connection, Row as SqlRow};

use super::super::columns;
use super::super::failure::{self, Failure};
use crate::blob::BlobRef;
use crate::clock::Timestamp;
use crate::id::RunId;
use crate::journal::{
    AttemptRecord, AwaitOrder, History, NewRun, RunEnd, RunFilter, RunSummary, RunTables,
    Transition,
    attempts::{self, StateChange},
};
use crate::state::{RunKind, RunState};
use crate::store::sql::codes::Code;
use crate::store::sql::filter;
use crate::store::sql::history::{RecordedRun, check};
use crate::store::sql::rows::{self, Unreadable};
use crate::store::sql::statements::{self, HeadColumn, READ_HEADS, READ_SUMMARIES};
use crate::task::Interval;

/// A run as it was read; its output may be in a blob.
pub(crate) struct StoredRun {
    pub(crate) tables: RunTables,
    pub(crate) output: Option<Vec<u8>>,
}

struct Head {
    row: i64,
    read: StoredRun,
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
    fn get<T: FromSql + Default>(&mut self, column: HeadColumn) -> T {
        self.read(column, T::default(), Ok)
    }

    fn instant(&mut self, column: HeadColumn) -> DateTime<Utc> {
        let instant = |at: Timestamp| {
            at.to_datetime()
                .ok_or_else(|| format!("{} is not a valid time", at.micros()))
        };
        self.read(column, DateTime::UNIX_EPOCH, instant)
    }

    fn code<T: Code>(&mut self, column: HeadColumn, instead: T) -> T {
        self.read(column, instead, |code: i64| {
            T::of(code).ok_or_else(|| format!("{code} is unknown"))
        })
    }

    /// Reads a column. Returns `instead` if it is unreadable.
    fn read<V: FromSql, T>(
        &mut self,
        column: HeadColumn,
        instead: T,
        read: impl FnOnce(V) -> Result<T, Unreadable>,
    ) -> T {
        let at = column as usize;
        let found = self
            .row
            .get(at)
            .map_err(|error| failure::text(&error))
            .and_then(read);
        found.unwrap_or_else(|problem| {
            let name = self
                .row
                .as_ref()
                .column_name(at)
                .unwrap_or("a column")
                .to_owned();
            self.problem
                .get_or_insert_with(|| format!("{name}: {problem}"));
            instead
        })
    }
}

fn head(row: &SqlRow<'_>) -> Head {
    let mut columns = Columns { row, problem: None };
    let new = NewRun {
        id: columns.read(HeadColumn::Id, RunId::from_bytes([0; 16]), |id| {
            Ok(RunId::from_bytes(id))
        }),
        flow: columns.get::<String>(HeadColumn::Flow).into(),
        kind: columns.code(HeadColumn::Kind, RunKind::Manual),
        deployment: columns.read(HeadColumn::Deployment, None, |name: String| {
            Ok((!name.is_empty()).then(|| name.into()))
        }),
        key: columns.get(HeadColumn::Key),
        logical_date: columns.instant(HeadColumn::LogicalDate),
        interval: Interval {
            start: columns.instant(HeadColumn::IntervalStart),
            end: columns.instant(HeadColumn::IntervalEnd),
        },
        parameters: columns.read(
            HeadColumn::Parameters,
            serde_json::Map::new(),
            |parameters: String| {
                serde_json::from_str(&parameters).map_err(|error| error.to_string())
            },
        ),
        refresh_cache: columns.get(HeadColumn::Refresh),
        created: columns.instant(HeadColumn::Created),
    };
    let mut tables = RunTables::new(Arc::new(new));
    let state = columns.code(HeadColumn::State, RunState::Pending);
    tables.state = state;
    tables.started = columns.read(HeadColumn::Started, None, |started| {
        Ok(rows::unless_zero(started))
    });
    tables.pruned = columns.get::<i64>(HeadColumn::Pruned) != 0;
    let error = columns.read(HeadColumn::Error, None, |error: Option<Vec<u8>>| {
        error.map(|error| rows::error_of(&error)).transpose()
    });
    if state.is_final() {
        let at = columns.read(HeadColumn::Finished, Timestamp::EPOCH, Ok);
        tables.end = Some(Arc::new(RunEnd {
            at,
            state,
            error,
            output: None,
            encoded: None,
        }));
    }
    let (row, output) = (
        columns.get(HeadColumn::Run),
        columns.get(HeadColumn::Output),
    );
    let (takeovers, deaths, cancelling) = (
        columns.get(HeadColumn::Takeovers),
        columns.get(HeadColumn::Deaths),
        columns.get(HeadColumn::Cancelling),
    );
    tables.unreadable = columns.problem.map(Arc::from);
    Head {
        row,
        read: StoredRun { tables, output },
        takeovers,
        deaths,
        cancelling,
    }
}

/// Calls a function for each recorded transition of a run, in order. Returns the number of the next
/// row.
fn each_transition(
    connection: &Connection,
    row: i64,
    mut each: impl FnMut(Transition, Option<BlobRef>) -> Result<(), Failure>,
) -> Result<u32, Failure> {
    let mut plans = connection.prepare_cached(statements::READ_PLANS)?;
    let mut plans = plans.query([row])?;
    let mut attempts = connection.prepare_cached(statements::READ_ATTEMPTS)?;
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
                    let (end, blob) = columns::attempt(row, 1)?.decode()?;
                    each(Transition::Task(end), blob)?;
                }
                next = after(attempted.unwrap_or(0))?;
                attempt = attempts.next()?;
            }
        }
    }
}

fn with_tasks(connection: &Connection, head: Head) -> Result<StoredRun, Failure> {
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

fn find_heads(
    connection: &Connection,
    condition: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<Head>, Failure> {
    let mut select =
        connection.prepare_cached(&format!("{READ_HEADS} WHERE {condition} ORDER BY run"))?;
    let mut rows = select.query(parameters)?;
    let mut heads = Vec::new();
    while let Some(row) = rows.next()? {
        heads.push(head(row));
    }
    Ok(heads)
}

/// Returns the head of one run, which must be readable.
fn find_head(connection: &Connection, id: RunId) -> Result<Option<Head>, Failure> {
    find_heads(connection, "id = ?1", [id.as_bytes()])?
        .pop()
        .map(Head::whole)
        .transpose()
}

/// Returns the runs that match a filter, without their tasks.
pub(crate) fn find_runs(
    connection: &Connection,
    filter: &RunFilter,
) -> Result<Vec<RunSummary>, Failure> {
    let (condition, values) = filter::runs(filter);
    let mut select = connection.prepare_cached(&format!("{READ_SUMMARIES} WHERE {condition}"))?;
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
fn as_listed(connection: &Connection, head: Head) -> Result<StoredRun, Failure> {
    if head.read.tables.unreadable.is_some() {
        return Ok(head.read);
    }
    let without = head.read.tables.without_tasks();
    match with_tasks(connection, head) {
        Err(failure) if failure.is_of_one_run() => {
            let tables = without.unreadable(failure.text());
            Ok(StoredRun {
                tables,
                output: None,
            })
        }
        read => read,
    }
}

pub(crate) fn read_runs(connection: &Connection, flow: &str) -> Result<Vec<StoredRun>, Failure> {
    at_once(connection, || {
        let heads = find_heads(connection, "flow = ?1", [flow])?;
        heads
            .into_iter()
            .map(|head| as_listed(connection, head))
            .collect()
    })
}

pub(crate) fn read_run(connection: &Connection, id: RunId) -> Result<Option<StoredRun>, Failure> {
    at_once(connection, || {
        let head = find_head(connection, id)?;
        head.map(|head| with_tasks(connection, head).map_err(|failure| failure.of_run(id)))
            .transpose()
    })
}

/// Returns the whole record of a run that is resumed.
pub(crate) fn read_history(connection: &Connection, id: RunId) -> Result<RecordedRun, Failure> {
    let head = find_head(connection, id)?;
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
    let mut recorded = RecordedRun {
        row,
        next: 0,
        history,
        blobs: HashMap::new(),
    };
    if recorded.history.tables.pruned {
        return Ok(recorded);
    }
    let next = each_transition(connection, row, |transition, blob| {
        Ok(recorded.apply(transition, blob)?)
    });
    recorded.next = next.map_err(|failure| failure.of_run(id))?;
    let tables = &mut recorded.history.tables;
    (tables.end, tables.state, tables.started) = (end, state, started);
    Ok(recorded)
}

/// Returns the whole record of a final run, in one transaction. Returns `None` if there is no such
/// run.
pub(crate) fn read_final_history(
    connection: &Connection,
    id: RunId,
) -> Result<Option<RecordedRun>, Failure> {
    at_once(connection, || {
        let is_final = connection
            .prepare_cached(statements::FIND_FINAL_RUN)?
            .exists([id.as_bytes()])?;
        is_final.then(|| read_history(connection, id)).transpose()
    })
}

/// Returns every attempt of a run's tasks.
pub(crate) fn read_attempts(
    connection: &Connection,
    id: RunId,
) -> Result<Option<Vec<AttemptRecord>>, Failure> {
    at_once(connection, || {
        let Some(Head { row, mut read, .. }) = find_head(connection, id)? else {
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
