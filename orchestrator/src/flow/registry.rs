//! The flows of this binary: each `#[flow]` registers itself.

use orchestrator_grammar::similar::nearest;

use super::{FlowDef, FlowEntry};
use crate::bounds;
use crate::error::Error;

/// Returns all registered flows, in no particular order.
///
/// Flows of a library crate that the binary never mentions are not linked, and so not included:
/// `use my_flows as _;` in `main.rs` links them.
pub fn flows() -> impl Iterator<Item = &'static FlowDef> {
    inventory::iter::<FlowEntry>
        .into_iter()
        .map(|entry| entry.0)
}

/// Returns the flow with a name.
pub(crate) fn find(name: &str) -> Option<&'static FlowDef> {
    flows().find(|flow| flow.name == name)
}

/// Returns the flow with a name, or an error that lists the known flows.
pub(crate) fn get(name: &str) -> Result<&'static FlowDef, Error> {
    find(name).ok_or_else(|| {
        let similar = nearest(name, flows().map(|flow| flow.name)).map(str::to_owned);
        Error::UnknownFlow {
            name: name.to_owned(),
            known: names(),
            similar,
        }
    })
}

/// Returns the names of all flows, for messages.
pub(crate) fn names() -> String {
    let mut names: Vec<String> = flows().map(|flow| format!("`{}`", flow.name)).collect();
    names.sort_unstable();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// Returns an error if another flow of this binary has the flow's name, or if the name is too long.
pub(crate) fn check_name(definition: &'static FlowDef) -> Result<(), Error> {
    if let Some(problem) = bounds::fault(definition.name, bounds::NAME) {
        return Err(Error::Options(format!(
            "the name of a flow is too long: {problem}"
        )));
    }
    let other =
        flows().find(|flow| flow.name == definition.name && !std::ptr::eq(*flow, definition));
    let place = |flow: &FlowDef| format!("{}:{}", flow.file, flow.line);
    match other {
        None => Ok(()),
        Some(other) => Err(Error::DuplicateFlow {
            name: definition.name,
            first: place(definition).min(place(other)),
            second: place(definition).max(place(other)),
        }),
    }
}
