//! Why a run or a task is as it is: the recorded reasons, as a chain.
//!
//! [`run`] and [`task`] are functions of a record and the context [`RecordContext`] it. [`upstreams`]
//! finds the nodes that a task waits for, and [`again`] the reasons why it ran more than once.
//! Recorded facts are stated as such. If a fact is not recorded, the text says so, and marks an
//! explanation derived from this program's code with "perhaps" or "here". The only facts taken from
//! the code without such a mark are `max_active_runs` and `depends_on_past`, which only a flow's
//! attribute sets.

mod again;
mod known_tasks;
mod mapped;
mod run;
mod task;
#[cfg(test)]
mod tests;
mod upstreams;

use std::collections::HashMap;
use std::fmt;

pub(crate) use known_tasks::{KnownTasks, known};
use serde::Serialize;

use crate::deployment::DeploymentKey;
use crate::error::Error;
use crate::flow::{FlowDef, registry};
use crate::id::RunId;
use crate::journal::{AttemptRecord, RunFilter, RunRecord};
use crate::runtime::Runtime;
use crate::state::{RunKind, RunState};
use crate::store::PreviousRun;
use crate::task::{Pool, TaskEntry};

/// The reasons for the state of a run or a task, returned by [`Runtime::why`]. `Display` prints a
/// chain, with each cause below its effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Why {
    /// The run.
    pub run: RunId,
    /// The key of the task; `None` for the run as a whole.
    pub task: Option<String>,
    /// The state.
    pub state: &'static str,
    /// The recorded reasons, that of the state first.
    pub reasons: Vec<Reason>,
    /// The causes: upstreams that are unfinished, that failed, or that were skipped.
    pub causes: Vec<Self>,
}

/// A reason in a [`Why`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Reason {
    /// The kind of the reason.
    pub kind: ReasonKind,
    /// The reason, in words.
    pub text: String,
}

/// The kind of a [`Reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReasonKind {
    /// The origin of the run.
    Asked,
    /// It waits for upstreams.
    Upstreams,
    /// It waits for a slot, of a pool or of the runtime.
    Slot,
    /// Its run waits for a slot: other runs of its flow are active.
    Turn,
    /// Its run waits for that of the previous tick: the flow has `depends_on_past`.
    Past,
    /// No process executes the run.
    NoProcess,
    /// It is running.
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
    /// One of its inputs is missing.
    UpstreamFailed,
    /// It was cancelled.
    Cancelled,
    /// It cleans up after a cancelled run.
    CleanUp,
    /// Its result comes from the cache.
    Cached,
    /// Its result was computed, although its task is cached.
    Computed,
    /// It ran again because its process died or stopped, or because it was re-run.
    RanAgain,
    /// The reason is not recorded.
    Unknown,
}

/// The context of a record: facts that are not in the record itself.
struct RecordContext<'a> {
    executed: RunExecution,
    /// The runs of the flow that hold the slots which this one waits for.
    turns: Vec<RunId>,
    /// The run of the previous tick, if this one waits for it.
    previous: Option<PreviousRun>,
    /// The maximum number of active runs of the flow.
    max_active_runs: Option<u32>,
    /// The schedule of the flow's attribute in this program, in text form.
    schedule: Option<String>,
    /// The failed attempts by the keys of their tasks, the earliest first.
    failed: HashMap<String, Vec<AttemptRecord>>,
    /// The pool in the attribute of a task in this program, by the task's name.
    pool_of: &'a dyn Fn(&str) -> Option<Pool>,
    /// Whether the attribute of a task in this program says that it cleans up, by the task's name.
    cleans_up: &'a dyn Fn(&str) -> bool,
    /// The number of slots of a pool.
    slots: &'a dyn Fn(&str) -> Option<u32>,
}

/// Whether a process executes a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RunExecution {
    /// A live process executes it.
    Somewhere,
    Nowhere,
}

