//! Environment variables: the library's own, and Airflow's.

use crate::entry::EntryKind;
use crate::secret::Secret;

/// A family of environment variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Own,
    Airflow,
}

impl Family {
    /// Returns the beginning of the names of variables.
    fn prefix(self, kind: EntryKind) -> Option<&'static str> {
        Some(match (self, kind) {
            (Self::Own, EntryKind::Connection) => "ORCHESTRATOR_CONN_",
            (Self::Own, EntryKind::Variable) => "ORCHESTRATOR_VAR_",
            (Self::Own, EntryKind::Secret) => "ORCHESTRATOR_SECRET_",
            (Self::Airflow, EntryKind::Connection) => "AIRFLOW_CONN_",
            (Self::Airflow, EntryKind::Variable) => "AIRFLOW_VAR_",
            (Self::Airflow, EntryKind::Secret) => return None,
        })
    }

    /// Returns the name of the variable of an entry. Airflow's names keep all characters, and have no
    /// secrets.
    pub(crate) fn variable(self, kind: EntryKind, name: &str) -> Option<String> {
        let prefix = self.prefix(kind)?;
        Some(match self {
            Self::Own => format!("{prefix}{}", own_suffix(name)),
            Self::Airflow => format!("{prefix}{}", name.to_ascii_uppercase()),
        })
    }

    /// Returns the names of all entries of a kind, as far as their variables tell: in lower case.
    pub(crate) fn names(self, kind: EntryKind) -> Vec<String> {
        let Some(prefix) = self.prefix(kind) else {
            return Vec::new();
        };
        let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        variables
            .filter_map(|variable| Some(variable.strip_prefix(prefix)?.to_ascii_lowercase()))
            .filter(|name| orchestrator_grammar::names::fault(name).is_none())
            .collect()
    }
}

/// Returns the end of the variable of a name: in upper case, every character but letters and digits a
/// `_`. Two names with the same end are one variable.
pub(crate) fn own_suffix(name: &str) -> String {
    let upper = |character: char| match character.is_ascii_alphanumeric() {
        true => character.to_ascii_uppercase(),
        false => '_',
    };
    name.chars().map(upper).collect()
}

/// Reads a variable. An empty one is a value only of a variable.
///
/// # Errors
///
/// Returns an error if it is not text.
pub(crate) fn read(kind: EntryKind, variable: &str) -> Result<Option<Secret>, String> {
    let Some(value) = std::env::var_os(variable) else {
        return Ok(None);
    };
    if value.is_empty() && kind != EntryKind::Variable {
        return Ok(None);
    }
    match value.into_string() {
        Ok(text) => Ok(Some(text.into())),
        Err(_) => Err("expected it to be text, got bytes that are not UTF-8".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_named_after_entries() {
        for (kind, name, own, airflow) in [
            (
                EntryKind::Connection,
                "my-db.eu",
                "ORCHESTRATOR_CONN_MY_DB_EU",
                Some("AIRFLOW_CONN_MY-DB.EU"),
            ),
            (
                EntryKind::Variable,
                "Batch_size2",
                "ORCHESTRATOR_VAR_BATCH_SIZE2",
                Some("AIRFLOW_VAR_BATCH_SIZE2"),
            ),
            (
                EntryKind::Secret,
                "scoring-api-key",
                "ORCHESTRATOR_SECRET_SCORING_API_KEY",
                None,
            ),
        ] {
            assert_eq!(Family::Own.variable(kind, name).as_deref(), Some(own));
            assert_eq!(Family::Airflow.variable(kind, name).as_deref(), airflow);
        }
    }
}
