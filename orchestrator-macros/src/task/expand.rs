//! Expands a checked task to code.

use super::code;
use super::model::{CacheModel, TaskModel, TaskReturn};
use crate::attribute::data::{PassedType, is_plain};
use crate::attribute::entry::EntryKind;
use crate::attribute::expand::{described, names, option, parameter_name, private};
use crate::attribute::names::written;
use crate::attribute::place::CodeSpan;
use crate::attribute::signature::{Parameter, Role};
use crate::attribute::value::OptionKind;
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use syn::{ExprPath, Type};

pub(super) fn task(task: &TaskModel) -> TokenStream {
    let private = private();
    let function = &task.function;
    let attributes = function.outer_attributes();
    let (visibility, name) = (&function.visibility, function.name());
    let parameters = task.inputs().map(parameter);
    let inputs = task.inputs().filter_map(Parameter::name);
    let output = output_type(&TaskReturn::of(function));
    let definition = definition(task);
    quote! {
        #(#attributes)*
        // The macro has its own limit on the number of parameters.
        #[allow(clippy::too_many_arguments)]
        #visibility fn #name(#(#parameters),*) -> #private::Node<#output> {
            static __TASK: #private::TaskDef = #definition;
            #private::inventory::submit! { #private::TaskEntry(&__TASK) }
            #[allow(unused_imports)]
            use #private::{NotComparable as _, NotData as _};
            #private::Results::<#output>::node(
                &__TASK,
                ::std::boxed::Box::new([#(#private::IntoInput::into_input(#inputs)),*]),
                #private::Comparable::<#output>::SAME,
            )
        }
    }
}

