//! Progress on standard error: a bar on a terminal, lines elsewhere.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _, stderr};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::output::{DIM, YELLOW, duration, first_line, of_task, plural, tell};
use crate::capture::init_logs_beside;
use crate::event::{Event, Events};
use crate::id::RunId;
use crate::log::LogLevel;
use crate::state::TaskState;

/// The maximum wait for the last events.
const LAST_EVENTS: Duration = Duration::from_secs(1);

/// A bar on a terminal. Dropping it removes the bar.
#[derive(Debug)]
pub(super) struct Bar {
    bar: ProgressBar,
    #[cfg(unix)]
    row: super::row::LastRow,
}

impl Bar {
    /// Creates a bar with a number of steps, if standard error is a terminal that can draw it.
    pub(super) fn new(steps: usize) -> Option<Self> {
        let is_dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        if is_dumb || !stderr().is_terminal() {
            return None;
        }
        #[cfg(unix)]
        let row = super::row::LastRow::new()?;
        #[cfg(unix)]
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(row.clone()), RATE);
        #[cfg(not(unix))]
        let target = ProgressDrawTarget::stderr_with_hz(RATE);
        let bar = ProgressBar::with_draw_target(Some(steps as u64), target);
        let template = "{spinner} {bar:24} {pos}/{len} {elapsed} {wide_msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        *SHOWN.lock() = Some(bar.clone());
        Some(Self {
            bar,
            #[cfg(unix)]
            row,
        })
    }

    pub(super) fn set(&self, done: usize, of: usize, message: String) {
        self.bar.set_length(of as u64);
        self.bar.set_position(done as u64);
        self.bar.set_message(message);
    }

    pub(super) fn end(&self) {
        *SHOWN.lock() = None;
        self.bar.finish_and_clear();
        #[cfg(unix)]
        self.row.release();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.end();
    }
}

/// The maximum redraws of a bar per second.
const RATE: u8 = 20;

/// The visible bar, if any: lines are printed above it.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Calls `write` such that its output appears above the bar.
fn above_the_bar(write: impl FnOnce()) {
    match &*SHOWN.lock() {
        // on Unix, the bar has a row of its own, which output does not touch
        Some(bar) if cfg!(not(unix)) => bar.suspend(write),
        Some(_) | None => write(),
    }
}

/// Prints the log lines of tasks from a level on, in addition to the progress.
pub(super) fn with_logs(least: LogLevel) {
    init_logs_beside(least, |line| {
        above_the_bar(|| {
            // a failed write to standard error cannot be reported anywhere
            let _ = stderr().write_all(line.as_bytes());
        });
    });
}

/// Prints a message, above the bar if one is visible.
pub(super) fn tell_above(text: &str) {
    above_the_bar(|| tell(text));
}

/// Follows a run, and prints its progress. Dropping it removes the bar.
#[derive(Debug)]
pub(super) struct RunFollower {
    task: JoinHandle<()>,
    bar: Arc<Option<Bar>>,
}

impl RunFollower {
    /// Follows the one run that this process executes.
    pub(super) fn new(events: Events, tasks: usize) -> Self {
        let progress = RunProgress::new(tasks);
        let bar = Arc::clone(&progress.bar);
        Self {
            task: tokio::spawn(follow(events, progress)),
            bar,
        }
    }

    /// Waits until all events so far have been printed.
    pub(super) async fn end(mut self) {
        // on a timeout the task continues until this is dropped
        let _ = tokio::time::timeout(LAST_EVENTS, &mut self.task).await;
    }
}

impl Drop for RunFollower {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(bar) = &*self.bar {
            bar.end();
        }
    }
}

/// Follows the run of the first event. Tasks may run flows, which have runs of their own.
async fn follow(mut events: Events, mut progress: RunProgress) {
    let mut followed = None;
    while let Some(event) = events.next().await {
        if *followed.get_or_insert(event.run()) != event.run() {
            continue;
        }
        if let Event::RunFinished { .. } = event {
            break;
        }
        progress.hear(event);
    }
}

