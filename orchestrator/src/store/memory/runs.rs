//! Runs, found by their ids, flows, keys and ticks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;

use super::MemoryStore;
use super::run_log::{MemoryRun, last_changes};
use crate::clock::Timestamp;
use crate::deployment::{DeploymentKey, DeploymentVersion};
use crate::error::{Error, RerunError, StoreError};
use crate::id::RunId;
use crate::journal::{
    AttemptRecord, ClearedRows, NewRun, RunFilter, RunRecord, RunSummary, attempts, clearing,
};
use crate::state::{Rerun, RunKind};
use crate::store::{AbandonedRun, PreviousRun, RunCreation, RunLog as _, RunStore, Takeover};

/// The runs, by their ids, flows, keys and ticks.
#[derive(Debug, Default)]
pub(super) struct RunIndex {
    /// In the order in which they were accepted.
    pub(super) all: Vec<Arc<MemoryRun>>,
    by_flow: HashMap<String, Vec<Arc<MemoryRun>>>,
    pub(super) by_id: HashMap<RunId, Arc<MemoryRun>>,
    by_key: HashMap<(String, String), Arc<MemoryRun>>,
    /// By deployment and logical date.
    by_tick: BTreeMap<(DeploymentKey, Timestamp), Arc<MemoryRun>>,
}

fn deployment_of(run: &NewRun) -> DeploymentKey {
    DeploymentKey {
        flow: run.flow.clone(),
        name: run.deployment.clone(),
    }
}

#[async_trait]
impl RunStore for MemoryStore {
    async fn create_run(
        &self,
        run: NewRun,
        in_force: Option<DeploymentVersion>,
    ) -> Result<RunCreation, StoreError> {
        let (flow, id) = (run.flow.clone().into_owned(), run.id);
        let key = run.key.clone().map(|key| (flow.clone(), key));
        let tick = run
            .kind
            .has_tick()
            .then(|| (deployment_of(&run), run.logical_date.into()));
        let mut runs = self.runs.lock();
        let schedules = self.schedules.lock();
        if in_force.is_some_and(|version| !schedules.is_in_force(&deployment_of(&run), version)) {
            return Ok(RunCreation::Superseded);
        }
        let by_key = key.as_ref().and_then(|key| runs.by_key.get(key));
        if let Some(taken) = by_key.or_else(|| runs.by_tick.get(tick.as_ref()?)) {
            return Ok(RunCreation::Taken(taken.snapshot()));
        }
        if run.kind == RunKind::Scheduled && schedules.paused.contains_key(&flow) {
            return Ok(RunCreation::Paused);
        }
        drop(schedules);
        let log = Arc::new(MemoryRun::new(run, Arc::clone(&self.cache)));
        runs.all.push(Arc::clone(&log));
        runs.by_flow.entry(flow).or_default().push(Arc::clone(&log));
        runs.by_id.insert(id, Arc::clone(&log));
        runs.by_key.extend(key.map(|key| (key, Arc::clone(&log))));
        runs.by_tick
            .extend(tick.map(|tick| (tick, Arc::clone(&log))));
        Ok(RunCreation::New(log))
    }

    async fn submit_run(&self, run: NewRun) -> Result<Option<RunRecord>, StoreError> {
        match self.create_run(run, None).await? {
            RunCreation::Taken(record) => Ok(Some(record)),
            RunCreation::New(_) | RunCreation::Paused | RunCreation::Superseded => Ok(None),
        }
    }

    async fn find_run(&self, id: RunId) -> Result<Option<RunRecord>, StoreError> {
        let run = self.runs.lock().by_id.get(&id).cloned();
        Ok(run.map(|run| run.snapshot()))
    }

    async fn find_runs(&self, filter: &RunFilter) -> Result<Vec<RunSummary>, StoreError> {
        let runs = match &filter.flow {
            Some(flow) => self
                .runs
                .lock()
                .by_flow
                .get(flow)
                .cloned()
                .unwrap_or_default(),
            None => self.runs.lock().all.clone(),
        };
        let wanted =
            |run: &Arc<MemoryRun>| Some(run.mirror.summary()).filter(|run| filter.matches(run));
        let limit = filter.limit.unwrap_or(usize::MAX);
        Ok(match filter.oldest_first {
            true => runs.iter().filter_map(wanted).take(limit).collect(),
            false => runs.iter().rev().filter_map(wanted).take(limit).collect(),
        })
    }

