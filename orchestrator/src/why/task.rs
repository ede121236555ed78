use std::collections::HashSet;

use super::upstreams::RecordedWiring;
use super::{
    Reason, ReasonKind, RecordContext, RunExecution, Why, again, count, instant, known_tasks,
    mapped, run,
};
use crate::error::{Cause, TaskError};
use crate::index::FrameNumber;
use crate::journal::{RunRecord, TaskPlace, TaskRun};
use crate::state::{RunState, TaskState};

/// The maximum number of causes followed at each step.
const FOLLOWED: usize = 5;

/// The maximum length of a chain.
const DEEPEST: usize = 64;

/// The maximum number of tasks in a chain.
const TOLD: usize = 500;

/// Explains the state of the task with a key. Returns `None` if the run does not have this task.
pub(super) fn of_key(record: &RunRecord, key: &str, around: &RecordContext<'_>) -> Option<Why> {
    let mut chain = CauseChain::new(record, around);
    match record.exact(key) {
        Some(task) => Some(chain.of(task)),
        None => chain
            .of_mapped(key)
            .or_else(|| unplanned(record, key, around)),
    }
}

/// Explains the tasks that caused the state of a run.
pub(super) fn of_run(
    record: &RunRecord,
    around: &RecordContext<'_>,
    tasks: &[TaskRun<'_>],
    reasons: &mut Vec<Reason>,
) -> Vec<Why> {
    let places: Vec<TaskPlace> = tasks.iter().map(TaskRun::place).collect();
    CauseChain::new(record, around).causes(&places, "task", |_| true, reasons)
}

/// Explains why a task of the flow's graph is not recorded yet.
fn unplanned(record: &RunRecord, key: &str, around: &RecordContext<'_>) -> Option<Why> {
    let (base, _) = mapped::split(key);
    let is_meant =
        |(planned, is_mapped): &(String, bool)| planned == key || (*is_mapped && planned == base);
    known_tasks::planned(record).iter().any(is_meant).then(|| {
        let begun = "its run has started, but no tasks are recorded yet";
        let reason = match record.state() {
            RunState::Pending => run::run_slot(record, around),
            _ => Some(Reason::new(ReasonKind::Unknown, begun)),
        };
        Why {
            run: record.id(),
            task: Some(key.to_owned()),
            state: TaskState::Pending.as_str(),
            reasons: reason
                .into_iter()
                .chain(run::no_process(record, around))
                .collect(),
            causes: Vec::new(),
        }
    })
}

/// A walk from a task to its causes. A task that was explained before is only named.
pub(super) struct CauseChain<'a> {
    pub(super) record: &'a RunRecord,
    pub(super) wiring: RecordedWiring<'a>,
    around: &'a RecordContext<'a>,
    seen: HashSet<TaskPlace>,
    depth: usize,
}

impl<'a> CauseChain<'a> {
    fn new(record: &'a RunRecord, around: &'a RecordContext<'a>) -> Self {
        Self {
            record,
            wiring: RecordedWiring::new(record),
            around,
            seen: HashSet::new(),
            depth: 0,
        }
    }

