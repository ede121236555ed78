//! The place of a store's file, from its URL.

use std::path::{Path, PathBuf};

use crate::error::{StoreError, without_secrets};

/// The path of a store's file and its durability, as given by its URL:
/// `sqlite:PATH?synchronous=full`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    /// Absolute, so that it stays valid if the process changes its working directory.
    pub(super) path: PathBuf,
    pub(super) synchronous: Synchronous,
}

/// When a commit survives a power failure. It always survives the death of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Synchronous {
    /// At the next checkpoint.
    #[default]
    Normal,
    /// Immediately, at the cost of an fsync per commit.
    Full,
}

impl Synchronous {
    /// Returns the keyword in URLs and for SQLite.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Full => "full",
        }
    }
}

impl Location {
    /// Parses a URL: `sqlite:PATH`, then `?` and options. Two slashes are allowed before the path,
    /// since other libraries require them: `sqlite://runs.db` is relative and
    /// `sqlite:///srv/runs.db` is not.
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        let refused = |problem: String| StoreError::Location {
            url: without_secrets(url),
            problem,
        };
        let rest = url
            .strip_prefix("sqlite:")
            .ok_or_else(|| refused("expected `sqlite:PATH`".to_owned()))?;
        let (path, options) = rest.split_once('?').unwrap_or((rest, ""));
        let path = path.strip_prefix("//").unwrap_or(path);
        match path {
            "" => {
                return Err(refused(
                    "expected a path, as in `sqlite:runs.db`, got none".to_owned(),
                ));
            }
            ":memory:" => return Err(refused("for a store in memory write `memory`".to_owned())),
            _ if path.starts_with("file:") => {
                return Err(refused(
                    "expected a path, got a `file:` URI; for a store in memory write `memory`"
                        .to_owned(),
                ));
            }
            _ if path.ends_with(std::path::is_separator) || Path::new(path).is_dir() => {
                return Err(refused(format!(
                    "expected the path of a file, got the folder `{path}`"
                )));
            }
            _ => {}
        }
        let synchronous = synchronous(options).map_err(refused)?;
        let path = std::path::absolute(path).map_err(|error| refused(error.to_string()))?;
        Ok(Self { path, synchronous })
    }
}

/// Parses the options after the `?`.
fn synchronous(options: &str) -> Result<Synchronous, String> {
    let mut synchronous = None;
    for option in options.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        if name != "synchronous" {
            return Err(format!("unknown option `{name}`; there is `synchronous`"));
        }
        let meant = [Synchronous::Normal, Synchronous::Full]
            .into_iter()
            .find(|choice| choice.word() == value);
        let meant = meant.ok_or_else(|| {
            format!("expected `synchronous` to be `normal` or `full`, got `{value}`")
        })?;
        if synchronous.replace(meant).is_some() {
            return Err("`synchronous` is given twice".to_owned());
        }
    }
    Ok(synchronous.unwrap_or_default())
}

/// Returns the path of a store's file as errors show it.
pub(super) fn place_of(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_file_and_how_safely_it_is_written() {
        let here = std::env::current_dir().unwrap();
        for (url, path, synchronous) in [
            ("sqlite:runs.db", here.join("runs.db"), Synchronous::Normal),
            (
                "sqlite:a/b c/runs.db",
                here.join("a/b c/runs.db"),
                Synchronous::Normal,
            ),
            (
                "sqlite:/srv/runs.db",
                PathBuf::from("/srv/runs.db"),
                Synchronous::Normal,
            ),
            (
                "sqlite:///srv/runs.db",
                PathBuf::from("/srv/runs.db"),
                Synchronous::Normal,
            ),
            (
                "sqlite://runs.db",
                here.join("runs.db"),
                Synchronous::Normal,
            ),
            ("sqlite:runs.db?", here.join("runs.db"), Synchronous::Normal),
            (
                "sqlite:runs.db?synchronous=normal",
                here.join("runs.db"),
                Synchronous::Normal,
            ),
            (
                "sqlite:runs.db?synchronous=full",
                here.join("runs.db"),
                Synchronous::Full,
            ),
        ] {
            assert_eq!(
                Location::parse(url),
                Ok(Location { path, synchronous }),
                "{url}"
            );
        }
    }

    #[test]
    fn fault_in_a_url_is_named() {
        for (url, problem) in [
            (
                "sqlite:",
                "expected a path, as in `sqlite:runs.db`, got none",
            ),
            (
                "sqlite:?synchronous=full",
                "expected a path, as in `sqlite:runs.db`, got none",
            ),
            ("sqlite::memory:", "for a store in memory write `memory`"),
            ("sqlite://:memory:", "for a store in memory write `memory`"),
            (
                "sqlite:file:runs.db",
                "expected a path, got a `file:` URI; for a store in memory write `memory`",
            ),
            (
                "sqlite:/",
                "expected the path of a file, got the folder `/`",
            ),
            (
                "sqlite:src",
                "expected the path of a file, got the folder `src`",
            ),
            (
                "sqlite:new/",
                "expected the path of a file, got the folder `new/`",
            ),
            (
                "sqlite:runs.db?mode=ro",
                "unknown option `mode`; there is `synchronous`",
            ),
            (
                "sqlite:runs.db?synchronous=off",
                "expected `synchronous` to be `normal` or `full`, got `off`",
            ),
            (
                "sqlite:runs.db?synchronous",
                "expected `synchronous` to be `normal` or `full`, got ``",
            ),
            (
                "sqlite:runs.db?synchronous=full&synchronous=full",
                "`synchronous` is given twice",
            ),
        ] {
            let expected = StoreError::Location {
                url: url.to_owned(),
                problem: problem.to_owned(),
            };
            assert_eq!(Location::parse(url), Err(expected), "{url}");
        }
    }
}
