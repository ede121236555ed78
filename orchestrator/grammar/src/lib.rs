//! The grammars that [`orchestrator`](https://docs.rs/orchestrator) and its macros share, so that
//! attributes accept at compile time exactly what the library accepts at run time.
//!
//! Use `orchestrator`, which re-exports the public part of this crate. The rest is not covered by
//! semantic versioning.
//!
//! | module | contents |
//! | --- | --- |
//! | [`bounds`] | the maximum lengths of names and tags |
//! | [`cron`] | crontab expressions: their grammar, and the times that they match |
//! | [`duration`] | durations as text: `1h30m` |
//! | [`names`] | the names of connections, variables and secrets |
//! | [`options`] | the table of the options of a task: [`task_options!`] |
//! | [`similar`] | the known word that is nearest to an unknown one |
//! | [`trigger`] | trigger rules |

pub mod bounds;
pub mod cron;
pub mod duration;
pub mod names;
pub mod options;
pub mod similar;
pub mod trigger;
