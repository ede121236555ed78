use serde_json::{Map, Value};

use crate::task::Parameter;
use crate::value::{Data, lost_in_json};

/// Says why a type does not take a value.
type Check = fn(&Value) -> Result<(), String>;

/// The parameters of a flow: a tuple of data.
pub trait Parameters: Clone + Send + Sync + 'static {
    /// Of each parameter, whether its type takes a value.
    const CHECKS: &'static [Check];

    /// Each parameter as JSON, or why JSON cannot keep it.
    fn to_json(&self) -> Vec<Result<Value, String>>;

    /// The parameters from JSON, by name.
    ///
    /// # Errors
    ///
    /// The first one that is missing or of another type, and why.
    fn from_json<'a>(
        names: &'a [Parameter],
        json: &Map<String, Value>,
    ) -> Result<Self, (&'a Parameter, String)>;
}

fn write<T: Data>(value: &T) -> Result<Value, String> {
    let json = serde_json::to_value(value).map_err(|error| error.to_string())?;
    lost_in_json(value).map_or(Ok(json), Err)
}

fn check<T: Data>(json: &Value) -> Result<(), String> {
    T::deserialize(json)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// One that is not there is what null is for its type, if that is anything: an `Option` may be left out.
fn read<'a, T: Data>(
    parameter: &'a Parameter,
    json: &Map<String, Value>,
) -> Result<T, (&'a Parameter, String)> {
    match json.get(parameter.name) {
        Some(value) => T::deserialize(value).map_err(|error| (parameter, error.to_string())),
        None => T::deserialize(&Value::Null).map_err(|_| (parameter, "it is missing".to_owned())),
    }
}

macro_rules! tuples {
    ($($($name:ident)*;)+) => {$(
        impl<$($name: Data),*> Parameters for ($($name,)*) {
            const CHECKS: &'static [Check] = &[$(check::<$name>),*];

            #[allow(non_snake_case, reason = "a variable for each type")]
            fn to_json(&self) -> Vec<Result<Value, String>> {
                let ($($name,)*) = self;
                vec![$(write($name)),*]
            }

            #[allow(non_snake_case, unused_variables, reason = "a variable for each type, of which there may be none")]
            fn from_json<'a>(
                names: &'a [Parameter],
                json: &Map<String, Value>,
            ) -> Result<Self, (&'a Parameter, String)> {
                let [$($name),*] = names else { unreachable!("a flow has a name for each parameter") };
                Ok(($(read::<$name>($name, json)?,)*))
            }
        }
    )+};
}

tuples! {
    ; A; A B; A B C; A B C D; A B C D E; A B C D E F; A B C D E F G; A B C D E F G H; A B C D E F G H I;
    A B C D E F G H I J; A B C D E F G H I J K; A B C D E F G H I J K L;
}
