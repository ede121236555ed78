//! What a run tells about itself: for each occurrence, its log line and its event.
//!
//! Lines are logged when something happens. Events about an end are emitted when the end is
//! committed, so that no reader acts on something that a crash undoes.

use std::time::Duration;

use humantime::format_duration;

use super::attempt::Attempt;
use super::live::Live;
use super::run::ActiveRun;
use crate::error::TaskError;
use crate::event::Event;
use crate::index::NodeId;
use crate::plan::{End, Instance};
use crate::state::{Rerun, RunState, TaskState};

/// The way in which a run begins.
pub(crate) enum Beginning {
    Started,
    Resumed,
    Reopened(Rerun),
}

impl ActiveRun {
    /// Tells that the run starts, is resumed, or is re-run.
    pub(crate) fn tell_beginning(&self, beginning: &Beginning) {
        let (run, flow, logical_date) = (self.facts.id, self.facts.flow, self.facts.logical_date);
        let deployment = self.facts.deployment.as_deref();
        let span = &self.trace.run;
        // a task that runs alone is a part of the body that awaits it, and has no line of its own
        if self.trace.is_recorded {
            match beginning {
                Beginning::Started => {
                    tracing::info!(parent: span, %logical_date, deployment, "run started")
                }
                Beginning::Resumed => {
                    tracing::info!(parent: span, %logical_date, deployment, "run resumed")
                }
                Beginning::Reopened(what) => {
                    tracing::info!(parent: span, %logical_date, deployment, "run reopened: {what}");
                }
            }
        }
        self.host.services.events.emit(|| match beginning {
            Beginning::Started => Event::RunStarted {
                run,
                flow,
                deployment: deployment.map(str::to_owned),
                logical_date,
            },
            Beginning::Resumed => Event::RunResumed {
                run,
                flow,
                deployment: deployment.map(str::to_owned),
                logical_date,
            },
            Beginning::Reopened(what) => Event::RunReopened {
                run,
                flow,
                deployment: deployment.map(str::to_owned),
                logical_date,
                what: what.clone(),
            },
        });
    }

    /// Logs that the process gave the run up.
    pub(crate) fn log_release(&self) {
        tracing::info!(parent: &self.trace.run, "run given up: it can be resumed");
    }

    /// Logs that the run has ended.
    pub(crate) fn log_end(&self, state: RunState, duration: Duration, error: Option<&TaskError>) {
        if !self.trace.is_recorded {
            return;
        }
        let (span, duration) = (&self.trace.run, format_duration(duration));
        match error {
            None => tracing::info!(parent: span, %state, %duration, "run finished"),
            Some(error) if state == RunState::Cancelled => {
                tracing::warn!(parent: span, %state, %duration, "run finished: {error}");
            }
            Some(error) => {
                tracing::error!(parent: span, %state, %duration, "run finished: {error}");
            }
        }
    }

    /// Emits that the run has ended.
    pub(crate) fn emit_end(&self, state: RunState, duration: Duration, error: Option<TaskError>) {
        self.host.services.events.emit(|| Event::RunFinished {
            run: self.facts.id,
            flow: self.facts.flow,
            deployment: self.facts.deployment.as_deref().map(str::to_owned),
            state,
            duration,
            error,
        });
    }

    /// Tells that an attempt starts.
    pub(crate) fn tell_attempt_started(&self, attempt: &Attempt, at: Instance) {
        tracing::debug!(parent: &attempt.span, "attempt started");
        self.host.services.events.emit(|| Event::TaskStarted {
            run: self.facts.id,
            key: self.live.lock().plan.key(at),
            attempt: u32::from(attempt.number),
        });
    }

    /// Tells that an attempt failed, and that another one follows after a delay.
    pub(crate) fn tell_retry(
        &self,
        attempt: &Attempt,
        at: Instance,
        key: String,
        delay: Duration,
        error: &TaskError,
    ) {
        tracing::warn!(
            parent: &attempt.span,
            task = self.loose_key(at),
            "attempt failed, next in {}: {error}",
            format_duration(delay)
        );
        self.host.services.events.emit(|| Event::TaskRetrying {
            run: self.facts.id,
            key,
            attempt: u32::from(attempt.number),
            delay,
            error: error.clone(),
        });
    }

    /// Logs that an attempt was the last one of its task.
    pub(crate) fn log_task_end(&self, attempt: &Attempt, at: Instance, end: &End) {
        let span = &attempt.span;
        match end {
            End::Success(_) => tracing::debug!(parent: span, "task succeeded"),
            End::Failed(error) => {
                tracing::error!(parent: span, task = self.loose_key(at), "task failed: {error}");
            }
            End::Skipped(error) => {
                tracing::info!(parent: span, task = self.loose_key(at), "task skipped: {error}");
            }
            End::Cancelled => {
                tracing::info!(parent: span, task = self.loose_key(at), "task cancelled");
            }
            // no attempt was made
            End::UpstreamFailed(_) => {}
        }
    }

    /// Logs that a subflow has failed.
    pub(crate) fn log_flow_end(&self, live: &Live, node: Instance, end: &End) {
        if let End::Failed(error) = end {
            let span = self.trace.flow(|| live.plan.key_of(node));
            tracing::error!(parent: &span, "flow failed: {error}");
        }
    }

    /// Emits that a task has ended.
    pub(crate) fn emit_task_end(
        &self,
        live: &Live,
        at: Instance,
        state: TaskState,
        attempts: u16,
        duration: Duration,
        error: Option<&TaskError>,
    ) {
        // the gather of a mapping is not a task of the user's
        if live.plan.wiring.nodes[at.node].is_hidden() {
            return;
        }
        self.host.services.events.emit(|| Event::TaskFinished {
            run: self.facts.id,
            key: live.plan.key(at),
            state,
            attempts: u32::from(attempts),
            duration,
            error: error.cloned(),
        });
    }

    /// Emits that a mapping was opened.
    pub(crate) fn emit_opened(&self, live: &Live, mapping: NodeId, elements: u32) {
        self.host.services.events.emit(|| Event::Expanded {
            run: self.facts.id,
            key: live.plan.wiring.key_of_mapping(mapping),
            elements: elements as usize,
        });
    }

    /// Returns the key of a task that runs outside of a recorded run, for its log lines: the span
    /// names the task that awaits it.
    fn loose_key(&self, at: Instance) -> Option<String> {
        (!self.trace.is_recorded).then(|| self.live.lock().plan.key(at))
    }
}
