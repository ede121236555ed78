//! Connections as JSON objects: `{"conn_type": "postgres", "host": "db.example", …}`.
//!
//! Texts are not percent-encoded. A field that is `null` or empty is a field that is not there.
//! `extra` is an object, or a text with the JSON of one. `description` is ignored. Instead of all
//! other fields, `uri` may have the connection as a URI.

use std::collections::BTreeMap;

use orchestrator_grammar::similar::nearest;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Connection, ConnectionError, kind_of, uri};
use crate::secret::Secret;

/// All fields, except `uri`.
const FIELDS: [&str; 8] = [
    "conn_type",
    "host",
    "login",
    "password",
    "port",
    "schema",
    "extra",
    "description",
];

const PORT: &str = "expected `port` to be a number from 1 to 65535";

const EITHER: &str = "expected either `uri` or other fields, got both: remove `uri`, or put all \
    other fields into it";

/// The fields of an object, as they are written.
struct Fields<'a>(BTreeMap<String, &'a RawValue>);

/// Reads a JSON object as Airflow reads it.
pub(super) fn parse(id: &str, text: &str) -> Result<Connection, ConnectionError> {
    let mut fields = Fields::read(text)?;
    if let Some(uri) = fields.text("uri")? {
        fields.0.remove("uri");
        return match fields.0.is_empty() {
            true => uri::parse(id, &uri),
            false => Err(ConnectionError::new(EITHER)),
        };
    }
    Ok(Connection {
        id: id.to_owned(),
        kind: kind_of(&fields.text("conn_type")?.unwrap_or_default()),
        host: fields.text("host")?,
        port: fields.port()?,
        login: fields.text("login")?,
        password: fields.text("password")?.map(Secret::from),
        path: fields.text("schema")?,
        options: fields.options()?,
        expires_at: None,
    })
}

/// Reads options from the JSON of an object, which is the value of a part of a connection.
pub(super) fn options(part: &str, text: &str) -> Result<BTreeMap<String, Secret>, ConnectionError> {
    let invalid = || {
        ConnectionError::new(format!(
            "expected `{part}` to be a JSON object such as {{\"timeout\": 10}}, or the text of one"
        ))
    };
    if text.is_empty() {
        return Ok(BTreeMap::new());
    }
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(|_| invalid())?;
    let options = fields
        .into_iter()
        .filter(|(_, value)| value.get() != "null");
    options
        .map(|(name, value)| match value.get().starts_with('"') {
            true => Ok((name, read::<String>(value).ok_or_else(invalid)?.into())),
            false => Ok((name, value.get().into())),
        })
        .collect()
}

impl<'a> Fields<'a> {
    fn read(text: &'a str) -> Result<Self, ConnectionError> {
        let mut fields: BTreeMap<String, &RawValue> =
            serde_json::from_str(text).map_err(|error| {
                // the text of the error may contain values
                ConnectionError::new(format!(
                    "expected a JSON object, got invalid JSON: look at line {}, column {}",
                    error.line(),
                    error.column()
                ))
            })?;
        let unknown = fields
            .keys()
            .find(|name| *name != "uri" && !FIELDS.contains(&name.as_str()));
        if let Some(unknown) = unknown {
            // the name is not shown: in an object that is quoted badly, it may be a password
            let similar = nearest(&unknown.to_lowercase(), FIELDS);
            let similar = similar.map(|name| format!("; did you mean `{name}`?"));
            return Err(ConnectionError::new(format!(
                "expected the fields `{}`, or `uri` alone, got another one{}: options of the \
                 service belong into `extra`",
                FIELDS.join("`, `"),
                similar.unwrap_or_default()
            )));
        }
        fields.retain(|_, value| !is_empty(value));
        Ok(Self(fields))
    }

    /// Returns a field that is a text. A whole number is one, too, if it is not rounded.
    fn text(&self, name: &str) -> Result<Option<String>, ConnectionError> {
        let Some(value) = self.0.get(name) else {
            return Ok(None);
        };
        match read(value) {
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Number(number)) if !number.is_f64() => Ok(Some(number.to_string())),
            _ => Err(ConnectionError::new(format!(
                "expected `{name}` to be a text: write it in quotes"
            ))),
        }
    }

    fn port(&self) -> Result<Option<u16>, ConnectionError> {
        let Some(value) = self.0.get("port") else {
            return Ok(None);
        };
        let port = match read(value) {
            Some(Value::String(text)) => text.trim().parse().ok(),
            // some writers have no whole numbers
            Some(Value::Number(number)) => number
                .as_f64()
                .filter(|number| number.fract() == 0.0 && (0.0..=65535.0).contains(number))
                .map(|number| number as u16),
            _ => None,
        };
        let port = port.filter(|port| *port > 0);
        port.map(Some).ok_or_else(|| ConnectionError::new(PORT))
    }

    fn options(&self) -> Result<BTreeMap<String, Secret>, ConnectionError> {
        match self.0.get("extra") {
            None => Ok(BTreeMap::new()),
            Some(extra) => match read::<String>(extra) {
                Some(text) => options("extra", &text),
                None => options("extra", extra.get()),
            },
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(value: &RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

/// Returns `true` if a value is one that Python takes for `False`: Airflow ignores those.
fn is_empty(value: &RawValue) -> bool {
    match read(value) {
        Some(Value::Null | Value::Bool(false)) => true,
        Some(Value::Number(number)) => number.as_f64() == Some(0.0),
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(values)) => values.is_empty(),
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(Value::Bool(true)) | None => false,
    }
}
