//! Runs in a file of SQLite.
//!
//! Any number of processes may have the file open; SQLite orders their commits. A run is written by the process whose
//! number stands in its `owner`, and by nobody else: [`owner`] says how a process is known to be alive. Errors about
//! locks never leave this folder: who finds the file busy waits for his turn.
//!
//! A transition of a run becomes a row ([`rows`]), goes on the writer's queue ([`log`]) and is committed with what else
//! waits ([`writer`]); reading adds the rows up again ([`read`]), on connections of its own.

#[cfg(test)]
mod child;
mod connection;
#[cfg(test)]
mod damage;
mod failure;
mod lines;
mod list;
mod location;
mod log;
mod owner;
mod prune;
mod read;
mod rows;
mod schema;
mod serving;
mod upkeep;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::Semaphore;

use location::Location;
use log::SqliteLog;
use owner::Owner;
use read::Reopening;
use rows::stored_result;
use writer::{Owned, Writer};

use super::mirror::Mirror;
use super::{
    Abandoned, AttemptRecord, CacheEntry, CacheFilter, CacheHit, CacheKey, CacheMiss, CacheQuery,
    Cleared, Commit, Created, Kept, Look, Lookup, NewRun, Pruned, RunFilter, RunLog, RunRecord,
    RunSummary, ScheduleKey, Store, StoreCheck, TakenOver, Transition, clearing,
};
use crate::blob::{self, Blobs};
use crate::error::{Error, RerunError, StoreError};
use crate::failpoint;
use crate::id::{self, RunId};
use crate::log::LogLine;
use crate::state::Rerun;

/// Leaves a run to whoever goes on with it.
const RELEASE: &str = "UPDATE runs SET owner = NULL WHERE id = ?1 AND owner = ?2";

/// How many connections read at once.
const READERS: usize = 4;

/// Keeps runs in a file of SQLite.
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
    /// How many may read at once.
    reading: Semaphore,
}

/// Opens the file that a URL names, and makes it where it is not there. Large results go to `blobs`, or to a folder
/// beside the file. `now` is in microseconds since 1970.
pub(super) fn open(url: &str, blobs: Option<&str>, now: i64) -> Result<Arc<dyn Store>, StoreError> {
    SqliteStore::open(url, blobs, now).map(|store| Arc::new(store) as _)
}

/// Whether the file that a URL names is there. Of a URL that names none, to open it says what is wrong.
#[cfg(feature = "cli")]
pub(super) fn exists(url: &str) -> bool {
    Location::parse(url).map_or(true, |location| location.path.exists())
}

impl SqliteStore {
    fn open(url: &str, blobs: Option<&str>, now: i64) -> Result<Self, StoreError> {
        let location = Location::parse(url)?;
        let mut random = [0; 16];
        let (entropy, mut first_blob) = (id::entropy(), [0; 8]);
        random.copy_from_slice(&entropy[..16]);
        first_blob.copy_from_slice(&entropy[16..24]);
        let connection = connection::open(&location, now)?;
        let owner = Owner::register(&connection, &location, random, now)?;
        // a process that ends without closing its store leaves its row and its file
        for dead in owner::dead_owners(&connection, &location, owner.number())? {
            owner::forget(&connection, &location, dead)?;
        }
        // who leads commits does not wait for other processes where it stands
        let patient = connection.busy_timeout(std::time::Duration::ZERO);
        patient.map_err(|error| failure::classify(&location.path, &error))?;
        let folder = connection::beside(&location.path, "-blobs");
        let blobs = blob::blobs_by_url(blobs.unwrap_or(&folder.to_string_lossy()))?;
        let writer = Arc::new(Writer::new(
            connection,
            location.clone(),
            owner.number(),
            Arc::clone(&blobs),
            u64::from_le_bytes(first_blob),
        ));
        Ok(Self {
            file: Arc::new(File {
                location,
                writer,
                owner,
                blobs,
                readers: Mutex::default(),
                reading: Semaphore::new(READERS),
            }),
        })
    }

