//! Deployments: what is in force, and how far ticks are decided.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::clock::Timestamp;
use crate::deployment::{DeploymentKey, DeploymentRecord, DeploymentSpec, DeploymentVersion};
use crate::flow::Missed;
use crate::journal::NewRun;

/// Selects the columns that [`read`] reads; a condition follows.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT flow, deployment, version, decided, segments FROM deployments ",
            $rest
        )
    };
}

/// Puts the schedules of a deployment in force, and returns what is on record.
pub(crate) fn put_in_force(
    connection: &Connection,
    spec: &DeploymentSpec,
    now: Timestamp,
) -> rusqlite::Result<DeploymentRecord> {
    let record = find(connection, &spec.key)?;
    let now = now.to_datetime().unwrap_or_default();
    let (record, has_changed) = spec.put_in_force(record, now);
    if has_changed {
        write(connection, &record)?;
    }
    Ok(record)
}

/// Returns the row of a deployment, also if it was removed.
fn find(
    connection: &Connection,
    key: &DeploymentKey,
) -> rusqlite::Result<Option<DeploymentRecord>> {
    let mut select = connection.prepare_cached(select!("WHERE flow = ?1 AND deployment = ?2"))?;
    select
        .query_row(params![key.flow, key.column()], read)
        .optional()
}

fn read(row: &Row<'_>) -> rusqlite::Result<DeploymentRecord> {
    let (flow, name): (String, String) = (row.get(0)?, row.get(1)?);
    let decided: Timestamp = row.get(3)?;
    Ok(DeploymentRecord::decode(
        DeploymentKey::from_columns(flow, &name),
        DeploymentVersion::new(row.get(2)?),
        decided.to_datetime().unwrap_or_default(),
        &row.get::<_, String>(4)?,
    ))
}

fn write(connection: &Connection, record: &DeploymentRecord) -> rusqlite::Result<()> {
    let mut upsert = connection.prepare_cached(
        "INSERT INTO deployments (flow, deployment, version, decided, segments) \
         VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE \
         SET version = excluded.version, decided = excluded.decided, segments = excluded.segments",
    )?;
    upsert
        .execute(params![
            record.key.flow,
            record.key.column(),
            record.version.get(),
            Timestamp::from(record.decided),
            record.encode()
        ])
        .map(drop)
}

pub(crate) fn list_deployments(
    connection: &Connection,
    flow: Option<&str>,
) -> rusqlite::Result<Vec<DeploymentRecord>> {
    // one statement for both would scan all deployments at each manual run of a flow
    let mut select = connection.prepare_cached(match flow {
        Some(_) => select!("WHERE flow = ?1 ORDER BY deployment"),
        None => select!("ORDER BY flow, deployment"),
    })?;
    let records = select.query_map(rusqlite::params_from_iter(flow), read)?;
    records
        .filter(|record| !record.as_ref().is_ok_and(DeploymentRecord::is_removed))
        .collect()
}

pub(crate) fn remove_deployment(
    connection: &Connection,
    key: &DeploymentKey,
) -> rusqlite::Result<bool> {
    let found = find(connection, key)?;
    let Some(mut record) = found.filter(|record| !record.is_removed()) else {
        return Ok(false);
    };
    record.remove();
    write(connection, &record)?;
    Ok(true)
}

/// Returns `true` if a version is in force for the deployment of a run.
pub(crate) fn is_in_force(
    connection: &Connection,
    run: &NewRun,
    version: DeploymentVersion,
) -> rusqlite::Result<bool> {
    let mut select = connection.prepare_cached(
        "SELECT 1 FROM deployments WHERE flow = ?1 AND deployment = ?2 AND version = ?3",
    )?;
    let deployment = run.deployment.as_deref().unwrap_or_default();
    select.exists(params![run.flow, deployment, version.get()])
}

pub(crate) fn record_progress(
    connection: &Connection,
    key: &DeploymentKey,
    version: DeploymentVersion,
    up_to: Timestamp,
) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached(
        "UPDATE deployments SET decided = max(decided, ?4) \
         WHERE flow = ?1 AND deployment = ?2 AND version = ?3",
    )?;
    update
        .execute(params![key.flow, key.column(), version.get(), up_to])
        .map(drop)
}

pub(crate) fn rewind_progress(
    connection: &Connection,
    deployments: &[(DeploymentKey, DeploymentVersion)],
    to: Timestamp,
) -> rusqlite::Result<()> {
    let to = to.to_datetime().unwrap_or_default();
    for (key, version) in deployments {
        let record = find(connection, key)?;
        if let Some(mut record) = record.filter(|record| record.version == *version) {
            record.rewind(to);
            write(connection, &record)?;
        }
    }
    Ok(())
}

/// Chooses which of the missed ticks of a flow's deployments get a run.
pub(crate) fn choose_missed(
    connection: &Connection,
    flow: &str,
    missed: Missed,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let now = now.to_datetime().unwrap_or_default();
    let records = list_deployments(connection, Some(flow))?;
    // a record that cannot be read, such as that of a later version, is left as it is
    for mut record in records.into_iter().filter(|it| it.unreadable.is_none()) {
        record.choose_missed(missed, now);
        write(connection, &record)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::schema::MIGRATIONS;
    use super::*;
    use crate::deployment::samples::spec;
    use crate::schedule::Schedule;

    #[test]
    fn schedules_of_earlier_versions_become_deployments() {
        let connection = Connection::open_in_memory().unwrap();
        let is_earlier = |number: u32| number < 7;
        for migration in MIGRATIONS.iter().filter(|one| is_earlier(one.number)) {
            connection.execute_batch(migration.sql).unwrap();
        }
        let text = r#"0 6 * * * in Europe/Zurich {"region":"EU"}"#;
        for (flow, schedule, decided) in [
            ("report", text, 1_767_247_200_000_000_i64),
            ("report", "every 15m", 1_767_100_000_000_000),
            ("other", "not a schedule", 5),
        ] {
            connection
                .execute(
                    "INSERT INTO schedules VALUES (?1, ?2, ?3)",
                    params![flow, schedule, decided],
                )
                .unwrap();
        }
        let tick = "INSERT INTO runs (id, flow, kind, logical_date, interval_start, interval_end, parameters, refresh,
                      created, state, started, finished, takeovers, cancelling, pruned)
                    VALUES (randomblob(16), 'report', 1, 7, 0, 7, '{}', 0, 0, 2, 1, 10, 0, 0, 0)";
        connection.execute(tick, []).unwrap();
        for migration in MIGRATIONS.iter().filter(|one| !is_earlier(one.number)) {
            connection.execute_batch(migration.sql).unwrap();
        }
        let records = list_deployments(&connection, None).unwrap();
        let [other, report] = &records[..] else {
            panic!("{records:?}")
        };
        assert!(other.unreadable.is_some(), "{other:?}");
        assert_eq!(report.decided.timestamp_micros(), 1_767_247_200_000_000);
        let zurich = Schedule::cron("0 6 * * *").unwrap();
        let zurich = zurich.timezone(chrono_tz::Europe::Zurich);
        assert!(spec(std::slice::from_ref(&zurich), "EU").is_in_force(report));
        // and their runs are those of the default deployment
        let again = connection.execute(tick, []).unwrap_err().to_string();
        assert!(
            again.contains("UNIQUE constraint failed: runs.flow, runs.logical_date"),
            "{again}"
        );
        let later = Timestamp::from_micros(1_767_900_000_000_000);
        let kept = put_in_force(&connection, &spec(&[zurich], "EU"), later).unwrap();
        assert_eq!(kept.decided, report.decided);
        assert_eq!(kept.version, report.version);
    }
}
