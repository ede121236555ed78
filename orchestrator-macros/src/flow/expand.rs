//! Expands a checked flow to code.

use super::missed::MissedTicks;
use super::model::{FlowModel, FlowOutput, ServingModel};
use crate::attribute::expand::{described, option, private};
use crate::attribute::names::written;
use crate::attribute::place::CodeSpan;
use crate::attribute::signature::{Parameter, Role};
use crate::attribute::value::OptionKind;
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;

pub(super) fn flow(flow: &FlowModel) -> TokenStream {
    let private = private();
    let function = &flow.function;
    let attributes = function.outer_attributes();
    let (visibility, name) = (&function.visibility, function.name());
    let parameters = flow.parameters().map(parameter);
    let values = flow.parameters().filter_map(Parameter::name);
    // An unclear type was reported by the check.
    let output = FlowOutput::of(function).spelled();
    let definition = definition(flow);
    quote! {
        #(#attributes)*
        // The macro has its own limit on the number of parameters.
        #[allow(clippy::too_many_arguments)]
        #visibility fn #name(#(#parameters),*) -> #private::Flow<#output> {
            static __FLOW: #private::FlowDef = #definition;
            #private::inventory::submit! { #private::FlowEntry(&__FLOW) }
            #private::flow(&__FLOW, (#(#values,)*))
        }
    }
}

/// A parameter of the function that callers see: the plain type, so that `"x".into()` is of that
/// type.
pub(crate) fn parameter(parameter: &Parameter) -> TokenStream {
    let (name, ty) = (parameter.name(), &parameter.ty);
    quote!(#name: #ty)
}

fn definition(flow: &FlowModel) -> TokenStream {
    let private = private();
    let label = flow.label.expand(&flow.function);
    let parameters = flow.parameters().map(described);
    let resources = flow.resources.iter().map(|ty| {
        let name = written(ty);
        quote!(#private::Resource { name: #name, type_name: #name, id: ::std::any::TypeId::of::<#ty> })
    });
    let requirements = flow.requirements.iter().flat_map(|(kind, names)| {
        let kind = quote!(#private::EntryKind::#kind);
        names.iter().map(move |name| quote!((#kind, #name)))
    });
    let is_async = flow.function.is_async();
    let serving = serving(&flow.serving);
    let max_active_runs = option(
        flow.max_active_runs
            .as_ref()
            .map(|runs| runs.value.expand()),
    );
    let timeout = option(flow.timeout.as_ref().map(|timeout| timeout.value.expand()));
    let defaults = flow.defaults.expand();
    let shown = |output| quote!({ use #private::NoJsonConversion as _; #private::JsonConversion::<#output>::JSON });
    let output = FlowOutput::of(&flow.function)
        .spelled()
        .map_or_else(|| option(None), shown);
    // An error for a parameter that is not data points at the parameters.
    let place = CodeSpan::between(flow.function.signature.paren_token);
    let function = place.call(quote!(&#private::Function), body(flow));
    quote! {
        #private::FlowDef {
            #label,
            parameters: &[#(#parameters),*],
            resources: &[#(#resources),*],
            requirements: &[#(#requirements),*],
            is_async: #is_async,
            #serving,
            max_active_runs: #max_active_runs,
            timeout: #timeout,
            defaults: #defaults,
            output: #output,
            function: #function,
        }
    }
}

fn serving(serving: &ServingModel) -> TokenStream {
    let private = private();
    let schedule = option(serving.schedule.as_ref().map(|schedule| {
        let cron = &schedule.value;
        let timezone = serving.timezone.as_ref().map_or("UTC", |zone| &zone.value);
        quote!(#private::ScheduleDef { cron: #cron, timezone: #timezone })
    }));
    let missed = serving.missed.as_ref();
    let missed = missed
        .map_or(MissedTicks::Latest, |given| given.value)
        .expand();
    let overlap = serving
        .overlap
        .as_ref()
        .map_or("Queue", |given| given.value);
    let overlap = Ident::new(overlap, Span::mixed_site());
    let depends_on_past = serving.depends_on_past;
    quote! {
        schedule: #schedule,
        missed: #missed,
        overlap: #private::Overlap::#overlap,
        depends_on_past: #depends_on_past
    }
}

/// Returns a closure that calls the user's function with the parameters of a run.
fn body(flow: &FlowModel) -> TokenStream {
    let function = &flow.function;
    let (user, name) = (function.inner(), function.name());
    let context = Ident::new("context_", Span::mixed_site());
    let (mut values, mut passes) = (Vec::new(), Vec::new());
    for (number, parameter) in function.parameters.iter().enumerate() {
        if parameter.role() == Role::Context {
            passes.push(quote!(&#context));
        } else {
            let value = Ident::new(&format!("value{number}_"), Span::mixed_site());
            passes.push(quote!(#value));
            values.push(value);
        }
    }
    let takes_context = values.len() < passes.len();
    let context_pattern = if takes_context {
        quote!(#context)
    } else {
        quote!(_)
    };
    let returned = FlowOutput::of(function);
    let check = check_output(&returned);
    let ended = ended(flow, &returned, &quote!(#name(#(#passes),*)));
    quote! {
        |(#(#values,)*), #context_pattern| {
            #user
            #check
            #ended
        }
    }
}

/// Returns the code that handles the return value of the user's function.
fn ended(flow: &FlowModel, returned: &FlowOutput<'_>, called: &TokenStream) -> TokenStream {
    let private = private();
    let function = &flow.function;
    let name = CodeSpan::of(function.name());
    let place = function.output().map_or(name, CodeSpan::of);
    match returned {
        FlowOutput::Fallible { ok, error, .. } => {
            let fallible = name.all(quote!(#private::FlowBody::fallible));
            // A statement of its own, so that a mistake in the error type is reported at that type.
            let place = error.map_or(place, CodeSpan::of);
            let into_error = place.all(quote!(#private::IntoTaskError::into_task_error));
            let (value, error) = (
                Ident::new("value_", Span::mixed_site()),
                Ident::new("error_", Span::mixed_site()),
            );
            let shown = place.shown(quote!(#error));
            quote! {
                #fallible::<#ok, _>(async move {
                    match #called.await {
                        ::core::result::Result::Ok(#value) => ::core::result::Result::Ok(#value),
                        ::core::result::Result::Err(#error) => ::core::result::Result::Err(#into_error(#shown)),
                    }
                })
            }
        }
        FlowOutput::Nothing | FlowOutput::Wiring(_) if function.is_async() => {
            let wiring = name.all(quote!(#private::FlowBody::wiring));
            quote!(#wiring(async move { #called.await }))
        }
        FlowOutput::Nothing | FlowOutput::Wiring(_) => {
            let wired = place.all(quote!(#private::FlowBody::wired));
            quote!(#wired(#called))
        }
    }
}

/// Checks that the output has the type that its name suggests: `Node` may refer to something other
/// than that of the prelude.
fn check_output(returned: &FlowOutput<'_>) -> Option<TokenStream> {
    let FlowOutput::Wiring(ty) = returned else {
        return None;
    };
    let (private, place, spelled) = (private(), CodeSpan::of(ty), returned.spelled()?);
    let found = place.all(quote!(as #private::FlowReturn>::Output));
    let open = place.first(quote!(::core::marker::PhantomData<<));
    let close = place.last(quote!(>));
    let expected = place.first(quote!(::core::marker::PhantomData::<));
    Some(quote!(let _: #open #ty #found #close = #expected #spelled #close;))
}
