//! Excerpts of long texts: the beginning and the end.

use std::fmt::{self, Write};

/// A writer that keeps only the first and the last bytes of a text in memory.
#[derive(Debug)]
pub(crate) struct Excerpt {
    head: String,
    tail: String,
    most_head: usize,
    most_tail: usize,
    missing: usize,
}

impl Excerpt {
    /// Creates an excerpt with the given numbers of bytes of the beginning and of the end.
    pub(crate) fn new(most_head: usize, most_tail: usize) -> Self {
        Self {
            head: String::new(),
            tail: String::new(),
            most_head,
            most_tail,
            missing: 0,
        }
    }

    /// Returns the excerpt of a text, which tells how much is missing.
    pub(crate) fn of(text: impl fmt::Display, most_head: usize, most_tail: usize) -> String {
        let mut excerpt = Self::new(most_head, most_tail);
        // a user's `Display` may fail: its output until then is kept
        let _ = write!(excerpt, "{text}");
        excerpt.finish()
    }

    /// Returns the excerpt, which tells how much is missing.
    pub(crate) fn finish(self) -> String {
        let (head, missing, tail) = self.into_parts();
        Self::joined(head, missing, &tail)
    }

    /// Returns the beginning, the number of missing bytes, and the end.
    pub(crate) fn into_parts(mut self) -> (String, usize, String) {
        self.shorten_tail(self.most_tail);
        (self.head, self.missing, self.tail)
    }

    /// Joins the parts of an excerpt, and tells how much is missing.
    pub(crate) fn joined(mut head: String, missing: usize, tail: &str) -> String {
        match (missing, tail.is_empty()) {
            (0, _) => head.push_str(tail),
            (_, true) => head.push_str(&format!("… ({missing} more bytes are cut off)")),
            (_, false) => head.push_str(&format!("… ({missing} bytes are cut out) …{tail}")),
        }
        head
    }

    /// Drops everything before the last bytes of the tail.
    fn shorten_tail(&mut self, most: usize) {
        let from = self
            .tail
            .ceil_char_boundary(self.tail.len().saturating_sub(most));
        self.missing += from;
        self.tail.drain(..from);
    }
}

impl Write for Excerpt {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // text after a gap no longer belongs to the beginning
        let is_head = self.missing == 0 && self.tail.is_empty();
        let kept = if is_head {
            text.floor_char_boundary(self.most_head - self.head.len())
        } else {
            0
        };
        self.head.push_str(&text[..kept]);
        let rest = &text[kept..];
        let from = rest.ceil_char_boundary(rest.len().saturating_sub(self.most_tail));
        if from > 0 {
            self.missing += self.tail.len() + from;
            self.tail.clear();
        }
        self.tail.push_str(&rest[from..]);
        if self.tail.len() > 2 * self.most_tail {
            self.shorten_tail(self.most_tail);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_text_is_kept_whole() {
        for text in ["", "abcdef", "abcdefgh"] {
            assert_eq!(Excerpt::of(text, 4, 4), text);
        }
        assert_eq!(Excerpt::of(format_args!("{}{}", "ab", "cd"), 4, 0), "abcd");
    }

    #[test]
    fn long_text_is_cut_between_characters_with_a_note() {
        assert_eq!(
            Excerpt::of("abcdefghi", 4, 4),
            "abcd… (1 bytes are cut out) …fghi"
        );
        assert_eq!(
            Excerpt::of("abcä|äghi", 4, 4),
            "abc… (5 bytes are cut out) …ghi"
        );
        assert_eq!(
            Excerpt::of(format_args!("{}{}", "abä", "cd"), 3, 0),
            "ab… (4 more bytes are cut off)"
        );
        assert_eq!(Excerpt::of("a", 0, 0), "… (1 more bytes are cut off)");
    }

    #[test]
    fn text_in_any_pieces_is_kept() {
        let text: String = ('a'..='z').cycle().take(1000).collect();
        let whole = Excerpt::of(&text, 20, 10);
        assert_eq!(
            whole,
            format!("{}… (970 bytes are cut out) …{}", &text[..20], &text[990..])
        );
        for size in 1..50 {
            let mut excerpt = Excerpt::new(20, 10);
            let pieces = text
                .as_bytes()
                .chunks(size)
                .map(|piece| std::str::from_utf8(piece).unwrap());
            pieces.for_each(|piece| excerpt.write_str(piece).unwrap());
            assert_eq!(excerpt.finish(), whole, "in pieces of {size}");
        }
    }

    #[test]
    fn excerpt_holds_only_what_it_keeps() {
        let mut excerpt = Excerpt::new(100, 50);
        for _ in 0..10_000 {
            excerpt.write_str("0123456789").unwrap();
            assert!(excerpt.head.len() <= 100 && excerpt.tail.len() <= 110);
        }
        excerpt.write_str(&"x".repeat(1 << 20)).unwrap();
        assert!(excerpt.tail.capacity() < 1000);
    }
}
