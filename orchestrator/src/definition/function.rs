//! Flow functions with their parameter types erased: called with values, or with JSON.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Context, FlowBody, Parameter, Parameters};
use crate::panic::Fragile;

/// The function of a flow, with the tuple of its parameters as a type.
pub struct Function<P>(pub fn(P, Arc<Context>) -> FlowBody);

/// The function of a flow, whose parameter types only the definition knows.
pub trait FlowFunction: fmt::Debug + Send + Sync {
    /// Calls the function. For a plain `fn`, this runs its whole body.
    fn start(&self, parameters: &(dyn Any + Send + Sync), context: Arc<Context>) -> FlowBody;

    /// Returns the parameters of a call, with their JSON.
    fn keep(&self, names: &[Parameter], parameters: Box<dyn Any>) -> CallParameters;

    /// Reads the parameters from JSON, by name. A missing one is null.
    ///
    /// # Errors
    ///
    /// Returns an error that names the parameters that are missing, or the one that is unknown or
    /// of another type.
    fn parse(
        &self,
        names: &[Parameter],
        json: &Map<String, Value>,
    ) -> Result<Box<dyn Any + Send + Sync>, String>;

    /// Checks whether the type of the parameter at `place` accepts a value. A parameter that
    /// accepts null may be left out.
    ///
    /// # Errors
    ///
    /// Returns the reason if the type does not accept the value.
    fn takes(&self, place: usize, json: &Value) -> Result<(), String>;
}

/// The parameters of a call.
pub struct CallParameters {
    pub(crate) values: Fragile<Box<dyn Any + Send + Sync>>,
    pub(crate) json: Map<String, Value>,
    /// The first parameter that its JSON does not represent.
    pub(crate) problem: Option<String>,
}

impl fmt::Debug for CallParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept")
            .field("json", &self.json)
            .field("problem", &self.problem)
            .finish_non_exhaustive()
    }
}

impl<P: Parameters> FlowFunction for Function<P> {
    fn start(&self, parameters: &(dyn Any + Send + Sync), context: Arc<Context>) -> FlowBody {
        match parameters.downcast_ref::<P>() {
            Some(parameters) => (self.0)(parameters.clone(), context),
            None => mistyped::<P>(),
        }
    }

    fn keep(&self, names: &[Parameter], parameters: Box<dyn Any>) -> CallParameters {
        let Ok(parameters) = parameters.downcast::<P>() else {
            mistyped::<P>()
        };
        let (mut json, mut problem) = (Map::new(), None);
        for (parameter, value) in names.iter().zip(parameters.to_json()) {
            match value {
                Ok(mut value) => {
                    if let (true, Value::Array(elements)) = (parameter.unordered, &mut value) {
                        // a set is the same value in whatever order it is iterated
                        elements.sort_by_cached_key(ToString::to_string);
                    }
                    json.insert(parameter.name.to_owned(), value);
                }
                Err(error) => {
                    problem.get_or_insert_with(|| {
                        format!("parameter {parameter} cannot be stored as JSON: {error}")
                    });
                }
            }
        }
        let problem = problem.or_else(|| {
            let (parameter, reason) = P::from_json(names, &json).map(Fragile::new).err()?;
            Some(format!(
                "parameter {parameter} cannot be read back from JSON: {reason}"
            ))
        });
        CallParameters {
            values: Fragile::new(parameters),
            json,
            problem,
        }
    }

    fn parse(
        &self,
        names: &[Parameter],
        json: &Map<String, Value>,
    ) -> Result<Box<dyn Any + Send + Sync>, String> {
        if let Some(unknown) = json
            .keys()
            .find(|key| names.iter().all(|parameter| parameter.name != *key))
        {
            return Err(match names.is_empty() {
                true => format!("no parameter `{unknown}`: the flow takes none"),
                false => format!("no parameter `{unknown}` (parameters: {})", list(names)),
            });
        }
        let is_missing = |(at, parameter): &(usize, &Parameter)| {
            !json.contains_key(parameter.name) && self.takes(*at, &Value::Null).is_err()
        };
        let missing: Vec<&Parameter> = names
            .iter()
            .enumerate()
            .filter(is_missing)
            .map(|(_, missing)| missing)
            .collect();
        if missing.len() > 1 {
            return Err(format!("parameters {}: they are missing", list(missing)));
        }
        match P::from_json(names, json) {
            Ok(parameters) => Ok(Box::new(parameters)),
            Err((parameter, reason)) => Err(format!("parameter {parameter}: {reason}")),
        }
    }

    fn takes(&self, place: usize, json: &Value) -> Result<(), String> {
        P::CHECKS[place](json)
    }
}

fn list<'a>(parameters: impl IntoIterator<Item = &'a Parameter>) -> String {
    parameters
        .into_iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cold]
#[track_caller]
fn mistyped<P>() -> ! {
    unreachable!(
        "parameters are not the `{}` that the flow's function takes",
        std::any::type_name::<P>()
    )
}

impl<P> fmt::Debug for Function<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Function<{}>", std::any::type_name::<P>())
    }
}
