//! Which processes are alive.
//!
//! Each process that may own runs holds an exclusive lock on a file of its own, in a folder beside
//! the database, and has a row that names the file. The kernel releases the lock when the process
//! dies for whatever reason: dead processes are known at once, and no clock is involved.
//!
//! Why a living process is never taken for dead, and a dead one never for alive for long:
//! - The file is locked before the row exists, and files are looked up only through rows.
//! - A check takes a shared lock for a moment: two concurrent checks do not take each other for the
//!   owner.
//! - A number is never reused (AUTOINCREMENT), and neither is a name (16 random bytes, and the file
//!   must be new): a dead process stays dead.
//! - A child process does not inherit the lock: std opens files with CLOEXEC. A `fork` without
//!   `exec` would keep it.
//! - The folder is named after the database's real path: processes that open it through a link find
//!   the same locks.
//! - A clean stop deletes the file, and a missing file means dead. The row is deleted once no run
//!   and no flight refers to it.
//!
//! A process that dies between creating its file and its row leaves an empty file, which is never
//! looked up. Deleting the file or the row of a living process makes it seem dead, and other
//! processes take over its runs. From then on it writes nothing to these runs, and nothing at all
//! once its row is gone. It stops when it notices: it checks its row in each transaction that it
//! writes, and both row and file whenever it looks for abandoned runs and requests of others.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::connection::beside;
use super::failure::{self, Failure};
use super::location::Location;
use super::presence::Presence;
use crate::blob::private;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::store::sql::codes::sql;
use crate::store::sql::statements;

/// A process, as it is registered in the file.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) number: i64,
    /// The name of its lock file, which is unique.
    lock: Arc<str>,
    pub(super) presence: Presence,
}

impl Process {
    /// Returns `true` if the file has the row of this process, with its number and its lock.
    /// Otherwise its runs are given to other processes. The lock is compared, too, since the number
    /// of a row that was lost is reused.
    pub(super) fn is_on_record(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let mut select = connection.prepare_cached(statements::FIND_PROCESS)?;
        select.exists(params![self.number, self.lock])
    }

    /// Checks that this process is registered.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::ProcessLost`] if it is not.
    pub(super) fn check(&self, connection: &Connection) -> Result<(), Failure> {
        match self.is_on_record(connection)? {
            true => Ok(()),
            false => Err(self.lost().into()),
        }
    }

    pub(super) fn lost(&self) -> StoreError {
        StoreError::ProcessLost {
            process: self.number,
        }
    }
}

/// The registration of this process as an owner of runs, until it is dropped.
#[derive(Debug)]
pub(super) struct Owner {
    process: Process,
    /// The lock is held as long as this file is open.
    _lock: File,
    path: PathBuf,
}

impl Owner {
    /// Registers this process, and removes the dead processes that nothing refers to. `random` must
    /// be unique to this process. The database must exist.
    pub(super) fn register(
        connection: &Connection,
        location: &Location,
        random: [u8; 16],
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let failed = |error: rusqlite::Error| failure::classify(&location.path, &error);
        let name = format!("{:032x}", u128::from_be_bytes(random));
        // read before anything is written: a file that is refused must stay unchanged
        let dead = dead_owners(connection, location, 0)?;
        let folder = folder(location)?;
        // like the database: users that may read the one may check the locks in the other
        private::make_folder(&folder, private::folder_mode(Some(&location.path)))
            .map_err(|error| failure::of_system(&folder, &error))?;
        let path = folder.join(&name);
        let refused = |error: &io::Error| failure::of_system(&path, error);
        let lock = File::options()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|error| refused(&error))?;
        // created before the lock: if anything below fails, dropping it deletes the file
        let process = Process {
            number: 0,
            lock: name.into(),
            presence: Presence::of(location),
        };
        let mut owner = Self {
            process,
            _lock: lock,
            path: path.clone(),
        };
        owner._lock.try_lock().map_err(|error| match error {
            TryLockError::Error(error) => refused(&error),
            TryLockError::WouldBlock => refused(&io::Error::other("another process has locked it")),
        })?;
        let (number, locks) = enter(connection, &owner.process.lock, &dead, now).map_err(failed)?;
        owner.process.number = number;
        locks.iter().for_each(|lock| remove_lock(&folder, lock));
        Ok(owner)
    }

    /// Checks that other processes see this one as alive.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::ProcessLost`] if its row or its lock file is gone, and
    /// [`StoreError::FileLost`] if the store is no longer at its path.
    pub(super) fn check(&self, connection: &Connection) -> Result<(), Failure> {
        self.process.presence.check()?;
        match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(self.process.lost().into())
            }
            _ => self.process.check(connection),
        }
    }

    pub(super) fn process(&self) -> &Process {
        &self.process
    }

    /// Returns the number of this process.
    pub(super) fn number(&self) -> i64 {
        self.process.number
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // if this fails, the file stays and the lock is released all the same
        let _ = fs::remove_file(&self.path);
    }
}

