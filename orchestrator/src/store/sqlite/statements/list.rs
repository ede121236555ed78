//! Lists of runs.

use rusqlite::Connection;

use super::super::failure::Failure;
use super::history;
use crate::journal::{RunFilter, RunSummary};
use crate::store::sql::filter;

/// Returns the runs that match a filter, without their tasks.
pub(crate) fn summaries(
    connection: &Connection,
    filter: &RunFilter,
) -> Result<Vec<RunSummary>, Failure> {
    let (condition, values) = filter::runs(filter);
    history::summaries(connection, &condition, values)
}
