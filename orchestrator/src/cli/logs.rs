//! `runs logs`: what the tasks of a run logged.

use std::process::ExitCode;
use std::time::Duration;

use chrono::SecondsFormat;
use serde_json::{Value, json};

use super::args;
use super::context::Context;
use super::exit::{Done, Failure};
use super::names;
use super::output::{CYAN, DIM, RED, YELLOW, print, tell};
use crate::error::Error;
use crate::log::{LogLevel, LogLine};
use crate::state::RunState;

/// How often it is looked for more.
const LOOK: Duration = Duration::from_millis(500);

pub(super) async fn logs(context: &Context, args: &args::RunsLogs) -> Done {
    let runtime = context.runtime().await?;
    let record = names::record(&runtime, &args.run.run).await?;
    let run = record.id();
    let (mut after, mut printed) = (None, 0_usize);
    loop {
        // the state first: what was logged before the end is there then
        let state = runtime.find_run(run).await?.map(|record| record.state());
        loop {
            let lines = runtime.logs(run, after).await?;
            let Some(last) = lines.last() else { break };
            after = Some(last.number);
            for line in lines.iter().filter(|line| is_meant(line, args)) {
                printed += 1;
                write(line, args.json)?;
            }
        }
        match state {
            None => return Err(Error::UnknownRun { run }.into()),
            Some(state) if !args.follow || state.is_final() => return end(printed, state, args),
            Some(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

fn end(printed: usize, state: RunState, args: &args::RunsLogs) -> Done {
    if printed == 0 && !args.json {
        let more = if state.is_final() { "" } else { " yet" };
        tell(format_args!("nothing was logged{more} that is asked for"));
    }
    Ok(ExitCode::SUCCESS)
}

fn is_meant(line: &LogLine, args: &args::RunsLogs) -> bool {
    let of_task = |key: &String| {
        let rest = line.task.as_ref().and_then(|task| task.strip_prefix(key.as_str()));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
    };
    line.level >= args.level.into() && args.task.as_ref().is_none_or(of_task)
}

fn write(line: &LogLine, as_json: bool) -> Result<(), Failure> {
    let at = line.at.to_rfc3339_opts(SecondsFormat::Millis, true);
    if as_json {
        let LogLine { number, target, message, fields, run, task, attempt, map_index, .. } = line;
        let document = json!({
            "number": number, "at": at, "level": line.level, "target": target, "message": message, "fields": fields,
            "run": run, "task": task, "attempt": attempt, "map_index": map_index,
        });
        return print(format_args!("{document}\n"));
    }
    let style = match line.level {
        LogLevel::Error => RED,
        LogLevel::Warn => YELLOW,
        LogLevel::Info => CYAN,
        LogLevel::Debug | LogLevel::Trace => DIM,
    };
    let mut text = format!("{DIM}{at}{DIM:#} {style}{:>5}{style:#} ", line.level.as_str().to_uppercase());
    if let Some(task) = &line.task {
        text.push_str(task);
        if let Some(attempt) = line.attempt.filter(|attempt| *attempt > 1) {
            text.push_str(&format!(" (attempt {attempt})"));
        }
        text.push_str(": ");
    }
    text.push_str(&line.message);
    for (name, value) in &line.fields {
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        text.push_str(&format!(" {DIM}{name}={value}{DIM:#}"));
    }
    print(format_args!("{text}\n"))
}
