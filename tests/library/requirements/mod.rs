//! What tasks need from outside: connections, variables and secrets, by name.

mod clients;
mod commands;
mod masks;
mod names;
mod vaults;

use chrono::{DateTime, TimeDelta, Utc};
use orchestrator::{Clock, RuntimeBuilder};

/// A runtime whose time is tokio's.
pub(crate) fn builder() -> RuntimeBuilder {
    crate::support::builder().clock(Clock::tokio_from_now())
}

/// The instant after a time of the runtime.
pub(crate) fn in_seconds(runtime: &orchestrator::Runtime, seconds: i64) -> DateTime<Utc> {
    runtime.now() + TimeDelta::seconds(seconds)
}
