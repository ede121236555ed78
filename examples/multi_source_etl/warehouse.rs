//! The warehouse's table of sales, one row a source.

use std::path::{Path, PathBuf};

use examples::database::{Database, DatabaseError};
use examples::shop::SourceSales;
use rusqlite::params;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS source_sales (
        source    TEXT PRIMARY KEY,
        first_day TEXT    NOT NULL,
        last_day  TEXT    NOT NULL,
        purchases INTEGER NOT NULL,
        customers INTEGER NOT NULL,
        cds       INTEGER NOT NULL,
        cents     INTEGER NOT NULL
    );
";

const UPSERT: &str = "
    INSERT INTO source_sales VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
    ON CONFLICT (source) DO UPDATE SET
        first_day = excluded.first_day,
        last_day  = excluded.last_day,
        purchases = excluded.purchases,
        customers = excluded.customers,
        cds       = excluded.cds,
        cents     = excluded.cents
";

/// The warehouse; a resource of the flow.
#[derive(Clone, Debug)]
pub(crate) struct Warehouse(Database);

impl Warehouse {
    /// Opens the warehouse, or makes it.
    ///
    /// # Errors
    /// If the file cannot be opened or made.
    pub(crate) fn open(path: PathBuf) -> Result<Self, DatabaseError> {
        Database::open(path, |transaction| Ok(transaction.execute_batch(SCHEMA)?)).map(Self)
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Loads the sales of a source; what is there under its name is replaced.
    ///
    /// # Errors
    /// SQLite's.
    pub(crate) fn upsert(&self, sales: &SourceSales) -> rusqlite::Result<()> {
        let SourceSales {
            source,
            purchases,
            customers,
            cds,
            cents,
        } = sales;
        let connection = self.0.connection();
        let mut upsert = connection.prepare_cached(UPSERT)?;
        upsert.execute(params![
            source.name,
            source.first_day,
            source.last_day,
            purchases,
            customers,
            cds,
            cents
        ])?;
        Ok(())
    }

    /// How many sources have been loaded.
    ///
    /// # Errors
    /// SQLite's.
    pub(crate) fn sources(&self) -> rusqlite::Result<u32> {
        self.0
            .connection()
            .query_row("SELECT count(*) FROM source_sales", [], |row| row.get(0))
    }

    /// Everything in the table: name, purchases, customers, CDs, cents.
    #[cfg(test)]
    pub(crate) fn rows(&self) -> Vec<(String, u32, u32, u32, i64)> {
        let connection = self.0.connection();
        let mut query = connection
            .prepare(
                "SELECT source, purchases, customers, cds, cents FROM source_sales ORDER BY source",
            )
            .unwrap();
        let rows = query
            .query_map([], |row| {
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                ))
            })
            .unwrap();
        rows.map(Result::unwrap).collect()
    }
}
