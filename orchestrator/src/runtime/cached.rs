//! Tasks whose results are cached: looked up first, and computed once however many want the same at once.
//!
//! The flight of a key is joined before a slot is asked for. Who finds it taken in this process is put back in the plan,
//! and made ready again when the flight is over; so a thousand that wait for one result cost a thousand small entries,
//! and no slot. Who finds it taken by another process looks again until that one has the result, or is dead. A flight
//! is one attempt: if that fails, those who waited compute it themselves, the first of them for the others.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::attempt::{self, Caching};
use super::lane::Lane;
use super::limits::GateKey;
use super::live::RunCore;
use super::plan::{End, Instance, Job, Place, Work};
use super::{Inner, panic};
use crate::error::{Cause, StoreError, TaskError};
use crate::failpoint;
use crate::state::TaskState;
use crate::store::{
    CacheHit, CacheKey, CacheMiss, CacheNote, CacheQuery, Kept, Lookup, Row, TaskEnd, Transition,
};
use crate::task::{Arg, Args, CacheDef, Call, Code, TaskDef};
use crate::value::{OutputType, Value, feed};

/// How often it is looked whether another process has the result that is wanted.
const LOOK: Duration = Duration::from_millis(200);

/// What cache keys begin with: another number where they are made in another way.
const FORMAT: &str = "orchestrator cache 1";

/// Who computes which result in this process, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<CacheKey, Vec<Waiter>>>);

#[derive(Debug)]
struct Waiter {
    run: Arc<RunCore>,
    at: Instance,
}

