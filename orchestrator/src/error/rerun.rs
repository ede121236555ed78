use crate::id::RunId;
use crate::state::RunState;

/// The reason why a run cannot be re-run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RerunError {
    /// The run is unfinished.
    #[error(
        "run {run} is {state}: only a finished run can be re-run; wait for its end, or cancel it"
    )]
    NotFinal {
        /// The run.
        run: RunId,
        /// The state of the run.
        state: RunState,
    },
    /// The flow is not in this binary.
    #[error(
        "flow `{flow}` of run {run} is not in this binary (it has {known}): link the crate that has it with \
         `use the_crate as _;`"
    )]
    UnknownFlow {
        /// The run.
        run: RunId,
        /// The flow's name.
        flow: String,
        /// The flows of this binary.
        known: String,
    },
    /// The run does not have a task with this key.
    #[error("run {run} has no task `{key}`{}", similar.as_ref().map(|key| format!("; did you mean `{key}`?")).unwrap_or_default())]
    UnknownTask {
        /// The run.
        run: RunId,
        /// The requested key.
        key: String,
        /// A similar key of the run.
        similar: Option<String>,
    },
    /// No task of the run failed.
    #[error(
        "no task of run {run} failed: there is nothing to re-run; `Rerun::All` re-runs all tasks"
    )]
    NothingFailed {
        /// The run.
        run: RunId,
    },
    /// The results of the run's tasks are not available, so downstream tasks could not take them.
    #[error("run {run} can be re-run only as a whole (`Rerun::All`): {problem}")]
    NoResults {
        /// The run.
        run: RunId,
        /// The problem with the results.
        problem: String,
    },
    /// The flow no longer accepts the parameters of the run.
    #[error(
        "flow `{flow}` no longer accepts the parameters of run {run}: {problem}; start a new run"
    )]
    Parameters {
        /// The run.
        run: RunId,
        /// The flow's name.
        flow: String,
        /// The parameter that does not fit.
        problem: String,
    },
}
