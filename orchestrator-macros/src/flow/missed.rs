//! The value of `missed`: a word, a duration or a number.

use crate::attribute::expand::private;
use crate::attribute::options::{Argument, OptionValue};
use crate::attribute::value::{Count, OptionKind};
use orchestrator_grammar::duration;
use proc_macro2::TokenStream;
use quote::quote;
use std::time::Duration;
use syn::{Lit, Result};

/// Which of the missed ticks get a run: the library's `Missed`.
#[derive(Clone, Copy)]
pub(crate) enum MissedTicks {
    Latest,
    All,
    None,
    Within(Duration),
    AtMost(Count),
}

/// The values that are words.
const WORDS: [(&str, MissedTicks); 3] = [
    ("latest", MissedTicks::Latest),
    ("all", MissedTicks::All),
    ("none", MissedTicks::None),
];

/// The other values, for messages.
const OTHERS: &str = ", a duration such as `\"7d\"`, or a number of runs such as `10`";

impl OptionKind for MissedTicks {
    fn read(argument: Argument) -> Result<OptionValue<Self>> {
        match argument.literal() {
            // `7d` is one token, a number with a suffix
            Some(Lit::Int(number)) if duration::parse(&number.to_string()).is_ok() => {
                Ok(argument.duration()?.map(Self::Within))
            }
            Some(Lit::Int(_)) => Ok(argument.whole()?.map(Self::AtMost)),
            Some(Lit::Str(text)) => match text.value() {
                text if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                    let remedy = format!(
                        "write `missed = {text}` for at most {text} runs, or `missed = \"{text}d\"` for those of {text} days"
                    );
                    Err(argument.refused("a duration or a number of runs", &remedy))
                }
                text if text.starts_with(|c: char| c.is_ascii_digit() || "-.".contains(c)) => {
                    Ok(argument.duration()?.map(Self::Within))
                }
                _ => argument.one_of(&WORDS, OTHERS),
            },
            _ => argument.one_of(&WORDS, OTHERS),
        }
    }

    fn expand(&self) -> TokenStream {
        let private = private();
        let variant = match self {
            Self::Latest => quote!(Latest),
            Self::All => quote!(All),
            Self::None => quote!(None),
            Self::Within(span) => {
                let span = span.expand();
                quote!(Within(#span))
            }
            Self::AtMost(runs) => {
                let runs = runs.expand();
                quote!(AtMost(#runs))
            }
        };
        quote!(#private::Missed::#variant)
    }
}