/// Registers a process and removes dead ones, in one transaction. Returns the number of the new
/// process, and the locks of the removed ones.
///
/// Does not use `RETURNING`: a statement that returns rows commits when it is reset, and the error
/// of that commit is lost.
fn enter(
    connection: &Connection,
    lock: &str,
    dead: &[i64],
    now: Timestamp,
) -> rusqlite::Result<(i64, Vec<String>)> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let struck = dead
        .iter()
        .filter_map(|dead| strike(&transaction, *dead).transpose());
    let struck = struck.collect::<rusqlite::Result<Vec<_>>>()?;
    // above every number that is referred to: a row that was lost may have left its number behind,
    // and a new process must not own its runs
    transaction.execute(
        sql!(
            "INSERT INTO processes (process, lock, pid, started) SELECT 1 + max(\
             coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'processes'), 0), \
             coalesce((SELECT max(owner) FROM runs WHERE ",
            RUN_OPEN,
            " AND owner < 1 << 62), 0), \
             coalesce((SELECT max(owner) FROM flights WHERE owner < 1 << 62), 0)), ?1, ?2, ?3",
        ),
        params![lock, std::process::id(), now],
    )?;
    let number = transaction.last_insert_rowid();
    transaction.commit()?;
    Ok((number, struck))
}

