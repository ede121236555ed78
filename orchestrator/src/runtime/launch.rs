//! Flows on a runtime: how runs are accepted, started and awaited.

use std::future::IntoFuture;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use tokio::runtime::Handle as Tokio;
use tokio_util::sync::CancellationToken;

use super::deployments::RunPlace;
use super::handle::{Run, RunHandle};
use super::{Runtime, join};
use crate::bounds;
use crate::capture::quietly;
use crate::clock::kept;
use crate::deployment::DeploymentVersion;
use crate::error::{Cause, Error, TaskError};
use crate::excerpt::Excerpt;
use crate::executor::Host;
use crate::executor::ambient::{AMBIENT, Ambient, unless_left};
use crate::executor::conductor::body::CalledFlow;
use crate::executor::live::Live;
use crate::executor::requirements::TasksInNeed;
use crate::executor::run::ActiveRun;
use crate::executor::start::{CalledRun, StartedRun, turns};
use crate::executor::trace::Trace;
use crate::failpoint;
use crate::flow::{Flow, FlowCall, FlowDef, Request, registry};
use crate::graph::{self, Graph};
use crate::journal::{NewRun, RunRecord};
use crate::schedule::span;
use crate::scope;
use crate::state::RunKind;
use crate::store::RunCreation;
use crate::task::{Context, Interval, RunFacts};
use crate::value::{Data, json_text};

impl<T: Data> Flow<T> {
    /// Binds the flow to a runtime. An unbound flow runs on [`Runtime::default_runtime`].
    pub fn on(mut self, runtime: &Runtime) -> Self {
        self.request.host = Some(Arc::clone(&runtime.host) as _);
        self
    }

    /// Returns the flow's graph without running it: calls the flow's function, but not its tasks.
    ///
    /// # Errors
    ///
    /// Returns an error if the graph is invalid, or if the flow is an `async fn`, whose graph
    /// depends on results.
    pub fn graph(&self) -> Result<Graph, Error> {
        // drawing a graph needs only a clock: no store is opened for it
        let host = self
            .given_host()
            .unwrap_or_else(|| Arc::clone(&Runtime::of_loose_tasks().host));
        host.graph(&self.call, &self.request)
    }

    /// Runs the flow and waits for its end. Returns `Ok` even if the run fails: see
    /// [`RunRecord::state`].
    ///
    /// # Errors
    ///
    /// Returns an error if no run was created or its record could not be stored: the graph is
    /// invalid, a resource, a pool, a connection, a variable or a secret is missing, or the store
    /// failed.
    ///
    /// # Cancellation
    ///
    /// Dropping the future cancels the run, like [`RunHandle::cancel`].
    pub async fn run(self) -> Result<Run<T>, Error> {
        let host = self.host()?;
        // within a body, the run is part of the body's work
        let started = start(Ambient::on(&host), self.call, &self.request);
        let handle: RunHandle<T> = unless_left(started).await?;
        let guard = handle.guard();
        let run = handle.await;
        if let Some(guard) = guard {
            guard.disarm();
        }
        run
    }

    /// Starts the flow and returns a handle to the run.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`run`](Self::run).
    pub async fn start(self) -> Result<RunHandle<T>, Error> {
        let host = self.host()?;
        unless_left(start(Ambient::outside(&host), self.call, &self.request)).await
    }

    pub(crate) fn given_host(&self) -> Option<Arc<Host>> {
        self.request
            .host
            .clone()
            .and_then(|host| host.downcast::<Host>().ok())
    }

    pub(super) fn host(&self) -> Result<Arc<Host>, Error> {
        self.given_host().map_or_else(Host::of_here, Ok)
    }
}

/// Awaiting a flow runs it and returns its output. In the body of another flow, it becomes part of
/// that flow's run.
impl<T: Data> IntoFuture for Flow<T> {
    type Output = Result<T, TaskError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            if scope::with(|_| ()).is_some() {
                return self.into_node().await;
            }
            match self.run().await {
                Ok(run) => run.into_result(),
                Err(error) => Err(TaskError::new(Cause::Fatal, error.to_string())),
            }
        })
    }
}

