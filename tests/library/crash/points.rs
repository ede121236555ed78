//! Deaths at named places of the library.

use std::collections::BTreeSet;

use super::tasks::*;
use super::*;

/// In which life of the runs the process dies: the first one, or the one after another death.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Life {
    First,
    Second,
}
use Life::{First, Second};

/// Every failure point, the lives in which runs come to it, and the hits at which the process dies.
/// A process has three runs under way.
const POINTS: [(&str, &[Life], [u32; 3]); 26] = [
    ("blob-put", &[First], [1, 2, 3]),
    ("body-over", &[First, Second], [1, 2, 17]),
    ("body-told", &[First, Second], [1, 2, 6]),
    // a second one is made or not, by how fast the disk is
    ("checkpoint", &[First], [1, 1, 1]),
    ("end-committed", &[First, Second], [1, 2, 13]),
    ("end-recorded", &[First, Second], [1, 2, 23]),
    ("flight-claimed", &[First], [1, 2, 3]),
    ("mapping-opened", &[First, Second], [1, 2, 7]),
    ("plan-told", &[First, Second], [1, 2, 11]),
    ("planned", &[First], [1, 2, 5]),
    // little is left to be planned
    ("planned", &[Second], [1, 1, 2]),
    ("retry-committed", &[First, Second], [1, 2, 5]),
    ("retry-recorded", &[First, Second], [1, 2, 5]),
    // of runs that are run again: see `rerun`
    ("rerun-begins", &[], [0; 3]),
    ("run-claimed", &[Second], [1, 2, 3]),
    ("run-created", &[First], [1, 2, 3]),
    ("run-end-committed", &[First, Second], [1, 2, 3]),
    ("run-end-recorded", &[First, Second], [1, 2, 3]),
    ("run-reopened", &[], [0; 3]),
    ("run-started", &[First, Second], [1, 2, 3]),
    ("start-committed", &[Second], [1, 2, 9]),
    ("start-recorded", &[Second], [1, 2, 9]),
    ("taken-over", &[Second], [1, 2, 3]),
    ("transaction-begun", &[First, Second], [1, 2, 19]),
    ("transaction-committed", &[First, Second], [1, 2, 21]),
    ("transaction-written", &[First, Second], [1, 2, 23]),
];

/// Asks for a flow that writes much.
const HEAVY: &str = "CRASH_HEAVY";

#[test]
fn a_process_that_dies_at_any_named_point_loses_nothing() {
    let named: BTreeSet<&str> = POINTS.iter().map(|(name, ..)| *name).collect();
    assert_eq!(
        named
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<BTreeSet<_>>(),
        points_in_sources()
    );
    assert!(named.len() >= 15);
    let mut failures = Vec::new();
    for (point, lives, hits) in POINTS {
        for (life, hit) in lives.iter().flat_map(|life| hits.map(|hit| (*life, hit))) {
            let outcome = std::panic::catch_unwind(|| dies_once_at(point, life, hit));
            failures.extend(
                outcome
                    .is_err()
                    .then(|| format!("{point}, hit {hit} of the {life:?} life")),
            );
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

fn dies_once_at(point: &str, life: Life, hit: u32) {
    let place = Place::new(point);
    let mut history = History::new(&place);
    if life == Second {
        place.dies("points", &[], "retry-committed", 2);
        history.died();
    }
    let heavy: &[_] = if point == "checkpoint" {
        &[(HEAVY, "1")]
    } else {
        &[]
    };
    place.dies("points", heavy, point, hit);
    history.died();
    place.acts("points", heavy);
    history.check_all();
}

/// The names of all failure points in the library's sources.
fn points_in_sources() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut folders = vec![PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../orchestrator/src"
    ))];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
        {
            if entry.is_dir() {
                folders.push(entry);
            } else {
                let source = std::fs::read_to_string(entry).unwrap();
                let hits = source.split("failpoint::hit(\"").skip(1);
                names.extend(hits.map(|rest| rest.split('"').next().unwrap().to_owned()));
            }
        }
    }
    names
}

