//! Claims of runs whose caller may be gone before it receives them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::params;

use super::writer::Writer;
use crate::id::RunId;

/// Undoes a claim of a run if the caller's future is dropped before it receives the run. Without
/// this the run would belong to this process, which does not know of it, and nothing would execute
/// it as long as the process lives.
pub(super) struct ClaimGuard<'a> {
    writer: &'a Arc<Writer>,
    undo: &'static str,
    id: RunId,
    owner: i64,
    /// Whether the claim was made, so that there is something to undo.
    pub(super) done: Arc<AtomicBool>,
    is_armed: bool,
}

impl<'a> ClaimGuard<'a> {
    pub(super) fn new(writer: &'a Arc<Writer>, undo: &'static str, id: RunId, owner: i64) -> Self {
        Self {
            writer,
            undo,
            id,
            owner,
            done: Arc::default(),
            is_armed: true,
        }
    }

    /// The caller has the run: there is nothing to undo.
    pub(super) fn disarm(mut self) {
        self.is_armed = false;
    }
}

impl Drop for ClaimGuard<'_> {
    fn drop(&mut self) {
        let (undo, id, owner, done) = (self.undo, self.id, self.owner, Arc::clone(&self.done));
        if self.is_armed {
            // the claim is ahead of this in the queue, or was committed: `done` is set by the time
            // that this runs
            self.writer
                .note(move |connection| match done.load(Ordering::Acquire) {
                    true => connection
                        .execute(undo, params![id.as_bytes(), owner])
                        .map(drop),
                    false => Ok(()),
                });
        }
    }
}
