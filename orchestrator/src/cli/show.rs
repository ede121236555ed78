//! `show`: what there is to know about a flow.

use std::process::ExitCode;

use serde::Serialize;
use serde_json::Value;

use super::context::{Context, Known};
use super::exit::Done;
use super::graph::Node;
use super::output::{self, BOLD, DIM, Table, print};
use super::{args, graph, parameters};

/// A flow, as `--json` shows it.
#[derive(Serialize)]
struct Shown {
    name: &'static str,
    description: &'static str,
    tags: &'static [&'static str],
    crate_name: &'static str,
    module: &'static str,
    file: &'static str,
    line: u32,
    is_async: bool,
    parameters: Vec<Parameter>,
    resources: Vec<&'static str>,
    schedules: Vec<String>,
    max_active_runs: Option<u32>,
    timeout_seconds: Option<f64>,
    /// None where they are known only when the flow has run, or where a parameter has no value.
    tasks: Option<Vec<Node>>,
}

#[derive(Serialize)]
struct Parameter {
    name: &'static str,
    #[serde(rename = "type")]
    type_name: &'static str,
    required: bool,
    default: Option<Value>,
}

/// The parameters of a flow, with what they are where nothing is typed.
fn parameters_of(flow: &Known<'_>) -> Vec<Parameter> {
    let given = flow.serve.first().map(|serve| serve.call());
    let parameter = |parameter: &'static crate::task::Parameter| {
        let default = given.and_then(|call| call.parameters.get(parameter.name).cloned());
        let required = default.is_none() && !parameters::is_optional(parameter);
        Parameter { name: parameter.name, type_name: parameter.type_name, required, default }
    };
    flow.definition.parameters.iter().map(parameter).collect()
}

pub(super) fn show(context: &Context, args: &args::Show) -> Done {
    let flow = context.flow(&args.flow)?;
    let definition = flow.definition;
    let call = flow.call(&(&args.parameters).into());
    let (graph, no_graph) = match call {
        Ok(call) => match graph::of(context, &call) {
            Ok(Some(graph)) => (Some(graph), String::new()),
            Ok(None) => (None, "known when it has run: it decides as it goes (`async fn`)".to_owned()),
            Err(error) => (None, error.to_string()),
        },
        Err(failure) if !args.parameters.parameters.is_empty() => return Err(failure),
        Err(_) => (None, "known when its parameters are given: `--param NAME=VALUE`".to_owned()),
    };
    let shown = Shown {
        name: definition.name,
        description: definition.description,
        tags: definition.tags,
        crate_name: definition.crate_name,
        module: definition.module,
        file: definition.file,
        line: definition.line,
        is_async: definition.is_async,
        parameters: parameters_of(&flow),
        resources: definition.resources.iter().map(|resource| resource.type_name).collect(),
        schedules: flow.schedules().iter().map(ToString::to_string).collect(),
        max_active_runs: definition.max_active_runs,
        timeout_seconds: definition.timeout.map(|timeout| timeout.as_secs_f64()),
        tasks: graph.as_ref().map(graph::nodes),
    };
    if args.format.json {
        output::json(&shown)?;
        return Ok(ExitCode::SUCCESS);
    }
    print(format_args!("{BOLD}{}{BOLD:#}\n", shown.name))?;
    for line in shown.description.lines().filter(|line| !line.trim().is_empty()) {
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
    fact("schedule", shown.schedules.join("; "));
    fact("max active runs", shown.max_active_runs.map(|runs| runs.to_string()).unwrap_or_default());
    fact("timeout", definition.timeout.map(output::duration).unwrap_or_default());
    fact("resources", shown.resources.join(", "));
    facts.print()?;
    heading("parameters")?;
    let mut table = Table::bare(2);
    for parameter in &shown.parameters {
        let default = match (&parameter.default, parameter.required) {
            (Some(default), _) => format!("default {default}"),
            (None, true) => "required".to_owned(),
            (None, false) => "optional".to_owned(),
        };
        table.row([parameter.name.into(), parameter.type_name.into(), default.into()]);
    }
    if shown.parameters.is_empty() {
        table.row([output::Cell::styled("none", DIM)]);
    }
    table.print()?;
    heading("tasks")?;
    let Some(graph) = graph else {
        print(format_args!("  {DIM}{no_graph}{DIM:#}\n"))?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut table = Table::bare(2);
    for (place, node) in graph.nodes().iter().enumerate() {
        let from = graph.edges().iter().filter(|edge| edge.to() == place).map(|edge| graph.nodes()[edge.from()].key());
        let mut from: Vec<&str> = from.collect();
        from.dedup();
        let from = if from.is_empty() { String::new() } else { format!("after {}", from.join(", ")) };
        let key = if node.is_mapped() { format!("{}[…]", node.key()) } else { node.key().to_owned() };
        table.row([key.into(), from.into(), output::first_line(node.description()).into()]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}

fn heading(text: &str) -> Result<(), super::exit::Failure> {
    print(format_args!("{BOLD}{text}{BOLD:#}\n"))
}
