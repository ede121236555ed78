//! The writer: group commit of everything that is queued.
//!
//! Writes are pushed to the queue, in order. The first caller that asks for a commit becomes the
//! leader: it commits a bounded batch of the queue in one transaction, wakes the callers that wait
//! for it, and takes the next batch. It gives up the lead under the same lock under which it finds
//! the queue empty. Otherwise an entry pushed between the two would find a leader that does not
//! look again, and would never be committed.
//!
//! A commit to the write-ahead log is a dozen microseconds of copying, so the leader commits
//! inline, on the thread it is on. It hands the lead to a task that may block ([`Leader`]) for
//! everything that may take longer: an fsync per commit (`synchronous=full`), large results, a file
//! that another process is writing to, a full disk, an overdue checkpoint.
//!
//! Log lines bypass the queue and have transactions of their own ([`Writer::append`]): a leader may
//! have to wait for tokio, but log lines must not.

mod checkpoint;
mod leader;
mod queue;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, params};
use tokio::runtime::Handle as Tokio;
use tokio::sync::oneshot;

use leader::{Leader, lead_slowly};
pub(super) use queue::OwnedRun;
use queue::{Queue, QueueEntry, QueuedCall, Write};

use super::connection;
use super::failure::{self, Failure};
use super::length;
use super::location::{Location, Synchronous, place_of};
use super::owner::Process;
use super::statements::changes;
use super::statements::lines;
use crate::blob::Blobs;
use crate::error::StoreError;
use crate::failpoint;
use crate::log::LogLine;
use crate::store::Commit;
use crate::store::sql::changes::RowChange;
use crate::store::sql::rows::Payload;
use crate::store::sql::statements;

/// The number of entries in one transaction. A row takes about two microseconds.
const BATCH: usize = 512;

/// The number of batches that an inline leader commits after its own, before it hands over the
/// lead: the body that it interrupts must not be held up by the writes of others.
const ROUNDS: usize = 4;

/// The interval at which a commit looks whether another process still has the file, and the number
/// of looks before it starts again. SQLite's own handler waits up to 100 ms between looks: it would
/// miss the pauses of a process that prunes.
const LOOK: Duration = Duration::from_millis(1);
const LOOKS: i32 = 5_000;

/// The time that log lines wait for the leader, which may itself be waiting for another process.
const TURN: Duration = Duration::from_millis(100);

/// The writer of one file.
#[derive(Debug)]
pub(super) struct Writer {
    location: Location,
    process: Process,
    blobs: Arc<dyn Blobs>,
    /// Locked only to push and to take, never during a commit: bodies that record must not wait for
    /// the disk.
    queue: Mutex<Queue>,
    /// Locked by the leader, and while log lines are written.
    connection: Mutex<Connection>,
    /// The length of the write-ahead log, in pages.
    logged: AtomicU32,
    /// Its length when it was last copied into the file.
    copied: AtomicU32,
    /// Its length when writers last waited for that.
    tried: AtomicU32,
    /// Whether a checkpoint is running: one at a time.
    checkpointing: AtomicBool,
    /// The number of the next blob. It starts at a random number, far from those of other
    /// processes.
    blob: AtomicU64,
}

/// The behaviour of a commit while another process is writing to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// Fails at once. For inline leaders: waiting would block a thread of tokio.
    None,
    /// Waits, on a thread that may block.
    Waits,
}

#[expect(
    clippy::disallowed_methods,
    reason = "SQLite waits on its own thread, which is one that may block"
)]
fn look_again(looks: i32) -> bool {
    std::thread::sleep(LOOK);
    looks < LOOKS
}

/// The reason why a batch was not written.
enum Trouble {
    /// Another process is writing.
    Busy,
    Full,
    Failed(StoreError),
}

impl Writer {
    pub(super) fn new(
        mut connection: Connection,
        location: Location,
        process: Process,
        blobs: Arc<dyn Blobs>,
        first_blob: u64,
    ) -> Self {
        length::report(&mut connection);
        connection.set_prepared_statement_cache_capacity(32);
        Self {
            location,
            process,
            blobs,
            queue: Mutex::default(),
            connection: Mutex::new(connection),
            logged: AtomicU32::new(0),
            copied: AtomicU32::new(0),
            tried: AtomicU32::new(0),
            checkpointing: AtomicBool::new(false),
            blob: AtomicU64::new(first_blob),
        }
    }

