//! The leader on a task that may block.

use std::sync::Arc;
use std::time::Duration;

use super::super::location::place_of;
use super::queue::{QueueEntry, refuse_calls};
use super::{Patience, Trouble, Writer};
use crate::error::StoreError;

/// The time between attempts to commit while the disk is full.
const FULL: Duration = Duration::from_secs(1);

/// A leader on a task that may block.
///
/// However it is dropped, its batch returns to the front of the queue and another leader can
/// follow. This matters if tokio shuts down in the middle of its work: other tokio runtimes may
/// still write to the file.
#[derive(Debug)]
pub(super) struct Leader {
    pub(super) writer: Arc<Writer>,
    pub(super) batch: Vec<QueueEntry>,
    pub(super) leads: bool,
}

impl Leader {
    /// Takes the next batch. Returns `false` if the queue is empty: this leader then no longer
    /// leads.
    fn next(&mut self) -> bool {
        match self.writer.next_batch() {
            Some(batch) => self.batch = batch,
            // `next_batch` gave up the lead under the queue's lock: there may be another leader by
            // now, whose lead `drop` must not take
            None => self.leads = false,
        }
        self.leads
    }

    fn put_back(&mut self) {
        self.writer.put_back(std::mem::take(&mut self.batch));
    }

    /// Writes the batch, on a thread that may block.
    fn write(&mut self) -> Result<(), Trouble> {
        let Self { writer, batch, .. } = self;
        writer.write(batch, Patience::Waits)?;
        writer.committed(std::mem::take(batch));
        Ok(())
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if !self.leads {
            return;
        }
        // before the lead is released: another leader would write later entries first
        self.put_back();
        let waiters = {
            let mut queue = self.writer.queue.lock();
            queue.leading = false;
            std::mem::take(&mut queue.waiters)
        };
        // the first one that is polled becomes the leader
        waiters.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

/// Commits batches until the queue is empty, on threads that may block.
pub(super) async fn lead_slowly(mut leader: Leader) {
    let writer = Arc::clone(&leader.writer);
    let mut full = false;
    loop {
        if writer.is_overdue() {
            let restarted = tokio::task::spawn_blocking(move || {
                leader.writer.restart_log();
                leader
            });
            let Ok(back) = restarted.await else { return };
            leader = back;
        }
        if !leader.next() {
            break;
        }
        if let Err(error) = writer.put_large(&mut leader.batch).await {
            if !full {
                tracing::error!(
                    "storing a large result failed, runs wait and it is retried: {error}"
                );
            }
            full = true;
            leader.put_back();
            tokio::time::sleep(FULL).await;
            continue;
        }
        // the leader moves to the thread: if this task is dropped, the thread finishes the batch
        // and only then releases the lead. Released earlier, it would let another leader write
        // later entries first
        let written = tokio::task::spawn_blocking(move || {
            let written = leader.write();
            (leader, written)
        });
        let Ok((back, written)) = written.await else {
            return;
        };
        leader = back;
        match written {
            Ok(()) => {
                if std::mem::take(&mut full) {
                    tracing::info!(path = %writer.location.path.display(), "writing works again, runs continue");
                }
                writer.checkpoint();
            }
            Err(Trouble::Busy) => {
                tracing::debug!(path = %writer.location.path.display(), "commit retried: another process has been writing for long");
                leader.put_back();
            }
            Err(Trouble::Full) => {
                let error = StoreError::Full {
                    place: place_of(&writer.location.path),
                };
                if !std::mem::replace(&mut full, true) {
                    tracing::error!("{error}; runs wait until there is room");
                }
                refuse_calls(&mut leader.batch, &error);
                leader.put_back();
                tokio::time::sleep(FULL).await;
            }
            Err(Trouble::Failed(error)) => {
                leader.leads = false;
                return writer.fail(std::mem::take(&mut leader.batch), &error);
            }
        }
    }
}
