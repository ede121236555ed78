//! Holds keep a run with this process until nothing of it is running any more.
//!
//! Each lane of a run, and each thread with a blocking body, shares the run's hold. When the
//! process gives the run up, dropping the last share releases the run to other processes. If a body
//! does not return, the run is released when the process ends. Until then, no other process
//! executes it: two executions at once would repeat the body's effects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::journal::Transition;
use crate::store::RunLog;

/// The state that lanes and threads share as long as a part of their run may be running.
#[derive(Debug)]
pub(crate) struct Hold {
    log: Arc<dyn RunLog>,
    /// The hold of the run whose body waits for this one.
    outer: Option<Arc<Self>>,
    threads: Mutex<Threads>,
    /// Whether the process gave the run up.
    leaves: AtomicBool,
    let_go: CancellationToken,
    /// Cancelled once nothing of the run is recorded any more.
    left: CancellationToken,
}

impl Hold {
    pub(crate) fn new(log: Arc<dyn RunLog>, outer: Option<Arc<Self>>) -> Arc<Self> {
        let (threads, leaves, let_go) = (
            Mutex::default(),
            AtomicBool::new(false),
            CancellationToken::new(),
        );
        Arc::new(Self {
            log,
            outer,
            threads,
            leaves,
            let_go,
            left: CancellationToken::new(),
        })
    }

    /// Gives the run up: dropping the last share of the hold releases it to other processes.
    /// Returns a token that is cancelled then.
    pub(crate) fn leave(self: Arc<Self>) -> CancellationToken {
        if Arc::strong_count(&self) > 1 {
            // recorded before any share can be dropped: once the run is released, nothing more may
            // be written about it
            self.log.record(Transition::Leaving);
        }
        self.leaves.store(true, Ordering::Release);
        self.abandon();
        self.let_go.clone()
    }

    /// Notifies the bodies that nothing of the run is recorded any more.
    pub(crate) fn abandon(&self) {
        self.left.cancel();
    }

    /// Returns a token that is cancelled once nothing of the recorded run is recorded any more.
    pub(crate) fn left(&self) -> CancellationToken {
        self.outermost().left.clone()
    }

    /// Returns the keys of the tasks whose bodies are running. `async` bodies are not listed by
    /// name.
    pub(crate) fn bodies(&self) -> Vec<String> {
        let threads = self.threads.lock();
        match threads.running.is_empty() {
            true => vec!["(async)".to_owned()],
            false => threads.running.values().cloned().collect(),
        }
    }

    /// Returns the hold of the recorded run: tasks that bodies await themselves are part of their
    /// bodies' run.
    fn outermost(&self) -> &Self {
        std::iter::successors(Some(self), |hold| hold.outer.as_deref())
            .last()
            .unwrap_or(self)
    }
}

/// The running blocking bodies: the keys of their tasks, in the order of their starts.
#[derive(Debug, Default)]
struct Threads {
    next: u64,
    running: BTreeMap<u64, String>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if *self.leaves.get_mut() {
            self.log.record(Transition::Released);
            // committed here, or by another writer that leads; if the commit fails, the run is
            // released when the process ends
            drop(self.log.commit());
        }
        self.let_go.cancel();
    }
}

/// A shared counter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

impl Count {
    pub(crate) fn any(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }

    /// Increments the counter until the returned guard is dropped.
    pub(crate) fn enter(&self) -> CountGuard {
        self.0.fetch_add(1, Ordering::AcqRel);
        CountGuard(self.clone())
    }
}

/// A guard that decrements its counter when it is dropped.
#[derive(Debug)]
pub(crate) struct CountGuard(Count);

impl Drop for CountGuard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The thread of a blocking body: it shares the hold of its run, and is counted.
#[derive(Debug)]
pub(crate) struct Thread {
    hold: Option<Arc<Hold>>,
    number: u64,
    _counted: CountGuard,
}

impl Thread {
    pub(crate) fn new(threads: &Count, hold: Option<Arc<Hold>>, key: String) -> Self {
        let number = hold.as_ref().map_or(0, |hold| {
            let threads = &mut *hold.outermost().threads.lock();
            threads.next += 1;
            threads.running.insert(threads.next, key);
            threads.next
        });
        Self {
            hold,
            number,
            _counted: threads.enter(),
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(hold) = &self.hold {
            hold.outermost().threads.lock().running.remove(&self.number);
        }
    }
}
