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
}
