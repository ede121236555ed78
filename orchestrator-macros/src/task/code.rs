//! The code of a task in a cache key: its tokens without layout and documentation.

use crate::attribute::signature::{Parameter, UserFunction};
use proc_macro2::{Delimiter, Group, Ident, Spacing, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};

/// Returns the parameters, the return type and the body, with a space between two tokens.
///
/// The text does not contain the name, `async` or attributes, except for the marks of connections,
/// variables and secrets: their names determine what is computed. It is independent of white space
/// and of the trailing comma of a list, which rustfmt changes, but not of other changes by rustfmt.
pub(crate) fn text(function: &UserFunction) -> String {
    let parameters = function.parameters.iter().map(|parameter| {
        let (pattern, ty) = (&parameter.pattern, &parameter.ty);
        let mark = mark(parameter);
        quote!(#mark #pattern: #ty)
    });
    let (output, body) = (&function.signature.output, &function.body);
    let mut text = Text(String::new());
    text.write(
        quote!((#(#parameters),*) #output #body),
        TokenContext::Nothing,
    );
    text.0
}

/// Returns the mark of a connection, a variable or a secret, in a form that is not an attribute and
/// that is the same for `"a"` and `r"a"`.
fn mark(parameter: &Parameter) -> Option<TokenStream> {
    let (kind, name) = parameter.entry()?;
    let (mark, name) = (Ident::new(kind.noun(), Span::mixed_site()), name.value());
    Some(quote!(#mark(#name)))
}

/// The context of tokens.
#[derive(Clone, Copy, PartialEq)]
enum TokenContext {
    /// No delimiters.
    Nothing,
    /// Code between delimiters.
    Code(Delimiter),
    /// The parentheses of a call or of a type such as `Some(u8)`, as opposed to a tuple.
    Call,
    /// The arguments of a macro, whose meaning only the macro knows.
    Macro,
}

struct Text(String);

impl Text {
    fn write(&mut self, tokens: TokenStream, within: TokenContext) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut rest = &tokens[..];
        while let Some((token, after)) = rest.split_first() {
            let before = &tokens[..tokens.len() - rest.len()];
            rest = after;
            match token {
                TokenTree::Punct(punct) => match (punct.as_char(), attribute(after)) {
                    ('#', Some((group, length)))
                        if within != TokenContext::Macro || is_doc(group) =>
                    {
                        rest = &after[length..]
                    }
                    (',', _) if is_layout(before, after, within) => {}
                    // `a && b` and `a & &b` differ in nothing but a space
                    ('&', _) if punct.spacing() == Spacing::Joint && starts_with(after, '&') => {
                        self.word("&&");
                        rest = &after[1..];
                    }
                    (punct, _) => self.word(punct.encode_utf8(&mut [0; 4])),
                },
                TokenTree::Group(group) => self.group(group, before, within),
                word @ (TokenTree::Ident(_) | TokenTree::Literal(_)) => {
                    self.word(&word.to_string())
                }
            }
        }
    }

    fn group(&mut self, group: &Group, before: &[TokenTree], within: TokenContext) {
        let delimiter = group.delimiter();
        let (open, close) = match delimiter {
            Delimiter::Parenthesis => ("(", ")"),
            Delimiter::Bracket => ("[", "]"),
            Delimiter::Brace => ("{", "}"),
            // tokens from a `macro_rules!`
            Delimiter::None => return self.write(group.stream(), within),
        };
        let inside = match before {
            _ if within == TokenContext::Macro => TokenContext::Macro,
            [.., TokenTree::Ident(_), TokenTree::Punct(bang)] if bang.as_char() == '!' => {
                TokenContext::Macro
            }
            [.., TokenTree::Ident(name)]
                if delimiter == Delimiter::Parenthesis && !is_keyword(name) =>
            {
                TokenContext::Call
            }
            _ => TokenContext::Code(delimiter),
        };
        self.word(open);
        self.write(group.stream(), inside);
        self.word(close);
    }

    fn word(&mut self, word: &str) {
        if !self.0.is_empty() {
            self.0.push(' ');
        }
        self.0.push_str(word);
    }
}

/// Returns the group after the `#` of an attribute, `[…]` or `![…]`, and the number of its tokens.
fn attribute(after: &[TokenTree]) -> Option<(&Group, usize)> {
    let (group, length) = match after {
        [TokenTree::Group(group), ..] => (group, 1),
        [TokenTree::Punct(bang), TokenTree::Group(group), ..] if bang.as_char() == '!' => {
            (group, 2)
        }
        _ => return None,
    };
    (group.delimiter() == Delimiter::Bracket).then_some((group, length))
}

/// Returns `true` for a doc comment, which macros see as an attribute.
fn is_doc(attribute: &Group) -> bool {
    matches!(attribute.stream().into_iter().next(), Some(TokenTree::Ident(name)) if name == "doc")
}

/// Whether a comma is there only because its list ends on the next line: not the one that makes
/// `(a,)` a tuple.
fn is_layout(before: &[TokenTree], after: &[TokenTree], within: TokenContext) -> bool {
    let is_comma =
        |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
    match within {
        TokenContext::Macro => false,
        _ if starts_with(after, '>') => true,
        _ if !after.is_empty() => false,
        TokenContext::Nothing => false,
        TokenContext::Code(Delimiter::Parenthesis) => before.iter().any(is_comma),
        TokenContext::Code(_) | TokenContext::Call => true,
    }
}

fn starts_with(tokens: &[TokenTree], character: char) -> bool {
    matches!(tokens.first(), Some(TokenTree::Punct(punct)) if punct.as_char() == character)
}

fn is_keyword(word: &Ident) -> bool {
    syn::parse2::<Ident>(word.to_token_stream()).is_err()
}

#[cfg(test)]
mod tests {
    use super::text;
    use crate::attribute::signature::{Noun, UserFunction};

    #[track_caller]
    fn of(item: &str) -> String {
        let tokens = item
            .parse()
            .unwrap_or_else(|error| panic!("{item}: {error}"));
        let Ok(function) = UserFunction::read(Noun::Task, tokens) else {
            panic!("{item}: no function")
        };
        text(&function)
    }

    #[test]
    fn the_text_is_the_tokens() {
        for (item, expected) in [
            ("fn a() {}", "( ) { }"),
            (
                "pub async fn a(mut b: &[u8], #[context] c: &Context) -> Result<u64> { Ok(b[0]) }",
                "( mut b : & [ u8 ] , c : & Context ) - > Result < u64 > { Ok ( b [ 0 ] ) }",
            ),
            (
                "fn a(r#type: Cow<'static, str>) {}",
                "( r#type : Cow < ' static , str > ) { }",
            ),
            (
                "fn a() { 'b: loop { break 'b '\\'' } }",
                "( ) { ' b : loop { break ' b '\\'' } }",
            ),
            ("fn a() -> bool { b && !c }", "( ) - > bool { b && ! c }"),
            (
                "fn a(#[variable(\"b\")] c: &str, d: u8) {}",
                "( variable ( \"b\" ) c : & str , d : u8 ) { }",
            ),
        ] {
            assert_eq!(of(item), expected, "{item}");
        }
    }

    #[test]
    fn layout_and_comments_do_not_change_the_text() {
        let same = |items: &[&str]| {
            for item in items {
                assert_eq!(of(item), of(items[0]), "{item}");
            }
        };
        // layout, names, visibility, docs, attributes
        same(&[
            "fn a(b: u8, c: &str) -> u8 { let d = b + 1; d }",
            "fn a(b:u8,c:&str)->u8{let d=b+1;d}",
            "fn a(\n    b: u8,\n    c: &str,\n) -> u8 {\n    // why\n    let d = b + 1;\n\n    d /* that */\n}",
            "pub(crate) async fn other(b: u8, c: &str) -> u8 { let d = b + 1; d }",
            "/// What.\n#[instrument(level = 1)]\nfn a(#[no_cache] b: u8, #[resource] c: &str) -> u8 { let d = b + 1; d }",
            "fn a(b: u8, #[allow(unused)] c: &str) -> u8 { #![allow(unused)] //! What.\n #[allow(x)] let d = b + 1; d }",
        ]);
        same(&[
            "fn a() { b!(\"{}\",c+d) }",
            "fn a() { b!( \"{}\" , c + d ) }",
            "fn a() { b!(\"{}\", /* e */ c + d) }",
        ]);
        same(&["fn a() { b! { c } }", "fn a() { b! { /// d\n c } }"]);
        same(&[
            "fn a() { struct A { b: u8 } }",
            "fn a() { /** c */ struct A { /// d\n b: u8, } }",
        ]);
        same(&[
            "fn a() -> A<B, C> { d(e, f)(g) }",
            "fn a() -> A<B, C,> { d(e, f,)(g) }",
        ]);
        same(&[
            "fn a() { b(c, d(e), [f], G { h }) }",
            "fn a() { b(c, d(e,), [f,], G { h, },) }",
        ]);
        same(&["fn a() { x&&-y }", "fn a() { x && -y }"]);
        same(&[
            "fn a(#[variable(\"b\")] c: &str) {}",
            "fn a(#[no_cache] #[variable(r\"b\",)] c: &str) {}",
        ]);
    }

    #[test]
    fn changed_code_changes_the_text() {
        let items = [
            "fn a(b: u8) -> u8 { let c = b + 1; c }",
            "fn a(b: u8) -> u8 { let c = b + 2; c }",
            "fn a(b: u8) -> u8 { let c = b - 1; c }",
            "fn a(b: u16) -> u8 { let c = b + 1; c }",
            "fn a(mut b: u8) -> u8 { let c = b + 1; c }",
            "fn a(d: u8) -> u8 { let c = b + 1; c }",
            "fn a(#[variable(\"d\")] b: u8) -> u8 { let c = b + 1; c }",
            "fn a(#[variable(\"e\")] b: u8) -> u8 { let c = b + 1; c }",
            "fn a(#[secret(\"d\")] b: u8) -> u8 { let c = b + 1; c }",
            "fn a(#[connection(\"d\")] b: u8) -> u8 { let c = b + 1; c }",
            "fn a(b: u8) -> u16 { let c = b + 1; c }",
            "fn a(b: u8) { let c = b + 1; c }",
            "fn a(b: u8) -> u8 { c; let c = b + 1; }",
            "fn a(b: u8) -> u8 { let c = b + 1; c; }",
            "fn a(b: u8) -> u8 { let c = b + 1; { c } }",
            "fn a(b: u8) -> u8 { let r#c = b + 1; c }",
            "fn a(b: u8) -> u8 { let c = b + 1u8; c }",
            "fn a() { (b) }",
            "fn a() { (b,) }",
            "fn a() { return (b) }",
            "fn a() { return (b,) }",
            "fn a() { b && c }",
            "fn a() { b & &c }",
            "fn a() { b!(c) }",
            "fn a() { b!(c,) }",
            "fn a() { b!(#[c] d) }",
            "fn a() { b!(#[e] d) }",
            "fn a() { 'b' }",
            "fn a() { \"b\" }",
        ];
        for (index, item) in items.iter().enumerate() {
            for other in &items[..index] {
                assert_ne!(of(item), of(other), "{item} and {other}");
            }
        }
    }
}
