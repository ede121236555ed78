//! Opening the file.
//!
//! A file is looked at before anything is written to it, and what is refused stays as it was. It is read by SQLite and
//! never by `std::fs`: closing any handle of a file drops the locks that this process holds on it, those of its other
//! connections included.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::failure;
use super::location::{Location, Synchronous};
use super::schema::{self, MIGRATIONS, Migration, State};
use crate::error::StoreError;

/// How long a call waits for other processes. Their commits take milliseconds and checkpoints more, on a slow disk
/// seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the change to the write-ahead log is tried. Each failure waits until the other process is done, so that a
/// second one means a third process.
const TRIES: usize = 32;

/// Of each connection: 16 MiB of cached pages, and a notice of damage when a page is read rather than when it is used.
const SETTINGS: &str =
    "PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY; PRAGMA cell_size_check = ON;";

/// Opens the file for writing, and makes it or brings it to the last schema. `now` is in microseconds since 1970.
/// Checkpoints are the caller's: none is automatic.
pub(super) fn open(location: &Location, now: i64) -> Result<Connection, StoreError> {
    open_with(location, now, MIGRATIONS)
}

fn open_with(location: &Location, now: i64, known: &[Migration]) -> Result<Connection, StoreError> {
    let path = location.path.as_path();
    make_folder(path)?;
    let failed = |error: rusqlite::Error| failure::classify(path, &error);
    // SQLite takes a file of one byte for an empty one
    if fs::metadata(path).is_ok_and(|file| file.len() == 1) {
        return Err(schema::no_database(path));
    }
    // what is in a log is part of a file that may be refused: it is not to be moved by closing the connection
    // (it stands beside the real file, where the path is a link)
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let logged = fs::metadata(beside(&real, "-wal")).is_ok_and(|log| log.len() > 0);
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_CREATE)?;
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, logged)
        .map_err(failed)?;
    let state = schema::inspect(&connection, path, known)?;
    if connection.is_readonly("main").map_err(failed)? {
        return Err(StoreError::ReadOnly {
            path: path.to_owned(),
            problem: "it is read-only".to_owned(),
        });
    }
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
        .map_err(failed)?;
    connection.execute_batch(SETTINGS).map_err(failed)?;
    write_ahead(&connection, location, state)?;
    schema::migrate(&mut connection, path, known, now)?;
    Ok(connection)
}

/// Opens a connection that only reads. The file is there: it was opened for writing before.
pub(super) fn reader(location: &Location) -> Result<Connection, StoreError> {
    let path = location.path.as_path();
    let connection = connect(path, OpenFlags::empty())?;
    let set = connection
        .execute_batch(SETTINGS)
        .and_then(|()| connection.execute_batch("PRAGMA query_only = ON;"));
    set.map_err(|error| failure::classify(path, &error))
        .map(|()| connection)
}

/// Opens the file without reading it.
fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let flags = flags | OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(PATIENCE)?;
        Ok(connection)
    };
    open().map_err(|error| failure::classify(path, &error))
}

/// Changes to the write-ahead log, where the file is not there yet.
fn write_ahead(
    connection: &Connection,
    location: &Location,
    state: State,
) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| failure::classify(&location.path, &error);
    // before the change: the default is `full`, and the change itself is a commit
    let synchronous = match location.synchronous {
        Synchronous::Normal => "PRAGMA synchronous = NORMAL;",
        Synchronous::Full => "PRAGMA synchronous = FULL;",
    };
    connection.execute_batch(synchronous).map_err(failed)?;
    if state == State::New {
        // nothing is there that a rollback journal on the disk could bring back, so its fsyncs are saved
        match connection.execute_batch("PRAGMA journal_mode = MEMORY;") {
            // another process has made the change already
            Err(error) if failure::is_busy(&error) => {}
            done => done.map_err(failed)?,
        }
    }
    let mut tries = 1;
    let mode = loop {
        match connection
            .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0))
        {
            // SQLite does not wait here, as it reads before it writes: wait for the same lock by a transaction
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
            path: location.path.clone(),
            problem: problem.to_owned(),
        });
    }
    connection
        .execute_batch("PRAGMA wal_autocheckpoint = 0;")
        .map_err(failed)
}

