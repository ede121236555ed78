//! Graphs of flows: built from the nodes that bodies create, checked and drawn. This module is
//! pure: it does not run tasks.

pub(crate) mod build;
mod check;
mod fingerprint;
mod meta;
mod render;

use std::fmt;
use std::sync::Arc;

use build::{Defaults, Wiring};
pub(crate) use meta::{InstanceKey, NodeKey, NodeMeta, NodeWiring};

use crate::entry::EntryKind;
use crate::error::GraphError;
use crate::flow::FlowCall;
use crate::flow::{FlowBody, FlowBodyKind};
use crate::index::{IndexVec, NodeId, ScopeId};
use crate::scope::{Handle, NodeKind, Scope};
use crate::task::{Context, Input, InputSource, Requirement, Trigger};

/// The graph of a flow: its tasks and their dependencies.
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
    runs_on_cancel: bool,
    description: &'static str,
    tags: &'static [&'static str],
    requirements: &'static [Requirement],
}

/// A dependency of one task on another in a [`Graph`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphEdge {
    from: usize,
    to: usize,
    parameter: Option<&'static str>,
}

impl Graph {
    /// Returns the name of the flow.
    pub fn name(&self) -> &str {
        self.name
    }

    /// Returns the tasks, in the order of their creation.
    pub fn nodes(&self) -> &[GraphNode] {
        &self.nodes
    }

    /// Returns the dependencies.
    pub fn edges(&self) -> &[GraphEdge] {
        &self.edges
    }

    /// Returns the graph as a Mermaid diagram.
    pub fn to_mermaid(&self) -> String {
        render::mermaid(self)
    }

    /// Returns the graph in the DOT language of Graphviz.
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
    /// Returns the key, such as `extract` or `report/extract#2`.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns `true` if it is mapped over a list.
    pub fn is_mapped(&self) -> bool {
        self.mapped
    }

    /// Returns `true` if it is a nested flow.
    pub fn is_flow(&self) -> bool {
        self.is_flow
    }

    /// Returns its trigger rule.
    pub fn trigger(&self) -> Trigger {
        self.trigger
    }

    /// Returns `true` if it cleans up, that is, runs when its run is cancelled.
    pub fn runs_on_cancel(&self) -> bool {
        self.runs_on_cancel
    }

    /// Returns the description of the task.
    pub fn description(&self) -> &str {
        self.description
    }

    /// Returns the tags of the task.
    pub fn tags(&self) -> &[&'static str] {
        self.tags
    }

    /// Returns the connections, variables and secrets that the task takes, in the order of its
    /// parameters.
    pub fn requirements(&self) -> impl Iterator<Item = (EntryKind, &'static str)> {
        self.requirements
            .iter()
            .map(|requirement| (requirement.kind.entry(), requirement.name))
    }
}

impl GraphEdge {
    /// Returns the index of the upstream task in [`Graph::nodes`].
    pub fn from(&self) -> usize {
        self.from
    }

    /// Returns the index of the downstream task in [`Graph::nodes`].
    pub fn to(&self) -> usize {
        self.to
    }

    /// Returns the parameter that takes the result, or `None` if the task only waits (`.after`).
    pub fn parameter(&self) -> Option<&str> {
        self.parameter
    }
}

/// Returns the graph of a static flow: calls its function and those of its static nested flows.
pub(crate) fn of_flow(
    call: &Arc<FlowCall>,
    context: &Arc<Context>,
) -> Result<Graph, crate::error::Error> {
    let (wiring, outputs) = wire(call, context)?;
    Ok(draw(call.definition.name, &wiring, &outputs))
}

