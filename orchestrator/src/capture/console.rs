//! Readable log lines on stderr.

use std::fmt::{Display, Write as _};
use std::io::{IsTerminal as _, Write as _};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};

use super::Origin;
use super::event::Said;
use crate::log::LogLevel;

/// Writes readable log lines to stderr.
#[derive(Debug)]
pub(super) struct Console {
    coloured: bool,
    write: fn(&str),
    /// Set if the command line reports the progress of runs itself. Within runs, only the events of
    /// bodies are shown then, from this level on.
    beside: Option<LogLevel>,
}

/// An event to be shown.
pub(super) struct Shown<'a> {
    pub(super) at: DateTime<Utc>,
    pub(super) level: LogLevel,
    pub(super) target: &'a str,
    pub(super) origin: Option<&'a Origin>,
    pub(super) said: &'a Said,
}

const DIM: &str = "\x1b[2m";
const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

impl Console {
    pub(super) fn stderr() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let coloured = !refused && std::io::stderr().is_terminal();
        // a failure to write cannot be reported anywhere
        let write = |line: &str| drop(std::io::stderr().write_all(line.as_bytes()));
        Self {
            coloured,
            write,
            beside: None,
        }
    }

    /// Creates a console for a caller that reports the progress of runs itself.
    #[cfg(feature = "cli")]
    pub(super) fn beside(least: LogLevel, write: fn(&str)) -> Self {
        Self {
            write,
            beside: Some(least),
            ..Self::stderr()
        }
    }

    pub(super) fn show(&self, shown: &Shown<'_>) {
        if let (Some(least), Some(_)) = (self.beside, shown.origin) {
            let is_own = shown.target.split("::").next() == Some(env!("CARGO_CRATE_NAME"));
            if is_own || shown.level < least {
                return;
            }
        }
        (self.write)(&self.line(shown));
    }

    /// Formats a line: `TIME LEVEL FLOW RUN TASK: message name=value`. The run is shown by the end
    /// of its id, since an id begins with the time.
    fn line(&self, shown: &Shown<'_>) -> String {
        let Shown {
            at,
            level,
            target,
            origin,
            said,
        } = shown;
        let coloured = self.coloured;
        let [dim, bold, plain] = styles(coloured);
        let mut line = begin(coloured, *at, *level);
        // writing to a `String` cannot fail
        match origin {
            Some(Origin { run, task }) => {
                let id = run.run.to_string();
                let _ = write!(
                    line,
                    "{bold}{}{plain} {dim}{}{plain}",
                    run.flow,
                    &id[id.len() - 8..]
                );
                match task {
                    Some(task) => {
                        line.push(' ');
                        push_task(&mut line, coloured, &task.key, task.attempt);
                    }
                    None => line.push_str(": "),
                }
            }
            None => drop(write!(line, "{dim}{target}:{plain} ")),
        }
        push_said(&mut line, coloured, &said.message, &said.fields);
        line
    }
}

fn styles(coloured: bool) -> [&'static str; 3] {
    if coloured {
        [DIM, BOLD, PLAIN]
    } else {
        [""; 3]
    }
}

/// Returns the beginning of a line: `TIME LEVEL `.
pub(crate) fn begin(coloured: bool, at: DateTime<Utc>, level: LogLevel) -> String {
    let [dim, _, plain] = styles(coloured);
    let colour = match level {
        _ if !coloured => "",
        LogLevel::Error => "\x1b[31m",
        LogLevel::Warn => "\x1b[33m",
        LogLevel::Info => "\x1b[32m",
        LogLevel::Debug => "\x1b[34m",
        LogLevel::Trace => "\x1b[35m",
    };
    let time = at.to_rfc3339_opts(SecondsFormat::Millis, true);
    let shout = level.as_str().to_ascii_uppercase();
    format!("{dim}{time}{plain} {colour}{shout:>5}{plain} ")
}

/// Appends `TASK: `, or `TASK attempt 2: ` after the first attempt.
pub(crate) fn push_task(line: &mut String, coloured: bool, key: &dyn Display, attempt: u32) {
    let [dim, bold, plain] = styles(coloured);
    let _ = match attempt {
        0 | 1 => write!(line, "{bold}{key}{plain}: "),
        _ => write!(line, "{bold}{key}{plain} {dim}attempt {attempt}{plain}: "),
    };
}

/// Appends `message name=value` and the end of the line.
pub(crate) fn push_said(
    line: &mut String,
    coloured: bool,
    message: &str,
    fields: &Map<String, Value>,
) {
    let [dim, _, plain] = styles(coloured);
    push_harmless(line, message);
    for (name, value) in fields {
        let _ = write!(line, " {dim}{name}={plain}");
        match value {
            Value::String(text) if is_simple(text) => line.push_str(text),
            value => push_harmless(line, &value.to_string()),
        }
    }
    line.push('\n');
}

/// Returns `true` if a text needs no quotes.
fn is_simple(text: &str) -> bool {
    let ordinary =
        |character: char| !character.is_whitespace() && !character.is_control() && character != '"';
    !text.is_empty() && text.chars().all(ordinary)
}