    /// Reads, on a thread that may block and a connection that only reads.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, read::Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let file = Arc::clone(&self.file);
        let _permit = self.file.reading.acquire().await;
        let done = tokio::task::spawn_blocking(move || {
            let pooled = file.readers.lock().pop();
            let connection = match pooled {
                Some(connection) => connection,
                None => connection::reader(&file.location)?,
            };
            let read = read(&connection).map_err(|failure| failure.at(&file.location.path));
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

    /// The processes that are dead.
    async fn dead(&self) -> Result<Vec<i64>, StoreError> {
        let file = Arc::clone(&self.file);
        self.read(move |connection| {
            Ok(owner::dead_owners(
                connection,
                &file.location,
                file.owner.number(),
            )?)
        })
        .await
    }

    /// Strikes off the record the dead whose runs have all been taken over.
    async fn forget(&self, dead: &[i64]) {
        for number in dead.iter().copied() {
            let location = self.file.location.clone();
            let forgotten = self
                .call(move |connection| Ok(owner::forget(connection, &location, number)))
                .await;
            if let Ok(Err(error)) | Err(error) = forgotten {
                tracing::debug!("a dead process could not be struck off the record: {error}");
            }
        }
    }

    async fn fetch(&self, body: &[u8]) -> Result<super::Encoded, StoreError> {
        match stored_result(body).map_err(|problem| self.damaged(problem))? {
            Ok(inline) => Ok(inline),
            Err(blob) => Ok(super::Encoded(self.file.blobs.get(&blob).await?.into())),
        }
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

/// Who asked for a run may be gone before he hears that it is his. Then nobody would execute it as long as this process
/// lives, and so it is undone.
struct Unheard<'a> {
    writer: &'a Arc<Writer>,
    undo: &'static str,
    id: RunId,
    owner: i64,
    /// Whether there is something to be undone.
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
            // what was asked for stands before this in the queue, or is done
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

    async fn create_run(&self, run: NewRun) -> Result<Created, StoreError> {
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
            let created = read::insert(connection, &new, Some(owner))?;
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
        let new = Arc::new(run);
        let head = Arc::clone(&new);
        match self
            .call(move |connection| read::insert(connection, &new, None))
            .await?
        {
            Some(_) => Ok(None),
            None => self.in_the_way_of(&head).await,
        }
    }

    async fn runs(&self, flow: &str) -> Result<Vec<RunRecord>, StoreError> {
        let flow = flow.to_owned();
        let runs = self
            .read(move |connection| read::runs_of(connection, &flow))
            .await?;
        let mut records = Vec::with_capacity(runs.len());
        for run in runs {
            records.push(self.with_output(run).await?);
        }
        Ok(records)
    }

    async fn run(&self, id: RunId) -> Result<Option<RunRecord>, StoreError> {
        match self
            .read(move |connection| read::run(connection, id))
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
        self.read(move |connection| read::abandoned(connection, &dead))
            .await
    }

    async fn take_over(&self, id: RunId) -> Result<Option<TakenOver>, StoreError> {
        let dead = self.dead().await?;
        let owner = self.file.owner.number();
        let gone = dead.clone();
        let unheard = Unheard::new(&self.file.writer, RELEASE, id, owner);
        let done = Arc::clone(&unheard.done);
        let taken = self.call(move |connection| {
            let taken = read::take_over(connection, id, &gone, owner)?;
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
            // what cannot be read is not gone on with
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
        now: i64,
    ) -> Result<bool, StoreError> {
        let claim = |dead: Vec<i64>| {
            let flow = flow.to_owned();
            move |connection: &Connection| {
                serving::claim_turn(connection, id, &flow, runs, &dead, now)
            }
        };
        match self.call(claim(Vec::new())).await? {
            true => Ok(true),
            // whoever has the turns may be dead
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
        self.read(move |connection| serving::cancelling(connection, own))
            .await
    }

    async fn look(&self) -> Result<Look, StoreError> {
        let file = Arc::clone(&self.file);
        let look = move |connection: &Connection| {
            let own = file.owner.number();
            let dead = owner::dead_owners(connection, &file.location, own)?;
            serving::look(connection, &dead)
        };
        self.read(look).await
    }

    async fn decided(&self, schedules: &[ScheduleKey], now: i64) -> Result<Vec<i64>, StoreError> {
        let schedules = schedules.to_vec();
        self.call(move |connection| serving::decided(connection, &schedules, now))
            .await
    }

    fn decide(&self, schedule: &ScheduleKey, up_to: i64) {
        let schedule = schedule.clone();
        self.file
            .writer
            .note(move |connection| serving::decide(connection, &schedule, up_to));
    }

    fn set_back(&self, schedules: &[ScheduleKey], to: i64) {
        let schedules = schedules.to_vec();
        self.file
            .writer
            .note(move |connection| serving::set_back(connection, &schedules, to));
    }

    async fn set_paused(&self, flow: &str, paused: bool, now: i64) -> Result<bool, StoreError> {
        let flow = flow.to_owned();
        self.call(move |connection| serving::set_paused(connection, &flow, paused, now))
            .await
    }

    async fn paused(&self) -> Result<Vec<(String, i64)>, StoreError> {
        self.read(serving::paused).await
    }

    async fn reopen(&self, id: RunId, what: &Rerun, at: i64) -> Result<Option<TakenOver>, Error> {
        let Some(mut recorded) = self
            .read(move |connection| read::history_of_final(connection, id))
            .await?
        else {
            return Ok(None);
        };
        let tables = &recorded.history.tables;
        if tables.pruned && *what != Rerun::All {
            let problem = "what was kept of its tasks was deleted by age".to_owned();
            return Err(RerunError::NoResults { run: id, problem }.into());
        }
        let ranges = clearing::cells(tables, &recorded.history.told.answers, what)?;
        let cleared = Cleared {
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
        // a run whose results cannot be read stays what it is
        self.fetch_results(&mut recorded).await?;
        let owner = self.file.owner.number();
        let unheard = Unheard::new(&self.file.writer, RELEASE, id, owner);
        let done = Arc::clone(&unheard.done);
        let reopened = self.call(move |connection| {
            let reopened = read::reopen(connection, &run, owner)?;
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
        self.read(move |connection| read::attempts_of(connection, id))
            .await
    }

    async fn flush(&self) -> Result<(), StoreError> {
        // it stands behind all of that in the queue
        self.call(|_| Ok(())).await
    }

    async fn look_up(&self, query: &CacheQuery, now: i64) -> Result<Lookup, StoreError> {
        let asked = query.clone();
        let found = self
            .read(move |connection| read::cached(connection, &asked, now))
            .await?;
        let (run, created, body) = match found {
            Ok(found) => found,
            Err(miss) => return Ok(Lookup::Miss(miss)),
        };
        match self.fetch(&body).await {
            Ok(encoded) => Ok(Lookup::Hit(CacheHit {
                run,
                created,
                result: Kept::Encoded(encoded),
            })),
            // what is cached can be computed again
            Err(error) => {
                tracing::warn!("a cached result cannot be read, and is computed again: {error}");
                Ok(Lookup::Miss(CacheMiss::Unreadable))
            }
        }
    }

    async fn claim_flight(&self, key: CacheKey) -> Result<bool, StoreError> {
        let own = self.file.owner.number();
        let claim = |dead: Vec<i64>| {
            move |connection: &Connection| {
                let mut insert =
                    connection.prepare_cached("INSERT OR IGNORE INTO flights VALUES (?1, ?2)")?;
                if insert.execute(params![key.0, own])? > 0 {
                    return Ok(None);
                }
                let mut select =
                    connection.prepare_cached("SELECT owner FROM flights WHERE key = ?1")?;
                let owner: Option<i64> = select.query_row([key.0], |row| row.get(0)).optional()?;
                if owner.is_some_and(|owner| owner == own || dead.contains(&owner)) {
                    connection
                        .prepare_cached("UPDATE flights SET owner = ?2 WHERE key = ?1")?
                        .execute(params![key.0, own])?;
                    return Ok(None);
                }
                Ok(owner)
            }
        };
        match self.call(claim(Vec::new())).await? {
            None => Ok(true),
            // whoever has it may be dead
            Some(_) => Ok(self.call(claim(self.dead().await?)).await?.is_none()),
        }
    }

    fn end_flight(&self, key: CacheKey) {
        let own = self.file.owner.number();
        self.file.writer.note(move |connection| {
            let mut delete =
                connection.prepare_cached("DELETE FROM flights WHERE key = ?1 AND owner = ?2")?;
            delete.execute(params![key.0, own]).map(drop)
        });
    }

    fn append_logs(&self, lines: Vec<LogLine>) -> Commit {
        self.file
            .writer
            .push_call(move |connection| lines::append(connection, &lines));
        self.file.writer.commit(None)
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

    async fn prune(&self, before: i64, now: i64, cache_bytes: u64) -> Result<Pruned, StoreError> {
        let mut pruned = Pruned::default();
        let bytes = i64::try_from(cache_bytes).unwrap_or(i64::MAX);
        loop {
            let (runs, more) = self
                .call(move |connection| prune::runs(connection, before))
                .await?;
            pruned.runs += runs;
            if !more {
                break;
            }
        }
        loop {
            let (entries, more) = self
                .call(move |connection| prune::cached(connection, now, bytes))
                .await?;
            pruned.cached += entries;
            if !more {
                break;
            }
        }
        loop {
            let garbage = self
                .read(|connection| Ok(prune::garbage(connection)?))
                .await?;
            if garbage.is_empty() {
                break;
            }
            for blob in &garbage {
                self.file.blobs.remove(blob).await?;
            }
            self.call(move |connection| prune::removed(connection, &garbage))
                .await?;
        }
        let dead = self.dead().await?;
        let gone = dead.clone();
        self.call(move |connection| prune::flights(connection, &gone))
            .await?;
        self.forget(&dead).await;
        Ok(pruned)
    }

    async fn cached(&self, filter: &CacheFilter, now: i64) -> Result<Vec<CacheEntry>, StoreError> {
        let filter = filter.clone();
        self.read(move |connection| upkeep::cached(connection, &filter, now))
            .await
    }

    async fn forget_cached(&self, filter: &CacheFilter, now: i64) -> Result<u64, StoreError> {
        let keys: Vec<String> = self
            .cached(filter, now)
            .await?
            .into_iter()
            .map(|entry| entry.key)
            .collect();
        let mut forgotten = 0;
        for keys in keys.chunks(prune::AT_ONCE) {
            let keys = keys.to_vec();
            forgotten += self
                .call(move |connection| upkeep::forget(connection, &keys))
                .await?;
        }
        Ok(forgotten)
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
    /// The run for which a new one was not accepted; none where that is because its flow is paused.
    async fn in_the_way_of(&self, new: &Arc<NewRun>) -> Result<Option<RunRecord>, StoreError> {
        let (asked, id) = (Arc::clone(new), new.id);
        let why = self.read(move |connection| {
            let taken = read::taken(connection, &asked)?;
            Ok((taken, read::exists(connection, asked.id)?))
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

    /// A run that this process owns, with all that is recorded of it.
    async fn recorded(&self, id: RunId) -> Result<TakenOver, StoreError> {
        let mut recorded = self
            .read(move |connection| read::history(connection, id))
            .await?;
        self.fetch_results(&mut recorded).await?;
        Ok(self.owned(id, recorded))
    }

    /// Takes large results out of their blobs.
    async fn fetch_results(&self, recorded: &mut read::Recorded) -> Result<(), StoreError> {
        for (cell, blob) in recorded.blobs.drain() {
            let result = super::Encoded(self.file.blobs.get(&blob).await?.into());
            recorded.history.results.insert(cell, result);
        }
        Ok(())
    }

    fn owned(&self, id: RunId, recorded: read::Recorded) -> TakenOver {
        let read::Recorded {
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

    /// A run's record, with its output out of its blob.
    async fn with_output(&self, run: read::Read) -> Result<RunRecord, StoreError> {
        let read::Read { mut tables, output } = run;
        if let (Some(end), Some(body)) = (&tables.end, output) {
            let mut end = read::copy_end(end);
            end.output = Some(Kept::Encoded(self.fetch(&body).await?));
            tables.end = Some(Arc::new(end));
        }
        Ok(RunRecord::from(tables))
    }
}
