use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::deployment_queue::ServedDeployment;
use super::serve::Serve;
use super::ticker::Ticker;
use crate::bounds;
use crate::capture::init_logs;
use crate::deployment::{DeploymentKey, DeploymentSpec};
use crate::error::Error;
use crate::excerpt::Excerpt;
use crate::executor::Host;
use crate::flow::{Missed, Overlap, Request, registry};
use crate::runtime::{Halted, Runtime, Watch};
use crate::schedule::ScheduleUnion;
use crate::state::RunKind;
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
    let mut deployments: Vec<PreparedDeployment> = Vec::new();
    for flow in flows {
        prepare(runtime, &mut deployments, flow)?;
    }
    for deployment in &deployments {
        deployment.check(&host).await?;
    }
    let _stop = host.stop.soft.clone().drop_guard();
    let serving = async {
        let server = Server::start(Arc::clone(&host), deployments).await?;
        server.run().await
    };
    match runtime.until_halt(serving).await {
        Ok(Ok(())) => Ok(Halted::within(runtime.stop().await)),
        Ok(Err(error)) => Err(error),
        Err(halted) => Ok(halted),
    }
}

/// A deployment that is about to be served.
pub(crate) struct PreparedDeployment {
    pub(crate) spec: DeploymentSpec,
    missed: Missed,
    overlap: Overlap,
}

impl PreparedDeployment {
    fn refused(&self, problem: &str) -> Error {
        let problem = match &self.spec.key.name {
            Some(name) => format!("deployment `{name}`: {problem}"),
            None => problem.to_owned(),
        };
        Error::Schedule {
            flow: self.spec.key.flow.to_string(),
            problem,
        }
    }

    /// Checks whether the flow can run here, so that mistakes are reported now and not at the first
    /// tick.
    pub(crate) async fn check(&self, host: &Arc<Host>) -> Result<(), Error> {
        let now = host.services.clock.now();
        let schedules = ScheduleUnion::new(self.spec.schedules.clone(), now);
        let request = schedules.next(now).map(|tick| {
            let interval = schedules.interval_of(tick);
            Request::of_tick(RunKind::Scheduled, self.spec.key.name.clone(), interval)
        });
        if let Some(problem) = schedules.fault() {
            return Err(self.refused(&problem));
        }
        host.check_call(&self.spec.call, &request.unwrap_or_default())
            .await
    }
}

/// Checks the settings of a served flow, and adds its schedules to those of its deployment.
pub(crate) fn prepare(
    runtime: &Runtime,
    deployments: &mut Vec<PreparedDeployment>,
    serve: Serve,
) -> Result<(), Error> {
    let Serve {
        host: own,
        call,
        name,
        schedules,
        missed,
        overlap,
        problem,
    } = serve;
    let definition = call.definition;
    let flow = definition.name;
    if let Some(problem) = problem {
        return Err(problem);
    }
    if own.is_some_and(|own| !Arc::ptr_eq(&own.host, &runtime.host)) {
        let text = "it is bound to another runtime than the one that serves it";
        return Err(Error::Options(format!("flow `{flow}`: {text}")));
    }
    if overlap != Overlap::Queue && definition.max_active_runs.is_none() {
        let text = "`overlap` has no effect without `max_active_runs`: set a limit, or leave `overlap` out";
        return Err(Error::Options(format!("flow `{flow}`: {text}")));
    }
    if definition.depends_on_past && matches!(overlap, Overlap::CancelRunning | Overlap::Latest) {
        let text = "this `overlap` cancels runs, and with `depends_on_past` the run after a cancelled one waits until \
                    that is re-run: use `Overlap::Queue` or `Overlap::Skip`";
        return Err(Error::Options(format!("flow `{flow}`: {text}")));
    }
    registry::check_name(definition)?;
    if schedules.is_empty() {
        return Err(Error::Schedule {
            flow: flow.to_owned(),
            problem: "there is none: add one with `.schedule(…)`".to_owned(),
        });
    }
    let key = DeploymentKey {
        flow: flow.into(),
        name,
    };
    for schedule in schedules {
        let with_parameters = call.with(schedule.given_parameters());
        let call = with_parameters.map_err(|problem| Error::Parameters {
            flow: flow.to_owned(),
            problem,
        })?;
        let found = deployments.iter_mut().find(|other| other.spec.key == key);
        let Some(deployment) = found else {
            deployments.push(PreparedDeployment {
                spec: DeploymentSpec {
                    key: key.clone(),
                    schedules: vec![schedule],
                    call,
                },
                missed,
                overlap,
            });
            continue;
        };
        let other = &deployment.spec.call;
        if !other.has(&call.parameters) {
            let remedy = match &key.name {
                None => "give each of them a name of its own, such as `.named(\"eu\")`",
                Some(_) => "give each of them a name of its own",
            };
            return Err(deployment.refused(&format!(
                "its schedules have different parameters, {} and {}: {remedy}",
                Excerpt::of(json_text(&other.parameters), bounds::ERROR / 4, 0),
                Excerpt::of(json_text(&call.parameters), bounds::ERROR / 4, 0),
            )));
        }
        if (deployment.missed, deployment.overlap) != (missed, overlap) {
            return Err(deployment.refused(
                "its schedules are served with different policies for missed ticks or overlap: use the same ones, or \
                 give each of them a name of its own with `.named(…)`",
            ));
        }
        let record = schedule.record();
        if deployment
            .spec
            .schedules
            .iter()
            .any(|other| other.record() == record)
        {
            return Err(deployment.refused(&format!("`{schedule}` is given twice")));
        }
        deployment.spec.schedules.push(schedule);
    }
    Ok(())
}

