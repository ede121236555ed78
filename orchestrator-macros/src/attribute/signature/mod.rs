//! The function under an attribute, as far as tasks and flows agree.

mod check;
mod mark;

pub(crate) use check::check_context;
pub(crate) use mark::Role;

use crate::attribute::data::ungrouped;
use crate::attribute::entry::EntryKind;
use crate::attribute::fallback::Errors;
use mark::{Mark, role_of};
use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, TokenStreamExt, quote};
use std::fmt;
use syn::parse::{Parse, ParseStream};
use syn::{
    Attribute, Expr, FnArg, Ident, Item, Lit, LitStr, Meta, Pat, PatType, ReturnType, Signature,
    Token, TraitItemFn, Type, Visibility, token,
};

/// The maximum number of inputs of a task and of parameters of a flow. Beyond it a struct reads
/// better, and the library does not have impls.
pub(crate) const MOST_INPUTS: usize = 12;

/// The item that the function becomes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Noun {
    Task,
    Flow,
}

impl fmt::Display for Noun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Task => "task",
            Self::Flow => "flow",
        })
    }
}

/// The parts of the user's function.
pub(crate) struct UserFunction {
    pub(crate) noun: Noun,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) signature: Signature,
    pub(crate) body: TokenStream,
    pub(crate) parameters: Vec<Parameter>,
}

/// A parameter of the user's function.
pub(crate) struct Parameter {
    /// The attributes that stay on the parameter of the user's function.
    pub(crate) attributes: Vec<Attribute>,
    /// The mark of the macro, such as `#[resource]`.
    pub(crate) marks: Vec<Attribute>,
    /// The mark `#[no_cache]`.
    pub(crate) no_cache: Vec<Attribute>,
    pub(crate) pattern: Pat,
    pub(crate) ty: Type,
}

impl Parameter {
    fn new(parameter: &PatType) -> Self {
        let (marks, others) = parameter
            .attrs
            .iter()
            .cloned()
            .partition::<Vec<_>, _>(|attribute| role_of(attribute).is_some());
        let (no_cache, attributes) = others
            .into_iter()
            .partition(|attribute| Mark::of(attribute).is_some());
        Self {
            attributes,
            marks,
            no_cache,
            pattern: (*parameter.pat).clone(),
            ty: (*parameter.ty).clone(),
        }
    }

    pub(crate) fn role(&self) -> Role {
        self.marks.first().and_then(role_of).unwrap_or(Role::Input)
    }

    /// Returns the kind and the name of the connection, the variable or the secret that it is.
    pub(crate) fn entry(&self) -> Option<(EntryKind, LitStr)> {
        let Role::Entry(kind) = self.role() else {
            return None;
        };
        Some((kind, kind.name_in(self.marks.first()?).ok()?))
    }

    /// Returns the name, if the pattern is a name.
    pub(crate) fn name(&self) -> Option<&Ident> {
        match &self.pattern {
            Pat::Ident(pattern) if pattern.by_ref.is_none() && pattern.subpat.is_none() => {
                Some(&pattern.ident)
            }
            _ => None,
        }
    }
}

impl UserFunction {
    /// Parses the item under the attribute. If it is not a function with a body, returns the tokens
    /// to emit in its place.
    pub(crate) fn read(noun: Noun, item: TokenStream) -> Result<Self, TokenStream> {
        let error = match syn::parse2::<UnparsedFunction>(item.clone()) {
            Ok(parts) => return Ok(Self::new(noun, parts)),
            Err(error) => error,
        };
        let mut errors = Errors::default();
        if let Ok(method) = syn::parse2::<TraitItemFn>(item.clone()) {
            let message = format!(
                "expected a function with a body, got a trait's method: a {noun} is one function; write it outside of the \
                 trait, and call the method from it"
            );
            errors.at(&method.sig.ident, message);
            return Err(errors.with(without_marks(method)));
        }
        match syn::parse2::<Item>(item.clone())
            .ok()
            .as_ref()
            .and_then(described)
        {
            Some((what, token)) => errors.at(
                token,
                format!("expected a function, got {what}: a {noun} is a function"),
            ),
            None => errors.push(error),
        }
        Err(errors.with(item))
    }

    fn new(noun: Noun, parts: UnparsedFunction) -> Self {
        let parameters = parts
            .signature
            .inputs
            .iter()
            .filter_map(|argument| match argument {
                FnArg::Typed(parameter) => Some(Parameter::new(parameter)),
                FnArg::Receiver(_) => None,
            });
        Self {
            noun,
            parameters: parameters.collect(),
            attributes: parts.attributes,
            visibility: parts.visibility,
            signature: parts.signature,
            body: parts.body,
        }
    }

    pub(crate) fn name(&self) -> &Ident {
        &self.signature.ident
    }

    pub(crate) fn is_async(&self) -> bool {
        self.signature.asyncness.is_some()
    }

    pub(crate) fn output(&self) -> Option<&Type> {
        match &self.signature.output {
            ReturnType::Type(_, ty) => Some(ungrouped(ty)),
            ReturnType::Default => None,
        }
    }

