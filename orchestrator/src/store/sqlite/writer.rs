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

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, params};
use tokio::runtime::Handle as Tokio;
use tokio::sync::oneshot;

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
use crate::id::RunId;
use crate::log::LogLine;
use crate::store::Commit;
use crate::store::sql::changes::RowChange;
use crate::store::sql::rows::Body;

/// The number of entries in one transaction. A row takes about two microseconds.
const BATCH: usize = 512;

/// The number of batches that an inline leader commits after its own, before it hands over the
/// lead: the body that it interrupts must not be held up by the writes of others.
const ROUNDS: usize = 4;

/// The length of the write-ahead log, in pages of 4 KiB, at which it is copied into the file; and
/// the length at which writers wait for that.
const CHECKPOINT: u32 = 2_000;
const OVERDUE: u32 = 8_000;

/// The interval at which a commit looks whether another process still has the file, and the number
/// of looks before it starts again. SQLite's own handler waits up to 100 ms between looks: it would
/// miss the pauses of a process that prunes.
const LOOK: Duration = Duration::from_millis(1);
const LOOKS: i32 = 5_000;

/// The time between attempts to commit while the disk is full.
const FULL: Duration = Duration::from_secs(1);

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

#[derive(Debug, Default)]
struct Queue {
    /// What is to be committed, in order.
    entries: VecDeque<Entry>,
    /// The number of entries pushed so far: the ticket of the last one.
    pushed: u64,
    /// The number of entries committed so far. A ticket up to it is done.
    committed: u64,
    /// Whether there is a leader. Set and reset under the lock of the queue.
    leading: bool,
    /// Whether a task is spawned that commits entries without a waiter.
    soon: bool,
    /// The callers that wait for a commit, with their tickets.
    waiters: Vec<(u64, Waker)>,
    /// Set once the file can no longer be written: every later write and commit gets this error.
    failed: Option<StoreError>,
}

/// The writer's view of a run that this process executes.
#[derive(Debug)]
pub(super) struct OwnedRun {
    pub(super) id: RunId,
    pub(super) row: AtomicI64,
    /// The number of the next row.
    next: AtomicU32,
    /// Whether another process took it over.
    pub(super) lost: AtomicBool,
    /// Whether the next end of a node resets the run's `takeovers`.
    died: AtomicBool,
}

impl Queue {
    /// Appends an entry.
    ///
    /// # Errors
    ///
    /// Returns the error of the writer if the file can no longer be written.
    fn push(&mut self, entry: impl FnOnce() -> Entry) -> Result<(), StoreError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.pushed += 1;
        self.entries.push_back(entry());
        Ok(())
    }
}

impl OwnedRun {
    pub(super) fn new(id: RunId, row: i64, next: u32, died: bool) -> Self {
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
struct Entry {
    run: Option<Arc<OwnedRun>>,
    number: u32,
    write: Write,
}

impl Entry {
    fn call(call: impl Call + 'static) -> Self {
        Self {
            run: None,
            number: 0,
            write: Write::Call(Box::new(call)),
        }
    }

    fn is_large(&self) -> bool {
        matches!(&self.write, Write::Change(change) if change.is_large())
    }

    fn change(&mut self) -> Option<&mut RowChange> {
        match &mut self.write {
            Write::Change(change) => Some(change),
            Write::Call(_) | Write::Nothing => None,
        }
    }
}

#[derive(Debug)]
enum Write {
    /// A change of the run's rows.
    Change(RowChange),
    /// Other statements, in the same transaction as the rest.
    Call(Box<dyn Call>),
    Nothing,
}

/// Statements that run in the same transaction as the rest of a batch. They run again if the
/// transaction is rolled back, so that any other effect must be repeatable.
pub(super) trait Call: Send {
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()>;
    fn done(&mut self, committed: Result<(), StoreError>);
}

impl fmt::Debug for dyn Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Call")
    }
}

/// A call with its result and the channel to its caller, if there is one.
struct QueuedCall<T, F> {
    statements: F,
    result: Option<T>,
    answer: Option<oneshot::Sender<Result<Option<T>, StoreError>>>,
}

