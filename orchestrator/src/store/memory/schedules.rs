//! Deployments, and pauses.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::MemoryStore;
use crate::clock::Timestamp;
use crate::deployment::{DeploymentKey, DeploymentRecord, DeploymentSpec, DeploymentVersion};
use crate::error::StoreError;
use crate::flow::Missed;
use crate::store::{ScheduleStore, ServingState};

/// The deployments and the paused flows.
#[derive(Debug, Default)]
pub(super) struct Schedules {
    deployments: BTreeMap<DeploymentKey, DeploymentRecord>,
    pub(super) paused: BTreeMap<String, Timestamp>,
}

impl Schedules {
    /// Returns `true` if a version of a deployment is in force.
    pub(super) fn is_in_force(&self, key: &DeploymentKey, version: DeploymentVersion) -> bool {
        self.deployments
            .get(key)
            .is_some_and(|record| record.version == version)
    }
}

#[async_trait]
impl ScheduleStore for MemoryStore {
    async fn read_serving_state(&self) -> Result<ServingState, StoreError> {
        Ok(ServingState {
            paused: self.schedules.lock().paused.keys().cloned().collect(),
            ..ServingState::default()
        })
    }

    async fn put_in_force(
        &self,
        spec: &DeploymentSpec,
        now: Timestamp,
    ) -> Result<DeploymentRecord, StoreError> {
        let now = now.to_datetime().unwrap_or_default();
        let deployments = &mut self.schedules.lock().deployments;
        let (record, has_changed) = spec.put_in_force(deployments.get(&spec.key).cloned(), now);
        if has_changed {
            deployments.insert(spec.key.clone(), record.clone());
        }
        Ok(record)
    }

    async fn list_deployments(
        &self,
        flow: Option<&str>,
    ) -> Result<Vec<DeploymentRecord>, StoreError> {
        let schedules = self.schedules.lock();
        let records = schedules.deployments.values();
        let records = records.filter(|record| !record.is_removed());
        Ok(records
            .filter(|record| flow.is_none_or(|flow| record.key.flow == flow))
            .cloned()
            .collect())
    }

    async fn remove_deployment(&self, key: &DeploymentKey) -> Result<bool, StoreError> {
        let deployments = &mut self.schedules.lock().deployments;
        let found = deployments.get_mut(key);
        let found = found.filter(|record| !record.is_removed());
        Ok(found.map(DeploymentRecord::remove).is_some())
    }

    fn record_progress(&self, key: &DeploymentKey, version: DeploymentVersion, up_to: Timestamp) {
        let up_to = up_to.to_datetime().unwrap_or_default();
        if let Some(record) = self.schedules.lock().deployments.get_mut(key)
            && record.version == version
        {
            record.decided = record.decided.max(up_to);
        }
    }

    fn rewind_progress(&self, deployments: &[(DeploymentKey, DeploymentVersion)], to: Timestamp) {
        let to = to.to_datetime().unwrap_or_default();
        let records = &mut self.schedules.lock().deployments;
        for (key, version) in deployments {
            if let Some(record) = records.get_mut(key).filter(|it| it.version == *version) {
                record.rewind(to);
            }
        }
    }

    async fn pause_flow(&self, flow: &str, now: Timestamp) -> Result<bool, StoreError> {
        let flows = &mut self.schedules.lock().paused;
        Ok(match flows.contains_key(flow) {
            true => false,
            false => flows.insert(flow.to_owned(), now).is_none(),
        })
    }

    async fn unpause_flow(
        &self,
        flow: &str,
        missed: Option<Missed>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut schedules = self.schedules.lock();
        let changed = schedules.paused.remove(flow).is_some();
        if let Some(missed) = missed.filter(|_| changed) {
            let now = now.to_datetime().unwrap_or_default();
            for record in schedules.deployments.values_mut() {
                if record.key.flow == flow && !record.is_removed() {
                    record.choose_missed(missed, now);
                }
            }
        }
        Ok(changed)
    }

    async fn list_paused(&self) -> Result<Vec<(String, Timestamp)>, StoreError> {
        Ok(self
            .schedules
            .lock()
            .paused
            .iter()
            .map(|(flow, since)| (flow.clone(), *since))
            .collect())
    }
}
