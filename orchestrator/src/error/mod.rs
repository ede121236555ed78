//! Errors.
//!
//! Bodies may fail with any error, which the runtime converts to a [`TaskError`]. The library's own
//! functions return [`Error`].

mod blob;
mod graph;
mod rerun;
mod secrets;
mod store;
mod task;

pub use blob::BlobError;
pub use graph::GraphError;
pub use rerun::RerunError;
pub(crate) use secrets::{SecretUrl, without_secrets};
pub use store::StoreError;
pub(crate) use task::{Cause, PanicReport, error_text};
pub use task::{IntoTaskError, TaskError, fatal, reconnect, retry_after, skip};

use std::fmt;

use crate::id::RunId;

/// Any error, boxed.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A result with any error, for bodies of tasks and flows that do not have an error type of their
/// own.
pub type Result<T, E = BoxError> = std::result::Result<T, E>;

/// An error of the library's own functions.
///
/// `Debug` prints the same text as `Display`, for programs that return this error from `main`.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The graph that a flow describes is invalid.
    #[error("flow `{flow}`: {source}")]
    Graph {
        /// The flow's name.
        flow: String,
        /// The error in the graph.
        source: GraphError,
    },
    /// The flow's body failed before a run existed.
    #[error("flow `{flow}`: {error}")]
    Body {
        /// The flow's name.
        flow: String,
        /// The error of the body.
        error: TaskError,
    },
    /// A task needs a resource that the runtime does not have.
    #[error(
        "task `{task}` takes the resource `{resource}: {type_name}`, which the runtime does not have: add it with `Runtime::builder().resource(…)`"
    )]
    MissingResource {
        /// The task's name.
        task: String,
        /// The parameter's name.
        resource: &'static str,
        /// The type of the resource, as written in the task.
        type_name: &'static str,
    },
    /// Connections, variables or secrets that a flow needs are not found, or cannot be used.
    #[error("flow `{flow}` needs what is not there: {}", in_lines(problems))]
    Requirements {
        /// The flow's name.
        flow: String,
        /// The problems: for each, the task that has it, the name, and the places that were looked in.
        problems: Vec<String>,
    },
    /// A connection does not work.
    #[error("connection `{id}` does not work: {problem}")]
    Connection {
        /// The id of the connection.
        id: String,
        /// The problem.
        problem: String,
    },
    /// A task names a pool that the runtime does not have, or takes more slots than the pool has.
    #[error("task `{task}` takes {slots} slot(s) of the pool `{pool}`, {problem}")]
    Pool {
        /// The task's name.
        task: String,
        /// The pool's name.
        pool: String,
        /// The number of slots that the task takes.
        slots: u32,
        /// The problem, and what to do about it.
        problem: String,
    },
    /// Two flows of this binary have the same name.
    #[error(
        "two flows are named `{name}`: {first} and {second}; rename one with `#[flow(name = \"…\")]`"
    )]
    DuplicateFlow {
        /// The name.
        name: &'static str,
        /// Where the first is.
        first: String,
        /// Where the second is.
        second: String,
    },
    /// Two cached tasks of this binary have the same path and code, so their results could not be
    /// told apart.
    #[error(
        "two cached tasks have the path `{path}` and the same code: {first} and {second}; \
         rename one with `#[task(name = \"…\")]`, or move it into a function of its own"
    )]
    DuplicateTask {
        /// The path: the crate, the modules and functions that enclose them, and their name.
        path: String,
        /// Where the first is.
        first: String,
        /// Where the second is.
        second: String,
    },
    /// A key is in use by a run with other parameters or another logical date.
    #[error(
        "flow `{flow}` has a run with the key `{key}` ({run}) and {recorded}; got {asked}: use another key"
    )]
    KeyTaken {
        /// The flow's name.
        flow: String,
        /// The key.
        key: String,
        /// The run that has the key.
        run: RunId,
        /// The parameters of that run as JSON, or its logical date.
        recorded: String,
        /// The requested parameters or logical date.
        asked: String,
    },
    /// This binary does not have a flow with this name.
    #[error("no flow `{name}` in this binary (it has {known}): {}", remedy(similar.as_deref()))]
    UnknownFlow {
        /// The name.
        name: String,
        /// The flows of this binary.
        known: String,
        /// A flow with a similar name.
        similar: Option<String>,
    },
    /// A run does not have a task with this key.
    #[error("run {run} has no task `{task}` (it has {known})")]
    UnknownTask {
        /// The run.
        run: RunId,
        /// The requested key.
        task: String,
        /// The first of the run's keys.
        known: String,
    },
    /// The parameters of a flow are invalid.
    #[error("flow `{flow}`: {problem}")]
    Parameters {
        /// The flow's name.
        flow: String,
        /// The parameter that is missing, unknown or of another type.
        problem: String,
    },
    /// The schedule of a flow is invalid.
    #[error("invalid schedule of flow `{flow}`: {problem}")]
    Schedule {
        /// The flow's name.
        flow: String,
        /// The problem of the schedule.
        problem: String,
    },
    /// The process is shutting down, and the run is unfinished. It continues when its flow is
    /// served again, when [`Runtime::resume`](crate::Runtime::resume) is called, or when its key is
    /// requested again.
    #[error(
        "the process is shutting down: run {run} of flow `{flow}` is unfinished; continue it with `Runtime::resume`"
    )]
    Stopped {
        /// The flow's name.
        flow: String,
        /// The run.
        run: RunId,
    },
    /// The runtime was stopped.
    #[error("the runtime was stopped: it accepts no more runs")]
    Closed,
    /// Options of a runtime or of a run do not fit together.
    #[error("{0}")]
    Options(String),
    /// The store does not have this run.
    #[error("there is no run {run} in this store")]
    UnknownRun {
        /// The requested id.
        run: RunId,
    },
    /// A run cannot be re-run.
    #[error(transparent)]
    Rerun(#[from] RerunError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no tokio runtime to run on.
    #[error("a flow runs on tokio: call this inside `#[tokio::main]` or `Runtime::block_on`")]
    NoTokio,
}

/// Returns one problem as it is, and several each on a line of its own.
fn in_lines(problems: &[String]) -> String {
    match problems {
        [problem] => problem.clone(),
        problems => problems
            .iter()
            .map(|problem| format!("\n- {problem}"))
            .collect(),
    }
}

/// Returns the advice for an unknown flow.
fn remedy(similar: Option<&str>) -> String {
    match similar {
        Some(similar) => format!("did you mean `{similar}`?"),
        None => "link the crate that has it with `use the_crate as _;`".to_owned(),
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
