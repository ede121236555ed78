//! Lists of runs.

use rusqlite::Connection;
use rusqlite::types::Value;

use super::read::{self, Failure};
use super::rows::Code;
use crate::state::RunKind;
use crate::store::{RunFilter, RunSummary};

/// Runs without their tasks.
pub(super) fn summaries(
    connection: &Connection,
    filter: &RunFilter,
) -> Result<Vec<RunSummary>, Failure> {
    let (mut conditions, mut values) = (Vec::new(), Vec::new());
    let mut one = |condition: &str, value: Value| {
        values.push(value);
        conditions.push(format!("{condition} ?{}", values.len()));
    };
    if let Some(flow) = &filter.flow {
        one("flow =", flow.clone().into());
    }
    if let Some(since) = filter.since {
        one("logical_date >=", since.timestamp_micros().into());
    }
    if let Some(until) = filter.until {
        one("logical_date <=", until.timestamp_micros().into());
    }
    let codes = |codes: Vec<i64>| {
        codes
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    if !filter.states.is_empty() {
        conditions.push(format!(
            "state IN ({})",
            codes(filter.states.iter().map(|state| state.code()).collect())
        ));
        // said in the words of the index on them
        if filter.states.iter().all(|state| !state.is_final()) {
            conditions.push("state < 2".to_owned());
        }
    }
    if !filter.kinds.is_empty() {
        conditions.push(format!(
            "kind IN ({})",
            codes(filter.kinds.iter().map(|kind| kind.code()).collect())
        ));
        if !filter.kinds.contains(&RunKind::Manual) {
            conditions.push("kind <> 0".to_owned());
        }
    }
    let order = if filter.oldest_first {
        "run"
    } else {
        "run DESC"
    };
    let limit = filter.limit.map_or_else(String::new, |limit| {
        format!(" LIMIT {}", i64::try_from(limit).unwrap_or(i64::MAX))
    });
    let condition = if conditions.is_empty() {
        "true".to_owned()
    } else {
        conditions.join(" AND ")
    };
    read::summaries(
        connection,
        &format!("{condition} ORDER BY {order}{limit}"),
        values,
    )
}
