//! The buffer of a runtime's log lines, and the thread that stores it.
//!
//! Lines are stored even while bodies occupy all threads of tokio, so nothing here waits for tokio:
//! a thread of its own stores the buffer. The first line starts the thread, and it ends as soon as
//! the buffer is empty: it does not outlive the process or the runtime, and tests with paused time
//! are not affected.
//!
//! Lines are stored in the order in which they were pushed. [`Shared::in_hand`] is locked from the
//! time they are taken out of the buffer until they are stored: otherwise two threads could store
//! their lines in the wrong order. Lines that could not be stored stay there, ahead of all others.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::error::StoreError;
use crate::log::LogLine;
use crate::store::{Backlog, LogStore};

/// The longest time that a line waits for others before it is stored.
pub(super) const DELAY: Duration = Duration::from_millis(200);

/// The number of lines that are stored without waiting for more, in one transaction. It takes two
/// or three milliseconds.
const MANY: usize = 1_000;

/// The limit on the lines of one transaction, in bytes.
const MANY_BYTES: usize = 1 << 20;

/// The limit on the lines of a runtime that wait to be stored, in bytes.
const ROOM: usize = 64 << 20;

/// The time between attempts while the store cannot take lines.
const RETRY: Duration = Duration::from_millis(50);

/// The time that a thread of tokio, or the end of a runtime, waits for a store that cannot take
/// lines.
const PATIENCE: Duration = Duration::from_secs(1);

/// Stores the log lines of a runtime, in batches.
#[derive(Debug)]
pub(crate) struct LogSink(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Arc<dyn LogStore>,
    is_durable: bool,
    buffer: Mutex<Buffer>,
    /// Notified when the buffer is long, or is closed.
    stirred: Condvar,
    /// The lines that were taken out of the buffer and are not stored yet.
    in_hand: Mutex<Vec<LogLine>>,
}

#[derive(Debug)]
struct Buffer {
    lines: Backlog,
    is_closed: bool,
    /// Whether a thread will look at the buffer again.
    is_attended: bool,
    thread: Option<JoinHandle<()>>,
}

/// The outcome of storing lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drained {
    All,
    /// The store cannot take lines now.
    NotNow,
    /// The disk is full: nothing waits for these lines.
    NoRoom,
}

impl LogSink {
    pub(crate) fn new(store: Arc<dyn LogStore>, is_durable: bool) -> Arc<Self> {
        let buffer = Buffer {
            lines: Backlog::new(ROOM),
            is_closed: false,
            is_attended: false,
            thread: None,
        };
        Arc::new(Self(Arc::new(Shared {
            is_durable,
            store,
            buffer: Mutex::new(buffer),
            stirred: Condvar::new(),
            in_hand: Mutex::default(),
        })))
    }

    /// Adds a line, which is stored soon.
    pub(super) fn push(&self, line: LogLine) {
        let shared = &self.0;
        if !shared.is_durable {
            // batches are not faster in memory
            let _ = shared.store.append_logs(&mut vec![line], false);
            return;
        }
        let mut buffer = shared.buffer.lock();
        buffer.lines.push(line);
        if buffer.lines.len() == MANY {
            shared.stirred.notify_all();
        }
        shared.start_thread(&mut buffer, Drained::All);
    }

    /// Waits until all lines pushed so far are stored. Later lines are not waited for: under a
    /// steady load that would not end.
    pub(crate) async fn flush(&self) {
        let until = self.0.buffer.lock().lines.last();
        if self.0.drain_inline(until) == Drained::All {
            return;
        }
        loop {
            let shared = Arc::clone(&self.0);
            // on a blocking thread of tokio, which keeps paused time from advancing meanwhile
            match tokio::task::spawn_blocking(move || shared.drain_patiently(until)).await {
                Ok(Drained::NotNow) => {}
                // tokio is shutting down: the lines are stored when the runtime is dropped
                Ok(Drained::All | Drained::NoRoom) | Err(_) => return,
            }
        }
    }
}

