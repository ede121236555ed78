//! Shutdown of a runtime: running bodies are drained, unfinished runs are left to be resumed.

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, pending};
use std::process::{ExitCode, Termination};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::ambient::{AMBIENT, Ambient};
use super::hold::Hold;
use super::{Runtime, watch};
use crate::clock::in_time;
use crate::error::Error;
use crate::id::RunId;
use crate::store::Store;

/// The shutdown signal of a runtime, in two steps: after `soft`, nothing starts any more; at
/// `hard`, the grace period is over.
#[derive(Clone, Debug, Default)]
pub(crate) struct StopSignal {
    pub(crate) soft: CancellationToken,
    pub(crate) hard: CancellationToken,
}

impl StopSignal {
    /// Creates a signal without a grace period.
    pub(super) fn at_once(stop: CancellationToken) -> Self {
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

/// Waits for a run. If the shutdown of the runtime prevents its end, a body that waits for it gets
/// the error only when its own run is left by the same shutdown. Earlier, the error would be
/// recorded as a failure of the body, although the body is to run again. A body that can be dropped
/// never gets the error.
pub(super) async fn unless_left<T>(
    run: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let run = run.await;
    let stops = |ambient: &Ambient| {
        ambient
            .runtime
            .stop
            .soft
            .is_cancelled()
            .then(|| ambient.hold.clone())
    };
    if let Err(Error::Stopped { .. } | Error::Closed) = run
        && let Ok(Some(hold)) = AMBIENT.try_with(stops)
    {
        match hold {
            // a blocking body cannot be dropped, so it needs the error to return
            Some(hold) => hold.left().cancelled().await,
            None => pending().await,
        }
    }
    run
}

/// The runs that a runtime executes.
#[derive(Clone, Debug, Default)]
pub(super) struct UnderWay(Arc<Mutex<Runs>>);

#[derive(Debug, Default)]
struct Runs {
    by_id: HashMap<RunId, Arc<Entry>>,
    /// The task that listens for cancel requests of other processes while there are runs.
    listener: Option<JoinHandle<()>>,
    /// One token per takeover in progress; cancelled when the run is registered here, or is not
    /// taken over after all.
    taking: Vec<CancellationToken>,
    /// Runs that this process gave up while some of their bodies had not returned.
    kept: HashMap<RunId, Weak<Hold>>,
}

#[derive(Debug)]
struct Entry {
    cancel: CancellationToken,
    done: CancellationToken,
}

impl UnderWay {
    /// Registers a run until the returned guard is dropped. Until then, cancel requests of other
    /// processes reach it through the store `heard`.
    pub(super) fn enter(
        &self,
        run: RunId,
        cancel: &CancellationToken,
        heard: Option<&Arc<dyn Store>>,
    ) -> Left {
        let entry = Arc::new(Entry {
            cancel: cancel.clone(),
            done: CancellationToken::new(),
        });
        let mut runs = self.0.lock();
        runs.by_id.insert(run, Arc::clone(&entry));
        // a listener whose tokio runtime has shut down would never hear anything again
        if let Some(store) = heard
            && runs.listener.as_ref().is_none_or(JoinHandle::is_finished)
        {
            runs.listener = Some(tokio::spawn(watch::hear_cancels(
                Arc::clone(store),
                self.clone(),
            )));
        }
        drop(runs);
        Left {
            under_way: self.clone(),
            run,
            entry,
        }
    }

    /// Announces a takeover: [`Runtime::stop`] waits until the returned guard is dropped, so that
    /// it does not miss a run that is being taken over.
    pub(super) fn taking(&self) -> DropGuard {
        let token = CancellationToken::new();
        let taking = &mut self.0.lock().taking;
        taking.retain(|other| !other.is_cancelled());
        taking.push(token.clone());
        token.drop_guard()
    }

    /// Returns the token that cancels a run, and the one that is cancelled at its end; `None` if
    /// the run is not executed here.
    pub(super) fn of(&self, run: RunId) -> Option<(CancellationToken, CancellationToken)> {
        self.0
            .lock()
            .by_id
            .get(&run)
            .map(|entry| (entry.cancel.clone(), entry.done.clone()))
    }

    /// Remembers a run that was given up until all of its bodies have returned.
    pub(super) fn keep(&self, run: RunId, hold: Weak<Hold>) {
        self.0.lock().kept.insert(run, hold);
    }

    /// Returns the bodies of given-up runs that have not returned.
    fn unreturned(&self) -> Vec<String> {
        let kept = &mut self.0.lock().kept;
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
    pub(super) fn cancel(&self) {
        self.0
            .lock()
            .by_id
            .values()
            .for_each(|entry| entry.cancel.cancel());
    }

    fn runs(&self) -> Vec<(RunId, CancellationToken)> {
        self.0
            .lock()
            .by_id
            .iter()
            .map(|(run, entry)| (*run, entry.done.clone()))
            .collect()
    }
}

/// The registration of a run; dropping it removes the run.
pub(super) struct Left {
    under_way: UnderWay,
    run: RunId,
    entry: Arc<Entry>,
}

impl Drop for Left {
    fn drop(&mut self) {
        let mut runs = self.under_way.0.lock();
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
        drop(runs);
        listener.inspect(JoinHandle::abort);
        self.entry.done.cancel();
    }
}

/// The outcome of a shutdown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stopped {
    /// The runs that were left unfinished. They resume when the program is started again.
    pub left: Vec<RunId>,
    /// The number of the signal that cut the drain short, if any.
    pub cut_short_by: Option<u8>,
    /// The bodies of unfinished runs that have not returned, as the keys of their tasks; `async`
    /// bodies that block their thread are marked `(async)`. This process keeps their runs until
    /// these bodies return or the process ends.
    pub unreturned: Vec<String>,
}

impl Stopped {
    /// Returns the exit status of the shutdown: 0 if every run ended, 75 ("try again") if some were
    /// left to be resumed, or 128 plus the number of the signal if a second signal cut the drain
    /// short.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    fn code(&self) -> u8 {
        match (self.cut_short_by, self.left.is_empty()) {
            (Some(signal), _) => 128 + signal,
            (None, true) => 0,
            (None, false) => 75,
        }
    }
}

/// The outcome of a shutdown by a signal.
#[derive(Debug)]
pub(crate) struct Halted {
    pub(crate) stopped: Stopped,
    /// Whether bodies still run or the store does not answer, so that the process would not end
    /// when `main` returns.
    is_stuck: bool,
}

impl Halted {
    /// Creates the outcome of a shutdown that was not caused by a signal; the process continues.
    pub(crate) fn within(stopped: Stopped) -> Self {
        Self {
            stopped,
            is_stuck: false,
        }
    }

