//! Errors.
//!
//! Bodies fail with any error; what the runtime makes of it is a [`TaskError`]. The library's own functions return
//! [`Error`].

mod blob;
mod graph;
mod rerun;
mod store;
mod task;

pub use blob::BlobError;
pub use graph::GraphError;
pub use rerun::RerunError;
pub use store::StoreError;
pub(crate) use task::{Cause, Panicked};
pub use task::{IntoTaskError, TaskError, fatal, retry_after, skip};

use std::fmt;

use crate::id::RunId;

/// Any error, boxed.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A result whose error may be anything: what bodies of tasks and flows return where they have no error of their own.
pub type Result<T, E = BoxError> = std::result::Result<T, E>;

/// What the library's own functions fail with. Its `Debug` is its text: that is what a `main` prints that returns it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The graph that a flow describes is refused.
    #[error("flow `{flow}`: {source}")]
    Graph {
        /// The flow's name.
        flow: String,
        /// What is wrong with the graph.
        source: GraphError,
    },
    /// The flow's body failed before a run existed.
    #[error("flow `{flow}`: {error}")]
    Body {
        /// The flow's name.
        flow: String,
        /// What the body failed with.
        error: TaskError,
    },
    /// A task needs a resource that the runtime does not have.
    #[error(
        "task `{task}` takes the resource `{resource}: {type_name}`, and the runtime has none: \
         give it one with `Runtime::builder().resource(…)`"
    )]
    MissingResource {
        /// The task's name.
        task: String,
        /// The parameter's name.
        resource: &'static str,
        /// The type that was asked for, as the task spells it.
        type_name: &'static str,
    },
    /// A task names a pool that the runtime does not have, or asks for more slots than the pool has.
    #[error("task `{task}` takes {slots} slot(s) of the pool `{pool}`, {problem}")]
    Pool {
        /// The task's name.
        task: String,
        /// The pool's name.
        pool: String,
        /// How many slots the task takes.
        slots: u32,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// Two flows of this binary have one name.
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
    /// A key was asked for again, with other parameters, or for another instant.
    #[error(
        "flow `{flow}` has a run with the key `{key}` ({run}) and {recorded}; asked for were {asked}: use another key"
    )]
    KeyTaken {
        /// The flow's name.
        flow: String,
        /// The key.
        key: String,
        /// The run that has the key.
        run: RunId,
        /// What that run has: its parameters as JSON, or its logical date.
        recorded: String,
        /// What was asked for instead.
        asked: String,
    },
    /// There is no flow of a name in this binary.
    #[error("no flow `{name}` in this binary (it has {known}): {}", remedy(similar.as_deref()))]
    UnknownFlow {
        /// The name.
        name: String,
        /// The flows that there are.
        known: String,
        /// One that is named much like it.
        similar: Option<String>,
    },
    /// A run has no task of a key.
    #[error("run {run} has no task `{task}` (it has {known})")]
    UnknownTask {
        /// The run.
        run: RunId,
        /// The key that was asked for.
        task: String,
        /// The keys that there are: the first of them.
        known: String,
    },
    /// A flow's parameters are refused.
    #[error("flow `{flow}`: {problem}")]
    Parameters {
        /// The flow's name.
        flow: String,
        /// The parameter that is missing, unknown or of another type.
        problem: String,
    },
    /// A flow's schedule is refused.
    #[error("flow `{flow}`: its schedule: {problem}")]
    Schedule {
        /// The flow's name.
        flow: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The process stops, and the run is not final: it goes on where it is when its flow is served again, when
    /// [`Runtime::resume`](crate::Runtime::resume) is called, or when its key is asked for again.
    #[error(
        "the process stops: run {run} of flow `{flow}` is not done, and goes on with `Runtime::resume`"
    )]
    Stopped {
        /// The flow's name.
        flow: String,
        /// The run.
        run: RunId,
    },
    /// The runtime was stopped.
    #[error("the runtime was stopped: nothing can be started on it any more")]
    Closed,
    /// Options of a runtime or of a run do not fit together.
    #[error("{0}")]
    Options(String),
    /// There is no such run.
    #[error("there is no run {run} in this store")]
    UnknownRun {
        /// The id that was asked for.
        run: RunId,
    },
    /// A run is not run again.
    #[error(transparent)]
    Rerun(#[from] RerunError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no tokio runtime to run on.
    #[error("a flow runs on tokio: call this inside `#[tokio::main]` or `Runtime::block_on`")]
    NoTokio,
}

/// What to do where a flow is not known.
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
