use std::collections::BTreeMap;
use std::sync::Barrier;

use tempfile::TempDir;

use super::*;
use crate::store::sqlite::child;
use crate::store::suite::time;

fn location(folder: &TempDir) -> Location {
    Location {
        path: folder.path().join("runs.db"),
        synchronous: Synchronous::Normal,
    }
}

fn ask<T: rusqlite::types::FromSql>(connection: &Connection, sql: &str) -> T {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Returns each file of a folder with its bytes.
fn files(folder: &TempDir) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

/// Returns the migrations, and those of a later version.
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

/// Returns when each migration was applied.
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
    let connection = open(&location, time(77)).unwrap();
    assert_eq!(
        ask::<i32>(&connection, "PRAGMA application_id"),
        i32::from_be_bytes(*b"orch")
    );
    assert_eq!(
        ask::<u32>(&connection, "PRAGMA user_version"),
        MIGRATIONS.len() as u32
    );
    assert_eq!(
        ask::<u32>(
            &connection,
            "SELECT count(*) FROM migrations WHERE applied = 77"
        ),
        MIGRATIONS.len() as u32
    );
    assert_eq!(
        ask::<String>(
            &connection,
            "SELECT group_concat(name, ' ' ORDER BY name) FROM sqlite_schema WHERE sql > ''"
        ),
        "attempts cache cache_by_hash cache_by_task deployments flights garbage logs migrations pauses plans \
         processes runs runs_active runs_by_flow runs_by_key runs_by_tick runs_to_prune runs_unfinished sqlite_sequence \
         vault",
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
        let writer = open(&location, time(0)).unwrap();
        assert_eq!(ask::<String>(&writer, "PRAGMA journal_mode"), "wal");
        for (pragma, expected) in [("synchronous", number), ("wal_autocheckpoint", 0)] {
            let found = ask::<i64>(&writer, &format!("PRAGMA {pragma}"));
            assert_eq!(found, expected, "{pragma} of the writer, {synchronous:?}");
        }
        let reader = reader(&location).unwrap();
        for (name, connection) in [("writer", &writer), ("reader", &reader)] {
            for (pragma, expected) in [
                ("busy_timeout", 10_000),
                ("cache_size", -16_384),
                ("temp_store", 2),
            ] {
                let found = ask::<i64>(connection, &format!("PRAGMA {pragma}"));
                assert_eq!(found, expected, "{pragma} of the {name}");
            }
        }
    }
}

#[test]
fn an_empty_file_is_new() {
    let folder = TempDir::new().unwrap();
    fs::write(location(&folder).path, "").unwrap();
    let connection = open(&location(&folder), time(0)).unwrap();
    assert_eq!(
        ask::<u32>(&connection, "PRAGMA user_version"),
        MIGRATIONS.len() as u32
    );
}

#[test]
fn a_file_whose_maker_died_before_the_schema_is_new() {
    let folder = TempDir::new().unwrap();
    foreign(&folder, "PRAGMA journal_mode = WAL;");
    assert!(fs::metadata(location(&folder).path).unwrap().len() > 0);
    let connection = open(&location(&folder), time(0)).unwrap();
    assert_eq!(
        ask::<u32>(&connection, "PRAGMA user_version"),
        MIGRATIONS.len() as u32
    );
    assert_eq!(ask::<String>(&connection, "PRAGMA journal_mode"), "wal");
}

#[test]
fn a_store_that_is_opened_again_stays_as_it_is() {
    let folder = TempDir::new().unwrap();
    drop(open(&location(&folder), time(1)).unwrap());
    let before = files(&folder);
    drop(open(&location(&folder), time(2)).unwrap());
    assert_eq!(files(&folder), before);
}

