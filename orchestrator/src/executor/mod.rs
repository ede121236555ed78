//! Executes runs: the bodies of their flows are polled, their ready work is taken by lanes, each
//! task in attempts, and what happens is recorded.
//!
//! What is called from outside: [`start`] conducts a run to its end, new or recorded; [`alone`] runs
//! a task without a run. [`host`] is what runs share. [`run`] is an active run: its plan, behind one
//! lock that is held by at most one thread, and never across an await. [`conductor`] polls the
//! bodies of its flows, and handles deadlines, cancellation and the end. [`lane`] takes ready work
//! and executes it, each attempt in the steps of [`attempt`].
//!
//! No public method lives here: they are in [`runtime`](crate::runtime).

pub(crate) mod active;
mod admission;
pub(crate) mod alone;
pub(crate) mod ambient;
mod attempt;
mod cache_key;
pub(crate) mod conductor;
mod flight;
mod hold;
mod host;
mod lane;
pub(crate) mod live;
mod notice;
mod requirements;
pub(crate) mod run;
mod slots;
pub(crate) mod start;
pub(crate) mod trace;

pub(crate) use admission::Admission;
pub(crate) use attempt::{Environment, Mock};
pub(crate) use conductor::Finished;
pub(crate) use host::{Host, Retention, Services};
pub(crate) use slots::Limits;
pub(crate) use start::StartedRun;
