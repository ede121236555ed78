//! Columns of rows, as rusqlite reads and writes them.

use rusqlite::types::{FromSql, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{Row, ToSql};

use crate::clock::Timestamp;
use crate::store::sql::filter::Parameter;
use crate::store::sql::rows::{AttemptColumns, Unreadable};

impl ToSql for Timestamp {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.micros().into())
    }
}

impl FromSql for Timestamp {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        i64::column_result(value).map(Self::from_micros)
    }
}

impl ToSql for Parameter {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Text(text) => Ok(text.as_str().into()),
            Self::Integer(number) => Ok((*number).into()),
        }
    }
}

/// Converts a number of a column that is never negative. `FromSql` is not used, since only some
/// versions of rusqlite implement it for `u64`.
pub(super) fn unsigned(column: usize, number: i64) -> rusqlite::Result<u64> {
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}

/// Reads the columns of a row of `attempts`, from the column `first` on.
pub(super) fn attempt<'a>(
    row: &'a Row<'_>,
    first: usize,
) -> Result<AttemptColumns<'a>, Unreadable> {
    let get = |at: usize| {
        row.get::<_, i64>(first + at)
            .map_err(|error| error.to_string())
    };
    let body = row.get_ref(first + 6).map_err(|error| error.to_string())?;
    Ok(AttemptColumns {
        frame: get(0)?,
        cell: get(1)?,
        attempt: get(2)?,
        state: get(3)?,
        started: get(4)?,
        took: get(5)?,
        body: body.as_blob_or_null().map_err(|error| error.to_string())?,
    })
}
