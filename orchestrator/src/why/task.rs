use std::collections::HashSet;

use super::upstreams::{Place, Wiring};
use super::{Around, Executed, Reason, ReasonKind, Why, instant, run};
use crate::state::{RunState, TaskState};
use crate::store::{RerunRecord, RunRecord, TaskRun};

/// How many causes are followed at each step.
const FOLLOWED: usize = 5;

/// How far a chain is followed.
const DEEPEST: usize = 64;

/// Why the task of a key is as it is; none where the run has no such task.
pub(super) fn of_key(record: &RunRecord, key: &str, around: &Around<'_>) -> Option<Why> {
    let wiring = Wiring::new(record);
    let mut chain = Chain { record, wiring, around, seen: HashSet::new(), depth: 0 };
    if let Some(task) = record.task(key) {
        return Some(chain.of(task));
    }
    let node = wiring.without_list(key)?;
    let mut why = Why {
        run: record.id(),
        task: Some(key.to_owned()),
        state: TaskState::Pending.as_str(),
        reasons: vec![Reason::new(ReasonKind::Upstreams, "the list that it is mapped over is not there yet")],
        causes: chain.causes(&wiring.list_of(node), |state| !state.is_final(), &mut Vec::new()),
    };
    why.reasons.extend(run::nobody(record, around));
    Some(why)
}

/// A walk from a task to what it goes back to. What was told once is only named again.
struct Chain<'a> {
    record: &'a RunRecord,
    wiring: Wiring<'a>,
    around: &'a Around<'a>,
    seen: HashSet<Place>,
    depth: usize,
}

