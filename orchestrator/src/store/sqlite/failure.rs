//! The meaning of SQLite's errors for the store.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rusqlite::{Error, ErrorCode, ffi};

use super::connection::beside;
use super::location::place_of;
use crate::error::StoreError;
use crate::id::RunId;
use crate::store::sql::rows::Unreadable;

/// The reason why something could not be read.
pub(super) enum Failure {
    Sql(Error),
    Row(Unreadable),
    Store(StoreError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Unreadable> for Failure {
    fn from(problem: Unreadable) -> Self {
        Self::Row(problem)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Failure {
    /// Returns `true` if only one run is affected and others can be read.
    pub(super) fn is_of_one_run(&self) -> bool {
        match self {
            Self::Row(_) => true,
            Self::Sql(error) => is_damage(error),
            Self::Store(_) => false,
        }
    }

    /// Turns the failure into that of an unreadable run, unless the whole file is damaged.
    pub(super) fn of_run(self, run: RunId) -> Self {
        match self {
            Self::Sql(Error::SqliteFailure(..)) => self,
            _ if self.is_of_one_run() => Self::Store(StoreError::UnreadableRun {
                run,
                problem: self.text(),
            }),
            _ => self,
        }
    }

    /// Returns the problem, without the file's path.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Sql(error) => text(error),
            Self::Row(problem) | Self::Store(StoreError::UnreadableRun { problem, .. }) => {
                problem.clone()
            }
            Self::Store(error) => error.to_string(),
        }
    }

    pub(super) fn at(self, path: &Path) -> StoreError {
        match self {
            Self::Sql(error) => classify(path, &error),
            Self::Row(problem) => StoreError::Damaged {
                place: place_of(path),
                problem,
            },
            Self::Store(error) => error,
        }
    }
}

/// Converts an error of SQLite into an error of the store. Errors about locks are handled before,
/// except if another process keeps the file locked for too long.
pub(super) fn classify(path: &Path, error: &Error) -> StoreError {
    let (place, problem) = (place_of(path), text(error));
    let Error::SqliteFailure(cause, _) = error else {
        return match is_damage(error) {
            true => StoreError::Damaged { place, problem },
            false => StoreError::Failed { place, problem },
        };
    };
    match (cause.code, cause.extended_code) {
        (ErrorCode::DiskFull, _) => StoreError::Full { place },
        (_, extended @ (ffi::SQLITE_IOERR_SHMSIZE | ffi::SQLITE_IOERR_SHMOPEN)) => {
            no_index(path, extended)
        }
        // a failed read does not mean damaged data; SQLite uses this code for EIO
        (_, ffi::SQLITE_IOERR_CORRUPTFS) => StoreError::Io {
            place,
            problem: "reading fails".to_owned(),
        },
        (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _)
        | (_, ffi::SQLITE_IOERR_DATA | ffi::SQLITE_IOERR_SHORT_READ) => {
            StoreError::Damaged { place, problem }
        }
        (ErrorCode::SystemIoFailure, extended) => StoreError::Io {
            place,
            problem: operation(extended).to_owned(),
        },
        // SQLite silently opens a file for reading if it cannot open it for writing
        (ErrorCode::CannotOpen, _) | (_, ffi::SQLITE_READONLY) => {
            unopened_beside(path).unwrap_or(StoreError::ReadOnly { place, problem })
        }
        (ErrorCode::ReadOnly | ErrorCode::PermissionDenied, _) => {
            StoreError::ReadOnly { place, problem }
        }
        (ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _) => {
            let problem =
                "another program has kept it locked for too long: find it and close it".to_owned();
            StoreError::Failed { place, problem }
        }
        _ => StoreError::Failed { place, problem },
    }
}

/// Returns the operation that the system failed to do.
fn operation(extended: i32) -> &'static str {
    match extended {
        ffi::SQLITE_IOERR_READ => "reading fails",
        ffi::SQLITE_IOERR_WRITE => "writing fails",
        ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC => {
            "writing through to the disk fails"
        }
        ffi::SQLITE_IOERR_TRUNCATE => "cutting it off fails",
        ffi::SQLITE_IOERR_DELETE | ffi::SQLITE_IOERR_DELETE_NOENT => "deleting its log fails",
        ffi::SQLITE_IOERR_FSTAT | ffi::SQLITE_IOERR_ACCESS => "looking at it fails",
        ffi::SQLITE_IOERR_LOCK
        | ffi::SQLITE_IOERR_RDLOCK
        | ffi::SQLITE_IOERR_UNLOCK
        | ffi::SQLITE_IOERR_SHMLOCK => "locking it fails",
        ffi::SQLITE_IOERR_SHMSIZE => "making the index of its log longer fails",
        ffi::SQLITE_IOERR_SHMOPEN | ffi::SQLITE_IOERR_SHMMAP => {
            "opening the index of its log fails"
        }
        _ => "an operation fails",
    }
}

/// Returns the error for an index of the log that could not be created or extended. SQLite does not
/// report the reason: a probe file of the same size is created to learn it.
fn no_index(path: &Path, extended: i32) -> StoreError {
    let probe = beside(path, "-probe");
    let written = fs::write(&probe, [0; 1 << 15]);
    let _ = fs::remove_file(&probe);
    match written.map_err(|error| of_system(path, &error)) {
        // the probe succeeded: the disk was full only for a moment, or the system refused the index
        // for another reason
        Ok(()) => StoreError::Io {
            place: place_of(path),
            problem: operation(extended).to_owned(),
        },
        Err(error) => error,
    }
}

/// Converts an error of the system into an error of the store.
pub(super) fn of_system(path: &Path, error: &io::Error) -> StoreError {
    let (place, problem) = (place_of(path), error.to_string());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { place },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StoreError::ReadOnly { place, problem }
        }
        io::ErrorKind::Unsupported => {
            let problem =
                "expected a file system with locks: put the store on a local disk".to_owned();
            StoreError::Failed { place, problem }
        }
        // errors of the disk have no `ErrorKind`
        _ if is_disk(error) => StoreError::Io { place, problem },
        _ => StoreError::Failed { place, problem },
    }
}

