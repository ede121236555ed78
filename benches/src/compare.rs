//! One comparison: what is measured, where, and in which order.

use crate::{Contender, Shape, measure, table, targets};

/// Measures the contenders on every shape and prints the table, then the targets.
///
/// `wanted` are words of the command line: a shape whose name has one of them is measured, and a
/// contender likewise; without a word for the one or the other, all are.
///
/// # Panics
///
/// When a contender's result is wrong. Whatever the figures are, they are printed and no more.
pub fn compare(contenders: &[Contender], wanted: &[String]) {
    let shapes = chosen(Shape::MEASURED.to_vec(), wanted, |shape| shape.to_string());
    let contenders = chosen(contenders.to_vec(), wanted, |contender| {
        contender.name.to_owned()
    });
    on_a_worker(async move {
        let measured = measure::measure(&shapes, &contenders).await;
        table::print(&measured);
        targets::print(&measured);
    });
}

/// Runs every contender once on small shapes: their results alone are looked at.
///
/// # Panics
///
/// When one of them is wrong.
pub fn check(contenders: &[Contender]) {
    let contenders = contenders.to_vec();
    on_a_worker(async move {
        for shape in Shape::SMALL {
            for contender in &contenders {
                measure::pass(shape, contender).await;
            }
        }
    });
}

/// From the thread that blocks on the runtime a spawn wakes a worker each time, and costs fifty
/// times as much as from a worker: it would hide what everything else costs. So the comparison
/// itself is a spawned task.
pub(crate) fn on_a_worker<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.expect("threads can be started");
    runtime
        .block_on(async { tokio::spawn(work).await })
        .expect("every contender gives the right result")
}

pub(crate) fn chosen<T: Clone>(
    all: Vec<T>,
    wanted: &[String],
    name: impl Fn(&T) -> String,
) -> Vec<T> {
    let some: Vec<T> = all
        .iter()
        .filter(|one| wanted.iter().any(|word| name(one).contains(word)))
        .cloned()
        .collect();
    if some.is_empty() { all } else { some }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_contender_gives_the_value_that_the_shape_comes_to() {
        super::check(&crate::contenders());
    }
}
