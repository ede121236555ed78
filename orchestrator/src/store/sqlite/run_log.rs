//! The log of one run: its transitions go to the writer as changes of rows.

use std::sync::Arc;

use super::writer::{OwnedRun, Writer};
use crate::journal::{EncodedResult, RunRecord, Transition};
use crate::store::mirror::Mirror;
use crate::store::sql::changes::RowChange;
use crate::store::{Commit, RunLog};
use crate::value::{EncodingError, Value};

/// The log of a run in the file.
#[derive(Debug)]
pub(super) struct SqliteRunLog {
    mirror: Mirror,
    run: Arc<OwnedRun>,
    writer: Arc<Writer>,
}

impl SqliteRunLog {
    pub(super) fn new(mirror: Mirror, run: OwnedRun, writer: Arc<Writer>) -> Self {
        Self {
            mirror,
            run: Arc::new(run),
            writer,
        }
    }
}

impl RunLog for SqliteRunLog {
    fn encode(&self, value: &Value) -> Result<Option<EncodedResult>, EncodingError> {
        value.keep().map(|bytes| Some(bytes.into()))
    }

    fn record(&self, transition: Transition) {
        self.mirror.record(transition, |transition| {
            if let Some(change) = RowChange::of(transition) {
                self.writer.push(&self.run, change);
            }
        });
    }

    fn needs_commits(&self) -> bool {
        true
    }

    fn commit(&self) -> Commit {
        self.writer.commit(Some(&self.run))
    }

    fn commit_soon(&self) {
        self.writer.commit_soon();
    }

    fn snapshot(&self) -> RunRecord {
        self.mirror.snapshot()
    }
}
