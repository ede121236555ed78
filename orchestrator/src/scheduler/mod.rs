//! Runs by the clock: served schedules and backfills.
//!
//! [`serve`] is the public interface. [`server`] resumes runs that other processes left and then
//! sleeps until the next tick of all schedules ([`ticker`], which is pure). Due ticks go to their
//! flow ([`flow_queue`]), which decides which of them get a run ([`missed`], also pure) and creates the
//! runs. Each flow works independently, so that no flow waits for another. [`backfill`] creates the
//! runs of the past.
//!
//! A UNIQUE constraint of the store guarantees at most one run per tick: any number of processes
//! serve the same flows, and each tries to create each run. The progress of a schedule is recorded
//! after the run is created: if a process dies in between, the tick is tried again and finds its
//! run. In the opposite order, the tick would be lost.

mod backfill;
mod flow_queue;
mod missed;
mod serve;
mod server;
mod ticker;

pub use backfill::{Backfill, BackfillPlan, BackfillTick, Backfilled, Reprocess, TickAction};
pub use serve::{Serve, serve};
