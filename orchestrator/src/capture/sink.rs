//! The buffer of a runtime's lines.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle as Tokio;
use tokio::sync::Notify;

use super::TARGET;
use crate::clock::Clock;
use crate::id::RunId;
use crate::log::{LogLevel, LogLine};
use crate::store::{Commit, Store};

/// How long a line waits for others at most, before it is stored.
pub(super) const DELAY: Duration = Duration::from_millis(200);

/// How long a line waits before whoever says the next one sees to it.
const OVERDUE: chrono::TimeDelta = chrono::TimeDelta::milliseconds(500);

/// So many lines do not wait for more. They go into one transaction, which takes two or three milliseconds.
const MANY: usize = 1_000;

/// More lines than that are not kept.
const TOO_MANY: usize = 10_000;

/// Takes the lines of a runtime to its store, many at a time.
#[derive(Debug)]
pub(crate) struct LogSink {
    store: Arc<dyn Store>,
    clock: Clock,
    buffer: Mutex<Buffer>,
    /// Held from taking lines to handing them over, so that they stay in order.
    handing: Mutex<()>,
    /// There are many.
    many: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Buffer {
    lines: VecDeque<LogLine>,
    /// How many there was no room for.
    dropped: HashMap<RunId, u64>,
    /// Somebody waits to empty it.
    soon: bool,
}

impl LogSink {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            store,
            clock,
            buffer: Mutex::default(),
            handing: Mutex::default(),
            many: Arc::default(),
        })
    }

    /// Takes a line; it is handed over soon. Where there is no room, it is counted.
    pub(super) fn push(self: &Arc<Self>, line: LogLine, tokio: &Tokio) {
        let is_durable = self.store.is_durable();
        let (length, soon, overdue) = {
            let buffer = &mut *self.buffer.lock();
            if buffer.lines.len() >= TOO_MANY {
                *buffer.dropped.entry(line.run).or_default() += 1;
                return;
            }
            let overdue = buffer
                .lines
                .front()
                .is_some_and(|first| line.at - first.at > OVERDUE);
            buffer.lines.push_back(line);
            // what is in memory is read through here: nobody is helped by handing it over earlier, and paused time
            // is not to be moved by it
            (
                buffer.lines.len(),
                !is_durable || std::mem::replace(&mut buffer.soon, true),
                overdue && is_durable,
            )
        };
        if !soon {
            // from a thread that is no worker: what a worker spawns may have to wait for the body that it is in
            let (handing, workers) = (self.hand_over_soon(), tokio.clone());
            drop(tokio.spawn_blocking(move || drop(workers.spawn(handing))));
        }
        match length == MANY {
            true if is_durable => self.many.notify_one(),
            true => drop(self.hand_over()),
            // whoever is to do it does not get the thread: a body works without a wait
            false if overdue && !self.handing.is_locked() => drop(self.hand_over()),
            false => {}
        }
    }

    /// Hands over what there is after a while, again and again until there is nothing.
    fn hand_over_soon(self: &Arc<Self>) -> impl Future<Output = ()> + use<> {
        // tokio may go down, and the runtime be dropped, in the middle of the wait
        let (sink, many) = (Soon(Arc::downgrade(self)), Arc::clone(&self.many));
        async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(DELAY) => {}
                    () = many.notified() => {}
                }
                let Some(commit) = sink.0.upgrade().and_then(|sink| sink.hand_over()) else {
                    break;
                };
                // one at a time: what a slow disk does not take stays here, where it is bounded
                stored(commit).await;
                if sink
                    .0
                    .upgrade()
                    .is_some_and(|sink| sink.buffer.lock().lines.len() >= MANY)
                {
                    many.notify_one();
                }
            }
        }
    }

    /// Hands over the first of the lines. They are stored in the order in which they came.
    fn hand_over(&self) -> Option<Commit> {
        let handing = self.handing.lock();
        let lines = self.take(&mut self.buffer.lock());
        let commit = (!lines.is_empty()).then(|| self.store.append_logs(lines));
        drop(handing);
        commit
    }

    /// Hands over what there is: it is stored before what the store is told after this.
    pub(crate) fn hand_over_all(&self) {
        let lines = self.buffer.lock().lines.len();
        for _ in 0..lines.div_ceil(MANY) {
            drop(self.hand_over());
        }
    }

    /// Hands over what there is, and waits until it is stored; also for what was handed over before. Not for what is
    /// said meanwhile: that may never come to an end.
    pub(crate) async fn flush(&self) {
        let (mut left, soon) = {
            let buffer = self.buffer.lock();
            (buffer.lines.len(), buffer.soon)
        };
        loop {
            let commit = match self.hand_over() {
                Some(commit) => commit,
                // who empties the buffer has taken them, and may not be done
                None if soon => self.store.append_logs(Vec::new()),
                None => return,
            };
            stored(commit).await;
            left = left.saturating_sub(MANY);
            if left == 0 {
                return;
            }
        }
    }

    fn take(&self, buffer: &mut Buffer) -> Vec<LogLine> {
        let many = buffer.lines.len().min(MANY);
        let mut lines: Vec<LogLine> = buffer.lines.drain(..many).collect();
        if !buffer.lines.is_empty() {
            return lines;
        }
        for (run, dropped) in buffer.dropped.drain() {
            lines.push(LogLine {
                number: 0,
                at: self.clock.now(),
                level: LogLevel::Warn,
                target: TARGET.to_owned(),
                message: format!(
                    "{dropped} lines are missing here: they came faster than they could be stored"
                ),
                fields: serde_json::Map::from_iter([("dropped".to_owned(), dropped.into())]),
                run,
                task: None,
                attempt: None,
                map_index: None,
            });
        }
        lines
    }
}

