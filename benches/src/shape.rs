//! The graphs that are run.

use std::fmt;

/// A graph of tasks over `u64`.
///
/// Every task gives [`work`] of what it takes, and one last task takes what nothing else does, so a
/// run is over when that one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Each task takes the one before.
    Chain(usize),
    /// A source, so many tasks that take it, and one that takes them all.
    FanOut(usize),
    /// Square layers, each task taking three of the layer before; one task takes the last layer.
    Layers(usize),
    /// A list of so many elements, a task for each that takes the element, and one that takes them
    /// all. What does not map runs it as a fan-out that hands each task its place in the list.
    Mapped(usize),
}

/// What every task does: one more than the sum of what it takes.
#[inline]
pub fn work(inputs: impl IntoIterator<Item = u64>) -> u64 {
    inputs.into_iter().fold(1, u64::wrapping_add)
}

impl Shape {
    /// What a comparison measures.
    pub const MEASURED: [Self; 6] = [
        Self::Chain(1_000),
        Self::FanOut(10_000),
        Self::Layers(100),
        Self::Mapped(10_000),
        Self::Mapped(100_000),
        Self::Mapped(1_000_000),
    ];

    /// The same shapes, small: for a look at the results alone.
    pub const SMALL: [Self; 4] = [
        Self::Chain(10),
        Self::FanOut(20),
        Self::Layers(10),
        Self::Mapped(30),
    ];

    /// How many tasks it has.
    pub fn tasks(self) -> usize {
        match self {
            Self::Chain(length) => length,
            Self::FanOut(width) | Self::Mapped(width) => width + 2,
            Self::Layers(width) => width * width + 1,
        }
    }

    /// What the last task gives.
    pub fn expected(self) -> u64 {
        match self {
            Self::Chain(length) => length as u64,
            Self::FanOut(width) => 1 + 2 * width as u64,
            Self::Layers(width) => {
                let mut layer = vec![work([]); width];
                for _ in 1..width {
                    layer = (0..width)
                        .map(|place| work(Self::above(place, width).map(|above| layer[above])))
                        .collect();
                }
                work(layer)
            }
            // Elements count from 0, and each task adds one.
            Self::Mapped(width) => 1 + (width as u64 * (width as u64 + 1)) / 2,
        }
    }

    /// The places in the layer before that a task of [`Shape::Layers`] takes.
    pub fn above(place: usize, width: usize) -> [usize; 3] {
        [place, (place + 1) % width, (place + 7) % width]
    }

    /// As adjacency lists: for each task those that it takes, all of which stand before it.
    pub fn takes(self) -> Vec<Vec<u32>> {
        let tasks = self.tasks();
        let mut takes = Vec::with_capacity(tasks);
        match self {
            Self::Chain(_) => takes
                .extend((0..tasks as u32).map(|task| task.checked_sub(1).into_iter().collect())),
            Self::FanOut(_) | Self::Mapped(_) => {
                takes.push(Vec::new());
                takes.extend((1..tasks - 1).map(|_| vec![0]));
                takes.push((1..tasks as u32 - 1).collect());
            }
            Self::Layers(width) => {
                takes.extend((0..width).map(|_| Vec::new()));
                for task in width..tasks - 1 {
                    let layer = (task / width - 1) * width;
                    takes.push(
                        Self::above(task % width, width)
                            .map(|above| (layer + above) as u32)
                            .to_vec(),
                    );
                }
                takes.push(((tasks - 1 - width) as u32..tasks as u32 - 1).collect());
            }
        }
        takes
    }

    /// Bytes that the list of a mapping's results takes: they are the user's, whoever runs the
    /// tasks.
    pub(crate) fn results(self) -> usize {
        match self {
            Self::Mapped(width) => width * size_of::<u64>(),
            _ => 0,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain(length) => write!(f, "chain {length}"),
            Self::FanOut(width) => write!(f, "fan-out {width}"),
            Self::Layers(width) => write!(f, "layers {width}x{width}"),
            Self::Mapped(width) => write!(f, "mapped {width}"),
        }
    }
}
