//! Events as values: the message and the fields, with secrets masked.

use std::fmt;

use serde_json::{Map, Number, Value};
use tracing::field::{Field, Visit};

use crate::bounds::LOG_TEXT;
use crate::mask;

/// The message and the fields of an event.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) message: String,
    pub(super) fields: Map<String, Value>,
    /// The number of bytes that the texts of further fields may take.
    left: usize,
}

impl Said {
    pub(super) fn of(event: &tracing::Event<'_>) -> Self {
        let mut said = Self {
            message: String::new(),
            fields: Map::new(),
            left: LOG_TEXT,
        };
        event.record(&mut said);
        said
    }

    fn text(&mut self, field: &Field, text: fmt::Arguments<'_>) {
        if field.name() == "message" {
            self.message = mask::excerpt(text, LOG_TEXT, 0);
            return;
        }
        let text = mask::field(text, self.left);
        self.left = self.left.saturating_sub(text.len());
        self.set(field, Value::String(text));
    }

    fn set(&mut self, field: &Field, value: Value) {
        // these fields belong to the wrapper around events of the `log` crate
        if !field.name().starts_with("log.") {
            self.fields
                .insert(field.name().trim_start_matches("r#").to_owned(), value);
        }
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.text(field, format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, Value::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        match Number::from_f64(value) {
            Some(number) => self.set(field, Value::Number(number)),
            // JSON has no infinity
            None => self.text(field, format_args!("{value}")),
        }
    }
}
