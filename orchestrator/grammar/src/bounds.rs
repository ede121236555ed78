//! The maximum lengths of texts in attributes and programs.

/// The maximum length of the name of a task, a flow, a node or a pool, in bytes. Keys of nodes are
/// made of names.
pub const NAME: usize = 250;

/// The maximum length of a tag, in bytes.
pub const TAG: usize = 100;

/// The maximum number of tags of a task or a flow.
pub const TAGS: usize = 50;

/// Returns the problem of a text of more than `most` bytes: the expected and the actual length.
pub fn fault(text: &str, most: usize) -> Option<String> {
    const SHOWN: usize = 40;
    (text.len() > most).then(|| {
        let start = &text[..text.floor_char_boundary(SHOWN)];
        format!(
            "expected at most {most} bytes, got {}: `{start}…`",
            text.len()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_named_by_its_beginning() {
        assert_eq!(fault("abc", 3), None);
        assert_eq!(
            fault(&"ä".repeat(50), 99).unwrap(),
            format!("expected at most 99 bytes, got 100: `{}…`", "ä".repeat(20))
        );
    }
}
