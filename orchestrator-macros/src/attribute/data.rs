//! Types of data: those that can be passed between tasks, and those that cannot.

use super::names::written;
use super::place::CodeSpan;
use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::visit::{self, Visit};
use syn::{Expr, GenericArgument, Lifetime, PathArguments, Type};

/// How a value is passed to the user's function, and the type that is stored.
pub(crate) enum PassedType<'a> {
    /// `T`
    Owned(&'a Type),
    /// `&T`, stored as a `T`
    Borrowed(&'a Type),
    /// `&[T]`, stored as a `Vec<T>`
    Slice(&'a Type),
    /// `&str`, stored as a `String`
    Str,
}

impl<'a> PassedType<'a> {
    pub(crate) fn of(ty: &'a Type) -> Self {
        let Type::Reference(reference) = ungrouped(ty) else {
            return Self::Owned(ty);
        };
        match ungrouped(&reference.elem) {
            Type::Slice(slice) => Self::Slice(&slice.elem),
            Type::Path(path) if path.qself.is_none() && path.path.is_ident("str") => Self::Str,
            other => Self::Borrowed(other),
        }
    }

    pub(crate) fn is_owned(&self) -> bool {
        matches!(self, Self::Owned(_))
    }

    /// Returns the stored type, with the span of the parameter's type.
    pub(crate) fn stored(&self, place: CodeSpan) -> TokenStream {
        match self {
            Self::Owned(ty) | Self::Borrowed(ty) => ty.to_token_stream(),
            Self::Slice(element) => {
                let vec = place.first(quote!(::std::vec::Vec));
                let close = place.last(quote!(>));
                quote!(#vec<#element #close)
            }
            Self::Str => place.all(quote!(::std::string::String)),
        }
    }

    /// Returns the stored type, for messages.
    pub(crate) fn stored_name(&self) -> String {
        match self {
            Self::Owned(ty) | Self::Borrowed(ty) => written(ty),
            Self::Slice(element) => format!("Vec<{}>", written(element)),
            Self::Str => "String".to_owned(),
        }
    }
}

/// A part of a type that makes it unsuitable for values.
pub(crate) enum TypeFault<'a> {
    Reference(&'a Type),
    Exclusive(&'a Type),
    Lifetime(&'a Lifetime),
    /// `impl Trait` or `dyn Trait`
    Unnamed(&'a Type),
    Infer(&'a Type),
    Never(&'a Type),
}

impl<'a> TypeFault<'a> {
    /// Returns the first fault in the type of a resource. Resources are looked up by type, and may
    /// contain trait objects.
    pub(crate) fn of_resource(ty: &'a Type) -> Option<Self> {
        Self::of(ty).filter(|fault| !matches!(fault, Self::Unnamed(Type::TraitObject(_))))
    }

    /// Returns the first fault in a type.
    pub(crate) fn of(ty: &'a Type) -> Option<Self> {
        let mut search = TypeFaultSearch(None);
        search.visit_type(ty);
        search.0
    }

    /// Returns a description of the fault, and the correct form.
    pub(crate) fn message(&self) -> String {
        let got = written(self);
        match self {
            Self::Reference(ty) => {
                format!(
                    "expected owned data, got the reference `{got}`: write `{}`",
                    PassedType::of(ty).stored_name()
                )
            }
            Self::Exclusive(ty) => {
                let owned = PassedType::of(ty).stored_name();
                format!(
                    "expected owned data, got `{got}`: tasks share their values; write `{owned}`, as a `mut` binding if needed"
                )
            }
            Self::Lifetime(_) => {
                format!(
                    "expected owned data, got the lifetime `{got}`: values must be owned, since they outlive what they were created from"
                )
            }
            Self::Unnamed(_) => {
                format!(
                    "expected the name of a type, got `{got}`: values are stored, so their types are known"
                )
            }
            Self::Infer(_) => "expected a type, got `_`: write it out".to_owned(),
            Self::Never(_) => "expected a type that has values, got `!`".to_owned(),
        }
    }
}

impl ToTokens for TypeFault<'_> {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            Self::Lifetime(lifetime) => lifetime.to_tokens(tokens),
            Self::Reference(ty)
            | Self::Exclusive(ty)
            | Self::Unnamed(ty)
            | Self::Infer(ty)
            | Self::Never(ty) => {
                ty.to_tokens(tokens);
            }
        }
    }
}

struct TypeFaultSearch<'a>(Option<TypeFault<'a>>);

impl<'ast> Visit<'ast> for TypeFaultSearch<'ast> {
    fn visit_type(&mut self, ty: &'ast Type) {
        let fault = match ty {
            Type::Reference(reference) if reference.mutability.is_some() => {
                TypeFault::Exclusive(ty)
            }
            Type::Reference(_) => TypeFault::Reference(ty),
            Type::ImplTrait(_) | Type::TraitObject(_) => TypeFault::Unnamed(ty),
            Type::Infer(_) => TypeFault::Infer(ty),
            Type::Never(_) => TypeFault::Never(ty),
            // The compiler explains best why a function is not data.
            Type::FnPtr(_) => return,
            other => return visit::visit_type(self, other),
        };
        self.0.get_or_insert(fault);
    }

    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        if lifetime.ident != "static" {
            self.0.get_or_insert(TypeFault::Lifetime(lifetime));
        }
    }

    // The length of an array is not a type.
    fn visit_expr(&mut self, _: &'ast Expr) {}
}

/// Removes parentheses, and the invisible groups of `macro_rules!`.
pub(crate) fn ungrouped(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => ungrouped(&group.elem),
        Type::Paren(paren) => ungrouped(&paren.elem),
        other => other,
    }
}

/// Returns the type arguments of a path's last segment if it has this name: `T` and `E` of
/// `anyhow::Result<T, E>`.
pub(crate) fn arguments_of<'a>(ty: &'a Type, name: &str) -> Option<Vec<&'a Type>> {
    let Type::Path(path) = ungrouped(ty) else {
        return None;
    };
    let last = path.path.segments.last()?;
    if last.ident != name {
        return None;
    }
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return Some(Vec::new());
    };
    let types = arguments.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    Some(types.collect())
}