    /// Ends the process if it would not end when `main` returns, since tokio waits for its blocking
    /// threads.
    pub(crate) fn end(self) -> Stopped {
        if self.is_stuck {
            tracing::warn!(
                tasks = few(&self.stopped.unreturned),
                "bodies have not returned, and end with the process"
            );
            // a thread that does not return cannot be ended in any other way
            std::process::exit(self.stopped.code().into());
        }
        self.stopped
    }
}

/// Returned from `main`, ends the process with the [exit status](Stopped::exit_code).
impl Termination for Stopped {
    fn report(self) -> ExitCode {
        self.exit_code()
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.left.len() {
            0 => f.write_str("stopped: every run came to its end"),
            1 => f.write_str("stopped: 1 run is left; it goes on when the program serves again"),
            runs => write!(
                f,
                "stopped: {runs} runs are left; they go on when the program serves again"
            ),
        }
    }
}

impl std::error::Error for Stopped {}

/// The time that a process waits for its store after the grace period, so that the last records are
/// committed.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Joins the first few names and counts the rest.
pub(super) fn few(names: &[String]) -> String {
    const FEW: usize = 5;
    match names.len().checked_sub(FEW).filter(|more| *more > 0) {
        Some(more) => format!("{} and {more} more", names[..FEW].join(", ")),
        None => names.join(", "),
    }
}

impl Runtime {
    /// Shuts the runtime down. Nothing starts any more. Running bodies have the grace period to end
    /// ([`RuntimeBuilder::grace`](crate::RuntimeBuilder::grace), 30 seconds by default). Unfinished
    /// runs are left to be resumed when the program is started again; on a store in memory, they
    /// are cancelled.
    ///
    /// Code that waits for an unfinished run gets [`Error::Stopped`](crate::Error::Stopped). The
    /// runtime does not accept any more runs.
    ///
    /// A task that a body awaits itself is part of the body: it may start as long as the body runs.
    /// A body that waits for, or starts, a run that is left unfinished gets no error before the
    /// grace period is over; then it is left as well, and runs again.
    ///
    /// A body that does not return in time cannot be stopped: neither a blocking `fn`, nor an
    /// `async` body that blocks its thread. [`Stopped::unreturned`] names these bodies. Other
    /// processes can take over their runs only after the bodies have returned or this process has
    /// ended.
    pub async fn stop(&self) -> Stopped {
        // taken before the signal: a run without running bodies is left at once, and would be
        // missing from the list otherwise
        let mut runs = self.0.under_way.runs();
        self.0.stop.soft.cancel();
        // takeovers that begin from now on find the runtime stopped; those in progress may still
        // register a run, which has to be in the second list
        let taking = self.0.under_way.0.lock().taking.clone();
        for taken in taking {
            taken.cancelled().await;
        }
        runs.extend(self.0.under_way.runs());
        let mut left = Vec::new();
        for (run, done) in runs {
            done.cancelled().await;
            let is_final = match self.0.store.run(run).await {
                Ok(Some(record)) => record.state().is_final(),
                Ok(None) | Err(_) => false,
            };
            if !is_final {
                left.push(run);
            }
        }
        self.0.flush_logs().await;
        if let Err(error) = self.0.store.flush().await {
            tracing::error!("the last records of the stopped runtime were not committed: {error}");
        }
        left.sort_unstable();
        left.dedup();
        Stopped {
            left,
            cut_short_by: None,
            unreturned: self.0.under_way.unreturned(),
        }
    }

