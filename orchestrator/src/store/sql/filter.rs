//! Filters of runs as the ends of statements.

use super::codes::{Code, sql};
use crate::clock::Timestamp;
use crate::journal::RunFilter;
use crate::journal::summary::DeploymentFilter;

/// A parameter of a statement that is put together.
#[derive(Debug)]
pub(crate) enum Parameter {
    Text(String),
    Integer(i64),
}

/// Returns the text after `WHERE` that selects and sorts the runs that match a filter, and its
/// parameters: `?1` and so on.
pub(crate) fn runs(filter: &RunFilter) -> (String, Vec<Parameter>) {
    let (mut conditions, mut values) = (Vec::new(), Vec::new());
    let mut one = |condition: &str, value: Parameter| {
        values.push(value);
        conditions.push(format!("{condition} ?{}", values.len()));
    };
    if let Some(flow) = &filter.flow {
        one("flow =", Parameter::Text(flow.clone()));
    }
    if let Some(DeploymentFilter(name)) = &filter.deployment {
        let name = name.clone().unwrap_or_default();
        one("deployment =", Parameter::Text(name));
    }
    if let Some(since) = filter.since {
        one(
            "logical_date >=",
            Parameter::Integer(Timestamp::from(since).micros()),
        );
    }
    if let Some(until) = filter.until {
        one(
            "logical_date <=",
            Parameter::Integer(Timestamp::from(until).micros()),
        );
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
        // a partial index is used only if the statement repeats the condition of the index
        if filter.states.iter().all(|state| !state.is_final()) {
            conditions.push(sql!(RUN_OPEN).to_owned());
        }
    }
    if !filter.kinds.is_empty() {
        conditions.push(format!(
            "kind IN ({})",
            codes(filter.kinds.iter().map(|kind| kind.code()).collect())
        ));
        if filter.kinds.iter().all(|kind| kind.has_tick()) {
            conditions.push(sql!(RUN_HAS_TICK).to_owned());
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
    (format!("{condition} ORDER BY {order}{limit}"), values)
}
