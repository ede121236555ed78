use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::cached::has_expired;
use super::entry::hex;
use super::mirror::Mirror;
use super::{
    Abandoned, Accept, Backlog, CacheEntry, CacheFilter, Claim, Commit, Created, Look, Lookup,
    Pruned, RunLog, ScheduleKey, Store, StoreCheck, TakenOver, Wanted,
};
use crate::clock::Timestamp;
use crate::error::{Error, RerunError, StoreError};
use crate::id::RunId;
use crate::journal::InputsHash;
use crate::journal::Row;
use crate::journal::RowPlace;
use crate::journal::RunTables;
use crate::journal::clearing;
use crate::journal::{
    AttemptRecord, AwaitOrder, ByHash, CacheHit, CacheKey, CacheMiss, CacheQuery, CellState,
    ClearedRows, EncodedResult, History, NewCacheEntry, NewRun, RunFilter, RunRecord, RunSummary,
    Transition,
    attempts::{self, StateChange},
};
use crate::log::LogLine;
use crate::state::{Rerun, RunKind};
use crate::value::{EncodingError, Value};

/// A store in memory, lost with the process. It keeps the outputs of runs and cached results, but
/// not the results of tasks.
#[derive(Debug, Default)]
pub(crate) struct MemoryStore {
    runs: Mutex<Runs>,
    cache: Arc<Mutex<Cache>>,
    serving: Mutex<Serving>,
}

#[derive(Debug, Default)]
struct Serving {
    decided: HashMap<ScheduleKey, Timestamp>,
    paused: BTreeMap<String, Timestamp>,
}

#[derive(Debug, Default)]
struct Runs {
    /// In the order in which they were accepted.
    all: Vec<Arc<MemoryRun>>,
    by_flow: HashMap<String, Vec<Arc<MemoryRun>>>,
    by_id: HashMap<RunId, Arc<MemoryRun>>,
    by_key: HashMap<(String, String), Arc<MemoryRun>>,
    /// By flow and logical date.
    by_tick: HashMap<(String, Timestamp), Arc<MemoryRun>>,
}

/// The cached results. The counts by task tell why a result is missing without a scan.
#[derive(Debug, Default)]
struct Cache {
    entries: ByHash<CacheKey, Box<NewCacheEntry>>,
    /// The number of entries of each task, by the hash of their inputs.
    by_task: HashMap<Arc<str>, ByHash<InputsHash, u32>>,
}

impl Cache {
    fn insert(&mut self, entry: Box<NewCacheEntry>) {
        let CacheQuery {
            key, task, inputs, ..
        } = &entry.query;
        let (key, inputs) = (*key, InputsHash(*inputs));
        let by_inputs = match self.by_task.get_mut(task) {
            Some(by_inputs) => by_inputs,
            None => self.by_task.entry(Arc::clone(task)).or_default(),
        };
        *by_inputs.entry(inputs).or_default() += 1;
        if let Some(replaced) = self.entries.insert(key, entry) {
            self.uncount(&replaced);
        }
    }

    /// Removes the entries for which `is_kept` returns `false`. Returns their number.
    fn retain(&mut self, mut is_kept: impl FnMut(&NewCacheEntry) -> bool) -> u64 {
        let forgotten: Vec<Box<NewCacheEntry>> = self
            .entries
            .extract_if(|_, entry| !is_kept(entry))
            .map(|(_, entry)| entry)
            .collect();
        forgotten.iter().for_each(|entry| self.uncount(entry));
        forgotten.len() as u64
    }

