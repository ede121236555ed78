//! The schema of the file: numbered migrations, and checks that a file is a store.
//!
//! A released migration is never edited; a change is a new number. All missing migrations are
//! applied in one transaction, under the write lock and after a second look at the file: of two
//! processes that open a new file, one creates the schema and the other finds it.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use super::failure;
use super::location::place_of;
use crate::clock::Timestamp;
use crate::error::StoreError;

/// The application id in the file's header, which identifies a store: `orch`.
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"orch");

/// One migration of the schema.
#[derive(Debug, Clone, Copy)]
pub(super) struct Migration {
    pub(super) number: u32,
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
}

/// All migrations, by number, from 1 without gaps.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        number: 1,
        name: "runs",
        sql: include_str!("migrations/001_runs.sql"),
    },
    Migration {
        number: 2,
        name: "serving",
        sql: include_str!("migrations/002_serving.sql"),
    },
    Migration {
        number: 3,
        name: "logs",
        sql: include_str!("migrations/003_logs.sql"),
    },
    Migration {
        number: 4,
        name: "upkeep",
        sql: include_str!("migrations/004_upkeep.sql"),
    },
    Migration {
        number: 5,
        name: "deaths",
        sql: include_str!("migrations/005_deaths.sql"),
    },
    Migration {
        number: 6,
        name: "cache",
        sql: include_str!("migrations/006_cache.sql"),
    },
    Migration {
        number: 7,
        name: "deployments",
        sql: include_str!("migrations/007_deployments.sql"),
    },
    Migration {
        number: 8,
        name: "vault",
        sql: include_str!("migrations/008_vault.sql"),
    },
];

impl Migration {
    fn checksum(&self) -> [u8; 32] {
        // git may convert line endings
        *blake3::hash(self.sql.replace('\r', "").as_bytes()).as_bytes()
    }
}

/// The migrations that a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SchemaState {
    /// An empty file.
    New,
    /// The known migrations up to this number.
    At(u32),
}

impl SchemaState {
    fn last(self) -> u32 {
        match self {
            Self::New => 0,
            Self::At(number) => number,
        }
    }
}

/// Inspects a file without writing to it.
///
/// # Errors
///
/// Returns an error if the file is not a store, or is one of a newer version.
pub(super) fn inspect(
    connection: &Connection,
    path: &Path,
    known: &[Migration],
) -> Result<SchemaState, StoreError> {
    // one read transaction: another process may be creating the schema
    let transaction = connection
        .unchecked_transaction()
        .map_err(|error| unreadable(path, &error))?;
    let state = look(&transaction, path, known)?;
    if let SchemaState::At(last) = state {
        let lacking = lacking(&transaction, &known[..last as usize]);
        if let Some(problem) = lacking.map_err(|error| failure::classify(path, &error))? {
            return Err(StoreError::Damaged {
                place: place_of(path),
                problem,
            });
        }
    }
    transaction
        .finish()
        .map_err(|error| failure::classify(path, &error))?;
    Ok(state)
}

/// Returns a description of the first table or index that a file lacks of its migrations. Without a
/// unique index, duplicates would be accepted silently. Additional tables and indexes are allowed.
/// Each table is read up to its first row.
fn lacking(connection: &Connection, applied: &[Migration]) -> rusqlite::Result<Option<String>> {
    let found = objects(connection)?;
    let mut first_rows = Vec::new();
    for (name, made) in made(applied) {
        match (found.get(&name), &made) {
            (Some(_), SchemaObject::Table) => {
                first_rows.push(format!("(SELECT 1 FROM {name} LIMIT 1)"))
            }
            (Some(sql), SchemaObject::Index(statement)) if is_made_by(sql, statement) => {}
            (Some(_), SchemaObject::Index(_)) => {
                return Ok(Some(format!(
                    "its index `{name}` is not as the program made it"
                )));
            }
            (None, SchemaObject::Table) => {
                return Ok(Some(format!("its table `{name}` is missing")));
            }
            (None, SchemaObject::Index(_)) => {
                return Ok(Some(format!("its index `{name}` is missing")));
            }
        }
    }
    if !first_rows.is_empty() {
        connection.query_row(&format!("SELECT {}", first_rows.join(", ")), [], |_| Ok(()))?;
    }
    Ok(None)
}

/// What a migration creates.
#[derive(Debug, PartialEq, Eq)]
enum SchemaObject {
    Table,
    /// An index, with the text of the migration from its statement on. Tables are not compared:
    /// their statement changes when columns are added.
    Index(String),
}

