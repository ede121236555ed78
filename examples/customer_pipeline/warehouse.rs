//! The warehouse: what was known of each customer on each day, and the newest of it.

use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use examples::database::{Database, DatabaseError};
use examples::shop::Customer;
use parquet_derive::{ParquetRecordReader, ParquetRecordWriter};
use rusqlite::params;

use crate::segment::Segment;

/// The key is customer and day, not the customer alone: so a day that is loaded again, or after a
/// later one, leaves the same table behind, in whatever order days are loaded. `customers` shows
/// the newest row of each.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS customer_churn (
        customer_id          INTEGER NOT NULL,
        as_of                TEXT    NOT NULL,
        first_purchase       TEXT    NOT NULL,
        last_purchase        TEXT    NOT NULL,
        purchase_days        INTEGER NOT NULL,
        lifetime_value_cents INTEGER NOT NULL,
        churn_probability    REAL    NOT NULL,
        segment              TEXT    NOT NULL,
        PRIMARY KEY (customer_id, as_of)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS customer_churn_by_day ON customer_churn (as_of, segment, lifetime_value_cents);
    CREATE VIEW IF NOT EXISTS customers AS
        SELECT * FROM customer_churn AS newest
        WHERE as_of = (SELECT max(as_of) FROM customer_churn WHERE customer_id = newest.customer_id);
";

const UPSERT: &str = "
    INSERT INTO customer_churn VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
    ON CONFLICT (customer_id, as_of) DO UPDATE SET
        first_purchase       = excluded.first_purchase,
        last_purchase        = excluded.last_purchase,
        purchase_days        = excluded.purchase_days,
        lifetime_value_cents = excluded.lifetime_value_cents,
        churn_probability    = excluded.churn_probability,
        segment              = excluded.segment
";

/// A customer with their score: a row of the scores' file and of the warehouse.
#[derive(Clone, Debug, PartialEq, ParquetRecordReader, ParquetRecordWriter)]
pub(crate) struct ScoredCustomer {
    pub(crate) customer_id: u32,
    pub(crate) as_of: NaiveDate,
    pub(crate) first_purchase: NaiveDate,
    pub(crate) last_purchase: NaiveDate,
    pub(crate) purchase_days: u32,
    pub(crate) lifetime_value_cents: i64,
    pub(crate) churn_probability: f64,
    /// The name of a [`Segment`].
    pub(crate) segment: String,
}

impl ScoredCustomer {
    /// Puts a customer and their score together.
    pub(crate) fn new(customer: &Customer, churn_probability: f64) -> Self {
        Self {
            customer_id: customer.customer_id,
            as_of: customer.as_of,
            first_purchase: customer.first_purchase,
            last_purchase: customer.last_purchase,
            purchase_days: customer.purchase_days,
            lifetime_value_cents: customer.lifetime_value_cents,
            churn_probability,
            segment: Segment::of(churn_probability).name().to_owned(),
        }
    }
}

/// A segment on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentSize {
    pub(crate) segment: Segment,
    pub(crate) customers: u32,
    pub(crate) lifetime_value_cents: i64,
}

