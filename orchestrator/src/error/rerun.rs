use crate::id::RunId;
use crate::state::RunState;

/// Why a run is not run again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RerunError {
    /// The run is not at its end.
    #[error(
        "run {run} is {state}: only a run that is final can be run again; wait for its end, or cancel it"
    )]
    NotFinal {
        /// The run.
        run: RunId,
        /// The state that it is in.
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
        /// The flows that the binary has.
        known: String,
    },
    /// The run has no task of a key.
    #[error("run {run} has no task `{key}`{}", similar.as_ref().map(|key| format!("; did you mean `{key}`?")).unwrap_or_default())]
    UnknownTask {
        /// The run.
        run: RunId,
        /// The key that was asked for.
        key: String,
        /// A key that the run has and that is much like it.
        similar: Option<String>,
    },
    /// All tasks of the run did what they were to do.
    #[error(
        "nothing failed in run {run}: there is nothing to run again; `Rerun::All` runs all of it again"
    )]
    NothingFailed {
        /// The run.
        run: RunId,
    },
    /// The results of the run's tasks are not there, so that no task can take them.
    #[error("run {run} can be run again only as a whole (`Rerun::All`): {problem}")]
    NoResults {
        /// The run.
        run: RunId,
        /// Where the results are.
        problem: String,
    },
    /// The flow does not take the parameters that the run was asked for with.
    #[error(
        "the parameters of run {run} are not those of flow `{flow}` any more: {problem}; start a new run"
    )]
    Parameters {
        /// The run.
        run: RunId,
        /// The flow's name.
        flow: String,
        /// What does not fit.
        problem: String,
    },
}
