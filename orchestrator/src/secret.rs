//! Secrets: texts that are never printed.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

/// The replacement for a secret in what is shown.
pub(crate) const HIDDEN: &str = "***";

/// Drops one newline at the end of a text: editors and `echo` add it to what is kept in a file or piped.
pub(crate) fn drop_newline(text: &mut String) {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
}

/// A text that is never printed or recorded, such as a password or the key of an API. A task takes it
/// as `#[secret("name")] key: &Secret`.
///
/// It has no `Display` and no `Serialize`, so it cannot be a result, a parameter or an input of a
/// task; its `Debug` is `Secret(***)`. The memory is wiped when the last clone is dropped.
///
/// # Examples
///
/// ```
/// use orchestrator::Secret;
///
/// let key = Secret::from("k-123456");
/// assert_eq!(format!("{key:?}"), "Secret(***)");
/// assert_eq!(key.expose(), "k-123456");
/// ```
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Returns the text. Pass it only to what needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Arc::new(Zeroizing::new(text)))
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}
