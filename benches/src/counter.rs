//! An executor as one would write it by hand for any graph: each task counts the inputs that it
//! still waits for, and who brings the last of them spawns it.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

use crate::{Contender, Run, Shape, work};

pub(crate) const NAME: &str = "counter executor";
pub(crate) const CONTENDER: Contender = Contender { name: NAME, run };

fn run(shape: Shape) -> Run {
    match shape {
        // The tasks between the source and the sum find their element by their place in the list.
        Shape::Mapped(width) => Box::pin(execute(shape, move |task, inputs| async move {
            if (1..=width).contains(&task) {
                work([task as u64 - 1])
            } else {
                work(inputs)
            }
        })),
        _ => Box::pin(execute(shape, |_, inputs| async { work(inputs) })),
    }
}

struct Graph<F> {
    nodes: Vec<Node>,
    body: F,
    done: Notify,
}

struct Node {
    takes: Vec<u32>,
    feeds: Vec<u32>,
    waits_for: AtomicUsize,
    value: OnceLock<u64>,
}

async fn execute<F, Body>(shape: Shape, body: F) -> u64
where
    F: Fn(usize, Vec<u64>) -> Body + Send + Sync + 'static,
    Body: Future<Output = u64> + Send + 'static,
{
    let node = |takes: Vec<u32>| Node {
        waits_for: AtomicUsize::new(takes.len()),
        takes,
        feeds: Vec::new(),
        value: OnceLock::new(),
    };
    let mut nodes: Vec<_> = shape.takes().into_iter().map(node).collect();
    for task in 0..nodes.len() {
        for input in 0..nodes[task].takes.len() {
            let input = nodes[task].takes[input] as usize;
            nodes[input].feeds.push(task as u32);
        }
    }
    let graph = Arc::new(Graph {
        nodes,
        body,
        done: Notify::new(),
    });
    for task in 0..graph.nodes.len() {
        if graph.nodes[task].takes.is_empty() {
            start(graph.clone(), task);
        }
    }
    graph.done.notified().await;
    *graph
        .nodes
        .last()
        .and_then(|last| last.value.get())
        .expect("the last task is done")
}

fn start<F, Body>(graph: Arc<Graph<F>>, task: usize)
where
    F: Fn(usize, Vec<u64>) -> Body + Send + Sync + 'static,
    Body: Future<Output = u64> + Send + 'static,
{
    tokio::spawn(async move {
        let node = &graph.nodes[task];
        let value = |&input: &u32| {
            *graph.nodes[input as usize]
                .value
                .get()
                .expect("an input is done")
        };
        let inputs = node.takes.iter().map(value).collect();
        let _ = node.value.set((graph.body)(task, inputs).await);
        for &next in &node.feeds {
            // The one that brings the count to zero sees the values that the others set.
            if graph.nodes[next as usize]
                .waits_for
                .fetch_sub(1, Ordering::AcqRel)
                == 1
            {
                start(graph.clone(), next as usize);
            }
        }
        if node.feeds.is_empty() {
            graph.done.notify_one();
        }
    });
}
