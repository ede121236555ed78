//! The rules for functions that apply to both tasks and flows.

use super::mark::{Mark, Role};
use super::{Noun, Parameter, UserFunction};
use crate::attribute::data::ungrouped;
use crate::attribute::entry::EntryKind;
use crate::attribute::fallback::Errors;
use crate::attribute::names::{list, nearest, written};
use proc_macro2::{Span, TokenStream, TokenTree};
use quote::quote;
use syn::ext::IdentExt;
use syn::visit::{self, Visit};
use syn::{Attribute, Block, Ident, Item, Meta, Pat, Safety, Signature, Type};

impl UserFunction {
    pub(crate) fn check(&self, errors: &mut Errors) {
        self.check_qualifiers(errors);
        self.check_marks(errors);
        self.check_names(errors);
        if let Some(place) = self.first_self() {
            let message = format!(
                "expected the type's name, got `Self`: the body of a {} becomes a function outside of the `impl`",
                self.noun
            );
            errors.push(syn::Error::new(place, message));
        }
    }

    fn check_qualifiers(&self, errors: &mut Errors) {
        let noun = self.noun;
        let Signature {
            constness,
            safety,
            abi,
            generics,
            variadic,
            ..
        } = &self.signature;
        if let Some(constness) = constness {
            errors.at(
                constness,
                format!("a {noun} cannot be `const`: leave it out"),
            );
        }
        if let Safety::Unsafe(unsafety) = safety {
            errors.at(
                unsafety,
                format!("a {noun} cannot be `unsafe`: the runtime calls it; put an `unsafe` block into its body"),
            );
        }
        if let Some(abi) = abi {
            errors.at(abi, format!("a {noun} cannot be `extern`: leave it out"));
        }
        if let Some(variadic) = variadic {
            errors.at(
                variadic,
                format!("a {noun} has a fixed number of parameters: take a `Vec` instead"),
            );
        }
        if self.is_generic() {
            let message = format!(
                "a {noun} cannot be generic: its values are stored, so their types are fixed; write a {noun} for each \
                 type, and let them call a generic function"
            );
            errors.at(generics, message);
        } else if let Some(clause) = &generics.where_clause {
            errors.at(
                clause,
                format!("a {noun} cannot have a `where` clause: its types are fixed"),
            );
        }
        if let Some(receiver) = self.signature.receiver() {
            let message = format!(
                "a {noun} cannot take `self`: it may run later, or in another process; take what it needs as parameters{}",
                if noun == Noun::Task {
                    ", or as a `#[resource]`"
                } else {
                    ""
                }
            );
            errors.at(receiver, message);
        }
        for attribute in &self.attributes {
            let last = attribute
                .path()
                .segments
                .last()
                .map(|segment| segment.ident.to_string());
            if matches!(last.as_deref(), Some("task" | "flow")) {
                let what = last.unwrap_or_default();
                let message = if what == noun.to_string() {
                    format!("`#[{what}]` is given twice: leave one of them out")
                } else {
                    "a function is a task or a flow, not both: a task does work, a flow connects tasks"
                        .to_owned()
                };
                errors.at(attribute, message);
            }
        }
    }

    fn check_marks(&self, errors: &mut Errors) {
        let noun = self.noun;
        let mut context = false;
        for parameter in &self.parameters {
            for mark in parameter.marks.iter().chain(&parameter.no_cache) {
                check_mark(noun, mark, errors);
            }
            if let [_, second, ..] = &parameter.marks[..] {
                let is_role = |mark: &Mark| matches!(mark, Mark::Role(_));
                let marks = Mark::ALL.iter().filter(|mark| is_role(mark));
                let marks: Vec<String> = marks.map(ToString::to_string).collect();
                let marks = list(marks.iter().map(String::as_str));
                errors.at(second, format!("expected one of {marks}, once"));
            }
            if let (Role::Context, Some(mark)) = (parameter.role(), parameter.marks.first()) {
                if context {
                    errors.at(
                        mark,
                        format!("a {noun} has one context: leave this parameter out"),
                    );
                }
                context = true;
            }
            check_no_cache(noun, parameter, errors);
            for attribute in &parameter.attributes {
                check_attribute(noun, attribute, errors);
            }
        }
    }

    fn check_names(&self, errors: &mut Errors) {
        for Parameter { pattern, ty, .. } in self
            .parameters
            .iter()
            .filter(|parameter| parameter.name().is_none())
        {
            let (got, ty) = (written(pattern), written(ty));
            let remedy = match pattern {
                Pat::Wild(_) => format!("write `_unused: {ty}`"),
                Pat::Ident(pattern) => format!("write `{}: {ty}`", pattern.ident),
                _ => format!("write `value: {ty}` and destructure it in the body"),
            };
            let message = format!(
                "expected a name, got the pattern `{got}`: a parameter's name is shown with its value; {remedy}"
            );
            errors.at(pattern, message);
        }
    }

