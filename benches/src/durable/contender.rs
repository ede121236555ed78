//! What runs a shape on a file.

use std::{fmt, future::Future, path::PathBuf, pin::Pin, time::Duration};

use super::{own, raw};
use crate::Shape;

/// Something that keeps what it runs in a file of SQLite.
#[derive(Clone, Copy)]
pub struct Contender {
    /// The name in the table.
    pub name: &'static str,
    /// Whether it runs a shape.
    pub runs: fn(Shape) -> bool,
    /// Makes a new file, in a folder that is there, and is ready for passes over the shape.
    pub open: fn(Shape, PathBuf) -> Open,
}

/// Getting ready, which is not measured.
pub type Open = Pin<Box<dyn Future<Output = Box<dyn Passes>> + Send>>;

/// One pass, with the time that it took by its own clock.
pub type Pass<'a> = Pin<Box<dyn Future<Output = Duration> + Send + 'a>>;

/// Passes over one shape, on one file.
pub trait Passes: Send {
    /// Runs the shape once, and looks at its result.
    fn pass(&mut self) -> Pass<'_>;
}

impl fmt::Debug for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contender")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Those of this crate: the library, and rusqlite alone.
pub fn contenders() -> Vec<Contender> {
    vec![raw::CONTENDER, own::CONTENDER]
}