#[test]
fn a_store_that_died_with_a_full_log_is_opened() {
    let folder = TempDir::new().unwrap();
    let alive = open(&location(&folder), time(1)).unwrap();
    alive
        .execute("INSERT INTO flights VALUES (x'01', 1)", [])
        .unwrap();
    let copies = TempDir::new().unwrap();
    for ending in ["", "-wal"] {
        let from = beside(&location(&folder).path, ending);
        fs::copy(from, beside(&location(&copies).path, ending)).unwrap();
    }
    let connection = open(&location(&copies), time(2)).unwrap();
    assert_eq!(ask::<i64>(&connection, "SELECT count(*) FROM flights"), 1);
}

#[test]
fn a_long_log_that_was_left_is_copied() {
    let folder = TempDir::new().unwrap();
    let alive = open(&location(&folder), time(1)).unwrap();
    let grow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
         INSERT INTO plans SELECT 1, i, randomblob(4000) FROM n;";
    alive.execute_batch(grow).unwrap();
    let copies = TempDir::new().unwrap();
    let path = location(&copies).path;
    for ending in ["", "-wal"] {
        fs::copy(
            beside(&location(&folder).path, ending),
            beside(&path, ending),
        )
        .unwrap();
    }
    let connection = open(&location(&copies), time(2)).unwrap();
    assert!(fs::metadata(&path).unwrap().len() < LONG_LOG);
    copy_long_log(&connection, &path);
    assert!(fs::metadata(&path).unwrap().len() > LONG_LOG);
    connection
        .execute("INSERT INTO flights VALUES (x'01', 1)", [])
        .unwrap();
    assert_eq!(ask::<i64>(&connection, "SELECT count(*) FROM plans"), 3000);
}

#[test]
fn a_reader_sees_what_is_committed_and_writes_nothing() {
    let folder = TempDir::new().unwrap();
    let writer = open(&location(&folder), time(0)).unwrap();
    let reader = reader(&location(&folder)).unwrap();
    writer
        .execute("INSERT INTO flights VALUES (x'01', 1)", [])
        .unwrap();
    assert_eq!(ask::<i64>(&reader, "SELECT count(*) FROM flights"), 1);
    let refused = reader.execute("DELETE FROM flights", []).unwrap_err();
    assert_eq!(refused.sqlite_error_code(), Some(ErrorCode::ReadOnly));
}

#[test]
fn pending_migrations_are_applied_together() {
    let folder = TempDir::new().unwrap();
    drop(open(&location(&folder), time(1)).unwrap());
    let broken = Migration {
        number: 0,
        name: "broken",
        sql: "CREATE TABLE runs (a);",
    };
    let failed = open_with(&location(&folder), time(2), &with(&[LATER, broken])).unwrap_err();
    assert!(
        failed.to_string().contains("table runs already exists"),
        "{failed}"
    );
    let connection = open(&location(&folder), time(3)).unwrap();
    assert_eq!(
        ask::<u32>(&connection, "PRAGMA user_version"),
        MIGRATIONS.len() as u32
    );
    drop(connection);
    let connection = open_with(&location(&folder), time(4), &with(&[LATER, LATEST])).unwrap();
    assert_eq!(
        ask::<u32>(&connection, "PRAGMA user_version"),
        MIGRATIONS.len() as u32 + 2
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
                open_with(&location(&folder), time(5), &with(&[LATER, LATEST])).map(drop)
            };
            let opened: Vec<_> = (0..6).map(|_| scope.spawn(open)).collect();
            for opened in opened {
                assert_eq!(opened.join().unwrap(), Ok(()), "round {round}");
            }
        });
        let connection = open_with(&location(&folder), time(6), &with(&[LATER, LATEST])).unwrap();
        assert_eq!(
            ask::<String>(&connection, "SELECT group_concat(applied) FROM migrations"),
            applied(&["5", "5", "5"])
        );
        assert_eq!(ask::<String>(&connection, "PRAGMA integrity_check"), "ok");
    }
}