/// Makes the folder that the file is to be in.
fn make_folder(path: &Path) -> Result<(), StoreError> {
    let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) else {
        return Ok(());
    };
    fs::create_dir_all(folder).map_err(|error| StoreError::Folder {
        path: folder.to_owned(),
        problem: error.to_string(),
    })
}

/// The file beside a file, whose name has this ending.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Barrier;

    use tempfile::TempDir;

    use super::*;
    use crate::store::sqlite::child;

    fn location(folder: &TempDir) -> Location {
        Location {
            path: folder.path().join("runs.db"),
            synchronous: Synchronous::Normal,
        }
    }

    fn ask<T: rusqlite::types::FromSql>(connection: &Connection, sql: &str) -> T {
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Each file of a folder with its bytes.
    fn files(folder: &TempDir) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        entries
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect()
    }

    /// MIGRATIONS, and a later version's.
    fn with(later: &[Migration]) -> Vec<Migration> {
        let numbered = (MIGRATIONS.len() as u32 + 1..).zip(later);
        MIGRATIONS
            .iter()
            .copied()
            .chain(numbered.map(|(number, later)| Migration { number, ..*later }))
            .collect()
    }

    const LATER: Migration = Migration {
        number: 0,
        name: "later",
        sql: "CREATE TABLE later (a);",
    };
    const LATEST: Migration = Migration {
        number: 0,
        name: "latest",
        sql: "CREATE TABLE latest (a);",
    };

    /// When each migration was applied.
    fn applied(times: &[&str]) -> String {
        let own = vec![times[0]; MIGRATIONS.len()];
        [&own[..], &times[1..]].concat().join(",")
    }

    #[test]
    fn a_new_file_gets_the_schema() {
        let folder = TempDir::new().unwrap();
        let location = Location {
            path: folder.path().join("a/b/runs.db"),
            ..location(&folder)
        };
        let connection = open(&location, 77).unwrap();
        assert_eq!(
            ask::<i32>(&connection, "PRAGMA application_id"),
            i32::from_be_bytes(*b"orch")
        );
        assert_eq!(
            ask::<usize>(&connection, "PRAGMA user_version"),
            MIGRATIONS.len()
        );
        assert_eq!(
            ask::<usize>(
                &connection,
                "SELECT count(*) FROM migrations WHERE applied = 77"
            ),
            MIGRATIONS.len()
        );
        assert_eq!(
            ask::<String>(
                &connection,
                "SELECT group_concat(name, ' ' ORDER BY name) FROM sqlite_schema WHERE sql > ''"
            ),
            "attempts cache cache_by_inputs flights garbage logs migrations pauses plans processes runs runs_active \
             runs_by_flow runs_by_key runs_by_tick runs_to_prune runs_unfinished schedules sqlite_sequence",
        );
        assert_eq!(ask::<String>(&connection, "PRAGMA integrity_check"), "ok");
    }

    #[test]
    fn each_connection_has_its_settings() {
        let folder = TempDir::new().unwrap();
        for (synchronous, number) in [(Synchronous::Normal, 1), (Synchronous::Full, 2)] {
            let location = Location {
                synchronous,
                ..location(&folder)
            };
            let writer = open(&location, 0).unwrap();
            assert_eq!(ask::<String>(&writer, "PRAGMA journal_mode"), "wal");
            assert_eq!(ask::<i64>(&writer, "PRAGMA synchronous"), number);
            assert_eq!(ask::<i64>(&writer, "PRAGMA wal_autocheckpoint"), 0);
            for connection in [&writer, &reader(&location).unwrap()] {
                assert_eq!(ask::<i64>(connection, "PRAGMA busy_timeout"), 10_000);
                assert_eq!(ask::<i64>(connection, "PRAGMA cache_size"), -16_384);
                assert_eq!(ask::<i64>(connection, "PRAGMA temp_store"), 2);
            }
        }
    }

    #[test]
    fn an_empty_file_is_new() {
        let folder = TempDir::new().unwrap();
        fs::write(location(&folder).path, "").unwrap();
        let connection = open(&location(&folder), 0).unwrap();
        assert_eq!(
            ask::<usize>(&connection, "PRAGMA user_version"),
            MIGRATIONS.len()
        );
    }

    #[test]
    fn a_file_whose_maker_died_before_the_schema_is_new() {
        let folder = TempDir::new().unwrap();
        foreign(&folder, "PRAGMA journal_mode = WAL;");
        assert!(fs::metadata(location(&folder).path).unwrap().len() > 0);
        let connection = open(&location(&folder), 0).unwrap();
        assert_eq!(
            ask::<usize>(&connection, "PRAGMA user_version"),
            MIGRATIONS.len()
        );
        assert_eq!(ask::<String>(&connection, "PRAGMA journal_mode"), "wal");
    }

    #[test]
    fn a_store_that_is_opened_again_stays_as_it_is() {
        let folder = TempDir::new().unwrap();
        drop(open(&location(&folder), 1).unwrap());
        let before = files(&folder);
        drop(open(&location(&folder), 2).unwrap());
        assert_eq!(files(&folder), before);
    }

    #[test]
    fn a_store_that_died_with_a_full_log_is_opened() {
        let folder = TempDir::new().unwrap();
        let alive = open(&location(&folder), 1).unwrap();
        alive
            .execute("INSERT INTO flights VALUES (x'01', 1)", [])
            .unwrap();
        let copies = TempDir::new().unwrap();
        for ending in ["", "-wal"] {
            let from = beside(&location(&folder).path, ending);
            fs::copy(from, beside(&location(&copies).path, ending)).unwrap();
        }
        let connection = open(&location(&copies), 2).unwrap();
        assert_eq!(ask::<i64>(&connection, "SELECT count(*) FROM flights"), 1);
    }

    #[test]
    fn a_reader_sees_what_is_committed_and_writes_nothing() {
        let folder = TempDir::new().unwrap();
        let writer = open(&location(&folder), 0).unwrap();
        let reader = reader(&location(&folder)).unwrap();
        writer
            .execute("INSERT INTO flights VALUES (x'01', 1)", [])
            .unwrap();
        assert_eq!(ask::<i64>(&reader, "SELECT count(*) FROM flights"), 1);
        let refused = reader.execute("DELETE FROM flights", []).unwrap_err();
        assert_eq!(
            refused.sqlite_error_code(),
            Some(rusqlite::ErrorCode::ReadOnly)
        );
    }

    #[test]
    fn pending_migrations_are_applied_together() {
        let folder = TempDir::new().unwrap();
        drop(open(&location(&folder), 1).unwrap());
        let broken = Migration {
            number: 0,
            name: "broken",
            sql: "CREATE TABLE runs (a);",
        };
        let failed = open_with(&location(&folder), 2, &with(&[LATER, broken])).unwrap_err();
        assert!(
            failed.to_string().contains("table runs already exists"),
            "{failed}"
        );
        let connection = open(&location(&folder), 3).unwrap();
        assert_eq!(
            ask::<usize>(&connection, "PRAGMA user_version"),
            MIGRATIONS.len()
        );
        drop(connection);
        let connection = open_with(&location(&folder), 4, &with(&[LATER, LATEST])).unwrap();
        assert_eq!(
            ask::<usize>(&connection, "PRAGMA user_version"),
            MIGRATIONS.len() + 2
        );
        assert_eq!(
            ask::<String>(&connection, "SELECT group_concat(applied) FROM migrations"),
            applied(&["1", "4", "4"])
        );
    }

    #[test]
    fn a_new_file_may_be_opened_by_many_at_once() {
        for round in 0..20 {
            let folder = TempDir::new().unwrap();
            let start = Barrier::new(6);
            std::thread::scope(|scope| {
                let open = || {
                    start.wait();
                    open_with(&location(&folder), 5, &with(&[LATER, LATEST])).map(drop)
                };
                let opened: Vec<_> = (0..6).map(|_| scope.spawn(open)).collect();
                for opened in opened {
                    assert_eq!(opened.join().unwrap(), Ok(()), "round {round}");
                }
            });
            let connection = open_with(&location(&folder), 6, &with(&[LATER, LATEST])).unwrap();
            assert_eq!(
                ask::<String>(&connection, "SELECT group_concat(applied) FROM migrations"),
                applied(&["5", "5", "5"])
            );
            assert_eq!(ask::<String>(&connection, "PRAGMA integrity_check"), "ok");
        }
    }

    /// A database of another program, made by `sql`; with its log, where it has one, as after `kill -9`.
    fn foreign(folder: &TempDir, sql: &str) {
        let elsewhere = TempDir::new().unwrap();
        let path = location(&elsewhere).path;
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(sql).unwrap();
        for ending in ["", "-wal"] {
            // an empty log is none
            if let Some(bytes) = fs::read(beside(&path, ending))
                .ok()
                .filter(|bytes| !bytes.is_empty())
            {
                fs::write(beside(&location(folder).path, ending), bytes).unwrap();
            }
        }
    }

    fn ours(folder: &TempDir, sql: &str) {
        let connection = open(&location(folder), 0).unwrap();
        connection.execute_batch(sql).unwrap();
    }

    #[test]
    fn what_is_no_store_of_ours_is_refused_and_left_as_it_is() {
        type Make = fn(&TempDir);
        let cases: [(&str, Make); 17] = [
            ("it is no SQLite database", |folder| {
                fs::write(location(folder).path, "x").unwrap()
            }),
            ("it is no SQLite database", |folder| {
                fs::write(location(folder).path, "id,name\n".repeat(9)).unwrap()
            }),
            ("it is no SQLite database", |folder| {
                fs::write(location(folder).path, "id,name\n".repeat(9999)).unwrap()
            }),
            ("it is no SQLite database", |folder| {
                fs::write(location(folder).path, [0; 8192]).unwrap()
            }),
            ("the SQLite database of another", |folder| {
                foreign(folder, "CREATE TABLE a (b);")
            }),
            ("the SQLite database of another", |folder| {
                foreign(folder, "PRAGMA application_id = 7;")
            }),
            ("the SQLite database of another", |folder| {
                foreign(folder, "PRAGMA user_version = 1;")
            }),
            ("the SQLite database of another", |folder| {
                foreign(
                    folder,
                    "PRAGMA journal_mode = WAL; CREATE TABLE a (b); PRAGMA wal_checkpoint(TRUNCATE);",
                );
            }),
            ("the SQLite database of another", |folder| {
                foreign(
                    folder,
                    "PRAGMA journal_mode = WAL; CREATE TABLE a (b); INSERT INTO a VALUES (1);",
                );
            }),
            ("was written by a newer version of the program", |folder| {
                drop(open_with(&location(folder), 0, &with(&[LATER])).unwrap());
            }),
            ("was written by a newer version of the program", |folder| {
                ours(folder, "PRAGMA user_version = 9999;")
            }),
            ("has another schema 1 (`runs`)", |folder| {
                ours(folder, "UPDATE migrations SET checksum = x'00';")
            }),
            ("is damaged", |folder| {
                ours(folder, "DROP TABLE migrations;")
            }),
            ("is damaged", |folder| {
                ours(folder, "DELETE FROM migrations;")
            }),
            ("is damaged", |folder| {
                ours(folder, "UPDATE migrations SET number = number + 6;")
            }),
            ("is damaged", |folder| {
                // cut off
                ours(folder, "");
                let bytes = fs::read(location(folder).path).unwrap();
                fs::write(location(folder).path, &bytes[..bytes.len() / 2]).unwrap();
            }),
            ("is damaged", |folder| {
                // the list of tables overwritten
                ours(folder, "");
                let mut bytes = fs::read(location(folder).path).unwrap();
                bytes[100..4096].fill(0xa5);
                fs::write(location(folder).path, bytes).unwrap();
            }),
        ];
        for (number, (expected, make)) in cases.into_iter().enumerate() {
            let folder = TempDir::new().unwrap();
            make(&folder);
            let before = files(&folder);
            let opened = open(&location(&folder), 1);
            let refused = opened
                .err()
                .unwrap_or_else(|| panic!("case {number} was opened"))
                .to_string();
            assert!(
                refused.contains(expected) && refused.contains("runs.db`"),
                "case {number}: {refused}"
            );
            assert!(!refused.contains('\n'), "case {number}: {refused}");
            let mut after = files(&folder);
            // the index of a log is rebuilt by whoever reads it
            let index = beside(&location(&folder).path, "-shm");
            if !before.contains_key(&index)
                && before.contains_key(&beside(&location(&folder).path, "-wal"))
            {
                after.remove(&index);
            }
            assert!(
                after == before,
                "case {number} was changed: {:?} {:?}",
                before.keys(),
                after.keys()
            );
        }
    }

    #[test]
    fn a_damaged_page_is_noticed_when_it_is_read() {
        let folder = TempDir::new().unwrap();
        ours(
            &folder,
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
             INSERT INTO plans SELECT 1, i, randomblob(100) FROM n;",
        );
        let path = location(&folder).path;
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 8192 * 4096;
        bytes[middle..middle + 4096].fill(0xa5);
        fs::write(&path, bytes).unwrap();
        let connection = open(&location(&folder), 0).unwrap();
        let error = connection
            .query_row("SELECT sum(length(body)) FROM plans", [], |_| Ok(()))
            .unwrap_err();
        assert!(
            matches!(failure::classify(&path, &error), StoreError::Damaged { .. }),
            "{error}"
        );
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let path = folder.path().join("file/sub/runs.db");
        let refused = open(
            &Location {
                path,
                ..location(&folder)
            },
            0,
        )
        .unwrap_err();
        let StoreError::Folder { path, .. } = refused else {
            panic!("{refused}")
        };
        assert_eq!(path, folder.path().join("file/sub"));
    }

    #[cfg(unix)]
    #[test]
    fn what_may_not_be_written_is_refused() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        use std::os::unix::process::CommandExt;

        // root may write everything: try as somebody else
        if let Some(folder) = child::folder() {
            for (name, problem) in [
                ("file", "it is read-only"),
                ("folder", "readonly database"),
                ("new", "unable to open"),
                ("hidden", "unable to open"),
            ] {
                let location = Location {
                    path: folder.join(name).join("runs.db"),
                    synchronous: Synchronous::Normal,
                };
                let refused = open(&location, 0).unwrap_err();
                let StoreError::ReadOnly { problem: found, .. } = &refused else {
                    panic!("{name}: {refused}")
                };
                assert!(found.contains(problem), "{name}: {refused}");
            }
            let refused = open(
                &Location {
                    path: folder.join("new/sub/runs.db"),
                    synchronous: Synchronous::Normal,
                },
                0,
            );
            assert!(
                matches!(refused, Err(StoreError::Folder { .. })),
                "{refused:?}"
            );
            return;
        }
        let folder = TempDir::new().unwrap();
        let allow = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap()
        };
        for (name, exists, of_folder, of_file) in [
            ("file", true, 0o777, 0o444),
            ("folder", true, 0o555, 0o666),
            ("new", false, 0o555, 0),
            ("hidden", true, 0o777, 0),
        ] {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            if exists {
                drop(
                    open(
                        &Location {
                            path: path.join("runs.db"),
                            synchronous: Synchronous::Normal,
                        },
                        0,
                    )
                    .unwrap(),
                );
                allow(&path.join("runs.db"), of_file);
            }
            allow(&path, of_folder);
        }
        allow(folder.path(), 0o755);
        let test = "store::sqlite::connection::tests::what_may_not_be_written_is_refused";
        let mut child = child::again(test, folder.path());
        if fs::metadata(folder.path()).unwrap().uid() == 0 {
            child.uid(65_534).gid(65_534);
        }
        match child.status() {
            Ok(status) => assert!(status.success()),
            Err(error) => {
                eprintln!("not tried: this binary cannot be run as another user: {error}")
            }
        }
        allow(&folder.path().join("new"), 0o755);
        allow(&folder.path().join("folder"), 0o755);
    }

    #[test]
    #[ignore = "a measurement, to be read with --release --nocapture"]
    fn opening_a_new_file_costs_what_its_schema_costs() {
        let raw = |path: &Path| {
            let connection = Connection::open(path).unwrap();
            connection
                .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; BEGIN;")
                .unwrap();
            connection.execute_batch(MIGRATIONS[0].sql).unwrap();
            connection.execute_batch("COMMIT;").unwrap();
            connection
        };
        // a round each in turn: the disk has its moods
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..200 {
            let folder = TempDir::new().unwrap();
            let location = location(&folder);
            let path = folder.path().join("raw.db");
            let mut measure = |of: usize, work: &dyn Fn() -> Connection| {
                let start = std::time::Instant::now();
                let connection = work();
                times[of].push(start.elapsed());
                connection
            };
            let _raw = measure(0, &|| raw(&path));
            let _ours = measure(1, &|| open(&location, 0).unwrap());
            let _again = measure(2, &|| open(&location, 0).unwrap());
        }
        for (name, times) in ["raw", "ours", "ours, opened again"].iter().zip(&mut times) {
            times.sort();
            eprintln!(
                "{name}: median {:?}, least {:?}",
                times[times.len() / 2],
                times[0]
            );
        }
    }
}
