//! Policies as pure functions: when to retry, and when a task runs.

pub(crate) mod retry;
pub(crate) mod trigger;
