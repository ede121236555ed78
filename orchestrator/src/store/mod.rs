//! Where runs are kept.
//!
//! The interface speaks of transitions, not of tables: a run is created before its body starts, and from then on its
//! [`RunLog`] is told what becomes of it. What depends on a transition starts after its commit. Who writes: a run's log
//! is written by the one process that executes the run, and by nobody else.

mod memory;
mod record;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;

pub(crate) use memory::{MemoryStore, unrecorded};
pub(crate) use record::{FrameMeta, NewRun, Row, RunEnd};
pub use record::{RunRecord, TaskRun, Tasks};

use crate::error::StoreError;
use crate::graph::NodeMeta;

/// Keeps runs. Implementations: [`MemoryStore`].
#[async_trait]
pub(crate) trait Store: fmt::Debug + Send + Sync {
    /// Accepts a run, in the state pending.
    async fn create_run(&self, run: NewRun) -> Result<Arc<dyn RunLog>, StoreError>;

    /// All runs of a flow, in the order in which they were accepted.
    async fn runs(&self, flow: &str) -> Result<Vec<RunRecord>, StoreError>;
}

/// What becomes of one run.
pub(crate) trait RunLog: fmt::Debug + Send + Sync {
    /// Records a transition. What depends on it waits for the commit.
    fn record(&self, transition: Transition) -> Commit;

    /// The run as it is recorded now.
    fn snapshot(&self) -> RunRecord;
}

/// One step in the life of a run. Nodes and frames are numbered in the order in which they are recorded.
#[derive(Debug)]
pub(crate) enum Transition {
    /// The run's body starts.
    RunStarted { at: i64 },
    /// Nodes were planned.
    Planned(Vec<NodeMeta>),
    /// A mapping learned its list; its elements, times its nodes, are pending.
    Expanded(FrameMeta),
    /// More nodes of a mapping were planned, while it runs.
    Extended { frame: u32 },
    /// A node, or an element of one, changed its state.
    Task { frame: u32, cell: u32, row: Row },
    /// The run reached its final state.
    RunFinished(RunEnd),
}

/// The commit of a transition: there already, or to be waited for.
pub(crate) enum Commit {
    Done(Result<(), StoreError>),
    #[expect(dead_code, reason = "for stores that write to a disk or a network")]
    Waiting(BoxFuture<'static, Result<(), StoreError>>),
}

impl Commit {
    pub(crate) async fn wait(self) -> Result<(), StoreError> {
        match self {
            Self::Done(result) => result,
            Self::Waiting(commit) => commit.await,
        }
    }
}
