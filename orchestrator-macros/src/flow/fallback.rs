//! The stand-in for a flow with errors.

use super::model::FlowOutput;
use crate::attribute::data::{PassedType, TypeFault};
use crate::attribute::expand::private;
use crate::attribute::fallback::{Errors, StandIn, is_right, known_data};
use crate::attribute::signature::UserFunction;
use proc_macro2::TokenStream;
use quote::{ToTokens, quote};

/// Returns a function that callers can use like the flow.
pub(crate) fn flow(function: &UserFunction, errors: &Errors) -> TokenStream {
    let private = private();
    let output = match (FlowOutput::of(function).spelled(), function.output()) {
        (output, None) => output,
        (Some(output), Some(ty)) if TypeFault::of(ty).is_none() => Some(output),
        (_, Some(ty)) => known_data(ty),
    };
    let mut stand_in = StandIn::new(function, &quote!(#private::Flow), output);
    for parameter in stand_in.inputs() {
        let is_owned = PassedType::of(&parameter.ty).is_owned() && is_right(parameter);
        stand_in.take(parameter, is_owned.then(|| parameter.ty.to_token_stream()));
    }
    errors.with(stand_in.item())
}
