//! Spans of generated code: an error in it points at the user's code that it was generated from.

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::token;

/// The beginning and the end of a piece of the user's code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodeSpan {
    first: Span,
    last: Span,
}

impl CodeSpan {
    pub(crate) fn of(code: impl ToTokens) -> Self {
        let mut tokens = code.into_token_stream().into_iter();
        let first = tokens.next();
        let last = tokens.last();
        Self {
            first: first.as_ref().map_or_else(Span::call_site, opening),
            last: last
                .as_ref()
                .or(first.as_ref())
                .map_or_else(Span::call_site, closing),
        }
    }

    /// Creates the place from the opening to the closing parenthesis.
    pub(crate) fn between(parentheses: token::Paren) -> Self {
        Self {
            first: parentheses.span.open(),
            last: parentheses.span.close(),
        }
    }

    /// Places the beginning of generated code here.
    pub(crate) fn first(self, tokens: TokenStream) -> TokenStream {
        placed(tokens, self.first)
    }

    /// Places the end of generated code here.
    pub(crate) fn last(self, tokens: TokenStream) -> TokenStream {
        placed(tokens, self.last)
    }

    /// Returns the value as an argument at this place. Errors then show the whole place, which a
    /// single token would not do.
    pub(crate) fn shown(self, value: TokenStream) -> TokenStream {
        self.call(quote!(::core::convert::identity), value)
    }

    /// Returns a call at this place, with its arguments.
    pub(crate) fn call(self, function: TokenStream, arguments: TokenStream) -> TokenStream {
        let function = self.all(function);
        let mut group = Group::new(Delimiter::Parenthesis, arguments);
        group.set_span(Span::mixed_site().located_at(self.last));
        let group = TokenTree::Group(group);
        quote!(#function #group)
    }

    /// Places generated code here.
    pub(crate) fn all(self, tokens: TokenStream) -> TokenStream {
        let mut tokens = tokens.into_iter();
        let first = self.first(tokens.next().into_iter().collect());
        let rest = self.last(tokens.collect());
        quote!(#first #rest)
    }
}

fn opening(token: &TokenTree) -> Span {
    match token {
        TokenTree::Group(group) => group.span_open(),
        other => other.span(),
    }
}

fn closing(token: &TokenTree) -> Span {
    match token {
        TokenTree::Group(group) => group.span_close(),
        other => other.span(),
    }
}

/// Sets the location of tokens. Only the location is the user's: names resolve as the macro's own,
/// and lints treat the tokens as generated.
fn placed(tokens: TokenStream, place: Span) -> TokenStream {
    let place_token = |token| match token {
        TokenTree::Group(group) => {
            let mut moved = Group::new(group.delimiter(), placed(group.stream(), place));
            moved.set_span(Span::mixed_site().located_at(place));
            TokenTree::Group(moved)
        }
        mut other => {
            other.set_span(Span::mixed_site().located_at(place));
            other
        }
    };
    tokens.into_iter().map(place_token).collect()
}