    fn of(&mut self, task: TaskRun<'a>) -> Why {
        let mut why = Why {
            run: self.record.id(),
            task: Some(task.key()),
            state: task.state().as_str(),
            reasons: Vec::new(),
            causes: Vec::new(),
        };
        if !self.seen.insert(task.place()) {
            return why;
        }
        if self.depth >= DEEPEST || self.seen.len() > TOLD {
            why.reasons.push(Reason::new(
                ReasonKind::Unknown,
                "the chain continues: ask about this task",
            ));
            return why;
        }
        self.depth += 1;
        let reasons = &mut why.reasons;
        let mut tell = |kind, text: String| reasons.push(Reason::new(kind, text));
        let error = || {
            task.error().map_or_else(
                || "the reason is not recorded".to_owned(),
                ToString::to_string,
            )
        };
        match task.state() {
            TaskState::Pending => self.pending(task, &mut why),
            TaskState::Running => match self.around.executed {
                RunExecution::Somewhere => {
                    let since = task
                        .started_at()
                        .map_or_else(String::new, |at| format!(" since {}", instant(at)));
                    tell(
                        ReasonKind::Running,
                        format!("attempt {} is running{since}", task.attempts().max(1)),
                    );
                }
                RunExecution::Nowhere => {
                    let text = format!(
                        "attempt {} was running when its process ended",
                        task.attempts().max(1)
                    );
                    tell(ReasonKind::Running, text);
                }
            },
            TaskState::Retrying => {
                let due = task
                    .next_attempt_at()
                    .map_or_else(|| "soon".to_owned(), |at| format!("at {}", instant(at)));
                let text = format!(
                    "attempt {} failed: {}; the next is due {due}",
                    task.attempts(),
                    error()
                );
                tell(ReasonKind::Retrying, text);
            }
            TaskState::Success => match (task.cached_from(), task.cache_miss()) {
                (Some(run), _) => {
                    let at = task
                        .cached_at()
                        .map_or_else(String::new, |at| format!(", computed {}", instant(at)));
                    tell(
                        ReasonKind::Cached,
                        format!("its result is that of run {run}{at}"),
                    );
                }
                (None, miss) => {
                    tell(
                        ReasonKind::Succeeded,
                        format!("attempt {} succeeded", task.attempts().max(1)),
                    );
                    if let Some(miss) = miss {
                        tell(
                            ReasonKind::Computed,
                            format!("it was computed although its task is cached: {miss}"),
                        );
                    }
                }
            },
            TaskState::Failed => {
                let attempts = task.attempts();
                let text = if attempts == 0 {
                    error()
                } else {
                    format!("attempt {attempts} failed: {}", error())
                };
                tell(ReasonKind::Failed, text);
                if let Some(miss) = task.cache_miss() {
                    tell(
                        ReasonKind::Computed,
                        format!("no cached result could be used: {miss}"),
                    );
                }
            }
            TaskState::Skipped if task.attempts() > 0 && task.started_at().is_some() => {
                tell(
                    ReasonKind::Skipped,
                    format!("its body requested it: {}", error()),
                );
            }
            TaskState::Skipped => {
                tell(ReasonKind::Skipped, error());
                let upstreams = self.wiring.upstreams(task.place());
                why.causes = self.causes(
                    &upstreams,
                    "upstream",
                    |state| state == TaskState::Skipped,
                    &mut why.reasons,
                );
                if why.causes.is_empty() {
                    why.causes = self.causes(
                        &upstreams,
                        "upstream",
                        |state| state != TaskState::Success,
                        &mut why.reasons,
                    );
                }
            }
            TaskState::UpstreamFailed => {
                tell(ReasonKind::UpstreamFailed, error());
                let broken = |state| matches!(state, TaskState::Failed | TaskState::UpstreamFailed);
                let upstreams = self.wiring.upstreams(task.place());
                why.causes = self.causes(&upstreams, "upstream", broken, &mut why.reasons);
                if why.causes.is_empty() {
                    why.causes = self.causes(
                        &upstreams,
                        "upstream",
                        |state| state != TaskState::Success,
                        &mut why.reasons,
                    );
                }
            }
            TaskState::Cancelled => tell(ReasonKind::Cancelled, cancelled(self.record, task)),
        }
        let name = self
            .wiring
            .task_of(task.place().node)
            .or_else(|| self.wiring.name_of(task.place().node));
        let ran = matches!(
            task.state(),
            TaskState::Running | TaskState::Success | TaskState::Failed
        );
        if self.record.state() == RunState::Cancelled
            && ran
            && name.is_some_and(|name| (self.around.cleans_up)(name))
        {
            let text =
                "it is a clean-up task, which a cancelled run does not cancel (`run_on_cancel`)";
            why.reasons.push(Reason::new(ReasonKind::CleanUp, text));
        }
        why.reasons
            .extend(again::reasons(self.record, task, self.around));
        if !task.state().is_final() {
            why.reasons
                .extend(run::no_process(self.record, self.around));
        }
        self.depth -= 1;
        why
    }

    /// Returns the reason why a task has not started.
    fn pending(&mut self, task: TaskRun<'a>, why: &mut Why) {
        let place = task.place();
        let upstreams = self.wiring.upstreams(place);
        let open = |place: &TaskPlace| {
            self.wiring
                .task(*place)
                .is_none_or(|task| !task.state().is_final())
        };
        let waiting = upstreams.iter().filter(|place| open(place)).count();
        if waiting > 0 {
            let text = format!(
                "it waits for {waiting} of its {}",
                count(upstreams.len(), "upstream")
            );
            why.reasons.push(Reason::new(ReasonKind::Upstreams, text));
            why.causes = self.causes(
                &upstreams,
                "upstream",
                |state| !state.is_final(),
                &mut why.reasons,
            );
        } else if self.record.state() == RunState::Pending {
            why.reasons.extend(run::run_slot(self.record, self.around));
        } else if !self.wiring.is_known(place.node) {
            let text = "it has not started; what it waits for is recorded only by stores that outlive their process";
            why.reasons.push(Reason::new(ReasonKind::Unknown, text));
        } else if self.around.executed == RunExecution::Somewhere {
            why.reasons.push(Reason::new(
                ReasonKind::Slot,
                self.slot(place, upstreams.is_empty()),
            ));
        }
    }

