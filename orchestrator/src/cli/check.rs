//! `check`: looks at all flows without running them.

use std::process::ExitCode;

use serde::Serialize;

use super::args;
use super::context::{Context, Known};
use super::exit::{Done, FAILED};
use super::output::{self, GREEN, RED, YELLOW, print, tell};
use super::parameters::Typed;
use crate::flow::registry;
use crate::task::TaskEntry;

/// Something that was found, as `--json` shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Found {
    severity: Severity,
    flow: Option<&'static str>,
    task: Option<&'static str>,
    problem: String,
    place: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Severity {
    Error,
    Warning,
}

pub(super) fn check(context: &Context, args: &args::Check) -> Done {
    let mut found = Vec::new();
    for flow in context.flows() {
        of_flow(context, &flow, &mut found);
    }
    for TaskEntry(task) in inventory::iter::<TaskEntry> {
        if task.description.trim().is_empty() {
            found.push(Found {
                severity: Severity::Warning,
                flow: None,
                task: Some(task.name),
                problem: "it has no docs: a comment `///` above it".to_owned(),
                place: format!("{}:{}", task.file, task.line),
            });
        }
    }
    found.sort();
    found.dedup();
    let errors = found.iter().filter(|found| found.severity == Severity::Error).count();
    let warnings = found.len() - errors;
    let code = match errors > 0 || (args.strict && warnings > 0) {
        true => ExitCode::from(FAILED),
        false => ExitCode::SUCCESS,
    };
    if args.format.json {
        output::json(&found)?;
        return Ok(code);
    }
    for Found { severity, flow, task, problem, place } in &found {
        let (style, word) = match severity {
            Severity::Error => (RED, "error"),
            Severity::Warning => (YELLOW, "warning"),
        };
        let what = match (flow, task) {
            (Some(flow), _) => format!("flow `{flow}`"),
            (None, Some(task)) => format!("task `{task}`"),
            (None, None) => "the program".to_owned(),
        };
        print(format_args!("{style}{word}{style:#}: {what}: {} ({place})\n", problem.replace('\n', " ")))?;
    }
    let flows = registry::flows().count();
    if found.is_empty() {
        print(format_args!("{GREEN}{flows} flow(s) are well{GREEN:#}\n"))?;
    } else {
        print(format_args!("{flows} flow(s): {errors} error(s), {warnings} warning(s)\n"))?;
    }
    if flows == 0 {
        tell("flows of a library crate are linked where `main.rs` mentions it: `use my_flows as _;`");
    }
    Ok(code)
}

fn of_flow(context: &Context, flow: &Known<'_>, found: &mut Vec<Found>) {
    let definition = flow.definition;
    let place = format!("{}:{}", definition.file, definition.line);
    let mut tell = |severity, problem: String| {
        let (flow, place) = (Some(definition.name), place.clone());
        found.push(Found { severity, flow, task: None, problem, place });
    };
    if let Err(error) = registry::check_name(definition) {
        tell(Severity::Error, error.to_string());
    }
    let bare = context.bare();
    let schedules = flow.schedules();
    for serve in &flow.serve {
        if let Some(problem) = serve.problem() {
            tell(Severity::Error, problem.to_string());
        }
    }
    for schedule in schedules.iter().filter(|schedule| schedule.next(bare.now()).is_none()) {
        tell(Severity::Error, format!("its schedule `{schedule}` has no tick to come"));
    }
    let mut calls: Vec<_> = flow.serve.iter().map(|serve| Ok(serve.call().clone())).collect();
    if calls.is_empty() {
        calls.push(flow.call(&Typed::default()));
    }
    for call in calls {
        let call = match call {
            Ok(call) => call,
            Err(failure) => {
                // a flow that nobody serves may ask for its parameters
                if !schedules.is_empty() {
                    let why = failure.why.unwrap_or(failure.what);
                    tell(Severity::Error, format!("it has a schedule, and a parameter without a default: {why}"));
                }
                continue;
            }
        };
        for schedule in schedules.iter().filter(|schedule| !schedule.given_parameters().is_empty()) {
            if let Err(problem) = call.with(schedule.given_parameters()) {
                tell(Severity::Error, format!("the parameters of its schedule `{schedule}`: {problem}"));
            }
        }
        let tick = schedules.iter().filter_map(|schedule| schedule.next(bare.now())).min();
        if let Err(error) = bare.0.check_call(&call, tick) {
            tell(Severity::Error, error.to_string());
        }
    }
    if definition.description.trim().is_empty() {
        tell(Severity::Warning, "it has no docs: a comment `///` above it".to_owned());
    }
    if definition.tags.is_empty() {
        tell(Severity::Warning, "it has no tags: `#[flow(tags = [\"…\"])]`".to_owned());
    }
}
