//! Masks secrets in texts that are recorded or shown: in log lines, errors and panics.
//!
//! The types are the first wall: a [`Secret`](crate::Secret) cannot be printed or serialized. This is
//! the second one, at best effort, for texts in which a body or a service repeats a secret that this
//! process has read.
//!
//! One automaton looks for all known secrets. It is rebuilt when a secret is read for the first time,
//! so that a text without a secret costs one scan, and none while no secret is known.
//!
//! Not masked are secrets that are contained in a known plain text, such as a login, a host, a
//! database or the name of a connection: a password `postgres` would make the logs unreadable, and
//! `source-***` would tell it.

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aho_corasick::{AhoCorasick, MatchKind};
use parking_lot::{Mutex, RwLock};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use crate::excerpt::Excerpt;
use crate::secret::HIDDEN;

/// The minimum length of a secret that is looked for anywhere in a text, in bytes. A shorter one would
/// be found in ordinary words.
const LONG: usize = 8;

/// The maximum number of secrets that are looked for: the latest ones. Credentials that end are read
/// again and again.
const MOST: usize = 4_096;

/// The characters that `encodeURIComponent` and its like leave as they are.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Why a secret is not masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weakness {
    /// It is short: masked only if it is a whole field of a log line.
    Short,
    /// It is contained in a plain text.
    Plain,
}

impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => write!(f, "it has fewer than {LONG} bytes, so it is not masked within texts"),
            Self::Plain => f.write_str(
                "it is, or is a part of, a login, a host, a database or a name, so it is not masked in logs and errors",
            ),
        }
    }
}

/// The secrets and the plain texts that are known.
#[derive(Default)]
struct Known {
    /// In the order in which they were read.
    secrets: VecDeque<KnownSecret>,
    plain: HashSet<String>,
}

/// A secret, without spaces and newlines around it: what uses it may trim it.
struct KnownSecret {
    text: Zeroizing<String>,
    /// Whether it is contained in a plain text.
    is_plain: bool,
}

impl Known {
    fn weakness(&self, secret: &str) -> Option<Weakness> {
        let secret = secret.trim();
        if self.plain.iter().any(|plain| plain.contains(secret)) {
            return Some(Weakness::Plain);
        }
        (secret.len() < LONG).then_some(Weakness::Short)
    }

    /// Adds secrets and plain texts. Returns `true` if other texts are masked from now on.
    fn learn(&mut self, secrets: &[&str], plain: &[&str]) -> bool {
        let mut is_new = false;
        for text in plain.iter().filter(|text| !text.is_empty()) {
            if !self.plain.insert((*text).to_owned()) {
                continue;
            }
            // the rest of what is known is not gone through again: a program may have thousands of names
            for secret in self.secrets.iter_mut().filter(|secret| !secret.is_plain) {
                secret.is_plain = text.contains(secret.text.as_str());
                is_new |= secret.is_plain;
            }
        }
        let secrets = secrets.iter().map(|secret| secret.trim());
        for secret in secrets.filter(|secret| !secret.is_empty()) {
            if self.secrets.iter().any(|known| *known.text == *secret) {
                continue;
            }
            if self.secrets.len() == MOST {
                self.secrets.pop_front();
            }
            let is_plain = self.weakness(secret) == Some(Weakness::Plain);
            let text = Zeroizing::new(secret.to_owned());
            self.secrets.push_back(KnownSecret { text, is_plain });
            is_new = true;
        }
        is_new
    }

    fn masker(&self) -> Option<Masker> {
        let (mut patterns, mut short) = (Vec::new(), Vec::new());
        for KnownSecret { text, .. } in self.secrets.iter().filter(|secret| !secret.is_plain) {
            match text.len() < LONG {
                true => short.push(text.clone()),
                false => patterns.extend(spellings(text)),
            }
        }
        let longest = patterns
            .iter()
            .map(|pattern| pattern.len())
            .max()
            .unwrap_or(0);
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(patterns.iter().map(|pattern| pattern.as_bytes()))
            .ok()?;
        Some(Masker {
            automaton,
            short,
            longest,
        })
    }
}

/// Returns the forms in which texts may contain a secret: as it is, percent-encoded, and as `Debug`
/// and JSON write it.
fn spellings(secret: &str) -> Vec<Zeroizing<String>> {
    let encoded = utf8_percent_encode(secret, UNRESERVED).to_string();
    let debug = format!("{secret:?}");
    let mut spellings = vec![
        secret.to_owned(),
        encoded.to_lowercase_escapes(),
        encoded.replace("%20", "+"),
        encoded,
        utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string(),
        debug[1..debug.len() - 1].to_owned(),
    ];
    if let Ok(json) = serde_json::to_string(secret) {
        spellings.push(json[1..json.len() - 1].to_owned());
    }
    spellings.sort();
    spellings.dedup();
    spellings.into_iter().map(Zeroizing::new).collect()
}

