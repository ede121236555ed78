//! Why a run or a task is as it is: the recorded reasons, as a chain.
//!
//! [`run`] and [`task`] are functions of a record and of what is [`Around`] it; what a task waits for is found by
//! [`upstreams`], why it ran more than once by [`again`]. What a record tells is told as it is. Where it does not tell, that
//! is said; and what this program's code suggests instead is said to be "perhaps" so, or to be so "here". One number is taken
//! from the code as it is: `max_active_runs`, which nothing but a flow's attribute sets.

mod again;
mod known;
mod mapped;
mod run;
mod task;
#[cfg(test)]
mod tests;
mod upstreams;

use std::collections::HashMap;
use std::fmt;

pub(crate) use known::{Known, known};
use serde::Serialize;

use crate::error::Error;
use crate::flow::{FlowDef, registry};
use crate::id::RunId;
use crate::runtime::Runtime;
use crate::state::{RunKind, RunState};
use crate::store::{AttemptRecord, RunFilter, RunRecord};
use crate::task::{Pool, TaskEntry};

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
    /// An attempt before its last one failed.
    Retried,
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
    /// The schedule that the flow's attribute has here, as people read it.
    schedule: Option<String>,
    /// The attempts that failed, by the keys of their tasks: the first of each comes first.
    failed: HashMap<String, Vec<AttemptRecord>>,
    /// The pool that the attribute of a task has here, by the task's name.
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
    /// The key of a mapped task without an index asks for all of its elements: how many are in which state, and why those
    /// are as they are that are no success. The tasks of a run that waits to start are those of its flow's graph, where
    /// that is static.
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
            false => match self
                .0
                .store
                .abandoned()
                .await?
                .iter()
                .any(|abandoned| abandoned.id == run)
            {
                true => Executed::Nowhere,
                false => Executed::Somewhere,
            },
        };
        let around = Around {
            executed,
            turns: self.turns_before(&record).await?,
            max_active_runs: flow.and_then(|flow| flow.max_active_runs),
            schedule: flow.and_then(schedule_of),
            failed: self.failed_attempts(&record).await?,
            pool_of: &pool_of,
            slots: &|pool| self.0.pool_size(pool),
        };
        match task {
            None => Ok(run::of(&record, &around)),
            Some(key) => task::of_key(&record, key, &around).ok_or_else(|| Error::UnknownTask {
                run,
                task: key.to_owned(),
                known: known(&record, key).to_string(),
            }),
        }
    }

    /// The attempts of a run that failed, where any of its tasks had more than one.
    async fn failed_attempts(
        &self,
        record: &RunRecord,
    ) -> Result<HashMap<String, Vec<AttemptRecord>>, Error> {
        let mut failed = HashMap::<_, Vec<_>>::new();
        if record.tasks().iter().any(|task| task.attempts() > 1) {
            for attempt in self
                .0
                .store
                .attempts(record.id())
                .await?
                .unwrap_or_default()
            {
                if again::has_failed(&attempt) {
                    failed.entry(attempt.key.clone()).or_default().push(attempt);
                }
            }
        }
        Ok(failed)
    }

    /// The runs that have the turns which a run waits for.
    async fn turns_before(&self, record: &RunRecord) -> Result<Vec<RunId>, Error> {
        if record.state() != RunState::Pending || record.kind() == RunKind::Backfill {
            return Ok(Vec::new());
        }
        let filter = RunFilter::new()
            .flow(record.flow())
            .state(RunState::Running)
            .oldest_first();
        let runs = self
            .find_runs(&filter.kind(RunKind::Manual).kind(RunKind::Scheduled))
            .await?;
        Ok(runs.iter().map(|run| run.id).collect())
    }
}

fn schedule_of(flow: &FlowDef) -> Option<String> {
    crate::schedule::Schedule::of_flow(flow)?
        .ok()
        .map(|schedule| schedule.to_string())
}

/// The pool that the attribute of a task names.
fn pool_of(task: &str) -> Option<Pool> {
    let mut tasks = inventory::iter::<TaskEntry>
        .into_iter()
        .filter(|entry| entry.0.name == task);
    tasks.find_map(|entry| entry.0.options.pool.clone())
}

impl Reason {
    fn new(kind: ReasonKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
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
        self.causes
            .iter()
            .try_for_each(|cause| cause.write(f, depth + 1))
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
            Self::Retried => "retried",
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

/// So many things, as people say it.
fn count(number: usize, what: &str) -> String {
    if number == 1 {
        format!("1 {what}")
    } else {
        format!("{number} {what}s")
    }
}

/// An instant, as people read it.
fn instant(at: chrono::DateTime<chrono::Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
