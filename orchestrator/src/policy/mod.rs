//! What to do, as functions without effects: when to try again, when a task runs.

pub(crate) mod retry;
pub(crate) mod trigger;
