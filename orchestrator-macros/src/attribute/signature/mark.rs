//! The marks of parameters: the attributes that tell what a parameter is.

use crate::attribute::entry::EntryKind;
use std::fmt;
use syn::Attribute;

/// The role of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Role {
    Input,
    Resource,
    Context,
    /// A connection, a variable or a secret, by its name.
    Entry(EntryKind),
}

/// A mark.
#[derive(Clone, Copy)]
pub(super) enum Mark {
    Role(Role),
    /// An input or a variable is not part of a cache key.
    NoCache,
}

impl Mark {
    pub(super) const ALL: [Self; 6] = [
        Self::Role(Role::Resource),
        Self::Role(Role::Context),
        Self::Role(Role::Entry(EntryKind::Connection)),
        Self::Role(Role::Entry(EntryKind::Variable)),
        Self::Role(Role::Entry(EntryKind::Secret)),
        Self::NoCache,
    ];

    /// Returns the mark that an attribute is.
    pub(super) fn of(attribute: &Attribute) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|mark| attribute.path().is_ident(mark.name()))
    }

    /// Returns the name of the attribute.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Role(Role::Input) => "input",
            Self::Role(Role::Resource) => "resource",
            Self::Role(Role::Context) => "context",
            Self::Role(Role::Entry(kind)) => kind.noun(),
            Self::NoCache => "no_cache",
        }
    }
}

/// The attribute, for messages.
impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(Role::Entry(kind)) => f.write_str(&kind.mark("…")),
            mark => write!(f, "#[{}]", mark.name()),
        }
    }
}

/// Returns the role that a mark gives to a parameter.
pub(super) fn role_of(attribute: &Attribute) -> Option<Role> {
    match Mark::of(attribute)? {
        Mark::Role(role) => Some(role),
        Mark::NoCache => None,
    }
}
