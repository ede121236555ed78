//! Exit codes, and the messages of commands that fail.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use crate::error::{Error, RerunError, StoreError};

/// The run failed, a tick of the backfill has another run, or the check found something.
pub(super) const FAILED: u8 = 1;
/// Usage error: a wrong command, name or parameter.
pub(super) const USAGE: u8 = 2;
/// The store failed: `EX_IOERR` of sysexits.
pub(super) const STORE: u8 = 74;
/// Runs were left unfinished: `EX_TEMPFAIL` of sysexits.
pub(super) const LEFT: u8 = 75;

/// The section of the help about exit codes.
pub(super) const HELP: &str = "\
Exit codes:
  0      success
  1      the run failed or was cancelled; a tick of the backfill has another run; the check found problems
  2      usage error: a wrong command, name or parameter
  74     the store failed
  75     stopped by a signal, with runs left: they resume when the program serves again
  128+n  terminated by a second signal, number n";

/// The result of a command: its exit code.
pub(super) type CommandResult = Result<ExitCode, CommandFailure>;

/// A failed command: one line with what failed, one with the reason or with each of several, one with
/// a hint.
#[derive(Debug)]
pub(super) struct CommandFailure {
    pub(super) code: u8,
    pub(super) what: String,
    pub(super) why: Option<String>,
    /// Further reasons.
    pub(super) also: Vec<String>,
    pub(super) hint: Option<String>,
    /// Whether the reader of the output has closed the pipe, which is not an error.
    pub(super) unread: bool,
}

impl CommandFailure {
    pub(super) fn new(code: u8, what: impl Into<String>) -> Self {
        Self {
            code,
            what: what.into(),
            why: None,
            also: Vec::new(),
            hint: None,
            unread: false,
        }
    }

    /// Creates a usage error.
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

    /// Adds a hint, if one is given and the failure does not have one yet.
    pub(super) fn or_hint(self, hint: Option<String>) -> Self {
        Self {
            hint: self.hint.or(hint),
            ..self
        }
    }

    /// Formats the failure, with styles for the word that begins the first line and for the hint.
    pub(super) fn text(
        &self,
        error: impl Display,
        hint: impl Display,
        reset: impl Display,
    ) -> String {
        let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut text = format!("{error}error:{reset} {}\n", one_line(&self.what));
        for why in self.why.iter().chain(&self.also) {
            text.push_str(&format!("  {}\n", one_line(why)));
        }
        if let Some(advice) = &self.hint {
            text.push_str(&format!("{hint}hint:{reset} {}\n", one_line(advice)));
        }
        text
    }
}

/// Splits a message of the library, "what: why", into what failed and the reason.
fn split(text: &str) -> (String, Option<String>) {
    match text.split_once(": ") {
        Some((what, why)) => (what.to_owned(), Some(why.to_owned())),
        None => (text.to_owned(), None),
    }
}

impl From<Error> for CommandFailure {
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
            | Error::Requirements { .. }
            | Error::Connection { .. }
            | Error::DuplicateFlow { .. }
            | Error::DuplicateTask { .. }
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
            Error::Store(_) if code == USAGE => ("invalid store URL".to_owned(), Some(text)),
            Error::Store(StoreError::UnreadableRun { run, problem }) => {
                (format!("run {run} cannot be read"), Some(problem.clone()))
            }
            Error::Store(_) => ("the store failed".to_owned(), Some(text)),
            Error::Graph { flow, source } => (
                format!("the graph of flow `{flow}` is invalid"),
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
            Error::Requirements { flow, problems } => (
                format!("flow `{flow}` needs what is not there"),
                problems.first().cloned(),
            ),
            Error::Parameters { flow, problem } => (
                format!("the parameters of flow `{flow}` are invalid"),
                Some(problem.clone()),
            ),
            Error::Schedule { flow, problem } => (
                format!("the schedule of flow `{flow}` is invalid"),
                Some(problem.clone()),
            ),
            Error::KeyTaken {
                flow,
                key,
                run,
                recorded,
                asked,
            } => {
                let why = format!("run {run} has it, with {recorded}; got {asked}");
                (
                    format!("flow `{flow}` has another run with the key `{key}`"),
                    Some(why),
                )
            }
            Error::Rerun(RerunError::NothingFailed { run }) => (
                format!("no task of run {run} failed"),
                Some("there is nothing to re-run".to_owned()),
            ),
            Error::Rerun(RerunError::NoResults { run, problem }) => (
                format!("run {run} can be re-run only as a whole"),
                Some(problem.clone()),
            ),
            Error::UnknownRun { run } => (
                format!("no run `{run}`"),
                Some("this store never had it".to_owned()),
            ),
            _ => split(&text),
        };
        let hint = match &error {
            Error::Store(StoreError::UnreadableRun { .. }) => {
                Some("other runs can be read: `runs` lists them, and the readable part of this one")
            }
            // the text says what to do
            Error::Store(
                StoreError::Io { .. }
                | StoreError::Full { .. }
                | StoreError::ProcessLost { .. }
                | StoreError::FileLost { .. },
            ) => None,
            Error::Store(_) => {
                Some("select another store with `--store URL` or the variable ORCHESTRATOR_STORE")
            }
            Error::Requirements { .. } => {
                Some("set it with `conn set`, `var set` or `secret set`, or in the environment")
            }
            Error::MissingResource { .. } | Error::Pool { .. } => Some(
                "add it to the runtime, and pass the runtime to the command line: `orchestrator::cli().runtime(…)`",
            ),
            Error::Rerun(RerunError::NothingFailed { .. } | RerunError::NoResults { .. }) => {
                Some("`--all` re-runs all tasks")
            }
            Error::UnknownRun { .. } => Some("`runs` lists the runs of this store"),
            Error::KeyTaken { .. } => {
                Some("use another `--key`, or the parameters and the date of the existing run")
            }
            _ => None,
        };
        let also = match &error {
            Error::Requirements { problems, .. } => problems.iter().skip(1).cloned().collect(),
            _ => Vec::new(),
        };
        Self {
            code,
            what,
            why,
            also,
            hint: hint.map(str::to_owned),
            unread: false,
        }
    }
}

impl From<StoreError> for CommandFailure {
    fn from(error: StoreError) -> Self {
        Error::from(error).into()
    }
}

impl From<&clap::Error> for CommandFailure {
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
        // clap's tip to pass an unknown option as a value would mislead
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
        failure.hint(tip.unwrap_or("run the command with `--help` for its usage"))
    }
}

impl From<io::Error> for CommandFailure {
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
        let failure = CommandFailure::usage("no flow `a`")
            .why("there is\n  `b`")
            .hint("did you mean `b`?");
        let text = failure.text("", "", "");
        assert_eq!(
            text,
            "error: no flow `a`\n  there is `b`\nhint: did you mean `b`?\n"
        );
        assert_eq!(
            CommandFailure::usage("no").text("<", "", ">"),
            "<error:> no\n"
        );
    }
}
