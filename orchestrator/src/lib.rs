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
//! | re-run | a new execution of a finished run, or of a part of it, as new attempts: [`Runtime::rerun`] |
//! | log | the `tracing` events of tasks and runs, line by line: [`Runtime::logs`], [`init_logs`] |
//! | logical date | the instant that a run is for: [`Context::logical_date`] |
//! | interval | the span of time that a run is for: [`Context::interval`] |
//! | outcome | the final result of a task: [`Outcome`] |
//! | pool | a named number of slots that tasks share: [`RuntimeBuilder::pool`] |
//! | connection, variable, secret | what a task takes from outside, by name: [connections, variables and secrets](#connections-variables-and-secrets) |
//! | resource | a shared object that tasks use but do not pass on, such as a connection pool: [`RuntimeBuilder::resource`] |
//! | deployment | a flow as it is served: its unnamed schedules together, or those under a name: [`Serve`], [`Deployment`] |
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
//! A final state does not change, unless the run is re-run ([`Runtime::rerun`]): the run and the
//! selected tasks are then pending again.
//!
//! A run fails ([`RunState::Failed`]) if a failure in it was not handled. A failed task is handled
//! if each task that takes its result takes it as an [`Outcome`] and succeeded, if a flow's body
//! awaited it, or if it was marked [`allow_failure`](Node::allow_failure).
//!
//! # Features
//!
//! | feature | description |
//! | --- | --- |
//! | `sqlite` (default) | durable runs, in a file |
//! | `object-store` | large results in a bucket |
//! | `postgres` | the client [`Postgres`], a pool of connections |
//! | `s3` | the client [`S3`], for buckets |
//! | `http` | the client [`Http`] |
//! | `cron` | schedules of the crate `cron` |
//! | `vault` | connections and secrets in the store, encrypted |
//! | `cli` | a command line for a program with flows: `cli()` |
//!
#![doc = include_str!("docs/names.md")]
#![doc = include_str!("docs/bounds.md")]
#![cfg_attr(
    not(feature = "sqlite"),
    allow(dead_code, reason = "used only by durable stores")
)]
#![doc(test(attr(deny(warnings), allow(dead_code))))]

// words
mod bounds;
mod clock;
mod connection;
mod duration;
mod entry;
mod error;
mod event;
mod excerpt;
mod executor;
#[cfg(feature = "failpoints")]
mod failpoint;
#[cfg(not(feature = "failpoints"))]
#[path = "no_failpoint.rs"]
mod failpoint;
mod id;
mod index;
mod log;
mod mask;
mod panic;
mod secret;
mod state;
mod value;
// definitions
mod definition;
mod scope;
// handles
mod flow;
mod task;
// pure
mod deployment;
mod graph;
mod journal;
mod plan;
mod policy;
mod schedule;
// storage
#[cfg(feature = "sqlite")]
mod blob;
mod capture;
mod store;
mod vault;
// execution
mod runtime;
mod scheduler;
// clients
mod services;
// presentation
#[cfg(feature = "cli")]
mod cli;
mod why;

pub use capture::{init_logs, log_layer};
#[cfg(feature = "cli")]
pub use cli::{Cli, cli};
pub use clock::Clock;
pub use connection::{Connection, ConnectionError};
pub use duration::{DurationError, IntoDuration};
pub use entry::EntryKind;
pub use error::{
    BlobError, BoxError, Error, GraphError, IntoTaskError, RerunError, Result, StoreError,
    TaskError, fatal, reconnect, retry_after, skip,
};
pub use event::{Event, Events};
pub use flow::registry::flows;
pub use flow::{Flow, FlowDef, FlowReturn, Missed, Overlap, ScheduleDef};
pub use graph::{Graph, GraphEdge, GraphNode};
pub use id::{ParseRunIdError, RunId};
pub use journal::{
    AttemptRecord, CacheMiss, RerunRecord, RunFilter, RunRecord, RunSummary, TaskRun, Tasks,
};
pub use log::{LogLevel, LogLine};
pub use orchestrator_macros::{cron, flow, task};
pub use runtime::{
    Deployment, EntryInfo, MockFn, MockReturn, RerunHandle, Resealed, Run, RunHandle, RunTrigger,
    Runtime, RuntimeBuilder, Stopped, TaskFn, Unpause,
};
pub use schedule::{
    Cron, CronError, CronField, Exceptions, Fires, IntoExceptions, IntoSchedule, PastFires,
    Schedule, ScheduleError, Timetable,
};
pub use scheduler::{
    Backfill, BackfillPlan, BackfillTick, Backfilled, Reprocess, Serve, TickAction, serve,
};
pub use secret::Secret;
#[cfg(feature = "postgres")]
pub use services::Postgres;
#[cfg(feature = "s3")]
pub use services::S3;
#[cfg(feature = "http")]
pub use services::{Http, StatusError, error_for_status};
pub use state::{Rerun, RunKind, RunState, TaskState};
pub use store::{CacheEntry, CacheFilter, Pruned, StoreCheck};
pub use task::{
    Connect, Context, Delay, Element, Gathered, Input, Interval, IntoInput, IntoList, List, Mapped,
    Mapping, Node, Outcome, Parameter, ParseTriggerError, Pool, Resource, TaskOptions, Trigger,
    Upstream, expand, gather,
};
pub use value::Data;
pub use vault::{Vault, VaultEntry};
pub use why::{Reason, ReasonKind, Why};

