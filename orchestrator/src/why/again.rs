use super::{Reason, ReasonKind, RecordContext, count, instant};
use crate::error::TaskError;
use crate::journal::{AttemptRecord, RerunRecord, RunRecord, TaskRun};
use crate::state::{Rerun, TaskState};

/// The maximum number of attempts reported.
const TOLD: usize = 5;

/// Returns the reasons why a task had attempts before its last one.
pub(super) fn reasons(
    record: &RunRecord,
    task: TaskRun<'_>,
    around: &RecordContext<'_>,
) -> Vec<Reason> {
    let mut reasons = failures(task, around);
    if task.crashes() > 0 {
        let crashes = count(task.crashes() as usize, "attempt");
        let whose = if task.crashes() == 1 { "its" } else { "their" };
        let text = format!("{crashes} ended with {whose} process, so it ran again");
        reasons.push(Reason::new(ReasonKind::RanAgain, text));
    }
    if let Some(RerunRecord { at, what, .. }) = rerun_of(record, task) {
        let text = format!(
            "it ran again because a re-run of {what} was requested at {}",
            instant(*at)
        );
        reasons.push(Reason::new(ReasonKind::RanAgain, text));
    }
    reasons
}

/// Returns `true` if an attempt failed by itself. Attempts that ended with their process have
/// reasons of their own.
pub(super) fn has_failed(attempt: &AttemptRecord) -> bool {
    let failed = matches!(attempt.state, TaskState::Failed | TaskState::Retrying);
    failed && !attempt.error.as_ref().is_some_and(TaskError::is_crash)
}

/// Returns the failed attempts before the last one, the latest first.
fn failures(task: TaskRun<'_>, around: &RecordContext<'_>) -> Vec<Reason> {
    let failed = around
        .failed
        .get(&task.key())
        .map(Vec::as_slice)
        .unwrap_or_default();
    // a task that did not run this time has not reported any of them
    let ran = task.started_at().is_some() && !task.cached();
    let earlier = failed
        .iter()
        .rev()
        .filter(|attempt| !ran || attempt.number < task.attempts());
    let mut reasons: Vec<Reason> = earlier
        .clone()
        .take(TOLD)
        .map(|AttemptRecord { number, error, .. }| {
            let error = error
                .as_ref()
                .map_or_else(String::new, |error| format!(": {error}"));
            Reason::new(
                ReasonKind::Retried,
                format!("attempt {number} failed{error}"),
            )
        })
        .collect();
    let (told, all) = (reasons.len(), earlier.count());
    if all > told {
        let text = format!("{} before these failed", count(all - told, "attempt"));
        reasons.push(Reason::new(ReasonKind::Retried, text));
    }
    let tries = (task.tries() as usize).saturating_sub(1);
    if all == 0 && tries > 0 && task.state() == TaskState::Success {
        let text = format!("{} before that failed", count(tries, "attempt"));
        reasons.push(Reason::new(ReasonKind::Retried, text));
    }
    reasons
}

/// Returns the last re-run that covers a task, if the task had attempts before it.
fn rerun_of<'a>(record: &'a RunRecord, task: TaskRun<'_>) -> Option<&'a RerunRecord> {
    let reruns = record.reruns();
    if !task.was_run_again() {
        return None;
    }
    if task.is_to_run_again() {
        return reruns.last();
    }
    // what became of it since the last re-run that covers it, came after that
    let became = task.started_at().or(task.finished_at())?;
    let key = task.key();
    reruns
        .iter()
        .rev()
        .find(|rerun| rerun.at <= became && may_cover(&rerun.what, &key))
}

/// Returns `true` if a re-run may cover a task. For a re-run of a single task, the key decides.
fn may_cover(what: &Rerun, key: &str) -> bool {
    let is_part = |of: &str, key: &str| {
        let rest = key.strip_prefix(of);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '[']))
    };
    match what {
        // the task itself, its elements, the tasks of the nested flow that it is, and the flows
        // that contain it
        Rerun::Only(only) => is_part(only, key) || is_part(key, only),
        Rerun::All | Rerun::Failed | Rerun::From(_) => true,
    }
}
