//! A run as it goes on: a line for each task that is done, and one for each mapping, however many
//! elements it has.

use std::io::{self, IsTerminal, Write};
use std::mem;
use std::time::Duration;

use orchestrator::Events;
use orchestrator::prelude::*;
use tokio::task::JoinHandle;

use crate::format::{count, duration, plural};

/// Prints what happens in a runtime, until the end of its first run.
#[derive(Debug)]
pub struct Progress(JoinHandle<()>);

impl Progress {
    /// Waits until the run's last line is printed, so that what is printed next comes after it.
    pub async fn end(self) {
        let _ = self.0.await;
    }
}

/// Starts to print. Ask for the events before the run starts, or its first ones are missed.
pub fn show(mut events: Events) -> Progress {
    Progress(tokio::spawn(async move {
        let mut screen = Screen {
            terminal: io::stdout().is_terminal(),
            ..Screen::default()
        };
        while let Some(event) = events.next().await {
            screen.show(&event);
            if matches!(event, Event::RunFinished { .. }) {
                break;
            }
        }
    }))
}

#[derive(Default)]
struct Screen {
    terminal: bool,
    /// The mapped tasks whose line is due, in the order in which they began.
    mappings: Vec<Mapping>,
}

/// What became of the elements of one mapped task, so far.
struct Mapping {
    task: String,
    done: u64,
    failed: u64,
    busy: Duration,
}

impl Screen {
    fn show(&mut self, event: &Event) {
        match event {
            // what follows a mapping starts when all elements are done: the mapping has its line
            // first
            Event::TaskStarted { key, .. } if element_of(key).is_none() => self.mapping_lines(),
            Event::RunFinished { .. } => self.mapping_lines(),
            Event::TaskRetrying {
                key,
                attempt,
                delay,
                error,
                ..
            } => {
                let again = duration(*delay);
                self.line(
                    '↻',
                    key,
                    &format!("attempt {attempt} failed: {error}; again in {again}"),
                );
            }
            Event::TaskFinished {
                key,
                state,
                duration,
                error,
                ..
            } => {
                if let Some(task) = element_of(key) {
                    self.count(task, *state, *duration);
                }
                if element_of(key).is_none() || *state != TaskState::Success {
                    let (mark, text) = told(*state, *duration, error.as_ref());
                    self.line(mark, key, &text);
                }
            }
            _ => {}
        }
    }

    /// Counts an element; on a terminal the count stands in a line that moves on.
    fn count(&mut self, task: &str, state: TaskState, took: Duration) {
        let place = self
            .mappings
            .iter()
            .position(|mapping| mapping.task == task)
            .unwrap_or_else(|| {
                self.mappings.push(Mapping {
                    task: task.to_owned(),
                    done: 0,
                    failed: 0,
                    busy: Duration::ZERO,
                });
                self.mappings.len() - 1
            });
        let mapping = &mut self.mappings[place];
        mapping.done += 1;
        mapping.failed += u64::from(state != TaskState::Success);
        mapping.busy += took;
        if self.terminal {
            print!(
                "{OVER}    {task:<22}{}",
                plural(mapping.done, "element", "elements")
            );
            let _ = io::stdout().flush();
        }
    }

    fn mapping_lines(&mut self) {
        for Mapping {
            task,
            done,
            failed,
            busy,
        } in mem::take(&mut self.mappings)
        {
            let elements = plural(done, "element", "elements");
            let busy = duration(busy);
            match failed {
                0 => self.line('✓', &task, &format!("{elements}, {busy} of work")),
                _ => self.line(
                    '✗',
                    &task,
                    &format!("{elements}, {busy} of work, {} not done", count(failed)),
                ),
            }
        }
    }

    /// Prints a line, over the count that may stand there.
    fn line(&self, mark: char, key: &str, text: &str) {
        let over = if self.terminal { OVER } else { "" };
        println!("{over}  {mark} {key:<22}{text}");
    }
}

/// Clears the line that the cursor is in.
const OVER: &str = "\r\x1b[K";

/// The mapped task that a key is an element of: `process` for `process[3]`.
fn element_of(key: &str) -> Option<&str> {
    Some(key.split_once('[')?.0)
}

/// How a task's end is told.
fn told(state: TaskState, took: Duration, error: Option<&TaskError>) -> (char, String) {
    let reason = error.map(|error| format!(": {error}")).unwrap_or_default();
    match state {
        TaskState::Success => ('✓', duration(took)),
        TaskState::Skipped => ('·', format!("skipped{reason}")),
        _ => ('✗', format!("{}{reason}", state.as_str().replace('_', " "))),
    }
}