/// Plans the nodes of a static flow and of its static nested flows. Also returns the return values
/// of the nested flows, by their nodes.
pub(crate) fn wire(
    call: &Arc<FlowCall>,
    context: &Arc<Context>,
) -> Result<(Wiring, Vec<(NodeId, Input)>), crate::error::Error> {
    let mut wiring = Wiring::default();
    let mut pending = vec![(Arc::clone(call), None::<NodeId>)];
    // the return values of nested flows, by their nodes
    let mut outputs: Vec<(NodeId, Input)> = Vec::new();
    let mut number = ScopeId::FLOW;
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
        let prefix = node.map(|node| format!("{}/", wiring.nodes[node].key()).into());
        let mut scope = Scope::new(prefix);
        let first = wiring.nodes.next_id();
        scope.first = first;
        let (mut scope, body) = scope.enter(|| call.start(Arc::clone(context)));
        let body = body.map_err(|panic| crate::error::Error::Body {
            flow: definition.name.to_owned(),
            error: crate::error::TaskError::panicked(&crate::error::PanicReport::from_payload(
                &*panic,
            )),
        })?;
        let defaults = Defaults {
            flow: definition.defaults.clone(),
            ..Defaults::default()
        };
        wiring
            .absorb(&mut scope, number, &defaults)
            .map_err(|source| crate::error::Error::Graph {
                flow: definition.name.to_owned(),
                source,
            })?;
        number = number.plus(1);
        if let (Some(node), FlowBody(FlowBodyKind::Wired(output))) = (node, body) {
            outputs.push((node, output));
        }
        for id in first.until(wiring.nodes.next_id()).rev() {
            if let NodeKind::Flow(call) = &wiring.nodes[id].kind {
                pending.push((Arc::clone(call), Some(id)));
            }
        }
    }
    Ok((wiring, outputs))
}

fn draw(name: &'static str, wiring: &Wiring, outputs: &[(NodeId, Input)]) -> Graph {
    let unknown = vec![usize::MAX; wiring.nodes.len()];
    let mut places = IndexVec::<NodeId, usize>::from(unknown);
    let mut nodes = Vec::new();
    let shown = wiring.nodes.entries().filter(|(_, node)| !node.is_hidden());
    for (id, node) in shown.clone() {
        places[id] = nodes.len();
        let (description, tags, is_flow) = match &node.kind {
            NodeKind::Task(definition) => (definition.description, definition.tags, false),
            NodeKind::Flow(call) => (call.definition.description, call.definition.tags, true),
            NodeKind::Mapping(_) | NodeKind::Gather(_) => ("", &[] as &[_], false),
        };
        let requirements = match &node.kind {
            NodeKind::Task(definition) => definition.requirements,
            _ => &[],
        };
        nodes.push(GraphNode {
            key: node.key(),
            mapped: node.region.is_some(),
            is_flow,
            trigger: node.policy.trigger.unwrap_or_default(),
            runs_on_cancel: node.policy.run_on_cancel,
            description,
            tags,
            requirements,
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
    for (id, node) in shown {
        let mut fed = Vec::new();
        for (at, input) in node.inputs.iter().enumerate() {
            let parameter = match &node.kind {
                NodeKind::Task(definition) => definition
                    .parameters
                    .get(at)
                    .map(|parameter| parameter.name),
                _ => None,
            };
            let from = sources(wiring, input);
            fed.extend_from_slice(&from);
            connect(
                from.iter().map(|from| places[*from]).collect(),
                places[id],
                parameter,
            );
        }
        for edge in node
            .upstreams
            .iter()
            .filter(|edge| edge.takes == build::UpstreamUse::Nothing)
        {
            let from = visible(wiring, edge.node);
            connect(
                from.iter().map(|from| places[*from]).collect(),
                places[id],
                None,
            );
        }
    }
    for (node, output) in outputs {
        let from = sources(wiring, output);
        connect(
            from.iter().map(|from| places[*from]).collect(),
            places[*node],
            None,
        );
    }
    Graph { name, nodes, edges }
}

/// Returns the tasks whose results an input takes.
fn sources(wiring: &Wiring, input: &Input) -> Vec<NodeId> {
    match &input.source {
        InputSource::Value(_) => Vec::new(),
        InputSource::Many(inputs, _) => inputs
            .iter()
            .flat_map(|input| sources(wiring, input))
            .collect(),
        InputSource::Node(Handle::Scoped { id, .. }) => visible(wiring, *id),
        InputSource::Node(Handle::Element {
            mapping: Some(id), ..
        }) => visible(wiring, *id),
        InputSource::Node(Handle::Element { mapping: None, .. } | Handle::Loose(_)) => Vec::new(),
    }
}

/// Returns the node itself, or the visible nodes behind an internal node of a mapping.
fn visible(wiring: &Wiring, id: NodeId) -> Vec<NodeId> {
    let node = &wiring.nodes[id];
    match &node.kind {
        NodeKind::Task(_) | NodeKind::Flow(_) => vec![id],
        NodeKind::Mapping(_) => node
            .inputs
            .iter()
            .flat_map(|input| sources(wiring, input))
            .collect(),
        NodeKind::Gather(_) => node
            .upstreams
            .iter()
            .flat_map(|edge| visible(wiring, edge.node))
            .collect(),
    }
}
