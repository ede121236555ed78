//! What the library is to reach on a file.

use super::raw;
use super::rounds::Measured;
use crate::targets::Target;
use crate::{Shape, flow};

/// What the crate of the peers calls it.
const DURARE: &str = "durare";

/// Of what was measured in rounds, every target for which there are figures.
pub(super) fn of(measured: &[Measured]) -> Vec<Target> {
    measured
        .iter()
        .flat_map(of_shape)
        .chain(linear(measured))
        .collect()
}

fn of_shape(measured: &Measured) -> Vec<Target> {
    let shape = measured.shape;
    let Some(own) = measured.of(flow::NAME) else {
        return Vec::new();
    };
    let beside = |name, most: f64| {
        let other = measured.of(name)?;
        let text = format!("durable {shape}: time ÷ that of {name}");
        Some(Target {
            text,
            most,
            median: own.ratio(other),
            fastest: own.fastest() / other.fastest(),
        })
    };
    let micros = || {
        let text = format!("durable {shape}: µs a task");
        Some(Target {
            text,
            most: 5.0,
            median: own.median(),
            fastest: own.fastest(),
        })
    };
    let targets = match shape {
        Shape::Chain(_) => vec![beside(raw::NAME, 1.5), beside(DURARE, 0.1)],
        // thirty times as fast
        Shape::FanOut(_) => vec![micros(), beside(DURARE, 0.033)],
        _ => Vec::new(),
    };
    targets.into_iter().flatten().collect()
}

/// Linear: an element of a hundred thousand takes as long as one of a thousand.
fn linear(measured: &[Measured]) -> Option<Target> {
    let of_width = |width| {
        measured
            .iter()
            .find(|measured| measured.shape == Shape::Mapped(width))?
            .of(flow::NAME)
    };
    let (few, many) = (of_width(1_000)?, of_width(100_000)?);
    Some(Target {
        text: "durable mapped: an element of 100000 ÷ one of 1000".to_owned(),
        most: 1.2,
        median: many.median() / few.median(),
        fastest: many.fastest() / few.fastest(),
    })
}
