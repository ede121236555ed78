//! Requests about runs and flows from outside: by this process, or by another that has the same
//! store open.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::{Purpose, Runtime};
use crate::error::Error;
use crate::executor::Host;
use crate::flow::{Flow, FlowCall, Request, registry};
use crate::id::RunId;
use crate::journal::{RunFilter, RunSummary};
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
    /// Submits a run of a flow by its name, with its parameters as JSON, like [`Flow::trigger`].
    /// ([`Data`] describes the encoding of integers beyond 64 bits.)
    ///
    /// # Errors
    ///
    /// Returns an error if this binary has no such flow; if a parameter is missing, unknown or of
    /// another type; and in the cases of [`Flow::start`].
    pub async fn trigger(
        &self,
        flow: &str,
        parameters: Map<String, Value>,
    ) -> Result<RunId, Error> {
        let call = FlowCall::recall(registry::get(flow)?, &parameters);
        let call = call.map_err(|problem| Error::Parameters {
            flow: flow.to_owned(),
            problem,
        })?;
        self.host.submit(&call, &Request::default()).await
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
        self.host.set_paused(flow, true).await
    }

    /// Unpauses the schedules of a flow. Returns `true` if they were paused.
    ///
    /// # Errors
    ///
    /// Returns an error if this binary has no such flow, or if the store fails.
    pub async fn unpause(&self, flow: &str) -> Result<bool, Error> {
        self.host.set_paused(flow, false).await
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

impl Host {
    async fn set_paused(&self, flow: &str, paused: bool) -> Result<bool, Error> {
        registry::get(flow)?;
        let changed = self
            .services
            .store
            .set_paused(flow, paused, self.services.clock.timestamp())
            .await?;
        self.control.send_replace(());
        Ok(changed)
    }

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
            self.check_call(call, request.logical_date)?;
            let created = self.services.clock.now();
            let facts = request.facts(self, call.definition, created);
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
