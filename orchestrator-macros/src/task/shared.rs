//! The rules for what tasks share, and therefore borrow: resources, the clients that connections
//! become, and secrets.

use crate::attribute::data::{PassedType, TypeFault, arguments_of, ungrouped};
use crate::attribute::entry::EntryKind;
use crate::attribute::fallback::Errors;
use crate::attribute::names::written;
use crate::attribute::signature::Parameter;
use syn::{Type, TypeReference};

pub(super) fn resource(parameter: &Parameter, errors: &mut Errors) {
    let Some((ty, reference)) = borrowed(parameter, "resource", errors) else {
        return;
    };
    let got = written(ty);
    match (PassedType::of(ty), ungrouped(&reference.elem)) {
        (text @ (PassedType::Slice(_) | PassedType::Str), _) => {
            let owned = text.stored_name();
            let message = format!(
                "expected a resource, got `{got}`: a resource is found by its type; wrap the `{owned}` in a struct"
            );
            errors.at(ty, message);
        }
        (_, Type::TraitObject(object)) => {
            let object = written(object);
            let message = format!(
                "expected the type of a resource, got `{got}`: write `&Box<{object}>`, and provide such a box"
            );
            errors.at(ty, message);
        }
        (_, elem) => {
            if let Some(fault) = TypeFault::of_resource(elem) {
                errors.at(&fault, fault.message());
            }
        }
    }
}

pub(super) fn client(parameter: &Parameter, errors: &mut Errors) {
    let Some((ty, reference)) = borrowed(parameter, "client", errors) else {
        return;
    };
    let got = written(ty);
    match (PassedType::of(ty), ungrouped(&reference.elem)) {
        (PassedType::Slice(_) | PassedType::Str, _) => {
            let message = format!(
                "expected a client, got `{got}`: a client is a type that implements `Connect`; for the connection itself, \
                 write `&Connection`"
            );
            errors.at(ty, message);
        }
        (_, elem @ (Type::TraitObject(_) | Type::ImplTrait(_))) => {
            let message = format!(
                "expected the type of a client, got `{}`: the type determines how the client is made of the connection",
                written(elem)
            );
            errors.at(elem, message);
        }
        (_, elem) => {
            if let Some(fault) = TypeFault::of_resource(elem) {
                errors.at(&fault, fault.message());
            }
        }
    }
}

/// Checks that a parameter is written as a `&T` without a lifetime, and returns that type.
fn borrowed<'a>(
    parameter: &'a Parameter,
    noun: &str,
    errors: &mut Errors,
) -> Option<(&'a Type, &'a TypeReference)> {
    let ty = ungrouped(&parameter.ty);
    let got = written(ty);
    let Type::Reference(reference) = ty else {
        let mark = parameter.marks.first().map(written).unwrap_or_default();
        let name = parameter
            .name()
            .map_or_else(|| noun.to_owned(), ToString::to_string);
        let message = format!(
            "expected `{mark} {name}: &{got}`, got `{got}`: tasks share a {noun}, so they borrow it"
        );
        errors.at(ty, message);
        return None;
    };
    let elem = written(&reference.elem);
    if let Some(lifetime) = &reference.lifetime {
        errors.at(
            lifetime,
            format!("expected a reference without a lifetime: write `&{elem}`"),
        );
        return None;
    }
    if reference.mutability.is_some() {
        let message = format!(
            "expected `&{elem}`, got `{got}`: tasks share a {noun}; if they change it, let it hold a `Mutex`"
        );
        errors.at(ty, message);
        return None;
    }
    Some((ty, reference))
}

pub(super) fn secret(parameter: &Parameter, errors: &mut Errors) {
    let ty = ungrouped(&parameter.ty);
    let (is_plain_reference, elem) = match ty {
        Type::Reference(reference) => (
            reference.lifetime.is_none() && reference.mutability.is_none(),
            &*reference.elem,
        ),
        other => (false, other),
    };
    let is_secret = is_secret(elem);
    if is_plain_reference && is_secret {
        return;
    }
    let mark = parameter
        .marks
        .first()
        .map_or_else(|| EntryKind::Secret.example(), written);
    let name = parameter
        .name()
        .map_or_else(|| "key".to_owned(), ToString::to_string);
    let expected = if is_secret {
        written(elem)
    } else {
        "Secret".to_owned()
    };
    let reason = if is_secret {
        "tasks share a secret, so they borrow it".to_owned()
    } else {
        format!("`{name}.expose()` returns the text, in the body")
    };
    let message = format!(
        "expected `{mark} {name}: &{expected}`, got `{}`: {reason}",
        written(ty)
    );
    errors.at(ty, message);
}

/// Returns `true` if the last segment of the type is `Secret`.
fn is_secret(ty: &Type) -> bool {
    arguments_of(ty, "Secret").is_some_and(|arguments| arguments.is_empty())
}