/// The right, and the duty, to compute a result. When it is dropped, those who wait go on.
#[derive(Debug)]
pub(super) struct Flight {
    runtime: Arc<Inner>,
    key: CacheKey,
    /// Other processes know of it.
    claimed: bool,
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.claimed {
            self.runtime.store.end_flight(self.key);
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

/// Sees to a piece of work whose result is cached, or is to be.
pub(super) async fn see_to(run: &Arc<RunCore>, lane: &mut Lane, job: Job, gate: &GateKey) {
    let Job {
        at,
        work: Work::Task { definition, args },
        ..
    } = job
    else {
        return;
    };
    let Some(cache) = &definition.cache else {
        return;
    };
    let started = run.runtime.clock.micros();
    lane.now = started;
    let query = panic::catch(|| query(definition, cache, args))
        .unwrap_or_else(|panicked| Err(TaskError::panicked(&panicked)));
    let (query, args) = match query {
        Ok(query) => query,
        Err(error) => {
            let job = Job {
                work: Work::Task {
                    definition,
                    args: Args::new(),
                },
                ..job
            };
            return attempt::fail(run, lane, job, error).await;
        }
    };
    let Some(mut flight) = join(run, at, query.key) else {
        return;
    };
    lane.wait(run);
    let cancel = {
        let live = run.live.lock();
        let scope = live.plan.wiring.nodes[at.node as usize].scope;
        live.scopes[scope as usize].cancel.clone()
    };
    let miss = match land(run, &mut flight, &query, at, &cancel).await {
        Ok(Landing::Hit(found)) => {
            lane.now = run.runtime.clock.micros();
            finish_with(run, lane, job.place, job.attempt, at, found).await;
            return drop(flight);
        }
        Ok(Landing::Miss(miss)) => miss,
        Err(error) => {
            // what cannot be looked up is computed
            let span = run.span(at, job.attempt);
            tracing::warn!(parent: &span, "the cache cannot be read: {error}");
            CacheMiss::Unreadable
        }
    };
    // who waits for a slot counts as being at work: so no more pile up than there are threads
    lane.resume(&mut run.live.lock());
    let slots = {
        let plain = GateKey {
            cached: false,
            ..gate.clone()
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => {
                drop(flight);
                let job = Job { work: Work::Task { definition, args: Args::new() }, ..job };
                return attempt::fail(run, lane, job, TaskError::cancelled()).await;
            }
            slots = run.runtime.limits.acquire(&plain, run.nested) => slots,
        }
    };
    lane.now = run.runtime.clock.micros();
    let caching = Box::new(Caching {
        query,
        miss,
        flight,
    });
    let job = Job {
        work: Work::Task { definition, args },
        ..job
    };
    let mut given = Some((job, slots, caching));
    let started = poll_fn(|cx| {
        let started = given
            .take()
            .map(|(job, slots, caching)| attempt::start_cached(run, lane, job, slots, caching, cx));
        Poll::Ready(started)
    });
    if let Some(attempt::Started::Waits(waiting)) = started.await {
        waiting.end(run, lane).await;
    }
}

/// The key of a call, and its inputs, worked out. Users' code runs here.
fn query(
    definition: &TaskDef,
    cache: &CacheDef,
    args: Args,
) -> Result<(CacheQuery, Args), TaskError> {
    let values: Vec<Value> = args.into_iter().map(Arg::into_value).collect();
    let inputs = match cache.key {
        Some(key) => {
            let nothing = crate::task::Resources::default();
            key(&mut Call::new(
                values.iter().cloned().map(Arg::Value).collect(),
                &nothing,
                None,
            ))
        }
        None => {
            let mut hasher = blake3::Hasher::new();
            let parameters = definition.parameters.iter().zip(&values);
            let mut in_key = parameters.filter(|(parameter, _)| parameter.in_key);
            in_key
                .try_for_each(|(parameter, value)| value.feed(&mut hasher, parameter.unordered))
                .map(|()| hasher.finalize().into())
                .map_err(|error| error.to_string())
        }
    };
    let inputs = inputs.map_err(|problem| {
        TaskError::new(Cause::Fatal, format!("its inputs have no key: {problem}"))
    })?;
    let task = format!(
        "{}::{}::{}",
        definition.crate_name, definition.module, definition.name
    );
    let code = match cache.code {
        Code::Tokens(tokens) => ("tokens", tokens),
        Code::Version(version) => ("version", version),
    };
    let mut hasher = blake3::Hasher::new();
    let fed = feed(&mut hasher, &(FORMAT, &task, code, inputs), false);
    fed.map_err(|error| TaskError::new(Cause::Fatal, error.to_string()))?;
    let query = CacheQuery {
        key: CacheKey(hasher.finalize().into()),
        task,
        inputs,
        expiry: cache.expiry,
    };
    Ok((query, values.into_iter().map(Arg::Value).collect()))
}

/// Takes the flight of a key, or lets an instance wait for who has it.
fn join(run: &Arc<RunCore>, at: Instance, key: CacheKey) -> Option<Flight> {
    // the plan first: who has the flight must not tell an instance that does not wait yet
    let live = &mut *run.live.lock();
    let mut flights = run.runtime.flights.0.lock();
    match flights.get_mut(&key) {
        Some(waiters) => {
            waiters.push(Waiter {
                run: Arc::clone(run),
                at,
            });
            live.plan.park(at);
            None
        }
        None => {
            flights.insert(key, Vec::new());
            Some(Flight {
                runtime: Arc::clone(&run.runtime),
                key,
                claimed: false,
            })
        }
    }
}

/// A cached result.
struct Found {
    value: Value,
    hit: CacheHit,
}

enum Landing {
    Hit(Found),
    Miss(CacheMiss),
}

/// Looks for a result, also for one that another process is computing. Without one, the flight is this process's.
async fn land(
    run: &Arc<RunCore>,
    flight: &mut Flight,
    query: &CacheQuery,
    at: Instance,
    cancel: &CancellationToken,
) -> Result<Landing, StoreError> {
    let store = &run.runtime.store;
    let (output, is_cleared, rerun) = {
        let plan = &run.live.lock().plan;
        let rerun = plan
            .rerun()
            .map_or(i64::MIN, |rerun| rerun.at.timestamp_micros());
        (
            plan.wiring.nodes[at.node as usize].output,
            plan.is_cleared(at),
            rerun,
        )
    };
    let mut refuses = run.refresh_cache || is_cleared;
    loop {
        let miss = match look(run, query, output).await? {
            // what a run that refuses the cache has computed itself is as new as can be, but for what it did before a re-run
            Landing::Hit(found)
                if !refuses || (found.hit.run == run.facts.id && found.hit.created > rerun) =>
            {
                return Ok(Landing::Hit(found));
            }
            _ if refuses => CacheMiss::Refreshed,
            Landing::Miss(miss) => miss,
            Landing::Hit(_) => CacheMiss::Refreshed,
        };
        if store.claim_flight(query.key).await? {
            flight.claimed = store.is_durable();
            failpoint::hit("flight-claimed");
            // it may have landed between the look and the claim
            if flight.claimed && !refuses {
                return match look(run, query, output).await? {
                    Landing::Miss(_) => Ok(Landing::Miss(miss)),
                    hit @ Landing::Hit(_) => Ok(hit),
                };
            }
            return Ok(Landing::Miss(miss));
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = cancel.cancelled() => return Ok(Landing::Miss(miss)),
        }
        // what another process computes meanwhile is as new as what this one would
        refuses = false;
    }
}

async fn look(
    run: &RunCore,
    query: &CacheQuery,
    output: Option<&'static OutputType>,
) -> Result<Landing, StoreError> {
    let found = run
        .runtime
        .store
        .look_up(query, run.runtime.clock.micros())
        .await?;
    Ok(match (found, output) {
        (Lookup::Miss(miss), _) => Landing::Miss(miss),
        (Lookup::Hit(_), None) => Landing::Miss(CacheMiss::Unreadable),
        (Lookup::Hit(hit), Some(output)) => match hit.result.value(output) {
            Ok(value) => Landing::Hit(Found { value, hit }),
            Err(_) => Landing::Miss(CacheMiss::Unreadable),
        },
    })
}

/// Ends an instance with the result of another run.
async fn finish_with(
    run: &Arc<RunCore>,
    lane: &mut Lane,
    place: Place,
    attempt: u16,
    at: Instance,
    hit: Found,
) {
    let Found { value, hit } = hit;
    let result = match &hit.result {
        Kept::Encoded(encoded) => Some(encoded.clone()),
        Kept::Live(_) => None,
    };
    // the attempt that was to be made was not
    let row = Row {
        started: lane.now,
        finished: lane.now,
        error: None,
        attempts: attempt - 1,
        state: TaskState::Success,
        ..Row::PENDING
    };
    let note = Some(Box::new(CacheNote::Hit {
        run: hit.run,
        created: hit.created,
    }));
    let end = TaskEnd {
        result,
        note,
        ..TaskEnd::new(place.frame, place.cell, row)
    };
    run.record(Transition::Task(end));
    run.commit().await;
    let live = &mut *run.live.lock();
    lane.resume(live);
    run.emit_finished(
        live,
        at,
        TaskState::Success,
        attempt - 1,
        Duration::ZERO,
        None,
    );
    live.plan.finish(at, End::Success(value));
    run.flush(live);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Body, Parameter, TaskOptions};

    const fn parameter(name: &'static str, unordered: bool, in_key: bool) -> Parameter {
        Parameter {
            name,
            type_name: "",
            unordered,
            in_key,
        }
    }

    const fn task(code: Code, key: Option<crate::task::KeyFn>) -> TaskDef {
        TaskDef {
            name: "score",
            crate_name: "shop",
            module: "shop::churn",
            file: "",
            line: 0,
            description: "",
            tags: &[],
            parameters: const {
                &[
                    parameter("customers", false, true),
                    parameter("tags", true, true),
                    parameter("client", false, false),
                ]
            },
            resources: &[],
            options: TaskOptions::NONE,
            body: Body::Async(|_| Box::pin(std::future::pending())),
            cooperative: false,
            cache: Some(CacheDef {
                expiry: None,
                code,
                key,
            }),
            same: crate::value::Same::new(),
        }
    }

    fn key(task: &TaskDef, tags: [&str; 2], client: u32) -> String {
        let inputs = [
            Value::new(vec![1_u32, 2]),
            Value::new(tags.map(str::to_owned).to_vec()),
            Value::new(client),
        ];
        let cache = task.cache.as_ref().unwrap();
        let (query, args) =
            query(task, cache, inputs.into_iter().map(Arg::Value).collect()).unwrap();
        assert_eq!(
            (query.task.as_str(), args.len()),
            ("shop::shop::churn::score", 3)
        );
        blake3::Hash::from_bytes(query.key.0).to_string()
    }

    /// Whoever changes these makes all that users have cached useless: `FORMAT` is to be another one then.
    #[test]
    fn keys_stay_what_they_are_over_releases() {
        let tokens = task(Code::Tokens("( customers : & [ u32 ] ) { }"), None);
        let version = task(Code::Version("2"), None);
        let by_function = task(
            Code::Version("2"),
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
        // a set is in no order, and what is no part of the key is none
        assert_eq!(key(&tokens, ["b", "a"], 8), keys[0]);
        assert_ne!(key(&tokens, ["b", "c"], 7), keys[0]);
    }
}
