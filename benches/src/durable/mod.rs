//! Runs that are kept in a file of SQLite: what a task costs then, beside plain rusqlite and, from
//! the crate `benches-peers`, another library; and what else a store costs.
//!
//! Everything is in new folders of the system's folder for temporary files, so `TMPDIR` says which
//! disk is measured.

mod contender;
mod disk;
mod own;
mod process;
mod prune;
mod raw;
mod rounds;
mod targets;

use std::path::Path;

pub use contender::{Contender, Open, Pass, Passes, contenders};

use crate::compare::{chosen, on_a_worker};
use crate::targets::print_all;
pub(crate) use process::idle_millis;

/// Measures and prints what the words of the command line choose, by parts of its names; without a
/// word, all.
///
/// # Panics
///
/// When a result is wrong, or a file or process cannot be made. Whatever the figures are, they are
/// printed and no more.
pub fn compare(contenders: &[Contender], wanted: &[String]) {
    let contenders = chosen(contenders.to_vec(), wanted, |contender| {
        contender.name.to_owned()
    });
    // words that name contenders choose no measures
    let named = |word: &&String| {
        contenders
            .iter()
            .any(|contender| contender.name.contains(word.as_str()))
    };
    let words: Vec<_> = wanted.iter().filter(|word| !named(word)).cloned().collect();
    let mut measures: Vec<_> = rounds::SHAPES.map(Measure::Rounds).to_vec();
    measures.extend([
        Measure::Process,
        Measure::Disk,
        Measure::Start,
        Measure::Idle,
        Measure::Prune,
    ]);
    let measures = chosen(measures, &words, Measure::name);
    let shapes: Vec<_> = measures
        .iter()
        .filter_map(|measure| match measure {
            Measure::Rounds(shape) => Some(*shape),
            _ => None,
        })
        .collect();
    let has = |wanted| measures.contains(&wanted);
    let mut reached = Vec::new();
    // before anything that leaves the disk busy
    if has(Measure::Start) {
        reached.extend(process::measure_start());
    }
    if has(Measure::Idle) {
        reached.extend(process::measure_idle());
    }
    if !shapes.is_empty() {
        reached.extend(on_a_worker(async move {
            let measured = rounds::measure(&shapes, &contenders).await;
            rounds::print(&measured);
            targets::of(&measured)
        }));
    }
    if has(Measure::Disk) {
        reached.extend(disk::measure());
    }
    if has(Measure::Process) {
        reached.extend(process::measure_million());
    }
    if has(Measure::Prune) {
        reached.extend(prune::measure());
    }
    print_all(reached);
}

/// Where this program was started as a process to be measured, does what that one is to do. Says
/// whether it was.
pub fn child(arguments: &[String]) -> bool {
    match arguments {
        [word, what, path] if word == process::CHILD => {
            process::child(what, Path::new(path));
            true
        }
        _ => false,
    }
}

/// Runs every contender once on small shapes: their results alone are looked at.
///
/// # Panics
///
/// When one of them is wrong.
pub fn check(contenders: &[Contender]) {
    let contenders = contenders.to_vec();
    on_a_worker(async move { rounds::check(&contenders).await });
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Measure {
    Rounds(crate::Shape),
    /// A million elements, in a process of their own.
    Process,
    Disk,
    Start,
    Idle,
    /// Beside another process that prunes.
    Prune,
}

impl Measure {
    fn name(&self) -> String {
        match self {
            Self::Rounds(shape) => shape.to_string(),
            Self::Process => process::MILLION.to_string(),
            Self::Disk => "disk".to_owned(),
            Self::Start => "start".to_owned(),
            Self::Idle => "idle".to_owned(),
            Self::Prune => "prune".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_contender_gives_the_value_that_the_shape_comes_to() {
        super::check(&super::contenders());
    }
}
