//! `runs show`: a run and its tasks.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use super::context::Context;
use super::exit::{Done, Failure};
use super::output::{self, BOLD, RED, Table, instant, print};
use super::{args, names, run};
use crate::id::RunId;
use crate::runtime::Runtime;
use crate::state::{RunState, TaskState};
use crate::store::{AttemptRecord, RunRecord, RunSummary, TaskRun};

/// A run, as `--json` shows it.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    run: RunSummary,
    output: Option<Value>,
    pruned: bool,
    tasks: Vec<Task>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<Vec<Attempt>>,
}

#[derive(Serialize)]
struct Task {
    key: String,
    state: TaskState,
    attempts: u32,
    crashes: u32,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    next_attempt_at: Option<DateTime<Utc>>,
    cached_from: Option<RunId>,
    error: Option<String>,
}

#[derive(Serialize)]
struct Attempt {
    key: String,
    number: u32,
    state: TaskState,
    started_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
    error: Option<String>,
}

impl From<TaskRun<'_>> for Task {
    fn from(task: TaskRun<'_>) -> Self {
        Self {
            key: task.key(),
            state: task.state(),
            attempts: task.attempts(),
            crashes: task.crashes(),
            started_at: task.started_at(),
            finished_at: task.finished_at(),
            next_attempt_at: task.next_attempt_at(),
            cached_from: task.cached_from(),
            error: task.error().map(ToString::to_string),
        }
    }
}

impl From<AttemptRecord> for Attempt {
    fn from(attempt: AttemptRecord) -> Self {
        let AttemptRecord { key, number, state, started_at, finished_at, error } = attempt;
        let error = error.map(|error| error.to_string());
        Self { key, number, state, started_at, finished_at, error }
    }
}

pub(super) async fn show(context: &Context, args: &args::RunsShow) -> Done {
    let runtime = context.runtime().await?;
    let record = names::record(&runtime, &args.run.run).await?;
    let attempts = if args.attempts { Some(attempts(&runtime, record.id()).await?) } else { None };
    if args.format.json {
        let tasks = record.tasks().iter().map(Task::from).collect();
        let output = run::json(&record)?;
        output::json(&Shown { run: record.summary(), output, pruned: record.is_pruned(), tasks, attempts })?;
        return Ok(ExitCode::SUCCESS);
    }
    head(&record)?;
    tasks(&record)?;
    if let Some(attempts) = attempts {
        print(format_args!("{BOLD}attempts{BOLD:#}\n"))?;
        let mut table = Table::bare(2);
        for attempt in attempts {
            let took = attempt.finished_at.and_then(|end| (end - attempt.started_at).to_std().ok());
            table.row([
                attempt.key.into(),
                attempt.number.to_string().into(),
                attempt.state.into(),
                instant(attempt.started_at).into(),
                took.map(output::duration).unwrap_or_default().into(),
                attempt.error.as_deref().map(output::first_line).unwrap_or_default().into(),
            ]);
        }
        table.print()?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn attempts(runtime: &Runtime, run: RunId) -> Result<Vec<Attempt>, Failure> {
    Ok(runtime.attempts(run).await?.into_iter().map(Attempt::from).collect())
}

fn head(record: &RunRecord) -> Result<(), Failure> {
    let interval = record.interval();
    let mut table = Table::bare(0);
    table.row(["run".into(), record.id().to_string().into()]);
    table.row(["flow".into(), record.flow().into()]);
    table.row(["state".into(), record.state().into()]);
    table.row(["kind".into(), record.kind().as_str().into()]);
    if let Some(key) = record.key() {
        table.row(["key".into(), key.into()]);
    }
    table.row(["for".into(), instant(record.logical_date()).into()]);
    table.row(["interval".into(), format!("{} to {}", instant(interval.start), instant(interval.end)).into()]);
    for (name, at) in
        [("accepted", Some(record.created_at())), ("started", record.started_at()), ("finished", record.finished_at())]
    {
        if let Some(at) = at {
            table.row([name.into(), instant(at).into()]);
        }
    }
    if let Some(took) = record.duration() {
        table.row(["took".into(), output::duration(took).into()]);
    }
    for (at, (name, value)) in record.parameters().iter().enumerate() {
        table.row([if at == 0 { "parameters" } else { "" }.into(), format!("{name} = {value}").into()]);
    }
    if let (Some(error), true) = (record.error(), record.state() != RunState::Success) {
        table.row(["why".into(), output::Cell::styled(error.to_string().replace('\n', " "), RED)]);
    }
    table.print()
}

fn tasks(record: &RunRecord) -> Result<(), Failure> {
    if record.is_pruned() {
        return print("what was known of its tasks was pruned\n");
    }
    let mut table = Table::new(["TASK", "STATE", "ATTEMPTS", "TOOK", "ERROR"]);
    for task in record.tasks().iter() {
        let note = match (task.cached(), task.error()) {
            (true, _) => "cached".to_owned(),
            (false, error) => error.map(|error| output::first_line(&error.to_string())).unwrap_or_default(),
        };
        table.row([
            task.key().into(),
            task.state().into(),
            task.attempts().to_string().into(),
            task.duration().map(output::duration).unwrap_or_default().into(),
            note.into(),
        ]);
    }
    table.print()
}
