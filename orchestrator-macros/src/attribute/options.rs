//! The arguments of an attribute, `retries = 3, tags = ["daily"]`, and their values.

use super::fallback::Errors;
use super::known::{KnownOptions, OptionForm};
use super::literal::{literal, string, ungrouped};
use super::names::{did_you_mean_one_of, list, nearest, written};
use orchestrator_grammar::duration;
use proc_macro2::TokenStream;
use quote::ToTokens;
use std::time::Duration;
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, Ident, Lit, LitStr, Result, Token, Type, bracketed, parenthesized, token};

/// An option as given by the user.
pub(crate) struct Argument {
    key: Ident,
    value: ArgumentValue,
    example: &'static str,
}

enum ArgumentValue {
    None,
    Expression(Expr),
    Types(Vec<Type>),
    Options(TokenStream),
}

/// The value of an option, with its tokens for the messages about it.
pub(crate) struct OptionValue<T> {
    pub(crate) key: Ident,
    pub(crate) value: T,
    pub(crate) tokens: TokenStream,
}

impl<T> OptionValue<T> {
    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> OptionValue<U> {
        OptionValue {
            key: self.key,
            value: f(self.value),
            tokens: self.tokens,
        }
    }
}

/// Reads all arguments. Those that are unknown, repeated or malformed are reported and left out.
pub(crate) fn arguments(
    tokens: TokenStream,
    options: &KnownOptions,
    errors: &mut Errors,
) -> Vec<Argument> {
    let mut arguments: Vec<Argument> = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    let parser = |input: ParseStream<'_>| {
        while !input.is_empty() {
            match argument(input, options) {
                Ok(argument) if seen.contains(&argument.name()) => {
                    errors.at(
                        &argument.key,
                        format!(
                            "option `{}` is given twice: leave one of them out",
                            argument.key
                        ),
                    );
                }
                Ok(argument) => {
                    seen.push(argument.name());
                    arguments.push(argument);
                }
                Err(error) => {
                    errors.push(error);
                    skip_to_comma(input);
                }
            }
            if !input.is_empty() && input.parse::<Option<Token![,]>>()?.is_none() {
                errors.push(input.error("expected a comma between two options"));
                skip_to_comma(input);
                input.parse::<Option<Token![,]>>()?;
            }
        }
        Ok(())
    };
    if let Err(error) = parser.parse2(tokens) {
        errors.push(error);
    }
    arguments
}

fn argument(input: ParseStream<'_>, options: &KnownOptions) -> Result<Argument> {
    let KnownOptions {
        attribute,
        known,
        elsewhere,
    } = options;
    if !input.peek(Ident::peek_any) {
        return Err(input.error(format!("expected an option such as `{}`", known[0].example)));
    }
    let key = input.call(Ident::parse_any)?;
    let name = key.unraw().to_string();
    let Some(option) = known.iter().find(|known| known.name == name) else {
        let hint = elsewhere(&name)
            .or_else(|| did_you_mean_one_of(&name, known.iter().map(|known| known.name)))
            .unwrap_or_else(|| format!(": the documentation of `{attribute}` lists its options"));
        return Err(Error::new(
            key.span(),
            format!("unknown option `{name}`{hint}"),
        ));
    };
    let wrong_form = |at: Error| Error::new(at.span(), format!("expected `{}`", option.example));
    let bare = input.is_empty() || input.peek(Token![,]);
    let value = match option.form {
        OptionForm::MaybeValue | OptionForm::Switch if bare => ArgumentValue::None,
        OptionForm::Switch => {
            let message = format!("`{name}` takes no value: write it alone, or leave it out");
            return Err(Error::new(key.span(), message));
        }
        OptionForm::Value | OptionForm::MaybeValue | OptionForm::Types
            if !input.peek(Token![=]) =>
        {
            return Err(match bare {
                true => Error::new(
                    key.span(),
                    format!("`{name}` needs a value: write `{}`", option.example),
                ),
                false => wrong_form(input.error("")),
            });
        }
        OptionForm::Value | OptionForm::MaybeValue => {
            input.parse::<Token![=]>()?;
            if input.is_empty() || input.peek(Token![,]) {
                return Err(Error::new(
                    key.span(),
                    format!("`{name}` needs a value: write `{}`", option.example),
                ));
            }
            ArgumentValue::Expression(input.parse().map_err(wrong_form)?)
        }
        OptionForm::Types => {
            input.parse::<Token![=]>()?;
            if !input.peek(token::Bracket) {
                return Err(wrong_form(input.error("")));
            }
            let types;
            bracketed!(types in input);
            ArgumentValue::Types(
                Punctuated::<Type, Token![,]>::parse_terminated(&types)?
                    .into_iter()
                    .collect(),
            )
        }
        OptionForm::Options if !input.peek(token::Paren) => {
            return Err(wrong_form(Error::new(key.span(), "")));
        }
        OptionForm::Options => {
            let options;
            parenthesized!(options in input);
            ArgumentValue::Options(options.parse()?)
        }
    };
    Ok(Argument {
        key,
        value,
        example: option.example,
    })
}

