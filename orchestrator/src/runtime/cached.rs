//! Tasks with cached results. Each result is looked up first, and computed only once however many
//! requests for it are concurrent.
//!
//! A lane takes a batch of such tasks, computes their keys, and looks all of them up in one
//! transaction of the store, which also claims the flights of missing results. A lane claims
//! flights only while it holds a slot, and never waits for a slot while it holds claims, so that no
//! claim is held up by slots. Bodies that do not wait run one after another with the same slot. If
//! no slot is left, the tasks not computed yet give their claims up, go back to the plan, and are
//! looked up again once there is a slot.
//!
//! Within this process, a flight is joined before the look-up. An instance whose key already has a
//! flight is parked in the plan, and made ready again at the flight's end: a thousand instances
//! that wait for one result cost a thousand small entries, and no slot. If another process has the
//! flight, the instance is parked for [`LOOK`]. A flight is a single attempt: if it fails, one of
//! the waiting instances computes the result for the others.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;

use super::Inner;
use super::lane::{self, Ended, Lane};
use super::limits::{GateKey, Slots};
use super::live::{Live, RunCore};
use super::task_job::{self, Caching, Progress};
use crate::clock::{Clock, Timestamp};
use crate::error::{StoreError, TaskError};
use crate::failpoint;
use crate::journal::{
    ByHash, CacheHit, CacheKey, CacheMiss, CacheNote, CacheQuery, CellState, ResultValue, TaskEnd,
    Transition,
};
use crate::panic::catch;
use crate::plan::{End, Instance, Job, Work};
use crate::state::TaskState;
use crate::store::{Accept, Claim, Lookup, Wanted};
use crate::task::{Arg, Args, CacheDef, Call, TaskCode, TaskDef};
use crate::value::{OutputType, Value, feed};

/// The interval between two checks whether another process has finished a result.
const LOOK: Duration = Duration::from_millis(200);

/// The maximum number of results that are looked up at once. If a batch takes longer than [`LONG`],
/// in microseconds, the next one is smaller: a lane computes everything it has claimed, while other
/// lanes could take a part of it.
const BATCH: usize = 512;
const LONG: i64 = 5_000;

/// The prefix of cache keys; its number changes with the way keys are made.
const FORMAT: &str = "orchestrator cache 1";

/// The flights of this process, each with the instances that wait for it.
///
/// Lock order: the plan of a run first, then the flights. A flight must be ended with neither lock
/// held, since that locks the plans of all waiting runs.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<ByHash<CacheKey, Vec<Waiter>>>);

#[derive(Debug)]
struct Waiter {
    run: Arc<RunCore>,
    at: Instance,
}

/// The right, and the obligation, to compute a result. Dropping it wakes the instances that wait.
#[derive(Debug)]
pub(super) struct Flight {
    runtime: Arc<Inner>,
    key: CacheKey,
    /// Whether the flight is also claimed in the store.
    claimed: bool,
}

impl Flight {
    /// Ends flights with a single call to the store.
    pub(super) fn end_all(flights: &mut Vec<Self>) {
        let Some(first) = flights.first() else { return };
        let runtime = Arc::clone(&first.runtime);
        let claimed = flights
            .iter_mut()
            .filter_map(|flight| std::mem::take(&mut flight.claimed).then_some(flight.key));
        let claimed: Vec<CacheKey> = claimed.collect();
        if !claimed.is_empty() {
            runtime.store.end_flights(claimed);
        }
        flights.clear();
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.claimed {
            self.runtime.store.end_flights(vec![self.key]);
        }
        let waiters = self
            .runtime
            .flights
            .0
            .lock()
            .remove(&self.key)
            .unwrap_or_default();
        for Waiter { run, at } in waiters {
            let live = &mut *run.live.lock();
            live.plan.retry_now(at);
            run.flush(live);
        }
    }
}

/// A task with its inputs, and its cache key or the reason why it has none.
struct Called {
    job: Job,
    key: Result<CacheQuery, String>,
}