impl Drop for LogSink {
    fn drop(&mut self) {
        let thread = {
            let mut buffer = self.0.buffer.lock();
            buffer.is_closed = true;
            buffer.thread.take()
        };
        self.0.stirred.notify_all();
        // the thread holds the store, which must be closed once the runtime is gone
        if let Some(thread) = thread {
            let _ = thread.join();
        }
        self.0.drain_patiently(u64::MAX);
    }
}

impl Shared {
    /// Starts the thread, unless there is one.
    fn start_thread(self: &Arc<Self>, buffer: &mut Buffer, last: Drained) {
        if buffer.is_attended || buffer.is_closed {
            return;
        }
        let shared = Arc::clone(self);
        let thread = std::thread::Builder::new().name("orchestrator-logs".to_owned());
        // if no thread can be created, the next line tries again, and the end of the run stores all
        // lines
        buffer.thread = thread.spawn(move || shared.attend(last)).ok();
        buffer.is_attended = buffer.thread.is_some();
    }

    /// Stores lines until the buffer is empty.
    fn attend(&self, mut last: Drained) {
        while self.wait(last) {
            last = self.drain(u64::MAX, true);
        }
    }

    /// Waits until lines should be stored; how long depends on the last outcome. Returns `false` if
    /// the thread is no longer needed.
    fn wait(&self, last: Drained) -> bool {
        let mut buffer = self.buffer.lock();
        let is_stored = last == Drained::All;
        if !(buffer.is_closed || is_stored && buffer.lines.len() >= MANY) {
            self.stirred
                .wait_for(&mut buffer, if is_stored { DELAY } else { RETRY });
        }
        // decided under the lock under which lines are pushed: a line pushed after this starts
        // another thread, and none is left behind
        buffer.is_attended = !(buffer.is_closed || is_stored && buffer.lines.is_empty());
        buffer.is_attended
    }

    /// Stores lines up to a number, blocking if `may_block` is `true`.
    fn drain(&self, until: u64, may_block: bool) -> Drained {
        loop {
            let in_hand = if may_block {
                Some(self.in_hand.lock())
            } else {
                self.in_hand.try_lock()
            };
            let Some(mut in_hand) = in_hand else {
                return Drained::NotNow;
            };
            if in_hand.is_empty() {
                let lines = &mut self.buffer.lock().lines;
                if lines.first().is_none_or(|first| first > until) {
                    return Drained::All;
                }
                *in_hand = lines.take(MANY, MANY_BYTES);
            }
            match self.store.append_logs(&mut in_hand, may_block) {
                Ok(true) => {}
                Ok(false) => return Drained::NotNow,
                Err(StoreError::Full { .. }) => return Drained::NoRoom,
                Err(error) => {
                    // a task must not fail because its log cannot be stored
                    tracing::debug!("log lines dropped, storing them failed: {error}");
                    in_hand.clear();
                }
            }
            // handed over fairly: under a steady load this loop would otherwise keep the lock, and
            // a caller that waits for a few lines would wait for all
            MutexGuard::unlock_fair(in_hand);
        }
    }

    /// Stores lines inline if there are few: a small run then ends without a change of threads.
    fn drain_inline(&self, until: u64) -> Drained {
        if self.buffer.lock().lines.len() > MANY {
            return Drained::NotNow;
        }
        self.drain(until, false)
    }

