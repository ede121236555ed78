//! `--param NAME=VALUE`.

use std::sync::Arc;

use orchestrator_grammar::similar::nearest;
use serde_json::{Map, Value, json};

use super::args;
use super::exit::CommandFailure;
use crate::flow::{FlowCall, FlowDef};
use crate::value::{TypedJson, json_text, parse};

/// Parameters as given on the command line.
#[derive(Clone, Debug, Default)]
pub(super) struct ParameterArguments(Vec<String>);

impl From<&args::Parameters> for ParameterArguments {
    fn from(typed: &args::Parameters) -> Self {
        Self(typed.parameters.clone())
    }
}

impl ParameterArguments {
    /// Returns their values for a flow.
    pub(super) fn of(&self, flow: &FlowDef) -> Result<Map<String, Value>, CommandFailure> {
        let mut values = Map::new();
        for typed in &self.0 {
            let Some((name, text)) = typed.split_once('=') else {
                let failure = CommandFailure::usage(format!(
                    "expected a parameter as NAME=VALUE, got `{typed}`"
                ));
                return Err(failure.why(known(flow)).hint(hint(flow, typed)));
            };
            let Some(place) = place(flow, name) else {
                let failure = CommandFailure::usage(format!(
                    "flow `{}` has no parameter `{name}`",
                    flow.name
                ));
                return Err(failure.why(known(flow)).hint(hint(flow, name)));
            };
            let value = value(flow, place, text).map_err(|why| refused(flow, why))?;
            if values.insert(name.to_owned(), value).is_some() {
                return Err(CommandFailure::usage(format!(
                    "the parameter `{name}` is given twice"
                )));
            }
        }
        Ok(values)
    }
}

/// Returns a flow with the parameters of a call, or without any, overridden by those given on the
/// command line.
pub(super) fn call(
    flow: &'static FlowDef,
    base: Option<&Arc<FlowCall>>,
    typed: &ParameterArguments,
) -> Result<Arc<FlowCall>, CommandFailure> {
    let overrides = typed.of(flow)?;
    let call = match base {
        Some(base) => base.with(&overrides),
        None => FlowCall::recall(flow, &overrides),
    };
    checked(flow, call)
}

/// Returns a flow with parameters on record, overridden by those given on the command line.
pub(super) fn call_on_record(
    flow: &'static FlowDef,
    recorded: &Map<String, Value>,
    typed: &ParameterArguments,
) -> Result<Arc<FlowCall>, CommandFailure> {
    let mut all = recorded.clone();
    all.extend(typed.of(flow)?);
    checked(flow, FlowCall::recall(flow, &all))
}

fn checked(
    flow: &FlowDef,
    call: Result<Arc<FlowCall>, String>,
) -> Result<Arc<FlowCall>, CommandFailure> {
    let call = call.map_err(|problem| refused(flow, problem))?;
    match call.fault() {
        Some(problem) => Err(refused(flow, problem)),
        None => Ok(call),
    }
}

/// Writes parameters: `region = "EU", size = 7`.
pub(super) fn in_words(parameters: &Map<String, Value>) -> String {
    let parameter = |(name, value)| format!("{name} = {}", json_text(value));
    let parameters: Vec<String> = parameters.iter().map(parameter).collect();
    parameters.join(", ")
}

/// Returns the error for parameters that do not fit. The problem names those at fault.
pub(super) fn refused(flow: &FlowDef, problem: String) -> CommandFailure {
    let at_fault = flow
        .parameters
        .iter()
        .enumerate()
        .filter(|(_, parameter)| problem.contains(&parameter.to_string()));
    let examples: Vec<String> = at_fault.map(|(place, _)| example(flow, place)).collect();
    let hint = match examples.len() {
        0 => None,
        1 => Some(format!("give it as `{}`", examples[0])),
        _ => Some(format!("give them as `{}`", examples.join(" "))),
    };
    CommandFailure::usage(format!(
        "the parameters of flow `{}` are invalid",
        flow.name
    ))
    .why(problem)
    .or_hint(hint)
}

