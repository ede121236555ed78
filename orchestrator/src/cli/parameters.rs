//! `--param NAME=VALUE`.

use serde_json::{Map, Value};

use super::args;
use super::exit::Failure;
use super::names;
use crate::flow::FlowDef;
use crate::task::Parameter;

/// Parameters as they were typed.
#[derive(Clone, Debug, Default)]
pub(super) struct Typed(Vec<String>);

impl From<&args::Parameters> for Typed {
    fn from(typed: &args::Parameters) -> Self {
        Self(typed.parameters.clone())
    }
}

impl Typed {
    /// Their values, as a flow takes them.
    pub(super) fn of(&self, flow: &FlowDef) -> Result<Map<String, Value>, Failure> {
        let mut values = Map::new();
        for typed in &self.0 {
            let Some((name, text)) = typed.split_once('=') else {
                let failure = Failure::usage(format!("expected a parameter as NAME=VALUE, got `{typed}`"));
                return Err(failure.hint(hint(flow)));
            };
            let Some(parameter) = flow.parameters.iter().find(|parameter| parameter.name == name) else {
                let meant = names::meant(name, flow.parameters.iter().map(|parameter| parameter.name));
                let hint = meant.map_or_else(|| hint(flow), |meant| format!("did you mean `{meant}`?"));
                let failure = Failure::usage(format!("flow `{}` has no parameter `{name}`", flow.name));
                return Err(failure.why(known(flow)).hint(hint));
            };
            if values.insert(name.to_owned(), value(parameter, text)).is_some() {
                return Err(Failure::usage(format!("the parameter `{name}` is given twice")));
            }
        }
        Ok(values)
    }
}

/// Says why parameters do not fit.
pub(super) fn refused(flow: &FlowDef, problem: String) -> Failure {
    Failure::usage(format!("the parameters of flow `{}` are refused", flow.name)).why(problem).hint(hint(flow))
}

fn hint(flow: &FlowDef) -> String {
    match flow.parameters.first() {
        None => "the flow takes no parameters".to_owned(),
        Some(first) => format!("{}: give them as `--param {}=…`", known(flow), first.name),
    }
}

fn known(flow: &FlowDef) -> String {
    match flow.parameters.is_empty() {
        true => "it takes none".to_owned(),
        false => {
            let written = |parameter: &Parameter| format!("`{}: {}`", parameter.name, parameter.type_name);
            format!("it takes {}", flow.parameters.iter().map(written).collect::<Vec<_>>().join(", "))
        }
    }
}

/// The value of a text: JSON, where it is some and the parameter is no text itself.
fn value(parameter: &Parameter, text: &str) -> Value {
    let type_name = parameter.type_name.replace(' ', "");
    let (inner, optional) = match type_name.strip_prefix("Option<").and_then(|rest| rest.strip_suffix('>')) {
        Some(inner) => (inner.to_owned(), true),
        None => (type_name, false),
    };
    let is_text = matches!(&*inner, "String" | "std::string::String" | "string::String");
    match serde_json::from_str(text) {
        Ok(value) if !is_text || (optional && text == "null") => value,
        _ => Value::String(text.to_owned()),
    }
}

/// Whether a parameter may be left out.
pub(super) fn is_optional(parameter: &Parameter) -> bool {
    parameter.type_name.starts_with("Option")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_json_where_it_is_some() {
        for (type_name, text, expected) in [
            ("u64", "7", Value::from(7)),
            ("String", "7", Value::from("7")),
            ("Option<String>", "7", Value::from("7")),
            ("Option<String>", "null", Value::Null),
            ("String", "null", Value::from("null")),
            ("NaiveDate", "2026-01-31", Value::from("2026-01-31")),
            ("Vec<u8>", "[1,2]", Value::from(vec![1, 2])),
            ("Region", "north", Value::from("north")),
            ("Region", "\"north\"", Value::from("north")),
        ] {
            let parameter = Parameter { name: "a", type_name, unordered: false, in_key: true };
            assert_eq!(value(&parameter, text), expected, "{type_name} {text}");
        }
    }
}
