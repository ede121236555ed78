//! What an event says, as values.

use std::fmt::{self, Write as _};

use serde_json::{Map, Number, Value};
use tracing::field::{Field, Visit};

/// How long a message is at most, and the texts of a line's fields together: so many bytes.
const LONGEST: usize = 16 << 10;

/// What an event says.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) message: String,
    pub(super) fields: Map<String, Value>,
    /// How many bytes of texts the fields may still take.
    left: usize,
}

impl Said {
    pub(super) fn of(event: &tracing::Event<'_>) -> Self {
        let mut said = Self {
            message: String::new(),
            fields: Map::new(),
            left: LONGEST,
        };
        event.record(&mut said);
        said
    }

    fn text(&mut self, field: &Field, text: fmt::Arguments<'_>) {
        if field.name() == "message" {
            self.message = cut(text, LONGEST);
            return;
        }
        let text = cut(text, self.left);
        self.left = self.left.saturating_sub(text.len());
        self.set(field, Value::String(text));
    }

    fn set(&mut self, field: &Field, value: Value) {
        // those are what the `log` crate's events are wrapped in
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

/// A text, of which no more is kept in memory than so many bytes.
fn cut(text: fmt::Arguments<'_>, at_most: usize) -> String {
    let mut bounded = Bounded {
        text: String::new(),
        at_most,
        cut: 0,
    };
    // a `Debug` of a user's may refuse: what it said until then is said
    let _ = bounded.write_fmt(text);
    let Bounded { mut text, cut, .. } = bounded;
    if cut > 0 {
        let _ = write!(text, "… ({cut} more bytes are cut off)");
    }
    text
}

struct Bounded {
    text: String,
    at_most: usize,
    cut: usize,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let kept = match self.cut {
            0 => more.floor_char_boundary(self.at_most - self.text.len()),
            _ => 0,
        };
        self.text.push_str(&more[..kept]);
        self.cut += more.len() - kept;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut_between_characters_and_says_so() {
        assert_eq!(cut(format_args!("{}{}", "ab", "cd"), 4), "abcd");
        assert_eq!(
            cut(format_args!("{}{}", "abä", "cd"), 3),
            "ab… (4 more bytes are cut off)"
        );
        assert_eq!(cut(format_args!("a"), 0), "… (1 more bytes are cut off)");
        assert!(cut(format_args!("{}", "x".repeat(1 << 20)), LONGEST).len() < LONGEST + 50);
    }
}
