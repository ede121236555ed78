//! Runs by the clock: schedules that are served, and backfills.
//!
//! [`serve`] says what is served; [`server`] recovers what other processes left, and then sleeps until the next tick of
//! all its schedules ([`ticker`], which is pure). What is due goes to its flow ([`served`]), which decides what becomes of
//! it ([`missed`], pure, too) and makes the runs: each flow by itself, so that none waits for another. [`backfill`] makes the
//! runs of the past.
//!
//! That a tick has at most one run is the store's word (a UNIQUE constraint), not anybody's memory: any number of
//! processes serve the same flows, and each tries to make each run. How far a schedule has come is recorded after its
//! run: a process that dies in between tries once more.

mod backfill;
mod missed;
mod serve;
mod served;
mod server;
mod ticker;

pub use backfill::{Backfill, BackfillPlan, BackfillTick, Backfilled, Reprocess, TickAction};
pub use serve::{Serve, serve};
