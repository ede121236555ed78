//! How far something is: a bar on a terminal, lines elsewhere; on standard error.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::output::{DIM, YELLOW, duration, first_line, of_task, plural, tell};
use crate::capture::init_logs_beside;
use crate::event::{Event, Events};
use crate::id::RunId;
use crate::log::LogLevel;
use crate::state::TaskState;

/// How long the last events are waited for.
const LAST_EVENTS: Duration = Duration::from_secs(1);

/// A bar of so many steps, where somebody sees it.
pub(super) fn bar(steps: usize) -> Option<ProgressBar> {
    if !stderr().is_terminal() {
        return None;
    }
    let bar = ProgressBar::new(steps as u64);
    let template = "{spinner} {bar:24} {pos}/{len} {elapsed} {wide_msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    *SHOWN.lock() = Some(bar.clone());
    Some(bar)
}

/// The bar that is shown, if one is: lines go above it.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Shows what tasks log from a level on, beside what the progress tells.
pub(super) fn with_logs(least: LogLevel) {
    init_logs_beside(least, |line| {
        let show = || {
            // there is nobody to be told that nobody can be told
            let _ = stderr().write_all(line.as_bytes());
        };
        match &*SHOWN.lock() {
            Some(bar) => bar.suspend(show),
            None => show(),
        }
    });
}

/// Follows a run, and tells how far it is. Nothing of a bar is left where this is dropped.
#[derive(Debug)]
pub(super) struct Following {
    task: JoinHandle<()>,
    bar: Option<ProgressBar>,
}

impl Following {
    /// Follows the one run that this process executes.
    pub(super) fn new(events: Events, tasks: usize) -> Self {
        let progress = Progress::new(tasks);
        let bar = progress.bar.clone();
        Self {
            task: tokio::spawn(follow(events, progress)),
            bar,
        }
    }

    pub(super) fn bar(&self) -> Option<&ProgressBar> {
        self.bar.as_ref()
    }

    /// Waits until what happened is told.
    pub(super) async fn end(mut self) {
        // an error says that it goes on, which ends where this is dropped
        let _ = tokio::time::timeout(LAST_EVENTS, &mut self.task).await;
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Follows the run whose event is the first: its tasks may run flows, which have runs of their own.
async fn follow(mut events: Events, mut progress: Progress) {
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

/// What is known of a run's tasks.
struct Progress {
    bar: Option<ProgressBar>,
    total: usize,
    done: usize,
    running: BTreeSet<String>,
}

impl Progress {
    fn new(tasks: usize) -> Self {
        Self {
            bar: bar(tasks),
            total: tasks,
            done: 0,
            running: BTreeSet::new(),
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::RunStarted { run, flow, .. } => {
                self.line(&format!("{DIM}run {run} of {flow}{DIM:#}"))
            }
            Event::RunResumed { run, flow, .. } => {
                self.line(&format!("{DIM}run {run} of {flow} goes on{DIM:#}"))
            }
            Event::RunReopened {
                run, flow, what, ..
            } => {
                self.line(&format!("{DIM}run {run} of {flow} again: {what}{DIM:#}"));
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
                self.line(&format!(
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
                // of a mapping's elements only those are told that are no success
                if state != TaskState::Success || !key.ends_with(']') {
                    let style = of_task(state);
                    let took = if attempts > 0 {
                        format!(" {DIM}{}{DIM:#}", duration(took))
                    } else {
                        String::new()
                    };
                    let error = error.map(|error| format!(": {}", first_line(&error.to_string())));
                    self.line(&format!(
                        "{key}: {style}{state}{style:#}{took}{}",
                        error.unwrap_or_default()
                    ));
                }
            }
            Event::Expanded { key, elements, .. } => {
                self.total += elements.saturating_sub(1);
                self.line(&format!("{key}: {}", plural(elements as u64, "element")));
            }
            Event::RunFinished { .. } => {}
        }
        if let Some(bar) = &self.bar {
            bar.set_length(self.total.max(self.done + self.running.len()) as u64);
            bar.set_position(self.done as u64);
            bar.set_message(
                self.running
                    .iter()
                    .take(4)
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(", "),
            );
        }
    }

    fn line(&self, line: &str) {
        tell_above(self.bar.as_ref(), line);
    }
}

/// Tells something while a bar may be there.
pub(super) fn tell_above(bar: Option<&ProgressBar>, line: &str) {
    match bar {
        Some(bar) => bar.suspend(|| tell(line)),
        None => tell(line),
    }
}

/// A word for each tenth that is done.
#[derive(Debug)]
pub(super) struct Tenths {
    total: usize,
    told: usize,
}

impl Tenths {
    pub(super) fn new(total: usize) -> Self {
        Self { total, told: 0 }
    }

    /// The percentage that is done, if another tenth has just been reached.
    pub(super) fn reached(&mut self, done: usize) -> Option<usize> {
        let tenth = (done * 10).checked_div(self.total)?;
        (tenth > self.told).then(|| {
            self.told = tenth;
            done * 100 / self.total
        })
    }
}

/// How a run is named in messages.
pub(super) fn named(run: RunId, flow: &str) -> String {
    format!("run {run} of `{flow}`")
}

#[cfg(test)]
mod tests {
    use super::Tenths;

    #[test]
    fn each_tenth_is_told_once() {
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
