//! Shutdown of a runtime: running bodies are drained, unfinished runs are left to be resumed.

use std::fmt;
use std::future::{Future, pending};
use std::process::{ExitCode, Termination};
use std::time::Duration;

use tokio::time::Instant;

use super::Runtime;
use crate::clock::in_time;
use crate::executor::active::few;
use crate::id::RunId;

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
        let mut runs = self.host.active.runs();
        self.host.stop.soft.cancel();
        // takeovers that begin from now on find the runtime stopped; those in progress may still
        // register a run, which has to be in the second list
        let taking = self.host.active.takeovers();
        for taken in taking {
            taken.cancelled().await;
        }
        runs.extend(self.host.active.runs());
        let mut left = Vec::new();
        for (run, done) in runs {
            done.cancelled().await;
            let is_final = match self.host.services.store.find_run(run).await {
                Ok(Some(record)) => record.state().is_final(),
                Ok(None) | Err(_) => false,
            };
            if !is_final {
                left.push(run);
            }
        }
        self.host.services.flush_logs().await;
        if let Err(error) = self.host.services.store.flush_writes().await {
            tracing::error!("the last records of the stopped runtime were not committed: {error}");
        }
        left.sort_unstable();
        left.dedup();
        Stopped {
            left,
            cut_short_by: None,
            unreturned: self.host.active.unreturned(),
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
        let mut last = in_time(self.host.environment.grace) + LAST_WORDS;
        let mut stop = std::pin::pin!(self.stop());
        loop {
            tokio::select! {
                stopped = &mut stop => {
                    let stopped = Stopped { cut_short_by: second, ..stopped };
                    let is_stuck = !stopped.unreturned.is_empty() || self.host.active.threads.any();
                    return Err(Halted { stopped, is_stuck });
                }
                _ = &mut work, if !worked => worked = true,
                signal = signals.next(), if second.is_none() => {
                    second = Some(signal);
                    self.host.stop.hard.cancel();
                    last = Instant::now() + LAST_WORDS;
                }
                () = tokio::time::sleep_until(last) => {
                    tracing::error!("the store does not answer: the last records of the process may be missing");
                    let left = self.host.active.runs().into_iter().map(|(run, _)| run).collect();
                    let stopped = Stopped { left, cut_short_by: second, unreturned: self.host.active.unreturned() };
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
