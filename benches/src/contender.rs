//! What runs a shape.

use std::{fmt, pin::Pin};

use crate::{Shape, counter, flow, spawn};

/// One pass: the future that is timed from its first poll until it gives the last task's value.
///
/// What it owns is dropped by the time it is done, so that cleaning up counts, too.
pub type Run = Pin<Box<dyn Future<Output = u64> + Send>>;

/// Something that runs shapes.
#[derive(Clone, Copy)]
pub struct Contender {
    /// The name in the table.
    pub name: &'static str,
    /// Makes a pass ready. The graph itself is built inside the pass.
    pub run: fn(Shape) -> Run,
}

impl fmt::Debug for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contender")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Those of this crate: hand-written tokio, twice, and the library.
pub fn contenders() -> Vec<Contender> {
    vec![spawn::CONTENDER, counter::CONTENDER, flow::CONTENDER]
}
