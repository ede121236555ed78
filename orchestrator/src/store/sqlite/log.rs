use std::sync::Arc;

use super::rows::{self, AttemptRow};
use super::writer::{CacheRow, Owned, Write, Writer};
use crate::clock::saturating_micros;
use crate::journal::{EncodedResult, NewCacheEntry, ResultValue, RunRecord, Transition};
use crate::store::mirror::Mirror;
use crate::store::{Commit, RunLog};
use crate::value::{EncodingError, Value};

/// The log of a run in the file.
#[derive(Debug)]
pub(super) struct SqliteLog {
    mirror: Mirror,
    run: Arc<Owned>,
    writer: Arc<Writer>,
}

impl SqliteLog {
    pub(super) fn new(mirror: Mirror, run: Owned, writer: Arc<Writer>) -> Self {
        Self {
            mirror,
            run: Arc::new(run),
            writer,
        }
    }
}

fn write_of(transition: &Transition) -> Option<Write> {
    if let Some(body) = rows::plan(transition) {
        return Some(Write::Plan(body));
    }
    match transition {
        Transition::RunStarted { at } => Some(Write::Started(*at)),
        Transition::Task(end) => Some(Write::Attempt(
            AttemptRow::new(end),
            end.cache.as_deref().and_then(cache_row).map(Box::new),
        )),
        Transition::Cancelling => Some(Write::Cancelling),
        Transition::RunFinished(end) => Some(Write::Finished {
            state: end.state,
            at: end.at,
            error: end.error.as_ref().map(rows::error_body),
            output: end
                .encoded
                .as_ref()
                .map_or(rows::Body::None, |output| rows::result_body(output, None)),
        }),
        Transition::Draining => Some(Write::Leaving(1)),
        Transition::Leaving => Some(Write::Leaving(2)),
        Transition::Released => Some(Write::Released),
        // stored in `plans`, above
        Transition::Planned(_)
        | Transition::Expanded(_)
        | Transition::Extended { .. }
        | Transition::Awaited { .. }
        | Transition::Cleared(_) => None,
    }
}

fn cache_row(entry: &NewCacheEntry) -> Option<CacheRow> {
    let ResultValue::Encoded(result) = &entry.hit.result else {
        return None;
    };
    let expiry = entry.query.expiry.map(saturating_micros);
    Some(CacheRow {
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

impl RunLog for SqliteLog {
    fn encode(&self, value: &Value) -> Result<Option<EncodedResult>, EncodingError> {
        value.keep().map(|bytes| Some(bytes.into()))
    }

    fn record(&self, transition: Transition) {
        self.mirror.record(transition, |transition| {
            if let Some(write) = write_of(transition) {
                self.writer.push(&self.run, write);
            }
        });
    }

    fn needs_commits(&self) -> bool {
        true
    }

    fn commit(&self) -> Commit {
        self.writer.commit(Some(&self.run))
    }

    fn commit_soon(&self) {
        self.writer.commit_soon();
    }

    fn snapshot(&self) -> RunRecord {
        self.mirror.snapshot()
    }
}
