use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::DateTime;
use parking_lot::Mutex;

use super::cached::has_expired;
use super::mirror::Mirror;
use super::{
    Abandoned, CacheKey, CacheMiss, CacheQuery, Commit, Created, Encoded, Lookup, NewEntry, NewRun, Pruned, RunLog,
    RunRecord, Store, TakenOver, Transition,
};
use crate::error::StoreError;
use crate::id::RunId;
use crate::value::{EncodingError, Value};

/// Keeps runs in memory: gone with the process. Results are not kept, only the runs' outputs and what is cached.
#[derive(Debug, Default)]
pub(crate) struct MemoryStore {
    runs: Mutex<Runs>,
    cache: Arc<Mutex<Cache>>,
}

#[derive(Debug, Default)]
struct Runs {
    by_flow: HashMap<String, Vec<Arc<MemoryRun>>>,
    by_id: HashMap<RunId, Arc<MemoryRun>>,
    by_key: HashMap<(String, String), Arc<MemoryRun>>,
    /// By flow and logical date, in microseconds since 1970.
    by_tick: HashMap<(String, i64), Arc<MemoryRun>>,
}

type Cache = HashMap<CacheKey, NewEntry>;

/// The log of a run that no store keeps.
pub(crate) fn unrecorded(run: NewRun) -> Arc<dyn RunLog> {
    Arc::new(MemoryRun::new(run, Arc::default()))
}

#[derive(Debug)]
struct MemoryRun {
    mirror: Mirror,
    cache: Arc<Mutex<Cache>>,
}

impl MemoryRun {
    fn new(run: NewRun, cache: Arc<Mutex<Cache>>) -> Self {
        Self { mirror: Mirror::new(run), cache }
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn is_durable(&self) -> bool {
        false
    }

    async fn create_run(&self, run: NewRun) -> Result<Created, StoreError> {
        let (flow, id) = (run.flow.clone().into_owned(), run.id);
        let key = run.key.clone().map(|key| (flow.clone(), key));
        let tick = run.kind.has_tick().then(|| (flow.clone(), run.logical_date.timestamp_micros()));
        let mut runs = self.runs.lock();
        let by_key = key.as_ref().and_then(|key| runs.by_key.get(key));
        if let Some(taken) = by_key.or_else(|| runs.by_tick.get(tick.as_ref()?)) {
            return Ok(Created::Taken(taken.snapshot()));
        }
        let log = Arc::new(MemoryRun::new(run, Arc::clone(&self.cache)));
        runs.by_flow.entry(flow).or_default().push(Arc::clone(&log));
        runs.by_id.insert(id, Arc::clone(&log));
        runs.by_key.extend(key.map(|key| (key, Arc::clone(&log))));
        runs.by_tick.extend(tick.map(|tick| (tick, Arc::clone(&log))));
        Ok(Created::New(log))
    }

    async fn runs(&self, flow: &str) -> Result<Vec<RunRecord>, StoreError> {
        let runs = self.runs.lock().by_flow.get(flow).cloned().unwrap_or_default();
        Ok(runs.iter().map(|run| run.snapshot()).collect())
    }

    async fn run(&self, id: RunId) -> Result<Option<RunRecord>, StoreError> {
        let run = self.runs.lock().by_id.get(&id).cloned();
        Ok(run.map(|run| run.snapshot()))
    }

    async fn abandoned(&self) -> Result<Vec<Abandoned>, StoreError> {
        Ok(Vec::new())
    }

    async fn take_over(&self, _: RunId) -> Result<Option<TakenOver>, StoreError> {
        Ok(None)
    }

    async fn look_up(&self, query: &CacheQuery, now: i64) -> Result<Lookup, StoreError> {
        let cache = self.cache.lock();
        Ok(match cache.get(&query.key) {
            Some(entry) if has_expired(entry.hit.created, query.expiry, now) => Lookup::Miss(CacheMiss::Expired {
                created: DateTime::from_timestamp_micros(entry.hit.created).unwrap_or_default(),
            }),
            Some(entry) => Lookup::Hit(entry.hit.clone()),
            None => {
                let mut of_task = cache.values().filter(|entry| entry.query.task == query.task).peekable();
                Lookup::Miss(
                    match (of_task.peek().is_some(), of_task.any(|entry| entry.query.inputs == query.inputs)) {
                        (false, _) => CacheMiss::Empty,
                        (true, true) => CacheMiss::ChangedCode,
                        (true, false) => CacheMiss::NewInputs,
                    },
                )
            }
        })
    }

    async fn claim_flight(&self, _: CacheKey) -> Result<bool, StoreError> {
        Ok(true)
    }

    fn end_flight(&self, _: CacheKey) {}

    async fn prune(&self, before: i64, now: i64, cache_bytes: u64) -> Result<Pruned, StoreError> {
        let runs: Vec<Arc<MemoryRun>> = self.runs.lock().by_id.values().cloned().collect();
        let pruned = runs.iter().filter(|run| run.mirror.prune(before)).count();
        let mut cache = self.cache.lock();
        let entries = cache.len();
        cache.retain(|_, entry| !has_expired(entry.hit.created, entry.query.expiry, now));
        // nobody knows how large a value is in memory: here the bound is only good for nothing at all
        if cache_bytes == 0 {
            cache.clear();
        }
        Ok(Pruned { runs: pruned as u64, cached: (entries - cache.len()) as u64 })
    }
}

impl RunLog for MemoryRun {
    fn encode(&self, _: &Value) -> Result<Option<Encoded>, EncodingError> {
        Ok(None)
    }

    fn record(&self, mut transition: Transition) {
        if let Transition::Task(end) = &mut transition
            && let Some(entry) = end.cache.take()
        {
            self.cache.lock().insert(entry.query.key, *entry);
        }
        self.mirror.record(transition, |_| {});
    }

    fn needs_commits(&self) -> bool {
        false
    }

    fn commit(&self) -> Commit {
        Commit::Done(Ok(()))
    }

    fn commit_soon(&self) {}

    fn snapshot(&self) -> RunRecord {
        self.mirror.snapshot()
    }
}