fn place(flow: &FlowDef, name: &str) -> Option<usize> {
    flow.parameters
        .iter()
        .position(|parameter| parameter.name == name)
}

/// Returns the hint for an unknown parameter.
fn hint(flow: &FlowDef, typed: &str) -> String {
    let meant = nearest(
        typed,
        flow.parameters.iter().map(|parameter| parameter.name),
    );
    match (place(flow, typed), meant) {
        _ if flow.parameters.is_empty() => "leave `--param` out".to_owned(),
        (Some(place), _) => format!("give it as `{}`", example(flow, place)),
        (None, Some(meant)) => format!("did you mean `{meant}`?"),
        (None, None) => format!("`show {}` shows which of them are required", flow.name),
    }
}

fn known(flow: &FlowDef) -> String {
    match flow.parameters {
        [] => "it takes none".to_owned(),
        known => format!(
            "it takes {}",
            known
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        ),
    }
}

/// Parses a value: as JSON, unless the parameter's type takes only text.
fn value(flow: &FlowDef, place: usize, text: &str) -> Result<Value, String> {
    let takes = |value: &Value| flow.function.takes(place, value).is_ok();
    let plain = Value::from(text);
    match parse(text) {
        TypedJson::Json(json) if takes(&json) || !takes(&plain) => Ok(json),
        // a type that takes neither lists nor objects may take a text that looks like one
        TypedJson::TooDeep(why) if !takes(&plain) || [json!([]), json!({})].iter().any(takes) => {
            Err(format!("parameter {}: {why}", flow.parameters[place]))
        }
        _ => Ok(plain),
    }
}

/// Returns an example of a parameter: the first of some values that its type takes.
fn example(flow: &FlowDef, place: usize) -> String {
    const EXAMPLES: [(&str, &str); 9] = [
        ("\"…\"", "…"),
        ("7", "7"),
        ("true", "true"),
        ("\"2026-01-31\"", "2026-01-31"),
        ("\"2026-01-31T05:00:00Z\"", "2026-01-31T05:00:00Z"),
        // a struct can be read from a list, too
        ("{}", "{…}"),
        ("[\"…\"]", "[\"…\"]"),
        ("[7]", "[7]"),
        ("[]", "[…]"),
    ];
    let takes = |json: &str| {
        serde_json::from_str(json).is_ok_and(|json| flow.function.takes(place, &json).is_ok())
    };
    let has_fields = flow
        .function
        .takes(place, &Map::new().into())
        .is_err_and(|why| why.starts_with("missing field"));
    let value = match EXAMPLES.into_iter().find(|(json, _)| takes(json)) {
        _ if has_fields => "{…}",
        Some((_, typed)) => typed,
        None => "…",
    };
    let name = flow.parameters[place].name;
    match value.starts_with(['[', '{']) {
        true => format!("--param '{name}={value}'"),
        false => format!("--param {name}={value}"),
    }
}

