//! `check`: checks all flows without running them.

use std::process::ExitCode;

use serde::Serialize;

use super::args::{self, FindingKind};
use super::context::{CommandContext, ProgramFlow};
use super::exit::{CommandResult, FAILED};
use super::output::{self, GREEN, RED, YELLOW, plural, print, tell};
use super::parameters::ParameterArguments;
use crate::error::Error;
use crate::flow::{Request, registry};
use crate::runtime::Runtime;
use crate::task::{TaskDef, TaskEntry};

/// A finding, in the form of `--json`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct FindingJson {
    severity: Severity,
    kind: FindingKind,
    flow: Option<&'static str>,
    task: Option<String>,
    problem: String,
    place: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Severity {
    Error,
    Warning,
}

pub(super) fn check(context: &CommandContext, args: &args::Check) -> CommandResult {
    let mut found = Vec::new();
    for flow in context.flows() {
        of_flow(context, &flow, &mut found);
    }
    for TaskEntry(task) in inventory::iter::<TaskEntry> {
        of_task(&context.bare(), task, &mut found);
    }
    found.retain(|found| found.severity == Severity::Error || !args.allow.contains(&found.kind));
    found.sort();
    found.dedup();
    let errors = found
        .iter()
        .filter(|found| found.severity == Severity::Error)
        .count();
    let warnings = found.len() - errors;
    let code = match errors > 0 || (args.strict && warnings > 0) {
        true => ExitCode::from(FAILED),
        false => ExitCode::SUCCESS,
    };
    if args.format.json {
        output::json(&found)?;
        return Ok(code);
    }
    for alike in found.chunk_by(are_alike) {
        print(format_args!("{}\n", line(alike)))?;
    }
    let flows = plural(registry::flows().count() as u64, "flow");
    if found.is_empty() {
        print(format_args!("{GREEN}{flows}: no problems found{GREEN:#}\n"))?;
    } else {
        let (errors, warnings) = (
            plural(errors as u64, "error"),
            plural(warnings as u64, "warning"),
        );
        print(format_args!("{flows}: {errors}, {warnings}\n"))?;
    }
    if registry::flows().next().is_none() {
        tell("flows of a library crate are linked if `main.rs` mentions it: `use my_flows as _;`");
    }
    Ok(code)
}

/// Returns `true` if two findings share a line: both report the same thing missing.
fn are_alike(one: &FindingJson, other: &FindingJson) -> bool {
    let is_lack = matches!(one.kind, FindingKind::Docs | FindingKind::Tags);
    is_lack && one.kind == other.kind && one.task.is_some() == other.task.is_some()
}

fn line(alike: &[FindingJson]) -> String {
    let FindingJson {
        severity,
        kind,
        flow,
        task,
        problem,
        place,
    } = &alike[0];
    let (style, word) = match severity {
        Severity::Error => (RED, "error"),
        Severity::Warning => (YELLOW, "warning"),
    };
    let names = alike
        .iter()
        .filter_map(|found| found.task.as_deref().or(found.flow))
        .map(|name| format!("`{name}`"));
    let names = names.collect::<Vec<_>>().join(", ");
    let lacks = |what: &str, how: &str| {
        format!(
            "{} without {how}: {names}",
            plural(alike.len() as u64, what)
        )
    };
    let what = match (kind, flow, task) {
        (FindingKind::Docs, _, None) => lacks("flow", "docs (comments `///` above them)"),
        (FindingKind::Docs, _, Some(_)) => lacks("task", "docs (comments `///` above them)"),
        (FindingKind::Tags, ..) => lacks("flow", "tags (`#[flow(tags = [\"…\"])]`)"),
        (_, Some(flow), _) => format!("flow `{flow}`: {} ({place})", problem.replace('\n', " ")),
        (_, None, task) => format!(
            "task `{}`: {problem} ({place})",
            task.as_deref().unwrap_or_default()
        ),
    };
    format!("{style}{word}{style:#}: {what}")
}