    /// Pushes a write of a run. Rows are numbered under the queue's lock, so that the numbers have
    /// the order of the queue.
    pub(super) fn push(&self, run: &Arc<OwnedRun>, change: RowChange) {
        // if the file can no longer be written, the next commit of the run returns the error
        let _ = self.queue.lock().push(|| {
            let number = if change.has_number() {
                run.next.fetch_add(1, Ordering::Relaxed)
            } else {
                0
            };
            QueueEntry {
                run: Some(Arc::clone(run)),
                number,
                write: Write::Change(change),
            }
        });
    }

    /// Runs statements in a transaction with the rest of the queue, and returns their result.
    ///
    /// # Errors
    ///
    /// Returns the error of the statements, which does not fail the rest of the batch, or that of
    /// the commit.
    pub(super) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        statements: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, mut receiver) = oneshot::channel();
        self.queue.lock().push(|| {
            QueueEntry::call(QueuedCall {
                statements,
                result: None,
                answer: Some(sender),
            })
        })?;
        let commit = self.commit(None).wait();
        let answer = tokio::select! {
            biased;
            // polled first: a call is refused before the commit if its statements fail, or if the
            // disk is full and the rest of the batch waits
            answer = &mut receiver => answer,
            committed = commit => {
                committed?;
                receiver.await
            }
        };
        let problem = || "a statement was not run".to_owned();
        let unanswered = || StoreError::Failed {
            place: place_of(&self.location.path),
            problem: problem(),
        };
        answer.unwrap_or(Ok(None))?.ok_or_else(unanswered)
    }

    /// Schedules statements for the next transaction, without waiting for it.
    pub(super) fn note(
        self: &Arc<Self>,
        statements: impl FnMut(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) {
        self.push_call(statements);
        self.commit_soon();
    }

    /// Pushes statements without a waiter: a failure of theirs is only logged.
    pub(super) fn push_call(
        &self,
        statements: impl FnMut(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) {
        let _ = self.queue.lock().push(|| {
            QueueEntry::call(QueuedCall {
                statements,
                result: None,
                answer: None,
            })
        });
    }

    /// Commits everything pushed so far.
    ///
    /// The caller becomes the leader, unless there is one. `run` is the run on whose behalf it
    /// waits: the commit then fails if the run was lost to another process.
    pub(super) fn commit(self: &Arc<Self>, run: Option<&Arc<OwnedRun>>) -> Commit {
        let ticket = {
            let mut queue = self.queue.lock();
            let ticket = queue.pushed;
            if queue.failed.is_some() || queue.committed >= ticket {
                return Commit::Done(queue.outcome(run));
            }
            if std::mem::replace(&mut queue.leading, true) {
                drop(queue);
                return self.waiting(ticket, run);
            }
            ticket
        };
        if self.location.synchronous == Synchronous::Full {
            self.lead_elsewhere();
            return self.waiting(ticket, run);
        }
        self.lead(ticket);
        let queue = self.queue.lock();
        if queue.failed.is_some() || queue.committed >= ticket {
            return Commit::Done(queue.outcome(run));
        }
        drop(queue);
        self.waiting(ticket, run)
    }

    /// Schedules a commit of everything pushed so far, without waiting for it.
    pub(super) fn commit_soon(self: &Arc<Self>) {
        let Ok(tokio) = Tokio::try_current() else {
            return;
        };
        if !std::mem::replace(&mut self.queue.lock().soon, true) {
            let (writer, soon) = (Arc::clone(self), Soon(Arc::clone(self)));
            // the task runs behind those that are ready now: what they push is committed with it
            tokio.spawn(async move {
                drop(soon);
                drop(writer.commit(None));
            });
        }
    }

    fn waiting(self: &Arc<Self>, ticket: u64, run: Option<&Arc<OwnedRun>>) -> Commit {
        let (writer, run) = (Arc::clone(self), run.cloned());
        Commit::Waiting(Box::pin(poll_fn(move |cx| {
            let mut queue = writer.queue.lock();
            if queue.failed.is_some() || queue.committed >= ticket {
                return Poll::Ready(queue.outcome(run.as_ref()));
            }
            match queue
                .waiters
                .iter_mut()
                .find(|(of, waker)| *of == ticket && waker.will_wake(cx.waker()))
            {
                Some(_) => {}
                None => queue.waiters.push((ticket, cx.waker().clone())),
            }
            // the ticket is not committed and there is no leader: the tokio runtime of the last one
            // is gone. Without a new one this would wait for ever. The waker is registered under
            // the lock under which the lead is released, so that its release is not missed
            if !std::mem::replace(&mut queue.leading, true) {
                drop(queue);
                writer.lead_elsewhere();
            }
            Poll::Pending
        })))
    }

    /// Commits batches inline until the queue is empty. Hands over the lead if a batch may block,
    /// or if much remains beyond `ticket`, which is all that the caller waits for.
    fn lead(self: &Arc<Self>, ticket: u64) {
        let mut rounds = 0;
        loop {
            let Some(mut batch) = self.next_batch() else {
                return;
            };
            if batch.iter().any(QueueEntry::is_large) {
                self.put_back(batch);
                return self.lead_elsewhere();
            }
            match self.write(&mut batch, Patience::None) {
                Ok(()) => {
                    self.checkpoint();
                    rounds += usize::from(self.committed(batch) >= ticket);
                    if rounds > ROUNDS || self.is_overdue() {
                        return self.lead_elsewhere();
                    }
                }
                Err(Trouble::Failed(error)) => return self.fail(batch, &error),
                Err(Trouble::Busy | Trouble::Full) => {
                    self.put_back(batch);
                    return self.lead_elsewhere();
                }
            }
        }
    }

    /// Hands the lead to a task that may block.
    fn lead_elsewhere(self: &Arc<Self>) {
        // created here and not in the task: while tokio shuts down, a task may be dropped before it
        // is first polled. Dropping the leader then releases the lead; a flag without an owner
        // would stop all commits
        let leader = Leader {
            writer: Arc::clone(self),
            batch: Vec::new(),
            leads: true,
        };
        if let Ok(tokio) = Tokio::try_current() {
            drop(tokio.spawn(lead_slowly(leader)));
        }
    }

    /// Takes the next batch. If the queue is empty, gives up the lead under the same lock, so that
    /// no push is overlooked.
    fn next_batch(&self) -> Option<Vec<QueueEntry>> {
        let mut queue = self.queue.lock();
        if queue.entries.is_empty() {
            queue.leading = false;
            return None;
        }
        let length = queue.entries.len().min(BATCH);
        Some(queue.entries.drain(..length).collect())
    }

    /// Returns a batch to the front of the queue. Must come before the lead is passed on: otherwise
    /// the next leader would write later entries first, and a run's rows would be committed out of
    /// order.
    fn put_back(&self, batch: Vec<QueueEntry>) {
        let mut queue = self.queue.lock();
        batch
            .into_iter()
            .rev()
            .for_each(|entry| queue.entries.push_front(entry));
    }

    /// Marks a batch as committed and wakes its waiters. Returns the ticket up to which everything
    /// is committed.
    fn committed(&self, batch: Vec<QueueEntry>) -> u64 {
        let (committed, woken) = {
            let mut queue = self.queue.lock();
            queue.committed += batch.len() as u64;
            let committed = queue.committed;
            let woken: Vec<Waker> = match queue.waiters.is_empty() {
                true => Vec::new(),
                false => queue
                    .waiters
                    .extract_if(.., |(ticket, _)| *ticket <= committed)
                    .map(|(_, waker)| waker)
                    .collect(),
            };
            (committed, woken)
        };
        // outside of the lock: a waker may run code that pushes to the queue
        woken.into_iter().for_each(Waker::wake);
        for entry in batch {
            if let Write::Call(mut call) = entry.write {
                call.done(Ok(()));
            }
        }
        committed
    }

    /// Fails all queued entries, all waiters and everything that comes later.
    fn fail(&self, batch: Vec<QueueEntry>, error: &StoreError) {
        let (waiters, entries) = {
            let mut queue = self.queue.lock();
            queue.failed = Some(error.clone());
            queue.leading = false;
            (
                std::mem::take(&mut queue.waiters),
                std::mem::take(&mut queue.entries),
            )
        };
        waiters.into_iter().for_each(|(_, waker)| waker.wake());
        for entry in batch.into_iter().chain(entries) {
            if let Write::Call(mut call) = entry.write {
                call.done(Err(error.clone()));
            }
        }
    }

    /// Checks that the file is still at its path. If not, fails the writer.
    pub(super) fn look(&self) -> Result<(), StoreError> {
        self.process
            .presence
            .check()
            .inspect_err(|lost| self.give_up(lost))
    }

    /// Prepares the connection to be closed without touching the files that are now at the store's
    /// path.
    pub(super) fn forsake(&self) {
        connection::forsake(&self.connection.lock());
    }

    /// Fails the writer: other processes take this one for dead, or cannot see its writes.
    pub(super) fn give_up(&self, error: &StoreError) {
        if self.failure().is_none() {
            self.fail(Vec::new(), error);
        }
    }

    /// Returns the error of a writer that has failed.
    pub(super) fn failure(&self) -> Option<StoreError> {
        self.queue.lock().failed.clone()
    }

    /// Writes large results to their blobs. This comes before the transaction that refers to them:
    /// a crash in between leaves a blob without a row, and never a row without its blob.
    async fn put_large(&self, batch: &mut [QueueEntry]) -> Result<(), StoreError> {
        let changes = batch.iter_mut().filter_map(QueueEntry::change);
        for payload in changes.flat_map(RowChange::payloads) {
            if let Payload::Large(prefix, result) = payload {
                let number = self.blob.fetch_add(1, Ordering::Relaxed);
                let blob = self.blobs.put(Arc::clone(&result.0), number).await?;
                prefix.extend(blob.to_bytes());
                *payload = Payload::Bytes(std::mem::take(prefix));
                failpoint::hit("blob-put");
            }
        }
        Ok(())
    }

    fn trouble(&self, failure: Failure) -> Trouble {
        match failure {
            Failure::Sql(error) if failure::is_busy(&error) => Trouble::Busy,
            failure => match failure.at(&self.location.path) {
                StoreError::Full { .. } => Trouble::Full,
                error => Trouble::Failed(error),
            },
        }
    }

    /// Writes log lines in a transaction of their own, on this thread. Returns `false` if another
    /// process is writing, if the leader holds the connection for long, or if the call would block
    /// and `may_block` is `false`.
    pub(super) fn append(
        self: &Arc<Self>,
        lines: &[LogLine],
        may_block: bool,
    ) -> Result<bool, StoreError> {
        if let Some(error) = self.failure() {
            return Err(error);
        }
        if self.is_overdue() {
            if !may_block {
                return Ok(false);
            }
            self.restart_log();
        }
        let connection = match (may_block, self.location.synchronous) {
            (true, _) => self.connection.try_lock_for(TURN),
            (false, Synchronous::Normal) => self.connection.try_lock(),
            (false, Synchronous::Full) => None,
        };
        let Some(connection) = connection else {
            return Ok(false);
        };
        let written = self.append_with(&connection, lines);
        if written.is_err() && !connection.is_autocommit() {
            let _ = connection.execute_batch("ROLLBACK");
        }
        drop(connection);
        match written.map_err(|failure| self.trouble(failure)) {
            Ok(()) => {
                self.checkpoint();
                Ok(true)
            }
            Err(Trouble::Busy) => Ok(false),
            Err(Trouble::Full) => Err(StoreError::Full {
                place: place_of(&self.location.path),
            }),
            Err(Trouble::Failed(error)) => Err(error),
        }
    }

    fn append_with(&self, connection: &Connection, lines: &[LogLine]) -> Result<(), Failure> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        self.process.check(connection)?;
        lines::append(connection, lines)?;
        connection.prepare_cached("COMMIT")?.execute([])?;
        if let Some(length) = length::take() {
            self.logged.store(length, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Writes a batch in one transaction. If the statements of a call fail, the transaction is
    /// rolled back, the call gets the error, and the rest of the batch is written without it.
    fn write(&self, batch: &mut [QueueEntry], patience: Patience) -> Result<(), Trouble> {
        let mut connection = self.connection.lock();
        let trouble = |failure| self.trouble(failure);
        if patience == Patience::Waits {
            connection
                .busy_handler(Some(look_again))
                .map_err(|error| trouble(error.into()))?;
        }
        let written = loop {
            let mut at = None;
            let written = self.write_with(&connection, batch, &mut at);
            if written.is_err() && !connection.is_autocommit() {
                // unless SQLite has rolled back by itself, as it does after some errors
                let _ = connection.execute_batch("ROLLBACK");
            }
            let failed = match written.map_err(trouble) {
                Err(Trouble::Failed(error)) => error,
                written => break written,
            };
            match at.and_then(|at: usize| batch.get_mut(at)) {
                Some(QueueEntry {
                    write: write @ Write::Call(_),
                    ..
                }) => {
                    if let Write::Call(mut call) = std::mem::replace(write, Write::Nothing) {
                        call.done(Err(failed));
                    }
                }
                _ => break Err(Trouble::Failed(failed)),
            }
        };
        // inline leaders share the connection, and must not wait
        if patience == Patience::Waits {
            connection
                .busy_timeout(Duration::ZERO)
                .map_err(|error| trouble(error.into()))?;
        }
        written
    }

    /// Writes a batch. On an error, `at` is the index of the entry that failed.
    fn write_with(
        &self,
        connection: &Connection,
        batch: &mut [QueueEntry],
        at: &mut Option<usize>,
    ) -> Result<(), Failure> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        // checked in each transaction: once other processes take this one for dead they execute its
        // runs, and a late write would mix with theirs
        self.process.check(connection)?;
        if batch
            .iter()
            .any(|entry| matches!(entry.write, Write::Change(RowChange::Finished { .. })))
        {
            // a finished run is reported as such, so it must be in the file that others read
            self.process.presence.check()?;
        }
        failpoint::hit("transaction-begun");
        let mut last: Option<(*const OwnedRun, bool)> = None;
        let mut revived = Vec::new();
        for (number, entry) in batch.iter_mut().enumerate() {
            *at = Some(number);
            let Some(run) = &entry.run else {
                if let Write::Call(call) = &mut entry.write {
                    call.run(connection)?;
                }
                continue;
            };
            let owned = match last {
                Some((of, owned)) if std::ptr::eq(of, Arc::as_ptr(run)) => owned,
                _ => self.is_owned(connection, run)?,
            };
            last = Some((Arc::as_ptr(run), owned));
            if owned {
                let Write::Change(change) = &entry.write else {
                    continue;
                };
                let row = run.row.load(Ordering::Relaxed);
                changes::write_change(connection, row, entry.number, change)?;
                if change.is_end() && run.died.load(Ordering::Acquire) {
                    changes::reset_takeovers(connection, row)?;
                    revived.push(Arc::clone(run));
                }
            }
        }
        *at = None;
        failpoint::hit("transaction-written");
        connection.prepare_cached("COMMIT")?.execute([])?;
        if let Some(length) = length::take() {
            self.logged.store(length, Ordering::Relaxed);
        }
        failpoint::hit("transaction-committed");
        // only after the commit: after a rollback, `takeovers` must be reset again
        revived
            .iter()
            .for_each(|run| run.died.store(false, Ordering::Release));
        Ok(())
    }

    /// Returns `true` if this process still owns the run. Otherwise marks the run as lost: another
    /// process took it over, and its entries are skipped.
    fn is_owned(&self, connection: &Connection, run: &OwnedRun) -> rusqlite::Result<bool> {
        let mut select = connection.prepare_cached(statements::IS_OWNED)?;
        let owned = select.exists(params![
            run.row.load(Ordering::Relaxed),
            self.process.number
        ])?;
        if !owned {
            run.lost.store(true, Ordering::Release);
        }
        Ok(owned)
    }
}

/// Resets [`Queue::soon`] when it is dropped: also if the task is dropped before it ran. Otherwise
/// no later commit would be scheduled.
struct Soon(Arc<Writer>);

impl Drop for Soon {
    fn drop(&mut self) {
        self.0.queue.lock().soon = false;
    }
}
