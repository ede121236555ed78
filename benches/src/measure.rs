//! Rounds, and what is made of them.

use std::time::{Duration, Instant};

use tokio::{runtime::Handle, task::yield_now};

use crate::{Contender, Run, Shape, memory};

/// After so long no new round begins, if there were [`FEWEST`].
const BUDGET: Duration = Duration::from_secs(60);
const FEWEST: usize = 5;
const MOST: usize = 12;

/// A pass over a small shape is short: so many tasks, about, make up its turn.
const TURN: usize = 100_000;
const MOST_PASSES: usize = 25;

/// What the contenders needed for one shape.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) shape: Shape,
    pub(crate) figures: Vec<Figures>,
}

/// What one contender needed for one shape.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) contender: &'static str,
    /// Microseconds a task, a pass each.
    pub(crate) micros: Times,
    /// Bytes a task, beyond the list of a mapping's results.
    pub(crate) bytes: f64,
}

impl Measured {
    pub(crate) fn of(&self, contender: &str) -> Option<&Figures> {
        self.figures
            .iter()
            .find(|figures| figures.contender == contender)
    }
}

/// A figure of each pass, the least of which is the best.
#[derive(Debug, Default)]
pub(crate) struct Times(pub(crate) Vec<f64>);

impl Times {
    pub(crate) fn median(&self) -> f64 {
        median(self.0.clone())
    }

    /// The pass that the machine disturbed least.
    pub(crate) fn fastest(&self) -> f64 {
        self.0
            .iter()
            .copied()
            .min_by(f64::total_cmp)
            .unwrap_or(f64::NAN)
    }

    /// The median of the ratios to another contender, each taken of passes that followed on each
    /// other: the machine's weather was the same for both.
    pub(crate) fn ratio(&self, other: &Self) -> f64 {
        median(
            self.0
                .iter()
                .zip(&other.0)
                .map(|(own, other)| own / other)
                .collect(),
        )
    }
}

/// Measures all contenders on all shapes, in rounds in which each pair has its turn. The order of
/// the contenders turns, too, so that nobody is always the one who comes after the greediest.
pub(crate) async fn measure(shapes: &[Shape], contenders: &[Contender]) -> Vec<Measured> {
    let mut measured = Vec::new();
    for &shape in shapes {
        let mut figures = Vec::new();
        for contender in contenders {
            // the first pass brings memory, workers and code up
            pass(shape, contender).await;
            let bytes = bytes(shape, contender).await;
            figures.push(Figures {
                contender: contender.name,
                micros: Times::default(),
                bytes,
            });
        }
        measured.push(Measured { shape, figures });
    }
    let begin = Instant::now();
    for round in 0..MOST {
        if round >= FEWEST && begin.elapsed() > BUDGET {
            break;
        }
        eprintln!("round {}", round + 1);
        for Measured { shape, figures } in &mut measured {
            for number in 0..(TURN / shape.tasks()).clamp(1, MOST_PASSES) {
                for turn in 0..contenders.len() {
                    let place = (round + number + turn) % contenders.len();
                    let time = pass(*shape, &contenders[place]).await;
                    figures[place]
                        .micros
                        .0
                        .push(time.as_secs_f64() * 1e6 / shape.tasks() as f64);
                }
            }
        }
    }
    measured
}

/// One pass, timed; what comes of it is looked at.
pub(crate) async fn pass(shape: Shape, contender: &Contender) -> Duration {
    let run = (contender.run)(shape);
    let begin = Instant::now();
    let value = whole(run).await;
    let time = begin.elapsed();
    assert_eq!(value, shape.expected(), "{} on {shape}", contender.name);
    time
}

/// A pass is over when none of its tasks is left: what one that is still ending has to free is its
/// own cost, not that of whoever comes next.
async fn whole(run: Run) -> u64 {
    let tokio = Handle::current().metrics();
    let before = tokio.num_alive_tasks();
    let value = run.await;
    while tokio.num_alive_tasks() > before {
        yield_now().await;
    }
    value
}

/// How many tasks wait at once is chance where two workers share them: hence a median.
async fn bytes(shape: Shape, contender: &Contender) -> f64 {
    let mut passes = Vec::new();
    for _ in 0..5 {
        let peak = memory::peak(whole((contender.run)(shape))).await;
        passes.push((peak as f64 - shape.results() as f64) / shape.tasks() as f64);
    }
    median(passes)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
