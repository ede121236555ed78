//! Commits: everything that waits goes into one transaction.
//!
//! Who has something to record pushes it on the queue. Who waits for it leads, unless somebody does: the leader commits
//! a bounded batch of all that waits, wakes those who wait for it, and looks again; it stops leading under the same lock
//! under which it finds the queue empty, so that no push is overlooked. A commit in the write-ahead log is a dozen
//! microseconds of copying, so a leader commits inline, on the thread it is on. What may take longer goes elsewhere: an
//! fsync a commit (`synchronous=full`), large results, a file that another process is writing, a disk that is full.

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
use super::failure;
use super::location::{Location, Synchronous};
use super::rows::{AttemptRow, BLOB, Body};
use crate::blob::{BlobRef, Blobs};
use crate::error::StoreError;
use crate::failpoint;
use crate::id::RunId;
use crate::store::Commit;

/// How much goes into one transaction. A row takes about two microseconds.
const BATCH: usize = 512;

/// How many batches a leader commits for others when its own is done.
const ROUNDS: usize = 4;

/// After so many pages of 4 KiB, the write-ahead log is copied into the file; after more, writers wait for that.
const CHECKPOINT: u32 = 2_000;
const OVERDUE: u32 = 8_000;

/// How long a commit that waits for another process's waits at a time, and one that waits for room on the disk.
const PATIENCE: Duration = Duration::from_secs(5);
const FULL: Duration = Duration::from_secs(1);

/// Writes one file.
#[derive(Debug)]
pub(super) struct Writer {
    location: Location,
    owner: i64,
    blobs: Arc<dyn Blobs>,
    queue: Mutex<Queue>,
    /// Locked by the leader alone.
    connection: Mutex<Connection>,
    /// How long the write-ahead log is, in pages.
    logged: Arc<AtomicU32>,
    /// How long it was when it was last copied into the file.
    copied: AtomicU32,
    /// How long it was when writers last waited for that.
    tried: AtomicU32,
    checkpointing: AtomicBool,
    /// The number of the next blob: no other process has one near it.
    blob: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Entry>,
    pushed: u64,
    committed: u64,
    leading: bool,
    /// Somebody will commit what nobody waits for.
    soon: bool,
    waiters: Vec<(u64, Waker)>,
    /// The file cannot be written any more.
    failed: Option<StoreError>,
}

/// What the writer knows of a run that this process executes.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) id: RunId,
    pub(super) row: AtomicI64,
    /// The number of the next row.
    next: AtomicU32,
    /// Another process took it over.
    pub(super) lost: AtomicBool,
    /// An end of a node is to clear how often processes died with the run.
    died: AtomicBool,
}

impl Queue {
    /// Puts something at the end, unless the file cannot be written any more.
    fn push(&mut self, entry: impl FnOnce() -> Entry) -> Result<(), StoreError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.pushed += 1;
        self.entries.push_back(entry());
        Ok(())
    }
}

impl Owned {
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

/// Something to be written.
#[derive(Debug)]
struct Entry {
    run: Option<Arc<Owned>>,
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
}

#[derive(Debug)]
pub(super) enum Write {
    Plan(Vec<u8>),
    Attempt(AttemptRow, Option<Box<CacheRow>>),
    Started(i64),
    Cancelling,
    Finished {
        state: i64,
        at: i64,
        error: Option<Vec<u8>>,
        output: Body,
    },
    Released,
    /// Anything else, in a transaction with the rest.
    Call(Box<dyn Call>),
    Nothing,
}

/// A row of `cache`; its body is that of the attempt.
#[derive(Debug)]
pub(super) struct CacheRow {
    pub(super) key: [u8; 32],
    pub(super) task: String,
    pub(super) inputs: [u8; 32],
    pub(super) run: RunId,
    pub(super) created: i64,
    pub(super) expires: Option<i64>,
    pub(super) size: i64,
    pub(super) body: Body,
}

/// Statements that are run in a transaction with the rest. They may be run again, where the transaction is rolled back.
pub(super) trait Call: Send {
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()>;
    fn done(&mut self, committed: Result<(), StoreError>);
}

impl fmt::Debug for dyn Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Call")
    }
}

struct Asked<T, F> {
    statements: F,
    result: Option<T>,
    answer: Option<oneshot::Sender<Result<Option<T>, StoreError>>>,
}

