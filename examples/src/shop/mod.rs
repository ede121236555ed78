//! The shop's operational database: who bought what, and the sources that the second example reads.
//!
//! The pipelines only read it. It is filled from the CDNOW sample when it is first opened.

mod customers;
mod sources;

pub use customers::Customer;
pub use sources::{NewSource, Source, SourceError, SourceSales};

use std::error::Error;
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use rusqlite::{Transaction, params};

use crate::cdnow;
use crate::database::{Database, DatabaseError};

/// `purchased_at` is SQLite's own text form in UTC: it sorts as time does, and the `sqlite3` shell
/// shows it readably.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS customers (
        id          INTEGER PRIMARY KEY,
        full_set_id INTEGER NOT NULL
    );
    CREATE TABLE IF NOT EXISTS purchases (
        id           INTEGER PRIMARY KEY,
        customer_id  INTEGER NOT NULL REFERENCES customers (id),
        purchased_at TEXT    NOT NULL,
        cds          INTEGER NOT NULL,
        cents        INTEGER NOT NULL
    );
    CREATE INDEX IF NOT EXISTS purchases_by_time     ON purchases (purchased_at, customer_id, cds, cents);
    CREATE INDEX IF NOT EXISTS purchases_by_customer ON purchases (customer_id, purchased_at, cents);
    CREATE TABLE IF NOT EXISTS sources (
        id        INTEGER PRIMARY KEY,
        name      TEXT NOT NULL UNIQUE CHECK (name <> ''),
        first_day TEXT NOT NULL,
        last_day  TEXT NOT NULL CHECK (last_day >= first_day)
    );
";

/// The shop's database; a resource of both examples.
#[derive(Clone, Debug)]
pub struct Shop(Database);

/// How much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShopSize {
    pub purchases: u32,
    pub customers: u32,
    /// The day of the first purchase, and of the last.
    pub days: (NaiveDate, NaiveDate),
}

impl Shop {
    /// Opens the database, and fills it if it is new.
    ///
    /// # Errors
    /// If the file cannot be opened or made.
    pub fn open(path: PathBuf) -> Result<Self, DatabaseError> {
        Database::open(path, fill).map(Self)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// How much there is in all.
    ///
    /// # Errors
    /// SQLite's.
    pub fn size(&self) -> rusqlite::Result<ShopSize> {
        self.0.connection().query_row(
            "SELECT count(*), count(DISTINCT customer_id), date(min(purchased_at)), date(max(purchased_at)) FROM purchases",
            [],
            |row| Ok(ShopSize { purchases: row.get(0)?, customers: row.get(1)?, days: (row.get(2)?, row.get(3)?) }),
        )
    }
}

/// Creates what is missing; fills the tables if they are empty.
fn fill(transaction: &Transaction<'_>) -> Result<(), Box<dyn Error + Send + Sync>> {
    transaction.execute_batch(SCHEMA)?;
    if transaction.query_row("SELECT EXISTS (SELECT 1 FROM purchases)", [], |row| {
        row.get(0)
    })? {
        return Ok(());
    }
    let mut customer =
        transaction.prepare("INSERT OR IGNORE INTO customers (id, full_set_id) VALUES (?1, ?2)")?;
    let mut purchase = transaction.prepare(
        "INSERT INTO purchases (customer_id, purchased_at, cds, cents) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for bought in cdnow::purchases()? {
        customer.execute(params![bought.customer, bought.full_set_customer])?;
        purchase.execute(params![
            bought.customer,
            sql_time(midnight(bought.day)),
            bought.cds,
            bought.cents
        ])?;
    }
    sources::register_weeks(transaction)?;
    Ok(())
}

/// The purchases carry dates; to the shop they happened at midnight.
fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

/// The form in which `purchased_at` is kept. Fractions of a second, where a bound has them, sort
/// after the whole one.
fn sql_time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S%.f").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_new_database_is_filled_once_however_many_open_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/shop.db");
        let shops: Vec<_> = (0..8)
            .map(|_| {
                thread::spawn({
                    let path = path.clone();
                    move || Shop::open(path)
                })
            })
            .collect();
        for shop in shops {
            let size = shop.join().unwrap().unwrap().size().unwrap();
            assert_eq!((size.purchases, size.customers), (6_919, 2_357));
        }
        assert_eq!(Shop::open(path).unwrap().size().unwrap().purchases, 6_919);
    }

    #[test]
    fn a_file_that_is_no_database_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.db");
        std::fs::write(&path, "not a database, but long enough to be looked at").unwrap();
        let error = Shop::open(path.clone()).unwrap_err().to_string();
        assert!(
            error.contains("shop.db") && error.contains("remove it"),
            "{error}"
        );
        assert!(
            std::fs::read_to_string(&path)
                .unwrap()
                .starts_with("not a database")
        );
    }
}
