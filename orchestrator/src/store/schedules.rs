//! Stored state of schedules: progress and pauses.

use std::fmt;

use async_trait::async_trait;

use super::AbandonedRun;
use crate::clock::Timestamp;
use crate::error::StoreError;

/// Stores the progress and the pauses of schedules, which serving processes share.
#[async_trait]
pub(crate) trait ScheduleStore: fmt::Debug + Send + Sync {
    /// Returns the abandoned runs and the paused flows. Serving processes poll this.
    async fn read_serving_state(&self) -> Result<ServingState, StoreError>;

    /// Returns, for each schedule, the instant up to which its ticks are decided. New schedules are
    /// recorded as decided up to `now`.
    async fn read_progress(
        &self,
        schedules: &[ScheduleKey],
        now: Timestamp,
    ) -> Result<Vec<Timestamp>, StoreError>;

    /// Records that the ticks of a schedule are decided up to an instant. Does not wait for the
    /// commit.
    fn record_progress(&self, schedule: &ScheduleKey, up_to: Timestamp);

    /// Records that the clock was set back to an instant: no later tick is decided. Does not wait
    /// for the commit.
    fn rewind_progress(&self, schedules: &[ScheduleKey], to: Timestamp);

    /// Pauses or resumes the schedules of a flow. Returns `false` if they were in that state
    /// already.
    async fn set_paused(
        &self,
        flow: &str,
        paused: bool,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Returns the flows whose schedules are paused, and since when.
    async fn list_paused(&self) -> Result<Vec<(String, Timestamp)>, StoreError>;
}

/// A schedule of a served flow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ScheduleKey {
    pub(crate) flow: &'static str,
    /// The schedule in readable form.
    pub(crate) schedule: String,
}

/// Abandoned runs and paused flows, as a serving process polls them.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServingState {
    pub(crate) abandoned: Vec<AbandonedRun>,
    /// The flows whose schedules are paused.
    pub(crate) paused: Vec<String>,
}
