//! `graph`: draws the graph of a flow.

use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;

use super::args::{self, GraphFormat};
use super::context::CommandContext;
use super::exit::{CommandFailure, CommandResult};
use super::output;
use crate::entry::EntryKind;
use crate::error::{Error, GraphError};
use crate::flow::{FlowCall, Request};
use crate::graph::Graph;

/// A graph, in the form of `--format json`.
#[derive(Serialize)]
pub(super) struct GraphJson {
    flow: String,
    nodes: Vec<NodeJson>,
    edges: Vec<EdgeJson>,
}

#[derive(Serialize)]
pub(super) struct NodeJson {
    pub(super) key: String,
    pub(super) mapped: bool,
    pub(super) flow: bool,
    pub(super) trigger: String,
    pub(super) description: String,
    pub(super) tags: Vec<&'static str>,
    pub(super) requirements: Vec<RequirementJson>,
}

/// A connection, a variable or a secret that a task takes.
#[derive(Serialize)]
pub(super) struct RequirementJson {
    kind: EntryKind,
    name: &'static str,
}

#[derive(Serialize)]
struct EdgeJson {
    from: String,
    to: String,
    parameter: Option<String>,
}

impl From<&Graph> for GraphJson {
    fn from(graph: &Graph) -> Self {
        let key = |place: usize| graph.nodes()[place].key().to_owned();
        let edges = graph.edges().iter().map(|edge| EdgeJson {
            from: key(edge.from()),
            to: key(edge.to()),
            parameter: edge.parameter().map(str::to_owned),
        });
        Self {
            flow: graph.name().to_owned(),
            nodes: nodes(graph),
            edges: edges.collect(),
        }
    }
}

pub(super) fn nodes(graph: &Graph) -> Vec<NodeJson> {
    let node = |node: &crate::graph::GraphNode| NodeJson {
        key: node.key().to_owned(),
        mapped: node.is_mapped(),
        flow: node.is_flow(),
        trigger: node.trigger().to_string(),
        description: node.description().to_owned(),
        tags: node.tags().to_vec(),
        requirements: node
            .requirements()
            .map(|(kind, name)| RequirementJson { kind, name })
            .collect(),
    };
    graph.nodes().iter().map(node).collect()
}

/// Returns the graph of a flow, or `None` if it is known only after the flow has run.
pub(super) fn of(context: &CommandContext, call: &Arc<FlowCall>) -> Result<Option<Graph>, Error> {
    match context.bare().host.graph(call, &Request::default()) {
        Ok(graph) => Ok(Some(graph)),
        Err(Error::Graph {
            source: GraphError::Dynamic { .. },
            ..
        }) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn graph(context: &CommandContext, args: &args::Graph) -> CommandResult {
    let flow = context.flow(&args.flow)?;
    if flow.definition.is_async {
        return Err(CommandFailure::usage(format!(
            "flow `{}` has no graph before it runs",
            args.flow
        ))
        .why("an `async fn` flow builds its graph while it runs")
        .hint("`runs show ID` shows the tasks that a run of it had"));
    }
    let call = flow.call(&(&args.parameters).into())?;
    let graph = context.bare().host.graph(&call, &Request::default())?;
    let format = if args.json {
        GraphFormat::Json
    } else {
        args.format
    };
    match format {
        GraphFormat::Mermaid => output::print(graph.to_mermaid())?,
        GraphFormat::Dot => output::print(graph.to_dot())?,
        GraphFormat::Json => output::json(&GraphJson::from(&graph))?,
    }
    Ok(ExitCode::SUCCESS)
}
