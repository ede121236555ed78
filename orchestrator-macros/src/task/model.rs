//! A task as its author wrote it.

use crate::attribute::data::{arguments_of, ungrouped};
use crate::attribute::label::Label;
use crate::attribute::options::OptionValue;
use crate::attribute::settings::Settings;
use crate::attribute::signature::{Parameter, Role, UserFunction};
use std::time::Duration;
use syn::{ExprPath, Type};

pub(crate) struct TaskModel {
    pub(crate) function: UserFunction,
    pub(crate) label: Label,
    pub(crate) settings: Settings,
    pub(crate) cache: CacheModel,
}

/// The caching of a task's results.
#[derive(Default)]
pub(crate) struct CacheModel {
    /// Whether they are cached, and for how long; without a limit if no duration is given.
    pub(crate) expiry: Option<OptionValue<Option<Duration>>>,
    pub(crate) key: Option<OptionValue<ExprPath>>,
    pub(crate) version: Option<OptionValue<String>>,
}

/// The return type of a task.
pub(crate) enum TaskReturn<'a> {
    Nothing,
    Plain(&'a Type),
    Fallible {
        ok: &'a Type,
        error: Option<&'a Type>,
    },
    /// A `Result` without type arguments.
    Unclear(&'a Type),
}

impl TaskModel {
    pub(crate) fn inputs(&self) -> impl Iterator<Item = &Parameter> {
        self.function
            .parameters
            .iter()
            .filter(|parameter| parameter.role() == Role::Input)
    }

    pub(crate) fn resources(&self) -> impl Iterator<Item = &Parameter> {
        self.function
            .parameters
            .iter()
            .filter(|parameter| parameter.role() == Role::Resource)
    }

    pub(crate) fn has_context(&self) -> bool {
        self.function
            .parameters
            .iter()
            .any(|parameter| parameter.role() == Role::Context)
    }
}

impl<'a> TaskReturn<'a> {
    /// A body can fail if the last segment of its return type is `Result`.
    pub(crate) fn of(function: &'a UserFunction) -> Self {
        let Some(ty) = function.output() else {
            return Self::Nothing;
        };
        match arguments_of(ty, "Result") {
            Some(arguments) => match arguments[..] {
                [ok] => Self::Fallible { ok, error: None },
                [ok, error, ..] => Self::Fallible {
                    ok,
                    error: Some(error),
                },
                [] => Self::Unclear(ty),
            },
            None => Self::Plain(ungrouped(ty)),
        }
    }

    /// Returns the type of the value.
    pub(crate) fn value(&self) -> Option<&'a Type> {
        match self {
            Self::Plain(ty) | Self::Fallible { ok: ty, .. } => Some(ty),
            Self::Nothing | Self::Unclear(_) => None,
        }
    }
}
