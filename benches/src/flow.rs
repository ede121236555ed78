//! The library: a flow of each shape.

use std::sync::Mutex;

use orchestrator::prelude::*;

use crate::{Contender, Run, Shape, work};

pub(crate) const NAME: &str = "orchestrator";
pub(crate) const CONTENDER: Contender = Contender { name: NAME, run };

/// The runtime of the last pass: a process has one runtime, which outlives its runs, so no pass
/// pays for making or dropping it. Each has a new one, as the record of a run stays in memory.
static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);

/// From the call of the flow function, so that writing down and planning the graph count, to its
/// output.
fn run(shape: Shape) -> Run {
    let runtime = Runtime::in_memory();
    *RUNTIME.lock().expect("nobody panics with it") = Some(runtime.clone());
    Box::pin(async move { output(shape, &runtime).await })
}

/// What the flow of a shape gives.
pub(crate) async fn output(shape: Shape, runtime: &Runtime) -> u64 {
    let output = match shape {
        Shape::Chain(length) => chain(length).on(runtime).await,
        Shape::FanOut(width) => fan_out(width).on(runtime).await,
        Shape::Layers(width) => layers(width).on(runtime).await,
        Shape::Mapped(width) => mapped(width).on(runtime).await,
    };
    output.expect("every task succeeds")
}

#[task]
async fn source() -> u64 {
    work([])
}

#[task]
async fn takes_1(input: u64) -> u64 {
    work([input])
}

#[task]
async fn takes_3(a: u64, b: u64, c: u64) -> u64 {
    work([a, b, c])
}

#[task]
async fn takes_all(inputs: &[u64]) -> u64 {
    work(inputs.iter().copied())
}

#[task]
async fn elements(width: usize) -> Vec<u64> {
    (0..width as u64).collect()
}

#[flow]
fn chain(length: usize) -> Node<u64> {
    (1..length).fold(source(), |end, _| takes_1(end))
}

#[flow]
fn fan_out(width: usize) -> Node<u64> {
    let source = source();
    takes_all(gather((0..width).map(|_| takes_1(&source))))
}

#[flow]
fn layers(width: usize) -> Node<u64> {
    let mut layer: Vec<_> = (0..width).map(|_| source()).collect();
    for _ in 1..width {
        layer = (0..width)
            .map(|place| {
                let [a, b, c] = Shape::above(place, width).map(|above| &layer[above]);
                takes_3(a, b, c)
            })
            .collect();
    }
    takes_all(gather(layer))
}

#[flow]
fn mapped(width: usize) -> Node<u64> {
    takes_all(elements(width).expand(takes_1))
}
