//! rusqlite alone: the rows that the library writes when tasks end, written again by one prepared
//! statement, in transactions of one row (a chain: each task starts after the commit of the one
//! before) or a hundred (all else).
//!
//! The file is one that the library made, so that tables, page size and the rows themselves are the
//! same; so are the pragmas. Nothing else is done: no plan, no ends of runs, no checkpoint while a
//! pass lasts.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, params_from_iter, types::Value};

use super::{Contender, Open, Pass, Passes, own};
use crate::{Shape, flow};

pub(crate) const NAME: &str = "rusqlite";
pub(crate) const CONTENDER: Contender = Contender {
    name: NAME,
    runs,
    open,
};

/// Of each connection of the library. A new log is overwritten, rather than the file made longer,
/// after a checkpoint.
pub(super) const PRAGMAS: &str = "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0; \
                                  PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY; PRAGMA cell_size_check = ON;";

struct Raw {
    connection: Connection,
    rows: Vec<Vec<Value>>,
    /// How many rows make a transaction.
    batch: usize,
    insert: String,
    runs: i64,
}

fn runs(shape: Shape) -> bool {
    matches!(shape, Shape::Chain(_) | Shape::FanOut(_))
}

fn open(shape: Shape, folder: PathBuf) -> Open {
    Box::pin(async move {
        let runtime = own::runtime(&folder).await;
        flow::output(shape, &runtime).await;
        drop(runtime);
        let raw = Raw::new(&own::file(&folder), shape).expect("the store can be read");
        assert_eq!(raw.rows.len(), shape.tasks(), "a row for each task");
        Box::new(raw) as Box<dyn Passes>
    })
}

impl Raw {
    fn new(file: &Path, shape: Shape) -> rusqlite::Result<Self> {
        let connection = Connection::open(file)?;
        connection.execute_batch(PRAGMAS)?;
        let (columns, rows) = {
            // ends alone: the lesser states are of bodies that wait or are tried again
            let mut select = connection
                .prepare("SELECT * FROM attempts WHERE state >= 3 ORDER BY run, number")?;
            let columns = select.column_count();
            let row =
                |row: &rusqlite::Row<'_>| (0..columns).map(|column| row.get(column)).collect();
            let rows = select
                .query_map([], row)?
                .collect::<Result<Vec<Vec<Value>>, _>>()?;
            (columns, rows)
        };
        let insert = format!(
            "INSERT INTO attempts VALUES (?{})",
            ", ?".repeat(columns - 1)
        );
        let batch = if matches!(shape, Shape::Chain(_)) {
            1
        } else {
            100
        };
        Ok(Self {
            connection,
            rows,
            batch,
            insert,
            runs: 1,
        })
    }

    fn write(&mut self) -> rusqlite::Result<Duration> {
        // the rows of another run, as in each pass of the others
        self.runs += 1;
        self.rows
            .iter_mut()
            .for_each(|row| row[0] = Value::Integer(self.runs));
        let begin = Instant::now();
        for rows in self.rows.chunks(self.batch) {
            self.connection
                .prepare_cached("BEGIN IMMEDIATE")?
                .execute([])?;
            for row in rows {
                self.connection
                    .prepare_cached(&self.insert)?
                    .execute(params_from_iter(row))?;
            }
            self.connection.prepare_cached("COMMIT")?.execute([])?;
        }
        let time = begin.elapsed();
        self.connection
            .query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))?;
        Ok(time)
    }
}

impl Passes for Raw {
    fn pass(&mut self) -> Pass<'_> {
        Box::pin(async { self.write().expect("rows can be written") })
    }
}
