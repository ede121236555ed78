//! The rules for tasks.

use super::model::{CacheModel, TaskModel, TaskReturn};
use super::shared;
use crate::attribute::data::{FlowPart, PassedType, TypeFault, arguments_of, ungrouped};
use crate::attribute::entry::EntryKind;
use crate::attribute::fallback::Errors;
use crate::attribute::names::written;
use crate::attribute::settings::check_path;
use crate::attribute::signature::{MOST_INPUTS, Parameter, Role, check_context};
use syn::Type;

pub(super) fn options(task: &TaskModel, errors: &mut Errors) {
    task.label.check(errors);
    task.settings.check(errors);
    check_cache(task, errors);
}

fn check_cache(task: &TaskModel, errors: &mut Errors) {
    let CacheModel {
        expiry,
        key,
        version,
    } = &task.cache;
    if let Some(expiry) = expiry
        && expiry.value.is_some_and(|duration| duration.is_zero())
    {
        let message = "expected `cache` to be greater than zero: write `cache` alone to keep results forever, or leave it out to keep none";
        errors.at(&expiry.tokens, message);
    }
    if let Some(version) = version
        && version.value.trim().is_empty()
    {
        let message = "expected `version` to name the version of the code, got an empty string: write for example \
                       `version = \"2\"`, or leave it out";
        errors.at(&version.tokens, message);
    }
    check_path(key.as_ref(), errors);
    let keys = [
        key.as_ref().map(|key| &key.key),
        version.as_ref().map(|version| &version.key),
    ];
    for key in keys.into_iter().flatten().filter(|_| expiry.is_none()) {
        errors.at(
            key,
            format!("`{key}` needs a cache: add `cache`, or `cache = \"1h\"`, or leave it out"),
        );
    }
    let marked = task.function.parameters.iter().filter_map(|parameter| {
        let can_be_in_key = matches!(
            parameter.role(),
            Role::Input | Role::Entry(EntryKind::Variable)
        );
        Some((parameter.no_cache.first()?, parameter)).filter(|_| can_be_in_key)
    });
    for (mark, parameter) in marked {
        let name = parameter
            .name()
            .map_or_else(|| "the input".to_owned(), |name| format!("`{name}`"));
        if expiry.is_none() {
            errors.at(
                mark,
                "`#[no_cache]` needs a cache: add `cache`, or `cache = \"1h\"`, or leave it out",
            );
        } else if key.is_some() && parameter.role() == Role::Input {
            let message = format!(
                "`#[no_cache]` cannot be combined with `cache_key`: the function says what is part of the key; leave it \
                 out, and do not use {name} in the function"
            );
            errors.at(mark, message);
        }
    }
}

pub(super) fn function(task: &TaskModel, errors: &mut Errors) {
    task.function.check(errors);
    if let Some(one_too_many) = task.inputs().nth(MOST_INPUTS) {
        let message = format!(
            "expected at most {MOST_INPUTS} inputs, got {}: group them in a struct",
            task.inputs().count()
        );
        errors.at(&one_too_many.pattern, message);
    }
    if task.function.is_generic() {
        // Errors in the types would only follow from the generics.
        return;
    }
    for parameter in &task.function.parameters {
        match parameter.role() {
            Role::Input => input(parameter, errors),
            Role::Resource => shared::resource(parameter, errors),
            Role::Context => check_context(parameter, errors),
            Role::Entry(EntryKind::Connection) => shared::client(parameter, errors),
            Role::Entry(EntryKind::Variable) => variable(parameter, errors),
            Role::Entry(EntryKind::Secret) => shared::secret(parameter, errors),
        }
    }
    output(task, errors);
}

fn input(parameter: &Parameter, errors: &mut Errors) {
    let ty = ungrouped(&parameter.ty);
    if let Some(wiring) = FlowPart::of_ours(ty) {
        let message = format!(
            "expected data, got `{}`: a task takes the value, `{}`, and the flow passes the {}",
            written(ty),
            wiring.value_name(),
            wiring.noun()
        );
        errors.at(ty, message);
    } else {
        data(parameter, errors);
    }
}

fn variable(parameter: &Parameter, errors: &mut Errors) {
    let ty = ungrouped(&parameter.ty);
    if let Some(wiring) = FlowPart::of_ours(ty) {
        let message = format!(
            "expected plain data, got `{}`: a variable is read from a text; write for example `{}`",
            written(ty),
            wiring.value_name()
        );
        errors.at(ty, message);
    } else {
        data(parameter, errors);
    }
}

/// Checks that a type is owned data, or a reference to such.
fn data(parameter: &Parameter, errors: &mut Errors) {
    let ty = ungrouped(&parameter.ty);
    let Type::Reference(reference) = ty else {
        if let Some(fault) = TypeFault::of(ty) {
            errors.at(&fault, fault.message());
        }
        return;
    };
    let data = PassedType::of(ty);
    if let Some(lifetime) = &reference.lifetime {
        let message = format!(
            "expected a reference without a lifetime, got `{}`: write `&{}`, the value is borrowed from the run",
            written(ty),
            written(&reference.elem)
        );
        errors.at(lifetime, message);
    } else if reference.mutability.is_some() {
        let (got, owned) = (written(ty), data.stored_name());
        let name = parameter
            .name()
            .map_or_else(|| "value".to_owned(), ToString::to_string);
        let message = format!(
            "expected `&T` or an owned value, got `{got}`: tasks share their values; write `mut {name}: {owned}`"
        );
        errors.at(ty, message);
    } else if let Some(fault) = TypeFault::of(&reference.elem) {
        errors.at(&fault, fault.message());
    }
}

fn output(task: &TaskModel, errors: &mut Errors) {
    let output = TaskReturn::of(&task.function);
    if let TaskReturn::Unclear(ty) = output {
        let got = written(ty);
        let message = format!(
            "expected a `Result` with its value type, got `{got}`: write `Result<T>`, or `Result<()>` if there is no value"
        );
        errors.at(ty, message);
    }
    let Some(ty) = output.value() else { return };
    if let Some(wiring) = FlowPart::of_ours(ty) {
        let message = format!(
            "expected data, got `{}`: a task returns a value, such as `{}`; tasks are connected by a `#[flow]`, or by a function without an attribute",
            written(ty),
            wiring.value_name()
        );
        errors.at(ty, message);
    } else if arguments_of(ty, "Result").is_some() {
        errors.at(
            ty,
            format!(
                "expected data, got `{}` within a `Result`: return one `Result`",
                written(ty)
            ),
        );
    } else if let Some(fault) = TypeFault::of(ty) {
        let message = match &fault {
            TypeFault::Unnamed(future) if written(future).contains("Future<") => {
                "expected a type that has values, got a future: write `async fn`, and the type that it returns"
                    .to_owned()
            }
            fault => fault.message(),
        };
        errors.at(&fault, message);
    }
}
