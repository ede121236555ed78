use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::serve::Serve;
use super::served::{Served, ServedSchedule};
use super::ticker::{Due, SET_BACK, Ticker};
use crate::capture::init_logs;
use crate::error::Error;
use crate::flow::{Overlap, registry};
use crate::runtime::{Inner, Runtime, Stopped, Watch};
use crate::store::ScheduleKey;

/// How long the scheduler sleeps at most: by the system's clock, which may be set meanwhile, and by tokio's, which goes
/// on with the sleep.
const SYSTEM_SLEEP: Duration = Duration::from_secs(1);
const LONGEST_SLEEP: Duration = Duration::from_secs(24 * 3600);

/// How often what is too old is pruned.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// Serves flows until the process is told to stop.
pub(super) async fn serve(runtime: &Runtime, flows: Vec<Serve>) -> Result<Stopped, Error> {
    if runtime.0.store.is_durable() {
        // who has said nothing about logs is to see them, and to find them with their runs
        init_logs();
    }
    // what is served can be stopped by itself, where this future is dropped
    let host = Arc::new(runtime.0.with_own_stop());
    let mut keys = HashSet::new();
    let prepared = flows
        .into_iter()
        .map(|flow| prepare(runtime, &host, &mut keys, flow));
    let served = prepared.collect::<Result<Vec<_>, _>>()?;
    let _stop = host.stop.soft.clone().drop_guard();
    let serving = async {
        let server = Server::start(Arc::clone(&host), served).await?;
        server.run().await;
        Ok(())
    };
    match runtime.until_signal(serving).await {
        Ok(Ok(())) => Ok(runtime.stop().await),
        Ok(Err(error)) => Err(error),
        Err(stopped) => Ok(stopped),
    }
}

/// Checks what is to be served, so that what is wrong is said now and not at the first tick.
fn prepare(
    runtime: &Runtime,
    host: &Arc<Inner>,
    keys: &mut HashSet<ScheduleKey>,
    serve: Serve,
) -> Result<Arc<Served>, Error> {
    let Serve {
        host: own,
        call,
        schedules,
        missed,
        overlap,
        problem,
    } = serve;
    let definition = call.definition;
    let flow = definition.name;
    let refused = |problem: &str| Error::Schedule {
        flow: flow.to_owned(),
        problem: problem.to_owned(),
    };
    if let Some(problem) = problem {
        return Err(problem);
    }
    if own.is_some_and(|own| !Arc::ptr_eq(&own.0, &runtime.0)) {
        let text = "it was put on another runtime than the one that is to serve it";
        return Err(Error::Options(format!("flow `{flow}`: {text}")));
    }
    if schedules.is_empty() {
        return Err(refused("it has none: add one with `.schedule(…)`"));
    }
    if overlap != Overlap::Queue && definition.max_active_runs.is_none() {
        let text =
            "its `overlap` says what becomes of one run too many, and it has no `max_active_runs`";
        return Err(Error::Options(format!("flow `{flow}`: {text}")));
    }
    registry::check_name(definition)?;
    let mut of_flow = Vec::new();
    for schedule in schedules {
        let with_parameters = call.with(schedule.given_parameters());
        let call = with_parameters.map_err(|problem| Error::Parameters {
            flow: flow.to_owned(),
            problem,
        })?;
        host.check_call(&call, schedule.next(host.clock.now()))?;
        let mut name = schedule.to_string();
        if !schedule.given_parameters().is_empty() {
            name = format!(
                "{name} {}",
                serde_json::Value::Object(schedule.given_parameters().clone())
            );
        }
        let key = ScheduleKey {
            flow,
            schedule: name,
        };
        if !keys.insert(key.clone()) {
            return Err(refused(&format!("`{}` is there twice", key.schedule)));
        }
        of_flow.push(ServedSchedule {
            schedule,
            key,
            call,
        });
    }
    Ok(Served::new(definition, of_flow, missed, overlap))
}

/// Serves flows: the ticker, who is due where, and a watch on what other processes ask.
struct Server {
    host: Arc<Inner>,
    served: Vec<Arc<Served>>,
    /// The flow of each of the ticker's schedules, and its place among the flow's own.
    places: Vec<(usize, usize)>,
    ticker: Ticker,
    watch: Watch,
}

