//! Hides passwords in URLs from errors, logs and `Debug`.

use std::fmt;

use crate::secret::HIDDEN;

/// Parts of the names of parameters whose values are secrets.
const SECRET: [&str; 8] = [
    "pass",
    "pwd",
    "secret",
    "token",
    "credential",
    "auth",
    "sig",
    "key",
];

/// A URL that may contain a password, which `Debug` hides.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretUrl(pub(crate) String);

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&without_secrets(&self.0), f)
    }
}

/// Returns a URL, or a text that was given as one, without its password and without the values of
/// parameters that look like secrets. If the end of a password is ambiguous, too much is hidden
/// rather than too little.
pub(crate) fn without_secrets(url: &str) -> String {
    without_parameters(&without_password(url))
}

/// Hides the text between the first colon and the `@` of `scheme://user:password@host`.
fn without_password(url: &str) -> String {
    // the path of a file, which may contain both
    if url.starts_with("sqlite:") {
        return url.to_owned();
    }
    let start = match url.find(":/") {
        Some(colon) => url.len() - url[colon + 1..].trim_start_matches('/').len(),
        None => 0,
    };
    let rest = &url[start..];
    // an `@` after the `?` belongs to the password only if no other comes before it
    let before_query = rest.find('?').unwrap_or(rest.len());
    let at = rest[..before_query].rfind('@').or_else(|| rest.rfind('@'));
    match at.and_then(|at| Some((rest[..at].find(':')?, at))) {
        Some((colon, at)) => format!("{}:{HIDDEN}{}", &url[..start + colon], &rest[at..]),
        None => url.to_owned(),
    }
}

/// Hides the values of `password=…` and the like, between `?`, `&`, `;` or spaces.
fn without_parameters(url: &str) -> String {
    let (mut shown, mut rest) = (String::with_capacity(url.len()), url);
    while let Some((before, after)) = rest.split_once('=') {
        let is_of_name =
            |character: char| character.is_alphanumeric() || "_-.%".contains(character);
        let name = before[before.trim_end_matches(is_of_name).len()..].to_ascii_lowercase();
        shown.push_str(before);
        shown.push('=');
        rest = after;
        if SECRET.iter().any(|secret| name.contains(secret)) {
            shown.push_str(HIDDEN);
            let value = match after.strip_prefix('\'') {
                Some(quoted) => 1 + quoted.find('\'').map_or(quoted.len(), |end| end + 1),
                None => after
                    .find(|end: char| "&;#".contains(end) || end.is_whitespace())
                    .unwrap_or(after.len()),
            };
            rest = &after[value..];
        }
    }
    shown.push_str(rest);
    shown
}

/// Hides the queries of the URLs in a text: clients of HTTP add them to their errors, with whatever
/// keys they have.
pub(crate) fn without_queries(text: String) -> String {
    if !text.contains("://") {
        return text;
    }
    let (mut shown, mut rest) = (String::with_capacity(text.len()), text.as_str());
    while let Some(at) = rest.find("://") {
        let is_end =
            |end: char| end.is_whitespace() || "\"'`<>(){}[]".contains(end) || end.is_control();
        let end = rest[at..].find(is_end).map_or(rest.len(), |end| at + end);
        let url = &rest[..end];
        match url[at..].find('?') {
            Some(query) if at + query + 1 < end => {
                shown.push_str(&url[..=at + query]);
                shown.push_str(HIDDEN);
            }
            _ => shown.push_str(url),
        }
        rest = &rest[end..];
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_of_urls_are_not_shown() {
        for (text, shown) in [
            ("no url? none", "no url? none"),
            (
                "error sending request for url (https://api.example/v1?key=a&b=c): refused",
                "error sending request for url (https://api.example/v1?***): refused",
            ),
            ("http://a/?x, http://b?y#z", "http://a/?*** http://b?***"),
            ("`s3://b/p` is it?", "`s3://b/p` is it?"),
            ("https://a/b? what", "https://a/b? what"),
            ("https://é?ü", "https://é?***"),
            ("://?", "://?"),
        ] {
            assert_eq!(without_queries(text.to_owned()), shown);
        }
    }

    #[test]
    fn secrets_in_urls_are_not_shown() {
        for (url, shown) in [
            (
                "postgres://user:s3cret@host:5432/db",
                "postgres://user:***@host:5432/db",
            ),
            ("postgres://:s3cret@host", "postgres://:***@host"),
            (
                "postgres:/user:s3cret@host/db",
                "postgres:/user:***@host/db",
            ),
            ("postgres:user:s3cret@host/db", "postgres:***@host/db"),
            ("user:s3cret@host/db", "user:***@host/db"),
            (
                "postgres://user:s3/s3cret@host/db",
                "postgres://user:***@host/db",
            ),
            (
                "postgres://user:s3@s3cret@host/db",
                "postgres://user:***@host/db",
            ),
            (
                "postgres://user:s3?s3cret@host/db",
                "postgres://user:***@host/db",
            ),
            (
                "postgres://user@host/db?password=s3cret&sslmode=require",
                "postgres://user@host/db?password=***&sslmode=require",
            ),
            (
                "s3://bucket/prefix?X-Amz-Signature=s3cret",
                "s3://bucket/prefix?X-Amz-Signature=***",
            ),
            (
                "az://box?account_key=s3cret#a=b",
                "az://box?account_key=***#a=b",
            ),
            (
                "host=db password='s3cret s3cret' user=me",
                "host=db password=*** user=me",
            ),
            (
                "host=db user=me password=s3cret",
                "host=db user=me password=***",
            ),
            ("password='s3cret", "password=***"),
            // nothing in these is
            (
                "sqlite:/srv/a:b@c.db?synchronous=full",
                "sqlite:/srv/a:b@c.db?synchronous=full",
            ),
            ("memory", "memory"),
            ("redis://host:6379/0", "redis://host:6379/0"),
            ("s3://bucket/me@home", "s3://bucket/me@home"),
            ("C:\\blobs", "C:\\blobs"),
            ("", ""),
            ("=é=", "=é="),
        ] {
            assert_eq!(without_secrets(url), shown, "{url}");
            assert_eq!(
                format!("{:?}", SecretUrl(url.to_owned())),
                format!("{shown:?}")
            );
        }
    }
}