/// Returns what exists after some migrations, by name. Each statement begins a line. Creating them
/// in memory and reading the schema would take longer than everything else that opening a file
/// does.
fn made(applied: &[Migration]) -> BTreeMap<String, SchemaObject> {
    let mut all = BTreeMap::new();
    for migration in applied {
        let sql = migration.sql.replace('\r', "");
        let mut rest = sql.as_str();
        while !rest.is_empty() {
            let words: Vec<&str> = rest.split([' ', ';', '\n']).take(6).collect();
            match words[..] {
                ["CREATE", "TABLE", name, ..] => {
                    drop(all.insert(name.to_owned(), SchemaObject::Table))
                }
                ["CREATE", "INDEX", name, ..] | ["CREATE", "UNIQUE", "INDEX", name, ..] => {
                    all.insert(name.to_owned(), SchemaObject::Index(rest.to_owned()));
                }
                ["DROP", "TABLE" | "INDEX", name, ..] => drop(all.remove(name)),
                ["ALTER", "TABLE", name, "RENAME", "TO", renamed] => {
                    let made = all.remove(name);
                    all.extend(made.map(|made| (renamed.to_owned(), made)));
                }
                _ => {}
            }
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
        }
    }
    all
}

/// Returns `true` if a file's index was created by the statement with which a text begins.
fn is_made_by(sql: &str, statement: &str) -> bool {
    statement
        .strip_prefix(sql)
        .is_some_and(|rest| rest.starts_with(';'))
}

/// Returns the statements that created the tables and indexes of a file, except SQLite's own, by
/// name.
fn objects(connection: &Connection) -> rusqlite::Result<BTreeMap<String, String>> {
    // git may convert line endings
    let mut select = connection.prepare(
        "SELECT name, replace(sql, char(13), '') FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'",
    )?;
    let objects = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    objects.collect()
}

/// Migrates a file to the last migration.
pub(super) fn migrate(
    connection: &mut Connection,
    path: &Path,
    known: &[Migration],
    now: Timestamp,
) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| failure::classify(path, &error);
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed)?;
    let state = look(&transaction, path, known)?;
    let pending = &known[state.last() as usize..];
    if let Some(last) = pending.last() {
        apply(&transaction, state, pending, last.number, now).map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

fn apply(
    transaction: &Transaction<'_>,
    state: SchemaState,
    pending: &[Migration],
    last: u32,
    now: Timestamp,
) -> rusqlite::Result<()> {
    if state == SchemaState::New {
        transaction.execute_batch(
            "CREATE TABLE migrations (
  -- The steps by which this file got its tables.
  number INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  checksum BLOB NOT NULL, -- BLAKE3 of its SQL
  applied INTEGER NOT NULL
) STRICT;",
        )?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    let insert = "INSERT INTO migrations (number, name, checksum, applied) VALUES (?1, ?2, ?3, ?4)";
    for migration in pending {
        transaction.execute_batch(migration.sql)?;
        transaction.execute(
            insert,
            (migration.number, migration.name, migration.checksum(), now),
        )?;
    }
    transaction.pragma_update(None, "user_version", last)
}

fn look(
    connection: &Connection,
    path: &Path,
    known: &[Migration],
) -> Result<SchemaState, StoreError> {
    let (application, version, tables) =
        header(connection).map_err(|error| unreadable(path, &error))?;
    match application {
        APPLICATION_ID => {}
        0 if tables == 0 && version == 0 => return Ok(SchemaState::New),
        _ => {
            let found = "it is the SQLite database of another program".to_owned();
            return Err(StoreError::Foreign {
                place: place_of(path),
                found,
            });
        }
    }
    let last = known.last().map_or(0, |migration| migration.number);
    if version > i64::from(last) {
        return Err(StoreError::Newer {
            place: place_of(path),
            known: last,
            found: version,
        });
    }
    let damaged = |problem: String| StoreError::Damaged {
        place: place_of(path),
        problem,
    };
    let applied = applied(connection).map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::Unknown) => damaged(failure::text(&error)),
        _ => failure::classify(path, &error),
    })?;
    let expected = known
        .iter()
        .map(|migration| i64::from(migration.number))
        .take_while(|number| *number <= version);
    if version == 0 || !expected.eq(applied.iter().map(|(number, _)| *number)) {
        return Err(damaged(format!(
            "its header says schema {version}, its table `migrations` another"
        )));
    }
    match known
        .iter()
        .zip(&applied)
        .find(|(migration, (_, checksum))| migration.checksum() != checksum[..])
    {
        None => Ok(SchemaState::At(applied.len() as u32)),
        Some((Migration { number, name, .. }, _)) => Err(StoreError::Altered {
            place: place_of(path),
            number: *number,
            name,
        }),
    }
}

