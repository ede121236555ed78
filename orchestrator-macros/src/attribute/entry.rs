//! What is looked up by name: connections, variables and secrets.

use super::literal::{literal, string};
use super::names::written;
use orchestrator_grammar::names;
use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote};
use syn::punctuated::Punctuated;
use syn::{Attribute, Error, Expr, LitStr, MacroDelimiter, Meta, Result, Token};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum EntryKind {
    Connection,
    Variable,
    Secret,
}

impl EntryKind {
    /// All kinds, in the order in which a flow declares them.
    pub(crate) const ALL: [Self; 3] = [Self::Connection, Self::Variable, Self::Secret];

    /// Returns the noun for one of them, which is also the name of its mark.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Variable => "variable",
            Self::Secret => "secret",
        }
    }

    /// Returns the name of the option of a flow that lists them.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::Connection => "connections",
            Self::Variable => "variables",
            Self::Secret => "secrets",
        }
    }

    /// Returns the mark with this name, for messages.
    pub(crate) fn mark(self, name: &str) -> String {
        format!("#[{}(\"{name}\")]", self.noun())
    }

    /// Returns a mark with a name, for messages.
    pub(crate) fn example(self) -> String {
        self.mark(match self {
            Self::Connection => "postgres_default",
            Self::Variable => "batch_size",
            Self::Secret => "scoring_api_key",
        })
    }

    /// Returns the reason why one of them cannot have this name.
    pub(crate) fn fault(self, name: &str) -> Option<String> {
        if self == Self::Connection && name.contains("://") {
            // The URL may have a password: the message does not repeat it.
            return Some(
                "expected the name of a connection, got a URL: write a name such as `\"postgres_default\"`, and give the \
                 URL to the environment or the runtime under that name"
                    .to_owned(),
            );
        }
        names::fault(name)
    }

    /// Reads the name in a mark such as `#[connection("shop")]`.
    pub(crate) fn name_in(self, mark: &Attribute) -> Result<LitStr> {
        let (noun, example) = (self.noun(), self.example());
        let missing = || {
            let message = format!("`#[{noun}]` needs the name of a {noun}: write `{example}`");
            Error::new_spanned(mark, message)
        };
        let without_parentheses = |got: TokenStream, name: &Expr| {
            let right = self.meant(name).unwrap_or_else(|| example.clone());
            let message = format!("expected the name in parentheses: write `{right}`");
            Error::new_spanned(got, message)
        };
        let list = match &mark.meta {
            Meta::List(list) => list,
            Meta::Path(_) => return Err(missing()),
            Meta::NameValue(pair) => {
                let (equals, value) = (&pair.eq_token, &pair.value);
                return Err(without_parentheses(quote!(#equals #value), value));
            }
        };
        let arguments = list
            .parse_args_with(Punctuated::<Expr, Token![,]>::parse_terminated)
            .map_err(|error| Error::new(error.span(), format!("expected `{example}`")))?;
        let mut arguments = arguments.iter();
        let name = arguments.next().ok_or_else(missing)?;
        if !matches!(list.delimiter, MacroDelimiter::Paren(_)) {
            return Err(without_parentheses(list.tokens.clone(), name));
        }
        let Some(name) = literal(name).and_then(string) else {
            return Err(self.not_a_string(name));
        };
        if let Some(second) = arguments.next() {
            let message = if literal(second).and_then(string).is_some() {
                format!(
                    "expected one name: a parameter takes one {noun}; add a parameter for another one"
                )
            } else {
                let right = self.mark(&name.value());
                format!("expected the name alone, without options: write `{right}`")
            };
            return Err(Error::new_spanned(second, message));
        }
        match self.fault(&name.value()) {
            Some(fault) => Err(Error::new_spanned(name, fault)),
            None => Ok(name.clone()),
        }
    }

    fn not_a_string(self, got: &Expr) -> Error {
        let (noun, written) = (self.noun(), written(got));
        let message = match self.meant(got) {
            Some(right) => format!("expected the name in quotes, got `{written}`: write `{right}`"),
            None => format!(
                "expected the name of a {noun} in quotes, got `{written}`: the names are known before anything runs; if \
                 this one is data, call `context.{noun}(…)` in the body"
            ),
        };
        Error::new_spanned(got, message)
    }

    /// Returns the mark that was meant by a string, a word or a `name = "…"`.
    fn meant(self, expression: &Expr) -> Option<String> {
        let name = match expression {
            Expr::Assign(assign) => literal(&assign.right).and_then(string)?.value(),
            // A word in upper case is a constant.
            Expr::Path(path) => path
                .path
                .get_ident()
                .map(ToString::to_string)
                .filter(|word| word.starts_with(char::is_lowercase))?,
            other => literal(other).and_then(string)?.value(),
        };
        names::fault(&name).is_none().then(|| self.mark(&name))
    }
}

/// The variant of the library's enums.
impl ToTokens for EntryKind {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let variant = match self {
            Self::Connection => "Connection",
            Self::Variable => "Variable",
            Self::Secret => "Secret",
        };
        Ident::new(variant, Span::mixed_site()).to_tokens(tokens);
    }
}
