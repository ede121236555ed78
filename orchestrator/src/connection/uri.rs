//! Connections as URIs: `kind://login:password@host:port/path?options#ignored`.
//!
//! Airflow splits them as Python's `urlsplit` does:
//!
//! - The login ends at the first `:`, and the password at the last `@`. They and all other parts
//!   are percent-encoded; `+` is a space in the query alone.
//! - The kind is read in lower case, and so is the host up to its first `%`, unless it contains
//!   a `/`.
//! - Of an option that is given twice, the last value holds. `__extra__` is a JSON object with all
//!   options: next to it, others are ignored.
//! - The host may be a URL: `http://https://db.example` or, encoded,
//!   `http://https%3A%2F%2Fdb.example`.
//!
//! A part that is empty is a part that is not there. Airflow's readings that make no sense are
//! refused, or read as they were meant: the test of the table lists them.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use percent_encoding::percent_decode_str;

use super::{Connection, ConnectionError, json, kind_of};
use crate::secret::Secret;

/// The option whose value is a JSON object with all options.
const EXTRA: &str = "__extra__";

const KIND: &str = "expected the kind before `://` to begin with a letter and to consist of \
    letters, digits, `+`, `-`, `.` and `_`, as in `postgres://login:password@host:5432/database`";

const LOGIN: &str = "expected one `@` between login and host, got one after a `#` alone: in a \
    login or password, write `#` as `%23`, `/` as `%2F` and `?` as `%3F`";

const HOST: &str = "expected a host after the login, got another `://`: in a login, password or \
    host, write `:` as `%3A` and `/` as `%2F`";

const PORT: &str = "expected the port to be a number from 1 to 65535: if the `:` belongs to a \
    login or password, write `/` as `%2F`, `?` as `%3F`, `#` as `%23` and `:` as `%3A`; write an \
    IPv6 address in brackets, as `[::1]`";

const BRACKETS: &str = "expected an IPv6 address between `[` and `]`, and after it nothing or a \
    port, as in `[::1]:5432`";

/// Reads a URI as Airflow reads it.
pub(super) fn parse(id: &str, text: &str) -> Result<Connection, ConnectionError> {
    // a URI that is folded over several lines, as in YAML, is one URI
    let text = text.replace(['\t', '\r', '\n'], "");
    let (kind, rest) = split_kind(&text)?;
    let (protocol, rest) = split_protocol(rest);
    let (rest, fragment) = split(rest, '#');
    let (rest, query) = split(rest, '?');
    let (authority, path) = split(rest, '/');
    if authority.ends_with(':') && path.starts_with('/') {
        return Err(ConnectionError::new(HOST));
    }
    let (user, address) = match authority.rsplit_once('@') {
        Some(parts) => parts,
        // what follows the `#` of a password would be dropped, and its login taken for the host
        None if fragment.contains('@') => return Err(ConnectionError::new(LOGIN)),
        None => ("", authority),
    };
    let (login, password) = split(user, ':');
    let (host, port) = split_address(address)?;
    let host = match (read_host(host)?, protocol) {
        (Some(host), Some(protocol)) => Some(format!("{protocol}://{host}")),
        (host, _) => host,
    };
    Ok(Connection {
        id: id.to_owned(),
        kind,
        host,
        port: read_port(port)?,
        login: decode("login", login)?,
        password: decode("password", password)?.map(Secret::from),
        path: decode("path", path)?,
        options: read_query(query)?,
        expires_at: None,
    })
}

/// Splits a text at the first of a character. Without it, the second part is empty.
fn split(text: &str, at: char) -> (&str, &str) {
    text.split_once(at).unwrap_or((text, ""))
}

/// Splits off the kind. Airflow writes a connection without a kind as `//host`.
fn split_kind(text: &str) -> Result<(String, &str), ConnectionError> {
    if let Some(rest) = text.strip_prefix("//") {
        return Ok((String::new(), rest));
    }
    let (kind, rest) = text
        .split_once("://")
        .ok_or_else(|| ConnectionError::neither(text))?;
    let is_known = kind.is_empty() || is_scheme(&kind.replace('_', "-"));
    match is_known {
        true => Ok((kind_of(&kind.to_ascii_lowercase()), rest)),
        false => Err(ConnectionError::new(KIND)),
    }
}

/// Splits off the protocol of a host that is a URL.
fn split_protocol(rest: &str) -> (Option<String>, &str) {
    match rest.split_once("://") {
        Some((protocol, rest)) if is_scheme(protocol) => {
            (Some(protocol.to_ascii_lowercase()), rest)
        }
        _ => (None, rest),
    }
}

/// Returns `true` if a text is the scheme of a URI.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

/// Splits a host, without its brackets, from its port.
fn split_address(address: &str) -> Result<(&str, &str), ConnectionError> {
    let brackets = || ConnectionError::new(BRACKETS);
    let Some(bracketed) = address.strip_prefix('[') else {
        return match address.contains(['[', ']']) {
            true => Err(brackets()),
            false => Ok(split(address, ':')),
        };
    };
    let (host, port) = bracketed.split_once(']').ok_or_else(brackets)?;
    let (ip, _zone) = split(host, '%');
    match port.strip_prefix(':') {
        _ if ip.parse::<Ipv6Addr>().is_err() => Err(brackets()),
        Some(port) => Ok((host, port)),
        None if port.is_empty() => Ok((host, port)),
        None => Err(brackets()),
    }
}

fn read_host(host: &str) -> Result<Option<String>, ConnectionError> {
    let decoded = decode("host", host)?;
    // a path, such as that of a socket, keeps its upper case
    if decoded.as_ref().is_some_and(|host| host.contains('/')) {
        return Ok(decoded);
    }
    let end = host.find('%').unwrap_or(host.len());
    let lower = host[..end].to_lowercase() + &host[end..];
    decode("host", &lower)
}

fn read_port(port: &str) -> Result<Option<u16>, ConnectionError> {
    if port.is_empty() {
        return Ok(None);
    }
    let is_number = port.chars().all(|c| c.is_ascii_digit());
    let number = port.parse().ok().filter(|number| is_number && *number > 0);
    number.map(Some).ok_or_else(|| ConnectionError::new(PORT))
}

fn read_query(query: &str) -> Result<BTreeMap<String, Secret>, ConnectionError> {
    let mut options = BTreeMap::new();
    let query = query.replace('+', " ");
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = split(option, '=');
        let [name, value] = [name, value].map(|text| decode("query", text));
        let value = Secret::from(value?.unwrap_or_default());
        options.insert(name?.unwrap_or_default(), value);
    }
    match options.remove(EXTRA) {
        Some(extra) => json::options(EXTRA, extra.expose()),
        None => Ok(options),
    }
}

/// Decodes a part; `None` if it is empty.
fn decode(part: &str, text: &str) -> Result<Option<String>, ConnectionError> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| {
        ConnectionError::new(format!(
            "expected the {part} to be UTF-8, got other bytes: percent-encode its text as UTF-8, \
             as `%C3%A9` for `é`"
        ))
    })?;
    Ok((!decoded.is_empty()).then(|| decoded.into_owned()))
}
