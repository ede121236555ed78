//! The progress and the pauses of schedules.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;

use super::MemoryStore;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::store::{ScheduleKey, ScheduleStore, ServingState};

/// The progress and the pauses of schedules.
#[derive(Debug, Default)]
pub(super) struct Schedules {
    progress: HashMap<ScheduleKey, Timestamp>,
    pub(super) paused: BTreeMap<String, Timestamp>,
}

#[async_trait]
impl ScheduleStore for MemoryStore {
    async fn read_serving_state(&self) -> Result<ServingState, StoreError> {
        Ok(ServingState {
            paused: self.schedules.lock().paused.keys().cloned().collect(),
            ..ServingState::default()
        })
    }

    async fn read_progress(
        &self,
        schedules: &[ScheduleKey],
        now: Timestamp,
    ) -> Result<Vec<Timestamp>, StoreError> {
        let progress = &mut self.schedules.lock().progress;
        Ok(schedules
            .iter()
            .map(|schedule| *progress.entry(schedule.clone()).or_insert(now))
            .collect())
    }

    fn record_progress(&self, schedule: &ScheduleKey, up_to: Timestamp) {
        let progress = &mut self.schedules.lock().progress;
        let last = progress.entry(schedule.clone()).or_insert(up_to);
        *last = up_to.max(*last);
    }

    fn rewind_progress(&self, schedules: &[ScheduleKey], to: Timestamp) {
        let progress = &mut self.schedules.lock().progress;
        for schedule in schedules {
            progress
                .entry(schedule.clone())
                .and_modify(|last| *last = to.min(*last));
        }
    }

    async fn set_paused(
        &self,
        flow: &str,
        paused: bool,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let flows = &mut self.schedules.lock().paused;
        Ok(match paused {
            true if flows.contains_key(flow) => false,
            true => flows.insert(flow.to_owned(), now).is_none(),
            false => flows.remove(flow).is_some(),
        })
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
