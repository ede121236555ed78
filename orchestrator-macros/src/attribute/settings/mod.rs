//! The options that control how a task runs, from the table that the library uses, too: those of a
//! task, and the `defaults(…)` of a flow.

mod check;

pub(crate) use check::check_path;

use super::expand::private;
use super::known::{KnownOption, OptionForm};
use super::options::{Argument, OptionValue};
use super::value::{Count, Delay, Factor, OptionKind, Pool, Predicate, Switch};
use orchestrator_grammar::trigger::Trigger;
use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};
use std::time::Duration;
use syn::Result;

/// The option for clean-up tasks, which a flow cannot set for all of its tasks.
pub(crate) const CLEAN_UP: &str = "run_on_cancel";

/// A part of the option `pool`, and so not a row of the table.
const POOL_SLOTS: KnownOption = KnownOption {
    name: "pool_slots",
    form: OptionForm::Value,
    example: "pool_slots = 2",
};

/// Defines [`Settings`] from the table of options.
macro_rules! define {
    ($($(#[$doc:meta])* $option:ident: $kind:ident = $example:literal;)+) => {
        /// The given options that control how a task runs.
        #[derive(Default)]
        pub(crate) struct Settings {
            $(pub(crate) $option: Option<OptionValue<$kind>>,)+
            pub(crate) pool_slots: Option<OptionValue<Count>>,
        }

        /// The options that control how a task runs.
        pub(crate) const SETTINGS: &[KnownOption] = &[
            $(KnownOption { name: stringify!($option), form: $kind::FORM, example: $example },)+
            POOL_SLOTS,
        ];

        impl Settings {
            /// Takes the argument, which is one of [`SETTINGS`].
            pub(crate) fn read(&mut self, argument: Argument) -> Result<()> {
                match argument.name().as_str() {
                    $(stringify!($option) => self.$option = Some(OptionKind::read(argument)?),)+
                    _ => self.pool_slots = Some(OptionKind::read(argument)?),
                }
                Ok(())
            }

            /// Returns the options that are set, each with its name and the code of its value.
            fn values(&self) -> Vec<(&str, TokenStream)> {
                let mut values = Vec::new();
                $(values.extend(self.$option.as_ref().map(|given| {
                    (stringify!($option), given.value.expand())
                }));)+
                values
            }
        }
    };
}

orchestrator_grammar::task_options!(define);

impl Settings {
    /// Returns the code of the library's options.
    pub(crate) fn expand(&self) -> TokenStream {
        let private = private();
        let values = self.values();
        if values.is_empty() {
            return quote!(#private::TaskOptions::NONE);
        }
        let options = Ident::new("options_", Span::mixed_site());
        let set = values.into_iter().map(|(option, value)| {
            let option = format_ident!("{option}");
            quote!(#options.#option = ::core::option::Option::Some(#value);)
        });
        let slots = self.pool_slots.as_ref().map(|slots| {
            let (pool, slots) = (
                Ident::new("pool_", Span::mixed_site()),
                slots.value.expand(),
            );
            quote! {
                if let ::core::option::Option::Some(#pool) = &mut #options.pool {
                    #pool.slots = #slots;
                }
            }
        });
        quote! {{
            let mut #options = #private::TaskOptions::NONE;
            #(#set)*
            #slots
            #options
        }}
    }
}
