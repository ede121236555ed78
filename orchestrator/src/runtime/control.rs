//! Requests about runs and flows from outside: by this process, or by another that has the same
//! store open.

use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use super::{Purpose, Runtime};
use crate::error::Error;
use crate::executor::Host;
use crate::flow::{Flow, FlowCall, Missed, Request, registry};
use crate::id::RunId;
use crate::journal::{RunFilter, RunSummary};
use crate::task::Interval;
use crate::value::Data;

impl<T: Data> Flow<T> {
    /// Submits a run without executing it here: a process that serves the runtime's store, this one
    /// or another, starts it within a second. If no process is serving, the run waits;
    /// [`Runtime::resume`] starts it, too. On a store in memory, which no other process can serve,
    /// the run starts here.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`start`](Self::start).
    pub async fn trigger(self) -> Result<RunId, Error> {
        self.host()?.submit(&self.call, &self.request).await
    }
}

impl Runtime {
    /// Submits a run of a flow by its name, with its parameters as JSON, like [`Flow::trigger`], when
    /// awaited. ([`Data`] describes the encoding of integers beyond 64 bits.) Parameters that are not
    /// given are those of the deployment that the run belongs to, as they are on record.
    ///
    /// # Errors
    ///
    /// Returns an error if this binary has no such flow; if a parameter is missing, unknown or of
    /// another type; and in the cases of [`Flow::start`].
    pub fn trigger(&self, flow: &str, parameters: Map<String, Value>) -> RunTrigger {
        RunTrigger {
            host: Arc::clone(&self.host),
            flow: flow.to_owned(),
            parameters,
            request: Request::default(),
        }
    }

    /// Returns the runs that match a filter, without their tasks.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails.
    pub async fn find_runs(&self, filter: &RunFilter) -> Result<Vec<RunSummary>, Error> {
        Ok(self.host.services.store.find_runs(filter).await?)
    }

    /// Requests the cancellation of a run, whichever process executes it. Returns `false` if the
    /// run had already ended. A run that no process executes is cancelled at once; another process
    /// notices the request within a second.
    ///
    /// # Errors
    ///
    /// Returns [`Error::UnknownRun`] if there is no such run, and an error if the store fails.
    pub async fn cancel(&self, run: RunId) -> Result<bool, Error> {
        if !self.host.request_cancel(run).await? {
            return match self.find_run(run).await? {
                Some(_) => Ok(false),
                None => Err(Error::UnknownRun { run }),
            };
        }
        let abandoned = self
            .host
            .services
            .store
            .find_abandoned()
            .await?
            .into_iter()
            .find(|abandoned| abandoned.id == run);
        if let Some(definition) = abandoned.and_then(|abandoned| registry::find(&abandoned.flow))
            && let Some(started) = self.host.go_on(definition, run, Purpose::Cancel).await?
        {
            started.end().await?;
        }
        Ok(true)
    }

    /// Pauses the schedules of a flow in all processes that serve it, including processes that are
    /// started later. Returns `true` unless they were already paused.
    ///
    /// Active runs continue, and manual runs and backfills are still accepted. Ticks that are due
    /// during the pause count as missed when the flow is [unpaused](Self::unpause).
    ///
    /// # Errors
    ///
    /// Returns an error if this binary has no such flow, or if the store fails.
    pub async fn pause(&self, flow: &str) -> Result<bool, Error> {
        registry::get(flow)?;
        let now = self.host.services.clock.timestamp();
        let changed = self.host.services.store.pause_flow(flow, now).await?;
        self.host.control.send_replace(());
        Ok(changed)
    }

    /// Unpauses the schedules of a flow, when awaited. Returns `true` if they were paused. Each
    /// serving process decides by its own policy about the ticks of the meantime, unless
    /// [`Unpause::missed`] is set.
    ///
    /// # Errors
    ///
    /// Returns an error if this binary has no such flow, or if the store fails.
    pub fn unpause(&self, flow: &str) -> Unpause {
        Unpause {
            host: Arc::clone(&self.host),
            flow: flow.to_owned(),
            missed: None,
        }
    }

    /// Returns the paused flows by name, with the time of each pause.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails.
    pub async fn paused(&self) -> Result<Vec<(String, DateTime<Utc>)>, Error> {
        let paused = self.host.services.store.list_paused().await?.into_iter();
        Ok(paused
            .map(|(flow, at)| (flow, at.to_datetime().unwrap_or_default()))
            .collect())
    }
}

