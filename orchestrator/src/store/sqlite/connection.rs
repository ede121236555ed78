//! Opening the file.
//!
//! A file is inspected before anything is written to it: a file that is refused stays unchanged. It
//! is read through SQLite and never through `std::fs`: closing any handle of a file drops all locks
//! that this process holds on it, including those of its other connections.

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::creation;
use super::failure;
use super::location::{Location, Synchronous, place_of};
use super::schema::{self, MIGRATIONS, Migration, SchemaState};
use crate::clock::Timestamp;
use crate::error::StoreError;

/// The time that a call waits for other processes. Their commits take milliseconds, their
/// checkpoints longer: seconds on a slow disk.
const PATIENCE: Duration = Duration::from_secs(10);

const MIGRATING: Duration = Duration::from_secs(300);

/// The number of attempts to switch to the write-ahead log. Each failure waits until the other
/// process is done, so that a second one means a third process.
const TRIES: usize = 32;

/// The settings of each connection: 16 MiB of cached pages, and damage reported when a page is read
/// rather than when it is used.
const SETTINGS: &str = "PRAGMA cache_size = -16384; PRAGMA cell_size_check = ON;";

/// Keeps temporary data in memory. Set only once the schema is current: the temporary data of a
/// migration may be as large as a table.
const IN_MEMORY: &str = "PRAGMA temp_store = MEMORY;";

/// Opens the file for writing, creating or migrating it. There are no automatic checkpoints: they
/// are up to the caller.
pub(super) fn open(location: &Location, now: Timestamp) -> Result<Connection, StoreError> {
    open_with(location, now, MIGRATIONS)
}

fn open_with(
    location: &Location,
    now: Timestamp,
    known: &[Migration],
) -> Result<Connection, StoreError> {
    let path = location.path.as_path();
    make_folder(path)?;
    let failed = |error: rusqlite::Error| failure::classify(path, &error);
    creation::prepare(path)?;
    // a refused file must stay unchanged, and its log is part of it: closing the connection must
    // not copy the log into it (the log is beside the real file if the path is a link)
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let logged = fs::metadata(beside(&real, "-wal")).is_ok_and(|log| log.len() > 0);
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_CREATE)?;
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, logged)
        .map_err(failed)?;
    let state = schema::inspect(&connection, path, known)?;
    if connection.is_readonly("main").map_err(failed)? {
        let said = StoreError::ReadOnly {
            place: place_of(path),
            problem: "it is read-only".to_owned(),
        };
        return Err(failure::unopened(path, said));
    }
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
        .map_err(failed)?;
    connection.execute_batch(SETTINGS).map_err(failed)?;
    write_ahead(&connection, location, state)?;
    if state != SchemaState::At(known.len() as u32) {
        // another process may be migrating, which takes some seconds per gigabyte
        connection.busy_timeout(MIGRATING).map_err(failed)?;
        schema::migrate(&mut connection, path, known, now)?;
        connection.busy_timeout(PATIENCE).map_err(failed)?;
    }
    connection.execute_batch(IN_MEMORY).map_err(failed)?;
    Ok(connection)
}

/// The length in bytes of a write-ahead log that is copied at the start of a process: the length at
/// which a running process copies it.
const LONG_LOG: u64 = 2_000 * 4_096;

/// Opens a connection that only reads. The file exists: it was opened for writing before.
pub(super) fn reader(location: &Location) -> Result<Connection, StoreError> {
    let path = location.path.as_path();
    let connection = connect(path, OpenFlags::empty()).map_err(|error| match path.exists() {
        true => error,
        false => StoreError::FileLost {
            place: place_of(path),
            found: "it is not there any more",
        },
    })?;
    let set = connection
        .execute_batch(SETTINGS)
        .and_then(|()| connection.execute_batch(IN_MEMORY));
    let set = set.and_then(|()| connection.execute_batch("PRAGMA query_only = ON;"));
    set.map_err(|error| failure::classify(path, &error))
        .map(|()| connection)
}

/// Prepares a connection to be closed without copying and deleting the write-ahead log. SQLite
/// would delete the log by its name, and if the store's file was replaced, that may be the log of
/// another store.
pub(super) fn forsake(connection: &Connection) {
    if let Err(error) = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true) {
        tracing::debug!("closing without a checkpoint failed: {error}");
    }
}

/// Copies the write-ahead log into the file if it is long. A process that dies early never does,
/// and each start reads the whole log: in a crash loop, starts would become slower and slower.
pub(super) fn copy_long_log(connection: &Connection, path: &Path) {
    let length = fs::metadata(beside(path, "-wal")).map_or(0, |log| log.len());
    if length > LONG_LOG
        && let Err(error) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    {
        tracing::debug!("checkpoint at start failed: {error}");
    }
}

/// Opens the file without reading it.
fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let flags = flags | OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(PATIENCE)?;
        Ok(connection)
    };
    open().map_err(|error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen) => failure::unopened(path, failure::classify(path, &error)),
        _ => failure::classify(path, &error),
    })
}

/// Switches the file to the write-ahead log, if it is not in that mode yet.
fn write_ahead(
    connection: &Connection,
    location: &Location,
    state: SchemaState,
) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| failure::classify(&location.path, &error);
    // before the switch: the default is `full`, and the switch itself is a commit
    let synchronous = match location.synchronous {
        Synchronous::Normal => "PRAGMA synchronous = NORMAL;",
        Synchronous::Full => "PRAGMA synchronous = FULL;",
    };
    connection.execute_batch(synchronous).map_err(failed)?;
    if state == SchemaState::New {
        // the file is empty: there is nothing that a rollback journal on disk could restore, so its
        // fsyncs are saved
        match connection.execute_batch("PRAGMA journal_mode = MEMORY;") {
            // another process has already switched
            Err(error) if failure::is_busy(&error) => {}
            done => done.map_err(failed)?,
        }
    }
    let mut tries = 1;
    let mode = loop {
        match connection
            .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0))
        {
            // SQLite does not use the busy time-out here, since it reads before it writes: wait for
            // the same lock by a transaction
            Err(error) if failure::is_busy(&error) && tries < TRIES => {
                tries += 1;
                connection
                    .execute_batch("BEGIN EXCLUSIVE; ROLLBACK;")
                    .map_err(failed)?;
            }
            mode => break mode.map_err(failed)?,
        }
    };
    if mode != "wal" {
        let problem = "expected a file system with shared memory, as SQLite's write-ahead log needs it: \
                       put the store on a local disk";
        return Err(StoreError::Failed {
            place: place_of(&location.path),
            problem: problem.to_owned(),
        });
    }
    connection
        .execute_batch("PRAGMA wal_autocheckpoint = 0;")
        .map_err(failed)
}

/// Creates the folder of the file.
fn make_folder(path: &Path) -> Result<(), StoreError> {
    let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) else {
        return Ok(());
    };
    fs::create_dir_all(folder).map_err(|error| {
        // if a file is in the way, the system only says that it exists
        let in_the_way = folder
            .ancestors()
            .find(|ancestor| ancestor.exists())
            .filter(|found| !found.is_dir());
        let problem = match in_the_way {
            Some(file) => format!(" and cannot be made: `{}` is not a folder", file.display()),
            None => format!(" and cannot be made: {error}"),
        };
        StoreError::Folder {
            folder: place_of(folder),
            problem,
        }
    })
}

/// Returns the path of the file beside another, with this ending appended to its name.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