/// The progress of a run's tasks.
struct RunProgress {
    bar: Arc<Option<Bar>>,
    total: usize,
    done: usize,
    running: BTreeSet<String>,
}

impl RunProgress {
    fn new(tasks: usize) -> Self {
        Self {
            bar: Arc::new(Bar::new(tasks)),
            total: tasks,
            done: 0,
            running: BTreeSet::new(),
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::RunStarted { run, flow, .. } => {
                tell_above(&format!("{DIM}run {run} of {flow}{DIM:#}"))
            }
            Event::RunResumed { run, flow, .. } => {
                tell_above(&format!("{DIM}run {run} of {flow} continues{DIM:#}"))
            }
            Event::RunReopened {
                run, flow, what, ..
            } => {
                tell_above(&format!("{DIM}run {run} of {flow} again: {what}{DIM:#}"));
            }
            Event::TaskStarted { key, .. } => drop(self.running.insert(key)),
            Event::TaskRetrying {
                key,
                attempt,
                delay,
                error,
                ..
            } => {
                self.running.remove(&key);
                let (error, delay) = (first_line(&error.to_string()), duration(delay));
                tell_above(&format!(
                    "{YELLOW}{key}{YELLOW:#}: attempt {attempt} failed: {error}; again in {delay}"
                ));
            }
            Event::TaskFinished {
                key,
                state,
                duration: took,
                error,
                attempts,
                ..
            } => {
                self.done += 1;
                self.running.remove(&key);
                // of a mapping's elements, only those that did not succeed are printed
                if state != TaskState::Success || !key.ends_with(']') {
                    let style = of_task(state);
                    let took = if attempts > 0 {
                        format!(" {DIM}{}{DIM:#}", duration(took))
                    } else {
                        String::new()
                    };
                    let error = error.map(|error| format!(": {}", first_line(&error.to_string())));
                    tell_above(&format!(
                        "{key}: {style}{state}{style:#}{took}{}",
                        error.unwrap_or_default()
                    ));
                }
            }
            Event::Expanded { key, elements, .. } => {
                self.total += elements.saturating_sub(1);
                tell_above(&format!("{key}: {}", plural(elements as u64, "element")));
            }
            Event::RunFinished { .. } => {}
        }
        if let Some(bar) = &*self.bar {
            let running = self
                .running
                .iter()
                .take(4)
                .cloned()
                .collect::<Vec<_>>()
                .join(", ");
            bar.set(
                self.done,
                self.total.max(self.done + self.running.len()),
                running,
            );
        }
    }
}

/// Reports progress for each completed tenth.
#[derive(Debug)]
pub(super) struct Tenths {
    total: usize,
    told: usize,
}

impl Tenths {
    pub(super) fn new(total: usize) -> Self {
        Self { total, told: 0 }
    }

    /// Returns the completed percentage, if another tenth has just been reached.
    pub(super) fn reached(&mut self, done: usize) -> Option<usize> {
        let tenth = (done * 10).checked_div(self.total)?;
        (tenth > self.told).then(|| {
            self.told = tenth;
            done * 100 / self.total
        })
    }
}

/// Returns the name of a run in messages.
pub(super) fn named(run: RunId, flow: &str) -> String {
    format!("run {run} of `{flow}`")
}

#[cfg(test)]
mod tests {
    use super::Tenths;

    #[test]
    fn each_tenth_is_reported_once() {
        let mut tenths = Tenths::new(25);
        let told: Vec<usize> = (1..=25).filter_map(|done| tenths.reached(done)).collect();
        assert_eq!(told, [12, 20, 32, 40, 52, 60, 72, 80, 92, 100]);
        assert_eq!(Tenths::new(0).reached(0), None);
        let mut few = Tenths::new(2);
        assert_eq!(
            [few.reached(1), few.reached(1), few.reached(2)],
            [Some(50), None, Some(100)]
        );
    }
}
