//! How nodes are wired, as a hash: what has to be the same for a recorded result to be a node's.

use std::sync::Arc;

use super::Wired;
use super::build::{Planned, Takes, Wiring};
use crate::error::GraphError;
use crate::task::scope::{GatherMode, Handle, Kind, NONE};
use crate::task::{Convert, Input, Source};

impl Wiring {
    /// Works out how the nodes from `first` on are wired.
    ///
    /// # Errors
    ///
    /// Where a plain input cannot be hashed.
    pub(crate) fn remember(&mut self, first: usize) -> Result<(), GraphError> {
        let mut last: Option<(usize, Arc<str>)> = None;
        // what others are wired to is named by its key; a mapping's machinery has none, and so comes first
        for machinery in [true, false] {
            for id in first..self.nodes.len() {
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
                    Kind::Task(definition) => definition.name.into(),
                    Kind::Flow(_) | Kind::Mapping(_) | Kind::Gather(_) => node.name.clone(),
                };
                let upstreams = node.upstreams.iter().map(|edge| edge.node).collect();
                self.nodes[id].wired = Some(Box::new(Wired {
                    hash,
                    task,
                    output,
                    upstreams,
                }));
            }
        }
        Ok(())
    }

    fn hash(&self, node: &Planned) -> Result<[u8; 16], GraphError> {
        let mut hasher = blake3::Hasher::new();
        if node.is_hidden() {
            // flows in the flow may be planned in another order
            feed(
                &mut hasher,
                b'q',
                node.prefix.as_deref().unwrap_or_default().as_bytes(),
            );
        }
        match &node.kind {
            Kind::Task(definition) => feed(&mut hasher, b't', definition.name.as_bytes()),
            Kind::Flow(call) => {
                feed(&mut hasher, b'f', call.definition.name.as_bytes());
                let parameters = serde_json::to_vec(&call.parameters).unwrap_or_default();
                feed(&mut hasher, b'p', &parameters);
            }
            Kind::Mapping(_) => feed(&mut hasher, b'x', b""),
            Kind::Gather(gather) => {
                let mode = match gather.mode {
                    GatherMode::Values => b"values".as_slice(),
                    GatherMode::Outcomes => b"outcomes",
                    GatherMode::Done => b"done",
                };
                feed(&mut hasher, b'g', mode);
                self.feed_handle(&mut hasher, &gather.of);
            }
        }
        if let Some(mapping) = self.nodes.get(node.region as usize) {
            self.feed_node(&mut hasher, mapping);
        }
        for (at, input) in node.inputs.iter().enumerate() {
            let unordered = match &node.kind {
                Kind::Task(definition) => definition
                    .parameters
                    .get(at)
                    .is_some_and(|parameter| parameter.unordered),
                _ => false,
            };
            self.feed_input(&mut hasher, input, unordered)
                .map_err(|problem| GraphError::Input {
                    task: node.name.to_string(),
                    problem,
                })?;
        }
        for edge in node
            .upstreams
            .iter()
            .filter(|edge| edge.takes == Takes::Nothing)
        {
            hasher.update(b"a");
            self.feed_node(&mut hasher, &self.nodes[edge.node as usize]);
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
            Convert::Plain => b"p",
            Convert::Option(_) => b"o",
            Convert::Outcome(_) | Convert::Outcomes => b"r",
        });
        match &input.source {
            Source::Value(value) => {
                hasher.update(b"v");
                value
                    .feed(hasher, unordered)
                    .map_err(|error| error.to_string())?;
            }
            Source::Node(handle) => self.feed_handle(hasher, handle),
            Source::Many(inputs, _) => {
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
            Handle::Scoped { id, .. } => (b"n", *id),
            Handle::Element { mapping, .. } => (b"e", *mapping),
            Handle::Loose(_) => (b"l", NONE),
        };
        hasher.update(tag);
        if let Some(node) = self.nodes.get(node as usize) {
            self.feed_node(hasher, node);
        }
    }

    /// A node by its key, or a mapping's machinery by how it is wired itself.
    fn feed_node(&self, hasher: &mut blake3::Hasher, node: &Planned) {
        match &node.wired {
            Some(wired) if node.is_hidden() => {
                hasher.update(b"h");
                hasher.update(&wired.hash);
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

/// Feeds bytes so that no others, cut elsewhere, feed alike.
fn feed(hasher: &mut blake3::Hasher, tag: u8, bytes: &[u8]) {
    hasher.update(&[tag]);
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}
