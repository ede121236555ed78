//! Text and JSON on standard output. Everything else goes to standard error, including the output
//! of tasks.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use super::exit::CommandFailure;
use crate::id::RunId;
use crate::runtime::Halted;
use crate::state::{RunState, TaskState};
use crate::value::with_digits;

pub(super) const BOLD: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const GREEN: Style = AnsiColor::Green.on_default();
pub(super) const RED: Style = AnsiColor::Red.on_default();
pub(super) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(super) const CYAN: Style = AnsiColor::Cyan.on_default();

/// Reserves standard output for the output of commands: everything else that is printed there from
/// now on goes to standard error. Bodies may print as long as the process lives, so this is never
/// undone.
#[cfg(unix)]
pub(super) fn keep_for_documents() {
    if DOCUMENTS.get().is_some() {
        return;
    }
    // output from before this call belongs to the program, not to a task
    let _ = io::stdout().flush();
    let kept = rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3).and_then(|documents| {
        rustix::stdio::dup2_stdout(io::stderr())?;
        Ok(documents)
    });
    match kept {
        Ok(documents) => drop(DOCUMENTS.set(File::from(documents))),
        Err(error) => {
            tracing::warn!(%error, "the output of tasks is not separated from documents on standard output")
        }
    }
}

/// Does nothing: redirection would need `unsafe` here.
#[cfg(not(unix))]
pub(super) fn keep_for_documents() {}

/// The original standard output, if it was redirected.
static DOCUMENTS: OnceLock<File> = OnceLock::new();

/// Prints a text. Colours are stripped if standard output is not a terminal, or if NO_COLOR is set.
pub(super) fn print(text: impl Display) -> Result<(), CommandFailure> {
    let text = text.to_string();
    let write = |out: &mut dyn Write| {
        out.write_all(text.as_bytes())?;
        out.flush()
    };
    match DOCUMENTS.get() {
        Some(documents) => write(&mut AutoStream::auto(documents.try_clone()?))?,
        None => write(&mut AutoStream::auto(io::stdout().lock()))?,
    }
    Ok(())
}

/// Prints a message to standard error. Write errors are ignored: standard error may be closed.
pub(super) fn tell(text: impl Display) {
    let text = format!("{text}\n");
    let mut out = io::stderr().lock();
    // in one write: what child processes print would otherwise get into the line
    let _ = match AutoStream::choice(&out) {
        ColorChoice::Never => out.write_all(strip_str(&text).to_string().as_bytes()),
        _ => AutoStream::auto(out).write_all(text.as_bytes()),
    };
}

/// Reports how the process stopped at a signal, and terminates it if it would not end by itself.
pub(super) fn halt(halted: Halted) -> ExitCode {
    tell(&halted.stopped);
    halted.end().exit_code()
}

/// Prints a document.
pub(super) fn json(document: &impl Serialize) -> Result<(), CommandFailure> {
    let text = serde_json::to_string_pretty(document).map_err(io::Error::from)?;
    print(format_args!("{}\n", with_digits(&text)))
}

pub(super) fn failure(failure: &CommandFailure) {
    let (red, cyan) = (RED.bold(), CYAN.bold());
    let mut out = AutoStream::auto(io::stderr().lock());
    let _ = write!(out, "{}", failure.text(red, cyan, anstyle::Reset));
}

/// A table with aligned columns.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<TableCell>>,
    indent: usize,
}

/// A short text with a style.
#[derive(Debug)]
pub(super) struct TableCell {
    text: String,
    style: Style,
}

impl TableCell {
    pub(super) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self {
            text: text.into(),
            style,
        }
    }
}

impl<T: Into<String>> From<T> for TableCell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::new())
    }
}

impl From<RunState> for TableCell {
    fn from(state: RunState) -> Self {
        Self::styled(state.as_str(), of_run(state))
    }
}

impl From<TaskState> for TableCell {
    fn from(state: TaskState) -> Self {
        Self::styled(state.as_str(), of_task(state))
    }
}

pub(super) fn of_run(state: RunState) -> Style {
    match state {
        RunState::Pending => DIM,
        RunState::Running => CYAN,
        RunState::Success => GREEN,
        RunState::Failed => RED,
        RunState::Cancelled => YELLOW,
    }
}

pub(super) fn of_task(state: TaskState) -> Style {
    match state {
        TaskState::Pending => DIM,
        TaskState::Running => CYAN,
        TaskState::Success => GREEN,
        TaskState::Failed | TaskState::UpstreamFailed => RED,
        TaskState::Retrying | TaskState::Skipped | TaskState::Cancelled => YELLOW,
    }
}

impl Table {
    pub(super) fn new<'a>(heads: impl IntoIterator<Item = &'a str>) -> Self {
        let heads = heads.into_iter().map(|head| TableCell::styled(head, BOLD));
        Self {
            rows: vec![heads.collect()],
            indent: 0,
        }
    }

    /// Creates a table without a header.
    pub(super) fn bare(indent: usize) -> Self {
        Self {
            rows: Vec::new(),
            indent,
        }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = TableCell>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(super) fn print(&self) -> Result<(), CommandFailure> {
        print(self.text())
    }

    /// Formats the table. The last non-empty column is not padded.
    pub(super) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| cell.text.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            text.push_str(&" ".repeat(self.indent));
            let last = row
                .iter()
                .rposition(|cell| !cell.text.is_empty())
                .unwrap_or(0);
            for (at, cell) in row.iter().enumerate().take(last + 1) {
                let TableCell { text: word, style } = cell;
                text.push_str(&format!("{style}{word}{style:#}"));
                if at < last {
                    text.push_str(&" ".repeat(widths[at] - word.chars().count() + 2));
                }
            }
            text.push('\n');
        }
        text
    }
}

