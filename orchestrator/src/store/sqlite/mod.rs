//! The store in an SQLite file.
//!
//! Any number of processes may have the file open; SQLite orders their commits. A run has one
//! writer, the process whose number is in its `owner` column: [`owner`] describes how a process is
//! known to be alive. Errors about locks never leave this folder: a caller that finds the file busy
//! waits for its turn.
//!
//! A transition of a run becomes a row ([`rows`]), goes to the writer's queue ([`log`]) and is
//! committed together with everything else that is queued ([`writer`]). Reads apply the rows again
//! ([`history`]), on connections of their own.

mod cache;
#[cfg(test)]
mod child;
mod codes;
mod connection;
mod creation;
#[cfg(test)]
mod damage;
mod failure;
mod history;
mod length;
mod lines;
mod list;
mod location;
mod log;
mod owner;
mod ownership;
mod presence;
mod prune;
mod rows;
mod runs;
mod schema;
mod serving;
mod upkeep;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::{Connection, params};
use tokio::sync::Semaphore;

use cache::{Doomed, Found};
use location::Location;
use log::SqliteLog;
use owner::Owner;
use ownership::{RELEASE, Reopening};
use prune::Slice;
use rows::stored_result;
use writer::{Owned, Writer};

use super::mirror::Mirror;
use super::{
    Abandoned, CacheEntry, CacheFilter, Claim, Created, Look, Lookup, Pruned, RunLog, ScheduleKey,
    Store, StoreCheck, TakenOver, Wanted,
};
use crate::blob::{self, BlobRef, Blobs};
use crate::clock::Timestamp;
use crate::error::{BlobError, Error, RerunError, StoreError};
use crate::failpoint;
use crate::id::{self, RunId};
use crate::journal::{
    AttemptRecord, CacheHit, CacheKey, CacheMiss, ClearedRows, EncodedResult, NewRun, ResultValue,
    RunFilter, RunRecord, RunSummary, Transition, clearing,
};
use crate::log::LogLine;
use crate::state::Rerun;

/// The number of connections that read at once.
const READERS: usize = 4;

/// A store in an SQLite file.
#[derive(Debug)]
struct SqliteStore {
    file: Arc<File>,
}

/// The file, as this process has it open.
#[derive(Debug)]
struct File {
    location: Location,
    writer: Arc<Writer>,
    owner: Owner,
    blobs: Arc<dyn Blobs>,
    readers: Mutex<Vec<Connection>>,
    /// Permits for concurrent reads.
    reading: Semaphore,
}

impl File {
    /// Returns the dead processes.
    ///
    /// # Errors
    ///
    /// Returns an error if other processes take this one for dead.
    fn dead(&self, connection: &Connection) -> Result<Vec<i64>, failure::Failure> {
        self.owner.check(connection)?;
        Ok(owner::dead_owners(
            connection,
            &self.location,
            self.owner.number(),
        )?)
    }
}

/// Opens the file at a URL, and creates it if it does not exist. Large results go to `blobs`, or to
/// a folder beside the file.
pub(super) fn open(
    url: &str,
    blobs: Option<&str>,
    now: Timestamp,
) -> Result<Arc<dyn Store>, StoreError> {
    SqliteStore::open(url, blobs, now).map(|store| Arc::new(store) as _)
}

/// Returns `true` if the file at a URL exists, or if the URL is invalid: opening it then reports
/// the error.
#[cfg(feature = "cli")]
pub(super) fn exists(url: &str) -> bool {
    Location::parse(url).map_or(true, |location| location.path.exists())
}

impl Drop for File {
    fn drop(&mut self) {
        // closing the last connection deletes the write-ahead log by its name: if the file was
        // replaced, that is the log of another store
        if self.owner.process().presence.check().is_err() {
            let readers = std::mem::take(&mut *self.readers.lock());
            self.writer.forsake();
            readers.iter().for_each(connection::forsake);
        }
    }
}

