//! The `tracing` layer that captures events.

use std::cell::Cell;
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
use super::{CAPTURED, MAKING, Origin};
use crate::clock::Clock;
#[cfg(feature = "cli")]
use crate::log::LogLevel;
use crate::log::{LogLine, TARGET};

/// The environment variable that sets what is logged.
const VARIABLE: &str = "ORCHESTRATOR_LOG";

/// Installs a `tracing` subscriber for the process, unless it has one. Returns `true` if it did.
///
/// The subscriber writes each event to stderr as a readable line, and stores what runs log.
///
/// Call it at the start of `main`. A program that has a subscriber of its own adds [`log_layer`] to
/// it instead.
///
/// The environment variable `ORCHESTRATOR_LOG` sets what is logged: a level (`error`, `warn`,
/// `info`, `debug`, `trace`, `off`), or levels by target, such as `warn,my_crate=debug`. The
/// default is `info`. Lines are coloured if stderr is a terminal, unless `NO_COLOR` is set.
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

/// Like [`init_logs`], for a caller that reports the progress of runs itself: of the events in
/// runs, only those of bodies are shown, from a level on, through `show`.
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

/// Returns a layer that stores what runs log, for programs with a `tracing` subscriber of their
/// own. One layer serves all runtimes of the process.
///
/// The layer filters events by the environment variable `ORCHESTRATOR_LOG` (as for [`init_logs`];
/// `info` by default), independently of other layers. A filter in front of all layers applies to
/// this one, too: it must pass the target `orchestrator`, at least `orchestrator=error`, since
/// otherwise events cannot be assigned to tasks. Prefer filters on the individual layers.
///
/// An event belongs to a task if it is logged inside of it: by its body, by everything that the
/// body calls or awaits, and by futures that are spawned in its span
/// (`tracing::Instrument::in_current_span`).
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

/// Parses the variable. Returns its filter, and what is wrong with it.
fn targets(variable: Option<String>) -> (Targets, Option<String>) {
    let default = Targets::new().with_default(LevelFilter::INFO);
    let text: String = variable.unwrap_or_default().split_whitespace().collect();
    if text.is_empty() {
        return (default, None);
    }
    // a single word would be taken for a target: a misspelt level must not silence everything else
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

/// The filter: events by target and level, and of all spans those with an origin.
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

/// The layer: passes events to the console and to the sinks of their runs.
struct Capture {
    console: Option<Console>,
}

thread_local! {
    /// Whether an event is being captured on this thread: events that this causes are dropped. They
    /// would recurse without end.
    static CAPTURING: Cell<bool> = const { Cell::new(false) };
}

/// Ends a capture when it is dropped, even if the `Debug` of a field panics.
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
        // before the span's extensions are locked: this runs users' code, which may use the span
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
        let mut line = LogLine {
            target: target.to_owned(),
            fields: said.fields,
            ..LogLine::new(run.run, at, level, said.message)
        };
        if let Some(task) = task {
            task.fill(&mut line);
        }
        run.push(line);
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
