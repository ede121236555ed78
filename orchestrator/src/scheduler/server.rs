use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::SecondsFormat;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::flow_queue::{ServedFlow, ServedSchedule};
use super::serve::Serve;
use super::ticker::{DueTicks, SET_BACK, Ticker};
use crate::capture::init_logs;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::executor::Host;
use crate::flow::{Overlap, registry};
use crate::runtime::{Halted, Runtime, Watch};
use crate::store::ScheduleKey;
use crate::value::json_text;

/// The longest sleep of the scheduler: short with the system's clock, which may be set during the
/// sleep; long with tokio's clock, which advances with the sleep.
const SYSTEM_SLEEP: Duration = Duration::from_secs(1);
const LONGEST_SLEEP: Duration = Duration::from_secs(24 * 3600);

/// The interval between two prunings.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// Serves flows until the process is asked to stop.
pub(super) async fn serve(runtime: &Runtime, flows: Vec<Serve>) -> Result<Halted, Error> {
    if runtime.host.services.store.is_durable() {
        // installs the default subscriber unless the program has its own, so that the logs of the
        // runs are shown and stored
        init_logs();
    }
    // a stop signal of its own: if this future is dropped, only the served runs stop
    let host = Arc::new(runtime.host.with_own_stop());
    let mut keys = HashSet::new();
    let prepared = flows
        .into_iter()
        .map(|flow| prepare(runtime, &host, &mut keys, flow));
    let served = prepared.collect::<Result<Vec<_>, _>>()?;
    let _stop = host.stop.soft.clone().drop_guard();
    let serving = async {
        let server = Server::start(Arc::clone(&host), served).await?;
        server.run().await
    };
    match runtime.until_halt(serving).await {
        Ok(Ok(())) => Ok(Halted::within(runtime.stop().await)),
        Ok(Err(error)) => Err(error),
        Err(halted) => Ok(halted),
    }
}

/// Checks the settings of a served flow, so that mistakes are reported now and not at the first
/// tick.
fn prepare(
    runtime: &Runtime,
    host: &Arc<Host>,
    keys: &mut HashSet<ScheduleKey>,
    serve: Serve,
) -> Result<Arc<ServedFlow>, Error> {
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
    if own.is_some_and(|own| !Arc::ptr_eq(&own.host, &runtime.host)) {
        let text = "it is bound to another runtime than the one that serves it";
        return Err(Error::Options(format!("flow `{flow}`: {text}")));
    }
    if schedules.is_empty() {
        return Err(refused("there is none: add one with `.schedule(…)`"));
    }
    if overlap != Overlap::Queue && definition.max_active_runs.is_none() {
        let text = "`overlap` has no effect without `max_active_runs`: set a limit, or leave `overlap` out";
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
        host.check_call(&call, schedule.next(host.services.clock.now()))?;
        let mut name = schedule.to_string();
        if !schedule.given_parameters().is_empty() {
            name = format!("{name} {}", json_text(schedule.given_parameters()));
        }
        let key = ScheduleKey {
            flow,
            schedule: name,
        };
        if !keys.insert(key.clone()) {
            return Err(refused(&format!("`{}` is given twice", key.schedule)));
        }
        of_flow.push(ServedSchedule {
            schedule,
            key,
            call,
        });
    }
    Ok(ServedFlow::new(definition, of_flow, missed, overlap))
}

/// The serving loop: the ticker, the flow of each of its schedules, and a watch on requests of
/// other processes.
struct Server {
    host: Arc<Host>,
    served: Vec<Arc<ServedFlow>>,
    /// For each schedule of the ticker: the index of its flow, and of the schedule within the flow.
    places: Vec<(usize, usize)>,
    ticker: Ticker,
    watch: Watch,
}

