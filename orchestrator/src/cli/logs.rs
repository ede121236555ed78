//! `runs logs`: prints the logs of a run.

use std::process::ExitCode;
use std::time::Duration;

use chrono::SecondsFormat;
use serde_json::json;

use super::args;
use super::context::CommandContext;
use super::exit::{CommandFailure, CommandResult};
use super::names;
use super::output::{print, tell};
use crate::capture::console;
use crate::error::Error;
use crate::journal::RunRecord;
use crate::log::LogLine;

/// The interval at which new lines are polled.
const LOOK: Duration = Duration::from_millis(500);

pub(super) async fn logs(context: &CommandContext, args: &args::RunsLogs) -> CommandResult {
    let (runtime, record) = names::record(context, &args.run.run).await?;
    let run = record.id();
    let (mut after, mut printed) = (None, 0_usize);
    loop {
        // the state is read first, so that the lines read afterwards include all from before the
        // end
        let record = runtime.find_run(run).await?;
        loop {
            let lines = runtime.logs(run, after).await?;
            let Some(last) = lines.last() else { break };
            after = Some(last.number);
            for line in lines.iter().filter(|line| is_meant(line, args)) {
                printed += 1;
                write(line, args.json)?;
            }
        }
        match record {
            None => return Err(Error::UnknownRun { run }.into()),
            Some(record) if !args.follow || record.state().is_final() => {
                return end(printed, &record, args);
            }
            Some(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

fn end(printed: usize, record: &RunRecord, args: &args::RunsLogs) -> CommandResult {
    if let Some(task) = args
        .task
        .as_ref()
        .filter(|task| printed == 0 && record.task(task).is_none())
        && !record.is_pruned()
    {
        return Err(names::no_task(record, task));
    }
    if printed == 0 && !args.json {
        let more = if record.state().is_final() {
            ""
        } else {
            " yet"
        };
        tell(format_args!("no matching log lines{more}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn is_meant(line: &LogLine, args: &args::RunsLogs) -> bool {
    let of_task = |task: &String| {
        line.task
            .as_ref()
            .is_some_and(|key| names::is_of(key, task))
    };
    line.level >= args.level.into() && args.task.as_ref().is_none_or(of_task)
}

fn write(line: &LogLine, as_json: bool) -> Result<(), CommandFailure> {
    if as_json {
        let mut document = json!(line);
        document["at"] = line.at.to_rfc3339_opts(SecondsFormat::Millis, true).into();
        return print(format_args!("{document}\n"));
    }
    // with colours, which `print` strips if standard output is not a terminal
    let mut text = console::begin(true, line.at, line.level);
    if let Some(task) = &line.task {
        console::push_task(&mut text, true, task, line.attempt.unwrap_or(1));
    }
    console::push_said(&mut text, true, &line.message, &line.fields);
    print(text)
}