impl<T: Send, F: FnMut(&Connection) -> rusqlite::Result<T> + Send> Call for Asked<T, F> {
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.result = Some((self.statements)(connection)?);
        Ok(())
    }

    fn done(&mut self, committed: Result<(), StoreError>) {
        if let Some(answer) = self.answer.take() {
            // who asked may be gone
            let _ = answer.send(committed.map(|()| self.result.take()));
        } else if let Err(error) = committed {
            tracing::debug!("what nobody waits for could not be written: {error}");
        }
    }
}

/// What kept a batch from being written.
enum Trouble {
    /// Another process writes.
    Busy,
    Full,
    Failed(StoreError),
}

impl Writer {
    pub(super) fn new(
        mut connection: Connection,
        location: Location,
        owner: i64,
        blobs: Arc<dyn Blobs>,
        first_blob: u64,
    ) -> Self {
        let logged = Arc::new(AtomicU32::new(0));
        let pages = Arc::clone(&logged);
        let hooked = connection.wal_hook(Some(
            move |_: &mut rusqlite::hooks::Wal, length: std::ffi::c_int| {
                pages.store(u32::try_from(length).unwrap_or(0), Ordering::Relaxed);
                Ok(())
            },
        ));
        if let Err(error) = hooked {
            tracing::warn!("the length of the write-ahead log is not known: {error}");
        }
        connection.set_prepared_statement_cache_capacity(32);
        Self {
            location,
            owner,
            blobs,
            queue: Mutex::default(),
            connection: Mutex::new(connection),
            logged,
            copied: AtomicU32::new(0),
            tried: AtomicU32::new(0),
            checkpointing: AtomicBool::new(false),
            blob: AtomicU64::new(first_blob),
        }
    }

    /// Pushes what is to be written of a run.
    pub(super) fn push(&self, run: &Arc<Owned>, write: Write) {
        // where the file cannot be written any more, who waits for the commit is told
        let _ = self.queue.lock().push(|| {
            let numbered = matches!(write, Write::Plan(_) | Write::Attempt(..));
            let number = if numbered {
                run.next.fetch_add(1, Ordering::Relaxed)
            } else {
                0
            };
            Entry {
                run: Some(Arc::clone(run)),
                number,
                write,
            }
        });
    }