    async fn find_previous(
        &self,
        deployment: &DeploymentKey,
        before: Timestamp,
    ) -> Result<Option<PreviousRun>, StoreError> {
        let runs = self.runs.lock();
        let earlier = (deployment.clone(), Timestamp::MIN)..(deployment.clone(), before);
        let run = runs.by_tick.range(earlier).next_back();
        Ok(run.map(|(_, run)| {
            let RunSummary { id, state, .. } = run.mirror.summary();
            PreviousRun { id, state }
        }))
    }

    async fn list_runs(&self, flow: &str) -> Result<Vec<RunRecord>, StoreError> {
        let runs = self
            .runs
            .lock()
            .by_flow
            .get(flow)
            .cloned()
            .unwrap_or_default();
        Ok(runs.iter().map(|run| run.snapshot()).collect())
    }

    async fn read_attempts(&self, id: RunId) -> Result<Option<Vec<AttemptRecord>>, StoreError> {
        let Some(run) = self.runs.lock().by_id.get(&id).cloned() else {
            return Ok(None);
        };
        let (past, record) = (run.past.lock().clone(), run.snapshot());
        let tables = record.tables();
        Ok(Some(attempts::attempts(
            tables,
            past.into_iter().chain(last_changes(tables)),
        )))
    }

    async fn find_abandoned(&self) -> Result<Vec<AbandonedRun>, StoreError> {
        Ok(Vec::new())
    }

    async fn take_over_run(&self, _: RunId) -> Result<Option<Takeover>, StoreError> {
        Ok(None)
    }

    async fn reopen_run(
        &self,
        id: RunId,
        what: &Rerun,
        at: Timestamp,
    ) -> Result<Option<Takeover>, Error> {
        if *what != Rerun::All {
            let problem = "a store in memory keeps no results of tasks".to_owned();
            return Err(RerunError::NoResults { run: id, problem }.into());
        }
        let mut runs = self.runs.lock();
        let Some(old) = runs.by_id.get(&id).cloned() else {
            return Ok(None);
        };
        let Some(record) = old.mirror.of_final() else {
            return Ok(None);
        };
        let ranges = clearing::cells(record.tables(), &[], what)?;
        let Some((run, history)) = old.again(ClearedRows {
            at,
            what: what.clone(),
            ranges,
        }) else {
            return Ok(None);
        };
        // a new object: tasks left over from the previous execution still write to the old one
        let run = Arc::new(run);
        let RunIndex {
            all,
            by_flow,
            by_id,
            by_key,
            by_tick,
        } = &mut *runs;
        let lists = all.iter_mut().chain(by_flow.values_mut().flatten());
        let places = lists
            .chain(by_id.values_mut())
            .chain(by_key.values_mut())
            .chain(by_tick.values_mut());
        places
            .filter(|place| Arc::ptr_eq(place, &old))
            .for_each(|place| *place = Arc::clone(&run));
        Ok(Some(Takeover { log: run, history }))
    }

    async fn claim_turn(
        &self,
        _: RunId,
        _: &str,
        _: u32,
        _: Timestamp,
    ) -> Result<bool, StoreError> {
        // all runs of this store are in this process, whose own queue counts them
        Ok(true)
    }

    async fn release_turn(&self, _: RunId) -> Result<(), StoreError> {
        Ok(())
    }

    async fn request_cancel(&self, id: RunId) -> Result<bool, StoreError> {
        let run = self.runs.lock().by_id.get(&id).cloned();
        Ok(run.is_some_and(|run| !run.mirror.summary().state.is_final()))
    }

    async fn find_cancel_requests(&self) -> Result<Vec<RunId>, StoreError> {
        // all callers are in this process, which cancels its runs directly
        Ok(Vec::new())
    }

    async fn flush_writes(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
