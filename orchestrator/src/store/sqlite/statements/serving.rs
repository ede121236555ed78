//! State that serving processes share through the file: slots of runs, cancellations and pauses.

use rusqlite::{Connection, params};

use super::super::failure::Failure;
use super::ownership;
use crate::clock::Timestamp;
use crate::id::RunId;
use crate::state::{RunKind, RunState};
use crate::store::ServingState;
use crate::store::sql::codes::Code;
use crate::store::sql::statements;

/// Claims one of the flow's slots for a run. Returns `false` if as many other runs are active;
/// those of `dead` processes do not count.
///
/// The count and the update are one transaction: two processes cannot both claim the last slot.
pub(crate) fn claim_turn(
    connection: &Connection,
    id: RunId,
    flow: &str,
    runs: u32,
    dead: &[i64],
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let mut owners = connection.prepare_cached(statements::FIND_TURNS)?;
    let others = params![
        flow,
        RunState::Running.code(),
        RunKind::Backfill.code(),
        id.as_bytes()
    ];
    let owners = owners
        .query_map(others, |row| row.get::<_, i64>(0))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    if owners.iter().filter(|owner| !dead.contains(owner)).count() >= runs as usize {
        return Ok(false);
    }
    let mut update = connection.prepare_cached(statements::CLAIM_TURN)?;
    update.execute(params![id.as_bytes(), RunState::Running.code(), now])?;
    Ok(true)
}

/// Releases the slot held by a previous execution of a run. Two resumed runs that kept their slots
/// would wait for each other.
pub(crate) fn release_turn(connection: &Connection, id: RunId, own: i64) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached(statements::RELEASE_TURN)?;
    update
        .execute(params![id.as_bytes(), own, RunState::Pending.code()])
        .map(drop)
}

/// Requests the cancellation of a run. Returns `false` if there is no such unfinished run.
pub(crate) fn request_cancel(connection: &Connection, id: RunId) -> rusqlite::Result<bool> {
    let mut update = connection.prepare_cached(statements::REQUEST_CANCEL)?;
    Ok(update.execute([id.as_bytes()])? > 0)
}

/// Returns the runs of the process `own` whose cancellation was requested.
pub(crate) fn find_cancel_requests(
    connection: &Connection,
    own: i64,
) -> Result<Vec<RunId>, Failure> {
    let mut select = connection.prepare_cached(statements::FIND_CANCEL_REQUESTS)?;
    let cancelling = select.query_map([own], |row| Ok(RunId::from_bytes(row.get(0)?)))?;
    Ok(cancelling.collect::<rusqlite::Result<_>>()?)
}

/// Returns the runs that dead and stopped processes left, and the paused flows.
pub(crate) fn read_serving_state(
    connection: &Connection,
    dead: &[i64],
) -> Result<ServingState, Failure> {
    let paused = list_paused(connection)?
        .into_iter()
        .map(|(flow, _)| flow)
        .collect();
    Ok(ServingState {
        abandoned: ownership::find_abandoned(connection, dead)?,
        paused,
    })
}

pub(crate) fn pause_flow(
    connection: &Connection,
    flow: &str,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let insert = "INSERT OR IGNORE INTO pauses VALUES (?1, ?2)";
    Ok(connection.execute(insert, params![flow, now])? > 0)
}

pub(crate) fn unpause_flow(connection: &Connection, flow: &str) -> rusqlite::Result<bool> {
    Ok(connection.execute(statements::UNPAUSE_FLOW, [flow])? > 0)
}

pub(crate) fn list_paused(connection: &Connection) -> Result<Vec<(String, Timestamp)>, Failure> {
    let mut select = connection.prepare_cached(statements::LIST_PAUSED)?;
    let paused = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(paused.collect::<rusqlite::Result<_>>()?)
}
