//! What Slack will get. The messages are logged, and stay here, to be printed when the run is over.

use std::sync::{Arc, Mutex, PoisonError};

/// An outbox; a resource of the pipeline. Clones are the same outbox.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slack(Arc<Mutex<Vec<Message>>>);

/// A message to a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) channel: String,
    pub(crate) text: String,
}

impl Slack {
    /// Puts a message into the outbox.
    pub(crate) fn post(&self, channel: &str, text: String) {
        tracing::info!(channel, "posted: {text}");
        let message = Message {
            channel: channel.to_owned(),
            text,
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(message);
    }

    /// Empties the outbox.
    pub(crate) fn take(&self) -> Vec<Message> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
