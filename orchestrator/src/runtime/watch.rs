//! Looks for what other processes ask of this one, and for what they left when they died.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Inner;
use super::resume::Recovery;
use super::stop::UnderWay;
use crate::error::Error;
use crate::store::{Look, Store};

/// How often it is looked what other processes do: whoever waits for a run of theirs does so, too.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// Cancels the runs of a runtime that other processes want cancelled. Looks once a second.
pub(super) async fn hear_cancels(store: Arc<dyn Store>, under_way: UnderWay) {
    let mut sight = Sight::of("which runs other processes want cancelled");
    loop {
        tokio::time::sleep(LOOK).await;
        let cancelling = sight.now(store.cancelling().await).unwrap_or_default();
        for (cancel, _) in cancelling.into_iter().filter_map(|run| under_way.of(run)) {
            cancel.cancel();
        }
    }
}

impl Inner {
    /// The store by which other processes say which runs they want cancelled. Where time is tokio's nobody listens: a
    /// look each second would move time that is paused.
    pub(super) fn heard(&self) -> Option<&Arc<dyn Store>> {
        (self.store.is_durable() && self.clock.is_system()).then_some(&self.store)
    }
}

/// A watch on the store: who serves keeps one.
pub(crate) struct Watch {
    runtime: Arc<Inner>,
    recovery: Recovery,
}

impl Watch {
    pub(crate) fn new(runtime: Arc<Inner>) -> Self {
        Self {
            runtime,
            recovery: Recovery::default(),
        }
    }

    /// Looks once: goes on with the runs that nobody executes, and says which flows are paused.
    pub(crate) async fn look(&mut self) -> Result<Vec<String>, Error> {
        let Look { abandoned, paused } = self.runtime.store.look().await?;
        // why a run does not go on is said where that is found out
        let (under_way, _) = self.recovery.recover(&self.runtime, abandoned).await?;
        under_way
            .into_iter()
            .for_each(|run| drop(tokio::spawn(run.attend())));
        Ok(paused)
    }

    /// Looks once a second, where other processes may write to the store, and whenever this one asks for something.
    /// `paused` hears which flows are paused.
    pub(crate) async fn run(mut self, mut paused: impl FnMut(Vec<String>)) {
        let mut asked = self.runtime.control.subscribe();
        let is_shared = self.runtime.store.is_durable();
        let mut sight = Sight::of("what other processes ask");
        loop {
            let looked = self.look().await;
            if let Err(Error::Closed) = looked {
                return;
            }
            sight.now(looked).into_iter().for_each(&mut paused);
            tokio::select! {
                () = tokio::time::sleep(LOOK), if is_shared => {}
                changed = asked.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// What is looked for time and again. Where that fails, it is said once, and once more when it can be seen again.
struct Sight {
    what: &'static str,
    failing: bool,
}

impl Sight {
    fn of(what: &'static str) -> Self {
        Self {
            what,
            failing: false,
        }
    }

    fn now<T, E: fmt::Display>(&mut self, looked: Result<T, E>) -> Option<T> {
        let was_failing = std::mem::replace(&mut self.failing, looked.is_err());
        match &looked {
            Err(error) if !was_failing => tracing::error!("{} cannot be seen: {error}", self.what),
            Ok(_) if was_failing => tracing::info!("{} can be seen again", self.what),
            _ => {}
        }
        looked.ok()
    }
}
