//! Advice for the syntax of other schedulers that crontab does not have.

use super::error::Fault;
use super::part::Part;

pub(super) const NO_YEAR: &str =
    "; crontab has no year: leave it out, and limit the schedule by `.start(…)` and `.end(…)`";

/// Returns the advice for a term of another scheduler.
pub(super) fn term(term: &str) -> Option<String> {
    let (owner, remedy) = match term.to_ascii_uppercase().strip_prefix('H') {
        _ if term == "?" => ("Quartz", "write `*`".to_owned()),
        Some(rest) if rest.starts_with('/') => ("Jenkins", format!("write `*{rest}`{SPREAD}")),
        Some(rest) if rest.is_empty() || rest.starts_with('(') => {
            ("Jenkins", format!("choose a value{SPREAD}"))
        }
        _ => return None,
    };
    Some(format!(
        "; `{term}` is a term of {owner}, not of crontab: {remedy}"
    ))
}

const SPREAD: &str = "; to spread the runs, add `.jitter(\"5m\")` to the schedule";

/// Returns the advice for a nickname of another scheduler, in lower case and with its arguments.
pub(super) fn nickname(name: &str) -> Option<&'static str> {
    match name.split_ascii_whitespace().next() {
        Some("@reboot") => {
            Some(": a schedule depends on the clock; to run once at startup, call `.run()` there")
        }
        Some("@every") => Some(": write `Schedule::every(…)`"),
        _ => None,
    }
}

/// Returns the error of a first word that sets a time zone.
pub(super) fn zone(word: Part<'_>) -> Option<Fault> {
    let (name, zone) = word.text.split_once('=')?;
    ["TZ", "CRON_TZ"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
        .then(|| Fault {
            field: None,
            span: word.span(),
            problem: format!("expected a field, got `{}`", word.text),
            remedy: format!(
                ": set the time zone by `.timezone(…)`, or by `timezone = \"{zone}\"` in the attribute"
            ),
        })
}
