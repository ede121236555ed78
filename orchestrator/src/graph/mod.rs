//! Graphs of flows: built from what bodies write down, checked, drawn. Pure: nothing here runs anything.

pub(crate) mod build;
mod check;
mod meta;
mod render;
mod wired;

use std::fmt;
use std::sync::Arc;

use build::{Defaults, Wiring};
pub(crate) use meta::{InstanceKey, NodeKey, NodeMeta, Wired};

use crate::error::GraphError;
use crate::flow::FlowCall;
use crate::flow::{FlowBody, Progress};
use crate::task::scope::{Handle, Kind, NONE, Scope};
use crate::task::{Context, Input, Source, Trigger};

/// The graph of a flow: its tasks, and what waits for what.
///
/// # Examples
///
/// ```
/// use orchestrator::prelude::*;
///
/// #[task]
/// async fn extract() -> Vec<u32> { vec![1, 2] }
///
/// #[task]
/// async fn load(rows: &[u32]) -> usize { rows.len() }
///
/// #[flow]
/// fn nightly() -> Node<usize> { load(extract()) }
///
/// let graph = nightly().graph()?;
/// assert_eq!(graph.nodes().len(), 2);
/// assert_eq!(graph.edges()[0].parameter(), Some("rows"));
/// assert!(graph.to_mermaid().contains("extract"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Graph {
    name: &'static str,
    nodes: Vec<GraphNode>,
    edges: Vec<GraphEdge>,
}

/// A task in a [`Graph`].
#[derive(Clone, Debug)]
pub struct GraphNode {
    key: String,
    mapped: bool,
    is_flow: bool,
    trigger: Trigger,
    description: &'static str,
    tags: &'static [&'static str],
}

/// One task waits for another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphEdge {
    from: usize,
    to: usize,
    parameter: Option<&'static str>,
}

impl Graph {
    /// The flow's name.
    pub fn name(&self) -> &str {
        self.name
    }

    /// The tasks, in the order in which they were made.
    pub fn nodes(&self) -> &[GraphNode] {
        &self.nodes
    }

    /// What waits for what.
    pub fn edges(&self) -> &[GraphEdge] {
        &self.edges
    }

    /// The graph in Mermaid's language.
    pub fn to_mermaid(&self) -> String {
        render::mermaid(self)
    }

    /// The graph in Graphviz's language.
    pub fn to_dot(&self) -> String {
        render::dot(self)
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_mermaid())
    }
}

impl GraphNode {
    /// The key, as `extract` or `report/extract#2`.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether it is mapped over a list.
    pub fn is_mapped(&self) -> bool {
        self.mapped
    }

    /// Whether it is a flow.
    pub fn is_flow(&self) -> bool {
        self.is_flow
    }

    /// When it runs.
    pub fn trigger(&self) -> Trigger {
        self.trigger
    }

    /// What the task says of itself.
    pub fn description(&self) -> &str {
        self.description
    }

    /// The task's tags.
    pub fn tags(&self) -> &[&'static str] {
        self.tags
    }
}

impl GraphEdge {
    /// The place in [`Graph::nodes`] of the task that is waited for.
    pub fn from(&self) -> usize {
        self.from
    }

    /// The place in [`Graph::nodes`] of the task that waits.
    pub fn to(&self) -> usize {
        self.to
    }

    /// The parameter that the result is for; none where the task only waits (`.after`).
    pub fn parameter(&self) -> Option<&str> {
        self.parameter
    }
}

/// Calls a static flow's function, and the functions of the static flows that it calls, and draws what they wrote down.
pub(crate) fn of_flow(
    call: &Arc<FlowCall>,
    context: &Arc<Context>,
) -> Result<Graph, crate::error::Error> {
    let (wiring, outputs) = wire(call, context)?;
    Ok(draw(call.definition.name, &wiring, &outputs))
}

