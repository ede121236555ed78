//! Durations as text: `"1h30m"`.

use std::time::Duration;

use orchestrator_grammar::duration;

/// A length of time: a [`Duration`], or a text such as `"90s"` or `"1h30m"`.
///
/// A text is one or more whole numbers with units, the larger unit first, each at most once, without
/// spaces: `d` (24 hours), `h`, `m`, `s`, `ms` and `ns`. It may be a hundred years (`36500d`) long.
/// This is what `#[task(timeout = "1h30m")]` accepts, too.
///
/// Methods that take one keep the error of an invalid text, and report it when the work starts.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use orchestrator::IntoDuration;
///
/// assert_eq!("1h30m".into_duration()?, Duration::from_secs(5400));
/// assert_eq!(Duration::MAX.into_duration()?, Duration::MAX);
/// let error = "90".into_duration().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "expected a duration, got `\"90\"`: a number has no unit, write `\"90s\"` for seconds"
/// );
/// # Ok::<(), orchestrator::DurationError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a duration",
    label = "expected a `Duration`, or a text such as `\"1h30m\"`",
    note = "write a number with a unit in quotes, such as `\"60s\"`, or `Duration::from_secs(60)`"
)]
pub trait IntoDuration {
    /// Converts to a duration.
    ///
    /// # Errors
    ///
    /// Returns an error if a text is not a duration.
    fn into_duration(self) -> Result<Duration, DurationError>;
}

/// An error in a text that was expected to be a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a duration, {problem}")]
pub struct DurationError {
    problem: String,
}

impl DurationError {
    /// Returns the problem, as the end of a sentence that says what was expected: `got …: …`.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl IntoDuration for Duration {
    fn into_duration(self) -> Result<Duration, DurationError> {
        Ok(self)
    }
}

impl IntoDuration for &str {
    fn into_duration(self) -> Result<Duration, DurationError> {
        duration::parse(self).map_err(|problem| DurationError { problem })
    }
}

impl IntoDuration for &String {
    fn into_duration(self) -> Result<Duration, DurationError> {
        self.as_str().into_duration()
    }
}

impl IntoDuration for String {
    fn into_duration(self) -> Result<Duration, DurationError> {
        self.as_str().into_duration()
    }
}

/// Formats a duration as [`IntoDuration`] reads it.
pub(crate) fn text(duration: Duration) -> String {
    duration::format(duration)
}
