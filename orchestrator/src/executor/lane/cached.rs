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
//! flight, the instance is parked for [`FLIGHT_POLL`]. A flight is a single attempt: if it fails,
//! one of the waiting instances computes the result for the others.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::super::cache_key::query;
use super::super::flight::Flight;
use super::super::host::Host;
use super::super::live::Live;
use super::super::run::ActiveRun;
use super::super::slots::{GateKey, Slots};
use super::job::{self, Caching, Progress};
use super::{EndedTask, Lane};
use crate::clock::{Clock, Timestamp};
use crate::entry::EntryKind;
use crate::error::{StoreError, TaskError};
use crate::failpoint;
use crate::journal::{
    ByHash, CacheHit, CacheKey, CacheMiss, CacheNote, CacheQuery, CellState, ResultValue, TaskEnd,
    Transition,
};
use crate::panic::catch;
use crate::plan::{End, Instance, Job, Work};
use crate::secret::Secret;
use crate::state::TaskState;
use crate::store::{Accept, CacheRequest, Claim, Lookup};
use crate::task::{Arg, Args, TaskDef};
use crate::value::{OutputType, Value};

/// The interval between two checks whether another process has finished a result.
const FLIGHT_POLL: Duration = Duration::from_millis(200);

/// The maximum number of results that are looked up at once. If a batch takes longer than [`LONG`],
/// in microseconds, the next one is smaller: a lane computes everything it has claimed, while other
/// lanes could take a part of it.
const BATCH: usize = 512;
const LONG: i64 = 5_000;

/// A task with its inputs, and its cache key or the reason why it has none.
struct KeyedJob {
    job: Job,
    /// The texts of the task's variables.
    variables: Arc<[Secret]>,
    key: Result<CacheQuery, String>,
}

/// A task with its path and the texts of its variables, which its calls in a batch share.
type KeyedTask = (&'static TaskDef, Arc<str>, Arc<[Secret]>);

/// A task to be looked up. If it has no key, it has no flight.
struct LookupJob {
    job: Job,
    variables: Arc<[Secret]>,
    /// Other jobs of the batch with the same key, each with the type of its output.
    same: Vec<(Job, Option<&'static OutputType>)>,
    flight: Option<Flight>,
    output: Option<&'static OutputType>,
    /// The reason why the task has no key.
    problem: Option<String>,
}

/// A task to be computed.
#[derive(Debug)]
pub(super) struct MissingJob {
    job: Job,
    /// The flight and the entry of its result, or the reason why it runs uncached.
    caching: Result<Box<Caching>, String>,
}

/// Processes the ready work of a gate in batches.
pub(super) async fn work(
    run: &Arc<ActiveRun>,
    lane: &mut Lane,
    mut jobs: Vec<Job>,
    gate: &GateKey,
) {
    let slots_of = gate.uncached();
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
async fn keys(run: &Arc<ActiveRun>, lane: &mut Lane, jobs: Vec<Job>) -> Vec<KeyedJob> {
    let mut called = Vec::with_capacity(jobs.len());
    let mut of_task: Option<KeyedTask> = None;
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
                job::fail(run, lane, job, TaskError::panicked(&panicked)).await;
                continue;
            }
        };
        let args: Args = values.iter().cloned().map(Arg::Value).collect();
        let work = Work::Task { definition, args };
        let job = Job { at, work, ..job };
        let (task, variables) = match &of_task {
            Some((of, path, variables)) if std::ptr::eq(*of, definition) => {
                (Arc::clone(path), Arc::clone(variables))
            }
            _ => match variables(run, definition).await {
                Ok(variables) => {
                    let path: Arc<str> = definition.path().into();
                    of_task = Some((definition, Arc::clone(&path), Arc::clone(&variables)));
                    (path, variables)
                }
                Err(error) => {
                    job::fail(run, lane, job, error).await;
                    continue;
                }
            },
        };
        let key = query(definition, cache, task, &values, &variables);
        called.push(KeyedJob {
            variables,
            job,
            key,
        });
    }
    called
}