/// Returns `true` if the parameter may be left out.
pub(super) fn is_optional(flow: &FlowDef, place: usize) -> bool {
    flow.function.takes(place, &Value::Null).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{FlowBody, FlowFunction, Function, Missed, Overlap};
    use crate::task::{Parameter, TaskOptions};
    use serde::{Deserialize, Serialize};

    #[derive(Clone, Debug, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum OptionSet {
        North,
    }

    type TextAlias = String;

    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct CustomerId(String);

    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Point {
        x: u8,
    }

    type Maybe = Option<TextAlias>;

    const fn parameter(name: &'static str, type_name: &'static str) -> Parameter {
        Parameter {
            name,
            type_name,
            unordered: false,
            in_key: true,
        }
    }

    const fn flow(
        parameters: &'static [Parameter],
        function: &'static dyn FlowFunction,
    ) -> FlowDef {
        FlowDef {
            name: "typed",
            crate_name: "",
            module: "",
            file: "",
            line: 0,
            description: "",
            tags: &[],
            parameters,
            resources: &[],
            requirements: &[],
            is_async: false,
            max_active_runs: None,
            schedule: None,
            missed: Missed::Latest,
            overlap: Overlap::Queue,
            depends_on_past: false,
            timeout: None,
            defaults: TaskOptions::NONE,
            output: None,
            function,
        }
    }

    static FLOW: FlowDef = flow(
        &[
            parameter("count", "u64"),
            parameter("name", "Name"),
            parameter("id", "Id"),
            parameter("maybe", "Maybe"),
            parameter("set", "OptionSet"),
            parameter("day", "NaiveDate"),
            parameter("sizes", "Vec<u8>"),
            parameter("regions", "Vec<String>"),
            parameter("point", "Point"),
        ],
        &Function(
            |_: (
                u64,
                TextAlias,
                CustomerId,
                Maybe,
                OptionSet,
                chrono::NaiveDate,
                Vec<u8>,
                Vec<String>,
                Point,
            ),
             _| { FlowBody::wired(()) },
        ),
    );

    static NOTHING: FlowDef = flow(&[], &Function(|(): (), _| FlowBody::wired(())));

    #[test]
    fn a_text_is_what_the_type_takes() {
        for (name, text, expected) in [
            ("count", "7", Value::from(7)),
            ("count", "-1", Value::from(-1)),
            ("count", "many", Value::from("many")),
            ("name", "7", Value::from("7")),
            ("name", "null", Value::from("null")),
            ("name", "\"7\"", Value::from("7")),
            ("id", "42", Value::from("42")),
            ("maybe", "7", Value::from("7")),
            ("maybe", "null", Value::Null),
            ("set", "north", Value::from("north")),
            ("set", "\"north\"", Value::from("north")),
            ("day", "2026-01-31", Value::from("2026-01-31")),
            ("sizes", "[1,2]", Value::from(vec![1, 2])),
        ] {
            assert_eq!(
                value(&FLOW, place(&FLOW, name).unwrap(), text),
                Ok(expected),
                "{name} {text}"
            );
        }
    }

    #[test]
    fn a_parameter_is_optional_where_its_type_takes_nothing() {
        let optional = |at: &usize| is_optional(&FLOW, *at);
        let optional: Vec<&str> = (0..FLOW.parameters.len())
            .filter(optional)
            .map(|at| FLOW.parameters[at].name)
            .collect();
        assert_eq!(optional, ["maybe"]);
    }

    #[test]
    fn a_hint_is_about_the_parameter_at_fault() {
        let refused = |json: &str| {
            let problem = FLOW
                .function
                .parse(FLOW.parameters, &serde_json::from_str(json).unwrap())
                .unwrap_err();
            refused(&FLOW, problem)
        };
        let failure = refused(
            "{\"name\": \"a\", \"id\": \"b\", \"set\": \"north\", \"day\": \"2026-01-31\"}",
        );
        assert_eq!(
            failure.why.unwrap(),
            "parameters `count: u64`, `sizes: Vec<u8>`, `regions: Vec<String>`, `point: Point`: they are missing"
        );
        assert_eq!(
            failure.hint.unwrap(),
            "give them as `--param count=7 --param 'sizes=[7]' --param 'regions=[\"…\"]' --param 'point={…}'`"
        );
        assert_eq!(example(&FLOW, 4), "--param set=…");
        assert_eq!(example(&FLOW, 5), "--param day=2026-01-31");
    }

    #[test]
    fn parts_of_an_error_do_not_repeat_each_other() {
        let of = |flow: &FlowDef, typed: &str| {
            let failure = ParameterArguments(vec![typed.to_owned()])
                .of(flow)
                .unwrap_err();
            [failure.what, failure.why.unwrap(), failure.hint.unwrap()]
        };
        assert_eq!(
            of(&NOTHING, "a=1"),
            [
                "flow `typed` has no parameter `a`",
                "it takes none",
                "leave `--param` out"
            ]
        );
        let [_, why, hint] = of(&FLOW, "xyz=1");
        assert!(
            why.starts_with("it takes `count: u64`, `name: Name`"),
            "{why}"
        );
        assert_eq!(hint, "`show typed` shows which of them are required");
        assert_eq!(of(&FLOW, "count")[2], "give it as `--param count=7`");
        assert_eq!(of(&FLOW, "cuont=1")[2], "did you mean `count`?");
    }
}
