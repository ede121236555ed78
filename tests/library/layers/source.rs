//! What a source names: the paths in its `use` declarations and in its code, and its modules.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// A path as it is written, from its first segment.
pub(super) type Segments = Vec<String>;

/// What one source names.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) uses: Vec<Use>,
    /// The modules that it declares, with their bodies here or in other files.
    pub(super) modules: Vec<Module>,
}

/// One path.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Use {
    /// The modules within the file that it stands in.
    pub(super) within: Segments,
    pub(super) path: Segments,
    pub(super) brings: Brings,
    /// Whether it is compiled for tests alone.
    pub(super) is_test: bool,
}

/// What a path brings into its module.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Brings {
    /// It stands in code.
    Nothing,
    /// It is imported under a name.
    Name(String),
    Everything,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Module {
    pub(super) within: Segments,
    pub(super) name: String,
    pub(super) is_inline: bool,
    pub(super) is_test: bool,
}

pub(super) fn read(text: &str) -> Source {
    let tokens: TokenStream = text
        .parse()
        .unwrap_or_else(|error| panic!("{error}: {text}"));
    let mut source = Source::default();
    source.walk(tokens, &[], false);
    source
}

impl Source {
    /// Reads tokens of one level, and what is in their groups.
    fn walk(&mut self, tokens: TokenStream, within: &[String], in_test: bool) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        // from an attribute for tests to the end of its item
        let mut is_test = in_test;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Punct(punct) if punct.as_char() == '#' => {
                    let is_inner = is_punct(tokens.get(at + 1), '!');
                    at += 1 + usize::from(is_inner);
                    if let Some(attribute) = group(tokens.get(at), Delimiter::Bracket) {
                        is_test |= is_for_tests(attribute.stream());
                        self.walk(attribute.stream(), within, is_test);
                        at += 1;
                    }
                }
                TokenTree::Punct(punct) => {
                    if ";,".contains(punct.as_char()) {
                        is_test = in_test;
                    }
                    at += 1;
                    if punct.as_char() == ':' && is_punct(tokens.get(at), ':') {
                        // a path of another crate, or what follows generic arguments
                        at += 1;
                        path(&tokens, &mut at);
                    }
                }
                TokenTree::Group(group) => {
                    self.walk(group.stream(), within, is_test);
                    if group.delimiter() == Delimiter::Brace {
                        is_test = in_test;
                    }
                    at += 1;
                }
                TokenTree::Literal(_) => at += 1,
                TokenTree::Ident(ident) => match ident.to_string().as_str() {
                    "use" if !is_punct(tokens.get(at + 1), '<') => {
                        let end = tokens[at..]
                            .iter()
                            .position(|token| is_punct(Some(token), ';'));
                        let end = end.map_or(tokens.len(), |end| at + end);
                        self.declaration(&tokens[at + 1..end], within, is_test);
                        at = end;
                    }
                    "pub" => {
                        let scope = group(tokens.get(at + 1), Delimiter::Parenthesis);
                        at += 1 + usize::from(scope.is_some_and(is_visibility));
                    }
                    "mod" if name(tokens.get(at + 1)).is_some() => {
                        let name = name(tokens.get(at + 1)).unwrap_or_default();
                        let body = group(tokens.get(at + 2), Delimiter::Brace);
                        self.modules.push(Module {
                            within: within.to_vec(),
                            name: name.clone(),
                            is_inline: body.is_some(),
                            is_test,
                        });
                        if let Some(body) = body {
                            let within = [within, &[name]].concat();
                            self.walk(body.stream(), &within, is_test);
                            is_test = in_test;
                        }
                        at += 3;
                    }
                    _ => {
                        let path = path(&tokens, &mut at);
                        if path.len() > 1 {
                            self.uses.push(Use {
                                within: within.to_vec(),
                                path,
                                brings: Brings::Nothing,
                                is_test,
                            });
                        }
                    }
                },
            }
        }
    }

    /// Reads a `use` declaration, without its keyword.
    fn declaration(&mut self, tokens: &[TokenTree], within: &[String], is_test: bool) {
        let mut trees = Vec::new();
        tree(tokens, &[], &mut trees);
        self.uses
            .extend(trees.into_iter().map(|(path, brings)| Use {
                within: within.to_vec(),
                path,
                brings,
                is_test,
            }));
    }
}

