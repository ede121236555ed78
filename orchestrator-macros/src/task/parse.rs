//! Parses the options of a task.

use super::model::{CacheModel, TaskModel};
use crate::attribute::entry::EntryKind;
use crate::attribute::fallback::Errors;
use crate::attribute::known::{CACHE, KnownOptions, LABEL, OF_FLOWS};
use crate::attribute::label::Label;
use crate::attribute::options::{Argument, OptionValue, arguments};
use crate::attribute::settings::{SETTINGS, Settings};
use crate::attribute::signature::UserFunction;
use proc_macro2::TokenStream;
use std::time::Duration;
use syn::Result;

pub(super) fn task(options: TokenStream, function: UserFunction, errors: &mut Errors) -> TaskModel {
    let (label, settings, cache) = (Label::default(), Settings::default(), CacheModel::default());
    let mut task = TaskModel {
        function,
        label,
        settings,
        cache,
    };
    let known = KnownOptions {
        attribute: "#[task]",
        known: LABEL.iter().chain(SETTINGS).chain(&CACHE).collect(),
        elsewhere: of_flows,
    };
    for argument in arguments(options, &known, errors) {
        if let Err(error) = task.read(argument) {
            errors.push(error);
        }
    }
    task
}

fn of_flows(name: &str) -> Option<String> {
    let is_entry = |kind: &EntryKind| [kind.noun(), kind.option()].contains(&name);
    if let Some(kind) = EntryKind::ALL.into_iter().find(is_entry) {
        return Some(format!(
            ": a task takes it as a parameter, marked `{}`",
            kind.example()
        ));
    }
    let is_one = OF_FLOWS.iter().any(|known| known.name == name);
    is_one.then(|| ": it is one of `#[flow]`".to_owned())
}

impl TaskModel {
    fn read(&mut self, argument: Argument) -> Result<()> {
        let Some(argument) = self.label.read(argument)? else {
            return Ok(());
        };
        let Some(argument) = self.cache.read(argument)? else {
            return Ok(());
        };
        self.settings.read(argument)
    }
}

impl CacheModel {
    /// Takes the argument if it is one of [`CACHE`], and returns it otherwise.
    fn read(&mut self, argument: Argument) -> Result<Option<Argument>> {
        match argument.name().as_str() {
            "cache" => {
                // An invalid duration still counts as given, for the options that need a cache.
                self.expiry = Some(argument.bare(None));
                self.expiry = Some(expiry(argument)?);
            }
            "cache_key" => self.key = Some(argument.path()?),
            "version" => self.version = Some(argument.string()?),
            _ => return Ok(Some(argument)),
        }
        Ok(None)
    }
}

fn expiry(argument: Argument) -> Result<OptionValue<Option<Duration>>> {
    if argument.is_bare() {
        return Ok(argument.bare(None));
    }
    if argument.is_bool() {
        let remedy = "write `cache` alone to keep results forever, or leave it out to keep none";
        return Err(argument.refused("a duration", remedy));
    }
    argument.duration().map(|given| given.map(Some))
}