impl Runtime {
    /// Explains the state of a run or of one of its tasks: what it waits for, why it was skipped,
    /// failed, ran again or was cached, and the causes of that.
    ///
    /// The key of a mapped task without an index stands for all of its elements: the number of
    /// elements in each state, and the reasons for those that did not succeed. If a run has not
    /// started, its tasks are those of its flow's graph, if that is static.
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
    /// Returns an error if the run or the task does not exist, or if the store fails.
    pub async fn why(&self, run: RunId, task: Option<&str>) -> Result<Why, Error> {
        let record = self.find_run(run).await?.ok_or(Error::UnknownRun { run })?;
        let flow = registry::find(record.flow());
        let executed = match record.state().is_final() || self.host.executes(run) {
            true => RunExecution::Somewhere,
            false => match self
                .host
                .services
                .store
                .find_abandoned()
                .await?
                .iter()
                .any(|abandoned| abandoned.id == run)
            {
                true => RunExecution::Nowhere,
                false => RunExecution::Somewhere,
            },
        };
        let around = RecordContext {
            executed,
            turns: self.turns_before(&record).await?,
            previous: self.previous_of(&record, flow).await?,
            max_active_runs: flow.and_then(|flow| flow.max_active_runs),
            schedule: flow.and_then(schedule_of),
            failed: self.failed_attempts(&record).await?,
            pool_of: &pool_of,
            cleans_up: &cleans_up,
            slots: &|pool| self.host.pool_size(pool),
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

    /// Returns the failed attempts of a run, if any of its tasks had more than one.
    async fn failed_attempts(
        &self,
        record: &RunRecord,
    ) -> Result<HashMap<String, Vec<AttemptRecord>>, Error> {
        let mut failed = HashMap::<_, Vec<_>>::new();
        if record.tasks().iter().any(|task| task.attempts() > 1) {
            for attempt in self
                .host
                .services
                .store
                .read_attempts(record.id())
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

    /// Returns the runs that hold the slots which a run waits for.
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

    /// Returns the run of the previous tick, if a run waits for it.
    async fn previous_of(
        &self,
        record: &RunRecord,
        flow: Option<&FlowDef>,
    ) -> Result<Option<PreviousRun>, Error> {
        let depends_on_past = flow.is_some_and(|flow| flow.depends_on_past);
        if !depends_on_past || !record.kind().has_tick() || record.state() != RunState::Pending {
            return Ok(None);
        }
        let deployment = DeploymentKey {
            flow: record.flow().to_owned().into(),
            name: record.deployment().map(Into::into),
        };
        let (store, before) = (&self.host.services.store, record.logical_date().into());
        let previous = store.find_previous(&deployment, before).await?;
        Ok(previous.filter(|previous| previous.state != RunState::Success))
    }
}

fn schedule_of(flow: &FlowDef) -> Option<String> {
    crate::schedule::Schedule::of_flow(flow)?
        .ok()
        .map(|schedule| schedule.to_string())
}

/// Returns the pool in the attribute of a task.
fn pool_of(task: &str) -> Option<Pool> {
    let mut tasks = inventory::iter::<TaskEntry>
        .into_iter()
        .filter(|entry| entry.0.name == task);
    tasks.find_map(|entry| entry.0.options.pool.clone())
}

/// Returns `true` if the attribute of a task has `run_on_cancel`.
fn cleans_up(task: &str) -> bool {
    let mut tasks = inventory::iter::<TaskEntry>
        .into_iter()
        .filter(|entry| entry.0.name == task);
    tasks.any(|entry| entry.0.options.run_on_cancel == Some(true))
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
    /// Returns the name, such as `no_process`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Upstreams => "upstreams",
            Self::Slot => "slot",
            Self::Turn => "turn",
            Self::Past => "past",
            Self::NoProcess => "no_process",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Retried => "retried",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::UpstreamFailed => "upstream_failed",
            Self::Cancelled => "cancelled",
            Self::CleanUp => "clean_up",
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

/// Formats a count with its noun.
fn count(number: usize, what: &str) -> String {
    if number == 1 {
        format!("1 {what}")
    } else {
        format!("{number} {what}s")
    }
}

/// Formats an instant.
fn instant(at: chrono::DateTime<chrono::Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