/// The nodes of a static flow, and of the static flows that it calls; and what those returned, by their nodes.
pub(crate) fn wire(
    call: &Arc<FlowCall>,
    context: &Arc<Context>,
) -> Result<(Wiring, Vec<(u32, Input)>), crate::error::Error> {
    let mut wiring = Wiring::default();
    let mut pending = vec![(Arc::clone(call), None::<u32>)];
    // what a flow called in the flow returned, by its node
    let mut outputs: Vec<(u32, Input)> = Vec::new();
    let mut scopes = 0;
    while let Some((call, node)) = pending.pop() {
        let definition = call.definition;
        if definition.is_async {
            if node.is_none() {
                let error = GraphError::Dynamic {
                    flow: definition.name.to_owned(),
                };
                return Err(crate::error::Error::Graph {
                    flow: definition.name.to_owned(),
                    source: error,
                });
            }
            continue;
        }
        let prefix = node.map(|node| format!("{}/", wiring.nodes[node as usize].key()).into());
        let mut scope = Scope::new(prefix);
        scope.first = u32::try_from(wiring.nodes.len()).unwrap_or(NONE);
        let first = wiring.nodes.len();
        let (mut scope, body) = scope.enter(|| call.start(Arc::clone(context)));
        let body = body.map_err(|panic| crate::error::Error::Body {
            flow: definition.name.to_owned(),
            error: crate::error::TaskError::panicked(&crate::error::Panicked::from_payload(
                &*panic,
            )),
        })?;
        let defaults = Defaults {
            flow: definition.defaults.clone(),
            ..Defaults::default()
        };
        wiring
            .absorb(&mut scope, scopes, &defaults)
            .map_err(|source| crate::error::Error::Graph {
                flow: definition.name.to_owned(),
                source,
            })?;
        scopes += 1;
        if let (Some(node), FlowBody(Progress::Wired(output))) = (node, body) {
            outputs.push((node, output));
        }
        for (id, planned) in wiring.nodes.iter().enumerate().skip(first).rev() {
            if let Kind::Flow(call) = &planned.kind {
                pending.push((Arc::clone(call), Some(u32::try_from(id).unwrap_or(NONE))));
            }
        }
    }
    Ok((wiring, outputs))
}

fn draw(name: &'static str, wiring: &Wiring, outputs: &[(u32, Input)]) -> Graph {
    let mut places = vec![usize::MAX; wiring.nodes.len()];
    let mut nodes = Vec::new();
    for (id, node) in wiring
        .nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| !node.is_hidden())
    {
        places[id] = nodes.len();
        let (description, tags, is_flow) = match &node.kind {
            Kind::Task(definition) => (definition.description, definition.tags, false),
            Kind::Flow(call) => (call.definition.description, call.definition.tags, true),
            Kind::Mapping(_) | Kind::Gather(_) => ("", &[] as &[_], false),
        };
        nodes.push(GraphNode {
            key: node.key(),
            mapped: node.region != NONE,
            is_flow,
            trigger: node.policy.trigger.unwrap_or_default(),
            description,
            tags,
        });
    }
    let (mut edges, mut seen) = (Vec::new(), std::collections::HashSet::new());
    let mut connect = |from: Vec<usize>, to: usize, parameter: Option<&'static str>| {
        for from in from {
            if seen.insert((from, to, parameter)) {
                edges.push(GraphEdge {
                    from,
                    to,
                    parameter,
                });
            }
        }
    };
    for (id, node) in wiring
        .nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| !node.is_hidden())
    {
        let mut fed = Vec::new();
        for (at, input) in node.inputs.iter().enumerate() {
            let parameter = match &node.kind {
                Kind::Task(definition) => definition
                    .parameters
                    .get(at)
                    .map(|parameter| parameter.name),
                _ => None,
            };
            let from = sources(wiring, input);
            fed.extend_from_slice(&from);
            connect(
                from.iter().map(|from| places[*from as usize]).collect(),
                places[id],
                parameter,
            );
        }
        for edge in node
            .upstreams
            .iter()
            .filter(|edge| edge.takes == build::Takes::Nothing)
        {
            let from = visible(wiring, edge.node);
            connect(
                from.iter().map(|from| places[*from as usize]).collect(),
                places[id],
                None,
            );
        }
    }
    for (node, output) in outputs {
        let from = sources(wiring, output);
        connect(
            from.iter().map(|from| places[*from as usize]).collect(),
            places[*node as usize],
            None,
        );
    }
    Graph { name, nodes, edges }
}

/// The tasks whose results an input is made of.
fn sources(wiring: &Wiring, input: &Input) -> Vec<u32> {
    match &input.source {
        Source::Value(_) => Vec::new(),
        Source::Many(inputs, _) => inputs
            .iter()
            .flat_map(|input| sources(wiring, input))
            .collect(),
        Source::Node(Handle::Scoped { id, .. }) => visible(wiring, *id),
        Source::Node(Handle::Element { mapping, .. }) => visible(wiring, *mapping),
        Source::Node(Handle::Loose(_)) => Vec::new(),
    }
}

/// The node itself, or what is behind a mapping's machinery.
fn visible(wiring: &Wiring, id: u32) -> Vec<u32> {
    let node = &wiring.nodes[id as usize];
    match &node.kind {
        Kind::Task(_) | Kind::Flow(_) => vec![id],
        Kind::Mapping(_) => node
            .inputs
            .iter()
            .flat_map(|input| sources(wiring, input))
            .collect(),
        Kind::Gather(_) => node
            .upstreams
            .iter()
            .flat_map(|edge| visible(wiring, edge.node))
            .collect(),
    }
}
