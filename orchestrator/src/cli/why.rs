//! `why`: prints the recorded reasons, as a chain.

use std::process::ExitCode;

use orchestrator_grammar::similar::nearest;

use super::args;
use super::context::Context;
use super::exit::{Done, Failure};
use super::names;
use super::output::{self, print};
use crate::error::Error;
use crate::journal::RunRecord;
use crate::why::{Known, known};

pub(super) async fn why(context: &Context, args: &args::Why) -> Done {
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
pub(super) fn no_task(record: &RunRecord, typed: &str) -> Failure {
    let failure = Failure::usage(format!("no task `{typed}`"));
    match known(record, typed) {
        Known::Elements { key, elements } => {
            let hint = format!(
                "the command `why` sums them up: `why {} {key}`",
                record.id()
            );
            failure
                .why(format!("`{key}` has {}", Known::range(elements)))
                .hint(hint)
        }
        // the keys are those of the flow's graph
        Known::Keys(keys) if !keys.is_empty() && record.tasks().is_empty() => {
            let hint = match nearest(typed, keys.iter().map(String::as_str)) {
                Some(key) => format!("did you mean `{key}`?"),
                None => {
                    "the run has not started: the command `why` says what it waits for".to_owned()
                }
            };
            failure
                .why(format!("there is {}", Known::Keys(keys)))
                .hint(hint)
        }
        Known::Keys(_) | Known::NoList { .. } | Known::Pruned => names::no_task(record, typed),
    }
}
