//! A flow as its author wrote it.

use crate::attribute::data::{Wiring, arguments_of, ungrouped};
use crate::attribute::label::Label;
use crate::attribute::options::Given;
use crate::attribute::settings::Settings;
use crate::attribute::signature::{Function, Parameter, Role};
use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use std::time::Duration;
use syn::Type;

pub(crate) struct Flow {
    pub(crate) function: Function,
    pub(crate) label: Label,
    pub(crate) serving: Serving,
    pub(crate) max_active_runs: Option<Given<u64>>,
    pub(crate) timeout: Option<Given<Duration>>,
    pub(crate) defaults: Settings,
    pub(crate) resources: Vec<Type>,
}

/// When runs of a flow are due, and the handling of those that are missed or overlap.
#[derive(Default)]
pub(crate) struct Serving {
    /// A crontab expression.
    pub(crate) schedule: Option<Given<String>>,
    /// The IANA name of a zone.
    pub(crate) timezone: Option<Given<String>>,
    /// A variant of `Missed`.
    pub(crate) missed: Option<Given<&'static str>>,
    /// A variant of `Overlap`.
    pub(crate) overlap: Option<Given<&'static str>>,
}

/// What a flow's body returns.
pub(crate) enum Returned<'a> {
    Nothing,
    /// `Result` of data, from a body that awaits
    Fallible {
        ty: &'a Type,
        ok: Option<&'a Type>,
        error: Option<&'a Type>,
    },
    /// nodes
    Wiring(&'a Type),
}

impl Flow {
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.function
            .parameters
            .iter()
            .filter(|parameter| parameter.role() == Role::Input)
    }
}

impl<'a> Returned<'a> {
    pub(crate) fn of(function: &'a Function) -> Self {
        let Some(ty) = function.output() else {
            return Self::Nothing;
        };
        match arguments_of(ty, "Result") {
            Some(arguments) => Self::Fallible {
                ty,
                ok: arguments.first().copied(),
                error: arguments.get(1).copied(),
            },
            None => Self::Wiring(ty),
        }
    }

    /// Returns the type of the flow's output, if the return type shows it.
    pub(crate) fn spelled(&self) -> Option<TokenStream> {
        match self {
            Self::Nothing => Some(quote!(())),
            Self::Fallible { ok, .. } => ok.map(ToTokens::to_token_stream),
            Self::Wiring(ty) => spelled(ty),
        }
    }
}

/// Returns the value type of nodes of this type.
fn spelled(ty: &Type) -> Option<TokenStream> {
    if let Type::Tuple(tuple) = ungrouped(ty) {
        let elements = tuple
            .elems
            .iter()
            .map(spelled)
            .collect::<Option<Vec<_>>>()?;
        return Some(quote!((#(#elements,)*)));
    }
    Wiring::of(ty).map(Wiring::value)
}
