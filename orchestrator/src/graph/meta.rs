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
pub(crate) struct NodeKey {
    pub(crate) prefix: Option<Arc<str>>,
    pub(crate) name: Cow<'static, str>,
    pub(crate) number: u32,
    /// The indexes of the element, the outermost first.
    pub(crate) path: SmallVec<[u32; 2]>,
}

impl fmt::Display for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.prefix.as_deref().unwrap_or_default())?;
        f.write_str(&self.name)?;
        if self.number > 1 {
            write!(f, "#{}", self.number)?;
        }
        self.path.iter().try_for_each(|index| write!(f, "[{index}]"))
    }
}

impl NodeMeta {
    /// The node's key, for the element that the indexes lead to.
    pub(crate) fn key(&self, path: &[u32]) -> String {
        use std::fmt::Write as _;
        let mut key = String::new();
        key.push_str(self.prefix.as_deref().unwrap_or_default());
        key.push_str(&self.name);
        if self.number > 1 {
            let _ = write!(key, "#{}", self.number);
        }
        for index in path {
            let _ = write!(key, "[{index}]");
        }
        key
    }
}