    /// Returns the slot that a task may wait for if its upstreams are done. A pool that was set by
    /// the call or by the flow is not recorded.
    fn slot(&self, place: TaskPlace, is_first: bool) -> String {
        let ready = if is_first {
            "it has no upstreams"
        } else {
            "all its upstreams have ended"
        };
        let pool = self
            .wiring
            .task_of(place.node)
            .and_then(|task| (self.around.pool_of)(task));
        let pool = match pool.map(|pool| (pool.name, (self.around.slots)(pool.name))) {
            Some((pool, Some(slots))) => format!("of the pool `{pool}`, which has {slots} here"),
            Some((pool, None)) => format!("of the pool `{pool}`"),
            None => "of a pool".to_owned(),
        };
        let mapping = if place.frame == FrameNumber::FLOW {
            ""
        } else {
            ", of its mapping (`concurrency`)"
        };
        format!(
            "{ready}: perhaps it waits for a slot {pool}{mapping}, or of the runtime (`max_running`, `max_blocking`)"
        )
    }

    /// Returns the causes of a task: those of the given nodes, usually its upstreams, that are in
    /// the relevant states, the most severe first.
    pub(super) fn causes(
        &mut self,
        places: &[TaskPlace],
        what: &str,
        is_meant: impl Fn(TaskState) -> bool,
        reasons: &mut Vec<Reason>,
    ) -> Vec<Why> {
        let mut meant: Vec<TaskRun<'a>> = places
            .iter()
            .filter_map(|place| self.wiring.task(*place))
            .collect();
        meant.retain(|task| is_meant(task.state()));
        let rank = |task: &TaskRun<'_>| match task.state() {
            TaskState::Failed => 0,
            TaskState::Running | TaskState::Retrying => 1,
            TaskState::Skipped => 2,
            _ => 3,
        };
        meant.sort_by_key(rank);
        reasons.extend(more(
            meant.len().saturating_sub(FOLLOWED),
            what,
            reasons.first(),
        ));
        meant
            .into_iter()
            .take(FOLLOWED)
            .map(|task| self.of(task))
            .collect()
    }
}

/// Returns the reason that counts the remaining items, of the same kind as the first one.
pub(super) fn more(number: usize, what: &str, first: Option<&Reason>) -> Option<Reason> {
    let kind = first.map_or(ReasonKind::Unknown, |reason| reason.kind);
    let are = if number == 1 { "is" } else { "are" };
    let text = format!(
        "{} {are} so; {FOLLOWED} are shown",
        count(number, &format!("more {what}"))
    );
    (number > 0).then(|| Reason::new(kind, text))
}

/// Returns the reason why a task was cancelled.
fn cancelled(record: &RunRecord, task: TaskRun<'_>) -> String {
    let nothing = || "the reason is not recorded".to_owned();
    let flow = task
        .prefix()
        .and_then(|prefix| record.exact(prefix.trim_end_matches('/')));
    if let Some(flow) = flow.filter(|flow| flow.state() == TaskState::Failed) {
        let error = flow.error().map_or_else(nothing, ToString::to_string);
        return format!("it was unfinished when `{}` failed: {error}", flow.key());
    }
    let before = |ended| record.reruns().last().is_some_and(|rerun| rerun.at > ended);
    match record.state() {
        _ if task.finished_at().is_some_and(before) => {
            "it was unfinished when its run ended, before the re-run".to_owned()
        }
        RunState::Failed => match record.error().filter(|error| is_of_flow(record, error)) {
            Some(error) => {
                format!("it was unfinished when the timeout of its flow passed: the run {error}")
            }
            None => {
                let error = record.error().map_or_else(nothing, ToString::to_string);
                format!("it was unfinished when its run failed: {error}")
            }
        },
        _ => "it was unfinished when the rest of its run was cancelled".to_owned(),
    }
}

/// Returns `true` if an error is the timeout of the run's flow, rather than that of a task whose
/// error a body returned.
pub(super) fn is_of_flow(record: &RunRecord, error: &TaskError) -> bool {
    let Cause::TimedOut(after) = error.cause() else {
        return false;
    };
    let given_on = |task: TaskRun<'_>| {
        task.error()
            .is_some_and(|other| other.cause() == error.cause())
    };
    error.to_string() == TaskError::timed_out(*after).to_string()
        && !record.tasks().iter().any(given_on)
}
