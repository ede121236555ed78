//! One run, with its log lines.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::cache::MemoryCache;
use crate::journal::{
    AwaitOrder, CellState, ClearedRows, EncodedResult, History, NewRun, Row, RowPlace, RunRecord,
    RunTables, Transition, attempts::StateChange,
};
use crate::store::mirror::Mirror;
use crate::store::{Backlog, Commit, RunLog};
use crate::value::{EncodingError, Value};

/// The limit on the lines of a run, in bytes.
const LINES: usize = 8 << 20;

/// A run in memory, and its log.
#[derive(Debug)]
pub(super) struct MemoryRun {
    pub(super) mirror: Mirror,
    cache: Arc<Mutex<MemoryCache>>,
    pub(super) lines: Mutex<Backlog>,
    /// The ends of attempts that were followed by another one.
    pub(super) past: Mutex<Vec<StateChange>>,
}

impl MemoryRun {
    pub(super) fn new(run: NewRun, cache: Arc<Mutex<MemoryCache>>) -> Self {
        let lines = Mutex::new(Backlog::new(LINES));
        Self {
            mirror: Mirror::new(run),
            cache,
            lines,
            past: Mutex::default(),
        }
    }

    /// Drops the log lines of the run, which is pruned.
    pub(super) fn drop_lines(&self) {
        *self.lines.lock() = Backlog::new(LINES);
    }

    /// Returns the run as it is re-run, and its history. Returns `None` if it is not final.
    pub(super) fn again(&self, cleared: ClearedRows) -> Option<(Self, History)> {
        let mut tables = self.mirror.of_final()?.tables().clone();
        let mut past = self.past.lock().clone();
        past.extend(last_changes(&tables));
        tables.apply(Transition::Cleared(cleared));
        let (await_order, results) = (AwaitOrder::default(), HashMap::new());
        let history = History {
            tables: tables.clone(),
            results,
            await_order,
            takeovers: 0,
            deaths: 0,
            cancelling: false,
        };
        let (mirror, cache) = (Mirror::of(tables), Arc::clone(&self.cache));
        let lines = Mutex::new(std::mem::replace(
            &mut *self.lines.lock(),
            Backlog::new(LINES),
        ));
        Some((
            Self {
                mirror,
                cache,
                lines,
                past: Mutex::new(past),
            },
            history,
        ))
    }
}

pub(super) fn last_changes(tables: &RunTables) -> impl Iterator<Item = StateChange> {
    tables.frames.entries().flat_map(|(number, frame)| {
        let change = move |(cell, row): (u32, &Row)| {
            let place = RowPlace {
                frame: number,
                cell,
            };
            StateChange::last(place, row)
        };
        (0..).zip(&frame.rows).map(change)
    })
}

impl RunLog for MemoryRun {
    fn encode(&self, _: &Value) -> Result<Option<EncodedResult>, EncodingError> {
        Ok(None)
    }

    fn record(&self, mut transition: Transition) {
        if let Transition::Task(end) = &mut transition
            && let Some(entry) = end.cache.take()
        {
            self.cache.lock().insert(entry);
        }
        if let Transition::Task(end) = &transition
            && matches!(end.state, CellState::Retrying { .. })
        {
            self.past.lock().push(StateChange::from(end));
        }
        self.mirror.record(transition, |_| {});
    }

    fn needs_commits(&self) -> bool {
        false
    }

    fn commit(&self) -> Commit {
        Commit::Done(Ok(()))
    }

    fn commit_soon(&self) {}

    fn snapshot(&self) -> RunRecord {
        self.mirror.snapshot()
    }
}
