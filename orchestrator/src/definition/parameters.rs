use serde_json::{Map, Value};

use super::Parameter;
use crate::panic::{Fragile, catch};
use crate::value::{Data, from_json, to_json};

/// Returns the reason if a type does not accept a value.
type ParameterCheck = fn(&Value) -> Result<(), String>;

/// The parameters of a flow: a tuple of data.
pub trait Parameters: Clone + Send + Sync + 'static {
    /// For each parameter, a check of whether its type accepts a value.
    const CHECKS: &'static [ParameterCheck];

    /// Converts each parameter to JSON, or returns the reason why JSON cannot represent it.
    fn to_json(&self) -> Vec<Result<Value, String>>;

    /// Reads the parameters from JSON, by name.
    ///
    /// # Errors
    ///
    /// Returns the first parameter that is missing or of another type, and the reason.
    fn from_json<'a>(
        names: &'a [Parameter],
        json: &Map<String, Value>,
    ) -> Result<Self, (&'a Parameter, String)>;
}

/// Returns the length in bytes of parameters as JSON.
pub(super) fn length_of(parameters: &Map<String, Value>) -> usize {
    struct ByteCounter(usize);
    impl std::io::Write for ByteCounter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counted = ByteCounter(0);
    // cannot fail: writing a JSON value runs only our own code
    let _ = serde_json::to_writer(&mut counted, parameters);
    counted.0
}

fn write<T: Data>(value: &T) -> Result<Value, String> {
    catch(|| to_json(value)).unwrap_or_else(|panicked| Err(format!("its `Serialize` {panicked}")))
}

fn check<T: Data>(json: &Value) -> Result<(), String> {
    parse::<T>(json).map(drop)
}

fn parse<T: Data>(json: &Value) -> Result<Fragile<T>, String> {
    match catch(|| from_json::<T>(json)) {
        Ok(parsed) => parsed.map(Fragile::new),
        Err(panicked) => Err(format!("its `Deserialize` {panicked}")),
    }
}

/// Reads a parameter. A missing one is read as null if its type accepts that: an `Option` may be
/// left out.
fn read<'a, T: Data>(
    parameter: &'a Parameter,
    json: &Map<String, Value>,
) -> Result<Fragile<T>, (&'a Parameter, String)> {
    match json.get(parameter.name) {
        Some(value) => parse::<T>(value).map_err(|reason| (parameter, reason)),
        None => parse::<T>(&Value::Null).map_err(|_| (parameter, "it is missing".to_owned())),
    }
}

macro_rules! tuples {
    ($($($name:ident)*;)+) => {$(
        impl<$($name: Data),*> Parameters for ($($name,)*) {
            const CHECKS: &'static [ParameterCheck] = &[$(check::<$name>),*];

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
                let ($($name,)*) = ($(read::<$name>($name, json)?,)*);
                Ok(($($name.into_inner(),)*))
            }
        }
    )+};
}

tuples! {
    ; A; A B; A B C; A B C D; A B C D E; A B C D E F; A B C D E F G; A B C D E F G H; A B C D E F G H I;
    A B C D E F G H I J; A B C D E F G H I J K; A B C D E F G H I J K L;
}
