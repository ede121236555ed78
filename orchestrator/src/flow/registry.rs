//! The flows of this binary: each `#[flow]` registers itself.

use super::{FlowDef, FlowEntry};
use crate::error::Error;
use crate::similar::nearest;

/// All registered flows, in no particular order.
///
/// Flows of a library crate that the binary never mentions are not linked, and so not here: `use my_flows as _;` in
/// `main.rs` brings them in.
pub fn flows() -> impl Iterator<Item = &'static FlowDef> {
    inventory::iter::<FlowEntry>
        .into_iter()
        .map(|entry| entry.0)
}

/// The flow of a name.
pub(crate) fn find(name: &str) -> Option<&'static FlowDef> {
    flows().find(|flow| flow.name == name)
}

/// The flow of a name, or an error that names those that there are.
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

/// The names of all flows, for people to read.
pub(crate) fn names() -> String {
    let mut names: Vec<String> = flows().map(|flow| format!("`{}`", flow.name)).collect();
    names.sort_unstable();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// Refuses a flow whose name another flow of this binary has.
pub(crate) fn check_name(definition: &'static FlowDef) -> Result<(), Error> {
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