fn skip_to_comma(input: ParseStream<'_>) {
    while !input.is_empty() && !input.peek(Token![,]) {
        // There is a token tree, so this cannot fail.
        let _ = input.parse::<proc_macro2::TokenTree>();
    }
}

impl Argument {
    pub(crate) fn name(&self) -> String {
        self.key.unraw().to_string()
    }

    /// Returns `true` if the option is a name alone.
    pub(crate) fn is_bare(&self) -> bool {
        matches!(self.value, ArgumentValue::None)
    }

    /// Reads an option that is a name alone.
    pub(crate) fn bare<T>(&self, value: T) -> OptionValue<T> {
        OptionValue {
            key: self.key.clone(),
            value,
            tokens: self.key.to_token_stream(),
        }
    }

    pub(crate) fn string(self) -> Result<OptionValue<String>> {
        let text = self.text();
        self.given("a string", text)
    }

    /// Reads a list of strings.
    pub(crate) fn strings(self) -> Result<OptionValue<Vec<LitStr>>> {
        let strings = elements(self.expression()).and_then(|elements| {
            elements
                .map(|element| literal(element).and_then(string).cloned())
                .collect::<Option<Vec<_>>>()
        });
        self.given("a list of strings", strings)
    }

    /// Reads a whole number that is not negative.
    pub(crate) fn whole(self) -> Result<OptionValue<u64>> {
        let number = match self.literal() {
            // `5m` is one token, a number with a suffix
            Some(Lit::Int(number)) if duration::parse(&number.to_string()).is_err() => {
                number.base10_parse().ok()
            }
            _ => None,
        };
        self.given("a whole number", number)
    }

    /// Reads a number, whole or not.
    pub(crate) fn number(self) -> Result<OptionValue<f64>> {
        let number = match self.literal() {
            Some(Lit::Int(number)) => number.base10_parse().ok(),
            Some(Lit::Float(number)) => number.base10_parse().ok(),
            _ => None,
        };
        self.given("a number", number)
    }

    pub(crate) fn duration(self) -> Result<OptionValue<Duration>> {
        let key = &self.key;
        let duration = self.expression().map(read_duration).transpose();
        let duration = duration.map_err(|error| {
            Error::new_spanned(
                self.tokens(),
                format!("expected `{key}` to be a duration, {error}"),
            )
        })?;
        self.given("a duration", duration)
    }

    pub(crate) fn is_list(&self) -> bool {
        elements(self.expression()).is_some()
    }

    /// Reads a list of durations. The error for an invalid one points at it.
    pub(crate) fn durations(self) -> Result<OptionValue<Vec<Duration>>> {
        let key = &self.key;
        let read = |element: &Expr| {
            read_duration(element).map_err(|error| {
                Error::new_spanned(
                    element,
                    format!("expected `{key}` to hold durations, {error}"),
                )
            })
        };
        let durations =
            elements(self.expression()).map(|elements| elements.map(read).collect::<Result<_>>());
        let durations = durations.transpose()?;
        self.given("a list of durations", durations)
    }

    /// Reads the path of a function.
    pub(crate) fn path(self) -> Result<OptionValue<syn::ExprPath>> {
        let path = match self.expression() {
            Some(Expr::Path(path)) => Some(path.clone()),
            _ => None,
        };
        self.given("the path of a function", path)
    }

    /// Reads a word, bare or as a string.
    pub(crate) fn word(self) -> Result<OptionValue<String>> {
        let word = self.bare_word().or_else(|| self.text());
        self.given("a name", word)
    }

