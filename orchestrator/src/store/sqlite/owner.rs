//! Which processes are alive.
//!
//! Each process that may own runs holds an exclusive lock on a file of its own, in a folder beside the database, and
//! has a row that names the file. The kernel gives the lock back when the process dies, whatever it dies of, so that
//! the dead are known at once and no clock is asked.
//!
//! Why nobody is taken for dead who lives, nor the other way round for long:
//! - the file is locked before the row exists, and files are looked at only by way of rows;
//! - who looks takes a shared lock for a moment: two who look at once do not take each other for the owner;
//! - a number is never given twice (AUTOINCREMENT), nor is a name (16 random bytes, and the file must be new): who is
//!   dead stays dead;
//! - a child process does not keep its parent's lock: std opens files with CLOEXEC. A `fork` without `exec` would;
//! - the folder is named by the database's real path: who opens it by a link finds the same locks;
//! - a clean stop deletes the file, and no file means dead. A row goes when no run and no flight names it any more.
//!
//! A process that dies between the making of its file and of its row leaves an empty file that nobody looks at.
//! Whoever deletes the file of a living process makes it seem dead: its runs are taken over, and what it writes to them
//! from then on is refused.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};

use super::connection::beside;
use super::failure;
use super::location::Location;
use crate::error::StoreError;

/// This process as the owner of runs, until it is dropped.
#[derive(Debug)]
pub(super) struct Owner {
    number: i64,
    /// The lock is held as long as this is open.
    _lock: File,
    path: PathBuf,
}

