//! The rules for flows.

use super::missed::MissedTicks;
use super::model::{FlowModel, FlowOutput, ServingModel};
use crate::attribute::data::{FlowPart, PassedType, TypeFault, arguments_of, is_plain, ungrouped};
use crate::attribute::entry::EntryKind;
use crate::attribute::fallback::Errors;
use crate::attribute::names::written;
use crate::attribute::signature::{MOST_INPUTS, Parameter, Role, check_context};
use syn::{LitStr, Type};

pub(super) fn options(flow: &FlowModel, errors: &mut Errors) {
    flow.label.check(errors);
    flow.defaults.check(errors);
    if let Some(runs) = &flow.max_active_runs
        && (runs.value == 0 || runs.value > u64::from(u32::MAX))
    {
        let message = format!(
            "expected `max_active_runs` to be from 1 to {}, got {}",
            u32::MAX,
            runs.value
        );
        errors.at(&runs.tokens, message);
    }
    if let Some(timeout) = &flow.timeout
        && timeout.value.is_zero()
    {
        errors.at(
            &timeout.tokens,
            "expected `timeout` to be greater than zero: leave it out for no limit",
        );
    }
    check_serving(flow, errors);
    for resource in &flow.resources {
        if let Type::Reference(reference) = ungrouped(resource) {
            let message = format!(
                "expected the type of a resource, got a reference: write `{}`",
                written(&reference.elem)
            );
            errors.at(resource, message);
        } else if let Some(fault) = TypeFault::of_resource(resource) {
            errors.at(&fault, fault.message());
        }
    }
    for (kind, names) in &flow.requirements {
        check_names(*kind, names, errors);
    }
}

fn check_names(kind: EntryKind, names: &[LitStr], errors: &mut Errors) {
    let mut seen = Vec::new();
    for literal in names {
        let name = literal.value();
        if let Some(fault) = kind.fault(&name) {
            errors.at(literal, fault);
        } else if seen.contains(&name) {
            let noun = kind.noun();
            errors.at(
                literal,
                format!("{noun} `{name}` is given twice: leave one of them out"),
            );
        }
        seen.push(name);
    }
}

fn check_serving(flow: &FlowModel, errors: &mut Errors) {
    let ServingModel {
        schedule,
        timezone,
        missed,
        overlap,
        depends_on_past,
    } = &flow.serving;
    let keys = [
        timezone.as_ref().map(|zone| &zone.key),
        missed.as_ref().map(|missed| &missed.key),
    ];
    for key in keys.into_iter().flatten().filter(|_| schedule.is_none()) {
        errors.at(
            key,
            format!("`{key}` needs a schedule: add `schedule = \"0 6 * * *\"`, or leave it out"),
        );
    }
    match missed.as_ref().map(|missed| (missed.value, &missed.tokens)) {
        Some((MissedTicks::Within(span), tokens)) if span.is_zero() => errors.at(
            tokens,
            "expected `missed` to be greater than zero: write `missed = \"none\"` for no runs",
        ),
        Some((MissedTicks::AtMost(runs), tokens)) if runs == 0 || runs > u64::from(u32::MAX) => {
            let message = format!(
                "expected `missed` to be from 1 to {}, got {runs}: write `missed = \"none\"` for no runs",
                u32::MAX
            );
            errors.at(tokens, message);
        }
        _ => {}
    }
    if let Some(overlap) = overlap
        && flow.max_active_runs.is_none()
    {
        let message = "`overlap` needs a limit: add `max_active_runs = 1`, or leave it out";
        errors.at(&overlap.key, message);
    }
    if let Some(overlap) = overlap
        && *depends_on_past
        && matches!(overlap.value, "CancelRunning" | "Latest")
    {
        let message = "it cancels runs, and with `depends_on_past` the run after a cancelled one waits until that is \
                       re-run: write `overlap = \"queue\"` or `\"skip\"`, or leave one of them out";
        errors.at(&overlap.tokens, message);
    }
}

pub(super) fn function(flow: &FlowModel, errors: &mut Errors) {
    flow.function.check(errors);
    if let Some(one_too_many) = flow.parameters().nth(MOST_INPUTS) {
        let message = format!(
            "expected at most {MOST_INPUTS} parameters, got {}: group them in a struct",
            flow.parameters().count()
        );
        errors.at(&one_too_many.pattern, message);
    }
    if flow.function.is_generic() {
        // Errors in the types would only follow from the generics.
        return;
    }
    for parameter in &flow.function.parameters {
        match parameter.role() {
            Role::Input => data(parameter, errors),
            Role::Resource => errors.at(
                parameter.marks.first(),
                "a flow takes no resources, its tasks do: put `#[resource]` on the parameter of a task",
            ),
            Role::Context => check_context(parameter, errors),
            Role::Entry(kind) => {
                let message = format!(
                    "a flow takes no {}, its tasks do: put `{}` on the parameter of a task",
                    kind.option(),
                    kind.mark("…")
                );
                errors.at(parameter.marks.first(), message);
            }
        }
    }
    match FlowOutput::of(&flow.function) {
        FlowOutput::Nothing => {}
        FlowOutput::Fallible { ty, ok, .. } if flow.function.is_async() => fallible(ty, ok, errors),
        FlowOutput::Fallible { ty, ok, .. } => {
            let value = ok.map_or_else(|| "T".to_owned(), value_name);
            let message = format!(
                "expected a node, got `{}`: a plain `fn` flow connects tasks, and cannot fail; write `Node<{value}>`, or make \
                 it an `async fn`",
                written(ty)
            );
            errors.at(ty, message);
        }
        FlowOutput::Wiring(ty) => wired(flow.function.is_async(), ty, errors),
    }
}

