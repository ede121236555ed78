/// What the keeping of large results fails with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// The URL names no place for blobs that this build knows.
    #[error("expected a folder or the URL of an object store, got `{url}`: {problem}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// A blob that is referred to is gone.
    #[error(
        "the blob `{place}` is gone: expected {expected} bytes; restore it, or run again what made it"
    )]
    Missing {
        /// Where it was.
        place: String,
        /// How long it was.
        expected: u64,
    },
    /// A blob is not what was put there.
    #[error(
        "the blob `{place}` was altered: expected {expected}, got {found}; restore it, or delete it and run again what made it"
    )]
    Altered {
        /// Where it is.
        place: String,
        /// What was put there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The disk is full.
    #[error("no space is left for the blob `{place}`: free some")]
    Full {
        /// Where it was to be.
        place: String,
    },
    /// The folder or the object store fails for another reason.
    #[error("the blob `{place}`: {problem}")]
    Failed {
        /// Where it is, or was to be.
        place: String,
        /// What the system says.
        problem: String,
    },
}