    fn uncount(&mut self, entry: &NewCacheEntry) {
        let CacheQuery { task, inputs, .. } = &entry.query;
        let Some(by_inputs) = self.by_task.get_mut(task) else {
            return;
        };
        if let Entry::Occupied(mut count) = by_inputs.entry(InputsHash(*inputs)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        if by_inputs.is_empty() {
            self.by_task.remove(task);
        }
    }

    fn look_up(
        &self,
        Wanted { query, accept }: &Wanted,
        now: Timestamp,
    ) -> Result<CacheHit, CacheMiss> {
        match self.entries.get(&query.key) {
            Some(entry) => match &entry.hit {
                hit if !accept.accepts(hit.run, hit.created) => Err(CacheMiss::Refreshed),
                hit if has_expired(hit.created, query.expiry, now) => Err(CacheMiss::Expired {
                    created: hit.created.to_datetime().unwrap_or_default(),
                }),
                hit => Ok(hit.clone()),
            },
            None if *accept != Accept::Any => Err(CacheMiss::Refreshed),
            None => Err(match self.by_task.get(&query.task) {
                None => CacheMiss::Empty,
                Some(by_inputs) if by_inputs.contains_key(&InputsHash(query.inputs)) => {
                    CacheMiss::ChangedCode
                }
                Some(_) => CacheMiss::NewInputs,
            }),
        }
    }
}

/// Creates the log of a run that no store keeps.
pub(crate) fn unrecorded(run: NewRun) -> Arc<dyn RunLog> {
    Arc::new(MemoryRun::new(run, Arc::default()))
}

#[derive(Debug)]
struct MemoryRun {
    mirror: Mirror,
    cache: Arc<Mutex<Cache>>,
    lines: Mutex<Backlog>,
    /// The ends of attempts that were followed by another one.
    past: Mutex<Vec<StateChange>>,
}

/// The limit on the lines of a run, in bytes.
const LINES: usize = 8 << 20;

impl MemoryRun {
    fn new(run: NewRun, cache: Arc<Mutex<Cache>>) -> Self {
        let lines = Mutex::new(Backlog::new(LINES));
        Self {
            mirror: Mirror::new(run),
            cache,
            lines,
            past: Mutex::default(),
        }
    }

    /// Returns the run as it is re-run, and its history. Returns `None` if it is not final.
    fn again(&self, cleared: ClearedRows) -> Option<(Self, History)> {
        let mut tables = self.mirror.of_final()?.tables().clone();
        let mut past = self.past.lock().clone();
        past.extend(last_changes(&tables));
        tables.apply(Transition::Cleared(cleared));
        let (await_order, results) = (AwaitOrder::default(), HashMap::new());
        let history = History {
            tables: tables.clone(),
            results,
            await_order,
            takeovers: 0,
            deaths: 0,
            cancelling: false,
        };
        let (mirror, cache) = (Mirror::of(tables), Arc::clone(&self.cache));
        let lines = Mutex::new(std::mem::replace(
            &mut *self.lines.lock(),
            Backlog::new(LINES),
        ));
        Some((
            Self {
                mirror,
                cache,
                lines,
                past: Mutex::new(past),
            },
            history,
        ))
    }
}

fn last_changes(tables: &RunTables) -> impl Iterator<Item = StateChange> {
    tables.frames.entries().flat_map(|(number, frame)| {
        let change = move |(cell, row): (u32, &Row)| {
            let place = RowPlace {
                frame: number,
                cell,
            };
            StateChange::last(place, row)
        };
        (0..).zip(&frame.rows).map(change)
    })
}

impl MemoryStore {
    fn ids_where(&self, is_meant: impl Fn(&RunId) -> bool) -> Vec<RunId> {
        let mut ids: Vec<RunId> = self.runs.lock().by_id.keys().copied().collect();
        ids.retain(is_meant);
        ids.sort_unstable();
        ids
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
        let tick = run
            .kind
            .has_tick()
            .then(|| (flow.clone(), run.logical_date.into()));
        let mut runs = self.runs.lock();
        let by_key = key.as_ref().and_then(|key| runs.by_key.get(key));
        if let Some(taken) = by_key.or_else(|| runs.by_tick.get(tick.as_ref()?)) {
            return Ok(Created::Taken(taken.snapshot()));
        }
        if run.kind == RunKind::Scheduled && self.serving.lock().paused.contains_key(&flow) {
            return Ok(Created::Paused);
        }
        let log = Arc::new(MemoryRun::new(run, Arc::clone(&self.cache)));
        runs.all.push(Arc::clone(&log));
        runs.by_flow.entry(flow).or_default().push(Arc::clone(&log));
        runs.by_id.insert(id, Arc::clone(&log));
        runs.by_key.extend(key.map(|key| (key, Arc::clone(&log))));
        runs.by_tick
            .extend(tick.map(|tick| (tick, Arc::clone(&log))));
        Ok(Created::New(log))
    }

