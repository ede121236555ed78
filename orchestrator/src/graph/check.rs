//! Checks that a graph can run at all.

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use super::build::Wiring;
use crate::error::GraphError;
use crate::index::NodeId;

/// Returns an error if nodes wait for each other. Only `.after` can create a cycle, among the nodes
/// from `first` on: an input always exists before its consumer.
pub(super) fn acyclic(wiring: &Wiring, first: NodeId) -> Result<(), GraphError> {
    let nodes = wiring.nodes.tail(first);
    let mut graph = DiGraph::<(), ()>::with_capacity(nodes.len(), nodes.len());
    let indexes: Vec<NodeIndex> = nodes.iter().map(|_| graph.add_node(())).collect();
    for (at, node) in nodes.iter().enumerate() {
        for edge in &node.upstreams {
            if let Some(upstream) = edge.node.index().checked_sub(first.index()) {
                graph.add_edge(indexes[upstream], indexes[at], ());
            }
        }
    }
    let waits_for_itself = |component: &Vec<NodeIndex>| match component.as_slice() {
        [one] => graph.contains_edge(*one, *one),
        _ => true,
    };
    match tarjan_scc(&graph).into_iter().find(waits_for_itself) {
        None => Ok(()),
        Some(component) => Err(GraphError::Cycle {
            path: cycle(wiring, first, &graph, &component),
        }),
    }
}

/// Follows the edges of a component until a node repeats: each of its nodes has a successor in it.
fn cycle(
    wiring: &Wiring,
    first: NodeId,
    graph: &DiGraph<(), ()>,
    component: &[NodeIndex],
) -> Vec<String> {
    let start = component.iter().min().copied().unwrap_or_default();
    let mut walk = vec![start];
    loop {
        let here = walk[walk.len() - 1];
        let Some(next) = graph
            .neighbors(here)
            .filter(|next| component.contains(next))
            .min()
        else {
            break;
        };
        let met = walk.iter().position(|seen| *seen == next);
        walk.push(next);
        if let Some(from) = met {
            walk.drain(..from);
            break;
        }
    }
    let shown = walk
        .into_iter()
        .map(|index| &wiring.nodes[first.plus(index.index())])
        .filter(|node| !node.is_hidden());
    shown.map(|node| node.name.to_string()).collect()
}