impl Request {
    /// Creates the request for the run of a deployment's tick, at which an interval ends.
    pub(crate) fn of_tick(kind: RunKind, deployment: Option<Arc<str>>, interval: Interval) -> Self {
        Self {
            kind,
            deployment,
            logical_date: Some(interval.end),
            interval: Some(interval),
            ..Self::default()
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let long = self
            .key
            .as_ref()
            .and_then(|key| bounds::fault(key, bounds::RUN_KEY));
        let problem = match (&self.key, self.interval) {
            _ if long.is_some() => {
                format!("the key of a run is too long: {}", long.unwrap_or_default())
            }
            (Some(key), _) if key.is_empty() => {
                "expected a key to be at least one character, got ``".to_owned()
            }
            (_, Some(interval)) if interval.end < interval.start => {
                format!("expected an interval to end after its start, got {interval}")
            }
            _ if !self.dates().all(span::contains) => {
                "expected the dates of a run to be in the years 1 to 9999".to_owned()
            }
            _ => return Ok(()),
        };
        Err(Error::Options(problem))
    }

    /// Returns the instants that were set.
    fn dates(&self) -> impl Iterator<Item = DateTime<Utc>> {
        let interval = self.interval.map(|interval| [interval.start, interval.end]);
        self.logical_date
            .into_iter()
            .chain(interval.into_iter().flatten())
    }

    /// Returns an error if the existing run with the requested key was requested with other
    /// parameters or dates.
    pub(crate) fn check_is_that_of(&self, flow: &FlowCall, taken: &RunRecord) -> Result<(), Error> {
        let json = |parameters: &serde_json::Map<_, _>| {
            Excerpt::of(json_text(parameters), bounds::ERROR / 4, 0)
        };
        let interval = self.interval.map(|Interval { start, end }| Interval {
            start: kept(start),
            end: kept(end),
        });
        let (recorded, asked) = match self.logical_date.map(kept) {
            _ if !flow.has(taken.parameters()) => (
                format!("the parameters {}", json(taken.parameters())),
                format!("the parameters {}", json(&flow.parameters)),
            ),
            _ if self.deployment.is_some() && self.deployment.as_deref() != taken.deployment() => (
                deployment_in_words(taken.deployment()),
                deployment_in_words(self.deployment.as_deref()),
            ),
            Some(date) if date != taken.logical_date() => (
                format!("the logical date {}", taken.logical_date()),
                format!("the logical date {date}"),
            ),
            _ => match interval.filter(|interval| *interval != taken.interval()) {
                Some(interval) => (
                    format!("the interval {}", taken.interval()),
                    format!("the interval {interval}"),
                ),
                None => return Ok(()),
            },
        };
        Err(Error::KeyTaken {
            flow: taken.flow().to_owned(),
            key: taken.key().unwrap_or_default().to_owned(),
            run: taken.id(),
            recorded,
            asked,
        })
    }

    pub(super) fn new_run(
        &self,
        facts: &RunFacts,
        parameters: serde_json::Map<String, serde_json::Value>,
        created: DateTime<Utc>,
    ) -> NewRun {
        NewRun {
            id: facts.id,
            flow: facts.flow.into(),
            kind: self.kind,
            deployment: facts.deployment.clone(),
            key: self.key.clone(),
            logical_date: facts.logical_date,
            interval: facts.interval,
            parameters,
            refresh_cache: self.refresh_cache,
            created,
        }
    }
}

fn deployment_in_words(name: Option<&str>) -> String {
    match name {
        Some(name) => format!("the deployment `{name}`"),
        None => "the default deployment".to_owned(),
    }
}

/// The result of a request for a run.
pub(crate) enum Acceptance {
    Started(StartedRun),
    /// An existing run has the same key or belongs to the same tick.
    Taken(RunRecord),
}

/// The result of a request for the run of a tick.
pub(crate) enum TickAcceptance {
    Accepted(Acceptance),
    /// The flow is paused.
    Paused,
    /// Another version of the deployment is in force.
    Superseded,
}

/// Accepts and starts a run, or joins the existing run with its key.
async fn start<T: Data>(
    ambient: Ambient,
    flow: Arc<FlowCall>,
    request: &Request,
) -> Result<RunHandle<T>, Error> {
    let host = Arc::clone(&ambient.host);
    match accept(ambient, &flow, request).await? {
        Acceptance::Started(StartedRun {
            id,
            cancel,
            conducted,
        }) => Ok(RunHandle::new(id, cancel, conducted)),
        Acceptance::Taken(record) => join::join(host, &Tokio::current(), &flow, request, record),
    }
}

/// Accepts and starts a run, unless an existing run has its key or tick.
pub(super) async fn accept(
    ambient: Ambient,
    flow: &Arc<FlowCall>,
    request: &Request,
) -> Result<Acceptance, Error> {
    match accept_in_force(ambient, flow, request, None).await? {
        TickAcceptance::Accepted(acceptance) => Ok(acceptance),
        TickAcceptance::Paused | TickAcceptance::Superseded => Err(Error::Options(format!(
            "the schedules of flow `{}` are paused",
            flow.definition.name
        ))),
    }
}

/// Accepts and starts a run, unless an existing run has its key or tick; the run is scheduled and its
/// flow is paused; or another version of its deployment is in force than the one given. If the
/// runtime cannot run the flow, a manual run is refused with an error; any other run is accepted and
/// fails, so that its record has the error.
async fn accept_in_force(
    ambient: Ambient,
    flow: &Arc<FlowCall>,
    request: &Request,
    in_force: Option<DeploymentVersion>,
) -> Result<TickAcceptance, Error> {
    let host = Arc::clone(&ambient.host);
    let definition = flow.definition;
    let tokio = Tokio::try_current().map_err(|_| Error::NoTokio)?;
    registry::check_name(definition)?;
    if host.stop.soft.is_cancelled() {
        return Err(Error::Closed);
    }
    if let Some(problem) = flow.fault() {
        return Err(Error::Parameters {
            flow: definition.name.to_owned(),
            problem,
        });
    }
    request.check()?;
    let waiting = ambient
        .flows
        .iter()
        .filter(|flow| **flow == definition.name)
        .count();
    if let Some(turns) = turns(definition, request.kind).filter(|turns| waiting >= *turns as usize)
    {
        return Err(Error::Options(format!(
            "flow `{}` is run in the body of a task of its own run, and its `max_active_runs` is {turns}: the two would \
             wait for each other; start it without waiting (`.start()`), or call another flow",
            definition.name
        )));
    }
    let created = host.services.clock.now();
    let place = host.place(definition, request, created).await?;
    let facts = host.facts(definition, &place, created);
    let cancel = CancellationToken::new();
    let mut live = Live::new(&ambient.held, host.services.store.is_durable(), None);
    let trace = Trace::new(&host, &facts);
    let called = match host.call(&mut live, flow, &facts, &trace, &cancel) {
        Ok((called, tasks)) => host
            .check_requirements(definition, &tasks)
            .await
            .map(|()| called),
        Err(error) => Err(error),
    };
    let called = match called {
        Ok(called) => called,
        Err(error) if request.kind == RunKind::Manual => return Err(error),
        Err(error) => CalledFlow::Failed(TaskError::new(Cause::Fatal, error.to_string())),
    };
    // registered before the run is created: other processes can see it from then on, and may cancel
    // it
    let registration = host.active.enter(facts.id, &cancel, host.heard());
    // checked again after the registration: a concurrent stop either finds the run registered, or
    // is noticed here
    if host.stop.soft.is_cancelled() {
        return Err(Error::Closed);
    }
    let new = request.new_run(&facts, flow.parameters.clone(), created);
    let log = match host.services.store.create_run(new, in_force).await? {
        RunCreation::New(log) => log,
        RunCreation::Taken(record) => {
            return Ok(TickAcceptance::Accepted(Acceptance::Taken(record)));
        }
        RunCreation::Paused => return Ok(TickAcceptance::Paused),
        RunCreation::Superseded => return Ok(TickAcceptance::Superseded),
    };
    failpoint::hit("run-created");
    trace.release_early_lines();
    let run = ActiveRun::new(
        tokio.clone(),
        log,
        trace,
        cancel,
        live,
        &ambient,
        request.refresh_cache,
    );
    let run = CalledRun {
        run,
        called,
        definition,
        kind: request.kind,
        began: None,
        ambient,
        registration,
    };
    Ok(TickAcceptance::Accepted(Acceptance::Started(
        run.start(&tokio),
    )))
}

impl Host {
    /// Returns the runtime for an unbound flow: within a body, the runtime of the body; otherwise
    /// the default one.
    pub(crate) fn of_here() -> Result<Arc<Self>, Error> {
        match AMBIENT.try_with(|ambient| Arc::clone(&ambient.host)) {
            Ok(host) => Ok(host),
            Err(_) => Ok(Runtime::default_runtime()?.host),
        }
    }

