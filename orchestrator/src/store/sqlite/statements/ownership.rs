//! The owner of a run: taking over abandoned runs, releasing a run, reopening a final one.

use rusqlite::{Connection, OptionalExtension, params};

use super::super::failure::Failure;
use super::prune;
use crate::id::RunId;
use crate::state::RunState;
use crate::store::AbandonedRun;
use crate::store::sql::codes::{Code, Leaving, sql};
use crate::store::sql::rows;
use crate::store::sql::statements;

/// Returns the runs that are not final and that no living process executes.
pub(crate) fn find_abandoned(
    connection: &Connection,
    dead: &[i64],
) -> Result<Vec<AbandonedRun>, Failure> {
    let mut select = connection.prepare_cached(sql!(
        "SELECT run, id, flow FROM runs WHERE owner IS ?1 AND ",
        RUN_OPEN,
        " AND length(id) = 16"
    ))?;
    let mut abandoned = Vec::new();
    for owner in std::iter::once(None).chain(dead.iter().copied().map(Some)) {
        let mut rows = select.query([owner])?;
        while let Some(row) = rows.next()? {
            let flow = String::from_utf8_lossy(row.get_ref(2)?.as_bytes().unwrap_or_default())
                .into_owned();
            let run = AbandonedRun {
                id: RunId::from_bytes(row.get(1)?),
                flow,
            };
            abandoned.push((row.get::<_, i64>(0)?, run));
        }
    }
    abandoned.sort_unstable_by_key(|(accepted, _)| *accepted);
    Ok(abandoned.into_iter().map(|(_, run)| run).collect())
}

/// Makes a process the owner of an abandoned run. Returns `false` if a living process owns it.
/// Counts a crash of the previous owner, unless that released the run or was being stopped.
pub(crate) fn take_over_run(
    connection: &Connection,
    id: RunId,
    dead: &[i64],
    owner: i64,
) -> rusqlite::Result<bool> {
    let mut select = connection.prepare_cached(statements::FIND_OWNER)?;
    let Some(old) = select
        .query_row([id.as_bytes()], |row| row.get::<_, Option<i64>>(0))
        .optional()?
    else {
        return Ok(false);
    };
    if old.is_some_and(|old| !dead.contains(&old)) {
        return Ok(false);
    }
    let mut update = connection.prepare_cached(sql!(
        "UPDATE runs SET owner = ?2, takeovers = takeovers + (owner IS NOT NULL AND ",
        RUN_NOT_LEFT,
        "), deaths = deaths + (owner IS NOT NULL), leaving = ?4 WHERE id = ?1 AND owner IS ?3",
    ))?;
    let values = params![id.as_bytes(), owner, old, Leaving::No.code()];
    Ok(update.execute(values)? > 0)
}

/// Makes a process the owner of a final run, and the run pending again. Returns `false` if the run
/// changed since it was read.
pub(crate) fn reopen_run(
    connection: &Connection,
    run: &Reopening,
    owner: i64,
) -> rusqlite::Result<bool> {
    let mut select = connection.prepare_cached(statements::READ_FINAL_RUN)?;
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
        prune::delete_rest(connection, run.row)?;
    }
    let mut insert =
        connection.prepare_cached("INSERT OR IGNORE INTO plans VALUES (?1, ?2, ?3)")?;
    if insert.execute(params![run.row, run.number, run.plan])? == 0 {
        return Ok(false);
    }
    if let Some(Ok(Err(blob))) = output.as_deref().map(rows::stored_result) {
        prune::throw_away(connection, &blob)?;
    }
    let mut update = connection.prepare_cached(statements::REOPEN_RUN)?;
    update
        .execute(params![run.row, owner, RunState::Pending.code()])
        .map(|updated| updated > 0)
}

/// A final run that is to be re-run.
#[derive(Debug)]
pub(crate) struct Reopening {
    pub(crate) row: i64,
    /// The number of the row that records the re-run.
    pub(crate) number: u32,
    pub(crate) plan: Vec<u8>,
    pub(crate) pruned: bool,
}
