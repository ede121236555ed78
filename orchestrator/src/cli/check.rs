//! `check`: checks all flows without running them.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;

use super::args::{self, FindingKind};
use super::context::{CommandContext, ProgramFlow};
use super::exit::{CommandResult, FAILED};
use super::output::{self, GREEN, RED, YELLOW, plural, print, tell};
use super::parameters::ParameterArguments;
use crate::entry::EntryKind;
use crate::error::Error;
use crate::flow::{FlowDef, Request, registry};
use crate::runtime::Runtime;
use crate::scheduler::{Serve, prepare};
use crate::task::{TaskDef, TaskEntry};
use crate::vault::Family;

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

pub(super) async fn check(mut context: CommandContext, args: &args::Check) -> CommandResult {
    // with the store, if there is one: it may have connections and secrets
    let runtime = context.runtime_if_there().await?;
    let (runtime, mut found) = (runtime.unwrap_or_else(|| context.bare()), Vec::new());
    for flow in context.flows() {
        of_flow(&runtime, &flow, &mut found).await;
    }
    let served = context.served_on(&runtime);
    of_served(&runtime, served, &mut found).await;
    for TaskEntry(task) in inventory::iter::<TaskEntry> {
        of_task(&runtime, task, &mut found);
        of_requirements(&runtime, task, &mut found).await;
    }
    found.extend(shared_variables());
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
        (_, None, Some(task)) => format!("task `{task}`: {problem} ({place})"),
        (_, None, None) => format!("{problem} ({place})"),
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

/// Finds what a task needs from outside and cannot have, and what it has and cannot be masked.
async fn of_requirements(runtime: &Runtime, task: &TaskDef, found: &mut Vec<FindingJson>) {
    let clients = &runtime.host.environment.clients;
    let finding = |kind, problem| FindingJson {
        severity: Severity::Warning,
        kind,
        flow: None,
        task: Some(task.name.to_owned()),
        problem,
        place: format!("{}:{}", task.file, task.line),
    };
    for requirement in task.requirements {
        match clients.check(requirement).await {
            Ok(()) => {}
            Err(error) => {
                // flows whose tasks are known have told it
                let problem = error.to_string();
                let is_told = found.iter().any(|found| {
                    found.kind == FindingKind::Requirement && found.problem.ends_with(&problem)
                });
                if !is_told {
                    found.push(finding(FindingKind::Requirement, problem));
                }
                continue;
            }
        }
        let (kind, name) = (requirement.kind.entry(), requirement.name);
        if let Some(weakness) = runtime.host.entry(kind, name).await.weakness {
            let problem = format!("{kind} `{name}` has a weak secret: {weakness}");
            found.push(finding(FindingKind::Secret, problem));
        }
    }
}

/// Finds names of one kind that have one environment variable.
fn shared_variables() -> Vec<FindingJson> {
    let tasks = inventory::iter::<TaskEntry>.into_iter();
    let of_tasks = tasks.flat_map(|TaskEntry(task)| {
        let requirements = task.requirements.iter();
        let place = format!("{}:{}", task.file, task.line);
        requirements.map(move |needed| ((needed.kind.entry(), needed.name), place.clone()))
    });
    let of_flows = registry::flows().flat_map(|flow| {
        let requirements = flow.requirements.iter();
        requirements.map(move |needed| (*needed, place(flow)))
    });
    let mut names = BTreeMap::<(EntryKind, String), BTreeMap<&str, String>>::new();
    for ((kind, name), place) in of_tasks.chain(of_flows) {
        if let Some(variable) = Family::Own.variable(kind, name) {
            let names = names.entry((kind, variable)).or_default();
            names.entry(name).or_insert(place);
        }
    }
    let shared = names.into_iter().filter(|(_, names)| names.len() > 1);
    shared
        .map(|((kind, variable), names)| {
            let place = names.values().next().cloned().unwrap_or_default();
            let names: Vec<_> = names.keys().map(|name| format!("`{name}`")).collect();
            FindingJson {
                severity: Severity::Error,
                kind: FindingKind::Requirement,
                flow: None,
                task: None,
                problem: format!(
                    "the {kind}s {} have one environment variable, {variable}: rename all but one",
                    names.join(" and ")
                ),
                place,
            }
        })
        .collect()
}

/// Finds what `serve` would refuse in the deployments given to the command line.
async fn of_served(runtime: &Runtime, served: Vec<Serve>, found: &mut Vec<FindingJson>) {
    let mut prepared = Vec::new();
    for serve in served {
        let definition = serve.call().definition;
        // also if it is refused, what is left of it is checked below
        if let Err(error) = prepare(runtime, &mut prepared, serve) {
            found.extend(refused(definition, &error));
        }
    }
    for deployment in prepared {
        if let Err(error) = deployment.check(&runtime.host).await {
            found.extend(refused(deployment.spec.call.definition, &error));
        }
    }
}

/// Returns the findings for a flow that cannot run or be served.
fn refused(definition: &FlowDef, error: &Error) -> Vec<FindingJson> {
    let finding = |kind, task, problem| FindingJson {
        severity: Severity::Error,
        kind,
        flow: Some(definition.name),
        task,
        problem,
        place: place(definition),
    };
    if let Error::Requirements { problems, .. } = error {
        let problems = problems.iter();
        return problems
            .map(|problem| finding(FindingKind::Requirement, None, problem.clone()))
            .collect();
    }
    let (kind, task) = match error {
        Error::Pool { task, .. } => (FindingKind::Pool, Some(task.clone())),
        _ => (FindingKind::Flow, None),
    };
    let problem = match error {
        Error::Schedule { problem, .. } => problem.clone(),
        error => {
            let text = error.to_string();
            let of_flow = format!("flow `{}`: ", definition.name);
            text.strip_prefix(&of_flow)
                .map(str::to_owned)
                .unwrap_or(text)
        }
    };
    vec![finding(kind, task, problem)]
}

fn place(definition: &FlowDef) -> String {
    format!("{}:{}", definition.file, definition.line)
}

async fn of_flow(runtime: &Runtime, flow: &ProgramFlow, found: &mut Vec<FindingJson>) {
    let definition = flow.definition;
    let error = |problem: String| FindingJson {
        severity: Severity::Error,
        kind: FindingKind::Flow,
        flow: Some(definition.name),
        task: None,
        problem,
        place: place(definition),
    };
    let warning = |kind, problem: &str| FindingJson {
        severity: Severity::Warning,
        kind,
        ..error(problem.to_owned())
    };
    if let Err(problem) = registry::check_name(definition) {
        found.extend(refused(definition, &problem));
    }
    let deployments = flow.deployments();
    for schedule in deployments
        .iter()
        .flat_map(|deployment| &deployment.schedules)
    {
        // a timetable with a fault has no ticks either
        if schedule.next(runtime.now()).is_none() && schedule.fault().is_none() {
            found.push(error(format!(
                "its schedule `{schedule}` has no future ticks"
            )));
        }
    }
    if flow.given.is_empty() {
        match flow.call(&ParameterArguments::default()) {
            Ok(call) => {
                let served = Serve::of(Arc::clone(&call));
                let is_served = served.is_some();
                of_served(runtime, served.into_iter().collect(), found).await;
                if !is_served
                    && let Err(problem) = runtime.host.check_call(&call, &Request::default()).await
                {
                    found.extend(refused(definition, &problem));
                }
            }
            // a flow that is not served may have parameters without defaults
            Err(failure) if !deployments.is_empty() => {
                let why = failure.why.unwrap_or(failure.what);
                found.push(error(format!(
                    "it has a schedule, but a parameter without a default: {why}"
                )));
            }
            Err(_) => {}
        }
    }
    if definition.description.trim().is_empty() {
        found.push(warning(
            FindingKind::Docs,
            "it has no docs: a comment `///` above it",
        ));
    }
    if definition.tags.is_empty() {
        found.push(warning(
            FindingKind::Tags,
            "it has no tags: `#[flow(tags = [\"…\"])]`",
        ));
    }
}
