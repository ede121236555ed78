//! A task as its author wrote it.

use crate::data::{arguments_of, ungrouped};
use crate::options::Given;
use crate::signature::{Function, Parameter, Role};
use std::time::Duration;
use syn::{ExprPath, LitStr, Type};

pub(crate) struct Task {
    pub(crate) function: Function,
    pub(crate) label: Label,
    pub(crate) settings: Settings,
    pub(crate) cache: Cache,
}

/// What people see of a task or a flow.
#[derive(Default)]
pub(crate) struct Label {
    pub(crate) name: Option<Given<String>>,
    pub(crate) description: Option<Given<String>>,
    pub(crate) tags: Option<Given<Vec<LitStr>>>,
}

/// What says how a task runs: the options of a task, and the `defaults(…)` of a flow.
#[derive(Default)]
pub(crate) struct Settings {
    pub(crate) retries: Option<Given<u64>>,
    pub(crate) retry_delay: Option<Given<Delay>>,
    pub(crate) backoff: Option<Given<f64>>,
    pub(crate) max_retry_delay: Option<Given<Duration>>,
    pub(crate) retry_if: Option<Given<ExprPath>>,
    pub(crate) timeout: Option<Given<Duration>>,
    /// A variant of `Trigger`.
    pub(crate) trigger: Option<Given<&'static str>>,
    pub(crate) pool: Option<Given<String>>,
    pub(crate) pool_slots: Option<Given<u64>>,
}

/// How the results of a task are cached.
#[derive(Default)]
pub(crate) struct Cache {
    /// Whether they are, and for how long; for ever where no duration is given.
    pub(crate) expiry: Option<Given<Option<Duration>>>,
    pub(crate) key: Option<Given<ExprPath>>,
    pub(crate) version: Option<Given<String>>,
}

pub(crate) enum Delay {
    Fixed(Duration),
    List(Vec<Duration>),
}

/// What a task returns.
pub(crate) enum Output<'a> {
    Nothing,
    Plain(&'a Type),
    Fallible {
        ok: &'a Type,
        error: Option<&'a Type>,
    },
    /// A `Result` that does not say of what.
    Unclear(&'a Type),
}

impl Task {
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

impl<'a> Output<'a> {
    /// Whether a body can fail is read off the last word of its type.
    pub(crate) fn of(function: &'a Function) -> Self {
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

    /// The type of the value.
    pub(crate) fn value(&self) -> Option<&'a Type> {
        match self {
            Self::Plain(ty) | Self::Fallible { ok: ty, .. } => Some(ty),
            Self::Nothing | Self::Unclear(_) => None,
        }
    }
}
