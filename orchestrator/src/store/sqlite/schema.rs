//! What is in the file: numbered migrations, and whether a file is ours.
//!
//! A migration that was released is never edited; a change is a new number. All that a file lacks is applied in one
//! transaction, under the write lock and after looking again: of two processes that open a new file, one makes the
//! schema and the other finds it.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use super::failure;
use crate::error::StoreError;

/// Stands in the file's header, so that the file is known for a store: `orch`.
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"orch");

/// One step of the schema.
#[derive(Debug, Clone, Copy)]
pub(super) struct Migration {
    pub(super) number: u32,
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
}

/// All steps, by number, from 1 without a gap.
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
];

impl Migration {
    fn checksum(&self) -> [u8; 32] {
        // git may write the ends of lines as it likes
        *blake3::hash(self.sql.replace('\r', "").as_bytes()).as_bytes()
    }
}

/// Which migrations a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// None, nor anything else.
    New,
    /// Those up to this number, and they are the ones that are known.
    At(u32),
}

impl State {
    fn last(self) -> u32 {
        match self {
            Self::New => 0,
            Self::At(number) => number,
        }
    }
}

/// Looks at a file without writing to it, and refuses what is no store of this version.
pub(super) fn inspect(
    connection: &Connection,
    path: &Path,
    known: &[Migration],
) -> Result<State, StoreError> {
    // one read transaction: another process may be making the schema
    let transaction = connection
        .unchecked_transaction()
        .map_err(|error| unreadable(path, &error))?;
    let state = look(&transaction, path, known)?;
    transaction
        .finish()
        .map_err(|error| failure::classify(path, &error))?;
    Ok(state)
}

/// Brings a file to the last migration. `now` is in microseconds since 1970.
pub(super) fn migrate(
    connection: &mut Connection,
    path: &Path,
    known: &[Migration],
    now: i64,
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
    state: State,
    pending: &[Migration],
    last: u32,
    now: i64,
) -> rusqlite::Result<()> {
    if state == State::New {
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

fn look(connection: &Connection, path: &Path, known: &[Migration]) -> Result<State, StoreError> {
    let (application, version, tables) =
        header(connection).map_err(|error| unreadable(path, &error))?;
    match application {
        APPLICATION_ID => {}
        0 if tables == 0 && version == 0 => return Ok(State::New),
        _ => {
            let found = "it is the SQLite database of another program".to_owned();
            return Err(StoreError::Foreign {
                path: path.to_owned(),
                found,
            });
        }
    }
    let last = known.last().map_or(0, |migration| migration.number);
    if version > i64::from(last) {
        return Err(StoreError::Newer {
            path: path.to_owned(),
            known: last,
            found: version,
        });
    }
    let damaged = |problem: String| StoreError::Damaged {
        path: path.to_owned(),
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
        None => Ok(State::At(applied.len() as u32)),
        Some((Migration { number, name, .. }, _)) => Err(StoreError::Altered {
            path: path.to_owned(),
            number: *number,
            name,
        }),
    }
}

/// Whose file it is, the number of the schema, how many things are in it.
fn header(connection: &Connection) -> rusqlite::Result<(i32, i64, i64)> {
    connection.query_row(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema) \
         FROM pragma_application_id, pragma_user_version",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )
}

/// The numbers and checksums of the migrations that a file has.
fn applied(connection: &Connection) -> rusqlite::Result<Vec<(i64, Vec<u8>)>> {
    let mut select =
        connection.prepare("SELECT number, checksum FROM migrations ORDER BY number")?;
    select
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// What it means that the file's first page cannot be read.
fn unreadable(path: &Path, error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => no_database(path),
        _ => failure::classify(path, error),
    }
}

/// Refuses a file that is of another kind.
pub(super) fn no_database(path: &Path) -> StoreError {
    StoreError::Foreign {
        path: path.to_owned(),
        found: "it is no SQLite database".to_owned(),
    }
}