impl Server {
    /// Goes on with what other processes left, and finds out what was missed.
    async fn start(host: Arc<Inner>, served: Vec<Arc<Served>>) -> Result<Self, Error> {
        let mut watch = Watch::new(Arc::clone(&host));
        watch.look().await?;
        let of_flow = |(flow, served): (usize, &Arc<Served>)| {
            (0..served.schedules.len()).map(move |at| (flow, at))
        };
        let places: Vec<(usize, usize)> = served.iter().enumerate().flat_map(of_flow).collect();
        let schedule = |(flow, at): &(usize, usize)| &served[*flow].schedules[*at];
        let keys: Vec<ScheduleKey> = places
            .iter()
            .map(|place| schedule(place).key.clone())
            .collect();
        let now = host.clock.now();
        let decided = host.store.decided(&keys, now.timestamp_micros()).await?;
        // the clock ran ahead in an earlier life: what comes from now on counts
        let ran_ahead = |decided: &i64| {
            DateTime::from_timestamp_micros(*decided).is_some_and(|at| at - now > SET_BACK)
        };
        if decided.iter().any(ran_ahead) {
            host.store.set_back(&keys, now.timestamp_micros());
        }
        let from = places.iter().zip(&decided).map(|(place, decided)| {
            (
                schedule(place).schedule.clone(),
                DateTime::from_timestamp_micros(*decided).unwrap_or(now),
            )
        });
        let ticker = Ticker::new(from, now);
        for place in &places {
            let ServedSchedule { schedule, key, .. } = schedule(place);
            match schedule.next(now) {
                Some(next) => {
                    let next = next.to_rfc3339_opts(SecondsFormat::Secs, true);
                    tracing::info!("serving {} by {schedule}, next {next}", key.flow);
                }
                None => {
                    tracing::warn!(
                        "serving {} by {schedule}, of which no tick is to come",
                        key.flow
                    )
                }
            }
        }
        Ok(Self {
            host,
            served,
            places,
            ticker,
            watch,
        })
    }

    /// Hands out what is due, until the runtime stops.
    async fn run(self) {
        let Self {
            host,
            served,
            places,
            mut ticker,
            watch,
        } = self;
        let key = |(flow, at): &(usize, usize)| served[*flow].schedules[*at].key.clone();
        let keys: Vec<ScheduleKey> = places.iter().map(key).collect();
        let (sender, mut unpaused) = mpsc::unbounded_channel();
        let watched = served.clone();
        let watching = watch.run(move |paused| {
            let is_paused =
                |served: &Served| paused.iter().any(|flow| flow == served.definition.name);
            for (flow, _) in watched
                .iter()
                .enumerate()
                .filter(|(_, served)| served.is_held() && !is_paused(served))
            {
                // nobody hears it when the server stops
                let _ = sender.send(flow);
            }
        });
        let mut others = JoinSet::new();
        others.spawn(watching);
        others.spawn(prune(Arc::clone(&host)));
        let longest = if host.clock.may_be_set() {
            SYSTEM_SLEEP
        } else {
            LONGEST_SLEEP
        };
        loop {
            let now = host.clock.now();
            let due = ticker.due(now);
            if ticker.was_set_back() {
                host.store.set_back(&keys, now.timestamp_micros());
            }
            for due in due {
                let (flow, schedule) = places[due.schedule];
                served[flow].push(&host, Due { schedule, ..due });
            }
            let sleep = ticker.next().map_or(longest, |next| {
                (next - now).to_std().unwrap_or_default().min(longest)
            });
            tokio::select! {
                biased;
                () = host.stop.soft.cancelled() => return,
                Some(flow) = unpaused.recv() => {
                    rewind(&host, &served[flow], places.iter().position(|place| *place == (flow, 0)), &mut ticker).await;
                }
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }
}

/// Lets the ticks of a flow that was paused be looked at again; `first` is the first of its schedules.
async fn rewind(host: &Inner, served: &Served, first: Option<usize>, ticker: &mut Ticker) {
    if !served.is_held() {
        return;
    }
    let keys: Vec<ScheduleKey> = served
        .schedules
        .iter()
        .map(|schedule| schedule.key.clone())
        .collect();
    let now = host.clock.now();
    match host.store.decided(&keys, now.timestamp_micros()).await {
        Ok(decided) => {
            served.release();
            for (schedule, decided) in (first.unwrap_or_default()..).zip(decided) {
                ticker.rewind(
                    schedule,
                    DateTime::from_timestamp_micros(decided).unwrap_or(now),
                    now,
                );
            }
        }
        Err(error) => {
            // the watch looks again, as long as they are held
            tracing::error!(
                flow = served.definition.name,
                "what a pause held back is not known yet: {error}"
            );
        }
    }
}

/// Prunes what is too old, now and every hour.
async fn prune(host: Arc<Inner>) {
    loop {
        if let Err(error) = Runtime(Arc::clone(&host)).prune().await {
            tracing::error!("what is too old to be kept was not pruned: {error}");
        }
        tokio::time::sleep(PRUNE_EVERY).await;
    }
}
