//! Workflows as ordinary Rust functions.
//!
//! ```
//! use orchestrator::prelude::*;
//!
//! #[task(retries = 3, retry_delay = "60s")]
//! async fn extract(day: u32) -> Result<Vec<u64>> {
//!     Ok(vec![1, 2, u64::from(day)])
//! }
//!
//! #[task]
//! async fn load(rows: &[u64]) -> u64 {
//!     rows.iter().sum()
//! }
//!
//! #[flow]
//! fn etl(day: u32) -> Node<u64> {
//!     load(extract(day)) // passing a node is the dependency; its type is checked here
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<()> {
//! assert_eq!(etl(28).on(&Runtime::in_memory()).await?, 31);
//! # Ok(())
//! # }
//! ```
//!
//! # Words
//!
//! | word | meaning |
//! | --- | --- |
//! | task | a function that does work: [`#[task]`](macro@task) |
//! | flow | a function that wires tasks: [`#[flow]`](macro@flow), [`Flow`] |
//! | node | one use of a task in a flow: [`Node`]; a mapped one: [`Mapped`] |
//! | key | a node's name in its flow: `extract`, `extract#2` for the second use, `process[7]` for an element, `report/load` in a flow in the flow |
//! | run | one execution of a flow: [`Run`], [`RunRecord`] |
//! | attempt | one try of one node in one run, numbered from 1 |
//! | re-run | a finished run, or a part of it, run again as new attempts: [`Runtime::rerun`] |
//! | log | what tasks and runs say by `tracing`, line by line: [`Runtime::logs`], [`init_logs`] |
//! | logical date | the instant that a run is for: [`Context::logical_date`] |
//! | interval | the span of time that a run is for: [`Context::interval`] |
//! | outcome | what became of a task: [`Outcome`] |
//! | pool | a named number of slots that tasks share: [`RuntimeBuilder::pool`] |
//! | resource | a thing that tasks use and that is no data: [`RuntimeBuilder::resource`] |
//! | runtime | store, clock, limits and resources together: [`Runtime`] |
//!
//! # States
//!
//! ```text
//!  Pending ──► Running ──► Success | Failed | Skipped | Cancelled
//!     │         │   ▲
//!     │         ▼   │
//!     │       Retrying ──► Cancelled
//!     └──► Skipped | UpstreamFailed | Cancelled
//! ```
//!
//! A final state is the last one, unless the run is run again ([`Runtime::rerun`]): then what is to run again is pending
//! once more, and so is the run.
//!
//! A run is red ([`RunState::Failed`]) when a failure in it was not handled. A failed task is handled where each task
//! that takes its result takes it as an [`Outcome`] and succeeded, where a flow's body awaited it, or where it was
//! marked [`allow_failure`](Node::allow_failure).
//!
//! # Features
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `sqlite` (default) | runs that outlive their process, in a file |
//! | `object-store` | large results in a bucket |
//! | `cli` | the command line of a program with flows: `cli()` |
#![cfg_attr(
    not(feature = "sqlite"),
    allow(dead_code, reason = "what stores use that outlive the process")
)]
#![doc(test(attr(deny(warnings), allow(dead_code))))]

// words
mod clock;
mod error;
mod event;
#[cfg(feature = "failpoints")]
mod failpoint;
#[cfg(not(feature = "failpoints"))]
#[path = "no_failpoint.rs"]
mod failpoint;
mod id;
mod log;
mod similar;
mod state;
mod value;
// definitions
mod flow;
mod task;
// pure
mod graph;
mod policy;
mod schedule;
// keeping
#[cfg(feature = "sqlite")]
mod blob;
mod capture;
mod store;
// running
mod runtime;
mod scheduler;
// showing
#[cfg(feature = "cli")]
mod cli;
mod why;

