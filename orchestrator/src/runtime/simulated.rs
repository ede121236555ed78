//! Runtimes for tests of what happens over a long time: results are passed through their encoding.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::attempt::Attempt;
use super::live::RunCore;
use super::panic;
use super::{Runtime, RuntimeBuilder};
use crate::clock::Clock;
use crate::error::{Cause, TaskError};
use crate::store::MemoryStore;
use crate::value::Value;

/// The ids of a simulated runtime's runs are the same each time.
const SEED: u64 = 0;

impl Runtime {
    /// A runtime for tests of schedules and of anything else that takes long: its clock stands at `start` and goes on
    /// with tokio's, so that under paused time (`tokio::time::pause()`) a month passes in no time; its store is in
    /// memory; its randomness is the same each time.
    ///
    /// And each task's result is written down as a store would, and read back. What does not come back equal makes its
    /// task fail, by the type's name: formats lose things, such as `Some(None)` or fields that are skipped. Types
    /// without `==` are compared by the length of what was written.
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

impl Attempt {
    /// A result as it comes back from its encoding.
    pub(super) fn through_encoding(
        &self,
        run: &RunCore,
        value: &Value,
    ) -> Result<Value, TaskError> {
        let output = run.live.lock().plan.wiring.nodes[self.node() as usize].output;
        let Some(output) = output else {
            return Ok(value.clone());
        };
        // its `Serialize`, `Deserialize` and `PartialEq` are a user's code
        let compared = panic::catch(|| {
            let bytes = value.encode()?;
            let back = output.decode(&bytes)?;
            let is_same = match self.definition.same.get() {
                // what is not equal to itself has a NaN in it
                Some(same) if same(value, value) => same(value, &back),
                _ => back.encode()?.len() == bytes.len(),
            };
            Ok::<_, crate::value::EncodingError>(is_same.then_some(back))
        });
        let problem = match compared {
            Ok(Ok(Some(back))) => return Ok(back),
            Ok(Ok(None)) => "it comes back as another value".to_owned(),
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