/// A task to be looked up. If it has no key, it has no flight.
struct Joined {
    job: Job,
    /// Other jobs of the batch with the same key, each with the type of its output.
    same: Vec<(Job, Option<&'static OutputType>)>,
    flight: Option<Flight>,
    output: Option<&'static OutputType>,
    /// The reason why the task has no key.
    problem: Option<String>,
}

/// A task to be computed.
#[derive(Debug)]
pub(super) struct Computed {
    job: Job,
    /// The flight and the entry of its result, or the reason why it runs uncached.
    caching: Result<Box<Caching>, String>,
}

/// Processes the ready work of a gate in batches.
pub(super) async fn work(run: &Arc<RunCore>, lane: &mut Lane, mut jobs: Vec<Job>, gate: &GateKey) {
    let slots_of = GateKey {
        cached: false,
        ..gate.clone()
    };
    let mut slot = None;
    loop {
        lane.take_batch(run, &mut jobs);
        if jobs.is_empty() {
            return;
        }
        lane.now = run.clock.timestamp();
        let began = lane.now;
        let called = keys(run, lane, std::mem::take(&mut jobs)).await;
        let (joined, wanted) = join(run, called);
        let taken = slot.take().or_else(|| lane.try_slots(run, &slots_of));
        let (computed, left) = look_up(run, lane, joined, wanted, taken.is_some()).await;
        let lacks_slots = !left.is_empty();
        put_back(run, left);
        // tasks whose results were cached are committed first, so that they do not wait for bodies
        lane.settle(run).await;
        compute(run, lane, computed, taken, &slots_of).await;
        let took = run.clock.timestamp().micros_since(began);
        if took >= LONG {
            shrink(run, lane);
        } else if !lacks_slots {
            let batch = &mut run.live.lock().gates[lane.gate].batch;
            *batch = (*batch * 4).min(BATCH);
        }
        if lacks_slots {
            // nothing is held during the wait: the ready tasks may meanwhile be cancelled, or
            // computed by another lane
            slot = Some(lane.slots(run, &slots_of).await);
        }
    }
}

/// Computes inputs and keys. This runs user code: projections and conversions of inputs,
/// `cache_key`, `Serialize`.
async fn keys(run: &Arc<RunCore>, lane: &mut Lane, jobs: Vec<Job>) -> Vec<Called> {
    let mut called = Vec::with_capacity(jobs.len());
    let mut path: Option<(&'static TaskDef, Arc<str>)> = None;
    for job in jobs {
        let Job {
            at,
            work: Work::Task { definition, args },
            ..
        } = job
        else {
            continue;
        };
        let Some(cache) = &definition.cache else {
            continue;
        };
        let values = match catch(|| {
            args.into_iter()
                .map(Arg::into_value)
                .collect::<Vec<Value>>()
        }) {
            Ok(values) => values,
            Err(panicked) => {
                let job = Job {
                    at,
                    work: Work::Task {
                        definition,
                        args: Args::new(),
                    },
                    ..job
                };
                task_job::fail(run, lane, job, TaskError::panicked(&panicked)).await;
                continue;
            }
        };
        let task = match &path {
            Some((of, path)) if std::ptr::eq(*of, definition) => Arc::clone(path),
            _ => Arc::clone(&path.insert((definition, definition.path().into())).1),
        };
        let key = query(definition, cache, task, &values);
        let args: Args = values.into_iter().map(Arg::Value).collect();
        called.push(Called {
            job: Job {
                at,
                work: Work::Task { definition, args },
                ..job
            },
            key,
        });
    }
    called
}

/// Takes the flights of keys. An instance whose flight is taken is parked until the flight ends,
/// except if the flight belongs to this batch: then one look-up serves both. Returns the tasks that
/// are not parked, and the look-ups of those with a flight, in the same order.
fn join(run: &Arc<RunCore>, called: Vec<Called>) -> (Vec<Joined>, Arc<[Wanted]>) {
    let (mut joined, mut wanted) = (
        Vec::<Joined>::with_capacity(called.len()),
        Vec::with_capacity(called.len()),
    );
    // for each key, the index in `joined` of the task that looks it up, and the results that it
    // accepts
    let mut own = ByHash::<CacheKey, (usize, Accept)>::default();
    // the plan is locked before the flights: in between, a flight could end and wake an instance
    // that is not parked yet, whose wake-up would be lost
    let live = &mut *run.live.lock();
    let mut flights = run.runtime.flights.0.lock();
    let rerun = live
        .plan
        .rerun()
        .map_or(Timestamp::MIN, |rerun| rerun.at.into());
    for Called { job, key } in called {
        let at = job.at;
        let output = live.plan.wiring.nodes[at.node].output;
        let query = match key {
            Ok(query) => query,
            Err(problem) => {
                joined.push(Joined {
                    job,
                    same: Vec::new(),
                    flight: None,
                    output,
                    problem: Some(problem),
                });
                continue;
            }
        };
        // a result that another process was computing meanwhile is as recent as one computed here
        let was_elsewhere = live.computed_elsewhere.contains(&at);
        let accept = match run.refresh_cache || live.plan.is_cleared(at) {
            // a run that refreshes the cache accepts only results that it made itself, after its
            // last re-run
            true if !was_elsewhere => Accept::MadeBy(run.facts.id, rerun),
            _ => Accept::Any,
        };
        match flights.entry(query.key) {
            Entry::Occupied(mut waiters) => match own.get(&query.key) {
                Some((index, accepted)) if *accepted == accept => {
                    joined[*index].same.push((job, output))
                }
                _ => {
                    waiters.get_mut().push(Waiter {
                        run: Arc::clone(run),
                        at,
                    });
                    live.plan.park(at);
                }
            },
            Entry::Vacant(free) => {
                free.insert(Vec::new());
                let flight = Some(Flight {
                    runtime: Arc::clone(&run.runtime),
                    key: query.key,
                    claimed: false,
                });
                own.insert(query.key, (joined.len(), accept));
                live.computed_elsewhere.remove(&at);
                joined.push(Joined {
                    job,
                    same: Vec::new(),
                    flight,
                    output,
                    problem: None,
                });
                wanted.push(Wanted { query, accept });
            }
        }
    }
    drop(flights);
    // parking may have made room for other work
    run.flush(live);
    (joined, wanted.into())
}

/// Reduces the batch size of a gate.
fn shrink(run: &RunCore, lane: &Lane) {
    let batch = &mut run.live.lock().gates[lane.gate].batch;
    *batch = (*batch / 2).max(1);
}

/// Instances that go back to the plan, with the flights that they give up.
type Left = Vec<(Instance, Option<Flight>)>;

/// Makes instances ready again that were taken from the plan.
fn put_back(run: &Arc<RunCore>, left: Left) {
    if left.is_empty() {
        return;
    }
    {
        let live = &mut *run.live.lock();
        left.iter().for_each(|(at, _)| live.plan.put_back(*at));
        run.flush(live);
    }
    // outside of the lock: ending a flight locks the runs that wait for it
    Flight::end_all(&mut left.into_iter().filter_map(|(_, flight)| flight).collect());
}

/// Looks up a batch. Tasks with cached results end; tasks that another process computes wait for
/// it. Returns the tasks to be computed, and those that go back to the plan: without a slot
/// (`claims`), all that are not cached.
async fn look_up(
    run: &Arc<RunCore>,
    lane: &mut Lane,
    joined: Vec<Joined>,
    wanted: Arc<[Wanted]>,
    claims: bool,
) -> (Vec<Computed>, Left) {
    let outputs: Vec<_> = joined
        .iter()
        .filter(|joined| joined.flight.is_some())
        .map(|joined| joined.output)
        .collect();
    let mut landings = match land(
        run,
        &wanted,
        &outputs,
        if claims { wanted.len() } else { 0 },
    )
    .await
    {
        Ok(landings) => Some(landings.into_iter()),
        Err(error) => {
            // if the cache cannot be read, the results are computed
            tracing::warn!(parent: &run.trace.run, "cannot read the cache: {error}");
            None
        }
    };
    lane.now = run.clock.timestamp();
    let (mut computed, mut elsewhere, mut left) = (Vec::new(), Vec::new(), Vec::new());
    let mut wanted = wanted.iter();
    let mut waiting = Vec::new();
    for Joined {
        job,
        same,
        flight,
        problem,
        ..
    } in joined
    {
        let Some(mut flight) = flight else {
            match claims {
                true => computed.push(Computed {
                    job,
                    caching: Err(problem.unwrap_or_default()),
                }),
                false => left.push((job.at, None)),
            }
            continue;
        };
        let Some(Wanted { query, .. }) = wanted.next() else {
            continue;
        };
        let landing = match &mut landings {
            Some(landings) => landings.next(),
            None => Some(Landing::Miss(CacheMiss::Unreadable, None)),
        };
        let miss = match landing {
            Some(Landing::Hit(found)) => {
                for (job, output) in same {
                    match output.is_some_and(|output| output.check(&found.value).is_ok()) {
                        true => finish_with(run, lane, &job, found.clone(), None),
                        false => left.push((job.at, None)),
                    }
                }
                finish_with(run, lane, &job, found, Some(flight));
                continue;
            }
            Some(Landing::Miss(_, Some(Claim::Other))) => {
                waiting.extend(same.iter().map(|(job, _)| (query.key, job.at)));
                elsewhere.push((job.at, flight, query.clone()));
                continue;
            }
            Some(Landing::Miss(miss, claim)) if claims && claim != Some(Claim::NotMade) => {
                flight.claimed = claim.is_some() && run.runtime.store.is_durable();
                waiting.extend(same.iter().map(|(job, _)| (query.key, job.at)));
                miss
            }
            _ => {
                left.extend(same.iter().map(|(job, _)| (job.at, None)));
                left.push((job.at, Some(flight)));
                continue;
            }
        };
        let caching = Box::new(Caching {
            query: query.clone(),
            miss,
            flight,
        });
        computed.push(Computed {
            job,
            caching: Ok(caching),
        });
    }
    if !waiting.is_empty() || !elsewhere.is_empty() {
        let live = &mut *run.live.lock();
        waiting
            .into_iter()
            .for_each(|(key, at)| wait_for(run, live, &key, at));
        elsewhere
            .into_iter()
            .for_each(|(at, flight, query)| wait_elsewhere(run, live, at, flight, query));
        run.flush(live);
    }
    (computed, left)
}

fn name(job: &Job) -> &'static str {
    match &job.work {
        Work::Task { definition, .. } => definition.name,
        Work::Open { .. } | Work::Gather(_) => "",
    }
}

/// Parks an instance until a flight of this process ends. The caller holds the flight.
fn wait_for(run: &Arc<RunCore>, live: &mut Live, key: &CacheKey, at: Instance) {
    live.plan.park(at);
    if let Some(waiters) = run.runtime.flights.0.lock().get_mut(key) {
        waiters.push(Waiter {
            run: Arc::clone(run),
            at,
        });
    }
}

/// Parks an instance until another process ends its flight. The flight stays taken in this process,
/// so that other instances with the same key wait as well, and one periodic look-up serves all of
/// them.
fn wait_elsewhere(
    run: &Arc<RunCore>,
    live: &mut Live,
    at: Instance,
    flight: Flight,
    query: CacheQuery,
) {
    live.computed_elsewhere.insert(at);
    wait_for(run, live, &flight.key, at);
    tokio::spawn(until_landed(flight, query, run.clock.clone()));
}

/// Holds a flight until the process that computes the result has finished or died, or until the
/// runs that wait are cancelled.
async fn until_landed(mut flight: Flight, query: CacheQuery, clock: Clock) {
    let runtime = Arc::clone(&flight.runtime);
    let wanted: Arc<[Wanted]> = [Wanted {
        query,
        accept: Accept::Any,
    }]
    .into();
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = runtime.stop.soft.cancelled() => return,
        }
        let is_given_up = |waiters: &Vec<Waiter>| {
            waiters
                .iter()
                .all(|waiter| waiter.run.cancel.is_cancelled())
        };
        if runtime
            .flights
            .0
            .lock()
            .get(&flight.key)
            .is_none_or(is_given_up)
        {
            return;
        }
        match runtime
            .store
            .look_up(Arc::clone(&wanted), 1, clock.timestamp())
            .await
            .as_deref()
        {
            Ok([Lookup::Miss(_, Claim::Other)]) => {}
            Ok([Lookup::Miss(_, Claim::Own)]) => {
                flight.claimed = true;
                return;
            }
            // the waiting instances look up the result themselves, and report errors
            _ => return,
        }
    }
}