/// Creates a database of another program by `sql`; with its log, if it has one, as after `kill
/// -9`.
fn foreign(folder: &TempDir, sql: &str) {
    let elsewhere = TempDir::new().unwrap();
    let path = location(&elsewhere).path;
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(sql).unwrap();
    for ending in ["", "-wal"] {
        // an empty log counts as missing
        if let Some(bytes) = fs::read(beside(&path, ending))
            .ok()
            .filter(|bytes| !bytes.is_empty())
        {
            fs::write(beside(&location(folder).path, ending), bytes).unwrap();
        }
    }
}

fn ours(folder: &TempDir, sql: &str) {
    let connection = open(&location(folder), time(0)).unwrap();
    connection.execute_batch(sql).unwrap();
}

#[test]
fn foreign_file_is_refused_and_left_unchanged() {
    type Make = fn(&TempDir);
    let cases: [(&str, Make); 22] = [
        ("it is not an SQLite database", |folder| {
            fs::write(location(folder).path, "x").unwrap()
        }),
        ("it is not an SQLite database", |folder| {
            fs::write(location(folder).path, "id,name\n".repeat(9)).unwrap()
        }),
        ("it is not an SQLite database", |folder| {
            fs::write(location(folder).path, "id,name\n".repeat(9999)).unwrap()
        }),
        ("it is not an SQLite database", |folder| {
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
            drop(open_with(&location(folder), time(0), &with(&[LATER])).unwrap());
        }),
        ("was written by a newer version of the program", |folder| {
            ours(folder, "PRAGMA user_version = 9999;")
        }),
        ("schema 1 (`runs`) of `", |folder| {
            ours(folder, "UPDATE migrations SET checksum = x'00';")
        }),
        ("its index `runs_by_tick` is missing", |folder| {
            ours(folder, "DROP INDEX runs_by_tick;")
        }),
        (
            "its index `runs_by_key` is not as the program made it",
            |folder| {
                ours(
                    folder,
                    "DROP INDEX runs_by_key; CREATE INDEX runs_by_key ON runs (flow, key);",
                );
            },
        ),
        ("its table `flights` is missing", |folder| {
            ours(folder, "DROP TABLE flights;")
        }),
        ("it is empty, and `", |folder| {
            fs::write(location(folder).path, "").unwrap();
            fs::create_dir(beside(&location(folder).path, "-owners")).unwrap();
        }),
        ("is damaged", |folder| {
            // the first page of a table that opening the file does not write to
            ours(folder, "");
            let connection = Connection::open(location(folder).path).unwrap();
            let page: u32 = ask(
                &connection,
                "SELECT rootpage FROM sqlite_schema WHERE name = 'attempts'",
            );
            drop(connection);
            let mut bytes = fs::read(location(folder).path).unwrap();
            let end = page as usize * 4096;
            bytes[end - 4096..end].fill(0xa5);
            fs::write(location(folder).path, bytes).unwrap();
        }),
        ("is damaged", |folder| {
            ours(folder, "DROP TABLE migrations;")
        }),
        ("is damaged", |folder| {
            ours(folder, "DELETE FROM migrations;")
        }),
        ("is damaged", |folder| {
            ours(folder, "UPDATE migrations SET number = number + 1000;")
        }),
        ("is damaged", |folder| {
            // the file truncated
            ours(folder, "");
            let bytes = fs::read(location(folder).path).unwrap();
            fs::write(location(folder).path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("is damaged", |folder| {
            // the schema table overwritten
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
        let opened = open(&location(&folder), time(1));
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
        // the index of a log is rebuilt by every reader
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
    let connection = open(&location(&folder), time(0)).unwrap();
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
        time(0),
    )
    .unwrap_err();
    let file = folder.path().join("file").display().to_string();
    let expected = format!(
        "the folder `{file}/sub` of the store does not exist and cannot be made: `{file}` is not a folder; create it, \
         or give another path"
    );
    assert_eq!(refused.to_string(), expected);
}

#[cfg(unix)]
#[test]
fn dangling_link_is_reported_as_such() {
    let folder = TempDir::new().unwrap();
    let (first, second) = (
        folder.path().join("first.db"),
        folder.path().join("second.db"),
    );
    std::os::unix::fs::symlink("second.db", &first).unwrap();
    std::os::unix::fs::symlink("disk/runs.db", &second).unwrap();
    let refused = open(
        &Location {
            path: first.clone(),
            ..location(&folder)
        },
        time(0),
    )
    .unwrap_err();
    let expected = format!(
        "the folder `{}` of the store does not exist, and the link `{}` leads there; create it, or give another path",
        folder.path().join("disk").display(),
        first.display()
    );
    assert_eq!(refused.to_string(), expected);
    fs::create_dir(folder.path().join("disk")).unwrap();
    drop(
        open(
            &Location {
                path: first,
                ..location(&folder)
            },
            time(0),
        )
        .unwrap(),
    );
    assert!(folder.path().join("disk/runs.db").is_file());
}

#[cfg(unix)]
#[test]
fn unwritable_store_is_refused() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;

    // root may write everything: try as another user
    if let Some(folder) = child::folder() {
        for (name, problem) in [
            ("file", "Permission denied"),
            ("folder", "readonly database"),
            ("new", "Permission denied"),
            ("hidden", "Permission denied"),
        ] {
            let location = Location {
                path: folder.join(name).join("runs.db"),
                synchronous: Synchronous::Normal,
            };
            let refused = open(&location, time(0)).unwrap_err();
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
            time(0),
        );
        assert!(
            matches!(refused, Err(StoreError::Folder { .. })),
            "{refused:?}"
        );
        return;
    }
    let folder = TempDir::new().unwrap();
    let allow =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
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
                    time(0),
                )
                .unwrap(),
            );
            allow(&path.join("runs.db"), of_file);
        }
        allow(&path, of_folder);
    }
    allow(folder.path(), 0o755);
    let test = "store::sqlite::connection::tests::unwritable_store_is_refused";
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

#[cfg(unix)]
#[test]
fn a_new_store_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;

    let folder = TempDir::new().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let connection = open(&location(&folder), time(0)).unwrap();
    connection
        .execute("INSERT INTO flights VALUES (x'01', 1)", [])
        .unwrap();
    for ending in ["", "-wal", "-shm"] {
        assert_eq!(
            mode(&beside(&location(&folder).path, ending)),
            0o600,
            "{ending}"
        );
    }
    drop(connection);
    assert_eq!(files(&folder).len(), 1);
    // so is the target of a link to a new store
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink("behind.db", &link).unwrap();
    drop(
        open(
            &Location {
                path: link,
                ..location(&folder)
            },
            time(0),
        )
        .unwrap(),
    );
    assert_eq!(mode(&folder.path().join("behind.db")), 0o600);
    // permissions that its owner grants are kept
    fs::set_permissions(location(&folder).path, fs::Permissions::from_mode(0o640)).unwrap();
    drop(open(&location(&folder), time(0)).unwrap());
    assert_eq!(mode(&location(&folder).path), 0o640);
}

#[test]
fn an_empty_file_that_becomes_a_store_is_waited_for() {
    let folder = TempDir::new().unwrap();
    let ready = TempDir::new().unwrap();
    drop(open(&location(&ready), time(1)).unwrap());
    fs::write(location(&folder).path, "").unwrap();
    fs::create_dir(beside(&location(&folder).path, "-owners")).unwrap();
    std::thread::scope(|scope| {
        let opened = scope.spawn(|| open(&location(&folder), time(2)).map(drop));
        fs::rename(location(&ready).path, location(&folder).path).unwrap();
        assert_eq!(opened.join().unwrap(), Ok(()));
    });
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
    // alternating rounds: the speed of the disk varies
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
        let _ours = measure(1, &|| open(&location, time(0)).unwrap());
        let _again = measure(2, &|| open(&location, time(0)).unwrap());
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
