use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::DateTime;
use parking_lot::Mutex;

use super::cached::has_expired;
use super::entry::hex;
use super::mirror::Mirror;
use super::tables::RunTables;
use super::{
    Abandoned, AttemptRecord, CacheEntry, CacheFilter, CacheKey, CacheMiss, CacheQuery, Cleared,
    Commit, Created, Encoded, History, Look, Lookup, NewEntry, NewRun, Pruned, RunFilter, RunLog,
    RunRecord, RunSummary, ScheduleKey, Store, StoreCheck, TakenOver, Told, Transition,
    attempts::{self, Change},
    clearing,
};
use crate::error::{Error, RerunError, StoreError};
use crate::id::RunId;
use crate::log::LogLine;
use crate::state::{Rerun, RunKind, TaskState};
use crate::value::{EncodingError, Value};

/// Keeps runs in memory: gone with the process. Results are not kept, only the runs' outputs and what is cached.
#[derive(Debug, Default)]
pub(crate) struct MemoryStore {
    runs: Mutex<Runs>,
    cache: Arc<Mutex<Cache>>,
    serving: Mutex<Serving>,
}

#[derive(Debug, Default)]
struct Serving {
    decided: HashMap<ScheduleKey, i64>,
    paused: BTreeMap<String, i64>,
}

#[derive(Debug, Default)]
struct Runs {
    /// In the order in which they were accepted.
    all: Vec<Arc<MemoryRun>>,
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
    lines: Mutex<Lines>,
    /// What attempts came to that others came after.
    past: Mutex<Vec<Change>>,
}

/// The last lines of a run.
#[derive(Debug, Default)]
struct Lines {
    last: u64,
    lines: VecDeque<LogLine>,
}

/// How many lines of a run are kept.
const LINES: usize = 10_000;

impl MemoryRun {
    fn new(run: NewRun, cache: Arc<Mutex<Cache>>) -> Self {
        Self {
            mirror: Mirror::new(run),
            cache,
            lines: Mutex::default(),
            past: Mutex::default(),
        }
    }