/// Computes missing results in place, one after another. While a body waits, another lane continues
/// with the rest.
pub(super) async fn compute(
    run: &Arc<RunCore>,
    lane: &mut Lane,
    computed: Vec<Computed>,
    mut slot: Option<Slots>,
    slots_of: &GateKey,
) {
    let mut queue = VecDeque::from(computed);
    while let Some(Computed { job, caching }) = queue.pop_front() {
        let is_over = {
            let live = run.live.lock();
            live.draining || live.token(job.at.node).is_cancelled()
        };
        let taken = match is_over {
            true => None,
            // a body that has ended returned its slot
            false => slot.take().or_else(|| lane.try_slots(run, slots_of)),
        };
        let Some(slots) = taken else {
            queue.push_front(Computed { job, caching });
            let flight =
                |caching: Result<Box<Caching>, String>| caching.ok().map(|caching| caching.flight);
            put_back(
                run,
                queue
                    .drain(..)
                    .map(|Computed { job, caching }| (job.at, flight(caching)))
                    .collect(),
            );
            shrink(run, lane);
            break;
        };
        let caching = match caching {
            Ok(caching) => Some(caching),
            Err(problem) => {
                let (span, task) = (run.span(job.at, job.attempt), name(&job));
                tracing::warn!(parent: &span, task, "the task runs uncached: {problem}");
                None
            }
        };
        let mut given = Some((job, slots, caching));
        let started = poll_fn(|cx| {
            let started = given.take().map(|(job, slots, caching)| {
                task_job::start(run, lane, job, Some(slots), caching, cx)
            });
            Poll::Ready(started)
        });
        match started.await {
            Some(Progress::Waits(waiting)) => {
                if !waiting.is_over() {
                    hand_over(run, lane, queue.split_off(0));
                }
                waiting.end(run, lane).await;
            }
            _ if lane.is_to_settle() => lane.settle(run).await,
            _ => lane.land(),
        }
        if lane.had_its_turn() && !queue.is_empty() {
            lane.settle(run).await;
            if run.live.lock().gates[lane.gate].active < run.workers {
                hand_over(run, lane, queue.split_off(queue.len() / 2));
            }
            lane.yield_turn().await;
        }
    }
    lane.settle(run).await;
}

