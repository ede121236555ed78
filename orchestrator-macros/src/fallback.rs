//! What is emitted when something is wrong: every error, and an item to stand in for the one that was asked for, so
//! that the code which uses it compiles and the user sees one error, not twenty.

use crate::data::{Data, Fault, Wiring, ungrouped};
use crate::flow::Returned;
use crate::place::Place;
use crate::signature::{Function, Parameter, Role};
use crate::task::{self, Output};
use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Generics, Type, parse_quote};

/// The mistakes found so far.
#[derive(Debug, Default)]
pub(crate) struct Errors(Option<syn::Error>);

impl Errors {
    pub(crate) fn push(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(first) => first.combine(error),
            None => self.0 = Some(error),
        }
    }

    /// A mistake at `tokens`.
    pub(crate) fn at(&mut self, tokens: impl ToTokens, message: impl std::fmt::Display) {
        self.push(syn::Error::new_spanned(tokens, message));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn append(&mut self, others: Self) {
        if let Some(error) = others.0 {
            self.push(error);
        }
    }

    /// Code that reports each of them, one by one.
    fn each(&self) -> impl Iterator<Item = TokenStream> {
        self.0
            .iter()
            .flat_map(|errors| errors.clone())
            .map(|error| error.to_compile_error())
    }

    /// An item with the errors before it.
    pub(crate) fn with(&self, item: impl ToTokens) -> TokenStream {
        let errors = self.each();
        quote!(#(#errors)* #item)
    }
}

/// The function that a task would have been to its callers.
pub(crate) fn task(function: &Function, errors: &Errors) -> TokenStream {
    let private = task::private();
    let output = match Output::of(function) {
        Output::Nothing | Output::Unclear(_) => Some(quote!(())),
        Output::Plain(ty) | Output::Fallible { ok: ty, .. } => known(ty),
    };
    let mut stand_in = StandIn::new(function, &quote!(#private::Node), output);
    for parameter in stand_in.inputs() {
        let stored = known(&parameter.ty).filter(|_| is_right(parameter));
        let ty = stored.map(|stored| quote!(impl #private::IntoInput<#stored>));
        stand_in.take(parameter, ty);
    }
    errors.with(stand_in.item())
}

/// The function that a flow would have been to its callers.
pub(crate) fn flow(function: &Function, errors: &Errors) -> TokenStream {
    let private = task::private();
    let output = match (Returned::of(function).spelled(), function.output()) {
        (output, None) => output,
        (Some(output), Some(ty)) if Fault::of(ty).is_none() => Some(output),
        (_, Some(ty)) => known(ty),
    };
    let mut stand_in = StandIn::new(function, &quote!(#private::Flow), output);
    for parameter in stand_in.inputs() {
        let is_owned = Data::of(&parameter.ty).is_owned() && is_right(parameter);
        stand_in.take(parameter, is_owned.then(|| parameter.ty.to_token_stream()));
    }
    errors.with(stand_in.item())
}

/// Whether the type is one that a value can be passed for.
fn is_right(parameter: &Parameter) -> bool {
    let ty = match ungrouped(&parameter.ty) {
        Type::Reference(reference) => &reference.elem,
        other => other,
    };
    Wiring::of_ours(ty).is_none() && Fault::of(ty).is_none()
}

/// The data that was meant, where that can be told.
fn known(ty: &Type) -> Option<TokenStream> {
    if let Some(wiring) = Wiring::of_ours(ty) {
        return Fault::of(wiring.argument())
            .is_none()
            .then(|| wiring.value());
    }
    let data = Data::of(ty);
    let is_known = match data {
        Data::Owned(ty) | Data::Borrowed(ty) | Data::Slice(ty) => Fault::of(ty).is_none(),
        Data::Str => true,
    };
    is_known.then(|| data.stored(Place::of(ty)))
}

/// A function of the same name that can be called like the one that was meant.
struct StandIn<'a> {
    function: &'a Function,
    generics: Generics,
    parameters: Vec<TokenStream>,
    output: TokenStream,
}

impl<'a> StandIn<'a> {
    fn new(function: &'a Function, wrapper: &TokenStream, output: Option<TokenStream>) -> Self {
        let mut generics = function.signature.generics.clone();
        // What is not known is whatever the caller takes it for.
        let output = output.unwrap_or_else(|| {
            generics.params.push(parse_quote!(__Output));
            quote!(__Output)
        });
        let receiver = function.signature.receiver().map(ToTokens::to_token_stream);
        Self {
            function,
            generics,
            parameters: receiver.into_iter().collect(),
            output: quote!(#wrapper<#output>),
        }
    }

    fn inputs(&self) -> impl Iterator<Item = &'a Parameter> + use<'a> {
        self.function
            .parameters
            .iter()
            .filter(|parameter| parameter.role() == Role::Input)
    }

    /// What is passed for a parameter that cannot be is not looked at.
    fn take(&mut self, parameter: &Parameter, ty: Option<TokenStream>) {
        let name = parameter
            .name()
            .map_or_else(|| quote!(_), ToTokens::to_token_stream);
        let ty = ty.unwrap_or_else(|| quote!(impl ::core::marker::Sized));
        self.parameters.push(quote!(#name: #ty));
    }

    fn item(&self) -> TokenStream {
        let Self {
            function,
            generics,
            parameters,
            output,
        } = self;
        let attributes = function.outer_attributes();
        let (visibility, name, clause) = (
            &function.visibility,
            function.name(),
            &generics.where_clause,
        );
        quote! {
            #(#attributes)*
            #[allow(dead_code, unused_variables, clippy::all, clippy::pedantic)]
            #visibility fn #name #generics(#(#parameters),*) -> #output #clause {
                ::core::unreachable!()
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proc_macro2::{TokenStream, TokenTree};
    use syn::LitStr;

    /// The texts of the errors in an expansion.
    pub(crate) fn messages(expansion: TokenStream) -> Vec<String> {
        let mut messages = Vec::new();
        let mut is_error = false;
        for token in expansion {
            match token {
                TokenTree::Ident(ident) => is_error = ident == "compile_error",
                TokenTree::Group(group) if is_error => {
                    messages.extend(syn::parse2::<LitStr>(group.stream()).map(|text| text.value()));
                    is_error = false;
                }
                TokenTree::Group(group) => messages.extend(self::messages(group.stream())),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
        messages
    }

    type Macro = fn(TokenStream, TokenStream) -> TokenStream;

    /// Each line is an attribute's options, and after `=>` a part of each message that is expected.
    #[track_caller]
    pub(crate) fn check_options(expand: Macro, item: &str, cases: &str) {
        for (options, expected) in lines(cases) {
            check(expand, options, item, &expected);
        }
    }

    /// Each line is an item, and after `=>` a part of each message that is expected.
    #[track_caller]
    pub(crate) fn check_items(expand: Macro, cases: &str) {
        for (item, expected) in lines(cases) {
            check(expand, "", item, &expected);
        }
    }

    fn lines(cases: &str) -> impl Iterator<Item = (&str, Vec<&str>)> {
        cases
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(|line| match line.split_once("=>") {
                Some((case, messages)) => {
                    (case.trim(), messages.split(";;").map(str::trim).collect())
                }
                None => (line, Vec::new()),
            })
    }

    #[track_caller]
    fn check(expand: Macro, options: &str, item: &str, expected: &[&str]) {
        let parse = |code: &str| {
            code.parse::<TokenStream>()
                .unwrap_or_else(|error| panic!("{code}: {error}"))
        };
        let expansion = expand(parse(options), parse(item));
        let messages = messages(expansion.clone());
        assert_eq!(
            messages.len(),
            expected.len(),
            "({options}) {item}: {messages:#?}"
        );
        for (message, part) in messages.iter().zip(expected) {
            assert!(
                message.contains(part),
                "({options}) {item}: expected `{part}` in `{message}`"
            );
        }
        syn::parse2::<syn::File>(expansion)
            .unwrap_or_else(|error| panic!("({options}) {item}: {error}"));
    }
}
