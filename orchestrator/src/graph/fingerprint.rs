//! Hashes the wiring of nodes, which must be unchanged for a recorded result to belong to a node.

use std::sync::Arc;

use super::NodeWiring;
use super::build::{PlannedNode, UpstreamUse, Wiring};
use crate::error::GraphError;
use crate::index::NodeId;
use crate::scope::{GatherMode, Handle, NodeKind};
use crate::task::{Conversion, Input, InputSource};

impl Wiring {
    /// Computes the wiring of the nodes from `first` on.
    ///
    /// # Errors
    ///
    /// Returns an error if a plain input cannot be hashed.
    pub(crate) fn remember(&mut self, first: NodeId) -> Result<(), GraphError> {
        let mut last: Option<(usize, Arc<str>)> = None;
        // other nodes refer to a node by its key; internal nodes of mappings do not have keys, so
        // they are hashed first
        for machinery in [true, false] {
            for id in first.until(self.nodes.next_id()) {
                let node = &self.nodes[id];
                if node.is_hidden() != machinery {
                    continue;
                }
                let hash = self.hash(node)?;
                let output = match node.output {
                    Some(output) => match &last {
                        Some((address, name)) if *address == std::ptr::from_ref(output).addr() => {
                            Arc::clone(name)
                        }
                        _ => {
                            let name: Arc<str> = output.name().into();
                            last = Some((std::ptr::from_ref(output).addr(), Arc::clone(&name)));
                            name
                        }
                    },
                    None => Arc::from(""),
                };
                let task = match &node.kind {
                    NodeKind::Task(definition) => definition.name.into(),
                    NodeKind::Flow(_) | NodeKind::Mapping(_) | NodeKind::Gather(_) => {
                        node.name.clone()
                    }
                };
                let upstreams = node.upstreams.iter().map(|edge| edge.node).collect();
                self.nodes[id].wiring = Some(Box::new(NodeWiring {
                    hash,
                    task,
                    output,
                    upstreams,
                }));
            }
        }
        Ok(())
    }

    fn hash(&self, node: &PlannedNode) -> Result<[u8; 16], GraphError> {
        let mut hasher = blake3::Hasher::new();
        if node.is_hidden() {
            // nested flows may be planned in another order
            feed(
                &mut hasher,
                b'q',
                node.prefix.as_deref().unwrap_or_default().as_bytes(),
            );
        }
        match &node.kind {
            NodeKind::Task(definition) => feed(&mut hasher, b't', definition.name.as_bytes()),
            NodeKind::Flow(call) => {
                feed(&mut hasher, b'f', call.definition.name.as_bytes());
                let parameters = serde_json::to_vec(&call.parameters).unwrap_or_default();
                feed(&mut hasher, b'p', &parameters);
            }
            NodeKind::Mapping(_) => feed(&mut hasher, b'x', b""),
            NodeKind::Gather(gather) => {
                let mode = match gather.mode {
                    GatherMode::Values => b"values".as_slice(),
                    GatherMode::Outcomes => b"outcomes",
                    GatherMode::Done => b"done",
                };
                feed(&mut hasher, b'g', mode);
                self.feed_handle(&mut hasher, &gather.of);
            }
        }
        if let Some(mapping) = node.region.and_then(|mapping| self.nodes.get(mapping)) {
            self.feed_node(&mut hasher, mapping);
        }
        for (at, input) in node.inputs.iter().enumerate() {
            let unordered = match &node.kind {
                NodeKind::Task(definition) => definition
                    .parameters
                    .get(at)
                    .is_some_and(|parameter| parameter.unordered),
                _ => false,
            };
            self.feed_input(&mut hasher, input, unordered)
                .map_err(|problem| {
                    let of = match &node.kind {
                        NodeKind::Task(definition) => definition
                            .parameters
                            .get(at)
                            .map(|parameter| format!("parameter {parameter}")),
                        _ => None,
                    };
                    let problem = format!("its {}: {problem}", of.as_deref().unwrap_or("list"));
                    GraphError::Input {
                        task: node.name.to_string(),
                        problem,
                    }
                })?;
        }
        for edge in node
            .upstreams
            .iter()
            .filter(|edge| edge.takes == UpstreamUse::Nothing)
        {
            hasher.update(b"a");
            self.feed_node(&mut hasher, &self.nodes[edge.node]);
        }
        let mut hash = [0; 16];
        hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Ok(hash)
    }

    fn feed_input(
        &self,
        hasher: &mut blake3::Hasher,
        input: &Input,
        unordered: bool,
    ) -> Result<(), String> {
        let projected = [u8::from(input.projection.is_some())];
        feed(hasher, b'i', &projected);
        hasher.update(match input.convert {
            Conversion::Plain => b"p",
            Conversion::Option(_) => b"o",
            Conversion::Outcome(_) | Conversion::Outcomes => b"r",
        });
        match &input.source {
            InputSource::Value(value) => {
                hasher.update(b"v");
                value
                    .feed(hasher, unordered)
                    .map_err(|error| error.to_string())?;
            }
            InputSource::Node(handle) => self.feed_handle(hasher, handle),
            InputSource::Many(inputs, _) => {
                feed(hasher, b'm', &inputs.len().to_le_bytes());
                inputs
                    .iter()
                    .try_for_each(|input| self.feed_input(hasher, input, false))?;
            }
        }
        Ok(())
    }

    fn feed_handle(&self, hasher: &mut blake3::Hasher, handle: &Handle) {
        let (tag, node) = match handle {
            Handle::Scoped { id, .. } => (b"n", Some(*id)),
            Handle::Element { mapping, .. } => (b"e", *mapping),
            Handle::Loose(_) => (b"l", None),
        };
        hasher.update(tag);
        if let Some(node) = node.and_then(|node| self.nodes.get(node)) {
            self.feed_node(hasher, node);
        }
    }

    /// Feeds the identity of a node: its key, or, for an internal node of a mapping, its own
    /// wiring.
    fn feed_node(&self, hasher: &mut blake3::Hasher, node: &PlannedNode) {
        match &node.wiring {
            Some(wiring) if node.is_hidden() => {
                hasher.update(b"h");
                hasher.update(&wiring.hash);
            }
            _ => {
                feed(
                    hasher,
                    b'k',
                    node.prefix.as_deref().unwrap_or_default().as_bytes(),
                );
                feed(hasher, b'k', node.name.as_bytes());
                hasher.update(&node.number.to_le_bytes());
            }
        }
    }
}

/// Feeds bytes unambiguously: no other sequence of parts feeds the same bytes.
fn feed(hasher: &mut blake3::Hasher, tag: u8, bytes: &[u8]) {
    hasher.update(&[tag]);
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}