impl Server {
    /// Resumes what other processes left, and computes the missed ticks.
    async fn start(host: Arc<Host>, served: Vec<Arc<ServedFlow>>) -> Result<Self, Error> {
        let mut watch = Watch::new(Arc::clone(&host));
        watch.look().await?;
        let of_flow = |(flow, served): (usize, &Arc<ServedFlow>)| {
            (0..served.schedules.len()).map(move |at| (flow, at))
        };
        let places: Vec<(usize, usize)> = served.iter().enumerate().flat_map(of_flow).collect();
        let schedule = |(flow, at): &(usize, usize)| &served[*flow].schedules[*at];
        let keys: Vec<ScheduleKey> = places
            .iter()
            .map(|place| schedule(place).key.clone())
            .collect();
        let now = host.services.clock.now();
        let decided = host.services.store.read_progress(&keys, now.into()).await?;
        // the clock ran ahead in an earlier process: without this, ticks from now until then would
        // count as decided
        let ran_ahead =
            |decided: &Timestamp| decided.to_datetime().is_some_and(|at| at - now > SET_BACK);
        if decided.iter().any(ran_ahead) {
            host.services.store.rewind_progress(&keys, now.into());
        }
        let from = places.iter().zip(&decided).map(|(place, decided)| {
            (
                schedule(place).schedule.clone(),
                decided.to_datetime().unwrap_or(now),
            )
        });
        let ticker = Ticker::new(from, now);
        for place in &places {
            let ServedSchedule { schedule, key, .. } = schedule(place);
            match schedule.next(now) {
                Some(next) => {
                    let next = next.to_rfc3339_opts(SecondsFormat::Secs, true);
                    tracing::info!(flow = key.flow, %schedule, next, "schedule served");
                }
                None => {
                    tracing::warn!(
                        flow = key.flow,
                        %schedule,
                        "schedule served, but it has no future ticks"
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

    /// Hands out due ticks until the runtime stops or the store refuses all writes.
    async fn run(self) -> Result<(), Error> {
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
                |served: &ServedFlow| paused.iter().any(|flow| flow == served.definition.name);
            for (flow, _) in watched
                .iter()
                .enumerate()
                .filter(|(_, served)| served.is_held() && !is_paused(served))
            {
                // the receiver is gone only if the server has stopped
                let _ = sender.send(flow);
            }
        });
        let mut others = JoinSet::<Result<(), Error>>::new();
        others.spawn(watching);
        others.spawn(prune(Arc::clone(&host)));
        let longest = if host.services.clock.may_be_set() {
            SYSTEM_SLEEP
        } else {
            LONGEST_SLEEP
        };
        loop {
            let now = host.services.clock.now();
            let due = ticker.due(now);
            if ticker.was_set_back() {
                // recorded progress only grows otherwise: after a restart, ticks up to the old time
                // would count as decided
                host.services.store.rewind_progress(&keys, now.into());
            }
            for due in due {
                let (flow, schedule) = places[due.schedule];
                served[flow].push(&host, DueTicks { schedule, ..due });
            }
            let sleep = ticker.next().map_or(longest, |next| {
                (next - now).to_std().unwrap_or_default().min(longest)
            });
            tokio::select! {
                // a stop comes first: ticks would otherwise be handed out once more
                biased;
                () = host.stop.soft.cancelled() => return Ok(()),
                Some(Ok(Err(error))) = others.join_next() => return Err(error),
                Some(flow) = unpaused.recv() => {
                    rewind(&host, &served[flow], places.iter().position(|place| *place == (flow, 0)), &mut ticker).await;
                }
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }
}

/// Rewinds the schedules of a flow that was paused, so that the ticks held back are handed out
/// again. `first` is the first of its schedules.
async fn rewind(host: &Host, served: &ServedFlow, first: Option<usize>, ticker: &mut Ticker) {
    if !served.is_held() {
        return;
    }
    let keys: Vec<ScheduleKey> = served
        .schedules
        .iter()
        .map(|schedule| schedule.key.clone())
        .collect();
    let now = host.services.clock.now();
    match host.services.store.read_progress(&keys, now.into()).await {
        Ok(decided) => {
            served.release();
            for (schedule, decided) in (first.unwrap_or_default()..).zip(decided) {
                ticker.rewind(schedule, decided.to_datetime().unwrap_or(now), now);
            }
        }
        Err(error) => {
            // the flow stays held, so the watch reports it again
            tracing::error!(
                flow = served.definition.name,
                %error,
                "cannot read the ticks held back by a pause, retrying"
            );
        }
    }
}

/// Prunes expired data, now and every hour.
async fn prune(host: Arc<Host>) -> Result<(), Error> {
    loop {
        if let Err(error) = (Runtime {
            host: Arc::clone(&host),
        })
        .prune()
        .await
        {
            tracing::error!(%error, "pruning failed");
        }
        tokio::time::sleep(PRUNE_EVERY).await;
    }
}
