//! Simulated runtimes, for tests that span a long time: every result goes through its encoding.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{Runtime, RuntimeBuilder};
use crate::clock::Clock;
use crate::store::MemoryStore;

/// A fixed seed, so that the ids of a simulated runtime's runs are the same each time.
const SEED: u64 = 0;

impl Runtime {
    /// Creates a runtime for tests of schedules and other long time spans. Its clock starts at
    /// `start` and advances with tokio's, so that under paused time (`tokio::time::pause()`) a
    /// month passes in an instant. Its store is in memory, and its randomness is the same each
    /// time.
    ///
    /// Each task's result is encoded as for a store, and decoded again. If the decoded value
    /// differs from the original, the task fails with an error that names its type: encodings lose
    /// information such as `Some(None)` or skipped fields. Values of types without `==` are
    /// compared by their encoded length.
    ///
    /// # Examples
    ///
    /// ```
    /// use chrono::{DateTime, Utc};
    /// use orchestrator::prelude::*;
    /// use std::time::Duration;
    ///
    /// #[task]
    /// async fn day(at: DateTime<Utc>) -> String { at.date_naive().to_string() }
    ///
    /// #[flow]
    /// fn daily(#[context] context: &Context) -> Node<String> { day(context.logical_date()) }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// tokio::time::pause();
    /// let runtime = Runtime::simulated("2026-01-01T00:00:00Z".parse()?);
    /// let week = Duration::from_secs(7 * 24 * 3600);
    /// let _ = tokio::time::timeout(week, daily().on(&runtime).serve("0 6 * * *")).await;
    /// assert_eq!(runtime.runs("daily").await?.len(), 7);
    /// # Ok(())
    /// # }
    /// ```
    pub fn simulated(start: DateTime<Utc>) -> Self {
        let builder = RuntimeBuilder::new().clock(Clock::tokio(start)).seed(SEED);
        let mut runtime = builder.runtime(Arc::new(MemoryStore::default()));
        Arc::make_mut(&mut runtime.host).simulated = true;
        runtime
    }
}
