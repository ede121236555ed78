//! The layer of `tracing` that captures.

use std::cell::Cell;
use std::sync::Weak;
use std::sync::atomic::Ordering;

use tracing::span::{Attributes, Id};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Filter, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

use super::console::{Console, Shown};
use super::event::Said;
use super::{CAPTURED, MAKING, Origin, TARGET};
use crate::clock::Clock;
#[cfg(feature = "cli")]
use crate::log::LogLevel;
use crate::log::LogLine;

/// The environment variable that says what is listened to.
const VARIABLE: &str = "ORCHESTRATOR_LOG";

/// Shows what the process logs on stderr, a readable line each, and stores what runs log: makes that the process's
/// subscriber of `tracing`, unless it has one. Says whether it did.
///
/// Call it at the start of `main`. A program that has a subscriber of its own adds [`log_layer`] to it instead.
///
/// The environment variable `ORCHESTRATOR_LOG` says what is logged: a level (`error`, `warn`, `info`, `debug`, `trace`,
/// `off`), or levels by target, as `warn,my_crate=debug`. `info` where it says nothing. Lines are coloured where stderr is a
/// terminal, unless `NO_COLOR` is set.
///
/// # Examples
///
/// ```
/// orchestrator::init_logs();
/// tracing::info!("shown on stderr");
/// ```
pub fn init_logs() -> bool {
    init(Console::stderr())
}

/// As [`init_logs`], for who tells what becomes of runs himself: of what runs log, only what their bodies say is shown,
/// from a level on, by `show`.
#[cfg(feature = "cli")]
pub(crate) fn init_logs_beside(least: LogLevel, show: fn(&str)) -> bool {
    init(Console::beside(least, show))
}

fn init(console: Console) -> bool {
    let (targets, problem) = targets(std::env::var(VARIABLE).ok());
    let capture = Capture {
        console: Some(console),
    };
    let subscriber = tracing_subscriber::registry().with(listening(capture, targets));
    let is_set = tracing::subscriber::set_global_default(subscriber).is_ok();
    if let Some(problem) = problem.filter(|_| is_set) {
        tracing::warn!("{problem}");
    }
    is_set
}

/// The part of a `tracing` subscriber that stores what runs log: for programs that have a subscriber of their own. It
/// serves all runtimes of the process.
///
/// It listens to what the environment variable `ORCHESTRATOR_LOG` says (as for [`init_logs`]; `info` by default),
/// whatever other layers listen to. A filter that stands before all layers holds for this one, too: it has to let the
/// target `orchestrator` pass, at least `orchestrator=error`, or events are not known for their tasks'. Better give
/// such filters to the single layers.
///
/// An event belongs to a task where it is said inside of it: by its body, by what that calls and awaits, and by what it
/// spawns in its span (`tracing::Instrument::in_current_span`).
///
/// # Examples
///
/// ```
/// use tracing_subscriber::layer::SubscriberExt as _;
///
/// let subscriber = tracing_subscriber::registry()
///     // .with(tracing_subscriber::fmt::layer().with_filter(…))
///     .with(orchestrator::log_layer());
/// let _ = tracing::subscriber::set_global_default(subscriber);
/// ```
pub fn log_layer<S>() -> impl Layer<S> + Send + Sync + 'static
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let (targets, _) = targets(std::env::var(VARIABLE).ok());
    listening(Capture { console: None }, targets)
}

fn listening<S>(capture: Capture, targets: Targets) -> impl Layer<S> + Send + Sync + 'static
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    CAPTURED.store(true, Ordering::Relaxed);
    capture.with_filter(Heard(targets))
}

/// What the variable says; and what is wrong with it.
fn targets(variable: Option<String>) -> (Targets, Option<String>) {
    let default = Targets::new().with_default(LevelFilter::INFO);
    let text: String = variable.unwrap_or_default().split_whitespace().collect();
    if text.is_empty() {
        return (default, None);
    }
    // a word alone would be a target: a level that is misspelt is not to silence the rest
    let is_known = text
        .split(',')
        .all(|part| part.contains('=') || part.parse::<LevelFilter>().is_ok());
    match text.parse::<Targets>() {
        Ok(targets) if is_known && targets.default_level().is_some() => (targets, None),
        Ok(targets) if is_known => (targets.with_default(LevelFilter::INFO), None),
        Ok(_) | Err(_) => {
            let problem = format!(
                "expected `{VARIABLE}` to be as `info` or `warn,my_crate=debug`, got `{text}`"
            );
            (default, Some(problem))
        }
    }
}

