use std::time::Duration;

use orchestrator_grammar::similar::nearest;

use crate::connection::Connection;
use crate::error::{TaskError, fatal};

/// The longest time that an option may ask for.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The options of a connection, as a client reads them. An option that is empty is an option that is
/// not there.
///
/// All errors are fatal: another attempt would find the same option.
#[derive(Clone, Copy)]
pub(super) struct Options<'a>(&'a Connection);

impl<'a> Options<'a> {
    /// Returns the options of a connection.
    ///
    /// # Errors
    ///
    /// Returns an error if one is not known.
    pub(super) fn of(connection: &'a Connection, known: &[&str]) -> Result<Self, TaskError> {
        match connection.options().find(|name| !known.contains(name)) {
            Some(unknown) => Err(Self::unknown(unknown, known)),
            None => Ok(Self(connection)),
        }
    }

    /// Returns the options of a connection, which may have others than those that a client knows.
    pub(super) fn open(connection: &'a Connection) -> Self {
        Self(connection)
    }

    /// Returns the error of an option that is not known.
    pub(super) fn unknown(name: &str, known: &[&str]) -> TaskError {
        let similar = nearest(&name.to_lowercase(), known.iter().copied());
        let similar = similar.map(|similar| format!(", did you mean `{similar}`?"));
        fatal(format!(
            "unknown option `{name}`{}; the options are {}",
            similar.unwrap_or_default(),
            list(known)
        ))
    }

    /// Returns an option as it is written.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.0.option(name).filter(|value| !value.is_empty())
    }

    /// Returns a duration: seconds, or a text such as `10s` or `1m 30s`.
    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, TaskError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let seconds = text.parse().ok().map(Duration::try_from_secs_f64);
        let duration = match seconds {
            Some(seconds) => seconds.ok(),
            None => humantime::parse_duration(text).ok(),
        };
        let duration = duration.filter(|duration| !duration.is_zero() && *duration <= LONGEST);
        let expected = "seconds, or a text such as `10s`: more than 0, and at most a day";
        duration
            .map(Some)
            .ok_or_else(|| self.invalid(name, expected))
    }

    /// Returns a number between two others.
    pub(super) fn number(
        &self,
        name: &str,
        least: u32,
        most: u32,
    ) -> Result<Option<u32>, TaskError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let number = text.parse().ok();
        let number = number.filter(|number| (least..=most).contains(number));
        let expected = || self.invalid(name, &format!("a number from {least} to {most}"));
        number.map(Some).ok_or_else(expected)
    }

    /// Returns a switch: `true` or `1`, `false` or `0`.
    pub(super) fn switch(&self, name: &str) -> Result<Option<bool>, TaskError> {
        match self.text(name).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(_) => Err(self.invalid(name, "`true` or `false`")),
        }
    }

    /// Returns the file of certificates to trust; `None` for those of the system.
    #[cfg(any(feature = "http", feature = "s3"))]
    pub(super) fn certificates(&self, name: &str) -> Result<Option<&'a str>, TaskError> {
        match self.text(name) {
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(None),
            Some(text) if text.eq_ignore_ascii_case("false") => {
                let expected = "`true`, or a file in PEM with the certificates to trust";
                Err(self.invalid(name, expected))
            }
            file => Ok(file),
        }
    }

    /// Returns the error of an option with another value than the expected ones.
    pub(super) fn invalid(&self, name: &str, expected: &str) -> TaskError {
        let value = match self.text(name) {
            Some(value) if !self.0.is_secret(name) => format!("`{value}`"),
            _ => "another value".to_owned(),
        };
        fatal(format!(
            "expected option `{name}` to be {expected}; got {value}"
        ))
    }
}

/// Returns names in words.
pub(super) fn list(names: &[&str]) -> String {
    format!("`{}`", names.join("`, `"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(options: &str) -> Connection {
        Connection::parse("shop", &format!("postgres://host/?{options}")).unwrap()
    }

    #[test]
    fn unknown_option_is_refused_with_the_nearest_known_one() {
        for (options, similar) in [
            ("ssl_mode=require", ", did you mean `sslmode`?"),
            ("SSLMODE=require", ", did you mean `sslmode`?"),
            ("flavor=mint", ""),
        ] {
            let shop = connection(options);
            let error = Options::of(&shop, &["pool_size", "sslmode"]).err().unwrap();
            let name = options.split('=').next().unwrap();
            assert_eq!(
                error.to_string(),
                format!("unknown option `{name}`{similar}; the options are `pool_size`, `sslmode`")
            );
            assert!(error.is_fatal());
        }
    }

    #[test]
    fn durations_are_seconds_or_have_units() {
        for (text, milliseconds) in [
            ("10", 10_000),
            ("2.5", 2_500),
            ("10s", 10_000),
            ("1m%2030s", 90_000),
            ("250ms", 250),
            ("86400", 86_400_000),
        ] {
            let shop = connection(&format!("connect_timeout={text}"));
            let duration = Options::open(&shop).duration("connect_timeout").unwrap();
            assert_eq!(
                duration,
                Some(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for text in [
            "0",
            "-1",
            "NaN",
            "inf",
            "1e300",
            "86401",
            "ten",
            "10 parsecs",
            "0s",
        ] {
            let shop = connection(&format!("connect_timeout={text}"));
            let error = Options::open(&shop)
                .duration("connect_timeout")
                .unwrap_err();
            assert!(
                error.to_string().ends_with(&format!("got `{text}`")),
                "{error}"
            );
        }
        let shop = connection("connect_timeout=");
        assert_eq!(
            Options::open(&shop).duration("connect_timeout").unwrap(),
            None
        );
    }

    #[test]
    fn value_of_a_secret_option_is_not_shown() {
        let shop = connection("token=s3cret-s3cret");
        let error = Options::open(&shop).switch("token").unwrap_err();
        assert_eq!(
            error.to_string(),
            "expected option `token` to be `true` or `false`; got another value"
        );
    }
}