/// Formats an instant, to the second.
pub(super) fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Formats an instant, with a fraction of a second if it has one.
pub(super) fn exact(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Formats the time since an instant, as one number with a unit.
pub(super) fn age(now: DateTime<Utc>, at: DateTime<Utc>) -> String {
    let seconds = (now - at).num_seconds().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Returns the ends of ids for a list: as long as in logs, or longer if that does not tell them
/// apart. (Ids begin with the time.)
pub(super) fn ends(ids: impl IntoIterator<Item = RunId>) -> Vec<String> {
    const SHORTEST: usize = 8;
    let ids: Vec<String> = ids.into_iter().map(|id| id.to_string()).collect();
    let of = |length: usize| ids.iter().map(move |id| &id[id.len() - length..]);
    let is_enough = |length: &usize| of(*length).collect::<BTreeSet<_>>().len() == ids.len();
    let length = (SHORTEST..=36).find(is_enough).unwrap_or(36);
    of(length).map(str::to_owned).collect()
}

/// Formats a count with its noun: `1 run`, `20,000 runs`.
pub(super) fn plural(count: u64, what: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{} {what}{end}", grouped(count))
}

/// Formats a number in groups of three digits.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let groups = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

/// Returns the predicate for a run in this state: "run … failed".
pub(super) fn is_so(state: RunState) -> &'static str {
    match state {
        RunState::Pending => "is pending",
        RunState::Running => "is running",
        RunState::Success => "succeeded",
        RunState::Failed => "failed",
        RunState::Cancelled => "was cancelled",
    }
}

/// Formats a duration, to about three digits.
pub(super) fn duration(time: std::time::Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{}ms", time.as_millis()),
        1..60 => format!("{:.1}s", time.as_secs_f64()),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// Returns the beginning of a text on one line, with the length of the rest.
pub(super) fn beginning(text: &str) -> String {
    const LONGEST: usize = 120;
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!(
            "{}… {} more",
            &text[..at],
            plural((text.len() - at) as u64, "byte")
        ),
        None => text.to_owned(),
    }
}

/// Returns the first line of a text, with a mark if there are more.
pub(super) fn first_line(text: &str) -> String {
    const LONGEST: usize = 120;
    let line = text.lines().next().unwrap_or_default();
    match line.chars().count() > LONGEST || text.lines().nth(1).is_some() {
        true => format!("{}…", line.chars().take(LONGEST).collect::<String>()),
        false => line.to_owned(),
    }
}

/// Formats a number of bytes with a unit.
pub(super) fn bytes(size: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = ((64 - size.leading_zeros()).saturating_sub(1) / 10).min(4) as usize;
    match unit {
        0 => format!("{size} B"),
        _ => format!(
            "{:.1} {}",
            size as f64 / (1_u64 << (10 * unit)) as f64,
            units[unit]
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn columns_are_aligned_and_lines_have_no_tail() {
        let mut table = Table::bare(2);
        table.row(["a".into(), "long".into(), "".into()]);
        table.row(["bcd".into(), "".into(), "é".into()]);
        assert_eq!(
            strip_str(&table.text()).to_string(),
            "  a    long\n  bcd        é\n"
        );
    }

    #[test]
    fn numbers_are_short() {
        let times = [0, 999, 1_500, 61_000, 3_661_000]
            .map(|millis| duration(Duration::from_millis(millis)));
        assert_eq!(times, ["0ms", "999ms", "1.5s", "1m01s", "1h01m"]);
        let sizes = [0, 1023, 1024, 1_572_864].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 MiB"]);
        assert_eq!(first_line("one\ntwo"), "one…");
        assert_eq!(first_line("one\n"), "one");
        assert_eq!(beginning(&"é".repeat(120)), "é".repeat(120));
        assert_eq!(
            beginning(&"é".repeat(620)),
            format!("{}… 1,000 bytes more", "é".repeat(120))
        );
        let counts = [0, 1, 999, 1_000, 20_000, 1_234_567].map(|count| plural(count, "run"));
        assert_eq!(
            counts,
            [
                "0 runs",
                "1 run",
                "999 runs",
                "1,000 runs",
                "20,000 runs",
                "1,234,567 runs"
            ]
        );
        let now = DateTime::from_timestamp(10_000_000, 0).unwrap();
        let ages = [-5, 0, 119, 120, 7_199, 7_200, 172_799, 172_800].map(|seconds| {
            let at = now - chrono::TimeDelta::seconds(seconds);
            age(now, at)
        });
        assert_eq!(ages, ["0s", "0s", "119s", "2m", "119m", "2h", "47h", "2d"]);
    }

    #[test]
    fn ends_of_ids_tell_them_apart() {
        let id = |text: &str| text.parse::<RunId>().unwrap();
        let (one, two) = (
            id("01936f5e-8c00-7000-8000-00a0b9c61377"),
            id("01936f5e-8c00-7000-8000-00b0b9c61377"),
        );
        assert_eq!(ends([one]), ["b9c61377"]);
        assert_eq!(ends([one, two]), ["a0b9c61377", "b0b9c61377"]);
        assert_eq!(ends([]), [""; 0]);
    }
}
