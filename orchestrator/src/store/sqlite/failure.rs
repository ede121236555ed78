//! What SQLite's errors mean.

use std::path::Path;

use rusqlite::{Error, ErrorCode, ffi};

use crate::error::StoreError;

/// Says what an error of SQLite means for the store. Errors about locks do not come here, except where somebody has
/// kept the file locked for longer than anyone should.
pub(super) fn classify(path: &Path, error: &Error) -> StoreError {
    let path = path.to_owned();
    let problem = text(error);
    let Error::SqliteFailure(cause, _) = error else {
        return match error {
            // a column of another type than the schema's, or a text that is no UTF-8
            Error::FromSqlConversionFailure(..)
            | Error::InvalidColumnType(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::Utf8Error(..) => StoreError::Damaged { path, problem },
            _ => StoreError::Failed { path, problem },
        };
    };
    match (cause.code, cause.extended_code) {
        // the index of the log grows only in memory-mapped files, and fails only where there is no room
        (ErrorCode::DiskFull, _) | (_, ffi::SQLITE_IOERR_SHMSIZE) => StoreError::Full { path },
        (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _)
        | (
            _,
            ffi::SQLITE_IOERR_CORRUPTFS | ffi::SQLITE_IOERR_DATA | ffi::SQLITE_IOERR_SHORT_READ,
        ) => StoreError::Damaged { path, problem },
        (ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied, _) => {
            StoreError::ReadOnly { path, problem }
        }
        (ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _) => {
            let problem =
                "another program has kept it locked for too long: find it and close it".to_owned();
            StoreError::Failed { path, problem }
        }
        _ => StoreError::Failed { path, problem },
    }
}

/// Whether the file is in use, so that the same call may succeed later.
pub(super) fn is_busy(error: &Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// The first line of the error: texts of SQLite may quote whole statements.
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
    use std::path::PathBuf;

    use super::*;

    fn failure(code: i32) -> Error {
        Error::SqliteFailure(
            ffi::Error::new(code),
            Some("what SQLite says\nin two lines".to_owned()),
        )
    }

    #[test]
    fn each_error_of_sqlite_says_what_it_means() {
        let path = PathBuf::from("runs.db");
        let problem = || "what SQLite says".to_owned();
        let damaged = StoreError::Damaged {
            path: path.clone(),
            problem: problem(),
        };
        let read_only = StoreError::ReadOnly {
            path: path.clone(),
            problem: problem(),
        };
        let failed = StoreError::Failed {
            path: path.clone(),
            problem: problem(),
        };
        for (code, expected) in [
            (ffi::SQLITE_FULL, StoreError::Full { path: path.clone() }),
            (
                ffi::SQLITE_IOERR_SHMSIZE,
                StoreError::Full { path: path.clone() },
            ),
            (ffi::SQLITE_CORRUPT, damaged.clone()),
            (ffi::SQLITE_CORRUPT_INDEX, damaged.clone()),
            (ffi::SQLITE_NOTADB, damaged.clone()),
            (ffi::SQLITE_IOERR_CORRUPTFS, damaged.clone()),
            (ffi::SQLITE_IOERR_SHORT_READ, damaged),
            (ffi::SQLITE_READONLY, read_only.clone()),
            (ffi::SQLITE_READONLY_DIRECTORY, read_only.clone()),
            (ffi::SQLITE_CANTOPEN, read_only.clone()),
            (ffi::SQLITE_PERM, read_only),
            (ffi::SQLITE_IOERR_WRITE, failed.clone()),
            (ffi::SQLITE_IOERR_FSYNC, failed.clone()),
            (ffi::SQLITE_CONSTRAINT, failed),
        ] {
            assert_eq!(classify(&path, &failure(code)), expected, "{code}");
        }
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
                path: "runs.db".into()
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