    /// Stores lines on a thread that may block. Gives up after [`PATIENCE`], since the end of the
    /// process may depend on it.
    fn drain_patiently(self: &Arc<Self>, until: u64) -> Drained {
        let started = Instant::now();
        loop {
            let drained = self.drain(until, true);
            if drained == Drained::All {
                return drained;
            }
            if drained == Drained::NoRoom || started.elapsed() > PATIENCE {
                // lines in hand must be stored even if no further line starts the thread
                self.start_thread(&mut self.buffer.lock(), drained);
                return drained;
            }
            std::thread::park_timeout(RETRY);
        }
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;
    use crate::id::RunId;
    use crate::store::RunLog;
    use crate::store::suite::{Opened, line, new_run, started};

    async fn sink() -> (Opened, RunId, Arc<dyn RunLog>, Arc<LogSink>) {
        let opened = Opened::new("sqlite");
        let run = new_run("etl");
        let id = run.id;
        let log = started(&*opened.store, run, 1).await;
        let sink = LogSink::new(Arc::clone(&opened.store) as _, true);
        (opened, id, log, sink)
    }

    #[tokio::test]
    async fn twelve_thousand_lines_at_once_are_bounded_and_the_last_are_stored() {
        let (opened, id, _log, sink) = sink().await;
        // locked, so that nothing is stored meanwhile
        let in_hand = sink.0.in_hand.lock();
        for number in 0..12_000 {
            sink.push(line(id, &number.to_string()));
        }
        drop(in_hand);
        sink.flush().await;
        let lines = opened.store.read_logs(id, 0, 20_000).await.unwrap();
        assert_eq!(lines.len(), 10_001);
        assert_eq!(
            (&*lines[999].message, &lines[1_000].fields["dropped"]),
            ("999", &2_000.into())
        );
        assert_eq!(
            (&*lines[1_001].message, &*lines[10_000].message),
            ("3000", "11999")
        );
    }

    /// The only thread of tokio is occupied by the test itself.
    #[tokio::test]
    async fn lines_are_stored_though_no_thread_of_tokio_is_free() {
        let (opened, id, _log, sink) = sink().await;
        for pushed in 1..=2 {
            sink.push(line(id, "soon"));
            let started = Instant::now();
            let stored = || {
                let connection =
                    rusqlite::Connection::open(opened.folder().join("runs.db")).unwrap();
                connection
                    .query_row("SELECT count(*) FROM logs", [], |row| row.get::<_, i64>(0))
                    .unwrap()
            };
            while stored() < pushed {
                assert!(
                    started.elapsed() < Duration::from_secs(60),
                    "{} of {pushed}",
                    stored()
                );
                std::thread::park_timeout(Duration::from_millis(10));
            }
        }
        // then the thread ends
        let started = Instant::now();
        while sink.0.buffer.lock().is_attended {
            assert!(started.elapsed() < Duration::from_secs(60));
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    #[tokio::test]
    async fn lines_wait_for_another_process_and_keep_their_order() {
        let (opened, id, _log, sink) = sink().await;
        let other = rusqlite::Connection::open(opened.folder().join("runs.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        sink.push(line(id, "first"));
        assert_eq!(sink.0.drain_patiently(u64::MAX), Drained::NotNow);
        assert_eq!(sink.0.in_hand.lock().len(), 1);
        assert!(sink.0.buffer.lock().is_attended);
        sink.push(line(id, "second"));
        other.execute_batch("COMMIT").unwrap();
        sink.flush().await;
        let lines = opened.store.read_logs(id, 0, 10).await.unwrap();
        assert_eq!(
            lines.iter().map(|line| &*line.message).collect::<Vec<_>>(),
            ["first", "second"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn lines_are_stored_when_their_runtime_goes_and_paused_time_stands_still() {
        let (opened, id, _log, sink) = sink().await;
        let before = tokio::time::Instant::now();
        sink.push(line(id, "flushed"));
        let mut flushed = Box::pin(sink.flush());
        {
            let _in_hand = sink.0.in_hand.lock();
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(flushed.as_mut().poll(&mut cx).is_pending());
        }
        flushed.await;
        assert_eq!(before, tokio::time::Instant::now());
        sink.push(line(id, "at last"));
        drop(sink);
        let lines = opened.store.read_logs(id, 0, 10).await.unwrap();
        assert_eq!(
            lines.iter().map(|line| &*line.message).collect::<Vec<_>>(),
            ["flushed", "at last"]
        );
    }
}
