//! A checked task to code.

use super::model::{Cache, Delay, Label, Output, Settings, Task};
use crate::code;
use crate::data::{Data, arguments_of, is_plain};
use crate::names::written;
use crate::options::Given;
use crate::place::Place;
use crate::signature::{Function, Parameter, Role};
use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote};
use std::time::Duration;
use syn::ext::IdentExt;
use syn::{ExprPath, Type};

/// What generated code calls.
pub(crate) fn private() -> TokenStream {
    quote!(::orchestrator::__private)
}

pub(super) fn task(task: &Task) -> TokenStream {
    let private = private();
    let function = &task.function;
    let attributes = function.outer_attributes();
    let (visibility, name) = (&function.visibility, function.name());
    let parameters = task.inputs().map(parameter);
    let inputs = task.inputs().filter_map(Parameter::name);
    let output = output_type(&Output::of(function));
    let definition = definition(task);
    quote! {
        #(#attributes)*
        // There is a limit of our own.
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

/// A parameter of the function that callers see.
fn parameter(parameter: &Parameter) -> TokenStream {
    let (private, name, place) = (private(), parameter.name(), Place::of(&parameter.ty));
    let stored = Data::of(&parameter.ty).stored(place);
    let open = place.first(quote!(impl #private::IntoInput));
    let close = place.last(quote!(>));
    quote!(#name: #open<#stored #close)
}

/// The type of the values of a task's nodes.
fn output_type(output: &Output<'_>) -> TokenStream {
    output.value().map_or_else(|| quote!(()), |ty| quote!(#ty))
}

fn definition(task: &Task) -> TokenStream {
    let private = private();
    let label = label(&task.label, &task.function);
    let parameters = task.inputs().map(described);
    let resources = task.resources().map(|parameter| {
        let described = names(parameter);
        let ty = resource_type(&parameter.ty);
        quote!(#private::Resource { #described, id: ::std::any::TypeId::of::<#ty> })
    });
    let (options, body, cooperative) = (settings(&task.settings), body(task), task.has_context());
    let (user, cache) = (task.function.inner(), cache(task));
    quote! {{
        #user
        #private::TaskDef {
            #label,
            parameters: &[#(#parameters),*],
            resources: &[#(#resources),*],
            options: #options,
            body: #body,
            cooperative: #cooperative,
            cache: #cache,
            same: #private::Same::new(),
        }
    }}
}

/// The fields that tasks and flows have in common.
pub(crate) fn label(label: &Label, function: &Function) -> TokenStream {
    let name = label.name.as_ref().map_or_else(
        || function.name().unraw().to_string(),
        |name| name.value.clone(),
    );
    let description = label
        .description
        .as_ref()
        .map_or_else(|| function.documentation(), |text| text.value.clone());
    let tags = label.tags.iter().flat_map(|tags| &tags.value);
    quote! {
        name: #name,
        crate_name: ::core::env!("CARGO_PKG_NAME"),
        module: ::core::module_path!(),
        file: ::core::file!(),
        line: ::core::line!(),
        description: #description,
        tags: &[#(#tags),*]
    }
}

pub(crate) fn described(parameter: &Parameter) -> TokenStream {
    let (private, names) = (private(), names(parameter));
    let unordered = match Data::of(&parameter.ty) {
        Data::Owned(ty) | Data::Borrowed(ty) => arguments_of(ty, "HashSet").is_some(),
        Data::Slice(_) | Data::Str => false,
    };
    let in_key = parameter.no_cache.is_empty();
    quote!(#private::Parameter { #names, unordered: #unordered, in_key: #in_key })
}

fn names(parameter: &Parameter) -> TokenStream {
    let name = parameter
        .name()
        .map(|name| name.unraw().to_string())
        .unwrap_or_default();
    let type_name = written(&parameter.ty);
    quote!(name: #name, type_name: #type_name)
}

/// What stands behind the reference.
fn resource_type(ty: &Type) -> &Type {
    match Data::of(ty) {
        Data::Borrowed(resource) => resource,
        Data::Owned(_) | Data::Slice(_) | Data::Str => ty,
    }
}

/// The options of a task, or the defaults of a flow.
pub(crate) fn settings(settings: &Settings) -> TokenStream {
    let private = private();
    let options = Ident::new("options_", Span::mixed_site());
    let mut set = Vec::new();
    let mut option = |name: &str, value: Option<TokenStream>| {
        let name = format_ident!("{name}");
        set.extend(
            value.map(|value| quote!(#options.#name = ::core::option::Option::Some(#value);)),
        );
    };
    let Settings {
        retries,
        retry_delay,
        backoff,
        max_retry_delay,
        retry_if,
        timeout,
        trigger,
        pool,
        pool_slots,
    } = settings;
    option("retries", retries.as_ref().map(count));
    option(
        "retry_delay",
        retry_delay.as_ref().map(|delay| delay_value(&delay.value)),
    );
    let backoff = backoff
        .as_ref()
        .map(|backoff| backoff.value)
        .filter(|backoff| backoff.is_finite());
    option("backoff", backoff.map(|backoff| quote!(#backoff)));
    option(
        "max_retry_delay",
        max_retry_delay.as_ref().map(|delay| duration(delay.value)),
    );
    option(
        "retry_if",
        retry_if.as_ref().map(|path| predicate(&path.value)),
    );
    option(
        "timeout",
        timeout.as_ref().map(|timeout| duration(timeout.value)),
    );
    let trigger = trigger
        .as_ref()
        .map(|trigger| format_ident!("{}", trigger.value));
    option(
        "trigger",
        trigger.map(|rule| quote!(#private::Trigger::#rule)),
    );
    let slots = pool_slots.as_ref().map_or_else(|| quote!(1), count);
    let pool = pool.as_ref().map(|pool| &pool.value);
    option(
        "pool",
        pool.map(|name| quote!(#private::Pool { name: #name, slots: #slots })),
    );
    if set.is_empty() {
        return quote!(#private::TaskOptions::NONE);
    }
    quote! {{
        let mut #options = #private::TaskOptions::NONE;
        #(#set)*
        #options
    }}
}

fn cache(task: &Task) -> TokenStream {
    let private = private();
    let Cache {
        expiry: Some(expiry),
        key,
        version,
    } = &task.cache
    else {
        return quote!(::core::option::Option::None);
    };
    let expiry = option(expiry.value.map(duration));
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
            expiry: #expiry,
            code: #private::Code::#code,
            key: #key,
        })
    }
}

pub(crate) fn option(value: Option<TokenStream>) -> TokenStream {
    match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    }
}

/// A closure that hashes what the function makes of the inputs.
///
/// What the inputs are is for the task to say, whatever the function takes: a closure that nobody calls passes them on.
fn key_function(task: &Task, path: &ExprPath) -> TokenStream {
    let (private, shown, name) = (private(), Place::of(path), task.function.name());
    let [call, key] = ["call_", "key_"].map(|name| Ident::new(name, Span::mixed_site()));
    let (mut takes, mut passes, mut arguments) = (Vec::new(), Vec::new(), Vec::new());
    for (number, parameter) in task.function.parameters.iter().enumerate() {
        if parameter.role() != Role::Input {
            passes.push(quote!(#private::any()));
            continue;
        }
        let value = Ident::new(&format!("value{number}_"), Span::mixed_site());
        let (data, index) = (Data::of(&parameter.ty), takes.len());
        let taken = take(&quote!(borrowed), parameter, &call, index);
        takes.push(quote!(let #value = #taken;));
        passes.push(if data.is_owned() {
            quote!(#private::any_of(&#value))
        } else {
            quote!(&#value)
        });
        arguments.push(shown.all(match data {
            Data::Owned(_) | Data::Borrowed(_) => quote!(&*#value),
            Data::Slice(_) => quote!(#value.as_slice()),
            Data::Str => quote!(#value.as_str()),
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

/// A number that was checked to be in range; what is not has been reported.
pub(crate) fn count(number: &Given<u64>) -> TokenStream {
    u32::try_from(number.value)
        .unwrap_or(u32::MAX)
        .to_token_stream()
}

/// Given its type first, so that a function of another type is what the error is about.
fn predicate(path: &ExprPath) -> TokenStream {
    let private = private();
    let predicate = Ident::new("predicate_", Span::mixed_site());
    quote! {{
        let #predicate: fn(&#private::TaskError) -> bool = #path;
        #predicate
    }}
}

fn delay_value(delay: &Delay) -> TokenStream {
    let private = private();
    match delay {
        Delay::Fixed(delay) => {
            let delay = duration(*delay);
            quote!(#private::Delay::Fixed(#delay))
        }
        Delay::List(delays) => {
            let delays = delays.iter().copied().map(duration);
            quote!(#private::Delay::List(const { &[#(#delays),*] }))
        }
    }
}

pub(crate) fn duration(duration: Duration) -> TokenStream {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    quote!(::core::time::Duration::from_millis(#milliseconds))
}

/// A closure that takes the arguments of the user's function from the call and runs it.
///
/// The types follow from the user's function: written out again, an unknown one would be reported again.
fn body(task: &Task) -> TokenStream {
    let private = private();
    let function = &task.function;
    let name = function.name();
    let call = Ident::new("call_", Span::mixed_site());
    let (takes, passes) = arguments(task, &call);
    let wait = function.is_async().then(|| quote!(.await));
    let called = quote!(#name(#(#passes),*) #wait);
    let output = Output::of(function);
    let ended = match &output {
        Output::Fallible { ok, error } => {
            // Apart, so that a value that is no data and an error that is none are each shown where they stand.
            let value = Ident::new("value_", Span::mixed_site());
            let error_value = Ident::new("error_", Span::mixed_site());
            let success = success(ok, quote!(#value));
            let failure = Place::of(error.unwrap_or(ok)).all(quote!(#private::fallible::<(), _>));
            quote! {
                match #called {
                    ::core::result::Result::Ok(#value) => #success,
                    ::core::result::Result::Err(#error_value) => #failure(::core::result::Result::Err(#error_value)),
                }
            }
        }
        Output::Plain(ty) if is_plain(ty) => success(ty, called),
        Output::Plain(ty) | Output::Unclear(ty) => {
            // A body that fails behind an alias of `Result` would count as a success.
            let plain = Place::of(ty).first(quote!(plain()));
            success(
                ty,
                quote!({
                    #[allow(unused_imports)]
                    use #private::NotResult as _;
                    #private::Returned(#called).#plain
                }),
            )
        }
        Output::Nothing => quote!({ #called; #private::success(()) }),
    };
    let call_pattern = if takes.is_empty() {
        quote!(_)
    } else {
        quote!(#call)
    };
    let place = Place::of(name);
    let (kind, run) = if function.is_async() {
        let pin = place.all(quote!(::std::boxed::Box::pin));
        (quote!(Async), quote!(#pin(async move { #ended })))
    } else {
        let pin = place.all(quote!(::std::boxed::Box::new));
        (quote!(Blocking), quote!(#pin(move || #ended)))
    };
    quote! {
        #private::Body::#kind(|#call_pattern: &mut #private::Call<'_>| {
            #(#takes)*
            #run
        })
    }
}

/// How the arguments come from the call, and how they are passed on.
fn arguments(task: &Task, call: &Ident) -> (Vec<TokenStream>, Vec<TokenStream>) {
    let private = private();
    let (mut takes, mut passes) = (Vec::new(), Vec::new());
    let mut index = 0_usize;
    for (number, parameter) in task.function.parameters.iter().enumerate() {
        let value = Ident::new(&format!("value{number}_"), Span::mixed_site());
        let (data, place) = (Data::of(&parameter.ty), Place::of(&parameter.ty));
        let is_owned = parameter.role() == Role::Input && data.is_owned();
        let taken = match parameter.role() {
            Role::Context => quote!(#private::Call::context(#call)),
            Role::Resource => {
                let (open, ty) = (
                    place.first(quote!(#private::Call::resource)),
                    resource_type(&parameter.ty),
                );
                quote!(#open::<#ty>(#call))
            }
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
        takes.push(quote!(let #value = #taken;));
        passes.push(if is_owned {
            quote!(#value)
        } else {
            quote!(&#value)
        });
    }
    (takes, passes)
}

/// An input, taken from the call; its type follows from what it is passed to.
fn take(method: &TokenStream, parameter: &Parameter, call: &Ident, index: usize) -> TokenStream {
    let (private, place) = (private(), Place::of(&parameter.ty));
    let stored = match Data::of(&parameter.ty) {
        Data::Owned(_) | Data::Borrowed(_) => None,
        Data::Slice(_) => Some(quote!(::std::vec::Vec<_>)),
        Data::Str => Some(quote!(::std::string::String)),
    };
    let stored = stored
        .map(|stored| place.all(stored))
        .map(|stored| quote!(::<#stored>));
    let take = place.all(quote!(#private::Call::#method));
    quote!(#take #stored(#call, #index))
}

/// The value of a body, shown at its type.
fn success(ty: &Type, value: TokenStream) -> TokenStream {
    let (private, place) = (private(), Place::of(ty));
    let (success, value) = (place.all(quote!(#private::success)), place.shown(value));
    quote!(#success(#value))
}
