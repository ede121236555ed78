//! The words in attributes: names, trigger rules, the nearest known word, and code as its author wrote it.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use quote::ToTokens;

use crate::similar;

/// The trigger rules by the names they have in attributes, with the variants of `Trigger`.
pub(crate) const TRIGGERS: [(&str, &str); 12] = [
    ("all_success", "AllSuccess"),
    ("all_failed", "AllFailed"),
    ("all_done", "AllDone"),
    ("all_done_min_one_success", "AllDoneMinOneSuccess"),
    ("one_success", "OneSuccess"),
    ("one_failed", "OneFailed"),
    ("one_done", "OneDone"),
    ("none_failed", "NoneFailed"),
    ("none_failed_min_one_success", "NoneFailedMinOneSuccess"),
    ("none_skipped", "NoneSkipped"),
    ("all_skipped", "AllSkipped"),
    ("always", "Always"),
];

/// What becomes of the ticks that came while nobody served, by its name, with the variants of `Missed`.
pub(crate) const MISSED: [(&str, &str); 3] =
    [("latest", "Latest"), ("all", "All"), ("none", "None")];

/// What becomes of a scheduled run that is one too many, by its name, with the variants of `Overlap`.
pub(crate) const OVERLAPS: [(&str, &str); 3] = [
    ("queue", "Queue"),
    ("skip", "Skip"),
    ("cancel_running", "CancelRunning"),
];

/// What stands between a name and the key of a node, in which `/`, `#` and `[…]` have a meaning.
pub(crate) fn fault_in_key(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("must not be empty".to_owned());
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

/// The known word that is nearest to a word of an attribute, if one is near.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    similar::nearest(&snake_case(word), known)
}

/// `"; did you mean `retries`?"`, or nothing.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known)
        .map(|known| format!("; did you mean `{known}`?"))
        .unwrap_or_default()
}

/// `` `a`, `b` and `c` ``.
pub(crate) fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let mut words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.pop() {
        Some(last) if words.is_empty() => last,
        Some(last) => format!("{} and {last}", words.join(", ")),
        None => String::new(),
    }
}

/// `OneSuccess`, `one-success` and `one_success` are one word.
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

/// The tokens with the spaces that people write: `&[Customer]`, `HashMap<String, u32>`.
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
    use super::{TRIGGERS, fault_in_key, list, nearest, written};

    #[test]
    fn the_nearest_word_is_suggested_if_it_is_near() {
        let rules = || TRIGGERS.iter().map(|(name, _)| *name);
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
    fn names_leave_out_what_keys_are_made_of() {
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
