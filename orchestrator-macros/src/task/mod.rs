//! `#[task]`: parse, check, expand.

mod check;
mod expand;
mod model;
mod parse;

pub(crate) use check::{MOST_INPUTS, check_context, check_label, check_settings};
pub(crate) use expand::{count, described, duration, label, private, settings};
pub(crate) use model::{Label, Output, Settings};
pub(crate) use parse::{LABEL, SETTINGS};

use crate::fallback::{self, Errors};
use crate::signature::{Function, Noun};
use proc_macro2::TokenStream;

/// The function that makes nodes of the task, with the task in it.
pub(crate) fn task(options: TokenStream, item: TokenStream) -> TokenStream {
    let function = match Function::read(Noun::Task, item) {
        Ok(function) => function,
        Err(tokens) => return tokens,
    };
    let (mut in_options, mut in_function) = (Errors::default(), Errors::default());
    let task = parse::task(options, function, &mut in_options);
    check::options(&task, &mut in_options);
    check::function(&task, &mut in_function);
    if in_function.is_empty() {
        return in_options.with(expand::task(&task));
    }
    in_options.append(in_function);
    fallback::task(&task.function, &in_options)
}
