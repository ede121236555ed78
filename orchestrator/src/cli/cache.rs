//! `cache`: lists, explains and removes cached results.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::context::CommandContext;
use super::exit::{CommandFailure, CommandResult};
use super::output::{self, Table, instant, plural, print, tell};
use super::{args, names, why};
use crate::id::RunId;
use crate::journal::{CacheMiss, RunRecord, TaskRun};
use crate::state::TaskState;
use crate::store::{CacheEntry, CacheFilter};
use crate::why::{KnownTasks, known};

/// The number of digits shown of a key. As few as git shows of a commit are not enough for millions
/// of keys.
const DIGITS: usize = 16;

pub(super) async fn cache(context: &CommandContext, command: &args::Cache) -> CommandResult {
    match command {
        args::Cache::Ls(args) => list(context, args).await,
        args::Cache::Explain(args) => explain(context, args).await,
        args::Cache::Rm(args) => remove(context, args).await,
    }
}

async fn list(context: &CommandContext, args: &args::CacheLs) -> CommandResult {
    let filter = args
        .task
        .iter()
        .fold(CacheFilter::new(), |filter, task| filter.task(task));
    let runtime = context.runtime_if_there().await?;
    let entries = match &runtime {
        Some(runtime) => runtime.cached(&filter).await?,
        None => Vec::new(),
    };
    if args.format.json {
        output::json(&entries)?;
        return Ok(ExitCode::SUCCESS);
    }
    if entries.is_empty() {
        tell(format_args!(
            "nothing is cached{}",
            names::looked_in(context, runtime.is_some())
        ));
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(["TASK", "KEY", "RUN", "CREATED", "EXPIRES", "SIZE"]);
    for (entry, run) in entries
        .iter()
        .zip(output::ends(entries.iter().map(|entry| entry.run)))
    {
        table.row([
            path(&entry.task).into(),
            digits(&entry.key).into(),
            run.into(),
            instant(entry.created_at).into(),
            entry
                .expires_at
                .map_or_else(|| "never".to_owned(), instant)
                .into(),
            entry.size.map(output::bytes).unwrap_or_default().into(),
        ]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}

/// Returns a task's path, without the package if the crate has the same name.
fn path(task: &str) -> &str {
    let path = task.split_once("::").filter(|(package, path)| {
        path.split("::")
            .next()
            .is_some_and(|krate| krate == package.replace('-', "_"))
    });
    path.map_or(task, |(_, path)| path)
}

fn digits(key: &str) -> &str {
    key.get(..DIGITS).unwrap_or(key)
}

/// The role of the cache in a result, in the form of `--json`.
#[derive(Serialize)]
struct ExplanationJson {
    run: RunId,
    task: String,
    /// `hit`, `miss`, or `none` if the cache was not involved.
    cache: &'static str,
    reason: String,
    from_run: Option<RunId>,
    computed_at: Option<DateTime<Utc>>,
    /// The key of the entry, if there is one.
    key: Option<String>,
    /// The reason for a missing entry, if one was to be expected.
    no_entry: Option<&'static str>,
    others: Vec<OtherEntryJson>,
}

/// Another result of the same task.
#[derive(Serialize)]
struct OtherEntryJson {
    /// `code` or `inputs`.
    differs_in: &'static str,
    #[serde(flatten)]
    entry: CacheEntry,
}

async fn explain(context: &CommandContext, args: &args::CacheExplain) -> CommandResult {
    let (runtime, record) = names::record(context, &args.run.run).await?;
    let Some(task) = record.exact(&args.task) else {
        return Err(no_one_task(&record, &args.task));
    };
    let name = record.tables().nodes[task.place().node]
        .wiring
        .as_ref()
        .map_or(task.name(), |wiring| &*wiring.task);
    let entries = runtime.cached(&CacheFilter::new().task(name)).await?;
    let explained = explained(record.id(), task, entries);
    if args.format.json {
        output::json(&explained)?;
        return Ok(ExitCode::SUCCESS);
    }
    let ExplanationJson {
        task,
        cache,
        reason,
        key,
        no_entry,
        others,
        ..
    } = &explained;
    print(format_args!("{task}: {cache}: {reason}\n"))?;
    if let Some(key) = key {
        print(format_args!("key {key}\n"))?;
    }
    if let Some(no_entry) = no_entry {
        print(format_args!("{no_entry}\n"))?;
    }
    if !others.is_empty() {
        print("other results of the task:\n")?;
    }
    let mut table = Table::bare(2);
    for OtherEntryJson { differs_in, entry } in others {
        table.row([
            digits(&entry.key).into(),
            format!("other {differs_in}").into(),
            entry.run.to_string().into(),
            instant(entry.created_at).into(),
        ]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the error for a key that does not name exactly one task: it names several elements of a
/// mapping, or nothing.
fn no_one_task(record: &RunRecord, typed: &str) -> CommandFailure {
    match known(record, typed) {
        KnownTasks::Elements { key, elements } if key == typed => {
            let failure = CommandFailure::usage(format!(
                "`{key}` is mapped: each of its elements has a result of its own"
            ));
            let failure = failure.why(format!("it has {}", KnownTasks::range(elements)));
            let hint = format!("name one: `cache explain {} '{key}[0]'`", record.id());
            if elements > 0 {
                failure.hint(hint)
            } else {
                failure
            }
        }
        KnownTasks::NoList { key } => CommandFailure::usage(format!("`{key}` has no elements yet"))
            .why("the list that it is mapped over is not available"),
        _ => why::no_task(record, typed),
    }
}

fn explained(run: RunId, task: TaskRun<'_>, entries: Vec<CacheEntry>) -> ExplanationJson {
    let (cache, reason) = match (task.cached_from(), task.cache_miss()) {
        (Some(from), _) => {
            let at = task.cached_at().map(instant).unwrap_or_default();
            (
                "hit",
                format!(
                    "its code and its inputs are those of run {from}, which computed it at {at}"
                ),
            )
        }
        (None, Some(miss)) => ("miss", in_words(miss)),
        (None, None) => (
            "none",
            "its task is not cached, or it ended before the look-up".to_owned(),
        ),
    };
    // an entry is created when a run's task finishes: at the same time, to the microsecond
    let (made_by, at) = match task.cached_from() {
        Some(from) => (from, task.cached_at()),
        None => (run, task.finished_at()),
    };
    let own = entries
        .iter()
        .position(|entry| entry.run == made_by && Some(entry.created_at) == at);
    let mut others = entries;
    let own = own.map(|at| others.remove(at));
    let differs_in = |entry: &CacheEntry| match &own {
        Some(own) if own.inputs == entry.inputs => "code",
        _ => "inputs",
    };
    let others = match cache {
        "none" => Vec::new(),
        _ => others
            .into_iter()
            .map(|entry| OtherEntryJson {
                differs_in: differs_in(&entry),
                entry,
            })
            .collect(),
    };
    ExplanationJson {
        run,
        task: task.key(),
        cache,
        reason,
        from_run: task.cached_from(),
        computed_at: at,
        no_entry: (cache != "none" && own.is_none()).then(|| no_entry(task.state())),
        key: own.map(|entry| entry.key),
        others,
    }
}

/// Returns the reason why a task with `cache` has no entry.
fn no_entry(state: TaskState) -> &'static str {
    match state {
        TaskState::Failed => "it failed, and failures are not cached",
        TaskState::Skipped => "it was skipped, so it has no result to cache",
        TaskState::Cancelled => "it was cancelled, so it has no result to cache",
        TaskState::Success => "its entry was removed, or was never created",
        _ => "it has no result yet",
    }
}

/// Returns the reason why a result was computed.
fn in_words(miss: CacheMiss) -> String {
    match miss {
        CacheMiss::Empty => "no result of the task was cached".to_owned(),
        CacheMiss::NewInputs => "results were cached, for other inputs".to_owned(),
        CacheMiss::ChangedCode => {
            "a result for these inputs was cached, but of other code: the task or its `version` changed".to_owned()
        }
        CacheMiss::Expired { created } => {
            format!("the cached result was computed at {}, and had expired", instant(created))
        }
        CacheMiss::Refreshed => "the run ignored cached results (`--refresh-cache`)".to_owned(),
        CacheMiss::Unreadable => "the cached result could not be read as the task's type".to_owned(),
    }
}

async fn remove(context: &CommandContext, args: &args::CacheRm) -> CommandResult {
    let Some(runtime) = context.runtime_if_there().await? else {
        print(format_args!(
            "nothing is cached{}\n",
            names::looked_in(context, false)
        ))?;
        return Ok(ExitCode::SUCCESS);
    };
    let filter = CacheFilter::new();
    let filter = match args {
        args::CacheRm { key: Some(key), .. } => one(&runtime, key).await?,
        args::CacheRm {
            task: Some(task), ..
        } => filter.task(task),
        args::CacheRm { expired: true, .. } => filter.expired(),
        args::CacheRm { .. } => filter,
    };
    let removed = runtime.forget_cached(&filter).await?;
    print(format_args!(
        "{} removed\n",
        plural(removed, "cached result")
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the one entry whose key has this prefix.
async fn one(
    runtime: &crate::runtime::Runtime,
    prefix: &str,
) -> Result<CacheFilter, CommandFailure> {
    let list = "`cache ls` lists them";
    if prefix.len() < 4 {
        let what = format!("expected a key, or at least its first 4 digits, got `{prefix}`");
        return Err(CommandFailure::usage(what).hint(list));
    }
    let filter = CacheFilter::new().key(prefix);
    match runtime.cached(&filter).await?.as_slice() {
        [_] => Ok(filter),
        [] => Err(
            CommandFailure::usage(format!("no cached result `{prefix}`"))
                .why("no key starts with it")
                .hint(list),
        ),
        several => {
            let keys: Vec<&str> = several
                .iter()
                .take(8)
                .map(|entry| digits(&entry.key))
                .collect();
            Err(
                CommandFailure::usage(format!("{} keys start with `{prefix}`", several.len()))
                    .why(keys.join(", "))
                    .hint("give more digits of the intended one"),
            )
        }
    }
}