    /// Returns the first `Self` of the signature and the body that does not belong to an item
    /// inside the body.
    fn first_self(&self) -> Option<Span> {
        let (signature, body) = (&self.signature, &self.body);
        let in_signature = mentions_self(quote!(#signature));
        if in_signature.is_some() || mentions_self(body.clone()).is_none() {
            // A receiver has an error of its own, and implies `Self`.
            return in_signature.filter(|_| self.signature.receiver().is_none());
        }
        let mut search = SelfSearch(None);
        search.visit_block(&syn::parse2::<Block>(body.clone()).ok()?);
        search.0.filter(|_| self.signature.receiver().is_none())
    }
}

/// Checks the form of a mark.
fn check_mark(noun: Noun, mark: &Attribute, errors: &mut Errors) {
    if let Some(Mark::Role(Role::Entry(kind))) = Mark::of(mark) {
        // A flow cannot have it, whatever its form.
        if let (Noun::Task, Err(error)) = (noun, kind.name_in(mark)) {
            errors.push(error);
        }
    } else if !matches!(mark.meta, Meta::Path(_)) {
        let name = written(mark.path());
        errors.at(
            mark,
            format!("expected `#[{name}]` alone: it takes no options"),
        );
    }
}

fn check_no_cache(noun: Noun, parameter: &Parameter, errors: &mut Errors) {
    if let [_, second, ..] = &parameter.no_cache[..] {
        errors.at(
            second,
            "`#[no_cache]` is given twice: leave one of them out",
        );
    }
    let Some(mark) = parameter.no_cache.first() else {
        return;
    };
    let never = match (noun, parameter.role()) {
        (Noun::Flow, _) => {
            "`#[no_cache]` is for the inputs of tasks: a flow is not cached, its tasks are; leave it out"
        }
        (Noun::Task, Role::Input | Role::Entry(EntryKind::Variable)) => return,
        (Noun::Task, Role::Resource) => {
            "a resource is never part of a cache key: leave `#[no_cache]` out"
        }
        (Noun::Task, Role::Context) => {
            "the context is never part of a cache key: leave `#[no_cache]` out"
        }
        (Noun::Task, Role::Entry(EntryKind::Connection)) => {
            "a connection is never part of a cache key: leave `#[no_cache]` out"
        }
        (Noun::Task, Role::Entry(EntryKind::Secret)) => {
            "a secret is never part of a cache key: leave `#[no_cache]` out"
        }
    };
    errors.at(mark, never);
}

fn check_attribute(noun: Noun, attribute: &Attribute, errors: &mut Errors) {
    const LINTS: [&str; 5] = ["allow", "deny", "expect", "forbid", "warn"];
    let Some(name) = attribute
        .path()
        .get_ident()
        .map(IdentExt::unraw)
        .map(|name| name.to_string())
    else {
        return;
    };
    match name.as_str() {
        lint if LINTS.contains(&lint) => {}
        "cfg" | "cfg_attr" => {
            let message =
                format!("a parameter of a {noun} cannot depend on `{name}`: put it on the {noun}");
            errors.at(attribute, message);
        }
        "doc" => errors.at(
            attribute,
            format!("a parameter has no documentation: describe it in that of the {noun}"),
        ),
        _ => {
            let near = nearest(&name, Mark::ALL.map(Mark::name));
            let near = Mark::ALL.into_iter().find(|mark| near == Some(mark.name()));
            let suggestion =
                near.map_or_else(String::new, |mark| format!("; did you mean `{mark}`?"));
            let all = Mark::ALL.map(|mark| mark.to_string());
            let all = list(all.iter().map(String::as_str));
            errors.at(
                attribute,
                format!("unknown attribute `#[{name}]`{suggestion} (for parameters: {all})"),
            );
        }
    }
}

/// Checks the type of the parameter that takes the context.
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

fn mentions_self(tokens: TokenStream) -> Option<Span> {
    tokens.into_iter().find_map(|token| match token {
        TokenTree::Ident(ident) if ident == "Self" => Some(ident.span()),
        TokenTree::Group(group) => mentions_self(group.stream()),
        _ => None,
    })
}

/// Looks for `Self`, except in items that have their own.
struct SelfSearch(Option<Span>);

impl<'ast> Visit<'ast> for SelfSearch {
    fn visit_ident(&mut self, ident: &'ast Ident) {
        if ident == "Self" {
            self.0.get_or_insert(ident.span());
        }
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if let Some(place) = mentions_self(call.tokens.clone()) {
            self.0.get_or_insert(place);
        }
    }

    fn visit_item(&mut self, item: &'ast Item) {
        if let Item::Fn(_) | Item::Const(_) | Item::Static(_) = item {
            visit::visit_item(self, item);
        }
    }
}
