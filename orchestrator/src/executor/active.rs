//! The runs that a runtime executes, and its shutdown signal.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::hold::{Count, Hold};
use crate::id::RunId;
use crate::store::Store;

/// The interval of looking at the store for changes by other processes; also that of waiting for
/// their runs.
pub(crate) const STORE_POLL: Duration = Duration::from_secs(1);

/// The shutdown signal of a runtime, in two steps: after `soft`, nothing starts any more; at
/// `hard`, the grace period is over.
#[derive(Clone, Debug, Default)]
pub(crate) struct StopSignal {
    pub(crate) soft: CancellationToken,
    pub(crate) hard: CancellationToken,
}

impl StopSignal {
    /// Creates a signal without a grace period.
    pub(crate) fn at_once(stop: CancellationToken) -> Self {
        Self {
            soft: stop.clone(),
            hard: stop,
        }
    }

    /// Creates a signal of its own for a part of the runtime's work; this signal triggers it, too.
    pub(crate) fn child(&self) -> Self {
        Self {
            soft: self.soft.child_token(),
            hard: self.hard.child_token(),
        }
    }
}

/// The runs that a runtime executes.
#[derive(Clone, Debug, Default)]
pub(crate) struct ActiveRuns {
    runs: Arc<Mutex<RunRegistry>>,
    /// The threads that run blocking bodies.
    pub(crate) threads: Count,
}

#[derive(Debug, Default)]
struct RunRegistry {
    by_id: HashMap<RunId, Arc<ActiveRunEntry>>,
    /// The task that listens for cancel requests of other processes while there are runs.
    listener: Option<JoinHandle<()>>,
    /// One token per takeover in progress; cancelled when the run is registered here, or is not
    /// taken over after all.
    taking: Vec<CancellationToken>,
    /// The runs whose ends other runs wait for.
    awaited: HashMap<RunId, watch::Sender<()>>,
    /// Runs that this process gave up while some of their bodies had not returned.
    kept: HashMap<RunId, Weak<Hold>>,
}

#[derive(Debug)]
struct ActiveRunEntry {
    cancel: CancellationToken,
    done: CancellationToken,
}

impl ActiveRuns {
    /// Registers a run until the returned guard is dropped. Until then, cancel requests of other
    /// processes reach it through the store `heard`.
    pub(crate) fn enter(
        &self,
        run: RunId,
        cancel: &CancellationToken,
        heard: Option<&Arc<dyn Store>>,
    ) -> ActiveRunGuard {
        let entry = Arc::new(ActiveRunEntry {
            cancel: cancel.clone(),
            done: CancellationToken::new(),
        });
        let mut runs = self.runs.lock();
        runs.by_id.insert(run, Arc::clone(&entry));
        // a listener whose tokio runtime has shut down would never hear anything again
        if let Some(store) = heard
            && runs.listener.as_ref().is_none_or(JoinHandle::is_finished)
        {
            runs.listener = Some(tokio::spawn(hear_cancels(Arc::clone(store), self.clone())));
        }
        drop(runs);
        ActiveRunGuard {
            active: self.clone(),
            run,
            entry,
        }
    }

    /// Announces a takeover: [`Runtime::stop`] waits until the returned guard is dropped, so that
    /// it does not miss a run that is being taken over.
    pub(crate) fn taking(&self) -> DropGuard {
        let token = CancellationToken::new();
        let taking = &mut self.runs.lock().taking;
        taking.retain(|other| !other.is_cancelled());
        taking.push(token.clone());
        token.drop_guard()
    }

    /// Returns a token for each takeover in progress, which is cancelled at its end.
    pub(crate) fn takeovers(&self) -> Vec<CancellationToken> {
        self.runs.lock().taking.clone()
    }

    /// Returns the token that cancels a run, and the one that is cancelled at its end; `None` if
    /// the run is not executed here.
    pub(crate) fn of(&self, run: RunId) -> Option<(CancellationToken, CancellationToken)> {
        self.runs
            .lock()
            .by_id
            .get(&run)
            .map(|entry| (entry.cancel.clone(), entry.done.clone()))
    }

    /// Listens to the ends of a run in this process.
    pub(crate) fn ends_of(&self, run: RunId) -> RunEnds {
        let awaited = &mut self.runs.lock().awaited;
        RunEnds {
            active: self.clone(),
            run,
            ended: awaited.entry(run).or_default().subscribe(),
        }
    }

    /// Remembers a run that was given up until all of its bodies have returned.
    pub(crate) fn keep(&self, run: RunId, hold: Weak<Hold>) {
        self.runs.lock().kept.insert(run, hold);
    }

    /// Returns the bodies of given-up runs that have not returned.
    pub(crate) fn unreturned(&self) -> Vec<String> {
        let kept = &mut self.runs.lock().kept;
        kept.retain(|_, hold| hold.strong_count() > 0);
        let mut unreturned: Vec<String> = kept
            .values()
            .filter_map(Weak::upgrade)
            .flat_map(|hold| hold.bodies())
            .collect();
        unreturned.sort_unstable();
        unreturned
    }