fn of_task(runtime: &Runtime, task: &TaskDef, found: &mut Vec<FindingJson>) {
    let is_known = |found: &FindingJson| {
        found.kind == FindingKind::Pool && found.task.as_deref() == Some(task.name)
    };
    let told = found.iter().any(is_known);
    let mut tell = |kind, problem| {
        let (task, place) = (
            Some(task.name.to_owned()),
            format!("{}:{}", task.file, task.line),
        );
        found.push(FindingJson {
            severity: Severity::Warning,
            kind,
            flow: None,
            task,
            problem,
            place,
        });
    };
    if task.description.trim().is_empty() {
        tell(
            FindingKind::Docs,
            "it has no docs: a comment `///` above it".to_owned(),
        );
    }
    // unknown: what an `async fn` flow does with it, and whether the call names another pool
    let Some(pool) = task.options.pool.as_ref().filter(|_| !told) else {
        return;
    };
    let taken = format!(
        "it takes {} slot(s) of the pool `{}`",
        pool.slots, pool.name
    );
    match runtime.host.pool_size(pool.name) {
        Some(size) if pool.slots > size => {
            tell(FindingKind::Pool, format!("{taken}, which has {size}"))
        }
        Some(_) => {}
        None => tell(
            FindingKind::Pool,
            format!(
                "{taken}, which the runtime does not have: add it with `Runtime::builder().pool(\"{}\", …)`",
                pool.name
            ),
        ),
    }
}

fn of_flow(context: &CommandContext, flow: &ProgramFlow<'_>, found: &mut Vec<FindingJson>) {
    let definition = flow.definition;
    let place = format!("{}:{}", definition.file, definition.line);
    let mut found = |severity, kind, task, problem: String| {
        let (flow, place) = (Some(definition.name), place.clone());
        found.push(FindingJson {
            severity,
            kind,
            flow,
            task,
            problem,
            place,
        });
    };
    if let Err(error) = registry::check_name(definition) {
        found(Severity::Error, FindingKind::Flow, None, error.to_string());
    }
    let bare = context.bare();
    let schedules = flow.schedules();
    for serve in &flow.serve {
        if let Some(problem) = serve.problem() {
            found(
                Severity::Error,
                FindingKind::Flow,
                None,
                problem.to_string(),
            );
        }
    }
    for schedule in schedules
        .iter()
        .filter(|schedule| schedule.next(bare.now()).is_none())
    {
        found(
            Severity::Error,
            FindingKind::Flow,
            None,
            format!("its schedule `{schedule}` has no future ticks"),
        );
    }
    let mut calls: Vec<_> = flow
        .serve
        .iter()
        .map(|serve| Ok(serve.call().clone()))
        .collect();
    if calls.is_empty() {
        calls.push(flow.call(&ParameterArguments::default()));
    }
    for call in calls {
        let call = match call {
            Ok(call) => call,
            Err(failure) => {
                // a flow that is not served may have parameters without defaults
                if !schedules.is_empty() {
                    let why = failure.why.unwrap_or(failure.what);
                    found(
                        Severity::Error,
                        FindingKind::Flow,
                        None,
                        format!("it has a schedule, but a parameter without a default: {why}"),
                    );
                }
                continue;
            }
        };
        for schedule in schedules
            .iter()
            .filter(|schedule| !schedule.given_parameters().is_empty())
        {
            if let Err(problem) = call.with(schedule.given_parameters()) {
                found(
                    Severity::Error,
                    FindingKind::Flow,
                    None,
                    format!("the parameters of its schedule `{schedule}`: {problem}"),
                );
            }
        }
        let tick = schedules
            .iter()
            .filter_map(|schedule| schedule.next(bare.now()))
            .min();
        let request = Request {
            logical_date: tick,
            ..Request::default()
        };
        if let Err(error) = bare.host.check_call(&call, &request) {
            let (kind, task) = match &error {
                Error::Pool { task, .. } => (FindingKind::Pool, Some(task.clone())),
                _ => (FindingKind::Flow, None),
            };
            found(Severity::Error, kind, task, error.to_string());
        }
    }
    if definition.description.trim().is_empty() {
        found(
            Severity::Warning,
            FindingKind::Docs,
            None,
            "it has no docs: a comment `///` above it".to_owned(),
        );
    }
    if definition.tags.is_empty() {
        found(
            Severity::Warning,
            FindingKind::Tags,
            None,
            "it has no tags: `#[flow(tags = [\"…\"])]`".to_owned(),
        );
    }
}
