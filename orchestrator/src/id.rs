//! Identifiers.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::{Builder, Uuid};

/// The id of a run: a UUID of version 7. Ids sort by the time at which their runs were created.
///
/// # Examples
///
/// ```
/// use orchestrator::RunId;
///
/// let id: RunId = "01936f5e-8c00-7000-8000-000000000000".parse()?;
/// assert_eq!(id.to_string(), "01936f5e-8c00-7000-8000-000000000000");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(Uuid);

impl RunId {
    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Returns the sixteen bytes of the id.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunId({})", self.0)
    }
}

/// The error of a text that is not the id of a run.
#[derive(Debug, Clone, thiserror::Error)]
#[error("expected the id of a run, as `01936f5e-8c00-7000-8000-000000000000`, got `{text}`")]
pub struct ParseRunIdError {
    text: String,
}

impl FromStr for RunId {
    type Err = ParseRunIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text)
            .map(Self)
            .map_err(|_| ParseRunIdError {
                text: text.to_owned(),
            })
    }
}

/// The generator of the ids of a runtime's runs. All randomness comes from one seed.
#[derive(Debug)]
pub(crate) struct IdSource {
    seed: [u8; 32],
    made: AtomicU64,
}

impl IdSource {
    /// Creates a generator with a seed that is unique to this process: from the random state of the
    /// standard library's hash maps, which comes from the operating system, and from the process
    /// id.
    pub(crate) fn from_entropy() -> Self {
        Self {
            seed: entropy(),
            made: AtomicU64::new(0),
        }
    }

    pub(crate) fn from_seed(seed: u64) -> Self {
        Self {
            seed: blake3::hash(&seed.to_le_bytes()).into(),
            made: AtomicU64::new(0),
        }
    }

    pub(crate) fn run_id(&self, now: DateTime<Utc>) -> RunId {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let random = blake3::keyed_hash(&self.seed, &number.to_le_bytes());
        let mut bytes = [0; 10];
        bytes.copy_from_slice(&random.as_bytes()[..10]);
        let milliseconds = u64::try_from(now.timestamp_millis()).unwrap_or(0);
        RunId(Builder::from_unix_timestamp_millis(milliseconds, &bytes).into_uuid())
    }
}

/// Returns bytes that are unique to this process and to this call.
pub(crate) fn entropy() -> [u8; 32] {
    use std::hash::{BuildHasher, RandomState};
    let mut hasher = blake3::Hasher::new();
    for round in 0..4_u64 {
        hasher.update(&RandomState::new().hash_one(round).to_le_bytes());
    }
    hasher.update(&std::process::id().to_le_bytes());
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_seed_are_the_same_and_of_two_differ() {
        let at = DateTime::from_timestamp(1_000_000, 0).unwrap();
        let ids = |seed| {
            let source = IdSource::from_seed(seed);
            [source.run_id(at), source.run_id(at)]
        };
        assert_eq!(ids(1), ids(1));
        assert_ne!(ids(1), ids(2));
        assert_ne!(ids(1)[0], ids(1)[1]);
    }

    #[test]
    fn ids_sort_by_time() {
        let source = IdSource::from_entropy();
        let early = source.run_id(DateTime::from_timestamp(1_000, 0).unwrap());
        let late = source.run_id(DateTime::from_timestamp(1_001, 0).unwrap());
        assert!(early < late);
    }
}
