//! Stored log lines.

use std::fmt;

use async_trait::async_trait;

use crate::error::StoreError;
use crate::id::RunId;
use crate::log::LogLine;

/// Stores the log lines of runs.
#[async_trait]
pub(crate) trait LogStore: fmt::Debug + Send + Sync {
    /// Appends lines to their runs' logs and numbers them there, in order. Lines of unknown or
    /// pruned runs are dropped.
    ///
    /// Does not depend on tokio, since bodies may occupy all of its threads. Returns `true` once
    /// the lines are committed and removed from `lines`. Returns `false` if they cannot be written
    /// now: another process is writing, or the call would block and `may_block` is `false`.
    fn append_logs(&self, lines: &mut Vec<LogLine>, may_block: bool) -> Result<bool, StoreError>;

    /// Returns at most `at_most` lines of a run after a number, in order. Unknown and pruned runs
    /// have no lines.
    async fn read_logs(
        &self,
        run: RunId,
        after: u64,
        at_most: usize,
    ) -> Result<Vec<LogLine>, StoreError>;
}
