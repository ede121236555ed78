//! Executes runs: the bodies of their flows are polled, their ready work is taken by lanes, each
//! task in attempts, and what happens is recorded.
//!
//! | file | what is there |
//! | --- | --- |
//! | [`host`] | what all runs of a runtime share, by its users |
//! | [`admission`], [`slots`], [`flight`] | which runs and bodies may execute; which results are being computed |
//! | [`active`] | the runs that are executed, and the shutdown signal |
//! | [`start`], [`alone`] | starts runs, new or recorded; runs a task without a run |
//! | [`run`], [`live`] | an active run: what never changes of it, and its plan behind a lock |
//! | [`conductor`] | polls the bodies of its flows; deadlines, cancellation, subflows, the end |
//! | [`lane`] | takes ready work and executes it |
//! | [`attempt`] | one attempt, without a plan, a store or a run |
//! | [`hold`] | keeps a run with this process until nothing of it is running |
//! | [`ambient`] | the context in which bodies run |
//! | [`requirements`] | what tasks and flows require of the runtime |
//! | [`clients`] | names looked up, and the clients that connections become |
//! | [`cache_key`] | the keys of cached results |
//! | [`notice`], [`trace`] | what a run tells: log lines, events, spans |
//!
//! Locks are taken in this order: the plan of a run ([`live`]), then the flights, the threads of a
//! hold, or the writer's queue of the store. The registry of runs and that of pulses are taken
//! alone.
//!
//! No public method lives here: they are in [`runtime`](crate::runtime).

pub(crate) mod active;
mod admission;
pub(crate) mod alone;
pub(crate) mod ambient;
mod attempt;
mod cache_key;
pub(crate) mod clients;
pub(crate) mod conductor;
mod flight;
mod hold;
mod host;
mod lane;
pub(crate) mod live;
mod notice;
pub(crate) mod requirements;
pub(crate) mod run;
mod slots;
pub(crate) mod start;
pub(crate) mod trace;

pub(crate) use admission::Admission;
pub(crate) use attempt::{Environment, Mock};
pub(crate) use conductor::FinishedRun;
pub(crate) use host::{Host, Retention, Services};
pub(crate) use slots::Limits;
pub(crate) use start::StartedRun;
