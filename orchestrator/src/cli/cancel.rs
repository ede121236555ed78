//! `runs cancel`: cancels runs.

use std::process::ExitCode;

use super::args;
use super::context::CommandContext;
use super::exit::{CommandFailure, CommandResult};
use super::names;
use super::output::{is_so, print, tell};
use crate::id::RunId;
use crate::journal::RunFilter;
use crate::runtime::Runtime;

pub(super) async fn cancel(context: &CommandContext, args: &args::RunsCancel) -> CommandResult {
    let Some(first) = args.runs.first() else {
        return matching(context, args).await;
    };
    let runtime = names::runtime_of_run(context, first).await?;
    let store = names::store(context);
    // all ids are resolved before the first run is cancelled
    let mut runs = Vec::new();
    for typed in &args.runs {
        runs.push(names::record_in(&runtime, &store, typed).await?.id());
    }
    each(&runtime, runs).await
}

/// Cancels the unfinished runs that match a filter.
async fn matching(context: &CommandContext, args: &args::RunsCancel) -> CommandResult {
    let runtime = context.runtime_if_there().await?;
    let mut filter = RunFilter::new().unfinished();
    if let Some(flow) = &args.flow {
        names::flow_with_runs(runtime.as_ref(), flow).await?;
        filter = filter.flow(flow);
    }
    filter = args
        .kind
        .iter()
        .fold(filter, |filter, kind| filter.kind((*kind).into()));
    let runs = match &runtime {
        // newest first: otherwise the slot of a cancelled run could go to a later one that is about
        // to be cancelled, too
        Some(runtime) => runtime.find_runs(&filter).await?,
        None => Vec::new(),
    };
    match runtime {
        Some(runtime) if !runs.is_empty() => {
            each(&runtime, runs.into_iter().map(|run| run.id)).await
        }
        runtime => {
            tell(format_args!(
                "no unfinished runs found{}",
                names::looked_in(context, runtime.is_some())
            ));
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn each(runtime: &Runtime, runs: impl IntoIterator<Item = RunId>) -> CommandResult {
    for run in runs {
        one(runtime, run).await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn one(runtime: &Runtime, run: RunId) -> Result<(), CommandFailure> {
    let asked = runtime.cancel(run).await?;
    let state = runtime.find_run(run).await?.map(|record| record.state());
    print(match (asked, state) {
        (false, Some(state)) => format!("run {run} {} already\n", is_so(state)),
        (true, Some(state)) if state.is_final() => format!("run {run} {}\n", is_so(state)),
        (_, _) => format!(
            "cancellation of run {run} was requested: the process that executes it picks it up within a second\n"
        ),
    })
}