    /// Runs statements in a transaction, with what else waits.
    pub(super) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        statements: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, mut receiver) = oneshot::channel();
        self.queue.lock().push(|| {
            Entry::call(Asked {
                statements,
                result: None,
                answer: Some(sender),
            })
        })?;
        let commit = self.commit(None).wait();
        let answer = tokio::select! {
            biased;
            // it may be refused before anything is committed
            answer = &mut receiver => answer,
            committed = commit => {
                committed?;
                receiver.await
            }
        };
        let problem = || "a statement was not run".to_owned();
        let unanswered = || StoreError::Failed {
            path: self.location.path.clone(),
            problem: problem(),
        };
        answer.unwrap_or(Ok(None))?.ok_or_else(unanswered)
    }

    /// Runs statements in a transaction with what else waits, some time soon; nobody waits for them.
    pub(super) fn note(
        self: &Arc<Self>,
        statements: impl FnMut(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) {
        self.push_call(statements);
        self.commit_soon();
    }

    /// Pushes statements that nobody waits for: a failure of theirs is told to nobody.
    pub(super) fn push_call(
        &self,
        statements: impl FnMut(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) {
        let _ = self.queue.lock().push(|| {
            Entry::call(Asked {
                statements,
                result: None,
                answer: None,
            })
        });
    }

    /// Commits what was pushed until now. `run` says whose: a run that was lost is an error.
    pub(super) fn commit(self: &Arc<Self>, run: Option<&Arc<Owned>>) -> Commit {
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

    /// Sees to it that what was pushed is committed soon.
    pub(super) fn commit_soon(self: &Arc<Self>) {
        let Ok(tokio) = Tokio::try_current() else {
            return;
        };
        if !std::mem::replace(&mut self.queue.lock().soon, true) {
            let (writer, soon) = (Arc::clone(self), Soon(Arc::clone(self)));
            // at the back of the thread's queue: what is about to be pushed goes with it
            tokio.spawn(async move {
                drop(soon);
                drop(writer.commit(None));
            });
        }
    }

    fn waiting(self: &Arc<Self>, ticket: u64, run: Option<&Arc<Owned>>) -> Commit {
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
            // the tokio runtime that the leader was on is gone
            if !std::mem::replace(&mut queue.leading, true) {
                drop(queue);
                writer.lead_elsewhere();
            }
            Poll::Pending
        })))
    }

    /// Commits batches inline until the queue is empty. What would take long, or what comes after `ticket` and is much,
    /// is left to another leader.
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
            match self.write(&mut batch, Duration::ZERO) {
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
        // made here: where tokio goes down, a task may be dropped before it is polled
        let leader = Leader {
            writer: Arc::clone(self),
            batch: Vec::new(),
            leads: true,
        };
        if let Ok(tokio) = Tokio::try_current() {
            drop(tokio.spawn(lead_slowly(leader)));
        }
    }

    /// Takes what is to be committed next. Where there is nothing, nobody leads any more.
    fn next_batch(&self) -> Option<Vec<Entry>> {
        let mut queue = self.queue.lock();
        if queue.entries.is_empty() {
            queue.leading = false;
            return None;
        }
        let length = queue.entries.len().min(BATCH);
        Some(queue.entries.drain(..length).collect())
    }

    fn put_back(&self, batch: Vec<Entry>) {
        let mut queue = self.queue.lock();
        batch
            .into_iter()
            .rev()
            .for_each(|entry| queue.entries.push_front(entry));
    }

    /// Wakes those who waited for a batch. Gives the ticket up to which all is committed.
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
        woken.into_iter().for_each(Waker::wake);
        for entry in batch {
            if let Write::Call(mut call) = entry.write {
                call.done(Ok(()));
            }
        }
        committed
    }

    /// The file cannot be written: everyone is told, now and from now on.
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

    /// Writes large results where they belong, before anything refers to them.
    async fn put_large(&self, batch: &mut [Entry]) -> Result<(), StoreError> {
        for body in batch.iter_mut().flat_map(|entry| entry.write.bodies()) {
            if let Body::Large(prefix, result) = body {
                let number = self.blob.fetch_add(1, Ordering::Relaxed);
                let blob = self.blobs.put(result.0.to_vec(), number).await?;
                prefix.extend(blob.to_bytes());
                *body = Body::Bytes(std::mem::take(prefix));
                failpoint::hit("blob-put");
            }
        }
        Ok(())
    }

    /// Writes a batch in one transaction. Statements that somebody asked for and that fail are refused alone.
    fn write(&self, batch: &mut [Entry], patience: Duration) -> Result<(), Trouble> {
        let connection = self.connection.lock();
        let trouble = |error: rusqlite::Error| {
            if failure::is_busy(&error) {
                return Trouble::Busy;
            }
            match failure::classify(&self.location.path, &error) {
                StoreError::Full { .. } => Trouble::Full,
                error => Trouble::Failed(error),
            }
        };
        if !patience.is_zero() {
            connection.busy_timeout(patience).map_err(trouble)?;
        }
        let written = loop {
            let mut at = None;
            let written = self.write_with(&connection, batch, &mut at);
            if written.is_err() && !connection.is_autocommit() {
                // some errors roll back by themselves
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
        if !patience.is_zero() {
            connection.busy_timeout(Duration::ZERO).map_err(trouble)?;
        }
        written
    }

    /// `at` is told which entry is in hand.
    fn write_with(
        &self,
        connection: &Connection,
        batch: &mut [Entry],
        at: &mut Option<usize>,
    ) -> rusqlite::Result<()> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        failpoint::hit("transaction-begun");
        let mut last: Option<(*const Owned, bool)> = None;
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
                self.write_entry(connection, run, entry.number, &entry.write)?;
                if entry.write.is_end() && run.died.load(Ordering::Acquire) {
                    revived.push(Arc::clone(run));
                }
            }
        }
        *at = None;
        failpoint::hit("transaction-written");
        connection.prepare_cached("COMMIT")?.execute([])?;
        failpoint::hit("transaction-committed");
        revived
            .iter()
            .for_each(|run| run.died.store(false, Ordering::Release));
        Ok(())
    }

    /// Whether the run is still this process's: no other may have taken it over.
    fn is_owned(&self, connection: &Connection, run: &Owned) -> rusqlite::Result<bool> {
        let mut select =
            connection.prepare_cached("SELECT 1 FROM runs WHERE run = ?1 AND owner = ?2")?;
        let owned = select.exists(params![run.row.load(Ordering::Relaxed), self.owner])?;
        if !owned {
            run.lost.store(true, Ordering::Release);
        }
        Ok(owned)
    }

    fn write_entry(
        &self,
        connection: &Connection,
        run: &Owned,
        number: u32,
        write: &Write,
    ) -> rusqlite::Result<()> {
        let row = run.row.load(Ordering::Relaxed);
        match write {
            Write::Plan(body) => {
                let mut insert =
                    connection.prepare_cached("INSERT INTO plans VALUES (?1, ?2, ?3)")?;
                insert.execute(params![row, number, body])?;
            }
            Write::Attempt(
                AttemptRow {
                    frame,
                    cell,
                    attempt,
                    state,
                    started,
                    took,
                    body,
                },
                cache,
            ) => {
                let mut insert = connection.prepare_cached(
                    "INSERT INTO attempts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                )?;
                insert.execute(params![
                    row,
                    number,
                    frame,
                    cell,
                    attempt,
                    state,
                    started,
                    took,
                    body.bytes()
                ])?;
                if write.is_end() && run.died.load(Ordering::Acquire) {
                    connection
                        .prepare_cached("UPDATE runs SET takeovers = 0 WHERE run = ?1")?
                        .execute([row])?;
                }
                if let Some(cache) = cache {
                    // a result that stands in its row may be as long as a reference
                    let mut replaced = connection.prepare_cached(
                        "INSERT OR IGNORE INTO garbage SELECT substr(body, 2) FROM cache \
                         WHERE key = ?1 AND length(body) = ?2 AND substr(body, 1, 1) = ?3",
                    )?;
                    replaced.execute(params![cache.key, 1 + BlobRef::LENGTH, [BLOB]])?;
                    let CacheRow {
                        key,
                        task,
                        inputs,
                        run,
                        created,
                        expires,
                        size,
                        body,
                    } = &**cache;
                    let mut insert = connection.prepare_cached(
                        "INSERT OR REPLACE INTO cache (key, task, inputs, run, created, expires, size, body) \
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                    )?;
                    let run = run.as_bytes();
                    insert.execute(params![
                        key,
                        task,
                        inputs,
                        run,
                        created,
                        expires,
                        size,
                        body.bytes()
                    ])?;
                }
            }
            Write::Started(at) => {
                let mut update = connection
                    .prepare_cached("UPDATE runs SET state = 1, started = ?2 WHERE run = ?1")?;
                update.execute(params![row, at])?;
            }
            Write::Cancelling => {
                connection
                    .prepare_cached("UPDATE runs SET cancelling = 1 WHERE run = ?1")?
                    .execute([row])?;
            }
            Write::Finished {
                state,
                at,
                error,
                output,
            } => {
                let mut update = connection.prepare_cached(
                    "UPDATE runs SET state = ?2, finished = ?3, error = ?4, output = ?5 WHERE run = ?1",
                )?;
                update.execute(params![row, state, at, error, output.bytes()])?;
            }
            Write::Released => {
                connection
                    .prepare_cached("UPDATE runs SET owner = NULL WHERE run = ?1")?
                    .execute([row])?;
            }
            Write::Call(_) | Write::Nothing => {}
        }
        Ok(())
    }

    /// Whether the write-ahead log has become so long that writers are to wait until it is copied. Where a reader keeps it
    /// from beginning anew, it is tried again after it has grown some more.
    fn is_overdue(&self) -> bool {
        let (logged, tried) = (
            self.logged.load(Ordering::Relaxed),
            self.tried.load(Ordering::Relaxed),
        );
        logged > OVERDUE && (logged < tried || logged - tried > CHECKPOINT)
    }

    /// Copies the write-ahead log into the file, so that the next commit begins it anew. It blocks.
    fn restart_log(&self) {
        self.tried
            .store(self.logged.load(Ordering::Relaxed), Ordering::Relaxed);
        let copied = self
            .connection
            .lock()
            .query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()));
        match copied {
            Ok(()) => self.copied.store(0, Ordering::Relaxed),
            Err(error) => tracing::debug!("the write-ahead log could not be copied yet: {error}"),
        }
    }

    /// Copies the write-ahead log into the file when it has grown by as much as is worth it, on a connection of its own.
    /// The log begins anew when all of it is copied; where writers leave no gap for that, they are made to.
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
        let Ok(tokio) = Tokio::try_current() else {
            return;
        };
        self.copied.store(logged, Ordering::Relaxed);
        let writer = Arc::clone(self);
        drop(tokio.spawn_blocking(move || {
            failpoint::hit("checkpoint");
            let copied = connection::reader(&writer.location).map(|connection| {
                connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
            });
            if let Ok(Err(error)) = copied {
                tracing::debug!("the write-ahead log could not be copied yet: {error}");
            }
            writer.checkpointing.store(false, Ordering::Release);
        }));
    }
}

