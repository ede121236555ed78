//! Mocks: closures that run in place of the bodies of tasks.

use std::fmt;
use std::sync::Arc;

use crate::error::TaskError;
use crate::panic::Fragile;
use crate::task::{BodyFuture, Call};
use crate::value::Value;

/// The body that runs in place of a task's own.
#[derive(Clone)]
pub(crate) struct Mock(pub(crate) Fragile<Arc<MockBody>>);

/// The closure of a mock, which takes the inputs of a call.
pub(crate) type MockBody = dyn Fn(&mut Call<'_>) -> Result<Value, TaskError> + Send + Sync;

impl Mock {
    pub(crate) fn body(&self, call: &mut Call<'_>) -> BodyFuture {
        Box::pin(std::future::ready((self.0)(call)))
    }
}

impl fmt::Debug for Mock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mock")
    }
}
