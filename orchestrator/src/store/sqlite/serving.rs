//! What serving processes tell each other by the file: turns, cancellations, pauses, and how far schedules have come.

use rusqlite::{Connection, params};

use super::read::{self, Failure};
use super::rows::Code;
use crate::id::RunId;
use crate::state::{RunKind, RunState};
use crate::store::{Look, ScheduleKey};

/// Lets a run start, unless as many others are under way: those of the `dead` are not.
pub(super) fn claim_turn(
    connection: &Connection,
    id: RunId,
    flow: &str,
    runs: u32,
    dead: &[i64],
    now: i64,
) -> rusqlite::Result<bool> {
    let mut owners = connection.prepare_cached(
        "SELECT owner FROM runs WHERE flow = ?1 AND state < 2 AND state = ?2 AND kind <> ?3 AND id <> ?4 \
         AND owner IS NOT NULL",
    )?;
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
    let mut update = connection.prepare_cached(
        "UPDATE runs SET state = ?2, started = CASE started WHEN 0 THEN ?3 ELSE started END \
         WHERE id = ?1 AND state < 2",
    )?;
    update.execute(params![id.as_bytes(), RunState::Running.code(), now])?;
    Ok(true)
}

/// Lets a run that goes on wait for its turn anew: two that were under way would wait for each other.
pub(super) fn leave_turn(connection: &Connection, id: RunId, own: i64) -> rusqlite::Result<()> {
    let mut update = connection
        .prepare_cached("UPDATE runs SET state = ?3 WHERE id = ?1 AND owner = ?2 AND state < 2")?;
    update
        .execute(params![id.as_bytes(), own, RunState::Pending.code()])
        .map(drop)
}

/// Records that a run's cancellation was asked for. Says whether there is such a run that is not final.
pub(super) fn request_cancel(connection: &Connection, id: RunId) -> rusqlite::Result<bool> {
    let mut update =
        connection.prepare_cached("UPDATE runs SET cancelling = 1 WHERE id = ?1 AND state < 2")?;
    Ok(update.execute([id.as_bytes()])? > 0)
}

/// The runs of the process `own` whose cancellation was asked for.
pub(super) fn cancelling(connection: &Connection, own: i64) -> Result<Vec<RunId>, Failure> {
    let mut select = connection
        .prepare_cached("SELECT id FROM runs WHERE owner = ?1 AND state < 2 AND cancelling = 1")?;
    let cancelling = select.query_map([own], |row| Ok(RunId::from_bytes(row.get(0)?)))?;
    Ok(cancelling.collect::<rusqlite::Result<_>>()?)
}

/// What the dead and those who stopped have left, and which flows are paused.
pub(super) fn look(connection: &Connection, dead: &[i64]) -> Result<Look, Failure> {
    let paused = paused(connection)?
        .into_iter()
        .map(|(flow, _)| flow)
        .collect();
    Ok(Look {
        abandoned: read::abandoned(connection, dead)?,
        paused,
    })
}

/// Up to which instant the ticks of schedules are decided; of new ones, up to `now`.
pub(super) fn decided(
    connection: &Connection,
    schedules: &[ScheduleKey],
    now: i64,
) -> rusqlite::Result<Vec<i64>> {
    let mut insert =
        connection.prepare_cached("INSERT OR IGNORE INTO schedules VALUES (?1, ?2, ?3)")?;
    let mut select = connection
        .prepare_cached("SELECT decided FROM schedules WHERE flow = ?1 AND schedule = ?2")?;
    let mut of = |key: &ScheduleKey| {
        insert.execute(params![key.flow, key.schedule, now])?;
        select.query_row(params![key.flow, key.schedule], |row| row.get(0))
    };
    schedules.iter().map(&mut of).collect()
}

pub(super) fn decide(
    connection: &Connection,
    schedule: &ScheduleKey,
    up_to: i64,
) -> rusqlite::Result<()> {
    let mut upsert = connection.prepare_cached(
        "INSERT INTO schedules VALUES (?1, ?2, ?3) \
         ON CONFLICT DO UPDATE SET decided = max(decided, excluded.decided)",
    )?;
    upsert
        .execute(params![schedule.flow, schedule.schedule, up_to])
        .map(drop)
}

pub(super) fn set_back(
    connection: &Connection,
    schedules: &[ScheduleKey],
    to: i64,
) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached(
        "UPDATE schedules SET decided = min(decided, ?3) WHERE flow = ?1 AND schedule = ?2",
    )?;
    schedules.iter().try_for_each(|key| {
        update
            .execute(params![key.flow, key.schedule, to])
            .map(drop)
    })
}

pub(super) fn set_paused(
    connection: &Connection,
    flow: &str,
    paused: bool,
    now: i64,
) -> rusqlite::Result<bool> {
    let changed = match paused {
        true => connection.execute(
            "INSERT OR IGNORE INTO pauses VALUES (?1, ?2)",
            params![flow, now],
        )?,
        false => connection.execute("DELETE FROM pauses WHERE flow = ?1", [flow])?,
    };
    Ok(changed > 0)
}

pub(super) fn paused(connection: &Connection) -> Result<Vec<(String, i64)>, Failure> {
    let mut select = connection.prepare_cached("SELECT flow, since FROM pauses ORDER BY flow")?;
    let paused = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(paused.collect::<rusqlite::Result<_>>()?)
}
