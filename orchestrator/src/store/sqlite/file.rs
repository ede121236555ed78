//! The store's file: reads on connections of their own, writes by the writer, long work in slices.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::connection;
use super::failure;
use super::location::{Location, place_of};
use super::owner::{self, Owner};
use super::statements::prune::Slice;
use super::writer::Writer;
use crate::blob::{self, Blobs};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::id;
use crate::journal::EncodedResult;
use crate::store::sql::rows::stored_result;

/// The number of connections that read at once.
const READERS: usize = 4;

/// The file, as this process has it open.
#[derive(Debug)]
pub(super) struct File {
    pub(super) location: Location,
    pub(super) writer: Arc<Writer>,
    pub(super) owner: Owner,
    pub(super) blobs: Arc<dyn Blobs>,
    pub(super) readers: Mutex<Vec<Connection>>,
    /// Permits for concurrent reads. A read holds its permit as long as its connection.
    reading: Arc<Semaphore>,
}

impl File {
    /// Opens the file at a URL, and registers this process in it.
    pub(super) fn open(url: &str, blobs: Option<&str>, now: Timestamp) -> Result<Self, StoreError> {
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
            location,
            writer,
            owner,
            blobs,
            readers: Mutex::new(vec![reader]),
            reading: Arc::new(Semaphore::new(READERS)),
        })
    }

    /// Returns the dead processes.
    ///
    /// # Errors
    ///
    /// Returns an error if other processes take this one for dead.
    pub(super) fn dead_owners(
        &self,
        connection: &Connection,
    ) -> Result<Vec<i64>, failure::Failure> {
        self.owner.check(connection)?;
        Ok(owner::dead_owners(
            connection,
            &self.location,
            self.owner.number(),
        )?)
    }

    /// Runs a read on a thread that may block, on a connection that only reads.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> Result<T, failure::Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let file = Arc::clone(self);
        let permit = Arc::clone(&self.reading).acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            // the read goes on if its caller is dropped: released with the caller, the permit would
            // let others open more connections than `READERS`, which would stay open
            let _permit = permit;
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

    /// Runs a read of a few rows that an index finds, on this thread: handing it to another one would
    /// take longer than the read, and let runs that are requested at once overtake each other.
    /// Returns `None` if no connection is free, or if the read fails: [`read`](Self::read) says why.
    pub(super) fn read_at_once<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Option<T> {
        let _permit = self.reading.try_acquire().ok()?;
        let connection = self.readers.lock().pop()?;
        let read = read(&connection);
        self.readers.lock().push(connection);
        read.ok()
    }

    /// Runs statements in the writer's next transaction, and returns their result.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        statements: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.call(statements).await
    }

    /// Returns the dead processes.
    pub(super) async fn find_dead(self: &Arc<Self>) -> Result<Vec<i64>, StoreError> {
        let file = Arc::clone(self);
        self.read(move |connection| file.dead_owners(connection))
            .await
    }

    /// Removes the rows and lock files of dead processes whose runs have all been taken over.
    pub(super) async fn forget_processes(&self, dead: &[i64]) {
        let dead = dead.to_vec();
        let strike = move |connection: &Connection| {
            let struck = dead
                .iter()
                .filter_map(|dead| owner::strike(connection, *dead).transpose());
            struck.collect::<rusqlite::Result<Vec<_>>>()
        };
        let struck = self.call(strike).await;
        if let Err(error) = struck.and_then(|locks| owner::remove_locks(&self.location, &locks)) {
            tracing::debug!("removing a dead process failed: {error}");
        }
    }

    /// Returns a stored result: the bytes of its row, or those of its blob.
    pub(super) async fn read_result(&self, body: &[u8]) -> Result<EncodedResult, StoreError> {
        match stored_result(body).map_err(|problem| self.damaged(problem))? {
            Ok(inline) => Ok(inline),
            Err(blob) => Ok(self.blobs.get(&blob).await?.into()),
        }
    }

    /// Does long work in short transactions, until `goes_on` returns `false`. Each transaction is
    /// followed by a pause as long as it took: without pauses, writers of other processes would
    /// wait until all of it is done.
    pub(super) async fn in_slices<T: Send + 'static>(
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
    pub(super) async fn each_in_slices<T: Send + Sync + 'static, U: Send + 'static>(
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

    /// Returns the error for a failure of the file.
    pub(super) fn failed(&self, problem: String) -> StoreError {
        StoreError::Failed {
            place: place_of(&self.location.path),
            problem,
        }
    }

    /// Returns the error for damage of the file.
    pub(super) fn damaged(&self, problem: String) -> StoreError {
        StoreError::Damaged {
            place: place_of(&self.location.path),
            problem,
        }
    }
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::future::join_all;
    use tempfile::TempDir;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::store::suite::time;

    #[tokio::test]
    async fn reads_whose_callers_are_gone_keep_their_permits() {
        let folder = TempDir::new().unwrap();
        let url = format!("sqlite:{}", folder.path().join("runs.db").display());
        let file = Arc::new(File::open(&url, None, time(0)).unwrap());
        let (began, mut begun) = unbounded_channel();
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let reads = join_all((0..READERS).map(|_| {
            let (began, held) = (began.clone(), Arc::clone(&held));
            file.read(move |_| {
                began.send(()).unwrap();
                // until the test lets go
                let _ = held.lock().recv();
                Ok(())
            })
        }));
        let all_begun = async {
            for _ in 0..READERS {
                begun.recv().await.unwrap();
            }
        };
        tokio::select! {
            _ = reads => panic!("the reads are held"),
            () = all_begun => {}
        }
        // the callers are gone, the reads are not
        assert_eq!(file.reading.available_permits(), 0);
        drop(release);
        join_all((0..READERS).map(|_| file.read(|_| Ok(())))).await;
        assert!(file.readers.lock().len() <= READERS);
    }
}