/// Hands tasks over to another lane.
fn hand_over(run: &Arc<RunCore>, lane: &Lane, rest: VecDeque<Computed>) {
    let hold = run.live.lock().hold.clone();
    // a run that was given up has no hold: nothing of it may start
    if let (Some(hold), false) = (hold, rest.is_empty()) {
        tokio::spawn(lane::take_over(
            Arc::clone(run),
            lane.gate,
            hold,
            rest.into(),
        ));
    }
}

/// Returns the cache key of a call, or the reason why it has none, which names the parameter that
/// cannot be hashed. This runs user code.
fn query(
    definition: &TaskDef,
    cache: &CacheDef,
    task: Arc<str>,
    values: &[Value],
) -> Result<CacheQuery, String> {
    let inputs = match cache.key {
        Some(key) => {
            let nothing = crate::task::Resources::default();
            let keyed = catch(|| {
                key(&mut Call::new(
                    values.iter().cloned().map(Arg::Value).collect(),
                    &nothing,
                    None,
                ))
            });
            let keyed = keyed.map_err(|panicked| format!("its `cache_key` {panicked}"))?;
            keyed.map_err(|problem| {
                format!("what its `cache_key` returns cannot be hashed: {problem}")
            })?
        }
        None => {
            let mut hasher = blake3::Hasher::new();
            let parameters = definition.parameters.iter().zip(values);
            for (parameter, value) in parameters.filter(|(parameter, _)| parameter.in_key) {
                let fed = value.feed(&mut hasher, parameter.unordered);
                fed.map_err(|problem| {
                    format!("its parameter {parameter} cannot be hashed: {problem}")
                })?;
            }
            hasher.finalize().into()
        }
    };
    let code = match cache.code {
        TaskCode::Tokens(tokens) => ("tokens", tokens),
        TaskCode::Version(version) => ("version", version),
    };
    let mut hasher = blake3::Hasher::new();
    feed(&mut hasher, &(FORMAT, &*task, code, inputs), false)
        .map_err(|problem| problem.to_string())?;
    Ok(CacheQuery {
        key: CacheKey(hasher.finalize().into()),
        task,
        inputs,
        expiry: cache.expiry,
    })
}