trait LowercaseEscapes {
    /// Returns a percent-encoded text with lower-case digits in its escapes.
    fn to_lowercase_escapes(&self) -> String;
}

impl LowercaseEscapes for str {
    fn to_lowercase_escapes(&self) -> String {
        let mut escape = 0;
        let lower = self.chars().map(|character| match character {
            '%' => {
                escape = 2;
                character
            }
            _ if escape > 0 => {
                escape -= 1;
                character.to_ascii_lowercase()
            }
            _ => character,
        });
        lower.collect()
    }
}

/// Looks for secrets in texts.
struct Masker {
    automaton: AhoCorasick,
    /// The secrets that are masked only if they are a whole field.
    short: Vec<Zeroizing<String>>,
    /// The length of the longest pattern, in bytes.
    longest: usize,
}

impl Masker {
    /// Returns a part of a text, with secrets replaced. A secret is replaced even if only some of it is
    /// in the part.
    fn part(&self, text: &str, from: usize, to: usize) -> String {
        let (mut masked, mut at) = (String::with_capacity(to - from), from);
        for found in self.automaton.find_iter(text) {
            if found.end() <= at || found.start() >= to {
                continue;
            }
            masked.push_str(&text[at..found.start().max(at)]);
            masked.push_str(HIDDEN);
            at = found.end();
        }
        if at < to {
            masked.push_str(&text[at..to]);
        }
        masked
    }

    fn masked(&self, text: &str) -> Option<String> {
        self.automaton
            .find(text)
            .map(|_| self.part(text, 0, text.len()))
    }
}

static IS_ACTIVE: AtomicBool = AtomicBool::new(false);
static KNOWN: Mutex<Option<Known>> = Mutex::new(None);
static MASKER: RwLock<Option<Arc<Masker>>> = RwLock::new(None);

fn masker() -> Option<Arc<Masker>> {
    if !IS_ACTIVE.load(Ordering::Acquire) {
        return None;
    }
    MASKER.read().clone()
}

/// Masks secrets from now on. The plain texts are those that belong to them, and that they must not be
/// confused with: logins, hosts, names.
pub(crate) fn learn(secrets: &[&str], plain: &[&str]) {
    let mut known = KNOWN.lock();
    let known = known.get_or_insert_default();
    if !known.learn(secrets, plain) || known.secrets.is_empty() {
        return;
    }
    // replaced under the lock of what is known: of two threads, the later one must not lose what the
    // earlier one learned
    *MASKER.write() = known.masker().map(Arc::new);
    IS_ACTIVE.store(true, Ordering::Release);
}

/// Returns why a secret is not masked in texts, or `None` if it is.
pub(crate) fn weakness(secret: &str) -> Option<Weakness> {
    KNOWN.lock().get_or_insert_default().weakness(secret)
}

/// Returns a text with all known secrets masked.
pub(crate) fn masked(text: &str) -> Cow<'_, str> {
    let masked = masker().and_then(|masker| masker.masked(text));
    masked.map_or(Cow::Borrowed(text), Cow::Owned)
}

/// Returns the excerpt of a text ([`Excerpt::of`]), with all known secrets masked, also those that the
/// excerpt has only a part of.
pub(crate) fn excerpt(text: impl fmt::Display, most_head: usize, most_tail: usize) -> String {
    let Some(masker) = masker() else {
        return Excerpt::of(text, most_head, most_tail);
    };
    let margin = masker.longest;
    let wide_tail = if most_tail == 0 {
        0
    } else {
        most_tail + margin
    };
    let mut wide = Excerpt::new(most_head + margin, wide_tail);
    // a user's `Display` may fail: its output until then is kept
    let _ = fmt::write(&mut wide, format_args!("{text}"));
    let (head, missing, tail) = wide.into_parts();
    if missing == 0 {
        let whole = head + &tail;
        return Excerpt::of(masker.masked(&whole).unwrap_or(whole), most_head, most_tail);
    }
    let end = head.floor_char_boundary(most_head);
    let start = tail.ceil_char_boundary(tail.len().saturating_sub(most_tail));
    let missing = missing + (head.len() - end) + start;
    let (head, tail) = (
        masker.part(&head, 0, end),
        masker.part(&tail, start, tail.len()),
    );
    Excerpt::joined(head, missing, &tail)
}

