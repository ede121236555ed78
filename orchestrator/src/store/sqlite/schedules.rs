//! The progress and the pauses of schedules.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::Connection;

use super::SqliteStore;
use super::statements::serving;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::store::{ScheduleKey, ScheduleStore, ServingState};

#[async_trait]
impl ScheduleStore for SqliteStore {
    async fn read_serving_state(&self) -> Result<ServingState, StoreError> {
        let file = Arc::clone(&self.file);
        let look = move |connection: &Connection| {
            serving::read_serving_state(connection, &file.dead_owners(connection)?)
        };
        self.file.read(look).await
    }

    async fn read_progress(
        &self,
        schedules: &[ScheduleKey],
        now: Timestamp,
    ) -> Result<Vec<Timestamp>, StoreError> {
        let schedules = schedules.to_vec();
        self.file
            .call(move |connection| serving::read_progress(connection, &schedules, now))
            .await
    }

    fn record_progress(&self, schedule: &ScheduleKey, up_to: Timestamp) {
        let schedule = schedule.clone();
        self.file
            .writer
            .note(move |connection| serving::record_progress(connection, &schedule, up_to));
    }

    fn rewind_progress(&self, schedules: &[ScheduleKey], to: Timestamp) {
        let schedules = schedules.to_vec();
        self.file
            .writer
            .note(move |connection| serving::rewind_progress(connection, &schedules, to));
    }

    async fn set_paused(
        &self,
        flow: &str,
        paused: bool,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let flow = flow.to_owned();
        self.file
            .call(move |connection| serving::set_paused(connection, &flow, paused, now))
            .await
    }

    async fn list_paused(&self) -> Result<Vec<(String, Timestamp)>, StoreError> {
        self.file.read(serving::list_paused).await
    }
}
