//! Where generated code stands: an error in it shows the user's code that it was made from.

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::token;

/// Where a piece of the user's code begins and ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    first: Span,
    last: Span,
}

impl Place {
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

    /// From the one parenthesis to the other.
    pub(crate) fn between(parentheses: token::Paren) -> Self {
        Self {
            first: parentheses.span.open(),
            last: parentheses.span.close(),
        }
    }

    /// Generated code that begins here.
    pub(crate) fn first(self, tokens: TokenStream) -> TokenStream {
        placed(tokens, self.first)
    }

    /// Generated code that ends here.
    pub(crate) fn last(self, tokens: TokenStream) -> TokenStream {
        placed(tokens, self.last)
    }

    /// The value as an argument that is shown here: all of it, which one token would not be.
    pub(crate) fn shown(self, value: TokenStream) -> TokenStream {
        self.call(quote!(::core::convert::identity), value)
    }

    /// A call that is shown here, with what it is called with.
    pub(crate) fn call(self, function: TokenStream, arguments: TokenStream) -> TokenStream {
        let function = self.all(function);
        let mut group = Group::new(Delimiter::Parenthesis, arguments);
        group.set_span(Span::mixed_site().located_at(self.last));
        let group = TokenTree::Group(group);
        quote!(#function #group)
    }

    /// Generated code that begins and ends here.
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

/// Only the place is the user's: the names are the macro's own, and lints see that no one wrote them.
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
