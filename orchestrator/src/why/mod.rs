//! Why a run or a task is as it is: the recorded reasons, as a chain.
//!
//! [`run`] and [`task`] are functions of a record and of what is [`Around`] it; what a task waits for is found by
//! [`upstreams`]. Nothing is guessed: where a record does not say, that is said.

mod run;
mod task;
#[cfg(test)]
mod tests;
mod upstreams;

use std::fmt;

use serde::Serialize;

use crate::error::Error;
use crate::flow::{FlowDef, registry};
use crate::id::RunId;
use crate::runtime::Runtime;
use crate::state::{RunKind, RunState};
use crate::store::{RunFilter, RunRecord};
use crate::task::{Pool, TaskEntry};
use upstreams::Wiring;

/// Why a run, or a task of it, is as it is: [`Runtime::why`]. Shown, it is a chain, the causes below what they caused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Why {
    /// The run.
    pub run: RunId,
    /// The key of the task; none where it is the run as a whole.
    pub task: Option<String>,
    /// The state.
    pub state: &'static str,
    /// What is recorded about it, the state first.
    pub reasons: Vec<Reason>,
    /// What it goes back to: upstreams that are not done, that failed, or that were skipped.
    pub causes: Vec<Self>,
}

/// One of the reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Reason {
    /// What it is about.
    pub kind: ReasonKind,
    /// The reason, in words.
    pub text: String,
}

/// What a reason is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReasonKind {
    /// Why there is the run.
    Asked,
    /// It waits for upstreams.
    Upstreams,
    /// It waits for a slot, of a pool or of the runtime.
    Slot,
    /// Its run waits for its turn: others of its flow are under way.
    Turn,
    /// No process executes the run.
    NoProcess,
    /// It is under way.
    Running,
    /// It waits for another attempt.
    Retrying,
    /// It succeeded.
    Succeeded,
    /// It failed.
    Failed,
    /// It was skipped.
    Skipped,
    /// What it takes is not there.
    UpstreamFailed,
    /// Its end was asked for.
    Cancelled,
    /// Its result is that of another run.
    Cached,
    /// Its result was computed, though its task is cached.
    Computed,
    /// It ran again because a process died, or stopped and left it; or because that was asked for.
    RanAgain,
    /// There is nothing recorded that would tell.
    Unknown,
}

/// What is around a record, and not in it.
struct Around<'a> {
    executed: Executed,
    /// The runs of the flow that have the turns which this one waits for.
    turns: Vec<RunId>,
    /// How many runs of the flow may be under way at once.
    max_active_runs: Option<u32>,
    /// The schedule of the flow, as people read it.
    schedule: Option<String>,
    /// The pool of a task of this binary, by the task's name.
    pool_of: &'a dyn Fn(&str) -> Option<Pool>,
    /// How many slots a pool has.
    slots: &'a dyn Fn(&str) -> Option<u32>,
}

/// Who executes a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Executed {
    /// A process that lives.
    Somewhere,
    Nowhere,
}

impl Runtime {
    /// Why a run is as it is, or a task of it: what it waits for, why it was skipped, failed, ran again, or was cached; and
    /// what that goes back to.
    ///
    /// # Examples
    ///
    /// ```
    /// use orchestrator::prelude::*;
    ///
    /// #[task]
    /// async fn extract() -> Result<u64> { Err("no network".into()) }
    ///
    /// #[task]
    /// async fn load(rows: u64) -> u64 { rows }
    ///
    /// #[flow]
    /// fn fragile_etl() -> Node<u64> { load(extract()) }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let runtime = Runtime::in_memory();
    /// let run = fragile_etl().on(&runtime).run().await?;
    /// let why = runtime.why(run.id(), Some("load")).await?;
    /// assert_eq!(why.state, "upstream_failed");
    /// assert!(why.to_string().contains("no network"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Where there is no such run or task, and where the store fails.
    pub async fn why(&self, run: RunId, task: Option<&str>) -> Result<Why, Error> {
        let record = self.find_run(run).await?.ok_or(Error::UnknownRun { run })?;
        let flow = registry::find(record.flow());
        let executed = match record.state().is_final() || self.0.executes(run) {
            true => Executed::Somewhere,
            false => match self.0.store.abandoned().await?.iter().any(|abandoned| abandoned.id == run) {
                true => Executed::Nowhere,
                false => Executed::Somewhere,
            },
        };
        let around = Around {
            executed,
            turns: self.turns_before(&record).await?,
            max_active_runs: flow.and_then(|flow| flow.max_active_runs),
            schedule: flow.and_then(schedule_of),
            pool_of: &pool_of,
            slots: &|pool| self.0.pool_size(pool),
        };
        match task {
            None => Ok(run::of(&record, &around)),
            Some(key) => task::of_key(&record, key, &around).ok_or_else(|| unknown_task(&record, key)),
        }
    }

    /// The runs that have the turns which a run waits for.
    async fn turns_before(&self, record: &RunRecord) -> Result<Vec<RunId>, Error> {
        if record.state() != RunState::Pending || record.kind() == RunKind::Backfill {
            return Ok(Vec::new());
        }
        let filter = RunFilter::new().flow(record.flow()).state(RunState::Running).oldest_first();
        let runs = self.find_runs(&filter.kind(RunKind::Manual).kind(RunKind::Scheduled)).await?;
        Ok(runs.iter().map(|run| run.id).collect())
    }
}

fn schedule_of(flow: &FlowDef) -> Option<String> {
    crate::schedule::Schedule::of_flow(flow)?.ok().map(|schedule| schedule.to_string())
}

/// The pool that the attribute of a task names. One that a call names is not known here.
fn pool_of(task: &str) -> Option<Pool> {
    let mut tasks = inventory::iter::<TaskEntry>.into_iter().filter(|entry| entry.0.name == task);
    tasks.find_map(|entry| entry.0.options.pool.clone())
}

/// How many keys an error names.
const NAMED: usize = 10;

fn unknown_task(record: &RunRecord, key: &str) -> Error {
    let mut keys = Wiring::new(record).keys();
    let more = keys.len().saturating_sub(NAMED);
    keys.truncate(NAMED);
    let mut known: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    if more > 0 {
        known.push(format!("{more} more"));
    }
    let known = match known.is_empty() {
        true if record.is_pruned() => "none: what was known of its tasks was pruned".to_owned(),
        true => "none".to_owned(),
        false => known.join(", "),
    };
    Error::UnknownTask { run: record.id(), task: key.to_owned(), known }
}

impl Reason {
    fn new(kind: ReasonKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

impl Why {
    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        let indent = depth * 2;
        match &self.task {
            Some(key) => writeln!(f, "{:indent$}{key}: {}", "", self.state)?,
            None => writeln!(f, "{:indent$}run {}: {}", "", self.run, self.state)?,
        }
        for reason in &self.reasons {
            writeln!(f, "{:indent$}  {}", "", reason.text.replace('\n', " "))?;
        }
        self.causes.iter().try_for_each(|cause| cause.write(f, depth + 1))
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

impl ReasonKind {
    /// The name, as `no_process`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Upstreams => "upstreams",
            Self::Slot => "slot",
            Self::Turn => "turn",
            Self::NoProcess => "no_process",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::UpstreamFailed => "upstream_failed",
            Self::Cancelled => "cancelled",
            Self::Cached => "cached",
            Self::Computed => "computed",
            Self::RanAgain => "ran_again",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for ReasonKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An instant, as people read it.
fn instant(at: chrono::DateTime<chrono::Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