/// A cached result.
#[derive(Clone)]
struct Found {
    value: Value,
    hit: CacheHit,
}

enum Landing {
    Hit(Found),
    /// Without a claim if the store cannot be read.
    Miss(CacheMiss, Option<Claim>),
}

/// Looks results up, and claims at most `claims` flights of missing results.
async fn land(
    run: &RunCore,
    wanted: &Arc<[Wanted]>,
    outputs: &[Option<&'static OutputType>],
    claims: usize,
) -> Result<Vec<Landing>, StoreError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let (store, now) = (&run.runtime.store, run.clock.timestamp());
    let found = store.look_up(Arc::clone(wanted), claims, now).await?;
    let mut landings: Vec<Landing> = found
        .into_iter()
        .zip(outputs)
        .zip(&**wanted)
        .map(|((found, output), wanted)| read(found, *output, wanted))
        .collect();
    let unreadable =
        |landing: &&mut Landing| matches!(landing, Landing::Miss(CacheMiss::Unreadable, _));
    // an unreadable result is claimed like a missing one
    let claimed = landings
        .iter()
        .filter(|landing| matches!(landing, Landing::Miss(_, Some(Claim::Own))))
        .count();
    let (taken, again): (Vec<_>, Vec<Wanted>) = landings
        .iter_mut()
        .zip(&**wanted)
        .filter(|(landing, _)| unreadable(landing))
        .map(|(landing, Wanted { query, .. })| {
            (
                landing,
                Wanted {
                    query: query.clone(),
                    accept: Accept::Nothing,
                },
            )
        })
        .unzip();
    if !again.is_empty() && claims > claimed {
        for (landing, again) in taken
            .into_iter()
            .zip(store.look_up(again.into(), claims - claimed, now).await?)
        {
            if let (Landing::Miss(_, claim), Lookup::Miss(_, new)) = (landing, again) {
                *claim = Some(new);
            }
        }
    }
    for _ in landings
        .iter()
        .filter(|landing| matches!(landing, Landing::Miss(_, Some(Claim::Own))))
    {
        failpoint::hit("flight-claimed");
    }
    Ok(landings)
}

