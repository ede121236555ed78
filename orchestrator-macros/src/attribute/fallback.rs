//! The output if there are errors: each error, and a stand-in for the requested item, so that the
//! code that uses it compiles and the user sees one error, not twenty.

use super::data::{FlowPart, PassedType, TypeFault, ungrouped};
use super::place::CodeSpan;
use super::signature::{Parameter, Role, UserFunction};
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

    /// Adds a mistake at `tokens`.
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

    /// Returns code that reports each of them.
    fn each(&self) -> impl Iterator<Item = TokenStream> {
        self.0
            .iter()
            .flat_map(|errors| errors.clone())
            .map(|error| error.to_compile_error())
    }

    /// Returns an item with the errors before it.
    pub(crate) fn with(&self, item: impl ToTokens) -> TokenStream {
        let errors = self.each();
        quote!(#(#errors)* #item)
    }
}

/// Returns `true` if a value can be passed for a parameter of this type.
pub(crate) fn is_right(parameter: &Parameter) -> bool {
    let ty = match ungrouped(&parameter.ty) {
        Type::Reference(reference) => &reference.elem,
        other => other,
    };
    FlowPart::of_ours(ty).is_none() && TypeFault::of(ty).is_none()
}

/// Returns the intended data type, if it can be inferred.
pub(crate) fn known_data(ty: &Type) -> Option<TokenStream> {
    if let Some(wiring) = FlowPart::of_ours(ty) {
        return TypeFault::of(wiring.argument())
            .is_none()
            .then(|| wiring.value());
    }
    let data = PassedType::of(ty);
    let is_known = match data {
        PassedType::Owned(ty) | PassedType::Borrowed(ty) | PassedType::Slice(ty) => {
            TypeFault::of(ty).is_none()
        }
        PassedType::Str => true,
    };
    is_known.then(|| data.stored(CodeSpan::of(ty)))
}

/// A function of the same name that can be called like the intended one.
pub(crate) struct StandIn<'a> {
    function: &'a UserFunction,
    generics: Generics,
    parameters: Vec<TokenStream>,
    output: TokenStream,
}

impl<'a> StandIn<'a> {
    pub(crate) fn new(
        function: &'a UserFunction,
        wrapper: &TokenStream,
        output: Option<TokenStream>,
    ) -> Self {
        let mut generics = function.signature.generics.clone();
        // An unknown type becomes whatever type the caller expects.
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

    pub(crate) fn inputs(&self) -> impl Iterator<Item = &'a Parameter> + use<'a> {
        self.function
            .parameters
            .iter()
            .filter(|parameter| parameter.role() == Role::Input)
    }

    /// An argument for an invalid parameter is not checked.
    pub(crate) fn take(&mut self, parameter: &Parameter, ty: Option<TokenStream>) {
        let name = parameter
            .name()
            .map_or_else(|| quote!(_), ToTokens::to_token_stream);
        let ty = ty.unwrap_or_else(|| quote!(impl ::core::marker::Sized));
        self.parameters.push(quote!(#name: #ty));
    }

    pub(crate) fn item(&self) -> TokenStream {
        let Self {
            function,
            generics,
            parameters,
            output,
        } = self;
        let attributes = function.outer_attributes();
        let not_passed = function.parameters.iter().filter_map(|parameter| {
            let is_passed = parameter.role() == Role::Input;
            Some(&parameter.ty).filter(|_| !is_passed && is_right(parameter))
        });
        let (visibility, name, clause) = (
            &function.visibility,
            function.name(),
            &generics.where_clause,
        );
        quote! {
            #(#attributes)*
            #[allow(dead_code, unused_variables, clippy::all, clippy::pedantic)]
            #visibility fn #name #generics(#(#parameters),*) -> #output #clause {
                // Otherwise, their imports would be unused.
                #(let _ = ::core::marker::PhantomData::<#not_passed>;)*
                ::core::unreachable!()
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proc_macro2::{TokenStream, TokenTree};
    use syn::LitStr;

    /// Returns the texts of the errors in an expansion.
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
