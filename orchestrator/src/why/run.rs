use super::{Around, Executed, Reason, ReasonKind, Why, instant, task};
use crate::state::{RunKind, RunState, TaskState};
use crate::store::{RerunRecord, RunRecord, TaskRun};

/// Why a run is as it is.
pub(super) fn of(record: &RunRecord, around: &Around<'_>) -> Why {
    let mut reasons = Vec::new();
    let state = record.state();
    let tasks: Vec<TaskRun<'_>> = record.tasks().iter().collect();
    let mut causes = Vec::new();
    match state {
        RunState::Pending => reasons.extend(turn(record, around)),
        RunState::Running => {
            let count = |state| tasks.iter().filter(|task| task.state() == state).count();
            let done = tasks.iter().filter(|task| task.state().is_final()).count();
            let (running, retrying) = (count(TaskState::Running), count(TaskState::Retrying));
            let text = format!("{done} of {} task(s) are done, {running} running, {retrying} retrying", tasks.len());
            reasons.push(Reason::new(ReasonKind::Running, text));
            causes = tasks.into_iter().filter(|task| !task.state().is_final()).collect();
            causes.sort_by_key(|task| task.state() == TaskState::Pending);
            // what is pending waits for what is not, which is told already
            if causes.first().is_some_and(|task| task.state() != TaskState::Pending) {
                causes.retain(|task| task.state() != TaskState::Pending);
            }
        }
        RunState::Success => {
            let handled = tasks.iter().filter(|task| task.state() == TaskState::Failed).count();
            let text = match handled {
                0 => "no task failed".to_owned(),
                failed => format!("{failed} task(s) failed, and each failure was handled"),
            };
            reasons.push(Reason::new(ReasonKind::Succeeded, text));
        }
        RunState::Failed => {
            let error = record.error().map_or_else(|| "nothing is recorded about why".to_owned(), ToString::to_string);
            // the error names the failures that nobody handled
            let named = |task: &TaskRun<'_>| error.contains(&format!("`{}`", task.key()));
            let failed = |task: &TaskRun<'_>| matches!(task.state(), TaskState::Failed | TaskState::UpstreamFailed);
            causes = tasks.into_iter().filter(failed).collect();
            if causes.iter().any(named) {
                causes.retain(named);
            }
            reasons.push(Reason::new(ReasonKind::Failed, error));
        }
        RunState::Cancelled => {
            let error = record.error().map_or_else(|| "its end was asked for".to_owned(), ToString::to_string);
            reasons.push(Reason::new(ReasonKind::Cancelled, error));
        }
    }
    reasons.extend(nobody(record, around));
    reasons.push(Reason::new(ReasonKind::Asked, asked(record, around)));
    reasons.extend(record.reruns().iter().map(|RerunRecord { at, what, .. }| {
        Reason::new(ReasonKind::RanAgain, format!("a re-run of {what} was asked for at {}", instant(*at)))
    }));
    if record.is_pruned() {
        reasons.push(Reason::new(ReasonKind::Unknown, "what was known of its tasks was pruned"));
    }
    Why { run: record.id(), task: None, state: state.as_str(), reasons, causes: task::of_run(record, around, causes) }
}

/// Why there is the run.
fn asked(record: &RunRecord, around: &Around<'_>) -> String {
    let (date, created) = (instant(record.logical_date()), instant(record.created_at()));
    match (record.kind(), record.key()) {
        (RunKind::Manual, Some(key)) => format!("it was asked for by hand at {created}, with the key `{key}`"),
        (RunKind::Manual, None) => format!("it was asked for by hand at {created}"),
        (RunKind::Scheduled, _) => match &around.schedule {
            Some(schedule) => format!("it was due at {date} by the schedule of its flow ({schedule})"),
            None => format!("it was due at {date} by a schedule of its flow"),
        },
        (RunKind::Backfill, _) => format!("a backfill made it at {created}, for the tick of {date}"),
    }
}

/// Why a run has not started.
pub(super) fn turn(record: &RunRecord, around: &Around<'_>) -> Option<Reason> {
    if around.executed == Executed::Nowhere {
        return None;
    }
    let others: Vec<String> = around.turns.iter().map(ToString::to_string).collect();
    let text = match around.max_active_runs.filter(|_| record.kind() != RunKind::Backfill) {
        Some(runs) if others.len() >= runs as usize => {
            let others = others.join(", ");
            format!("it waits for its turn: `max_active_runs` of its flow is {runs}, and under way are {others}")
        }
        Some(_) | None => "it was accepted and is about to start".to_owned(),
    };
    Some(Reason::new(ReasonKind::Turn, text))
}

/// That nobody executes a run that is not final.
pub(super) fn nobody(record: &RunRecord, around: &Around<'_>) -> Option<Reason> {
    let open = !record.state().is_final() && around.executed == Executed::Nowhere;
    let how = match record.state() {
        RunState::Pending => "it was left to whoever serves, or its process ended",
        _ => "a stop left it, or its process died",
    };
    let text = format!("no process executes the run ({how}): it goes on with `serve`, or with `Runtime::resume`");
    open.then(|| Reason::new(ReasonKind::NoProcess, text))
}
