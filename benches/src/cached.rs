//! What caching costs an element of a mapping, beside the same mapping without it.
//!
//! A round has a store of its own, on which three passes follow each other: the mapping uncached,
//! the same elements cached for the first time (each is a miss), and cached once more (each is a
//! hit). Only the ratios to the uncached pass of the same round mean something.

use std::time::Instant;

use orchestrator::prelude::*;

use crate::compare::{chosen, on_a_worker};
use crate::measure::Times;
use crate::targets::{Target, print_all};
use crate::work;

/// A mapping on a store, with the microseconds that an element may take.
#[derive(Clone, Copy, Debug)]
struct Case {
    store: &'static str,
    width: usize,
    rounds: usize,
    miss: f64,
    hit: f64,
}

const CASES: [Case; 4] = [
    Case {
        store: "memory",
        width: 1_000,
        rounds: 60,
        miss: 2.0,
        hit: 2.0,
    },
    Case {
        store: "memory",
        width: 20_000,
        rounds: 12,
        miss: 2.0,
        hit: 2.0,
    },
    Case {
        store: "sqlite",
        width: 1_000,
        rounds: 40,
        miss: 10.0,
        hit: 5.0,
    },
    Case {
        store: "sqlite",
        width: 20_000,
        rounds: 8,
        miss: 10.0,
        hit: 5.0,
    },
];

const PASSES: [&str; 3] = ["uncached", "miss", "hit"];

impl Case {
    fn name(&self) -> String {
        format!("{} {}", self.store, self.width)
    }
}

#[task]
async fn elements(width: usize) -> Vec<u64> {
    (0..width as u64).collect()
}

#[task]
async fn uncached(n: u64) -> u64 {
    work([n])
}

#[task(cache)]
async fn cached(n: u64) -> u64 {
    work([n])
}

#[task]
async fn takes_all(inputs: &[u64]) -> u64 {
    work(inputs.iter().copied())
}

#[flow(name = "uncached_mapping")]
fn mapped_uncached(width: usize) -> Node<u64> {
    takes_all(elements(width).expand(uncached))
}

#[flow(name = "cached_mapping")]
fn mapped_cached(width: usize) -> Node<u64> {
    takes_all(elements(width).expand(cached))
}

/// Measures and prints the cases whose names have one of these words in them; without a word, all.
pub fn compare(wanted: &[String]) {
    let cases = chosen(CASES.to_vec(), wanted, Case::name);
    let measured: Vec<(Case, [Times; 3])> = on_a_worker(async move {
        let mut measured = Vec::new();
        for case in cases {
            eprintln!("{}", case.name());
            measured.push((case, measure(case).await));
        }
        measured
    });
    println!("| store, elements | pass | µs an element | fastest | × uncached | rounds |");
    println!("| --- | --- | ---: | ---: | ---: | ---: |");
    for (case, times) in &measured {
        for (pass, of_pass) in PASSES.iter().zip(times) {
            let (median, fastest) = (of_pass.median(), of_pass.fastest());
            println!(
                "| {} | {pass} | {median:.2} | {fastest:.2} | {:.2} | {} |",
                case.name(),
                of_pass.ratio(&times[0]),
                case.rounds
            );
        }
    }
    let targets = measured.iter().flat_map(|(case, [_, miss, hit])| {
        let target = |what, most, times: &Times| Target {
            text: format!("cached, {}: µs a {what}", case.name()),
            most,
            median: times.median(),
            fastest: times.fastest(),
        };
        [
            target("miss", case.miss, miss),
            target("hit", case.hit, hit),
        ]
    });
    print_all(targets.collect());
}

/// Runs every case once, small.
///
/// # Panics
///
/// When a result is wrong.
pub fn check() {
    on_a_worker(async {
        for case in CASES {
            round(Case { width: 20, ..case }).await;
        }
    });
}

async fn measure(case: Case) -> [Times; 3] {
    let mut times: [Times; 3] = Default::default();
    round(case).await;
    for _ in 0..case.rounds {
        for (times, micros) in times.iter_mut().zip(round(case).await) {
            times.0.push(micros / case.width as f64);
        }
    }
    times
}

/// The microseconds of each pass.
async fn round(case: Case) -> [f64; 3] {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let url = match case.store {
        "sqlite" => format!("sqlite:{}", folder.path().join("runs.db").display()),
        store => store.to_owned(),
    };
    let runtime = Runtime::builder()
        .store(url)
        .build()
        .await
        .expect("a store can be made");
    let expected = 1 + (1..=case.width as u64).sum::<u64>();
    let mut micros = [0.0; 3];
    for (pass, micros) in PASSES.iter().zip(&mut micros) {
        let begin = Instant::now();
        let output = match *pass {
            "uncached" => mapped_uncached(case.width).on(&runtime).await,
            _ => mapped_cached(case.width).on(&runtime).await,
        };
        *micros = begin.elapsed().as_secs_f64() * 1e6;
        assert_eq!(
            output.expect("every task succeeds"),
            expected,
            "{pass} on {}",
            case.name()
        );
    }
    micros
}
