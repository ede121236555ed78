//! Customers as the churn model wants them: first and last purchase, purchase days, lifetime value.

use chrono::{DateTime, NaiveDate, Utc};
use parquet_derive::{ParquetRecordReader, ParquetRecordWriter};
use rusqlite::params;

use super::{Shop, sql_time};

/// What was known of a customer on a day.
#[derive(Clone, Debug, PartialEq, Eq, ParquetRecordReader, ParquetRecordWriter)]
pub struct Customer {
    pub customer_id: u32,
    /// The day from which the history is seen; nothing later is in it.
    pub as_of: NaiveDate,
    pub first_purchase: NaiveDate,
    pub last_purchase: NaiveDate,
    /// Different days with a purchase, the first one included.
    pub purchase_days: u32,
    /// What the customer has paid so far, in cents of a US dollar.
    pub lifetime_value_cents: i64,
}

/// Both indexes cover what they are asked for, so a day costs its own purchases and its customers'
/// histories, not a walk over the table.
const CUSTOMERS_WHO_BOUGHT: &str = "
    SELECT customer_id, date(min(purchased_at)), date(max(purchased_at)), count(DISTINCT date(purchased_at)), sum(cents)
    FROM purchases
    WHERE customer_id IN (SELECT customer_id FROM purchases WHERE purchased_at >= ?1 AND purchased_at < ?2)
      AND purchased_at < ?3
    GROUP BY customer_id
    ORDER BY customer_id
";

impl Shop {
    /// The customers who bought in `[start, end)`, by id, with their history up to `as_of` (which
    /// is not in it).
    ///
    /// # Errors
    /// SQLite's.
    pub fn customers_who_bought(
        &self,
        start: DateTime<Utc>,
        end: DateTime<Utc>,
        as_of: DateTime<Utc>,
    ) -> rusqlite::Result<Vec<Customer>> {
        let connection = self.0.connection();
        let mut query = connection.prepare_cached(CUSTOMERS_WHO_BOUGHT)?;
        let customers = query.query_map(
            params![sql_time(start), sql_time(end), sql_time(as_of)],
            |row| {
                Ok(Customer {
                    customer_id: row.get(0)?,
                    as_of: as_of.date_naive(),
                    first_purchase: row.get(1)?,
                    last_purchase: row.get(2)?,
                    purchase_days: row.get(3)?,
                    lifetime_value_cents: row.get(4)?,
                })
            },
        )?;
        customers.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{Days, TimeDelta, TimeZone};
    use std::collections::HashSet;

    fn day(year: i32, month: u32, day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(year, month, day).unwrap()
    }

    fn six_in_the_morning(day: NaiveDate) -> DateTime<Utc> {
        Utc.from_utc_datetime(&day.and_hms_opt(6, 0, 0).unwrap())
    }

    fn daily(shop: &Shop, on: NaiveDate) -> Vec<Customer> {
        let end = six_in_the_morning(on);
        shop.customers_who_bought(end - TimeDelta::days(1), end, end)
            .unwrap()
    }

    #[test]
    fn a_daily_run_sees_the_purchases_dated_on_its_day() {
        let folder = tempfile::tempdir().unwrap();
        let shop = Shop::open(folder.path().join("shop.db")).unwrap();
        let customers = daily(&shop, day(1997, 2, 28));
        assert_eq!(customers.len(), 42);
        assert!(
            customers
                .iter()
                .all(|customer| customer.last_purchase == day(1997, 2, 28))
        );
        assert_eq!(daily(&shop, day(1998, 6, 30)).len(), 2);
        assert_eq!(daily(&shop, day(1998, 4, 13)), []); // the one day on which nobody bought
    }

    #[test]
    fn history_ends_at_the_logical_date() {
        let folder = tempfile::tempdir().unwrap();
        let shop = Shop::open(folder.path().join("shop.db")).unwrap();
        let first = |as_of: NaiveDate| {
            let start = six_in_the_morning(day(1996, 12, 31));
            let as_of = six_in_the_morning(as_of);
            shop.customers_who_bought(start, as_of, as_of)
                .unwrap()
                .swap_remove(0)
        };
        // customer 1 bought on 1 January, 18 January, 2 August and 12 December 1997
        assert_eq!(
            first(day(1997, 1, 17)),
            Customer {
                customer_id: 1,
                as_of: day(1997, 1, 17),
                first_purchase: day(1997, 1, 1),
                last_purchase: day(1997, 1, 1),
                purchase_days: 1,
                lifetime_value_cents: 2_933,
            }
        );
        assert_eq!(first(day(1997, 9, 30)).purchase_days, 3);
        assert_eq!(
            first(day(1997, 12, 12)).lifetime_value_cents,
            2_933 + 2_973 + 1_496 + 2_648
        );
    }

    #[test]
    fn the_days_of_the_whole_sample_add_up() {
        let folder = tempfile::tempdir().unwrap();
        let shop = Shop::open(folder.path().join("shop.db")).unwrap();
        let (mut rows, mut seen) = (0, HashSet::new());
        for ahead in 0..546 {
            let customers = daily(&shop, day(1997, 1, 1) + Days::new(ahead));
            rows += customers.len();
            seen.extend(customers.into_iter().map(|customer| customer.customer_id));
        }
        assert_eq!((rows, seen.len()), (6_696, 2_357));
    }
}
