use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

/// What is recorded of a node, beside what becomes of it.
#[derive(Clone, Debug)]
pub(crate) struct NodeMeta {
    pub(crate) prefix: Option<Arc<str>>,
    pub(crate) name: Cow<'static, str>,
    /// The number of this use of the name, from 1.
    pub(crate) number: u32,
    /// The mapping that it is in, or `NONE`.
    pub(crate) region: u32,
    /// Its place among the nodes of its region.
    pub(crate) local: u32,
    /// Whether it is a part of a mapping's machinery, which nobody wrote.
    pub(crate) hidden: bool,
    /// How it is wired, where that is to be remembered.
    pub(crate) wired: Option<Box<Wired>>,
}

/// The key of a node without indexes, in parts: what stands before it, its name, the number of this use.
pub(crate) type NodeKey = (Option<Arc<str>>, Cow<'static, str>, u32);

/// How a node is wired: what has to be the same where a run goes on, for a recorded result to be the node's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wired {
    /// Of the task, what it takes from which nodes, what it waits for, and its plain inputs.
    pub(crate) hash: [u8; 16],
    /// The task's own name.
    pub(crate) task: Cow<'static, str>,
    /// The type of its results; empty where they are not kept.
    pub(crate) output: Arc<str>,
    /// What it takes and waits for.
    pub(crate) upstreams: SmallVec<[u32; 3]>,
}

/// The key of a node or an element, which is rendered where somebody reads it: `report/process#2[7]`.
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

    /// The node's key, for the element that the indexes lead to.
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
