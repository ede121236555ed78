//! The names of connections, variables and secrets.

/// The maximum length of the name of a connection, a variable or a secret, in bytes.
pub const MOST: usize = 200;

/// Returns what is wrong with the name of a connection, a variable or a secret.
///
/// A name has 1 to [`MOST`] characters of `A-Z a-z 0-9 _ - .`, and does not begin with a dot: it is
/// also the name of a file, and a part of the name of an environment variable.
pub fn fault(name: &str) -> Option<String> {
    let is_known = |character: char| character.is_ascii_alphanumeric() || "_-.".contains(character);
    if name.is_empty() {
        return Some("expected a name of at least one character, got ``".to_owned());
    }
    if let Some(long) = crate::bounds::fault(name, MOST) {
        return Some(long);
    }
    if name.starts_with('.') {
        return Some(format!(
            "expected a name that does not begin with a dot, got `{name}`"
        ));
    }
    let wrong = name.chars().find(|character| !is_known(*character))?;
    Some(format!(
        "expected a name of letters, digits, `_`, `-` and `.`, got {wrong:?} in {name:?}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_files_and_variables() {
        for name in ["a", "shop-db", "shop_db.eu", "7", "A.b-", &"x".repeat(MOST)] {
            assert_eq!(fault(name), None, "{name}");
        }
        for (name, problem) in [
            ("", "at least one"),
            (".env", "begin with a dot"),
            ("../key", "begin with a dot"),
            ("a/b", "'/' in \"a/b\""),
            ("shöp", "'ö'"),
            ("a b", "' '"),
            ("a\0", "'\\0'"),
            (&"x".repeat(MOST + 1), "at most 200 bytes"),
        ] {
            let fault = fault(name).unwrap();
            assert!(fault.contains(problem), "{fault}");
        }
    }
}
