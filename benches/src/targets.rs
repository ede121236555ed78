//! What the library is to reach, beside what it reached.

use crate::measure::Measured;
use crate::{Shape, counter, flow, spawn};

/// What the crate of the peers calls it.
const DAGX: &str = "dagx";

/// One line: what is asked for, the most that is allowed, and what came: by the medians, and by the
/// fastest passes. A busy machine slows some contenders more than others, mostly those that go from
/// thread to thread; the fastest passes know nothing of that, so a target is reached where both say
/// so.
pub(crate) struct Target {
    pub(crate) text: String,
    pub(crate) most: f64,
    pub(crate) median: f64,
    pub(crate) fastest: f64,
}

/// Prints every target for which there are figures. Nothing depends on whether it is reached.
pub(crate) fn print(measured: &[Measured]) {
    print_all(
        measured
            .iter()
            .flat_map(of)
            .chain(linear(measured))
            .collect(),
    );
}

/// Prints targets.
pub(crate) fn print_all(targets: Vec<Target>) {
    if targets.is_empty() {
        return;
    }
    println!("\n| target | at most | median | fastest | |");
    println!("| --- | ---: | ---: | ---: | --- |");
    for Target {
        text,
        most,
        median,
        fastest,
    } in targets
    {
        let verdict = match (median <= most, fastest <= most) {
            (true, true) => "reached",
            (false, false) => "missed",
            _ => "unsure",
        };
        // a hundredth is too coarse for a small part
        let digits = if most < 0.2 { 4 } else { 2 };
        println!("| {text} | {most} | {median:.digits$} | {fastest:.digits$} | {verdict} |");
    }
}

fn of(measured: &Measured) -> Vec<Target> {
    let shape = measured.shape;
    let Some(own) = measured.of(flow::NAME) else {
        return Vec::new();
    };
    let beside = |name, most: f64| {
        let other = measured.of(name)?;
        let text = format!("{shape}: time ÷ that of {name}");
        Some(Target {
            text,
            most,
            median: own.micros.ratio(&other.micros),
            fastest: own.micros.fastest() / other.micros.fastest(),
        })
    };
    let targets = match shape {
        Shape::Chain(_) => vec![beside(spawn::NAME, 1.0)],
        Shape::FanOut(_) => vec![beside(counter::NAME, 2.0), beside(DAGX, 1.0)],
        Shape::Layers(_) => vec![beside(counter::NAME, 2.0), beside(DAGX, 0.33)],
        Shape::Mapped(1_000_000) => {
            let text = format!("{shape}: bytes a task");
            let bytes = Target {
                text,
                most: 120.0,
                median: own.bytes,
                fastest: own.bytes,
            };
            vec![beside(counter::NAME, 1.3), Some(bytes)]
        }
        Shape::Mapped(_) => Vec::new(),
    };
    targets.into_iter().flatten().collect()
}

/// Linear: an element of a million takes as long as one of ten thousand. A fifth more is let pass,
/// as what outgrows the processor's caches is slower for anybody.
fn linear(measured: &[Measured]) -> Option<Target> {
    let of_width = |width| {
        let of_width = measured
            .iter()
            .find(|measured| measured.shape == Shape::Mapped(width))?;
        Some(&of_width.of(flow::NAME)?.micros)
    };
    let (few, many) = (of_width(10_000)?, of_width(1_000_000)?);
    Some(Target {
        text: "mapped: an element of 1000000 ÷ one of 10000".to_owned(),
        most: 1.2,
        median: many.median() / few.median(),
        fastest: many.fastest() / few.fastest(),
    })
}
