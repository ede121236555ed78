use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::index::NodeNumber;

/// The recorded description of a node, without its state.
#[derive(Clone, Debug)]
pub(crate) struct NodeMeta {
    pub(crate) prefix: Option<Arc<str>>,
    pub(crate) name: Cow<'static, str>,
    /// The number of this use of the name, from 1.
    pub(crate) number: u32,
    /// The mapping that it is in; `None` for a node of the flow itself.
    pub(crate) region: Option<NodeNumber>,
    /// Its index among the nodes of its region.
    pub(crate) local: u32,
    /// Whether it is an internal node of a mapping, which is not in the user's code.
    pub(crate) hidden: bool,
    /// Its wiring, if that has to be recorded.
    pub(crate) wiring: Option<Box<NodeWiring<NodeNumber>>>,
}

/// The key of a node without indexes, in parts: its prefix, its name, and the number of this use.
pub(crate) type NodeKey = (Option<Arc<str>>, Cow<'static, str>, u32);

/// The wiring of a node. It must be unchanged in a resumed run for a recorded result to belong to
/// the node. `N` identifies nodes: by their ids in this execution of the run, or by their recorded
/// numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeWiring<N> {
    /// The hash of the task, the nodes from which it takes inputs and how, its other dependencies,
    /// and its plain inputs.
    pub(crate) hash: [u8; 16],
    /// The task's own name.
    pub(crate) task: Cow<'static, str>,
    /// The type of its results; empty if they are not stored.
    pub(crate) output: Arc<str>,
    /// The nodes that it takes or waits for.
    pub(crate) upstreams: SmallVec<[N; 3]>,
}

impl<N: Copy> NodeWiring<N> {
    /// Returns the same with other names for the nodes.
    pub(crate) fn renamed<M>(&self, name: impl Fn(N) -> M) -> NodeWiring<M> {
        NodeWiring {
            hash: self.hash,
            task: self.task.clone(),
            output: Arc::clone(&self.output),
            upstreams: self.upstreams.iter().map(|node| name(*node)).collect(),
        }
    }
}

/// The key of a node or an element, such as `report/process#2[7]`. It is formatted only on demand.
#[derive(Clone, Debug)]
pub(crate) struct InstanceKey {
    pub(crate) prefix: Option<Arc<str>>,
    pub(crate) name: Cow<'static, str>,
    pub(crate) number: u32,
    /// The indexes of the element, the outermost first.
    pub(crate) path: SmallVec<[u32; 2]>,
}

impl fmt::Display for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            prefix,
            name,
            number,
            path,
        } = self;
        write_key(f, prefix.as_deref(), name, *number, path)
    }
}

fn write_key(
    into: &mut dyn fmt::Write,
    prefix: Option<&str>,
    name: &str,
    number: u32,
    path: &[u32],
) -> fmt::Result {
    into.write_str(prefix.unwrap_or_default())?;
    into.write_str(name)?;
    if number > 1 {
        write!(into, "#{number}")?;
    }
    path.iter().try_for_each(|index| write!(into, "[{index}]"))
}

impl NodeMeta {
    pub(crate) fn key_in_parts(&self) -> NodeKey {
        (self.prefix.clone(), self.name.clone(), self.number)
    }

    /// Returns the node's key for the element with these indexes.
    pub(crate) fn key(&self, path: &[u32]) -> String {
        let mut key = String::new();
        // a text takes all that is written
        let _ = write_key(
            &mut key,
            self.prefix.as_deref(),
            &self.name,
            self.number,
            path,
        );
        key
    }
}
