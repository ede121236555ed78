use crate::value::Data;

/// A parameter of a flow's function: of a type that may be given a `G`, which is that type itself.
///
/// It is a trait only so that the compiler can say what is wrong where a node is passed. The parameter's type is the one
/// that implements it, so that the type of `"x".into()` is known.
#[diagnostic::on_unimplemented(
    message = "a flow's parameter takes a `{Self}`, this is a `{G}`",
    label = "expected `{Self}`",
    note = "a flow takes plain data: to pass a node, await it first, or write an ordinary function over nodes instead of a flow"
)]
pub trait Accepts<G> {
    #[doc(hidden)]
    fn accept(given: G) -> Self;
}

impl<T> Accepts<T> for T {
    fn accept(given: T) -> T {
        given
    }
}

/// The parameters of a flow: a tuple of data.
pub trait Parameters: Clone + Send + Sync + 'static {
    /// Each parameter as JSON; null where it cannot be.
    fn to_json(&self) -> Vec<serde_json::Value>;
}

macro_rules! tuples {
    ($($($name:ident)*;)+) => {$(
        impl<$($name: Data),*> Parameters for ($($name,)*) {
            #[allow(non_snake_case, reason = "a variable for each type")]
            fn to_json(&self) -> Vec<serde_json::Value> {
                let ($($name,)*) = self;
                vec![$(serde_json::to_value($name).unwrap_or_default()),*]
            }
        }
    )+};
}

tuples! {
    ; A; A B; A B C; A B C D; A B C D E; A B C D E F; A B C D E F G; A B C D E F G H; A B C D E F G H I;
    A B C D E F G H I J; A B C D E F G H I J K; A B C D E F G H I J K L;
}