/// One branch of the tree of a `use` declaration.
fn tree(tokens: &[TokenTree], before: &[String], into: &mut Vec<(Segments, Brings)>) {
    // paths of other crates begin with two colons
    if before.is_empty() && is_punct(tokens.first(), ':') {
        return;
    }
    let mut at = 0;
    let mut whole = before.to_vec();
    whole.extend(path(tokens, &mut at));
    // the colons before a group or a star
    while is_punct(tokens.get(at), ':') {
        at += 1;
    }
    match tokens.get(at) {
        Some(TokenTree::Group(list)) => {
            let branches: Vec<TokenTree> = list.stream().into_iter().collect();
            for branch in branches.split(|token| is_punct(Some(token), ',')) {
                if !branch.is_empty() {
                    tree(branch, &whole, into);
                }
            }
        }
        Some(TokenTree::Punct(punct)) if punct.as_char() == '*' => {
            into.push((whole, Brings::Everything));
        }
        other => {
            // `a::{self}` is `a`
            if whole.len() > 1 && whole.last().is_some_and(|last| last == "self") {
                whole.pop();
            }
            let renamed = name(other)
                .filter(|word| word == "as")
                .and(name(tokens.get(at + 1)));
            let name = renamed
                .or_else(|| whole.last().cloned())
                .unwrap_or_default();
            into.push((whole, Brings::Name(name)));
        }
    }
}

/// The names from here on that colons connect.
fn path(tokens: &[TokenTree], at: &mut usize) -> Segments {
    let mut segments = Vec::new();
    while let Some(segment) = name(tokens.get(*at)) {
        segments.push(segment);
        *at += 1;
        let is_connected = is_punct(tokens.get(*at), ':')
            && is_punct(tokens.get(*at + 1), ':')
            && name(tokens.get(*at + 2)).is_some();
        if !is_connected {
            break;
        }
        *at += 2;
    }
    segments
}

fn name(token: Option<&TokenTree>) -> Option<String> {
    match token {
        Some(TokenTree::Ident(ident)) => {
            Some(ident.to_string().trim_start_matches("r#").to_owned())
        }
        _ => None,
    }
}

fn is_punct(token: Option<&TokenTree>, character: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == character)
}

fn group(token: Option<&TokenTree>, delimiter: Delimiter) -> Option<&Group> {
    match token {
        Some(TokenTree::Group(group)) if group.delimiter() == delimiter => Some(group),
        _ => None,
    }
}

/// Whether parentheses after `pub` say for whom it is public: they may be a tuple as well.
fn is_visibility(group: &Group) -> bool {
    let first = name(group.stream().into_iter().next().as_ref());
    first.is_some_and(|first| ["crate", "self", "super", "in"].contains(&first.as_str()))
}

/// Whether an attribute is `test`, `…::test` or a `cfg` that only tests have.
fn is_for_tests(attribute: TokenStream) -> bool {
    let text = attribute.to_string().replace(' ', "");
    let is_cfg = text.starts_with("cfg(test") || text.starts_with("cfg(all(test");
    is_cfg
        || text == "test"
        || text
            .split('(')
            .next()
            .is_some_and(|name| name.ends_with("::test"))
}

#[cfg(test)]
mod tests {
    use super::{Brings, read};

    /// The paths of a source, `as` what they are imported, those of tests in brackets.
    fn uses(text: &str) -> Vec<String> {
        let shown = |found: &super::Use| {
            let path = found.path.join("::");
            let within = found
                .within
                .iter()
                .map(|name| format!("{name}: "))
                .collect::<String>();
            let brings = match &found.brings {
                Brings::Nothing => String::new(),
                Brings::Name(name) => format!(" as {name}"),
                Brings::Everything => "::*".to_owned(),
            };
            match found.is_test {
                true => format!("[{within}{path}{brings}]"),
                false => format!("{within}{path}{brings}"),
            }
        };
        read(text).uses.iter().map(shown).collect()
    }

