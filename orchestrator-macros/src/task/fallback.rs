//! The stand-in for a task with errors.

use super::model::TaskReturn;
use crate::attribute::expand::private;
use crate::attribute::fallback::{Errors, StandIn, is_right, known_data};
use crate::attribute::signature::UserFunction;
use proc_macro2::TokenStream;
use quote::quote;

/// Returns a function that callers can use like the task.
pub(crate) fn task(function: &UserFunction, errors: &Errors) -> TokenStream {
    let private = private();
    let output = match TaskReturn::of(function) {
        TaskReturn::Nothing | TaskReturn::Unclear(_) => Some(quote!(())),
        TaskReturn::Plain(ty) | TaskReturn::Fallible { ok: ty, .. } => known_data(ty),
    };
    let mut stand_in = StandIn::new(function, &quote!(#private::Node), output);
    for parameter in stand_in.inputs() {
        let stored = known_data(&parameter.ty).filter(|_| is_right(parameter));
        let ty = stored.map(|stored| quote!(impl #private::IntoInput<#stored>));
        stand_in.take(parameter, ty);
    }
    errors.with(stand_in.item())
}
