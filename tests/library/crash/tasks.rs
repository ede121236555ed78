//! What the runs of these tests are made of.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::sync::OnceLock;
use std::time::Duration;

use orchestrator::prelude::*;
use serde::{Deserialize, Serialize};

use super::Place;

/// What a task made; it says whose it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Made {
    pub(super) whose: String,
    pub(super) number: u64,
    pub(super) padding: String,
}

/// What is there before any task.
pub(super) fn made(number: u64) -> Made {
    Made {
        whose: String::new(),
        number,
        padding: String::new(),
    }
}

/// The body of a task under way: notes its start, and later its end.
pub(super) struct Work(String);

impl Work {
    pub(super) fn start(context: &Context) -> Self {
        let whose = whose(context.run_id().as_bytes(), context.key());
        note(&format!(
            "start {whose} {} {}",
            context.attempt(),
            context.idempotency_key()
        ));
        Self(whose)
    }

    pub(super) fn done(self, number: u64) -> Made {
        note(&format!("done {} {number}", self.0));
        Made {
            whose: self.0,
            number,
            padding: String::new(),
        }
    }
}

pub(super) fn whose(run: &[u8], key: &str) -> String {
    let run: String = run.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{run}:{key}")
}

/// Appends a line to what was done, at once: a process that dies leaves whole lines.
pub(super) fn note(line: &str) {
    static EFFECTS: OnceLock<File> = OnceLock::new();
    let file = EFFECTS.get_or_init(|| {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(Place::here().0.join("effects"))
            .unwrap()
    });
    // a killed process may leave half of a line, which must not become the beginning of the next
    (&*file)
        .write_all(format!("\n{line}{}", Place::END_OF_EFFECT).as_bytes())
        .unwrap();
}

pub(super) async fn pause(milliseconds: u64) {
    if milliseconds > 0 {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
}

#[task]
pub(super) async fn step(before: &Made, milliseconds: u64, #[context] context: &Context) -> Made {
    let work = Work::start(context);
    pause(milliseconds).await;
    work.done(before.number + 1)
}

/// Blocks its thread; its result is cached, under a key that no other run has.
#[task(cache)]
pub(super) fn blocks(before: &Made, #[context] context: &Context) -> Made {
    Work::start(context).done(before.number + 1)
}

/// Fails at its first attempt, and once more after the process died meanwhile.
#[task(retries = 3, retry_delay = "5ms")]
pub(super) async fn retried(before: &Made, #[context] context: &Context) -> Result<Made> {
    let work = Work::start(context);
    if context.attempt() == 1 {
        return Err("not yet".into());
    }
    Ok(work.done(before.number + 1))
}

#[task]
pub(super) async fn list(before: &Made, length: u64, #[context] context: &Context) -> Vec<Made> {
    let one = Work::start(context).done(before.number);
    (0..length)
        .map(|index| Made {
            number: one.number + index,
            ..one.clone()
        })
        .collect()
}

#[task]
pub(super) async fn sum(all: Vec<Made>, #[context] context: &Context) -> Made {
    Work::start(context).done(all.iter().map(|made| made.number).sum())
}

/// Too large for a row.
#[task]
pub(super) async fn large(before: &Made, #[context] context: &Context) -> Made {
    let made = Work::start(context).done(before.number);
    Made {
        padding: "x".repeat((1 << 20) + 1),
        ..made
    }
}

/// As large as a row may be, nearly.
#[task]
pub(super) async fn full(number: u64, #[context] context: &Context) -> Made {
    let made = Work::start(context).done(number);
    Made {
        padding: "x".repeat(900_000),
        ..made
    }
}
