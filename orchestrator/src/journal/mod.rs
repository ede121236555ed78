//! The record of a run: its transitions, and the tables that they add up to.
//!
//! Pure: no store, no clock, no runtime. Each store keeps [`Transition`]s in a form of its own.
//! Applied one after the other they make the same [`RunTables`] in every store. Resuming, showing
//! and re-running a run all start from those tables: users see them as a [`RunRecord`], the plan
//! reads them directly.
//!
//! ```text
//! Transition ──apply──► RunTables ──► RunRecord, RunSummary, AttemptRecord
//!                          │  ▲
//!                          │  └── reruns: what was superseded, and by which node or frame
//!                          └──► clearing: which cells a re-run makes pending
//! ```

pub(crate) mod attempts;
pub(crate) mod await_order;
mod cache;
pub(crate) mod clearing;
mod history;
mod place;
mod record;
pub(crate) mod reruns;
mod result;
mod row;
#[cfg(test)]
pub(crate) mod samples;
pub(crate) mod summary;
pub(crate) mod tables;
pub(crate) mod transition;

pub use attempts::AttemptRecord;
pub(crate) use await_order::{AwaitOrder, NumberSet};
pub use cache::CacheMiss;
pub(crate) use cache::{
    ByHash, CacheHit, CacheKey, CacheNote, CacheQuery, InputsHash, NewCacheEntry,
};
pub(crate) use history::History;
pub(crate) use place::{ElementPlace, RowPlace, TaskPlace};
pub use record::{RunRecord, TaskRun, Tasks};
pub use reruns::RerunRecord;
pub(crate) use result::{EncodedResult, ResultValue};
pub(crate) use row::{CellState, Row};
pub use summary::{RunFilter, RunSummary};
pub(crate) use tables::RunTables;
pub(crate) use transition::{ClearedRows, FrameMeta, NewRun, RunEnd, TaskEnd, Transition};
