use std::time::Duration;

use super::{FlowFunction, Missed, Overlap, ScheduleDef};
use crate::task::{Parameter, Resource, TaskOptions};

/// A flow as `#[flow]` wrote it down: one static for each flow function.
#[derive(Debug)]
pub struct FlowDef {
    /// Its name: the function's, or `name = "…"`.
    pub name: &'static str,
    /// The crate that it is in.
    pub crate_name: &'static str,
    /// The module that it is in.
    pub module: &'static str,
    /// The file that it is in.
    pub file: &'static str,
    /// The line that it is on.
    pub line: u32,
    /// `description = "…"`, or its doc comment.
    pub description: &'static str,
    /// Its tags.
    pub tags: &'static [&'static str],
    /// Its parameters, in order, without the context.
    pub parameters: &'static [Parameter],
    /// The resources that it says its tasks need.
    pub resources: &'static [Resource],
    /// Whether it is an `async fn`.
    pub is_async: bool,
    /// How many runs of it may be under way at once; no limit where it is `None`.
    pub max_active_runs: Option<u32>,
    /// When its runs are due, where it says so itself.
    pub schedule: Option<ScheduleDef>,
    /// What becomes of the ticks that came while nobody served.
    pub missed: Missed,
    /// What becomes of a scheduled run when `max_active_runs` are under way.
    pub overlap: Overlap,
    /// How long a run may take; no limit where it is `None`.
    pub timeout: Option<Duration>,
    /// Options of its tasks, where neither the call nor the task sets them.
    pub defaults: TaskOptions,
    /// What runs.
    pub function: &'static dyn FlowFunction,
}

/// A flow's entry in the registry of this binary.
#[derive(Debug)]
pub struct FlowEntry(pub &'static FlowDef);

inventory::collect!(FlowEntry);
