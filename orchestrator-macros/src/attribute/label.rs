//! The name, the description and the tags of a task or a flow.

use super::fallback::Errors;
use super::names::fault_in_key;
use super::options::{Argument, OptionValue};
use super::signature::UserFunction;
use orchestrator_grammar::bounds;
use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::{LitStr, Result};

/// The name, the description and the tags of a task or a flow.
#[derive(Default)]
pub(crate) struct Label {
    pub(crate) name: Option<OptionValue<String>>,
    pub(crate) description: Option<OptionValue<String>>,
    pub(crate) tags: Option<OptionValue<Vec<LitStr>>>,
}

impl Label {
    /// Takes the argument if it is one of the label's, and returns it otherwise.
    pub(crate) fn read(&mut self, argument: Argument) -> Result<Option<Argument>> {
        match argument.name().as_str() {
            "name" => self.name = Some(argument.string()?),
            "description" => self.description = Some(argument.string()?),
            "tags" => self.tags = Some(argument.strings()?),
            _ => return Ok(Some(argument)),
        }
        Ok(None)
    }

    /// Reports the problems of the label.
    pub(crate) fn check(&self, errors: &mut Errors) {
        if let Some(name) = &self.name
            && let Some(fault) = fault_in_key(&name.value)
        {
            errors.at(&name.tokens, format!("`name` {fault}"));
        }
        if let Some(one_too_many) = self
            .tags
            .as_ref()
            .and_then(|tags| tags.value.get(bounds::TAGS))
        {
            errors.at(
                one_too_many,
                format!(
                    "expected at most {} tags: leave some of them out",
                    bounds::TAGS
                ),
            );
        }
        let mut seen = Vec::new();
        for tag in self.tags.iter().flat_map(|tags| &tags.value) {
            if tag.value().trim().is_empty() {
                errors.at(tag, "expected a tag, got an empty string: leave it out");
            } else if let Some(fault) = bounds::fault(&tag.value(), bounds::TAG) {
                errors.at(tag, format!("the tag is too long: {fault}"));
            } else if seen.contains(&tag.value()) {
                errors.at(
                    tag,
                    format!(
                        "tag `{}` is given twice: leave one of them out",
                        tag.value()
                    ),
                );
            }
            seen.push(tag.value());
        }
    }

    /// Returns the fields that the definitions of tasks and flows have in common.
    pub(crate) fn expand(&self, function: &UserFunction) -> TokenStream {
        let name = self.name.as_ref().map_or_else(
            || function.name().unraw().to_string(),
            |name| name.value.clone(),
        );
        let description = self
            .description
            .as_ref()
            .map_or_else(|| function.documentation(), |text| text.value.clone());
        let tags = self.tags.iter().flat_map(|tags| &tags.value);
        quote! {
            name: #name,
            crate_name: ::core::env!("CARGO_PKG_NAME"),
            module: ::core::module_path!(),
            file: ::core::file!(),
            line: ::core::line!(),
            description: #description,
            tags: &[#(#tags),*]
        }
    }
}