    pub(crate) fn is_generic(&self) -> bool {
        !self.signature.generics.params.is_empty()
    }

    /// Returns the text of the doc comment.
    pub(crate) fn documentation(&self) -> String {
        let lines: Vec<String> = self.attributes.iter().filter_map(doc_text).collect();
        let text = lines.join("\n");
        // A line of a `///` begins with a space, one of a `/**` with a star.
        let lines = text.lines().map(|line| {
            line.strip_prefix(" * ")
                .or(line.strip_prefix(' '))
                .unwrap_or(line)
        });
        lines
            .map(str::trim_end)
            .collect::<Vec<_>>()
            .join("\n")
            .trim()
            .to_owned()
    }

    /// Returns the attributes for the function that callers see: docs, `cfg` and lints.
    pub(crate) fn outer_attributes(&self) -> impl Iterator<Item = &Attribute> {
        self.attributes
            .iter()
            .filter(|attribute| belongs_outside(attribute))
    }

    /// Returns the user's function, with all other attributes: `#[instrument]` needs the body.
    pub(crate) fn inner(&self) -> TokenStream {
        let attributes = self
            .attributes
            .iter()
            .filter(|attribute| !belongs_outside(attribute));
        let Signature {
            asyncness,
            fn_token,
            ident,
            paren_token,
            output,
            ..
        } = &self.signature;
        let parameters = self.parameters.iter().map(|parameter| {
            let (attributes, pattern, ty) =
                (&parameter.attributes, &parameter.pattern, &parameter.ty);
            quote!(#(#attributes)* #pattern: #ty)
        });
        let mut between = TokenStream::new();
        // The user's parentheses: the compiler places its suggestion "try adding a return type"
        // after them.
        paren_token.surround(&mut between, |between| {
            between.append_separated(parameters, quote!(,))
        });
        let body = &self.body;
        // An `async` body determines how the task runs, whether it awaits or not.
        quote! {
            #(#attributes)*
            #[allow(clippy::missing_const_for_fn, clippy::unused_async)]
            #asyncness #fn_token #ident #between #output #body
        }
    }
}

/// A function with an unparsed body, whose errors are reported by the compiler.
struct UnparsedFunction {
    attributes: Vec<Attribute>,
    visibility: Visibility,
    signature: Signature,
    body: TokenStream,
}

impl Parse for UnparsedFunction {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        let signature = input.parse()?;
        if !input.peek(token::Brace) {
            return Err(input.error("expected a function's body"));
        }
        let body: TokenTree = input.parse()?;
        Ok(Self {
            attributes,
            visibility,
            signature,
            body: body.into(),
        })
    }
}

fn without_marks(mut method: TraitItemFn) -> TraitItemFn {
    for argument in &mut method.sig.inputs {
        if let FnArg::Typed(parameter) = argument {
            parameter
                .attrs
                .retain(|attribute| Mark::of(attribute).is_none());
        }
    }
    method
}

/// Returns the kind of an item, and the token that shows it.
fn described(item: &Item) -> Option<(&'static str, TokenStream)> {
    Some(match item {
        Item::Const(item) => ("a constant", item.const_token.to_token_stream()),
        Item::Enum(item) => ("an enum", item.enum_token.to_token_stream()),
        Item::Impl(item) => ("an impl block", item.impl_token.to_token_stream()),
        Item::Mod(item) => ("a module", item.mod_token.to_token_stream()),
        Item::Static(item) => ("a static", item.static_token.to_token_stream()),
        Item::Struct(item) => ("a struct", item.struct_token.to_token_stream()),
        Item::Trait(item) => ("a trait", item.trait_token.to_token_stream()),
        Item::Type(item) => ("a type alias", item.type_token.to_token_stream()),
        Item::Use(item) => ("an import", item.use_token.to_token_stream()),
        _ => return None,
    })
}

/// Returns the text of a `#[doc = "…"]`, the form in which macros see a doc comment.
fn doc_text(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(pair) = &attribute.meta else {
        return None;
    };
    match &pair.value {
        Expr::Lit(literal) if pair.path.is_ident("doc") => match &literal.lit {
            Lit::Str(text) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

/// Returns `true` for docs, `cfg`, lints and the like, which apply to the function that callers
/// see. Lints also reach the function inside it.
fn belongs_outside(attribute: &Attribute) -> bool {
    const OUTSIDE: [&str; 9] = [
        "allow",
        "cfg",
        "deny",
        "deprecated",
        "doc",
        "expect",
        "forbid",
        "must_use",
        "warn",
    ];
    let named = |path: &syn::Path| OUTSIDE.iter().any(|name| path.is_ident(name));
    match &attribute.meta {
        // `cfg_attr(condition, attribute)` belongs where its attribute does.
        Meta::List(list) if list.path.is_ident("cfg_attr") => {
            let inner = |input: ParseStream<'_>| {
                input.parse::<Meta>()?;
                input.parse::<Token![,]>()?;
                let path = input.call(syn::Path::parse_mod_style)?;
                input.parse::<TokenStream>()?;
                Ok(path)
            };
            list.parse_args_with(inner).is_ok_and(|path| named(&path))
        }
        meta => named(meta.path()),
    }
}
