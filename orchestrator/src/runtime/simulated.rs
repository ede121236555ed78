//! Simulated runtimes, for tests that span a long time: every result goes through its encoding.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::live::RunCore;
use super::task_job::TaskJob;
use super::{Runtime, RuntimeBuilder};
use crate::clock::Clock;
use crate::error::{Cause, TaskError};
use crate::panic;
use crate::store::MemoryStore;
use crate::value::Value;

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
        let mut inner = builder.inner(Arc::new(MemoryStore::default()));
        inner.simulated = true;
        Self(Arc::new(inner))
    }
}

impl TaskJob {
    /// Encodes and decodes a result, and returns the decoded value.
    pub(super) fn through_encoding(
        &self,
        run: &RunCore,
        value: &Value,
    ) -> Result<Value, TaskError> {
        let output = run.live.lock().plan.wiring.nodes[self.at.node].output;
        let Some(output) = output else {
            return Ok(value.clone());
        };
        // `Serialize`, `Deserialize` and `PartialEq` are user code, which may panic
        let compared = panic::catch(|| {
            let bytes = value.encode()?;
            let back = output.decode(&bytes)?;
            let is_same = match self.attempt.task.same.get() {
                // a value that is not equal to itself contains a NaN
                Some(same) if same(value, value) => same(value, &back),
                _ => back.encode()?.len() == bytes.len(),
            };
            Ok::<_, crate::value::EncodingError>(is_same.then_some(back))
        });
        let problem = match compared {
            Ok(Ok(Some(back))) => return Ok(back),
            Ok(Ok(None)) => "it is decoded to a different value".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(panicked) => return Err(TaskError::panicked(&panicked)),
        };
        let text = format!(
            "its result, `{}`, does not come back from a store as it is: {problem}; look for `Option`s in `Option`s, \
             and for fields that serde skips",
            output.name()
        );
        Err(TaskError::new(Cause::Fatal, text))
    }
}
