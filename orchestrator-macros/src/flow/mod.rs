//! `#[flow]`: parse, check, expand.

mod check;
mod expand;
mod model;
mod parse;

pub(crate) use model::Returned;
pub(crate) use parse::OWN;

use crate::fallback::{self, Errors};
use crate::signature::{Function, Noun};
use proc_macro2::TokenStream;

/// The function that describes the flow, with the flow in it.
pub(crate) fn flow(options: TokenStream, item: TokenStream) -> TokenStream {
    let function = match Function::read(Noun::Flow, item) {
        Ok(function) => function,
        Err(tokens) => return tokens,
    };
    let (mut in_options, mut in_function) = (Errors::default(), Errors::default());
    let flow = parse::flow(options, function, &mut in_options);
    check::options(&flow, &mut in_options);
    check::function(&flow, &mut in_function);
    if in_function.is_empty() {
        return in_options.with(expand::flow(&flow));
    }
    in_options.append(in_function);
    fallback::flow(&flow.function, &in_options)
}
