//! async_dag 0.1, as its examples use it: closures in a `Graph`, run to the end by one thread.
//!
//! Its graph is not `Send`, so the pass blocks the worker it is on, as its own examples block on
//! it. A task takes at most twelve inputs, so where everything is taken at the end the values are
//! read from the graph: one task less than the others run.

use ::async_dag::{Graph, NodeIndex};
use benches::{Contender, Run, Shape, work};
use futures::executor::block_on;

pub(crate) const CONTENDER: Contender = Contender {
    name: "async_dag",
    run,
};

async fn source() -> u64 {
    work([])
}

async fn takes_1(input: u64) -> u64 {
    work([input])
}

async fn takes_3(a: u64, b: u64, c: u64) -> u64 {
    work([a, b, c])
}

fn run(shape: Shape) -> Run {
    Box::pin(async move {
        let mut graph = Graph::new();
        let ends = build(shape, &mut graph);
        block_on(graph.run());
        let mut values = ends
            .iter()
            .map(|end| graph.get_value::<u64>(*end).expect("every task is done"));
        match shape {
            Shape::Chain(_) => values.next().expect("a chain has an end"),
            _ => work(values),
        }
    })
}

/// Gives the tasks that nothing takes.
fn build(shape: Shape, graph: &mut Graph<'_>) -> Vec<NodeIndex> {
    const FITS: &str = "the types along the edge are the same";
    match shape {
        Shape::Chain(length) => {
            let mut end = graph.add_task(source);
            for _ in 1..length {
                end = graph.add_child_task(end, takes_1, 0).expect(FITS);
            }
            vec![end]
        }
        Shape::FanOut(width) => {
            let source = graph.add_task(source);
            (0..width)
                .map(|_| graph.add_child_task(source, takes_1, 0).expect(FITS))
                .collect()
        }
        Shape::Layers(width) => {
            let mut layer: Vec<_> = (0..width).map(|_| graph.add_task(source)).collect();
            for _ in 1..width {
                layer = (0..width)
                    .map(|place| {
                        let [a, b, c] = Shape::above(place, width).map(|above| layer[above]);
                        let task = graph.add_child_task(a, takes_3, 0).expect(FITS);
                        graph.update_dependency(b, task, 1).expect(FITS);
                        graph.update_dependency(c, task, 2).expect(FITS);
                        task
                    })
                    .collect();
            }
            layer
        }
        // It has no mapping: a task for each element has the element in itself.
        Shape::Mapped(width) => {
            let source = graph.add_task(source);
            (0..width as u64)
                .map(|element| {
                    let task = move |_source: u64| async move { work([element]) };
                    graph.add_child_task(source, task, 0).expect(FITS)
                })
                .collect()
        }
    }
}
