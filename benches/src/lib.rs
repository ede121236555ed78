//! What a task costs: the same graphs, with bodies that do next to nothing, run by hand-written
//! tokio code, by this library and, from the crate `benches-peers`, by other libraries; in memory,
//! and kept in a file of SQLite.
//!
//! - [`Shape`]: a graph to run, its size and the value that it must come to;
//! - [`Contender`]: something that runs a shape; [`contenders`] are those of this crate;
//! - [`compare`]: measures every contender on every shape and prints the table;
//! - [`durable`]: the same with runs that are kept;
//! - [`cached`]: what caching costs an element of a mapping;
//! - [`ticks`]: how late the ticks of ten thousand schedules are.
//!
//! Only ratios within one comparison mean something: the contenders take turns, round by round, in
//! one process.

pub mod cached;
mod compare;
mod contender;
mod counter;
pub mod durable;
mod flow;
mod measure;
mod memory;
mod shape;
mod spawn;
mod table;
mod targets;
pub mod ticks;

pub use compare::{check, compare};
pub use contender::{Contender, Run, contenders};
pub use shape::{Shape, work};