impl<'a> Chain<'a> {
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
        if self.depth >= DEEPEST {
            why.reasons.push(Reason::new(ReasonKind::Unknown, "the chain goes on: ask for this task"));
            return why;
        }
        self.depth += 1;
        let reasons = &mut why.reasons;
        let mut tell = |kind, text: String| reasons.push(Reason::new(kind, text));
        let error = || task.error().map_or_else(|| "nothing is recorded about why".to_owned(), ToString::to_string);
        match task.state() {
            TaskState::Pending => self.pending(task, &mut why),
            TaskState::Running => match self.around.executed {
                Executed::Somewhere => {
                    let since = task.started_at().map_or_else(String::new, |at| format!(" since {}", instant(at)));
                    tell(ReasonKind::Running, format!("attempt {} is under way{since}", task.attempts().max(1)));
                }
                Executed::Nowhere => {
                    let text = format!("attempt {} was under way when its process ended", task.attempts().max(1));
                    tell(ReasonKind::Running, text);
                }
            },
            TaskState::Retrying => {
                let due = task.next_attempt_at().map_or_else(|| "soon".to_owned(), |at| format!("at {}", instant(at)));
                let text = format!("attempt {} failed: {}; the next is due {due}", task.attempts(), error());
                tell(ReasonKind::Retrying, text);
            }
            TaskState::Success => match (task.cached_from(), task.cache_miss()) {
                (Some(run), _) => {
                    let at = task.cached_at().map_or_else(String::new, |at| format!(", computed {}", instant(at)));
                    tell(ReasonKind::Cached, format!("its result is that of run {run}{at}"));
                }
                (None, miss) => {
                    tell(ReasonKind::Succeeded, format!("attempt {} succeeded", task.attempts().max(1)));
                    if let Some(miss) = miss {
                        tell(ReasonKind::Computed, format!("it was computed, though its task is cached: {miss}"));
                    }
                }
            },
            TaskState::Failed => {
                let attempts = task.attempts();
                let text = if attempts == 0 { error() } else { format!("attempt {attempts} failed: {}", error()) };
                tell(ReasonKind::Failed, text);
                if let Some(miss) = task.cache_miss() {
                    tell(ReasonKind::Computed, format!("nothing cached could be used: {miss}"));
                }
            }
            TaskState::Skipped if task.attempts() > 0 => {
                tell(ReasonKind::Skipped, format!("its body asked for it: {}", error()));
            }
            TaskState::Skipped => {
                tell(ReasonKind::Skipped, error());
                let upstreams = self.wiring.upstreams(task.place());
                why.causes = self.causes(&upstreams, |state| state == TaskState::Skipped, &mut why.reasons);
                if why.causes.is_empty() {
                    why.causes = self.causes(&upstreams, |state| state != TaskState::Success, &mut why.reasons);
                }
            }
            TaskState::UpstreamFailed => {
                tell(ReasonKind::UpstreamFailed, error());
                let broken = |state| matches!(state, TaskState::Failed | TaskState::UpstreamFailed);
                let upstreams = self.wiring.upstreams(task.place());
                why.causes = self.causes(&upstreams, broken, &mut why.reasons);
                if why.causes.is_empty() {
                    why.causes = self.causes(&upstreams, |state| state != TaskState::Success, &mut why.reasons);
                }
            }
            TaskState::Cancelled => {
                let error = task.error().map_or_else(String::new, |error| format!(": {error}"));
                tell(ReasonKind::Cancelled, format!("it was not done when the rest of its run was cancelled{error}"));
            }
        }
        why.reasons.extend(ran_again(task));
        why.reasons.extend(run_again(self.record, task));
        if !task.state().is_final() {
            why.reasons.extend(run::nobody(self.record, self.around));
        }
        self.depth -= 1;
        why
    }

    /// Why a task has not started.
    fn pending(&mut self, task: TaskRun<'a>, why: &mut Why) {
        let place = task.place();
        let upstreams = self.wiring.upstreams(place);
        let open = |place: &Place| self.wiring.task(*place).is_none_or(|task| !task.state().is_final());
        let waiting = upstreams.iter().filter(|place| open(place)).count();
        if waiting > 0 {
            let text = format!("it waits for {waiting} of its {} upstream(s)", upstreams.len());
            why.reasons.push(Reason::new(ReasonKind::Upstreams, text));
            why.causes = self.causes(&upstreams, |state| !state.is_final(), &mut why.reasons);
        } else if self.record.state() == RunState::Pending {
            why.reasons.extend(run::turn(self.record, self.around));
        } else if !self.wiring.is_known(place.0) {
            let text =
                "it has not started; what it waits for is not recorded: only stores that outlive their process do";
            why.reasons.push(Reason::new(ReasonKind::Unknown, text));
        } else if self.around.executed == Executed::Somewhere {
            why.reasons.push(Reason::new(ReasonKind::Slot, self.slot(place.0, upstreams.is_empty())));
        }
    }

    /// Which slot a task waits for whose upstreams are done.
    fn slot(&self, node: u32, is_first: bool) -> String {
        let ready = if is_first { "it has no upstreams" } else { "all that it waits for is done" };
        let pool = self.wiring.task_of(node).and_then(|task| (self.around.pool_of)(task));
        match pool.map(|pool| (pool.name, (self.around.slots)(pool.name))) {
            Some((pool, Some(slots))) => {
                format!("{ready}: it waits for a slot of the pool `{pool}`, which has {slots}")
            }
            Some((pool, None)) => format!("{ready}: it waits for a slot of the pool `{pool}`"),
            None => format!("{ready}: it waits for a slot of the runtime (`max_running`, `max_blocking`)"),
        }
    }

    /// What a task goes back to: the upstreams whose states are meant, those that ended worst first.
    fn causes(
        &mut self,
        upstreams: &[Place],
        is_meant: impl Fn(TaskState) -> bool,
        reasons: &mut Vec<Reason>,
    ) -> Vec<Why> {
        let mut meant: Vec<TaskRun<'a>> = upstreams.iter().filter_map(|place| self.wiring.task(*place)).collect();
        meant.retain(|task| is_meant(task.state()));
        let rank = |task: &TaskRun<'_>| match task.state() {
            TaskState::Failed | TaskState::Running | TaskState::Retrying => 0,
            TaskState::Skipped => 1,
            _ => 2,
        };
        meant.sort_by_key(rank);
        let more = meant.len().saturating_sub(FOLLOWED);
        if more > 0 {
            let kind = reasons.first().map_or(ReasonKind::Unknown, |reason| reason.kind);
            reasons.push(Reason::new(kind, format!("{more} more upstream(s) are so; {FOLLOWED} are shown")));
        }
        meant.into_iter().take(FOLLOWED).map(|task| self.of(task)).collect()
    }
}

/// Why a task had attempts beyond those that failed.
fn ran_again(task: TaskRun<'_>) -> Option<Reason> {
    let failed = task.tries().saturating_sub(1);
    match (task.crashes(), failed) {
        (0, 0) => None,
        (0, _) if task.state() == TaskState::Success => {
            Some(Reason::new(ReasonKind::RanAgain, format!("{failed} attempt(s) before that failed")))
        }
        (0, _) => None,
        (crashes, _) => {
            let text = format!("{crashes} attempt(s) ended with their process, so that it ran again");
            Some(Reason::new(ReasonKind::RanAgain, text))
        }
    }
}

/// Why the tasks that a run's state goes back to are as they are.
pub(super) fn of_run<'a>(record: &'a RunRecord, around: &'a Around<'a>, tasks: Vec<TaskRun<'a>>) -> Vec<Why> {
    let mut chain = Chain { record, wiring: Wiring::new(record), around, seen: HashSet::new(), depth: 0 };
    tasks.into_iter().take(FOLLOWED).map(|task| chain.of(task)).collect()
}

/// That a task ran again since its run was run again.
fn run_again(record: &RunRecord, task: TaskRun<'_>) -> Option<Reason> {
    let RerunRecord { at, what, .. } = record.reruns().last().filter(|_| task.was_run_again())?;
    let text = format!("it ran again, since a re-run of {what} was asked for at {}", instant(*at));
    Some(Reason::new(ReasonKind::RanAgain, text))
}