    /// Reads one of several words, in quotes, and returns its meaning. `others` follows the list of
    /// words in the error: it names the other kinds of values.
    pub(crate) fn one_of<T: Copy>(
        self,
        words: &[(&str, T)],
        others: &str,
    ) -> Result<OptionValue<T>> {
        let text = self.text();
        if let Some((_, meaning)) = words
            .iter()
            .find(|(word, _)| text.as_deref() == Some(*word))
        {
            return self.given("", Some(*meaning));
        }
        let quoted: Vec<String> = words
            .iter()
            .map(|(word, _)| format!("\"{word}\""))
            .collect();
        let names = || words.iter().map(|(word, _)| *word);
        let remedy = match text
            .or_else(|| self.bare_word())
            .and_then(|word| nearest(&word, names()))
        {
            Some(word) => format!("did you mean `\"{word}\"`?"),
            None => format!("write for example `{}`", self.example),
        };
        let quoted = list(quoted.iter().map(String::as_str));
        let what = format!("one of {quoted}{others}");
        Err(self.refused(&what, &remedy))
    }

    pub(crate) fn types(self) -> Vec<Type> {
        match self.value {
            ArgumentValue::Types(types) => types,
            ArgumentValue::None | ArgumentValue::Expression(_) | ArgumentValue::Options(_) => {
                Vec::new()
            }
        }
    }

    pub(crate) fn options(self) -> TokenStream {
        match self.value {
            ArgumentValue::Options(options) => options,
            ArgumentValue::None | ArgumentValue::Expression(_) | ArgumentValue::Types(_) => {
                TokenStream::new()
            }
        }
    }

    /// Returns `true` if the value is `true` or `false`.
    pub(crate) fn is_bool(&self) -> bool {
        matches!(self.literal(), Some(Lit::Bool(_)))
    }

    /// Returns the error for a value other than the expected one.
    pub(crate) fn refused(&self, what: &str, remedy: &str) -> Error {
        let (key, tokens) = (&self.key, self.tokens());
        let message = format!(
            "expected `{key}` to be {what}, got `{}`: {remedy}",
            written(&tokens)
        );
        Error::new_spanned(tokens, message)
    }

    fn given<T>(self, what: &str, value: Option<T>) -> Result<OptionValue<T>> {
        let tokens = self.tokens();
        match value {
            Some(value) => Ok(OptionValue {
                key: self.key,
                value,
                tokens,
            }),
            None => Err(self.refused(what, &format!("write for example `{}`", self.example))),
        }
    }

    /// Reads a string.
    fn text(&self) -> Option<String> {
        self.literal().and_then(string).map(LitStr::value)
    }

    fn bare_word(&self) -> Option<String> {
        match self.expression() {
            Some(Expr::Path(path)) => path
                .path
                .segments
                .last()
                .map(|segment| segment.ident.unraw().to_string()),
            _ => None,
        }
    }

    fn expression(&self) -> Option<&Expr> {
        match &self.value {
            ArgumentValue::Expression(expression) => Some(ungrouped(expression)),
            ArgumentValue::None | ArgumentValue::Types(_) | ArgumentValue::Options(_) => None,
        }
    }

    pub(crate) fn literal(&self) -> Option<&Lit> {
        self.expression().and_then(literal)
    }

    fn tokens(&self) -> TokenStream {
        self.expression()
            .map(ToTokens::to_token_stream)
            .unwrap_or_default()
    }
}

fn elements(expression: Option<&Expr>) -> Option<impl Iterator<Item = &Expr>> {
    match expression {
        Some(Expr::Array(array)) => Some(array.elems.iter()),
        _ => None,
    }
}

fn read_duration(expression: &Expr) -> std::result::Result<Duration, String> {
    match literal(expression) {
        Some(Lit::Str(text)) => duration::parse(&text.value()),
        Some(number @ (Lit::Int(_) | Lit::Float(_))) => {
            let number = written(number);
            if duration::parse(&number).is_ok() {
                return Err(format!(
                    "got `{number}`: write it in quotes, `\"{number}\"`"
                ));
            }
            Err(format!(
                "got `{number}`: a number has no unit, write `\"{number}s\"` for seconds"
            ))
        }
        _ => Err(format!(
            "got `{}`: write a number with a unit in quotes, such as `\"60s\"`",
            written(expression)
        )),
    }
}
