//! The rows of transitions.

use rusqlite::{Connection, params};

use super::cache;
use crate::state::RunState;
use crate::store::sql::changes::RowChange;
use crate::store::sql::codes::{Code as _, Leaving, sql};
use crate::store::sql::rows::AttemptRow;

/// Writes a change of the run in a row of `runs`. `number` is that of the new row within the run,
/// if the change is one.
pub(crate) fn write_change(
    connection: &Connection,
    row: i64,
    number: u32,
    change: &RowChange,
) -> rusqlite::Result<()> {
    match change {
        RowChange::Plan(body) => {
            let mut insert = connection.prepare_cached("INSERT INTO plans VALUES (?1, ?2, ?3)")?;
            insert.execute(params![row, number, body])?;
        }
        RowChange::Attempt(
            AttemptRow {
                frame,
                cell,
                attempt,
                state,
                started,
                took,
                body,
            },
            entry,
        ) => {
            let mut insert = connection.prepare_cached(
                "INSERT INTO attempts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?;
            insert.execute(params![
                row,
                number,
                frame,
                cell,
                attempt,
                state.code(),
                started,
                took,
                body.bytes()
            ])?;
            if let Some(entry) = entry {
                cache::insert_result(connection, entry)?;
            }
        }
        RowChange::Started(at) => {
            let mut update = connection
                .prepare_cached("UPDATE runs SET state = ?2, started = ?3 WHERE run = ?1")?;
            update.execute(params![row, RunState::Running.code(), at])?;
        }
        RowChange::Cancelling => {
            connection
                .prepare_cached("UPDATE runs SET cancelling = 1 WHERE run = ?1")?
                .execute([row])?;
        }
        RowChange::Finished {
            state,
            at,
            error,
            output,
        } => {
            let mut update = connection.prepare_cached(
                "UPDATE runs SET state = ?2, finished = ?3, error = ?4, output = ?5 WHERE run = ?1",
            )?;
            update.execute(params![row, state.code(), at, error, output.bytes()])?;
        }
        RowChange::Leaving(leaving) => {
            connection
                .prepare_cached("UPDATE runs SET leaving = ?2 WHERE run = ?1")?
                .execute([row, leaving.code()])?;
        }
        RowChange::Released => {
            let mut update = connection.prepare_cached(sql!(
                "UPDATE runs SET owner = NULL, deaths = deaths + (",
                RUN_LEFT_WITH_BODIES,
                "), leaving = ?2 WHERE run = ?1",
            ))?;
            update.execute([row, Leaving::No.code()])?;
        }
    }
    Ok(())
}

/// Forgets the processes that died with a run: one of its nodes ended.
pub(crate) fn reset_takeovers(connection: &Connection, row: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE runs SET takeovers = 0 WHERE run = ?1")?
        .execute([row])
        .map(drop)
}