/// Returns `true` if the system's error means that the disk failed: EIO, ENXIO if the device is
/// gone, ESTALE on a network.
fn is_disk(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    const ENXIO: i32 = 6;
    let of_unix = cfg!(unix) && matches!(error.raw_os_error(), Some(EIO | ENXIO));
    of_unix || error.kind() == io::ErrorKind::StaleNetworkFileHandle
}

/// Returns why the file could not be opened for writing, which SQLite does not report. `said` is
/// the error that SQLite reported.
pub(super) fn unopened(path: &Path, said: StoreError) -> StoreError {
    match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => said,
        Err(error) => of_system(path, &error),
        Ok(()) => StoreError::Io {
            place: place_of(path),
            problem: "opening it failed".to_owned(),
        },
    }
}

/// Returns why SQLite could not open a file beside the store's own, if the reason can be found.
fn unopened_beside(path: &Path) -> Option<StoreError> {
    for ending in ["-wal", "-shm"] {
        match open(&beside(path, ending)) {
            Ok(()) => {}
            // the file cannot be created: the folder is the reason
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return Some(of_system(path, &error)),
        }
    }
    Some(StoreError::Io {
        place: place_of(path),
        problem: "opening its log failed".to_owned(),
    })
}

/// Tries to open a file for writing. The handle stays open, one per file: closing it would drop the
/// locks that the connections of this process have on the file.
fn open(path: &Path) -> io::Result<()> {
    static OPEN: Mutex<BTreeMap<PathBuf, fs::File>> = Mutex::new(BTreeMap::new());
    let mut open = OPEN.lock();
    if !open.contains_key(path) {
        open.insert(path.to_owned(), fs::File::options().write(true).open(path)?);
    }
    Ok(())
}