    #[test]
    fn trees_of_use_are_read_over_several_lines() {
        let text = "
            use crate::{
                a::{b, c::{self, d as e}}, // not crate::x
                f,
                g::*,
            };
            pub(crate) use super::super::h;
            use self::{i::J as _};
            use {crate::k, super::l};
        ";
        let expected = [
            "crate::a::b as b",
            "crate::a::c as c",
            "crate::a::c::d as e",
            "crate::f as f",
            "crate::g::*",
            "super::super::h as h",
            "self::i::J as _",
            "crate::k as k",
            "super::l as l",
        ];
        assert_eq!(uses(text), expected);
    }

    #[test]
    fn paths_in_code_are_read() {
        let text = r##"
            fn f<T: crate::a::Trait>(x: &'a crate::b::C<super::d::E>) -> impl Fn(self::g::H) {
                crate::i::<u8>::new(x).j(crate::k!("crate::no"), r#"crate::no"#);
                <crate::l::M as crate::n::O>::p();
                let q = match x { crate::r::S { t, .. } => 'u: loop { break 'u t::v() }, };
            }
        "##;
        let expected = [
            "crate::a::Trait",
            "crate::b::C",
            "super::d::E",
            "self::g::H",
            "crate::i",
            "crate::k",
            "crate::l::M",
            "crate::n::O",
            "crate::r::S",
            "t::v",
        ];
        assert_eq!(uses(text), expected);
    }

    #[test]
    fn paths_in_macros_and_attributes_are_read() {
        let text = "
            #[derive(crate::a::B)]
            macro_rules! m { ($x:expr) => { $crate::c::d($x, crate::e::f) }; }
            m!(crate::g::h; r#type::i);
        ";
        let expected = [
            "crate::a::B",
            "crate::c::d",
            "crate::e::f",
            "crate::g::h",
            "type::i",
        ];
        assert_eq!(uses(text), expected);
    }

    #[test]
    fn comments_strings_visibilities_and_other_crates_are_no_uses() {
        let text = "
            //! crate::a::b
            /// [`crate::c::d`]
            /* crate::e /* crate::f */ */
            pub(in crate::g) struct S(pub(super) u8, pub (u8, u8));
            pub(in super::super) const TEXT: &str = \"crate::h\";
            use ::std::fmt;
            fn f() -> impl Sized + use<'_> { ::std::mem::drop(b\"crate::i\") }
        ";
        assert_eq!(uses(text), [""; 0]);
    }

    #[test]
    fn modules_in_the_file_are_known() {
        let text = "
            mod a { mod b { use super::super::c; } fn f() { super::d::e() } }
            use crate::g;
            mod h;
        ";
        assert_eq!(
            uses(text),
            [
                "a: b: super::super::c as c",
                "a: super::d::e",
                "crate::g as g"
            ]
        );
        let names = |inline| {
            let modules = read(text).modules.into_iter();
            let named = modules.filter(move |module| module.is_inline == inline);
            named.map(|module| module.name).collect::<Vec<_>>()
        };
        assert_eq!(
            (names(true), names(false)),
            (vec!["a".into(), "b".into()], vec!["h".into()])
        );
    }

    #[test]
    fn code_for_tests_is_marked_and_ends_with_its_item() {
        let text = "
            #[cfg(test)]
            use crate::a;
            use crate::b;
            #[cfg(test)]
            mod tests { use super::*; #[test] fn f() { crate::c::d() } }
            #[cfg(feature = \"x\")]
            use crate::e;
            #[tokio::test(start_paused = true)]
            async fn g(x: crate::h::I) { crate::j::k() }
            #[cfg(not(test))]
            fn l() { crate::m::n() }
            struct S { #[cfg(test)] o: crate::p::Q, r: crate::s::T }
            #[cfg(test)]
            mod suite;
        ";
        let expected = [
            "[crate::a as a]",
            "crate::b as b",
            "[tests: super::*]",
            "[tests: crate::c::d]",
            "crate::e as e",
            "[tokio::test]",
            "[crate::h::I]",
            "[crate::j::k]",
            "crate::m::n",
            "[crate::p::Q]",
            "crate::s::T",
        ];
        assert_eq!(uses(text), expected);
        assert!(read(text).modules.iter().all(|module| module.is_test));
    }
}
