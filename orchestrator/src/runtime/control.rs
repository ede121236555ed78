//! What is asked of runs and flows from outside: by this process, or by another that has the store open.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::{Inner, Purpose, Runtime};
use crate::error::Error;
use crate::flow::{Flow, FlowCall, Request, registry};
use crate::id::RunId;
use crate::store::{RunFilter, RunSummary};
use crate::value::Data;

impl<T: Data> Flow<T> {
    /// Asks for a run, and leaves it to whoever serves the runtime's store: this process or another, within a second.
    /// Where nobody does, the run waits; [`Runtime::resume`] goes on with it, too. (In a store in memory there is nobody
    /// else: the run is started here.)
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub async fn trigger(self) -> Result<RunId, Error> {
        self.host()?.submit(&self.call, &self.request).await
    }
}

impl Runtime {
    /// Asks for a run of a flow by its name, with its parameters as JSON, as [`Flow::trigger`] does.
    ///
    /// # Errors
    ///
    /// Where this binary has no such flow, where a parameter is missing, unknown or of another type, and as for
    /// [`Flow::start`].
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
        self.0.submit(&call, &Request::default()).await
    }

    /// Runs without their tasks: those that a filter asks for.
    ///
    /// # Errors
    ///
    /// Where the store fails.
    pub async fn find_runs(&self, filter: &RunFilter) -> Result<Vec<RunSummary>, Error> {
        Ok(self.0.store.summaries(filter).await?)
    }

    /// Asks for a run's end, whichever process executes it, and says whether there was something to end. A run that
    /// nobody executes is cancelled at once. Another process hears of it within a second.
    ///
    /// # Errors
    ///
    /// Where there is no such run, and where the store fails.
    pub async fn cancel(&self, run: RunId) -> Result<bool, Error> {
        if !self.0.request_cancel(run).await? {
            return match self.find_run(run).await? {
                Some(_) => Ok(false),
                None => Err(Error::UnknownRun { run }),
            };
        }
        let abandoned = self
            .0
            .store
            .abandoned()
            .await?
            .into_iter()
            .find(|abandoned| abandoned.id == run);
        if let Some(definition) = abandoned.and_then(|abandoned| registry::find(&abandoned.flow))
            && let Some(started) = self.0.go_on(definition, run, Purpose::Cancel).await?
        {
            started.end().await?;
        }
        Ok(true)
    }

    /// Pauses the schedules of a flow, in all processes that serve it, also ones that are started later. Says whether
    /// they were not paused before.
    ///
    /// Runs that are there go on, and runs by hand and backfills are made as ever. What is due meanwhile counts as
    /// missed when the flow is [unpaused](Self::unpause).
    ///
    /// # Errors
    ///
    /// Where this binary has no such flow, and where the store fails.
    pub async fn pause(&self, flow: &str) -> Result<bool, Error> {
        self.0.set_paused(flow, true).await
    }

    /// Lets the schedules of a flow go on. Says whether they were paused.
    ///
    /// # Errors
    ///
    /// Where this binary has no such flow, and where the store fails.
    pub async fn unpause(&self, flow: &str) -> Result<bool, Error> {
        self.0.set_paused(flow, false).await
    }

    /// The flows whose schedules are paused, by name, and since when.
    ///
    /// # Errors
    ///
    /// Where the store fails.
    pub async fn paused(&self) -> Result<Vec<(String, DateTime<Utc>)>, Error> {
        let paused = self.0.store.paused().await?.into_iter();
        Ok(paused
            .map(|(flow, at)| {
                (
                    flow,
                    DateTime::from_timestamp_micros(at).unwrap_or_default(),
                )
            })
            .collect())
    }
}

impl Inner {
    async fn set_paused(&self, flow: &str, paused: bool) -> Result<bool, Error> {
        registry::get(flow)?;
        let changed = self
            .store
            .set_paused(flow, paused, self.clock.micros())
            .await?;
        self.control.send_replace(());
        Ok(changed)
    }

    /// Asks for a run's end. Says whether it is not final.
    pub(crate) async fn request_cancel(&self, run: RunId) -> Result<bool, Error> {
        match self.under_way.of(run) {
            Some((cancel, _)) => {
                cancel.cancel();
                Ok(true)
            }
            None => Ok(self.store.request_cancel(run).await?),
        }
    }

    /// Leaves a run to whoever serves. Of runs with one key there is one.
    pub(crate) async fn submit(
        self: &Arc<Self>,
        call: &Arc<FlowCall>,
        request: &Request,
    ) -> Result<RunId, Error> {
        use super::launch::Accepted;
        let taken = if self.store.is_durable() {
            registry::check_name(call.definition)?;
            request.check()?;
            self.check_call(call, request.logical_date)?;
            let created = self.clock.now();
            let facts = request.facts(self, call.definition, created);
            let new = request.new_run(&facts, call.parameters.clone(), created);
            match self.store.submit_run(new).await? {
                Some(taken) => taken,
                None => {
                    self.control.send_replace(());
                    return Ok(facts.id);
                }
            }
        } else {
            match self.accept(call, request).await? {
                Accepted::Started(started) => return Ok(started.id),
                Accepted::Taken(taken) => taken,
            }
        };
        request.check_is_that_of(call, &taken)?;
        Ok(taken.id())
    }
}