fn data(parameter: &Parameter, errors: &mut Errors) {
    let ty = ungrouped(&parameter.ty);
    if FlowPart::of_ours(ty).is_some() {
        let message = format!(
            "expected plain data, got `{}`: a flow's parameters are known before it runs; to pass a node, await it, or \
             write an ordinary function over nodes, without `#[flow]`",
            written(ty)
        );
        errors.at(ty, message);
    } else if let Type::Reference(_) = ty {
        let name = parameter
            .name()
            .map_or_else(|| "value".to_owned(), ToString::to_string);
        let owned = PassedType::of(ty).stored_name();
        let message = format!(
            "expected owned data, got `{}`: a flow keeps its parameters; write `{name}: {owned}`",
            written(ty)
        );
        errors.at(ty, message);
    } else if let Some(fault) = TypeFault::of(ty) {
        errors.at(&fault, fault.message());
    }
}

fn fallible(ty: &Type, ok: Option<&Type>, errors: &mut Errors) {
    let Some(ok) = ok else {
        let got = written(ty);
        let message = format!(
            "expected a `Result` with its value type, got `{got}`: write `Result<T>`, or `Result<()>` if there is no value"
        );
        return errors.at(ty, message);
    };
    if let Some(wiring) = FlowPart::of_ours(ok) {
        let message = format!(
            "expected data, got `{}` within a `Result`: await it, `Ok(node.await?)`, and return `Result<{}>`",
            written(ok),
            wiring.value_name()
        );
        errors.at(ok, message);
    } else if arguments_of(ok, "Result").is_some() {
        errors.at(
            ok,
            format!(
                "expected data, got `{}` within a `Result`: return one `Result`",
                written(ok)
            ),
        );
    } else if let Some(fault) = TypeFault::of(ok) {
        errors.at(&fault, fault.message());
    }
}

/// Checks that a return type consists of nodes, mappings and tuples of them.
fn wired(is_async: bool, ty: &Type, errors: &mut Errors) {
    let ty = ungrouped(ty);
    if let Some(flow @ FlowPart::Flow(_)) = FlowPart::of(ty) {
        let message = format!(
            "expected a node, got `{}`: pass the flow to a task that takes its output, `{}`, and return the node of that",
            written(ty),
            flow.value_name()
        );
        errors.at(ty, message);
    } else if let Some(wiring) = FlowPart::of(ty) {
        if let Some(fault) = TypeFault::of(wiring.argument()) {
            errors.at(&fault, fault.message());
        }
    } else if let Type::Tuple(tuple) = ty {
        for element in &tuple.elems {
            wired(is_async, element, errors);
        }
    } else if let Some(
        fault @ (TypeFault::Unnamed(_) | TypeFault::Infer(_) | TypeFault::Never(_)),
    ) = TypeFault::of(ty)
    {
        errors.at(
            &fault,
            "expected a `Node<T>`, a `Mapped<T>` or a tuple of them: a flow returns nodes",
        );
    } else if let Some(list) = list_of_nodes(ty) {
        let message = format!(
            "expected a node, got `{}`: pass the nodes to a task that takes a `{list}` (by `gather`), and return its node",
            written(ty)
        );
        errors.at(ty, message);
    } else {
        let (got, value) = (written(ty), PassedType::of(ty).stored_name());
        let alias = if is_plain(ty) {
            ""
        } else {
            " (if it is an alias of a node's type, write that type)"
        };
        let message = if is_async {
            format!(
                "expected `Result<{value}>`, got `{got}`: an `async fn` flow returns a `Result` of data, or nodes{alias}"
            )
        } else {
            format!(
                "expected a node, got `{got}`: a plain `fn` flow returns before its tasks run; write `Node<{value}>`, or \
                 make it an `async fn` that returns `Result<{value}>`{alias}"
            )
        };
        errors.at(ty, message);
    }
}

/// Returns the value type of a `Vec<Node<T>>` or an array of nodes.
fn list_of_nodes(ty: &Type) -> Option<String> {
    let element = match ty {
        Type::Array(array) => &array.elem,
        ty => match arguments_of(ty, "Vec")?[..] {
            [element] => element,
            _ => return None,
        },
    };
    FlowPart::of(element).map(|wiring| format!("Vec<{}>", wiring.value_name()))
}

/// Returns the data that a type in a flow stands for.
fn value_name(ty: &Type) -> String {
    FlowPart::of(ty).map_or_else(|| written(ty), FlowPart::value_name)
}
