//! Parts of an expression, which know their place in it.

use core::ops::Range;

use super::CronField;
use super::error::Fault;

/// A part of the expression, with its start.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) text: &'a str,
    pub(super) start: usize,
}

impl<'a> Part<'a> {
    /// Splits the part at separators, each of which is one byte.
    pub(super) fn split(self, is_separator: fn(char) -> bool) -> impl Iterator<Item = Self> {
        let mut start = self.start;
        self.text.split(is_separator).map(move |text| {
            let part = Self { text, start };
            start += text.len() + 1;
            part
        })
    }

    pub(super) fn cut(self, separator: char) -> (Self, Option<Self>) {
        match self.text.split_once(separator) {
            None => (self, None),
            Some((before, after)) => {
                let start = self.start + before.len() + separator.len_utf8();
                (
                    Self {
                        text: before,
                        start: self.start,
                    },
                    Some(Self { text: after, start }),
                )
            }
        }
    }

    /// Returns the first bytes of the part.
    pub(super) fn head(self, length: usize) -> Self {
        Self {
            text: &self.text[..length],
            start: self.start,
        }
    }

    pub(super) fn span(self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }

    /// Returns whether it is a number, of any length.
    pub(super) fn is_number(self) -> bool {
        is_number(self.text)
    }

    /// Returns the error for an unexpected part.
    pub(super) fn wrong(
        self,
        field: CronField,
        expected: &str,
        remedy: impl Into<String>,
    ) -> Fault {
        let problem = format!("{field}: expected {expected}, got `{}`", self.text);
        Fault {
            field: Some(field),
            span: self.span(),
            problem,
            remedy: remedy.into(),
        }
    }
}

pub(super) fn is_number(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_digit())
}
