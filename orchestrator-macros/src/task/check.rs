//! All rules for tasks.

use super::model::{Cache, Delay, Label, Output, Settings, Task};
use crate::data::{Data, Fault, Wiring, arguments_of, ungrouped};
use crate::fallback::Errors;
use crate::names::{fault_in_key, written};
use crate::options::Given;
use crate::signature::{Parameter, Role};
use syn::{ExprPath, Type};

/// More than this no one waits for; a task that needs more has a `retry_if`, or a schedule.
const MOST_RETRIES: u64 = 100;

/// Above this a struct reads better, and the library's impls end.
pub(crate) const MOST_INPUTS: usize = 12;

pub(super) fn options(task: &Task, errors: &mut Errors) {
    check_label(&task.label, errors);
    check_settings(&task.settings, errors);
    check_cache(task, errors);
}

fn check_cache(task: &Task, errors: &mut Errors) {
    let Cache {
        expiry,
        key,
        version,
    } = &task.cache;
    if let Some(expiry) = expiry
        && expiry.value.is_some_and(|duration| duration.is_zero())
    {
        let message = "expected `cache` to be more than nothing: write `cache` alone to keep results for ever, or leave it \
                       out to keep none";
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
    for (mark, parameter) in task
        .inputs()
        .filter_map(|parameter| Some((parameter.no_cache.first()?, parameter)))
    {
        let name = parameter
            .name()
            .map_or_else(|| "the input".to_owned(), |name| format!("`{name}`"));
        if expiry.is_none() {
            errors.at(
                mark,
                "`#[no_cache]` needs a cache: add `cache`, or `cache = \"1h\"`, or leave it out",
            );
        } else if key.is_some() {
            let message = format!(
                "`#[no_cache]` cannot be combined with `cache_key`: the function says what is part of the key; leave it \
                 out, and do not use {name} in the function"
            );
            errors.at(mark, message);
        }
    }
}

/// The path of a function, in an option.
fn check_path(path: Option<&Given<ExprPath>>, errors: &mut Errors) {
    if let Some(path) = path
        && path
            .value
            .path
            .segments
            .first()
            .is_some_and(|first| first.ident == "Self")
    {
        errors.at(
            &path.tokens,
            "expected the type's name, got `Self`: options stand outside of the `impl`",
        );
    }
}

pub(crate) fn check_label(label: &Label, errors: &mut Errors) {
    if let Some(name) = &label.name
        && let Some(fault) = fault_in_key(&name.value)
    {
        errors.at(&name.tokens, format!("`name` {fault}"));
    }
    let mut seen = Vec::new();
    for tag in label.tags.iter().flat_map(|tags| &tags.value) {
        if tag.value().trim().is_empty() {
            errors.at(tag, "expected a tag, got an empty string: leave it out");
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

pub(crate) fn check_settings(settings: &Settings, errors: &mut Errors) {
    check_retries(settings, errors);
    if let Some(timeout) = &settings.timeout
        && timeout.value.is_zero()
    {
        errors.at(
            &timeout.tokens,
            "expected `timeout` to be more than nothing: leave it out for no limit",
        );
    }
    if let Some(pool) = &settings.pool
        && pool.value.trim().is_empty()
    {
        errors.at(
            &pool.tokens,
            "expected `pool` to name a pool, got an empty string",
        );
    }
    if let Some(slots) = &settings.pool_slots {
        if settings.pool.is_none() {
            errors.at(
                &slots.key,
                "`pool_slots` needs a pool: add `pool = \"…\"`, or leave it out",
            );
        }
        if slots.value == 0 || slots.value > u64::from(u32::MAX) {
            errors.at(
                &slots.tokens,
                format!(
                    "expected `pool_slots` to be from 1 to {}, got {}",
                    u32::MAX,
                    slots.value
                ),
            );
        }
    }
}

fn check_retries(settings: &Settings, errors: &mut Errors) {
    check_path(settings.retry_if.as_ref(), errors);
    if let Some(retries) = &settings.retries
        && retries.value > MOST_RETRIES
    {
        errors.at(
            &retries.tokens,
            format!(
                "expected `retries` to be at most {MOST_RETRIES}, got {}",
                retries.value
            ),
        );
    }
    if let Some(backoff) = &settings.backoff
        && !(backoff.value >= 1.0 && backoff.value.is_finite())
    {
        let message = "expected `backoff` to be a factor from 1 on: 2 doubles the delay with each attempt, 1 keeps it";
        errors.at(&backoff.tokens, message);
    }
    match settings
        .retry_delay
        .as_ref()
        .map(|delay| (&delay.value, delay))
    {
        Some((Delay::List(delays), given)) => {
            if delays.is_empty() {
                errors.at(
                    &given.tokens,
                    "expected at least one delay in `retry_delay`: the last one repeats",
                );
            }
            let excluded = [
                settings.backoff.as_ref().map(|backoff| &backoff.key),
                settings.max_retry_delay.as_ref().map(|delay| &delay.key),
            ];
            for key in excluded.into_iter().flatten() {
                let message = format!(
                    "`{key}` cannot be combined with a list of delays in `retry_delay`: the list says each of them; leave \
                     `{key}` out, or give one delay"
                );
                errors.at(key, message);
            }
        }
        Some((Delay::Fixed(delay), given)) => {
            if let Some(most) = &settings.max_retry_delay
                && most.value < *delay
            {
                let (delay, got) = (written(&given.tokens), written(&most.tokens));
                let message = format!(
                    "expected `max_retry_delay` to be at least the `retry_delay` of {delay}, got {got}"
                );
                errors.at(&most.tokens, message);
            }
        }
        None => {}
    }
}

pub(super) fn function(task: &Task, errors: &mut Errors) {
    task.function.check(errors);
    if let Some(one_too_many) = task.inputs().nth(MOST_INPUTS) {
        let message = format!(
            "expected at most {MOST_INPUTS} inputs, got {}: group them in a struct",
            task.inputs().count()
        );
        errors.at(&one_too_many.pattern, message);
    }
    if task.function.is_generic() {
        // What is wrong with the types is that they are generic.
        return;
    }
    for parameter in &task.function.parameters {
        match parameter.role() {
            Role::Input => input(parameter, errors),
            Role::Resource => resource(parameter, errors),
            Role::Context => check_context(parameter, errors),
        }
    }
    output(task, errors);
}

fn input(parameter: &Parameter, errors: &mut Errors) {
    let ty = ungrouped(&parameter.ty);
    if let Some(wiring) = Wiring::of_ours(ty) {
        let message = format!(
            "expected data, got `{}`: a task takes the value, `{}`, and the flow passes the {}",
            written(ty),
            wiring.value_name(),
            wiring.noun()
        );
        errors.at(ty, message);
        return;
    }
    let Type::Reference(reference) = ty else {
        if let Some(fault) = Fault::of(ty) {
            errors.at(&fault, fault.message());
        }
        return;
    };
    let data = Data::of(ty);
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
    } else if let Some(fault) = Fault::of(&reference.elem) {
        errors.at(&fault, fault.message());
    }
}

fn resource(parameter: &Parameter, errors: &mut Errors) {
    let ty = ungrouped(&parameter.ty);
    let got = written(ty);
    let name = parameter
        .name()
        .map_or_else(|| "resource".to_owned(), ToString::to_string);
    let Type::Reference(reference) = ty else {
        let message = format!(
            "expected `#[resource] {name}: &{got}`, got `{got}`: tasks share a resource, so they borrow it"
        );
        errors.at(ty, message);
        return;
    };
    if let Some(lifetime) = &reference.lifetime {
        errors.at(
            lifetime,
            format!(
                "expected a reference without a lifetime: write `&{}`",
                written(&reference.elem)
            ),
        );
    } else if reference.mutability.is_some() {
        let message = format!(
            "expected `&{}`, got `{got}`: tasks share a resource; if they change it, let it hold a `Mutex`",
            written(&reference.elem)
        );
        errors.at(ty, message);
    } else {
        match Data::of(ty) {
            Data::Slice(_) | Data::Str => {
                let owned = Data::of(ty).stored_name();
                let message = format!(
                    "expected a resource, got `{got}`: a resource is found by its type; wrap the `{owned}` in a struct"
                );
                errors.at(ty, message);
            }
            Data::Owned(_) | Data::Borrowed(_) => match ungrouped(&reference.elem) {
                Type::TraitObject(object) => {
                    let object = written(object);
                    let message = format!(
                        "expected the type of a resource, got `{got}`: write `&Box<{object}>`, and provide such a box"
                    );
                    errors.at(ty, message);
                }
                elem => {
                    if let Some(fault) = Fault::of_resource(elem) {
                        errors.at(&fault, fault.message());
                    }
                }
            },
        }
    }
}

pub(crate) fn check_context(parameter: &Parameter, errors: &mut Errors) {
    let ty = ungrouped(&parameter.ty);
    let name = parameter
        .name()
        .map_or_else(|| "context".to_owned(), ToString::to_string);
    let is_right = matches!(ty, Type::Reference(reference)
        if reference.lifetime.is_none()
            && reference.mutability.is_none()
            && matches!(ungrouped(&reference.elem), Type::Path(_)));
    if !is_right {
        errors.at(
            ty,
            format!(
                "expected `#[context] {name}: &Context`, got `{}`",
                written(ty)
            ),
        );
    }
}

fn output(task: &Task, errors: &mut Errors) {
    let output = Output::of(&task.function);
    if let Output::Unclear(ty) = output {
        let got = written(ty);
        let message = format!(
            "expected a `Result` that names its value, got `{got}`: write `Result<T>`, or `Result<()>` for none"
        );
        errors.at(ty, message);
    }
    let Some(ty) = output.value() else { return };
    if let Some(wiring) = Wiring::of_ours(ty) {
        let message = format!(
            "expected data, got `{}`: a task returns a value, such as `{}`; what wires tasks is a `#[flow]`, or a function \
             without an attribute",
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
    } else if let Some(fault) = Fault::of(ty) {
        let message = match &fault {
            Fault::Unnamed(future) if written(future).contains("Future<") => {
                "expected a type that has values, got a future: write `async fn`, and the type that it returns"
                    .to_owned()
            }
            fault => fault.message(),
        };
        errors.at(&fault, message);
    }
}