    /// Accepts and starts a run outside of any body.
    pub(crate) async fn accept(
        self: &Arc<Self>,
        flow: &Arc<FlowCall>,
        request: &Request,
    ) -> Result<Acceptance, Error> {
        accept(Ambient::outside(self), flow, request).await
    }

    /// Accepts and starts a scheduled run, if a version of its deployment is in force.
    pub(crate) async fn accept_tick(
        self: &Arc<Self>,
        flow: &Arc<FlowCall>,
        request: &Request,
        in_force: DeploymentVersion,
    ) -> Result<TickAcceptance, Error> {
        accept_in_force(Ambient::outside(self), flow, request, Some(in_force)).await
    }

    /// Accepts and starts a run. Within a body, the run is part of the body's work.
    pub(crate) async fn accept_here(
        self: &Arc<Self>,
        flow: &Arc<FlowCall>,
        request: &Request,
    ) -> Result<Acceptance, Error> {
        accept(Ambient::on(self), flow, request).await
    }

    /// Returns the properties of a new run that its bodies may read.
    pub(super) fn facts(
        &self,
        flow: &FlowDef,
        place: &RunPlace,
        now: DateTime<Utc>,
    ) -> Arc<RunFacts> {
        Arc::new(RunFacts {
            id: self.services.ids.run_id(now),
            flow: flow.name,
            deployment: place.deployment.clone(),
            logical_date: place.logical_date,
            interval: place.interval,
        })
    }

    /// Checks whether a flow can run here, as far as that is known beforehand, for a requested run.
    pub(crate) async fn check_call(
        &self,
        flow: &Arc<FlowCall>,
        request: &Request,
    ) -> Result<(), Error> {
        let definition = flow.definition;
        if let Some(problem) = flow.fault() {
            return Err(Error::Parameters {
                flow: definition.name.to_owned(),
                problem,
            });
        }
        self.check_has(definition.name, definition.resources)?;
        let tasks = if definition.is_async {
            TasksInNeed::default()
        } else {
            let now = self.services.clock.now();
            let place = RunPlace::by_attribute(definition, request, now);
            let facts = self.facts(definition, &place, now);
            quietly(|| self.check_flow(flow, &facts))?
        };
        self.check_requirements(definition, &tasks).await
    }

    /// Returns the graph that a run of a static flow would have.
    pub(crate) fn graph(&self, flow: &Arc<FlowCall>, request: &Request) -> Result<Graph, Error> {
        let now = self.services.clock.now();
        let place = RunPlace::by_attribute(flow.definition, request, now);
        let facts = self.facts(flow.definition, &place, now);
        graph::of_flow(
            flow,
            &Arc::new(Context::of_flow(facts, CancellationToken::new())),
        )
    }
}
