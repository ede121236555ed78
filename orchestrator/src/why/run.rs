use super::{Reason, ReasonKind, RecordContext, RunExecution, Why, count, instant, task};
use crate::journal::{RerunRecord, RunRecord, TaskRun};
use crate::state::{RunKind, RunState, TaskState};
use crate::store::PreviousRun;

/// The maximum number of failures in the error of a run.
const NAMED: usize = 5;

/// Explains the state of a run.
pub(super) fn of(record: &RunRecord, around: &RecordContext<'_>) -> Why {
    let mut reasons = Vec::new();
    let state = record.state();
    let mut causes = Vec::new();
    match state {
        RunState::Pending => reasons.extend(run_slot(record, around)),
        RunState::Running => {
            let tasks: Vec<TaskRun<'_>> = record.tasks().iter().collect();
            let count_of = |state| tasks.iter().filter(|task| task.state() == state).count();
            let done = tasks.iter().filter(|task| task.state().is_final()).count();
            let (running, retrying) = (count_of(TaskState::Running), count_of(TaskState::Retrying));
            let (all, are) = (
                count(tasks.len(), "task"),
                if tasks.len() == 1 { "is" } else { "are" },
            );
            let text =
                format!("{done} of {all} {are} done, {running} running, {retrying} retrying");
            reasons.push(Reason::new(ReasonKind::Running, text));
            // pending tasks wait for others, which are already reported
            let is_open = |task: &TaskRun<'_>| {
                matches!(task.state(), TaskState::Running | TaskState::Retrying)
            };
            let (open, mut rest): (Vec<TaskRun<'_>>, Vec<TaskRun<'_>>) =
                tasks.into_iter().partition(is_open);
            rest.retain(|task| !task.state().is_final());
            causes = task::of_run(
                record,
                around,
                if open.is_empty() { &rest } else { &open },
                &mut reasons,
            );
        }
        RunState::Success => {
            let failed = record
                .tasks()
                .iter()
                .filter(|task| task.state() == TaskState::Failed)
                .count();
            let text = match failed {
                0 => "no task failed".to_owned(),
                1 => "1 task failed, and its failure was handled".to_owned(),
                failed => format!("{failed} tasks failed, and each failure was handled"),
            };
            reasons.push(Reason::new(ReasonKind::Succeeded, text));
        }
        RunState::Failed => causes = failed(record, around, &mut reasons),
        RunState::Cancelled => {
            let error = record.error().map_or_else(
                || "its cancellation was requested".to_owned(),
                ToString::to_string,
            );
            reasons.push(Reason::new(ReasonKind::Cancelled, error));
        }
    }
    reasons.extend(no_process(record, around));
    reasons.push(Reason::new(ReasonKind::Asked, origin(record, around)));
    reasons.extend(record.reruns().iter().map(|RerunRecord { at, what, .. }| {
        Reason::new(
            ReasonKind::RanAgain,
            format!("a re-run of {what} was requested at {}", instant(*at)),
        )
    }));
    if record.is_pruned() {
        reasons.push(Reason::new(
            ReasonKind::Unknown,
            "the records of its tasks were pruned",
        ));
    }
    Why {
        run: record.id(),
        task: None,
        state: state.as_str(),
        reasons,
        causes,
    }
}

/// Adds the reasons why a run failed, and returns the causes.
fn failed(record: &RunRecord, around: &RecordContext<'_>, reasons: &mut Vec<Reason>) -> Vec<Why> {
    let error = record.error().map_or_else(
        || "the reason is not recorded".to_owned(),
        ToString::to_string,
    );
    if let Some((tasks, unnamed)) = unhandled(record, &error) {
        reasons.push(Reason::new(ReasonKind::Failed, error));
        reasons.extend(task::more(unnamed, "task", reasons.first()));
        return task::of_run(record, around, &tasks, reasons);
    }
    let tasks = record.tasks().iter();
    if record
        .error()
        .is_some_and(|error| task::is_of_flow(record, error))
    {
        reasons.push(Reason::new(
            ReasonKind::Failed,
            format!("the timeout of its flow passed: it {error}"),
        ));
        let late = tasks
            .filter(|task| task.state() == TaskState::Cancelled && task.started_at().is_some());
        return task::of_run(record, around, &late.collect::<Vec<_>>(), reasons);
    }
    reasons.push(Reason::new(ReasonKind::Failed, error));
    let broken =
        tasks.filter(|task| matches!(task.state(), TaskState::Failed | TaskState::UpstreamFailed));
    let broken: Vec<TaskRun<'_>> = broken.collect();
    let causes = task::of_run(record, around, &broken, reasons);
    if !broken.is_empty() {
        let text = "perhaps because of tasks that failed, whose failures may have been handled: that is not recorded";
        reasons.push(Reason::new(ReasonKind::Unknown, text));
    }
    causes
}

