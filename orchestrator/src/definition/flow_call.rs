use std::any::Any;
use std::fmt;
use std::sync::Arc;

use super::parameters::length_of;
use super::{CallParameters, Context, FlowBody, FlowDef};
use crate::bounds;
use crate::panic::Fragile;
use crate::value::check_depth;

/// A flow function with its arguments.
pub(crate) struct FlowCall {
    pub(crate) definition: &'static FlowDef,
    pub(crate) parameters: serde_json::Map<String, serde_json::Value>,
    /// The first parameter that its JSON does not represent: a run could not be resumed from it.
    pub(crate) problem: Option<String>,
    values: Fragile<Box<dyn Any + Send + Sync>>,
}

impl FlowCall {
    pub(crate) fn new(definition: &'static FlowDef, parameters: Box<dyn Any>) -> Self {
        let CallParameters {
            values,
            json,
            problem,
        } = definition.function.keep(definition.parameters, parameters);
        Self {
            definition,
            parameters: json,
            problem,
            values,
        }
    }

    /// Creates a call with parameters that were recorded, or given from outside.
    ///
    /// # Errors
    ///
    /// Returns an error that names the parameter that is missing, unknown or of another type.
    pub(crate) fn recall(
        definition: &'static FlowDef,
        json: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Arc<Self>, String> {
        let values = definition.function.parse(definition.parameters, json)?;
        Ok(Arc::new(Self {
            definition,
            parameters: json.clone(),
            problem: None,
            values: Fragile::new(values),
        }))
    }

    /// Returns the reason why the call cannot be run, if any: its JSON does not represent its
    /// parameters, or they are too long.
    pub(crate) fn fault(&self) -> Option<String> {
        let too_long = || {
            let length = length_of(&self.parameters);
            let most = bounds::PARAMETERS;
            (length > most).then(|| {
                format!(
                    "expected at most {most} bytes of parameters as JSON, got {length}: pass a path or an id of large data, and let a task read it"
                )
            })
        };
        self.problem.clone().or_else(too_long)
    }

    /// Returns `true` if recorded parameters are those of the call, in whatever notation: one that
    /// was left out is null, and a whole number may stand for a float.
    pub(crate) fn has(&self, recorded: &serde_json::Map<String, serde_json::Value>) -> bool {
        let function = self.definition.function;
        let written = |json| {
            Some(
                function
                    .keep(
                        self.definition.parameters,
                        function.parse(self.definition.parameters, json).ok()?,
                    )
                    .json,
            )
        };
        self.parameters == *recorded
            || written(recorded).is_some_and(|recorded| written(&self.parameters) == Some(recorded))
    }

    /// Returns the call with some of its parameters overridden.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`recall`](Self::recall).
    pub(crate) fn with(
        self: &Arc<Self>,
        overrides: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Arc<Self>, String> {
        if overrides.is_empty() {
            return Ok(Arc::clone(self));
        }
        for (name, value) in overrides {
            // checked before it is copied: it may be too deep for the stack
            check_depth(value).map_err(|problem| format!("parameter `{name}`: {problem}"))?;
        }
        let mut json = self.parameters.clone();
        json.extend(
            overrides
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        Self::recall(self.definition, &json)
    }

    /// Calls the flow's function. For a plain `fn`, this runs its whole body.
    pub(crate) fn start(&self, context: Arc<Context>) -> FlowBody {
        self.definition.function.start(&**self.values, context)
    }
}

impl fmt::Debug for FlowCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:?})", self.definition.name, self.parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::FlowCall;
    use crate::definition::{FlowBody, FlowDef, Function, Missed, Overlap, Parameter, TaskOptions};

    const fn parameter(name: &'static str, type_name: &'static str) -> Parameter {
        Parameter {
            name,
            type_name,
            unordered: false,
            in_key: true,
        }
    }

    static SUM: FlowDef = FlowDef {
        name: "sum",
        crate_name: "",
        module: "",
        file: "",
        line: 0,
        description: "",
        tags: &[],
        parameters: &[parameter("a", "u8"), parameter("b", "Option<u8>")],
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
        function: &Function(|(_, _): (u8, Option<u8>), _| FlowBody::wired(())),
    };

    #[test]
    fn a_call_comes_back_from_what_was_recorded_of_it() {
        let call = FlowCall::new(&SUM, Box::new((1_u8, Some(2_u8))));
        assert_eq!(call.problem, None);
        let recalled = FlowCall::recall(&SUM, &call.parameters).expect("it is what was recorded");
        assert_eq!(recalled.parameters, call.parameters);
        assert_eq!(recalled.values.downcast_ref(), Some(&(1_u8, Some(2_u8))));
    }

    #[test]
    fn parameters_that_do_not_fit_are_named() {
        for (json, expected) in [
            (r#"{"a": 1}"#, None),
            (r#"{}"#, Some("parameter `a: u8`: it is missing")),
            (
                r#"{"a": 300}"#,
                Some("parameter `a: u8`: invalid value: integer `300`, expected u8"),
            ),
            (
                r#"{"a": 1, "c": 2}"#,
                Some("no parameter `c` (parameters: `a: u8`, `b: Option<u8>`)"),
            ),
        ] {
            let json = serde_json::from_str(json).expect(json);
            let error = FlowCall::recall(&SUM, &json).err();
            assert_eq!(error.as_deref(), expected, "{json:?}");
        }
    }
}
