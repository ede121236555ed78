//! Tokio by hand: spawn and join, written for each shape.

use crate::{Contender, Run, Shape, work};
use tokio::task::JoinHandle;

pub(crate) const NAME: &str = "spawn and join";
pub(crate) const CONTENDER: Contender = Contender { name: NAME, run };

fn run(shape: Shape) -> Run {
    match shape {
        Shape::Chain(length) => Box::pin(chain(length)),
        Shape::FanOut(width) => Box::pin(fan_out(width)),
        Shape::Layers(width) => Box::pin(layers(width)),
        Shape::Mapped(width) => Box::pin(mapped(width)),
    }
}

async fn chain(length: usize) -> u64 {
    let mut value = join(tokio::spawn(async { work([]) })).await;
    for _ in 1..length {
        value = join(tokio::spawn(async move { work([value]) })).await;
    }
    value
}

async fn fan_out(width: usize) -> u64 {
    let source = join(tokio::spawn(async { work([]) })).await;
    let tasks: Vec<_> = (0..width)
        .map(|_| tokio::spawn(async move { work([source]) }))
        .collect();
    last(tasks).await
}

/// One layer after the other, as anybody writes it by hand: a barrier is cheaper than a handle for
/// each edge.
async fn layers(width: usize) -> u64 {
    let mut tasks: Vec<_> = (0..width)
        .map(|_| tokio::spawn(async { work([]) }))
        .collect();
    for _ in 1..width {
        let layer = all(tasks).await;
        tasks = (0..width)
            .map(|place| {
                let inputs = Shape::above(place, width).map(|above| layer[above]);
                tokio::spawn(async move { work(inputs) })
            })
            .collect();
    }
    last(tasks).await
}

async fn mapped(width: usize) -> u64 {
    let elements = join(tokio::spawn(async move {
        (0..width as u64).collect::<Vec<_>>()
    }))
    .await;
    let tasks: Vec<_> = elements
        .into_iter()
        .map(|element| tokio::spawn(async move { work([element]) }))
        .collect();
    last(tasks).await
}

async fn last(tasks: Vec<JoinHandle<u64>>) -> u64 {
    let values = all(tasks).await;
    join(tokio::spawn(async { work(values) })).await
}

async fn all(tasks: Vec<JoinHandle<u64>>) -> Vec<u64> {
    let mut values = Vec::with_capacity(tasks.len());
    for task in tasks {
        values.push(join(task).await);
    }
    values
}

async fn join<T>(task: JoinHandle<T>) -> T {
    task.await.expect("a body does not panic")
}
