//! A SQLite file that the tasks of a process share.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, fs};

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// How long a statement waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// One connection to a SQLite file. A clone is the same connection, for `spawn_blocking`.
#[derive(Clone)]
pub struct Database {
    connection: Arc<Mutex<Connection>>,
    path: PathBuf,
}

/// A database that could not be opened or made.
#[derive(Debug, thiserror::Error)]
#[error("cannot open `{}`: expected a SQLite file, or a folder to make it in; if the file is damaged, remove it and it is made again", path.display())]
pub struct DatabaseError {
    path: PathBuf,
    source: Box<dyn Error + Send + Sync>,
}

impl Database {
    /// Opens the file, or makes it. `prepare` creates and fills the tables that are missing; it is
    /// one transaction, so that of two processes which start at once one does it and the other
    /// finds it done, and a process killed in the middle leaves nothing behind.
    ///
    /// # Errors
    /// If the file cannot be opened, is no SQLite file, or `prepare` fails.
    pub fn open(
        path: PathBuf,
        prepare: impl FnOnce(&Transaction<'_>) -> Result<(), Box<dyn Error + Send + Sync>>,
    ) -> Result<Self, DatabaseError> {
        match connect(&path, prepare) {
            Ok(connection) => Ok(Self {
                connection: Arc::new(Mutex::new(connection)),
                path,
            }),
            Err(source) => Err(DatabaseError { path, source }),
        }
    }

    /// The connection, once it is this caller's turn.
    ///
    /// A body that panicked with the connection in hand has left no open transaction (dropping one
    /// rolls it back), so the next caller may go on.
    pub fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Database").field(&self.path).finish()
    }
}

fn connect(
    path: &Path,
    prepare: impl FnOnce(&Transaction<'_>) -> Result<(), Box<dyn Error + Send + Sync>>,
) -> Result<Connection, Box<dyn Error + Send + Sync>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    prepare(&transaction)?;
    transaction.commit()?;
    Ok(connection)
}
