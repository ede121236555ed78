use std::fmt;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::mapped;
use super::upstreams::RecordedWiring;
use crate::flow::{FlowCall, registry};
use crate::graph;
use crate::journal::RunRecord;
use crate::task::{Context, RunFacts};

/// The maximum number of keys in an error.
const NAMED: usize = 10;

/// The tasks that exist if a key does not identify exactly one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum KnownTasks {
    /// A mapped task with this number of elements.
    Elements { key: String, elements: u32 },
    /// A mapped task whose list is not known.
    NoList { key: String },
    /// Tasks with these keys; those of a mapping are without an index.
    Keys(Vec<String>),
    /// The records of the tasks were pruned.
    Pruned,
}

/// Returns the tasks that exist if a key does not identify exactly one. For a run that has not
/// started, they are those of its flow's graph.
pub(crate) fn known(record: &RunRecord, key: &str) -> KnownTasks {
    if record.is_pruned() {
        return KnownTasks::Pruned;
    }
    let wiring = RecordedWiring::new(record);
    if let Some(known) = mapped::known(&wiring, key) {
        return known;
    }
    let keys = wiring.keys();
    KnownTasks::Keys(if keys.is_empty() {
        planned(record).into_iter().map(|(key, _)| key).collect()
    } else {
        keys
    })
}

/// Returns the keys of the future tasks of a run that does not have any yet, and whether they are
/// mapped. The list is empty if the flow is an `async fn`, or if it is not in this binary.
pub(super) fn planned(record: &RunRecord) -> Vec<(String, bool)> {
    let open = record.tables().nodes.is_empty() && !record.state().is_final();
    let Some(flow) = registry::find(record.flow()).filter(|flow| open && !flow.is_async) else {
        return Vec::new();
    };
    let Ok(call) = FlowCall::recall(flow, record.parameters()) else {
        return Vec::new();
    };
    let (logical_date, interval) = (record.logical_date(), record.interval());
    let facts = RunFacts {
        id: record.id(),
        flow: flow.name,
        deployment: record.deployment().map(Arc::from),
        logical_date,
        interval,
    };
    let context = Arc::new(Context::of_flow(Arc::new(facts), CancellationToken::new()));
    let graph = graph::of_flow(&call, &context);
    let keys = graph.iter().flat_map(|graph| graph.nodes());
    keys.map(|node| (node.key().to_owned(), node.is_mapped()))
        .collect()
}

impl KnownTasks {
    /// Describes the elements of a mapping, given their number.
    pub(crate) fn range(elements: u32) -> String {
        match elements {
            0 => "no elements".to_owned(),
            1 => "one element, 0".to_owned(),
            _ => format!("elements 0 to {}", elements - 1),
        }
    }
}

impl fmt::Display for KnownTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elements { key, elements } => {
                write!(f, "`{key}` with {}", Self::range(*elements))
            }
            Self::NoList { key } => write!(f, "`{key}`, whose list is not available"),
            Self::Pruned => f.write_str("none: the records of its tasks were pruned"),
            Self::Keys(keys) if keys.is_empty() => f.write_str("none"),
            Self::Keys(keys) => {
                for (at, key) in keys.iter().take(NAMED).enumerate() {
                    write!(f, "{}`{key}`", if at == 0 { "" } else { ", " })?;
                }
                match keys.len().saturating_sub(NAMED) {
                    0 => Ok(()),
                    more => write!(f, ", {more} more"),
                }
            }
        }
    }
}
