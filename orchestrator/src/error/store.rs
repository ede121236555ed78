use std::path::PathBuf;

use super::BlobError;
use crate::id::RunId;

/// What a store fails with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The URL names no store that this build knows.
    #[error("expected the URL of a store ({known}), got `{url}`")]
    UnknownUrl {
        /// The URL.
        url: String,
        /// What could stand there.
        known: &'static str,
    },
    /// The URL names a store of a kind that is known, and something in it is wrong.
    #[error("store `{url}`: {problem}")]
    Location {
        /// The URL.
        url: String,
        /// What was expected, and what came.
        problem: String,
    },
    /// The folder that the store belongs in is not there and cannot be made.
    #[error("the folder `{path}` of the store cannot be made: {problem}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        problem: String,
    },
    /// The file belongs to another program. It was left as it is.
    #[error(
        "expected `{path}` to be a store, but {found}: it was left as it is; give another path"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: String,
    },
    /// The store was written by a newer version of the program. It was left as it is.
    #[error(
        "`{path}` was written by a newer version of the program: expected at most the schema {known}, got {found}; \
         update this program, or give another path"
    )]
    Newer {
        /// The store's file.
        path: PathBuf,
        /// The last schema that this version knows.
        known: u32,
        /// The schema of the store.
        found: i64,
    },
    /// The store was made by a version of the program whose schema differs under the same number: by one that was
    /// never released, or by a fork. It was left as it is.
    #[error(
        "`{path}` has another schema {number} (`{name}`) than this program: it was made by a version that was never \
         released; give another path"
    )]
    Altered {
        /// The store's file.
        path: PathBuf,
        /// The number of the migration.
        number: u32,
        /// Its name.
        name: &'static str,
    },
    /// The store's file is damaged.
    #[error("`{path}` is damaged ({problem}): restore it from a copy, or give another path")]
    Damaged {
        /// The store's file.
        path: PathBuf,
        /// Where it was noticed.
        problem: String,
    },
    /// The store cannot be opened for writing.
    #[error(
        "`{path}` cannot be written ({problem}): check the permissions of the file and of its folder"
    )]
    ReadOnly {
        /// The store's file.
        path: PathBuf,
        /// What the system says.
        problem: String,
    },
    /// The disk is full. What had been committed is safe.
    #[error("no space is left on the disk of `{path}`: free some; what was committed is safe")]
    Full {
        /// The store's file.
        path: PathBuf,
    },
    /// The store fails for another reason.
    #[error("`{path}`: {problem}")]
    Failed {
        /// The store's file.
        path: PathBuf,
        /// What the store says.
        problem: String,
    },
    /// Another process took the run over: nothing more of it can be written here.
    #[error(
        "run {run} was taken over by another process: what this one did since then is not recorded"
    )]
    RunLost {
        /// The run.
        run: RunId,
    },
    /// A large result cannot be kept or found.
    #[error(transparent)]
    Blob(#[from] BlobError),
}
