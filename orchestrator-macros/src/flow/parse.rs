//! Parses the options of a flow.

use super::missed::MissedTicks;
use super::model::{FlowModel, ServingModel};
use crate::attribute::entry::EntryKind;
use crate::attribute::fallback::Errors;
use crate::attribute::known::{CACHE, KnownOption, KnownOptions, LABEL, OF_FLOWS};
use crate::attribute::label::Label;
use crate::attribute::options::{Argument, OptionValue, arguments};
use crate::attribute::settings::{CLEAN_UP, SETTINGS, Settings};
use crate::attribute::signature::UserFunction;
use crate::attribute::value::OptionKind;
use crate::schedule::{self, zone};
use proc_macro2::TokenStream;
use syn::{Error, Result};

/// The values of `overlap`, with the variants of `Overlap`.
const OVERLAPS: [(&str, &str); 4] = [
    ("queue", "Queue"),
    ("skip", "Skip"),
    ("cancel_running", "CancelRunning"),
    ("latest", "Latest"),
];

pub(super) fn flow(options: TokenStream, function: UserFunction, errors: &mut Errors) -> FlowModel {
    let mut flow = FlowModel {
        function,
        label: Label::default(),
        serving: ServingModel::default(),
        max_active_runs: None,
        timeout: None,
        defaults: Settings::default(),
        resources: Vec::new(),
        requirements: EntryKind::ALL.map(|kind| (kind, Vec::new())),
    };
    let known = KnownOptions {
        attribute: "#[flow]",
        known: LABEL.iter().chain(&OF_FLOWS).collect(),
        elsewhere: of_tasks,
    };
    for argument in arguments(options, &known, errors) {
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
    if name == CLEAN_UP {
        return Some(": it is one of `#[task]`, set it on the task that cleans up".to_owned());
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
            ": it is one of `#[task]`, each task declares whether it is cached".to_owned(),
        );
    }
    if name == CLEAN_UP {
        return Some(": it is one of `#[task]`, set it on the task that cleans up".to_owned());
    }
    let is_one = LABEL.iter().any(|known| known.name == name);
    is_one.then(|| ": each task has its own".to_owned())
}

fn is_of_cache(name: &str) -> bool {
    CACHE.iter().any(|known| known.name == name)
}

impl FlowModel {
    fn read(&mut self, argument: Argument, errors: &mut Errors) -> Result<()> {
        match argument.name().as_str() {
            "max_active_runs" => {
                // An invalid number still counts as given, for the options that need it.
                self.max_active_runs = Some(argument.bare(1));
                self.max_active_runs = Some(argument.whole()?);
            }
            "timeout" => self.timeout = Some(argument.duration()?),
            "resources" => self.resources = argument.types(),
            "defaults" => {
                let is_default = |known: &&KnownOption| known.name != CLEAN_UP;
                let known = KnownOptions {
                    attribute: "#[task]",
                    known: SETTINGS.iter().filter(is_default).collect(),
                    elsewhere: of_each_task,
                };
                for default in arguments(argument.options(), &known, errors) {
                    if let Err(error) = self.defaults.read(default) {
                        errors.push(error);
                    }
                }
            }
            name => match self
                .requirements
                .iter_mut()
                .find(|(kind, _)| kind.option() == name)
            {
                Some((_, names)) => *names = argument.strings()?.value,
                None => self.serving.read(argument)?,
            },
        }
        Ok(())
    }
}

impl ServingModel {
    fn read(&mut self, argument: Argument) -> Result<()> {
        match argument.name().as_str() {
            "schedule" => {
                // An invalid expression still counts as given, for the options that need a
                // schedule.
                self.schedule = Some(argument.bare(String::new()));
                self.schedule = Some(sound(argument.string()?, schedule::fault)?);
            }
            "timezone" => self.timezone = Some(sound(argument.string()?, zone::fault)?),
            "missed" => {
                // An invalid value still counts as given: it needs a schedule, too.
                self.missed = Some(argument.bare(MissedTicks::Latest));
                self.missed = Some(OptionKind::read(argument)?);
            }
            "overlap" => self.overlap = Some(argument.one_of(&OVERLAPS, "")?),
            "depends_on_past" => self.depends_on_past = true,
            _ => {}
        }
        Ok(())
    }
}

/// Returns the text if it has no fault.
fn sound(
    text: OptionValue<String>,
    fault: fn(&str) -> Option<String>,
) -> Result<OptionValue<String>> {
    match fault(&text.value) {
        Some(fault) => Err(Error::new_spanned(text.tokens, fault)),
        None => Ok(text),
    }
}