/// Who leads where that may take long. When it is gone, however it went, its batch is back in its place and another may
/// lead: tokio may go down in the middle of its work, and the file be written by those on another tokio runtime.
#[derive(Debug)]
struct Leader {
    writer: Arc<Writer>,
    batch: Vec<Entry>,
    leads: bool,
}

impl Leader {
    /// Takes the next batch. Where there is none, this leads no more.
    fn next(&mut self) -> bool {
        match self.writer.next_batch() {
            Some(batch) => self.batch = batch,
            // whoever found the queue empty said so under its lock: by now another may lead
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
        writer.write(batch, PATIENCE)?;
        writer.committed(std::mem::take(batch));
        Ok(())
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if !self.leads {
            return;
        }
        self.put_back();
        let waiters = {
            let mut queue = self.writer.queue.lock();
            queue.leading = false;
            std::mem::take(&mut queue.waiters)
        };
        // one of them leads
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
                    "a large result cannot be kept; runs wait, and go on when it can: {error}"
                );
            }
            full = true;
            leader.put_back();
            tokio::time::sleep(FULL).await;
            continue;
        }
        // the thread takes the lead with it: it writes to the end, whatever becomes of this task
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
                    tracing::info!(path = %writer.location.path.display(), "there is room again: runs go on");
                }
                writer.checkpoint();
            }
            Err(Trouble::Busy) => {
                tracing::debug!(path = %writer.location.path.display(), "another process is writing for long");
                leader.put_back();
            }
            Err(Trouble::Full) => {
                let error = StoreError::Full {
                    path: writer.location.path.clone(),
                };
                if !std::mem::replace(&mut full, true) {
                    tracing::error!("{error}; runs wait, and go on when there is room");
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

/// Nobody will commit any more what nobody waits for, once this is gone.
struct Soon(Arc<Writer>);

impl Drop for Soon {
    fn drop(&mut self) {
        self.0.queue.lock().soon = false;
    }
}

fn outcome(queue: &Queue, run: Option<&Arc<Owned>>) -> Result<(), StoreError> {
    match (&queue.failed, run) {
        (Some(error), _) => Err(error.clone()),
        (None, Some(run)) if run.lost.load(Ordering::Acquire) => {
            Err(StoreError::RunLost { run: run.id })
        }
        (None, _) => Ok(()),
    }
}

/// Who asked for something is told that it cannot be had; what runs have recorded waits.
fn refuse_calls(batch: &mut [Entry], error: &StoreError) {
    for entry in batch {
        if let Write::Call(call) = &mut entry.write {
            call.done(Err(error.clone()));
            entry.write = Write::Nothing;
        }
    }
}

impl Entry {
    fn is_large(&self) -> bool {
        let large = |body: &Body| matches!(body, Body::Large(..));
        match &self.write {
            Write::Attempt(row, cache) => {
                large(&row.body) || cache.as_ref().is_some_and(|cache| large(&cache.body))
            }
            Write::Finished { output, .. } => large(output),
            _ => false,
        }
    }
}

impl Write {
    /// Whether a node comes to its end.
    fn is_end(&self) -> bool {
        // 3 and more are ends
        matches!(self, Self::Attempt(AttemptRow { state: 3.., .. }, _))
    }

    fn bodies(&mut self) -> impl Iterator<Item = &mut Body> {
        let (first, second) = match self {
            Self::Attempt(row, cache) => (
                Some(&mut row.body),
                cache.as_mut().map(|cache| &mut cache.body),
            ),
            Self::Finished { output, .. } => (Some(output), None),
            _ => (None, None),
        };
        first.into_iter().chain(second)
    }
}

impl Body {
    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::None | Self::Large(..) => None,
        }
    }
}
