//! dagx 0.3, as its examples use it: a struct a task with `#[task]`, `tokio::spawn` as the spawner.
//!
//! A task takes at most eight inputs, so where everything is taken at the end the outputs are read
//! from the runner, as its own `large_dag` example does: one task less than the others run.

use ::dagx::{DagRunner, Task, TaskHandle, task};
use benches::{Contender, Run, Shape, work};

pub(crate) const CONTENDER: Contender = Contender { name: "dagx", run };

struct Source;

#[task]
impl Source {
    async fn run() -> u64 {
        work([])
    }
}

struct Takes1;

#[task]
impl Takes1 {
    async fn run(input: &u64) -> u64 {
        work([*input])
    }
}

struct Takes3;

#[task]
impl Takes3 {
    async fn run(a: &u64, b: &u64, c: &u64) -> u64 {
        work([*a, *b, *c])
    }
}

/// It has no mapping: a task for each element has the element in itself.
struct Element(u64);

#[task]
impl Element {
    async fn run(&self, _source: &u64) -> u64 {
        work([self.0])
    }
}

fn run(shape: Shape) -> Run {
    Box::pin(async move {
        let dag = DagRunner::new();
        let ends = build(shape, &dag);
        dag.run(|task| {
            tokio::spawn(task);
        })
        .await
        .expect("every task succeeds");
        let mut values = ends
            .iter()
            .map(|end| dag.get(end).expect("every task is done"));
        match shape {
            Shape::Chain(_) => values.next().expect("a chain has an end"),
            _ => work(values),
        }
    })
}

/// Gives the tasks that nothing takes.
fn build(shape: Shape, dag: &DagRunner) -> Vec<TaskHandle<u64>> {
    let source = || dag.add_task(Source).into();
    match shape {
        Shape::Chain(length) => {
            let mut end: TaskHandle<u64> = source();
            for _ in 1..length {
                end = dag.add_task(Takes1).depends_on(end);
            }
            vec![end]
        }
        Shape::FanOut(width) => {
            let source: TaskHandle<u64> = source();
            (0..width)
                .map(|_| dag.add_task(Takes1).depends_on(source))
                .collect()
        }
        Shape::Layers(width) => {
            let mut layer: Vec<TaskHandle<u64>> = (0..width).map(|_| source()).collect();
            for _ in 1..width {
                layer = (0..width)
                    .map(|place| {
                        let [a, b, c] = Shape::above(place, width).map(|above| layer[above]);
                        dag.add_task(Takes3).depends_on((&a, &b, &c))
                    })
                    .collect();
            }
            layer
        }
        Shape::Mapped(width) => {
            let source: TaskHandle<u64> = source();
            (0..width as u64)
                .map(|element| dag.add_task(Element(element)).depends_on(source))
                .collect()
        }
    }
}
