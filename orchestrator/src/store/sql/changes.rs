//! What the transitions of a run change in the tables.

use std::sync::Arc;

use super::codes::Leaving;
use super::rows::{self, AttemptRow, Payload};
use crate::clock::{Timestamp, saturating_micros};
use crate::id::RunId;
use crate::journal::{NewCacheEntry, ResultValue, Transition};
use crate::state::RunState;

/// What a transition changes in the tables.
#[derive(Debug)]
pub(crate) enum RowChange {
    /// A new row of `plans`, by its body.
    Plan(Vec<u8>),
    /// A new row of `attempts`, and the result that it adds to the cache.
    Attempt(AttemptRow, Option<Box<CacheRow>>),
    /// The rest are changes of the run's row.
    Started(Timestamp),
    Cancelling,
    Finished {
        state: RunState,
        at: Timestamp,
        error: Option<Vec<u8>>,
        output: Payload,
    },
    Leaving(Leaving),
    Released,
}

/// A row of `cache`; its body is that of the attempt.
#[derive(Debug)]
pub(crate) struct CacheRow {
    pub(crate) key: [u8; 32],
    pub(crate) task: Arc<str>,
    pub(crate) inputs: [u8; 32],
    pub(crate) run: RunId,
    pub(crate) created: Timestamp,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) size: i64,
    pub(crate) body: Payload,
}

impl RowChange {
    /// Returns the change of a transition. Returns `None` if it is not stored.
    pub(crate) fn of(transition: &Transition) -> Option<Self> {
        if let Some(body) = rows::plan(transition) {
            return Some(Self::Plan(body));
        }
        match transition {
            Transition::RunStarted { at } => Some(Self::Started(*at)),
            Transition::Task(end) => Some(Self::Attempt(
                AttemptRow::new(end),
                end.cache.as_deref().and_then(CacheRow::new).map(Box::new),
            )),
            Transition::Cancelling => Some(Self::Cancelling),
            Transition::RunFinished(end) => Some(Self::Finished {
                state: end.state,
                at: end.at,
                error: end.error.as_ref().map(rows::error_body),
                output: end
                    .encoded
                    .as_ref()
                    .map_or(Payload::None, |output| rows::result_body(output, None)),
            }),
            Transition::Draining => Some(Self::Leaving(Leaving::Draining)),
            Transition::Leaving => Some(Self::Leaving(Leaving::WithBodies)),
            Transition::Released => Some(Self::Released),
            // stored in `plans`, above
            Transition::Planned(_)
            | Transition::Expanded(_)
            | Transition::Extended { .. }
            | Transition::Awaited { .. }
            | Transition::Cleared(_) => None,
        }
    }

    /// Returns `true` if the change is a new row, which has a number within its run.
    pub(crate) fn has_number(&self) -> bool {
        matches!(self, Self::Plan(_) | Self::Attempt(..))
    }

    /// Returns `true` if a node ends.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Attempt(row, _) if row.state.is_final())
    }

    /// Returns `true` if a result goes into a blob.
    pub(crate) fn is_large(&self) -> bool {
        let large = |payload: &Payload| matches!(payload, Payload::Large(..));
        match self {
            Self::Attempt(row, cache) => {
                large(&row.body) || cache.as_ref().is_some_and(|cache| large(&cache.body))
            }
            Self::Finished { output, .. } => large(output),
            _ => false,
        }
    }

    /// Returns the payloads that may go into blobs.
    pub(crate) fn payloads(&mut self) -> impl Iterator<Item = &mut Payload> {
        let (first, second) = match self {
            Self::Attempt(row, cache) => (
                Some(&mut row.body),
                cache.as_mut().map(|cache| &mut cache.body),
            ),
            Self::Finished { output, .. } => (Some(output), None),
            _ => (None, None),
        };
        first.into_iter().chain(second)
    }
}

impl CacheRow {
    fn new(entry: &NewCacheEntry) -> Option<Self> {
        let ResultValue::Encoded(result) = &entry.hit.result else {
            return None;
        };
        let expiry = entry.query.expiry.map(saturating_micros);
        Some(Self {
            key: entry.query.key.0,
            task: Arc::clone(&entry.query.task),
            inputs: entry.query.inputs,
            run: entry.hit.run,
            created: entry.hit.created,
            expires: expiry.map(|expiry| entry.hit.created.shifted(expiry)),
            size: i64::try_from(result.0.len()).unwrap_or(i64::MAX),
            body: rows::result_body(result, None),
        })
    }
}