pub use capture::{init_logs, log_layer};
#[cfg(feature = "cli")]
pub use cli::{Cli, cli};
pub use clock::Clock;
pub use error::{
    BlobError, BoxError, Error, GraphError, IntoTaskError, RerunError, Result, StoreError,
    TaskError, fatal, retry_after, skip,
};
pub use event::{Event, Events};
pub use flow::registry::flows;
pub use flow::{Flow, FlowDef, FlowReturn, Missed, Overlap, ScheduleDef};
pub use graph::{Graph, GraphEdge, GraphNode};
pub use id::{ParseRunIdError, RunId};
pub use log::{LogLevel, LogLine};
pub use orchestrator_macros::{cron, flow, task};
pub use runtime::{
    MockFn, MockReturn, RerunHandle, Run, RunHandle, Runtime, RuntimeBuilder, Stopped, TaskFn,
};
pub use schedule::{
    Cron, CronError, CronField, Fires, IntoSchedule, PastFires, Schedule, ScheduleError,
};
pub use scheduler::{
    Backfill, BackfillPlan, BackfillTick, Backfilled, Reprocess, Serve, TickAction, serve,
};
pub use state::{Rerun, RunKind, RunState, TaskState};
pub use store::{
    AttemptRecord, CacheEntry, CacheFilter, CacheMiss, Pruned, RerunRecord, RunFilter, RunRecord,
    RunSummary, StoreCheck, TaskRun, Tasks,
};
pub use task::{
    Context, Delay, Element, Gathered, Input, Interval, IntoInput, IntoList, List, Mapped, Mapping,
    Node, Outcome, Parameter, ParseTriggerError, Pool, Resource, TaskOptions, Trigger, Upstream,
    expand, gather,
};
pub use value::Data;
pub use why::{Reason, ReasonKind, Why};

/// What a file of tasks and flows needs: `use orchestrator::prelude::*;`.
pub mod prelude {
    pub use crate::{
        BoxError, Context, Error, Event, Flow, Interval, Mapped, Node, Outcome, Result, Run,
        RunState, Runtime, Schedule, TaskError, TaskState, Trigger, cron, expand, fatal, flow,
        gather, retry_after, skip, task,
    };
}

/// What the macros' expansions call. Not covered by semantic versioning.
#[doc(hidden)]
pub mod __private {
    pub use inventory;

    pub use crate::flow::{
        FlowBody, FlowDef, FlowEntry, FlowFunction, FlowReturn, Function, Kept, Missed, Overlap,
        Parameters, ScheduleDef, flow,
    };
    pub use crate::task::AnyHandle;
    pub use crate::task::{
        BlockingBody, Body, BodyFuture, Borrowed, CacheDef, Call, Code, Context, Delay, Input,
        IntoInput, KeyFn, Mapped, Node, NotData, Parameter, Pool, Resource, Results, TaskDef,
        TaskEntry, TaskOptions, Trigger,
    };
    pub use crate::value::{Comparable, Data, NotComparable, Same, SameFn, Value};
    pub use crate::{Flow, IntoTaskError, TaskError};

    /// The schedule of an expression that the compiler has read.
    pub const fn cron(sets: [u64; 6], stars: u8) -> crate::Schedule {
        crate::Schedule::of(crate::Cron::from_parts(sets, stars))
    }

    /// The result of an infallible body.
    pub fn success<T: Data>(value: T) -> Result<Value, TaskError> {
        Ok(Value::new(value))
    }

    /// The result of a fallible body.
    pub fn fallible<T: Data, E: IntoTaskError>(result: Result<T, E>) -> Result<Value, TaskError> {
        result
            .map(Value::new)
            .map_err(IntoTaskError::into_task_error)
    }

    /// What the compiler takes for a value: in closures that nobody calls.
    pub fn any<T>() -> T {
        unreachable!("it is there for its type")
    }

    /// What the compiler takes for the input itself.
    pub fn any_of<T>(_: &Borrowed<T>) -> T {
        any()
    }

    /// The hash of what stands for the inputs of a task: what its `cache_key` function returned.
    ///
    /// # Errors
    ///
    /// What the value's `Serialize` says.
    pub fn cache_key<T: serde::Serialize + ?Sized>(value: &T) -> Result<[u8; 32], String> {
        let mut hasher = blake3::Hasher::new();
        crate::value::feed(&mut hasher, value, false).map_err(|error| error.to_string())?;
        Ok(hasher.finalize().into())
    }

    /// What a body returned that seemed to be infallible: its own method `plain` is the one that is found where it is a
    /// `Result` after all, behind an alias.
    #[derive(Debug)]
    pub struct Returned<T>(pub T);

    impl<T, E> Returned<Result<T, E>> {
        /// Refused, by a bound that nothing meets.
        pub fn plain(self)
        where
            Self: SeenToBeFallible,
        {
        }
    }

    /// Nothing implements this: it is there for its message.
    #[diagnostic::on_unimplemented(
        message = "this type is an alias of a `Result`",
        label = "expected `Result` itself",
        note = "whether a task can fail is read off the word: write `Result<T>` in place of the alias"
    )]
    pub trait SeenToBeFallible {}

    /// Found where `Returned` has no method of its own.
    pub trait NotResult<T> {
        /// The value.
        fn plain(self) -> T;
    }

    impl<T> NotResult<T> for Returned<T> {
        fn plain(self) -> T {
            self.0
        }
    }
}
