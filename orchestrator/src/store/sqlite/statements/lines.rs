//! Log lines as rows.
//!
//! A line may come from a process that no longer owns the run; it does no harm. Lines are numbered
//! within their run, in the transaction that stores them: a reader that has seen a line finds all
//! later ones after it.

use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};

use super::super::columns::unsigned;
use super::super::failure::Failure;
use crate::clock::Timestamp;
use crate::id::RunId;
use crate::log::{LogLevel, LogLine};
use crate::store::sql::codes::Code as _;
use crate::store::sql::statements;

/// Appends lines to their runs' logs. Lines of unknown or pruned runs are dropped.
pub(crate) fn append(connection: &Connection, lines: &[LogLine]) -> rusqlite::Result<()> {
    let mut find = connection.prepare_cached(statements::FIND_LAST_LINE)?;
    let mut insert = connection.prepare_cached(statements::INSERT_LINE)?;
    for of_run in lines.chunk_by(|line, next| line.run == next.run) {
        let found = find.query_row([of_run[0].run.as_bytes()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        });
        let Some((run, last)): Option<(i64, i64)> = found.optional()? else {
            continue;
        };
        for (number, line) in (last + 1..).zip(of_run) {
            let fields = (!line.fields.is_empty())
                .then(|| serde_json::to_string(&line.fields).unwrap_or_default());
            insert.execute(params![
                run,
                number,
                Timestamp::from(line.at),
                line.level.code(),
                line.task,
                line.attempt,
                line.map_index.map(|index| index as i64),
                line.target,
                line.message,
                fields,
            ])?;
        }
    }
    Ok(())
}

/// Returns at most `at_most` lines of a run after a number.
pub(crate) fn after(
    connection: &Connection,
    id: RunId,
    after: u64,
    at_most: usize,
) -> Result<Vec<LogLine>, Failure> {
    let mut select = connection.prepare_cached(
        "SELECT number, at, level, task, attempt, map_index, target, message, fields FROM logs \
         WHERE run = (SELECT run FROM runs WHERE id = ?1 AND pruned = 0) \
         AND number > ?2 ORDER BY number LIMIT ?3",
    )?;
    let bound = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let mut rows = select.query(params![id.as_bytes(), bound(after), bound(at_most as u64)])?;
    let mut lines = Vec::new();
    while let Some(row) = rows.next()? {
        lines.push(line(row, id)?);
    }
    Ok(lines)
}

fn line(row: &SqlRow<'_>, run: RunId) -> Result<LogLine, Failure> {
    let at: Timestamp = row.get(1)?;
    let fields: Option<String> = row.get(8)?;
    let fields = fields
        .map(|fields| serde_json::from_str(&fields))
        .transpose();
    let index: Option<i64> = row.get(5)?;
    let unreadable =
        |problem: String| Failure::Row(format!("a line of a log cannot be read: {problem}"));
    Ok(LogLine {
        number: unsigned(0, row.get(0)?)?,
        at: at
            .to_datetime()
            .ok_or_else(|| unreadable(format!("{} is not a valid time", at.micros())))?,
        level: LogLevel::of(row.get(2)?)
            .ok_or_else(|| unreadable("it has an unknown level".to_owned()))?,
        target: row.get(6)?,
        message: row.get(7)?,
        fields: fields
            .map_err(|error| unreadable(format!("fields: {error}")))?
            .unwrap_or_default(),
        run,
        task: row.get(3)?,
        attempt: row.get(4)?,
        map_index: index
            .map(usize::try_from)
            .transpose()
            .map_err(|error| unreadable(error.to_string()))?,
    })
}

/// Deletes the first lines of a run, at most `at_most`. Returns their number.
pub(crate) fn delete(connection: &Connection, run: i64, at_most: usize) -> rusqlite::Result<usize> {
    let mut delete = connection.prepare_cached(
        "DELETE FROM logs WHERE run = ?1 AND number <= (SELECT max(number) FROM \
         (SELECT number FROM logs WHERE run = ?1 ORDER BY number LIMIT ?2))",
    )?;
    delete.execute(params![run, at_most as i64])
}