/// What is listened to: events by their targets, and of all spans those that say whose an event is.
struct Heard(Targets);

impl Heard {
    fn hears(&self, metadata: &Metadata<'_>) -> bool {
        match metadata.is_span() {
            true => metadata.target() == TARGET,
            false => self.0.would_enable(metadata.target(), metadata.level()),
        }
    }
}

impl<S> Filter<S> for Heard {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.hears(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.hears(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Filter::<S>::max_level_hint(&self.0).map(|level| {
            if level == LevelFilter::OFF {
                level
            } else {
                level.max(LevelFilter::ERROR)
            }
        })
    }
}

/// Captures what it is told.
struct Capture {
    console: Option<Console>,
}

thread_local! {
    /// An event is being captured: what is said by that is not.
    static CAPTURING: Cell<bool> = const { Cell::new(false) };
}

/// The end of a capture, also where the `Debug` of a field panics.
struct Captured;

impl Drop for Captured {
    fn drop(&mut self) {
        CAPTURING.set(false);
    }
}

impl<S> Layer<S> for Capture
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().target() == TARGET
            && let Some(origin) = MAKING.take()
            && let Some(span) = context.span(id)
        {
            span.extensions_mut().insert(origin);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if CAPTURING.replace(true) {
            return;
        }
        let _captured = Captured;
        let mut spans = context.event_scope(event).into_iter().flatten();
        let span = spans.find(|span| span.extensions().get::<Origin>().is_some());
        if span.is_none() && self.console.is_none() {
            return;
        }
        // users' code, which may do with its span what it likes: so before that is held
        let said = Said::of(event);
        match &span {
            Some(span) => self.capture(event.metadata(), said, span.extensions().get()),
            None => self.capture(event.metadata(), said, None),
        }
    }
}

impl Capture {
    fn capture(&self, metadata: &Metadata<'_>, said: Said, origin: Option<&Origin>) {
        let (level, target) = ((*metadata.level()).into(), metadata.target());
        let at = origin.map_or_else(|| Clock::system().now(), |origin| origin.run.clock.now());
        if let Some(console) = &self.console {
            console.show(&Shown {
                at,
                level,
                target,
                origin,
                said: &said,
            });
        }
        let Some(Origin { run, task }) = origin else {
            return;
        };
        let Some(sink) = run.sink.as_ref().and_then(Weak::upgrade) else {
            return;
        };
        let line = LogLine {
            number: 0,
            at,
            level,
            target: target.to_owned(),
            message: said.message,
            fields: said.fields,
            run: run.run,
            task: task.as_ref().map(|task| task.key.to_string()),
            attempt: task.as_ref().map(|task| task.attempt),
            map_index: task.as_ref().and_then(|task| task.map_index),
        };
        sink.push(line, &run.tokio);
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn the_variable_says_what_is_heard() {
        let hears = |variable: Option<&str>, target, level| {
            targets(variable.map(str::to_owned))
                .0
                .would_enable(target, &level)
        };
        for (variable, target, level, expected) in [
            (None, "any", Level::INFO, true),
            (None, "any", Level::DEBUG, false),
            (Some(" "), "any", Level::INFO, true),
            (Some("warn"), "any", Level::INFO, false),
            (Some("trace"), "any", Level::TRACE, true),
            (Some("off"), "any", Level::ERROR, false),
            (Some("warn,mine=debug"), "mine::inner", Level::DEBUG, true),
            (Some("warn,mine=debug"), "other", Level::INFO, false),
            (Some("mine=debug"), "mine", Level::DEBUG, true),
            (Some("mine=debug"), "other", Level::INFO, true),
            (Some(" warn, mine = debug "), "mine", Level::DEBUG, true),
            (Some("wanr"), "other", Level::INFO, true),
        ] {
            assert_eq!(
                hears(variable, target, level),
                expected,
                "{variable:?} {target} {level}"
            );
        }
        for wrong in ["wanr", "a=b=c", "info,mine=loud"] {
            let problem = targets(Some(wrong.to_owned())).1.unwrap();
            assert!(
                problem.contains("ORCHESTRATOR_LOG") && problem.contains(wrong),
                "{problem}"
            );
        }
    }
}