impl SqliteStore {
    fn open(url: &str, blobs: Option<&str>, now: Timestamp) -> Result<Self, StoreError> {
        let location = Location::parse(url)?;
        let blobs = match blobs {
            Some(url) => blob::blobs_by_url(url)?,
            None => {
                blob::blobs_beside(connection::beside(&location.path, "-blobs"), &location.path)
            }
        };
        let mut random = [0; 16];
        let (entropy, mut first_blob) = (id::entropy(), [0; 8]);
        random.copy_from_slice(&entropy[..16]);
        first_blob.copy_from_slice(&entropy[16..24]);
        let connection = connection::open(&location, now)?;
        let owner = Owner::register(&connection, &location, random, now)?;
        connection::copy_long_log(&connection, &location.path);
        // checked on a second connection, before anything depends on the registration
        let reader = connection::reader(&location)?;
        owner
            .check(&reader)
            .map_err(|failure| failure.at(&location.path))?;
        // an inline leader must not wait for other processes: it would block a thread of tokio
        let patient = connection.busy_timeout(std::time::Duration::ZERO);
        patient.map_err(|error| failure::classify(&location.path, &error))?;
        let writer = Arc::new(Writer::new(
            connection,
            location.clone(),
            owner.process().clone(),
            Arc::clone(&blobs),
            u64::from_le_bytes(first_blob),
        ));
        Ok(Self {
            file: Arc::new(File {
                location,
                writer,
                owner,
                blobs,
                readers: Mutex::new(vec![reader]),
                reading: Semaphore::new(READERS),
            }),
        })
    }

    /// Runs a read on a thread that may block, on a connection that only reads.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, failure::Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let file = Arc::clone(&self.file);
        let _permit = self.file.reading.acquire().await;
        let done = tokio::task::spawn_blocking(move || {
            let pooled = file.readers.lock().pop();
            let connection = match pooled {
                Some(connection) => connection,
                None => {
                    let opened = connection::reader(&file.location);
                    // after opening: a file that was replaced before that is noticed now
                    file.writer.look()?;
                    opened?
                }
            };
            let read = read(&connection).map_err(|failure| failure.at(&file.location.path));
            if let Err(lost @ (StoreError::ProcessLost { .. } | StoreError::FileLost { .. })) =
                &read
            {
                file.writer.give_up(lost);
            }
            file.readers.lock().push(connection);
            read
        });
        done.await
            .unwrap_or_else(|_| Err(self.failed("the process stops".to_owned())))
    }

    async fn call<T: Send + 'static>(
        &self,
        statements: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.file.writer.call(statements).await
    }

    /// Returns the dead processes.
    async fn dead(&self) -> Result<Vec<i64>, StoreError> {
        let file = Arc::clone(&self.file);
        self.read(move |connection| file.dead(connection)).await
    }

    /// Removes the rows and lock files of dead processes whose runs have all been taken over.
    async fn forget(&self, dead: &[i64]) {
        let dead = dead.to_vec();
        let strike = move |connection: &Connection| {
            let struck = dead
                .iter()
                .filter_map(|dead| owner::strike(connection, *dead).transpose());
            struck.collect::<rusqlite::Result<Vec<_>>>()
        };
        let struck = self.call(strike).await;
        if let Err(error) =
            struck.and_then(|locks| owner::remove_locks(&self.file.location, &locks))
        {
            tracing::debug!("removing a dead process failed: {error}");
        }
    }

    async fn fetch(&self, body: &[u8]) -> Result<EncodedResult, StoreError> {
        match stored_result(body).map_err(|problem| self.damaged(problem))? {
            Ok(inline) => Ok(inline),
            Err(blob) => Ok(self.file.blobs.get(&blob).await?.into()),
        }
    }

    /// Does long work in short transactions, until `goes_on` returns `false`. Each transaction is
    /// followed by a pause as long as it took: without pauses, writers of other processes would
    /// wait until all of it is done.
    async fn in_slices<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection, &mut Slice) -> rusqlite::Result<T> + Clone + Send + 'static,
        mut goes_on: impl FnMut(T) -> bool,
    ) -> Result<(), StoreError> {
        loop {
            let work = work.clone();
            let slice = self.call(move |connection| {
                let mut slice = Slice::new();
                Ok((work(connection, &mut slice)?, slice.began))
            });
            let (done, began) = slice.await?;
            if !goes_on(done) {
                return Ok(());
            }
            tokio::time::sleep(began.elapsed()).await;
        }
    }

    /// Does work on each of many items, in short transactions. `work` returns the number of items
    /// that it has processed.
    async fn each_in_slices<T: Send + Sync + 'static, U: Send + 'static>(
        &self,
        all: Arc<[T]>,
        work: impl Fn(&Connection, &[T], &mut Slice) -> rusqlite::Result<(U, usize)>
        + Clone
        + Send
        + 'static,
        mut each: impl FnMut(U),
    ) -> Result<(), StoreError> {
        if all.is_empty() {
            return Ok(());
        }
        let (next, length) = (Arc::new(AtomicUsize::new(0)), all.len());
        let from = Arc::clone(&next);
        let slice = move |connection: &Connection, slice: &mut Slice| {
            work(connection, &all[from.load(Ordering::Acquire)..], slice)
        };
        // advanced only after the commit: a transaction may be rolled back and run again, and would
        // skip items
        let goes_on = |(result, done)| {
            each(result);
            next.fetch_add(done, Ordering::AcqRel) + done < length
        };
        self.in_slices(slice, goes_on).await
    }

    async fn delete_cached(&self, doomed: Vec<Doomed>) -> Result<u64, StoreError> {
        let mut deleted = 0;
        self.each_in_slices(doomed.into(), cache::delete, |count: u64| deleted += count)
            .await?;
        Ok(deleted)
    }

    async fn found(
        &self,
        wanted: Arc<[Wanted]>,
        claims: usize,
        dead: Vec<i64>,
        now: Timestamp,
    ) -> Result<Vec<Found>, StoreError> {
        let own = self.file.owner.number();
        self.call(move |connection| cache::look_up(connection, &wanted, claims, own, &dead, now))
            .await
    }

    fn failed(&self, problem: String) -> StoreError {
        StoreError::Failed {
            path: self.file.location.path.clone(),
            problem,
        }
    }

    fn damaged(&self, problem: String) -> StoreError {
        StoreError::Damaged {
            path: self.file.location.path.clone(),
            problem,
        }
    }
}