    /// The run as it is run again; nothing, where it is not final.
    fn again(&self, cleared: Cleared) -> Option<(Self, History)> {
        let mut tables = self.mirror.of_final()?.tables().clone();
        let mut past = self.past.lock().clone();
        past.extend(last_changes(&tables));
        tables.apply(Transition::Cleared(cleared));
        let (told, results) = (Told::default(), HashMap::new());
        let history = History {
            tables: tables.clone(),
            results,
            told,
            takeovers: 0,
            cancelling: false,
        };
        let (mirror, cache) = (Mirror::of(tables), Arc::clone(&self.cache));
        let lines = Mutex::new(std::mem::take(&mut *self.lines.lock()));
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

fn last_changes(tables: &RunTables) -> impl Iterator<Item = Change> {
    let frames = (0..).zip(&tables.frames);
    frames.flat_map(|(number, frame)| {
        (0..)
            .zip(&frame.rows)
            .map(move |(cell, row)| Change::last(number, cell, row.clone()))
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
            .then(|| (flow.clone(), run.logical_date.timestamp_micros()));
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

    async fn claim_turn(&self, _: RunId, _: &str, _: u32, _: i64) -> Result<bool, StoreError> {
        // all of its runs are in this process, which counts them itself
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
        // all who could ask are in this process, which cancels the runs itself
        Ok(Vec::new())
    }

    async fn look(&self) -> Result<Look, StoreError> {
        Ok(Look {
            paused: self.serving.lock().paused.keys().cloned().collect(),
            ..Look::default()
        })
    }

    async fn decided(&self, schedules: &[ScheduleKey], now: i64) -> Result<Vec<i64>, StoreError> {
        let decided = &mut self.serving.lock().decided;
        Ok(schedules
            .iter()
            .map(|schedule| *decided.entry(schedule.clone()).or_insert(now))
            .collect())
    }

    fn decide(&self, schedule: &ScheduleKey, up_to: i64) {
        let decided = &mut self.serving.lock().decided;
        let last = decided.entry(schedule.clone()).or_insert(up_to);
        *last = up_to.max(*last);
    }

    fn set_back(&self, schedules: &[ScheduleKey], to: i64) {
        let decided = &mut self.serving.lock().decided;
        for schedule in schedules {
            decided
                .entry(schedule.clone())
                .and_modify(|last| *last = to.min(*last));
        }
    }

    async fn set_paused(&self, flow: &str, paused: bool, now: i64) -> Result<bool, StoreError> {
        let flows = &mut self.serving.lock().paused;
        Ok(match paused {
            true if flows.contains_key(flow) => false,
            true => flows.insert(flow.to_owned(), now).is_none(),
            false => flows.remove(flow).is_some(),
        })
    }

    async fn paused(&self) -> Result<Vec<(String, i64)>, StoreError> {
        Ok(self
            .serving
            .lock()
            .paused
            .iter()
            .map(|(flow, since)| (flow.clone(), *since))
            .collect())
    }

    async fn reopen(&self, id: RunId, what: &Rerun, at: i64) -> Result<Option<TakenOver>, Error> {
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
        let Some((run, history)) = old.again(Cleared {
            at,
            what: what.clone(),
            ranges,
        }) else {
            return Ok(None);
        };
        // what is left of its earlier life writes into the old one
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

    async fn look_up(&self, query: &CacheQuery, now: i64) -> Result<Lookup, StoreError> {
        let cache = self.cache.lock();
        Ok(match cache.get(&query.key) {
            Some(entry) if has_expired(entry.hit.created, query.expiry, now) => {
                Lookup::Miss(CacheMiss::Expired {
                    created: DateTime::from_timestamp_micros(entry.hit.created).unwrap_or_default(),
                })
            }
            Some(entry) => Lookup::Hit(entry.hit.clone()),
            None => {
                let mut of_task = cache
                    .values()
                    .filter(|entry| entry.query.task == query.task)
                    .peekable();
                Lookup::Miss(
                    match (
                        of_task.peek().is_some(),
                        of_task.any(|entry| entry.query.inputs == query.inputs),
                    ) {
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

    fn append_logs(&self, lines: Vec<LogLine>) -> Commit {
        for mut line in lines {
            let run = self.runs.lock().by_id.get(&line.run).cloned();
            let Some(run) = run.filter(|run| !run.mirror.is_pruned()) else {
                continue;
            };
            let kept = &mut *run.lines.lock();
            kept.last += 1;
            line.number = kept.last;
            kept.lines.push_back(line);
            if kept.lines.len() > LINES {
                kept.lines.pop_front();
            }
        }
        Commit::Done(Ok(()))
    }

    async fn logs(
        &self,
        run: RunId,
        after: u64,
        at_most: usize,
    ) -> Result<Vec<LogLine>, StoreError> {
        let Some(run) = self.runs.lock().by_id.get(&run).cloned() else {
            return Ok(Vec::new());
        };
        let kept = run.lines.lock();
        let first = kept.lines.partition_point(|line| line.number <= after);
        Ok(kept.lines.range(first..).take(at_most).cloned().collect())
    }

    async fn prune(&self, before: i64, now: i64, cache_bytes: u64) -> Result<Pruned, StoreError> {
        let runs: Vec<Arc<MemoryRun>> = self.runs.lock().by_id.values().cloned().collect();
        let pruned: Vec<_> = runs.iter().filter(|run| run.mirror.prune(before)).collect();
        pruned.iter().for_each(|run| run.lines.lock().lines.clear());
        let mut cache = self.cache.lock();
        let entries = cache.len();
        cache.retain(|_, entry| !has_expired(entry.hit.created, entry.query.expiry, now));
        // nobody knows how large a value is in memory: here the bound is only good for nothing at all
        if cache_bytes == 0 {
            cache.clear();
        }
        Ok(Pruned {
            runs: pruned.len() as u64,
            cached: (entries - cache.len()) as u64,
        })
    }

    async fn cached(&self, filter: &CacheFilter, now: i64) -> Result<Vec<CacheEntry>, StoreError> {
        let mut entries: Vec<CacheEntry> =
            self.cache.lock().values().map(NewEntry::listed).collect();
        entries.retain(|entry| filter.matches(entry, now));
        entries.sort_by(|a, b| (&a.task, a.created_at).cmp(&(&b.task, b.created_at)));
        Ok(entries)
    }

    async fn forget_cached(&self, filter: &CacheFilter, now: i64) -> Result<u64, StoreError> {
        let mut cache = self.cache.lock();
        let before = cache.len();
        cache.retain(|_, entry| !filter.matches(&entry.listed(), now));
        Ok((before - cache.len()) as u64)
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
            ("cached_results", self.cache.lock().len()),
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
    fn encode(&self, _: &Value) -> Result<Option<Encoded>, EncodingError> {
        Ok(None)
    }

    fn record(&self, mut transition: Transition) {
        if let Transition::Task(end) = &mut transition
            && let Some(entry) = end.cache.take()
        {
            self.cache.lock().insert(entry.query.key, *entry);
        }
        if let Transition::Task(end) = &transition
            && end.row.state == TaskState::Retrying
        {
            self.past.lock().push(Change::from(end));
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