fn read(found: Lookup, output: Option<&'static OutputType>, wanted: &Wanted) -> Landing {
    match (found, output) {
        (Lookup::Miss(miss, claim), _) => Landing::Miss(miss, Some(claim)),
        (Lookup::Hit(_), None) => Landing::Miss(CacheMiss::Unreadable, Some(Claim::NotMade)),
        (Lookup::Hit(hit), Some(output)) => match hit.result.value(output) {
            Ok(value) => Landing::Hit(Found { value, hit }),
            Err(error) => {
                let (task, output) = (&wanted.query.task, output.name());
                tracing::warn!(
                    "the cached result of task `{task}` cannot be read as a `{output}`: {error}"
                );
                Landing::Miss(CacheMiss::Unreadable, Some(Claim::NotMade))
            }
        },
    }
}

/// Ends an instance with the result of another run.
fn finish_with(run: &Arc<RunCore>, lane: &mut Lane, job: &Job, hit: Found, flight: Option<Flight>) {
    let Found { value, hit } = hit;
    let result = match hit.result {
        ResultValue::Encoded(encoded) => Some(encoded),
        ResultValue::Live(_) => None,
    };
    // the attempt was not made
    let attempts = job.attempt - 1;
    let state = CellState::Ended {
        state: TaskState::Success,
        started: Some(lane.now),
        at: lane.now,
    };
    let note = Some(Box::new(CacheNote::Hit {
        run: hit.run,
        created: hit.created,
    }));
    let end = TaskEnd {
        result,
        note,
        ..TaskEnd::new(job.place, state, attempts)
    };
    let ended = Ended {
        at: job.at,
        attempts,
        took: Duration::ZERO,
        end: End::Success(value),
        flight,
    };
    let live = &mut *run.live.lock();
    run.record(Transition::Task(end));
    if run.durable {
        lane.ended(run, live, ended);
        return;
    }
    lane.landed.extend(ended.tell(run, live));
    run.flush(live);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Parameter, TaskBody, TaskOptions};

    const fn parameter(name: &'static str, unordered: bool, in_key: bool) -> Parameter {
        Parameter {
            name,
            type_name: "",
            unordered,
            in_key,
        }
    }

    fn task(code: TaskCode, key: Option<crate::task::KeyFn>) -> TaskDef {
        TaskDef {
            crate_name: "shop",
            module: "shop::churn",
            parameters: const {
                &[
                    parameter("customers", false, true),
                    parameter("tags", true, true),
                    parameter("client", false, false),
                ]
            },
            // code outside of any function is attributed to its module
            cache: Some(CacheDef {
                path: || "shop::churn::score::__TASK::{{closure}}",
                expiry: None,
                code,
                key,
            }),
            ..TaskDef::plain(
                "score",
                TaskBody::Async(|_| Box::pin(std::future::pending())),
            )
        }
    }

    fn key(task: &TaskDef, tags: [&str; 2], client: u32) -> String {
        let inputs = [
            Value::new(vec![1_u32, 2]),
            Value::new(tags.map(str::to_owned).to_vec()),
            Value::new(client),
        ];
        let cache = task.cache.as_ref().unwrap();
        let query = query(task, cache, task.path().into(), &inputs).unwrap();
        assert_eq!(&*query.task, "shop::shop::churn::score");
        blake3::Hash::from_bytes(query.key.0).to_string()
    }

    /// A change of these keys invalidates everything that users have cached: `FORMAT` must change
    /// with them.
    #[test]
    fn cache_keys_are_stable_across_releases() {
        let tokens = task(TaskCode::Tokens("( customers : & [ u32 ] ) { }"), None);
        let version = task(TaskCode::Version("2"), None);
        let by_function = task(
            TaskCode::Version("2"),
            Some(|call| crate::__private::cache_key(&call.owned::<Vec<u32>>(0))),
        );
        let keys = [&tokens, &version, &by_function].map(|task| key(task, ["a", "b"], 7));
        assert_eq!(
            keys,
            [
                "3e149ef3328324903e468ed3a0a3fb00e07e53008978fea41412b1897d41b114",
                "afcd125f09a9221fd147776fd4efba97b5247d17125eb7288c9dbbad85223937",
                "1c46121e5153f5edfc340accca9b12701e3bdf7c3e4fd18bbdf01c068a0a9d44",
            ]
        );
        // options are not part of the code
        let expiry = Some(Duration::from_secs(1));
        let options = TaskOptions {
            retries: Some(3),
            ..TaskOptions::NONE
        };
        let cache = tokens
            .cache
            .as_ref()
            .map(|cache| CacheDef { expiry, ..*cache });
        assert_eq!(
            key(
                &TaskDef {
                    options,
                    cache,
                    ..task(TaskCode::Tokens(""), None)
                },
                ["a", "b"],
                7
            ),
            keys[0]
        );
        // a set has no order, and parameters outside of the key do not change it
        assert_eq!(key(&tokens, ["b", "a"], 8), keys[0]);
        assert_ne!(key(&tokens, ["b", "c"], 7), keys[0]);
    }
}