impl<T: Send, F: FnMut(&Connection) -> rusqlite::Result<T> + Send> Call for QueuedCall<T, F> {
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
            Entry {
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
            Entry::call(QueuedCall {
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
            Entry::call(QueuedCall {
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
                return Commit::Done(outcome(&queue, run));
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
            return Commit::Done(outcome(&queue, run));
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
                return Poll::Ready(outcome(&queue, run.as_ref()));
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
            if batch.iter().any(Entry::is_large) {
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
    fn next_batch(&self) -> Option<Vec<Entry>> {
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
    fn put_back(&self, batch: Vec<Entry>) {
        let mut queue = self.queue.lock();
        batch
            .into_iter()
            .rev()
            .for_each(|entry| queue.entries.push_front(entry));
    }

    /// Marks a batch as committed and wakes its waiters. Returns the ticket up to which everything
    /// is committed.
    fn committed(&self, batch: Vec<Entry>) -> u64 {
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
    fn fail(&self, batch: Vec<Entry>, error: &StoreError) {
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
    async fn put_large(&self, batch: &mut [Entry]) -> Result<(), StoreError> {
        let changes = batch.iter_mut().filter_map(Entry::change);
        for body in changes.flat_map(RowChange::bodies) {
            if let Body::Large(prefix, result) = body {
                let number = self.blob.fetch_add(1, Ordering::Relaxed);
                let blob = self.blobs.put(Arc::clone(&result.0), number).await?;
                prefix.extend(blob.to_bytes());
                *body = Body::Bytes(std::mem::take(prefix));
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
    fn write(&self, batch: &mut [Entry], patience: Patience) -> Result<(), Trouble> {
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
                Some(Entry {
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
        batch: &mut [Entry],
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
        let mut select =
            connection.prepare_cached("SELECT 1 FROM runs WHERE run = ?1 AND owner = ?2")?;
        let owned = select.exists(params![
            run.row.load(Ordering::Relaxed),
            self.process.number
        ])?;
        if !owned {
            run.lost.store(true, Ordering::Release);
        }
        Ok(owned)
    }

    /// Returns `true` if writers must wait until the write-ahead log is copied. A reader may keep
    /// the log from restarting: it is then tried again only after the log has grown by another
    /// [`CHECKPOINT`], since each try makes all writers wait.
    fn is_overdue(&self) -> bool {
        let (logged, tried) = (
            self.logged.load(Ordering::Relaxed),
            self.tried.load(Ordering::Relaxed),
        );
        logged > OVERDUE && (logged < tried || logged - tried > CHECKPOINT)
    }

    /// Copies the write-ahead log into the file, so that the next commit restarts it. Blocks: it
    /// holds the connection, so that no commit of this process adds to the log meanwhile.
    fn restart_log(&self) {
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
    fn checkpoint(self: &Arc<Self>) {
        let (logged, copied) = (
            self.logged.load(Ordering::Relaxed),
            self.copied.load(Ordering::Relaxed),
        );
        let grown = if logged < copied {
            logged
        } else {
            logged - copied
        };
        if grown < CHECKPOINT || self.checkpointing.swap(true, Ordering::AcqRel) {
            return;
        }
        self.copied.store(logged, Ordering::Relaxed);
        match Tokio::try_current() {
            Ok(tokio) => {
                let writer = Arc::clone(self);
                drop(tokio.spawn_blocking(move || writer.copy_log()));
            }
            Err(_) => self.copy_log(),
        }
    }

    /// Copies the write-ahead log into the file on a connection of its own, so that commits
    /// continue meanwhile.
    fn copy_log(&self) {
        failpoint::hit("checkpoint");
        let copied = connection::reader(&self.location).map(|connection| {
            connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
        });
        match copied {
            Ok(Err(error)) => self.uncopied(&error),
            Err(error) => {
                tracing::warn!("checkpoint failed, the write-ahead log grows: {error}")
            }
            Ok(Ok(())) => {}
        }
        self.checkpointing.store(false, Ordering::Release);
    }
}

/// A leader on a task that may block.
///
/// However it is dropped, its batch returns to the front of the queue and another leader can
/// follow. This matters if tokio shuts down in the middle of its work: other tokio runtimes may
/// still write to the file.
#[derive(Debug)]
struct Leader {
    writer: Arc<Writer>,
    batch: Vec<Entry>,
    leads: bool,
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

async fn lead_slowly(mut leader: Leader) {
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

/// Resets [`Queue::soon`] when it is dropped: also if the task is dropped before it ran. Otherwise
/// no later commit would be scheduled.
struct Soon(Arc<Writer>);

impl Drop for Soon {
    fn drop(&mut self) {
        self.0.queue.lock().soon = false;
    }
}

fn outcome(queue: &Queue, run: Option<&Arc<OwnedRun>>) -> Result<(), StoreError> {
    match (&queue.failed, run) {
        (Some(error), _) => Err(error.clone()),
        (None, Some(run)) if run.lost.load(Ordering::Acquire) => {
            Err(StoreError::RunLost { run: run.id })
        }
        (None, _) => Ok(()),
    }
}

/// Refuses the calls of a batch on a full disk, since their callers can handle the error. The
/// records of runs stay queued.
fn refuse_calls(batch: &mut [Entry], error: &StoreError) {
    for entry in batch {
        if let Write::Call(call) = &mut entry.write {
            call.done(Err(error.clone()));
            entry.write = Write::Nothing;
        }
    }
}
