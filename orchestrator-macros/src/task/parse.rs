//! Tokens to options of a task.

use super::model::{Cache, Delay, Label, Settings, Task};
use crate::fallback::Errors;
use crate::names::{TRIGGERS, did_you_mean, list};
use crate::options::{Argument, Form, Given, Known, arguments};
use crate::signature::Function;
use proc_macro2::TokenStream;
use std::time::Duration;
use syn::{Error, Result};

const fn known(name: &'static str, example: &'static str) -> Known {
    Known {
        name,
        form: Form::Value,
        example,
    }
}

/// The options that say what people see.
pub(crate) const LABEL: [Known; 3] = [
    known("name", "name = \"extract\""),
    known("description", "description = \"Reads the new orders.\""),
    known("tags", "tags = [\"daily\"]"),
];

/// The options that say how a task runs.
pub(crate) const SETTINGS: [Known; 9] = [
    known("retries", "retries = 3"),
    known("retry_delay", "retry_delay = \"60s\""),
    known("backoff", "backoff = 2.0"),
    known("max_retry_delay", "max_retry_delay = \"10m\""),
    known("retry_if", "retry_if = is_transient"),
    known("timeout", "timeout = \"5m\""),
    known("trigger", "trigger = all_done"),
    known("pool", "pool = \"database\""),
    known("pool_slots", "pool_slots = 2"),
];

/// The options that say how the results of a task are cached.
pub(crate) const CACHE: [Known; 3] = [
    Known {
        name: "cache",
        form: Form::MaybeValue,
        example: "cache = \"1h\"",
    },
    known("cache_key", "cache_key = day_of"),
    known("version", "version = \"2\""),
];

pub(super) fn task(options: TokenStream, function: Function, errors: &mut Errors) -> Task {
    let (label, settings, cache) = (Label::default(), Settings::default(), Cache::default());
    let mut task = Task {
        function,
        label,
        settings,
        cache,
    };
    let known: Vec<&Known> = LABEL.iter().chain(&SETTINGS).chain(&CACHE).collect();
    for argument in arguments(options, &known, of_flows, errors) {
        if let Err(error) = task.read(argument) {
            errors.push(error);
        }
    }
    task
}

fn of_flows(name: &str) -> Option<String> {
    let is_one = crate::flow::OWN.iter().any(|known| known.name == name);
    is_one.then(|| ": it is one of `#[flow]`".to_owned())
}

impl Task {
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

impl Label {
    /// Takes the argument if it is one of the label's, else gives it back.
    pub(crate) fn read(&mut self, argument: Argument) -> Result<Option<Argument>> {
        match argument.name().as_str() {
            "name" => self.name = Some(argument.string()?),
            "description" => self.description = Some(argument.string()?),
            "tags" => self.tags = Some(argument.strings()?),
            _ => return Ok(Some(argument)),
        }
        Ok(None)
    }
}

impl Cache {
    /// Takes the argument if it is one of [`CACHE`], else gives it back.
    fn read(&mut self, argument: Argument) -> Result<Option<Argument>> {
        match argument.name().as_str() {
            "cache" => {
                // With a wrong duration it is one nevertheless, for what needs a cache.
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

impl Settings {
    /// Takes the argument, which is one of [`SETTINGS`].
    pub(crate) fn read(&mut self, argument: Argument) -> Result<()> {
        match argument.name().as_str() {
            "retries" => self.retries = Some(argument.whole()?),
            "retry_delay" => self.retry_delay = Some(delay(argument)?),
            "backoff" => self.backoff = Some(argument.number()?),
            "max_retry_delay" => self.max_retry_delay = Some(argument.duration()?),
            "retry_if" => self.retry_if = Some(argument.path()?),
            "timeout" => self.timeout = Some(argument.duration()?),
            "trigger" => self.trigger = Some(trigger(argument)?),
            "pool" => self.pool = Some(argument.string()?),
            "pool_slots" => self.pool_slots = Some(argument.whole()?),
            _ => {}
        }
        Ok(())
    }
}

fn expiry(argument: Argument) -> Result<Given<Option<Duration>>> {
    if argument.is_bare() {
        return Ok(argument.bare(None));
    }
    if argument.is_bool() {
        let remedy = "write `cache` alone to keep results for ever, or leave it out to keep none";
        return Err(argument.refused("a duration", remedy));
    }
    argument.duration().map(|given| given.map(Some))
}

fn delay(argument: Argument) -> Result<Given<Delay>> {
    if argument.is_list() {
        return argument.durations().map(|given| given.map(Delay::List));
    }
    argument.duration().map(|given| given.map(Delay::Fixed))
}

fn trigger(argument: Argument) -> Result<Given<&'static str>> {
    let Given {
        key,
        value: word,
        tokens,
    } = argument.word()?;
    let names = || TRIGGERS.iter().map(|(name, _)| *name);
    match TRIGGERS.iter().find(|(name, _)| *name == word) {
        Some((_, variant)) => Ok(Given {
            key,
            value: variant,
            tokens,
        }),
        None => {
            let suggestion = did_you_mean(&word, names());
            let message = format!(
                "unknown trigger rule `{word}`{suggestion} (rules: {})",
                list(names())
            );
            Err(Error::new_spanned(tokens, message))
        }
    }
}
