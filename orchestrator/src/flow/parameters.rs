use crate::value::Data;

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
