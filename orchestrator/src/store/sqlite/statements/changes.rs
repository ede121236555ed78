//! The rows of transitions.

use rusqlite::{Connection, params};

use super::cache;
use crate::state::RunState;
use crate::store::sql::changes::RowChange;
use crate::store::sql::codes::{Code as _, Leaving};
use crate::store::sql::rows::AttemptRow;
use crate::store::sql::statements;

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
            let mut insert = connection.prepare_cached(statements::INSERT_PLAN)?;
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
            let mut insert = connection.prepare_cached(statements::INSERT_ATTEMPT)?;
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
            let mut update = connection.prepare_cached(statements::START_RUN)?;
            update.execute(params![row, RunState::Running.code(), at])?;
        }
        RowChange::Cancelling => {
            connection
                .prepare_cached(statements::CANCEL_RUN)?
                .execute([row])?;
        }
        RowChange::Finished {
            state,
            at,
            error,
            output,
        } => {
            let mut update = connection.prepare_cached(statements::FINISH_RUN)?;
            update.execute(params![row, state.code(), at, error, output.bytes()])?;
        }
        RowChange::Leaving(leaving) => {
            connection
                .prepare_cached(statements::LEAVE_RUN)?
                .execute([row, leaving.code()])?;
        }
        RowChange::Released => {
            let mut update = connection.prepare_cached(statements::RELEASE_RUN)?;
            update.execute([row, Leaving::No.code()])?;
        }
    }
    Ok(())
}

/// Forgets the processes that died with a run: one of its nodes ended.
pub(crate) fn reset_takeovers(connection: &Connection, row: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(statements::RESET_TAKEOVERS)?
        .execute([row])
        .map(drop)
}
