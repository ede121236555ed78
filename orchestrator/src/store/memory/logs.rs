//! Log lines.

use async_trait::async_trait;

use super::MemoryStore;
use crate::error::StoreError;
use crate::id::RunId;
use crate::log::LogLine;
use crate::store::LogStore;

#[async_trait]
impl LogStore for MemoryStore {
    fn append_logs(&self, lines: &mut Vec<LogLine>, _: bool) -> Result<bool, StoreError> {
        for line in lines.drain(..) {
            let run = self.runs.lock().by_id.get(&line.run).cloned();
            if let Some(run) = run.filter(|run| !run.mirror.is_pruned()) {
                run.lines.lock().push(line);
            }
        }
        Ok(true)
    }

    async fn read_logs(
        &self,
        run: RunId,
        after: u64,
        at_most: usize,
    ) -> Result<Vec<LogLine>, StoreError> {
        let run = self.runs.lock().by_id.get(&run).cloned();
        Ok(run.map_or_else(Vec::new, |run| run.lines.lock().after(after, at_most)))
    }
}
