//! The queue of writes, in the order in which they are committed.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::task::Waker;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::error::StoreError;
use crate::id::RunId;
use crate::store::sql::changes::RowChange;

/// What is to be committed, and the callers that wait for it.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// What is to be committed, in order.
    pub(super) entries: VecDeque<QueueEntry>,
    /// The number of entries pushed so far: the ticket of the last one.
    pub(super) pushed: u64,
    /// The number of entries committed so far. A ticket up to it is done.
    pub(super) committed: u64,
    /// Whether there is a leader. Set and reset under the lock of the queue.
    pub(super) leading: bool,
    /// Whether a task is spawned that commits entries without a waiter.
    pub(super) soon: bool,
    /// The callers that wait for a commit, with their tickets.
    pub(super) waiters: Vec<(u64, Waker)>,
    /// Set once the file can no longer be written: every later write and commit gets this error.
    pub(super) failed: Option<StoreError>,
}

/// The writer's view of a run that this process executes.
#[derive(Debug)]
pub(in crate::store::sqlite) struct OwnedRun {
    pub(super) id: RunId,
    pub(super) row: AtomicI64,
    /// The number of the next row.
    pub(super) next: AtomicU32,
    /// Whether another process took it over.
    pub(super) lost: AtomicBool,
    /// Whether the next end of a node resets the run's `takeovers`.
    pub(super) died: AtomicBool,
}

impl Queue {
    /// Appends an entry.
    ///
    /// # Errors
    ///
    /// Returns the error of the writer if the file can no longer be written.
    pub(super) fn push(&mut self, entry: impl FnOnce() -> QueueEntry) -> Result<(), StoreError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.pushed += 1;
        self.entries.push_back(entry());
        Ok(())
    }

    /// Returns the result of a commit on behalf of a run.
    pub(super) fn outcome(&self, run: Option<&Arc<OwnedRun>>) -> Result<(), StoreError> {
        match (&self.failed, run) {
            (Some(error), _) => Err(error.clone()),
            (None, Some(run)) if run.lost.load(Ordering::Acquire) => {
                Err(StoreError::RunLost { run: run.id })
            }
            (None, _) => Ok(()),
        }
    }
}

impl OwnedRun {
    pub(in crate::store::sqlite) fn new(id: RunId, row: i64, next: u32, died: bool) -> Self {
        Self {
            id,
            row: AtomicI64::new(row),
            next: AtomicU32::new(next),
            lost: AtomicBool::new(false),
            died: AtomicBool::new(died),
        }
    }
}

/// An entry of the queue.
#[derive(Debug)]
pub(super) struct QueueEntry {
    pub(super) run: Option<Arc<OwnedRun>>,
    pub(super) number: u32,
    pub(super) write: Write,
}

impl QueueEntry {
    pub(super) fn call(call: impl QueuedStatements + 'static) -> Self {
        Self {
            run: None,
            number: 0,
            write: Write::Call(Box::new(call)),
        }
    }

    pub(super) fn is_large(&self) -> bool {
        matches!(&self.write, Write::Change(change) if change.is_large())
    }

    pub(super) fn change(&mut self) -> Option<&mut RowChange> {
        match &mut self.write {
            Write::Change(change) => Some(change),
            Write::Call(_) | Write::Nothing => None,
        }
    }
}

#[derive(Debug)]
pub(super) enum Write {
    /// A change of the run's rows.
    Change(RowChange),
    /// Other statements, in the same transaction as the rest.
    Call(Box<dyn QueuedStatements>),
    Nothing,
}

/// Statements that run in the same transaction as the rest of a batch. They run again if the
/// transaction is rolled back, so that any other effect must be repeatable.
pub(super) trait QueuedStatements: Send {
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()>;
    fn done(&mut self, committed: Result<(), StoreError>);
}

impl fmt::Debug for dyn QueuedStatements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QueuedStatements")
    }
}

/// Queued statements with their result and the channel to their caller, if there is one.
pub(super) struct QueuedCall<T, F> {
    pub(super) statements: F,
    pub(super) result: Option<T>,
    pub(super) answer: Option<oneshot::Sender<Result<Option<T>, StoreError>>>,
}

impl<T: Send, F: FnMut(&Connection) -> rusqlite::Result<T> + Send> QueuedStatements
    for QueuedCall<T, F>
{
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.result = Some((self.statements)(connection)?);
        Ok(())
    }

    fn done(&mut self, committed: Result<(), StoreError>) {
        if let Some(answer) = self.answer.take() {
            // the caller may be gone: its future was dropped
            let _ = answer.send(committed.map(|()| self.result.take()));
        } else if let Err(error) = committed {
            tracing::debug!("background write failed: {error}");
        }
    }
}

/// Refuses the calls of a batch on a full disk, since their callers can handle the error. The
/// records of runs stay queued.
pub(super) fn refuse_calls(batch: &mut [QueueEntry], error: &StoreError) {
    for entry in batch {
        if let Write::Call(call) = &mut entry.write {
            call.done(Err(error.clone()));
            entry.write = Write::Nothing;
        }
    }
}
