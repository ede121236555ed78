use std::collections::HashMap;

use super::await_order::AwaitOrder;
use super::place::RowPlace;
use super::result::EncodedResult;
use super::tables::RunTables;

/// The record of a run that a process resumes.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) tables: RunTables,
    /// The results of nodes and elements.
    pub(crate) results: HashMap<RowPlace, EncodedResult>,
    /// The order in which awaited nodes were delivered to the bodies.
    pub(crate) await_order: AwaitOrder,
    /// The number of consecutive processes that died with the run before any of its nodes ended.
    pub(crate) takeovers: u32,
    /// The number of processes that ended while bodies of the run may have been running, over its
    /// whole life.
    pub(crate) deaths: u32,
    /// Whether the run's cancellation was requested.
    pub(crate) cancelling: bool,
}
