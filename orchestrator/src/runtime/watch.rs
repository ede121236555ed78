//! Looks for what other processes ask of this one, and for what they left when they died.

use std::sync::Arc;

use super::Inner;
use super::resume::{LOOK, Recovery};
use crate::error::Error;
use crate::store::Look;

/// A watch on the store: who serves keeps one.
pub(crate) struct Watch {
    runtime: Arc<Inner>,
    /// None where what others left is no business of this one.
    recovery: Option<Recovery>,
}

impl Watch {
    pub(crate) fn new(runtime: Arc<Inner>) -> Self {
        Self { runtime, recovery: Some(Recovery::default()) }
    }

    /// A watch that only hears which runs are to be cancelled.
    pub(crate) fn for_cancels(runtime: Arc<Inner>) -> Self {
        Self { runtime, recovery: None }
    }

    /// Looks once: cancels the runs that others want cancelled, goes on with those that nobody executes, and says which
    /// flows are paused.
    pub(crate) async fn look(&mut self) -> Result<Vec<String>, Error> {
        let Look { cancelling, abandoned, paused } = self.runtime.store.look().await?;
        for run in cancelling {
            if let Some((cancel, _)) = self.runtime.under_way.of(run) {
                cancel.cancel();
            }
        }
        if let Some(recovery) = &mut self.recovery {
            // why a run does not go on is said where that is found out
            let (under_way, _) = recovery.recover(&self.runtime, abandoned).await?;
            under_way.into_iter().for_each(|run| drop(tokio::spawn(run.attend())));
        }
        Ok(paused)
    }

    /// Looks once a second, where other processes may write to the store, and whenever this one asks for something.
    /// `paused` hears which flows are paused.
    pub(crate) async fn run(mut self, mut paused: impl FnMut(Vec<String>)) {
        let mut asked = self.runtime.control.subscribe();
        let is_shared = self.runtime.store.is_durable();
        let mut failing = false;
        loop {
            let looked = self.look().await;
            match &looked {
                Err(Error::Closed) => return,
                Err(error) if !failing => tracing::error!("what other processes ask cannot be seen: {error}"),
                Err(_) => {}
                Ok(_) if failing => tracing::info!("what other processes ask can be seen again"),
                Ok(_) => {}
            }
            failing = looked.is_err();
            looked.into_iter().for_each(&mut paused);
            tokio::select! {
                () = tokio::time::sleep(LOOK), if is_shared => {}
                changed = asked.changed() => if changed.is_err() { return },
            }
        }
    }
}
