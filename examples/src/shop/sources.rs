//! The table `sources`: what the second example reads, one row each. A row more is a source more.

use chrono::{Days, NaiveDate};
use rusqlite::{ErrorCode, Transaction, params};
use serde::{Deserialize, Serialize};

use super::{Shop, midnight, sql_time};

/// A part of the shop's purchases under a name: those of the days from `first_day` to `last_day`,
/// both included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub id: u32,
    pub name: String,
    pub first_day: NaiveDate,
    pub last_day: NaiveDate,
}

/// A source to be added.
#[derive(Clone, Debug)]
pub struct NewSource {
    pub name: String,
    pub first_day: NaiveDate,
    pub last_day: NaiveDate,
}

/// What was sold in a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceSales {
    pub source: Source,
    pub purchases: u32,
    pub customers: u32,
    pub cds: u32,
    pub cents: i64,
}

/// Why a source was not added.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    #[error(
        "expected a new name and a last day that is not before the first, got `{name}` from {first_day} to {last_day}; see the table `sources` for the names in use"
    )]
    Refused {
        name: String,
        first_day: NaiveDate,
        last_day: NaiveDate,
    },
    #[error("the source could not be added")]
    Sqlite(#[from] rusqlite::Error),
}

impl Shop {
    /// All sources, in the order in which they were added.
    ///
    /// # Errors
    /// SQLite's.
    pub fn sources(&self) -> rusqlite::Result<Vec<Source>> {
        let connection = self.0.connection();
        let mut query = connection
            .prepare_cached("SELECT id, name, first_day, last_day FROM sources ORDER BY id")?;
        let sources = query.query_map([], |row| {
            Ok(Source {
                id: row.get(0)?,
                name: row.get(1)?,
                first_day: row.get(2)?,
                last_day: row.get(3)?,
            })
        })?;
        sources.collect()
    }

    /// Adds a source; every run from now on has it.
    ///
    /// # Errors
    /// If the name is taken or empty, or the days are the wrong way round.
    pub fn add_source(&self, source: NewSource) -> Result<(), SourceError> {
        let added = self.0.connection().execute(
            "INSERT INTO sources (name, first_day, last_day) VALUES (?1, ?2, ?3)",
            params![source.name, source.first_day, source.last_day],
        );
        match added {
            Ok(_) => Ok(()),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                let NewSource {
                    name,
                    first_day,
                    last_day,
                } = source;
                Err(SourceError::Refused {
                    name,
                    first_day,
                    last_day,
                })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Adds up what was sold in a source.
    ///
    /// # Errors
    /// SQLite's.
    pub fn sales(&self, source: &Source) -> rusqlite::Result<SourceSales> {
        let connection = self.0.connection();
        let mut query = connection.prepare_cached(
            "SELECT count(*), count(DISTINCT customer_id), coalesce(sum(cds), 0), coalesce(sum(cents), 0)
             FROM purchases WHERE purchased_at >= ?1 AND purchased_at < ?2",
        )?;
        let after = source.last_day.succ_opt().unwrap_or(NaiveDate::MAX);
        query.query_row(
            params![
                sql_time(midnight(source.first_day)),
                sql_time(midnight(after))
            ],
            |row| {
                Ok(SourceSales {
                    source: source.clone(),
                    purchases: row.get(0)?,
                    customers: row.get(1)?,
                    cds: row.get(2)?,
                    cents: row.get(3)?,
                })
            },
        )
    }
}

/// The sources to begin with: the 78 weeks of the sample, which end with it exactly.
pub(super) fn register_weeks(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut insert = transaction
        .prepare("INSERT INTO sources (name, first_day, last_day) VALUES (?1, ?2, ?3)")?;
    let (first, last): (NaiveDate, NaiveDate) = transaction.query_row(
        "SELECT date(min(purchased_at)), date(max(purchased_at)) FROM purchases",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let weeks = first.iter_weeks().take_while(|week| *week <= last);
    for (number, week) in (1..).zip(weeks) {
        insert.execute(params![
            format!("week-{number:02}"),
            week,
            week + Days::new(6)
        ])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(name: &str, first: u32, last: u32) -> NewSource {
        let day = |day| NaiveDate::from_ymd_opt(1997, 12, day).unwrap();
        NewSource {
            name: name.to_owned(),
            first_day: day(first),
            last_day: day(last),
        }
    }

    #[test]
    fn the_weeks_hold_every_purchase_once() {
        let folder = tempfile::tempdir().unwrap();
        let shop = Shop::open(folder.path().join("shop.db")).unwrap();
        let sources = shop.sources().unwrap();
        assert_eq!(sources.len(), 78);
        let purchases: u32 = sources
            .iter()
            .map(|source| shop.sales(source).unwrap().purchases)
            .sum();
        assert_eq!(purchases, 6_919);
    }

    #[test]
    fn a_name_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let shop = Shop::open(folder.path().join("shop.db")).unwrap();
        shop.add_source(new("christmas", 1, 24)).unwrap();
        assert_eq!(shop.sources().unwrap().len(), 79);
        for refused in [
            new("christmas", 1, 24),
            new("", 1, 24),
            new("backwards", 24, 1),
        ] {
            let error = shop.add_source(refused).unwrap_err().to_string();
            assert!(error.contains("expected a new name"), "{error}");
        }
        assert_eq!(shop.sources().unwrap().len(), 79);
    }
}