    /// Runs `work`, and [stops](Self::stop) the runtime when the process receives SIGTERM or SIGINT
    /// (Ctrl-C). A second signal cuts the drain short.
    ///
    /// If a body has not returned by then, this function does not return either, since tokio would
    /// wait for the body's thread after `main`. Instead it ends the process with the same [exit
    /// status](Stopped::exit_code), without running destructors.
    ///
    /// # Errors
    ///
    /// Returns [`Stopped`] if a signal was received; it has an [exit status](Stopped::exit_code)
    /// for `main`.
    ///
    /// # Examples
    ///
    /// ```
    /// use orchestrator::prelude::*;
    /// use std::process::ExitCode;
    ///
    /// #[task]
    /// async fn hello() -> u32 { 1 }
    ///
    /// #[flow]
    /// fn say_hello() -> Node<u32> { hello() }
    ///
    /// #[tokio::main(flavor = "current_thread")]
    /// async fn main() -> Result<ExitCode> {
    ///     let runtime = Runtime::in_memory();
    ///     match runtime.until_signal(say_hello().on(&runtime).run()).await {
    ///         Ok(run) => println!("{}", run?.state()),
    ///         Err(stopped) => return Ok(stopped.exit_code()),
    ///     }
    ///     Ok(ExitCode::SUCCESS)
    /// }
    /// ```
    pub async fn until_signal<F: Future>(&self, work: F) -> Result<F::Output, Stopped> {
        self.until_halt(work).await.map_err(Halted::end)
    }

    /// Does the same as [`until_signal`](Self::until_signal), but leaves ending the process to the
    /// caller.
    pub(crate) async fn until_halt<F: Future>(&self, work: F) -> Result<F::Output, Halted> {
        let mut signals = Signals::new();
        // pinned here, so that it is not dropped before the stop: dropping it would cancel the runs
        // that it waits for
        let mut work = std::pin::pin!(work);
        tokio::select! {
            done = &mut work => return Ok(done),
            signal = signals.next() => {
                tracing::warn!(signal, "stopping: running bodies may end, nothing more starts; a second signal cuts this short");
            }
        }
        let (mut second, mut worked) = (None, false);
        let mut last = in_time(self.0.environment.grace) + LAST_WORDS;
        let mut stop = std::pin::pin!(self.stop());
        loop {
            tokio::select! {
                stopped = &mut stop => {
                    let stopped = Stopped { cut_short_by: second, ..stopped };
                    let is_stuck = !stopped.unreturned.is_empty() || self.0.environment.threads.any();
                    return Err(Halted { stopped, is_stuck });
                }
                _ = &mut work, if !worked => worked = true,
                signal = signals.next(), if second.is_none() => {
                    second = Some(signal);
                    self.0.stop.hard.cancel();
                    last = Instant::now() + LAST_WORDS;
                }
                () = tokio::time::sleep_until(last) => {
                    tracing::error!("the store does not answer: the last records of the process may be missing");
                    let left = self.0.under_way.runs().into_iter().map(|(run, _)| run).collect();
                    let stopped = Stopped { left, cut_short_by: second, unreturned: self.0.under_way.unreturned() };
                    return Err(Halted { stopped, is_stuck: true });
                }
            }
        }
    }
}

/// The signals that request a shutdown.
struct Signals {
    #[cfg(unix)]
    streams: Option<(tokio::signal::unix::Signal, tokio::signal::unix::Signal)>,
}

const SIGINT: u8 = 2;
#[cfg(unix)]
const SIGTERM: u8 = 15;

impl Signals {
    #[cfg(unix)]
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let streams = signal(SignalKind::interrupt())
            .and_then(|int| Ok((int, signal(SignalKind::terminate())?)));
        if let Err(error) = &streams {
            tracing::warn!("cannot watch signals, so they end the process at once: {error}");
        }
        Self {
            streams: streams.ok(),
        }
    }

    #[cfg(not(unix))]
    fn new() -> Self {
        Self {}
    }

    /// Waits for the next signal and returns its number.
    #[cfg(unix)]
    async fn next(&mut self) -> u8 {
        match &mut self.streams {
            Some((int, term)) => tokio::select! {
                _ = int.recv() => SIGINT,
                _ = term.recv() => SIGTERM,
            },
            None => pending().await,
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> u8 {
        match tokio::signal::ctrl_c().await {
            Ok(()) => SIGINT,
            Err(_) => std::future::pending().await,
        }
    }
}