/// Returns the application id, the number of the schema and the number of tables and indexes.
fn header(connection: &Connection) -> rusqlite::Result<(i32, i64, i64)> {
    connection.query_row(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema) \
         FROM pragma_application_id, pragma_user_version",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )
}

/// Returns the numbers and checksums of the migrations that a file has.
fn applied(connection: &Connection) -> rusqlite::Result<Vec<(i64, Vec<u8>)>> {
    let mut select =
        connection.prepare("SELECT number, checksum FROM migrations ORDER BY number")?;
    select
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// Returns the error for a file whose first page cannot be read.
fn unreadable(path: &Path, error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => no_database(path),
        _ => failure::classify(path, error),
    }
}

/// Returns the error for a file that is not a database.
pub(super) fn no_database(path: &Path) -> StoreError {
    StoreError::Foreign {
        place: place_of(path),
        found: "it is not an SQLite database".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{RunKind, RunState, TaskState};
    use crate::store::sql::codes::{Code, Leaving, sql};

    /// Checks that a condition on a column holds for exactly the expected codes.
    fn check<T: Code + Copy + std::fmt::Debug>(
        column: &str,
        condition: &str,
        is_meant: impl Fn(T) -> bool,
    ) {
        let connection = Connection::open_in_memory().unwrap();
        let select = format!("SELECT {condition} FROM (SELECT ?1 AS {column})");
        for state in T::ALL {
            let holds: bool = connection
                .query_row(&select, [state.code()], |row| row.get(0))
                .unwrap();
            assert_eq!(holds, is_meant(*state), "{condition} for {state:?}");
        }
    }

    #[test]
    fn conditions_hold_for_the_states_that_they_name() {
        check("state", sql!(RUN_OPEN), |state: RunState| !state.is_final());
        check("state", sql!(RUN_FINAL), RunState::is_final);
        check("kind", sql!(RUN_HAS_TICK), RunKind::has_tick);
        check("leaving", sql!(RUN_NOT_LEFT), |leaving: Leaving| {
            leaving == Leaving::No
        });
        check("leaving", sql!(RUN_LEFT_WITH_BODIES), |leaving: Leaving| {
            leaving == Leaving::WithBodies
        });
        check("state", sql!(ATTEMPT_SUCCEEDED), |state: TaskState| {
            state == TaskState::Success
        });
    }

    #[test]
    fn partial_indexes_have_the_conditions_of_statements() {
        let indexes = MIGRATIONS
            .iter()
            .flat_map(|migration| migration.sql.lines())
            .filter(|line| line.starts_with("CREATE") && line.contains("INDEX"))
            .filter_map(|line| line.split_once(" WHERE "));
        let on_states: Vec<_> = indexes
            .filter(|(_, condition)| condition.contains("state") || condition.contains("kind"))
            .collect();
        assert_eq!(on_states.len(), 5, "{on_states:?}");
        for (index, condition) in on_states {
            let named = [sql!(RUN_OPEN), sql!(RUN_FINAL), sql!(RUN_HAS_TICK)];
            let first = condition.split(';').next().unwrap_or_default();
            let first = first.split(" AND ").next().unwrap_or_default();
            assert!(named.contains(&first), "{index} WHERE {condition}");
        }
    }

    #[test]
    fn objects_of_migrations_are_known_without_running_them() {
        let dropping = Migration {
            number: 0,
            name: "dropping",
            sql: "DROP INDEX runs_by_flow;\nDROP TABLE pauses;",
        };
        for applied in [MIGRATIONS.to_vec(), [MIGRATIONS, &[dropping]].concat()] {
            let connection = Connection::open_in_memory().unwrap();
            applied
                .iter()
                .for_each(|migration| connection.execute_batch(migration.sql).unwrap());
            let (found, made) = (objects(&connection).unwrap(), made(&applied));
            assert!(found.keys().eq(made.keys()), "{found:?} {made:?}");
            assert_eq!(lacking(&connection, &applied), Ok(None));
        }
    }
}
