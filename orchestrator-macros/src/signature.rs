//! The function under an attribute: what tasks and flows have in common, and what both refuse.

use crate::data::ungrouped;
use crate::fallback::Errors;
use crate::names::{nearest, written};
use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, TokenStreamExt, quote};
use std::fmt;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::visit::{self, Visit};
use syn::{
    Attribute, Block, Expr, FnArg, Ident, Item, Lit, Meta, Pat, PatType, ReturnType, Safety, Signature, Token,
    TraitItemFn, Type, Visibility, token,
};

/// What the function is to become.
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

/// The function as it was written, taken apart.
pub(crate) struct Function {
    pub(crate) noun: Noun,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) signature: Signature,
    pub(crate) body: TokenStream,
    pub(crate) parameters: Vec<Parameter>,
}

/// A parameter as it was written.
pub(crate) struct Parameter {
    /// What stays on the parameter of the user's function.
    pub(crate) attributes: Vec<Attribute>,
    /// `#[resource]`, `#[context]`: ours.
    pub(crate) marks: Vec<Attribute>,
    pub(crate) pattern: Pat,
    pub(crate) ty: Type,
}

/// What a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Role {
    Input,
    Resource,
    Context,
}

/// The marks, by the names of their attributes.
const MARKS: [(&str, Role); 2] = [("resource", Role::Resource), ("context", Role::Context)];

impl Parameter {
    fn new(parameter: &PatType) -> Self {
        let (marks, attributes) = parameter
            .attrs
            .iter()
            .cloned()
            .partition(|attribute| MARKS.iter().any(|(m, _)| attribute.path().is_ident(m)));
        Self {
            attributes,
            marks,
            pattern: (*parameter.pat).clone(),
            ty: (*parameter.ty).clone(),
        }
    }

    pub(crate) fn role(&self) -> Role {
        let mark = self.marks.first();
        let role = mark.and_then(|mark| MARKS.iter().find(|(name, _)| mark.path().is_ident(name)));
        role.map_or(Role::Input, |(_, role)| *role)
    }

    /// The name, where the pattern is one.
    pub(crate) fn name(&self) -> Option<&Ident> {
        match &self.pattern {
            Pat::Ident(pattern) if pattern.by_ref.is_none() && pattern.subpat.is_none() => Some(&pattern.ident),
            _ => None,
        }
    }
}