/// Returns `true` if the data that was read is not what was written.
pub(super) fn is_damage(error: &Error) -> bool {
    match error {
        // a column of another type than the schema's, or a text that is not UTF-8
        Error::FromSqlConversionFailure(..)
        | Error::InvalidColumnType(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::Utf8Error(..) => true,
        Error::SqliteFailure(cause, _) => cause.code == ErrorCode::DatabaseCorrupt,
        _ => false,
    }
}

/// Returns `true` if the file is in use, so that the same call may succeed later.
pub(super) fn is_busy(error: &Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// Returns the first line of the error: SQLite's texts may quote whole statements.
pub(super) fn text(error: &Error) -> String {
    error
        .to_string()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: i32) -> Error {
        Error::SqliteFailure(
            ffi::Error::new(code),
            Some("what SQLite says\nin two lines".to_owned()),
        )
    }

    #[test]
    fn each_error_of_sqlite_says_what_it_means() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("runs.db");
        let io = |problem: &str| StoreError::Io {
            place: place_of(&path),
            problem: problem.to_owned(),
        };
        let problem = || "what SQLite says".to_owned();
        let damaged = StoreError::Damaged {
            place: place_of(&path),
            problem: problem(),
        };
        let read_only = StoreError::ReadOnly {
            place: place_of(&path),
            problem: problem(),
        };
        let failed = StoreError::Failed {
            place: place_of(&path),
            problem: problem(),
        };
        for (code, expected) in [
            (
                ffi::SQLITE_FULL,
                StoreError::Full {
                    place: place_of(&path),
                },
            ),
            (ffi::SQLITE_CORRUPT, damaged.clone()),
            (ffi::SQLITE_CORRUPT_INDEX, damaged.clone()),
            (ffi::SQLITE_NOTADB, damaged.clone()),
            (ffi::SQLITE_IOERR_DATA, damaged.clone()),
            (ffi::SQLITE_IOERR_SHORT_READ, damaged),
            (ffi::SQLITE_IOERR_CORRUPTFS, io("reading fails")),
            (ffi::SQLITE_IOERR_READ, io("reading fails")),
            (ffi::SQLITE_IOERR_WRITE, io("writing fails")),
            (
                ffi::SQLITE_IOERR_FSYNC,
                io("writing through to the disk fails"),
            ),
            (
                ffi::SQLITE_IOERR_SHMSIZE,
                io("making the index of its log longer fails"),
            ),
            (ffi::SQLITE_IOERR_MMAP, io("an operation fails")),
            (ffi::SQLITE_READONLY, read_only.clone()),
            (ffi::SQLITE_READONLY_DIRECTORY, read_only.clone()),
            (ffi::SQLITE_CANTOPEN, read_only.clone()),
            (ffi::SQLITE_PERM, read_only),
            (ffi::SQLITE_CONSTRAINT, failed),
        ] {
            assert_eq!(classify(&path, &failure(code)), expected, "{code}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn system_errors_are_named_by_kind() {
        let path = Path::new("runs.db");
        let of = |code: i32| of_system(path, &io::Error::from_raw_os_error(code));
        for (kind, codes) in [
            ("disk", &[5, 6][..]),
            ("cannot be written", &[13, 30]),
            ("no space", &[28]),
        ] {
            for code in codes {
                assert!(
                    of(*code).to_string().contains(kind),
                    "{code}: {}",
                    of(*code)
                );
            }
        }
        assert!(matches!(of(24), StoreError::Failed { .. }), "{}", of(24));
    }

    #[test]
    fn a_file_in_use_is_busy_and_nothing_else_is() {
        for code in [
            ffi::SQLITE_BUSY,
            ffi::SQLITE_BUSY_SNAPSHOT,
            ffi::SQLITE_BUSY_RECOVERY,
            ffi::SQLITE_LOCKED,
        ] {
            assert!(is_busy(&failure(code)), "{code}");
        }
        assert!(!is_busy(&failure(ffi::SQLITE_FULL)));
        assert!(!is_busy(&Error::QueryReturnedNoRows));
    }

    #[test]
    fn a_file_that_cannot_grow_is_full() {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        let grow = "CREATE TABLE a (b); PRAGMA max_page_count = 2; INSERT INTO a VALUES (zeroblob(10000));";
        let error = connection.execute_batch(grow).unwrap_err();
        assert_eq!(
            classify(Path::new("runs.db"), &error),
            StoreError::Full {
                place: "runs.db".to_owned()
            }
        );
    }

    #[test]
    fn a_value_of_another_type_is_damage() {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        let error = connection
            .query_row("SELECT 'text'", [], |row| row.get::<_, i64>(0))
            .unwrap_err();
        assert!(
            matches!(
                classify(Path::new("runs.db"), &error),
                StoreError::Damaged { .. }
            ),
            "{error}"
        );
    }
}
