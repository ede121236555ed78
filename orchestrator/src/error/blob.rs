/// An error of the storage of large results.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// The URL does not name a place for blobs that this build supports.
    #[error("expected a folder or the URL of an object store, got `{url}`: {problem}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// A referenced blob is missing.
    #[error(
        "the blob `{place}` is missing: expected {expected} bytes; restore it, or re-run the task that created it"
    )]
    Missing {
        /// The place where it was.
        place: String,
        /// Its length in bytes.
        expected: u64,
    },
    /// A blob differs from the one that was stored.
    #[error(
        "the blob `{place}` was modified: expected {expected}, got {found}; restore it, or delete it and re-run the task that created it"
    )]
    Altered {
        /// The place where it is.
        place: String,
        /// The blob that was stored.
        expected: String,
        /// The blob that was found.
        found: String,
    },
    /// The disk is full.
    #[error("no space is left for the blob `{place}`: free some")]
    Full {
        /// The place where it was to be stored.
        place: String,
    },
    /// The folder or the object store failed for another reason.
    #[error("the blob `{place}`: {problem}")]
    Failed {
        /// The place where it is, or was to be stored.
        place: String,
        /// The error of the system.
        problem: String,
    },
}
