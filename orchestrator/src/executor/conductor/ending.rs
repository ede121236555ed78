//! The end of a run: what its output and its state are, and how both are recorded.

use std::sync::Arc;

use super::super::run::ActiveRun;
use super::{Conductor, EarlyEnd};
use crate::clock::Timestamp;
use crate::error::{Cause, Error, PanicReport, TaskError};
use crate::journal::{CellState, ResultValue, RunEnd, RunRecord, TaskEnd, Transition};
use crate::plan::Verdict;
use crate::state::{RunState, TaskState};
use crate::task::Arg;
use crate::value::Value;
use crate::{failpoint, panic};

/// A finished run.
#[derive(Debug)]
pub(crate) struct FinishedRun {
    pub(crate) record: RunRecord,
    pub(crate) returned: FlowResult,
}

/// The flow's output, or the reason why it has no value; `None` if the flow did not return.
pub(crate) type FlowResult = Option<Result<Value, TaskError>>;

impl FinishedRun {
    /// Returns the flow's output if the run succeeded.
    pub(crate) fn into_value(self) -> Result<Value, TaskError> {
        match (self.record.error(), self.returned) {
            (Some(error), _) => Err(error.clone()),
            (None, Some(returned)) => returned,
            (None, None) => Err(TaskError::cancelled()),
        }
    }
}

/// The way in which a run ends. Separate from the output: a run can fail although its flow
/// returned.
#[derive(Debug)]
pub(super) enum Ending {
    Succeeded,
    Failed(TaskError),
    Cancelled,
}

impl Ending {
    pub(super) fn state(&self) -> RunState {
        match self {
            Self::Succeeded => RunState::Success,
            Self::Failed(_) => RunState::Failed,
            Self::Cancelled => RunState::Cancelled,
        }
    }

    /// Returns the error that the run is recorded with.
    pub(super) fn error(&self) -> Option<TaskError> {
        match self {
            Self::Succeeded => None,
            Self::Failed(error) => Some(error.clone()),
            Self::Cancelled => Some(TaskError::cancelled()),
        }
    }

    /// Turns a success into a failure.
    fn or_fail(&mut self, error: TaskError) {
        if matches!(self, Self::Succeeded) {
            *self = Self::Failed(error);
        }
    }
}

impl Conductor {
    /// Ends a run whose conductor panicked.
    pub(crate) async fn give_up(
        run: &Arc<ActiveRun>,
        panicked: &PanicReport,
    ) -> Result<FinishedRun, Error> {
        // before the token is cancelled: lanes would take that for a request
        run.live.lock().is_ending = true;
        run.end_bodies();
        {
            let live = &mut *run.live.lock();
            live.plan.abandon();
            run.flush(live);
        }
        let text = format!("the runtime itself {panicked}");
        let error = TaskError::new(Cause::Panicked, text);
        let now = run.clock.timestamp();
        Self::record(run, Ending::Failed(error), None, now).await
    }

    pub(super) async fn finish(mut self, started: Timestamp) -> Result<FinishedRun, Error> {
        let run = Arc::clone(&self.run);
        let (verdict, output) = {
            let live = &mut *run.live.lock();
            // only checked if the flow was not stopped: a stopped body has not asked for all of its
            // nodes again
            if self.early_end.is_none()
                && let Some(problem) = live.plan.forgotten()
            {
                self.early_end = Some(EarlyEnd::Body(TaskError::new(
                    Cause::Fatal,
                    problem.to_string(),
                )));
            }
            let output = match (&self.early_end, self.output.take()) {
                (None, Some(output)) => Some(live.plan.output(&output)),
                _ => None,
            };
            let verdict = match live.plan.verdict() {
                // the run was being cancelled in an earlier execution, whose process died before it
                // could record that; or another part of a cancelled run was re-run
                Verdict::Green if live.plan.was_cancelled => Verdict::Cancelled,
                verdict => verdict,
            };
            (verdict, output)
        };
        let mut ending = match (self.early_end, verdict) {
            (Some(EarlyEnd::Asked), _) | (None, Verdict::Cancelled) => Ending::Cancelled,
            (Some(EarlyEnd::TimedOut(timeout)), _) => Ending::Failed(TaskError::timed_out(timeout)),
            (Some(EarlyEnd::Body(error)), _) if error.is_skipped() => {
                return Self::record(&run, Ending::Succeeded, Some(Err(error)), started).await;
            }
            (Some(EarlyEnd::Body(error)), _) | (None, Verdict::Red(error)) => Ending::Failed(error),
            (None, Verdict::Green) => Ending::Succeeded,
        };
        let returned = match output.map(|output| output.map(value_of)) {
            None => None,
            Some(Ok(Ok(value))) => Some(Ok(value)),
            // the projection of what was returned panicked
            Some(Ok(Err(panicked))) => {
                ending.or_fail(panicked);
                None
            }
            Some(Err((_, end))) => end.error().cloned().map(Err),
        };
        Self::record(&run, ending, returned, started).await
    }

    /// Records the end of the run, then logs and emits it.
    async fn record(
        run: &ActiveRun,
        mut ending: Ending,
        returned: FlowResult,
        started: Timestamp,
    ) -> Result<FinishedRun, Error> {
        let at = run.clock.timestamp();
        let duration = at.since(started);
        let output = match &returned {
            Some(Ok(value)) => Some(value.clone()),
            Some(Err(_)) | None => None,
        };
        let encoded = match output.as_ref().map(|output| run.log.encode(output)) {
            None => None,
            Some(Ok(encoded)) => encoded,
            Some(Err(problem)) => {
                let text = format!("what the flow returned cannot be kept: {problem}");
                ending.or_fail(TaskError::new(Cause::Failed, text));
                None
            }
        };
        let (state, error) = (ending.state(), ending.error());
        if run.resumed && !run.live.lock().plan.is_changed {
            // rows of an earlier execution that were not planned again
            let open = {
                let live = run.live.lock();
                run.log.snapshot().open(|node| live.plan.is_planned(node))
            };
            for (place, attempts) in open {
                let state = CellState::Ended {
                    state: TaskState::Cancelled,
                    started: None,
                    at,
                };
                run.record(Transition::Task(TaskEnd::new(place, state, attempts)));
            }
        }
        if run.trace.is_recorded {
            // stored before the end is recorded: a process that sees the end must find all log
            // lines, too
            run.host.services.flush_logs().await;
        }
        let end = RunEnd {
            at,
            state,
            error: error.clone(),
            output: output.map(ResultValue::Live),
            encoded,
        };
        run.record(Transition::RunFinished(end));
        failpoint::hit("run-end-recorded");
        run.log.commit().wait().await?;
        failpoint::hit("run-end-committed");
        run.log_end(state, duration, error.as_ref());
        if run.trace.is_recorded {
            run.host.services.flush_logs().await;
        }
        run.emit_end(state, duration, error);
        Ok(FinishedRun {
            record: run.log.snapshot(),
            returned,
        })
    }
}

pub(super) fn value_of(arg: Arg) -> Result<Value, TaskError> {
    panic::catch(|| arg.into_value()).map_err(|panicked| TaskError::panicked(&panicked))
}
