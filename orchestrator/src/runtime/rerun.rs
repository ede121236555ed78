use std::sync::Arc;
use super::launch::StartedRun;
use super::Inner;
use crate::error::Error;
use crate::id::RunId;

/// STUB
#[derive(Clone, Debug)]
pub enum Rerun { /// a
 All, /// b
 Failed }

impl Inner {
    pub(crate) async fn start_rerun(self: &Arc<Self>, run: RunId, what: Rerun) -> Result<StartedRun, Error> {
        Err(Error::Options(format!("{run} {what:?}")))
    }
}