/// The crate that [`Postgres`] is made of. `deadpool_postgres::tokio_postgres` has rows and types.
#[cfg(feature = "postgres")]
pub use deadpool_postgres;
/// The crate that [`S3`] is made of.
#[cfg(feature = "s3")]
pub use object_store;
/// The crate that [`Http`] is made of.
///
/// The features `http` and `s3` enable its TLS without choosing a cryptography for the program. A client that
/// is built otherwise, as by `reqwest::Client::new()`, panics unless the program has one: by a feature of
/// its own dependency on reqwest (`rustls`, which is a default), or by
/// `rustls::crypto::ring::default_provider().install_default()`. [`Http::client`] needs neither.
#[cfg(feature = "http")]
pub use reqwest;

/// The imports that a file of tasks and flows needs: `use orchestrator::prelude::*;`.
pub mod prelude {
    pub use crate::{
        BoxError, Context, Error, Event, Flow, Interval, Mapped, Node, Outcome, Result, Run,
        RunState, Runtime, Schedule, TaskError, TaskState, Trigger, cron, expand, fatal, flow,
        gather, reconnect, retry_after, skip, task,
    };
}

/// Items that the expansions of the macros use. Not covered by semantic versioning.
#[doc(hidden)]
pub mod __private {
    pub use inventory;

    pub use crate::flow::{
        CallParameters, FlowBody, FlowDef, FlowEntry, FlowFunction, FlowReturn, Function, Missed,
        Overlap, Parameters, ScheduleDef, flow,
    };
    pub use crate::task::AnyHandle;
    pub use crate::task::{
        BlockingBody, BodyFuture, BorrowedInput, CacheDef, Call, ClientDef, Context, Delay, Input,
        IntoInput, KeyFn, Mapped, Node, NotData, Parameter, ParseVariable, Pool, Requirement,
        RequirementKind, Resource, Results, TaskBody, TaskCode, TaskDef, TaskEntry, TaskOptions,
        Trigger, VariableValue, parse_variable,
    };
    pub use crate::value::{
        Comparable, Data, JsonConversion, JsonFn, NoJsonConversion, NotComparable,
        ResultComparison, SameFn, Value,
    };
    pub use crate::{EntryKind, Flow, IntoTaskError, Secret, TaskError};

    /// Creates the schedule of an expression that was parsed at compile time.
    pub const fn cron(parts: [u64; 8], stars: u8) -> crate::Schedule {
        crate::Schedule::of(crate::Cron::from_parts(parts, stars))
    }

    /// Wraps the result of an infallible body.
    pub fn success<T: Data>(value: T) -> Result<Value, TaskError> {
        Ok(Value::new(value))
    }

    /// Wraps the result of a fallible body.
    pub fn fallible<T: Data, E: IntoTaskError>(result: Result<T, E>) -> Result<Value, TaskError> {
        result
            .map(Value::new)
            .map_err(IntoTaskError::into_task_error)
    }

    /// Stands in for a value of type `T`, in closures that are only type-checked and never called.
    pub fn any<T>() -> T {
        unreachable!("it is there for its type")
    }

    /// Stands in for the input itself.
    pub fn any_of<T>(_: &BorrowedInput<T>) -> T {
        any()
    }

    /// Returns the compiler's name for the type of a closure: its path, including the enclosing
    /// functions.
    pub const fn path_of<F>(_: &F) -> fn() -> &'static str {
        std::any::type_name::<F>
    }

    /// Hashes the return value of a task's `cache_key` function, which replaces the inputs in the
    /// key.
    ///
    /// # Errors
    ///
    /// Returns the error of the value's `Serialize` implementation.
    pub fn cache_key<T: serde::Serialize + ?Sized>(value: &T) -> Result<[u8; 32], String> {
        let mut hasher = blake3::Hasher::new();
        crate::value::feed(&mut hasher, value, false).map_err(|error| error.to_string())?;
        Ok(hasher.finalize().into())
    }

    /// The return value of a body that looks infallible. If it is a `Result` after all, behind an
    /// alias, the inherent method `plain` is the one that is resolved.
    #[derive(Debug)]
    pub struct PlainReturn<T>(pub T);

    impl<T, E> PlainReturn<Result<T, E>> {
        /// Fails to compile, by a bound that no type meets.
        pub fn plain(self)
        where
            Self: NotAnAlias,
        {
        }
    }

    /// Implemented by no type: it exists for its error message.
    #[diagnostic::on_unimplemented(
        message = "this type is an alias of a `Result`",
        label = "expected `Result` itself",
        note = "the macro recognizes fallible tasks by the name `Result`: write `Result<T>` instead of the alias"
    )]
    pub trait NotAnAlias {}

    /// Provides `plain` if `PlainReturn` has no inherent method of that name.
    pub trait NotResult<T> {
        /// Returns the value.
        fn plain(self) -> T;
    }

    impl<T> NotResult<T> for PlainReturn<T> {
        fn plain(self) -> T {
            self.0
        }
    }
}
