//! Rounds over shapes.

use std::time::{Duration, Instant};

use super::{Contender, raw};
use crate::Shape;
use crate::measure::Times;

/// What is measured in rounds.
pub(super) const SHAPES: [Shape; 5] = [
    Shape::Chain(1_000),
    Shape::FanOut(1_000),
    Shape::FanOut(10_000),
    Shape::Mapped(1_000),
    Shape::Mapped(100_000),
];

/// After so long no new round begins, if there were [`FEWEST`].
const BUDGET: Duration = Duration::from_secs(90);
const FEWEST: usize = 5;
const MOST: usize = 12;

/// So many tasks, about, make up a contender's turn in a round.
const TURN: usize = 10_000;

/// Between passes: what one has left to be done, as a checkpoint, is not to be the cost of the
/// next.
const PAUSE: Duration = Duration::from_millis(10);

/// What the contenders needed for one shape.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) shape: Shape,
    pub(super) figures: Vec<(&'static str, Times)>,
}

impl Measured {
    /// Microseconds a task, a pass each.
    pub(super) fn of(&self, contender: &str) -> Option<&Times> {
        self.figures
            .iter()
            .find(|(name, _)| *name == contender)
            .map(|(_, times)| times)
    }
}

/// Measures all contenders on all shapes, in rounds in which each pair has its turn, on a new file.
/// As elsewhere, passes that are compared follow on each other, and the order of the contenders
/// turns.
pub(super) async fn measure(shapes: &[Shape], contenders: &[Contender]) -> Vec<Measured> {
    let runs = |shape: Shape| {
        contenders
            .iter()
            .filter(move |contender| (contender.runs)(shape))
    };
    let figures = |shape| {
        runs(shape)
            .map(|contender| (contender.name, Times::default()))
            .collect()
    };
    let mut measured: Vec<_> = shapes
        .iter()
        .map(|&shape| Measured {
            shape,
            figures: figures(shape),
        })
        .collect();
    let begin = Instant::now();
    for round in 0..MOST {
        if round >= FEWEST && begin.elapsed() > BUDGET {
            break;
        }
        eprintln!("round {}", round + 1);
        for Measured { shape, figures } in &mut measured {
            let folder = tempfile::tempdir().expect("a folder can be made");
            let mut ready = Vec::new();
            for contender in runs(*shape) {
                let folder = folder.path().join(contender.name);
                std::fs::create_dir(&folder).expect("a folder can be made");
                let mut passes = (contender.open)(*shape, folder).await;
                // brings memory, workers, code and the log up
                passes.pass().await;
                ready.push(passes);
            }
            for number in 0..(TURN / shape.tasks()).max(1) {
                for turn in 0..ready.len() {
                    let place = (round + number + turn) % ready.len();
                    tokio::time::sleep(PAUSE).await;
                    let time = ready[place].pass().await;
                    figures[place]
                        .1
                        .0
                        .push(time.as_secs_f64() * 1e6 / shape.tasks() as f64);
                }
            }
        }
    }
    measured
}

pub(super) async fn check(contenders: &[Contender]) {
    for shape in Shape::SMALL {
        for contender in contenders
            .iter()
            .filter(|contender| (contender.runs)(shape))
        {
            let folder = tempfile::tempdir().expect("a folder can be made");
            (contender.open)(shape, folder.path().to_owned())
                .await
                .pass()
                .await;
        }
    }
}

pub(super) fn print(measured: &[Measured]) {
    println!("\n| durable | contender | µs a task | fastest | × rusqlite | passes |");
    println!("| --- | --- | ---: | ---: | ---: | ---: |");
    for of_shape in measured {
        for (contender, times) in &of_shape.figures {
            let beside = of_shape
                .of(raw::NAME)
                .map_or_else(|| "–".to_owned(), |raw| format!("{:.2}", times.ratio(raw)));
            println!(
                "| {} | {contender} | {:.2} | {:.2} | {beside} | {} |",
                of_shape.shape,
                times.median(),
                times.fastest(),
                times.0.len(),
            );
        }
    }
}
