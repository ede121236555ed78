//! Deployments, and pauses.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::Connection;

use super::SqliteStore;
use super::statements::{deployments, serving};
use crate::clock::Timestamp;
use crate::deployment::{DeploymentKey, DeploymentRecord, DeploymentSpec, DeploymentVersion};
use crate::error::StoreError;
use crate::flow::Missed;
use crate::store::{ScheduleStore, ServingState};

#[async_trait]
impl ScheduleStore for SqliteStore {
    async fn read_serving_state(&self) -> Result<ServingState, StoreError> {
        let file = Arc::clone(&self.file);
        let look = move |connection: &Connection| {
            serving::read_serving_state(connection, &file.dead_owners(connection)?)
        };
        self.file.read(look).await
    }

    async fn put_in_force(
        &self,
        spec: &DeploymentSpec,
        now: Timestamp,
    ) -> Result<DeploymentRecord, StoreError> {
        let spec = spec.clone();
        self.file
            .call(move |connection| deployments::put_in_force(connection, &spec, now))
            .await
    }

    async fn list_deployments(
        &self,
        flow: Option<&str>,
    ) -> Result<Vec<DeploymentRecord>, StoreError> {
        let at_once = |connection: &Connection| deployments::list_deployments(connection, flow);
        if let Some(found) = flow.and_then(|_| self.file.read_at_once(at_once)) {
            return Ok(found);
        }
        let flow = flow.map(str::to_owned);
        self.file
            .read(move |connection| Ok(deployments::list_deployments(connection, flow.as_deref())?))
            .await
    }

    async fn remove_deployment(&self, key: &DeploymentKey) -> Result<bool, StoreError> {
        let key = key.clone();
        self.file
            .call(move |connection| deployments::remove_deployment(connection, &key))
            .await
    }

    fn record_progress(&self, key: &DeploymentKey, version: DeploymentVersion, up_to: Timestamp) {
        let key = key.clone();
        self.file
            .writer
            .note(move |connection| deployments::record_progress(connection, &key, version, up_to));
    }

    fn rewind_progress(&self, deployments: &[(DeploymentKey, DeploymentVersion)], to: Timestamp) {
        let deployments = deployments.to_vec();
        self.file
            .writer
            .note(move |connection| deployments::rewind_progress(connection, &deployments, to));
    }

    async fn pause_flow(&self, flow: &str, now: Timestamp) -> Result<bool, StoreError> {
        let flow = flow.to_owned();
        self.file
            .call(move |connection| serving::pause_flow(connection, &flow, now))
            .await
    }

    async fn unpause_flow(
        &self,
        flow: &str,
        missed: Option<Missed>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let flow = flow.to_owned();
        self.file
            .call(move |connection| {
                let changed = serving::unpause_flow(connection, &flow)?;
                if let Some(missed) = missed.filter(|_| changed) {
                    deployments::choose_missed(connection, &flow, missed, now)?;
                }
                Ok(changed)
            })
            .await
    }

    async fn list_paused(&self) -> Result<Vec<(String, Timestamp)>, StoreError> {
        self.file.read(serving::list_paused).await
    }
}