/// Returns a parameter of the function that callers see.
fn parameter(parameter: &Parameter) -> TokenStream {
    let (private, name, place) = (private(), parameter.name(), CodeSpan::of(&parameter.ty));
    let stored = PassedType::of(&parameter.ty).stored(place);
    let open = place.first(quote!(impl #private::IntoInput));
    let close = place.last(quote!(>));
    quote!(#name: #open<#stored #close)
}

/// Returns the type of the values of a task's nodes.
fn output_type(output: &TaskReturn<'_>) -> TokenStream {
    output.value().map_or_else(|| quote!(()), |ty| quote!(#ty))
}

fn definition(task: &TaskModel) -> TokenStream {
    let private = private();
    let label = task.label.expand(&task.function);
    let parameters = task.inputs().map(described);
    let resources = task.resources().map(|parameter| {
        let described = names(parameter);
        let ty = shared_type(&parameter.ty);
        quote!(#private::Resource { #described, id: ::std::any::TypeId::of::<#ty> })
    });
    let requirements = task.function.parameters.iter().filter_map(requirement);
    let (options, body, cooperative) = (task.settings.expand(), body(task), task.has_context());
    let (user, cache) = (task.function.inner(), cache(task));
    quote! {{
        #user
        #private::TaskDef {
            #label,
            parameters: &[#(#parameters),*],
            resources: &[#(#resources),*],
            requirements: &[#(#requirements),*],
            options: #options,
            body: #body,
            cooperative: #cooperative,
            cache: #cache,
            same: #private::ResultComparison::new(),
        }
    }}
}

/// Returns the definition of a parameter that is a connection, a variable or a secret.
fn requirement(parameter: &Parameter) -> Option<TokenStream> {
    let (private, place) = (private(), CodeSpan::of(&parameter.ty));
    let (kind, name) = parameter.entry()?;
    let detail = match kind {
        EntryKind::Connection => {
            let ty = shared_type(&parameter.ty);
            let client = place.first(quote!(#private::ClientDef::of));
            quote!((#client::<#ty>()))
        }
        EntryKind::Variable => {
            let stored = PassedType::of(&parameter.ty).stored(place);
            let parse = place.first(quote!(#private::parse_variable));
            let in_key = parameter.no_cache.is_empty();
            quote!({ parse: #parse::<#stored>, in_key: #in_key })
        }
        EntryKind::Secret => TokenStream::new(),
    };
    let (parameter_name, type_name) = (parameter_name(parameter), written(&parameter.ty));
    Some(quote! {
        #private::Requirement {
            name: #name,
            parameter: #parameter_name,
            type_name: #type_name,
            kind: #private::RequirementKind::#kind #detail,
        }
    })
}

/// Returns the type behind the reference.
fn shared_type(ty: &Type) -> &Type {
    match PassedType::of(ty) {
        PassedType::Borrowed(shared) => shared,
        PassedType::Owned(_) | PassedType::Slice(_) | PassedType::Str => ty,
    }
}

fn cache(task: &TaskModel) -> TokenStream {
    let private = private();
    let CacheModel {
        expiry: Some(expiry),
        key,
        version,
    } = &task.cache
    else {
        return quote!(::core::option::Option::None);
    };
    let expiry = option(expiry.value.map(|expiry| expiry.expand()));
    let code = match version {
        Some(version) => {
            let version = &version.value;
            quote!(Version(#version))
        }
        None => {
            let tokens = code::text(&task.function);
            quote!(Tokens(#tokens))
        }
    };
    let key = option(key.as_ref().map(|path| key_function(task, &path.value)));
    quote! {
        ::core::option::Option::Some(#private::CacheDef {
            path: #private::path_of(&|| ()),
            expiry: #expiry,
            code: #private::TaskCode::#code,
            key: #key,
        })
    }
}

/// Returns a closure that hashes the result of the `cache_key` function for the inputs.
///
/// The task determines the types of the inputs, whatever the function takes: a closure that is
/// never called passes them on, for the type checker.
fn key_function(task: &TaskModel, path: &ExprPath) -> TokenStream {
    let (private, shown, name) = (private(), CodeSpan::of(path), task.function.name());
    let [call, key] = ["call_", "key_"].map(|name| Ident::new(name, Span::mixed_site()));
    let (mut takes, mut passes, mut arguments) = (Vec::new(), Vec::new(), Vec::new());
    for (number, parameter) in task.function.parameters.iter().enumerate() {
        if parameter.role() != Role::Input {
            passes.push(quote!(#private::any()));
            continue;
        }
        let value = Ident::new(&format!("value{number}_"), Span::mixed_site());
        let (data, index) = (PassedType::of(&parameter.ty), takes.len());
        let taken = take(&quote!(borrowed), parameter, &call, index);
        takes.push(quote!(let #value = #taken;));
        passes.push(if data.is_owned() {
            quote!(#private::any_of(&#value))
        } else {
            quote!(&#value)
        });
        arguments.push(shown.all(match data {
            PassedType::Owned(_) | PassedType::Borrowed(_) => quote!(&*#value),
            PassedType::Slice(_) => quote!(#value.as_slice()),
            PassedType::Str => quote!(#value.as_str()),
        }));
    }
    let call_pattern = if takes.is_empty() {
        quote!(_)
    } else {
        quote!(#call)
    };
    let called = shown.call(quote!(#key), quote!(#(#arguments),*));
    let reference = shown.first(quote!(&));
    let hash = shown.call(quote!(#private::cache_key), quote!(#reference #called));
    quote! {
        |#call_pattern: &mut #private::Call<'_>| {
            #(#takes)*
            let _ = || #name(#(#passes),*);
            let #key = #path;
            #hash
        }
    }
}

/// Returns a closure that takes the arguments of the user's function from the call and runs it.
///
/// The types follow from the user's function: if they were repeated, an unknown one would be
/// reported twice.
fn body(task: &TaskModel) -> TokenStream {
    let private = private();
    let function = &task.function;
    let name = function.name();
    let call = Ident::new("call_", Span::mixed_site());
    let (takes, passes) = arguments(task, &call);
    let wait = function.is_async().then(|| quote!(.await));
    let called = quote!(#name(#(#passes),*) #wait);
    let output = TaskReturn::of(function);
    let ended = match &output {
        TaskReturn::Fallible { ok, error } => {
            // Separate statements, so that a value that is not data and a type that is not an error
            // are each reported at their own place.
            let value = Ident::new("value_", Span::mixed_site());
            let error_value = Ident::new("error_", Span::mixed_site());
            let success = success(ok, quote!(#value));
            let failure =
                CodeSpan::of(error.unwrap_or(ok)).all(quote!(#private::fallible::<(), _>));
            quote! {
                match #called {
                    ::core::result::Result::Ok(#value) => #success,
                    ::core::result::Result::Err(#error_value) => #failure(::core::result::Result::Err(#error_value)),
                }
            }
        }
        TaskReturn::Plain(ty) if is_plain(ty) => success(ty, called),
        TaskReturn::Plain(ty) | TaskReturn::Unclear(ty) => {
            // A body that fails behind an alias of `Result` would count as a success.
            let plain = CodeSpan::of(ty).first(quote!(plain()));
            success(
                ty,
                quote!({
                    #[allow(unused_imports)]
                    use #private::NotResult as _;
                    #private::PlainReturn(#called).#plain
                }),
            )
        }
        TaskReturn::Nothing => quote!({ #called; #private::success(()) }),
    };
    let call_pattern = if takes.is_empty() {
        quote!(_)
    } else {
        quote!(#call)
    };
    let place = CodeSpan::of(name);
    let (kind, run) = if function.is_async() {
        let pin = place.all(quote!(::std::boxed::Box::pin));
        (quote!(Async), quote!(#pin(async move { #ended })))
    } else {
        let pin = place.all(quote!(::std::boxed::Box::new));
        (quote!(Blocking), quote!(#pin(move || #ended)))
    };
    quote! {
        #private::TaskBody::#kind(|#call_pattern: &mut #private::Call<'_>| {
            #(#takes)*
            #run
        })
    }
}

/// Returns the code that takes the arguments from the call, and the code that passes them on.
fn arguments(task: &TaskModel, call: &Ident) -> (Vec<TokenStream>, Vec<TokenStream>) {
    let private = private();
    let (mut takes, mut passes) = (Vec::new(), Vec::new());
    let (mut index, mut required) = (0_usize, 0_usize);
    for (number, parameter) in task.function.parameters.iter().enumerate() {
        let value = Ident::new(&format!("value{number}_"), Span::mixed_site());
        let (data, place) = (PassedType::of(&parameter.ty), CodeSpan::of(&parameter.ty));
        let role = parameter.role();
        let is_owned =
            matches!(role, Role::Input | Role::Entry(EntryKind::Variable)) && data.is_owned();
        let ty = shared_type(&parameter.ty);
        let taken = match role {
            Role::Context => quote!(#private::Call::context(#call)),
            Role::Resource => {
                let open = place.first(quote!(#private::Call::resource));
                quote!(#open::<#ty>(#call))
            }
            Role::Entry(EntryKind::Connection) => {
                let open = place.first(quote!(#private::Call::client));
                quote!(#open::<#ty>(#call, #required))
            }
            Role::Entry(EntryKind::Variable) => take(&quote!(variable), parameter, call, required),
            Role::Entry(EntryKind::Secret) => quote!(#private::Call::secret(#call, #required)),
            Role::Input => {
                index += 1;
                let method = if is_owned {
                    quote!(owned)
                } else {
                    quote!(borrowed)
                };
                take(&method, parameter, call, index - 1)
            }
        };
        required += usize::from(matches!(role, Role::Entry(_)));
        takes.push(quote!(let #value = #taken;));
        passes.push(match role {
            _ if is_owned => quote!(#value),
            // Only the name of the type is checked by the macro: it may be another type.
            Role::Context | Role::Entry(EntryKind::Secret) => place.all(quote!(&#value)),
            _ => quote!(&#value),
        });
    }
    (takes, passes)
}

/// Returns the code that takes an input or a variable from the call. Its type follows from the
/// parameter that it is passed to.
fn take(method: &TokenStream, parameter: &Parameter, call: &Ident, index: usize) -> TokenStream {
    let (private, place) = (private(), CodeSpan::of(&parameter.ty));
    let stored = match PassedType::of(&parameter.ty) {
        PassedType::Owned(_) | PassedType::Borrowed(_) => None,
        PassedType::Slice(_) => Some(quote!(::std::vec::Vec<_>)),
        PassedType::Str => Some(quote!(::std::string::String)),
    };
    let stored = stored
        .map(|stored| place.all(stored))
        .map(|stored| quote!(::<#stored>));
    let take = place.all(quote!(#private::Call::#method));
    quote!(#take #stored(#call, #index))
}

/// Returns the code for the value of a body, with errors reported at its type.
fn success(ty: &Type, value: TokenStream) -> TokenStream {
    let (private, place) = (private(), CodeSpan::of(ty));
    let (success, value) = (place.all(quote!(#private::success)), place.shown(value));
    quote!(#success(#value))
}