impl Function {
    /// Takes the item under the attribute, or gives what to emit in its place if it is no function with a body.
    pub(crate) fn read(noun: Noun, item: TokenStream) -> Result<Self, TokenStream> {
        let error = match syn::parse2::<Parts>(item.clone()) {
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
        match syn::parse2::<Item>(item.clone()).ok().as_ref().and_then(described) {
            Some((what, token)) => errors.at(
                token,
                format!("expected a function, got {what}: a {noun} is a function"),
            ),
            None => errors.push(error),
        }
        Err(errors.with(item))
    }

    fn new(
        noun: Noun,
        Parts {
            attributes,
            visibility,
            signature,
            body,
        }: Parts,
    ) -> Self {
        let parameters = signature.inputs.iter().filter_map(|argument| match argument {
            FnArg::Typed(parameter) => Some(Parameter::new(parameter)),
            FnArg::Receiver(_) => None,
        });
        Self {
            noun,
            parameters: parameters.collect(),
            attributes,
            visibility,
            signature,
            body,
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

    /// The text of the doc comment.
    pub(crate) fn documentation(&self) -> String {
        let lines = self.attributes.iter().filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
                Expr::Lit(literal) => match &literal.lit {
                    Lit::Str(text) => Some(text.value()),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        let trimmed = text.lines().map(|line| {
            line.strip_prefix(" * ")
                .or(line.strip_prefix(' '))
                .unwrap_or(line)
                .trim_end()
        });
        trimmed.collect::<Vec<_>>().join("\n").trim().to_owned()
    }

    /// The attributes for the function that callers see: its docs, whether it is there, and the lints that it allows.
    pub(crate) fn outer_attributes(&self) -> impl Iterator<Item = &Attribute> {
        self.attributes.iter().filter(|attribute| belongs_outside(attribute))
    }

    /// The user's function itself, with all other attributes: `#[instrument]` wants the body.
    pub(crate) fn inner(&self) -> TokenStream {
        let attributes = self.attributes.iter().filter(|attribute| !belongs_outside(attribute));
        let Signature {
            asyncness,
            fn_token,
            ident,
            paren_token,
            output,
            ..
        } = &self.signature;
        let parameters = self.parameters.iter().map(
            |Parameter {
                 attributes,
                 pattern,
                 ty,
                 ..
             }| { quote!(#(#attributes)* #pattern: #ty) },
        );
        let mut between = TokenStream::new();
        // The author's parentheses: a suggestion of the compiler, "try adding a return type", goes behind them.
        paren_token.surround(&mut between, |between| between.append_separated(parameters, quote!(,)));
        let body = &self.body;
        // Whether it is `async` says how it runs, not whether it awaits.
        quote! {
            #(#attributes)*
            #[allow(clippy::missing_const_for_fn, clippy::unused_async)]
            #asyncness #fn_token #ident #between #output #body
        }
    }

    /// What neither macro can make a task or a flow of.
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
            errors.at(constness, format!("a {noun} cannot be `const`: leave it out"));
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
                    "a function is a task or a flow, not both: a task works, a flow wires tasks".to_owned()
                };
                errors.at(attribute, message);
            }
        }
    }

    fn check_marks(&self, errors: &mut Errors) {
        let noun = self.noun;
        let mut context = false;
        for parameter in &self.parameters {
            for mark in &parameter.marks {
                if !matches!(mark.meta, Meta::Path(_)) {
                    let name = written(mark.path());
                    errors.at(mark, format!("expected `#[{name}]` alone: it takes no options"));
                }
            }
            if let [_, second, ..] = &parameter.marks[..] {
                errors.at(second, "expected one of `#[resource]` and `#[context]`, once");
            }
            if let (Role::Context, Some(mark)) = (parameter.role(), parameter.marks.first()) {
                if context {
                    errors.at(mark, format!("a {noun} has one context: leave this parameter out"));
                }
                context = true;
            }
            for attribute in &parameter.attributes {
                check_attribute(noun, attribute, errors);
            }
        }
    }

    fn check_names(&self, errors: &mut Errors) {
        for Parameter { pattern, ty, .. } in self.parameters.iter().filter(|parameter| parameter.name().is_none()) {
            let (got, ty) = (written(pattern), written(ty));
            let remedy = match pattern {
                Pat::Wild(_) => format!("write `_unused: {ty}`"),
                Pat::Ident(pattern) => format!("write `{}: {ty}`", pattern.ident),
                _ => format!("write `value: {ty}` and take it apart in the body"),
            };
            let message = format!(
                "expected a name, got the pattern `{got}`: a parameter's name is shown with its value; {remedy}"
            );
            errors.at(pattern, message);
        }
    }

    /// The first `Self` of the signature and the body that does not belong to an item inside of the body.
    fn first_self(&self) -> Option<Span> {
        let (signature, body) = (&self.signature, &self.body);
        let in_signature = mentions_self(quote!(#signature));
        if in_signature.is_some() || mentions_self(body.clone()).is_none() {
            // A receiver has its own error, and brings `Self` with it.
            return in_signature.filter(|_| self.signature.receiver().is_none());
        }
        let mut search = SelfSearch(None);
        search.visit_block(&syn::parse2::<Block>(body.clone()).ok()?);
        search.0.filter(|_| self.signature.receiver().is_none())
    }
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
            let message = format!("a parameter of a {noun} cannot depend on `{name}`: put it on the {noun}");
            errors.at(attribute, message);
        }
        "doc" => errors.at(
            attribute,
            format!("a parameter has no documentation: describe it in that of the {noun}"),
        ),
        _ => {
            let suggestion =
                nearest(&name, MARKS.map(|(mark, _)| mark)).map(|mark| format!("; did you mean `#[{mark}]`?"));
            let suggestion = suggestion.unwrap_or_default();
            let message =
                format!("unknown attribute `#[{name}]`{suggestion} (for parameters: `#[resource]` and `#[context]`)");
            errors.at(attribute, message);
        }
    }
}

/// A function, its body unread: what is in there is the compiler's business.
struct Parts {
    attributes: Vec<Attribute>,
    visibility: Visibility,
    signature: Signature,
    body: TokenStream,
}

impl Parse for Parts {
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
                .retain(|attribute| !MARKS.iter().any(|(mark, _)| attribute.path().is_ident(mark)));
        }
    }
    method
}

/// What an item is, and the token that says so.
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

/// Docs, `cfg`, lints and the like hold for the function that callers see; lints reach the function in it, too.
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
        // `cfg_attr(condition, attribute)` is what its attribute is.
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

fn mentions_self(tokens: TokenStream) -> Option<Span> {
    tokens.into_iter().find_map(|token| match token {
        TokenTree::Ident(ident) if ident == "Self" => Some(ident.span()),
        TokenTree::Group(group) => mentions_self(group.stream()),
        _ => None,
    })
}

/// Looks for `Self`, but not in items that have one of their own.
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
