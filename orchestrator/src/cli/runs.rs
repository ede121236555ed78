//! `runs show`: shows a run and its tasks.

use std::collections::HashSet;
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use super::context::CommandContext;
use super::exit::{CommandFailure, CommandResult};
use super::output::{self, BOLD, RED, Table, TableCell, grouped, instant, plural, print, tell};
use super::{args, names, run};
use crate::id::RunId;
use crate::journal::{AttemptRecord, RerunRecord, RunRecord, RunSummary, TaskRun};
use crate::state::{RunState, TaskState};
use crate::value::json_text;

/// The maximum number of elements of a mapping that are listed: all of a short one, and of others
/// the first that need attention.
const LISTED: usize = 10;

/// A run, in the form of `--json`.
#[derive(Serialize)]
struct RunJson {
    #[serde(flatten)]
    run: RunSummary,
    output: Option<Value>,
    pruned: bool,
    reruns: Vec<RerunJson>,
    tasks: Vec<TaskJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<Vec<AttemptJson>>,
}

#[derive(Serialize)]
struct RerunJson {
    at: DateTime<Utc>,
    what: String,
}

#[derive(Serialize)]
struct TaskJson {
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
struct AttemptJson {
    key: String,
    number: u32,
    state: TaskState,
    started_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
    error: Option<String>,
}

impl From<&RerunRecord> for RerunJson {
    fn from(rerun: &RerunRecord) -> Self {
        Self {
            at: rerun.at,
            what: rerun.what.to_string(),
        }
    }
}

impl From<TaskRun<'_>> for TaskJson {
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

impl From<AttemptRecord> for AttemptJson {
    fn from(attempt: AttemptRecord) -> Self {
        let AttemptRecord {
            key,
            number,
            state,
            started_at,
            finished_at,
            error,
        } = attempt;
        let error = error.map(|error| error.to_string());
        Self {
            key,
            number,
            state,
            started_at,
            finished_at,
            error,
        }
    }
}

pub(super) async fn show(context: &CommandContext, args: &args::RunsShow) -> CommandResult {
    let (runtime, record) = names::record(context, &args.run.run).await?;
    let is_meant = |key: &str| {
        args.task
            .as_ref()
            .is_none_or(|task| names::is_of(key, task))
    };
    let meant: Vec<TaskRun<'_>> = record
        .tasks()
        .iter()
        .filter(|task| is_meant(&task.key()))
        .collect();
    if let (Some(task), true, false) = (&args.task, meant.is_empty(), record.is_pruned()) {
        return Err(names::no_task(&record, task));
    }
    let attempts = match args.attempts {
        true => Some(runtime.attempts(record.id()).await?),
        false => None,
    };
    let attempts = attempts.map(|attempts| {
        let meant = attempts
            .into_iter()
            .filter(|attempt| is_meant(&attempt.key));
        meant.map(AttemptJson::from).collect::<Vec<_>>()
    });
    if args.format.json {
        let reruns = record.reruns().iter().map(RerunJson::from).collect();
        let tasks = meant.into_iter().map(TaskJson::from).collect();
        let output = run::json(&record)?;
        output::json(&RunJson {
            run: record.summary(),
            output,
            pruned: record.is_pruned(),
            reruns,
            tasks,
            attempts,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    head(&record)?;
    let left_out = tasks(&record, &meant, args.all || args.task.is_some())?;
    if let Some(attempts) = attempts.filter(|attempts| !attempts.is_empty()) {
        list_attempts(&attempts, &left_out)?;
    }
    if record.state() == RunState::Pending {
        tell(format_args!("`why {}` says what it waits for", record.id()));
    }
    Ok(ExitCode::SUCCESS)
}

fn head(record: &RunRecord) -> Result<(), CommandFailure> {
    let interval = record.interval();
    let mut table = Table::bare(0);
    table.row(["run".into(), record.id().to_string().into()]);
    table.row(["flow".into(), record.flow().into()]);
    if let Some(deployment) = record.deployment() {
        table.row(["deployment".into(), deployment.into()]);
    }
    table.row(["state".into(), record.state().into()]);
    table.row(["kind".into(), record.kind().as_str().into()]);
    if let Some(key) = record.key() {
        table.row(["key".into(), key.into()]);
    }
    table.row(["for".into(), instant(record.logical_date()).into()]);
    table.row([
        "interval".into(),
        format!("{} to {}", instant(interval.start), instant(interval.end)).into(),
    ]);
    table.row(["accepted".into(), instant(record.created_at()).into()]);
    for RerunRecord { at, what, .. } in record.reruns() {
        table.row([
            "run again".into(),
            format!("{}: {what}", instant(*at)).into(),
        ]);
    }
    for (name, at) in [
        ("started", record.started_at()),
        ("finished", record.finished_at()),
    ] {
        if let Some(at) = at {
            table.row([name.into(), instant(at).into()]);
        }
    }
    if let Some(took) = record.duration() {
        table.row(["took".into(), output::duration(took).into()]);
    }
    for (at, (name, value)) in record.parameters().iter().enumerate() {
        table.row([
            if at == 0 { "parameters" } else { "" }.into(),
            output::beginning(&format!("{name} = {}", json_text(value))).into(),
        ]);
    }
    if let (Some(error), true) = (record.error(), record.state() != RunState::Success) {
        table.row([
            "why".into(),
            TableCell::styled(error.to_string().replace('\n', " "), RED),
        ]);
    }
    if let Some(returned) = returned(record) {
        table.row(["returned".into(), returned.into()]);
    }
    table.print()
}

/// Returns the flow's result, cut to one line.
fn returned(record: &RunRecord) -> Option<String> {
    match run::json(record) {
        Ok(value) => value.map(|value| output::beginning(&json_text(&value))),
        Err(_) => Some("a value that JSON cannot represent".to_owned()),
    }
}

/// Prints tasks. Returns the keys of those that do not have a line of their own.
fn tasks(
    record: &RunRecord,
    tasks: &[TaskRun<'_>],
    all: bool,
) -> Result<HashSet<String>, CommandFailure> {
    if tasks.is_empty() {
        print(match (record.is_pruned(), record.state().is_final()) {
            (true, _) => "\nthe records of its tasks were pruned\n",
            (false, true) => "\nit had no tasks\n",
            (false, false) => "\nit has no tasks yet\n",
        })?;
        return Ok(HashSet::new());
    }
    let mut table = Table::new(["TASK", "STATE", "ATTEMPTS", "TOOK", "NOTE"]);
    let mut left_out = HashSet::new();
    for node in tasks.chunk_by(|a, b| a.place().node == b.place().node) {
        if all || node.len() <= LISTED {
            node.iter().for_each(|task| table.row(row(task)));
            continue;
        }
        table.row(mapping(node));
        let mut notable: Vec<&TaskRun<'_>> = node
            .iter()
            .filter(|task| rank(task.state()).is_some())
            .collect();
        notable.sort_by_key(|task| rank(task.state()));
        left_out.extend(node.iter().map(TaskRun::key));
        for task in notable.iter().take(LISTED) {
            left_out.remove(&task.key());
            table.row(row(task));
        }
        if let Some(more) = notable.get(LISTED..).filter(|more| !more.is_empty()) {
            table.row([format!("and {} more", grouped(more.len() as u64)).into()]);
        }
    }
    print("\n")?;
    table.print()?;
    if !left_out.is_empty() {
        tell("`--all` shows each element, `--task KEY` those of a task");
    }
    Ok(left_out)
}

fn row(task: &TaskRun<'_>) -> [TableCell; 5] {
    let note = match (task.cached(), task.error()) {
        (true, _) => "cached".to_owned(),
        (false, error) => error
            .map(|error| output::first_line(&error.to_string()))
            .unwrap_or_default(),
    };
    [
        task.key().into(),
        task.state().into(),
        task.attempts().to_string().into(),
        task.duration()
            .map(output::duration)
            .unwrap_or_default()
            .into(),
        note.into(),
    ]
}

/// Returns the position of elements in this state in the list, or `None` if only their number is
/// shown.
fn rank(state: TaskState) -> Option<u8> {
    match state {
        TaskState::Failed => Some(0),
        TaskState::Retrying => Some(1),
        TaskState::Running => Some(2),
        TaskState::UpstreamFailed | TaskState::Skipped | TaskState::Cancelled => Some(3),
        TaskState::Pending | TaskState::Success => None,
    }
}

/// Returns the row that summarizes all elements of a mapping.
fn mapping(elements: &[TaskRun<'_>]) -> [TableCell; 5] {
    let mut states: Vec<(TaskState, u64)> = Vec::new();
    for element in elements {
        match states
            .iter_mut()
            .find(|(state, _)| *state == element.state())
        {
            Some((_, count)) => *count += 1,
            None => states.push((element.state(), 1)),
        }
    }
    states.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let cached = elements.iter().filter(|element| element.cached()).count();
    let counts = states
        .iter()
        .map(|(state, count)| format!("{} {state}", grouped(*count)));
    let mut note = format!(
        "{}: {}",
        plural(elements.len() as u64, "element"),
        counts.collect::<Vec<_>>().join(", ")
    );
    if cached > 0 {
        note.push_str(&format!(", {} of them cached", grouped(cached as u64)));
    }
    let state = match states.as_slice() {
        [(state, _)] => (*state).into(),
        _ => "".into(),
    };
    let attempts: u32 = elements.iter().map(|element| element.attempts()).sum();
    let key = |element: Option<&TaskRun<'_>>| element.map(TaskRun::key).unwrap_or_default();
    let span = span(&key(elements.first()), &key(elements.last()));
    [
        span.into(),
        state,
        attempts.to_string().into(),
        "".into(),
        note.into(),
    ]
}

/// Formats the keys of the elements of a mapping by the first and the last: `parse[0..19999]`, or,
/// for a nested mapping, `parse[0][0]..[99][9]`.
fn span(first: &str, last: &str) -> String {
    let (Some((task, from)), Some((_, to))) = (first.split_once('['), last.split_once('[')) else {
        return first.to_owned();
    };
    match to.contains('[') {
        true => format!("{task}[{from}..[{to}"),
        false => format!("{task}[{}..{to}", from.trim_end_matches(']')),
    }
}

/// Prints attempts, except those of elements that were left out.
fn list_attempts(
    attempts: &[AttemptJson],
    left_out: &HashSet<String>,
) -> Result<(), CommandFailure> {
    print(format_args!("\n{BOLD}attempts{BOLD:#}\n"))?;
    let mut table = Table::bare(2);
    let mut left = 0;
    for attempt in attempts {
        if left_out.contains(&attempt.key) {
            left += 1;
            continue;
        }
        let took = attempt
            .finished_at
            .and_then(|end| (end - attempt.started_at).to_std().ok());
        table.row([
            attempt.key.as_str().into(),
            attempt.number.to_string().into(),
            attempt.state.into(),
            instant(attempt.started_at).into(),
            took.map(output::duration).unwrap_or_default().into(),
            attempt
                .error
                .as_deref()
                .map(output::first_line)
                .unwrap_or_default()
                .into(),
        ]);
    }
    table.print()?;
    if left > 0 {
        print(format_args!(
            "  and {} of elements that are not listed\n",
            plural(left, "attempt")
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn keys_of_elements_are_shown_as_a_range() {
        for (first, last, expected) in [
            ("parse[0]", "parse[19999]", "parse[0..19999]"),
            ("sub/parse#2[0]", "sub/parse#2[9]", "sub/parse#2[0..9]"),
            ("parse[0][0]", "parse[99][9]", "parse[0][0]..[99][9]"),
            ("parse", "parse", "parse"),
        ] {
            assert_eq!(span(first, last), expected, "{first} to {last}");
        }
    }
}
