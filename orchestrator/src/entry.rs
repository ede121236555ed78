//! What is looked up by name: connections, variables and secrets.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is looked up by name, in a [`Vault`](crate::Vault) for example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A [`Connection`](crate::Connection): a URI or a JSON object.
    Connection,
    /// A variable: a plain value.
    Variable,
    /// A [`Secret`](crate::Secret).
    Secret,
}

impl EntryKind {
    /// All kinds.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 3] = [Self::Connection, Self::Variable, Self::Secret];
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connection => "connection",
            Self::Variable => "variable",
            Self::Secret => "secret",
        })
    }
}
