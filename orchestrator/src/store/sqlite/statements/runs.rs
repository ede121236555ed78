//! Accepting runs.

use rusqlite::{Connection, OptionalExtension, params};

use super::super::failure::Failure;
use crate::clock::Timestamp;
use crate::deployment::{DeploymentKey, DeploymentVersion};
use crate::id::RunId;
use crate::journal::NewRun;
use crate::state::{RunKind, RunState};
use crate::store::PreviousRun;
use crate::store::sql::codes::{Code, sql};
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

const FIND_PREVIOUS: &str = sql!(
    "SELECT id, state FROM runs WHERE flow = ?1 AND logical_date < ?2 AND deployment = ?3 AND ",
    RUN_HAS_TICK,
    " ORDER BY logical_date DESC LIMIT 1"
);

/// Returns the run of a deployment's last tick before an instant that has one.
pub(crate) fn find_previous(
    connection: &Connection,
    deployment: &DeploymentKey,
    before: Timestamp,
) -> Result<Option<PreviousRun>, Failure> {
    let mut select = connection.prepare_cached(FIND_PREVIOUS)?;
    let tick = params![deployment.flow, before, deployment.column()];
    let row = select.query_row(tick, |row| Ok((row.get(0)?, row.get(1)?)));
    let Some((id, code)) = row.optional()? else {
        return Ok(None);
    };
    let id = RunId::from_bytes(id);
    match RunState::of(code) {
        Some(state) => Ok(Some(PreviousRun { id, state })),
        None => Err(Failure::Row(format!("state: {code} is unknown")).of_run(id)),
    }
}

/// Returns `true` if a run with this id exists.
pub(crate) fn run_exists(connection: &Connection, id: RunId) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(statements::FIND_RUN)?
        .exists([id.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::schema::MIGRATIONS;

    #[test]
    fn previous_run_is_found_by_the_index_of_ticks() {
        let connection = Connection::open_in_memory().unwrap();
        for migration in MIGRATIONS {
            connection.execute_batch(migration.sql).unwrap();
        }
        let mut select = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {FIND_PREVIOUS}"))
            .unwrap();
        let steps = select
            .query_map(params!["a", 0, ""], |row| row.get::<_, String>("detail"))
            .unwrap();
        let steps: Vec<String> = steps.map(Result::unwrap).collect();
        // no step sorts
        assert_eq!(
            steps,
            ["SEARCH runs USING INDEX runs_by_tick (flow=? AND logical_date<?)"]
        );
    }
}