/// Looks up the variables of a task, whose values are a part of its cache keys.
async fn variables(
    run: &ActiveRun,
    definition: &'static TaskDef,
) -> Result<Arc<[Secret]>, TaskError> {
    let environment = &run.host.environment;
    if definition.requirements.is_empty() || environment.mock_of(definition).is_some() {
        return Ok(Arc::default());
    }
    let mut texts = Vec::new();
    for requirement in definition.requirements {
        if requirement.kind.entry() == EntryKind::Variable {
            let text = environment
                .clients
                .text_of(EntryKind::Variable, requirement.name);
            texts.push(text.await?);
        }
    }
    Ok(texts.into())
}

/// Takes the flights of keys. An instance whose flight is taken is parked until the flight ends,
/// except if the flight belongs to this batch: then one look-up serves both. Returns the tasks that
/// are not parked, and the look-ups of those with a flight, in the same order.
fn join(run: &Arc<ActiveRun>, called: Vec<KeyedJob>) -> (Vec<LookupJob>, Arc<[CacheRequest]>) {
    let (mut joined, mut wanted) = (
        Vec::<LookupJob>::with_capacity(called.len()),
        Vec::with_capacity(called.len()),
    );
    // for each key, the index in `joined` of the task that looks it up, and the results that it
    // accepts
    let mut own = ByHash::<CacheKey, (usize, Accept)>::default();
    // the plan stays locked until all instances are parked: a flight that ends in between wakes an
    // instance by its plan, and would find one that is not parked yet
    let live = &mut *run.live.lock();
    let flights = &run.host.admission.flights;
    let rerun = live
        .plan
        .rerun()
        .map_or(Timestamp::MIN, |rerun| rerun.at.into());
    for KeyedJob {
        job,
        variables,
        key,
    } in called
    {
        let at = job.at;
        let output = live.plan.wiring.nodes[at.node].output;
        let query = match key {
            Ok(query) => query,
            Err(problem) => {
                joined.push(LookupJob {
                    job,
                    variables,
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
        if let Some((index, accepted)) = own.get(&query.key)
            && *accepted == accept
        {
            joined[*index].same.push((job, output));
            continue;
        }
        match flights.join(query.key, run, at) {
            None => live.plan.park(at),
            Some(flight) => {
                own.insert(query.key, (joined.len(), accept));
                live.computed_elsewhere.remove(&at);
                joined.push(LookupJob {
                    job,
                    variables,
                    same: Vec::new(),
                    flight: Some(flight),
                    output,
                    problem: None,
                });
                wanted.push(CacheRequest { query, accept });
            }
        }
    }
    // parking may have made room for other work
    run.flush(live);
    (joined, wanted.into())
}

/// Reduces the batch size of a gate.
fn shrink(run: &ActiveRun, lane: &Lane) {
    let batch = &mut run.live.lock().gates[lane.gate].batch;
    *batch = (*batch / 2).max(1);
}

/// Instances that go back to the plan, with the flights that they give up.
type ReturnedJobs = Vec<(Instance, Option<Flight>)>;

/// Makes instances ready again that were taken from the plan.
fn put_back(run: &Arc<ActiveRun>, left: ReturnedJobs) {
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
    run: &Arc<ActiveRun>,
    lane: &mut Lane,
    joined: Vec<LookupJob>,
    wanted: Arc<[CacheRequest]>,
    claims: bool,
) -> (Vec<MissingJob>, ReturnedJobs) {
    let outputs: Vec<_> = joined
        .iter()
        .filter(|joined| joined.flight.is_some())
        .map(|joined| joined.output)
        .collect();
    let mut answers = match read_cache(
        run,
        &wanted,
        &outputs,
        if claims { wanted.len() } else { 0 },
    )
    .await
    {
        Ok(answers) => Some(answers.into_iter()),
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
    for LookupJob {
        job,
        variables,
        same,
        flight,
        problem,
        ..
    } in joined
    {
        let Some(mut flight) = flight else {
            match claims {
                true => computed.push(MissingJob {
                    job,
                    caching: Err(problem.unwrap_or_default()),
                }),
                false => left.push((job.at, None)),
            }
            continue;
        };
        let Some(CacheRequest { query, .. }) = wanted.next() else {
            continue;
        };
        let answer = match &mut answers {
            Some(answers) => answers.next(),
            None => Some(CacheAnswer::Miss(CacheMiss::Unreadable, None)),
        };
        let miss = match answer {
            Some(CacheAnswer::Hit(found)) => {
                for (job, output) in same {
                    match output.is_some_and(|output| output.check(&found.value).is_ok()) {
                        true => finish_with(run, lane, &job, found.clone(), None),
                        false => left.push((job.at, None)),
                    }
                }
                finish_with(run, lane, &job, found, Some(flight));
                continue;
            }
            Some(CacheAnswer::Miss(_, Some(Claim::Other))) => {
                waiting.extend(same.iter().map(|(job, _)| (query.key, job.at)));
                elsewhere.push((job.at, flight, query.clone()));
                continue;
            }
            Some(CacheAnswer::Miss(miss, claim)) if claims && claim != Some(Claim::NotMade) => {
                flight.claimed = claim.is_some() && run.host.services.store.is_durable();
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
            variables,
        });
        computed.push(MissingJob {
            job,
            caching: Ok(caching),
        });
    }
    if !waiting.is_empty() || !elsewhere.is_empty() {
        let live = &mut *run.live.lock();
        waiting
            .into_iter()
            .for_each(|(key, at)| wait_for(run, live, key, at));
        for (at, flight, _) in &elsewhere {
            live.computed_elsewhere.insert(*at);
            wait_for(run, live, flight.key(), *at);
        }
        run.flush(live);
    }
    // without the lock: a tokio runtime that shuts down drops the future here, and with it the
    // flight, which locks the runs that wait for it
    for (_, flight, query) in elsewhere {
        let (host, clock) = (Arc::clone(&run.host), run.clock.clone());
        run.tokio
            .spawn(until_flight_ends(host, flight, query, clock));
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
fn wait_for(run: &Arc<ActiveRun>, live: &mut Live, key: CacheKey, at: Instance) {
    live.plan.park(at);
    run.host.admission.flights.add_waiter(key, run, at);
}

/// Holds a flight until the process that computes the result has finished or died, or until the
/// runs that wait are cancelled or given up, which cancels them, too. In the meantime, other
/// instances of this process with the same key wait as well, and one periodic look-up serves all of
/// them.
async fn until_flight_ends(host: Arc<Host>, mut flight: Flight, query: CacheQuery, clock: Clock) {
    let wanted: Arc<[CacheRequest]> = [CacheRequest {
        query,
        accept: Accept::Any,
    }]
    .into();
    loop {
        tokio::time::sleep(FLIGHT_POLL).await;
        if flight.is_given_up() {
            return;
        }
        let looked_up =
            host.services
                .store
                .look_up_cached(Arc::clone(&wanted), 1, clock.timestamp());
        match looked_up.await.as_deref() {
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
    run: &Arc<ActiveRun>,
    lane: &mut Lane,
    computed: Vec<MissingJob>,
    mut slot: Option<Slots>,
    slots_of: &GateKey,
) {
    let mut queue = VecDeque::from(computed);
    while let Some(MissingJob { job, caching }) = queue.pop_front() {
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
            queue.push_front(MissingJob { job, caching });
            let flight =
                |caching: Result<Box<Caching>, String>| caching.ok().map(|caching| caching.flight);
            put_back(
                run,
                queue
                    .drain(..)
                    .map(|MissingJob { job, caching }| (job.at, flight(caching)))
                    .collect(),
            );
            shrink(run, lane);
            if is_over {
                // the conductor has to see the cancellation before these tasks are taken again:
                // nothing else in the loop of the lane waits if the store is in memory
                lane.settle(run).await;
                lane.yield_turn().await;
            }
            break;
        };
        let caching = match caching {
            Ok(caching) => Some(caching),
            Err(problem) => {
                let (span, task) = (run.attempt_span(job.at, job.attempt), name(&job));
                tracing::warn!(parent: &span, task, "the task runs uncached: {problem}");
                None
            }
        };
        let mut given = Some((job, slots, caching));
        let started = poll_fn(|cx| {
            let started = given
                .take()
                .map(|(job, slots, caching)| job::start(run, lane, job, Some(slots), caching, cx));
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
            _ => lane.drop_leftovers(),
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
fn hand_over(run: &Arc<ActiveRun>, lane: &Lane, rest: VecDeque<MissingJob>) {
    let hold = run.live.lock().hold.clone();
    // a run that was given up has no hold: nothing of it may start
    if let (Some(hold), false) = (hold, rest.is_empty()) {
        run.tokio.spawn(super::take_over(
            Arc::clone(run),
            lane.gate,
            hold,
            rest.into(),
        ));
    }
}

/// A cached result.
#[derive(Clone)]
struct CachedValue {
    value: Value,
    hit: CacheHit,
}

enum CacheAnswer {
    Hit(CachedValue),
    /// Without a claim if the store cannot be read.
    Miss(CacheMiss, Option<Claim>),
}

/// Looks results up, and claims at most `claims` flights of missing results.
async fn read_cache(
    run: &ActiveRun,
    wanted: &Arc<[CacheRequest]>,
    outputs: &[Option<&'static OutputType>],
    claims: usize,
) -> Result<Vec<CacheAnswer>, StoreError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let (store, now) = (&run.host.services.store, run.clock.timestamp());
    let found = store
        .look_up_cached(Arc::clone(wanted), claims, now)
        .await?;
    let mut answers: Vec<CacheAnswer> = found
        .into_iter()
        .zip(outputs)
        .zip(&**wanted)
        .map(|((found, output), wanted)| read(found, *output, wanted))
        .collect();
    let unreadable =
        |answer: &&mut CacheAnswer| matches!(answer, CacheAnswer::Miss(CacheMiss::Unreadable, _));
    // an unreadable result is claimed like a missing one
    let claimed = answers
        .iter()
        .filter(|answer| matches!(answer, CacheAnswer::Miss(_, Some(Claim::Own))))
        .count();
    let (taken, again): (Vec<_>, Vec<CacheRequest>) = answers
        .iter_mut()
        .zip(&**wanted)
        .filter(|(answer, _)| unreadable(answer))
        .map(|(answer, CacheRequest { query, .. })| {
            (
                answer,
                CacheRequest {
                    query: query.clone(),
                    accept: Accept::Nothing,
                },
            )
        })
        .unzip();
    if !again.is_empty() && claims > claimed {
        let found = match store
            .look_up_cached(again.into(), claims - claimed, now)
            .await
        {
            Ok(found) => found.into_iter().map(Some).collect::<Vec<_>>(),
            // the flights that are claimed already must be kept: they would never be ended
            Err(error) => {
                tracing::warn!(parent: &run.trace.run, "cannot read the cache: {error}");
                taken.iter().map(|_| None).collect()
            }
        };
        for (answer, found) in taken.into_iter().zip(found) {
            if let CacheAnswer::Miss(_, claim) = answer {
                *claim = match found {
                    Some(Lookup::Miss(_, claim)) => Some(claim),
                    Some(Lookup::Hit(_)) => *claim,
                    None => None,
                };
            }
        }
    }
    for _ in answers
        .iter()
        .filter(|answer| matches!(answer, CacheAnswer::Miss(_, Some(Claim::Own))))
    {
        failpoint::hit("flight-claimed");
    }
    Ok(answers)
}

fn read(found: Lookup, output: Option<&'static OutputType>, wanted: &CacheRequest) -> CacheAnswer {
    match (found, output) {
        (Lookup::Miss(miss, claim), _) => CacheAnswer::Miss(miss, Some(claim)),
        (Lookup::Hit(_), None) => CacheAnswer::Miss(CacheMiss::Unreadable, Some(Claim::NotMade)),
        (Lookup::Hit(hit), Some(output)) => match hit.result.value(output) {
            Ok(value) => CacheAnswer::Hit(CachedValue { value, hit }),
            Err(error) => {
                let (task, output) = (&wanted.query.task, output.name());
                tracing::warn!(
                    "the cached result of task `{task}` cannot be read as a `{output}`: {error}"
                );
                CacheAnswer::Miss(CacheMiss::Unreadable, Some(Claim::NotMade))
            }
        },
    }
}

/// Ends an instance with the result of another run.
fn finish_with(
    run: &Arc<ActiveRun>,
    lane: &mut Lane,
    job: &Job,
    hit: CachedValue,
    flight: Option<Flight>,
) {
    let CachedValue { value, hit } = hit;
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
    let ended = EndedTask {
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
    ended.tell(run, live, &mut lane.ended_flights);
    run.flush(live);
}
