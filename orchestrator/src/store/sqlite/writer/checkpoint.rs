//! Copying the write-ahead log into the file.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::runtime::Handle as Tokio;

use super::super::{connection, failure};
use super::Writer;
use crate::failpoint;

/// The length of the write-ahead log, in pages of 4 KiB, at which it is copied into the file; and
/// the length at which writers wait for that.
const CHECKPOINT: u32 = 2_000;
pub(super) const OVERDUE: u32 = 8_000;

impl Writer {
    /// Returns `true` if writers must wait until the write-ahead log is copied. A reader may keep
    /// the log from restarting: it is then tried again only after the log has grown by another
    /// [`CHECKPOINT`], since each try makes all writers wait. While this process copies the log, a
    /// try would fail: SQLite allows one checkpoint at a time.
    pub(super) fn is_overdue(&self) -> bool {
        let (logged, tried) = (
            self.logged.load(Ordering::Relaxed),
            self.tried.load(Ordering::Relaxed),
        );
        logged > OVERDUE
            && (logged < tried || logged - tried > CHECKPOINT)
            && !self.checkpointing.load(Ordering::Acquire)
    }

    /// Copies the write-ahead log into the file, so that the next commit restarts it. Blocks: it
    /// holds the connection, so that no commit of this process adds to the log meanwhile.
    pub(super) fn restart_log(self: &Arc<Self>) {
        let Some(_checkpoint) = Checkpoint::begin(self) else {
            return;
        };
        self.tried
            .store(self.logged.load(Ordering::Relaxed), Ordering::Relaxed);
        let copied = self
            .connection
            .lock()
            .query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()));
        match copied {
            Ok(()) => self.copied.store(0, Ordering::Relaxed),
            Err(error) => self.uncopied(&error),
        }
    }

    /// Logs that the write-ahead log could not be copied. No data is lost, but the log grows.
    fn uncopied(&self, error: &rusqlite::Error) {
        match failure::is_busy(error) {
            true => tracing::debug!("checkpoint postponed, the file is busy: {error}"),
            false => {
                let error = failure::classify(&self.location.path, error);
                tracing::warn!("checkpoint failed, the write-ahead log grows: {error}");
            }
        }
    }

    /// Copies the write-ahead log into the file once it has grown by [`CHECKPOINT`] pages. Copies
    /// on a thread that may block; outside of tokio on this one.
    ///
    /// SQLite restarts the log when all of it is copied and no reader uses it. Under a steady load
    /// there is no such moment, and the log grows until [`is_overdue`](Self::is_overdue) makes
    /// writers wait.
    pub(super) fn checkpoint(self: &Arc<Self>) {
        let (logged, copied) = (
            self.logged.load(Ordering::Relaxed),
            self.copied.load(Ordering::Relaxed),
        );
        let grown = if logged < copied {
            logged
        } else {
            logged - copied
        };
        if grown < CHECKPOINT {
            return;
        }
        let tokio = Tokio::try_current();
        // writers restart the log next, which would fail while a task copies it. Both are due at
        // the same lengths of the log, so that it would fail again and again
        if tokio.is_ok() && self.is_overdue() {
            return;
        }
        let Some(checkpoint) = Checkpoint::begin(self) else {
            return;
        };
        match tokio {
            Ok(tokio) => drop(tokio.spawn_blocking(move || checkpoint.copy_log())),
            Err(_) => checkpoint.copy_log(),
        }
    }
}

/// The one checkpoint of the writer that may run at a time. Resets [`Writer::checkpointing`] when it
/// is dropped: also if the task is dropped before it ran. Otherwise this process would never copy
/// the log again without making writers wait.
struct Checkpoint(Arc<Writer>);

impl Checkpoint {
    /// Begins a checkpoint. Returns `None` if another one of this writer is running.
    fn begin(writer: &Arc<Writer>) -> Option<Self> {
        let is_running = writer.checkpointing.swap(true, Ordering::AcqRel);
        (!is_running).then(|| Self(Arc::clone(writer)))
    }

    /// Copies the write-ahead log into the file on a connection of its own, so that commits
    /// continue meanwhile.
    fn copy_log(self) {
        failpoint::hit("checkpoint");
        let Self(writer) = &self;
        // here and not before the task is spawned: the log stays due if the task never runs
        let logged = writer.logged.load(Ordering::Relaxed);
        writer.copied.store(logged, Ordering::Relaxed);
        let copied = connection::reader(&writer.location).map(|connection| {
            connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
        });
        match copied {
            Ok(Err(error)) => writer.uncopied(&error),
            Err(error) => {
                tracing::warn!("checkpoint failed, the write-ahead log grows: {error}")
            }
            Ok(Ok(())) => {}
        }
    }
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        self.0.checkpointing.store(false, Ordering::Release);
    }
}
