//! Deployments: a flow as it is served, with its schedules, its parameters, and how far its ticks
//! are decided.
//!
//! Pure: no store, no clock, no runtime. The schedules that are in force are on record, so that it
//! is known which ticks were missed, whatever a process serves later:
//!
//! ```text
//! DeploymentSpec ──put_in_force──► DeploymentRecord ──► Timeline ──► decide ──► which ticks get a run
//!   what a process serves            what is kept          segments of time, each with its schedules
//! ```
//!
//! A record is a list of segments: what was in force from when until when. The last one has no end
//! and is in force now. All ticks up to one instant (`decided`) are decided, so earlier segments are
//! forgotten. Each change of what is in force has a new version; a process creates runs of ticks
//! under the version that it read, and no others, so that of two processes with different schedules
//! only the one that began to serve last creates any.

mod key;
mod missed;
mod record;
#[cfg(test)]
pub(crate) mod samples;
mod timeline;

pub(crate) use key::{DeploymentKey, DeploymentVersion, name_fault};
pub(crate) use missed::{COUNTED, DroppedTicks, DueTicks, MOMENT, ON_TIME, decide};
pub(crate) use record::{DeploymentRecord, DeploymentSpec, SET_BACK};
pub(crate) use timeline::{Timeline, TimelineSegment};
