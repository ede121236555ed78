//! Stored state of schedules: deployments, and pauses.

use std::fmt;

use async_trait::async_trait;

use super::AbandonedRun;
use crate::clock::Timestamp;
use crate::deployment::{DeploymentKey, DeploymentRecord, DeploymentSpec, DeploymentVersion};
use crate::error::StoreError;
use crate::flow::Missed;

/// Stores what is served and the pauses, which serving processes share.
#[async_trait]
pub(crate) trait ScheduleStore: fmt::Debug + Send + Sync {
    /// Returns the abandoned runs and the paused flows. Serving processes poll this.
    async fn read_serving_state(&self) -> Result<ServingState, StoreError>;

    /// Puts the schedules of a deployment in force, in one transaction with the look at what was in
    /// force before, and returns what is on record now. See [`DeploymentSpec::put_in_force`].
    async fn put_in_force(
        &self,
        spec: &DeploymentSpec,
        now: Timestamp,
    ) -> Result<DeploymentRecord, StoreError>;

    /// Returns the deployments on record, of a flow or of all flows, by flow and name.
    async fn list_deployments(
        &self,
        flow: Option<&str>,
    ) -> Result<Vec<DeploymentRecord>, StoreError>;

    /// Removes a deployment from the record. Returns `false` if it is not there.
    async fn remove_deployment(&self, key: &DeploymentKey) -> Result<bool, StoreError>;

    /// Records that the ticks of a deployment are decided up to an instant, unless another version
    /// is in force. Does not wait for the commit.
    fn record_progress(&self, key: &DeploymentKey, version: DeploymentVersion, up_to: Timestamp);

    /// Records that the clock was set back to an instant: no later tick is decided. Does nothing for
    /// deployments of which another version is in force, and does not wait for the commit.
    fn rewind_progress(&self, deployments: &[(DeploymentKey, DeploymentVersion)], to: Timestamp);

    /// Pauses the schedules of a flow. Returns `false` if they were paused already.
    async fn pause_flow(&self, flow: &str, now: Timestamp) -> Result<bool, StoreError>;

    /// Resumes the schedules of a flow. If `missed` is given, it decides about the ticks until now.
    /// Returns `false`, and changes nothing, if they were not paused.
    async fn unpause_flow(
        &self,
        flow: &str,
        missed: Option<Missed>,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Returns the flows whose schedules are paused, and since when.
    async fn list_paused(&self) -> Result<Vec<(String, Timestamp)>, StoreError>;
}

/// Abandoned runs and paused flows, as a serving process polls them.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServingState {
    pub(crate) abandoned: Vec<AbandonedRun>,
    /// The flows whose schedules are paused.
    pub(crate) paused: Vec<String>,
}
