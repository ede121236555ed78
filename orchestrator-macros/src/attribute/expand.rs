//! Code that both attributes generate.

use super::data::{PassedType, arguments_of};
use super::names::written;
use super::signature::Parameter;
use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;

/// Returns the path of the module that generated code calls.
pub(crate) fn private() -> TokenStream {
    quote!(::orchestrator::__private)
}

pub(crate) fn option(value: Option<TokenStream>) -> TokenStream {
    match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    }
}

/// Returns a parameter's part of the definition.
pub(crate) fn described(parameter: &Parameter) -> TokenStream {
    let (private, names) = (private(), names(parameter));
    let unordered = match PassedType::of(&parameter.ty) {
        PassedType::Owned(ty) | PassedType::Borrowed(ty) => arguments_of(ty, "HashSet").is_some(),
        PassedType::Slice(_) | PassedType::Str => false,
    };
    let in_key = parameter.no_cache.is_empty();
    quote!(#private::Parameter { #names, unordered: #unordered, in_key: #in_key })
}

/// Returns the fields for a parameter's name and type.
pub(crate) fn names(parameter: &Parameter) -> TokenStream {
    let (name, type_name) = (parameter_name(parameter), written(&parameter.ty));
    quote!(name: #name, type_name: #type_name)
}

/// Returns the name of a parameter, for its definition.
pub(crate) fn parameter_name(parameter: &Parameter) -> String {
    parameter
        .name()
        .map(|name| name.unraw().to_string())
        .unwrap_or_default()
}
