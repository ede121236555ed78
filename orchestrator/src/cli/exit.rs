//! How commands end: exit codes, and what is said where one fails.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use crate::error::{Error, RerunError, StoreError};

/// The run failed, or the check found something.
pub(super) const FAILED: u8 = 1;
/// What was typed is wrong: commands, names, parameters.
pub(super) const USAGE: u8 = 2;
/// The store failed: `EX_IOERR` of sysexits.
pub(super) const STORE: u8 = 74;
/// Runs were left before their end: `EX_TEMPFAIL` of sysexits.
pub(super) const LEFT: u8 = 75;

/// What the help says about exit codes.
pub(super) const HELP: &str = "\
Exit codes:
  0      it went well
  1      the run failed or was cancelled; the check found something
  2      what was typed is wrong: a command, a name, a parameter
  74     the store failed
  75     stopped by a signal, with runs left: they go on when the program serves again
  128+n  cut short by a second signal, of number n";

/// What a command gives: its exit code.
pub(super) type Done = Result<ExitCode, Failure>;

/// Why a command failed: one line of what, one of why, one of what to do.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: u8,
    pub(super) what: String,
    pub(super) why: Option<String>,
    pub(super) hint: Option<String>,
    /// Whoever read the output has gone, which is his right.
    pub(super) unread: bool,
}

impl Failure {
    pub(super) fn new(code: u8, what: impl Into<String>) -> Self {
        Self {
            code,
            what: what.into(),
            why: None,
            hint: None,
            unread: false,
        }
    }

    /// What was typed is wrong.
    pub(super) fn usage(what: impl Into<String>) -> Self {
        Self::new(USAGE, what)
    }

    pub(super) fn why(self, why: impl Into<String>) -> Self {
        Self {
            why: Some(why.into()),
            ..self
        }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// With a hint, if there is one and none yet.
    pub(super) fn or_hint(self, hint: Option<String>) -> Self {
        Self {
            hint: self.hint.or(hint),
            ..self
        }
    }

    /// As text, with a style for the words that begin the first line, and the hint.
    pub(super) fn text(
        &self,
        error: impl Display,
        hint: impl Display,
        reset: impl Display,
    ) -> String {
        let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut text = format!("{error}error:{reset} {}\n", one_line(&self.what));
        if let Some(why) = &self.why {
            text.push_str(&format!("  {}\n", one_line(why)));
        }
        if let Some(advice) = &self.hint {
            text.push_str(&format!("{hint}hint:{reset} {}\n", one_line(advice)));
        }
        text
    }
}

/// Splits a message of the library into what and why: "what: why".
fn split(text: &str) -> (String, Option<String>) {
    match text.split_once(": ") {
        Some((what, why)) => (what.to_owned(), Some(why.to_owned())),
        None => (text.to_owned(), None),
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        let code = match &error {
            Error::Store(StoreError::UnknownUrl { .. } | StoreError::Location { .. }) => USAGE,
            Error::Store(_) => STORE,
            Error::Stopped { .. } | Error::Closed => LEFT,
            Error::Graph { .. }
            | Error::Body { .. }
            | Error::MissingResource { .. }
            | Error::Pool { .. }
            | Error::DuplicateFlow { .. }
            | Error::NoTokio => FAILED,
            Error::KeyTaken { .. }
            | Error::UnknownFlow { .. }
            | Error::UnknownRun { .. }
            | Error::UnknownTask { .. }
            | Error::Parameters { .. }
            | Error::Rerun(_)
            | Error::Schedule { .. }
            | Error::Options(_) => USAGE,
        };
        let (what, why) = match &error {
            Error::Store(_) if code == USAGE => ("no store is named so".to_owned(), Some(text)),
            Error::Store(_) => ("the store failed".to_owned(), Some(text)),
            Error::Graph { flow, source } => (
                format!("the graph of flow `{flow}` is refused"),
                Some(source.to_string()),
            ),
            Error::Body { flow, error } => (
                format!("the body of flow `{flow}` failed"),
                Some(error.to_string()),
            ),
            Error::MissingResource { task, .. } => {
                (format!("task `{task}` cannot run here"), Some(text))
            }
            Error::Pool { task, .. } => (format!("task `{task}` cannot run here"), Some(text)),
            Error::Parameters { flow, problem } => (
                format!("the parameters of flow `{flow}` are refused"),
                Some(problem.clone()),
            ),
            Error::Schedule { flow, problem } => (
                format!("the schedule of flow `{flow}` is refused"),
                Some(problem.clone()),
            ),
            Error::KeyTaken {
                flow,
                key,
                run,
                recorded,
                asked,
            } => {
                let why = format!("run {run} has it, with {recorded}; asked for were {asked}");
                (
                    format!("flow `{flow}` has another run with the key `{key}`"),
                    Some(why),
                )
            }
            Error::Rerun(RerunError::NothingFailed { run }) => (
                format!("nothing failed in run {run}"),
                Some("there is nothing to run again".to_owned()),
            ),
            Error::Rerun(RerunError::NoResults { run, problem }) => (
                format!("run {run} can be run again only as a whole"),
                Some(problem.clone()),
            ),
            Error::UnknownRun { run } => (
                format!("no run `{run}`"),
                Some("it was never made in this store".to_owned()),
            ),
            _ => split(&text),
        };
        let hint = match &error {
            Error::Store(_) => Some(
                "another store is named by `--store URL`, or by the variable ORCHESTRATOR_STORE",
            ),
            Error::MissingResource { .. } | Error::Pool { .. } => Some(
                "give the runtime what it lacks, and the command line the runtime: `orchestrator::cli().runtime(…)`",
            ),
            Error::Rerun(RerunError::NothingFailed { .. } | RerunError::NoResults { .. }) => {
                Some("`--all` runs all of it again")
            }
            Error::UnknownRun { .. } => Some("the command `runs` lists those that there are"),
            Error::KeyTaken { .. } => {
                Some("give another `--key`, or what was asked for the first time")
            }
            _ => None,
        };
        Self {
            code,
            what,
            why,
            hint: hint.map(str::to_owned),
            unread: false,
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Error::from(error).into()
    }
}

impl From<&clap::Error> for Failure {
    fn from(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let mut failure = Self::usage(first.strip_prefix("error: ").unwrap_or(first));
        let more: Vec<&str> = lines
            .by_ref()
            .take_while(|line| !line.is_empty())
            .map(str::trim)
            .collect();
        // that an option which is not there might be a value is no help
        let tip = text.lines().find_map(|line| {
            line.trim()
                .strip_prefix("tip: ")
                .filter(|tip| !tip.starts_with("to pass"))
        });
        let usage = text
            .lines()
            .find_map(|line| line.strip_prefix("Usage: "))
            .map(|usage| format!("usage: {usage}"));
        failure.why = if more.is_empty() {
            usage
        } else {
            Some(more.join(" "))
        };
        failure.hint(tip.unwrap_or("`--help` after a command tells what can be typed"))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let unread = error.kind() == io::ErrorKind::BrokenPipe;
        Self {
            unread,
            ..Self::new(FAILED, "the output cannot be written").why(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_a_line_of_what_one_of_why_and_a_hint() {
        let failure = Failure::usage("no flow `a`")
            .why("there is\n  `b`")
            .hint("did you mean `b`?");
        let text = failure.text("", "", "");
        assert_eq!(
            text,
            "error: no flow `a`\n  there is `b`\nhint: did you mean `b`?\n"
        );
        assert_eq!(Failure::usage("no").text("<", "", ">"), "<error:> no\n");
    }
}
