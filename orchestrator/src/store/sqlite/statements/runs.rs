//! Accepting runs.

use rusqlite::{Connection, OptionalExtension, params};

use super::super::failure::Failure;
use crate::clock::Timestamp;
use crate::deployment::DeploymentVersion;
use crate::id::RunId;
use crate::journal::NewRun;
use crate::state::{RunKind, RunState};
use crate::store::sql::codes::Code;
use crate::store::sql::statements;

/// Inserts a pending run, and returns its row. Returns `None` if a run with its key, its tick or
/// its id exists, if the run is scheduled and its flow is paused, or if another version of its
/// deployment is in force. A run without an owner is left
/// to the serving processes.
pub(crate) fn insert_run(
    connection: &Connection,
    new: &NewRun,
    owner: Option<i64>,
    in_force: Option<DeploymentVersion>,
) -> rusqlite::Result<Option<i64>> {
    let mut insert = connection.prepare_cached(statements::INSERT_RUN)?;
    let parameters = serde_json::Value::Object(new.parameters.clone()).to_string();
    let inserted = insert.execute(params![
        new.id.as_bytes(),
        new.flow,
        new.kind.code(),
        new.key,
        Timestamp::from(new.logical_date),
        Timestamp::from(new.interval.start),
        Timestamp::from(new.interval.end),
        parameters,
        new.refresh_cache,
        Timestamp::from(new.created),
        owner,
        RunState::Pending.code(),
        RunKind::Scheduled.code(),
        new.deployment.as_deref().unwrap_or_default(),
        in_force.map(DeploymentVersion::get),
    ])?;
    Ok((inserted > 0).then(|| connection.last_insert_rowid()))
}

/// Returns the run that already has the key of a new one, or else its tick.
pub(crate) fn find_taken(connection: &Connection, new: &NewRun) -> Result<Option<RunId>, Failure> {
    let mut by_key = connection.prepare_cached(statements::FIND_RUN_OF_KEY)?;
    let mut by_tick = connection.prepare_cached(statements::FIND_RUN_OF_TICK)?;
    let mut id = by_key
        .query_row(params![new.flow, new.key], |row| row.get::<_, [u8; 16]>(0))
        .optional()?;
    if id.is_none() && new.kind.has_tick() {
        let tick = params![
            new.flow,
            Timestamp::from(new.logical_date),
            new.deployment.as_deref().unwrap_or_default()
        ];
        id = by_tick.query_row(tick, |row| row.get(0)).optional()?;
    }
    Ok(id.map(RunId::from_bytes))
}

/// Returns `true` if a run with this id exists.
pub(crate) fn run_exists(connection: &Connection, id: RunId) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(statements::FIND_RUN)?
        .exists([id.as_bytes()])
}