/// Appends a text with its control characters escaped: a logged value must not move a terminal's
/// cursor or change its colours.
fn push_harmless(line: &mut String, text: &str) {
    for character in text.trim_end_matches('\n').chars() {
        match character {
            '\n' => line.push_str("\n    "),
            '\t' => line.push('\t'),
            control if control.is_control() => line.extend(control.escape_default()),
            other => line.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use smallvec::SmallVec;
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

    use super::super::{RunOrigin, TaskOrigin};
    use super::*;
    use crate::clock::Clock;
    use crate::graph::InstanceKey;
    use crate::id::RunId;

    /// A layer that keeps the last event.
    struct Last(Arc<parking_lot::Mutex<Option<Said>>>);

    impl<S: tracing::Subscriber> Layer<S> for Last {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            *self.0.lock() = Some(Said::of(event));
        }
    }

    fn said(say: impl FnOnce()) -> Said {
        let last = Arc::default();
        let subscriber = tracing_subscriber::registry().with(Last(Arc::clone(&last)));
        tracing::subscriber::with_default(subscriber, say);
        let said = last.lock().take();
        said.unwrap()
    }

    fn line(coloured: bool, level: LogLevel, task: Option<(&str, u32)>, said: &Said) -> String {
        let run = Arc::new(RunOrigin {
            run: RunId::from_bytes(
                *b"\x01\x93\x6f\x5e\x8c\x00\x70\x00\x80\x00\x00\x00\x12\x34\xab\xcd",
            ),
            flow: "etl",
            clock: Clock::system(),
            sink: None,
            early: parking_lot::Mutex::default(),
        });
        let task = task.map(|(name, attempt)| {
            let path = SmallVec::from_slice(if attempt == 1 { &[3] } else { &[] });
            let key = InstanceKey {
                prefix: Some("sub/".into()),
                name: name.to_owned().into(),
                number: attempt,
                path,
            };
            TaskOrigin {
                key,
                attempt,
                map_index: None,
            }
        });
        let at = DateTime::from_timestamp_micros(1_767_225_600_123_456).unwrap();
        let origin = Origin { run, task };
        Console {
            coloured,
            ..Console::stderr()
        }
        .line(&Shown {
            at,
            level,
            target: "my::module",
            origin: Some(&origin),
            said,
        })
    }

    #[test]
    fn a_line_is_readable() {
        let rows = said(|| {
            tracing::info!(
                rows = 42,
                table = "orders",
                share = 0.5,
                done = true,
                "loaded {}",
                "all"
            )
        });
        assert_eq!(
            line(false, LogLevel::Info, Some(("load", 1)), &rows),
            "2026-01-01T00:00:00.123Z  INFO etl 1234abcd sub/load[3]: loaded all done=true rows=42 share=0.5 \
             table=orders\n"
        );
        let failed =
            said(|| tracing::error!(text = "two words", empty = "", "no\x1b[31m\nsecond line\n"));
        assert_eq!(
            line(false, LogLevel::Error, Some(("load", 2)), &failed),
            "2026-01-01T00:00:00.123Z ERROR etl 1234abcd sub/load#2 attempt 2: no\\u{1b}[31m\n    second line empty=\"\" \
             text=\"two words\"\n"
        );
        let started = said(|| tracing::warn!("run started"));
        assert_eq!(
            line(false, LogLevel::Warn, None, &started),
            "2026-01-01T00:00:00.123Z  WARN etl 1234abcd: run started\n"
        );
        assert_eq!(
            line(true, LogLevel::Warn, None, &started),
            "\x1b[2m2026-01-01T00:00:00.123Z\x1b[0m \x1b[33m WARN\x1b[0m \x1b[1metl\x1b[0m \x1b[2m1234abcd\x1b[0m: run \
             started\n"
        );
        let at = DateTime::from_timestamp(0, 0).unwrap();
        let shown = Shown {
            at,
            level: LogLevel::Debug,
            target: "my::module",
            origin: None,
            said: &started,
        };
        assert_eq!(
            Console {
                coloured: false,
                ..Console::stderr()
            }
            .line(&shown),
            "1970-01-01T00:00:00.000Z DEBUG my::module: run started\n"
        );
    }

    #[test]
    fn fields_keep_their_types() {
        let said = said(|| {
            let (some, nan, big) = (Some(1), f64::NAN, u128::MAX);
            let error: &(dyn std::error::Error + 'static) = &std::io::Error::other("broken");
            tracing::info!(a = 1_u8, b = -1, c = 1.5, d = true, e = "text", f = ?some, g = nan, h = big, i = error)
        });
        let expected = serde_json::json!({
            "a": 1, "b": -1, "c": 1.5, "d": true, "e": "text", "f": "Some(1)", "g": "NaN", "h": u128::MAX.to_string(),
            "i": "broken",
        });
        assert_eq!(Value::Object(said.fields), expected);
        assert_eq!(said.message, "");
    }
}