/// The warehouse; a resource of the pipeline.
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

    /// Loads rows, all or none; what is there under the same customer and day is replaced. Returns
    /// how many.
    ///
    /// # Errors
    /// SQLite's.
    pub(crate) fn upsert(&self, rows: &[ScoredCustomer]) -> rusqlite::Result<u64> {
        let mut connection = self.0.connection();
        let transaction = connection.transaction()?;
        let mut upsert = transaction.prepare_cached(UPSERT)?;
        let mut loaded = 0;
        for row in rows {
            loaded += upsert.execute(params![
                row.customer_id,
                row.as_of,
                row.first_purchase,
                row.last_purchase,
                row.purchase_days,
                row.lifetime_value_cents,
                row.churn_probability,
                row.segment,
            ])?;
        }
        drop(upsert);
        transaction.commit()?;
        Ok(loaded as u64)
    }

    /// How many customers there are, whatever the day.
    ///
    /// # Errors
    /// SQLite's.
    pub(crate) fn customers(&self) -> rusqlite::Result<u32> {
        self.0.connection().query_row(
            "SELECT count(DISTINCT customer_id) FROM customer_churn",
            [],
            |row| row.get(0),
        )
    }

    /// The segments of a day, all four of them, from the safest on.
    ///
    /// # Errors
    /// SQLite's.
    pub(crate) fn segments(&self, as_of: NaiveDate) -> rusqlite::Result<[SegmentSize; 4]> {
        let connection = self.0.connection();
        let mut query = connection.prepare_cached(
            "SELECT count(*), coalesce(sum(lifetime_value_cents), 0) FROM customer_churn WHERE as_of = ?1 AND segment = ?2",
        )?;
        let mut sizes = Segment::ALL.map(|segment| SegmentSize {
            segment,
            customers: 0,
            lifetime_value_cents: 0,
        });
        for size in &mut sizes {
            (size.customers, size.lifetime_value_cents) = query
                .query_row(params![as_of, size.segment.name()], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?;
        }
        Ok(sizes)
    }

    /// Everything in the table, in the order of its key.
    #[cfg(test)]
    pub(crate) fn rows(&self) -> Vec<ScoredCustomer> {
        let connection = self.0.connection();
        let mut query = connection
            .prepare("SELECT * FROM customer_churn ORDER BY customer_id, as_of")
            .unwrap();
        let rows = query.query_map([], |row| {
            Ok(ScoredCustomer {
                customer_id: row.get(0)?,
                as_of: row.get(1)?,
                first_purchase: row.get(2)?,
                last_purchase: row.get(3)?,
                purchase_days: row.get(4)?,
                lifetime_value_cents: row.get(5)?,
                churn_probability: row.get(6)?,
                segment: row.get(7)?,
            })
        });
        rows.unwrap().map(Result::unwrap).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(customer_id: u32, day: u32, churn_probability: f64) -> ScoredCustomer {
        let as_of = NaiveDate::from_ymd_opt(1997, 2, day).unwrap();
        let customer = Customer {
            customer_id,
            as_of,
            first_purchase: as_of,
            last_purchase: as_of,
            purchase_days: 1,
            lifetime_value_cents: 1_000,
        };
        ScoredCustomer::new(&customer, churn_probability)
    }

    #[test]
    fn loading_twice_or_out_of_order_leaves_the_same_table() {
        let folder = tempfile::tempdir().unwrap();
        let warehouse = |name: &str| Warehouse::open(folder.path().join(name)).unwrap();
        let (early, late) = ([scored(1, 1, 0.1), scored(2, 1, 0.3)], [scored(1, 2, 0.9)]);

        let forward = warehouse("forward.db");
        assert_eq!(
            [&early[..], &late[..]].map(|rows| forward.upsert(rows).unwrap()),
            [2, 1]
        );
        let backward = warehouse("backward.db");
        assert_eq!(
            [&late[..], &early[..], &early[..]].map(|rows| backward.upsert(rows).unwrap()),
            [1, 2, 2]
        );

        assert_eq!(forward.rows(), backward.rows());
        assert_eq!((forward.rows().len(), forward.customers().unwrap()), (3, 2));
        let newest: f64 = forward
            .0
            .connection()
            .query_row(
                "SELECT churn_probability FROM customers WHERE customer_id = 1",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(newest, 0.9);
    }

    #[test]
    fn a_changed_score_replaces_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let warehouse = Warehouse::open(folder.path().join("warehouse.db")).unwrap();
        warehouse.upsert(&[scored(1, 1, 0.1)]).unwrap();
        warehouse.upsert(&[scored(1, 1, 0.95)]).unwrap();
        let sizes = warehouse
            .segments(NaiveDate::from_ymd_opt(1997, 2, 1).unwrap())
            .unwrap();
        assert_eq!(sizes.map(|size| size.customers), [0, 0, 0, 1]);
        assert_eq!(sizes[3].lifetime_value_cents, 1_000);
    }
}