/// Goes on with the runs that there are, asks for those that there are not, and sees that all end
/// well.
pub(super) async fn act(runtime: &Runtime) {
    for record in runtime.resume().await.unwrap() {
        assert_eq!(record.state(), RunState::Success, "{record:?}");
    }
    let first = whole(1).key("1").on(runtime).start().await.unwrap();
    let second = whole(2).key("2").on(runtime).start().await.unwrap();
    let third = parts(3).key("3").on(runtime).start().await.unwrap();
    if std::env::var_os(HEAVY).is_some() {
        is_well(
            &heavy().key("heavy").on(runtime).run().await.unwrap(),
            |made| made.number,
            190,
            21,
        );
    }
    is_well(
        &first.await.unwrap(),
        |total| *total,
        total_of_whole(1),
        TASKS_OF_WHOLE,
    );
    is_well(
        &second.await.unwrap(),
        |total| *total,
        total_of_whole(2),
        TASKS_OF_WHOLE,
    );
    is_well(
        &third.await.unwrap(),
        |made| made.number,
        total_of_parts(3),
        TASKS_OF_PARTS,
    );
}

fn is_well<T: orchestrator::Data>(
    run: &Run<T>,
    number: fn(&T) -> u64,
    expected: u64,
    tasks: usize,
) {
    assert_eq!(run.output().map(number), Some(expected), "{run:?}");
    assert_eq!(
        (unsuccessful(run.record()), run.tasks().len()),
        (vec![], tasks)
    );
}

/// Writes so much that the write-ahead log becomes long several times.
#[flow(name = "crash_heavy")]
fn heavy() -> Node<Made> {
    sum(expand((0..20).collect::<Vec<u64>>(), full))
}

/// A static flow: a chain, mappings in a mapping, retries, a large result.
#[flow(name = "crash_parts")]
pub(super) fn parts(number: u64) -> Node<Made> {
    let first = step(step(made(number), 0), 1);
    let nested =
        list(&first, 3).expand(|outer| sum(list(outer, 2).expand(|inner| step(retried(inner), 0))));
    let blocking = blocks(large(&first));
    sum([sum(nested), blocking])
}

fn total_of_parts(number: u64) -> u64 {
    let first = number + 2;
    let nested: u64 = (0..3)
        .map(|outer| (0..2).map(|inner| first + outer + inner + 2).sum::<u64>())
        .sum();
    nested + first + 1
}

const TASKS_OF_PARTS: usize = 2 + 1 + 3 * (1 + 2 * 2 + 1) + 1 + 2 + 1;

/// A flow that decides as it goes.
#[flow(name = "crash_decides")]
async fn decides(number: u64) -> Result<Made> {
    let mut made = step(made(number), 1).await?;
    while made.number < number + 3 {
        made = step(made, 0).await?;
    }
    Ok(made)
}

/// A dynamic flow: branches, mappings, static and dynamic flows in the flow, one after the other
/// and at once.
#[flow(name = "crash_whole")]
async fn whole(number: u64) -> Result<u64> {
    let branch = |number: u64| async move {
        let mut made = step(made(number), number % 3).await?;
        for milliseconds in [1, 0] {
            made = step(made, milliseconds).await?;
        }
        Ok::<_, TaskError>(made)
    };
    let (left, right) = tokio::join!(branch(number), branch(number + 10));
    let mapped = list(left?, 4).expand(retried);
    let (mapped, inner, decided) = tokio::join!(
        async { sum(mapped).await },
        parts(number).into_future(),
        async { step(decides(number), 0).await },
    );
    Ok(mapped?.number + inner?.number + decided?.number + right?.number)
}

fn total_of_whole(number: u64) -> u64 {
    let left = number + 3;
    let mapped: u64 = (0..4).map(|index| left + index + 1).sum();
    mapped + total_of_parts(number) + (number + 4) + (number + 13)
}

const TASKS_OF_WHOLE: usize = 6 + 1 + 4 + 1 + (1 + TASKS_OF_PARTS) + (1 + 3) + 1;
