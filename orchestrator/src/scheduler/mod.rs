//! Runs by the clock: served schedules and backfills.
//!
//! [`serve`] is the public interface. [`server`] resumes runs that other processes left, puts the
//! served deployments in force, and then sleeps until the next tick of all of them ([`ticker`], which
//! is pure). Due ticks go to their deployment ([`deployment_queue`]), which decides which of them get
//! a run ([`decide`](crate::deployment::decide), also pure) and creates the runs. Each deployment works
//! independently, so that none waits for another. [`backfill`] creates the runs of the past.
//!
//! A UNIQUE constraint of the store guarantees at most one run per tick: any number of processes
//! serve the same flows, and each tries to create each run. The progress of a deployment is recorded
//! after the run is created: if a process dies in between, the tick is tried again and finds its
//! run. In the opposite order, the tick would be lost.

mod backfill;
mod deployment_queue;
mod serve;
mod server;
mod ticker;

pub use backfill::{Backfill, BackfillPlan, BackfillTick, Backfilled, Reprocess, TickAction};
pub use serve::{Serve, serve};
#[cfg(feature = "cli")]
pub(crate) use server::prepare;
