//! Bytes on the disk.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use super::own;
use crate::compare::on_a_worker;
use crate::targets::Target;
use crate::{Shape, flow};

const SHAPES: [Shape; 3] = [
    Shape::Chain(1_000),
    Shape::FanOut(10_000),
    Shape::Mapped(100_000),
];

/// What a run adds to a store, results, plan and the list of a mapping included, after a checkpoint
/// that empties the log.
pub(super) fn measure() -> Vec<Target> {
    let empty = bytes(None);
    println!("\n| durable | bytes a task | of a new store | bytes in all |");
    println!("| --- | ---: | ---: | ---: |");
    let of_shape = |shape: Shape| {
        let all = bytes(Some(shape));
        let added = (all - empty) as f64 / shape.tasks() as f64;
        println!("| {shape} | {added:.1} | {empty} | {all} |");
        let text = format!("durable {shape}: bytes a task on the disk");
        Target {
            text,
            most: 200.0,
            median: added,
            fastest: added,
        }
    };
    SHAPES.into_iter().map(of_shape).collect()
}

/// Of a store in which one run of a shape was, or none.
fn bytes(shape: Option<Shape>) -> u64 {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().to_owned();
    on_a_worker(async move {
        let runtime = own::runtime(&path).await;
        if let Some(shape) = shape {
            flow::output(shape, &runtime).await;
        }
    });
    let connection = Connection::open(own::file(folder.path())).expect("the store is there");
    let emptied = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        row.get::<_, i64>(0)
    });
    assert_eq!(emptied, Ok(0), "nobody else has the store open");
    // with the last connection the log goes, and the memory that connections share
    drop(connection);
    in_folder(folder.path())
}

fn in_folder(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("the folder can be read");
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => in_folder(&entry.path()),
        metadata => metadata.expect("the entry is there").len(),
    };
    entries
        .map(|entry| bytes(entry.expect("the folder can be read")))
        .sum()
}
