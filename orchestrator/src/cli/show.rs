//! `show`: shows a flow.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::process::ExitCode;

use serde::Serialize;
use serde_json::{Map, Value};

use super::context::{CommandContext, ProgramDeployment, ProgramFlow};
use super::exit::{CommandFailure, CommandResult};
use super::graph::NodeJson;
use super::output::{self, BOLD, DIM, Table, instant, print};
use super::parameters::in_words;
use super::selection::with_name;
use super::{args, graph, parameters, selection};
use crate::deployment::{DeploymentKey, DeploymentRecord};
use crate::entry::EntryKind;
use crate::flow::FlowDef;
use crate::graph::Graph;
use crate::runtime::{Deployment, Runtime};
use crate::schedule::Schedule;
use crate::value::json_text;

/// A flow, in the form of `--json`.
#[derive(Serialize)]
struct FlowJson {
    name: &'static str,
    description: &'static str,
    tags: &'static [&'static str],
    crate_name: &'static str,
    module: &'static str,
    file: &'static str,
    line: u32,
    is_async: bool,
    parameters: Vec<ParameterJson>,
    resources: Vec<&'static str>,
    /// What it declares, and what its tasks take as far as they are known.
    requirements: Vec<NeededJson>,
    schedules: Vec<ScheduleJson>,
    /// The deployments on record.
    deployments: Vec<Deployment>,
    paused: bool,
    max_active_runs: Option<u32>,
    timeout_seconds: Option<f64>,
    /// The tasks. `None` if they are known only after the flow has run, or if a parameter does not
    /// have a value.
    tasks: Option<Vec<NodeJson>>,
}

/// A connection, a variable or a secret that a flow needs.
#[derive(Serialize)]
struct NeededJson {
    kind: EntryKind,
    name: &'static str,
    /// The keys of the tasks that take it.
    tasks: Vec<String>,
}

/// Returns what a flow declares, and what the tasks of its graph take.
fn needed(flow: &FlowDef, graph: Option<&Graph>) -> Vec<NeededJson> {
    let mut needed = BTreeMap::<(EntryKind, &'static str), Vec<String>>::new();
    for (kind, name) in flow.requirements {
        needed.entry((*kind, name)).or_default();
    }
    for node in graph.into_iter().flat_map(Graph::nodes) {
        for requirement in node.requirements() {
            let tasks = needed.entry(requirement).or_default();
            tasks.push(node.key().to_owned());
        }
    }
    let needed = needed.into_iter();
    needed
        .map(|((kind, name), mut tasks)| {
            tasks.dedup();
            NeededJson { kind, name, tasks }
        })
        .collect()
}

#[derive(Serialize)]
struct ParameterJson {
    name: &'static str,
    #[serde(rename = "type")]
    type_name: &'static str,
    required: bool,
    default: Option<Value>,
}

#[derive(Serialize)]
struct ScheduleJson {
    deployment: Option<String>,
    text: String,
    cron: Option<String>,
    timezone: &'static str,
    /// The parameters of its runs.
    parameters: Map<String, Value>,
}

impl ScheduleJson {
    fn new(key: &DeploymentKey, schedule: &Schedule) -> Self {
        Self {
            deployment: key.name.as_deref().map(str::to_owned),
            text: schedule.to_string(),
            cron: schedule.expression().map(ToString::to_string),
            timezone: schedule.zone().name(),
            parameters: schedule.given_parameters().clone(),
        }
    }
}

impl Display for ScheduleJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&with_name(self.deployment.as_deref(), &self.text))?;
        if !self.parameters.is_empty() {
            write!(f, ", with {}", in_words(&self.parameters))?;
        }
        Ok(())
    }
}

/// Writes what is in force for a deployment on record, and since when.
fn recorded(deployment: &Deployment) -> String {
    let mut text = match &deployment.unreadable {
        Some(problem) => format!("cannot be read: {problem}"),
        None => deployment.schedules.join(" and "),
    };
    if !deployment.parameters.is_empty() {
        text.push_str(&format!(", with {}", in_words(&deployment.parameters)));
    }
    if let Some(since) = deployment.since {
        text.push_str(&format!(", since {}", instant(since)));
    }
    with_name(deployment.name.as_deref(), &text)
}

