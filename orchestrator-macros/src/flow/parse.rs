//! Tokens to options of a flow.

use super::model::{Flow, Serving};
use crate::fallback::Errors;
use crate::names::{MISSED, OVERLAPS};
use crate::options::{Argument, Form, Given, Known, arguments};
use crate::signature::Function;
use crate::task::{CACHE, LABEL, Label, SETTINGS, Settings};
use crate::{schedule, zone};
use proc_macro2::TokenStream;
use syn::{Error, Result};

/// The options that only a flow has.
pub(crate) const OWN: [Known; 8] = [
    Known {
        name: "schedule",
        form: Form::Value,
        example: "schedule = \"0 6 * * *\"",
    },
    Known {
        name: "timezone",
        form: Form::Value,
        example: "timezone = \"Europe/Zurich\"",
    },
    Known {
        name: "missed",
        form: Form::Value,
        example: "missed = \"all\"",
    },
    Known {
        name: "max_active_runs",
        form: Form::Value,
        example: "max_active_runs = 1",
    },
    Known {
        name: "overlap",
        form: Form::Value,
        example: "overlap = \"skip\"",
    },
    Known {
        name: "timeout",
        form: Form::Value,
        example: "timeout = \"2h\"",
    },
    Known {
        name: "defaults",
        form: Form::Options,
        example: "defaults(retries = 2)",
    },
    Known {
        name: "resources",
        form: Form::Types,
        example: "resources = [Database]",
    },
];

pub(super) fn flow(options: TokenStream, function: Function, errors: &mut Errors) -> Flow {
    let mut flow = Flow {
        function,
        label: Label::default(),
        serving: Serving::default(),
        max_active_runs: None,
        timeout: None,
        defaults: Settings::default(),
        resources: Vec::new(),
    };
    let known: Vec<&Known> = LABEL.iter().chain(&OWN).collect();
    for argument in arguments(options, &known, of_tasks, errors) {
        let read = match flow.label.read(argument) {
            Ok(Some(other)) => flow.read(other, errors),
            read => read.map(drop),
        };
        if let Err(error) = read {
            errors.push(error);
        }
    }
    flow
}

fn of_tasks(name: &str) -> Option<String> {
    if is_of_cache(name) {
        return Some(": it is one of `#[task]`, a flow is not cached, its tasks are".to_owned());
    }
    let known = SETTINGS.iter().find(|known| known.name == name)?;
    Some(format!(
        ": it is one of tasks, write `defaults({})` to set it for those of the flow",
        known.example
    ))
}

fn of_each_task(name: &str) -> Option<String> {
    if is_of_cache(name) {
        return Some(
            ": it is one of `#[task]`, each task says for itself whether it is cached".to_owned(),
        );
    }
    let is_one = LABEL.iter().any(|known| known.name == name);
    is_one.then(|| ": each task has its own".to_owned())
}

fn is_of_cache(name: &str) -> bool {
    CACHE.iter().any(|known| known.name == name)
}

impl Flow {
    fn read(&mut self, argument: Argument, errors: &mut Errors) -> Result<()> {
        match argument.name().as_str() {
            "max_active_runs" => {
                // With a wrong number there is one nevertheless, for what needs it.
                self.max_active_runs = Some(argument.bare(1));
                self.max_active_runs = Some(argument.whole()?);
            }
            "timeout" => self.timeout = Some(argument.duration()?),
            "resources" => self.resources = argument.types(),
            "defaults" => {
                let known: Vec<&Known> = SETTINGS.iter().collect();
                for default in arguments(argument.options(), &known, of_each_task, errors) {
                    if let Err(error) = self.defaults.read(default) {
                        errors.push(error);
                    }
                }
            }
            _ => self.serving.read(argument)?,
        }
        Ok(())
    }
}

impl Serving {
    fn read(&mut self, argument: Argument) -> Result<()> {
        match argument.name().as_str() {
            "schedule" => {
                // With a wrong expression there is one nevertheless, for what needs a schedule.
                self.schedule = Some(argument.bare(String::new()));
                self.schedule = Some(sound(argument.string()?, schedule::fault)?);
            }
            "timezone" => self.timezone = Some(sound(argument.string()?, zone::fault)?),
            "missed" => self.missed = Some(argument.one_of(&MISSED)?),
            "overlap" => self.overlap = Some(argument.one_of(&OVERLAPS)?),
            _ => {}
        }
        Ok(())
    }
}

/// The text, if there is no fault in it.
fn sound(text: Given<String>, fault: fn(&str) -> Option<String>) -> Result<Given<String>> {
    match fault(&text.value) {
        Some(fault) => Err(Error::new_spanned(text.tokens, fault)),
        None => Ok(text),
    }
}
