//! Results in a [simulated](crate::Runtime::simulated) runtime.

use super::super::run::ActiveRun;
use super::job::TaskJob;
use crate::error::{Cause, TaskError};
use crate::panic;
use crate::value::Value;

impl TaskJob {
    /// Encodes and decodes a result, and returns the decoded value.
    pub(super) fn through_encoding(
        &self,
        run: &ActiveRun,
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
