//! The process stops: work in hand is drained, the rest is left to go on later.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::process::{ExitCode, Termination};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Runtime, watch};
use crate::id::RunId;
use crate::store::Store;

/// Tells the runs of a runtime to come to a stop: first, that nothing more may start; then, that the time is up.
#[derive(Clone, Debug, Default)]
pub(crate) struct StopSignal {
    pub(crate) soft: CancellationToken,
    pub(crate) hard: CancellationToken,
}

impl StopSignal {
    /// A signal of one's own, which this one sets, too.
    pub(crate) fn child(&self) -> Self {
        Self {
            soft: self.soft.child_token(),
            hard: self.hard.child_token(),
        }
    }
}

/// The runs that a runtime executes.
#[derive(Clone, Debug, Default)]
pub(super) struct UnderWay(Arc<Mutex<Runs>>);

#[derive(Debug, Default)]
struct Runs {
    by_id: HashMap<RunId, Arc<Entry>>,
    /// Who hears, as long as there are runs, that others want them cancelled.
    listener: Option<JoinHandle<()>>,
    /// What is over when a run that may have been taken over is under way, or is not.
    taking: Vec<CancellationToken>,
}

#[derive(Debug)]
struct Entry {
    cancel: CancellationToken,
    done: CancellationToken,
}

impl UnderWay {
    /// Counts a run for as long as what is given back is there. Meanwhile it is cancelled where another process asks for
    /// that by the store that is heard.
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
        // the one of a tokio runtime that has ended hears nothing any more
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

    /// Has a stop wait until a run that is being taken over is under way, or is not: until what is given back is gone.
    pub(super) fn taking(&self) -> DropGuard {
        let token = CancellationToken::new();
        let taking = &mut self.0.lock().taking;
        taking.retain(|other| !other.is_cancelled());
        taking.push(token.clone());
        token.drop_guard()
    }

    /// What cancels a run, and what tells that it is no longer under way; none where it is not.
    pub(super) fn of(&self, run: RunId) -> Option<(CancellationToken, CancellationToken)> {
        self.0
            .lock()
            .by_id
            .get(&run)
            .map(|entry| (entry.cancel.clone(), entry.done.clone()))
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

/// A run that is under way, as long as this is there.
pub(super) struct Left {
    under_way: UnderWay,
    run: RunId,
    entry: Arc<Entry>,
}

impl Drop for Left {
    fn drop(&mut self) {
        let mut runs = self.under_way.0.lock();
        // a run whose end is recorded may run again before this is gone: then it is under way anew
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

/// How a runtime came to its stop.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stopped {
    /// The runs that were left before their end: they go on when the program is started again.
    pub left: Vec<RunId>,
    /// The number of the signal that cut the drain short, if one did.
    pub cut_short_by: Option<u8>,
}

impl Stopped {
    /// The exit status that says how it was: 0 where every run came to its end, 75 ("try again") where some were left
    /// and go on when the program is started again, 128 and the number of the signal where a second one cut it short.
    pub fn exit_code(&self) -> ExitCode {
        match (self.cut_short_by, self.left.is_empty()) {
            (Some(signal), _) => ExitCode::from(128 + signal),
            (None, true) => ExitCode::SUCCESS,
            (None, false) => ExitCode::from(75),
        }
    }
}

/// What `main` may return: it ends the process with the [exit status](Stopped::exit_code).
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

impl Runtime {
    /// Stops: nothing more is started; bodies that run may end within the grace period
    /// ([`RuntimeBuilder::grace`](crate::RuntimeBuilder::grace), 30 seconds by default); what is not done then is left,
    /// to go on when the program is started again. (In a store in memory, it is cancelled.)
    ///
    /// Who waits for a run that is left gets [`Error::Stopped`](crate::Error::Stopped). Nothing can be started on the
    /// runtime any more.
    pub async fn stop(&self) -> Stopped {
        // a run with nothing in hand is left at once, and counts all the same; as do those that were just accepted
        let mut runs = self.0.under_way.runs();
        self.0.stop.soft.cancel();
        // who comes later finds the runtime stopped
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
            tracing::error!("what the stopped runtime told last is not kept: {error}");
        }
        left.sort_unstable();
        left.dedup();
        Stopped {
            left,
            cut_short_by: None,
        }
    }

    /// Does `work`, and [stops](Self::stop) when the process gets SIGTERM or SIGINT (Ctrl-C). A second signal cuts the
    /// drain short.
    ///
    /// # Errors
    ///
    /// Where a signal came: how it stopped, which has an [exit status](Stopped::exit_code).
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
        let mut signals = Signals::new();
        // not dropped before the stop: that would cancel what it waits for
        let mut work = std::pin::pin!(work);
        tokio::select! {
            done = &mut work => return Ok(done),
            signal = signals.next() => {
                tracing::warn!(signal, "stopping: what is running may end, nothing more is started; a second signal cuts it short");
            }
        }
        let (mut second, mut worked) = (None, false);
        let mut stop = std::pin::pin!(self.stop());
        loop {
            tokio::select! {
                stopped = &mut stop => return Err(Stopped { cut_short_by: second, ..stopped }),
                _ = &mut work, if !worked => worked = true,
                signal = signals.next(), if second.is_none() => {
                    second = Some(signal);
                    self.0.stop.hard.cancel();
                }
            }
        }
    }
}

/// The signals that ask a process to stop.
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
            tracing::warn!(
                "signals cannot be watched, so that they end the process at once: {error}"
            );
        }
        Self {
            streams: streams.ok(),
        }
    }

    #[cfg(not(unix))]
    fn new() -> Self {
        Self {}
    }

    /// The number of the next signal.
    #[cfg(unix)]
    async fn next(&mut self) -> u8 {
        match &mut self.streams {
            Some((int, term)) => tokio::select! {
                _ = int.recv() => SIGINT,
                _ = term.recv() => SIGTERM,
            },
            None => std::future::pending().await,
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