/// A run that is submitted by the name of its flow when this is awaited. See [`Runtime::trigger`].
#[must_use = "a run is triggered where this is awaited"]
pub struct RunTrigger {
    host: Arc<Host>,
    flow: String,
    parameters: Map<String, Value>,
    request: Request,
}

impl RunTrigger {
    /// Sets the deployment, like [`Flow::deployment`].
    pub fn deployment(mut self, name: impl Into<String>) -> Self {
        self.request.deployment = Some(name.into().into());
        self
    }

    /// Sets the instant that the run is for, like [`Flow::logical_date`].
    pub fn logical_date(mut self, date: DateTime<Utc>) -> Self {
        self.request.logical_date = Some(date);
        self
    }

    /// Sets the span of time that the run is for, like [`Flow::interval`].
    pub fn interval(mut self, start: DateTime<Utc>, end: DateTime<Utc>) -> Self {
        self.request.interval = Some(Interval { start, end });
        self
    }

    /// Sets the key of the run, like [`Flow::key`].
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.request.key = Some(key.into());
        self
    }

    async fn submit(self) -> Result<RunId, Error> {
        let Self {
            host,
            flow,
            parameters,
            request,
        } = self;
        let definition = registry::get(&flow)?;
        let place = host.place(definition, &request, host.services.clock.now());
        let mut all = place.await?.parameters.unwrap_or_default();
        all.extend(parameters);
        let call = FlowCall::recall(definition, &all);
        let call = call.map_err(|problem| Error::Parameters { flow, problem })?;
        host.submit(&call, &request).await
    }
}

impl IntoFuture for RunTrigger {
    type Output = Result<RunId, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.submit())
    }
}

impl fmt::Debug for RunTrigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunTrigger")
            .field("flow", &self.flow)
            .field("deployment", &self.request.deployment)
            .finish_non_exhaustive()
    }
}

/// The schedules of a flow, which are unpaused when this is awaited. See [`Runtime::unpause`].
#[must_use = "a flow is unpaused where this is awaited"]
pub struct Unpause {
    host: Arc<Host>,
    flow: String,
    missed: Option<Missed>,
}

impl Unpause {
    /// Sets which of the ticks until now that have no run yet get one, whatever the policy of the
    /// serving processes is.
    pub fn missed(mut self, missed: Missed) -> Self {
        self.missed = Some(missed);
        self
    }
}

impl IntoFuture for Unpause {
    type Output = Result<bool, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { host, flow, missed } = self;
        Box::pin(async move {
            registry::get(&flow)?;
            let now = host.services.clock.timestamp();
            let changed = host.services.store.unpause_flow(&flow, missed, now).await?;
            host.control.send_replace(());
            Ok(changed)
        })
    }
}

impl fmt::Debug for Unpause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpause")
            .field("flow", &self.flow)
            .field("missed", &self.missed)
            .finish_non_exhaustive()
    }
}

impl Host {
    /// Requests the cancellation of a run. Returns `true` if the run is not final.
    pub(crate) async fn request_cancel(&self, run: RunId) -> Result<bool, Error> {
        match self.active.of(run) {
            Some((cancel, _)) => {
                cancel.cancel();
                Ok(true)
            }
            None => Ok(self.services.store.request_cancel(run).await?),
        }
    }

    /// Submits a run to the serving processes. If a run with the same key exists, returns the id of
    /// that one.
    pub(crate) async fn submit(
        self: &Arc<Self>,
        call: &Arc<FlowCall>,
        request: &Request,
    ) -> Result<RunId, Error> {
        use super::launch::Acceptance;
        let taken = if self.services.store.is_durable() {
            registry::check_name(call.definition)?;
            request.check()?;
            self.check_call(call, request).await?;
            let created = self.services.clock.now();
            let place = self.place(call.definition, request, created).await?;
            let facts = self.facts(call.definition, &place, created);
            let new = request.new_run(&facts, call.parameters.clone(), created);
            match self.services.store.submit_run(new).await? {
                Some(taken) => taken,
                None => {
                    self.control.send_replace(());
                    return Ok(facts.id);
                }
            }
        } else {
            match self.accept(call, request).await? {
                Acceptance::Started(started) => return Ok(started.id),
                Acceptance::Taken(taken) => taken,
            }
        };
        request.check_is_that_of(call, &taken)?;
        Ok(taken.id())
    }
}