    async fn submit_run(&self, run: NewRun) -> Result<Option<RunRecord>, StoreError> {
        match self.create_run(run).await? {
            Created::Taken(record) => Ok(Some(record)),
            Created::New(_) | Created::Paused => Ok(None),
        }
    }

    async fn runs(&self, flow: &str) -> Result<Vec<RunRecord>, StoreError> {
        let runs = self
            .runs
            .lock()
            .by_flow
            .get(flow)
            .cloned()
            .unwrap_or_default();
        Ok(runs.iter().map(|run| run.snapshot()).collect())
    }

    async fn run(&self, id: RunId) -> Result<Option<RunRecord>, StoreError> {
        let run = self.runs.lock().by_id.get(&id).cloned();
        Ok(run.map(|run| run.snapshot()))
    }

    async fn summaries(&self, filter: &RunFilter) -> Result<Vec<RunSummary>, StoreError> {
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

    async fn abandoned(&self) -> Result<Vec<Abandoned>, StoreError> {
        Ok(Vec::new())
    }

    async fn take_over(&self, _: RunId) -> Result<Option<TakenOver>, StoreError> {
        Ok(None)
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

    async fn leave_turn(&self, _: RunId) -> Result<(), StoreError> {
        Ok(())
    }

    async fn request_cancel(&self, id: RunId) -> Result<bool, StoreError> {
        let run = self.runs.lock().by_id.get(&id).cloned();
        Ok(run.is_some_and(|run| !run.mirror.summary().state.is_final()))
    }

    async fn cancelling(&self) -> Result<Vec<RunId>, StoreError> {
        // all callers are in this process, which cancels its runs directly
        Ok(Vec::new())
    }

    async fn look(&self) -> Result<Look, StoreError> {
        Ok(Look {
            paused: self.serving.lock().paused.keys().cloned().collect(),
            ..Look::default()
        })
    }

    async fn decided(
        &self,
        schedules: &[ScheduleKey],
        now: Timestamp,
    ) -> Result<Vec<Timestamp>, StoreError> {
        let decided = &mut self.serving.lock().decided;
        Ok(schedules
            .iter()
            .map(|schedule| *decided.entry(schedule.clone()).or_insert(now))
            .collect())
    }

    fn decide(&self, schedule: &ScheduleKey, up_to: Timestamp) {
        let decided = &mut self.serving.lock().decided;
        let last = decided.entry(schedule.clone()).or_insert(up_to);
        *last = up_to.max(*last);
    }

    fn set_back(&self, schedules: &[ScheduleKey], to: Timestamp) {
        let decided = &mut self.serving.lock().decided;
        for schedule in schedules {
            decided
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
        let flows = &mut self.serving.lock().paused;
        Ok(match paused {
            true if flows.contains_key(flow) => false,
            true => flows.insert(flow.to_owned(), now).is_none(),
            false => flows.remove(flow).is_some(),
        })
    }

    async fn paused(&self) -> Result<Vec<(String, Timestamp)>, StoreError> {
        Ok(self
            .serving
            .lock()
            .paused
            .iter()
            .map(|(flow, since)| (flow.clone(), *since))
            .collect())
    }

    async fn reopen(
        &self,
        id: RunId,
        what: &Rerun,
        at: Timestamp,
    ) -> Result<Option<TakenOver>, Error> {
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
        let Runs {
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
        Ok(Some(TakenOver { log: run, history }))
    }

    async fn attempts(&self, id: RunId) -> Result<Option<Vec<AttemptRecord>>, StoreError> {
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

    async fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn look_up(
        &self,
        wanted: Arc<[Wanted]>,
        mut claims: usize,
        now: Timestamp,
    ) -> Result<Vec<Lookup>, StoreError> {
        let cache = self.cache.lock();
        let mut claim = || match claims.checked_sub(1) {
            Some(left) => {
                claims = left;
                Claim::Own
            }
            None => Claim::NotMade,
        };
        let look_up = |wanted| match cache.look_up(wanted, now) {
            Ok(hit) => Lookup::Hit(hit),
            Err(miss) => Lookup::Miss(miss, claim()),
        };
        Ok(wanted.iter().map(look_up).collect())
    }

    fn end_flights(&self, _: Vec<CacheKey>) {}

    fn append_logs(&self, lines: &mut Vec<LogLine>, _: bool) -> Result<bool, StoreError> {
        for line in lines.drain(..) {
            let run = self.runs.lock().by_id.get(&line.run).cloned();
            if let Some(run) = run.filter(|run| !run.mirror.is_pruned()) {
                run.lines.lock().push(line);
            }
        }
        Ok(true)
    }

    async fn logs(
        &self,
        run: RunId,
        after: u64,
        at_most: usize,
    ) -> Result<Vec<LogLine>, StoreError> {
        let run = self.runs.lock().by_id.get(&run).cloned();
        Ok(run.map_or_else(Vec::new, |run| run.lines.lock().after(after, at_most)))
    }

    async fn prune(
        &self,
        before: Timestamp,
        now: Timestamp,
        cache_bytes: u64,
    ) -> Result<Pruned, StoreError> {
        let runs: Vec<Arc<MemoryRun>> = self.runs.lock().by_id.values().cloned().collect();
        let pruned: Vec<_> = runs.iter().filter(|run| run.mirror.prune(before)).collect();
        pruned
            .iter()
            .for_each(|run| *run.lines.lock() = Backlog::new(LINES));
        // the sizes of values in memory are unknown: a limit has an effect only if it is zero
        let is_kept = |entry: &NewCacheEntry| {
            cache_bytes > 0 && !has_expired(entry.hit.created, entry.query.expiry, now)
        };
        let cached = self.cache.lock().retain(is_kept);
        Ok(Pruned {
            runs: pruned.len() as u64,
            cached,
        })
    }

    async fn cached(
        &self,
        filter: &CacheFilter,
        now: Timestamp,
    ) -> Result<Vec<CacheEntry>, StoreError> {
        let mut entries: Vec<CacheEntry> = self
            .cache
            .lock()
            .entries
            .values()
            .map(|entry| entry.listed())
            .collect();
        entries.retain(|entry| filter.matches(entry, now));
        entries.sort_by(|a, b| (&a.task, a.created_at).cmp(&(&b.task, b.created_at)));
        Ok(entries)
    }

    async fn forget_cached(&self, filter: &CacheFilter, now: Timestamp) -> Result<u64, StoreError> {
        Ok(self
            .cache
            .lock()
            .retain(|entry| !filter.matches(&entry.listed(), now)))
    }

    async fn ids(&self, first: RunId, last: RunId) -> Result<Vec<RunId>, StoreError> {
        Ok(self.ids_where(|id| (first..=last).contains(id)))
    }

    async fn ids_ending(&self, digits: &str) -> Result<Vec<RunId>, StoreError> {
        let digits = digits.to_ascii_lowercase();
        Ok(self.ids_where(|id| hex(id.as_bytes()).ends_with(&digits)))
    }

    async fn check(&self) -> Result<StoreCheck, StoreError> {
        let runs = self.runs.lock().all.clone();
        let unfinished = runs
            .iter()
            .filter(|run| !run.mirror.summary().state.is_final())
            .count();
        let counts = [
            ("runs", runs.len()),
            ("unfinished_runs", unfinished),
            ("cached_results", self.cache.lock().entries.len()),
            ("paused_flows", self.serving.lock().paused.len()),
        ];
        Ok(StoreCheck {
            store: "memory".to_owned(),
            counts: counts
                .into_iter()
                .map(|(what, count)| (what, count as u64))
                .collect(),
            ..StoreCheck::default()
        })
    }
}

impl RunLog for MemoryRun {
    fn encode(&self, _: &Value) -> Result<Option<EncodedResult>, EncodingError> {
        Ok(None)
    }

    fn record(&self, mut transition: Transition) {
        if let Transition::Task(end) = &mut transition
            && let Some(entry) = end.cache.take()
        {
            self.cache.lock().insert(entry);
        }
        if let Transition::Task(end) = &transition
            && matches!(end.state, CellState::Retrying { .. })
        {
            self.past.lock().push(StateChange::from(end));
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
