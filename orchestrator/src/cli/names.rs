//! What is typed as a name: flows, tasks, runs.

use super::exit::Failure;
use crate::flow::{FlowDef, registry};
use crate::id::RunId;
use crate::runtime::Runtime;
use crate::store::RunRecord;

/// How many names an error lists.
const NAMED: usize = 8;

/// How alike two names are that may be mistaken for each other, from 0 to 1: as in clap.
const ALIKE: f64 = 0.7;

/// The name that is meant, perhaps.
pub(super) fn meant<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = known.into_iter().map(|name| (strsim::jaro(typed, name), name));
    let best = likeness.filter(|(likeness, _)| *likeness > ALIKE).max_by(|a, b| a.0.total_cmp(&b.0));
    best.map(|(_, name)| name)
}

/// Says that there is nothing of a name, and what there is.
fn unknown(what: &str, typed: &str, mut known: Vec<&str>, otherwise: &str) -> Failure {
    known.sort_unstable();
    known.dedup();
    let meant = meant(typed, known.iter().copied());
    let hint = meant.map_or_else(|| otherwise.to_owned(), |name| format!("did you mean `{name}`?"));
    let more = known.len().saturating_sub(NAMED);
    let mut list = known.iter().take(NAMED).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if more > 0 {
        list.push_str(&format!(" and {more} more"));
    }
    let list = if list.is_empty() { "none".to_owned() } else { list };
    Failure::usage(format!("no {what} `{typed}`")).why(format!("there is {list}")).hint(hint)
}

/// The flow of a name.
pub(super) fn flow(typed: &str) -> Result<&'static FlowDef, Failure> {
    registry::find(typed).ok_or_else(|| {
        let names: Vec<&str> = registry::flows().map(|flow| flow.name).collect();
        let otherwise = match names.is_empty() {
            true => "flows of a library crate are linked where `main.rs` mentions it: `use my_flows as _;`",
            false => "the command `flows` lists them; a crate that has others is linked with `use the_crate as _;`",
        };
        unknown("flow", typed, names, otherwise)
    })
}

/// Says that a run has no task of a key.
pub(super) fn no_task(record: &RunRecord, typed: &str) -> Failure {
    let keys: Vec<String> = record.tasks().iter().map(|task| task.key()).collect();
    let otherwise = match (record.is_pruned(), keys.is_empty()) {
        (true, _) => "what was known of its tasks was pruned",
        (false, true) => "the run has no tasks yet: the command `why` says what it waits for",
        (false, false) => "the command `runs show` lists them",
    };
    let known = keys.iter().map(|key| key.split_once('[').map_or(key.as_str(), |(key, _)| key));
    unknown("task", typed, known.collect(), otherwise)
}

/// The id of the run that begins so.
pub(super) async fn run(runtime: &Runtime, typed: &str) -> Result<RunId, Failure> {
    if let Ok(id) = typed.parse::<RunId>() {
        return Ok(id);
    }
    let list = "the command `runs` lists them with their ids";
    if typed.chars().filter(|character| *character != '-').count() < 4 {
        let what = format!("expected the id of a run, or at least 4 characters of its beginning, got `{typed}`");
        return Err(Failure::usage(what).hint(list));
    }
    let ids = runtime.run_ids(typed).await?;
    match ids.as_slice() {
        [id] => Ok(*id),
        [] => Err(Failure::usage(format!("no run `{typed}`")).why("no id in this store begins so").hint(list)),
        ids => {
            let ids = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let failure = Failure::usage(format!("several runs have an id that begins with `{typed}`"));
            Err(failure.why(ids).hint("give more characters of the one that is meant"))
        }
    }
}

/// The record of the run that begins so.
pub(super) async fn record(runtime: &Runtime, typed: &str) -> Result<RunRecord, Failure> {
    let run = run(runtime, typed).await?;
    runtime.find_run(run).await?.ok_or_else(|| crate::error::Error::UnknownRun { run }.into())
}

#[cfg(test)]
mod tests {
    use super::meant;

    #[test]
    fn a_name_that_is_alike_is_meant() {
        assert_eq!(meant("etl_dayly", ["etl_daily", "report"]), Some("etl_daily"));
        assert_eq!(meant("x", ["etl_daily", "report"]), None);
    }
}