/// A type that flows consist of, by its last segment.
#[derive(Clone, Copy)]
pub(crate) enum FlowPart<'a> {
    Node(&'a Type),
    Mapped(&'a Type),
    Flow(&'a Type),
}

impl<'a> FlowPart<'a> {
    pub(crate) fn of(ty: &'a Type) -> Option<Self> {
        let argument = |name| match arguments_of(ty, name)?[..] {
            [argument] => Some(argument),
            _ => None,
        };
        None.or(argument("Node").map(Self::Node))
            .or(argument("Mapped").map(Self::Mapped))
            .or(argument("Flow").map(Self::Flow))
    }

    /// Like the above, for places where a user's type may have such a name, under another path.
    /// Looks through references.
    pub(crate) fn of_ours(ty: &'a Type) -> Option<Self> {
        let path = match ungrouped(ty) {
            Type::Reference(reference) => return Self::of_ours(&reference.elem),
            Type::Path(path) => &path.path,
            _ => return None,
        };
        let is_ours = path.segments.len() == 1 || path.segments.first()?.ident == "orchestrator";
        Self::of(ty).filter(|_| is_ours)
    }

    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Node(_) => "node",
            Self::Mapped(_) => "mapping",
            Self::Flow(_) => "flow",
        }
    }

    /// Returns the type of its value.
    pub(crate) fn value(self) -> TokenStream {
        match self {
            Self::Node(ty) | Self::Flow(ty) => ty.to_token_stream(),
            Self::Mapped(element) => quote!(::std::vec::Vec<#element>),
        }
    }

    /// Returns the type of its value, for messages.
    pub(crate) fn value_name(self) -> String {
        match self {
            Self::Node(ty) | Self::Flow(ty) => written(ty),
            Self::Mapped(element) => format!("Vec<{}>", written(element)),
        }
    }

    /// Returns the type as written.
    pub(crate) fn argument(self) -> &'a Type {
        let (Self::Node(ty) | Self::Mapped(ty) | Self::Flow(ty)) = self;
        ty
    }
}

/// Returns `true` if the type is plain data by its name: a type of the standard library, or a tuple
/// of such types.
pub(crate) fn is_plain(ty: &Type) -> bool {
    const PLAIN: [&str; 27] = [
        "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16",
        "u32", "u64", "u128", "usize", "str", "BTreeMap", "BTreeSet", "Box", "Duration", "HashMap",
        "HashSet", "Option", "String", "Vec", "VecDeque",
    ];
    match ungrouped(ty) {
        Type::Path(path) => path
            .path
            .segments
            .last()
            .is_some_and(|last| PLAIN.iter().any(|name| last.ident == name)),
        Type::Tuple(tuple) => tuple.elems.iter().all(is_plain),
        Type::Array(_) | Type::Slice(_) | Type::Reference(_) => true,
        _ => false,
    }
}