/// Returns `true` if the process with this lock file is alive, or if the file cannot be checked: a
/// run with two owners would be worse than one that waits.
fn is_locked(path: &Path) -> bool {
    match File::open(path) {
        Ok(file) => file.try_lock_shared().is_err(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Returns the numbers of all dead processes, except `own`: registered processes that do not hold
/// their lock, and owners that are not registered, since such a process stops.
pub(super) fn dead_owners(
    connection: &Connection,
    location: &Location,
    own: i64,
) -> Result<Vec<i64>, StoreError> {
    let others = || {
        let mut select = connection.prepare_cached(
            // jumps from owner to owner in the index: a scan would visit each of very many runs
            sql!(
                "WITH RECURSIVE owners (owner) AS (SELECT min(owner) FROM runs WHERE ",
                RUN_OPEN,
                " AND owner > 0 UNION ALL SELECT (SELECT min(owner) FROM runs WHERE ",
                RUN_OPEN,
                " AND owner > owners.owner) FROM owners WHERE owner IS NOT NULL) \
                 SELECT process, lock FROM processes WHERE process <> ?1 UNION ALL \
                 SELECT owner, NULL \
                 FROM (SELECT owner FROM owners UNION SELECT owner FROM flights) \
                 WHERE owner IS NOT NULL AND owner <> ?1 \
                 AND owner NOT IN (SELECT process FROM processes)",
            ),
        )?;
        let others = select.query_map([own], |row| Ok((row.get(0)?, row.get(1)?)))?;
        others.collect::<Result<Vec<(i64, Option<String>)>, _>>()
    };
    let others = others().map_err(|error| failure::classify(&location.path, &error))?;
    if others.is_empty() {
        return Ok(Vec::new());
    }
    let folder = folder(location)?;
    let is_dead = |lock: Option<String>| lock.is_none_or(|lock| !is_locked(&folder.join(lock)));
    Ok(others
        .into_iter()
        .filter_map(|(number, lock)| is_dead(lock).then_some(number))
        .collect())
}

/// Deletes the row of a dead process, unless an unfinished run or a flight refers to it. Returns
/// its lock if it did: the caller [removes](remove_locks) the file after the commit.
pub(super) fn strike(transaction: &Connection, number: i64) -> rusqlite::Result<Option<String>> {
    let mut select = transaction.prepare_cached(statements::FIND_IDLE_PROCESS)?;
    let lock: Option<String> = select.query_row([number], |row| row.get(0)).optional()?;
    if lock.is_some() {
        transaction
            .prepare_cached(statements::DELETE_PROCESS)?
            .execute([number])?;
    }
    Ok(lock)
}

/// Removes the lock files of processes whose rows were deleted.
pub(super) fn remove_locks(location: &Location, locks: &[String]) -> Result<(), StoreError> {
    let folder = folder(location)?;
    locks.iter().for_each(|lock| remove_lock(&folder, lock));
    Ok(())
}

fn remove_lock(folder: &Path, lock: &str) {
    // it is already gone after a clean stop
    let _ = fs::remove_file(folder.join(lock));
}

/// Returns the folder of lock files, beside the database's real file.
fn folder(location: &Location) -> Result<PathBuf, StoreError> {
    let path = fs::canonicalize(&location.path)
        .map_err(|error| failure::of_system(&location.path, &error))?;
    Ok(beside(&path, "-owners"))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Child, Stdio};

    use tempfile::TempDir;

    use super::*;
    use crate::store::sqlite::location::Synchronous;
    use crate::store::sqlite::{child, connection};
    use crate::store::suite::time;

    fn location(folder: &Path) -> Location {
        Location {
            path: folder.join("runs.db"),
            synchronous: Synchronous::Normal,
        }
    }

    fn register(connection: &Connection, location: &Location, random: u8) -> Owner {
        Owner::register(connection, location, [random; 16], time(7)).unwrap()
    }

    fn lock_files(location: &Location) -> usize {
        fs::read_dir(folder(location).unwrap()).unwrap().count()
    }

    #[test]
    fn an_owner_is_alive_until_it_is_dropped() {
        let folder = TempDir::new().unwrap();
        let location = location(folder.path());
        let connection = connection::open(&location, time(0)).unwrap();
        let own = register(&connection, &location, 1);
        let other = register(&connection, &location, 2);
        let lock = "02".repeat(16);
        assert_eq!((own.number(), other.number()), (1, 2));
        assert!(is_locked(&super::folder(&location).unwrap().join(&lock)));
        assert_eq!(
            dead_owners(&connection, &location, own.number()),
            Ok(vec![])
        );
        drop(other);
        assert!(!is_locked(&super::folder(&location).unwrap().join(&lock)));
        assert_eq!(
            dead_owners(&connection, &location, own.number()),
            Ok(vec![2])
        );
        assert_eq!(lock_files(&location), 1);
    }

    #[test]
    fn reader_is_not_taken_for_the_owner() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("left");
        let looking = File::create(&path).unwrap();
        looking.lock_shared().unwrap();
        assert!(!is_locked(&path));
    }

    #[test]
    fn a_forgotten_owner_leaves_nothing_and_its_number_is_not_given_again() {
        let folder = TempDir::new().unwrap();
        let location = location(folder.path());
        let connection = connection::open(&location, time(0)).unwrap();
        let number = register(&connection, &location, 1).number();
        assert!(strike(&connection, number).unwrap().is_some());
        assert_eq!(
            connection.query_row("SELECT count(*) FROM processes", [], |row| row.get(0)),
            Ok(0)
        );
        assert_eq!(lock_files(&location), 0);
        assert_eq!(register(&connection, &location, 2).number(), 2);
    }

    #[test]
    fn a_dead_owner_is_remembered_as_long_as_something_names_it() {
        let folder = TempDir::new().unwrap();
        let location = location(folder.path());
        let connection = connection::open(&location, time(0)).unwrap();
        let run = |state: i64| {
            let number = register(&connection, &location, state as u8).number();
            let insert = "INSERT INTO runs VALUES (NULL, randomblob(16), 'etl', 0, NULL, 0, 0, 0, '{}', 0, 0, ?1, 0, 0, \
                          NULL, NULL, ?2, 0, 0, 0, 0, 0, '')";
            connection.execute(insert, (state, number)).unwrap();
            number
        };
        let (pending, running) = (run(0), run(1));
        let flying = register(&connection, &location, 3).number();
        connection
            .execute("INSERT INTO flights VALUES (x'01', ?1)", [flying])
            .unwrap();
        let done = run(2);
        let all = [pending, running, flying, done];
        assert_eq!(dead_owners(&connection, &location, 0), Ok(all.to_vec()));
        let forgotten = all.map(|number| strike(&connection, number).unwrap().is_some());
        assert_eq!(forgotten, [false, false, false, true]);
        connection.execute("UPDATE runs SET state = 4", []).unwrap();
        connection.execute("DELETE FROM flights", []).unwrap();
        let forgotten = all.map(|number| strike(&connection, number).unwrap().is_some());
        assert_eq!(forgotten, [true, true, true, false]);
    }

    #[test]
    fn a_process_whose_commit_fails_is_not_registered() {
        let folder = TempDir::new().unwrap();
        let location = location(folder.path());
        let connection = &mut connection::open(&location, time(0)).unwrap();
        let _ = connection.commit_hook(Some(|| true));
        let refused =
            Owner::register(connection, &location, [1; 16], time(7)).map(|owner| owner.number());
        assert!(refused.is_err(), "{refused:?}");
        assert_eq!(lock_files(&location), 0);
        let _ = connection.commit_hook(None::<fn() -> bool>);
        assert_eq!(register(connection, &location, 2).number(), 1);
    }

    #[test]
    fn a_number_that_is_named_anywhere_is_not_given_again() {
        let folder = TempDir::new().unwrap();
        let location = location(folder.path());
        let connection = connection::open(&location, time(0)).unwrap();
        // as if the row of a process had been lost
        let insert = "INSERT INTO runs VALUES (NULL, randomblob(16), 'etl', 0, NULL, 0, 0, 0, '{}', 0, 0, 1, 0, 0, \
                      NULL, NULL, ?1, 0, 0, 0, 0, 0, '')";
        connection.execute(insert, [4]).unwrap();
        connection.execute(insert, [i64::MAX]).unwrap();
        connection
            .execute("INSERT INTO flights VALUES (x'01', 6)", [])
            .unwrap();
        let owner = register(&connection, &location, 1);
        assert_eq!(owner.number(), 7);
        assert_eq!(
            dead_owners(&connection, &location, owner.number()),
            Ok(vec![4, 6, i64::MAX])
        );
        assert!(owner.process().is_on_record(&connection).unwrap());
        connection
            .execute("UPDATE processes SET lock = 'another'", [])
            .unwrap();
        assert!(!owner.process().is_on_record(&connection).unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_the_database_leads_to_the_same_locks() {
        let folder = TempDir::new().unwrap();
        let real = location(folder.path());
        let connection = connection::open(&real, time(0)).unwrap();
        let _owner = register(&connection, &real, 1);
        let link = Location {
            path: folder.path().join("link.db"),
            ..real
        };
        std::os::unix::fs::symlink("runs.db", &link.path).unwrap();
        let connection = connection::open(&link, time(0)).unwrap();
        assert_eq!(dead_owners(&connection, &link, 0), Ok(vec![]));
    }

    /// Starts another process that registers as an owner and lives until it is killed.
    fn other(test: &str, folder: &Path) -> Child {
        let test = format!("store::sqlite::owner::tests::{test}");
        let mut child = child::again(&test, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        assert!(
            lines.any(|line| line.unwrap().contains("registered")),
            "the other process ended"
        );
        child
    }

    fn live_as_the_other(folder: &Path) {
        let location = location(folder);
        let connection = connection::open(&location, time(0)).unwrap();
        let _owner = register(&connection, &location, 9);
        println!("registered");
        let _ = io::stdin().read(&mut [0]);
    }

    #[test]
    fn a_killed_process_is_dead_at_once() {
        if let Some(folder) = child::folder() {
            return live_as_the_other(&folder);
        }
        let folder = TempDir::new().unwrap();
        let location = location(folder.path());
        let connection = connection::open(&location, time(0)).unwrap();
        let own = register(&connection, &location, 1).number();
        let mut other = other("a_killed_process_is_dead_at_once", folder.path());
        assert_eq!(dead_owners(&connection, &location, own), Ok(vec![]));
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(dead_owners(&connection, &location, own), Ok(vec![own + 1]));
        let lock = strike(&connection, own + 1).unwrap();
        remove_locks(&location, &[lock.unwrap()]).unwrap();
        assert_eq!(lock_files(&location), 0);
    }

    #[cfg(unix)]
    #[test]
    fn a_child_of_a_dead_process_does_not_keep_it_alive() {
        if let Some(folder) = child::folder() {
            let location = location(&folder);
            let connection = connection::open(&location, time(0)).unwrap();
            let _owner = register(&connection, &location, 9);
            // inherits this process's standard input and outlives it
            let mut child = std::process::Command::new("cat")
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            println!("registered");
            child.wait().unwrap();
            return;
        }
        let folder = TempDir::new().unwrap();
        let location = location(folder.path());
        let connection = connection::open(&location, time(0)).unwrap();
        let mut other = other(
            "a_child_of_a_dead_process_does_not_keep_it_alive",
            folder.path(),
        );
        let input = other.stdin.take();
        assert_eq!(dead_owners(&connection, &location, 0), Ok(vec![]));
        other.kill().unwrap();
        other.wait().unwrap();
        // a child releases the lock a moment after its parent is notified of its start
        let began = std::time::Instant::now();
        while dead_owners(&connection, &location, 0) == Ok(vec![]) && began.elapsed().as_secs() < 10
        {
            std::thread::yield_now();
        }
        assert_eq!(dead_owners(&connection, &location, 0), Ok(vec![1]));
        drop(input);
    }
}
