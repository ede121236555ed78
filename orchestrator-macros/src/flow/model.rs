//! A flow as its author wrote it.

use super::missed::MissedTicks;
use crate::attribute::data::{FlowPart, arguments_of, ungrouped};
use crate::attribute::entry::EntryKind;
use crate::attribute::label::Label;
use crate::attribute::options::OptionValue;
use crate::attribute::settings::Settings;
use crate::attribute::signature::{Parameter, Role, UserFunction};
use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use std::time::Duration;
use syn::{LitStr, Type};

pub(crate) struct FlowModel {
    pub(crate) function: UserFunction,
    pub(crate) label: Label,
    pub(crate) serving: ServingModel,
    pub(crate) max_active_runs: Option<OptionValue<u64>>,
    pub(crate) timeout: Option<OptionValue<Duration>>,
    pub(crate) defaults: Settings,
    pub(crate) resources: Vec<Type>,
    /// The names of connections, variables and secrets that its tasks need.
    pub(crate) requirements: [(EntryKind, Vec<LitStr>); 3],
}

/// When runs of a flow are due, and the handling of those that are missed or overlap.
#[derive(Default)]
pub(crate) struct ServingModel {
    /// A crontab expression.
    pub(crate) schedule: Option<OptionValue<String>>,
    /// The IANA name of a zone.
    pub(crate) timezone: Option<OptionValue<String>>,
    pub(crate) missed: Option<OptionValue<MissedTicks>>,
    /// A variant of `Overlap`.
    pub(crate) overlap: Option<OptionValue<&'static str>>,
    pub(crate) depends_on_past: bool,
}

/// What a flow's body returns.
pub(crate) enum FlowOutput<'a> {
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

impl FlowModel {
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.function
            .parameters
            .iter()
            .filter(|parameter| parameter.role() == Role::Input)
    }
}

impl<'a> FlowOutput<'a> {
    pub(crate) fn of(function: &'a UserFunction) -> Self {
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
    FlowPart::of(ty).map(FlowPart::value)
}
