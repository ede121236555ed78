//! The errors of expressions.

use core::fmt;
use core::ops::Range;

use super::CronField;

/// The error of a text that is not a crontab expression, with the field at fault, the expected and
/// the actual text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronError {
    fault: Fault,
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) field: Option<CronField>,
    pub(super) span: Range<usize>,
    /// The expected and the actual text.
    pub(super) problem: String,
    /// The advice, including its leading punctuation, or an empty text.
    pub(super) remedy: String,
}

impl CronError {
    pub(super) fn new(fault: Fault, text: &str) -> Self {
        Self {
            fault,
            text: text.to_owned(),
        }
    }

    /// Returns the field at fault, or `None` if it is the whole expression.
    pub fn field(&self) -> Option<CronField> {
        self.fault.field
    }

    /// Returns the position of the mistake in the text, in bytes.
    pub fn span(&self) -> Range<usize> {
        self.fault.span.clone()
    }

    /// Returns the message without the expression, for places where the expression is visible.
    pub fn problem(&self) -> String {
        format!("{}{}", self.fault.problem, self.fault.remedy)
    }
}

impl fmt::Display for CronError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault {
            problem, remedy, ..
        } = &self.fault;
        let whole = format!("`{}`", self.text);
        match problem.ends_with(&whole) {
            true => write!(f, "{problem}{remedy}"),
            false => write!(f, "{problem} in {whole}{remedy}"),
        }
    }
}

impl core::error::Error for CronError {}

#[cfg(test)]
mod tests {
    use crate::cron::{Cron, CronField};

    #[test]
    fn error_shows_the_expression_once() {
        for (text, message) in [
            (
                "0 25 * * *",
                "hour: expected 0 to 23, got `25` in `0 25 * * *`",
            ),
            (
                "0 0 * * MUN",
                "day-of-week: expected 0 to 7 or SUN to SAT, got `MUN` in `0 0 * * MUN`; did you mean `MON`?",
            ),
            (
                "0 6 * *",
                "expected 5 fields (minute hour day-of-month month day-of-week), or 6 with seconds first, \
                 got 4 in `0 6 * *`",
            ),
            (
                "@dayly",
                "expected 5 fields, or one of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly, \
                 got `@dayly`; did you mean `@daily`?",
            ),
        ] {
            let error = Cron::parse(text).expect_err(text);
            assert_eq!(error.to_string(), message, "{text}");
        }
        assert_eq!(
            Cron::parse("0 25 * * *").expect_err("").field(),
            Some(CronField::Hour)
        );
    }
}