/// Undoes a claim of a run if the caller's future is dropped before it receives the run. Without
/// this the run would belong to this process, which does not know of it, and nothing would execute
/// it as long as the process lives.
struct Unheard<'a> {
    writer: &'a Arc<Writer>,
    undo: &'static str,
    id: RunId,
    owner: i64,
    /// Whether the claim was made, so that there is something to undo.
    done: Arc<AtomicBool>,
    heard: bool,
}

impl<'a> Unheard<'a> {
    fn new(writer: &'a Arc<Writer>, undo: &'static str, id: RunId, owner: i64) -> Self {
        Self {
            writer,
            undo,
            id,
            owner,
            done: Arc::default(),
            heard: false,
        }
    }

    fn was_heard(mut self) {
        self.heard = true;
    }
}

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        let (undo, id, owner, done) = (self.undo, self.id, self.owner, Arc::clone(&self.done));
        if !self.heard {
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

#[async_trait]
impl Store for SqliteStore {
    fn is_durable(&self) -> bool {
        true
    }

    fn failure(&self) -> Option<StoreError> {
        self.file.writer.failure()
    }

    async fn create_run(&self, run: NewRun) -> Result<Created, StoreError> {
        self.file.writer.look()?;
        let head = Arc::new(run);
        let (new, owner) = (Arc::clone(&head), self.file.owner.number());
        let unheard = Unheard::new(
            &self.file.writer,
            "DELETE FROM runs WHERE id = ?1 AND owner = ?2",
            head.id,
            owner,
        );
        let done = Arc::clone(&unheard.done);
        let created = self.call(move |connection| {
            let created = runs::insert(connection, &new, Some(owner))?;
            done.store(created.is_some(), Ordering::Release);
            Ok(created)
        });
        let created = created.await?;
        unheard.was_heard();
        let Some(row) = created else {
            return Ok(match self.in_the_way_of(&head).await? {
                Some(record) => Created::Taken(record),
                None => Created::Paused,
            });
        };
        let owned = Owned::new(head.id, row, 0, false);
        let head = Arc::try_unwrap(head).unwrap_or_else(|shared| (*shared).clone());
        let log = SqliteLog::new(Mirror::new(head), owned, Arc::clone(&self.file.writer));
        Ok(Created::New(Arc::new(log)))
    }

    async fn submit_run(&self, run: NewRun) -> Result<Option<RunRecord>, StoreError> {
        self.file.writer.look()?;
        let new = Arc::new(run);
        let head = Arc::clone(&new);
        match self
            .call(move |connection| runs::insert(connection, &new, None))
            .await?
        {
            Some(_) => Ok(None),
            None => self.in_the_way_of(&head).await,
        }
    }

    async fn runs(&self, flow: &str) -> Result<Vec<RunRecord>, StoreError> {
        let flow = flow.to_owned();
        let runs = self
            .read(move |connection| history::runs_of(connection, &flow))
            .await?;
        let mut records = Vec::with_capacity(runs.len());
        for run in runs {
            let without = run.tables.without_tasks();
            records.push(match self.with_output(run).await {
                Err(StoreError::UnreadableRun { problem, .. }) => {
                    RunRecord::from(without.unreadable(problem))
                }
                Err(StoreError::Blob(
                    lost @ (BlobError::Missing { .. } | BlobError::Altered { .. }),
                )) => RunRecord::from(without.unreadable(lost.to_string())),
                record => record?,
            });
        }
        Ok(records)
    }

    async fn run(&self, id: RunId) -> Result<Option<RunRecord>, StoreError> {
        match self
            .read(move |connection| history::run(connection, id))
            .await?
        {
            Some(run) => self.with_output(run).await.map(Some),
            None => Ok(None),
        }
    }

    async fn summaries(&self, filter: &RunFilter) -> Result<Vec<RunSummary>, StoreError> {
        let filter = filter.clone();
        self.read(move |connection| list::summaries(connection, &filter))
            .await
    }

    async fn abandoned(&self) -> Result<Vec<Abandoned>, StoreError> {
        let dead = self.dead().await?;
        self.read(move |connection| ownership::abandoned(connection, &dead))
            .await
    }

    async fn take_over(&self, id: RunId) -> Result<Option<TakenOver>, StoreError> {
        // read before the transaction: a dead process stays dead, so the list stays right
        let dead = self.dead().await?;
        let owner = self.file.owner.number();
        let gone = dead.clone();
        let unheard = Unheard::new(&self.file.writer, RELEASE, id, owner);
        let done = Arc::clone(&unheard.done);
        let taken = self.call(move |connection| {
            let taken = ownership::take_over(connection, id, &gone, owner)?;
            done.store(taken, Ordering::Release);
            Ok(taken)
        });
        if !taken.await? {
            unheard.was_heard();
            return Ok(None);
        }
        failpoint::hit("run-claimed");
        self.forget(&dead).await;
        let taken = self.recorded(id).await;
        if taken.is_err() {
            // a run that cannot be read is released
            self.call(move |connection| connection.execute(RELEASE, params![id.as_bytes(), owner]))
                .await?;
        }
        unheard.was_heard();
        taken.map(Some)
    }

    async fn claim_turn(
        &self,
        id: RunId,
        flow: &str,
        runs: u32,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let claim = |dead: Vec<i64>| {
            let flow = flow.to_owned();
            move |connection: &Connection| {
                serving::claim_turn(connection, id, &flow, runs, &dead, now)
            }
        };
        // first without the dead: most claims then need no look at the lock files
        match self.call(claim(Vec::new())).await? {
            true => Ok(true),
            // the processes that hold the slots may be dead
            false => match self.dead().await? {
                dead if dead.is_empty() => Ok(false),
                dead => self.call(claim(dead)).await,
            },
        }
    }

    async fn leave_turn(&self, id: RunId) -> Result<(), StoreError> {
        let own = self.file.owner.number();
        self.call(move |connection| serving::leave_turn(connection, id, own))
            .await
    }

    async fn request_cancel(&self, id: RunId) -> Result<bool, StoreError> {
        self.call(move |connection| serving::request_cancel(connection, id))
            .await
    }

    async fn cancelling(&self) -> Result<Vec<RunId>, StoreError> {
        let own = self.file.owner.number();
        let file = Arc::clone(&self.file);
        self.read(move |connection| {
            file.owner.check(connection)?;
            serving::cancelling(connection, own)
        })
        .await
    }

    async fn look(&self) -> Result<Look, StoreError> {
        let file = Arc::clone(&self.file);
        let look =
            move |connection: &Connection| serving::look(connection, &file.dead(connection)?);
        self.read(look).await
    }

    async fn decided(
        &self,
        schedules: &[ScheduleKey],
        now: Timestamp,
    ) -> Result<Vec<Timestamp>, StoreError> {
        let schedules = schedules.to_vec();
        self.call(move |connection| serving::decided(connection, &schedules, now))
            .await
    }

    fn decide(&self, schedule: &ScheduleKey, up_to: Timestamp) {
        let schedule = schedule.clone();
        self.file
            .writer
            .note(move |connection| serving::decide(connection, &schedule, up_to));
    }

    fn set_back(&self, schedules: &[ScheduleKey], to: Timestamp) {
        let schedules = schedules.to_vec();
        self.file
            .writer
            .note(move |connection| serving::set_back(connection, &schedules, to));
    }

    async fn set_paused(
        &self,
        flow: &str,
        paused: bool,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let flow = flow.to_owned();
        self.call(move |connection| serving::set_paused(connection, &flow, paused, now))
            .await
    }

    async fn paused(&self) -> Result<Vec<(String, Timestamp)>, StoreError> {
        self.read(serving::paused).await
    }

    async fn reopen(
        &self,
        id: RunId,
        what: &Rerun,
        at: Timestamp,
    ) -> Result<Option<TakenOver>, Error> {
        let Some(mut recorded) = self
            .read(move |connection| history::history_of_final(connection, id))
            .await?
        else {
            return Ok(None);
        };
        let tables = &recorded.history.tables;
        if tables.pruned && *what != Rerun::All {
            let problem = "the record of its tasks was deleted by age".to_owned();
            return Err(RerunError::NoResults { run: id, problem }.into());
        }
        let ranges = clearing::cells(tables, &recorded.history.await_order.deliveries, what)?;
        let cleared = ClearedRows {
            at,
            what: what.clone(),
            ranges,
        };
        let plan = rows::plan(&Transition::Cleared(cleared.clone())).unwrap_or_default();
        let run = Reopening {
            row: recorded.row,
            number: recorded.next,
            plan,
            pruned: tables.pruned,
        };
        recorded.clear(cleared);
        (recorded.history.takeovers, recorded.history.cancelling) = (0, false);
        // before the run is changed: if its results cannot be read, it stays final
        self.fetch_results(&mut recorded).await?;
        if run.pruned {
            let row = run.row;
            let rest = move |connection: &Connection, slice: &mut Slice| {
                prune::rest_of(connection, row, slice)
            };
            self.in_slices(rest, |more| more).await?;
        }
        let owner = self.file.owner.number();
        let unheard = Unheard::new(&self.file.writer, RELEASE, id, owner);
        let done = Arc::clone(&unheard.done);
        let reopened = self.call(move |connection| {
            let reopened = ownership::reopen(connection, &run, owner)?;
            done.store(reopened, Ordering::Release);
            Ok(reopened)
        });
        if !reopened.await? {
            unheard.was_heard();
            return Ok(None);
        }
        failpoint::hit("run-reopened");
        recorded.next += 1;
        unheard.was_heard();
        Ok(Some(self.owned(id, recorded)))
    }

    async fn attempts(&self, id: RunId) -> Result<Option<Vec<AttemptRecord>>, StoreError> {
        self.read(move |connection| history::attempts_of(connection, id))
            .await
    }

    async fn flush(&self) -> Result<(), StoreError> {
        // the queue is in order: this is committed after everything pushed before
        self.call(|_| Ok(())).await
    }

    async fn look_up(
        &self,
        wanted: Arc<[Wanted]>,
        claims: usize,
        now: Timestamp,
    ) -> Result<Vec<Lookup>, StoreError> {
        // the claims made so far stay valid, so an error from here on is only logged: returning it
        // would leave the claimed flights without a process that computes them
        let unknown = |error: &StoreError| {
            tracing::warn!(
                "cannot tell whether the processes that compute the results are alive: {error}"
            );
        };
        let mut found = self
            .found(Arc::clone(&wanted), claims, Vec::new(), now)
            .await?;
        let is_taken = |found: &Found| matches!(found, Found::Miss(_, Claim::Other));
        if found.iter().any(is_taken) {
            // the process that holds the flight may be dead
            let dead = self.dead().await.inspect_err(unknown).unwrap_or_default();
            let claimed = found
                .iter()
                .filter(|found| matches!(found, Found::Miss(_, Claim::Own)))
                .count();
            let left = claims - claimed;
            if !dead.is_empty() && left > 0 {
                let taken = found
                    .iter_mut()
                    .zip(&*wanted)
                    .filter(|(found, _)| is_taken(found));
                let (taken, again): (Vec<_>, Vec<Wanted>) =
                    taken.map(|(found, wanted)| (found, wanted.clone())).unzip();
                let again = self
                    .found(again.into(), left, dead, now)
                    .await
                    .inspect_err(unknown)
                    .unwrap_or_default();
                taken
                    .into_iter()
                    .zip(again)
                    .for_each(|(found, again)| *found = again);
            }
        }
        let mut looked_up = Vec::with_capacity(found.len());
        for found in found {
            looked_up.push(match found {
                Found::Miss(miss, claim) => Lookup::Miss(miss, claim),
                Found::Hit { run, created, body } => match self.fetch(&body).await {
                    Ok(encoded) => Lookup::Hit(CacheHit {
                        run,
                        created,
                        result: ResultValue::Encoded(encoded),
                    }),
                    // a cached result can be computed again
                    Err(error) => {
                        tracing::warn!("cached result unreadable, computing it again: {error}");
                        Lookup::Miss(CacheMiss::Unreadable, Claim::NotMade)
                    }
                },
            });
        }
        Ok(looked_up)
    }

    fn end_flights(&self, keys: Vec<CacheKey>) {
        let own = self.file.owner.number();
        self.file
            .writer
            .note(move |connection| cache::end_flights(connection, &keys, own));
    }

    fn append_logs(&self, lines: &mut Vec<LogLine>, may_block: bool) -> Result<bool, StoreError> {
        let is_written = self.file.writer.append(lines, may_block)?;
        if is_written {
            lines.clear();
        }
        Ok(is_written)
    }

    async fn logs(
        &self,
        run: RunId,
        after: u64,
        at_most: usize,
    ) -> Result<Vec<LogLine>, StoreError> {
        self.read(move |connection| lines::after(connection, run, after, at_most))
            .await
    }

    async fn prune(
        &self,
        before: Timestamp,
        now: Timestamp,
        cache_bytes: u64,
    ) -> Result<Pruned, StoreError> {
        let bytes = i64::try_from(cache_bytes).unwrap_or(i64::MAX);
        let mut pruned = Pruned::default();
        let runs = move |connection: &Connection, slice: &mut Slice| {
            prune::runs(connection, before, slice)
        };
        let count = |(runs, more)| {
            pruned.runs += runs;
            more
        };
        self.in_slices(runs, count).await?;
        let doomed = self
            .read(move |connection| Ok(cache::doomed(connection, now, bytes)?))
            .await?;
        pruned.cached = self.delete_cached(doomed).await?;
        loop {
            let garbage: Arc<[BlobRef]> = self
                .read(|connection| Ok(prune::garbage(connection)?))
                .await?
                .into();
            if garbage.is_empty() {
                break;
            }
            // removed before their rows are deleted: after a crash in between they are removed
            // again. In the other order the crash would leave blobs that nothing refers to
            for blob in &*garbage {
                self.file.blobs.remove(blob).await?;
            }
            self.each_in_slices(
                garbage,
                |connection, blobs, slice| Ok(((), prune::removed(connection, blobs, slice)?)),
                drop,
            )
            .await?;
        }
        let dead = self.dead().await?;
        let gone = dead.clone();
        self.call(move |connection| cache::end_flights_of(connection, &gone))
            .await?;
        self.forget(&dead).await;
        Ok(pruned)
    }

    async fn cached(
        &self,
        filter: &CacheFilter,
        now: Timestamp,
    ) -> Result<Vec<CacheEntry>, StoreError> {
        let filter = filter.clone();
        self.read(move |connection| upkeep::cached(connection, &filter, now))
            .await
    }

    async fn forget_cached(&self, filter: &CacheFilter, now: Timestamp) -> Result<u64, StoreError> {
        let filter = filter.clone();
        let doomed = self
            .read(move |connection| upkeep::matching(connection, &filter, now))
            .await?;
        self.delete_cached(doomed).await
    }

    async fn ids(&self, first: RunId, last: RunId) -> Result<Vec<RunId>, StoreError> {
        self.read(move |connection| upkeep::ids(connection, first, last))
            .await
    }

    async fn ids_ending(&self, digits: &str) -> Result<Vec<RunId>, StoreError> {
        let digits = digits.to_owned();
        self.read(move |connection| upkeep::ids_ending(connection, &digits))
            .await
    }

    async fn check(&self) -> Result<StoreCheck, StoreError> {
        let path = self.file.location.path.clone();
        self.read(move |connection| Ok(upkeep::check(connection, &path)))
            .await
    }
}

impl SqliteStore {
    /// Returns the run that prevented a new one. Returns `None` if its flow is paused.
    async fn in_the_way_of(&self, new: &Arc<NewRun>) -> Result<Option<RunRecord>, StoreError> {
        let (asked, id) = (Arc::clone(new), new.id);
        let why = self.read(move |connection| {
            let taken = runs::taken(connection, &asked)?;
            Ok((taken, runs::exists(connection, asked.id)?))
        });
        match why.await? {
            (Some(id), _) => match self.run(id).await? {
                Some(record) => Ok(Some(record)),
                None => Err(self.damaged(format!("run {id} is not there"))),
            },
            (None, false) => Ok(None),
            (None, true) => {
                let problem = "there is a run with this id: a runtime with a seed makes the same ids in each process, \
                               and so is for stores that are new";
                Err(self.failed(format!("run {id}: {problem}")))
            }
        }
    }

    /// Reads a run that this process owns.
    async fn recorded(&self, id: RunId) -> Result<TakenOver, StoreError> {
        let mut recorded = self
            .read(move |connection| history::history(connection, id))
            .await?;
        self.fetch_results(&mut recorded).await?;
        Ok(self.owned(id, recorded))
    }

    /// Reads large results from their blobs.
    async fn fetch_results(&self, recorded: &mut history::Recorded) -> Result<(), StoreError> {
        for (cell, blob) in recorded.blobs.drain() {
            let result = EncodedResult::from(self.file.blobs.get(&blob).await?);
            recorded.history.results.insert(cell, result);
        }
        Ok(())
    }

    fn owned(&self, id: RunId, recorded: history::Recorded) -> TakenOver {
        let history::Recorded {
            row, next, history, ..
        } = recorded;
        let owned = Owned::new(id, row, next, history.takeovers > 0);
        let log = SqliteLog::new(
            Mirror::of(history.tables.clone()),
            owned,
            Arc::clone(&self.file.writer),
        );
        TakenOver {
            log: Arc::new(log) as Arc<dyn RunLog>,
            history,
        }
    }

    /// Returns a run's record, with its output read from its blob.
    async fn with_output(&self, run: history::Read) -> Result<RunRecord, StoreError> {
        let history::Read { mut tables, output } = run;
        if let (Some(end), Some(body)) = (&tables.end, output) {
            let mut end = history::copy_end(end);
            let output = self.fetch(&body).await.map_err(|error| match error {
                StoreError::Damaged { problem, .. } => StoreError::UnreadableRun {
                    run: tables.head.id,
                    problem,
                },
                error => error,
            });
            end.output = Some(ResultValue::Encoded(output?));
            tables.end = Some(Arc::new(end));
        }
        Ok(RunRecord::from(tables))
    }
}