impl Drop for LogSink {
    fn drop(&mut self) {
        while self.hand_over().is_some() {}
    }
}

/// Logs that cannot be stored are no failure of what they tell of.
async fn stored(commit: Commit) {
    if let Err(error) = commit.wait().await {
        tracing::debug!("lines of logs could not be stored: {error}");
    }
}

/// Nobody will empty the buffer soon, once this is gone; so it is emptied now.
struct Soon(std::sync::Weak<LogSink>);

impl Drop for Soon {
    fn drop(&mut self) {
        if let Some(sink) = self.0.upgrade() {
            sink.buffer.lock().soon = false;
            while sink.hand_over().is_some() {}
        }
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::*;
    use crate::store::suite::{Opened, line, new_run, started};

    #[tokio::test]
    async fn a_flood_does_not_eat_memory_and_says_what_is_missing() {
        let opened = Opened::new("sqlite");
        let run = new_run("etl");
        let id = run.id;
        let _log = started(&*opened.store, run, 1).await;
        let sink = LogSink::new(Arc::clone(&opened.store), Clock::system());
        let tokio = Tokio::current();
        // nobody else comes to the thread meanwhile
        for number in 0..TOO_MANY + 77 {
            sink.push(line(id, &format!("{number}")), &tokio);
        }
        assert_eq!(sink.buffer.lock().lines.len(), TOO_MANY);
        sink.flush().await;
        let lines = opened.store.logs(id, 0, TOO_MANY + 100).await.unwrap();
        assert_eq!(lines.len(), TOO_MANY + 1);
        assert_eq!(lines[TOO_MANY - 1].message, "9999");
        assert_eq!(lines[TOO_MANY].fields["dropped"], 77);
        assert!(lines[TOO_MANY].at > DateTime::from_timestamp(0, 0).unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn lines_are_stored_soon_and_when_their_runtime_goes() {
        let opened = Opened::new("sqlite");
        let run = new_run("etl");
        let id = run.id;
        let _log = started(&*opened.store, run, 1).await;
        let sink = LogSink::new(Arc::clone(&opened.store), Clock::system());
        let stored = async || opened.store.logs(id, 0, 10).await.unwrap().len();
        for expected in [1, 2] {
            sink.push(line(id, "soon"), &Tokio::current());
            assert_eq!(stored().await, expected - 1);
            tokio::time::sleep(DELAY + Duration::from_millis(1)).await;
            assert_eq!(stored().await, expected);
        }
        // a body that has the thread for itself
        let later = TimeDelta::seconds(1);
        sink.push(line(id, "early"), &Tokio::current());
        sink.push(
            LogLine {
                at: line(id, "").at + later,
                ..line(id, "late")
            },
            &Tokio::current(),
        );
        assert_eq!(stored().await, 4);
        sink.push(line(id, "at last"), &Tokio::current());
        drop(sink);
        assert_eq!(stored().await, 5);
    }
}
