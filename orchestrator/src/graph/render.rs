//! Renders graphs as text for other programs to draw.

use std::fmt::Write as _;

use super::{Graph, GraphNode};
use crate::task::Trigger;

pub(super) fn mermaid(graph: &Graph) -> String {
    let mut text = format!("---\ntitle: {}\n---\nflowchart LR\n", graph.name());
    for (place, node) in graph.nodes().iter().enumerate() {
        let label = label(node, "<br/>").replace('"', "#quot;");
        let _ = match (node.is_flow(), node.is_mapped()) {
            (true, _) => writeln!(text, "    n{place}[[\"{label}\"]]"),
            (_, true) => writeln!(text, "    n{place}@{{ shape: procs, label: \"{label}\" }}"),
            _ => writeln!(text, "    n{place}[\"{label}\"]"),
        };
    }
    for edge in graph.edges() {
        let _ = match edge.parameter() {
            Some(parameter) => {
                writeln!(text, "    n{} -->|{parameter}| n{}", edge.from(), edge.to())
            }
            None => writeln!(text, "    n{} -.-> n{}", edge.from(), edge.to()),
        };
    }
    text
}

pub(super) fn dot(graph: &Graph) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut text = format!(
        "digraph \"{}\" {{\n    rankdir=LR;\n    node [shape=box];\n",
        quoted(graph.name())
    );
    for (place, node) in graph.nodes().iter().enumerate() {
        let shape = match (node.is_flow(), node.is_mapped()) {
            (true, _) => " shape=component",
            (_, true) => " peripheries=2",
            _ => "",
        };
        let _ = writeln!(
            text,
            "    n{place} [label=\"{}\"{shape}];",
            quoted(&label(node, "\n")).replace('\n', "\\n")
        );
    }
    for edge in graph.edges() {
        let _ = match edge.parameter() {
            Some(parameter) => writeln!(
                text,
                "    n{} -> n{} [label=\"{parameter}\"];",
                edge.from(),
                edge.to()
            ),
            None => writeln!(
                text,
                "    n{} -> n{} [style=dashed];",
                edge.from(),
                edge.to()
            ),
        };
    }
    text.push_str("}\n");
    text
}

/// Returns the label of a node: its key, with marks for a mapped task, a trigger rule other than
/// the default, and `run_on_cancel`, and with the connections, variables and secrets that it takes.
fn label(node: &GraphNode, line_break: &str) -> String {
    let mut label = node.key().to_owned();
    if node.is_mapped() {
        label.push_str("[…]");
    }
    if node.trigger() != Trigger::default() {
        let _ = write!(label, "{line_break}{}", node.trigger());
    }
    if node.runs_on_cancel() {
        let _ = write!(label, ", run_on_cancel");
    }
    for (kind, name) in node.requirements() {
        let _ = write!(label, "{line_break}{kind} {name}");
    }
    label
}
