use super::BlobError;
use crate::id::RunId;

/// An error of a store, by its cause.
///
/// `place` is the store as it is shown to users: the path of a file, or a URL without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The URL does not name a store that this build supports.
    #[error("expected the URL of a store ({known}), got `{url}`")]
    UnknownUrl {
        /// The URL.
        url: String,
        /// The supported URLs.
        known: &'static str,
    },
    /// The URL names a supported kind of store, but is invalid.
    #[error("store `{url}`: {problem}")]
    Location {
        /// The URL.
        url: String,
        /// What was expected, and what came.
        problem: String,
    },
    /// The folder of the store does not exist, and cannot or must not be created.
    #[error(
        "the folder `{folder}` of the store does not exist{problem}; create it, or give another path"
    )]
    Folder {
        /// The path of the folder.
        folder: String,
        /// The reason why it was not created, including the separator from the text before it.
        problem: String,
    },
    /// The database belongs to another program. It was not changed.
    #[error(
        "expected `{place}` to be a store, but {found}: it was not changed; choose another store"
    )]
    Foreign {
        /// The place of the database.
        place: String,
        /// What it is instead.
        found: String,
    },
    /// The store was written by a newer version of the program. It was not changed.
    #[error(
        "`{place}` was written by a newer version of the program: expected at most the schema {known}, got {found}; \
         update this program, or choose another store"
    )]
    Newer {
        /// The place of the store.
        place: String,
        /// The latest schema that this version supports.
        known: u32,
        /// The schema of the store.
        found: i64,
    },
    /// The store was created by a version of the program that has a different schema with the same
    /// number: an unreleased version or a fork. It was not changed.
    #[error(
        "schema {number} (`{name}`) of `{place}` differs from that of this program: an unreleased version created the \
         store; choose another store"
    )]
    Altered {
        /// The place of the store.
        place: String,
        /// The number of the migration.
        number: u32,
        /// Its name.
        name: &'static str,
    },
    /// The store is damaged.
    #[error("`{place}` is damaged ({problem}): restore it from a copy, or choose another store")]
    Damaged {
        /// The place of the store.
        place: String,
        /// The place where the damage was noticed.
        problem: String,
    },
    /// The store cannot be written by this process.
    #[error(
        "`{place}` cannot be written ({problem}): check its permissions (for a file, also those of its folder)"
    )]
    ReadOnly {
        /// The place of the store.
        place: String,
        /// The error of the system.
        problem: String,
    },
    /// The disk is full. Committed data is safe.
    #[error("no space is left on the disk of `{place}`: free some; committed data is safe")]
    Full {
        /// The place of the store.
        place: String,
    },
    /// The disk failed: the store cannot be read or written, although its contents are not damaged.
    ///
    /// If this happens while a process writes, the process stops writing: its runs end with this
    /// error, unfinished, and continue when the program is started again.
    #[error(
        "the disk of `{place}` failed ({problem}): check the disk, then start the program again; committed data is safe"
    )]
    Io {
        /// The place of the store.
        place: String,
        /// The operation that failed.
        problem: String,
    },
    /// The store failed for another reason.
    #[error("`{place}`: {problem}")]
    Failed {
        /// The place of the store.
        place: String,
        /// The error of the store.
        problem: String,
    },
    /// Another process took over the run: this process can no longer write to it.
    #[error(
        "run {run} was taken over by another process: this process's work since then is not recorded"
    )]
    RunLost {
        /// The run.
        run: RunId,
    },
    /// This process is no longer registered in the store, so other processes may take over its
    /// runs: its row was removed, or the lock file that shows that it is alive. It can no longer
    /// write to the store.
    #[error(
        "this process (number {process} of the store) is no longer registered: its row or its lock file was removed \
         while it was running; start the program again"
    )]
    ProcessLost {
        /// The number of this process.
        process: i64,
    },
    /// The store's file was deleted, moved or replaced while the process had it open. The process
    /// stops writing to it, since the data could not be reached by any path.
    #[error(
        "the store `{place}` was deleted, moved or replaced while it was in use ({found}): everything recorded since then is lost; move the file back if it was moved, and start the program again"
    )]
    FileLost {
        /// The place of the store's file.
        place: String,
        /// The file that is there instead.
        found: &'static str,
    },
    /// The record of a run cannot be read. Other runs are not affected.
    #[error("run {run} cannot be read: {problem}")]
    UnreadableRun {
        /// The run.
        run: RunId,
        /// The problem with its record.
        problem: String,
    },
    /// A large result cannot be stored or found.
    #[error(transparent)]
    Blob(#[from] BlobError),
}
