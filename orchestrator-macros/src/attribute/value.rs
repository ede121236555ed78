//! The kinds of values of options: how each is parsed and expanded.

use super::expand::private;
use super::known::OptionForm;
use super::names::{did_you_mean, list};
use super::options::{Argument, OptionValue};
use orchestrator_grammar::trigger::Trigger;
use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote};
use std::time::Duration;
use syn::{Error, ExprPath, Result};

/// A kind of value. A value whose code would not compile has been reported, and expands to the code
/// of another value.
pub(crate) trait OptionKind: Sized {
    /// The form of an option of this kind, after its name.
    const FORM: OptionForm = OptionForm::Value;

    fn read(argument: Argument) -> Result<OptionValue<Self>>;

    fn expand(&self) -> TokenStream;
}

/// A whole number.
pub(crate) type Count = u64;

impl OptionKind for Count {
    fn read(argument: Argument) -> Result<OptionValue<Self>> {
        argument.whole()
    }

    fn expand(&self) -> TokenStream {
        u32::try_from(*self).unwrap_or(u32::MAX).to_token_stream()
    }
}

/// A number, whole or not.
pub(crate) type Factor = f64;

impl OptionKind for Factor {
    fn read(argument: Argument) -> Result<OptionValue<Self>> {
        argument.number()
    }

    fn expand(&self) -> TokenStream {
        Some(*self)
            .filter(|factor| factor.is_finite())
            .unwrap_or(1.0)
            .to_token_stream()
    }
}

impl OptionKind for Duration {
    fn read(argument: Argument) -> Result<OptionValue<Self>> {
        argument.duration()
    }

    fn expand(&self) -> TokenStream {
        let nanoseconds = u64::try_from(self.as_nanos()).unwrap_or(u64::MAX);
        quote!(::core::time::Duration::from_nanos(#nanoseconds))
    }
}

/// A delay, or a list of them.
pub(crate) enum Delay {
    Fixed(Duration),
    List(Vec<Duration>),
}

impl OptionKind for Delay {
    fn read(argument: Argument) -> Result<OptionValue<Self>> {
        if argument.is_list() {
            return argument.durations().map(|given| given.map(Self::List));
        }
        argument.duration().map(|given| given.map(Self::Fixed))
    }

    fn expand(&self) -> TokenStream {
        let private = private();
        match self {
            Self::Fixed(delay) => {
                let delay = delay.expand();
                quote!(#private::Delay::Fixed(#delay))
            }
            Self::List(delays) => {
                let delays = delays.iter().map(OptionKind::expand);
                quote!(#private::Delay::List(const { &[#(#delays),*] }))
            }
        }
    }
}

/// A function of an error.
pub(crate) type Predicate = ExprPath;

impl OptionKind for Predicate {
    fn read(argument: Argument) -> Result<OptionValue<Self>> {
        argument.path()
    }

    /// The code first declares the expected type, so that the error for a function of another type
    /// names both types.
    fn expand(&self) -> TokenStream {
        let private = private();
        let predicate = Ident::new("predicate_", Span::mixed_site());
        quote! {{
            let #predicate: fn(&#private::TaskError) -> bool = #self;
            #predicate
        }}
    }
}

impl OptionKind for Trigger {
    fn read(argument: Argument) -> Result<OptionValue<Self>> {
        let given = argument.word()?;
        if let Ok(rule) = given.value.parse() {
            return Ok(given.map(|_| rule));
        }
        let (word, names) = (given.value, Self::ALL.map(Self::as_str));
        let suggestion = did_you_mean(&word, names);
        let message = format!(
            "unknown trigger rule `{word}`{suggestion} (rules: {})",
            list(names)
        );
        Err(Error::new_spanned(given.tokens, message))
    }

    fn expand(&self) -> TokenStream {
        // `Debug` writes the name of the variant
        let (private, rule) = (private(), format_ident!("{self:?}"));
        quote!(#private::Trigger::#rule)
    }
}

/// The name of a pool.
pub(crate) type Pool = String;

impl OptionKind for Pool {
    fn read(argument: Argument) -> Result<OptionValue<Self>> {
        argument.string()
    }

    fn expand(&self) -> TokenStream {
        let private = private();
        quote!(#private::Pool { name: #self, slots: 1 })
    }
}

/// No value: the option is either given or not.
pub(crate) type Switch = ();

impl OptionKind for Switch {
    const FORM: OptionForm = OptionForm::Switch;

    fn read(argument: Argument) -> Result<OptionValue<Self>> {
        Ok(argument.bare(()))
    }

    fn expand(&self) -> TokenStream {
        quote!(true)
    }
}