/// The serving loop: the ticker, its deployments, and a watch on requests of other processes.
struct Server {
    host: Arc<Host>,
    /// By their index in the ticker.
    served: Vec<Arc<ServedDeployment>>,
    ticker: Ticker,
    watch: Watch,
}

impl Server {
    /// Resumes what other processes left, puts the deployments in force, and computes the missed
    /// ticks.
    async fn start(host: Arc<Host>, deployments: Vec<PreparedDeployment>) -> Result<Self, Error> {
        let mut watch = Watch::new(Arc::clone(&host));
        watch.look().await?;
        let mut served = Vec::with_capacity(deployments.len());
        for deployment in deployments {
            let PreparedDeployment {
                spec,
                missed,
                overlap,
            } = deployment;
            let now = host.services.clock.timestamp();
            let record = host.services.store.put_in_force(&spec, now).await?;
            served.push(ServedDeployment::new(spec, missed, overlap, &record));
        }
        let now = host.services.clock.now();
        let ticker = Ticker::new(served.iter().map(|served| served.timeline()), now);
        for served in &served {
            tell_served(served, now);
        }
        Ok(Self {
            host,
            served,
            ticker,
            watch,
        })
    }

    /// Hands out due ticks until the runtime stops or the store refuses all writes.
    async fn run(self) -> Result<(), Error> {
        let Self {
            host,
            served,
            mut ticker,
            watch,
        } = self;
        let (sender, mut unpaused) = mpsc::unbounded_channel();
        let watched = served.clone();
        let watching = watch.run(move |paused| {
            let is_paused =
                |served: &ServedDeployment| paused.iter().any(|flow| *flow == served.spec.key.flow);
            for (place, _) in watched
                .iter()
                .enumerate()
                .filter(|(_, served)| served.is_held() && !is_paused(served))
            {
                // the receiver is gone only if the server has stopped
                let _ = sender.send(place);
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
                let versions: Vec<_> = served
                    .iter()
                    .map(|served| (served.spec.key.clone(), served.version()))
                    .collect();
                host.services.store.rewind_progress(&versions, now.into());
                served.iter().for_each(|served| served.set_back(now));
            }
            for (place, due) in due {
                served[place].push(&host, due);
            }
            let sleep = ticker.next().map_or(longest, |next| {
                (next - now).to_std().unwrap_or_default().min(longest)
            });
            tokio::select! {
                // a stop comes first: ticks would otherwise be handed out once more
                biased;
                () = host.stop.soft.cancelled() => return Ok(()),
                Some(Ok(Err(error))) = others.join_next() => return Err(error),
                Some(place) = unpaused.recv() => {
                    rewind(&host, &served[place], place, &mut ticker).await;
                }
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }
}

/// Logs that a deployment is served, and when its next tick is.
fn tell_served(served: &ServedDeployment, now: DateTime<Utc>) {
    let key = &served.spec.key;
    let (timeline, _) = served.timeline();
    let Some(in_force) = timeline.in_force() else {
        return;
    };
    let schedules = &in_force.schedules;
    match schedules.next(now) {
        Some(next) => {
            let next = next.to_rfc3339_opts(SecondsFormat::AutoSi, true);
            tracing::info!(flow = %key.flow, deployment = key.name.as_deref(), %schedules, next, "deployment served");
        }
        None => {
            tracing::warn!(
                flow = %key.flow,
                deployment = key.name.as_deref(),
                %schedules,
                "deployment served, but it has no future ticks"
            )
        }
    }
}

/// Rewinds a deployment of a flow that was paused, so that the ticks held back are handed out again.
async fn rewind(host: &Host, served: &ServedDeployment, place: usize, ticker: &mut Ticker) {
    if !served.is_held() {
        return;
    }
    let now = host.services.clock.now();
    match served.read_record(host).await {
        Ok(Some(record)) => {
            served.release(&record);
            let (timeline, decided) = served.timeline();
            ticker.rewind(place, timeline, decided, now);
        }
        // it was removed from the record: there is nothing that it missed
        Ok(None) => served.let_go(),
        Err(error) => {
            // the deployment stays held, so the watch reports it again
            tracing::error!(
                flow = %served.spec.key.flow,
                deployment = served.spec.key.name.as_deref(),
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