impl Owner {
    /// Enters this process among the living. `random` is from a source that no other process has; `now` is in
    /// microseconds since 1970. The database is there.
    pub(super) fn register(
        connection: &Connection,
        location: &Location,
        random: [u8; 16],
        now: i64,
    ) -> Result<Self, StoreError> {
        let name = format!("{:032x}", u128::from_be_bytes(random));
        let folder = folder(location)?;
        fs::create_dir_all(&folder).map_err(|error| refused(&folder, &error))?;
        let path = folder.join(&name);
        let lock = File::options()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|error| refused(&path, &error))?;
        // from here on the file goes where anything fails
        let mut owner = Self {
            number: 0,
            _lock: lock,
            path,
        };
        owner._lock.try_lock().map_err(|error| match error {
            TryLockError::Error(error) => refused(&owner.path, &error),
            TryLockError::WouldBlock => refused(
                &owner.path,
                &io::Error::other("another process has locked it"),
            ),
        })?;
        let insert =
            "INSERT INTO processes (lock, pid, started) VALUES (?1, ?2, ?3) RETURNING process";
        owner.number = connection
            .query_row(insert, (&name, std::process::id(), now), |row| row.get(0))
            .map_err(|error| failure::classify(&location.path, &error))?;
        Ok(owner)
    }

    /// This process's number.
    pub(super) fn number(&self) -> i64 {
        self.number
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // where this fails the file stays, and the lock goes all the same
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether the process that has this lock file is alive. One that cannot be looked at is.
fn is_locked(path: &Path) -> bool {
    match File::open(path) {
        Ok(file) => file.try_lock_shared().is_err(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// The numbers of all dead processes that are on record, but never `own`.
pub(super) fn dead_owners(
    connection: &Connection,
    location: &Location,
    own: i64,
) -> Result<Vec<i64>, StoreError> {
    let others = || {
        let mut select =
            connection.prepare_cached("SELECT process, lock FROM processes WHERE process <> ?1")?;
        select
            .query_map([own], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<Vec<(i64, String)>, _>>()
    };
    let others = others().map_err(|error| failure::classify(&location.path, &error))?;
    if others.is_empty() {
        return Ok(Vec::new());
    }
    let folder = folder(location)?;
    Ok(others
        .into_iter()
        .filter(|(_, lock)| !is_locked(&folder.join(lock)))
        .map(|(number, _)| number)
        .collect())
}

/// Strikes a dead process off the record, unless an unfinished run or a flight names it. Says whether it did.
pub(super) fn forget(
    connection: &Connection,
    location: &Location,
    number: i64,
) -> Result<bool, StoreError> {
    // one statement, so one transaction
    let delete = "DELETE FROM processes WHERE process = ?1 \
                  AND NOT EXISTS (SELECT 1 FROM runs WHERE owner = ?1 AND state < 2) \
                  AND NOT EXISTS (SELECT 1 FROM flights WHERE owner = ?1) RETURNING lock";
    let lock: Option<String> = connection
        .query_row(delete, [number], |row| row.get(0))
        .optional()
        .map_err(|error| failure::classify(&location.path, &error))?;
    if let Some(lock) = &lock {
        // after a clean stop it is gone
        let _ = fs::remove_file(folder(location)?.join(lock));
    }
    Ok(lock.is_some())
}

/// The folder of lock files, beside the database's real file.
fn folder(location: &Location) -> Result<PathBuf, StoreError> {
    let path = fs::canonicalize(&location.path).map_err(|error| refused(&location.path, &error))?;
    Ok(beside(&path, "-owners"))
}

fn refused(path: &Path, error: &io::Error) -> StoreError {
    let (path, problem) = (path.to_owned(), error.to_string());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { path },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StoreError::ReadOnly { path, problem }
        }
        io::ErrorKind::Unsupported => {
            let problem =
                "expected a file system with locks: put the store on a local disk".to_owned();
            StoreError::Failed { path, problem }
        }
        _ => StoreError::Failed { path, problem },
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Child, Stdio};

    use tempfile::TempDir;

    use super::*;
    use crate::store::sqlite::location::Synchronous;
    use crate::store::sqlite::{child, connection};

    fn location(folder: &Path) -> Location {
        Location {
            path: folder.join("runs.db"),
            synchronous: Synchronous::Normal,
        }
    }

    fn register(connection: &Connection, location: &Location, random: u8) -> Owner {
        Owner::register(connection, location, [random; 16], 7).unwrap()
    }

    fn lock_files(location: &Location) -> usize {
        fs::read_dir(folder(location).unwrap()).unwrap().count()
    }

    #[test]
    fn an_owner_is_alive_until_it_is_dropped() {
        let folder = TempDir::new().unwrap();
        let location = location(folder.path());
        let connection = connection::open(&location, 0).unwrap();
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
    fn who_looks_is_not_taken_for_the_owner() {
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
        let connection = connection::open(&location, 0).unwrap();
        let number = register(&connection, &location, 1).number();
        assert_eq!(forget(&connection, &location, number), Ok(true));
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
        let connection = connection::open(&location, 0).unwrap();
        let run = |state: i64| {
            let number = register(&connection, &location, state as u8).number();
            let insert = "INSERT INTO runs VALUES (NULL, randomblob(16), 'etl', 0, NULL, 0, 0, 0, '{}', 0, 0, ?1, 0, 0, \
                          NULL, NULL, ?2, 0, 0, 0)";
            connection.execute(insert, (state, number)).unwrap();
            number
        };
        let (pending, running, done) = (run(0), run(1), run(2));
        let flying = register(&connection, &location, 3).number();
        connection
            .execute("INSERT INTO flights VALUES (x'01', ?1)", [flying])
            .unwrap();
        assert_eq!(
            dead_owners(&connection, &location, 0),
            Ok(vec![pending, running, done, flying])
        );
        let forgotten = [pending, running, done, flying]
            .map(|number| forget(&connection, &location, number).unwrap());
        assert_eq!(forgotten, [false, false, true, false]);
        connection.execute("UPDATE runs SET state = 4", []).unwrap();
        connection.execute("DELETE FROM flights", []).unwrap();
        let forgotten = [pending, running, done, flying]
            .map(|number| forget(&connection, &location, number).unwrap());
        assert_eq!(forgotten, [true, true, false, true]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_the_database_leads_to_the_same_locks() {
        let folder = TempDir::new().unwrap();
        let real = location(folder.path());
        let connection = connection::open(&real, 0).unwrap();
        let _owner = register(&connection, &real, 1);
        let link = Location {
            path: folder.path().join("link.db"),
            ..real
        };
        std::os::unix::fs::symlink("runs.db", &link.path).unwrap();
        let connection = connection::open(&link, 0).unwrap();
        assert_eq!(dead_owners(&connection, &link, 0), Ok(vec![]));
    }

    /// Another process that registers as an owner, and lives until it is killed.
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
        let connection = connection::open(&location, 0).unwrap();
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
        let connection = connection::open(&location, 0).unwrap();
        let own = register(&connection, &location, 1).number();
        let mut other = other("a_killed_process_is_dead_at_once", folder.path());
        assert_eq!(dead_owners(&connection, &location, own), Ok(vec![]));
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(dead_owners(&connection, &location, own), Ok(vec![own + 1]));
        assert_eq!(forget(&connection, &location, own + 1), Ok(true));
        assert_eq!(lock_files(&location), 0);
    }

    #[cfg(unix)]
    #[test]
    fn a_child_of_a_dead_process_does_not_keep_it_alive() {
        if let Some(folder) = child::folder() {
            let location = location(&folder);
            let connection = connection::open(&location, 0).unwrap();
            let _owner = register(&connection, &location, 9);
            // reads what this process was given to read, and outlives it
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
        let connection = connection::open(&location, 0).unwrap();
        let mut other = other(
            "a_child_of_a_dead_process_does_not_keep_it_alive",
            folder.path(),
        );
        let input = other.stdin.take();
        assert_eq!(dead_owners(&connection, &location, 0), Ok(vec![]));
        other.kill().unwrap();
        other.wait().unwrap();
        // a child lets go of the lock a moment after its parent was told that it has started
        let began = std::time::Instant::now();
        while dead_owners(&connection, &location, 0) == Ok(vec![]) && began.elapsed().as_secs() < 10
        {
            std::thread::yield_now();
        }
        assert_eq!(dead_owners(&connection, &location, 0), Ok(vec![1]));
        drop(input);
    }
}
