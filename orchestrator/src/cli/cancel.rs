//! `runs cancel`: asks for a run's end.

use std::process::ExitCode;

use super::args;
use super::context::Context;
use super::exit::Done;
use super::names;
use super::output::print;

pub(super) async fn cancel(context: &Context, args: &args::OneRun) -> Done {
    let runtime = context.runtime().await?;
    let run = names::run(&runtime, &args.run).await?;
    let asked = runtime.cancel(run).await?;
    let state = runtime.find_run(run).await?.map(|record| record.state());
    print(match (asked, state) {
        (false, Some(state)) => format!("run {run} is {state} already\n"),
        (true, Some(state)) if state.is_final() => format!("run {run} is {state}\n"),
        (_, _) => format!("run {run} is to be cancelled: the process that executes it hears of it within a second\n"),
    })?;
    Ok(ExitCode::SUCCESS)
}
