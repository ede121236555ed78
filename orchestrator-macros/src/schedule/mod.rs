//! Crontab expressions in the source: `cron!`, and the `schedule` of a flow.

pub(crate) mod zone;

use crate::attribute::expand::private;
use crate::attribute::literal::{literal, string};
use crate::attribute::names::written;
use orchestrator_grammar::cron::Cron;
use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{Error, Expr, Result, Token};

/// Expands `cron!` to the schedule of a crontab expression.
pub(crate) fn cron(arguments: &TokenStream) -> TokenStream {
    match only(arguments) {
        Ok(cron) => {
            let (private, (parts, stars)) = (private(), cron.to_parts());
            quote!(#private::cron([#(#parts),*], #stars))
        }
        // The error alone, which the compiler accepts in place of a value of any type.
        Err(error) => error.to_compile_error(),
    }
}

/// Parses the expression in the only argument.
fn only(arguments: &TokenStream) -> Result<Cron> {
    const EXAMPLE: &str = "write for example `cron!(\"0 6 * * *\")`";
    let parsed = Punctuated::<Expr, Token![,]>::parse_terminated.parse2(arguments.clone());
    let parsed = parsed.map_err(|_| {
        Error::new_spanned(
            arguments,
            format!("expected a crontab expression in quotes: {EXAMPLE}"),
        )
    })?;
    let Some(first) = parsed.first() else {
        return Err(Error::new(
            Span::call_site(),
            format!("expected a crontab expression, got nothing: {EXAMPLE}"),
        ));
    };
    let Some(text) = literal(first).and_then(string) else {
        let message = format!(
            "expected a crontab expression as a string literal, got `{}`: {EXAMPLE}, and `Schedule::cron(…)` for one that \
             is known at run time",
            written(first)
        );
        return Err(Error::new_spanned(first, message));
    };
    if let Some(second) = parsed.get(1) {
        let message = "expected one crontab expression and nothing else: a time zone is set on the schedule, by \
                       `.timezone(…)`";
        return Err(Error::new_spanned(second, message));
    }
    Cron::parse(&text.value()).map_err(|error| Error::new_spanned(text, error.problem()))
}

/// Returns the reason why a text is not a crontab expression.
pub(crate) fn fault(text: &str) -> Option<String> {
    Cron::parse(text).err().map(|error| error.problem())
}

#[cfg(test)]
mod tests {
    use super::cron;
    use crate::attribute::fallback::tests::messages;
    use proc_macro2::TokenStream;

    #[test]
    fn an_expression_is_what_the_parser_reads() {
        for arguments in [
            r#""0 6 * * *""#,
            r##"r#"0 6 * * *"#"##,
            r#""0 6 * * *","#,
            r#""00\x206 * * *""#,
        ] {
            let expansion = cron(&arguments.parse::<TokenStream>().expect(arguments))
                .to_string()
                .replace(' ', "");
            let expected = "::orchestrator::__private::cron([1u64,1u64,64u64,4294967294u64,8190u64,127u64,0u64,0u64],56u8)";
            assert_eq!(expansion, expected, "{arguments}");
        }
    }

    #[test]
    fn invalid_expression_is_named() {
        for (arguments, expected) in [
            ("", "expected a crontab expression, got nothing"),
            (
                "0 6 * * *",
                "expected a crontab expression in quotes: write",
            ),
            ("DAILY", "as a string literal, got `DAILY`"),
            (r#"b"@daily""#, "as a string literal, got `b\"@daily\"`"),
            (r#""@daily", "UTC""#, "by `.timezone(…)`"),
            (r#""0 25 * * *""#, "hour: expected 0 to 23, got `25`"),
            (r#""0 0 30 2 *""#, "it would never fire"),
        ] {
            let messages = messages(cron(&arguments.parse::<TokenStream>().expect(arguments)));
            assert_eq!(messages.len(), 1, "{arguments}: {messages:?}");
            assert!(messages[0].contains(expected), "{arguments}: {messages:?}");
        }
    }
}
