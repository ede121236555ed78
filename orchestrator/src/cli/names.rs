//! Looks up flows, tasks and runs by name.

use std::fmt::Display;

use orchestrator_grammar::similar::nearest;

use super::context::CommandContext;
use super::exit::CommandFailure;
use crate::error::without_secrets;
use crate::flow::{FlowDef, registry};
use crate::id::RunId;
use crate::journal::{RunFilter, RunRecord};
use crate::runtime::Runtime;

/// The maximum number of names that an error lists.
const NAMED: usize = 8;

/// A hint on how to select another store.
pub(super) const OTHER_STORE: &str =
    "select another store with `--store URL` or the variable ORCHESTRATOR_STORE";

/// A hint on where to find ids.
const LIST: &str = "`runs` lists them with their ids";

/// Returns the error for an unknown name, with the known names.
fn unknown(what: &str, typed: &str, mut known: Vec<&str>, otherwise: &str) -> CommandFailure {
    known.sort_unstable();
    known.dedup();
    let meant = nearest(typed, known.iter().copied());
    let hint = meant.map_or_else(
        || otherwise.to_owned(),
        |name| format!("did you mean `{name}`?"),
    );
    let list = if known.is_empty() {
        "none".to_owned()
    } else {
        some(&known)
    };
    CommandFailure::usage(format!("no {what} `{typed}`"))
        .why(format!("there is {list}"))
        .hint(hint)
}

/// Lists the first of some names, and the number of the others.
fn some(names: &[impl Display]) -> String {
    let mut list = names
        .iter()
        .take(NAMED)
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ");
    let more = names.len().saturating_sub(NAMED);
    if more > 0 {
        list.push_str(&format!(" and {more} more"));
    }
    list
}

/// Returns the flow with a name.
pub(super) fn flow(typed: &str) -> Result<&'static FlowDef, CommandFailure> {
    registry::find(typed).ok_or_else(|| {
        let names: Vec<&str> = registry::flows().map(|flow| flow.name).collect();
        let otherwise = match names.is_empty() {
            true => {
                "flows of a library crate are linked if `main.rs` mentions it: `use my_flows as _;`"
            }
            false => "`flows` lists them; link a crate that has others with `use the_crate as _;`",
        };
        unknown("flow", typed, names, otherwise)
    })
}

/// Returns an error if the program does not have the flow and the store does not have runs of it.
pub(super) async fn flow_with_runs(
    runtime: Option<&Runtime>,
    typed: &str,
) -> Result<(), CommandFailure> {
    if let Some(runtime) = runtime
        && !runtime
            .find_runs(&RunFilter::new().flow(typed).limit(1))
            .await?
            .is_empty()
    {
        return Ok(());
    }
    flow(typed).map(drop)
}

/// Returns `true` if the key is that of the task or of one of its elements.
pub(super) fn is_of(key: &str, task: &str) -> bool {
    key.strip_prefix(task)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
}

/// Returns the error for a run without a task of this key.
pub(super) fn no_task(record: &RunRecord, typed: &str) -> CommandFailure {
    let keys: Vec<String> = record.tasks().iter().map(|task| task.key()).collect();
    let otherwise = match (record.is_pruned(), keys.is_empty()) {
        (true, _) => "the records of its tasks were pruned",
        (false, true) => "the run has no tasks yet: `why` says what it waits for",
        (false, false) => "`runs show` lists them",
    };
    let known = keys
        .iter()
        .map(|key| key.split_once('[').map_or(key.as_str(), |(key, _)| key));
    unknown("task", typed, known.collect(), otherwise)
}

/// Returns the name of the store, for messages.
pub(super) fn store(context: &CommandContext) -> String {
    let url = context.url().ok().flatten();
    url.map_or_else(
        || "the program's own store".to_owned(),
        |url| format!("`{}`", without_secrets(&url)),
    )
}

/// Returns the end of a message about something not found: the store that was searched.
pub(super) fn looked_in(context: &CommandContext, is_there: bool) -> String {
    let store = store(context);
    if is_there {
        format!(" in {store}")
    } else {
        format!(": there is no store {store}")
    }
}

/// Returns the runtime to look for a run in. Does not create a store.
pub(super) async fn runtime_of_run(
    context: &CommandContext,
    typed: &str,
) -> Result<Runtime, CommandFailure> {
    full(typed)?;
    let runtime = context.runtime_if_there().await?;
    runtime.ok_or_else(|| {
        no_run(typed, format!("there is no store {}", store(context))).hint(OTHER_STORE)
    })
}

/// Returns the run that a part of an id denotes, and the runtime whose store has it.
pub(super) async fn record(
    context: &CommandContext,
    typed: &str,
) -> Result<(Runtime, RunRecord), CommandFailure> {
    let runtime = runtime_of_run(context, typed).await?;
    let record = record_in(&runtime, &store(context), typed).await?;
    Ok((runtime, record))
}

/// Returns the run that a part of an id denotes, in the named store.
pub(super) async fn record_in(
    runtime: &Runtime,
    store: &str,
    typed: &str,
) -> Result<RunRecord, CommandFailure> {
    let run = match full(typed)? {
        Some(run) => run,
        None => one(&runtime.run_ids(typed).await?, store, typed)?,
    };
    let record = runtime.find_run(run).await?;
    record.ok_or_else(|| no_run(typed, format!("it was never created in {store}")))
}

/// Parses a whole id; returns `None` for a part of one.
fn full(typed: &str) -> Result<Option<RunId>, CommandFailure> {
    let id = typed.parse::<RunId>().ok();
    if id.is_none() && typed.chars().filter(|character| *character != '-').count() < 4 {
        let what = format!(
            "expected the id of a run, or at least its first or last 4 characters, got `{typed}`"
        );
        return Err(CommandFailure::usage(what).hint(LIST));
    }
    Ok(id)
}

fn one(ids: &[RunId], store: &str, typed: &str) -> Result<RunId, CommandFailure> {
    match ids {
        [id] => Ok(*id),
        [] => Err(no_run(
            typed,
            format!("no id in {store} starts or ends with it"),
        )),
        ids => {
            let latest: Vec<&RunId> = ids.iter().rev().collect();
            Err(CommandFailure::usage(format!(
                "the ids of {} runs start or end with `{typed}`",
                ids.len()
            ))
            .why(some(&latest))
            .hint("give more characters of the intended one: ids differ at their ends"))
        }
    }
}

fn no_run(typed: &str, why: String) -> CommandFailure {
    CommandFailure::usage(format!("no run `{typed}`"))
        .why(why)
        .hint(LIST)
}
