//! Words in attributes: names, the nearest known word, and code in source form.

use orchestrator_grammar::bounds;
use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use quote::ToTokens;

use orchestrator_grammar::similar;

/// Returns the reason why a name cannot be part of a node's key, in which `/`, `#` and `[…]` have a
/// meaning.
pub(crate) fn fault_in_key(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("must not be empty".to_owned());
    }
    if let Some(fault) = bounds::fault(name, bounds::NAME) {
        return Some(format!("is too long: {fault}"));
    }
    let bad = name
        .chars()
        .find(|c| matches!(c, '/' | '#' | '[' | ']') || c.is_whitespace() || c.is_control())?;
    let bad = if bad.is_whitespace() || bad.is_control() {
        "white space".to_owned()
    } else {
        format!("`{bad}`")
    };
    Some(format!(
        "must not contain {bad}: it is part of the keys of nodes, as in `sub/load#2[7]`"
    ))
}

/// Returns the known word that is nearest to a word of an attribute, if one is near.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    similar::nearest(&snake_case(word), known)
}

/// Returns `"; did you mean `retries`, `retry_if` or `retry_delay`?"`, three words at most, if some
/// are near.
pub(crate) fn did_you_mean_one_of<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let near = similar::near(&snake_case(word), known);
    let near = near.into_iter().take(3);
    let words = joined(near, "or");
    (!words.is_empty()).then(|| format!("; did you mean {words}?"))
}

/// Returns `"; did you mean `retries`?"`, or nothing.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known)
        .map(|known| format!("; did you mean `{known}`?"))
        .unwrap_or_default()
}

/// Returns `` `a`, `b` and `c` ``.
pub(crate) fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    joined(words, "and")
}

fn joined<'a>(words: impl IntoIterator<Item = &'a str>, conjunction: &str) -> String {
    let mut words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.pop() {
        Some(last) if words.is_empty() => last,
        Some(last) => format!("{} {conjunction} {last}", words.join(", ")),
        None => String::new(),
    }
}

/// Converts a word to snake case: `OneSuccess`, `one-success` and `one_success` are the same word.
fn snake_case(word: &str) -> String {
    let mut snake = String::new();
    for (index, c) in word.chars().enumerate() {
        if c.is_uppercase() && index > 0 && !snake.ends_with('_') {
            snake.push('_');
        }
        snake.extend(if c == '-' { '_' } else { c }.to_lowercase());
    }
    snake
}

/// Formats tokens with conventional spacing: `&[Customer]`, `HashMap<String, u32>`.
pub(crate) fn written(code: impl ToTokens) -> String {
    let mut text = String::new();
    write(code.into_token_stream(), &mut text);
    text
}

fn write(tokens: TokenStream, text: &mut String) {
    let mut arrow = false;
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::None => ("", ""),
                };
                text.push_str(open);
                write(group.stream(), text);
                text.push_str(close);
            }
            TokenTree::Punct(punct) => match punct.as_char() {
                ',' | ';' => text.extend([punct.as_char(), ' ']),
                '+' | '=' => text.extend([' ', punct.as_char(), ' ']),
                '-' if punct.spacing() == Spacing::Joint => {
                    arrow = true;
                    text.push_str(" -");
                }
                '>' if arrow => {
                    arrow = false;
                    text.push_str("> ");
                }
                c => text.push(c),
            },
            word => {
                if text.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '"') {
                    text.push(' ');
                }
                text.push_str(&word.to_string());
            }
        }
    }
    text.truncate(text.trim_end().len());
}

#[cfg(test)]
mod tests {
    use super::{fault_in_key, list, nearest, written};
    use orchestrator_grammar::trigger::Trigger;

    #[test]
    fn the_nearest_word_is_suggested_if_it_is_near() {
        let rules = || Trigger::ALL.map(Trigger::as_str);
        for (word, suggestion) in [
            ("one_succes", Some("one_success")),
            ("OneSuccess", Some("one_success")),
            ("all-done", Some("all_done")),
            ("alwasy", Some("always")),
            ("none_fail", Some("none_failed")),
            ("whenever", None),
        ] {
            assert_eq!(nearest(word, rules()), suggestion, "{word}");
        }
        assert_eq!(nearest("retires", ["retries", "timeout"]), Some("retries"));
    }

    #[test]
    fn names_exclude_the_separators_of_keys() {
        assert_eq!(fault_in_key("load-to_warehouse.v2"), None);
        for name in ["", "a/b", "a#2", "a[0]", "a b", "a\n"] {
            assert!(fault_in_key(name).is_some(), "{name}");
        }
    }

    #[test]
    fn types_are_written_as_people_write_them() {
        for code in [
            "&[Customer]",
            "&str",
            "HashMap<String, Vec<u32>>",
            "Option<(u8, [i64; 4])>",
            "std::collections::BTreeMap<u8, ()>",
            "&'static str",
            "&mut Vec<u8>",
            "fn(u32, &T) -> Box<dyn Fn() -> u8 + Send>",
            "<Row as Trait>::Key",
            "-1",
        ] {
            let tokens: proc_macro2::TokenStream = code.parse().expect(code);
            assert_eq!(written(tokens), code);
        }
    }

    #[test]
    fn lists_end_in_and() {
        assert_eq!(list(["a"]), "`a`");
        assert_eq!(list(["a", "b", "c"]), "`a`, `b` and `c`");
    }
}