/// Returns the unhandled failures, if the run's error is a list of them: those that are named, and
/// the number of the others. Other errors, such as that of the flow's body, are not such a list.
fn unhandled<'a>(record: &'a RunRecord, error: &str) -> Option<(Vec<TaskRun<'a>>, usize)> {
    let (mut rest, mut named) = (error, Vec::new());
    while named.len() < NAMED {
        let (key, after) = rest.strip_prefix("task `")?.split_once('`')?;
        let task = record.exact(key)?;
        let after = match (task.state(), task.error()) {
            (TaskState::Failed | TaskState::UpstreamFailed, Some(error)) => {
                let how = if error.is_upstream_failed() {
                    " did not run: "
                } else {
                    " failed: "
                };
                after.strip_prefix(how)?.strip_prefix(&*error.to_string())?
            }
            (TaskState::Failed | TaskState::UpstreamFailed, None) => {
                after.strip_prefix(" failed")?
            }
            _ => return None,
        };
        named.push(task);
        if after.is_empty() {
            return Some((named, 0));
        }
        rest = after.strip_prefix("; ")?;
    }
    let unnamed = rest
        .strip_prefix("and ")?
        .strip_suffix(" more")?
        .parse()
        .ok()?;
    Some((named, unnamed))
}

/// Returns the origin of the run.
fn origin(record: &RunRecord, around: &RecordContext<'_>) -> String {
    let (date, created) = (instant(record.logical_date()), instant(record.created_at()));
    match (record.kind(), record.key()) {
        (RunKind::Manual, Some(key)) => {
            format!("it was started manually at {created}, with the key `{key}`")
        }
        (RunKind::Manual, None) => format!("it was started manually at {created}"),
        // the schedule, if the flow has several, is not recorded
        (RunKind::Scheduled, _) => match &around.schedule {
            Some(schedule) => {
                format!(
                    "it was due at {date} by a schedule, perhaps the one of its attribute ({schedule})"
                )
            }
            None => format!("it was due at {date} by a schedule"),
        },
        (RunKind::Backfill, _) => {
            format!("a backfill created it at {created}, for the tick of {date}")
        }
    }
}

/// Returns the reason why a run has not started.
pub(super) fn run_slot(record: &RunRecord, around: &RecordContext<'_>) -> Option<Reason> {
    if around.executed == RunExecution::Nowhere {
        return None;
    }
    if let Some(previous) = around.previous {
        return Some(past(previous));
    }
    let others: Vec<String> = around.turns.iter().map(ToString::to_string).collect();
    let text = match around
        .max_active_runs
        .filter(|_| record.kind() != RunKind::Backfill)
    {
        Some(runs) if others.len() >= runs as usize => {
            let others = others.join(", ");
            format!(
                "it waits for a run slot: `max_active_runs` of its flow is {runs}, and the active runs are {others}"
            )
        }
        Some(_) | None => "it was accepted; it is not recorded what it waits for".to_owned(),
    };
    Some(Reason::new(ReasonKind::Turn, text))
}

/// Returns the reason why a run waits for that of the previous tick.
fn past(previous: PreviousRun) -> Reason {
    let how = match previous.state {
        RunState::Pending => "is pending",
        RunState::Running => "is running",
        RunState::Success => "succeeded",
        RunState::Failed => "failed: it starts when that one is re-run with success",
        RunState::Cancelled => "was cancelled: it starts when that one is re-run with success",
    };
    let text = format!(
        "it waits for the run of the previous tick, {}, which {how}",
        previous.id
    );
    Reason::new(ReasonKind::Past, text)
}

/// Returns the reason for an unfinished run that no process executes.
pub(super) fn no_process(record: &RunRecord, around: &RecordContext<'_>) -> Option<Reason> {
    let open = !record.state().is_final() && around.executed == RunExecution::Nowhere;
    let how = match record.state() {
        RunState::Pending => "it was left to a serving process, or its process ended",
        _ => "a shutdown left it unfinished, or its process died",
    };
    let text = format!(
        "no process executes the run ({how}): it continues with `serve` or `Runtime::resume`"
    );
    open.then(|| Reason::new(ReasonKind::NoProcess, text))
}
