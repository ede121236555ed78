//! Log lines.

use async_trait::async_trait;

use super::SqliteStore;
use super::statements::lines;
use crate::error::StoreError;
use crate::id::RunId;
use crate::log::LogLine;
use crate::store::LogStore;

#[async_trait]
impl LogStore for SqliteStore {
    fn append_logs(&self, lines: &mut Vec<LogLine>, may_block: bool) -> Result<bool, StoreError> {
        let is_written = self.file.writer.append(lines, may_block)?;
        if is_written {
            lines.clear();
        }
        Ok(is_written)
    }

    async fn read_logs(
        &self,
        run: RunId,
        after: u64,
        at_most: usize,
    ) -> Result<Vec<LogLine>, StoreError> {
        self.file
            .read(move |connection| lines::after(connection, run, after, at_most))
            .await
    }
}