    /// Cancels all runs.
    pub(crate) fn cancel(&self) {
        self.runs
            .lock()
            .by_id
            .values()
            .for_each(|entry| entry.cancel.cancel());
    }

    pub(crate) fn runs(&self) -> Vec<(RunId, CancellationToken)> {
        self.runs
            .lock()
            .by_id
            .iter()
            .map(|(run, entry)| (*run, entry.done.clone()))
            .collect()
    }
}

/// The registration of a run; dropping it removes the run.
pub(crate) struct ActiveRunGuard {
    active: ActiveRuns,
    run: RunId,
    entry: Arc<ActiveRunEntry>,
}

impl Drop for ActiveRunGuard {
    fn drop(&mut self) {
        let mut runs = self.active.runs.lock();
        // a run whose end is recorded may be re-run before this guard is dropped: then the map
        // holds the entry of the re-run, which must stay
        if runs
            .by_id
            .get(&self.run)
            .is_some_and(|entry| Arc::ptr_eq(entry, &self.entry))
        {
            runs.by_id.remove(&self.run);
        }
        let listener = if runs.by_id.is_empty() {
            runs.listener.take()
        } else {
            None
        };
        if let Some(awaited) = runs.awaited.get(&self.run) {
            awaited.send_replace(());
        }
        drop(runs);
        listener.inspect(JoinHandle::abort);
        self.entry.done.cancel();
    }
}

/// The ends of a run in this process: each time that it finishes or is given up. A run has several
/// if it is re-run.
pub(crate) struct RunEnds {
    active: ActiveRuns,
    pub(crate) run: RunId,
    ended: watch::Receiver<()>,
}

impl RunEnds {
    /// Waits for the next end, or returns at once if there was one since the last call.
    pub(crate) async fn next(&mut self) {
        // cannot fail: the sender is kept for as long as there are receivers
        if self.ended.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for RunEnds {
    fn drop(&mut self) {
        let awaited = &mut self.active.runs.lock().awaited;
        // this receiver is the last one
        if awaited
            .get(&self.run)
            .is_some_and(|ended| ended.receiver_count() <= 1)
        {
            awaited.remove(&self.run);
        }
    }
}

/// Cancels the runs of a runtime for which other processes have requested it. Cancels all of them
/// if the store refuses all writes of this process, since other processes may be executing them by
/// then. Looks once a second.
pub(crate) async fn hear_cancels(store: Arc<dyn Store>, active: ActiveRuns) {
    let mut sight = LoggedPoll::of("cancel requests of other processes");
    loop {
        tokio::time::sleep(STORE_POLL).await;
        let cancelling = sight
            .now(store.find_cancel_requests().await)
            .unwrap_or_default();
        if store.failure().is_some() {
            return active.cancel();
        }
        for (cancel, _) in cancelling.into_iter().filter_map(|run| active.of(run)) {
            cancel.cancel();
        }
    }
}

/// A repeated observation. Its failure is logged once, and so is its recovery.
pub(crate) struct LoggedPoll {
    what: &'static str,
    failing: bool,
}

impl LoggedPoll {
    pub(crate) fn of(what: &'static str) -> Self {
        Self {
            what,
            failing: false,
        }
    }

    pub(crate) fn now<T, E: fmt::Display>(&mut self, looked: Result<T, E>) -> Option<T> {
        let was_failing = std::mem::replace(&mut self.failing, looked.is_err());
        match &looked {
            Err(error) if !was_failing => tracing::error!("cannot read {}: {error}", self.what),
            Ok(_) if was_failing => tracing::info!("can read {} again", self.what),
            _ => {}
        }
        looked.ok()
    }
}
/// Joins the first few names and counts the rest.
pub(crate) fn few(names: &[String]) -> String {
    const FEW: usize = 5;
    match names.len().checked_sub(FEW).filter(|more| *more > 0) {
        Some(more) => format!("{} and {more} more", names[..FEW].join(", ")),
        None => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::id::IdSource;

    #[tokio::test]
    async fn ends_of_a_run_wake_those_that_listen_and_leave_nothing_behind() {
        let (active, cancel) = (ActiveRuns::default(), CancellationToken::new());
        let ids = IdSource::from_seed(1);
        let [run, other] = [(); 2].map(|()| ids.run_id(Clock::tokio_from_now().now()));
        let (mut one, mut two) = (active.ends_of(run), active.ends_of(run));
        drop(active.enter(other, &cancel, None));
        let guard = active.enter(run, &cancel, None);
        assert!(!one.ended.has_changed().unwrap());
        drop(guard);
        // an end before the call counts
        one.next().await;
        two.next().await;
        assert!(!one.ended.has_changed().unwrap());
        drop(one);
        drop(active.enter(run, &cancel, None));
        two.next().await;
        drop(two);
        assert!(active.runs.lock().awaited.is_empty());
    }
}
