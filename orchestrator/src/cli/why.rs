//! `why`: prints the recorded reasons, as a chain.

use std::process::ExitCode;

use orchestrator_grammar::similar::nearest;

use super::args;
use super::context::CommandContext;
use super::exit::{CommandFailure, CommandResult};
use super::names;
use super::output::{self, print};
use crate::error::Error;
use crate::journal::RunRecord;
use crate::why::{KnownTasks, known};

pub(super) async fn why(context: &CommandContext, args: &args::Why) -> CommandResult {
    let (runtime, record) = names::record(context, &args.run.run).await?;
    let why = match runtime.why(record.id(), args.task.as_deref()).await {
        Err(Error::UnknownTask { task, .. }) => return Err(no_task(&record, &task)),
        why => why?,
    };
    if args.format.json {
        output::json(&why)?;
    } else {
        print(why)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the error for a run without a task of this key, with the keys that it has.
pub(super) fn no_task(record: &RunRecord, typed: &str) -> CommandFailure {
    let failure = CommandFailure::usage(format!("no task `{typed}`"));
    match known(record, typed) {
        KnownTasks::Elements { key, elements } => {
            let hint = format!("`why` summarizes them: `why {} {key}`", record.id());
            failure
                .why(format!("`{key}` has {}", KnownTasks::range(elements)))
                .hint(hint)
        }
        // the keys are those of the flow's graph
        KnownTasks::Keys(keys) if !keys.is_empty() && record.tasks().is_empty() => {
            let hint = match nearest(typed, keys.iter().map(String::as_str)) {
                Some(key) => format!("did you mean `{key}`?"),
                None => "the run has not started: `why` says what it waits for".to_owned(),
            };
            failure
                .why(format!("there is {}", KnownTasks::Keys(keys)))
                .hint(hint)
        }
        KnownTasks::Keys(_) | KnownTasks::NoList { .. } | KnownTasks::Pruned => {
            names::no_task(record, typed)
        }
    }
}
