//! `runs rerun`: re-runs tasks of a finished run.

use super::context::CommandContext;
use super::exit::{CommandFailure, CommandResult};
use super::output::{halt, is_so};
use super::progress::{self, RunFollower};
use super::{args, names, run};
use crate::log::LogLevel;
use crate::state::Rerun;

pub(super) async fn rerun(context: &CommandContext, args: &args::RunsRerun) -> CommandResult {
    progress::with_logs(LogLevel::Trace);
    let (runtime, record) = names::record(context, &args.run.run).await?;
    names::flow(record.flow())?;
    let what = match &args.what {
        args::RerunWhat { all: true, .. } => Rerun::All,
        args::RerunWhat {
            from: Some(task), ..
        } => Rerun::From(task.clone()),
        args::RerunWhat {
            only: Some(task), ..
        } => Rerun::Only(task.clone()),
        args::RerunWhat { .. } => Rerun::Failed,
    };
    if let Rerun::From(task) | Rerun::Only(task) = &what
        && record.task(task).is_none()
    {
        return Err(names::no_task(&record, task));
    }
    if !record.state().is_final() {
        return Err(CommandFailure::usage(format!(
            "run {} {}, and is unfinished",
            record.id(),
            is_so(record.state())
        ))
        .why("only finished runs can be re-run")
        .hint("`runs cancel ID` cancels it"));
    }
    let following = RunFollower::new(runtime.events(), record.tasks().len());
    match runtime.until_halt(runtime.rerun(record.id(), what)).await {
        Ok(ended) => {
            let record = ended?;
            following.end().await;
            run::report(&record, runtime.host.services.store.is_durable())
        }
        Err(halted) => {
            drop(following);
            Ok(halt(halted))
        }
    }
}