/// Returns the parameters of a flow, with their defaults.
fn parameters_of(flow: &ProgramFlow, defaults: Option<&Map<String, Value>>) -> Vec<ParameterJson> {
    let parameter = |(place, parameter): (usize, &'static crate::task::Parameter)| {
        let default = defaults.and_then(|defaults| defaults.get(parameter.name).cloned());
        let required = default.is_none() && !parameters::is_optional(flow.definition, place);
        ParameterJson {
            name: parameter.name,
            type_name: parameter.type_name,
            required,
            default,
        }
    };
    flow.definition
        .parameters
        .iter()
        .enumerate()
        .map(parameter)
        .collect()
}

pub(super) async fn show(context: &CommandContext, args: &args::Show) -> CommandResult {
    let flow = context.flow(&args.flow)?;
    let definition = flow.definition;
    let store = context.runtime_if_there().await?;
    let now = context.bare().now();
    let name = args.deployment.as_deref();
    let is_meant = |key: &DeploymentKey| name.is_none() || key.name.as_deref() == name;
    let records = selection::records(store.as_ref(), definition.name).await?;
    let typed = (&args.parameters).into();
    let (call, defaults) = match name {
        Some(_) => {
            let selected = selection::select(&flow, records.clone(), name, now)?;
            (selected.call(&typed), selected.parameters().cloned())
        }
        None => {
            let given = flow.given.first();
            (
                flow.call(&typed),
                given.map(|spec| spec.call.parameters.clone()),
            )
        }
    };
    let mut served = flow.deployments();
    served.retain(|deployment| is_meant(&deployment.key));
    let recorded_now = |record: &DeploymentRecord| Deployment::new(record, now);
    let is_served = |record: &DeploymentRecord| {
        let spec = served.iter().find(|served| served.key == record.key);
        spec.and_then(ProgramDeployment::spec)
            .is_some_and(|spec| spec.is_in_force(record))
    };
    let records = records.iter().filter(|record| is_meant(&record.key));
    let otherwise: Vec<String> = records
        .clone()
        .filter(|record| !is_served(record))
        .map(|record| recorded(&recorded_now(record)))
        .collect();
    let (graph, no_graph) = match call {
        Err(failure) if !args.parameters.parameters.is_empty() => return Err(failure),
        _ if definition.is_async => (
            None,
            "known after a run: an `async fn` flow builds its graph while it runs".to_owned(),
        ),
        Ok(call) => match graph::of(context, &call) {
            Ok(graph) => (graph, String::new()),
            Err(error) => (None, error.to_string()),
        },
        Err(_) => (
            None,
            "known when its parameters are given: `--param NAME=VALUE`".to_owned(),
        ),
    };
    let shown = FlowJson {
        name: definition.name,
        description: definition.description,
        tags: definition.tags,
        crate_name: definition.crate_name,
        module: definition.module,
        file: definition.file,
        line: definition.line,
        is_async: definition.is_async,
        parameters: parameters_of(&flow, defaults.as_ref()),
        resources: definition
            .resources
            .iter()
            .map(|resource| resource.type_name)
            .collect(),
        requirements: needed(definition, graph.as_ref()),
        schedules: served
            .iter()
            .flat_map(|deployment| {
                let schedules = deployment.schedules.iter();
                schedules.map(|schedule| ScheduleJson::new(&deployment.key, schedule))
            })
            .collect(),
        deployments: records.map(recorded_now).collect(),
        paused: is_paused(store.as_ref(), definition.name).await?,
        max_active_runs: definition.max_active_runs,
        timeout_seconds: definition.timeout.map(|timeout| timeout.as_secs_f64()),
        tasks: graph.as_ref().map(graph::nodes),
    };
    if args.format.json {
        output::json(&shown)?;
        return Ok(ExitCode::SUCCESS);
    }
    print(format_args!("{BOLD}{}{BOLD:#}\n", shown.name))?;
    for line in shown
        .description
        .lines()
        .filter(|line| !line.trim().is_empty())
    {
        print(format_args!("  {line}\n"))?;
    }
    let mut facts = Table::bare(0);
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            facts.row([name.into(), value.into()]);
        }
    };
    fact("tags", shown.tags.join(", "));
    fact("source", format!("{}:{}", shown.file, shown.line));
    for schedule in &shown.schedules {
        fact("schedule", schedule.to_string());
    }
    for recorded in otherwise {
        fact("in force", recorded);
    }
    fact(
        "paused",
        if shown.paused {
            format!("`resume {}` resumes its schedules", shown.name)
        } else {
            String::new()
        },
    );
    fact(
        "max active runs",
        shown
            .max_active_runs
            .map(|runs| runs.to_string())
            .unwrap_or_default(),
    );
    fact(
        "timeout",
        definition.timeout.map(output::duration).unwrap_or_default(),
    );
    fact("resources", shown.resources.join(", "));
    for NeededJson { kind, name, tasks } in &shown.requirements {
        let needed_by = match tasks.is_empty() {
            true => String::new(),
            false => format!(", for {}", tasks.join(", ")),
        };
        fact(&kind.to_string(), format!("{name}{needed_by}"));
    }
    facts.print()?;
    heading("parameters")?;
    let mut table = Table::bare(2);
    for parameter in &shown.parameters {
        let default = match (&parameter.default, parameter.required) {
            (Some(default), _) => format!("default {}", json_text(default)),
            (None, true) => "required".to_owned(),
            (None, false) => "optional".to_owned(),
        };
        table.row([
            parameter.name.into(),
            parameter.type_name.into(),
            default.into(),
        ]);
    }
    if shown.parameters.is_empty() {
        table.row([output::TableCell::styled("none", DIM)]);
    }
    table.print()?;
    heading("tasks")?;
    let Some(graph) = graph else {
        print(format_args!("  {DIM}{no_graph}{DIM:#}\n"))?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut table = Table::bare(2);
    let is_ordered = !graph.edges().is_empty();
    for (place, node) in graph.nodes().iter().enumerate() {
        let from = graph
            .edges()
            .iter()
            .filter(|edge| edge.to() == place)
            .map(|edge| graph.nodes()[edge.from()].key());
        let mut from: Vec<&str> = from.collect();
        from.dedup();
        let from = if from.is_empty() {
            String::new()
        } else {
            format!("after {}", from.join(", "))
        };
        let key = if node.is_mapped() {
            format!("{}[…]", node.key())
        } else {
            node.key().to_owned()
        };
        let description = output::first_line(node.description());
        match is_ordered {
            true => table.row([key.into(), from.into(), description.into()]),
            false => table.row([key.into(), description.into()]),
        }
    }
    if graph.nodes().is_empty() {
        table.row([output::TableCell::styled("none", DIM)]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}

/// Returns `true` if the schedules of a flow are paused; `false` if there is no store.
pub(super) async fn is_paused(
    runtime: Option<&Runtime>,
    flow: &str,
) -> Result<bool, CommandFailure> {
    let Some(runtime) = runtime else {
        return Ok(false);
    };
    let paused = runtime.paused().await?;
    Ok(paused.iter().any(|(paused, _)| paused == flow))
}

fn heading(text: &str) -> Result<(), CommandFailure> {
    print(format_args!("{BOLD}{text}{BOLD:#}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_shown_with_its_parameters() {
        let schedule = Schedule::cron("0 6 * * *")
            .unwrap()
            .timezone(chrono_tz::Tz::Europe__Zurich);
        let given = Map::from_iter([
            ("region".to_owned(), Value::from("EU")),
            ("size".to_owned(), Value::from(7)),
        ]);
        let key = |name: Option<&str>| DeploymentKey {
            flow: "report".into(),
            name: name.map(Into::into),
        };
        let schedule = schedule.parameters(given.clone());
        let shown = ScheduleJson::new(&key(None), &schedule);
        assert_eq!(
            shown.to_string(),
            "0 6 * * * in Europe/Zurich, with region = \"EU\", size = 7"
        );
        assert_eq!(
            ScheduleJson::new(&key(Some("eu")), &schedule).to_string(),
            "eu: 0 6 * * * in Europe/Zurich, with region = \"EU\", size = 7"
        );
        let json = serde_json::json!({
            "deployment": null,
            "text": "0 6 * * * in Europe/Zurich",
            "cron": "0 6 * * *",
            "timezone": "Europe/Zurich",
            "parameters": given,
        });
        assert_eq!(serde_json::to_value(shown).unwrap(), json);
        let every = Schedule::every(std::time::Duration::from_secs(60)).unwrap();
        assert_eq!(ScheduleJson::new(&key(None), &every).cron, None);
    }
}