/// Returns the excerpt of a field of a log line, which is masked as a whole if it is a short secret.
pub(crate) fn field(text: impl fmt::Display, most: usize) -> String {
    let text = excerpt(text, most, 0);
    let is_short = |masker: Arc<Masker>| {
        let bare = text.trim_matches('"');
        masker.short.iter().any(|short| short.as_str() == bare)
    };
    match masker().is_some_and(is_short) {
        true => HIDDEN.to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masker(secrets: &[&str], plain: &[&str]) -> Masker {
        let mut known = Known::default();
        known.learn(secrets, plain);
        known.masker().unwrap()
    }

    fn masked(masker: &Masker, text: &str) -> String {
        masker.masked(text).unwrap_or_else(|| text.to_owned())
    }

    #[test]
    fn secrets_are_masked_as_texts_spell_them() {
        let masker = masker(&["p/w \"d\" é+1", "k-123456789", "k-12345678"], &["loader"]);
        for (text, expected) in [
            ("nothing in it", "nothing in it"),
            ("asking with k-123456789", "asking with ***"),
            ("k-12345678k-12345678", "******"),
            ("loader:p/w \"d\" é+1@db", "loader:***@db"),
            ("?key=p%2Fw%20%22d%22%20%C3%A9%2B1&a=b", "?key=***&a=b"),
            ("?key=p%2fw%20%22d%22%20%c3%a9%2b1&a=b", "?key=***&a=b"),
            ("?key=p%2Fw+%22d%22+%C3%A9%2B1", "?key=***"),
            (r#"{"key":"p/w \"d\" é+1"}"#, r#"{"key":"***"}"#),
        ] {
            assert_eq!(masked(&masker, text), expected);
        }
    }

    #[test]
    fn short_and_plain_secrets_leave_texts_readable() {
        let known = masker(
            &["postgres", "abc", "s3cret-word"],
            &["postgres", "my-s3cret-word"],
        );
        for text in [
            "connecting to postgres as postgres",
            "abc",
            "my-s3cret-word",
        ] {
            assert_eq!(masked(&known, text), text);
        }
        assert!(known.short.iter().any(|short| short.as_str() == "abc"));
        let mut known = Known::default();
        known.learn(&["source-db"], &[]);
        assert_eq!(masked(&known.masker().unwrap(), "in source-db"), "in ***");
        // a plain text that is learned later counts, too
        known.learn(&[], &["the-source-db"]);
        assert_eq!(
            masked(&known.masker().unwrap(), "in source-db"),
            "in source-db"
        );
        assert_eq!(known.weakness("source-db"), Some(Weakness::Plain));
        assert_eq!(known.weakness("short"), Some(Weakness::Short));
        assert_eq!(known.weakness("long enough"), None);
    }

    #[test]
    fn spaces_around_secrets_are_no_part_of_them() {
        let masker = masker(&["k-123456789\n", " pin "], &[]);
        assert_eq!(masked(&masker, "Bearer k-123456789!"), "Bearer ***!");
        assert_eq!(masker.short[0].as_str(), "pin");
        let mut known = Known::default();
        known.learn(&[" \n"], &[]);
        assert!(known.secrets.is_empty());
        assert_eq!(known.weakness("1234567\n"), Some(Weakness::Short));
    }

    #[test]
    fn plain_texts_that_contain_no_secret_change_nothing() {
        let mut known = Known::default();
        assert!(known.learn(&["k-123456789"], &["shop"]));
        assert!(!known.learn(&["k-123456789"], &["shop", "other"]));
        assert!(known.learn(&[], &["my-k-123456789"]));
        assert!(!known.learn(&[], &["another-k-123456789"]));
    }

    #[test]
    fn the_latest_secrets_are_kept() {
        let mut known = Known::default();
        for number in 0..MOST + 10 {
            known.learn(&[&format!("secret-{number:06}")], &[]);
        }
        assert_eq!(known.secrets.len(), MOST);
        assert_eq!(known.secrets[0].text.as_str(), "secret-000010");
    }

    #[test]
    fn excerpt_never_has_a_part_of_a_secret() {
        let secret = "a-secret-of-some-length";
        learn(&[secret], &[]);
        for before in 0..80 {
            let text = format!("{}{secret}{}", "x".repeat(before), "y".repeat(60));
            for (head, tail) in [(40, 0), (40, 20), (10, 60), (200, 0)] {
                let shown = excerpt(&text, head, tail);
                let parts = (0..secret.len() - 3).map(|from| &secret[from..from + 4]);
                for part in parts {
                    assert!(!shown.contains(part), "{before}, {head}, {tail}: {shown}");
                }
            }
        }
        assert_eq!(excerpt(format_args!("no {secret}"), 100, 0), "no ***");
        learn(&["xy7"], &[]);
        assert_eq!(field("xy7", 100), "***");
        assert_eq!(field("\"xy7\"", 100), "***");
        assert_eq!(field("xy78", 100), "xy78");
    }
}
