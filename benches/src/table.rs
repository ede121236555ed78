//! The table.

use crate::measure::{Figures, Measured};
use crate::{counter, spawn};

/// Medians, and beside them the fastest pass: where the two are far apart, the machine was busy
/// with something else.
pub(crate) fn print(measured: &[Measured]) {
    println!(
        "| shape | contender | µs a task | fastest | × counter | × spawn | bytes a task | passes |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for of_shape in measured {
        for own in &of_shape.figures {
            println!(
                "| {} | {} | {:.3} | {:.3} | {} | {} | {:.0} | {} |",
                of_shape.shape,
                own.contender,
                own.micros.median(),
                own.micros.fastest(),
                beside(own, of_shape.of(counter::NAME)),
                beside(own, of_shape.of(spawn::NAME)),
                own.bytes,
                own.micros.0.len(),
            );
        }
    }
}

fn beside(own: &Figures, other: Option<&Figures>) -> String {
    other.map_or_else(
        || "–".to_owned(),
        |other| format!("{:.2}", own.micros.ratio(&other.micros)),
    )
}
