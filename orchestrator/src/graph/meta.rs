use std::borrow::Cow;
use std::sync::Arc;

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
