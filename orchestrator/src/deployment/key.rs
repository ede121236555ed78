use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::bounds;

/// The identity of a deployment: its flow and its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct DeploymentKey {
    pub(crate) flow: Cow<'static, str>,
    /// The name; `None` for the default deployment.
    pub(crate) name: Option<Arc<str>>,
}

impl DeploymentKey {
    /// Creates the key from the columns of a store, where the default deployment has an empty name.
    pub(crate) fn from_columns(flow: String, name: &str) -> Self {
        Self {
            flow: flow.into(),
            name: (!name.is_empty()).then(|| name.into()),
        }
    }

    /// Returns the name as a column; empty for the default deployment.
    pub(crate) fn column(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
}

impl fmt::Display for DeploymentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "deployment `{name}` of flow `{}`", self.flow),
            None => write!(f, "flow `{}`", self.flow),
        }
    }
}

/// Returns what is wrong with the name of a deployment.
pub(crate) fn name_fault(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some(
            "expected the name of a deployment to be at least one character, got ``".to_owned(),
        );
    }
    if name.chars().any(char::is_control) {
        return Some(format!(
            "expected the name of a deployment to have no control characters, got {name:?}"
        ));
    }
    bounds::fault(name, bounds::DEPLOYMENT)
        .map(|fault| format!("the name of a deployment is too long: {fault}"))
}

/// The version of a deployment. It grows whenever other schedules come into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeploymentVersion(i64);

impl DeploymentVersion {
    pub(crate) const FIRST: Self = Self(1);
    /// Of a deployment that was removed from the record.
    pub(crate) const REMOVED: Self = Self(-1);

    pub(crate) const fn new(number: i64) -> Self {
        Self(number)
    }

    pub(crate) const fn get(self) -> i64 {
        self.0
    }

    pub(crate) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}
